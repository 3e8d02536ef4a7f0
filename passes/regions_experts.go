package passes

import (
	"moec/ir"
	"moec/ir/tensor"
)

// findSlots maps each node that computes rows of slots to the combine op that
// adds them up. Only rows that stay within one combine count: rows of experts
// held elsewhere are undefined, so nothing else may read them.
func findSlots(g *ir.Graph, uses map[*ir.Node][]*ir.Node) map[*ir.Node]*ir.Node {
	slot := map[*ir.Node]bool{}
	for _, n := range g.Nodes {
		slot[n] = slotSource(n)
		for _, a := range n.Args {
			slot[n] = slot[n] || slot[a] && n.Op.Name != "combine"
		}
	}
	owner := map[*ir.Node]*ir.Node{}
	for _, c := range g.Nodes {
		if c.Op.Name != "combine" || c.Layer < 0 {
			continue
		}
		for n := range slotsOf(g, c, slot, uses) {
			owner[n] = c
		}
	}
	return owner
}

func slotSource(n *ir.Node) bool {
	return n.Op.Name == "dispatch" || n.Op.Name == "expert_matmul" || n.Op.Name == "expert_rows"
}

// slotsOf returns the nodes that compute the slots of c, or none if they
// cannot be divided by expert.
func slotsOf(g *ir.Graph, c *ir.Node, slot map[*ir.Node]bool, uses map[*ir.Node][]*ir.Node) map[*ir.Node]bool {
	found := map[*ir.Node]bool{}
	var walk func(*ir.Node)
	walk = func(n *ir.Node) {
		if slot[n] && !found[n] {
			found[n] = true
			for _, a := range n.Args {
				walk(a)
			}
		}
	}
	walk(c.Args[0])
	if slot[c.Args[1]] || slot[c.Args[2]] {
		return nil
	}
	for n := range found {
		if !slotSafe(n, c) {
			return nil
		}
		for _, u := range uses[n] {
			if u != c && !found[u] {
				return nil
			}
		}
	}
	for _, o := range g.Outputs {
		if found[o.Value] {
			return nil
		}
	}
	return found
}

// slotSafe reports whether a slot's row of n depends on the same slot's rows
// of its operands alone, for the same choice of experts as c.
func slotSafe(n, c *ir.Node) bool {
	s := n.Type.Shape
	if n.Layer != c.Layer || len(s) < 3 || s[1] != c.Args[1].Type.Shape[1] {
		return false
	}
	switch n.Op.Name {
	case "dispatch":
		return n.Args[1] == c.Args[1]
	case "expert_rows":
		return n.Args[1] == c.Args[1]
	case "expert_matmul":
		return n.Args[2] == c.Args[1]
	case "matmul", "softmax", "sum", "rms_norm", "layer_norm":
		return true
	case "slice", "concat", "broadcast":
		return n.Attrs.Int("axis", 0) >= 2
	case "reshape":
		return sameSlots(n.Args[0].Type.Shape, s)
	}
	return n.Op.Has(ir.Elementwise)
}

// sameSlots reports whether both shapes have the same tokens and slots.
func sameSlots(a, b tensor.Shape) bool {
	return len(a) > 2 && len(b) > 2 && a[0] == b[0] && a[1] == b[1]
}

// expertRegions returns a region for each combine op whose slots can be
// divided by expert. Whether they can also be divided along features shows
// when a contraction among them closes.
func (f *finder) expertRegions() []*Region {
	var regions []*Region
	for _, c := range f.g.Nodes {
		if c.Op.Name != "combine" || f.slots[c.Args[0]] != c {
			continue
		}
		r := &Region{Kind: Experts, Layer: c.Layer, Units: 1, Combine: c, Total: c.Attrs.Int("total", 0), Members: map[*ir.Node]Member{}}
		f.parts[c] = r
		regions = append(regions, r)
	}
	return regions
}

// finishExperts lists the nodes of the slots that are not cut. If a cut value
// would have to be gathered, or one sum over the features follows another,
// the features are not divided at all: rows of slots are large, and experts
// can still be placed one by one.
func (f *finder) finishExperts(r *Region) {
	after := f.afterClose(r)
	for n, m := range r.Members {
		if f.gathered(r, n) || after[n] && opener(n, m) {
			r.Units, r.Close, r.Members = 1, nil, map[*ir.Node]Member{}
			after = nil
			break
		}
	}
	for _, n := range f.g.Nodes {
		if _, ok := r.Members[n]; ok || f.slots[n] != r.Combine {
			continue
		}
		if after[n] {
			r.After = append(r.After, n)
		} else {
			r.Before = append(r.Before, n)
		}
	}
}

// afterClose returns the slots that follow a sum over features.
func (f *finder) afterClose(r *Region) map[*ir.Node]bool {
	after := map[*ir.Node]bool{}
	for _, n := range f.g.Nodes {
		if f.slots[n] != r.Combine {
			continue
		}
		for _, a := range n.Args {
			m, ok := r.Members[a]
			after[n] = after[n] || after[a] || ok && m.Result.IsWhole()
		}
	}
	return after
}
