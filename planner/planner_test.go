package planner

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// build makes a placed graph on one device: embed, layers of attention and
// experts, head.
type build struct {
	t     *testing.T
	g     *ir.Graph
	layer int
}

func (b *build) op(name string, args []*ir.Node, attrs ...ir.Attr) *ir.Node {
	b.t.Helper()
	n, err := b.g.Add(ir.Op(name), args, ir.MakeAttrs(attrs...), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	n.Layer, n.Device = b.layer, 0
	return n
}

func (b *build) weight(name string, shape ...int) *ir.Node {
	if b.layer >= 0 {
		name = fmt.Sprintf("layers.%d.%s", b.layer, name)
	}
	if b.g.Weight(name) == nil {
		w := &ir.Weight{Name: name, Layer: b.layer, DType: tensor.BF16, Shape: shape, Source: ir.Source{Key: strings.Replace(name, fmt.Sprintf(".%d.", b.layer), ".{layer}.", 1), Stored: shape}}
		if len(shape) == 3 {
			w.Experts = shape[0]
			w.Source.View = append(w.Source.View, ir.Axis{Expert: true})
			shape = shape[1:]
		}
		for _, d := range shape {
			w.Source.View = append(w.Source.View, ir.Axis{Hi: d, Step: 1})
		}
		b.g.Weights = append(b.g.Weights, w)
	}
	return b.op("weight", nil, ir.Attr{Name: "name", Value: name}, ir.Attr{Name: "dtype", Value: tensor.BF16}, ir.Attr{Name: "shape", Value: b.g.Weight(name).Shape})
}

func (b *build) round(x *ir.Node) *ir.Node {
	return b.op("round", []*ir.Node{x}, ir.Attr{Name: "dtype", Value: tensor.BF16})
}

func (b *build) mm(x *ir.Node, w *ir.Node) *ir.Node {
	return b.round(b.op("matmul", []*ir.Node{x, w}))
}

func (b *build) norm(x *ir.Node, name string) *ir.Node {
	return b.round(b.op("rms_norm", []*ir.Node{x, b.weight(name, 32)}, ir.Attr{Name: "eps", Value: 1e-5}))
}

// sample is a model of 4 layers; the last has wider experts.
func sample(t *testing.T) *ir.Graph {
	g := ir.NewGraph("sample")
	g.Level, g.Devices, g.Layers, g.Numerics.Segments = ir.Placed, 1, 4, 4
	b := &build{t, g, -1}
	in := func(name string) *ir.Node { return b.op("input", nil, ir.Attr{Name: "name", Value: name}) }
	tokens, positions, sequences, rows := in("tokens"), in("positions"), in("sequences"), in("rows")
	freqs := b.op("const", nil, ir.Attr{Name: "shape", Value: []int{4}}, ir.Attr{Name: "values", Value: []float32{1, 0.5, 0.25, 0.125}})
	x := b.op("embed", []*ir.Node{tokens, b.weight("embed", 64, 32)})
	for l := range g.Layers {
		b.layer = l
		h := b.norm(x, "n1")
		head := func(name string, n int) *ir.Node {
			return b.op("reshape", []*ir.Node{b.mm(h, b.weight(name, n*8, 32))}, ir.Attr{Name: "tail", Value: []int{n, 8}})
		}
		turn := func(y *ir.Node) *ir.Node {
			return b.round(b.op("rope", []*ir.Node{y, positions, freqs}, ir.Attr{Name: "style", Value: "half"}))
		}
		cache := &ir.Cache{Name: fmt.Sprintf("layers.%d.attention", l), Layer: l, Heads: 2, KeyDim: 8, ValDim: 8, DType: tensor.BF16}
		g.Caches = append(g.Caches, cache)
		kv := b.op("kv_append", []*ir.Node{turn(head("wk", 2)), head("wv", 2), sequences, positions}, ir.Attr{Name: "cache", Value: cache.Name})
		att := b.op("attention", []*ir.Node{turn(head("wq", 4)), kv, sequences, positions},
			ir.Attr{Name: "scale", Value: 0.35}, ir.Attr{Name: "group", Value: 2}, ir.Attr{Name: "chunk", Value: 256})
		x = b.round(b.op("add", []*ir.Node{x, b.mm(b.op("reshape", []*ir.Node{b.round(att)}, ir.Attr{Name: "tail", Value: []int{32}}), b.weight("wo", 32, 32))}))
		x = b.round(b.op("add", []*ir.Node{x, b.experts(b.norm(x, "n2"), 16+l/3*16)}))
	}
	b.layer = -1
	y := b.op("matmul", []*ir.Node{b.op("take_rows", []*ir.Node{b.norm(x, "n"), rows}), b.weight("head", 64, 32)})
	g.Outputs = []ir.Output{{Name: "logits", Group: 0, Value: y}}
	if err := ir.Verify(g); err != nil {
		t.Fatal(err)
	}
	return g
}

func (b *build) experts(h *ir.Node, ffn int) *ir.Node {
	p := b.op("softmax", []*ir.Node{b.op("matmul", []*ir.Node{h, b.weight("gate", 4, 32)})})
	ids := b.op("topk", []*ir.Node{p}, ir.Attr{Name: "k", Value: 2})
	w := b.op("gather", []*ir.Node{p, ids})
	experts, total := ir.Attr{Name: "experts", Value: []int{0, 1, 2, 3}}, ir.Attr{Name: "total", Value: 4}
	d := b.op("dispatch", []*ir.Node{h, ids})
	up := b.round(b.op("silu", []*ir.Node{b.op("expert_matmul", []*ir.Node{d, b.weight("w1", 4, ffn, 32), ids}, experts, total)}))
	down := b.op("expert_matmul", []*ir.Node{up, b.weight("w2", 4, 32, ffn), ids}, experts, total)
	return b.op("combine", []*ir.Node{b.round(down), ids, w}, total)
}

func make1(t *testing.T) *plan.Plan {
	t.Helper()
	g := sample(t)
	m := plan.Model{Name: "sample", Layers: g.Layers, Vocab: 64}
	for _, w := range g.Weights {
		m.Params += w.Bytes() / 2
	}
	p, err := Make(g, Options{Model: m, Machine: plan.Machine{Name: "test", Devices: 1, Memory: 1 << 30},
		Limits: plan.Limits{Tokens: 48, Rows: 8, Sequences: 4, Context: 64, Page: 16, Pages: 16}})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestMakeVerifies(t *testing.T) {
	p := make1(t)
	if err := plan.Verify(p); err != nil {
		for _, e := range err.(*plan.VerifyError).Problems {
			t.Error(e)
		}
	}
}

// TestLayersFold checks that three equal layers are stored once and the
// fourth apart.
func TestLayersFold(t *testing.T) {
	p := make1(t)
	var runs []string
	for _, r := range p.Programs[0].Runs {
		runs = append(runs, r.Block+" "+r.Layers.String())
	}
	want := "begin , layer0 0-2, layer3 3, end "
	if got := strings.Join(runs, ", "); got != want {
		t.Errorf("runs are %q, want %q", got, want)
	}
	for _, s := range p.Programs[0].Blocks[1].Queues[0].Steps {
		if s.Op == "copy" {
			t.Error("the residual stream is copied between layers")
		}
	}
}

func TestFileRoundTrip(t *testing.T) {
	p := make1(t)
	text, err := plan.Encode(p)
	if err != nil {
		t.Fatal(err)
	}
	q, err := plan.Decode("sample.plan", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	again, _ := plan.Encode(q)
	if !bytes.Equal(text, again) {
		t.Error("decoding and encoding changed the plan")
	}
	for range 3 {
		if other, _ := plan.Encode(make1(t)); !bytes.Equal(text, other) {
			t.Fatal("making the same plan again gave other bytes")
		}
	}
}

func TestPackKeepsLivesApart(t *testing.T) {
	needs := []*need{{0, 2, 100, 0}, {1, 3, 300, 0}, {3, 4, 512, 0}, {4, 9, 1, 0}, {0, 9, 256, 0}}
	size := pack(needs)
	for i, a := range needs {
		if a.offset%align != 0 || a.offset+a.bytes > size {
			t.Errorf("need %d is at %d with %d bytes of %d", i, a.offset, a.bytes, size)
		}
		for _, b := range needs[:i] {
			if a.first <= b.last && b.first <= a.last && a.offset < b.offset+b.bytes && b.offset < a.offset+a.bytes {
				t.Errorf("%+v and %+v overlap", *a, *b)
			}
		}
	}
	if size > 1280 { // the three that share position 3: 512, 512 and 256
		t.Errorf("packed into %d bytes", size)
	}
}
