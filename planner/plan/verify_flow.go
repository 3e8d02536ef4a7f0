package plan

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
	"moec/ir/tensor"
)

// results checks that steps write each buffer of a block once, and each
// shared one at most once, and that a run makes every output.
func (v *verifier) results() {
	for _, prog := range v.progs {
		made := make(map[bufKey]bool)
		for _, r := range prog.Runs {
			b := prog.blocks[r.Block]
			count := make(map[bufKey]int)
			b.steps(func(q *Queue, at int, s *Step) {
				if len(s.Body) > 0 {
					if last := s.Body[len(s.Body)-1]; last.Out != s.Out {
						v.fail("%s: its body ends in %q, not in %q", where(b, q, at, s), last.Out, s.Out)
					}
					return // counted in the body
				}
				if s.Out == "" && s.Op != "kv_append" && s.Op != "send" {
					v.fail("%s: has no result", where(b, q, at, s))
				}
				key := bufKey{q.Device, s.Out}
				count[key]++
				made[key] = true
				if s.Out != "" && count[key] > 1 {
					v.fail("%s: writes %s a second time", where(b, q, at, s), s.Out)
				}
			})
			for key := range b.local {
				if count[key] == 0 {
					v.fail("%s: nothing writes buffer %s of device %d", b.Name, key.name, key.device)
				}
			}
		}
		for _, o := range prog.Outputs {
			if !made[bufKey{o.Device, o.Buffer}] {
				v.fail("nothing writes output %s in %s of device %d", o.Name, o.Buffer, o.Device)
			}
		}
	}
}

// isInput reports whether a shared buffer is filled before the first step.
func isInput(name string) bool {
	base, _, _ := strings.Cut(name, ".")
	return slices.Contains([]string{"tokens", "positions", "sequences", "rows"}, base)
}

// written follows the queues and checks that operands were written.
func (v *verifier) written() {
	for _, prog := range v.progs {
		f := &flow{v: v, prog: prog, shared: make(map[bufKey]bool)}
		for key := range prog.shared {
			f.shared[key] = isInput(key.name)
		}
		f.run(func(b *blockIndex, q *Queue, at int, s *Step, a Ref) {
			key := bufKey{a.Device, a.Name}
			if !f.local[key] && !f.shared[key] {
				v.fail("%s: reads %s of device %d before it is written", where(b, q, at, s), a.Name, a.Device)
			}
		}, func(b *blockIndex, device int, name string) {
			if key := (bufKey{device, name}); b.local[key] != nil {
				f.local[key] = true
			} else {
				f.shared[key] = true
			}
		})
	}
}

// lives follows the queues, remembers whose value every piece of memory
// holds, and checks that operands are still there.
func (v *verifier) lives() {
	for _, prog := range v.progs {
		f := &flow{v: v, prog: prog}
		held := make(map[int][]*Buffer) // by device: buffers whose value is whole
		for i := range prog.Buffers {
			if b := &prog.Buffers[i]; isInput(b.Name) {
				held[b.Device] = append(held[b.Device], b)
			}
		}
		f.run(func(b *blockIndex, q *Queue, at int, s *Step, a Ref) {
			if buf := b.buffer(a.Device, a.Name); !slices.Contains(held[a.Device], buf) {
				v.fail("%s: %s of device %d was overwritten before it is read", where(b, q, at, s), a.Name, a.Device)
			}
		}, func(b *blockIndex, device int, name string) {
			buf := b.buffer(device, name)
			held[device] = slices.DeleteFunc(held[device], func(o *Buffer) bool { return overlap(o, buf) })
			held[device] = append(held[device], buf)
		})
	}
}

// flow executes the queues of a program symbolically.
type flow struct {
	v      *verifier
	prog   *progIndex
	shared map[bufKey]bool
	local  map[bufKey]bool // of the block being executed
}

type onRead func(b *blockIndex, q *Queue, at int, s *Step, a Ref)
type onWrite func(b *blockIndex, device int, name string)

// run goes through all runs; a block that repeats is gone through twice, so
// that what one turn leaves for the next is seen.
func (f *flow) run(read onRead, write onWrite) {
	for _, r := range f.prog.Runs {
		for range min(2, r.Layers.Len()) {
			f.local = make(map[bufKey]bool)
			f.block(f.prog.blocks[r.Block], read, write)
		}
	}
}

// block executes the queues side by side, each up to its next collective; at
// a collective all reads of all members come before all writes.
func (f *flow) block(b *blockIndex, read onRead, write onWrite) {
	_, list := b.meetings()
	at := make([]int, len(b.Queues))
	for progress := true; progress; {
		progress = false
		waiting := make(map[int]int)
		for i := range b.Queues {
			q := &b.Queues[i]
			for ; at[i] < len(q.Steps) && !OpInfo(q.Steps[at[i]].Op).Has(ir.Collective); at[i]++ {
				f.step(b, q, at[i], read, write)
			}
			if at[i] < len(q.Steps) {
				waiting[q.Steps[at[i]].Attrs.Int("channel", -1)]++
			}
		}
		for c, n := range waiting {
			if n == len(list[c]) {
				f.meet(b, list[c], read, write)
				for i := range b.Queues {
					if at[i] < len(b.Queues[i].Steps) && b.Queues[i].Steps[at[i]].Attrs.Int("channel", -1) == c {
						at[i]++
					}
				}
				progress = true
			}
		}
	}
}

