package cuda

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
	"time"

	"moec/codegen"
	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
	"moec/runtime/cuda/driver"
)

// recorder is a GPU of two multiprocessors that notes launches.
type recorder struct {
	*gpu
	launched []string
	shared   map[driver.Function]int
}

func (r *recorder) Info() driver.Info { return driver.Info{Multiprocessors: 2} }

func (r *recorder) SetMaxShared(f driver.Function, bytes int) error {
	r.shared[f] = bytes
	return nil
}

func (r *recorder) Launch(f driver.Function, s driver.Shape, p *driver.Params, _ driver.Stream) error {
	r.launched = append(r.launched, fmt.Sprintf("%d blocks of %d, %d bytes: %s", s.Grid.X, s.Block.X, s.Shared, hex.EncodeToString(p.Bytes())))
	return r.put(func() {})
}

// seriesProgram has a series of three kernels: one before the layers, one for
// each of two layers, and one for rows of logits.
func seriesProgram(t *testing.T) (*Program, *recorder) {
	t.Helper()
	g := &recorder{gpu: &gpu{}, shared: make(map[driver.Function]int)}
	p := testProgram(g.gpu)
	d := p.devices[0]
	d.gpu, d.seriesSpace, d.space, d.arena = g, 0x10, 0x200, 0x4000
	p.plan.Memory[0].Total = 0x1000
	p.plan.Weights = []plan.Weight{{Name: "w", Layers: plan.Range{First: 0, Last: 1}, DType: tensor.BF16, Shape: []int{4}, Offset: 0x100, Stride: 0x100}}
	tokens := codegen.Extent{N: 2, Syms: []tensor.Sym{tensor.Tokens}, Plus: 1}
	begin := &codegen.Call{Kernel: "begin", Symbol: "begin", Threads: 32, Grid: codegen.Grid{Items: tokens, Per: 3, Times: 2},
		Args: []codegen.Field{{Kind: codegen.BufferField, Name: "tokens"}, {Kind: codegen.CountField, N: tokens}, {Kind: codegen.ConstantField, Bytes: []byte{1, 2}}}, Covers: []codegen.Cover{{Layer: -1}}}
	layer := &codegen.Call{Kernel: "layer", Symbol: "layer", Threads: 64, Shared: 99, Grid: codegen.Grid{Items: tokens, Per: 1, Times: 1, Most: 1},
		Args:   []codegen.Field{{Kind: codegen.LayerWeightField, Name: "w"}, {Kind: codegen.SpaceField, Offset: 4}, {Kind: codegen.LongField, N: tokens}},
		Covers: []codegen.Cover{{Block: "b", Layer: 0, First: 2, Last: 4}, {Block: "b", Layer: 1, First: 2, Last: 4}}}
	none := &codegen.Call{Kernel: "none", Symbol: "none", Grid: codegen.Grid{Items: codegen.Extent{}, Per: 1, Times: 1}, Covers: []codegen.Cover{{Layer: -1}}}
	s := &codegen.Series{Tokens: 5, Runs: []codegen.SeriesRun{{Layers: plan.NoLayers, Calls: []*codegen.Call{begin}}, {Layers: plan.Range{First: 0, Last: 1}, Calls: []*codegen.Call{layer}}, {Layers: plan.NoLayers, Calls: []*codegen.Call{none}}}}
	pp := &preparer{Program: p, code: &codegen.Code{Series: map[string]*codegen.Series{"all": s}}, prog: &p.plan.Programs[0], block: &plan.Block{}}
	if err := pp.series(); err != nil {
		t.Fatal(err)
	}
	if len(g.shared) != 1 || g.shared[chooseFunction] != 99 {
		t.Errorf("shared memory is %v", g.shared)
	}
	return p, g
}

// TestSeries launches each kernel with its grid and arguments, by layer, and no
// kernel without work.
func TestSeries(t *testing.T) {
	p, g := seriesProgram(t)
	s, _ := testStep()
	took, err := p.Profile(context.Background(), s, false)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{ // 3 tokens: 2 * 3 + 1 = 7
		"6 blocks of 32, 0 bytes: 0000000000000000" + "07000000" + "0102",
		"2 blocks of 64, 99 bytes: 0041000000000000" + "1402000000000000" + "0700000000000000",
		"2 blocks of 64, 99 bytes: 0042000000000000" + "1402000000000000" + "0700000000000000",
	}
	if !slices.Equal(g.launched, want) {
		t.Errorf("have\n%q\nneed\n%q", g.launched, want)
	}
	ms := time.Millisecond
	if want := []Took{{Layer: -1, Step: -1, Op: "begin", End: ms}, {Block: "b", Step: 2, Covers: 3, Op: "layer", Start: ms, End: 2 * ms},
		{Block: "b", Layer: 1, Step: 2, Covers: 3, Op: "layer", Start: 2 * ms, End: 3 * ms}}; !slices.Equal(took, want) {
		t.Errorf("have %+v\nneed %+v", took, want)
	}
	if m, err := p.Measure(); err != nil || m.Launches != 3 || m.Last != 3*ms {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestApart says which steps may have generated tokens beside prompts.
func TestApart(t *testing.T) {
	p, _ := seriesProgram(t)
	q := &p.devices[0].programs[0]
	decode := func(tokens int) *whole { return &whole{Whole: &codegen.Whole{Tokens: tokens}} }
	for _, c := range []struct {
		mode  ir.Mode
		whole *whole
		want  int
	}{{ir.Invariant, nil, 0}, {ir.Fast, decode(64), 0}, {ir.Invariant, decode(64), 64}} {
		p.plan.Numerics.Mode, q.whole = c.mode, c.whole
		if have := p.Apart(); have != c.want {
			t.Errorf("%s, one kernel %t: %d, need %d", c.mode, c.whole != nil, have, c.want)
		}
	}
	q.series = nil // larger steps run kernel by kernel
	for tokens, want := range map[int]int{2: 2, 64: 0} {
		q.whole = decode(tokens)
		if have := p.Apart(); have != want {
			t.Errorf("steps of %d tokens, one kernel for %d: %d, need %d", p.plan.Limits.Tokens, tokens, have, want)
		}
	}
}
