// Package cost prices work on machines.
//
// Prices come from the work of each node (ir.OpInfo.Work), the machine's own
// figures and, where there are any, measurements of single ops; they are
// integers, so that the same inputs rank the same anywhere. The search and the
// simulator price with the same functions.
package cost

import (
	"strings"

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

// Load is the kind of step to price: the same number of tokens for each of
// some sequences.
type Load struct {
	Sequences int `json:"sequences"`
	Tokens    int `json:"tokens"` // of all sequences: a multiple of Sequences
	Rows      int `json:"rows"`
	Context   int `json:"context"` // positions that each token sees
}

// Of returns how many of n, which belong to all sequences alike, belong to a
// token group: sequences are dealt out in turn.
func (l Load) Of(n, group, groups int) int {
	return n / l.Sequences * ((l.Sequences - group + groups - 1) / groups)
}

// Tokens returns the tokens lo to hi-1 of a token group, of which the groups
// before it have the first.
func (l Load) TokensOf(group, groups int) (lo, hi int) {
	for g := range group {
		lo += l.Of(l.Tokens, g, groups)
	}
	return lo, lo + l.Of(l.Tokens, group, groups)
}

// Share returns the part of the load that belongs to a token group.
func (l Load) Share(group, groups int) Load {
	if group < 0 {
		return l
	}
	return Load{l.Of(l.Sequences, group, groups), l.Of(l.Tokens, group, groups), l.Of(l.Rows, group, groups), l.Context}
}

// Bounds gives every symbol its value.
func (l Load) Bounds(groups int) tensor.Bounds {
	of := func(n int, s tensor.Sym) int {
		if g := s.Group(); g >= 0 {
			return l.Of(n, g, groups)
		}
		return n
	}
	return func(s tensor.Sym) int {
		switch s.Base() {
		case tensor.Cached:
			return l.Context
		case tensor.Rows:
			return of(l.Rows, s)
		}
		return of(l.Tokens, s)
	}
}

// tile is the tokens of a prompt that read keys and values together: the query
// rows of a block in the usual attention kernels (FlashAttention-2 has 64 or
// 128).
const tile = 64

// tiles is the load with the tokens of a sequence that are next to each other
// counted once for each tile.
func (l Load) tiles() Load {
	if l.Sequences == 0 {
		return l
	}
	each := (l.Tokens + l.Sequences - 1) / l.Sequences
	l.Tokens = l.Sequences * ((each + tile - 1) / tile)
	return l
}

// Slots counts the slots of an expert among the first rows of the tokens that
// a node works on: those that copy turn of turns serves. Nil spreads slots
// evenly. (After the last attention only the wanted rows are left; they are
// taken to be the first, as good as any.)
type Slots func(expert, turn, turns, rows int) int

// Pricer prices nodes on a machine under a load.
type Pricer struct {
	Machine       *machine.Machine
	Load          Load
	Groups        int
	bounds, tiles tensor.Bounds
}

// NewPricer returns a pricer for graphs with that many token groups.
func NewPricer(m *machine.Machine, l Load, groups int) *Pricer {
	return &Pricer{m, l, groups, l.Bounds(groups), l.tiles().Bounds(groups)}
}

// kernel has the ops that take time of their own. Backends do all others along
// with one of these.
var kernel = map[string]bool{
	"matmul": true, "matmul_nodes": true, "expert_matmul": true, "expert_matmul_nodes": true,
	"attention": true, "combine": true, "combine_nodes": true, "embed": true,
}

// IsKernel reports whether an op takes time of its own.
func IsKernel(op string) bool { return kernel[op] }

// Node prices one node on its device. A fused one costs what it does.
func (p *Pricer) Node(n *ir.Node, slots Slots) Cost {
	switch {
	case n.Op.Name == "fused":
		var c Cost
		for _, inner := range n.Attrs.Body().Nodes {
			c = c.Add(p.Node(inner, slots))
		}
		return c
	case n.Op.Has(ir.Collective):
		parts := make([]Part, len(n.Args))
		for i, a := range n.Args {
			parts[i] = Part{a.Device, a.Type.Bytes(p.bounds)}
		}
		return p.Exchange(n.Op.Name, n.Device, parts, n.Type.Bytes(p.bounds))
	case !kernel[n.Op.Name]:
		return Cost{}
	case len(n.Args) > 2 && n.Attrs.Has("total") && n.Attrs.Has("experts"):
		return p.experts(n, slots)
	}
	w := n.Op.Work(n, p.bounds)
	if n.Op.Name == "attention" {
		w.Read = n.Op.Work(n, p.tiles).Read
	}
	if w.Write == 0 { // there are no tokens
		return Cost{Launch: p.Machine.Device.Launch.Value}
	}
	return p.kernel(n.Op.Name, p.roofline(weights(n), w.Flops, w.Read+w.Write))
}

// weights is the element type of the weights, keys or values of a node.
func weights(n *ir.Node) tensor.DType {
	if len(n.Args) > 1 {
		return n.Args[1].Type.DType
	}
	return tensor.F32
}

// roofline is the longer of the time that the arithmetic takes and the time
// that memory takes.
func (p *Pricer) roofline(t tensor.DType, flops, bytes int64) Cost {
	d := &p.Machine.Device
	compute, memory := machine.PS(flops, d.Rate(t)), machine.PS(bytes, d.Bandwidth.Value)
	if compute > memory {
		return Cost{Compute: compute}
	}
	return Cost{Memory: memory}
}

// kernel makes a price by the machine's figures that of a kernel.
func (p *Pricer) kernel(op string, c Cost) Cost {
	price := c.Compute + c.Memory
	op = strings.TrimSuffix(op, "_nodes")
	if took := p.Machine.Correct(op, price); took != price {
		c.Compute = machine.Scale(took, c.Compute, price)
		c.Memory = took - c.Compute
	}
	c.Launch = p.Machine.Device.Launch.Value
	return c
}

// experts prices an op on the slots of the experts held, expert by expert: one
// may be bound by arithmetic while another waits for its weights.
func (p *Pricer) experts(n *ir.Node, slots Slots) Cost {
	w := p.ExpertWork(n)
	c := p.Base(w)
	turns := n.Attrs.Sets("turns")
	for i, e := range n.Attrs.Ints("experts") {
		turn := []int{0, 1}
		if i < len(turns) {
			turn = turns[i]
		}
		c = c.Add(p.Expert(w, p.count(n, slots, e, turn)))
	}
	return p.kernel(n.Op.Name, c)
}

// count returns the slots of an expert that a node works on.
func (p *Pricer) count(n *ir.Node, slots Slots, e int, turn []int) int {
	ids := n.Args[2]
	if n.Op.Name == "combine_nodes" {
		ids = n.Args[1]
	}
	if slots != nil {
		return slots(e, turn[0], turn[1], ids.Type.Shape[0].Of(p.bounds))
	}
	all, total := ids.Type.Shape.Elems(p.bounds), n.Attrs.Int("total", 1)
	here := (e+1)*all/total - e*all/total // every total/all-th expert, where there are fewer slots than experts
	return (here + turn[1] - 1 - turn[0]) / turn[1]
}

// ExpertWork is what an op does for an expert: once, and for each slot.
type ExpertWork struct {
	Weights    tensor.DType
	Base       int64 // bytes, whatever is chosen
	Once, Each int64 // bytes of an expert that is chosen, and of each of its slots
	Flops      int64 // for each slot
}

// ExpertWork returns what a node does for each of its experts.
func (p *Pricer) ExpertWork(n *ir.Node) ExpertWork {
	row := func(t tensor.Type, axis int) int64 { // bytes of the axes from axis on
		bytes := int64(t.DType.Bytes())
		for _, d := range t.Shape[axis:] {
			bytes *= int64(d.N)
		}
		return bytes
	}
	out := n.Type.Shape
	if n.Op.Name == "combine_nodes" { // [nodes, T, N] of [T, k, N]
		x := n.Args[0].Type
		return ExpertWork{Weights: tensor.F32, Base: n.Type.Bytes(p.bounds), Each: row(x, 2), Flops: 2 * int64(x.Shape[2].N)}
	}
	w := n.Args[1].Type // [E, N, K]
	nodes := int64(1)
	if len(out) == 4 { // [nodes, T, k, N]
		nodes = int64(out[0].N)
	}
	size := int64(w.Shape[1].N) * int64(w.Shape[2].N)
	return ExpertWork{Weights: w.DType, Once: size * int64(w.DType.Bytes()), Flops: 2 * size,
		Each: row(n.Args[0].Type, 2) + nodes*int64(w.Shape[1].N)*int64(n.Type.DType.Bytes())}
}

// Expert prices the work for so many slots of an expert, without a launch.
func (p *Pricer) Expert(w ExpertWork, slots int) Cost {
	if slots == 0 {
		return Cost{}
	}
	return p.roofline(w.Weights, w.Flops*int64(slots), w.Once+w.Each*int64(slots))
}

// Base prices what the work takes whatever is chosen, without a launch.
func (p *Pricer) Base(w ExpertWork) Cost {
	return Cost{Memory: machine.PS(w.Base, p.Machine.Device.Bandwidth.Value)}
}

// Kernel completes a sum of prices to that of a kernel.
func (p *Pricer) Kernel(op string, c Cost) Cost { return p.kernel(op, c) }

// Part is an operand of an exchange: the device that has it, and its bytes.
type Part struct {
	Device int
	Bytes  int64
}

// Exchange prices what one member of a collective does: receive the parts of
// other devices and write the result of out bytes. A sum may also be done in
// two rounds, in which each device that has a part adds up its share of the
// rows for all and then sends that on: twice the latency, fewer bytes.
func (p *Pricer) Exchange(op string, member int, parts []Part, out int64) Cost {
	m := p.Machine
	var far, own int64
	for _, a := range parts {
		if a.Device == member {
			own += a.Bytes
		} else {
			far += a.Bytes
		}
	}
	c := Cost{Memory: machine.PS(own+out, m.Device.Bandwidth.Value), Launch: m.Device.Launch.Value}
	if far == 0 || m.Devices < 2 {
		return c
	}
	devices := holders(parts)
	link := p.receive(member, parts)
	if n := int64(len(devices)); op == "all_reduce" && n > 2 {
		first, second := make([]Part, len(parts)), make([]Part, n)
		for i, a := range parts {
			first[i] = Part{a.Device, (a.Bytes + n - 1) / n}
		}
		for i, d := range devices {
			second[i] = Part{d, (out + n - 1) / n}
		}
		link = min(link, p.receive(member, first)+p.receive(member, second))
	}
	c.Link = m.Correct(op, link)
	return c
}

// receive is how long a device needs to receive parts, over one link after the
// other.
func (p *Pricer) receive(member int, parts []Part) int64 {
	m := p.Machine
	var sum int64
	for i := range m.Links {
		var bytes int64
		for _, a := range parts {
			if a.Device != member && m.Between(a.Device, member) == i {
				bytes += a.Bytes
			}
		}
		if bytes > 0 {
			sum += m.Links[i].Time(bytes, p.users(&m.Links[i], member, parts))
		}
	}
	return sum
}

// users counts the devices of an exchange that share a part of the link with a
// member.
func (p *Pricer) users(l *machine.Link, member int, parts []Part) int {
	if l.Shared == nil {
		return 1
	}
	n := 1
	for _, d := range holders(parts) {
		if d != member && l.Shared.Run(d) == l.Shared.Run(member) {
			n++
		}
	}
	return n
}

// holders lists the devices that have parts, each once, in order of the parts.
func holders(parts []Part) []int {
	var list []int
next:
	for _, a := range parts {
		for _, d := range list {
			if d == a.Device {
				continue next
			}
		}
		list = append(list, a.Device)
	}
	return list
}

// Turn prices nodes of all devices that start together: each device works
// through its own, in order, and all who take part in a collective leave it
// when the last one is done. The price is that of the device that ends last.
// slots counts for a token group, -1 standing for all tokens; it may be nil.
func (p *Pricer) Turn(nodes []*ir.Node, slots func(group int) Slots) Cost {
	clock := make([]Cost, p.Machine.Devices)
	for i := 0; i < len(nodes); i++ {
		n := nodes[i]
		if n.Device < 0 {
			continue
		}
		if !n.Op.Has(ir.Collective) {
			var count Slots
			if slots != nil {
				count = slots(n.Group)
			}
			clock[n.Device] = clock[n.Device].Add(p.Node(n, count))
			continue
		}
		j := i + 1 // the members of a collective stand together
		for j < len(nodes) && nodes[j].Op.Has(ir.Collective) && nodes[j].Attrs.Int("channel", -1) == n.Attrs.Int("channel", -1) {
			j++
		}
		p.meet(nodes[i:j], clock)
		i = j - 1
	}
	return latest(clock)
}

// Step prices a placed graph as one turn.
func Step(g *ir.Graph, m *machine.Machine, l Load) Cost {
	return NewPricer(m, l, g.Groups).Turn(g.Nodes, nil)
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
		clock[n.Device] = clock[n.Device].Add(p.Node(n, nil))
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
