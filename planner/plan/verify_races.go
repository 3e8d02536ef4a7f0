package plan

import "slices"

// clocks order what devices do, as backends let them: a device does its steps
// one after the other, and the members of a collective meet twice, before they
// read and after they have written. Everything else happens at any time.
//
// A device counts what it does; know[d][e] is how much of what device e did
// happened before what device d does now.
type clocks struct {
	now  []int32   // by device
	know [][]int32 // by device; members of a meeting share one
}

func newClocks(devices int) *clocks {
	c := &clocks{now: make([]int32, devices), know: make([][]int32, devices)}
	none := make([]int32, devices)
	for d := range c.know {
		c.know[d] = none
	}
	return c
}

// meet lets devices know what all of them did.
func (c *clocks) meet(members []int) {
	joined := make([]int32, len(c.now))
	var seen []int32
	for _, d := range members {
		if len(seen) == 0 || &seen[0] != &c.know[d][0] { // most met before
			seen = c.know[d]
			for e, t := range seen {
				joined[e] = max(joined[e], t)
			}
		}
	}
	for _, d := range members {
		joined[d] = c.now[d]
	}
	for _, d := range members {
		c.know[d] = joined
	}
}

// before reports whether what device e did at a time is over when device d
// goes on.
func (c *clocks) before(d, e int, time int32) bool { return d == e || time <= c.know[d][e] }

// access is the last time that a device touched some bytes of an arena.
type access struct {
	buf    *Buffer // which bytes, and of which arena
	device int
	time   int32
	b      *blockIndex
	m      meeting
}

// races follows who touches which bytes of whose arena.
type races struct {
	v      *verifier
	clocks *clocks
	lent   [][]*Buffer // by arena: what others read
	writes [][]access  // by arena: the owner's to what it lends, the last to each piece of bytes
	reads  [][]access  // by arena: others'
}

// races is rule V09. It goes through a program twice: a step of tokens may
// begin on a device while others still do the last blocks of the one before.
func (v *verifier) races() {
	n := len(v.p.Memory)
	for _, prog := range v.progs {
		r := &races{v: v, clocks: newClocks(n), lent: prog.lent(n), writes: make([][]access, n), reads: make([][]access, n)}
		for range 2 {
			r.inputs(prog)
			for _, run := range prog.Runs {
				b := prog.blocks[run.Block]
				for range min(2, run.Layers.Len()) {
					r.block(b)
				}
			}
		}
	}
}

// lent lists the buffers of each device that others read, those of the same
// bytes once.
func (prog *progIndex) lent(devices int) [][]*Buffer {
	type place struct {
		device        int
		offset, bytes int64
	}
	seen := make(map[place]bool)
	list := make([][]*Buffer, devices)
	for i := range prog.Blocks {
		b := prog.blocks[prog.Blocks[i].Name]
		b.steps(func(q *Queue, _ int, s *Step) {
			for _, a := range s.Args {
				if a.Kind != BufferRef || a.Device == q.Device {
					continue
				}
				buf := b.buffer(a.Device, a.Name)
				if at := (place{a.Device, buf.Offset, buf.Bytes}); !seen[at] {
					seen[at] = true
					list[a.Device] = append(list[a.Device], buf)
				}
			}
		})
	}
	return list
}

// inputs is the host filling the lists of every device.
func (r *races) inputs(prog *progIndex) {
	for i := range prog.Buffers {
		if buf := &prog.Buffers[i]; isInput(buf.Name) {
			r.clocks.now[buf.Device]++
			r.write(nil, meeting{}, buf)
		}
	}
}

func (r *races) block(b *blockIndex) {
	walker{b, func(q *Queue, at int) {
		r.clocks.now[q.Device]++
		r.step(b, meeting{q, at, &q.Steps[at]})
	}, func(list []meeting) {
		var members []int
		for _, m := range list {
			members = append(members, m.q.Device)
		}
		r.clocks.meet(members)
		for _, m := range list {
			r.clocks.now[m.q.Device]++
		}
		for _, m := range list {
			r.step(b, m)
		}
		r.clocks.meet(members)
	}}.walk()
}

// step looks at what a step reads of other devices and at what it writes.
func (r *races) step(b *blockIndex, m meeting) {
	for _, a := range m.s.Args {
		if a.Kind == BufferRef && a.Device != m.q.Device {
			r.read(b, m, b.buffer(a.Device, a.Name))
		}
	}
	for i := range m.s.Body {
		r.step(b, meeting{m.q, m.at, &m.s.Body[i]})
	}
	if m.s.Out != "" && len(m.s.Body) == 0 {
		r.write(b, m, b.buffer(m.q.Device, m.s.Out))
	}
}

func (r *races) read(b *blockIndex, m meeting, buf *Buffer) {
	d := m.q.Device
	for _, w := range r.writes[buf.Device] {
		if overlap(w.buf, buf) && !r.clocks.before(d, w.device, w.time) {
			r.v.fail("%s: reads %s of device %d while %s", where(b, m.q, m.at, m.s), buf.Name, buf.Device, w.text("writes"))
		}
	}
	r.reads[buf.Device] = latest(r.reads[buf.Device], access{buf, d, r.clocks.now[d], b, m})
}

func (r *races) write(b *blockIndex, m meeting, buf *Buffer) {
	d := buf.Device
	if !slices.ContainsFunc(r.lent[d], func(o *Buffer) bool { return overlap(o, buf) }) {
		return
	}
	at := access{buf, d, r.clocks.now[d], b, m}
	for _, a := range r.reads[d] {
		if overlap(a.buf, buf) && !r.clocks.before(d, a.device, a.time) {
			r.v.fail("%s over %s, which %s", at.text("writes"), a.buf.Name, a.text("reads"))
		}
	}
	r.writes[d] = latest(r.writes[d], at)
}

// latest puts an access in the place of the last one to the same bytes by the
// same device.
func latest(list []access, a access) []access {
	for i := range list {
		if l := &list[i]; l.device == a.device && l.buf.Offset == a.buf.Offset && l.buf.Bytes == a.buf.Bytes {
			*l = a
			return list
		}
	}
	return append(list, a)
}

// text says who does what for messages.
func (a access) text(does string) string {
	if a.b == nil {
		return "the next step's " + a.buf.Name + " are filled in"
	}
	return where(a.b, a.m.q, a.m.at, a.m.s) + " " + does + " " + a.buf.Name
}
