package main

import (
	"fmt"
	"os"
	"testing"

	"moec/compiler"
	"moec/dsl"
	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/passes"
	"moec/planner/plan"
	"moec/planner/simulate"
)

// TestFlowsAgree compares the bytes that pictures of plans show with those that
// prices are made of, and those that the simulator moves.
func TestFlowsAgree(t *testing.T) {
	m, err := machine.Lookup("h200x8")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		strategy string
		mode     ir.Mode
		devices  int
	}{
		{"tp", ir.Invariant, 2}, {"ep", ir.Invariant, 2}, {"ep", ir.Fast, 2}, {"tp2ep2", ir.Invariant, 4}, {"tp", ir.Fast, 4},
		{"dp", ir.Invariant, 2}, {"adp", ir.Invariant, 4}, {"pp", ir.Invariant, 4}, {"pp2tp2", ir.Invariant, 4},
	} {
		r := small(t, c.strategy, c.mode, c.devices)
		s, err := simulate.New(r.Plan, m)
		if err != nil {
			t.Fatal(err)
		}
		for _, tokens := range []int{1, 8, 100} {
			name := fmt.Sprintf("%s on %d devices, %s, %d tokens", c.strategy, c.devices, c.mode, tokens)
			size, err := r.Plan.StepOf(tokens)
			if err != nil {
				t.Fatal(err)
			}
			load := cost.Load{Sequences: size.Sequences, Tokens: size.Tokens, Rows: size.Rows, Context: 64}
			flows := r.Plan.Flows(size)
			if got, want := moved(flows, func(plan.Flow) bool { return true }), cost.Traffic(r.Graph, load); got != want || want == 0 && c.strategy != "dp" {
				t.Errorf("%s: the picture has %d bytes, the price %d", name, got, want)
			}
			result, err := s.Step(load, simulate.Options{})
			if err != nil {
				t.Fatal(err)
			}
			compareLanes(t, name, flows, result, c.devices)
		}
	}
}

// compareLanes compares what each device receives. Sums of more than two
// devices are left out: the simulator may add those up in two rounds, which
// move fewer bytes.
func compareLanes(t *testing.T, name string, flows []plan.Flow, r *simulate.Result, devices int) {
	t.Helper()
	counted := func(op string) bool { return devices == 2 || op != "all_reduce" }
	for d := range devices {
		var got int64
		for _, l := range r.Links {
			for _, s := range l.Spans {
				if !l.Out && !l.Shared && s.To == d && counted(s.Op) {
					got += s.Bytes
				}
			}
		}
		if want := moved(flows, func(f plan.Flow) bool { return f.To == d && counted(f.Op) }); got != want {
			t.Errorf("%s: device %d receives %d bytes in the picture, %d in the simulation", name, d, want, got)
		}
	}
}

// moved adds up flows.
func moved(flows []plan.Flow, counts func(plan.Flow) bool) int64 {
	var sum int64
	for _, f := range flows {
		if counts(f) {
			sum += f.Bytes
		}
	}
	return sum
}

// small compiles a model that takes milliseconds.
func small(t *testing.T, strategy string, mode ir.Mode, devices int) *compiler.Result {
	t.Helper()
	src, err := os.ReadFile("../../examples/mixtral.moe")
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{"layers": "4", "hidden": "48", "heads": "12", "kv_heads": "6", "head_dim": "4", "ffn": "40", "experts": "10", "vocab": "37"}
	r, err := compiler.Compile("mixtral.moe", src, compiler.Options{Env: dsl.Env{Set: set}, Numerics: ir.Numerics{Mode: mode, Segments: 8},
		Place:  func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, strategy, devices) },
		Limits: plan.Limits{Tokens: 512, Rows: 64, Sequences: 64, Context: 2048}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
