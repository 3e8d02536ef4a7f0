package passes

import (
	"slices"

	"moec/ir"
)

// fuseResidual fuses elementwise ops around an add.
//
//	before:  y = round(s)             after:  z = fused{kind=residual}(x, s)
//	         z = round(add(x, y))
//
// It runs after "fuse gate" and finds what did not follow a contraction: sums
// over devices and over experts, added to the residual stream.
func fuseResidual(_ *Context, g *ir.Graph) error {
	f := newFuser(g)
	for _, n := range slices.Backward(g.Nodes) {
		if !n.Op.Has(ir.Elementwise) || !f.free(n) {
			continue
		}
		nodes := f.above(n, func(a *ir.Node) bool { return a.Op.Has(ir.Elementwise) && a.Type.Shape.Equal(n.Type.Shape) })
		if len(nodes) > 1 && slices.ContainsFunc(nodes, func(m *ir.Node) bool { return m.Op.Name == "add" }) {
			f.plan("residual", nodes)
		}
	}
	return f.run()
}
