package search

import (
	"math/rand/v2"
	"slices"

	"moec/ir/placement"
	"moec/passes"
)

// with returns a placement in which some layers are replaced.
func with(p *placement.Placement, first int, layers ...placement.Layer) *placement.Placement {
	c := *p
	c.Layers = slices.Clone(p.Layers)
	copy(c.Layers[first:], layers)
	return &c
}

// change prices a placement that differs from that of s in the layers first to
// last, and in where they meet others: only what depends on those is priced
// again. first is -1 when the embedding's split has changed, last the number
// of layers when the head's has.
func (m *model) change(s *state, p *placement.Placement, first, last int) (*state, error) {
	n := &state{p: p, parts: slices.Clone(s.parts), times: slices.Clone(s.times), score: s.score, bytes: slices.Clone(s.bytes)}
	tied := first <= 0 || last >= m.layers()-1
	if tied {
		n.retie(s, -1)
	}
	var needs []passes.Need // of the part after the one that is priced
	lo, hi := first+1, last+1
	if last >= 0 && last < m.layers() && !sameGroups(s.p.Layers[last].Groups, p.Layers[last].Groups) {
		hi++ // the next part takes what it reads from other devices
	}
	if first <= 0 {
		lo, hi = 0, max(hi, 1) // the prologue works with the groups of layer 0, which reads the embedding
	}
	hi = min(hi, len(m.parts)-1)
	if hi < len(m.parts)-1 {
		needs = s.parts[hi+1].script.needs
	}
	for i := hi; i >= 0; i-- {
		if i < lo && n.parts[i+1].script.key == s.parts[i+1].script.key {
			break // nothing that it depends on has changed
		}
		ps, err := m.evaluate(i, p, needs, m.reusable(s, p, i, n))
		if err != nil {
			return nil, err
		}
		n.add(s.parts[i], -1)
		n.add(ps, 1)
		n.parts[i], needs = ps, ps.script.needs
	}
	if tied {
		n.retie(n, 1)
	}
	return n, nil
}

// reusable returns the script of a part if only homes of experts have changed,
// and not the set of devices that have any.
func (m *model) reusable(s *state, p *placement.Placement, i int, n *state) *script {
	if i < 2 || i > m.layers() || m.parts[i].slow {
		return nil
	}
	a, b := &s.p.Layers[i-1], &p.Layers[i-1]
	same := sameGroups(a.Groups, b.Groups) && sameSplits(a.Attention, b.Attention) && sameSplits(a.Dense, b.Dense) &&
		sameGroups(s.p.Layers[i-2].Groups, p.Layers[i-2].Groups) && n.parts[i+1].script.key == s.parts[i+1].script.key
	if !same || s.parts[i].script.pre == nil {
		return nil
	}
	if &a.Experts[0] != &b.Experts[0] {
		if len(a.Groups) > 1 && a.Local() != b.Local() || !slices.Equal(devicesOf(a.Experts), devicesOf(b.Experts)) {
			return nil
		}
	}
	return s.parts[i].script
}

func sameGroups(a, b [][]int) bool { return slices.EqualFunc(a, b, slices.Equal[[]int]) }

func sameSplits(a, b []placement.Split) bool {
	return slices.EqualFunc(a, b, slices.Equal[placement.Split])
}

// mover proposes changes of placements, out of a list of kinds.
type mover struct {
	*model
	*rand.Rand
	hand []*placement.Placement // strategies to take layers from
}

// moves is the table of kinds of changes. A move returns the changed placement
// and the layers that differ, or nil if it found nothing to change.
var moves = [...]struct {
	name   string
	weight int // how often it is proposed
	make   func(*mover, *placement.Placement) (p *placement.Placement, first, last int)
}{
	{"move an expert", 6, (*mover).moveExpert},
	{"swap two experts", 6, (*mover).swapExperts},
	{"copy an expert", 3, (*mover).copyExpert},
	{"drop a copy", 3, (*mover).dropCopy},
	{"split a part otherwise", 2, (*mover).resplit},
	{"take another layer's placement", 3, (*mover).propagate},
	{"take a strategy's layers", 2, (*mover).strategyRun},
	{"split the embedding or the head otherwise", 1, (*mover).resplitEnds},
}