func (f *flow) meet(b *blockIndex, list []meeting, read onRead, write onWrite) {
	for _, m := range list {
		for _, a := range m.s.Args {
			if a.Kind == BufferRef {
				read(b, m.q, m.at, m.s, a)
			}
		}
	}
	for _, m := range list {
		if m.s.Out != "" {
			write(b, m.q.Device, m.s.Out)
		}
	}
}

func (f *flow) step(b *blockIndex, q *Queue, at int, read onRead, write onWrite) {
	s := &q.Steps[at]
	steps := []*Step{s}
	if len(s.Body) > 0 {
		steps = steps[:0]
		for i := range s.Body {
			steps = append(steps, &s.Body[i])
		}
		for _, a := range s.Args {
			if a.Kind == BufferRef {
				read(b, q, at, s, a)
			}
		}
	}
	for _, s := range steps {
		for _, a := range s.Args {
			if a.Kind == BufferRef {
				read(b, q, at, s, a)
			}
		}
		if s.Out != "" {
			write(b, q.Device, s.Out)
		}
	}
	// A fused kernel may write its result before it has read everything.
	for _, a := range s.Args {
		if len(s.Body) > 0 && a.Kind == BufferRef && overlap(b.buffer(q.Device, a.Name), b.buffer(q.Device, s.Out)) {
			f.v.fail("%s: its result lies over its operand %s", where(b, q, at, s), a.Name)
		}
	}
}

// types infers the result of every step from its operands, as in the IR.
func (v *verifier) types() {
	for _, prog := range v.progs {
		for _, r := range prog.Runs {
			b := prog.blocks[r.Block]
			b.steps(func(q *Queue, at int, s *Step) {
				if err := v.stepType(b, q, s, r.Layers.First); err != nil {
					v.fail("%s: %v", where(b, q, at, s), err)
				}
			})
		}
	}
}

func (v *verifier) stepType(b *blockIndex, q *Queue, s *Step, layer int) error {
	n := &ir.Node{Op: OpInfo(s.Op), Attrs: s.Attrs, Device: q.Device, Group: -1, Layer: layer}
	args := s.Args
	if s.Op == "kv_append" {
		if len(args) != 5 || args[4].Kind != CacheRef {
			return fmt.Errorf("its last operand is not a cache")
		}
		args = args[:4]
		n.Attrs = n.Attrs.With("cache", "")
	}
	for _, a := range args {
		t, err := v.typeOf(b, a, layer)
		if err != nil {
			return err
		}
		n.Args = append(n.Args, &ir.Node{Type: t})
	}
	var got tensor.Type
	switch {
	case s.Op == "send" && len(args) == 1:
		return nil
	case s.Op == "copy" && len(args) == 1:
		got = n.Args[0].Type
	case s.Op == "send" || s.Op == "copy":
		return fmt.Errorf("has %d operands, takes 1", len(args))
	case len(s.Body) > 0:
		return nil // each step of the body is checked, and it ends in the result
	default:
		var err error
		if got, err = ir.Infer(n); err != nil {
			return err
		}
	}
	want, err := v.resultType(b, q, s, layer)
	if err == nil && !sameElements(got, want) {
		err = fmt.Errorf("makes %s, its buffer is %s", got, want)
	}
	return err
}

func (v *verifier) resultType(b *blockIndex, q *Queue, s *Step, layer int) (tensor.Type, error) {
	if s.Op == "kv_append" {
		return v.typeOf(b, s.Args[4], layer)
	}
	return v.typeOf(b, Ref{Kind: BufferRef, Name: s.Out, Device: q.Device}, layer)
}

// sameElements allows other extents for the same rows, as after a reshape.
func sameElements(a, b tensor.Type) bool {
	return a.DType == b.DType && a.Shape.Sym() == b.Shape.Sym() && a.Shape.Static() == b.Shape.Static()
}

func (v *verifier) typeOf(b *blockIndex, a Ref, layer int) (tensor.Type, error) {
	t, err := v.storedType(b, a, layer)
	if err != nil || a.Type.DType == tensor.Invalid {
		return t, err
	}
	if !sameElements(a.Type, t) {
		return t, fmt.Errorf("%s is %s, read as %s", a.Name, t, a.Type)
	}
	return a.Type, nil
}

func (v *verifier) storedType(b *blockIndex, a Ref, layer int) (tensor.Type, error) {
	switch a.Kind {
	case BufferRef:
		return b.buffer(a.Device, a.Name).Type, nil
	case ConstRef:
		for _, c := range v.p.Consts {
			if c.Name == a.Name {
				return tensor.Type{DType: tensor.F32, Shape: tensor.Ints(c.Shape...)}, nil
			}
		}
	case WeightRef:
		for _, w := range v.p.Weights {
			if w.Name == a.Name && w.Device == a.Device && (w.Layers == NoLayers || w.Layers.Has(layer)) {
				return tensor.Type{DType: w.DType, Shape: tensor.Ints(w.Shape...)}, nil
			}
		}
	case CacheRef:
		for _, c := range v.p.Caches {
			if c.Name == a.Name && c.Device == a.Device && (c.Layers == NoLayers || c.Layers.Has(layer)) {
				return tensor.Of(c.DType, tensor.S(tensor.Cached), tensor.N(c.Heads), tensor.N(c.KeyDim+c.ValDim)), nil
			}
		}
	}
	return tensor.Type{}, fmt.Errorf("no %s %q", a.Kind, a.Name)
}
