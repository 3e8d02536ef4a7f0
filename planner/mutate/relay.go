package mutate

import "moec/planner/plan"

func alignUp(n int64) int64 { return (n + unit - 1) / unit * unit }

// relay lays the memory of a plan out again, so that sizes agree with types
// and nothing overlaps: a mutant that is wrong elsewhere is then not refused
// for its memory. No two buffers share memory afterwards.
func relay(p *plan.Plan) {
	var consts int64
	for i := range p.Consts {
		c := &p.Consts[i]
		c.Offset = consts
		consts += alignUp(int64(4 * len(c.Values)))
	}
	next := make([]int64, len(p.Memory))
	there := func(device int) bool { return device >= 0 && device < len(next) }
	for d := range p.Memory {
		m := &p.Memory[d]
		m.Consts, m.Weights, m.Caches, m.Buffers = consts, 0, 0, 0
		next[d] = consts
	}
	put := func(device int, bytes int64, layers int, account *int64) (offset, stride int64) {
		offset, stride = next[device], alignUp(bytes)
		next[device] += stride * int64(layers)
		*account += stride * int64(layers)
		return offset, stride
	}
	for i := range p.Weights {
		if w := &p.Weights[i]; there(w.Device) {
			w.Offset, w.Stride = put(w.Device, w.Bytes(), w.Layers.Len(), &p.Memory[w.Device].Weights)
		}
	}
	for i := range p.Caches {
		if c := &p.Caches[i]; there(c.Device) {
			c.Offset, c.Stride = put(c.Device, c.Bytes(p.Limits), c.Layers.Len(), &p.Memory[c.Device].Caches)
		}
	}
	relayBuffers(p, next)
	for d := range p.Memory {
		m := &p.Memory[d]
		m.Total = m.Consts + m.Weights + m.Caches + m.Buffers
	}
}

// relayBuffers puts buffers one after the other from the offsets given:
// those of a program, then those of each of its blocks.
func relayBuffers(p *plan.Plan, first []int64) {
	bounds := p.Limits.Bounds()
	put := func(b *plan.Buffer, next []int64) {
		if b.Device < 0 || b.Device >= len(next) {
			return
		}
		b.Offset, b.Bytes = next[b.Device], alignUp(b.Type.Bytes(bounds))
		next[b.Device] += b.Bytes
		m := &p.Memory[b.Device]
		m.Buffers = max(m.Buffers, next[b.Device]-first[b.Device])
	}
	for i := range p.Programs {
		prog := &p.Programs[i]
		shared := append([]int64(nil), first...)
		for j := range prog.Buffers {
			put(&prog.Buffers[j], shared)
		}
		for j := range prog.Blocks {
			own := append([]int64(nil), shared...)
			for k := range prog.Blocks[j].Buffers {
				put(&prog.Blocks[j].Buffers[k], own)
			}
		}
	}
}