// propose makes a random change.
func (v *mover) propose(p *placement.Placement) (*placement.Placement, int, int) {
	total := 0
	for _, k := range moves {
		total += k.weight
	}
	at := v.IntN(total)
	for _, k := range moves {
		if at -= k.weight; at < 0 {
			return k.make(v, p)
		}
	}
	return nil, 0, 0
}

// routed picks a layer that has experts, or -1.
func (v *mover) routed() int {
	l := v.IntN(v.layers())
	for range v.layers() {
		if v.parts[l+1].experts > 0 {
			return l
		}
		l = (l + 1) % v.layers()
	}
	return -1
}

// home is an expert's only copy, on one device.
func (v *mover) home(device int) placement.Expert {
	return placement.Expert{{{Device: device, Lo: 0, Hi: v.segments()}}}
}

// editExperts returns p with the experts of a layer edited.
func editExperts(p *placement.Placement, l int, edit func([]placement.Expert)) *placement.Placement {
	layer := p.Layers[l]
	layer.Experts = slices.Clone(layer.Experts)
	edit(layer.Experts)
	return with(p, l, layer)
}

// hosts are the devices that a layer's experts may go to: those of its groups.
func hosts(l *placement.Layer) []int {
	if len(l.Groups) == 1 {
		return l.Groups[0]
	}
	return slices.Concat(l.Groups...)
}

func (v *mover) moveExpert(p *placement.Placement) (*placement.Placement, int, int) {
	l := v.routed()
	if l < 0 {
		return nil, 0, 0
	}
	list := hosts(&p.Layers[l])
	e, d := v.IntN(len(p.Layers[l].Experts)), list[v.IntN(len(list))]
	return editExperts(p, l, func(x []placement.Expert) { x[e] = v.home(d) }), l, l
}

func (v *mover) swapExperts(p *placement.Placement) (*placement.Placement, int, int) {
	l := v.routed()
	if l < 0 || len(p.Layers[l].Experts) < 2 {
		return nil, 0, 0
	}
	a, b := v.IntN(len(p.Layers[l].Experts)), v.IntN(len(p.Layers[l].Experts)-1)
	if b >= a {
		b++
	}
	return editExperts(p, l, func(x []placement.Expert) { x[a], x[b] = x[b], x[a] }), l, l
}

func (v *mover) copyExpert(p *placement.Placement) (*placement.Placement, int, int) {
	l := v.routed()
	if l < 0 {
		return nil, 0, 0
	}
	list := hosts(&p.Layers[l])
	e, d := v.IntN(len(p.Layers[l].Experts)), list[v.IntN(len(list))]
	old := p.Layers[l].Experts[e]
	for _, split := range old {
		if slices.ContainsFunc(split, func(sh placement.Share) bool { return sh.Device == d }) {
			return nil, 0, 0
		}
	}
	return editExperts(p, l, func(x []placement.Expert) { x[e] = append(slices.Clone(old), v.home(d)...) }), l, l
}

func (v *mover) dropCopy(p *placement.Placement) (*placement.Placement, int, int) {
	l := v.routed()
	if l < 0 {
		return nil, 0, 0
	}
	e := v.IntN(len(p.Layers[l].Experts))
	old := p.Layers[l].Experts[e]
	if len(old) < 2 {
		return nil, 0, 0
	}
	at := v.IntN(len(old))
	return editExperts(p, l, func(x []placement.Expert) { x[e] = slices.Delete(slices.Clone(old), at, at+1) }), l, l
}

// splitOver divides a part over devices: evenly over some of them, in copies,
// or evenly but for one segment.
func (v *mover) splitOver(devices []int) placement.Split {
	n := 1 + v.IntN(min(len(devices), v.segments()))
	some := devices[:n]
	if n > 1 && v.IntN(4) == 0 {
		var s placement.Split
		for _, d := range some {
			s = append(s, placement.Share{Device: d, Lo: 0, Hi: v.segments()})
		}
		return s
	}
	s := even(some, v.segments())
	if n > 1 && v.IntN(3) == 0 {
		if i := v.IntN(n - 1); s[i].Hi-s[i].Lo > 1 {
			s[i].Hi--
			s[i+1].Lo--
		}
	}
	return s
}

