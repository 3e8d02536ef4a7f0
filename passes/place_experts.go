package passes

import (
	"reflect"
	"slices"

	"moec/ir"
	"moec/ir/placement"
)

// team is the devices that together hold some experts: one device that has
// them whole, or several that divide each of them the same way.
type team struct {
	split   placement.Split
	experts []int
	turns   [][]int // of each expert: [r, n], it serves the rows t with t mod n = r
	holders []holder

	early  bool                  // slots are combined before they are added up over the team
	values map[valueKey]*ir.Node // whole rows of slots
	parts  map[valueKey]*ir.Node // cut and partial ones
}

// everything reports whether the team holds all experts of the region.
func (t *team) everything(r *Region) bool { return len(t.experts) == r.Total }

// alone reports whether one device holds the team's experts.
func (t *team) alone() bool { return len(t.holders) == 1 }

// inTurns reports whether other copies of some experts take turns with these.
func (t *team) inTurns() bool {
	return slices.ContainsFunc(t.turns, func(turn []int) bool { return turn[1] > 1 })
}

// experts computes the slots of a region where its experts live and combines
// them for every token group.
func (p *placer) experts(r *Region) {
	layer := &p.plan.Layers[r.Layer]
	if p.g.Groups > 1 && layer.Local() {
		for group, devices := range layer.Groups {
			copies := make([]placement.Expert, r.Total)
			for e := range copies {
				copies[e] = layer.Experts[e].In(devices)
			}
			p.serve(r, group, p.teams(r, copies), devices)
		}
		return
	}
	teams := p.teams(r, layer.Experts[:r.Total]) // others belong to another choice in the layer
	if p.g.Groups == 1 {
		p.serve(r, everywhere, teams, layer.Groups[0])
		return
	}
	p.spread(r, teams)
	p.serve(r, everywhere, teams, slices.Concat(layer.Groups...))
	for group, devices := range layer.Groups {
		for _, d := range devices {
			all := p.whole(r.Combine, everywhere, d)
			own := p.add(ir.Op("own_rows"), r.Combine, group, d, ir.MakeAttrs(ir.Attr{Name: "group", Value: group}), all)
			p.set(r.Combine, group, own)
		}
	}
}

// teams sorts copies of experts by who holds them.
func (p *placer) teams(r *Region, copies []placement.Expert) []*team {
	var teams []*team
	for e, expert := range copies {
		for turn, split := range expert {
			at := slices.IndexFunc(teams, func(t *team) bool { return reflect.DeepEqual(t.split, split) })
			if at < 0 {
				at = len(teams)
				teams = append(teams, &team{split: split, holders: p.holders(r, split), values: map[valueKey]*ir.Node{}, parts: map[valueKey]*ir.Node{}})
			}
			t := teams[at]
			t.experts = append(t.experts, e)
			t.turns = append(t.turns, []int{turn, len(expert)})
		}
	}
	return teams
}

// serve computes the slots of the rows with a tag on each team and leaves
// their combination on the devices that want it.
func (p *placer) serve(r *Region, tag int, teams []*team, wanted []int) {
	p.serving = true
	defer func() { p.serving = false }()
	if p.early(r, teams) {
		p.serveEarly(r, tag, teams[0], wanted)
		return
	}
	if t := teams[0]; len(teams) == 1 && everyone(t, wanted) {
		for _, s := range p.shares(r, tag, t) {
			s.before()
		}
		p.sums(r, tag, t, t.holders)
		for _, s := range p.shares(r, tag, t) {
			s.after()
			p.set(r.Combine, tag, s.add(r.Combine.Op, r.Combine, tag, s.device, r.Combine.Attrs, s.combined()...))
		}
		return
	}
	var nodes []*ir.Node
	for _, t := range teams {
		shares := p.shares(r, tag, t)
		for _, s := range shares {
			s.before()
		}
		p.sums(r, tag, t, t.holders[:1])
		shares[0].after()
		nodes = append(nodes, shares[0].combineNodes())
	}
	if p.err != nil {
		return
	}
	spans := make([][]int, len(nodes))
	for i, n := range nodes {
		for _, s := range n.ExpertSpans() {
			spans[i] = append(spans[i], s.Lo, s.Hi)
		}
	}
	for _, v := range p.addUp(tag, wanted, nodes, spans, r.Total) {
		p.set(r.Combine, tag, v)
	}
}

// everyone reports whether each of the devices is in the team.
func everyone(t *team, devices []int) bool {
	for _, d := range devices {
		if !slices.ContainsFunc(t.holders, func(h holder) bool { return h.device == d }) {
			return false
		}
	}
	return !t.inTurns()
}

func (p *placer) shares(r *Region, tag int, t *team) []*share {
	list := make([]*share, len(t.holders))
	for i, h := range t.holders {
		list[i] = &share{placer: p, r: r, holder: h, index: i, of: len(t.holders), tag: tag, team: t}
	}
	return list
}

// before computes all slots up to the sums over features: parts of members,
// or whole values where the device is alone.
func (s *share) before() {
	for _, n := range s.sorted(s.r.Before, s.r.Open, s.r.Inner, s.r.Close) {
		key := valueKey{n, s.tag, s.device}
		if _, member := s.r.Members[n]; member && !s.team.alone() {
			s.team.parts[key] = s.part(n)
		} else {
			s.team.values[key] = s.slot(n)
		}
	}
}

