package simulate

import (
	"cmp"
	"fmt"
	"slices"

	"moec/ir/machine"
)

// network is the ports and shared parts of links that transfers take turns on.
type network struct {
	machine *machine.Machine
	in, out [][]*port // by link, then device
	// Shared parts, by link, then run of devices; nil for links without.
	sharedIn, sharedOut [][]*port
}

// port is one direction of a device's port, or of a shared part.
type port struct {
	lane  Lane
	free  int64
	queue []*flow // of an incoming port: transfers that have something to send
}

// flow is a transfer from one device to another, for one phase of an exchange.
type flow struct {
	part     *part
	src, dst int
	round    int
	level    int
	bytes    int64
	time     int64 // that all of it takes on a port
	segments int64
	sent     int64 // segments that are there
	since    int64 // when the next one could go
	shift    int   // how far apart the devices stand in the exchange
}

func (n *network) init(s *Simulator) {
	n.machine = s.machine
	for i := range s.machine.Links {
		l := &s.machine.Links[i]
		var in, out, sharedIn, sharedOut []*port
		for d := range s.plan.Memory {
			in = append(in, &port{lane: Lane{Name: fmt.Sprintf("%s into device %d", l.Kind, d), Level: i, Device: d}})
			out = append(out, &port{lane: Lane{Name: fmt.Sprintf("%s out of device %d", l.Kind, d), Level: i, Device: d, Out: true}})
			if l.Shared != nil && d%l.Shared.Devices == 0 {
				sharedIn = append(sharedIn, &port{lane: Lane{Name: fmt.Sprintf("%s into devices from %d", l.Shared.Kind, d), Level: i, Device: d, Shared: true}})
				sharedOut = append(sharedOut, &port{lane: Lane{Name: fmt.Sprintf("%s out of devices from %d", l.Shared.Kind, d), Level: i, Device: d, Shared: true, Out: true}})
			}
		}
		n.in, n.out = append(n.in, in), append(n.out, out)
		n.sharedIn, n.sharedOut = append(n.sharedIn, sharedIn), append(n.sharedOut, sharedOut)
	}
}

// alone notes what a member receives when nobody gets in its way.
func (n *network) alone(e *engine, p *part, at int64, phases []phase) {
	for _, ph := range phases {
		at += ph.latency
		from, bytes := -1, int64(0)
		for _, a := range ph.parts {
			bytes += a.Bytes
		}
		if len(ph.parts) == 1 {
			from = ph.parts[0].Device
		}
		n.in[ph.level][p.device.id].add(e.transfer(p, from, at, at+ph.data, bytes))
		at += ph.data
	}
}

func (e *engine) transfer(p *part, from int, start, end, bytes int64) Transfer {
	t := e.prog.turns[p.turn]
	return Transfer{From: from, To: p.device.id, Op: p.step.op, Block: t.block.Name, Layer: t.layer, Start: start, End: end, Bytes: bytes, exchange: p.number}
}

// add notes a transfer; segments of one that follow each other are one.
func (p *port) add(t Transfer) {
	p.lane.Busy += t.End - t.Start
	p.lane.Bytes += t.Bytes
	if n := len(p.lane.Spans); n > 0 {
		last := &p.lane.Spans[n-1]
		if last.exchange == t.exchange && last.From == t.From && last.To == t.To && last.End == t.Start {
			last.End = t.End
			last.Bytes += t.Bytes
			return
		}
	}
	p.lane.Spans = append(p.lane.Spans, t)
}

// lanes lists those that were used.
func (n *network) lanes() []Lane {
	var list []Lane
	for i := range n.in {
		for _, ports := range [][]*port{n.in[i], n.out[i], n.sharedIn[i], n.sharedOut[i]} {
			for _, p := range ports {
				if len(p.lane.Spans) > 0 {
					slices.SortStableFunc(p.lane.Spans, func(a, b Transfer) int { return cmp.Compare(a.Start, b.Start) })
					list = append(list, p.lane)
				}
			}
		}
	}
	return list
}

// received lets a member go on to its next phase, or end its part.
func (e *engine) received(p *part) {
	if len(p.phases) == 0 {
		c := e.prices[p.turn][p.step.index]
		c.Link = e.now - p.start - c.Launch
		e.release(p)
		e.finish(p, c)
		return
	}
	if p.phases[0].round > 0 {
		e.release(p)
	}
	e.push(event{time: e.now + p.phases[0].latency, kind: ready, part: p})
}

// ready lets the transfers of a phase begin. In the second round of a sum a
// device sends what it has added up in the first.
func (e *engine) ready(p *part) {
	ph := &p.phases[0]
	list := p.flows(ph, e.options.SegmentBytes)
	p.open = len(list)
	for _, f := range list {
		if f.round > 0 && p.sender(f.src).adding() {
			p.exchange.parked = append(p.exchange.parked, f)
			continue
		}
		e.offer(f)
	}
}

