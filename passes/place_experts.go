package passes

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/placement"
)

// Routed experts are placed when the walk comes to the combine that adds
// their slots up, all at once, because every device computes its own experts'
// rows with its own copy of the nodes before it.

// batch is the experts that the same devices hold in the same way: copies of
// a split. All of them are computed together.
type batch struct {
	split   placement.Split
	shares  []share // as of a region; empty: one device has everything
	experts []int
	turns   [][]int
}

// scope is the tokens that a set of devices computes experts for: those of
// one group, or all.
type scope struct {
	*placer
	r        *Region
	group    int   // -1 for all tokens of several groups, or when there is one
	devices  []int // that want the result
	gathered bool
	values   map[at]*ir.Node // of the region, on devices
	cutAt    map[at]*ir.Node
}

// experts places a region of routed experts.
func (p *placer) experts(r *Region) {
	layer := p.layer(r.Combine)
	if p.g.Groups > 1 && !selfContained(layer) {
		p.gatherGroups(r, layer)
		return
	}
	for g, devices := range layer.Groups {
		s := p.scope(r, p.number(g), devices)
		s.sum(batches(r, layer.Experts, devices, p.placement.Segments))
		for _, d := range devices {
			p.keep(r.Combine, d, s.values[at{r.Combine, d}])
		}
	}
}

func (p *placer) scope(r *Region, group int, devices []int) *scope {
	return &scope{placer: p, r: r, group: group, devices: devices, values: make(map[at]*ir.Node), cutAt: make(map[at]*ir.Node)}
}

// selfContained reports whether every token group has a copy of every expert
// on its own devices.
func selfContained(l *placement.Layer) bool {
	for _, devices := range l.Groups {
		for _, e := range l.Experts {
			if len(within(e, devices)) == 0 {
				return false
			}
		}
	}
	return true
}

// within returns the copies of an expert that lie on the devices.
func within(e placement.Expert, devices []int) []placement.Split {
	var list []placement.Split
	for _, s := range e {
		if !slices.ContainsFunc(s, func(sh placement.Share) bool { return !slices.Contains(devices, sh.Device) }) {
			list = append(list, s)
		}
	}
	return list
}

// gatherGroups brings the tokens of all groups to every device, sums over all
// experts there, and gives each group its own rows back.
func (p *placer) gatherGroups(r *Region, layer *placement.Layer) {
	var devices []int
	for _, g := range layer.Groups {
		devices = append(devices, g...)
	}
	s := p.scope(r, -1, devices)
	s.gathered = true
	s.sum(batches(r, layer.Experts, devices, p.placement.Segments))
	for g, list := range layer.Groups {
		for _, d := range list {
			v := s.values[at{r.Combine, d}]
			p.keep(r.Combine, d, p.add("own_rows", r.Combine, spot{d, g}, ir.MakeAttrs(ir.Attr{Name: "group", Value: g}), v))
		}
	}
}

// batches groups experts by where they are. Copies of an expert that take
// turns are in batches of their own devices.
func batches(r *Region, experts []placement.Expert, devices []int, segments int) []*batch {
	var list []*batch
	for e, homes := range experts {
		copies := within(homes, devices)
		for turn, split := range copies {
			i := slices.IndexFunc(list, func(b *batch) bool { return slices.Equal(b.split, split) })
			if i < 0 {
				i = len(list)
				list = append(list, &batch{split: split, shares: expertShares(r, split, segments)})
			}
			list[i].experts = append(list[i].experts, e)
			list[i].turns = append(list[i].turns, []int{turn, len(copies)})
		}
	}
	for _, b := range list {
		if !slices.ContainsFunc(b.turns, func(t []int) bool { return t[1] > 1 }) {
			b.turns = nil
		}
	}
	return list
}

// expertShares turns a split of an expert into shares of its units.
func expertShares(r *Region, split placement.Split, segments int) []share {
	var list []share
	for _, s := range split {
		first, end := r.Local(s.Lo, s.Hi, segments)
		if first < end && r.Units > 1 {
			lo, hi := r.UnitsOf(first, end)
			list = append(list, share{device: s.Device, first: first, end: end, lo: lo, hi: hi})
		}
	}
	if len(list) < 2 {
		return nil
	}
	for i := range list {
		list[i].index, list[i].of = i, len(list)
	}
	return list
}

