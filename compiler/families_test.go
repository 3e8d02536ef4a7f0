package compiler

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"moec/planner/plan"
)

// placements are what every family is compiled for.
var placements = []struct {
	strategy string
	devices  int
}{{"tp", 1}, {"tp", 2}, {"ep", 2}}

// TestFamilies runs the tiny checkpoint of every family and compares logits
// of every position and greedy continuations with those of transformers.
func TestFamilies(t *testing.T) {
	list, err := filepath.Glob("../testdata/families/*/golden.json")
	if err != nil || len(list) < 10 {
		t.Fatalf("found %d checkpoints: %v", len(list), err)
	}
	table := []string{fmt.Sprintf("%-20s %-10s %9s %9s", "checkpoint", "placement", "max error", "tolerance")}
	for _, path := range list {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			for _, p := range placements {
				worst := family(t, dir, p.strategy, p.devices)
				table = append(table, fmt.Sprintf("%-20s %-10s %9.2g %9.2g", filepath.Base(dir), fmt.Sprint(p.strategy, p.devices), worst, tolerance))
			}
		})
	}
	t.Logf("logits of all positions of two prompts, greedy tokens equal:\n%s", strings.Join(table, "\n"))
}

// tolerance is how far logits may be from those of transformers in float32;
// their standard deviation is about 1.
const tolerance = 2e-5

// family checks one checkpoint in one placement and returns the largest error
// of a logit.
func family(t *testing.T, dir, strategy string, devices int) float64 {
	t.Helper()
	var meta struct {
		Prompts []struct{ IDs, Greedy []int }
	}
	readJSON(t, filepath.Join(dir, "golden.json"), &meta)
	files := openCheckpoint(t, dir)
	kind, _ := files.Config().Lookup("model_type")
	name, _ := kind.Text()
	program := load(t, "../examples/"+name+".moe", files, Options{
		Place:  named(strategy, devices),
		Limits: plan.Limits{Tokens: 40, Rows: 40, Sequences: 2, Context: 64, Page: 8},
	})
	var prompts [][]int
	for _, p := range meta.Prompts {
		prompts = append(prompts, p.IDs)
	}
	reference := openGolden(t, filepath.Join(dir, "golden.safetensors"))
	worst := 0.0
	for i, got := range program.logits(t, prompts) {
		want := reference.floats(fmt.Sprintf("prompt.%d.logits", i))
		worst = max(worst, distance(t, got, want))
	}
	if !(worst <= tolerance) {
		t.Errorf("%s on %d: logits differ by %g, want at most %g", strategy, devices, worst, tolerance)
	}
	for i, got := range program.greedy(t, prompts, len(meta.Prompts[0].Greedy)) {
		if want := meta.Prompts[i].Greedy; !slices.Equal(got, want) {
			t.Errorf("%s on %d: prompt %d goes on with %v, want %v", strategy, devices, i, got, want)
		}
	}
	return worst
}

// distance returns the largest difference of two lists; of NaN it is NaN.
func distance(t *testing.T, got, want []float32) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d logits, want %d", len(got), len(want))
	}
	worst := 0.0
	for i, w := range want {
		worst = max(worst, math.Abs(float64(got[i])-float64(w)))
	}
	return worst
}
