// Package cost prices placed graphs on machines.
//
// Prices come from the work of each node (ir.OpInfo.Work) and the machine's
// own figures, as integers, so that the same inputs rank the same anywhere.
// They leave out how evenly tokens choose experts and how well kernels do;
// they are for ranking placements, not for promising times.
package cost

import (
	"math/bits"

	"moec/ir"
	"moec/ir/machine"
	"moec/ir/tensor"
)

// Cost is a price in picoseconds, split into what it comes from. Costs of one
// device in sequence add up.
type Cost struct {
	Compute int64 `json:"compute_ps"` // arithmetic that does not hide behind memory
	Memory  int64 `json:"memory_ps"`  // memory traffic, where it takes longer than arithmetic
	Link    int64 `json:"link_ps"`    // exchanges, and waiting for slower devices there
	Launch  int64 `json:"launch_ps"`  // from one step to the next
}

// Total returns the whole price.
func (c Cost) Total() int64 { return c.Compute + c.Memory + c.Link + c.Launch }

// Add returns the price of both in sequence.
func (c Cost) Add(d Cost) Cost {
	return Cost{c.Compute + d.Compute, c.Memory + d.Memory, c.Link + d.Link, c.Launch + d.Launch}
}

// Load is the step to price.
type Load struct {
	Sequences int `json:"sequences"`
	Tokens    int `json:"tokens"` // of all sequences
	Rows      int `json:"rows"`
	Context   int `json:"context"` // positions that each token sees
}

// Bounds gives every symbol its value; sequences are spread evenly over token
// groups, and the largest group counts.
func (l Load) Bounds(groups int) tensor.Bounds {
	share := func(n int, s tensor.Sym) int {
		if s.Group() >= 0 {
			largest := (l.Sequences + groups - 1) / groups
			return (n*largest + l.Sequences - 1) / l.Sequences
		}
		return n
	}
	return func(s tensor.Sym) int {
		switch s.Base() {
		case tensor.Cached:
			return l.Context
		case tensor.Rows:
			return share(l.Rows, s)
		}
		return share(l.Tokens, s)
	}
}

// tile is the tokens of a prompt that read keys and values together: the query
// rows of a block in the usual attention kernels (FlashAttention-2 has 64 or
// 128).
const tile = 64

// tiles is the load with the tokens of a sequence that are next to each other
// counted once for each tile.
func (l Load) tiles() Load {
	each := (l.Tokens + l.Sequences - 1) / l.Sequences
	l.Tokens = l.Sequences * ((each + tile - 1) / tile)
	return l
}

// Pricer prices nodes on a machine under a load.
type Pricer struct {
	m             *machine.Machine
	bounds, tiles tensor.Bounds
}

// NewPricer returns a pricer for graphs with that many token groups.
func NewPricer(m *machine.Machine, l Load, groups int) *Pricer {
	return &Pricer{m, l.Bounds(groups), l.tiles().Bounds(groups)}
}

// Node prices one node on its device.
func (p *Pricer) Node(n *ir.Node) Cost {
	w := n.Op.Work(n, p.bounds)
	if n.Op.Has(ir.Collective) {
		return p.exchange(n, w)
	}
	if !kernel[n.Op.Name] {
		return Cost{}
	}
	if n.Op.Name == "attention" {
		w.Read = n.Op.Work(n, p.tiles).Read
	}
	d := p.m.Device
	rate := d.F32.Value
	if half(n) {
		rate = d.Half.Value
	}
	compute, memory := ps(w.Flops, rate), ps(w.Read+w.Write, d.Bandwidth.Value)
	c := Cost{Launch: d.Launch.Value}
	if compute > memory {
		c.Compute = compute
	} else {
		c.Memory = memory
	}
	return c
}

// kernel has the ops that take time of their own. Backends do all others along
// with one of these.
var kernel = map[string]bool{
	"matmul": true, "matmul_nodes": true, "expert_matmul": true, "expert_matmul_nodes": true,
	"attention": true, "combine": true, "combine_nodes": true, "embed": true,
}

// half reports whether a node multiplies by half-precision weights, keys or
// values.
func half(n *ir.Node) bool {
	return len(n.Args) > 1 && n.Args[1].Type.DType.Bytes() == 2
}

