package plan

import (
	"slices"

	"gonum.org/v1/gonum/graph/simple"
	"gonum.org/v1/gonum/graph/topo"

	"moec/ir"
)

// meeting is a step of a channel.
type meeting struct {
	q  *Queue
	at int
	s  *Step
}

// meetings lists the steps of each channel of a block, by device.
func (b *blockIndex) meetings() (channels []int, list map[int][]meeting) {
	list = make(map[int][]meeting)
	for i := range b.Queues {
		q := &b.Queues[i]
		for at := range q.Steps {
			s := &q.Steps[at]
			if !OpInfo(s.Op).Has(ir.Collective) {
				continue
			}
			c := s.Attrs.Int("channel", -1)
			if list[c] == nil {
				channels = append(channels, c)
			}
			list[c] = append(list[c], meeting{q, at, s})
		}
	}
	return channels, list
}

func sameRef(a, b Ref) bool {
	return a.Kind == b.Kind && a.Name == b.Name && a.Device == b.Device && a.Type.Equal(b.Type)
}

func (v *verifier) members() {
	v.blocks(func(b *blockIndex) {
		channels, list := b.meetings()
		for _, c := range channels {
			v.agree(b, c, list[c])
		}
		b.steps(func(q *Queue, at int, s *Step) {
			for _, a := range s.Args {
				if a.Device != q.Device && !OpInfo(s.Op).Has(ir.Collective) {
					v.fail("%s: reads %s of device %d outside a collective", where(b, q, at, s), a.Name, a.Device)
				}
			}
		})
	})
}

// agree compares the members of one collective.
func (v *verifier) agree(b *blockIndex, c int, list []meeting) {
	i := slices.IndexFunc(list, func(m meeting) bool { return m.s.Op != "send" })
	if i < 0 {
		v.fail("%s: channel %d is sent on and nobody reads", b.Name, c)
		return
	}
	first := list[i]
	here := make(map[int]bool)
	for _, m := range list {
		here[m.q.Device] = true
		if m.s.Op == "send" {
			if len(m.s.Args) != 1 || !slices.ContainsFunc(first.s.Args, func(a Ref) bool { return sameRef(a, m.s.Args[0]) }) {
				v.fail("%s: nobody reads what is sent", where(b, m.q, m.at, m.s))
			}
			continue
		}
		if m.s.Op != first.s.Op || !slices.EqualFunc(m.s.Args, first.s.Args, sameRef) || !sameAttrs(m.s.Attrs, first.s.Attrs) {
			v.fail("%s: differs from %s in op, operands or attributes", where(b, m.q, m.at, m.s), where(b, first.q, first.at, first.s))
		}
	}
	for _, a := range first.s.Args {
		if !here[a.Device] {
			v.fail("%s: reads %s of device %d, which takes no part in channel %d", where(b, first.q, first.at, first.s), a.Name, a.Device, c)
		}
	}
}

func sameAttrs(a, b ir.Attrs) bool {
	x, errX := marshalAttrs(a)
	y, errY := marshalAttrs(b)
	return errX == nil && errY == nil && x == y
}

func marshalAttrs(a ir.Attrs) (string, error) {
	var s string
	for _, at := range a {
		raw, err := writeAttr(at.Value)
		if err != nil {
			return "", err
		}
		s += at.Name + "=" + string(raw) + ";"
	}
	return s, nil
}

func (v *verifier) channels() {
	v.blocks(func(b *blockIndex) {
		_, list := b.meetings()
		for c, steps := range list {
			seen := make(map[int]bool)
			for _, m := range steps {
				if seen[m.q.Device] {
					v.fail("%s: channel %d has two steps on device %d", b.Name, c, m.q.Device)
				}
				seen[m.q.Device] = true
			}
			if len(steps) < 2 && c >= 0 && slices.ContainsFunc(steps[0].s.Args, func(a Ref) bool { return a.Device != steps[0].q.Device }) {
				v.fail("%s: channel %d has one member, which reads others", b.Name, c)
			}
		}
	})
}

// order lists the channels of a queue as it meets them.
func (q *Queue) order() []int {
	var list []int
	for i := range q.Steps {
		if OpInfo(q.Steps[i].Op).Has(ir.Collective) {
			list = append(list, q.Steps[i].Attrs.Int("channel", -1))
		}
	}
	return list
}

