package passes

import (
	"slices"

	"moec/ir"
	"moec/ir/tensor"
)

// sinkRows takes the wanted rows as early as it can, so that the last norm,
// the head and what else works row by row is done for those rows only.
//
//	before:  a = add(x, y)            after:  xs = take_rows(x, rows)
//	         n = rms_norm(a, w)               ys = take_rows(y, rows)
//	         l = matmul(n, head)              a = add(xs, ys)
//	         o = take_rows(l, rows)           n = rms_norm(a, w)
//	                                          o = matmul(n, head)
//
// A node moves only if all its readers move: nothing is computed twice. It
// runs before the graph is divided, while there is one take_rows for a value,
// and before segment, which looks at what feeds a contraction.
func sinkRows(_ *Context, g *ir.Graph) error {
	for _, rows := range rowLists(g) {
		cone := sinkCone(g, rows)
		if len(cone) == 0 {
			continue
		}
		if err := sinkInto(g, cone, rows); err != nil {
			return err
		}
	}
	return nil
}

// rowLists returns the lists of rows that are taken, in graph order.
func rowLists(g *ir.Graph) []*ir.Node {
	var lists []*ir.Node
	for _, n := range g.Nodes {
		if n.Op.Name == "take_rows" && n.Args[1].Op.Name == "input" && !slices.Contains(lists, n.Args[1]) {
			lists = append(lists, n.Args[1])
		}
	}
	return lists
}

// byRow reports whether a row of n depends on the same row of its operands
// that have rows, alone. expert_rows has its rows from the list of experts.
func byRow(n *ir.Node) bool { return n.Op.Has(ir.RowWise) || n.Op.Name == "expert_rows" }

func hasRows(n *ir.Node) bool {
	s := n.Type.Shape
	return len(s) > 0 && s[0].Sym.Base() == tensor.Tokens
}

// sinkCone returns the nodes that are read, directly or not, for the listed
// rows only.
func sinkCone(g *ir.Graph, rows *ir.Node) map[*ir.Node]bool {
	uses, out, cone := g.Uses(), outputs(g), map[*ir.Node]bool{}
	for _, n := range slices.Backward(g.Nodes) {
		if out[n] || len(uses[n]) == 0 || !hasRows(n) || !byRow(n) || !slices.ContainsFunc(n.Args, hasRows) {
			continue
		}
		elsewhere := slices.ContainsFunc(uses[n], func(u *ir.Node) bool {
			return !cone[u] && (u.Op.Name != "take_rows" || u.Args[1] != rows)
		})
		if !elsewhere {
			cone[n] = true
		}
	}
	return cone
}

// sinkInto makes the nodes of the cone anew with the rows of the list.
func sinkInto(g *ir.Graph, cone map[*ir.Node]bool, rows *ir.Node) error {
	old := g.Nodes
	g.Nodes = make([]*ir.Node, 0, len(old))
	s := &sinker{g: g, rows: rows, taken: map[*ir.Node]*ir.Node{}}
	ends := map[*ir.Node]*ir.Node{} // take_rows nodes that are no longer needed
	for _, n := range old {
		for i, a := range n.Args {
			if b := ends[a]; b != nil {
				n.Args[i] = b
			}
		}
		switch {
		case n.Op.Name == "take_rows" && n.Args[1] == rows && cone[n.Args[0]]:
			ends[n] = s.taken[n.Args[0]]
		case cone[n]:
			if err := s.sink(n); err != nil {
				return err
			}
		case n != rows || !s.placed:
			g.Nodes = append(g.Nodes, n)
			s.placed = s.placed || n == rows
		}
	}
	for i, o := range g.Outputs {
		if b := ends[o.Value]; b != nil {
			g.Outputs[i].Value = b
		}
	}
	return nil
}

// sinker is the state of one sinkInto.
type sinker struct {
	g      *ir.Graph
	rows   *ir.Node
	placed bool // the list of rows is in the new node list
	// taken has, for a node of the cone, the node made anew; for another, its
	// wanted rows.
	taken map[*ir.Node]*ir.Node
}

// sink makes n anew.
func (s *sinker) sink(n *ir.Node) error {
	if !s.placed {
		s.g.Nodes, s.placed = append(s.g.Nodes, s.rows), true
	}
	args := slices.Clone(n.Args)
	for i, a := range args {
		if !hasRows(a) {
			continue
		}
		if s.taken[a] == nil {
			t, err := s.g.Add(ir.Op("take_rows"), []*ir.Node{a, s.rows}, nil, n)
			if err != nil {
				return err
			}
			s.taken[a] = t
		}
		args[i] = s.taken[a]
	}
	m, err := s.g.Add(n.Op, args, n.Attrs, n)
	if err != nil {
		return err
	}
	m.Name, s.taken[n] = n.Name, m
	return nil
}