// after computes the slots that follow the sums over features.
func (s *share) after() {
	for _, n := range s.sorted(s.r.After) {
		s.team.values[valueKey{n, s.tag, s.device}] = s.slot(n)
	}
}

// sorted returns nodes in graph order.
func (p *placer) sorted(lists ...[]*ir.Node) []*ir.Node {
	all := slices.Concat(lists...)
	slices.SortFunc(all, func(a, b *ir.Node) int { return p.at[a] - p.at[b] })
	return all
}

// slot computes whole rows of slots.
func (s *share) slot(n *ir.Node) *ir.Node {
	args := make([]*ir.Node, len(n.Args))
	for i, a := range n.Args {
		args[i] = s.wholeOperand(a)
	}
	return s.add(n.Op, n, s.tag, s.device, s.expertAttrs(n), args...)
}

// sums adds up a team's partial sums on some of its devices.
func (p *placer) sums(r *Region, tag int, t *team, on []holder) {
	if t.alone() {
		return
	}
	for _, n := range r.Close {
		var parts []*ir.Node
		for _, h := range t.holders {
			parts = append(parts, t.parts[valueKey{n, tag, h.device}])
		}
		devices := make([]int, len(on))
		for i, h := range on {
			devices[i] = h.device
		}
		if p.err != nil {
			return
		}
		for _, v := range p.reduce(tag, devices, parts) {
			t.values[valueKey{n, tag, v.Device}] = v
		}
	}
}

// expertAttrs says which experts an op works on, if it works on experts.
func (s *share) expertAttrs(n *ir.Node) ir.Attrs {
	if s.team == nil || !n.Attrs.Has("experts") {
		return n.Attrs
	}
	attrs := n.Attrs.With("experts", s.team.experts)
	if s.team.inTurns() {
		attrs = attrs.With("turns", s.team.turns)
	}
	return attrs
}

// combined returns the operands of the combine op.
func (s *share) combined() []*ir.Node {
	args := make([]*ir.Node, len(s.r.Combine.Args))
	for i, a := range s.r.Combine.Args {
		args[i] = s.wholeOperand(a)
	}
	return args
}

// combineAttrs describes the combination of the experts held.
func (s *share) combineAttrs() ir.Attrs {
	attrs := s.r.Combine.Attrs.With("experts", s.team.experts)
	if s.team.inTurns() {
		attrs = attrs.With("turns", s.team.turns)
	}
	return attrs
}

func (s *share) combineNodes() *ir.Node {
	return s.add(ir.Op("combine_nodes"), s.r.Combine, s.tag, s.device, s.combineAttrs(), s.combined()...)
}

// spread brings the rows of all token groups to the devices of the teams. The
// rows that the experts work on are gathered; what else the slots need is
// computed again from those where that is possible (the routing, usually),
// which costs less than another collective, and gathered otherwise.
func (p *placer) spread(r *Region, teams []*team) {
	var devices []int
	for _, t := range teams {
		for _, h := range t.holders {
			if !slices.Contains(devices, h.device) {
				devices = append(devices, h.device)
			}
		}
	}
	slices.Sort(devices)
	s := &spreader{placer: p, r: r, devices: devices, done: map[*ir.Node]bool{}, from: map[*ir.Node]bool{}}
	slots := p.sorted(r.Before, r.Open, r.Inner, r.Close, r.After)
	for _, n := range slots {
		if n.Op.Name == "dispatch" && !s.done[n.Args[0]] {
			s.gather(n.Args[0])
		}
	}
	for _, n := range append(slots, r.Combine) {
		for _, a := range n.Args {
			if p.owner[a] != r {
				s.bring(a)
			}
		}
	}
}

type spreader struct {
	*placer
	r       *Region
	devices []int
	done    map[*ir.Node]bool // for all tokens, on all devices
	from    map[*ir.Node]bool // can be computed from what is done; filled by computable
}

// bring makes n available for all tokens.
func (s *spreader) bring(n *ir.Node) {
	switch {
	case s.done[n] || !perToken(n) || n.Op.Has(ir.Nullary):
	case s.computable(n):
		for _, a := range n.Args {
			s.bring(a)
		}
		s.done[n] = true
		for _, d := range s.devices {
			s.compute(n, everywhere, d)
		}
	default:
		s.gather(n)
	}
}

// computable reports whether the rows of n follow from rows that are gathered
// already.
func (s *spreader) computable(n *ir.Node) bool {
	if s.done[n] {
		return true
	}
	if c, ok := s.from[n]; ok {
		return c
	}
	c := n.Op.Has(ir.RowWise) && !n.Op.Has(ir.Nullary) && s.owner[n] == nil && n.Layer == s.r.Layer
	for _, a := range n.Args {
		c = c && (!perToken(a) || s.computable(a))
	}
	s.from[n] = c
	return c
}

// gather joins the rows of n of all groups on the devices.
func (s *spreader) gather(n *ir.Node) {
	s.done[n] = true
	rows := make([]*ir.Node, s.g.Groups)
	for group := range rows {
		home := s.sources[valueKey{n, group, 0}]
		if len(home) == 0 {
			s.fail("internal error: nobody has %%%d %s for group %d", n.ID(), n.Op.Name, group)
			return
		}
		rows[group] = s.values[valueKey{n, group, home[0]}]
	}
	for _, v := range s.collect("all_gather", everywhere, s.devices, ir.MakeAttrs(ir.Attr{Name: "axis", Value: 0}), rows...) {
		s.set(n, everywhere, v)
	}
}
