package passes

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"moec/ir"
	"moec/ir/textdiff"
)

var rewriteGolden = flag.Bool("rewrite", false, "write what the tests get into testdata")

// goldenCase is one case of a golden file: a section of a txtar archive with a
// graph, a line of four dashes, and what the pass changes in it as a diff.
type goldenCase struct {
	name, before, after string
}

const (
	dashes    = "----\n"
	unchanged = "(unchanged)\n"
)

func readGolden(t *testing.T, file string) (*txtar.Archive, []goldenCase) {
	t.Helper()
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var list []goldenCase
	for _, f := range a.Files {
		before, after, _ := strings.Cut(string(f.Data), dashes)
		list = append(list, goldenCase{f.Name, before, after})
	}
	return a, list
}

// checkGolden compares, or with -rewrite stores, the results of a file.
func checkGolden(t *testing.T, file string, a *txtar.Archive, cases []goldenCase, got []string) {
	t.Helper()
	for i, c := range cases {
		if *rewriteGolden {
			a.Files[i].Data = []byte(c.before + dashes + got[i])
		} else if got[i] != c.after {
			t.Errorf("%s, case %q:\n%s\nwant\n%s", file, c.name, got[i], c.after)
		}
	}
	if *rewriteGolden {
		if err := os.WriteFile(file, txtar.Format(a), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func parse(t *testing.T, name, text string) *ir.Graph {
	t.Helper()
	g, err := ir.Parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	if err := ir.Verify(g); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return g
}

// copyOf goes through the text form, which every graph must survive.
func copyOf(t *testing.T, g *ir.Graph) *ir.Graph {
	t.Helper()
	c, err := ir.Parse("copy", ir.Print(g))
	if err != nil {
		t.Fatal(err)
	}
	if why, ok := ir.Equal(g, c); !ok {
		t.Fatalf("parsed text differs: %s", why)
	}
	return c
}

// goldenFile returns the file of a pass; the late passes share that of the
// pass they repeat.
func goldenFile(pass string) string {
	name := strings.TrimPrefix(pass, "late ")
	return filepath.Join("testdata", strings.ReplaceAll(name, " ", "_")+".txt")
}

// TestGolden runs every pass on the cases of its file. Each file has a case
// that the pass changes and one that it leaves alone.
func TestGolden(t *testing.T) {
	for _, p := range Pipeline {
		if p.Name == "place" || strings.HasPrefix(p.Name, "late ") {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			file := goldenFile(p.Name)
			a, cases := readGolden(t, file)
			var got []string
			for _, c := range cases {
				got = append(got, runGolden(t, p, file, c))
			}
			checkGolden(t, file, a, cases, got)
			if !slices.Contains(got, unchanged) {
				t.Errorf("%s has no case that %q leaves alone", file, p.Name)
			}
			if !slices.ContainsFunc(got, func(s string) bool { return s != unchanged }) {
				t.Errorf("%s has no case that %q changes", file, p.Name)
			}
		})
	}
}

func runGolden(t *testing.T, p Pass, file string, c goldenCase) string {
	t.Helper()
	g := parse(t, file+": "+c.name, c.before)
	before := copyOf(t, g)
	ctx := &Context{Hits: map[string]int{}}
	if err := p.Run(ctx, g); err != nil {
		t.Fatalf("case %q: %v", c.name, err)
	}
	if err := ir.Verify(g); err != nil {
		t.Fatalf("case %q: %v\n%s", c.name, err, ir.Print(g))
	}
	checkExpect(t, c, ctx.Hits)
	sameResults(t, c.name, p.Name, before, g)
	checkIdempotent(t, p, c.name, copyOf(t, g))
	if d := textdiff.Unified("before", "after", ir.Print(before), ir.Print(g)); d != "" {
		return d
	}
	return unchanged
}

// checkIdempotent runs the pass again, without the nodes that the first run
// left unread; it must find nothing to do.
func checkIdempotent(t *testing.T, p Pass, name string, g *ir.Graph) {
	t.Helper()
	once, twice := "", ""
	for _, text := range []*string{&once, &twice} {
		if err := dce(nil, g); err != nil {
			t.Fatal(err)
		}
		*text = nextID.ReplaceAllString(ir.Print(g), "")
		if err := p.Run(&Context{}, g); err != nil {
			t.Fatalf("case %q, again: %v", name, err)
		}
	}
	if once != twice {
		t.Errorf("case %q: a second run still changes it:\n%s", name, textdiff.Unified("once", "twice", once, twice))
	}
}

// nextID matches the count of IDs used so far, which rewriting raises.
var nextID = regexp.MustCompile("(?m)^  next %.*\n")

// checkExpect reads "# expect: rule" and "# expect-not: rule" lines.
func checkExpect(t *testing.T, c goldenCase, hits map[string]int) {
	t.Helper()
	for _, rule := range expectations(c, "# expect: ") {
		if hits[rule] == 0 {
			t.Errorf("case %q: rule %q did not apply", c.name, rule)
		}
	}
	for _, rule := range expectations(c, "# expect-not: ") {
		if hits[rule] != 0 {
			t.Errorf("case %q: rule %q applied %d times", c.name, rule, hits[rule])
		}
	}
}

func expectations(c goldenCase, prefix string) []string {
	var list []string
	for line := range strings.Lines(c.before) {
		if rule, ok := strings.CutPrefix(line, prefix); ok {
			list = append(list, strings.TrimSpace(rule))
		}
	}
	return list
}

// TestEveryRuleHasCases demands, for each rule, a case in which it applies and
// one in which it must not.
func TestEveryRuleHasCases(t *testing.T) {
	_, cases := readGolden(t, goldenFile("canonicalise"))
	applies, refuses := map[string]bool{}, map[string]bool{}
	for _, c := range cases {
		for _, rule := range expectations(c, "# expect: ") {
			applies[rule] = true
		}
		for _, rule := range expectations(c, "# expect-not: ") {
			refuses[rule] = true
		}
	}
	for _, r := range Rules {
		if !applies[r.Name] || !refuses[r.Name] {
			t.Errorf("rule %q: applies in a case: %t, is refused in a case: %t", r.Name, applies[r.Name], refuses[r.Name])
		}
		delete(applies, r.Name)
		delete(refuses, r.Name)
	}
	if len(applies)+len(refuses) > 0 {
		t.Errorf("expectations of unknown rules: %v %v", applies, refuses)
	}
}