func (v *verifier) channelOrder() {
	v.blocks(func(b *blockIndex) {
		for i := range b.Queues {
			for j := range i {
				one, two := b.Queues[j].order(), b.Queues[i].order()
				last := -1
				for _, c := range two {
					at := slices.Index(one, c)
					if at >= 0 && at < last {
						v.fail("%s: devices %d and %d meet channel %d and another in different orders", b.Name, b.Queues[j].Device, b.Queues[i].Device, c)
					}
					last = max(last, at)
				}
			}
		}
	})
}

// acyclic sorts the steps of each block, those of a channel taken as one.
func (v *verifier) acyclic() {
	v.blocks(func(b *blockIndex) {
		g := simple.NewDirectedGraph()
		next := int64(1 << 32) // channels have their own number
		for i := range b.Queues {
			last := int64(-1)
			for k := range b.Queues[i].Steps {
				id := next
				next++
				if s := &b.Queues[i].Steps[k]; OpInfo(s.Op).Has(ir.Collective) {
					id = int64(s.Attrs.Int("channel", 0))
				}
				if g.Node(id) == nil {
					g.AddNode(simple.Node(id))
				}
				if last >= 0 && last != id {
					g.SetEdge(g.NewEdge(simple.Node(last), simple.Node(id)))
				}
				last = id
			}
		}
		if _, err := topo.SortStabilized(g, nil); err != nil {
			v.fail("%s: %v", b.Name, err)
		}
	})
}

// deadlock executes the queues of each block as a backend does: a device goes
// on until it meets a collective, and then waits for all others of its
// channel.
func (v *verifier) deadlock() {
	v.blocks(func(b *blockIndex) {
		_, list := b.meetings()
		at := make([]int, len(b.Queues))
		for progress := true; progress; {
			progress = false
			waiting := make(map[int]int)
			for i := range b.Queues {
				q := &b.Queues[i]
				for at[i] < len(q.Steps) && !OpInfo(q.Steps[at[i]].Op).Has(ir.Collective) {
					at[i]++
				}
				if at[i] < len(q.Steps) {
					waiting[q.Steps[at[i]].Attrs.Int("channel", -1)]++
				}
			}
			for i := range b.Queues {
				q := &b.Queues[i]
				if at[i] < len(q.Steps) {
					if c := q.Steps[at[i]].Attrs.Int("channel", -1); waiting[c] == len(list[c]) {
						at[i]++
						progress = true
					}
				}
			}
		}
		for i := range b.Queues {
			if q := &b.Queues[i]; at[i] < len(q.Steps) {
				v.fail("%s waits for ever", where(b, q, at[i], &q.Steps[at[i]]))
			}
		}
	})
}

// races looks at what a member of a channel writes while others read.
func (v *verifier) races() {
	v.apart(func(m, other meeting) bool { return m.q.Device != other.q.Device })
}

// scratch looks at what a member writes while it reads itself.
func (v *verifier) scratch() {
	v.apart(func(m, other meeting) bool { return m.q.Device == other.q.Device })
}

// apart checks that results of a channel overlap none of the operands that
// the chosen readers read on the same device.
func (v *verifier) apart(reads func(writer, reader meeting) bool) {
	v.blocks(func(b *blockIndex) {
		_, list := b.meetings()
		for _, steps := range list {
			for _, w := range steps {
				if w.s.Out == "" {
					continue
				}
				out := b.buffer(w.q.Device, w.s.Out)
				for _, r := range steps {
					for _, a := range r.s.Args {
						if !reads(w, r) || a.Device != w.q.Device || a.Kind != BufferRef {
							continue
						}
						if in := b.buffer(a.Device, a.Name); overlap(in, out) {
							v.fail("%s: writes %s over %s, which device %d reads", where(b, w.q, w.at, w.s), w.s.Out, a.Name, r.q.Device)
						}
					}
				}
			}
		}
	})
}

func overlap(a, b *Buffer) bool {
	return a.Device == b.Device && a.Offset < b.Offset+b.Bytes && b.Offset < a.Offset+a.Bytes
}
