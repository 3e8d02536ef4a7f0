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
			p := randomly(rng, m)
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

// randomly returns a placement on 1 to 4 devices.
func randomly(r *rand.Rand, m placement.Summary) *placement.Placement {
	p := &placement.Placement{Devices: 1 + r.IntN(4), Strategy: "random", Segments: m.Segments}
	split := func(devices []int) placement.Split {
		devices = append([]int(nil), devices...)
		r.Shuffle(len(devices), func(i, j int) { devices[i], devices[j] = devices[j], devices[i] })
		devices = devices[:1+r.IntN(len(devices))]
		var s placement.Split
		if r.IntN(3) == 0 {
			for _, d := range devices {
				s = append(s, placement.Share{Device: d, Lo: 0, Hi: m.Segments})
			}
			return s
		}
		lo := 0
		for i, d := range devices {
			hi := m.Segments
			if i < len(devices)-1 {
				hi = lo + 1 + r.IntN(m.Segments-lo-(len(devices)-1-i))
			}
			s = append(s, placement.Share{Device: d, Lo: lo, Hi: hi})
			lo = hi
		}
		return s
	}
	n := 1 + r.IntN(p.Devices)
	groups := func() [][]int {
		perm := r.Perm(p.Devices)
		perm = perm[:n+r.IntN(len(perm)-n+1)]
		list := make([][]int, n)
		for i, d := range perm {
			at := i
			if i >= n {
				at = r.IntN(n)
			}
			list[at] = append(list[at], d)
		}
		return list
	}
	g := groups()
	each := func() (list []placement.Split) {
		for _, devices := range g {
			list = append(list, split(devices))
		}
		return list
	}
	for _, lm := range m.Layers {
		if r.IntN(2) == 0 {
			g = groups()
		}
		l := placement.Layer{Groups: g, Attention: each(), Dense: each()}
		for range lm.Experts {
			var e placement.Expert
			perm := r.Perm(p.Devices)
			for len(perm) > 0 && (len(e) == 0 || r.IntN(3) == 0) {
				k := 1 + r.IntN(len(perm))
				s := split(perm[:k])
				if len(s) > 1 && s.Copies(m.Segments) {
					s = s[:1]
				}
				e = append(e, s)
				perm = perm[k:]
			}
			l.Experts = append(l.Experts, e)
		}
		p.Layers = append(p.Layers, l)
	}
	first := p.Layers[0].Groups
	g = first
	p.Embed = each()
	g = p.Layers[len(p.Layers)-1].Groups
	p.Head = each()
	return p
}
