package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/tensor"
	"moec/ir/tree"
	"moec/planner"
	"moec/planner/plan"
)

// sample describes a placed Mixtral-like model that tests plan. It is made by
// hand, not by the passes, so that the verifier is tried on its own.
type sample struct {
	name    string
	devices int
	groups  int  // token groups, each on one device; 1: every device has all tokens
	layers  int  // equal ones; one more with wider experts follows if odd is set
	odd     bool // one layer more, that is not folded with the others
	heads   bool // attention heads and the head's words are divided
	inner   bool // the features of each expert are divided
	early   bool // with inner: each device combines its parts before they are added, as in mode fast
	pipe    bool // each layer is on one device, the layers in turn
	fused   bool // residual adds, norms and projections are fused, projections packed
	// homes lists the experts of each device; an expert that several devices
	// list takes turns. nil: every device has all.
	homes [][]int
}

const (
	hidden, heads, kvHeads, headDim = 32, 4, 2, 8
	nExperts, topK, vocab, segments = 4, 2, 64, 4
)

// samples are small plans with every feature of the format.
var samples = []sample{
	{name: "one", devices: 1, groups: 1, layers: 3, odd: true},
	{name: "one fused", devices: 1, groups: 1, layers: 2, fused: true},
	{name: "tensor", devices: 2, groups: 1, layers: 3, odd: true, heads: true, inner: true},
	{name: "experts", devices: 2, groups: 1, layers: 3, heads: true, fused: true, homes: [][]int{{0, 2}, {1, 2, 3}}},
	{name: "groups", devices: 2, groups: 2, layers: 2, homes: [][]int{{0, 1, 2}, {2, 3}}},
	{name: "copies", devices: 2, groups: 2, layers: 2, fused: true},
	{name: "pipeline", devices: 2, groups: 1, layers: 4, pipe: true},
	{name: "fast", devices: 2, groups: 1, layers: 2, heads: true, inner: true, early: true},
	{name: "four", devices: 4, groups: 1, layers: 2, heads: false, homes: [][]int{{0}, {1, 3}, {2}, {3}}},
}

// maker builds a placed graph.
type maker struct {
	t       testing.TB
	s       sample
	g       *ir.Graph
	at      ir.Node // where the next node goes: layer, device and group
	channel int
	memo    map[string]*ir.Node // nodes without operands, by device
}

func attr(name string, value any) ir.Attr { return ir.Attr{Name: name, Value: value} }

func (m *maker) op(name string, args []*ir.Node, attrs ...ir.Attr) *ir.Node {
	m.t.Helper()
	n, err := m.g.Add(ir.Op(name), args, ir.MakeAttrs(attrs...), &m.at)
	if err != nil {
		m.t.Fatal(err)
	}
	return n
}

// once makes a node without operands, one for each device.
func (m *maker) once(key string, make func() *ir.Node) *ir.Node {
	key += fmt.Sprint(" ", m.at.Device)
	if m.memo[key] == nil {
		m.memo[key] = make()
	}
	return m.memo[key]
}

func (m *maker) input(name string) *ir.Node {
	return m.once(name, func() *ir.Node { return m.op("input", nil, attr("name", name)) })
}

// weight declares a weight of the model and gives the part of it that the
// device holds: slice has lo and hi of some axis, experts may be nil.
func (m *maker) weight(name string, shape []int, cut [3]int, experts []int) *ir.Node {
	if m.at.Layer >= 0 {
		name = fmt.Sprintf("layers.%d.%s", m.at.Layer, name)
	}
	if m.g.Weight(name) == nil {
		m.declare(name, shape)
	}
	held := slices.Clone(shape)
	attrs := []ir.Attr{attr("name", name), attr("dtype", tensor.BF16)}
	if cut[2] > 0 {
		var slice [][]int
		for i, d := range shape {
			slice = append(slice, []int{0, d})
			if i == cut[0] {
				slice[i] = []int{cut[1], cut[2]}
				held[i] = cut[2] - cut[1]
			}
		}
		attrs = append(attrs, attr("slice", slice))
	}
	if experts != nil {
		held[0] = len(experts)
		attrs = append(attrs, attr("experts", experts))
	}
	group := m.at.Group
	m.at.Group = -1
	n := m.op("weight", nil, append(attrs, attr("shape", held))...)
	m.at.Group = group
	return n
}