// even divides the segments as evenly as runs of them can be.
func even(devices []int, segments int) placement.Split {
	var s placement.Split
	for i, d := range devices {
		if lo, hi := i*segments/len(devices), (i+1)*segments/len(devices); lo < hi {
			s = append(s, placement.Share{Device: d, Lo: lo, Hi: hi})
		}
	}
	return s
}

func (v *mover) resplit(p *placement.Placement) (*placement.Placement, int, int) {
	l := v.IntN(v.layers())
	layer := p.Layers[l]
	g := v.IntN(len(layer.Groups))
	split := v.splitOver(layer.Groups[g])
	switch s := v.Outline.Summary.Layers[l]; {
	case s.Dense > 0 && (s.Attention == 0 || v.IntN(2) == 0):
		layer.Dense = slices.Clone(layer.Dense)
		layer.Dense[g] = split
	case s.Experts > 0 && v.IntN(3) == 0 && len(layer.Groups) == 1: // all experts divided alike
		layer.Experts = slices.Clone(layer.Experts)
		if split.Copies(v.segments()) {
			split = split[:1]
		}
		for e := range layer.Experts {
			layer.Experts[e] = placement.Expert{split}
		}
	default:
		layer.Attention = slices.Clone(layer.Attention)
		layer.Attention[g] = split
	}
	return with(p, l, layer), l, l
}

// propagate gives a run of layers the placement of the layer before it, or
// after it.
func (v *mover) propagate(p *placement.Placement) (*placement.Placement, int, int) {
	if v.layers() < 2 {
		return nil, 0, 0
	}
	from, to := v.IntN(v.layers()), v.IntN(v.layers())
	if from == to || len(p.Layers[from].Experts) != len(p.Layers[to].Experts) {
		return nil, 0, 0
	}
	layer := p.Layers[from]
	if v.IntN(2) == 0 { // only the experts, if they may stay where the tokens are
		own := p.Layers[to]
		if !sameGroups(own.Groups, layer.Groups) {
			return nil, 0, 0
		}
		own.Experts = layer.Experts
		layer = own
	}
	return v.ends(with(p, to, layer), to, to)
}

// strategyRun takes a run of layers from a named strategy.
func (v *mover) strategyRun(p *placement.Placement) (*placement.Placement, int, int) {
	h := v.hand[v.IntN(len(v.hand))]
	if len(h.Layers[0].Groups) != len(p.Layers[0].Groups) {
		return nil, 0, 0
	}
	first := v.IntN(v.layers())
	last := min(v.layers()-1, first+v.IntN(4)*v.IntN(v.layers()))
	return v.ends(with(p, first, h.Layers[first:last+1]...), first, last)
}

// ends adapts embedding and head to the groups of the first and last layer.
func (v *mover) ends(p *placement.Placement, first, last int) (*placement.Placement, int, int) {
	fit := func(splits []placement.Split, groups [][]int) []placement.Split {
		var list []placement.Split
		for g, s := range splits {
			if !s.Within(groups[g]) {
				s = even(groups[g], v.segments())
			}
			list = append(list, s)
		}
		return list
	}
	if first == 0 {
		p.Embed = fit(p.Embed, p.Layers[0].Groups)
	}
	if last == v.layers()-1 {
		p.Head = fit(p.Head, p.Layers[last].Groups)
	}
	return p, first, last
}

func (v *mover) resplitEnds(p *placement.Placement) (*placement.Placement, int, int) {
	c := *p
	groups := p.Layers[0].Groups
	g := v.IntN(len(groups))
	if v.IntN(2) == 0 {
		c.Embed = slices.Clone(p.Embed)
		c.Embed[g] = v.splitOver(groups[g])
		return &c, -1, -1
	}
	groups = p.Layers[v.layers()-1].Groups
	c.Head = slices.Clone(p.Head)
	c.Head[g] = v.splitOver(groups[g])
	return &c, v.layers(), v.layers()
}
