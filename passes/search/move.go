package search

import (
	"math/rand/v2"
	"slices"

	"moec/ir/placement"
)

// edit replaces layers of a placement, from the first on, and how the
// embedding and the head are split, if those are not nil.
type edit struct {
	first       int
	layers      []placement.Layer
	embed, head []placement.Split
}

// apply edits a placement and returns the edit that undoes it, in the memory of
// an edit that is needed no more.
func (e edit) apply(p *placement.Placement, old edit) edit {
	undo := edit{first: e.first, layers: append(old.layers[:0], p.Layers[e.first:e.first+len(e.layers)]...)}
	if e.embed != nil {
		undo.embed = p.Embed
	}
	if e.head != nil {
		undo.head = p.Head
	}
	e.put(p)
	return undo
}

// put edits a placement.
func (e edit) put(p *placement.Placement) {
	copy(p.Layers[e.first:], e.layers)
	if e.embed != nil {
		p.Embed = e.embed
	}
	if e.head != nil {
		p.Head = e.head
	}
}

// mover proposes changes of placements, out of a list of kinds.
type mover struct {
	*model
	*rand.Rand
	hand  []*placement.Placement // strategies to take layers from
	homes []placement.Expert     // on each device, whole
}

// moves is the table of kinds of changes. A move returns false if it found
// nothing to change.
var moves = [...]struct {
	name   string
	weight int // how often it is proposed
	make   func(*mover, *placement.Placement) (edit, bool)
}{
	{"move an expert", 6, (*mover).moveExpert},
	{"swap two experts", 6, (*mover).swapExperts},
	{"copy an expert", 3, (*mover).copyExpert},
	{"drop a copy", 3, (*mover).dropCopy},
	{"split a part otherwise", 2, (*mover).resplit},
	{"take another layer's placement", 3, (*mover).propagate},
	{"take a strategy's layers", 1, (*mover).strategyRun},
	{"split the embedding or the head otherwise", 1, (*mover).resplitEnds},
}

// propose makes a random change.
func (v *mover) propose(p *placement.Placement) (edit, bool) {
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
	return edit{}, false
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
	for len(v.homes) <= device {
		v.homes = append(v.homes, placement.Expert{{{Device: len(v.homes), Lo: 0, Hi: v.segments()}}})
	}
	return v.homes[device]
}

// editExperts edits the experts of a layer.
func editExperts(p *placement.Placement, l int, change func([]placement.Expert)) edit {
	layer := p.Layers[l]
	layer.Experts = slices.Clone(layer.Experts)
	change(layer.Experts)
	return edit{first: l, layers: []placement.Layer{layer}}
}

// hosts are the devices that a layer's experts may go to: those of its groups.
func hosts(l *placement.Layer) []int {
	if len(l.Groups) == 1 {
		return l.Groups[0]
	}
	return slices.Concat(l.Groups...)
}

func (v *mover) moveExpert(p *placement.Placement) (edit, bool) {
	l := v.routed()
	if l < 0 {
		return edit{}, false
	}
	list := hosts(&p.Layers[l])
	e, d := v.IntN(len(p.Layers[l].Experts)), list[v.IntN(len(list))]
	return editExperts(p, l, func(x []placement.Expert) { x[e] = v.home(d) }), true
}

func (v *mover) swapExperts(p *placement.Placement) (edit, bool) {
	l := v.routed()
	if l < 0 || len(p.Layers[l].Experts) < 2 {
		return edit{}, false
	}
	a, b := v.IntN(len(p.Layers[l].Experts)), v.IntN(len(p.Layers[l].Experts)-1)
	if b >= a {
		b++
	}
	return editExperts(p, l, func(x []placement.Expert) { x[a], x[b] = x[b], x[a] }), true
}

func (v *mover) copyExpert(p *placement.Placement) (edit, bool) {
	l := v.routed()
	if l < 0 {
		return edit{}, false
	}
	list := hosts(&p.Layers[l])
	e, d := v.IntN(len(p.Layers[l].Experts)), list[v.IntN(len(list))]
	old := p.Layers[l].Experts[e]
	for _, split := range old {
		if slices.ContainsFunc(split, func(sh placement.Share) bool { return sh.Device == d }) {
			return edit{}, false
		}
	}
	return editExperts(p, l, func(x []placement.Expert) { x[e] = append(slices.Clone(old), v.home(d)...) }), true
}