func (m *maker) declare(name string, shape []int) {
	w := &ir.Weight{Name: name, Layer: m.at.Layer, DType: tensor.BF16, Shape: shape, Source: ir.Source{Key: "model." + name}}
	if m.at.Layer >= 0 {
		w.Source.Key = strings.Replace(w.Source.Key, fmt.Sprintf(".%d.", m.at.Layer), ".{layer}.", 1)
	}
	stored := shape
	if len(shape) == 3 {
		w.Experts = shape[0]
		w.Source.Key += ".{expert}"
		stored = shape[1:]
	}
	w.Source.Stored = stored
	for _, d := range stored {
		w.Source.View = append(w.Source.View, ir.Axis{Hi: d, Step: 1})
	}
	m.g.Weights = append(m.g.Weights, w)
}

var whole = [3]int{}

func (m *maker) round(x *ir.Node) *ir.Node {
	return m.op("round", []*ir.Node{x}, attr("dtype", tensor.BF16))
}

func (m *maker) norm(x *ir.Node, name string) *ir.Node {
	return m.round(m.op("rms_norm", []*ir.Node{x, m.weight(name, []int{hidden}, whole, nil)}, attr("eps", 1e-5)))
}

// add is the residual add: two nodes, or one fused, which also scales.
func (m *maker) add(x, y *ir.Node) *ir.Node {
	if !m.s.fused {
		return m.round(m.op("add", []*ir.Node{x, y}))
	}
	return m.fuse("residual", []*ir.Node{x, y}, func(b *maker, p []*ir.Node) *ir.Node {
		scale := b.op("const", nil, attr("shape", []int{}), attr("values", []float32{0.5}))
		return b.round(b.op("add", []*ir.Node{p[0], b.op("mul", []*ir.Node{p[1], scale})}))
	})
}

func (m *maker) fuse(kind string, args []*ir.Node, f func(b *maker, params []*ir.Node) *ir.Node) *ir.Node {
	b := &maker{t: m.t, s: m.s, g: ir.NewGraph(kind), at: ir.Node{Layer: -1, Device: -1, Group: -1}}
	var params []*ir.Node
	for i, a := range args {
		params = append(params, b.op("param", nil, attr("index", i), attr("type", a.Type.String())))
	}
	b.g.Outputs = []ir.Output{{Name: "y", Value: f(b, params)}}
	return m.op("fused", args, attr("kind", kind), attr("body", b.g))
}

// each calls f for every device, of its token group if there are several.
func (m *maker) each(f func(d int)) {
	for d := range m.s.devices {
		m.at.Device, m.at.Group = d, -1
		if m.s.groups > 1 {
			m.at.Group = d
		}
		f(d)
	}
}

// together adds a collective with a member on every device.
func (m *maker) together(op string, parts []*ir.Node, attrs ...ir.Attr) []*ir.Node {
	list := make([]*ir.Node, m.s.devices)
	rows := m.s.groups > 1 && op == "all_gather"
	m.each(func(d int) {
		if rows || parts[0].Group < 0 {
			m.at.Group = -1
		}
		list[d] = m.op(op, parts, append(slices.Clone(attrs), attr("channel", m.channel))...)
	})
	m.channel++
	return list
}

// reduce adds up parts of a sum on every device.
func (m *maker) reduce(parts []*ir.Node, leaves int) []*ir.Node {
	var spans [][]int
	for i, p := range parts {
		list := p.LocalSpans
		switch p.Op.Name {
		case "combine_nodes":
			list = p.ExpertSpans
		case "part":
			list = func() []tree.Span { return []tree.Span{{Lo: i, Hi: i + 1}} }
		}
		var flat []int
		for _, s := range list() {
			flat = append(flat, s.Lo, s.Hi)
		}
		spans = append(spans, flat)
	}
	return m.together("all_reduce", parts, attr("spans", spans), attr("leaves", leaves))
}

// share returns the run of n units that device d holds.
func (m *maker) share(n, d int) (lo, hi int) { return d * n / m.s.devices, (d + 1) * n / m.s.devices }

// build makes the graph.
func (s sample) build(t testing.TB) *ir.Graph {
	t.Helper()
	m := &maker{t: t, s: s, g: ir.NewGraph(s.name), at: ir.Node{Layer: -1, Device: 0, Group: -1}, memo: make(map[string]*ir.Node)}
	m.g.Level, m.g.Devices, m.g.Groups, m.g.Layers, m.g.Numerics.Segments = ir.Placed, s.devices, s.groups, s.layers, segments
	if s.odd {
		m.g.Layers++
	}
	if s.early {
		m.g.Numerics.Mode = ir.Fast
	}
	if s.pipe {
		m.pipeline()
	} else {
		m.parallel()
	}
	if err := ir.Verify(m.g); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	return m.g
}

