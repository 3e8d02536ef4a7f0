package passes

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/placement"
)

// holder is a device with its share of a region: the segments first to end-1.
type holder struct {
	device, first, end int
}

// all reports whether the holder has all of the region.
func (h holder) all(r *Region) bool { return h.first == 0 && h.end == r.Leaves() }

// holders returns the devices that have a part of the region, in the order of
// their shares. A region may have fewer segments than the placement counts;
// some shares are then empty.
func (p *placer) holders(r *Region, s placement.Split) []holder {
	var list []holder
	for _, sh := range s {
		if first, end := r.Local(sh.Lo, sh.Hi, p.plan.Segments); first < end {
			list = append(list, holder{sh.Device, first, end})
		}
	}
	return list
}

// split returns how the placement divides a region for a token group.
func (p *placer) split(r *Region, group int) placement.Split {
	switch r.Kind {
	case Embedding:
		return p.plan.Embed[group]
	case Head:
		return p.plan.Head[group]
	case Attention:
		return p.plan.Layers[r.Layer].Attention[group]
	}
	return p.plan.Layers[r.Layer].Dense[group]
}

// member computes the parts of a member of a region outside the experts, and
// brings them together where somebody needs the whole.
func (p *placer) member(r *Region, n *ir.Node) {
	for group, devices := range p.groups(n) {
		tag := p.tag(n, group)
		holders := p.holders(r, p.split(r, group))
		if holders[0].all(r) {
			for _, h := range holders {
				p.compute(n, tag, h.device)
			}
			continue
		}
		var parts []*ir.Node
		for i, h := range holders {
			s := &share{placer: p, r: r, holder: h, index: i, of: len(holders), tag: tag}
			v := s.part(n)
			p.parts[valueKey{n, tag, h.device}] = v
			parts = append(parts, v)
		}
		if p.err != nil {
			return
		}
		var joined []*ir.Node
		switch {
		case slices.Contains(r.Close, n):
			joined = p.reduce(tag, devices, parts)
		case slices.Contains(r.Gather, n):
			joined = p.collect("all_gather", tag, devices, ir.MakeAttrs(ir.Attr{Name: "axis", Value: r.Members[n].Result.Axis}), parts...)
		}
		for _, v := range joined {
			p.set(n, tag, v)
		}
	}
}

// reduce adds partial sums of segments on each of the devices.
func (p *placer) reduce(tag int, devices []int, parts []*ir.Node) []*ir.Node {
	spans := make([][]int, len(parts))
	for i, n := range parts {
		for _, s := range n.LocalSpans() {
			spans[i] = append(spans[i], s.Lo, s.Hi)
		}
	}
	return p.addUp(tag, devices, parts, spans, parts[0].Attrs.Int("leaves", 1))
}

func (p *placer) addUp(tag int, devices []int, parts []*ir.Node, spans [][]int, leaves int) []*ir.Node {
	attrs := ir.MakeAttrs(ir.Attr{Name: "spans", Value: spans}, ir.Attr{Name: "leaves", Value: leaves})
	return p.collect("all_reduce", tag, devices, attrs, parts...)
}

// share computes parts of members on one device.
type share struct {
	*placer
	r *Region
	holder
	index, of int // which of the shares this is, and how many there are
	tag       int
	team      *team // of an Experts region
}

// part computes the share's part of n.
func (s *share) part(n *ir.Node) *ir.Node {
	m := s.r.Members[n]
	args := make([]*ir.Node, len(n.Args))
	for i, a := range n.Args {
		args[i] = s.operand(a, m.Args[i])
	}
	if s.err != nil {
		return n
	}
	op, attrs := n.Op, s.expertAttrs(n)
	if m.Result.IsWhole() {
		if s.team != nil && s.team.early {
			return s.add(op, n, s.tag, s.device, attrs, args...)
		}
		op, attrs = ir.Op(op.Name+"_nodes"), s.sumAttrs(attrs, m.Args[0])
	} else if adjust, ok := partAttrs[n.Op.Name]; ok {
		lo, hi := s.r.UnitsOf(s.first, s.end)
		attrs = adjust(attrs, m, lo, hi)
	}
	return s.add(op, n, s.tag, s.device, attrs, args...)
}