func (v *mover) dropCopy(p *placement.Placement) (edit, bool) {
	l := v.routed()
	if l < 0 {
		return edit{}, false
	}
	e := v.IntN(len(p.Layers[l].Experts))
	old := p.Layers[l].Experts[e]
	if len(old) < 2 {
		return edit{}, false
	}
	at := v.IntN(len(old))
	return editExperts(p, l, func(x []placement.Expert) { x[e] = slices.Delete(slices.Clone(old), at, at+1) }), true
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

// resplit divides a part of a layer otherwise, and one time in four goes on
// with the layers after it, as FlexFlow does along edges.
func (v *mover) resplit(p *placement.Placement) (edit, bool) {
	l := v.IntN(v.layers())
	layer := p.Layers[l]
	g := v.IntN(len(layer.Groups))
	split := v.splitOver(layer.Groups[g])
	change := func(layer *placement.Layer) {
		layer.Attention = slices.Clone(layer.Attention)
		layer.Attention[g] = split
	}
	switch s := v.Outline.Summary.Layers[l]; {
	case s.Dense > 0 && (s.Attention == 0 || v.IntN(2) == 0):
		change = func(layer *placement.Layer) {
			layer.Dense = slices.Clone(layer.Dense)
			layer.Dense[g] = split
		}
	case s.Experts > 0 && v.IntN(3) == 0 && len(layer.Groups) == 1: // all experts divided alike
		if split.Copies(v.segments()) {
			split = split[:1]
		}
		change = func(layer *placement.Layer) {
			layer.Experts = slices.Clone(layer.Experts)
			for e := range layer.Experts {
				layer.Experts[e] = placement.Expert{split}
			}
		}
	}
	e := edit{first: l}
	for on := true; on && l < v.layers() && sameGroups(p.Layers[l].Groups, layer.Groups); l++ {
		c := p.Layers[l]
		change(&c)
		e.layers = append(e.layers, c)
		on = v.IntN(4) > 0 && (len(e.layers) > 1 || v.IntN(3) == 0)
	}
	return e, true
}

// propagate gives a layer the placement of another, or only the homes of its
// experts.
func (v *mover) propagate(p *placement.Placement) (edit, bool) {
	if v.layers() < 2 {
		return edit{}, false
	}
	from, to := v.IntN(v.layers()), v.IntN(v.layers())
	if from == to || len(p.Layers[from].Experts) != len(p.Layers[to].Experts) {
		return edit{}, false
	}
	layer := p.Layers[from]
	if v.IntN(2) == 0 {
		own := p.Layers[to]
		if !sameGroups(own.Groups, layer.Groups) {
			return edit{}, false
		}
		own.Experts = layer.Experts
		layer = own
	}
	return v.ends(p, edit{first: to, layers: []placement.Layer{layer}}), true
}

// strategyRun takes a run of layers from a named strategy.
func (v *mover) strategyRun(p *placement.Placement) (edit, bool) {
	h := v.hand[v.IntN(len(v.hand))]
	if len(h.Layers[0].Groups) != len(p.Layers[0].Groups) {
		return edit{}, false
	}
	first := v.IntN(v.layers())
	last := min(v.layers()-1, first+v.IntN(4)*v.IntN(v.layers())/4)
	return v.ends(p, edit{first: first, layers: h.Layers[first : last+1]}), true
}

// ends adapts embedding and head to the groups of the first and last layer.
func (v *mover) ends(p *placement.Placement, e edit) edit {
	fit := func(splits []placement.Split, groups [][]int) []placement.Split {
		list := slices.Clone(splits)
		for g, s := range list {
			if !s.Within(groups[g]) {
				list[g] = even(groups[g], v.segments())
			}
		}
		return list
	}
	if e.first == 0 {
		e.embed = fit(p.Embed, e.layers[0].Groups)
	}
	if e.first+len(e.layers) == v.layers() {
		e.head = fit(p.Head, e.layers[len(e.layers)-1].Groups)
	}
	return e
}

func (v *mover) resplitEnds(p *placement.Placement) (edit, bool) {
	groups := p.Layers[0].Groups
	g := v.IntN(len(groups))
	if v.IntN(2) == 0 {
		list := slices.Clone(p.Embed)
		list[g] = v.splitOver(groups[g])
		return edit{embed: list}, true
	}
	groups = p.Layers[v.layers()-1].Groups
	list := slices.Clone(p.Head)
	list[g] = v.splitOver(groups[g])
	return edit{head: list}, true
}
