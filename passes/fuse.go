package passes

import (
	"slices"

	"moec/ir"
	"moec/ir/cost"
)

// Fusion is a kind of fused op: the value of its attribute "kind".
type Fusion struct {
	Kind string
	Pass string // that makes it
	Doc  string // the body, operation by operation
}

// Fusions lists every kind. A backend that knows a kind may run it at once;
// any other runs the body.
var Fusions = [...]Fusion{
	{"gate", "fuse gate", "matmul or expert_matmul on packed gate and up weights, both slices, the activation, the product, and all rounding between"},
	{"epilogue", "fuse gate", "matmul or expert_matmul, then elementwise ops on its result: rounding, bias, activation, residual add"},
	{"norm matmul", "fuse norm", "rms_norm or layer_norm, its rounding, and the one matmul that reads it"},
	{"norm gate", "fuse norm", "rms_norm or layer_norm, its rounding, and the one gate fusion that reads it"},
	{"norm epilogue", "fuse norm", "rms_norm or layer_norm, its rounding, and the one epilogue fusion that reads it"},
	{"residual", "fuse residual", "a tree of elementwise ops with an add in it"},
	{"scores", "fuse routing", "the matmul of a router, rounding, and softmax over the experts"},
	{"choice", "fuse routing", "topk and what only it reads: the selection bias, the scores"},
	{"shares", "fuse routing", "gather of the chosen scores, and the operations that make weights of them"},
	{"rounded", "fuse rounding", "an op that works row by row, and the rounding of its result"},
}

// fusable reports whether n may be part of a fused op: it works on one device
// on values of a step, and does nothing else.
func fusable(n *ir.Node) bool {
	return !n.Op.Has(ir.Nullary) && !n.Op.Has(ir.Collective) && !n.Op.Has(ir.Effect) && !n.Op.Has(ir.Resident) &&
		n.Op.Level == ir.Logical
}

// together reports whether both nodes compute for the same tokens on the same
// device, in the same layer.
func together(a, b *ir.Node) bool {
	return a.Device == b.Device && a.Group == b.Group && a.Layer == b.Layer
}

// fuser collects groups of nodes that are to become one node each.
type fuser struct {
	g      *ir.Graph
	at     map[*ir.Node]int // positions
	uses   map[*ir.Node][]*ir.Node
	out    map[*ir.Node]bool
	groups map[*ir.Node]group // by root
	in     map[*ir.Node]bool  // members of any group
	met    map[*ir.Node]int   // collectives that the device has met before
}

// group is the nodes of a fused op in graph order; the root, whose value the
// op yields, comes last.
type group struct {
	kind  string
	nodes []*ir.Node
}

func newFuser(g *ir.Graph) *fuser {
	f := &fuser{g: g, at: make(map[*ir.Node]int, len(g.Nodes)), uses: g.Uses(), out: outputs(g), groups: map[*ir.Node]group{}, in: map[*ir.Node]bool{}, met: make(map[*ir.Node]int, len(g.Nodes))}
	count := make([]int, g.Devices+1)
	for i, n := range g.Nodes {
		f.at[n] = i
		if n.Op.Has(ir.Collective) {
			count[n.Device]++
			for _, a := range n.Args {
				count[a.Device]++
			}
		}
		if n.Device >= 0 {
			f.met[n] = count[n.Device]
		}
	}
	return f
}

// delays reports whether n takes time of its own and its device meets others
// between n and root: fused with root it would do its work afterwards, and
// they would wait, or it would itself.
func (f *fuser) delays(n, root *ir.Node) bool {
	return f.met[n] != f.met[root] && works(n)
}

// works reports whether n takes time of its own.
func works(n *ir.Node) bool {
	if b := n.Attrs.Body(); b != nil {
		return slices.ContainsFunc(b.Nodes, works)
	}
	return cost.IsKernel(n.Op.Name)
}

