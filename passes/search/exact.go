package search

import (
	"fmt"

	"moec/ir/placement"
)

// proof is what "exact" can say: a placement, and a score that no placement of
// the space goes below.
type proof struct {
	best  *state // nil: it put together none that fits
	bound int64
	limit string // what the bound stops at, if it is below the best
}

// exact solves every part by itself, for every number of token groups, and
// puts the solutions together.
//
// The score is a sum over parts, and what a part costs depends on others only
// in which devices values come from, which never makes it cheaper than if they
// were everywhere. So the sum of the best scores of the parts is a bound; and
// where the best placements of all parts have the same devices and fit into
// memory, it is reached. beat is a score that is reached already.
func (m *model) exact(beat int64) (*proof, error) {
	for i := range m.parts {
		if m.parts[i].slow {
			return nil, fmt.Errorf("layer %d chooses experts more than once", i-1)
		}
	}
	r := &proof{bound: never}
	for groups := 1; groups <= m.devices; groups++ {
		g, err := m.exactGroups(groups, beat)
		if err != nil {
			return nil, err
		}
		if g.best != nil && (r.best == nil || g.best.score < r.best.score) {
			r.best = g.best
			beat = min(beat, g.best.score)
		}
		if g.bound < r.bound {
			r.bound, r.limit = g.bound, g.limit
		}
	}
	return r, nil
}

// exactGroups is exact for one number of token groups. Its bound may be any
// score that is no lower than beat, if there is nothing lower.
func (m *model) exactGroups(groups int, beat int64) (*proof, error) {
	r := &proof{}
	ends, err := m.bestEnds(groups)
	if err != nil {
		return nil, err
	}
	for _, e := range ends {
		r.bound += min(e.bound.one, e.bound.many)
	}
	least, choices := make(map[*part]int64), make(map[*part][]groupChoice)
	if groups > 1 {
		for i := 1; i <= m.layers(); i++ {
			c := m.parts[i]
			if choices[c] == nil {
				if least[c], choices[c], err = m.leastGroups(i, groups); err != nil {
					return nil, err
				}
			}
			r.bound = min(r.bound+least[c], never)
		}
		if r.bound >= beat {
			return r, nil
		}
	}
	return m.join(groups, ends, func(i int) (*layerResult, error) {
		if groups == 1 {
			return m.bestLayer(i)
		}
		c := m.parts[i]
		alike := int64(0)
		for _, other := range m.parts {
			if other == c {
				alike++
			}
		}
		return m.bestGroups(i, choices[c], least[c]+(beat-r.bound)/alike+1)
	})
}

// join puts the best placements of the parts together.
func (m *model) join(groups int, ends [2]*endResult, solve func(i int) (*layerResult, error)) (*proof, error) {
	r := &proof{}
	p := m.blank(m.devices)
	p.Strategy = "searched"
	done := make(map[*part]*layerResult)
	complete := true
	sum := bounds{never, ends[0].bound.many} // the embedding is taken to be everywhere
	for i := 1; i <= m.layers(); i++ {
		c := m.parts[i]
		if done[c] == nil {
			var err error
			if done[c], err = solve(i); err != nil {
				return nil, err
			}
		}
		l := done[c]
		sum = bounds{
			min(sum.many+l.bound.one, sum.one+max(l.alone.one, l.bound.one), never),
			min(sum.many+l.bound.many, sum.one+max(l.alone.many, l.bound.many), never),
		}
		if l.limit != "" && r.limit == "" {
			r.limit = fmt.Sprintf("layer %d: %s", i-1, l.limit)
		}
		complete = complete && l.layer.Groups != nil
		p.Layers[i-1] = l.layer
	}
	r.bound = min(sum.many+ends[1].bound.many, sum.one+ends[1].bound.one)
	if !complete {
		return r, nil
	}
	p.Embed, p.Head = ends[0].of(m, p.Layers[0].Groups), ends[1].of(m, p.Layers[m.layers()-1].Groups)
	s, err := m.place(p)
	if err != nil {
		return nil, err
	}
	switch {
	case !m.fits(s.bytes):
		r.limit = "memory: the best placements of the layers do not fit together"
		return r, nil
	case s.score > r.bound && r.limit == "":
		r.limit = "the best placements of the layers are on different devices"
	}
	r.best = s
	return r, nil
}

// endResult is what is known of the prologue or the epilogue by itself.
type endResult struct {
	bound bounds // no placement on so many token groups has a lower score
	best  map[string]endChoice
}

type endChoice struct {
	score  int64
	splits []placement.Split
}

// of returns the best splits for token groups.
func (e *endResult) of(m *model, groups [][]int) []placement.Split {
	if c, ok := e.best[fmt.Sprint(groups)]; ok {
		return c.splits
	}
	var list []placement.Split
	for _, g := range groups {
		list = append(list, even(g, m.segments()))
	}
	return list
}

// bestEnds finds how to divide the embedding and the head for so many token
// groups, whatever devices they have.
func (m *model) bestEnds(groups int) ([2]*endResult, error) {
	var ends [2]*endResult
	for k, part := range []int{0, len(m.parts) - 1} {
		e := &endResult{bound: noBound, best: map[string]endChoice{}}
		ends[k] = e
		for _, sizes := range m.groupSizes(groups) {
			if m.devices > 8 {
				e.bound = bounds{}
				continue
			}
			if err := m.endOn(e, part, sizes); err != nil {
				return ends, err
			}
		}
	}
	return ends, nil
}

// endOn looks at token groups of those sizes.
func (m *model) endOn(e *endResult, part int, sizes []int) error {
	var groups [][]int
	next := 0
	for _, n := range sizes {
		groups = append(groups, upTo(next + n)[next:])
		next += n
	}
	key := fmt.Sprint(groups)
	for _, splits := range m.eachGroup(groups) {
		everywhere := true
		for g, s := range splits {
			everywhere = everywhere && (len(s) == sizes[g] || !s.Copies(m.segments()))
		}
		if part == 0 && !everywhere {
			continue // no cheaper than copies everywhere, and layer 0 would have to fetch it
		}
		score, err := m.endScore(part, groups, splits)
		if err != nil {
			return err
		}
		e.bound.many = min(e.bound.many, score)
		if alone(splits) {
			e.bound.one = min(e.bound.one, score)
		}
		if c, ok := e.best[key]; !ok || score < c.score {
			e.best[key] = endChoice{score, splits}
		}
	}
	return nil
}

// alone reports whether one device of each group has all of a part.
func alone(splits []placement.Split) bool {
	for _, s := range splits {
		if len(s) > 1 {
			return false
		}
	}
	return true
}

// endScore prices the prologue or the epilogue.
func (m *model) endScore(i int, groups [][]int, splits []placement.Split) (int64, error) {
	p := m.blank(m.devices)
	for k := range p.Layers {
		p.Layers[k].Groups = groups
	}
	p.Embed, p.Head = splits, splits
	ps, err := m.evaluate(i, p, nil, nil)
	if err != nil {
		return 0, err
	}
	return ps.score, nil
}
