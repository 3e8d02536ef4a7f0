package plan_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/textdiff"
	"moec/planner/plan"
)

// formatDoc describes the plan file.
var formatDoc = filepath.Join("..", "..", "docs", "plan-format.md")

// fenced finds blocks of code of a language.
func fenced(language string) *regexp.Regexp {
	return regexp.MustCompile("(?ms)^```" + language + "\n(.*?)^```$")
}

// pair is the plan of which the reference shows a part.
var pair = sample{name: "pair", devices: 2, groups: 1, layers: 2, fused: true, homes: [][]int{{0, 1}, {2, 3}}}

// TestFormatGolden checks that the reference shows a plan that the package
// writes, steps of another, and the rules.
func TestFormatGolden(t *testing.T) {
	old, err := os.ReadFile(formatDoc)
	if err != nil {
		t.Fatal(err)
	}
	tinyText, err := plan.Encode(tiny(t))
	if err != nil {
		t.Fatal(err)
	}
	replace := func(text []byte, at *regexp.Regexp, with string) []byte {
		loc := at.FindSubmatchIndex(text)
		if loc == nil {
			t.Fatalf("%s has nothing like %s", formatDoc, at)
		}
		return slices.Concat(text[:loc[2]], []byte(with), text[loc[3]:])
	}
	now := replace(old, fenced("json"), string(tinyText))
	now = replace(now, fenced("text"), layerSteps(t))
	var rules strings.Builder
	for _, r := range plan.Rules() {
		fmt.Fprintf(&rules, "| %s | %s |\n", r.ID, r.Doc)
	}
	now = replace(now, regexp.MustCompile(`(?s)\| what holds \|\n\|---\|---\|\n(.*?)\n\n`), strings.TrimSuffix(rules.String(), "\n"))
	if *rewrite {
		if err := os.WriteFile(formatDoc, now, 0o644); err != nil {
			t.Fatal(err)
		}
		old = now
	}
	if diff := textdiff.Unified(formatDoc, "now", string(old), string(now)); diff != "" {
		t.Errorf("run with -rewrite if it is meant:\n%s", diff)
	}
}

// layerSteps are the steps of device 1 after its router, a line each.
func layerSteps(t *testing.T) string {
	t.Helper()
	text, err := plan.Encode(pair.plan(t))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	last := func(part string) int {
		return len(lines) - 1 - slices.IndexFunc(reversed(lines), func(l string) bool { return strings.Contains(l, part) })
	}
	var out strings.Builder
	for _, l := range lines[last(`"op": "dispatch"`) : last(`"op": "all_reduce"`)+1] {
		out.WriteString(strings.TrimPrefix(l, strings.Repeat(" ", 14)) + "\n")
	}
	return out.String()
}

func reversed(list []string) []string {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

// TestFormatIsComplete checks that the reference names every field of the
// file and every op that exists in plans only.
func TestFormatIsComplete(t *testing.T) {
	text, err := os.ReadFile(formatDoc)
	if err != nil {
		t.Fatal(err)
	}
	prose := string(fenced("json").ReplaceAll(text, nil))
	named := func(name string) bool {
		return strings.Contains(prose, "`"+name+"`") || strings.Contains(prose, "."+name+"`")
	}
	seen := make(map[reflect.Type]bool)
	var visit func(reflect.Type)
	visit = func(typ reflect.Type) {
		for typ.Kind() == reflect.Slice || typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct || seen[typ] {
			return
		}
		seen[typ] = true
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" {
				continue // not written by its fields
			}
			if !named(name) {
				t.Errorf("%s does not name field %q of %s", formatDoc, name, typ.Name())
			}
			visit(f.Type)
		}
	}
	visit(reflect.TypeFor[plan.Plan]())
	visit(reflect.TypeFor[plan.Queue]())
	for _, name := range []string{"format", "version", "checksum", "op", "out", "args", "attrs", "body", "send", "copy"} {
		if !named(name) {
			t.Errorf("%s does not name %q", formatDoc, name)
		}
	}
	for _, o := range ir.Ops() {
		if o.Has(ir.Collective) && !named(o.Name) {
			t.Errorf("%s does not name collective %q", formatDoc, o.Name)
		}
	}
}