// above returns root and, as far as allow lets it, what only root needs: the
// operands, and theirs, of which every reader is found too. The result is in
// graph order.
func (f *fuser) above(root *ir.Node, allow func(*ir.Node) bool) []*ir.Node {
	found := map[*ir.Node]bool{root: true}
	list := []*ir.Node{root}
	for grown := true; grown; {
		grown = false
		for _, n := range list {
			for _, a := range n.Args {
				if !found[a] && f.free(a) && together(a, root) && !f.delays(a, root) && allow(a) && f.readOnlyBy(a, found) {
					found[a], grown = true, true
					list = append(list, a)
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b *ir.Node) int { return f.at[a] - f.at[b] })
	return list
}

// free reports whether n may join a group.
func (f *fuser) free(n *ir.Node) bool { return fusable(n) && !f.in[n] }

// readOnlyBy reports whether all readers of n are in the set.
func (f *fuser) readOnlyBy(n *ir.Node, set map[*ir.Node]bool) bool {
	return !f.out[n] && !slices.ContainsFunc(f.uses[n], func(u *ir.Node) bool { return !set[u] })
}

// plan notes that the nodes are to be fused.
func (f *fuser) plan(kind string, nodes []*ir.Node) {
	f.groups[nodes[len(nodes)-1]] = group{kind, nodes}
	for _, n := range nodes {
		f.in[n] = true
	}
}

// run fuses all that was planned.
func (f *fuser) run() error {
	return rewrite(f.g, func(r *rewriter, n *ir.Node) *ir.Node {
		if grp, ok := f.groups[n]; ok {
			return r.fuse(grp)
		}
		if f.in[n] {
			return nil
		}
		return n
	})
}

// fuse adds the fused node of a group. Bodies of members that are fused
// already become part of the new body: bodies do not nest.
func (r *rewriter) fuse(grp group) *ir.Node {
	b := &body{r: r, g: ir.NewGraph(grp.kind), value: map[*ir.Node]*ir.Node{}}
	root := grp.nodes[len(grp.nodes)-1]
	members := map[*ir.Node]bool{}
	for _, n := range grp.nodes {
		members[n] = true
	}
	for _, n := range grp.nodes {
		for _, a := range n.Args {
			if !members[a] {
				b.param(a, root)
			}
		}
	}
	for _, n := range grp.nodes {
		b.value[n] = b.copy(n, root)
	}
	b.g.Outputs = []ir.Output{{Name: "y", Value: b.value[root]}}
	attrs := ir.MakeAttrs(ir.Attr{Name: "kind", Value: grp.kind}, ir.Attr{Name: "body", Value: b.g})
	return r.add("fused", root, attrs, b.operands...)
}

// body is the graph of a fused op in the making.
type body struct {
	r        *rewriter
	g        *ir.Graph
	operands []*ir.Node
	value    map[*ir.Node]*ir.Node // outer node to inner
}

// param makes an outer value an operand of the fused op.
func (b *body) param(a, root *ir.Node) {
	if b.value[a] == nil {
		attrs := ir.MakeAttrs(ir.Attr{Name: "index", Value: len(b.operands)}, ir.Attr{Name: "type", Value: a.Type.String()})
		b.value[a] = b.add(ir.Op("param"), nil, attrs, root)
		b.operands = append(b.operands, a)
	}
}

func (b *body) add(op *ir.OpInfo, args []*ir.Node, attrs ir.Attrs, root *ir.Node) *ir.Node {
	n, err := b.g.Add(op, args, attrs, nil)
	if err != nil {
		if b.r.err == nil {
			b.r.err = err
		}
		return root
	}
	return n
}

// copy puts n into the body.
func (b *body) copy(n, root *ir.Node) *ir.Node {
	args := make([]*ir.Node, len(n.Args))
	for i, a := range n.Args {
		args[i] = b.value[a]
	}
	inner := n.Attrs.Body()
	if inner == nil {
		return b.add(n.Op, args, n.Attrs, root)
	}
	local := map[*ir.Node]*ir.Node{}
	for _, m := range inner.Nodes {
		if m.Op.Name == "param" {
			local[m] = args[m.Attrs.Int("index", 0)]
			continue
		}
		list := make([]*ir.Node, len(m.Args))
		for i, a := range m.Args {
			list[i] = local[a]
		}
		local[m] = b.add(m.Op, list, m.Attrs, root)
	}
	return local[inner.Outputs[0].Value]
}
