package plan

import (
	"cmp"
	"slices"
)

// arenaAlign is the alignment of everything in an arena, in bytes: what
// cuMemAlloc guarantees, and enough for any vector load.
const arenaAlign = 256

func alignUp(n int64) int64 { return (n + arenaAlign - 1) / arenaAlign * arenaAlign }

// resident is a piece of an arena that lives for ever: one or, for several
// layers, count pieces of that many bytes, a stride apart.
type resident struct {
	what           string
	offset, stride int64
	bytes          int64
	count          int64
}

// end returns the offset after the last piece.
func (r resident) end() int64 { return r.offset + (r.count-1)*r.stride + r.bytes }

// residents lists what lives for ever on a device.
func (v *verifier) residents(device int) []resident {
	var list []resident
	for _, c := range v.p.Consts {
		list = append(list, resident{"const " + c.Name, c.Offset, 0, int64(4 * len(c.Values)), 1})
	}
	for _, w := range v.p.Weights {
		if w.Device == device {
			list = append(list, resident{"weight " + w.Name, w.Offset, w.Stride, w.Bytes(), int64(w.Layers.Len())})
		}
	}
	for _, c := range v.p.Caches {
		if c.Device == device {
			list = append(list, resident{"cache " + c.Name, c.Offset, c.Stride, c.Bytes(v.p.Limits), int64(c.Layers.Len())})
		}
	}
	return list
}

// arena is rule V11. It compares without sums of unchecked numbers, which
// could overflow.
func (v *verifier) arena() {
	for _, m := range v.p.Memory {
		first := m.Consts + m.Weights + m.Caches // of the buffers
		list := v.residents(m.Device)
		list = slices.DeleteFunc(list, func(r resident) bool {
			bad := r.offset < 0 || r.offset > first || r.stride < 0 || r.stride > first || r.end() > first
			if bad || r.offset%arenaAlign != 0 || r.stride%arenaAlign != 0 || r.count > 1 && r.stride < r.bytes {
				v.fail("%s of device %d is at %d with %d bytes and a stride of %d for %d layers: not aligned to %d, over itself, or outside the %d bytes of residents",
					r.what, m.Device, r.offset, r.bytes, r.stride, r.count, arenaAlign, first)
			}
			return bad
		})
		slices.SortFunc(list, func(a, b resident) int { return cmp.Compare(a.offset, b.offset) })
		for i := 1; i < len(list); i++ {
			if list[i].offset < list[i-1].end() {
				v.fail("%s and %s of device %d overlap at %d", list[i-1].what, list[i].what, m.Device, list[i].offset)
			}
		}
	}
	v.buffers(func(block string, b *Buffer) {
		m := v.p.Memory[b.Device]
		first := m.Consts + m.Weights + m.Caches
		if b.Offset%arenaAlign != 0 || b.Offset < first || b.Offset > m.Total || b.Bytes < 0 || b.Bytes > m.Total-b.Offset {
			v.fail("%s: buffer %s of device %d is at %d with %d bytes: not aligned, or not inside %d to %d", block, b.Name, b.Device, b.Offset, b.Bytes, first, m.Total)
		}
	})
}

// budget is rule V12.
func (v *verifier) budget() {
	machine := v.p.Machine
	for _, m := range v.p.Memory {
		if m.Total != m.Consts+m.Weights+m.Caches+m.Buffers {
			v.fail("the account of device %d does not add up to %d", m.Device, m.Total)
		}
		if m.Total > m.Budget {
			v.fail("device %d needs %d bytes (weights %d, caches %d, buffers %d), has %d", m.Device, m.Total, m.Weights, m.Caches, m.Buffers, m.Budget)
		}
		if machine.Reserve < 0 || machine.Reserve > machine.Memory || m.Budget > machine.Memory-machine.Reserve {
			v.fail("device %d may use %d bytes of %d, less %d for the driver", m.Device, m.Budget, machine.Memory, machine.Reserve)
		}
	}
}

// bytes is rule V28.
func (v *verifier) bytes() {
	v.buffers(func(block string, b *Buffer) {
		if want := alignUp(b.Type.Bytes(v.bounds())); b.Bytes != want {
			v.fail("%s: buffer %s of device %d, %s, has %d bytes, needs %d", block, b.Name, b.Device, b.Type, b.Bytes, want)
		}
	})
	var consts int64
	for _, c := range v.p.Consts {
		n := 1
		for _, d := range c.Shape {
			n *= d
		}
		if n != len(c.Values) {
			v.fail("const %s has %d values for shape %v", c.Name, len(c.Values), c.Shape)
		}
		consts += alignUp(int64(4 * len(c.Values)))
	}
	for _, m := range v.p.Memory {
		var weights, caches int64
		for _, w := range v.p.Weights {
			if w.Device == m.Device {
				weights += alignUp(w.Bytes()) * int64(w.Layers.Len())
			}
		}
		for _, c := range v.p.Caches {
			if c.Device == m.Device {
				caches += alignUp(c.Bytes(v.p.Limits)) * int64(c.Layers.Len())
			}
		}
		if weights != m.Weights || caches != m.Caches || consts != m.Consts {
			v.fail("device %d: consts are %d bytes, accounted %d; weights %d, accounted %d; caches %d, accounted %d", m.Device, consts, m.Consts, weights, m.Weights, caches, m.Caches)
		}
	}
}

// worstCase is rule V20: the rows of a step with all tokens in one group fit,
// each with all its slots.
func (v *verifier) worstCase() {
	v.buffers(func(block string, b *Buffer) {
		if need := b.Type.Bytes(v.bounds()); b.Bytes < need {
			v.fail("%s: buffer %s of device %d holds %d bytes, a full step needs %d", block, b.Name, b.Device, b.Bytes, need)
		}
	})
}

// pages is rule V23. A page table has an entry for each page of each sequence
// slot; an entry of a cache is found by page times positions of a page, in 31
// bits.
func (v *verifier) pages() {
	l := v.p.Limits
	need := (l.Context-1)/l.Page + 1 // of one sequence
	if len(v.p.Caches) > 0 && l.Pages < need {
		v.fail("caches have %d pages, one sequence of %d positions needs %d", l.Pages, l.Context, need)
	}
	if l.Sequences > maxNumber/need {
		v.fail("page tables have %d entries for each of %d sequences, more than %d", need, l.Sequences, maxNumber)
	}
	if l.Pages > maxNumber/l.Page {
		v.fail("caches have %d pages of %d positions, more than %d", l.Pages, l.Page, maxNumber)
	}
}
