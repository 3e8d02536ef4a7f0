package search

import (
	"cmp"
	"slices"

	"moec/ir/placement"
)

// relaxer looks for the best placement that keeps the limits of a workload, for
// one number of token groups after the other.
//
// It relaxes them: "exact" minimises the score and, for every limit, the time
// that it is on, at some price (Lagrange's multiplier). For any prices, what a
// placement that keeps the limits scores is no less than that minimum, less the
// limits at those prices: a bound. The minimisers are where a limit pays; prices
// go up until they keep it (Handler, Zang: A Dual Algorithm for the Constrained
// Shortest Path Problem, Networks 1980). Between those that break a limit and
// one that keeps it, placements that have layers of both are tried.
type relaxer struct {
	*model
	plans []*Plan // seen so far, of those that fit into memory
	found []*Plan // the part of them that "exact" has put together
	best  *state  // keeps the limits

	groups int     // of the tokens
	own    []*Plan // the plans with so many
	bound  int64   // no placement with so many that keeps the limits scores less
	scale  int64   // what 1 counts of the score, next to the prices
	prices []int64 // of each limit
	// pressed are the limits for which the least time was looked for.
	pressed []bool
	rounds  int
}

// maxRelaxed is how many times "exact" is run for limits, for each number of
// token groups.
const maxRelaxed = 10

// relaxedLooks is the part of maxLooks that each of these runs may take.
const relaxedLooks = 8

// relax makes a proof without limits one with them: e holds what "exact" found.
// It returns what else was found.
func (m *model) relax(e *proof, hand []*Plan) ([]*Plan, error) {
	if m.Workload.Quantile > 0 { // bounds are of means
		return nil, nil
	}
	x := &relaxer{model: m, prices: make([]int64, len(m.limits)), plans: m.fitting(hand)}
	for _, h := range x.plans {
		x.improve(h.priced)
	}
	for _, s := range e.all {
		x.see(s)
	}
	order := upTo(len(e.bounds))
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(e.bounds[a], e.bounds[b]) })
	e.bound = never
	for _, k := range order {
		if err := x.within(k+1, e.bounds[k]); err != nil {
			return nil, err
		}
		if e.bound = min(e.bound, x.bound); x.best != nil {
			e.bound = min(e.bound, x.best.score)
		}
	}
	e.best, e.limit = x.best, "the limits: what layers save is weighed against them, not enumerated"
	return x.found, nil
}

// within looks at placements with so many token groups, of which none is below a
// bound. Prices begin as they are for the number before.
func (x *relaxer) within(groups int, bound int64) error {
	x.groups, x.bound, x.rounds, x.pressed, x.own = groups, bound, 0, make([]bool, len(x.limits)), nil
	for _, h := range x.plans {
		if len(h.priced.p.Layers[0].Groups) == groups {
			x.own = append(x.own, h)
		}
	}
	if x.done() || len(x.plans) == 0 {
		return nil
	}
	x.setScale()
	if slices.Max(x.prices) > 0 {
		_, bound, err := x.solve(x.scale, x.prices)
		if err != nil {
			return err
		}
		x.bound = max(x.bound, bound)
	}
	if err := x.ascend(); err != nil {
		return err
	}
	return x.mix()
}

// done reports whether nothing with so many token groups can be better than the
// best.
func (x *relaxer) done() bool { return x.best != nil && x.bound >= x.best.score }

// see takes note of a placement that "exact" has put together.
func (x *relaxer) see(s *state) {
	h := &Plan{Name: searchedName, Place: s.p, priced: s, Why: x.why(s.bytes, s.times)}
	x.plans, x.found = append(x.plans, h), append(x.found, h)
	if len(s.p.Layers[0].Groups) == x.groups {
		x.own = append(x.own, h)
	}
	x.improve(s)
}

func (x *relaxer) improve(s *state) {
	if x.feasible(s) && (x.best == nil || s.score < x.best.score) {
		x.best = s
	}
}

// setScale picks what 1 of the score counts, so that prices are fine and
// products of them fit.
func (x *relaxer) setScale() {
	least := int64(never)
	for _, h := range x.plans {
		least = min(least, h.priced.score)
	}
	const fits = 1 << 52 // prices of bad placements are hundreds of times as high
	x.scale = min(max(fits/max(least, 1), 1), 1024)
}

