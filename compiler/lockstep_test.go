package compiler

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"moec/dsl"
	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/passes"
	"moec/passes/search"
	"moec/planner/simulate"
)

// TestSearchPricesWhatTheSimulatorSees compiles examples for random and named
// placements and compares the price of the search with the simulation of the
// finished plan, without overlap and contention: to the picosecond, batch by
// batch.
func TestSearchPricesWhatTheSimulatorSees(t *testing.T) {
	small := map[string]map[string]string{
		"mixtral":     {"layers": "3", "hidden": "64", "heads": "8", "kv_heads": "4", "ffn": "96", "vocab": "128"},
		"qwen3_moe":   {"layers": "2", "hidden": "64", "heads": "8", "kv_heads": "4", "head_dim": "16", "expert_ffn": "32", "experts": "16", "top_k": "4", "vocab": "128"},
		"qwen2_moe":   {"layers": "2", "hidden": "64", "heads": "8", "kv_heads": "8", "vocab": "128"},
		"granitemoe":  {"layers": "2", "hidden": "64", "heads": "8", "kv_heads": "4", "vocab": "128"},
		"gpt_oss":     {"layers": "2", "hidden": "64", "heads": "8", "kv_heads": "4", "vocab": "128"},
		"deepseek_v3": {"layers": "5", "hidden": "64", "heads": "8", "vocab": "128"},
	}
	checked := 0
	for example, set := range small {
		for seed := range uint64(6) {
			rng := rand.New(rand.NewPCG(seed, 0x6c6f636b))
			if err := compareWithSimulator(example, set, rng); err != nil {
				t.Errorf("%s, seed %d: %v", example, seed, err)
			}
			checked++
		}
	}
	t.Logf("%d plans", checked)
}

// compareWithSimulator compiles an example for one placement and prices both.
func compareWithSimulator(example string, set map[string]string, rng *rand.Rand) error {
	src, err := os.ReadFile(filepath.Join("../examples", example+".moe"))
	if err != nil {
		return err
	}
	var p *placement.Placement
	var o *passes.Outline
	devices := 1 + rng.IntN(4)
	r, err := Compile(example, src, Options{Env: dsl.Env{Set: set}, Numerics: ir.Numerics{Mode: ir.Invariant, Segments: 8}, Place: func(g *ir.Graph) (*placement.Placement, error) {
		var err error
		if o, err = passes.NewOutline(g.Clone()); err != nil {
			return nil, err
		}
		p = placement.Random(rng, passes.Summarise(g), devices)
		if names := search.Names(devices); rng.IntN(2) == 0 {
			if named, err := passes.Named(g, names[rng.IntN(len(names))], devices); err == nil {
				p = named
			}
		}
		return p, nil
	}})
	if err != nil {
		return err
	}
	m, err := machine.Lookup(fmt.Sprintf("h200x%d", devices))
	if err != nil {
		return err
	}
	var shapes []routing.Shape
	for l, s := range o.Summary.Layers {
		shapes = append(shapes, routing.Shape{Experts: s.Experts, Slots: o.Slots(l + 1)})
	}
	stats := routing.PowerLaw(shapes, 1, 5)
	const samples = 2
	w := search.Workload{Name: "test", Steps: []search.Step{
		{Load: cost.Load{Sequences: 1, Tokens: 1, Rows: 1, Context: 30}, Count: 1},
		{Load: cost.Load{Sequences: 5, Tokens: 5, Rows: 5, Context: 70}, Count: 1},
		{Load: cost.Load{Sequences: 1, Tokens: 24, Rows: 1, Context: 24}, Count: 1},
	}}
	priced, err := search.Price(&search.Problem{Outline: o, Machine: m, Stats: stats, Workload: w, Samples: samples, Seed: 3}, p)
	if err != nil {
		return err
	}
	s, err := simulate.New(r.Plan, m)
	if err != nil {
		return err
	}
	for k, step := range w.Steps {
		var sum int64
		for i := range samples {
			closed, err := s.Lockstep(step.Load, func(layer int) *routing.Batch { return stats.Draw(3, layer, step.Tokens, i) })
			if err != nil {
				return err
			}
			sum += closed.Time
		}
		if got, want := priced[0].Steps[k], sum/samples; got != want {
			return fmt.Errorf("%s on %d devices, %d tokens: the search says %d ps, the simulator %d", p.Strategy, devices, step.Tokens, got, want)
		}
	}
	return nil
}