// sum computes all batches and leaves the combined rows on every device.
func (s *scope) sum(list []*batch) {
	if len(list) == 1 && list[0].turns == nil {
		s.one(list[0])
		return
	}
	var parts []*ir.Node
	for _, b := range list {
		leader := b.split[0].Device
		s.compute(b, []int{leader})
		attrs := ir.MakeAttrs(ir.Attr{Name: "experts", Value: b.experts}, ir.Attr{Name: "total", Value: s.r.Total})
		if b.turns != nil {
			attrs = attrs.With("turns", b.turns)
		}
		parts = append(parts, s.combine("combine_nodes", leader, attrs))
	}
	attrs := s.sumAttrs(parts)
	for _, d := range s.devices {
		s.values[at{s.r.Combine, d}] = s.add("all_reduce", s.r.Combine, spot{d, s.group}, attrs, parts...)
	}
}

// one is the case that all experts are split alike: every device combines for
// itself what the shares add up to. In fast mode each combines its own part
// first, which sends one row a token instead of one a slot.
func (s *scope) one(b *batch) {
	if len(b.shares) == 0 {
		home := b.split[0].Device
		s.compute(b, []int{home})
		s.values[at{s.r.Combine, home}] = s.combine("combine", home, s.r.Combine.Attrs)
		s.spread(home)
		return
	}
	if s.g.Numerics.Mode == ir.Fast && s.linearAfter() {
		s.fast(b)
		return
	}
	s.compute(b, s.devices)
	for _, d := range s.devices {
		s.values[at{s.r.Combine, d}] = s.combine("combine", d, s.r.Combine.Attrs)
	}
}

// spread copies the combined rows from the one device that has them.
func (s *scope) spread(home int) {
	v := s.values[at{s.r.Combine, home}]
	for _, d := range s.devices {
		if d != home && s.err == nil {
			s.values[at{s.r.Combine, d}] = s.add("transfer", s.r.Combine, spot{d, s.group}, s.channel(nil), v)
		}
	}
}

// linearAfter reports whether what follows the closing contraction only
// rounds, so that parts may be combined before they are added.
func (s *scope) linearAfter() bool {
	return len(s.r.Close) == 1 && !slices.ContainsFunc(s.r.After, func(n *ir.Node) bool { return n.Op.Name != "round" })
}

// fast combines each device's part of the rows and adds those up.
func (s *scope) fast(b *batch) {
	var parts []*ir.Node
	for _, sh := range b.shares {
		s.inner(b, sh)
		closing := s.r.Close[0]
		part := s.member(closing, b, sh, "expert_matmul")
		s.values[at{s.r.Combine.Args[0], sh.device}] = part
		sum := s.combine("combine", sh.device, s.r.Combine.Attrs)
		parts = append(parts, s.add("part", s.r.Combine, spot{sh.device, s.group}, nil, sum))
	}
	attrs := s.sumAttrs(parts)
	for _, d := range s.devices {
		s.values[at{s.r.Combine, d}] = s.add("all_reduce", s.r.Combine, spot{d, s.group}, attrs, parts...)
	}
}

// combine makes a combine or combine_nodes of the rows on a device.
func (s *scope) combine(op string, d int, attrs ir.Attrs) *ir.Node {
	c := s.r.Combine
	return s.add(op, c, spot{d, s.group}, attrs, s.value(c.Args[0], c, d), s.value(c.Args[1], c, d), s.value(c.Args[2], c, d))
}

// compute makes the slot rows of a batch, whole, on the devices that want
// them.
func (s *scope) compute(b *batch, want []int) {
	whole := share{device: b.split[0].Device, hi: s.r.Units}
	shares := b.shares
	if len(shares) == 0 {
		shares = []share{whole}
	}
	for _, sh := range shares {
		s.inner(b, sh)
	}
	for _, n := range s.r.Close {
		if len(b.shares) == 0 {
			s.values[at{n, whole.device}] = s.member(n, b, whole, n.Op.Name)
			continue
		}
		parts := make([]*ir.Node, len(shares))
		for i, sh := range shares {
			parts[i] = s.member(n, b, sh, n.Op.Name+"_nodes")
		}
		attrs := s.sumAttrs(parts)
		for _, d := range want {
			s.values[at{n, d}] = s.add("all_reduce", n, spot{d, s.group}, attrs, parts...)
		}
	}
	for _, n := range s.r.After {
		for _, d := range want {
			s.values[at{n, d}] = s.member(n, b, share{device: d}, n.Op.Name)
		}
	}
}

// inner makes the nodes before the closing contraction on a share's device.
func (s *scope) inner(b *batch, sh share) {
	for _, n := range s.r.Before {
		s.values[at{n, sh.device}] = s.member(n, b, sh, n.Op.Name)
	}
	for _, n := range slicesSorted(s.old, s.r.Open, s.r.Inner) {
		s.cutAt[at{n, sh.device}] = s.member(n, b, sh, n.Op.Name)
	}
}

