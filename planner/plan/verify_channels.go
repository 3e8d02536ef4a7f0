package plan

import (
	"cmp"
	"slices"

	"gonum.org/v1/gonum/graph"
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

// meetings are the steps of each channel of a block.
type meetings struct {
	channels []int // in order of first appearance
	steps    map[int][]meeting
}

// meetings lists the steps of each channel, by device.
func (b *blockIndex) meetings() *meetings {
	if b.meets != nil {
		return b.meets
	}
	m := &meetings{steps: make(map[int][]meeting)}
	for i := range b.Queues {
		q := &b.Queues[i]
		for at := range q.Steps {
			s := &q.Steps[at]
			if !s.collective() {
				continue
			}
			c := s.channel()
			if m.steps[c] == nil {
				m.channels = append(m.channels, c)
			}
			m.steps[c] = append(m.steps[c], meeting{q, at, s})
		}
	}
	b.meets = m
	return m
}

func (s *Step) channel() int { return s.Attrs.Int("channel", -1) }

// collectives calls f with every channel of every block.
func (v *verifier) collectives(f func(b *blockIndex, channel int, steps []meeting)) {
	v.blocks(func(b *blockIndex) {
		m := b.meetings()
		for _, c := range m.channels {
			f(b, c, m.steps[c])
		}
	})
}

func sameRef(a, b Ref) bool {
	return a.Kind == b.Kind && a.Name == b.Name && a.Device == b.Device && a.Type.Equal(b.Type)
}

// peers is rule V21: what is another device's is read where its owner can send
// it.
func (v *verifier) peers() {
	v.blocks(func(b *blockIndex) {
		b.steps(func(q *Queue, at int, s *Step) {
			for _, a := range s.Args {
				if a.Device == q.Device {
					continue
				}
				if !s.collective() {
					v.fail("%s: reads %s of device %d outside a collective", where(b, q, at, s), a.Name, a.Device)
				} else if !slices.ContainsFunc(b.meetings().steps[s.channel()], func(m meeting) bool { return m.q.Device == a.Device }) {
					v.fail("%s: reads %s of device %d, which takes no part in channel %d", where(b, q, at, s), a.Name, a.Device, s.channel())
				}
			}
		})
	})
}

// members is rule V05.
func (v *verifier) members() {
	v.collectives(v.agree)
	v.blocks(func(b *blockIndex) {
		b.steps(func(q *Queue, at int, s *Step) {
			for _, a := range s.Args {
				if a.Kind != BufferRef && s.collective() {
					v.fail("%s: reads %s, which is no buffer, in a collective", where(b, q, at, s), a.Name)
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
	own := make(map[int][]Ref) // operands by device
	for _, a := range first.s.Args {
		own[a.Device] = append(own[a.Device], a)
	}
	for _, m := range list {
		if m.s.Op == "send" {
			if len(m.s.Args) == 0 || !slices.EqualFunc(m.s.Args, own[m.q.Device], sameRef) {
				v.fail("%s: sends other operands than the readers of channel %d take", where(b, m.q, m.at, m.s), c)
			}
			continue
		}
		if m.s.Op != first.s.Op || !slices.EqualFunc(m.s.Args, first.s.Args, sameRef) || !sameAttrs(m.s.Attrs, first.s.Attrs) {
			v.fail("%s: differs from %s in op, operands or attributes", where(b, m.q, m.at, m.s), where(b, first.q, first.at, first.s))
		}
	}
}

func sameAttrs(a, b ir.Attrs) bool {
	return slices.EqualFunc(a, b, func(x, y ir.Attr) bool {
		one, errOne := writeAttr(x.Value)
		two, errTwo := writeAttr(y.Value)
		return x.Name == y.Name && errOne == nil && errTwo == nil && slices.Equal(one, two)
	})
}

// channels is rule V07. A device may add up parts that are all its own: then
// nobody else wants the sum.
func (v *verifier) channels() {
	v.collectives(func(b *blockIndex, c int, steps []meeting) {
		seen := make(map[int]bool)
		for _, m := range steps {
			if seen[m.q.Device] {
				v.fail("%s: channel %d has two steps on device %d", b.Name, c, m.q.Device)
			}
			seen[m.q.Device] = true
		}
		foreign := func(a Ref) bool { return a.Device != steps[0].q.Device }
		if len(seen) < 2 && slices.ContainsFunc(steps[0].s.Args, foreign) {
			v.fail("%s: channel %d has one member, on device %d", b.Name, c, steps[0].q.Device)
		}
	})
}

// channelOrder is rule V06.
func (v *verifier) channelOrder() {
	v.blocks(func(b *blockIndex) {
		for i := range b.Queues {
			places := make(map[int]int) // channel to place in queue i
			for at := range b.Queues[i].Steps {
				if s := &b.Queues[i].Steps[at]; s.collective() {
					places[s.channel()] = at
				}
			}
			for j := range i {
				v.sameOrder(b, &b.Queues[i], &b.Queues[j], places)
			}
		}
	})
}

// sameOrder compares the order of a queue with the places of its channels in
// another.
func (v *verifier) sameOrder(b *blockIndex, other, q *Queue, places map[int]int) {
	last, lastChannel := -1, -1
	for i := range q.Steps {
		s := &q.Steps[i]
		if !s.collective() {
			continue
		}
		at, both := places[s.channel()]
		if both && at < last {
			v.fail("%s: devices %d and %d meet channels %d and %d in different orders", b.Name, q.Device, other.Device, lastChannel, s.channel())
		}
		if both {
			last, lastChannel = at, s.channel()
		}
	}
}

// acyclic is rule V02: the steps of each block can be sorted, those of a
// channel taken as one.
func (v *verifier) acyclic() {
	v.blocks(func(b *blockIndex) {
		g := simple.NewDirectedGraph()
		next := int64(maxNumber) + 1 // channels have their own number
		for i := range b.Queues {
			last := int64(-1)
			for k := range b.Queues[i].Steps {
				id := next
				next++
				if s := &b.Queues[i].Steps[k]; s.collective() {
					id = int64(s.channel())
				}
				if g.Node(id) == nil {
					g.AddNode(simple.Node(id))
				}
				if last == id {
					v.fail("%s: device %d meets channel %d twice in a row", b.Name, b.Queues[i].Device, id)
				} else if last >= 0 {
					g.SetEdge(g.NewEdge(simple.Node(last), simple.Node(id)))
				}
				last = id
			}
		}
		byID := func(nodes []graph.Node) {
			slices.SortFunc(nodes, func(a, b graph.Node) int { return cmp.Compare(a.ID(), b.ID()) })
		}
		if _, err := topo.SortStabilized(g, byID); err != nil {
			v.fail("%s: %v", b.Name, err)
		}
	})
}

// walker goes through the queues of a block side by side, as a backend does:
// a device goes on until it meets a collective, and then waits for all others
// of its channel.
type walker struct {
	b    *blockIndex
	step func(q *Queue, at int) // a step of one device alone
	meet func(list []meeting)   // all members of a channel together
}

// walk returns the steps that wait for ever.
func (w walker) walk() []meeting {
	m := w.b.meetings()
	at := make([]int, len(w.b.Queues))
	waiting := make(map[int][]int) // channel to queues
	advance := func(i int) {
		q := &w.b.Queues[i]
		for ; at[i] < len(q.Steps); at[i]++ {
			if s := &q.Steps[at[i]]; s.collective() {
				waiting[s.channel()] = append(waiting[s.channel()], i)
				return
			}
			w.step(q, at[i])
		}
	}
	for i := range at {
		advance(i)
	}
	for progress := true; progress; {
		progress = false
		for _, c := range m.channels {
			there := waiting[c]
			if len(there) < len(m.steps[c]) || len(there) == 0 {
				continue
			}
			w.meet(m.steps[c])
			delete(waiting, c)
			for _, i := range there {
				at[i]++
				advance(i)
			}
			progress = true
		}
	}
	var stuck []meeting
	for i := range at {
		if q := &w.b.Queues[i]; at[i] < len(q.Steps) {
			stuck = append(stuck, meeting{q, at[i], &q.Steps[at[i]]})
		}
	}
	return stuck
}

// deadlock is rule V08.
func (v *verifier) deadlock() {
	v.blocks(func(b *blockIndex) {
		w := walker{b, func(*Queue, int) {}, func([]meeting) {}}
		for _, m := range w.walk() {
			v.fail("%s waits for ever", where(b, m.q, m.at, m.s))
		}
	})
}

// scratch is rule V22.
func (v *verifier) scratch() {
	v.blocks(func(b *blockIndex) {
		b.steps(func(q *Queue, at int, s *Step) {
			if s.Out == "" {
				return
			}
			out := b.buffer(q.Device, s.Out)
			for _, a := range s.Args {
				if a.Kind != BufferRef || a.Device != q.Device {
					continue
				}
				in := b.buffer(a.Device, a.Name)
				inPlace := in == out && OpInfo(s.Op).Has(ir.Elementwise) && !a.retyped(in)
				if overlap(in, out) && !inPlace {
					v.fail("%s: writes %s over its operand %s", where(b, q, at, s), s.Out, a.Name)
				}
			}
		})
	})
}

// retyped reports whether an operand is read under other extents than its
// buffer's.
func (r Ref) retyped(b *Buffer) bool { return r.Type.DType != 0 && !r.Type.Equal(b.Type) }

// overlap reports whether two buffers of a device share bytes.
func overlap(a, b *Buffer) bool {
	return a.Device == b.Device && a.Offset < b.Offset+b.Bytes && b.Offset < a.Offset+a.Bytes
}
