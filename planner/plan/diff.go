package plan

import (
	"fmt"
	"slices"

	"moec/ir/tensor"
)

// Diff says in what two plans differ, as far as people care: what they are
// for, who holds what, what passes between devices, and memory.
type Diff struct {
	// Same says that the plans are the same to the last byte. If not, and
	// nothing is listed below, they differ in details that only the text shows.
	Same    bool            `json:"same"`
	Facts   []FactChange    `json:"facts,omitempty"`
	Ends    []string        `json:"ends,omitempty"` // embedding and head
	Layers  []LayerChange   `json:"layers,omitempty"`
	Traffic []TrafficChange `json:"traffic,omitempty"`
	Memory  []MemoryChange  `json:"memory,omitempty"`
}

// FactChange is a fact of which the plans have different ones.
type FactChange struct {
	What string `json:"what"`
	A    string `json:"a"`
	B    string `json:"b"`
}

// TrafficChange is a kind of exchange of which the plans have different
// numbers or sizes.
type TrafficChange struct {
	Op string   `json:"op"`
	A  Exchange `json:"a"`
	B  Exchange `json:"b"`
}

// Exchange is what a kind of exchange does in a decode step: how often it
// happens, and the bytes that devices receive for each token.
type Exchange struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes_per_token"`
}

// MemoryChange is a device's account in each plan; nil in one that does not use
// the device.
type MemoryChange struct {
	Device int     `json:"device"`
	A      *Memory `json:"a"`
	B      *Memory `json:"b"`
}

// Compare compares two plans.
func Compare(a, b *Plan) (*Diff, error) {
	var texts [2]string
	for i, p := range []*Plan{a, b} {
		text, err := Comparable(p)
		if err != nil {
			return nil, err
		}
		texts[i] = text
	}
	d := &Diff{Same: texts[0] == texts[1]}
	if d.Same {
		return d, nil
	}
	d.facts(a, b)
	d.Ends = EndChanges(&a.Placement, &b.Placement)
	if len(a.Placement.Layers) == len(b.Placement.Layers) {
		d.Layers = LayerChanges(&a.Placement, &b.Placement)
	}
	d.traffic(a, b)
	d.memory(a, b)
	return d, nil
}

// facts compares what the plans are for.
func (d *Diff) facts(a, b *Plan) {
	add := func(what string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			d.Facts = append(d.Facts, FactChange{what, x, y})
		}
	}
	add("model", a.Model.Name, b.Model.Name)
	if a.Model.Hash != b.Model.Hash {
		add("description", fmt.Sprintf("%.12s", a.Model.Hash), fmt.Sprintf("%.12s", b.Model.Hash))
		d.bindings(a, b)
	}
	machine := func(m Machine) string { return fmt.Sprintf("%s, %d devices of %s", m.Name, m.Devices, Bytes(m.Memory)) }
	add("machine", machine(a.Machine), machine(b.Machine))
	if a.Machine.Name == b.Machine.Name {
		add("machine's description", fmt.Sprintf("%.12s", a.Machine.Hash), fmt.Sprintf("%.12s", b.Machine.Hash))
	}
	add("devices", len(a.Memory), len(b.Memory))
	add("numerics", fmt.Sprintf("%s, %d segments", a.Numerics.Mode, a.Numerics.Segments), fmt.Sprintf("%s, %d segments", b.Numerics.Mode, b.Numerics.Segments))
	add("strategy", a.Placement.Strategy, b.Placement.Strategy)
	x, y := a.Limits, b.Limits
	add("tokens of a step", x.Tokens, y.Tokens)
	add("rows of a step", x.Rows, y.Rows)
	add("sequences", x.Sequences, y.Sequences)
	add("positions of a sequence", x.Context, y.Context)
	add("KV pages", fmt.Sprintf("%d of %d", x.Pages, x.Page), fmt.Sprintf("%d of %d", y.Pages, y.Page))
}

