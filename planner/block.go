package planner

import (
	"slices"
	"strconv"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// blockBuilder makes one block from the segment that stands for it.
type blockBuilder struct {
	*builder
	seg   *segment
	at    int // index of seg
	local map[*ir.Node]plan.Ref
	out   plan.Block
	needs [][]*need // by device
	owner []*need   // of out.Buffers
}

// block returns the block and the bytes its own buffers take on each device,
// after base bytes of shared ones.
func (bb *blockBuilder) block(name string, base []int64) (plan.Block, []int64) {
	bb.out.Name = name
	bb.local = make(map[*ir.Node]plan.Ref)
	bb.needs = make([][]*need, len(bb.memory))
	channels := make(map[int]int)
	queues := bb.queues()
	for d, q := range queues {
		if len(q) == 0 {
			continue
		}
		bb.assign(d, q)
	}
	for d, q := range queues {
		if len(q) > 0 {
			bb.out.Queues = append(bb.out.Queues, plan.Queue{Device: d, Steps: bb.steps(d, q, channels)})
		}
	}
	sizes := make([]int64, len(bb.memory))
	for d := range sizes {
		sizes[d] = pack(bb.needs[d])
	}
	for i := range bb.out.Buffers {
		d := bb.out.Buffers[i].Device
		bb.out.Buffers[i].Offset = bb.arena(d) + base[d] + bb.owner[i].offset
	}
	return bb.out, sizes
}

// buffer adds a buffer of the block.
func (bb *blockBuilder) buffer(device int, t tensor.Type, first, last int) plan.Ref {
	n := &need{first: first, last: last, bytes: t.Bytes(bb.bounds)}
	bb.needs[device] = append(bb.needs[device], n)
	bb.owner = append(bb.owner, n)
	name := "b" + strconv.Itoa(len(bb.owner)-1)
	bb.out.Buffers = append(bb.out.Buffers, plan.Buffer{Name: name, Device: device, Type: t, Bytes: alignUp(n.bytes)})
	return plan.Ref{Kind: plan.BufferRef, Name: name, Device: device}
}

// assign gives every value that device makes a buffer: the program's for a
// carried value, unless what is in it is still to be read, else one of the
// block's.
func (bb *blockBuilder) assign(device int, q []*item) {
	last := make(map[*ir.Node]int)
	end := 0
	for _, it := range q {
		for _, r := range it.reads(device) {
			last[r] = it.end
		}
		end = it.end
	}
	for _, it := range q {
		n := it.node
		if it.send || n.Op.Name == "kv_append" {
			continue
		}
		if _, carried := bb.carried.of[n]; carried && bb.free(n, it, last) {
			bb.local[n] = bb.refs[n]
			continue
		}
		until := max(last[n], it.end)
		if _, carried := bb.carried.of[n]; carried {
			until = end + 1 // copied at the end of the block
		}
		bb.local[n] = bb.buffer(device, n.Type, it.start, until)
	}
}

// free reports whether the program buffer of n may be written when n is made:
// no value that the block finds in it is read later, nor by n itself unless
// element by element.
func (bb *blockBuilder) free(n *ir.Node, it *item, last map[*ir.Node]int) bool {
	for _, u := range bb.seg.imports {
		if bb.carried.of[u] != bb.carried.of[n] || u == n {
			continue
		}
		at, read := last[u]
		if !read || at < it.start {
			continue
		}
		if at > it.end || !inPlace(n, u) {
			return false
		}
	}
	return true
}

// inPlace reports whether n may overwrite its operand u.
func inPlace(n, u *ir.Node) bool {
	if !n.Op.Has(ir.Elementwise) {
		return false
	}
	return !slices.ContainsFunc(n.Args, func(a *ir.Node) bool { return root(a) == u && !a.Type.Equal(n.Type) })
}

// steps writes the queue of a device.
func (bb *blockBuilder) steps(device int, q []*item, channels map[int]int) []plan.Step {
	var steps []plan.Step
	for _, it := range q {
		steps = append(steps, bb.step(device, it, channels))
	}
	for _, it := range q {
		n := it.node
		if _, carried := bb.carried.of[n]; carried && !it.send && bb.local[n].Name != bb.refs[n].Name {
			steps = append(steps, plan.Step{Op: "copy", Out: bb.refs[n].Name, Args: []plan.Ref{bb.local[n]}})
		}
	}
	return steps
}

func (bb *blockBuilder) step(device int, it *item, channels map[int]int) plan.Step {
	n := it.node
	s := plan.Step{Op: n.Op.Name, Attrs: n.Attrs.Without("body").Without("cache")}
	if n.Op.Has(ir.Collective) {
		c := n.Attrs.Int("channel", 0)
		if _, ok := channels[c]; !ok {
			channels[c] = len(channels)
		}
		s.Attrs = s.Attrs.With("channel", channels[c])
	}
	for _, a := range n.Args {
		if !it.send || a.Device == device {
			s.Args = append(s.Args, bb.ref(a))
		}
	}
	switch {
	case it.send:
		s.Op, s.Attrs = "send", ir.MakeAttrs(ir.Attr{Name: "channel", Value: s.Attrs.Int("channel", 0)})
	case n.Op.Name == "kv_append":
		s.Args = append(s.Args, bb.refs[n])
	default:
		s.Out = bb.local[n].Name
		if n.Attrs.Body() != nil {
			s.Body = bb.body(it, s)
		}
	}
	return s
}

// ref names an operand, with its type if that is not its buffer's.
func (bb *blockBuilder) ref(a *ir.Node) plan.Ref {
	r := root(a)
	ref, ok := bb.local[r]
	if !ok {
		ref = bb.refs[r]
	}
	if a != r {
		ref.Type = a.Type
	}
	return ref
}

// body writes the steps of a fused node. Values inside it get buffers of
// their own; the last one writes the node's.
func (bb *blockBuilder) body(it *item, whole plan.Step) []plan.Step {
	g := it.node.Attrs.Body()
	result := root(g.Outputs[0].Value)
	position := make(map[*ir.Node]int, len(g.Nodes))
	last := make(map[*ir.Node]int)
	for i, n := range g.Nodes {
		position[n] = it.start + i
		for _, a := range n.Args {
			last[root(a)] = it.start + i
		}
	}
	refs := make(map[*ir.Node]plan.Ref)
	var steps []plan.Step
	for _, n := range g.Nodes {
		switch {
		case n.Op.Name == "param":
			refs[n] = whole.Args[n.Attrs.Int("index", 0)]
			continue
		case n.Op.Name == "const":
			refs[n] = bb.refs[n]
			continue
		case n.Op.Name == "reshape":
			continue
		case n == result:
			refs[n] = plan.Ref{Kind: plan.BufferRef, Name: whole.Out, Device: it.node.Device}
		default:
			refs[n] = bb.buffer(it.node.Device, n.Type, position[n], max(last[n], position[n]))
		}
		s := plan.Step{Op: n.Op.Name, Out: refs[n].Name, Attrs: n.Attrs}
		for _, a := range n.Args {
			ref := refs[root(a)]
			if a != root(a) {
				ref.Type = a.Type
			}
			s.Args = append(s.Args, ref)
		}
		steps = append(steps, s)
	}
	return steps
}
