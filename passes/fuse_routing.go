package passes

import (
	"slices"

	"moec/ir"
)

// fuseRouting fuses the small ops around the choice of experts.
//
//	before:  s = softmax(round(matmul(x, w)))   after:  s = fused{kind=scores}(x, w)
//	         i = topk(s)                                i = topk(s)
//	         t = gather(s, i)                           p = fused{kind=shares}(s, i)
//	         p = div(t, sum(t))
//
// The scores, the choice and the shares stay apart where each has readers of
// its own. It runs last of the fusions: the others have bigger pieces, and
// what they leave of a router is small.
func fuseRouting(_ *Context, g *ir.Graph) error {
	f := newFuser(g)
	for _, n := range g.Nodes {
		switch n.Op.Name {
		case "combine":
			f.fuseAbove("shares", n.Args[2], scoring)
		case "topk":
			if len(f.above(n, scoring)) > 1 {
				f.fuseAbove("choice", n, scoring)
			} else {
				f.fuseAbove("scores", n.Args[0], scoring)
			}
		}
	}
	return f.run()
}

// scoring reports whether n belongs to the arithmetic of a router.
func scoring(n *ir.Node) bool {
	if n.Attrs.Text("kind") == "epilogue" {
		return !slices.ContainsFunc(n.Attrs.Body().Nodes, func(m *ir.Node) bool { return m.Op.Name == "expert_matmul" })
	}
	return n.Op.Has(ir.Elementwise) || slices.Contains([]string{"matmul", "softmax", "sum", "gather", "slice", "reshape"}, n.Op.Name)
}

// fuseAbove plans to fuse root with what only it needs, if that is anything.
func (f *fuser) fuseAbove(kind string, root *ir.Node, allow func(*ir.Node) bool) {
	if !f.free(root) || !allow(root) && root.Op.Name != "topk" {
		return
	}
	if nodes := f.above(root, allow); len(nodes) > 1 {
		f.plan(kind, nodes)
	}
}
