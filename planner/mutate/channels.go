package mutate

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/planner/plan"
)

// channelMutations damage what devices do together.
var channelMutations = []Mutation{
	{"a send is dropped", "V21", func(e *editor) (string, bool) { return e.drop(op("send")) }},
	{"a member is dropped", "V21", func(e *editor) (string, bool) {
		return e.drop(func(s site) bool { return collective(s) && s.Op != "send" })
	}},
	{"a send sends another value", "V05", func(e *editor) (string, bool) {
		s, ok := e.site(op("send"))
		if !ok {
			return "", false
		}
		b, ok := pick(e, e.seen(s))
		if !ok {
			return "", false
		}
		s.Args[e.rng.IntN(len(s.Args))].Name = b.Name
		return fmt.Sprint(s, ": ", b), true
	}},
	{"a send sends nothing, or more", "V05", func(e *editor) (string, bool) {
		s, ok := e.site(op("send"))
		if !ok {
			return "", false
		}
		s.Args = some(e, nil, append(s.Args, s.Args[0]))
		return fmt.Sprint(s), true
	}},
	{"a member reads another value", "V05", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return collective(s) && len(e.members(s)) > 1 })
		if !ok {
			return "", false
		}
		a := &s.Args[e.rng.IntN(len(s.Args))]
		b, ok := pick(e, e.alike(s, a.Device, a.Name))
		if !ok {
			return "", false
		}
		a.Name = b.Name
		return fmt.Sprint(s, ": ", b), true
	}},
	{"a member reads another device", "V05", func(e *editor) (string, bool) {
		s, ok := e.site(collective)
		if !ok || len(e.Memory) < 2 {
			return "", false
		}
		a := &s.Args[e.rng.IntN(len(s.Args))]
		a.Device = (a.Device + 1 + e.rng.IntN(len(e.Memory)-1)) % len(e.Memory)
		if b, ok := pick(e, e.buffers(func(p place) bool { return p.block == s.block && p.Device == a.Device })); ok {
			a.Name = b.Name
		}
		return fmt.Sprint(s, ": ", a.Name, " of device ", a.Device), true
	}},
	{"a member exchanges operands", "V05", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return collective(s) && len(s.Args) > 1 && len(e.members(s)) > 1 })
		if !ok {
			return "", false
		}
		a, b, _ := two(e, pointers(s.Args))
		*a, *b = *b, *a
		return fmt.Sprint(s), true
	}},
	{"a member lacks an operand", "V05", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return collective(s) && len(s.Args) > 1 })
		if !ok {
			return "", false
		}
		i := e.rng.IntN(len(s.Args))
		s.Args = slices.Delete(s.Args, i, i+1)
		return fmt.Sprint(s), true
	}},
	{"a member has other attributes", "V05", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return collective(s) && s.Op != "send" && len(s.Attrs) > 1 && len(e.members(s)) > 1 })
		if !ok {
			return "", false
		}
		i := e.rng.IntN(len(s.Attrs))
		if s.Attrs[i].Name == "channel" {
			return "", false
		}
		s.Attrs[i].Value = e.other(s.Attrs[i].Value)
		return fmt.Sprint(s, ": ", s.Attrs[i].Name), true
	}},
	{"a member does something else", "V05", func(e *editor) (string, bool) {
		s, ok := e.site(collective)
		if !ok {
			return "", false
		}
		was := s.Op
		c := ir.Attr{Name: "channel", Value: s.channel()}
		switch s.Op = some(e, "all_reduce", "all_gather", "transfer", "send"); s.Op {
		case "all_gather":
			s.Attrs = ir.MakeAttrs(c, ir.Attr{Name: "axis", Value: 0})
		case "transfer", "send":
			s.Attrs = ir.MakeAttrs(c)
		}
		return fmt.Sprint(s, " was ", was), was != s.Op
	}},
	{"a member reads an operand under other extents", "V05", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return collective(s) && len(e.members(s)) > 1 })
		if !ok {
			return "", false
		}
		a := &s.Args[e.rng.IntN(len(s.Args))]
		b, ok := e.find(s, a.Device, a.Name)
		if !ok {
			return "", false
		}
		if a.Type.DType == 0 {
			a.Type = cloneBuffer(*b.Buffer).Type
		} else {
			a.Type = plan.Ref{}.Type
		}
		return fmt.Sprint(s, ": ", a.Name), true
	}},
	{"a value of another device is read without a collective", "V21", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return !collective(s) && len(s.refs(plan.BufferRef)) > 0 })
		if !ok || len(e.Memory) < 2 {
			return "", false
		}
		a, _ := pick(e, s.refs(plan.BufferRef))
		mine, found := e.find(s, a.Device, a.Name)
		b, ok := pick(e, e.buffers(func(p place) bool {
			return found && p.prog == s.prog && (p.block == nil || p.block == s.block) && p.Device != s.queue.Device && p.Type.Equal(mine.Type)
		}))
		if !ok {
			return "", false
		}
		a.Device, a.Name = b.Device, b.Name
		return fmt.Sprint(s, ": ", b), true
	}},
	{"a collective is a copy", "V21", func(e *editor) (string, bool) {
		s, ok := e.site(op("transfer", "all_reduce", "all_gather"))
		if !ok {
			return "", false
		}
		a, _ := pick(e, s.Args)
		*s.Step = plan.Step{Op: "copy", Out: s.Out, Args: []plan.Ref{a}}
		return fmt.Sprint(s), true
	}},
	{"a member comes twice", "V07", func(e *editor) (string, bool) {
		s, ok := e.site(collective)
		if !ok {
			return "", false
		}
		to := s.at + e.rng.IntN(len(s.queue.Steps)-s.at)
		s.queue.Steps = slices.Insert(s.queue.Steps, to, cloneStep(*s.Step))
		return fmt.Sprint(s, " also before ", to), true
	}},
	{"a member is alone on a channel", "V07", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return collective(s) && len(e.members(s)) > 1 })
		if !ok {
			return "", false
		}
		s.Attrs = s.Attrs.With("channel", 1<<20)
		return fmt.Sprint(s), true
	}},
	{"a member is on another channel", "V07", func(e *editor) (string, bool) {
		s, ok := e.site(collective)
		if !ok {
			return "", false
		}
		o, ok := e.site(func(o site) bool { return collective(o) && o.block == s.block && o.channel() != s.channel() })
		if !ok {
			return "", false
		}
		s.Attrs = s.Attrs.With("channel", o.channel())
		return fmt.Sprint(s, " as ", o), true
	}},
	{"two collectives have one number", "V07", func(e *editor) (string, bool) {
		s, ok := e.site(collective)
		if !ok {
			return "", false
		}
		o, ok := e.site(func(o site) bool { return collective(o) && o.block == s.block && o.channel() != s.channel() })
		if !ok {
			return "", false
		}
		for _, m := range e.members(s) {
			m.Attrs = m.Attrs.With("channel", o.channel())
		}
		return fmt.Sprint(s, " as ", o), true
	}},
	{"collectives are renumbered everywhere", "V07", func(e *editor) (string, bool) {
		s, ok := e.site(collective)
		if !ok {
			return "", false
		}
		for _, m := range e.members(s) {
			m.Attrs = m.Attrs.With("channel", 1<<20)
		}
		return fmt.Sprint(s), true
	}},
	{"channel numbers are exchanged on one device", "V06", func(e *editor) (string, bool) {
		a, b, ok := e.pair()
		if !ok {
			return "", false
		}
		x, y := a.channel(), b.channel()
		a.Attrs, b.Attrs = a.Attrs.With("channel", y), b.Attrs.With("channel", x)
		return fmt.Sprint(a, " and ", b), true
	}},
	{"two collectives are exchanged on one device", "V06", func(e *editor) (string, bool) {
		a, b, ok := e.pair()
		if !ok {
			return "", false
		}
		*a.Step, *b.Step = *b.Step, *a.Step
		return fmt.Sprint(a, " and ", b), true
	}},
	{"two collectives are exchanged on all devices", "V04", func(e *editor) (string, bool) {
		a, b, ok := e.pair()
		if !ok {
			return "", false
		}
		x, y := a.channel(), b.channel()
		for i := range a.block.Queues {
			q := &a.block.Queues[i]
			at := func(c int) int {
				return slices.IndexFunc(q.Steps, func(s plan.Step) bool { return s.Attrs.Int("channel", -1) == c })
			}
			if i, j := at(x), at(y); i >= 0 && j >= 0 {
				q.Steps[i], q.Steps[j] = q.Steps[j], q.Steps[i]
			}
		}
		return fmt.Sprint(a, " and ", b), true
	}},
	{"a member is early or late", "V04", func(e *editor) (string, bool) {
		s, ok := e.site(collective)
		if !ok {
			return "", false
		}
		what := fmt.Sprint(s)
		to := e.rng.IntN(len(s.queue.Steps))
		e.move(s, to)
		return fmt.Sprint(what, " to ", to), true
	}},
	{"a collective is met twice in a row", "V02", func(e *editor) (string, bool) {
		s, ok := e.site(collective)
		if !ok {
			return "", false
		}
		s.queue.Steps = slices.Insert(s.queue.Steps, s.at, cloneStep(*s.Step))
		return fmt.Sprint(s), true
	}},
	{"devices meet two collectives in opposite orders", "V02", func(e *editor) (string, bool) {
		a, b, ok := e.pair()
		if !ok {
			return "", false
		}
		if a.at > b.at {
			a, b = b, a
		}
		step := *a.Step // behind the other
		a.queue.Steps = slices.Insert(slices.Delete(a.queue.Steps, a.at, a.at+1), b.at, step)
		return fmt.Sprintf("%s: device %d: steps %d and %d", a.block.Name, a.queue.Device, a.at, b.at), true
	}},
	{"devices wait for each other in a circle", "V08", func(e *editor) (string, bool) { return e.circle() }},
	{"a device has no queue in a block", "V03", func(e *editor) (string, bool) {
		s, ok := e.site(nil)
		if !ok {
			return "", false
		}
		what := fmt.Sprint(s)
		s.block.Queues = slices.DeleteFunc(s.block.Queues, func(q plan.Queue) bool { return q.Device == s.queue.Device })
		return what, true
	}},
	{"a collective is left out everywhere", "V15", func(e *editor) (string, bool) {
		s, ok := e.site(collective)
		if !ok {
			return "", false
		}
		what, c := fmt.Sprint(s), s.channel()
		for i := range s.block.Queues {
			q := &s.block.Queues[i]
			q.Steps = slices.DeleteFunc(q.Steps, func(s plan.Step) bool { return s.Attrs.Int("channel", -1) == c })
		}
		return what, true
	}},
	{"every member reads another value", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(collective)
		if !ok {
			return "", false
		}
		old := s.Args[e.rng.IntN(len(s.Args))]
		b, ok := pick(e, e.alike(s, old.Device, old.Name))
		if !ok {
			return "", false
		}
		for _, m := range e.members(s) {
			for _, a := range pointers(m.Args) {
				if a.Name == old.Name && a.Device == old.Device {
					a.Name = b.Name
				}
			}
		}
		return fmt.Sprint(s, ": ", b, " for ", old.Name), true
	}},
	{"every member exchanges operands", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return collective(s) && s.Op != "send" && len(s.Args) > 1 })
		if !ok {
			return "", false
		}
		i, j := e.rng.IntN(len(s.Args)), e.rng.IntN(len(s.Args))
		for _, m := range e.members(s) {
			if m.Op != "send" && max(i, j) < len(m.Args) {
				m.Args[i], m.Args[j] = m.Args[j], m.Args[i]
			}
		}
		return fmt.Sprint(s, ": ", i, " and ", j), true
	}},
}