// solve runs "exact" with the score and the limits at their prices. It returns a
// score that nothing which keeps the limits is below, and that is as high as
// the best if no other can be lower.
func (x *relaxer) solve(scale int64, prices []int64) (*state, int64, error) {
	best, beat, limits := int64(never), int64(never), int64(0)
	for k := range x.limits {
		limits += prices[k] * x.limits[k].most
	}
	if x.best != nil {
		best = x.best.score
		beat = min(best*scale+limits, never)
	}
	e, err := x.weighed(scale, prices, beat, x.groups)
	if err != nil {
		return nil, 0, err
	}
	x.rounds++
	for _, s := range e.all {
		x.see(s)
	}
	if e.bound >= beat && beat < never {
		return e.best, best, nil
	}
	return e.best, max(0, ceil(e.bound-limits, scale)), nil
}

// weighed runs "exact" with other weights of the steps, for one number of token
// groups or for all (0). What it finds is priced as ever.
func (m *model) weighed(scale int64, prices []int64, beat int64, groups int) (*proof, error) {
	c := *m
	c.loads, c.ones, c.thrift, c.only = slices.Clone(m.loads), map[*part][]int64{}, relaxedLooks, groups
	for i := range c.loads {
		l := &c.loads[i]
		l.weight *= scale
		for k := range m.limits {
			l.weight += prices[k] * m.limits[k].counts[i] * int64(scoreUnits/l.samples)
		}
	}
	e, err := c.exact(beat)
	m.counts = c.counts
	if err != nil {
		return nil, err
	}
	for i, s := range e.all {
		whole, err := m.place(s.p)
		if err != nil {
			return nil, err
		}
		if s == e.best {
			e.best = whole
		}
		e.all[i] = whole
	}
	return e, nil
}

// value is what a placement makes of a limit.
func (x *relaxer) value(k int, s *state) int64 { return x.model.value(&x.limits[k], s.times) }

// reduced is the score of a placement with the limits at their prices.
func (x *relaxer) reduced(s *state) int64 {
	sum := s.score * x.scale
	for k, price := range x.prices {
		sum += price * x.value(k, s)
	}
	return sum
}

// ascend raises the bound, one price after the other, until none of them should
// be another or the rounds are used up.
func (x *relaxer) ascend() error {
	for changed := true; changed; {
		changed = false
		for k := range x.limits {
			more, err := x.raise(k)
			if err != nil {
				return err
			}
			changed = changed || more
		}
	}
	return nil
}

// raise finds the price of a limit at which the bound is highest, all other
// prices as they are. It reports whether that is another than before.
func (x *relaxer) raise(k int) (bool, error) {
	was := x.prices[k]
	for x.rounds < maxRelaxed && !x.done() {
		price, ok := x.price(k)
		if !ok && x.pressed[k] {
			break // it cannot be kept, as far as is known
		}
		if !ok {
			x.pressed[k] = true
			if err := x.press(k); err != nil {
				return false, err
			}
			continue
		}
		if price == x.prices[k] {
			break
		}
		x.prices[k] = price
		s, bound, err := x.solve(x.scale, x.prices)
		if err != nil {
			return false, err
		}
		x.bound = max(x.bound, bound)
		if s == nil {
			break // it was not put together: the bound is all there is
		}
	}
	return x.prices[k] != was, nil
}

// price is the price of a limit at which the bound would be highest if there
// were only the placements seen so far: where the cheapest that breaks the
// limit and the cheapest that keeps it cost the same. It is false if none
// keeps it.
func (x *relaxer) price(k int) (int64, bool) {
	defer func(was int64) { x.prices[k] = was }(x.prices[k])
	x.prices[k] = 0
	var out, in *state
	for _, h := range x.own {
		if s := h.priced; x.value(k, s) > x.limits[k].most {
			out = x.cheaper(s, out)
		} else {
			in = x.cheaper(s, in)
		}
	}
	if in == nil || out == nil {
		return 0, in != nil
	}
	for {
		x.prices[k] = 0
		saved := x.reduced(in) - x.reduced(out)
		if saved <= 0 {
			return 0, true
		}
		x.prices[k] = min(saved/(x.value(k, out)-x.value(k, in)), x.dearest(k, out))
		least := x.cheaper(in, out)
		for _, h := range x.own {
			least = x.cheaper(h.priced, least)
		}
		switch {
		case least == in || least == out:
			return x.prices[k], true
		case x.value(k, least) > x.limits[k].most:
			out = least
		default:
			in = least
		}
	}
}

// cheaper is the one of two placements that costs less at the prices; b if both
// cost the same.
func (x *relaxer) cheaper(a, b *state) *state {
	if b == nil || x.reduced(a) < x.reduced(b) {
		return a
	}
	return b
}

// dearest is the highest price of a limit, so that products fit.
func (x *relaxer) dearest(k int, s *state) int64 {
	const fits = 1 << 55
	return fits / max(1, x.value(k, s), x.limits[k].most)
}