// parallel is a model of which every device has a part of every layer.
func (m *maker) parallel() {
	x := make([]*ir.Node, m.s.devices)
	m.each(func(d int) {
		x[d] = m.op("embed", []*ir.Node{m.input("tokens"), m.weight("embed", []int{vocab, hidden}, whole, nil)})
	})
	for l := range m.g.Layers {
		m.at.Layer = l
		m.cache(l)
		ffn := 16
		if l == m.s.layers {
			ffn = 32
		}
		x = m.attention(x)
		x = m.experts(x, ffn)
	}
	m.at.Layer = -1
	m.head(x)
}

// pipeline is a model whose layers are on one device each.
func (m *maker) pipeline() {
	m.at.Device = 0
	x := m.op("embed", []*ir.Node{m.input("tokens"), m.weight("embed", []int{vocab, hidden}, whole, nil)})
	all := []int{0, 1, 2, 3}
	for l := range m.g.Layers {
		m.at.Layer = l
		m.cache(l)
		if d := l * m.s.devices / m.g.Layers; d != m.at.Device {
			m.at.Device = d
			x = m.op("transfer", []*ir.Node{x}, attr("channel", m.channel))
			m.channel++
		}
		x = m.add(x, m.proj(m.attend(m.norm(x, "n1"), whole, whole), whole, "matmul"))
		h := m.norm(x, "n2")
		ids, w := m.route(h)
		x = m.add(x, m.round(m.op("combine", []*ir.Node{m.rows(h, ids, all, nil, whole, 16), ids, w}, attr("total", nExperts))))
	}
	m.at.Layer = -1
	y := m.op("take_rows", []*ir.Node{m.norm(x, "n"), m.input("rows")})
	m.g.Outputs = []ir.Output{{Name: "logits", Value: m.op("matmul", []*ir.Node{y, m.weight("head", []int{vocab, hidden}, whole, nil)})}}
}

func (m *maker) cache(l int) {
	m.g.Caches = append(m.g.Caches, &ir.Cache{Name: fmt.Sprintf("layers.%d.attention", l), Layer: l, Heads: kvHeads, KeyDim: headDim, ValDim: headDim, DType: tensor.BF16})
}

func (m *maker) attention(x []*ir.Node) []*ir.Node {
	out, parts := make([]*ir.Node, m.s.devices), make([]*ir.Node, m.s.devices)
	m.each(func(d int) {
		h := m.norm(x[d], "n1")
		if !m.s.heads {
			out[d] = m.add(x[d], m.proj(m.attend(h, whole, whole), whole, "matmul"))
			return
		}
		lo, hi := m.share(heads, d)
		y := m.attend(h, [3]int{0, lo * headDim, hi * headDim}, [3]int{0, lo / 2 * headDim, hi / 2 * headDim})
		parts[d] = m.proj(y, [3]int{1, lo * headDim, hi * headDim}, "matmul_nodes")
	})
	if m.s.heads {
		parts = m.reduce(parts, segments)
		m.each(func(d int) { out[d] = m.add(x[d], m.round(parts[d])) })
	}
	return out
}

