package compiler

import (
	"context"
	"fmt"
	"math"
	"os"
	"testing"

	"moec/dsl"
	"moec/ir"
	"moec/ir/placement"
	"moec/passes"
	"moec/planner/plan"
	"moec/runtime/generate"
	"moec/runtime/host"
	"moec/runtime/weights"
)

// small are the settings of a model that compiles and runs in milliseconds,
// with sizes that divide badly.
var small = map[string]string{
	"layers": "3", "hidden": "24", "heads": "6", "kv_heads": "3", "head_dim": "4", "ffn": "20", "experts": "5", "vocab": "37",
}

// logitsOf compiles a description and runs prompts.
func logitsOf(t *testing.T, file string, o Options, prompts [][]int) ([][]float32, *plan.Plan) {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o.Limits = plan.Limits{Tokens: 32, Rows: 32, Sequences: 4, Context: 48, Page: 8}
	r, err := Compile(file, src, o)
	if err != nil {
		t.Fatal(err)
	}
	program, err := host.Load(context.Background(), r.Plan, weights.Random{Seed: 3}, host.Options{Poison: true})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	rows, err := generate.Logits(context.Background(), program, r.Plan, prompts)
	if err != nil {
		t.Fatal(err)
	}
	return rows, r.Plan
}

func named(strategy string, devices int) func(*ir.Graph) (*placement.Placement, error) {
	return func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, strategy, devices) }
}

var testPrompts = [][]int{{1, 5, 9, 30, 2, 2, 7, 11, 36, 0, 4}, {3}, {8, 1, 1, 20, 33, 6, 12}}

// TestStrategiesKeepBits runs every strategy on 1 to 4 devices, in f32 and
// bf16, several prompts together, and compares each with one device and each
// prompt alone.
func TestStrategiesKeepBits(t *testing.T) {
	for _, act := range []string{"f32", "bf16"} {
		set := map[string]string{"act": act}
		for k, v := range small {
			set[k] = v
		}
		o := Options{Env: dsl.Env{Set: set}}
		var want [][]float32
		for _, p := range testPrompts {
			rows, _ := logitsOf(t, "../examples/mixtral.moe", o, [][]int{p})
			want = append(want, rows[0])
		}
		for devices, list := range map[int][]string{
			1: {"tp", "ep", "pp", "dp", "adp"},
			2: {"tp", "ep", "pp", "dp", "adp"},
			3: {"tp", "ep", "pp", "dp", "adp"},
			4: {"tp", "ep", "tp2ep2", "pp2tp2", "pp2ep2", "dp", "dp2tp2", "dp2ep2", "adp", "adp2tp2", "pp2dp2", "pp2adp2"},
		} {
			for _, s := range list {
				t.Run(fmt.Sprintf("%s/%s on %d", act, s, devices), func(t *testing.T) {
					o.Place = named(s, devices)
					got, _ := logitsOf(t, "../examples/mixtral.moe", o, testPrompts)
					sameBits(t, got, want)
				})
			}
		}
	}
}

func sameBits(t *testing.T, got, want [][]float32) {
	t.Helper()
	for i := range want {
		if len(got[i]) != len(want[i]) {
			t.Fatalf("prompt %d: %d logits, want %d", i, len(got[i]), len(want[i]))
		}
		for j, w := range want[i] {
			if math.Float32bits(got[i][j]) != math.Float32bits(w) {
				t.Fatalf("prompt %d: logit %d is %v, want %v", i, j, got[i][j], w)
			}
		}
	}
}
