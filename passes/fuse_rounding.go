package passes

import (
	"moec/ir"
)

// fuseRounding fuses an op with the rounding of its result.
//
//	before:  n = rms_norm(x, w)     after:  r = fused{kind=rounded}(x, w)
//	         r = round(n)
//
// It runs after the other fusions and finds norms with several readers, rotary
// embeddings, and whatever else they left: a backend then writes half as much.
// Attention stays, because its operand is a cache and not a value of the step.
func fuseRounding(_ *Context, g *ir.Graph) error {
	f := newFuser(g)
	for _, n := range g.Nodes {
		if n.Op.Name != "round" || !f.free(n) {
			continue
		}
		nodes := f.above(n, func(a *ir.Node) bool {
			return a == n.Args[0] && a.Op.Has(ir.RowWise) && !a.Op.Has(ir.Moves)
		})
		if len(nodes) > 1 {
			f.plan("rounded", nodes)
		}
	}
	return f.run()
}
