package passes

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/tensor"
)

// label names a node of a test graph: a contraction by its weight.
func label(n *ir.Node) string {
	if n.Op.Has(ir.Nullary) || n.Name == "" {
		return n.Op.Name
	}
	return n.Name
}

// describe prints regions compactly, for comparison with a golden text.
func describe(regions []*Region) string {
	var b strings.Builder
	for _, r := range regions {
		fmt.Fprintf(&b, "%s %d: units %d bounds %v", r.Kind, r.Layer, r.Units, r.Bounds)
		for _, part := range []struct {
			name  string
			nodes []*ir.Node
		}{{"before", r.Before}, {"open", r.Open}, {"inner", r.Inner}, {"close", r.Close}, {"after", r.After}, {"gather", r.Gather}} {
			if len(part.nodes) == 0 {
				continue
			}
			fmt.Fprintf(&b, "\n  %s:", part.name)
			for _, n := range part.nodes {
				b.WriteString(" " + label(n))
				if m, ok := r.Members[n]; ok && !m.Result.IsWhole() {
					fmt.Fprintf(&b, "@%d:%d/%d", m.Result.Axis, m.Result.Unit, m.Result.Share)
				}
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestFindRegions(t *testing.T) {
	one := small
	one.layers = 1
	for _, c := range regionCases {
		t.Run(c.name, func(t *testing.T) {
			m := newModel(t, c.act)
			m.g.Layers = 1
			x := m.embed(one)
			m.layer = 0
			x = c.build(m, x, one)
			m.head(x, one)
			regions := FindRegions(m.g)
			if c.name != "mixtral" {
				regions = slices.DeleteFunc(regions, func(r *Region) bool { return r.Layer < 0 })
			}
			if got, want := describe(regions), strings.TrimPrefix(c.want, "\n"); got != want {
				t.Errorf("regions are\n%s\nwant\n%s", got, want)
			}
		})
	}
}

var regionCases = []struct {
	name  string
	act   tensor.DType
	build func(*model, *ir.Node, sizes) *ir.Node
	want  string
}{
	{"mixtral", tensor.BF16, func(m *model, x *ir.Node, s sizes) *ir.Node {
		x = m.add(x, m.attention(m.norm(x, "n1"), s))
		return m.add(x, m.moe(m.norm(x, "n2"), s))
	}, `PENDING`},
	{"llama", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		x = m.add(x, m.attention(m.norm(x, "n1"), s))
		return m.add(x, m.swiglu(m.norm(x, "n2"), 256, ""))
	}, `PENDING`},
	{"biases", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		q, k, v := m.qkv(x, s)
		q = m.add(q, m.reshapeWeight("bq", s.heads, s.dim))
		y := m.add(m.linear(m.attend(q, k, v, m.weight("sinks", s.heads)), "wo", s.hidden), m.weight("bo", s.hidden))
		up := m.add(m.linear(y, "up", 20), m.weight("bup", 20))
		return m.add(m.linear(m.unary("gelu", up), "down", s.hidden), m.weight("bdown", s.hidden))
	}, `PENDING`},
	{"head norms", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		q, k, v := m.qkv(x, s)
		return m.linear(m.attend(m.norm(q, "qn"), m.norm(k, "kn"), v), "wo", s.hidden)
	}, `PENDING`},
	{"norms over all heads", tensor.BF16, func(m *model, x *ir.Node, s sizes) *ir.Node {
		q := m.reshape(m.norm(m.linear(x, "wq", s.hidden), "qn"), s.heads, s.dim)
		k := m.reshape(m.norm(m.linear(x, "wk", s.hidden), "kn"), s.heads, s.dim)
		v := m.reshape(m.linear(x, "wv", s.hidden), s.heads, s.dim)
		return m.linear(m.attend(m.rope(q), m.rope(k), v), "wo", s.hidden)
	}, `PENDING`},
	{"norm over shared heads", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		q, _, v := m.qkv(x, s)
		k := m.reshape(m.norm(m.linear(x, "wk", s.kvHeads*s.dim), "kn"), s.kvHeads, s.dim)
		return m.linear(m.attend(q, k, v), "wo", s.hidden)
	}, `PENDING`},
	{"latent", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		q := m.reshape(m.linear(m.linear(x, "wqa", 12), "wqb", s.heads*6), s.heads, 6)
		q = m.concat(2, m.slice(q, 2, 0, 2), m.rope(m.slice(q, 2, 2, 6)))
		low := m.linear(x, "wkva", 12+4)
		shared := m.op("broadcast", ir.MakeAttrs(attr("axis", 1), attr("n", s.heads)), m.rope(m.reshape(m.slice(low, 1, 12, 16), 1, 4)))
		kv := m.reshape(m.linear(m.norm(m.slice(low, 1, 0, 12), "kvn"), "wkvb", s.heads*5), s.heads, 5)
		return m.linear(m.attend(q, m.concat(2, m.slice(kv, 2, 0, 2), shared), m.slice(kv, 2, 2, 5)), "wo", s.hidden)
	}, `PENDING`},
	{"gated attention", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		y := m.attend(m.qkv(x, s))
		return m.linear(m.mul(y, m.unary("sigmoid", m.linear(x, "wgate", s.hidden))), "wo", s.hidden)
	}, `PENDING`},
	{"one kv head", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		s.kvHeads = 1
		return m.attention(x, s)
	}, `PENDING`},
	{"shared expert", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		shared := m.swiglu(x, 24, "shared.")
		shared = m.mul(shared, m.unary("sigmoid", m.linear(x, "shared.pick", 1)))
		return m.add(m.moe(x, s), shared)
	}, `PENDING`},
	{"expert biases", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		ids, weights := m.route(x, s)
		up := m.expertBias(m.expertLinear(m.op("dispatch", nil, x, ids), ids, "up", s.ffn, s), ids, "bup", s)
		up = m.op("min", nil, up, m.konst([]int{}, 7))
		return m.combine(m.expertBias(m.expertLinear(m.unary("relu", up), ids, "down", s.hidden, s), ids, "bdown", s), ids, weights, s)
	}, `PENDING`},
	{"expert with a norm inside", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		ids, weights := m.route(x, s)
		up := m.norm(m.expertLinear(m.op("dispatch", nil, x, ids), ids, "up", s.ffn, s), "mid")
		return m.combine(m.expertLinear(up, ids, "down", s.hidden, s), ids, weights, s)
	}, `PENDING`},
	{"three expert matmuls", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		ids, weights := m.route(x, s)
		y := m.op("dispatch", nil, x, ids)
		for _, name := range []string{"a", "b", "c", "d"} {
			y = m.unary("relu", m.expertLinear(y, ids, name, s.hidden, s))
		}
		return m.combine(y, ids, weights, s)
	}, `PENDING`},
	{"slots read elsewhere", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		ids, weights := m.route(x, s)
		y := m.expertLinear(m.op("dispatch", nil, x, ids), ids, "a", s.hidden, s)
		return m.add(m.combine(y, ids, weights, s), m.reshape(m.slice(y, 1, 0, 1), s.hidden))
	}, `PENDING`},
	{"no norms", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		x = m.add(x, m.attention(x, s))
		return m.add(x, m.swiglu(x, 20, ""))
	}, `PENDING`},
	{"cut value read whole", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		up := m.linear(x, "up", 32)
		return m.add(m.linear(m.unary("silu", up), "down", s.hidden), up)
	}, `PENDING`},
}
