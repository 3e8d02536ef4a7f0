package passes

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
)

// cse keeps one of several nodes that compute the same value.
//
//	before:  a = weight{name=w}   after:  a = weight{name=w}
//	         b = weight{name=w}           p = add(x, a)
//	         p = add(x, a)                q = mul(p, p)
//	         q = mul(p, add(b, x))
//
// It runs after canonicalise, which makes equal things look equal, and again
// after the fusions, which copy weights and slices. Fused ops, collectives and
// ops with an effect stay as they are. Nodes of different layers are merged
// only if they depend on nothing of their layers; they then move out of the
// layers, so that layers keep looking alike.
func cse(_ *Context, g *ir.Graph) error {
	out := outputs(g)
	first := make(map[string]*ir.Node, len(g.Nodes))
	return rewrite(g, func(_ *rewriter, n *ir.Node) *ir.Node {
		if !mergeable(n) {
			return n
		}
		key := keyOf(n)
		old, ok := first[key]
		if !ok || out[n] && out[old] {
			first[key] = n
			return n
		}
		if old.Layer != n.Layer {
			if !outsideLayers(n) {
				first[key] = n
				return n
			}
			old.Layer = -1
		}
		if old.Name == "" {
			old.Name = n.Name
		}
		return old
	})
}

// mergeable reports whether two nodes that look like n are the same value.
func mergeable(n *ir.Node) bool {
	return !n.Op.Has(ir.Effect) && !n.Op.Has(ir.Collective) && n.Attrs.Body() == nil
}

// outsideLayers reports whether n depends on nothing that a layer computes.
func outsideLayers(n *ir.Node) bool {
	return !slices.ContainsFunc(n.Args, func(a *ir.Node) bool { return a.Layer >= 0 })
}

// keyOf prints what decides the value of n. The order of the operands of add
// and mul does not.
func keyOf(n *ir.Node) string {
	args := make([]int64, len(n.Args))
	for i, a := range n.Args {
		args[i] = a.ID()
	}
	if n.Op.Name == "add" || n.Op.Name == "mul" {
		slices.Sort(args)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %d %d %v", n.Op.Name, n.Type, n.Device, n.Group, args)
	for _, at := range n.Attrs {
		fmt.Fprintf(&b, " %s=%v", at.Name, at.Value)
	}
	return b.String()
}
