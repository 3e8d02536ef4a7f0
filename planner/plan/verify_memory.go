package plan

import (
	"cmp"
	"slices"
)

// arenaAlign is the alignment of everything in an arena; see planner.
const arenaAlign = 256

// extent is a named piece of an arena.
type extent struct {
	what       string
	lo, hi     int64
	device     int
	byteStride int64
}

// residents lists the pieces of a device that live for ever.
func (v *verifier) residents(device int) []extent {
	var list []extent
	for _, c := range v.p.Consts {
		list = append(list, extent{what: "const " + c.Name, lo: c.Offset, hi: c.Offset + int64(4*len(c.Values)), device: device})
	}
	for _, w := range v.p.Weights {
		if w.Device == device {
			list = append(list, extent{"weight " + w.Name, w.Offset, w.Offset + int64(w.Layers.Len()-1)*w.Stride + w.Bytes(), device, w.Stride})
		}
	}
	for _, c := range v.p.Caches {
		if c.Device == device {
			list = append(list, extent{"cache " + c.Name, c.Offset, c.Offset + int64(c.Layers.Len()-1)*c.Stride + c.Bytes(v.p.Limits), device, c.Stride})
		}
	}
	return list
}

func (v *verifier) arena() {
	for _, m := range v.p.Memory {
		list := v.residents(m.Device)
		first := m.Consts + m.Weights + m.Caches // of the buffers
		for _, e := range list {
			if e.lo%arenaAlign != 0 || e.byteStride%arenaAlign != 0 {
				v.fail("%s of device %d is at %d with stride %d, not aligned to %d", e.what, e.device, e.lo, e.byteStride, arenaAlign)
			}
			if e.lo < 0 || e.hi > first {
				v.fail("%s of device %d is at %d to %d, outside the %d bytes of residents", e.what, e.device, e.lo, e.hi, first)
			}
		}
		slices.SortFunc(list, func(a, b extent) int { return cmp.Compare(a.lo, b.lo) })
		for i := 1; i < len(list); i++ {
			if list[i].lo < list[i-1].hi {
				v.fail("%s and %s of device %d overlap at %d", list[i-1].what, list[i].what, m.Device, list[i].lo)
			}
		}
	}
	for _, w := range v.p.Weights {
		if w.Layers.Len() > 1 && w.Stride < w.Bytes() {
			v.fail("weight %s of device %d has %d bytes a layer and a stride of %d", w.Name, w.Device, w.Bytes(), w.Stride)
		}
	}
	for _, prog := range v.progs {
		for _, b := range prog.Buffers {
			v.inside(b)
		}
	}
	v.blocks(func(b *blockIndex) {
		for _, buf := range b.Buffers {
			v.inside(buf)
		}
	})
}

func (v *verifier) inside(b Buffer) {
	m := v.p.Memory[b.Device]
	first := m.Consts + m.Weights + m.Caches
	if b.Offset%arenaAlign != 0 || b.Offset < first || b.Bytes < 0 || b.Offset+b.Bytes > m.Total {
		v.fail("buffer %s of device %d is at %d with %d bytes, not aligned inside %d to %d", b.Name, b.Device, b.Offset, b.Bytes, first, m.Total)
	}
}

func (v *verifier) budget() {
	for _, m := range v.p.Memory {
		if m.Consts < 0 || m.Weights < 0 || m.Caches < 0 || m.Buffers < 0 || m.Total != m.Consts+m.Weights+m.Caches+m.Buffers {
			v.fail("the account of device %d does not add up to %d", m.Device, m.Total)
		}
		if m.Total > m.Budget {
			v.fail("device %d needs %d bytes (weights %d, caches %d, buffers %d), has %d", m.Device, m.Total, m.Weights, m.Caches, m.Buffers, m.Budget)
		}
		if m.Budget > v.p.Machine.Memory-v.p.Machine.Reserve {
			v.fail("device %d may use %d bytes of %d, less %d for the driver", m.Device, m.Budget, v.p.Machine.Memory, v.p.Machine.Reserve)
		}
	}
}

// buffers calls f with every buffer of every program.
func (v *verifier) buffers(f func(block string, b *Buffer)) {
	for _, prog := range v.progs {
		for i := range prog.Buffers {
			f(prog.Name, &prog.Buffers[i])
		}
	}
	v.blocks(func(b *blockIndex) {
		for i := range b.Buffers {
			f(b.Name, &b.Buffers[i])
		}
	})
}

func (v *verifier) bytes() {
	v.buffers(func(block string, b *Buffer) {
		if want := alignUp(b.Type.Bytes(v.bounds())); b.Bytes != want {
			v.fail("%s: buffer %s of device %d, %s, has %d bytes, needs %d", block, b.Name, b.Device, b.Type, b.Bytes, want)
		}
	})
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
		if weights != m.Weights || caches != m.Caches {
			v.fail("device %d: weights are %d bytes, accounted %d; caches %d, accounted %d", m.Device, weights, m.Weights, caches, m.Caches)
		}
	}
}

func alignUp(n int64) int64 { return (n + arenaAlign - 1) / arenaAlign * arenaAlign }

// worstCase checks that the rows of a step with all tokens in one group fit,
// each with all its slots: no routing needs more.
func (v *verifier) worstCase() {
	b := v.bounds()
	v.buffers(func(block string, buf *Buffer) {
		if have := buf.Bytes; have < buf.Type.Bytes(b) {
			v.fail("%s: buffer %s of device %d holds %d bytes, a full step needs %d", block, buf.Name, buf.Device, have, buf.Type.Bytes(b))
		}
	})
	for _, c := range v.p.Caches {
		if pages := (v.p.Limits.Context + v.p.Limits.Page - 1) / v.p.Limits.Page; v.p.Limits.Pages < pages {
			v.fail("cache %s has %d pages, one sequence of %d positions needs %d", c.Name, v.p.Limits.Pages, v.p.Limits.Context, pages)
		}
	}
}
