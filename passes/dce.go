package passes

import (
	"slices"

	"moec/ir"
)

// dce removes what nobody reads: nodes, and weights and caches of the tables.
//
//	before:  a = mul(x, y)     after:  b = add(x, y)
//	         b = add(x, y)             output b
//	         output b
//
// It runs after the passes that leave unread nodes behind. An op with an
// effect stays, and with it what it reads; so do all members of a collective
// of which one is read, because a device waits for every other.
func dce(_ *Context, g *ir.Graph) error {
	live := liveNodes(g)
	g.Nodes = slices.DeleteFunc(g.Nodes, func(n *ir.Node) bool { return !live[n] })
	weights, caches := map[string]bool{}, map[string]bool{}
	for _, n := range g.Nodes {
		switch n.Op.Name {
		case "weight":
			weights[n.Attrs.Text("name")] = true
		case "kv_append":
			caches[n.Attrs.Text("cache")] = true
		}
	}
	g.Weights = slices.DeleteFunc(g.Weights, func(w *ir.Weight) bool { return !weights[w.Name] })
	g.Caches = slices.DeleteFunc(g.Caches, func(c *ir.Cache) bool { return !caches[c.Name] })
	return nil
}

// liveNodes returns the nodes that an output or an effect needs.
func liveNodes(g *ir.Graph) map[*ir.Node]bool {
	members := map[int][]*ir.Node{}
	for _, n := range g.Nodes {
		if n.Op.Has(ir.Collective) {
			channel := n.Attrs.Int("channel", 0)
			members[channel] = append(members[channel], n)
		}
	}
	live := make(map[*ir.Node]bool, len(g.Nodes))
	var mark func(*ir.Node)
	mark = func(n *ir.Node) {
		if live[n] {
			return
		}
		live[n] = true
		for _, a := range n.Args {
			mark(a)
		}
		if n.Op.Has(ir.Collective) {
			for _, m := range members[n.Attrs.Int("channel", 0)] {
				mark(m)
			}
		}
	}
	for _, o := range g.Outputs {
		mark(o.Value)
	}
	for _, n := range g.Nodes {
		if n.Op.Has(ir.Effect) {
			mark(n)
		}
	}
	return live
}
