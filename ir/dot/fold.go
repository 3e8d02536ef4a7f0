package dot

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
)

// layers says which layer is drawn for which others.
type layers struct {
	first []int                 // of each layer: the one that stands for it
	drawn map[*ir.Node]*ir.Node // nodes of layers that are not drawn, to their like
	after map[*ir.Node]bool     // nodes outside the layers that come after one
}

// of returns the layer that stands for l.
func (s layers) of(l int) int {
	if l < 0 {
		return l
	}
	return s.first[l]
}

// node returns the node that is drawn for n.
func (s layers) node(n *ir.Node) *ir.Node {
	if m, ok := s.drawn[n]; ok {
		return m
	}
	return n
}

// label says which layers a drawn one stands for.
func (s layers) label(l int) string {
	last := l
	for last+1 < len(s.first) && s.of(last+1) == l {
		last++
	}
	if last <= l {
		return fmt.Sprintf("layer %d", l)
	}
	return fmt.Sprintf("layers %d-%d: %d that are the same, drawn once", l, last, last-l+1)
}

// standsFor folds runs of layers that have the same nodes in the same order.
func standsFor(g *ir.Graph, fold bool) layers {
	s := layers{first: make([]int, g.Layers), drawn: make(map[*ir.Node]*ir.Node), after: make(map[*ir.Node]bool)}
	nodes := make([][]*ir.Node, g.Layers)
	for _, n := range g.Nodes {
		s.after[n] = slices.ContainsFunc(n.Args, func(a *ir.Node) bool { return a.Layer >= 0 || s.after[a] })
		if n.Layer >= 0 && !n.Op.Has(ir.Nullary) && !n.Op.Has(ir.Resident) {
			nodes[n.Layer] = append(nodes[n.Layer], n)
		}
	}
	before := ""
	for l := range s.first {
		s.first[l] = l
		now := shape(nodes[l])
		if fold && l > 0 && now == before {
			s.first[l] = s.first[l-1]
			for i, n := range nodes[l] {
				s.drawn[n] = nodes[s.first[l]][i]
			}
		}
		before = now
	}
	return s
}

// shape prints what nodes do, without names and numbers of their own.
func shape(list []*ir.Node) string {
	var text strings.Builder
	local := make(map[*ir.Node]int)
	for i, n := range list {
		local[n] = i
		fmt.Fprint(&text, n.Op.Name, n.Type, n.Device)
		for _, a := range n.Args {
			switch k, ok := local[a]; {
			case ok:
				fmt.Fprint(&text, " ", k)
			case a.Op.Has(ir.Nullary) || a.Op.Has(ir.Resident):
				fmt.Fprint(&text, " ", a.Op.Name, a.Type, a.Attrs.Sets("slice"), a.Attrs.Ints("experts"))
			default:
				fmt.Fprint(&text, " before ", a.Type, a.Device)
			}
		}
		text.WriteString(said(n.Attrs))
		text.WriteByte('\n')
	}
	return text.String()
}

// said prints attributes but those that number a collective or name a cache,
// which differ from layer to layer.
func said(list ir.Attrs) string {
	var text strings.Builder
	for _, at := range list {
		switch v := at.Value.(type) {
		case *ir.Graph:
			text.WriteString(" {" + shape(v.Nodes) + "}")
		default:
			if at.Name != "channel" && at.Name != "cache" {
				fmt.Fprint(&text, " ", at.Name, "=", v)
			}
		}
	}
	return text.String()
}
