package mutate

import (
	"fmt"
	"math/rand/v2"

	"moec/planner/plan"
)

// editor is a plan that is being damaged, and what chooses where.
type editor struct {
	*plan.Plan
	rng *rand.Rand
}

// pick returns one of a list, and whether there is any.
func pick[T any](e *editor, list []T) (one T, ok bool) {
	if len(list) == 0 {
		return one, false
	}
	return list[e.rng.IntN(len(list))], true
}

// two returns two different members of a list.
func two[T any](e *editor, list []T) (a, b T, ok bool) {
	if len(list) < 2 {
		return a, b, false
	}
	i := e.rng.IntN(len(list))
	j := (i + 1 + e.rng.IntN(len(list)-1)) % len(list)
	return list[i], list[j], true
}

// some returns one of the values given.
func some[T any](e *editor, list ...T) T { return list[e.rng.IntN(len(list))] }

// site is a place of a step: in a queue, or in the body of one there.
type site struct {
	prog  *plan.Program
	block *plan.Block
	queue *plan.Queue
	at    int // index into the queue
	inner int // index into the body, -1 for the step itself
	*plan.Step
}

func (s site) String() string {
	text := fmt.Sprintf("%s: device %d: step %d (%s)", s.block.Name, s.queue.Device, s.at, s.Op)
	if s.inner >= 0 {
		text += fmt.Sprintf(" of the body, %d", s.inner)
	}
	return text
}

// list returns the list that the step is a member of.
func (s site) list() *[]plan.Step {
	if s.inner >= 0 {
		return &s.queue.Steps[s.at].Body
	}
	return &s.queue.Steps
}

// index returns the step's place in its list.
func (s site) index() int {
	if s.inner >= 0 {
		return s.inner
	}
	return s.at
}

// sites lists the steps that fit; nil takes all.
func (e *editor) sites(fits func(site) bool) []site {
	var list []site
	add := func(s site) {
		if fits == nil || fits(s) {
			list = append(list, s)
		}
	}
	e.queues(func(prog *plan.Program, b *plan.Block, q *plan.Queue) {
		for at := range q.Steps {
			s := site{prog, b, q, at, -1, &q.Steps[at]}
			add(s)
			for i := range s.Body {
				add(site{prog, b, q, at, i, &s.Body[i]})
			}
		}
	})
	return list
}

func (e *editor) queues(f func(*plan.Program, *plan.Block, *plan.Queue)) {
	for i := range e.Programs {
		prog := &e.Programs[i]
		for j := range prog.Blocks {
			b := &prog.Blocks[j]
			for k := range b.Queues {
				f(prog, b, &b.Queues[k])
			}
		}
	}
}

// site returns a step that fits.
func (e *editor) site(fits func(site) bool) (site, bool) { return pick(e, e.sites(fits)) }

// op fits steps with one of the ops.
func op(names ...string) func(site) bool {
	return func(s site) bool {
		for _, n := range names {
			if s.Op == n {
				return true
			}
		}
		return false
	}
}

// collective fits members of collectives, sends included.
func collective(s site) bool { return s.Attrs.Has("channel") }

// members lists the steps that meet on the channel of s.
func (e *editor) members(s site) []site {
	return e.sites(func(o site) bool { return collective(o) && o.block == s.block && o.channel() == s.channel() })
}

func (s site) channel() int { return s.Attrs.Int("channel", -1) }

// place is a buffer, and which block declares it: nil for the program's own.
type place struct {
	prog  *plan.Program
	block *plan.Block
	*plan.Buffer
}

func (p place) String() string {
	in := p.prog.Name
	if p.block != nil {
		in = p.block.Name
	}
	return fmt.Sprintf("%s: %s of device %d", in, p.Name, p.Device)
}

// buffers lists the buffers that fit; nil takes all.
func (e *editor) buffers(fits func(place) bool) []place {
	var list []place
	add := func(p place) {
		if fits == nil || fits(p) {
			list = append(list, p)
		}
	}
	for i := range e.Programs {
		prog := &e.Programs[i]
		for j := range prog.Buffers {
			add(place{prog, nil, &prog.Buffers[j]})
		}
		for j := range prog.Blocks {
			b := &prog.Blocks[j]
			for k := range b.Buffers {
				add(place{prog, b, &b.Buffers[k]})
			}
		}
	}
	return list
}

// seen lists the buffers that a queue's steps may name.
func (e *editor) seen(s site) []place {
	return e.buffers(func(p place) bool {
		return p.prog == s.prog && (p.block == nil || p.block == s.block) && p.Device == s.queue.Device
	})
}

// find returns the buffer that a step at s calls so on a device.
func (e *editor) find(s site, device int, name string) (place, bool) {
	list := e.buffers(func(p place) bool {
		return p.prog == s.prog && (p.block == nil || p.block == s.block) && p.Device == device && p.Name == name
	})
	if len(list) == 0 {
		return place{}, false
	}
	return list[len(list)-1], true
}

// alike lists the buffers of the type of that called name, on its device,
// without itself.
func (e *editor) alike(s site, device int, name string) []place {
	old, ok := e.find(s, device, name)
	if !ok {
		return nil
	}
	return e.buffers(func(p place) bool {
		return p.prog == s.prog && (p.block == nil || p.block == s.block) && p.Device == device && p.Name != name && p.Type.Equal(old.Type)
	})
}

// near returns a number that differs from n by a little.
func (e *editor) near(n int) int { return n + some(e, -2, -1, -1, 1, 1, 2) }

// refs lists the operands of a step of a kind.
func (s site) refs(kind plan.RefKind) []*plan.Ref {
	var list []*plan.Ref
	for i := range s.Args {
		if s.Args[i].Kind == kind {
			list = append(list, &s.Args[i])
		}
	}
	return list
}

// program returns one of the programs.
func (e *editor) program() *plan.Program { return &e.Programs[e.rng.IntN(len(e.Programs))] }

// pointers returns the addresses of a list's members.
func pointers[T any](list []T) []*T {
	out := make([]*T, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}
