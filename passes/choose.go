package passes

import (
	"fmt"

	"moec/ir"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/passes/cost"
)

// Candidate is a placement that was priced, or why it could not be.
type Candidate struct {
	Strategy string      `json:"strategy"`
	Steps    []cost.Cost `json:"steps,omitempty"` // of each load
	Total    int64       `json:"total_ps,omitempty"`
	Memory   int64       `json:"memory,omitempty"` // bytes kept by the fullest device
	Reason   string      `json:"reason,omitempty"` // why it cannot be

	placement *placement.Placement
}

// Loads are what the default choice is priced for: a decode step of 1, 8 and
// 64 sequences with 1,024 positions each, and a prompt of 2,048 tokens. One
// of each is the workload: the prompt weighs most, as it does in chats with
// answers of some dozen tokens.
var Loads = []cost.Load{
	{Sequences: 1, Tokens: 1, Rows: 1, Context: 1024},
	{Sequences: 8, Tokens: 8, Rows: 8, Context: 1024},
	{Sequences: 64, Tokens: 64, Rows: 64, Context: 1024},
	{Sequences: 1, Tokens: 2048, Rows: 1, Context: 1024},
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
	return append(list, fmt.Sprintf("adp%d", n), fmt.Sprintf("dp%d", n), fmt.Sprintf("pp%d", n))
}

// Choose prices the named strategies for a logical graph on a machine, with
// KV entries for a number of positions, and returns the cheapest that fits
// and the whole table. It is a first choice, not a search.
func Choose(g *ir.Graph, m *machine.Machine, positions int) (*placement.Placement, []Candidate, error) {
	var table []Candidate
	best := -1
	for _, name := range candidates(m.Devices) {
		c := price(g, m, name, positions)
		if c.Reason == "" && (best < 0 || c.Total < table[best].Total) {
			best = len(table)
		}
		table = append(table, c)
	}
	if best < 0 {
		return nil, table, tooLarge(m, table)
	}
	return table[best].placement, table, nil
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
		Need: fmt.Sprintf("%d bytes", least.Memory), Have: fmt.Sprint(m.Device.Memory.Value - m.Device.Reserve.Value), Remedy: "use more devices, fewer --sequences or a shorter --context"}
}

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
	for _, l := range Loads {
		s := cost.Step(placed, m, l)
		c.Steps = append(c.Steps, s)
		c.Total += s.Total()
	}
	if have := m.Device.Memory.Value - m.Device.Reserve.Value; c.Memory > have {
		c.Reason = fmt.Sprintf("does not fit: a device would keep %d bytes, has %d", c.Memory, have)
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
		return cost.Traffic(c, Loads[1]) / int64(Loads[1].Tokens), err
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