// exchange prices a collective: latency, and the bytes that come in. A sum may
// also be done in two rounds, in which each device adds up its share of the
// rows for all and then sends that on: twice the latency, fewer bytes.
func (p *Pricer) exchange(n *ir.Node, w ir.Work) Cost {
	c := Cost{Memory: ps(w.Read+w.Write, p.m.Device.Bandwidth.Value), Launch: p.m.Device.Launch.Value}
	if w.Sent == 0 || p.m.Devices < 2 {
		return c
	}
	latency, rate := p.m.Link.Latency.Value, p.m.Link.Bandwidth.Value
	c.Link = latency + ps(w.Sent, rate)
	if senders := devices(n.Args); n.Op.Name == "all_reduce" && senders > 2 {
		c.Link = min(c.Link, 2*latency+ps((w.Sent+w.Write*(senders-1))/senders, rate))
	}
	return c
}

// devices counts the devices that have the values.
func devices(list []*ir.Node) int64 {
	seen := make(map[int]bool, len(list))
	for _, n := range list {
		seen[n.Device] = true
	}
	return int64(len(seen))
}

// ps returns how long an amount takes at a rate for each second.
func ps(amount, rate int64) int64 {
	hi, lo := bits.Mul64(uint64(amount), 1e12)
	if hi >= uint64(rate) {
		return 1 << 62
	}
	q, _ := bits.Div64(hi, lo, uint64(rate))
	return int64(q)
}

// Step prices a placed graph: each device works through its nodes, and all
// who take part in a collective leave it when the last one is done.
func Step(g *ir.Graph, m *machine.Machine, l Load) Cost {
	p := NewPricer(m, l, g.Groups)
	clock := make([]Cost, g.Devices)
	for i := 0; i < len(g.Nodes); i++ {
		n := g.Nodes[i]
		if !n.Op.Has(ir.Collective) {
			if n.Device >= 0 {
				clock[n.Device] = clock[n.Device].Add(p.Node(n))
			}
			continue
		}
		j := i + 1 // the members of a collective stand together
		for j < len(g.Nodes) && g.Nodes[j].Op.Has(ir.Collective) && g.Nodes[j].Attrs.Int("channel", -1) == n.Attrs.Int("channel", -1) {
			j++
		}
		p.meet(g.Nodes[i:j], clock)
		i = j - 1
	}
	return latest(clock)
}

// meet lets the members of a collective and those they read wait for each
// other.
func (p *Pricer) meet(members []*ir.Node, clock []Cost) {
	at := make(map[int]bool)
	for _, n := range members {
		at[n.Device] = true
		for _, a := range n.Args {
			at[a.Device] = true
		}
	}
	var last int64
	for d := range clock {
		if at[d] {
			last = max(last, clock[d].Total())
		}
	}
	for d := range clock {
		if at[d] {
			clock[d].Link += last - clock[d].Total()
		}
	}
	for _, n := range members {
		clock[n.Device] = clock[n.Device].Add(p.Node(n))
	}
}

func latest(clock []Cost) Cost {
	var c Cost
	for _, d := range clock {
		if d.Total() > c.Total() {
			c = d
		}
	}
	return c
}

// Memory is what a device keeps for ever, in bytes.
type Memory struct{ Weights, Caches int64 }

// Resident returns what each device keeps: its weights, and KV entries for a
// number of positions.
func Resident(g *ir.Graph, positions int) []Memory {
	list := make([]Memory, g.Devices)
	seen := make(map[string]bool)
	for _, n := range g.Nodes {
		switch n.Op.Name {
		case "weight":
			key := weightKey(n)
			if !seen[key] {
				seen[key] = true
				list[n.Device].Weights += n.Type.Bytes(nil)
			}
		case "kv_append":
			t := n.Type
			list[n.Device].Caches += int64(positions) * int64(t.Shape[1].N*t.Shape[2].N*t.DType.Bytes())
		}
	}
	return list
}

// Traffic returns the bytes that come from other devices in a step, over all
// devices.
func Traffic(g *ir.Graph, l Load) int64 {
	b := l.Bounds(g.Groups)
	var sum int64
	for _, n := range g.Nodes {
		if n.Op.Has(ir.Collective) {
			sum += n.Op.Work(n, b).Sent
		}
	}
	return sum
}
