package passes

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"moec/ir"
	"moec/ir/tensor"
	"moec/ir/textdiff"
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

// TestFindRegions compares with testdata/regions.txt. The first case shows the
// regions outside the layers too.
func TestFindRegions(t *testing.T) {
	const file = "testdata/regions.txt"
	golden, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := &txtar.Archive{Comment: golden.Comment}
	for i, c := range regionCases {
		regions := FindRegions(oneLayer(t, c.act, c.build))
		if i > 0 {
			regions = slices.DeleteFunc(regions, func(r *Region) bool { return r.Layer < 0 })
		}
		got.Files = append(got.Files, txtar.File{Name: c.name, Data: []byte(describe(regions))})
	}
	text := txtar.Format(got)
	if *rewriteGolden {
		if err := os.WriteFile(file, text, 0o666); err != nil {
			t.Fatal(err)
		}
	} else if want := txtar.Format(golden); !bytes.Equal(text, want) {
		t.Errorf("regions differ:\n%s", textdiff.Unified("want", "got", string(want), string(text)))
	}
}

// oneLayer builds a model of one layer.
func oneLayer(t *testing.T, act tensor.DType, build func(*model, *ir.Node, sizes) *ir.Node) *ir.Graph {
	t.Helper()
	s := small
	s.layers = 1
	m := newModel(t, act)
	m.g.Layers = 1
	x := m.embed(s)
	m.layer = 0
	m.head(build(m, x, s), s)
	if err := ir.Verify(m.g); err != nil {
		t.Fatal(err)
	}
	return m.g
}

var regionCases = []struct {
	name  string
	act   tensor.DType
	build func(*model, *ir.Node, sizes) *ir.Node
}{
	{"mixtral", tensor.BF16, func(m *model, x *ir.Node, s sizes) *ir.Node {
		x = m.add(x, m.attention(m.norm(x, "n1"), s))
		return m.add(x, m.moe(m.norm(x, "n2"), s))
	}},
	{"llama", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		x = m.add(x, m.attention(m.norm(x, "n1"), s))
		return m.add(x, m.swiglu(m.norm(x, "n2"), 256, ""))
	}},
	{"biases", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		q, k, v := m.qkv(x, s)
		q = m.add(q, m.reshapeWeight("bq", s.heads, s.dim))
		y := m.add(m.linear(m.attend(q, k, v, m.weight("sinks", s.heads)), "wo", s.hidden), m.weight("bo", s.hidden))
		up := m.add(m.linear(y, "up", 20), m.weight("bup", 20))
		return m.add(m.linear(m.unary("gelu", up), "down", s.hidden), m.weight("bdown", s.hidden))
	}},
	{"head norms", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		q, k, v := m.qkv(x, s)
		return m.linear(m.attend(m.norm(q, "qn"), m.norm(k, "kn"), v), "wo", s.hidden)
	}},
	{"norms over all heads", tensor.BF16, func(m *model, x *ir.Node, s sizes) *ir.Node {
		q := m.reshape(m.norm(m.linear(x, "wq", s.hidden), "qn"), s.heads, s.dim)
		k := m.reshape(m.norm(m.linear(x, "wk", s.hidden), "kn"), s.heads, s.dim)
		v := m.reshape(m.linear(x, "wv", s.hidden), s.heads, s.dim)
		return m.linear(m.attend(m.rope(q), m.rope(k), v), "wo", s.hidden)
	}},
	{"norm over shared heads", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		q, _, v := m.qkv(x, s)
		k := m.reshape(m.norm(m.linear(x, "wk", s.kvHeads*s.dim), "kn"), s.kvHeads, s.dim)
		return m.linear(m.attend(q, k, v), "wo", s.hidden)
	}},
	{"latent", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		q := m.reshape(m.linear(m.linear(x, "wqa", 12), "wqb", s.heads*6), s.heads, 6)
		q = m.concat(2, m.slice(q, 2, 0, 2), m.rope(m.slice(q, 2, 2, 6)))
		low := m.linear(x, "wkva", 12+4)
		shared := m.op("broadcast", ir.MakeAttrs(attr("axis", 1), attr("n", s.heads)), m.rope(m.reshape(m.slice(low, 1, 12, 16), 1, 4)))
		kv := m.reshape(m.linear(m.norm(m.slice(low, 1, 0, 12), "kvn"), "wkvb", s.heads*5), s.heads, 5)
		return m.linear(m.attend(q, m.concat(2, m.slice(kv, 2, 0, 2), shared), m.slice(kv, 2, 2, 5)), "wo", s.hidden)
	}},
	{"gated attention", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		y := m.attend(m.qkv(x, s))
		return m.linear(m.mul(y, m.unary("sigmoid", m.linear(x, "wgate", s.hidden))), "wo", s.hidden)
	}},
	{"one kv head", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		s.kvHeads = 1
		return m.attention(x, s)
	}},
	{"shared expert", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		shared := m.swiglu(x, 24, "shared.")
		shared = m.mul(shared, m.unary("sigmoid", m.linear(x, "shared.pick", 1)))
		return m.add(m.moe(x, s), shared)
	}},
	{"expert biases", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		ids, weights := m.route(x, s)
		up := m.expertBias(m.expertLinear(m.op("dispatch", nil, x, ids), ids, "up", s.ffn, s), ids, "bup", s)
		up = m.op("min", nil, up, m.konst([]int{}, 7))
		return m.combine(m.expertBias(m.expertLinear(m.unary("relu", up), ids, "down", s.hidden, s), ids, "bdown", s), ids, weights, s)
	}},
	{"expert with a norm inside", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		ids, weights := m.route(x, s)
		up := m.norm(m.expertLinear(m.op("dispatch", nil, x, ids), ids, "up", s.ffn, s), "mid")
		return m.combine(m.expertLinear(up, ids, "down", s.hidden, s), ids, weights, s)
	}},
	{"three expert matmuls", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		ids, weights := m.route(x, s)
		y := m.op("dispatch", nil, x, ids)
		for _, name := range []string{"a", "b", "c", "d"} {
			y = m.unary("relu", m.expertLinear(y, ids, name, s.hidden, s))
		}
		return m.combine(y, ids, weights, s)
	}},
	{"slots read elsewhere", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		ids, weights := m.route(x, s)
		y := m.expertLinear(m.op("dispatch", nil, x, ids), ids, "a", s.hidden, s)
		return m.add(m.combine(y, ids, weights, s), m.reshape(m.slice(y, 1, 0, 1), s.hidden))
	}},
	{"no norms", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		x = m.add(x, m.attention(x, s))
		return m.add(x, m.swiglu(x, 20, ""))
	}},
	{"cut value read whole", tensor.F32, func(m *model, x *ir.Node, s sizes) *ir.Node {
		up := m.linear(x, "up", 32)
		return m.add(m.linear(m.unary("silu", up), "down", s.hidden), up)
	}},
}