// attend projects, stores and attends with the query heads of a cut of the
// projections' rows.
func (m *maker) attend(h *ir.Node, q, kv [3]int) *ir.Node {
	freqs := m.once("freqs", func() *ir.Node {
		group, layer := m.at.Group, m.at.Layer
		m.at.Group, m.at.Layer = -1, -1
		n := m.op("const", nil, attr("shape", []int{4}), attr("values", []float32{1, 0.5, 0.25, 0.125}))
		m.at.Group, m.at.Layer = group, layer
		return n
	})
	nq, nkv := heads*headDim, kvHeads*headDim
	if q[2] > 0 {
		nq, nkv = q[2]-q[1], kv[2]-kv[1]
	}
	wq, wk, wv := m.weight("wq", []int{heads * headDim, hidden}, q, nil), m.weight("wk", []int{kvHeads * headDim, hidden}, kv, nil), m.weight("wv", []int{kvHeads * headDim, hidden}, kv, nil)
	var qkv [3]*ir.Node
	if m.s.fused {
		packed := m.op("pack", []*ir.Node{wq, wk, wv}, attr("axis", 0))
		packed.Group = -1
		all := m.fuse("epilogue", []*ir.Node{h, packed}, func(b *maker, p []*ir.Node) *ir.Node { return b.round(b.op("matmul", p)) })
		at := 0
		for i, n := range []int{nq, nkv, nkv} {
			qkv[i] = m.op("slice", []*ir.Node{all}, attr("axis", 1), attr("lo", at), attr("hi", at+n))
			at += n
		}
	} else {
		for i, w := range []*ir.Node{wq, wk, wv} {
			qkv[i] = m.round(m.op("matmul", []*ir.Node{h, w}))
		}
	}
	split := func(y *ir.Node, n int) *ir.Node {
		return m.op("reshape", []*ir.Node{y}, attr("tail", []int{n / headDim, headDim}))
	}
	turn := func(y *ir.Node) *ir.Node {
		return m.round(m.op("rope", []*ir.Node{y, m.input("positions"), freqs}, attr("style", "half")))
	}
	state := m.op("kv_append", []*ir.Node{turn(split(qkv[1], nkv)), split(qkv[2], nkv), m.input("sequences"), m.input("positions")}, attr("cache", m.g.Caches[m.at.Layer].Name))
	attrs := []ir.Attr{attr("scale", 0.35), attr("group", heads/kvHeads), attr("chunk", 16)}
	if q[2] > 0 {
		attrs = append(attrs, attr("q_first", q[1]/headDim), attr("kv_first", kv[1]/headDim))
	}
	att := m.op("attention", []*ir.Node{turn(split(qkv[0], nq)), state, m.input("sequences"), m.input("positions")}, attrs...)
	return m.op("reshape", []*ir.Node{m.round(att)}, attr("tail", []int{nq}))
}

// proj is the output projection, or the device's part of it.
func (m *maker) proj(y *ir.Node, cut [3]int, op string) *ir.Node {
	w := m.weight("wo", []int{hidden, heads * headDim}, cut, nil)
	if op == "matmul" {
		return m.round(m.op(op, []*ir.Node{y, w}, attr("bounds", []int{0, 8, 16, 24, 32})))
	}
	var bounds []int
	for b := 0; b <= cut[2]-cut[1]; b += hidden / segments {
		bounds = append(bounds, b)
	}
	return m.op(op, []*ir.Node{y, w}, attr("bounds", bounds), attr("leaf", cut[1]*segments/hidden), attr("leaves", segments))
}

// route chooses experts and their shares.
func (m *maker) route(h *ir.Node) (ids, w *ir.Node) {
	p := m.op("softmax", []*ir.Node{m.op("matmul", []*ir.Node{h, m.weight("gate", []int{nExperts, hidden}, whole, nil)})})
	ids = m.op("topk", []*ir.Node{p}, attr("k", topK))
	return ids, m.op("gather", []*ir.Node{p, ids})
}

// rows computes the slots of the experts listed, with the features of a cut.
func (m *maker) rows(h, ids *ir.Node, experts []int, turns [][]int, cut [3]int, ffn int) *ir.Node {
	held := []ir.Attr{attr("experts", experts), attr("total", nExperts)}
	if turns != nil {
		held = append(held, attr("turns", turns))
	}
	var list []int
	if len(experts) < nExperts {
		list = experts
	}
	d := m.op("dispatch", []*ir.Node{h, ids})
	up := m.op("expert_matmul", []*ir.Node{d, m.weight("w1", []int{nExperts, ffn, hidden}, cut, list), ids}, held...)
	act := m.round(m.op("silu", []*ir.Node{up}))
	if cut[2] == 0 {
		return m.round(m.op("expert_matmul", []*ir.Node{act, m.weight("w2", []int{nExperts, hidden, ffn}, whole, list), ids}, held...))
	}
	if m.s.early {
		return m.op("expert_matmul", []*ir.Node{act, m.weight("w2", []int{nExperts, hidden, ffn}, [3]int{2, cut[1], cut[2]}, list), ids}, held...)
	}
	var bounds []int
	for b := 0; b <= cut[2]-cut[1]; b += ffn / segments {
		bounds = append(bounds, b)
	}
	held = append(held, attr("bounds", bounds), attr("leaf", cut[1]*segments/ffn), attr("leaves", segments))
	return m.op("expert_matmul_nodes", []*ir.Node{act, m.weight("w2", []int{nExperts, hidden, ffn}, [3]int{2, cut[1], cut[2]}, list), ids}, held...)
}

