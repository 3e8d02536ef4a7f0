package passes

import (
	"moec/ir"
)

// segment gives every contraction that a placement may divide its segments:
// each is summed on its own and the sums are added along a fixed tree, so that
// the bits do not depend on who holds which segment.
//
//	before:  y = matmul(h, down)
//	after:   y = matmul(h, down){bounds=[0,1792,3584,...,14336]}
//
// Which contractions those are is decided by the graph alone (see FindRegions),
// never by a placement: a model that runs on one device gets the same segments.
// It runs last before place, on the graph that place will see. In mode fast it
// does nothing; place then divides sums as it likes.
func segment(_ *Context, g *ir.Graph) error {
	for _, n := range g.Nodes {
		if contraction(n) {
			n.Attrs = n.Attrs.Without("bounds")
		}
	}
	if g.Numerics.Mode == ir.Fast {
		return nil
	}
	for _, r := range FindRegions(g) {
		if r.Leaves() < 2 {
			continue
		}
		for _, n := range r.Close {
			n.Attrs = n.Attrs.With("bounds", r.BoundsOf(r.Members[n].Args[0]))
		}
	}
	return nil
}

// BoundsOf returns the entries at which the region's segments start along the
// axis of a cut whose Share is 1, and the extent.
func (r *Region) BoundsOf(c Cut) []int {
	bounds := make([]int, len(r.Bounds))
	for i, b := range r.Bounds {
		bounds[i], _ = c.Range(b, b)
	}
	return bounds
}
