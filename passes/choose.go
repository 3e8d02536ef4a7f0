package passes

import (
	"fmt"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/placement"
)

// Candidate is a placement that was priced, or why it could not be.
type Candidate struct {
	Strategy string      `json:"strategy"`
	Steps    []cost.Cost `json:"steps,omitempty"`    // of each of Loads
	Total    int64       `json:"total_ps,omitempty"` // of the workload
	Memory   int64       `json:"memory,omitempty"`   // bytes kept by the fullest device
	Possible bool        `json:"possible"`           // it works for the model and fits the machine
	Reason   string      `json:"reason,omitempty"`   // why it is not chosen

	placement *placement.Placement
}

// PricedLoad is a kind of step, and how many of them the default workload has.
type PricedLoad struct {
	cost.Load
	Steps int64
}

// Loads are what the default choice is priced for: a prompt of 2,048 tokens
// and, for each such prompt, 64 decode steps of 1, of 8 and of 64 sequences
// with 1,024 positions each.
var Loads = []PricedLoad{
	{cost.Load{Sequences: 1, Tokens: 1, Rows: 1, Context: 1024}, 64},
	{cost.Load{Sequences: 8, Tokens: 8, Rows: 8, Context: 1024}, 64},
	{cost.Load{Sequences: 64, Tokens: 64, Rows: 64, Context: 1024}, 64},
	{cost.Load{Sequences: 1, Tokens: 2048, Rows: 1, Context: 1024}, 1},
}

// candidates lists the strategies that the default choice prices for n
// devices, in the order that breaks ties.
func candidates(n int) []string {
	list := []string{fmt.Sprintf("tp%d", n)}
	if n == 1 {
		return list
	}
	list = append(list, fmt.Sprintf("ep%d", n))
	for d := 2; d < n; d++ {
		if n%d == 0 {
			list = append(list, fmt.Sprintf("tp%dep%d", n/d, d))
		}
	}
	list = append(list, fmt.Sprintf("adp%d", n), fmt.Sprintf("dp%d", n), fmt.Sprintf("pp%d", n))
	for d := 2; d < n; d *= 2 {
		if n%d == 0 {
			list = append(list, fmt.Sprintf("adp%dtp%d", d, n/d), fmt.Sprintf("dp%dtp%d", d, n/d), fmt.Sprintf("pp%dtp%d", d, n/d))
		}
	}
	return list
}

// Choose prices the named strategies for a logical graph on a machine, with
// KV entries for a number of positions, and returns the cheapest that fits
// and the whole table. It is a first choice, not a search. Of equal ones the
// first in the table wins.
func Choose(g *ir.Graph, m *machine.Machine, positions int) (*placement.Placement, []Candidate, error) {
	var table []Candidate
	best := -1
	for _, name := range candidates(m.Devices) {
		c := price(g, m, name, positions)
		if c.Possible && (best < 0 || c.Total < table[best].Total) {
			best = len(table)
		}
		table = append(table, c)
	}
	if best < 0 {
		return nil, table, tooLarge(m, table)
	}
	for i := range table {
		if i != best && table[i].Possible {
			table[i].Reason = whyLost(table[i], table[best])
		}
	}
	return table[best].placement, table, nil
}

// whyLost says where a candidate loses most against the chosen one, and to
// what.
func whyLost(c, best Candidate) string {
	if c.Total == best.Total {
		return "costs the same, listed later"
	}
	worst, most := 0, int64(-1<<62)
	for i, part := range Loads {
		if lost := part.Steps * (c.Steps[i].Total() - best.Steps[i].Total()); lost > most {
			worst, most = i, lost
		}
	}
	a, b := c.Steps[worst], best.Steps[worst]
	term, extra := "", int64(-1<<62)
	for _, t := range []struct {
		name string
		diff int64
	}{{"memory", a.Memory - b.Memory}, {"arithmetic", a.Compute - b.Compute}, {"links", a.Link - b.Link}, {"launches", a.Launch - b.Launch}} {
		if t.diff > extra {
			term, extra = t.name, t.diff
		}
	}
	return fmt.Sprintf("%s as long, mostly %s of steps of %d tokens", times(c.Total, best.Total), term, Loads[worst].Tokens)
}

// times prints a ratio.
func times(a, b int64) string {
	if b < 1 {
		return "many times"
	}
	hundredths := (a*100 + b/2) / b
	return fmt.Sprintf("%d.%02d times", hundredths/100, hundredths%100)
}

// tooLarge reports the candidate that comes closest to fitting.
func tooLarge(m *machine.Machine, table []Candidate) error {
	least := table[0]
	for _, c := range table[1:] {
		if c.Memory > 0 && (least.Memory == 0 || c.Memory < least.Memory) {
			least = c
		}
	}
	if least.Memory == 0 {
		return &PlacementError{Strategy: "default", What: "finds no strategy that works: " + least.Reason, Remedy: "use another number of devices"}
	}
	return &PlacementError{Strategy: "default", What: "finds none that fits a device of " + m.Name + " (" + least.Strategy + " comes closest)",
		Need: fmt.Sprintf("%.1f GB", gigabytes(least.Memory)), Have: fmt.Sprintf("%.1f", gigabytes(m.Device.Memory.Value-m.Device.Reserve.Value)), Remedy: "use more devices, fewer --sequences or a shorter --context"}
}

// gigabytes converts bytes to the unit that memories are sold in.
func gigabytes(bytes int64) float64 { return float64(bytes) / 1e9 }

// price places a graph and prices the steps.
func price(g *ir.Graph, m *machine.Machine, name string, positions int) Candidate {
	c := Candidate{Strategy: name}
	p, err := Named(g, name, m.Devices)
	if err != nil {
		c.Reason = err.Error()
		return c
	}
	placed := g.Clone()
	if err := place(&Context{Placement: p}, placed); err != nil {
		c.Reason = err.Error()
		return c
	}
	c.placement = p
	for _, r := range cost.Resident(placed, positions) {
		c.Memory = max(c.Memory, r.Weights+r.Caches)
	}
	for _, part := range Loads {
		s := cost.Step(placed, m, part.Load)
		c.Steps = append(c.Steps, s)
		c.Total += part.Steps * s.Total()
	}
	have := m.Device.Memory.Value - m.Device.Reserve.Value
	if c.Possible = c.Memory <= have; !c.Possible {
		c.Reason = fmt.Sprintf("does not fit: a device would keep %.1f GB, has %.1f", gigabytes(c.Memory), gigabytes(have))
	}
	return c
}

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
		return cost.Traffic(c, Loads[1].Load) / int64(Loads[1].Tokens), err
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