// press lets "exact" look for what takes least of a limit, and next for what
// costs least.
func (x *relaxer) press(k int) error {
	s := x.plans[len(x.plans)-1].priced
	prices := make([]int64, len(x.prices))
	for j, p := range x.prices {
		prices[j] = p / x.scale
	}
	prices[k] = min(max(1, s.score/max(1, x.value(k, s)))*1000, x.dearest(k, s))
	_, bound, err := x.solve(1, prices)
	x.bound = max(x.bound, bound)
	return err
}

// maxMixed bounds the pairs of placements that are mixed.
const maxMixed = 8

// mix tries placements between the best that keeps the limits and cheaper ones
// that break them: the first layers of one, the last of the other.
func (x *relaxer) mix() error {
	if x.done() {
		return nil
	}
	var within *state
	for _, h := range x.own {
		if s := h.priced; x.keeps(s.times) && (within == nil || s.score < within.score) {
			within = s
		}
	}
	if within == nil {
		return nil
	}
	var beyond []*state
	for _, h := range x.own {
		if h.priced.score < within.score {
			beyond = append(beyond, h.priced)
		}
	}
	slices.SortStableFunc(beyond, func(a, b *state) int { return cmp.Compare(x.reduced(a), x.reduced(b)) })
	for _, other := range beyond[:min(len(beyond), maxMixed)] {
		for n := 1; n < x.layers(); n++ {
			for _, pair := range [][2]*placement.Placement{{within.p, other.p}, {other.p, within.p}} {
				p := *pair[0]
				p.Strategy = searchedName
				p.Layers = slices.Concat(pair[0].Layers[:n], pair[1].Layers[n:])
				p.Head = pair[1].Head
				s, err := x.place(&p)
				if err != nil {
					return err
				}
				x.improve(s)
			}
		}
	}
	return nil
}

// limitsMissed says which limits no plan keeps, of those that fit into memory,
// or that none keeps all of them.
func (m *model) limitsMissed(plans []*Plan, w *fastest) error {
	var list []*Priced
	for _, h := range plans {
		list = append(list, m.priced(h))
	}
	e := Misses(m.Machine.Name, list)
	e.Have, e.Together = m.budget, w.together
	for i := range e.Missed {
		e.Missed[i].Bound = w.bound[e.Missed[i].Name]
	}
	return e
}

// Misses says which limits none of some placements keeps, or that none keeps all
// of them. It returns nil if there are no placements, or no limits.
func Misses(machine string, list []*Priced) *FitError {
	if len(list) == 0 || len(list[0].Times) == 0 {
		return nil
	}
	e := &FitError{Machine: machine}
	for _, t := range list[0].Times {
		e.Missed = append(e.Missed, Missed{Time: t, By: list[0].Name})
	}
	for _, h := range list[1:] {
		for i, t := range h.Times {
			if t.Reached < e.Missed[i].Reached {
				e.Missed[i].Time, e.Missed[i].By = t, h.Name
			}
		}
	}
	alone := slices.DeleteFunc(slices.Clone(e.Missed), func(t Missed) bool { return t.Kept() })
	if len(alone) > 0 {
		e.Missed = alone
	}
	return e
}

// fastest is what is known of the times that are limited, whatever else a
// placement takes.
type fastest struct {
	found    []*Plan
	bound    map[string]int64 // by the names of limits; in ps
	together bool             // no placement keeps all of them
}

// fastest lets "exact" look for the least time of every limit, and for all of
// them together.
func (m *model) fastest() (*fastest, error) {
	w := &fastest{bound: map[string]int64{}}
	all, most := make([]int64, len(m.limits)), int64(0)
	for k := range all {
		all[k] = max(1, (1<<52)/m.limits[k].most)
		most += all[k] * m.limits[k].most
	}
	for k := range len(m.limits) + 1 {
		prices := all
		if k < len(m.limits) {
			prices = make([]int64, len(m.limits))
			prices[k] = 1
		}
		e, err := m.weighed(0, prices, never, 0)
		if err != nil {
			return nil, err
		}
		for _, s := range e.all {
			w.found = append(w.found, &Plan{Name: searchedName, Place: s.p, priced: s, Why: m.why(s.bytes, s.times)})
		}
		switch {
		case m.Workload.Quantile > 0: // bounds are of means
		case k == len(m.limits):
			w.together = e.bound > most
		default:
			w.bound[m.limits[k].name] = max(w.bound[m.limits[k].name], ceil(e.bound, scoreUnits))
		}
	}
	return w, nil
}
