package compiler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"strings"
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
		o := Options{Env: dsl.Env{Set: with("act", act)}}
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

// TestOddDegreesKeepBits divides what does not divide evenly: 6 heads, 20
// features and 5 experts over 5 and 6 devices.
func TestOddDegreesKeepBits(t *testing.T) {
	o := Options{Env: dsl.Env{Set: with("act", "bf16")}}
	want, _ := logitsOf(t, "../examples/mixtral.moe", o, testPrompts)
	for _, c := range []struct {
		strategy string
		devices  int
	}{{"tp", 5}, {"tp", 6}, {"ep", 5}, {"dp", 5}, {"adp", 5}, {"tp3ep2", 6}, {"adp2tp3", 6}, {"pp3tp2", 6}} {
		t.Run(fmt.Sprintf("%s on %d", c.strategy, c.devices), func(t *testing.T) {
			o.Place = named(c.strategy, c.devices)
			got, _ := logitsOf(t, "../examples/mixtral.moe", o, testPrompts)
			sameBits(t, got, want)
		})
	}
}

// with returns the small settings and others.
func with(pairs ...string) map[string]string {
	set := maps.Clone(small)
	for i := 0; i < len(pairs); i += 2 {
		set[pairs[i]] = pairs[i+1]
	}
	return set
}

// TestFastDiffers makes sure that the comparisons of bits can see something:
// fast numerics give other bits where a placement divides sums, and nearly the
// same logits.
func TestFastDiffers(t *testing.T) {
	o := Options{Env: dsl.Env{Set: with("act", "f32")}}
	want, _ := logitsOf(t, "../examples/mixtral.moe", o, testPrompts)
	o.Numerics.Mode = ir.Fast
	for _, c := range []struct {
		strategy string
		devices  int
	}{{"tp", 2}, {"tp", 3}, {"tp", 4}, {"ep", 2}, {"tp2ep2", 4}} {
		o.Place = named(c.strategy, c.devices)
		got, _ := logitsOf(t, "../examples/mixtral.moe", o, testPrompts)
		worst := 0.0
		for i := range want {
			worst = max(worst, distance(t, got[i], want[i]))
		}
		t.Logf("%s on %d: logits differ by at most %.2g", c.strategy, c.devices, worst)
		if !(worst > 0 && worst < 1e-4) {
			t.Errorf("%s on %d: logits differ by %g, want more than 0 and less than 1e-4", c.strategy, c.devices, worst)
		}
	}
}

// TestRefusals asks for degrees that no placement has. The error names the
// strategy, what is needed and there, and degrees that work.
func TestRefusals(t *testing.T) {
	src, err := os.ReadFile("../examples/mixtral.moe")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		set      map[string]string
		strategy string
		devices  int
		want     []string
	}{
		{small, "tp", 7, []string{"attention", "need 7", "have 6", "1, 2, 3, 4, 5, 6"}},
		{with("ffn", "3"), "tp", 4, []string{"expert", "need 4", "have 3", "1, 2, 3"}},
		{small, "ep", 6, []string{"experts", "need 6", "have 5", "1, 2, 3, 4, 5"}},
		{small, "adp", 6, []string{"experts", "need 6", "have 5", "1, 2, 3, 4, 5"}},
		{small, "pp", 4, []string{"layers", "need 4", "have 3", "1, 2, 3"}},
		{with("heads", "12", "ffn", "64"), "tp", 9, []string{"need 9", "have 8", "--segments 9"}},
		{small, "tp2", 4, []string{"need 2 devices", "have 4", "--gpus 2"}},
		{small, "tp3ep", 4, []string{"a multiple of 3", "have 4"}},
		{small, "dp2adp2", 4, []string{"both dp and adp"}},
		{small, "tensor", 4, []string{"unknown", "tp, ep, pp, dp, adp"}},
		{small, "tp0", 4, []string{"degree of 0"}},
	} {
		_, err := Compile("mixtral.moe", src, Options{Env: dsl.Env{Set: c.set}, Place: named(c.strategy, c.devices)})
		var refusal *passes.PlacementError
		if !errors.As(err, &refusal) || refusal.Strategy != c.strategy {
			t.Errorf("%s on %d: %v", c.strategy, c.devices, err)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s on %d: %q does not say %q", c.strategy, c.devices, err, part)
			}
		}
	}
}