// bindings compares the settings of descriptions.
func (d *Diff) bindings(a, b *Plan) {
	of := func(p *Plan, name string) string {
		for _, s := range p.Model.Bindings {
			if s.Name == name {
				return s.Value
			}
		}
		return "none"
	}
	seen := make(map[string]bool)
	for _, s := range slices.Concat(a.Model.Bindings, b.Model.Bindings) {
		if x, y := of(a, s.Name), of(b, s.Name); x != y && !seen[s.Name] {
			d.Facts = append(d.Facts, FactChange{s.Name, x, y})
		}
		seen[s.Name] = true
	}
}

// traffic compares exchanges, op by op.
func (d *Diff) traffic(a, b *Plan) {
	x, y := Exchanges(a), Exchanges(b)
	for _, op := range exchangeOps {
		if x[op] != y[op] {
			d.Traffic = append(d.Traffic, TrafficChange{op, x[op], y[op]})
		}
	}
}

// exchangeOps are the kinds of exchanges, in the order of the op table.
var exchangeOps = []string{"all_reduce", "all_gather", "transfer"}

// Exchanges returns what the exchanges of a decode step do, by op, in the
// program for the smallest step; every token group has one token, whose logits
// are wanted.
func Exchanges(p *Plan) map[string]Exchange {
	all := make(map[string]Exchange)
	if len(p.Buckets) == 0 {
		return all
	}
	at := slices.IndexFunc(p.Programs, func(g Program) bool { return g.Name == p.Buckets[0].Program })
	if at < 0 {
		return all
	}
	prog, groups := &p.Programs[at], p.groups()
	for _, r := range prog.Runs {
		i := slices.IndexFunc(prog.Blocks, func(b Block) bool { return b.Name == r.Block })
		if i < 0 {
			continue
		}
		for op, e := range blockExchanges(prog, &prog.Blocks[i], groups) {
			sum := all[op]
			sum.Count += e.Count * r.Layers.Len()
			sum.Bytes += e.Bytes * int64(r.Layers.Len())
			all[op] = sum
		}
	}
	for op, e := range all {
		e.Bytes /= int64(groups)
		all[op] = e
	}
	return all
}

// groups is the number of token groups.
func (p *Plan) groups() int {
	if len(p.Placement.Layers) == 0 {
		return 1
	}
	return max(1, len(p.Placement.Layers[0].Groups))
}

// blockExchanges sums up one turn of a block, with a token in every group.
func blockExchanges(prog *Program, b *Block, groups int) map[string]Exchange {
	types := make(map[bufKey]tensor.Type)
	for _, buf := range slices.Concat(prog.Buffers, b.Buffers) {
		types[bufKey{buf.Device, buf.Name}] = buf.Type
	}
	bounds := func(s tensor.Sym) int {
		if s.Group() < 0 {
			return groups
		}
		return 1
	}
	all, seen := make(map[string]Exchange), make(map[int]bool)
	for _, q := range b.Queues {
		for i := range q.Steps {
			st := &q.Steps[i]
			if !st.collective() || st.Op == "send" {
				continue
			}
			e := all[st.Op]
			if !seen[st.channel()] {
				seen[st.channel()] = true
				e.Count++
			}
			for _, a := range st.Args {
				if a.Device == q.Device {
					continue
				}
				t := a.Type
				if t.DType == tensor.Invalid {
					t = types[bufKey{a.Device, a.Name}]
				}
				e.Bytes += t.Bytes(bounds)
			}
			all[st.Op] = e
		}
	}
	return all
}

// memory compares the devices' accounts.
func (d *Diff) memory(a, b *Plan) {
	of := func(p *Plan, device int) *Memory {
		for i := range p.Memory {
			if p.Memory[i].Device == device {
				return &p.Memory[i]
			}
		}
		return nil
	}
	devices := 0
	for _, m := range slices.Concat(a.Memory, b.Memory) {
		devices = max(devices, m.Device+1)
	}
	for i := range devices {
		x, y := of(a, i), of(b, i)
		if x == nil && y == nil || x != nil && y != nil && *x == *y {
			continue
		}
		d.Memory = append(d.Memory, MemoryChange{i, x, y})
	}
}
