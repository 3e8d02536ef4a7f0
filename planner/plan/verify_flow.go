package plan

import (
	"slices"
	"strconv"
	"strings"

	"moec/ir/tensor"
)

// inputs are the lists that every step brings.
var inputs = []string{"tokens", "positions", "sequences", "rows"}

// inputOf splits the name of an input buffer into the list and its token
// group, -1 for the list of all tokens.
func inputOf(name string) (list string, group int, ok bool) {
	list, suffix, grouped := strings.Cut(name, ".")
	group = -1
	if grouped {
		g, err := strconv.Atoi(suffix)
		if err != nil || g < 0 || strconv.Itoa(g) != suffix {
			return "", 0, false
		}
		group = g
	}
	return list, group, slices.Contains(inputs, list)
}

// isInput reports whether a shared buffer is filled before the first step.
func isInput(name string) bool {
	_, _, ok := inputOf(name)
	return ok
}

// results is rule V03.
func (v *verifier) results() {
	for _, prog := range v.progs {
		v.runOrder(prog)
		made := make(map[bufKey]bool)
		appended := make(map[*Cache]map[int]int) // to layer to times
		for _, r := range prog.Runs {
			b := prog.blocks[r.Block]
			v.blockResults(b, made)
			b.steps(func(q *Queue, at int, s *Step) {
				if s.Op == "kv_append" {
					v.countAppends(q.Device, s, r.Layers, appended)
				}
			})
		}
		for _, b := range prog.Buffers {
			if key := (bufKey{b.Device, b.Name}); made[key] == isInput(b.Name) {
				v.fail("%s: buffer %s of device %d is written: %t, brought by the step: %t", prog.Name, b.Name, b.Device, made[key], isInput(b.Name))
			}
		}
		for i := range v.p.Caches {
			c := &v.p.Caches[i]
			first, count := c.Layers.layersOf()
			for l := range count {
				if n := appended[c][first+l]; n != 1 {
					v.fail("%s: the step's tokens are stored %d times in cache %s of device %d for layer %d", prog.Name, n, c.Name, c.Device, first+l)
				}
			}
		}
		v.outputs(prog)
	}
}

// runOrder checks that a block is run once for each of its layers, and layers
// one after the other.
func (v *verifier) runOrder(prog *progIndex) {
	done := make(map[string]Range)
	last := -1
	for _, r := range prog.Runs {
		first, count := r.Layers.layersOf()
		if old, again := done[r.Block]; again && (r.Layers == NoLayers || old == NoLayers) {
			v.fail("%s: block %s is run twice", prog.Name, r.Block)
		}
		done[r.Block] = r.Layers
		if first < 0 {
			continue
		}
		if first <= last {
			v.fail("%s: block %s is run for layer %d after layer %d", prog.Name, r.Block, first, last)
		}
		last = max(last, first+count-1)
	}
}

// countAppends counts what a kv_append stores, in each layer of its run.
func (v *verifier) countAppends(device int, s *Step, layers Range, appended map[*Cache]map[int]int) {
	first, count := layers.layersOf()
	for i := range count {
		for _, a := range s.Args {
			if a.Kind != CacheRef {
				continue
			}
			c := v.cache(a.Device, a.Name, first+i)
			if appended[c] == nil {
				appended[c] = make(map[int]int)
			}
			layer := first + i
			if c.Layers == NoLayers {
				layer = -1
			}
			appended[c][layer]++
		}
	}
}

// blockResults checks that a block writes each of its buffers once and others
// at most once.
func (v *verifier) blockResults(b *blockIndex, made map[bufKey]bool) {
	count := make(map[bufKey]int)
	b.steps(func(q *Queue, at int, s *Step) {
		if none := s.Op == "kv_append" || s.Op == "send"; (s.Out == "") != none {
			v.fail("%s: has result %q", where(b, q, at, s), s.Out)
		}
		if len(s.Body) > 0 {
			if last := s.Body[len(s.Body)-1]; last.Out != s.Out {
				v.fail("%s: its body ends in %q, not in %q", where(b, q, at, s), last.Out, s.Out)
			}
			return // counted in the body
		}
		key := bufKey{q.Device, s.Out}
		count[key]++
		made[key] = true
		if s.Out != "" && count[key] > 1 {
			v.fail("%s: writes %s a second time", where(b, q, at, s), s.Out)
		}
	})
	for _, buf := range b.Buffers {
		if count[bufKey{buf.Device, buf.Name}] == 0 {
			v.fail("%s: nothing writes buffer %s of device %d", b.Name, buf.Name, buf.Device)
		}
	}
}

// outputs checks that each result is given once for each token group.
func (v *verifier) outputs(prog *progIndex) {
	groups := make(map[string][]int)
	var names []string
	for _, o := range prog.Outputs {
		if groups[o.Name] == nil {
			groups[o.Name] = make([]int, v.groups)
			names = append(names, o.Name)
		}
		groups[o.Name][o.Group]++
	}
	if groups["logits"] == nil {
		v.fail("%s: gives no logits", prog.Name)
	}
	for _, name := range names {
		for g, n := range groups[name] {
			if n != 1 {
				v.fail("%s: output %s is given %d times for token group %d", prog.Name, name, n, g)
			}
		}
	}
}

