package passes

import (
	"moec/ir"
)

// fuseGate fuses a contraction with the elementwise ops that follow it.
//
//	before:  y = round(matmul(x, pack(wg, wu)))   after:  h = fused{kind=gate}(x, pack(wg, wu))
//	         g = slice(y)  u = slice(y)
//	         h = round(mul(round(silu(g)), u))
//
//	before:  y = round(matmul(x, w))              after:  r = fused{kind=epilogue}(x, w, s)
//	         r = round(add(s, y))
//
// It goes as far down as it can while only one value leaves the fused op. It
// runs after "pack projections", which makes one contraction of gate and up,
// and before the other fusions, which then find fewer pieces.
func fuseGate(_ *Context, g *ir.Graph) error {
	f := newFuser(g)
	for _, n := range g.Nodes {
		if !contraction(n) || !f.free(n) {
			continue
		}
		if nodes := f.below(n); len(nodes) > 1 {
			f.plan(epilogueKind(nodes), nodes)
		}
	}
	return f.run()
}

// epilogueKind tells a gate, which computes on two slices, from the rest.
func epilogueKind(nodes []*ir.Node) string {
	count := 0
	for _, n := range nodes {
		if n.Op.Name == "slice" {
			count++
		}
	}
	if count > 1 {
		return "gate"
	}
	return "epilogue"
}

// below returns c and the elementwise ops and slices after it, up to the last
// one through which all its results pass, in graph order.
func (f *fuser) below(c *ir.Node) []*ir.Node {
	set := map[*ir.Node]bool{c: true}
	list := []*ir.Node{c}
	best := 1
	for {
		next := f.nextReader(list, set)
		if next == nil {
			break
		}
		set[next] = true
		list = append(list, next)
		if f.oneExit(list, set) && next.Op.Name != "slice" {
			best = len(list)
		}
	}
	return list[:best]
}

// nextReader returns the first reader in graph order of the listed nodes that
// may join them.
func (f *fuser) nextReader(list []*ir.Node, set map[*ir.Node]bool) *ir.Node {
	var next *ir.Node
	for _, n := range list {
		for _, u := range f.uses[n] {
			joins := u.Op.Has(ir.Elementwise) || u.Op.Name == "slice" && u.Attrs.Int("axis", 0) == lastAxis(u)
			if joins && !set[u] && f.free(u) && together(u, n) && !f.delays(list[0], u) && (next == nil || f.at[u] < f.at[next]) {
				next = u
			}
		}
	}
	return next
}

// oneExit reports whether the last node is the only one with other readers.
func (f *fuser) oneExit(list []*ir.Node, set map[*ir.Node]bool) bool {
	for _, n := range list[:len(list)-1] {
		if !f.readOnlyBy(n, set) {
			return false
		}
	}
	return true
}