// TestRegionsDependOnTheGraphAlone shuffles the nodes.
func TestRegionsDependOnTheGraphAlone(t *testing.T) {
	for _, c := range regionCases {
		g := oneLayer(t, c.act, c.build)
		want := idsOf(FindRegions(g))
		for seed := range uint64(5) {
			shuffle(g, rand.New(rand.NewPCG(seed, 1)))
			if got := idsOf(FindRegions(g)); !slices.Equal(got, want) {
				t.Errorf("%s, seed %d: regions are\n%s\nin order\n%s", c.name, seed, got, want)
			}
		}
	}
}

// idsOf prints each region with its nodes in order of their IDs.
func idsOf(regions []*Region) []string {
	var list []string
	for _, r := range regions {
		text := fmt.Sprint(r.Kind, r.Layer, r.Units, r.Bounds)
		for _, nodes := range [][]*ir.Node{r.Before, r.Open, r.Inner, r.Close, r.After, r.Gather} {
			var ids []string
			for _, n := range nodes {
				ids = append(ids, fmt.Sprintf("%04d%v", n.ID(), r.Members[n]))
			}
			slices.Sort(ids)
			text += fmt.Sprint(ids)
		}
		list = append(list, text)
	}
	slices.Sort(list)
	return list
}

// TestCutRanges checks which entries units need, and that segments of any
// share cover the units once.
func TestCutRanges(t *testing.T) {
	for _, c := range []struct {
		cut                Cut
		lo, hi, first, end int
	}{
		{Cut{1, 1, 1}, 3, 5, 3, 5},
		{Cut{1, 4, 1}, 3, 5, 12, 20},
		{Cut{1, 1, 4}, 0, 3, 0, 1}, // three query heads of the first KV head
		{Cut{1, 1, 4}, 3, 5, 0, 2}, // and two that straddle
		{Cut{1, 8, 7}, 7, 14, 8, 16},
	} {
		if first, end := c.cut.Range(c.lo, c.hi); first != c.first || end != c.end {
			t.Errorf("%v.Range(%d, %d) = %d, %d, want %d, %d", c.cut, c.lo, c.hi, first, end, c.first, c.end)
		}
	}
	for units := 1; units < 40; units++ {
		r := &Region{Units: units, Bounds: segmentBounds(units, 8)}
		if r.Leaves() != min(units, 8) || r.Bounds[0] != 0 || r.Bounds[r.Leaves()] != units {
			t.Errorf("%d units: bounds %v", units, r.Bounds)
		}
		for devices := 1; devices <= 8; devices++ {
			next := 0
			for d := range devices {
				first, end := r.Local(d*8/devices, (d+1)*8/devices, 8)
				if first != next {
					t.Errorf("%d units, device %d of %d: segments from %d, want %d", units, d, devices, first, next)
				}
				next = end
			}
			if next != r.Leaves() {
				t.Errorf("%d units on %d devices: %d of %d segments", units, devices, next, r.Leaves())
			}
		}
	}
}

// TestCutsFit checks that every cut operand has the entries that its reader
// takes, that devices together have every entry, and who closes what.
func TestCutsFit(t *testing.T) {
	for _, c := range regionCases {
		for _, r := range FindRegions(oneLayer(t, c.act, c.build)) {
			for n, m := range r.Members {
				for i, cut := range m.Args {
					if !cut.IsWhole() && !cut.fits(n.Args[i].Type.Shape, r.Units) {
						t.Errorf("%s: operand %d of %s, %s, is cut as %v of %d units", c.name, i, label(n), n.Args[i].Type, cut, r.Units)
					}
				}
				if m.Result.IsWhole() != slices.Contains(r.Close, n) {
					t.Errorf("%s: %s is whole: %t", c.name, label(n), m.Result.IsWhole())
				}
			}
			for _, n := range r.Close {
				bounds := r.BoundsOf(r.Members[n].Args[0])
				if k := n.Args[0].Type.Shape.Last().N; bounds[len(bounds)-1] != k {
					t.Errorf("%s: segments of %s end at %v of %d features", c.name, label(n), bounds, k)
				}
			}
		}
	}
}
