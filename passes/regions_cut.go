package passes

import (
	"moec/ir"
	"moec/ir/tensor"
)

// cutRules says, for an op whose result is cut, how its operands are then cut.
// A rule reports false when the op cannot compute a part of its result from
// parts of its operands. Elementwise ops all follow cutElementwise; an op that
// has no rule is never a member of a region.
var cutRules = map[string]func(*ir.Node, Cut) ([]Cut, bool){
	"softmax":       cutAlongRows,
	"sum":           cutAlongRows,
	"rms_norm":      cutAlongRows,
	"layer_norm":    cutAlongRows,
	"reshape":       cutReshape,
	"slice":         cutOtherAxis,
	"concat":        cutOtherAxis,
	"broadcast":     cutOtherAxis,
	"take_rows":     cutTakeRows,
	"matmul":        cutMatmul,
	"rope":          cutHeads,
	"kv_append":     cutAppend,
	"attention":     cutAttention,
	"expert_matmul": cutExpertMatmul,
	"expert_rows":   cutExpertRows,
}

// operandCuts returns the cuts of n's operands when its result is cut as c.
func operandCuts(n *ir.Node, c Cut) ([]Cut, bool) {
	if n.Op.Has(ir.Elementwise) {
		return cutElementwise(n, c)
	}
	rule, ok := cutRules[n.Op.Name]
	if !ok {
		return nil, false
	}
	return rule(n, c)
}

// contraction reports whether n sums over features of a weight.
func contraction(n *ir.Node) bool { return n.Op.Name == "matmul" || n.Op.Name == "expert_matmul" }

// lastAxis returns the number of the last axis of n's result.
func lastAxis(n *ir.Node) int { return len(n.Type.Shape) - 1 }

// wholes returns a cut for each operand of n: first for operand 0, whole for
// the others.
func wholes(n *ir.Node, first Cut) []Cut {
	list := make([]Cut, len(n.Args))
	for i := range list {
		list[i] = Whole
	}
	list[0] = first
	return list
}

// moved is c along another axis.
func (c Cut) moved(axis int) Cut { return Cut{axis, c.Unit, c.Share} }

func cutElementwise(n *ir.Node, c Cut) ([]Cut, bool) {
	list := make([]Cut, len(n.Args))
	for i, a := range n.Args {
		axis := c.Axis - (len(n.Type.Shape) - len(a.Type.Shape))
		list[i] = Whole
		if axis >= 0 && a.Type.Shape[axis] == n.Type.Shape[c.Axis] {
			list[i] = c.moved(axis)
		}
	}
	return list, true
}

func cutAlongRows(n *ir.Node, c Cut) ([]Cut, bool) {
	return wholes(n, c), c.Axis != lastAxis(n)
}

// cutReshape finds the axis of the operand whose entries, each with all that
// is under it, make up the same blocks of a row as the cut axis.
func cutReshape(n *ir.Node, c Cut) ([]Cut, bool) {
	from, to := n.Type.Shape, n.Args[0].Type.Shape
	if c.Axis < 1 {
		return nil, false
	}
	outer, inner := from[1:c.Axis].Static(), from[c.Axis+1:].Static()
	block, span := c.Unit*inner, from[c.Axis].N*inner
	for axis := 1; axis < len(to); axis++ {
		under := to[axis+1:].Static()
		if to[1:axis].Static() == outer && block%under == 0 && to[axis].N*under == span {
			return []Cut{{axis, block / under, c.Share}}, true
		}
	}
	return nil, false
}

func cutOtherAxis(n *ir.Node, c Cut) ([]Cut, bool) {
	list := make([]Cut, len(n.Args))
	for i := range list {
		list[i] = c
	}
	return list, n.Attrs.Int("axis", 0) != c.Axis
}

func cutTakeRows(n *ir.Node, c Cut) ([]Cut, bool) { return wholes(n, c), c.Axis > 0 }

// cutMatmul divides the output features, or the heads that share a weight.
func cutMatmul(n *ir.Node, c Cut) ([]Cut, bool) {
	if c.Axis != lastAxis(n) {
		return wholes(n, c), true
	}
	return []Cut{Whole, c.moved(0)}, true
}

func cutExpertMatmul(n *ir.Node, c Cut) ([]Cut, bool) {
	return []Cut{Whole, c.moved(1), Whole}, c.Axis == lastAxis(n)
}

func cutExpertRows(n *ir.Node, c Cut) ([]Cut, bool) {
	return []Cut{c.moved(1), Whole}, c.Axis == lastAxis(n)
}

func cutHeads(n *ir.Node, c Cut) ([]Cut, bool) { return wholes(n, c), c.Axis == 1 }

func cutAppend(_ *ir.Node, c Cut) ([]Cut, bool) {
	return []Cut{c, c, Whole, Whole}, c.Axis == 1
}

// cutAttention divides the query heads and with them the KV heads they read.
func cutAttention(n *ir.Node, c Cut) ([]Cut, bool) {
	if c.Axis != 1 || c.Share != 1 {
		return nil, false
	}
	kv := c
	switch group := n.Attrs.Int("group", 1); {
	case c.Unit%group == 0:
		kv.Unit = c.Unit / group
	case group%c.Unit == 0:
		kv.Unit, kv.Share = 1, group/c.Unit
	default:
		return nil, false
	}
	list := wholes(n, c)
	list[1] = kv
	if len(n.Args) > 4 {
		list[4] = c.moved(0)
	}
	return list, true
}

// fits reports whether a value of that shape has the runs that c speaks of.
func (c Cut) fits(s tensor.Shape, units int) bool {
	return c.Axis < len(s) && s[c.Axis].Sym == "" && units%c.Share == 0 && s[c.Axis].N == units/c.Share*c.Unit
}
