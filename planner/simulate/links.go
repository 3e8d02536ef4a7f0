package simulate

import (
	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
)

// phase is a part of what a member of an exchange receives: what comes from
// some devices over one link.
type phase struct {
	round   int // 1: the second of the two rounds of a sum
	level   int // number of the link
	latency int64
	data    int64 // ps, after the latency
	parts   []cost.Part
}

// phases says over which links and for how long a member receives. Their times
// add up to link, which is the price of all of them: cost.Pricer.Exchange says
// how much that is, and this how it is made up. With alone, nobody else uses
// the shared parts of links, and link is not asked.
func (s *Simulator) phases(n *ir.Node, parts []cost.Part, out, link int64, alone bool) []phase {
	list := s.rounds(n.Op.Name, n.Device, parts, out, alone)
	if alone {
		link = s.machine.Correct(n.Op.Name, total(list))
	}
	stretch(list, link)
	return list
}

// rounds lists the phases before measurements correct them. A sum takes two
// rounds if that is faster: first each device that has a part adds up its
// share of the rows, then it sends that to all.
func (s *Simulator) rounds(op string, member int, parts []cost.Part, out int64, alone bool) []phase {
	list := s.receive(0, member, parts, alone)
	if holders := holders(parts); op == "all_reduce" && len(holders) > 2 {
		n := int64(len(holders))
		first, second := make([]cost.Part, len(parts)), make([]cost.Part, n)
		for i, a := range parts {
			first[i] = cost.Part{Device: a.Device, Bytes: (a.Bytes + n - 1) / n}
		}
		for i, d := range holders {
			second[i] = cost.Part{Device: d, Bytes: (out + n - 1) / n}
		}
		two := append(s.receive(0, member, first, alone), s.receive(1, member, second, alone)...)
		if total(two) < total(list) {
			list = two
		}
	}
	return list
}

// receive lists the links over which a device receives parts, one after the
// other.
func (s *Simulator) receive(round, member int, parts []cost.Part, alone bool) []phase {
	var list []phase
	for i := range s.machine.Links {
		l := &s.machine.Links[i]
		p := phase{round: round, level: i}
		var bytes int64
		for _, a := range parts {
			if a.Bytes > 0 && a.Device != member && s.machine.Between(a.Device, member) == i {
				p.parts = merge(p.parts, a)
				bytes += a.Bytes
			}
		}
		if bytes == 0 {
			continue
		}
		users := 1
		if !alone {
			users = sharing(l, member, parts)
		}
		took := l.Time(bytes, users)
		p.latency = min(took, l.Latency.Value)
		p.data = took - p.latency
		list = append(list, p)
	}
	return list
}

// merge adds a part to those of the same device.
func merge(list []cost.Part, a cost.Part) []cost.Part {
	for i := range list {
		if list[i].Device == a.Device {
			list[i].Bytes += a.Bytes
			return list
		}
	}
	return append(list, a)
}

// sharing counts the devices of an exchange that share a part of the link with
// a member, itself included.
func sharing(l *machine.Link, member int, parts []cost.Part) int {
	n := 1
	if l.Shared == nil {
		return n
	}
	for _, d := range holders(parts) {
		if d != member && l.Shared.Run(d) == l.Shared.Run(member) {
			n++
		}
	}
	return n
}

// holders lists the devices that have parts, each once.
func holders(parts []cost.Part) []int {
	var list []int
	seen := make(map[int]bool, len(parts))
	for _, a := range parts {
		if !seen[a.Device] {
			seen[a.Device] = true
			list = append(list, a.Device)
		}
	}
	return list
}

func total(list []phase) int64 {
	var sum int64
	for _, p := range list {
		sum += p.latency + p.data
	}
	return sum
}

// stretch makes times add up to another sum, in proportion.
func stretch(list []phase, sum int64) {
	old := total(list)
	if old == sum || old == 0 {
		return
	}
	var before, done int64
	part := func(t *int64) {
		before += *t
		end := machine.Scale(before, sum, old)
		*t, done = end-done, end
	}
	for i := range list {
		part(&list[i].latency)
		part(&list[i].data)
	}
}

// incoming is what a member of a collective receives.
func (s *Simulator) incoming(p *cost.Pricer, st *step, link int64, alone bool) []phase {
	n := st.node
	bounds := p.Load.Bounds(s.groups)
	parts := make([]cost.Part, len(n.Args))
	for i, a := range n.Args {
		parts[i] = cost.Part{Device: a.Device, Bytes: a.Type.Bytes(bounds)}
	}
	return s.phases(n, parts, n.Type.Bytes(bounds), link, alone)
}
