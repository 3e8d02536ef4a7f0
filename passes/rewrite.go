package passes

import (
	"fmt"

	"moec/ir"
)

// rewriter rebuilds the node list of a graph from front to back, so that new
// nodes come where they are made and every node comes after its operands.
type rewriter struct {
	g    *ir.Graph
	now  map[*ir.Node]*ir.Node // what an old node has become
	done map[*ir.Node]bool     // old nodes that are in the new list already
	err  error
}

// rewrite calls visit for each node of g in order, with its operands already
// rewritten. visit returns what the node becomes: itself, a node that comes
// before it in the new list, a node made with add, or nil to drop it, which is
// only right when nobody reads it.
func rewrite(g *ir.Graph, visit func(*rewriter, *ir.Node) *ir.Node) error {
	old := g.Nodes
	r := &rewriter{g: g, now: make(map[*ir.Node]*ir.Node, len(old)), done: make(map[*ir.Node]bool, len(old))}
	g.Nodes = make([]*ir.Node, 0, len(old))
	for _, n := range old {
		r.resolve(n)
		m := visit(r, n)
		if r.err != nil {
			return r.err
		}
		r.now[n] = m
		if m == n && !r.done[n] {
			r.keep(n)
		}
		if m != nil && !m.Type.Equal(n.Type) {
			return fmt.Errorf("internal error: rewriting %s %s as %s %s", n.Op.Name, n.Type, m.Op.Name, m.Type)
		}
	}
	for i, o := range g.Outputs {
		g.Outputs[i].Value = r.now[o.Value]
	}
	return nil
}

// resolve makes n read what its operands have become; a dropped operand stays,
// for the sake of who drops it.
func (r *rewriter) resolve(n *ir.Node) {
	for i, a := range n.Args {
		if b := r.now[a]; b != nil {
			n.Args[i] = b
		}
	}
}

func (r *rewriter) keep(n *ir.Node) {
	r.done[n] = true
	r.g.Nodes = append(r.g.Nodes, n)
}

// hoist puts a node without operands into the new list now, ahead of its turn.
func (r *rewriter) hoist(n *ir.Node) {
	if n.Op.Has(ir.Nullary) && !r.done[n] && r.now[n] == nil {
		r.keep(n)
		r.now[n] = n
	}
}

// add makes a node that takes layer, device and name from like. It returns
// like itself after an error, which ends the rewrite.
func (r *rewriter) add(op string, like *ir.Node, attrs ir.Attrs, args ...*ir.Node) *ir.Node {
	n, err := r.g.Add(ir.Op(op), args, attrs, like)
	if err != nil {
		if r.err == nil {
			r.err = fmt.Errorf("internal error: %w", err)
		}
		return like
	}
	r.done[n] = true
	n.Name = like.Name
	return n
}

// outputs returns the set of values that g gives out.
func outputs(g *ir.Graph) map[*ir.Node]bool {
	set := make(map[*ir.Node]bool, len(g.Outputs))
	for _, o := range g.Outputs {
		set[o.Value] = true
	}
	return set
}