// sender returns a device's part in the exchange.
func (ex *exchange) sender(device int) *part {
	i := slices.IndexFunc(ex.parts, func(p *part) bool { return p.device.id == device })
	return ex.parts[i]
}

// adding reports whether a member is in the first of two rounds.
func (p *part) adding() bool {
	n := len(p.phases)
	return n > 0 && p.phases[0].round == 0 && p.phases[n-1].round > 0
}

// release lets transfers begin that waited for a device's first round.
func (e *engine) release(p *part) {
	ex := p.exchange
	ex.parked = slices.DeleteFunc(ex.parked, func(f *flow) bool {
		if f.src == p.device.id {
			e.offer(f)
		}
		return f.src == p.device.id
	})
}

// offer puts a transfer in the queue of its port.
func (e *engine) offer(f *flow) {
	f.since = e.now
	in := e.net.in[f.level][f.dst]
	in.queue = append(in.queue, f)
}

// flows cuts a phase into transfers: each sender's share of the bytes takes its
// share of the time. Devices that stand the same distance apart come in the
// same order everywhere, so that all can send and receive at once.
func (p *part) flows(ph *phase, segment int64) []*flow {
	rank := func(device int) int {
		return slices.IndexFunc(p.exchange.parts, func(o *part) bool { return o.device.id == device })
	}
	own, n := rank(p.device.id), len(p.exchange.parts)
	list := make([]*flow, len(ph.parts))
	var all int64
	for i, a := range ph.parts {
		list[i] = &flow{part: p, src: a.Device, dst: p.device.id, round: ph.round, level: ph.level, bytes: a.Bytes, segments: (a.Bytes + segment - 1) / segment,
			shift: (own - rank(a.Device) + n) % n}
		all += a.Bytes
	}
	slices.SortFunc(list, func(a, b *flow) int { return a.shift - b.shift })
	var bytes, done int64
	for _, f := range list {
		bytes += f.bytes
		end := machine.Scale(ph.data, bytes, all)
		f.time, done = end-done, end
	}
	return list
}

// arrived notes that a segment is there.
func (e *engine) arrived(f *flow) {
	if f.sent++; f.sent < f.segments {
		e.offer(f)
		return
	}
	p := f.part
	if p.open--; p.open == 0 {
		p.phases = p.phases[1:]
		e.push(event{time: e.now, kind: received, part: p})
	}
}

// arbitrate starts the segments that can go now, first those that have waited
// longest. A segment takes both ports, and shared parts, for as long as its
// bytes need there.
func (e *engine) arbitrate() {
	var list []*flow
	for _, ports := range e.net.in {
		for _, p := range ports {
			if p.free > e.now {
				continue
			}
			for _, f := range p.queue {
				if e.net.out[f.level][f.src].free <= e.now {
					list = append(list, f)
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b *flow) int {
		return cmp.Or(cmp.Compare(a.since, b.since), a.shift-b.shift, a.dst-b.dst, a.src-b.src, a.part.number-b.part.number)
	})
	for _, f := range list {
		uses := e.net.uses(f)
		if !slices.ContainsFunc(uses, func(u use) bool { return u.port.free > e.now }) {
			e.send(f, uses)
		}
	}
}

// use is what a segment needs of a port.
type use struct {
	port *port
	time int64
}

// uses lists what the next segment of a transfer needs.
func (n *network) uses(f *flow) []use {
	bytes, time := f.segment(f.bytes), f.segment(f.time)
	list := []use{{n.in[f.level][f.dst], time}, {n.out[f.level][f.src], time}}
	if s := n.machine.Links[f.level].Shared; s != nil {
		time := machine.PS(bytes, s.Bandwidth.Value)
		list = append(list, use{n.sharedIn[f.level][s.Run(f.dst)], time}, use{n.sharedOut[f.level][s.Run(f.src)], time})
	}
	return list
}

// segment is the next segment's share of an amount.
func (f *flow) segment(amount int64) int64 {
	return machine.Scale(amount, f.sent+1, f.segments) - machine.Scale(amount, f.sent, f.segments)
}

// send starts a segment.
func (e *engine) send(f *flow, uses []use) {
	bytes := f.segment(f.bytes)
	var last int64
	for _, u := range uses {
		u.port.free = e.now + u.time
		u.port.add(e.transfer(f.part, f.src, e.now, e.now+u.time, bytes))
		last = max(last, u.time)
	}
	for _, u := range uses {
		if u.time < last {
			e.push(event{time: e.now + u.time, kind: freed})
		}
	}
	in := uses[0].port
	in.queue = slices.DeleteFunc(in.queue, func(o *flow) bool { return o == f })
	e.push(event{time: e.now + last, kind: arrived, flow: f})
}