// operand returns what the share reads of a: the whole value, its own part, or
// a slice of the whole value.
func (s *share) operand(a *ir.Node, c Cut) *ir.Node {
	if c.IsWhole() {
		return s.wholeOperand(a)
	}
	if m, ok := s.r.Members[a]; ok && !m.Result.IsWhole() {
		if s.team != nil {
			return s.team.parts[valueKey{a, s.tag, s.device}]
		}
		return s.parts[valueKey{a, s.tag, s.device}]
	}
	lo, hi := s.r.UnitsOf(s.first, s.end)
	first, end := c.Range(lo, hi)
	if a.Op.Name == "weight" {
		return s.weight(a, s.device, part{c.Axis, first, end}, s.heldOf(a))
	}
	return s.piece(s.wholeOperand(a), part{c.Axis, first, end})
}

func (s *share) wholeOperand(a *ir.Node) *ir.Node {
	if s.team != nil {
		if v := s.team.values[valueKey{a, s.tag, s.device}]; v != nil {
			return v
		}
		if held := s.heldOf(a); held != nil {
			return s.weight(a, s.device, noPart, held)
		}
	}
	return s.whole(a, s.placer.tag(a, s.tag), s.device)
}

// heldOf returns the experts whose entries of a weight the share holds, or nil
// for a weight that has none or when it holds all.
func (s *share) heldOf(a *ir.Node) []int {
	if s.team == nil || a.Op.Name != "weight" || !s.stacks[a.Attrs.Text("name")] || s.team.everything(s.r) {
		return nil
	}
	return s.team.experts
}

// sumAttrs describes the share's segments of a contraction whose input
// features are cut as c.
func (s *share) sumAttrs(attrs ir.Attrs, c Cut) ir.Attrs {
	all := s.r.BoundsOf(c)
	if s.g.Numerics.Mode == ir.Fast {
		local := []int{0, all[s.end] - all[s.first]}
		return attrs.With("bounds", local).With("leaf", s.index).With("leaves", s.of)
	}
	local := make([]int, 0, s.end-s.first+1)
	for _, b := range all[s.first : s.end+1] {
		local = append(local, b-all[s.first])
	}
	return attrs.With("bounds", local).With("leaf", s.first).With("leaves", s.r.Leaves())
}

// partAttrs says how the attributes of an op change when it computes the units
// lo to hi-1 of its result. Ops without an entry keep theirs.
var partAttrs = map[string]func(a ir.Attrs, m Member, lo, hi int) ir.Attrs{
	"reshape": func(a ir.Attrs, m Member, lo, hi int) ir.Attrs {
		first, end := m.Result.Range(lo, hi)
		tail := slices.Clone(a.Ints("tail"))
		tail[m.Result.Axis-1] = end - first
		return a.With("tail", tail)
	},
	"attention": func(a ir.Attrs, m Member, lo, hi int) ir.Attrs {
		query, _ := m.Result.Range(lo, hi)
		kv, _ := m.Args[1].Range(lo, hi)
		return a.With("q_first", query).With("kv_first", kv)
	},
}

// part is the entries lo to hi-1 of an axis.
type part struct{ axis, lo, hi int }

// noPart is all of a value.
var noPart = part{axis: -1}

type pieceKey struct {
	v *ir.Node
	part
}

// piece returns a part of a value on the value's device.
func (p *placer) piece(v *ir.Node, at part) *ir.Node {
	if p.err != nil || v.Type.Shape[at.axis].N == at.hi-at.lo {
		return v
	}
	key := pieceKey{v, at}
	if n := p.pieces[key]; n != nil {
		return n
	}
	n := p.add(ir.Op("slice"), p.now, v.Group, v.Device, sliceAttrs(at.axis, at.lo, at.hi, 1), v)
	if p.err == nil {
		n.Name = ""
		p.pieces[key] = n
	}
	return n
}

type weightKey struct {
	name   string
	device int
	part
	experts string
}

// weight returns a weight on a device: a part of one axis, and of the experts
// those listed, or all.
func (p *placer) weight(n *ir.Node, device int, at part, experts []int) *ir.Node {
	name := n.Attrs.Text("name")
	shape := slices.Clone(n.Attrs.Ints("shape"))
	if at != noPart && shape[at.axis] == at.hi-at.lo {
		at = noPart
	}
	key := weightKey{name, device, at, fmt.Sprint(experts)}
	if w := p.weights[key]; w != nil {
		return w
	}
	attrs := n.Attrs
	if at != noPart {
		slice := make([][]int, len(shape))
		for i, d := range shape {
			slice[i] = []int{0, d}
		}
		slice[at.axis] = []int{at.lo, at.hi}
		shape[at.axis] = at.hi - at.lo
		attrs = attrs.With("slice", slice)
	}
	if experts != nil {
		shape[0] = len(experts)
		attrs = attrs.With("experts", experts)
	}
	w := p.add(n.Op, n, everywhere, device, attrs.With("shape", shape))
	p.weights[key] = w
	return w
}
