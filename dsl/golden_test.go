package dsl_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"moec/dsl"
	"moec/ir"
	"moec/ir/diag"
	"moec/ir/tensor"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the expected results of golden tests")

// golden compares got with a file.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

// files returns the paths that match a pattern, of which there must be some.
func files(t testing.TB, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil || len(list) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return list
}

// environment is what a test file is bound to, as JSON after "#! " on its
// first line.
type environment struct {
	Config  map[string]any    `json:"config"`
	Tensors map[string]string `json:"tensors"` // types, as in "bf16[2,3]"
	Set     map[string]string `json:"set"`
}

func readEnvironment(t *testing.T, src []byte) dsl.Env {
	t.Helper()
	line, _, _ := strings.Cut(string(src), "\n")
	text, ok := strings.CutPrefix(line, "#! ")
	if !ok {
		return dsl.Env{}
	}
	var e environment
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&e); err != nil {
		t.Fatal(err)
	}
	env := dsl.Env{Set: e.Set}
	if e.Config != nil {
		env.Config = config(plainNumbers(e.Config).(map[string]any))
	}
	if e.Tensors != nil {
		env.Tensor = func(name string) (tensor.DType, []int, bool) {
			text, ok := e.Tensors[name]
			if !ok {
				return tensor.Invalid, nil, false
			}
			typ, err := tensor.ParseType(text)
			if err != nil {
				return tensor.Invalid, nil, true
			}
			return typ.DType, typ.Shape.Extents(nil), true
		}
	}
	return env
}

// diagnose parses and builds a file and returns what is wrong with it.
func diagnose(t *testing.T, path string) diag.List {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, list := dsl.Parse(filepath.Base(path), src)
	if len(list) == 0 {
		_, list = dsl.Build(f, readEnvironment(t, src))
	}
	return list
}

// TestErrors compares the messages about wrong files.
func TestErrors(t *testing.T) {
	for _, path := range files(t, "testdata/errors/*.moe") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			list := diagnose(t, path)
			if len(list) == 0 {
				t.Fatal("no error is found")
			}
			var got bytes.Buffer
			if err := list.Render(&got); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(got.String(), "internal error") {
				t.Error("an internal error is shown to a user")
			}
			golden(t, strings.TrimSuffix(path, ".moe")+".want", got.Bytes())
		})
	}
}

// TestFormat checks that formatting is idempotent and keeps the meaning.
func TestFormat(t *testing.T) {
	paths := slices.Concat(files(t, "../examples/*.moe"), files(t, "testdata/errors/*.moe"), files(t, "testdata/format/*.moe"))
	formatted := 0
	for _, path := range paths {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		once, list := dsl.Format(path, src)
		if len(list) > 0 {
			continue
		}
		formatted++
		twice, list := dsl.Format(path, once)
		if len(list) > 0 || !bytes.Equal(once, twice) {
			t.Errorf("%s: formatting again gives another text, %v", path, list)
		}
		if filepath.Base(filepath.Dir(path)) == "examples" && !bytes.Equal(once, src) {
			t.Errorf("%s is not formatted", path)
		}
		if filepath.Base(filepath.Dir(path)) == "format" {
			golden(t, strings.TrimSuffix(path, ".moe")+".want", once)
		}
	}
	if formatted < 12 {
		t.Errorf("only %d files were formatted", formatted)
	}
}

// TestExamples pins the size of the graphs that the examples give.
func TestExamples(t *testing.T) {
	var got bytes.Buffer
	for _, path := range files(t, "../examples/*.moe") {
		name := strings.TrimSuffix(filepath.Base(path), ".moe")
		m := build(t, name, dsl.Env{})
		if err := ir.Verify(m.Graph); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		summarise(&got, name, m)
	}
	golden(t, "testdata/examples.want", got.Bytes())
}

// summarise writes what a graph has, with the layers that are alike as one.
func summarise(out *bytes.Buffer, name string, m *dsl.Model) {
	g := m.Graph
	var bytes int64
	shapes := map[string]int{}
	var order []string
	for _, w := range g.Weights {
		bytes += w.Bytes()
		key := fmt.Sprintf("%s %s%v", w.Source.Key, w.DType, w.Shape)
		if shapes[key]++; shapes[key] == 1 {
			order = append(order, key)
		}
	}
	ops := map[string]int{}
	for _, n := range g.Nodes {
		ops[n.Op.Name]++
	}
	fmt.Fprintf(out, "%s: %d layers, %d nodes, %d caches, %d weights of %d bytes\n", name, g.Layers, len(g.Nodes), len(g.Caches), len(g.Weights), bytes)
	for _, o := range ir.Ops() {
		if n := ops[o.Name]; n > 0 {
			fmt.Fprintf(out, "  op %s %d\n", o.Name, n)
		}
	}
	for _, key := range order {
		fmt.Fprintf(out, "  %d x %s\n", shapes[key], key)
	}
}
