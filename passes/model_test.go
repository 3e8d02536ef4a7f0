package passes

import (
	"fmt"
	"testing"

	"moec/ir"
	"moec/ir/tensor"
)

// model builds graphs for tests, op by op; it stops the test at the first
// mistake.
type model struct {
	t                *testing.T
	g                *ir.Graph
	like             *ir.Node
	layer            int
	act              tensor.DType
	pos, seqs, freqs *ir.Node
	weights          map[string]*ir.Node
}

func newModel(t *testing.T, act tensor.DType) *model {
	t.Helper()
	m := &model{t: t, g: ir.NewGraph("test"), layer: -1, act: act, weights: map[string]*ir.Node{}}
	m.g.Numerics.Segments = 8
	m.pos, m.seqs = m.input("positions"), m.input("sequences")
	return m
}

func (m *model) op(name string, attrs ir.Attrs, args ...*ir.Node) *ir.Node {
	m.t.Helper()
	n, err := m.g.Add(ir.Op(name), args, attrs, nil)
	if err != nil {
		m.t.Fatalf("%s: %v", name, err)
	}
	n.Layer = m.layer
	return n
}

func attr(name string, value any) ir.Attr { return ir.Attr{Name: name, Value: value} }

func (m *model) input(name string) *ir.Node {
	return m.op("input", ir.MakeAttrs(attr("name", name)))
}

func (m *model) konst(shape []int, values ...float32) *ir.Node {
	return m.op("const", ir.MakeAttrs(attr("shape", shape), attr("values", values)))
}

// weight declares a weight of the model, once, in the activation type.
func (m *model) weight(name string, shape ...int) *ir.Node {
	m.t.Helper()
	if m.layer >= 0 {
		name = fmt.Sprintf("layers.%d.%s", m.layer, name)
	}
	if n, ok := m.weights[name]; ok {
		return n
	}
	w := &ir.Weight{Name: name, Layer: m.layer, DType: m.act, Shape: shape, Source: ir.Source{Key: name, Stored: shape}}
	for _, d := range shape {
		w.Source.View = append(w.Source.View, ir.Axis{Lo: 0, Hi: d, Step: 1})
	}
	m.g.Weights = append(m.g.Weights, w)
	n := m.op("weight", ir.MakeAttrs(attr("name", name), attr("dtype", m.act), attr("shape", shape)))
	n.Name = name
	m.weights[name] = n
	return n
}

func (m *model) expertWeight(name string, shape ...int) *ir.Node {
	n := m.weight(name, shape...)
	w := m.g.Weight(n.Name)
	w.Experts, w.Source.View[0] = shape[0], ir.Axis{Expert: true}
	return n
}

// round narrows to the activation type; an f32 model has no such nodes.
func (m *model) round(x *ir.Node) *ir.Node {
	if m.act == tensor.F32 {
		return x
	}
	return m.op("round", ir.MakeAttrs(attr("dtype", m.act)), x)
}

func (m *model) norm(x *ir.Node, name string) *ir.Node {
	w := m.weight(name, x.Type.Shape.Last().N)
	return m.round(m.op("rms_norm", ir.MakeAttrs(attr("eps", 1e-5)), x, w))
}

func (m *model) linear(x *ir.Node, name string, out int) *ir.Node {
	n := m.op("matmul", nil, x, m.weight(name, out, x.Type.Shape.Last().N))
	n.Name = name
	return m.round(n)
}

func (m *model) add(x *ir.Node, y *ir.Node) *ir.Node { return m.round(m.op("add", nil, x, y)) }
func (m *model) mul(x *ir.Node, y *ir.Node) *ir.Node { return m.round(m.op("mul", nil, x, y)) }
func (m *model) unary(name string, x *ir.Node) *ir.Node {
	return m.round(m.op(name, nil, x))
}

func (m *model) reshape(x *ir.Node, tail ...int) *ir.Node {
	return m.op("reshape", ir.MakeAttrs(attr("tail", tail)), x)
}

// reshapeWeight is a weight with one extent more than a checkpoint has.
func (m *model) reshapeWeight(name string, shape ...int) *ir.Node { return m.weight(name, shape...) }

func (m *model) slice(x *ir.Node, axis, lo, hi int) *ir.Node {
	return m.op("slice", ir.MakeAttrs(attr("axis", axis), attr("lo", lo), attr("hi", hi)), x)
}

func (m *model) concat(axis int, list ...*ir.Node) *ir.Node {
	return m.op("concat", ir.MakeAttrs(attr("axis", axis)), list...)
}

func (m *model) rope(x *ir.Node) *ir.Node {
	return m.round(m.op("rope", ir.MakeAttrs(attr("style", "half")), x, m.pos, m.freqs))
}

