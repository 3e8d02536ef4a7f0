package eval

import (
	"moec/ir"
	"moec/ir/arith"
)

// contraction returns the sum that the attributes describe: the whole of k
// features, or the part over local segments.
func contraction(attrs ir.Attrs, k int) *arith.Contraction {
	bounds := attrs.Ints("bounds")
	if !attrs.Has("leaf") {
		return arith.Whole(k, bounds)
	}
	spans := (&ir.Node{Attrs: attrs}).LocalSpans()
	return arith.Part(bounds, attrs.Int("leaf", 0), spans)
}

// matmul is the dot product of each row of x with each row of w; as
// matmul_nodes, one for each node of the sum's tree, nodes outermost.
func matmul(c *Call) error {
	x, w := c.Args[0], c.Args[1]
	sums := contraction(c.Attrs, x.last())
	nodes := make([]float32, sums.Nodes())
	rows, features := x.rows(), w.extent(0)
	for n := range features {
		for r := range rows {
			sums.Dot(nodes, x.row(r), w.row(n))
			for i, v := range nodes {
				c.Out.F[(i*rows+r)*features+n] = v
			}
		}
	}
	return nil
}
