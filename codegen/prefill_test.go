package codegen

import (
	"slices"
	"strings"
	"testing"

	"moec/ir/tensor"
	"moec/planner/plan"
)

// seriesPlan is the decoder's plan with steps of 512 tokens, and its section.
func seriesPlan(t *testing.T) (*plan.Plan, plan.Kernels) {
	t.Helper()
	p := decoderPlan(t)
	p.Limits.Tokens = 512
	k, err := Choose(p, "sm_90a")
	if err != nil {
		t.Fatal(err)
	}
	return p, k
}

// TestSeries checks what a program of three layers runs: the first, the middle
// and the last layer differ in how they begin and in which rows they end with.
func TestSeries(t *testing.T) {
	p, k := seriesPlan(t)
	if len(k.Wholes) != 2 || k.Wholes[1].Kernel != Prefill || k.Wholes[1].Tokens != 512 {
		t.Fatalf("whole programs %+v", k.Wholes)
	}
	code, err := Generate(p, k)
	if err != nil {
		t.Fatal(err)
	}
	s := code.Series["all"]
	if s == nil || s.Space != k.Wholes[1].Space {
		t.Fatalf("series %+v", s)
	}
	layer := []string{"gemm_heads", "flash", "gemm_round", "prefill_route", "list_slots", "fill_panels", "grouped_gate", "grouped_round"}
	last := slices.Insert(slices.Clone(layer), 2, "take_rows", "take_rows")
	want := [][]string{{"prefill_begin"}, append([]string{"prefill_embed"}, layer...), append([]string{"prefill_sum"}, layer...), append([]string{"prefill_sum"}, last...), {"prefill_sum", "gemm"}}
	ranges := []plan.Range{plan.NoLayers, {First: 0, Last: 0}, {First: 1, Last: 1}, {First: 2, Last: 2}, plan.NoLayers}
	if len(s.Runs) != len(want) {
		t.Fatalf("%d runs, need %d", len(s.Runs), len(want))
	}
	for i, r := range s.Runs {
		var have []string
		for _, c := range r.Calls {
			have = append(have, c.use.kernel.Name)
			if u := code.Units[c.Unit]; u.File != c.use.kernel.File || !slices.Contains(u.Symbols, c.Symbol) || c.Shared > decodeSharedBytes || c.Threads == 0 {
				t.Errorf("launch %+v of unit %s", c, u.File)
			}
		}
		if !slices.Equal(have, want[i]) || r.Layers != ranges[i] {
			t.Errorf("run %d of layers %v:\nhave %q\nneed %q", i, r.Layers, have, want[i])
		}
	}
}

// TestSeriesCovers checks that launches cover each step of every layer once, but
// for those that take rows.
func TestSeriesCovers(t *testing.T) {
	p, k := seriesPlan(t)
	code, err := Generate(p, k)
	if err != nil {
		t.Fatal(err)
	}
	have := make(map[Cover]int)
	for _, r := range code.Series["all"].Runs {
		for _, c := range r.Calls {
			if len(c.Covers) != max(1, r.Layers.Len()) {
				t.Errorf("%s covers steps of %d layers, runs for %d", c.Symbol, len(c.Covers), r.Layers.Len())
			}
			for _, v := range c.Covers {
				for i := v.First; i <= v.Last && v.Block != ""; i++ {
					have[Cover{v.Block, v.Layer, i, i}]++
				}
			}
		}
	}
	steps := 0
	for _, r := range p.Programs[0].Runs {
		for i := range max(1, r.Layers.Len()) {
			layer := -1
			if r.Layers != plan.NoLayers {
				layer = r.Layers.First + i
			}
			for _, b := range p.Programs[0].Blocks {
				if b.Name != r.Block {
					continue
				}
				for s := range b.Queues[0].Steps {
					steps++
					if n := have[Cover{b.Name, layer, s, s}]; n != 1 {
						t.Errorf("%s of layer %d: step %d (%s) is covered %d times", b.Name, layer, s, b.Queues[0].Steps[s].Op, n)
					}
				}
			}
		}
	}
	if len(have) != steps {
		t.Errorf("%d steps are covered, there are %d", len(have), steps)
	}
}

// decodeSharedBytes is what a block can have.
const decodeSharedBytes = 227 << 10

// TestGrid counts blocks of launches: of tiles of 128 rows and 256 columns, of 32
// tokens and 4 KV heads, of rows, and as many as there are multiprocessors.
func TestGrid(t *testing.T) {
	tokens := Extent{N: 1, Syms: []tensor.Sym{tensor.Tokens}}
	for _, c := range []struct {
		grid          Grid
		tokens, least int // of 10 multiprocessors
	}{
		{tiles(tokens, 3072, 256), 129, 10}, {tiles(tokens, 320, 256), 129, 4}, {Grid{tokens, 32, 4, 0}, 65, 12}, {persistent(tokens, 8), 70, 70}, {persistent(tokens, 8), 300, 80},
		{persistent(fixed(1<<20), 1), 3, 10}, {each(tokens.times(64), 256), 5, 2}, {each(fixed(8), 1), 1, 8},
	} {
		bounds := func(tensor.Sym) int { return c.tokens }
		if have := c.grid.Blocks(c.grid.Items.Of(bounds), 10); have != c.least {
			t.Errorf("%+v for %d tokens: %d blocks, need %d", c.grid, c.tokens, have, c.least)
		}
	}
	capacity := Extent{N: 2, Syms: []tensor.Sym{tensor.Tokens}, Plus: 64}
	if have := capacity.times(2).Of(func(tensor.Sym) int { return 5 }); have != 148 {
		t.Errorf("twice 2 times 5 and 64 more is %d", have)
	}
}

// TestSeriesRefuses checks records of another moec.
func TestSeriesRefuses(t *testing.T) {
	for _, change := range []func(*plan.Kernels){
		func(k *plan.Kernels) { k.Wholes[1].Space-- }, func(k *plan.Kernels) { k.Wholes[1].Tokens++ }, func(k *plan.Kernels) { k.Wholes[1].Params[1] = "4" },
		func(k *plan.Kernels) { k.Wholes[1].Kernel = "later" }, func(k *plan.Kernels) { k.Arch = "sm_90" }, func(k *plan.Kernels) { k.Layouts = k.Layouts[1:] },
	} {
		p, k := seriesPlan(t)
		change(&k)
		if _, err := Generate(p, k); err == nil || !strings.Contains(err.Error(), "compile the plan again") {
			t.Errorf("%+v: error %v", k.Wholes[1], err)
		}
	}
}
