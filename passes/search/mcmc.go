package search

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"moec/ir/placement"
)

// starts picks where walks begin: the best plan, and for every other division
// of the devices into token groups, which few steps of a walk change, the best
// strategy that has it.
func starts(m *model, best *Plan, hand []*Plan) []*state {
	of := func(p *Plan) string {
		sizes := fmt.Sprint(len(p.Place.Layers))
		for _, g := range p.Place.Layers[0].Groups {
			sizes += fmt.Sprint(" ", len(g))
		}
		return sizes
	}
	by := make(map[string]*Plan)
	if best != nil {
		by[of(best)] = best
	}
	for _, h := range hand {
		if h.priced == nil {
			continue
		}
		if old := by[of(h)]; old == nil || m.rank(h.priced) < m.rank(old.priced) {
			by[of(h)] = h
		}
	}
	var list []*state
	for _, sizes := range slices.Sorted(maps.Keys(by)) {
		list = append(list, by[sizes].priced)
	}
	slices.SortStableFunc(list, func(a, b *state) int {
		return cmp.Compare(m.rank(a), m.rank(b))
	})
	return list
}

// walks divides the budget between walks from the starts, of which the first
// gets half, and returns the best that any of them found. Starts that cost
// more than twice as much are left out.
func (m *model) walks(starts []*state, hand []*placement.Placement, budget int64, seed uint64) (*state, error) {
	var best *state
	worth := 0
	for _, s := range starts {
		if m.rank(s) <= 2*m.rank(starts[0]) {
			worth++
		}
	}
	for i, start := range starts[:worth] {
		share := budget
		if worth > 1 {
			if share = budget / 2; i > 0 {
				share = budget / 2 / int64(worth-1)
			}
		}
		s, err := m.mcmc(start, hand, max(share, 1), seed)
		if err != nil {
			return nil, err
		}
		if best == nil || m.better(s, best) {
			best = s
		}
	}
	return best, nil
}

// mcmc walks through the space as FlexFlow does: a random change at a time,
// kept if it is better, and sometimes if it is worse (Jia, Zaharia, Aiken:
// Beyond Data and Model Parallelism, SysML 2019). It starts from the best of
// the plans given, returns to the best so far when it has strayed, and cools
// down over the budget, which counts proposals.
func (m *model) mcmc(start *state, hand []*placement.Placement, budget int64, seed uint64) (*state, error) {
	v := &mover{model: m, Rand: rand.New(rand.NewPCG(seed, 0x6d636d63)), hand: hand}
	now, best := start.clone(), start
	hot := start.score / 200 // half a percent of the price is accepted at even odds
	since := int64(0)
	m.press = 1
	defer func() { m.press = 1 }()
	for i := range budget {
		e, ok := v.propose(now.p)
		if !ok {
			continue
		}
		t, err := m.try(now, e)
		if err != nil {
			return nil, err
		}
		heat := hot / budget * (budget - i)
		if !v.accept(m.penalised(t.score, t.bytes, t.times)-m.rank(now), heat) {
			m.drop(now, t)
			continue
		}
		m.keepTrial(now, t)
		if m.better(now, best) {
			best, since = now.clone(), 0
		} else if since++; since > budget/10+100 {
			now, since = best.clone(), 0
			if !m.keeps(best.times) {
				m.press *= 4
			}
		}
	}
	return best, nil
}

// better reports whether a walk would rather end with a than with b: with what
// can be used, then with what costs less. Where limits are broken, whatever
// comes closer is progress.
func (m *model) better(a, b *state) bool {
	switch {
	case m.feasible(a):
		return a.score < b.score || !m.feasible(b)
	case len(m.limits) == 0 || m.feasible(b):
		return false
	}
	return m.rank(a) < m.rank(b)
}

// rank is the price of a state by which walks compare.
func (m *model) rank(s *state) int64 { return m.penalised(s.score, s.bytes, s.times) }

// penalised is the score, and as much again for every tenth of a device's
// memory or of a limit that is too much.
func (m *model) penalised(score int64, bytes, times []int64) int64 {
	far := m.late(times) * m.press
	if over := m.over(bytes); over > 0 && m.budget >= 10 {
		far += min(over/(m.budget/10000+1), 1e6)
	}
	return score + score/1000*min(far, 1e6)
}

// accept decides by chance whether to go on with a price that is higher by
// worse: always if it is not, with odds of one half for each heat.
func (v *mover) accept(worse, heat int64) bool {
	if worse <= 0 {
		return true
	}
	if heat <= 0 || worse/heat > 30 {
		return false
	}
	halves, rest := worse/heat, worse%heat
	const one = 1 << 32
	odds := uint64(one - (rest * (one / 2) / max(heat, 1)))
	if heat > 1<<30 { // the product above would not fit
		odds = uint64(one - (rest/(heat>>30))*2)
	}
	return uint64(v.Uint32()) < odds>>halves
}