// experts computes the routed experts where they are.
func (m *maker) experts(x []*ir.Node, ffn int) []*ir.Node {
	n := m.s.devices
	h, ids, w, parts, out := make([]*ir.Node, n), make([]*ir.Node, n), make([]*ir.Node, n), make([]*ir.Node, n), make([]*ir.Node, n)
	m.each(func(d int) { h[d] = m.norm(x[d], "n2") })
	spread := m.s.groups > 1 && m.s.homes != nil
	if spread {
		h = m.together("all_gather", h, attr("axis", 0))
	}
	all := []int{0, 1, 2, 3}
	m.each(func(d int) {
		if spread {
			m.at.Group = -1
		}
		ids[d], w[d] = m.route(h[d])
		switch {
		case m.s.inner:
			lo, hi := m.share(ffn, d)
			parts[d] = m.rows(h[d], ids[d], all, nil, [3]int{1, lo, hi}, ffn)
			if m.s.early {
				sum := m.op("combine", []*ir.Node{parts[d], ids[d], w[d]}, attr("total", nExperts))
				parts[d] = m.op("part", []*ir.Node{sum})
			}
		case m.s.homes != nil:
			turns := m.turns(d)
			rows := m.rows(h[d], ids[d], m.s.homes[d], turns, whole, ffn)
			parts[d] = m.op("combine_nodes", []*ir.Node{rows, ids[d], w[d]}, attr("experts", m.s.homes[d]), attr("total", nExperts), attr("turns", turns))
		default:
			parts[d] = m.rows(h[d], ids[d], all, nil, whole, ffn)
		}
	})
	leaves := segments
	switch {
	case m.s.homes != nil:
		leaves = nExperts
	case m.s.early:
		leaves = n
	}
	if m.s.inner || m.s.homes != nil {
		parts = m.reduce(parts, leaves)
	}
	m.each(func(d int) {
		y := parts[d]
		if m.s.inner && !m.s.early {
			y = m.round(y)
		}
		if m.s.homes == nil && !m.s.early {
			y = m.op("combine", []*ir.Node{y, ids[d], w[d]}, attr("total", nExperts))
		}
		if spread {
			y = m.op("own_rows", []*ir.Node{y}, attr("group", d))
		}
		out[d] = m.add(x[d], m.round(y))
	})
	return out
}

// turns says which tokens each expert of a device serves.
func (m *maker) turns(d int) [][]int {
	var turns [][]int
	for _, e := range m.s.homes[d] {
		r, n := 0, 0
		for i, list := range m.s.homes {
			if slices.Contains(list, e) {
				if i < d {
					r++
				}
				n++
			}
		}
		turns = append(turns, []int{r, n})
	}
	return turns
}

func (m *maker) head(x []*ir.Node) {
	y := make([]*ir.Node, m.s.devices)
	m.each(func(d int) {
		rows := m.op("take_rows", []*ir.Node{m.norm(x[d], "n"), m.input("rows")})
		cut := whole
		if m.s.heads {
			lo, hi := m.share(vocab, d)
			cut = [3]int{0, lo, hi}
		}
		y[d] = m.op("matmul", []*ir.Node{rows, m.weight("head", []int{vocab, hidden}, cut, nil)})
	})
	if m.s.heads {
		y = m.together("all_gather", y, attr("axis", 1))
	}
	for g := range m.s.groups {
		m.g.Outputs = append(m.g.Outputs, ir.Output{Name: "logits", Group: g, Value: y[g]})
	}
}

// plan makes the sample's plan.
func (s sample) plan(t testing.TB) *plan.Plan {
	t.Helper()
	g := s.build(t)
	m := plan.Model{Name: s.name, Hash: "00", Layers: g.Layers, Vocab: vocab}
	for _, w := range g.Weights {
		m.Params += w.Bytes() / 2
	}
	p, err := planner.Make(g, planner.Options{Model: m, Machine: plan.Machine{Name: "test", Devices: s.devices, Memory: 1 << 30, Reserve: 1 << 20},
		Limits: plan.Limits{Tokens: 24, Rows: 8, Sequences: 4, Context: 64, Page: 16, Pages: 16}})
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	return p
}

// TestSamplesVerify checks that every honest plan is accepted.
func TestSamplesVerify(t *testing.T) {
	for _, s := range samples {
		for _, p := range problems(s.plan(t)) {
			t.Errorf("%s: %s: %s", s.name, p.Rule, p.Text)
		}
	}
}

func problems(p *plan.Plan) []plan.Problem {
	if e, ok := plan.Verify(p).(*plan.VerifyError); ok {
		return e.Problems
	}
	return nil
}
