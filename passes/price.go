package passes

import (
	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/placement"
)

// PriceWhole places a copy of a logical graph, as one piece, and prices kinds
// of steps with slots spread evenly over experts. It also returns what each
// device keeps, with KV entries for a number of positions.
func PriceWhole(g *ir.Graph, m *machine.Machine, p *placement.Placement, loads []cost.Load, positions int) ([]cost.Cost, []cost.Memory, error) {
	placed := g.Clone()
	if err := place(&Context{Placement: p}, placed); err != nil {
		return nil, nil, err
	}
	list := make([]cost.Cost, len(loads))
	for i, l := range loads {
		list[i] = cost.Step(placed, m, l)
	}
	return list, cost.Resident(placed, positions), nil
}

// savingLoad is the step that Saving counts bytes of: a decode step of 8
// sequences with 1,024 positions each.
var savingLoad = cost.Load{Sequences: 8, Tokens: 8, Rows: 8, Context: 1024}

// Saving returns the bytes between devices for each token of a decode step of
// 8 sequences, under invariant numerics and under fast ones.
func Saving(g *ir.Graph, p *placement.Placement) (invariant, fast int64, err error) {
	sum := func(mode ir.Mode) (int64, error) {
		c := g.Clone()
		c.Numerics.Mode = mode
		if mode == ir.Fast {
			dropBounds(c)
		}
		err := place(&Context{Placement: p}, c)
		return cost.Traffic(c, savingLoad) / int64(savingLoad.Tokens), err
	}
	if invariant, err = sum(ir.Invariant); err != nil {
		return 0, 0, err
	}
	fast, err = sum(ir.Fast)
	return invariant, fast, err
}

// dropBounds undoes "segment", as fast numerics have it.
func dropBounds(g *ir.Graph) {
	for _, n := range g.Nodes {
		if n.Attrs.Has("bounds") {
			n.Attrs = n.Attrs.Without("bounds")
		}
	}
}
