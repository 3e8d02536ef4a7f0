package passes

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/placement"
	"moec/ir/tensor"
)

// TestOutlineIsThePlacedGraph places part by part what the pipeline places at
// once, and compares the price of every part.
func TestOutlineIsThePlacedGraph(t *testing.T) {
	for _, act := range []tensor.DType{tensor.F32, tensor.BF16} {
		g := segmented(t, mixtral(t, act, small))
		o, err := NewOutline(g)
		if err != nil {
			t.Fatal(err)
		}
		m := summary(g, FindRegions(g))
		for seed := range uint64(60) {
			rng := rand.New(rand.NewPCG(seed, 7))
			p := placement.Random(rng, m, 1+rng.IntN(4))
			if err := p.Check(m); err != nil {
				t.Fatal(err)
			}
			compareParts(t, fmt.Sprintf("%v seed %d", act, seed), g, o, p)
		}
		for name, devices := range map[string]int{"tp4": 4, "ep4": 4, "pp2tp2": 4, "adp2tp2": 4, "dp2": 2, "tp2ep2": 4} {
			p, err := NamedFor(m, name, devices)
			if err != nil {
				t.Fatal(err)
			}
			compareParts(t, name, g, o, p)
		}
	}
}

func compareParts(t *testing.T, name string, g *ir.Graph, o *Outline, p *placement.Placement) {
	t.Helper()
	whole := g.Clone()
	ctx := &Context{Placement: p}
	for _, pass := range Pipeline {
		if pass.Level == ir.Placed {
			if err := pass.Run(ctx, whole); err != nil {
				t.Fatalf("%s: %s: %v", name, pass.Name, err)
			}
		}
	}
	mach := machineOf(t, "h200x8")
	pr := cost.NewPricer(mach, cost.Load{Sequences: 3, Tokens: 6, Rows: 3, Context: 50}, whole.Groups)
	parts := make([][]*ir.Node, g.Layers+2)
	after := map[*ir.Node]bool{}
	for _, n := range whole.Nodes {
		at := n.Layer + 1
		for _, a := range n.Args {
			if n.Layer < 0 && (a.Layer >= 0 || after[a]) {
				after[n], at = true, g.Layers+1
			}
		}
		parts[at] = append(parts[at], n)
	}
	var needs []Need
	for i := len(parts) - 1; i >= 0; i-- {
		pp, err := o.Place(i, p, needs)
		if err != nil {
			t.Fatalf("%s: part %d: %v", name, i, err)
		}
		needs = pp.Needs
		if needs == nil {
			needs = []Need{}
		}
		var nodes []*ir.Node
		for _, n := range pp.Nodes {
			nodes = append(nodes, n.Node)
		}
		if got, want := pr.Turn(nodes, nil), pr.Turn(parts[i], nil); got != want {
			t.Errorf("%s: part %d costs %+v, in the graph %+v", name, i, got, want)
		}
	}
}
