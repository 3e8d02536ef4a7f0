package passes

import (
	"moec/ir"
	"moec/ir/tree"
)

// part makes a region's node on a device, for its share of the units.
func (p *placer) part(n *ir.Node, r *Region, s share, group int) *ir.Node {
	m := r.Members[n]
	to := spot{s.device, group}
	args := make([]*ir.Node, len(n.Args))
	for i, a := range n.Args {
		args[i] = p.partOf(a, n, m.Args[i], s, to)
	}
	op, attrs := n.Op.Name, n.Attrs
	switch op {
	case "reshape":
		attrs = attrs.With("tail", tailOf(attrs.Ints("tail"), m.Result, s))
	case "attention":
		first, _ := m.Result.Range(s.lo, s.hi)
		kv, _ := m.Args[1].Range(s.lo, s.hi)
		attrs = attrs.With("q_first", first).With("kv_first", kv)
	case "matmul", "expert_matmul":
		for _, c := range r.Close {
			if c == n {
				op, attrs = op+"_nodes", p.segmentsOf(n, r, s)
			}
		}
	}
	return p.add(op, n, to, attrs, args...)
}

// tailOf is the tail of a reshape on a device: the cut axis is as long as its
// share.
func tailOf(tail []int, c Cut, s share) []int {
	out := append([]int(nil), tail...)
	lo, hi := c.Range(s.lo, s.hi)
	out[c.Axis-1] = hi - lo
	return out
}

// segmentsOf says which segments of a contraction a device sums: its own, or
// in fast mode all of its share as one.
func (p *placer) segmentsOf(n *ir.Node, r *Region, s share) ir.Attrs {
	whole := n.Attrs.Ints("bounds")
	if whole == nil {
		c := r.Members[n].Args[0]
		lo, hi := c.Range(s.lo, s.hi)
		return n.Attrs.With("bounds", []int{0, hi - lo}).With("leaf", s.index).With("leaves", s.of)
	}
	bounds := make([]int, 0, s.end-s.first+1)
	for _, b := range whole[s.first : s.end+1] {
		bounds = append(bounds, b-whole[s.first])
	}
	return n.Attrs.With("bounds", bounds).With("leaf", s.first).With("leaves", len(whole)-1)
}

// partOf returns a device's part of an operand: its own shard, a slice of a
// weight, or a slice of a value that it has whole.
func (p *placer) partOf(a, n *ir.Node, c Cut, s share, to spot) *ir.Node {
	if c.IsWhole() {
		return p.get(a, n, to.device, to.group)
	}
	if v, ok := p.cut[at{a, to.device}]; ok && p.regions[a] == p.regions[n] {
		return v
	}
	lo, hi := c.Range(s.lo, s.hi)
	if a.Op.Name == "weight" {
		return p.add("weight", a, spot{to.device, -1}, sliceWeight(a, c.Axis, lo, hi))
	}
	v := p.get(a, n, to.device, to.group)
	if v == nil {
		return nil
	}
	return p.add("slice", n, spot{to.device, v.Group}, sliceAttrs(c.Axis, lo, hi, 1), v)
}

// sliceWeight is the attributes of a weight of which a device holds the
// entries lo to hi-1 along an axis.
func sliceWeight(w *ir.Node, axis, lo, hi int) ir.Attrs {
	shape := append([]int(nil), w.Attrs.Ints("shape")...)
	slice := w.Attrs.Sets("slice")
	if slice == nil {
		for _, d := range shape {
			slice = append(slice, []int{0, d})
		}
	}
	slice = append([][]int(nil), slice...)
	slice[axis] = []int{lo, hi}
	shape[axis] = hi - lo
	return w.Attrs.With("slice", slice).With("shape", shape)
}

// reduce adds up the partial sums of a closing contraction on every device of
// the token group.
func (p *placer) reduce(n *ir.Node, shares []share, devices []int, group int) {
	parts := make([]*ir.Node, len(shares))
	for i, s := range shares {
		parts[i] = p.cut[at{n, s.device}]
	}
	attrs := p.sumAttrs(parts)
	for _, d := range devices {
		p.keep(n, d, p.add("all_reduce", n, spot{d, group}, attrs, parts...))
	}
}

// sumAttrs lists the subtrees of parts and numbers the collective. In fast
// mode each part is a leaf of its own, in the order of devices.
func (p *placer) sumAttrs(parts []*ir.Node) ir.Attrs {
	if p.err != nil {
		return nil
	}
	var sets [][]int
	leaves := len(parts)
	for i, v := range parts {
		spans := []tree.Span{{Lo: i, Hi: i + 1}}
		switch v.Op.Name {
		case "matmul_nodes", "expert_matmul_nodes":
			spans, leaves = v.LocalSpans(), v.Attrs.Int("leaves", 0)
		case "combine_nodes":
			spans, leaves = v.ExpertSpans(), v.Attrs.Int("total", 0)
		}
		var flat []int
		for _, s := range spans {
			flat = append(flat, s.Lo, s.Hi)
		}
		sets = append(sets, flat)
	}
	return p.channel(ir.MakeAttrs(ir.Attr{Name: "spans", Value: sets}, ir.Attr{Name: "leaves", Value: leaves}))
}

// gather joins the shards of a value on every device of the token group.
func (p *placer) gather(n *ir.Node, axis int, shares []share, devices []int) {
	shards := make([]*ir.Node, len(shares))
	for i, s := range shares {
		shards[i] = p.cut[at{n, s.device}]
	}
	if p.err != nil {
		return
	}
	attrs := p.channel(ir.MakeAttrs(ir.Attr{Name: "axis", Value: axis}))
	for _, d := range devices {
		p.keep(n, d, p.add("all_gather", n, spot{d, shards[0].Group}, attrs, shards...))
	}
}
