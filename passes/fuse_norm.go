package passes

import (
	"moec/ir"
)

// fuseNorm fuses a norm with the one contraction that reads it.
//
//	before:  n = round(rms_norm(x, g))     after:  y = fused{kind=norm matmul}(x, g, w)
//	         y = matmul(n, w)
//
// A norm with several readers stays: it would be computed again for each. It
// runs after "pack projections" and "fuse gate", which leave one reader where
// there were two or three.
func fuseNorm(_ *Context, g *ir.Graph) error {
	f := newFuser(g)
	for _, n := range g.Nodes {
		kind := readerKind(n)
		if kind == "" || !f.free(n) {
			continue
		}
		if nodes := f.above(n, normal); isNorm(nodes[0]) {
			f.plan("norm "+kind, nodes)
		}
	}
	return f.run()
}

func isNorm(n *ir.Node) bool { return n.Op.Name == "rms_norm" || n.Op.Name == "layer_norm" }

// normal reports whether n is a norm or its rounding.
func normal(n *ir.Node) bool {
	return isNorm(n) || n.Op.Name == "round" && isNorm(n.Args[0])
}

// readerKind names what follows the norm in the fused op, or is empty.
func readerKind(n *ir.Node) string {
	switch kind := n.Attrs.Text("kind"); {
	case n.Op.Name == "matmul":
		return "matmul"
	case n.Op.Name == "fused" && (kind == "gate" || kind == "epilogue"):
		return kind
	}
	return ""
}
