package passes

import (
	"moec/ir"
	"moec/ir/placement"
)

// Summarise says what placements need to know of a logical graph.
func Summarise(g *ir.Graph) placement.Summary { return summary(g, FindRegions(g)) }

func summary(g *ir.Graph, regions []*Region) placement.Summary {
	s := placement.Summary{Segments: max(g.Numerics.Segments, 1), Layers: make([]placement.LayerSummary, g.Layers)}
	for _, r := range regions {
		switch r.Kind {
		case Embedding:
			narrow(&s.Embed, r.Leaves())
		case Head:
			narrow(&s.Head, r.Leaves())
		case Attention:
			narrow(&s.Layers[r.Layer].Attention, r.Leaves())
		case Dense:
			narrow(&s.Layers[r.Layer].Dense, r.Leaves())
		case Experts:
			l := &s.Layers[r.Layer]
			l.Experts = max(l.Experts, r.Total)
			narrow(&l.Inner, r.Leaves())
		}
	}
	return s
}

// narrow lowers the number of leaves of a part to those of one more region. A
// region that cannot be divided does not count beside one that can: every
// device has it whole.
func narrow(leaves *int, more int) {
	switch {
	case *leaves <= 1:
		*leaves = max(*leaves, more)
	case more > 1:
		*leaves = min(*leaves, more)
	}
}