// attend stores k and v ([T,hk,d] each) and reads them with q [T,h,d].
func (m *model) attend(q, k, v *ir.Node, extra ...*ir.Node) *ir.Node {
	name := fmt.Sprintf("layers.%d.attention", m.layer)
	h, hk := q.Type.Shape[1].N, k.Type.Shape[1].N
	m.g.Caches = append(m.g.Caches, &ir.Cache{Name: name, Layer: m.layer, Heads: hk, KeyDim: k.Type.Shape[2].N, ValDim: v.Type.Shape[2].N, DType: k.Type.DType})
	kv := m.op("kv_append", ir.MakeAttrs(attr("cache", name)), k, v, m.seqs, m.pos)
	args := append([]*ir.Node{q, kv, m.seqs, m.pos}, extra...)
	out := m.round(m.op("attention", ir.MakeAttrs(attr("scale", 0.5), attr("group", h/hk), attr("chunk", 4)), args...))
	return m.reshape(out, h*v.Type.Shape[2].N)
}

// sizes are the extents of a small model.
type sizes struct {
	hidden, heads, kvHeads, dim, ffn, experts, topk, layers, vocab int
}

var small = sizes{hidden: 32, heads: 8, kvHeads: 4, dim: 4, ffn: 48, experts: 4, topk: 2, layers: 2, vocab: 40}

func (m *model) embed(s sizes) *ir.Node {
	m.freqs = m.konst([]int{s.dim / 2}, make([]float32, s.dim/2)...)
	for i := range s.dim / 2 {
		m.freqs.Attrs.Floats("values")[i] = 1 / float32(1+3*i)
	}
	return m.op("embed", nil, m.input("tokens"), m.weight("embed", s.vocab, s.hidden))
}

func (m *model) head(x *ir.Node, s sizes) {
	m.layer = -1
	logits := m.op("matmul", nil, m.norm(x, "norm"), m.weight("head", s.vocab, s.hidden))
	logits = m.op("take_rows", nil, logits, m.input("rows"))
	m.g.Outputs = append(m.g.Outputs, ir.Output{Name: "logits", Value: logits})
}

func (m *model) qkv(x *ir.Node, s sizes) (q, k, v *ir.Node) {
	q = m.reshape(m.linear(x, "wq", s.heads*s.dim), s.heads, s.dim)
	k = m.reshape(m.linear(x, "wk", s.kvHeads*s.dim), s.kvHeads, s.dim)
	v = m.reshape(m.linear(x, "wv", s.kvHeads*s.dim), s.kvHeads, s.dim)
	return m.rope(q), m.rope(k), v
}

func (m *model) attention(x *ir.Node, s sizes) *ir.Node {
	return m.linear(m.attend(m.qkv(x, s)), "wo", s.hidden)
}

func (m *model) swiglu(x *ir.Node, ffn int, prefix string) *ir.Node {
	gate := m.unary("silu", m.linear(x, prefix+"gate", ffn))
	return m.linear(m.mul(gate, m.linear(x, prefix+"up", ffn)), prefix+"down", x.Type.Shape.Last().N)
}

// route returns the chosen experts and their weights, which add up to 1.
func (m *model) route(x *ir.Node, s sizes) (ids, weights *ir.Node) {
	scores := m.op("softmax", nil, m.linear(x, "router", s.experts))
	ids = m.op("topk", ir.MakeAttrs(attr("k", s.topk)), scores)
	top := m.op("gather", nil, scores, ids)
	return ids, m.op("div", nil, top, m.op("sum", nil, top))
}

func expertList(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func (m *model) expertLinear(x, ids *ir.Node, name string, out int, s sizes) *ir.Node {
	w := m.expertWeight(name, s.experts, out, x.Type.Shape.Last().N)
	n := m.op("expert_matmul", ir.MakeAttrs(attr("experts", expertList(s.experts)), attr("total", s.experts)), x, w, ids)
	n.Name = name
	return m.round(n)
}

func (m *model) expertBias(x, ids *ir.Node, name string, s sizes) *ir.Node {
	w := m.expertWeight(name, s.experts, x.Type.Shape.Last().N)
	rows := m.op("expert_rows", ir.MakeAttrs(attr("experts", expertList(s.experts)), attr("total", s.experts)), w, ids)
	return m.add(x, rows)
}

func (m *model) moe(x *ir.Node, s sizes) *ir.Node {
	ids, weights := m.route(x, s)
	rows := m.op("dispatch", nil, x, ids)
	gate := m.unary("silu", m.expertLinear(rows, ids, "experts.gate", s.ffn, s))
	y := m.expertLinear(m.mul(gate, m.expertLinear(rows, ids, "experts.up", s.ffn, s)), ids, "experts.down", s.hidden, s)
	return m.combine(y, ids, weights, s)
}

func (m *model) combine(y, ids, weights *ir.Node, s sizes) *ir.Node {
	return m.round(m.op("combine", ir.MakeAttrs(attr("total", s.experts)), y, ids, weights))
}

// mixtral builds the usual decoder with routed experts.
func mixtral(t *testing.T, act tensor.DType, s sizes) *ir.Graph {
	m := newModel(t, act)
	x := m.embed(s)
	for m.layer = 0; m.layer < s.layers; m.layer++ {
		x = m.add(x, m.attention(m.norm(x, "norm1"), s))
		x = m.add(x, m.moe(m.norm(x, "norm2"), s))
	}
	m.g.Layers = s.layers
	m.head(x, s)
	return m.g
}
