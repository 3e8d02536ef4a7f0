package planner

import (
	"fmt"
	"slices"
	"strconv"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// program lays out what lives across blocks, then each block after it.
func (b *builder) program() error {
	prog := &b.p.Programs[0]
	if err := b.shared(prog); err != nil {
		return err
	}
	base := make([]int64, len(b.memory)) // bytes of shared buffers
	for d := range base {
		base[d] = b.memory[d].Buffers
	}
	for i, s := range b.reps {
		bb := &blockBuilder{builder: b, seg: s, at: slices.Index(b.segs, s)}
		block, sizes := bb.block(b.names[i], base)
		prog.Blocks = append(prog.Blocks, block)
		for d, size := range sizes {
			b.memory[d].Buffers = max(b.memory[d].Buffers, base[d]+size)
		}
	}
	for _, o := range b.g.Outputs {
		ref, ok := b.refs[root(o.Value)]
		if !ok {
			return fmt.Errorf("internal error: output %s has no buffer", o.Name)
		}
		prog.Outputs = append(prog.Outputs, plan.Output{Name: o.Name, Group: o.Group, Device: o.Value.Device, Buffer: ref.Name, Type: o.Value.Type})
	}
	return nil
}

// arena returns the offset at which a device's buffers begin.
func (b *builder) arena(device int) int64 {
	m := b.memory[device]
	return m.Consts + m.Weights + m.Caches
}

// shared makes the program's buffers: inputs, which live for the whole step,
// and carried values.
func (b *builder) shared(prog *plan.Program) error {
	needs := make([][]*need, len(b.memory))
	var owners []*need // of prog.Buffers, in order
	add := func(name string, device int, t tensor.Type, first, last int) {
		n := &need{first: first, last: last, bytes: t.Bytes(b.bounds)}
		needs[device] = append(needs[device], n)
		owners = append(owners, n)
		prog.Buffers = append(prog.Buffers, plan.Buffer{Name: name, Device: device, Type: t, Bytes: alignUp(n.bytes)})
	}
	for _, n := range b.g.Nodes {
		if n.Op.Name != "input" {
			continue
		}
		name := n.Attrs.Text("name")
		if n.Group >= 0 {
			name += "." + strconv.Itoa(n.Group)
		}
		b.refs[n] = plan.Ref{Kind: plan.BufferRef, Name: name, Device: n.Device}
		if !slices.ContainsFunc(prog.Buffers, func(p plan.Buffer) bool { return p.Name == name && p.Device == n.Device }) {
			add(name, n.Device, n.Type, 0, len(b.segs))
		}
	}
	b.carriedBuffers(add)
	for d := range needs {
		b.memory[d].Buffers = pack(needs[d])
	}
	for i := range prog.Buffers {
		prog.Buffers[i].Offset = b.arena(prog.Buffers[i].Device) + owners[i].offset
	}
	return nil
}

// carriedBuffers names one buffer for each class of carried values, in the
// order in which the first value of each is made.
func (b *builder) carriedBuffers(add func(name string, device int, t tensor.Type, first, last int)) {
	named := make(map[int]string)
	for _, s := range b.segs {
		for _, n := range s.exports {
			class, ok := b.carried.of[n]
			if !ok {
				continue
			}
			if _, done := named[class]; !done {
				named[class] = "x" + strconv.Itoa(len(named))
				list := b.carried.members[class]
				last := 0
				for _, m := range list {
					last = max(last, m.last)
				}
				add(named[class], n.Device, n.Type, list[0].first, last)
			}
			b.refs[n] = plan.Ref{Kind: plan.BufferRef, Name: named[class], Device: n.Device}
		}
	}
}

// item is a place in a device's queue: a node of that device, or the sending
// side of another's collective.
type item struct {
	node       *ir.Node
	send       bool
	start, end int // positions in the queue; a fused node has one for each step of its body
}

// queues lists what each device does, in graph order.
func (bb *blockBuilder) queues() [][]*item {
	queues := make([][]*item, len(bb.memory))
	sent := make(map[[2]int]bool) // channel, device
	for _, n := range bb.seg.nodes {
		if n.Op.Has(ir.Collective) {
			channel := n.Attrs.Int("channel", 0)
			members := bb.members(channel)
			for _, a := range n.Args {
				key := [2]int{channel, a.Device}
				if !sent[key] && !members[a.Device] {
					sent[key] = true
					queues[a.Device] = append(queues[a.Device], &item{node: n, send: true})
				}
			}
		}
		queues[n.Device] = append(queues[n.Device], &item{node: n})
	}
	for _, q := range queues {
		at := 0
		for _, it := range q {
			it.start, it.end = at, at
			if body := it.node.Attrs.Body(); body != nil && !it.send {
				it.end = at + len(body.Nodes) - 1
			}
			at = it.end + 1
		}
	}
	return queues
}

// members returns the devices that a channel has a node on.
func (bb *blockBuilder) members(channel int) map[int]bool {
	m := make(map[int]bool)
	for _, n := range bb.seg.nodes {
		if n.Op.Has(ir.Collective) && n.Attrs.Int("channel", 0) == channel {
			m[n.Device] = true
		}
	}
	return m
}

// reads lists the storages on device that an item needs.
func (it *item) reads(device int) []*ir.Node {
	var list []*ir.Node
	for _, a := range it.node.Args {
		if r := root(a); r.Device == device && !resident(r) && r.Op.Name != "kv_append" {
			list = append(list, r)
		}
	}
	return list
}