// drop removes a step that fits.
func (e *editor) drop(fits func(site) bool) (string, bool) {
	s, ok := e.site(fits)
	if !ok {
		return "", false
	}
	what := fmt.Sprint(s)
	l := s.list()
	*l = slices.Delete(*l, s.index(), s.index()+1)
	return what, true
}

// move puts a step elsewhere in its list.
func (e *editor) move(s site, to int) {
	l, step := s.list(), *s.Step
	*l = slices.Insert(slices.Delete(*l, s.index(), s.index()+1), to, step)
}

// pair returns two collectives of one queue.
func (e *editor) pair() (a, b site, ok bool) {
	a, ok = e.site(collective)
	if !ok {
		return a, b, false
	}
	b, ok = e.site(func(s site) bool { return collective(s) && s.queue == a.queue && s.channel() != a.channel() })
	return a, b, ok
}

// circle adds transfers of a program's input around a ring of the devices of a
// block, each of which comes before the send that the next one waits for.
func (e *editor) circle() (string, bool) {
	s, ok := e.site(func(s site) bool { return len(s.block.Queues) > 1 })
	if !ok {
		return "", false
	}
	queues := pointers(s.block.Queues)
	n := 2 + e.rng.IntN(len(queues)-1)
	values := make([]place, n)
	for i := range n {
		values[i], ok = pick(e, e.buffers(func(p place) bool { return p.prog == s.prog && p.block == nil && p.Device == queues[i].Device }))
		if !ok {
			return "", false
		}
	}
	for i := range n {
		next := (i + 1) % n
		channel := ir.MakeAttrs(ir.Attr{Name: "channel", Value: 1<<20 + i})
		args := []plan.Ref{{Kind: plan.BufferRef, Name: values[i].Name, Device: values[i].Device}}
		out := plan.Buffer{Name: fmt.Sprint("ring", next), Device: queues[next].Device, Type: values[i].Type, Bytes: values[i].Bytes, Offset: e.Memory[queues[next].Device].Total}
		s.block.Buffers = append(s.block.Buffers, out)
		m := &e.Memory[out.Device]
		m.Buffers += out.Bytes
		m.Total += out.Bytes
		queues[next].Steps = slices.Insert(queues[next].Steps, 0, plan.Step{Op: "transfer", Out: out.Name, Args: args, Attrs: channel})
		queues[i].Steps = append(queues[i].Steps, plan.Step{Op: "send", Args: args, Attrs: channel})
	}
	return fmt.Sprintf("%s: %d devices", s.block.Name, n), true
}