// slicesSorted joins lists of nodes in graph order.
func slicesSorted(g *ir.Graph, lists ...[]*ir.Node) []*ir.Node {
	in := make(map[*ir.Node]bool)
	for _, list := range lists {
		for _, n := range list {
			in[n] = true
		}
	}
	var out []*ir.Node
	for _, n := range g.Nodes {
		if in[n] {
			out = append(out, n)
		}
	}
	return out
}

// member makes a node of the region for a batch of experts and a share of
// their units.
func (s *scope) member(n *ir.Node, b *batch, sh share, op string) *ir.Node {
	m, cut := s.r.Members[n]
	divided := cut && len(b.shares) > 0
	args := make([]*ir.Node, len(n.Args))
	for i, a := range n.Args {
		c := Whole
		if divided {
			c = m.Args[i]
		}
		args[i] = s.operand(a, n, c, b, sh)
	}
	attrs := n.Attrs
	if op == "expert_matmul_nodes" {
		attrs = s.segmentsOf(n, s.r, sh)
	} else if divided && attrs.Has("bounds") {
		attrs = attrs.Without("bounds")
	}
	if n.Op.Name == "reshape" && divided {
		attrs = attrs.With("tail", tailOf(attrs.Ints("tail"), m.Result, sh))
	}
	if attrs.Has("experts") {
		attrs = attrs.With("experts", b.experts)
		if b.turns != nil {
			attrs = attrs.With("turns", b.turns)
		}
	}
	return s.add(op, n, spot{sh.device, s.group}, attrs, args...)
}

// operand finds an operand of a region's node.
func (s *scope) operand(a, n *ir.Node, c Cut, b *batch, sh share) *ir.Node {
	if v, ok := s.cutAt[at{a, sh.device}]; ok && s.regions[a] == s.r {
		return v
	}
	if a.Op.Name == "weight" {
		return s.add("weight", a, spot{sh.device, -1}, s.expertWeight(a, n, c, b, sh))
	}
	v := s.value(a, n, sh.device)
	if c.IsWhole() || v == nil {
		return v
	}
	lo, hi := c.Range(sh.lo, sh.hi)
	return s.add("slice", n, spot{sh.device, v.Group}, sliceAttrs(c.Axis, lo, hi, 1), v)
}

// expertWeight is the part of a weight that a device holds: its experts, if
// the op takes some, and its units.
func (s *scope) expertWeight(w, n *ir.Node, c Cut, b *batch, sh share) ir.Attrs {
	attrs := w.Attrs
	if !c.IsWhole() {
		lo, hi := c.Range(sh.lo, sh.hi)
		attrs = sliceWeight(w, c.Axis, lo, hi)
	}
	if !n.Attrs.Has("experts") || len(b.experts) == s.r.Total && slices.IsSorted(b.experts) {
		return attrs
	}
	shape := append([]int(nil), attrs.Ints("shape")...)
	shape[0] = len(b.experts)
	return attrs.With("shape", shape).With("experts", b.experts)
}

// value returns a whole value on a device with the rows of the scope: of the
// region, or from outside of it.
func (s *scope) value(a, n *ir.Node, d int) *ir.Node {
	if v, ok := s.values[at{a, d}]; ok {
		return v
	}
	if s.err != nil {
		return nil
	}
	if s.regions[a] == s.r {
		s.err = fmt.Errorf("internal error: device %d lacks %%%d %s of the experts of layer %d", d, a.ID(), a.Op.Name, s.r.Layer)
		return nil
	}
	if !s.gathered || len(a.Type.Shape) == 0 || a.Type.Shape.Sym() == "" {
		return s.get(a, n, d, s.group)
	}
	if v, ok := s.all[at{a, d}]; ok {
		return v
	}
	s.gatherRows(a, n)
	return s.all[at{a, d}]
}

// gatherRows joins the rows of all token groups on every device.
func (s *scope) gatherRows(a, n *ir.Node) {
	var parts []*ir.Node
	for g, devices := range s.layer(n).Groups {
		parts = append(parts, s.get(a, n, devices[0], g))
	}
	attrs := s.channel(ir.MakeAttrs(ir.Attr{Name: "axis", Value: 0}))
	for _, d := range s.devices {
		s.all[at{a, d}] = s.add("all_gather", n, spot{d, -1}, attrs, parts...)
	}
}
