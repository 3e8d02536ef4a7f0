package passes

import (
	"math"
	"slices"

	"moec/ir"
	"moec/ir/tensor"
)

// canonicalise brings each operation into its simplest form, one rule at a
// time, and keeps every bit.
//
//	before:  a = mul(x, 1)               after:  b = add(x, -3)
//	         b = sub(a, 3)                       d = reshape(b){tail=[8]}
//	         c = reshape(b){tail=[2,4]}
//	         d = reshape(c){tail=[8]}
//
// It runs first: the other passes then need to know one form only.
func canonicalise(c *Context, g *ir.Graph) error {
	return rewrite(g, func(r *rewriter, n *ir.Node) *ir.Node {
		for {
			m := firstRule(c, r, n)
			if m == nil {
				return n
			}
			if !m.Type.Equal(n.Type) {
				return m // reported by rewrite
			}
			n = m
		}
	})
}

func firstRule(c *Context, r *rewriter, n *ir.Node) *ir.Node {
	for _, rule := range Rules {
		if slices.Contains(rule.Ops, n.Op.Name) {
			if m := rule.apply(r, n); m != nil {
				if c.Hits != nil {
					c.Hits[rule.Name]++
				}
				return m
			}
		}
	}
	return nil
}

// Rule is one rewrite of the canonicalise pass.
type Rule struct {
	Name string
	Doc  string
	Ops  []string // the ops it looks at
	// apply returns what n becomes, or nil when the rule does not apply.
	apply func(r *rewriter, n *ir.Node) *ir.Node
}

// Rules are tried in this order. A rule is listed only if the bits of every
// result, signed zeros and infinities included, stay the same.
var Rules = []Rule{
	{"round same", "round{d}(x) is x when x has element type d", []string{"round"}, sameAsOperand},
	{"fold scalars", "arithmetic on two numbers is a number", []string{"add", "sub", "mul", "div", "neg"}, foldScalars},
	{"constant last", "add and mul read a constant or weight as their second operand", []string{"add", "mul"}, constantLast},
	{"sub constant", "sub(x, c) is add(x, -c)", []string{"sub"}, subConstant},
	{"div power of two", "div(x, c) is mul(x, 1/c) when every c is a power of two", []string{"div"}, divPowerOfTwo},
	{"mul one", "mul(x, 1) is x", []string{"mul"}, mulOne},
	{"add zero", "add(x, -0) is x; adding +0 would turn -0 into +0", []string{"add"}, addZero},
	{"neg neg", "neg(neg(x)) is x", []string{"neg"}, negNeg},
	{"abs sign", "abs(neg(x)) and abs(abs(x)) are abs(x)", []string{"abs"}, absSign},
	{"reshape reshape", "reshape(reshape(x)) is one reshape", []string{"reshape"}, reshapeReshape},
	{"reshape same", "a reshape to the same extents is x", []string{"reshape"}, sameAsOperand},
	{"slice all", "a slice of everything is x", []string{"slice"}, sameAsOperand},
	{"slice slice", "a slice of a slice along the same axis is one slice", []string{"slice"}, sliceSlice},
	{"slice concat", "a slice of one operand of a concat is a slice of that operand", []string{"slice"}, sliceConcat},
	{"concat one", "concat(x) is x", []string{"concat"}, concatOne},
	{"broadcast same", "a broadcast to the same extents is x", []string{"broadcast"}, sameAsOperand},
}

// sameAsOperand serves ops that only change the type: if they do not, they do
// nothing.
func sameAsOperand(_ *rewriter, n *ir.Node) *ir.Node {
	if n.Type.Equal(n.Args[0].Type) {
		return n.Args[0]
	}
	return nil
}

// constant returns the values of a const node.
func constant(n *ir.Node) ([]float32, bool) {
	return n.Attrs.Floats("values"), n.Op.Name == "const"
}

// makeConst adds a const of the given shape next to like.
func makeConst(r *rewriter, like *ir.Node, shape tensor.Shape, values []float32) *ir.Node {
	extents := make([]int, len(shape))
	for i, d := range shape {
		extents[i] = d.N
	}
	return r.add("const", like, ir.MakeAttrs(ir.Attr{Name: "shape", Value: extents}, ir.Attr{Name: "values", Value: values}))
}

// foldScalars uses only operations that IEEE 754 rounds to nearest, so that
// any backend gets the same number.
func foldScalars(r *rewriter, n *ir.Node) *ir.Node {
	var in [2]float32
	for i, a := range n.Args {
		v, ok := constant(a)
		if !ok || len(v) != 1 {
			return nil
		}
		in[i] = v[0]
	}
	var v float32
	switch n.Op.Name {
	case "add":
		v = in[0] + in[1]
	case "sub":
		v = in[0] - in[1]
	case "mul":
		v = in[0] * in[1]
	case "div":
		v = in[0] / in[1]
	case "neg":
		v = -in[0]
	}
	return makeConst(r, n, n.Type.Shape, []float32{v})
}

