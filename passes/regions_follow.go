package passes

import "moec/ir"

// follow carries a cut from one contraction upwards.
type follow struct {
	*finder
	root    *ir.Node // the contraction that closes, or the output
	units   int
	members map[*ir.Node]Member
	again   map[*ir.Node]bool // norms over all units, whose results are cut again
}

// visit makes n a member with that cut if it can be one, and goes on to its
// operands. If it cannot, n stays whole and its reader takes a part.
func (t *follow) visit(n *ir.Node, c Cut) {
	if c.IsWhole() || !t.inScope(n) || !c.fits(n.Type.Shape, t.units) {
		return
	}
	if m, ok := t.members[n]; ok {
		if m.Result != c {
			t.blocked[n] = true
		}
		return
	}
	args, ok := operandCuts(n, c)
	if !ok || !t.fit(n, args) {
		t.passNorm(n, c)
		return
	}
	t.members[n] = Member{Result: c, Args: args}
	for i, a := range n.Args {
		t.visit(a, args[i])
	}
}

// fit reports whether every operand of n has the runs that its cut speaks of.
func (t *follow) fit(n *ir.Node, cuts []Cut) bool {
	for i, c := range cuts {
		if !c.IsWhole() && !c.fits(n.Args[i].Type.Shape, t.units) {
			return false
		}
	}
	return true
}

// passNorm follows the cut past a norm over all heads. The norm itself stays
// whole; what it reads may still be computed in parts and gathered.
func (t *follow) passNorm(n *ir.Node, c Cut) {
	norm := n.Op.Name == "rms_norm" || n.Op.Name == "layer_norm"
	if !norm || c.Share != 1 || t.headsBefore(t.root) == 0 {
		return
	}
	t.again[n] = true
	t.visit(n.Args[0], c)
}

// inScope reports whether n may belong to the region at all.
func (t *follow) inScope(n *ir.Node) bool {
	if n.Op.Has(ir.Nullary) || n.Layer != t.root.Layer || t.blocked[n] || t.slots[n] != t.slots[t.root] {
		return false
	}
	r := t.owner[n]
	return r == nil || !r.Members[n].Result.IsWhole() // not the end of a region
}

// prune drops members that no cut contraction leads to: computing them in
// parts would save nothing, and their other readers want them whole.
func (t *follow) prune() {
	kept := map[*ir.Node]bool{}
	var keep func(*ir.Node) bool
	keep = func(n *ir.Node) bool {
		m, ok := t.members[n]
		if !ok {
			return t.again[n] && keep(n.Args[0])
		}
		if k, ok := kept[n]; ok {
			return k
		}
		k := opener(n, m) || n.Op.Name == "expert_rows"
		for i, a := range n.Args {
			if !m.Args[i].IsWhole() && keep(a) {
				k = true
			}
		}
		kept[n] = k
		return k
	}
	for n := range t.members {
		keep(n)
	}
	for n := range kept {
		if !kept[n] {
			delete(t.members, n)
		}
	}
}

// opens reports whether some contraction opens the region.
func (t *follow) opens() bool {
	for n, m := range t.members {
		if opener(n, m) {
			return true
		}
	}
	return false
}
