package mutate

import (
	"fmt"
	"math"
)

// unit is what offsets are multiples of, in bytes.
const unit = 256

// memoryMutations damage places and sizes in the arenas.
var memoryMutations = []Mutation{
	{"a buffer is not aligned", "V11", func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(nil))
		if !ok {
			return "", false
		}
		b.Offset += some(e, int64(1), 2, 16, 128, -4, -128)
		return fmt.Sprint(b), true
	}},
	{"a buffer is outside the arena", "V11", func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(nil))
		if !ok {
			return "", false
		}
		b.Offset = some(e, -unit, e.Memory[b.Device].Total, e.Memory[b.Device].Total-b.Bytes+unit, math.MaxInt64&^(unit-1), 1<<62)
		return fmt.Sprint(b), true
	}},
	{"a buffer is over a resident", "V11", func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(nil))
		if !ok {
			return "", false
		}
		m := e.Memory[b.Device]
		b.Offset = unit * e.rng.Int64N(max(1, (m.Consts+m.Weights+m.Caches)/unit))
		return fmt.Sprint(b), true
	}},
	{"a buffer is moved by a little", "V10", func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(nil))
		if !ok {
			return "", false
		}
		b.Offset += unit * some(e, int64(-4), -2, -1, 1, 2, 4)
		return fmt.Sprint(b), true
	}},
	{"a buffer is over another", "V10", func(e *editor) (string, bool) {
		s, ok := e.site(nil)
		if !ok {
			return "", false
		}
		a, b, ok := two(e, e.seen(s))
		if !ok {
			return "", false
		}
		a.Offset = b.Offset
		return fmt.Sprint(a, " over ", b), true
	}},
	{"a value lies where one is that is read later", "V10", func(e *editor) (string, bool) { return e.shorten() }},
	{"a carried value lies in a block's memory", "V10", func(e *editor) (string, bool) {
		a, okA := pick(e, e.buffers(func(p place) bool { return p.block == nil }))
		b, okB := pick(e, e.buffers(func(p place) bool { return p.block != nil && p.prog == a.prog && p.Device == a.Device }))
		if okA && okB {
			a.Offset = b.Offset
		}
		return fmt.Sprint(a, " over ", b), okA && okB
	}},
	{"two buffers exchange places", "V10", func(e *editor) (string, bool) {
		s, ok := e.site(nil)
		if !ok {
			return "", false
		}
		a, b, ok := two(e, e.seen(s))
		if !ok {
			return "", false
		}
		a.Offset, b.Offset = b.Offset, a.Offset
		return fmt.Sprint(a, " and ", b), true
	}},
	{"a result lies over its operand", "V22", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Out != "" && len(e.own(s)) > 0 })
		if !ok {
			return "", false
		}
		a, _ := pick(e, e.own(s))
		out, okOut := e.find(s, s.queue.Device, s.Out)
		in, okIn := e.find(s, s.queue.Device, a)
		if okOut && okIn {
			out.Offset = in.Offset + some(e, int64(0), 0, unit, -unit)
		}
		return fmt.Sprint(s, " over ", a), okOut && okIn
	}},
	{"a collective's result lies over what another device reads", "V09", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return collective(s) && s.Out != "" && len(e.own(s)) > 0 && len(e.members(s)) > 1 })
		if !ok {
			return "", false
		}
		a, _ := pick(e, e.own(s))
		out, okOut := e.find(s, s.queue.Device, s.Out)
		in, okIn := e.find(s, s.queue.Device, a)
		if okOut && okIn {
			out.Offset = in.Offset
		}
		return fmt.Sprint(s, " over ", a), okOut && okIn
	}},
	{"a resident is not aligned", "V11", func(e *editor) (string, bool) {
		r := e.resident()
		*r.offset += some(e, int64(1), 2, 16, 128)
		return r.what, true
	}},
	{"a resident is moved", "V11", func(e *editor) (string, bool) {
		r := e.resident()
		*r.offset += unit * some(e, int64(-2), -1, 1, 2, 1<<30)
		return r.what, true
	}},
	{"two residents exchange places", "V11", func(e *editor) (string, bool) {
		a, b, ok := two(e, pointers(e.Weights))
		if !ok {
			return "", false
		}
		a.Offset, b.Offset = b.Offset, a.Offset
		return fmt.Sprint(a.Name, " and ", b.Name), true
	}},
	{"a resident has another's place", "V11", func(e *editor) (string, bool) {
		a, b := e.resident(), e.resident()
		*a.offset = *b.offset
		return a.what + " at " + b.what, true
	}},
	{"layers of a resident lie closer", "V11", func(e *editor) (string, bool) {
		r := e.resident()
		if r.stride == nil {
			return "", false
		}
		*r.stride = some(e, *r.stride-unit, *r.stride/2, 0, -unit, *r.stride+unit, 1<<62, *r.stride+8)
		return r.what, true
	}},
	{"the arena shrinks", "V11", func(e *editor) (string, bool) {
		m := &e.Memory[e.rng.IntN(len(e.Memory))]
		by := unit * (1 + e.rng.Int64N(4))
		m.Buffers -= by
		m.Total -= by
		return fmt.Sprintf("device %d by %d", m.Device, by), true
	}},
	{"an account does not add up", "V12", func(e *editor) (string, bool) {
		m := &e.Memory[e.rng.IntN(len(e.Memory))]
		*some(e, &m.Consts, &m.Weights, &m.Caches, &m.Buffers, &m.Total) += some(e, int64(1), unit, -unit)
		return fmt.Sprintf("%+v", *m), true
	}},
	{"a device has less than it needs", "V12", func(e *editor) (string, bool) {
		m := &e.Memory[e.rng.IntN(len(e.Memory))]
		switch e.rng.IntN(3) {
		case 0:
			m.Budget = m.Total - 1 - e.rng.Int64N(4)
		case 1:
			e.Machine.Memory = m.Total - 1
		default:
			e.Machine.Reserve = some(e, -1, e.Machine.Memory, e.Machine.Memory+1)
		}
		return fmt.Sprintf("%+v of %+v", *m, e.Machine), true
	}},
	{"a device may use more than it has", "V12", func(e *editor) (string, bool) {
		m := &e.Memory[e.rng.IntN(len(e.Memory))]
		m.Budget = e.Machine.Memory - e.Machine.Reserve + 1
		return fmt.Sprintf("%+v", *m), true
	}},
	{"bytes are elements", "V28", func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(nil))
		if !ok {
			return "", false
		}
		n := b.Bytes / int64(b.Type.DType.Bytes())
		b.Bytes = (n + unit - 1) / unit * unit
		return fmt.Sprint(b), true
	}},
	{"a buffer has other bytes", "V28", func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(nil))
		if !ok {
			return "", false
		}
		b.Bytes += some(e, int64(1), -1, unit, -unit, -b.Bytes, -2*b.Bytes, 1<<40)
		return fmt.Sprint(b), true
	}},
	{"an account has the bytes of another", "V28", func(e *editor) (string, bool) {
		m := &e.Memory[e.rng.IntN(len(e.Memory))]
		by := some(e, int64(unit), -unit)
		a, b, _ := two(e, []*int64{&m.Consts, &m.Weights, &m.Caches, &m.Buffers})
		*a += by
		*b -= by
		return fmt.Sprintf("%+v", *m), true
	}},
	{"a const has other values than its shape", "V28", func(e *editor) (string, bool) {
		c, ok := pick(e, pointers(e.Consts))
		if !ok {
			return "", false
		}
		if e.rng.IntN(2) == 0 || len(c.Shape) == 0 {
			c.Values = append(c.Values, 1)
		} else {
			c.Shape[e.rng.IntN(len(c.Shape))]++
		}
		return c.Name, true
	}},
	{"steps of more tokens", "V20", func(e *editor) (string, bool) {
		by := some(e, 1, 7, e.Limits.Tokens, 4096)
		e.Limits.Tokens += by
		e.Buckets[len(e.Buckets)-1].Tokens += by
		return fmt.Sprint(by), true
	}},
	{"steps of fewer tokens", "V28", func(e *editor) (string, bool) {
		by := some(e, 1, 2, e.Limits.Tokens/2)
		e.Limits.Tokens -= by
		for i := range e.Buckets {
			e.Buckets[i].Tokens = min(e.Buckets[i].Tokens, e.Limits.Tokens)
		}
		return fmt.Sprint(by), true
	}},
	{"steps of other rows", "V20", func(e *editor) (string, bool) {
		e.Limits.Rows += some(e, 1, -1, 64, 4096, 1-e.Limits.Rows)
		return fmt.Sprint(e.Limits.Rows), true
	}},
	{"longer sequences", "V20", func(e *editor) (string, bool) {
		e.Limits.Context += some(e, 1, 16, 4096, -1)
		return fmt.Sprint(e.Limits.Context), true
	}},
	{"other pages", "V28", func(e *editor) (string, bool) {
		if e.rng.IntN(2) == 0 {
			e.Limits.Pages = e.near(e.Limits.Pages)
		} else {
			e.Limits.Page = e.near(e.Limits.Page)
		}
		return fmt.Sprintf("%d pages of %d", e.Limits.Pages, e.Limits.Page), true
	}},
	{"more page tables than the pages are for", "V23", func(e *editor) (string, bool) {
		e.Limits.Sequences = some(e, e.Limits.Sequences-1, 1, 1<<20, 1<<29, 1<<30)
		return fmt.Sprint(e.Limits.Sequences), true
	}},
}