func constantLast(r *rewriter, n *ir.Node) *ir.Node {
	a, b := n.Args[0], n.Args[1]
	if !a.Op.Has(ir.Nullary) || b.Op.Has(ir.Nullary) {
		return nil
	}
	return r.add(n.Op.Name, n, nil, b, a)
}

func subConstant(r *rewriter, n *ir.Node) *ir.Node {
	v, ok := constant(n.Args[1])
	if !ok {
		return nil
	}
	neg := make([]float32, len(v))
	for i := range v {
		neg[i] = -v[i]
	}
	return r.add("add", n, nil, n.Args[0], makeConst(r, n, n.Args[1].Type.Shape, neg))
}

// divPowerOfTwo relies on 1/c being exact: then x/c and x*(1/c) are the same
// real number, rounded once.
func divPowerOfTwo(r *rewriter, n *ir.Node) *ir.Node {
	v, ok := constant(n.Args[1])
	if !ok {
		return nil
	}
	inverse := make([]float32, len(v))
	for i, c := range v {
		frac, exp := math.Frexp(float64(c))
		if math.Abs(frac) != 0.5 || exp < -120 || exp > 120 {
			return nil
		}
		inverse[i] = 1 / c
	}
	return r.add("mul", n, nil, n.Args[0], makeConst(r, n, n.Args[1].Type.Shape, inverse))
}

// neutral returns operand 0 of n if every entry of operand 1 has the bits of
// the neutral element and the type stays the same.
func neutral(n *ir.Node, element float32) *ir.Node {
	v, ok := constant(n.Args[1])
	if !ok || !n.Type.Equal(n.Args[0].Type) {
		return nil
	}
	for _, c := range v {
		if math.Float32bits(c) != math.Float32bits(element) {
			return nil
		}
	}
	return n.Args[0]
}

func mulOne(_ *rewriter, n *ir.Node) *ir.Node { return neutral(n, 1) }

func addZero(_ *rewriter, n *ir.Node) *ir.Node { return neutral(n, float32(math.Copysign(0, -1))) }

func negNeg(_ *rewriter, n *ir.Node) *ir.Node {
	if a := n.Args[0]; a.Op.Name == "neg" && a.Args[0].Type.Equal(n.Type) {
		return a.Args[0]
	}
	return nil
}

func absSign(r *rewriter, n *ir.Node) *ir.Node {
	switch a := n.Args[0]; a.Op.Name {
	case "abs":
		return a
	case "neg":
		return r.add("abs", n, nil, a.Args[0])
	}
	return nil
}

func reshapeReshape(r *rewriter, n *ir.Node) *ir.Node {
	if a := n.Args[0]; a.Op.Name == "reshape" {
		return r.add("reshape", n, n.Attrs, a.Args[0])
	}
	return nil
}

func sliceSlice(r *rewriter, n *ir.Node) *ir.Node {
	a := n.Args[0]
	if a.Op.Name != "slice" || a.Attrs.Int("axis", 0) != n.Attrs.Int("axis", 0) {
		return nil
	}
	first, step := a.Attrs.Int("lo", 0), a.Attrs.Int("step", 1)
	lo := first + n.Attrs.Int("lo", 0)*step
	// The last entry taken decides the end, whatever the steps leave over.
	count := n.Type.Shape[n.Attrs.Int("axis", 0)].N
	both := step * n.Attrs.Int("step", 1)
	return r.add("slice", n, sliceAttrs(n.Attrs.Int("axis", 0), lo, lo+(count-1)*both+1, both), a.Args[0])
}

// sliceAttrs leaves the step out when it is 1, so that equal slices look equal.
func sliceAttrs(axis, lo, hi, step int) ir.Attrs {
	attrs := ir.MakeAttrs(ir.Attr{Name: "axis", Value: axis}, ir.Attr{Name: "lo", Value: lo}, ir.Attr{Name: "hi", Value: hi})
	if step != 1 {
		attrs = attrs.With("step", step)
	}
	return attrs
}

func sliceConcat(r *rewriter, n *ir.Node) *ir.Node {
	a, axis := n.Args[0], n.Attrs.Int("axis", 0)
	if a.Op.Name != "concat" || a.Attrs.Int("axis", 0) != axis || a.Type.Shape[axis].Sym != "" {
		return nil
	}
	lo, hi, start := n.Attrs.Int("lo", 0), n.Attrs.Int("hi", 0), 0
	for _, part := range a.Args {
		end := start + part.Type.Shape[axis].N
		if lo >= start && hi <= end {
			return r.add("slice", n, sliceAttrs(axis, lo-start, hi-start, n.Attrs.Int("step", 1)), part)
		}
		start = end
	}
	return nil
}

func concatOne(_ *rewriter, n *ir.Node) *ir.Node {
	if len(n.Args) == 1 {
		return n.Args[0]
	}
	return nil
}