// flow executes the queues of a program symbolically.
type flow struct {
	v     *verifier
	prog  *progIndex
	begin func(b *blockIndex) // a turn of a block
	read  func(b *blockIndex, m meeting, a Ref)
	write func(b *blockIndex, m meeting)
}

// run goes through all runs; a block that repeats is gone through twice, so
// that what one turn leaves for the next is seen. What a turn overwrites and
// what it leaves is the same every time, so a third would find nothing new.
func (f *flow) run() {
	for _, r := range f.prog.Runs {
		b := f.prog.blocks[r.Block]
		for range min(2, r.Layers.Len()) {
			f.begin(b)
			f.block(b)
		}
	}
}

// block executes the queues side by side, each up to its next collective; at
// a collective all reads of all members come before all writes.
func (f *flow) block(b *blockIndex) {
	walker{b, func(q *Queue, at int) { f.step(b, q, at) }, func(list []meeting) {
		for _, m := range list {
			f.reads(b, m)
		}
		for _, m := range list {
			if m.s.Out != "" {
				f.write(b, m)
			}
		}
	}}.walk()
}

func (f *flow) reads(b *blockIndex, m meeting) {
	for _, a := range m.s.Args {
		if a.Kind == BufferRef || a.Kind == CacheRef {
			f.read(b, m, a)
		}
	}
}

func (f *flow) step(b *blockIndex, q *Queue, at int) {
	s := &q.Steps[at]
	f.reads(b, meeting{q, at, s})
	for i := range s.Body {
		m := meeting{q, at, &s.Body[i]}
		f.reads(b, m)
		f.write(b, m)
	}
	if len(s.Body) == 0 {
		f.write(b, meeting{q, at, s})
	}
}

// written is rule V04: it follows the queues and checks that operands were
// written, and caches appended to.
func (v *verifier) written() {
	for _, prog := range v.progs {
		shared := make(map[bufKey]bool)
		var local, stored map[bufKey]bool // of the turn
		for key := range prog.shared {
			shared[key] = isInput(key.name)
		}
		f := &flow{v: v, prog: prog}
		f.begin = func(*blockIndex) { local, stored = make(map[bufKey]bool), make(map[bufKey]bool) }
		f.read = func(b *blockIndex, m meeting, a Ref) {
			key := bufKey{a.Device, a.Name}
			switch {
			case a.Kind == CacheRef && m.s.Op != "kv_append" && !stored[key]:
				v.fail("%s: reads cache %s before the step's tokens are stored in it", where(b, m.q, m.at, m.s), a.Name)
			case a.Kind == BufferRef && !local[key] && !shared[key]:
				v.fail("%s: reads %s of device %d before it is written", where(b, m.q, m.at, m.s), a.Name, a.Device)
			}
		}
		f.write = func(b *blockIndex, m meeting) {
			for _, a := range m.s.Args {
				if a.Kind == CacheRef && m.s.Op == "kv_append" {
					stored[bufKey{a.Device, a.Name}] = true
				}
			}
			if key := (bufKey{m.q.Device, m.s.Out}); b.local[key] != nil {
				local[key] = true
			} else {
				shared[key] = true
			}
		}
		f.run()
	}
}

// lives is rule V10: it follows the queues, remembers whose value every piece
// of memory holds, and checks that operands are still there. What a block's
// own buffers hold is lost when a turn begins.
func (v *verifier) lives() {
	for _, prog := range v.progs {
		held := make(map[int][]*Buffer) // by device: buffers whose value is whole
		give := func(buf *Buffer) {
			held[buf.Device] = slices.DeleteFunc(held[buf.Device], func(o *Buffer) bool { return overlap(o, buf) })
		}
		hold := func(buf *Buffer) {
			give(buf)
			held[buf.Device] = append(held[buf.Device], buf)
		}
		for i := range prog.Buffers {
			if b := &prog.Buffers[i]; isInput(b.Name) {
				hold(b)
			}
		}
		f := &flow{v: v, prog: prog}
		f.begin = func(b *blockIndex) {
			for i := range b.Buffers {
				give(&b.Buffers[i])
			}
		}
		f.read = func(b *blockIndex, m meeting, a Ref) {
			if buf := b.buffer(a.Device, a.Name); a.Kind == BufferRef && !slices.Contains(held[a.Device], buf) {
				v.fail("%s: %s of device %d was overwritten before it is read", where(b, m.q, m.at, m.s), a.Name, a.Device)
			}
		}
		f.write = func(b *blockIndex, m meeting) {
			if m.s.Out != "" {
				hold(b.buffer(m.q.Device, m.s.Out))
			}
		}
		f.run()
		for _, o := range prog.Outputs {
			if !slices.Contains(held[o.Device], prog.shared[bufKey{o.Device, o.Buffer}]) {
				v.fail("%s: output %s of device %d was overwritten before the step ends", prog.Name, o.Name, o.Device)
			}
		}
	}
}

// inputType is what an input buffer must be.
func inputType(list string, group int) tensor.Type {
	sym := tensor.Tokens
	if list == "rows" {
		sym = tensor.Rows
	}
	if group >= 0 {
		sym = sym.Of(group)
	}
	return tensor.Of(tensor.I32, tensor.S(sym))
}