// own lists the buffers that a step reads of its own device.
func (e *editor) own(s site) []string {
	var list []string
	for _, a := range s.refs("buf") {
		if a.Device == s.queue.Device && a.Name != s.Out {
			list = append(list, a.Name)
		}
	}
	return list
}

// shorten puts the result of a step where a value lies that a later step of
// the queue reads.
func (e *editor) shorten() (string, bool) {
	s, ok := e.site(func(s site) bool { return s.Out != "" && s.inner < 0 && s.at+1 < len(s.queue.Steps) })
	if !ok {
		return "", false
	}
	var live []string
	for i := s.at + 1; i < len(s.queue.Steps); i++ {
		later := site{s.prog, s.block, s.queue, i, -1, &s.queue.Steps[i]}
		for _, name := range e.own(later) {
			if name != s.Out {
				live = append(live, name)
			}
		}
	}
	name, ok := pick(e, live)
	if !ok {
		return "", false
	}
	out, okOut := e.find(s, s.queue.Device, s.Out)
	in, okIn := e.find(s, s.queue.Device, name)
	if okOut && okIn {
		out.Offset = in.Offset
	}
	return fmt.Sprint(s, " over ", name), okOut && okIn
}

// resident is where something that lives for ever lies.
type residentPlace struct {
	what           string
	offset, stride *int64
}

func (e *editor) resident() residentPlace {
	var list []residentPlace
	for _, w := range pointers(e.Weights) {
		list = append(list, residentPlace{fmt.Sprint("weight ", w.Name, " of device ", w.Device), &w.Offset, &w.Stride})
	}
	for _, c := range pointers(e.Caches) {
		list = append(list, residentPlace{fmt.Sprint("cache ", c.Name, " of device ", c.Device), &c.Offset, &c.Stride})
	}
	for _, c := range pointers(e.Consts) {
		list = append(list, residentPlace{"const " + c.Name, &c.Offset, nil})
	}
	r, _ := pick(e, list)
	return r
}
