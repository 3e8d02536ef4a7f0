// Package moec holds the rules that no single package can: who may import whom.
package moec

import (
	"go/build"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// layers says which packages of moec each one may import. A package may also
// import whatever those may. "a" stands for the package alone, "a/..." for
// all below it too. Do not change a row to make the build pass: the row is the
// architecture.
var layers = map[string][]string{
	"ir/tensor":       {},
	"ir/tree":         {},
	"ir/diag":         {},
	"ir/textdiff":     {},
	"ir/arith":        {"ir/tensor", "ir/tree"},
	"ir/placement":    {},
	"ir/routing":      {},
	"ir":              {"ir/tensor", "ir/tree", "ir/diag"},
	"ir/machine":      {"ir/tensor"},
	"ir/dot":          {"ir"},
	"ir/cost":         {"ir", "ir/machine"},
	"ir/eval":         {"ir", "ir/arith"},
	"dsl":             {"ir", "ir/diag"},
	"passes/trace":    {"ir", "ir/textdiff"},
	"passes/balance":  {"ir/placement"},
	"passes":          {"ir", "ir/placement", "ir/machine", "passes/trace", "ir/cost", "ir/routing"},
	"planner/plan":    {"ir", "ir/dot", "ir/placement"},
	"planner":         {"planner/plan"},
	"codegen/nvcc":    {},
	"codegen/kernels": {"ir/tensor"},
	"codegen":         {"planner/plan", "codegen/kernels", "codegen/nvcc"},
	"compiler":        {"dsl", "passes", "passes/search", "planner", "planner/prove", "codegen", "ir/machine", "runtime/checkpoint"},

	"planner/mutate":   {"planner/plan"},
	"planner/prove":    {"planner/plan"},
	"planner/simulate": {"planner/plan", "ir/cost", "ir/machine", "ir/routing"},

	"runtime/step":        {"ir/tensor"},
	"runtime/kv":          {},
	"runtime/sample":      {},
	"runtime/tokenizer":   {"runtime/tokenizer/strictjson"},
	"runtime/chat":        {"runtime/tokenizer/strictjson"},
	"runtime/checkpoint":  {},
	"runtime/weights":     {"planner/plan", "ir/arith"},
	"runtime/host":        {"planner/plan", "ir/arith", "runtime/step", "runtime/weights"},
	"runtime/cuda":        {"planner/plan", "ir/arith", "codegen", "runtime/cuda/driver", "runtime/sample", "runtime/step", "runtime/weights"},
	"runtime/cuda/driver": {},
	"runtime":             {"runtime/host", "runtime/cuda"},
	"runtime/generate":    {"planner/plan", "runtime/step", "runtime/kv", "runtime/sample"},
}

// never are imports that would break the design even if the rows above were
// changed without thought.
var never = []struct{ from, to, why string }{
	{"runtime", "passes", "everything that runs is decided in the plan"},
	{"runtime", "planner", "the runtime reads plans, it makes none"},
	{"runtime", "dsl", "the runtime knows no description"},
	{"dsl", "passes", "the language knows no optimisation"},
	{"passes", "planner", "passes work on graphs, not on plans"},
	{"planner", "codegen", "a plan does not need kernels"},
	{"ir", "runtime", "data flows the other way"},
}

func TestImports(t *testing.T) {
	for dir, imports := range packages(t) {
		allowed := allowedBy(dir)
		for _, imp := range imports {
			if imp == dir || strings.HasPrefix(dir, "cmd/") || below(imp, dir) || allowed == nil {
				continue
			}
			if !slices.Contains(allowed, imp) {
				t.Errorf("%s imports %s, which the layers do not allow", dir, imp)
			}
		}
		for _, n := range never {
			if (dir == n.from || below(dir, n.from)) && slices.ContainsFunc(imports, func(i string) bool { return i == n.to || i != "planner/plan" && below(i, n.to) }) {
				t.Errorf("%s imports %s: %s", dir, n.to, n.why)
			}
		}
	}
}

func below(dir, parent string) bool { return strings.HasPrefix(dir, parent+"/") }

// allowedBy returns what the nearest row for dir allows, rows of rows included.
func allowedBy(dir string) []string {
	for ; dir != "."; dir = filepath.Dir(dir) {
		if _, ok := layers[dir]; ok {
			break
		}
	}
	if dir == "." {
		return nil
	}
	var all []string
	var add func(string)
	add = func(d string) {
		for _, i := range layers[d] {
			if !slices.Contains(all, i) {
				all = append(all, i)
				add(i)
			}
		}
	}
	add(dir)
	return append(all, dir)
}

// packages lists the imports of moec's packages, tests not counted.
func packages(t *testing.T) map[string][]string {
	found := make(map[string][]string)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if name := d.Name(); path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" || name == "internal") {
			return filepath.SkipDir
		}
		p, err := build.ImportDir(path, 0)
		if err != nil {
			return nil
		}
		dir := filepath.ToSlash(path)
		for _, i := range p.Imports {
			if rest, ok := strings.CutPrefix(i, "moec/"); ok {
				found[dir] = append(found[dir], rest)
			}
		}
		return nil
	})
	if err != nil || len(found) < 10 {
		t.Fatalf("found %d packages: %v", len(found), err)
	}
	return found
}

// TestNoInit keeps behaviour from depending on who is imported.
func TestNoInit(t *testing.T) {
	out, err := exec.Command("git", "grep", "-n", "^func init()", "--", "*.go", ":!*_test.go").CombinedOutput()
	if err == nil {
		t.Errorf("init functions:\n%s", out)
	}
}
