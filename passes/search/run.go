package search

import (
	"fmt"
	"slices"

	"moec/ir/placement"
)

// Searcher is a row of the table of searchers.
type Searcher struct {
	Name, Doc string
}

// Searchers is the table of searchers. The first is the default.
var Searchers = [...]Searcher{
	{"auto", "exact where the model and the machine are small enough, then a walk from the best if a gap is left"},
	{"exact", "every part by itself, best first, with a bound on all others: the best placement, or how far it may be away"},
	{"mcmc", "a random walk through the space from the best named strategy, as FlexFlow searches"},
	{"hand", "the named strategies alone"},
}

// Options say how to search.
type Options struct {
	Searcher string // a row of Searchers; "" is the first
	Budget   int64  // proposals of mcmc; 0 is DefaultBudget
	Seed     uint64 // of mcmc
}

// searchedName names placements that a search has put together.
const searchedName = "searched"

// DefaultBudget is how many changes a walk proposes.
const DefaultBudget = 20000

// Priced is a placement and what it costs.
type Priced struct {
	Name      string               `json:"name"`
	Why       string               `json:"why,omitempty"` // why it cannot be used
	Placement *placement.Placement `json:"-"`
	// Score is the price of the workload, in ps: the mean over the sampled
	// batches, summed over the steps of the workload as often as they occur.
	Score int64 `json:"score_ps"`
	// Steps is the mean time of each step of the workload, in ps.
	Steps []int64 `json:"steps_ps,omitempty"`
	// Bytes is what each device keeps: weights and KV entries.
	Bytes []int64 `json:"bytes,omitempty"`
	// Fits says whether it fits into memory and keeps the limits.
	Fits bool `json:"fits"`
	// Times are the limits of the workload, and what is reached of each.
	Times []Time `json:"times,omitempty"`
}

// Result is what a search found.
type Result struct {
	Chosen   *Priced
	Searcher string // the one that found it
	// Bound is a score that no placement of the space is below; 0 if no bound
	// was worked out. Limit says what it stops at, if it is below the chosen
	// placement's score.
	Bound  int64
	Limit  string
	Hand   []*Priced // the named strategies, in the order of Names
	Counts Counts
}

// Gap is by how much the chosen placement's score is above the bound, in parts
// of a million, and whether there is a bound.
func (r *Result) Gap() (int64, bool) {
	if r.Bound <= 0 {
		return 0, false
	}
	return (r.Chosen.Score - r.Bound) * 1e6 / r.Bound, true
}

// Best returns the best named strategy that can be used, or nil.
func (r *Result) Best() *Priced {
	var best *Priced
	for _, h := range r.Hand {
		if h.Why == "" && (best == nil || h.Score < best.Score) {
			best = h
		}
	}
	return best
}

// FitError says that no placement was found that fits into memory, or none of
// those that keeps the limits.
type FitError struct {
	Machine string
	Name    string // the strategy that comes closest
	Need    int64  // bytes of its fullest device
	Have    int64
	// Missed are the limits that are not kept, or not together; empty if it is
	// memory that is missing.
	Missed []Missed
	// Together says that it is proven that no placement keeps all of them.
	Together bool
}

// Error implements error on one line.
func (e *FitError) Error() string {
	switch {
	case len(e.Missed) > 0:
		return e.missed()
	case e.Name == "":
		return fmt.Sprintf("no placement works on %s; use another number of devices", e.Machine)
	}
	return fmt.Sprintf("nothing fits %s: a device needs %.1f GB for weights and KV entries (%s comes closest), has room for %.1f; use more devices, fewer --sequences or a shorter --context",
		e.Machine, gigabytes(e.Need), e.Name, gigabytes(e.Have))
}

// Run searches.
func Run(p *Problem, o Options) (*Result, error) {
	m, err := newModel(p)
	if err != nil {
		return nil, err
	}
	if o.Searcher == "" {
		o.Searcher = Searchers[0].Name
	}
	if !slices.ContainsFunc(Searchers[:], func(s Searcher) bool { return s.Name == o.Searcher }) {
		return nil, fmt.Errorf("there is no searcher %q: have auto, exact, mcmc, hand", o.Searcher)
	}
	r := &Result{Searcher: "hand"}
	hand := m.hand()
	best := bestOf(hand)
	var found []*Plan // where limits are in the way
	for _, h := range hand {
		r.Hand = append(r.Hand, m.priced(h))
	}
	if o.Searcher == "exact" || o.Searcher == "auto" {
		if found, err = m.runExact(r, &best, hand); err != nil {
			return nil, err
		}
	}
	if o.Searcher == "mcmc" || o.Searcher == "auto" && (best == nil || best.priced.score/scoreUnits > r.Bound) {
		end, err := m.runWalk(r, &best, slices.Concat(hand, found), o)
		if err != nil {
			return nil, err
		}
		found = append(found, end)
	}
	if best == nil {
		best, err = m.fit(r, hand, found, o)
	}
	r.Counts = m.counts
	if err != nil {
		return r, err
	}
	r.Chosen = m.priced(best)
	return r, nil
}

// bestOf returns the best plan that can be used, or nil.
func bestOf(hand []*Plan) *Plan {
	var best *Plan
	for _, h := range hand {
		if h.priced != nil && h.Why == "" && (best == nil || h.priced.score < best.priced.score) {
			best = h
		}
	}
	return best
}

// runExact lets "exact" improve on the best. Where limits are in the way it
// returns what it found besides.
func (m *model) runExact(r *Result, best **Plan, hand []*Plan) ([]*Plan, error) {
	beat := int64(never)
	if *best != nil {
		beat = (*best).priced.score
	}
	e, err := m.exact(beat)
	if err != nil {
		r.Limit = err.Error()
		return nil, nil // the model is not one that it can solve; others can search
	}
	var found []*Plan
	if e.bound < beat && len(m.limits) > 0 && (e.best == nil || !m.keeps(e.best.times)) {
		if found, err = m.relax(e, hand); err != nil {
			return nil, err
		}
	}
	r.Bound, r.Limit = e.bound/scoreUnits, e.limit
	if e.best != nil && (*best == nil || e.best.score < (*best).priced.score) {
		*best = &Plan{Name: searchedName, Place: e.best.p, priced: e.best}
		r.Searcher = "exact"
	}
	if *best != nil && e.bound > (*best).priced.score { // a named strategy is as good as anything
		r.Bound = (*best).priced.score / scoreUnits
	}
	if *best != nil && (*best).priced.score/scoreUnits <= r.Bound {
		r.Limit = ""
	}
	return found, nil
}

// runWalk lets "mcmc" improve on the best. It returns where it ended, which can
// be used or not.
func (m *model) runWalk(r *Result, best **Plan, hand []*Plan, o Options) (*Plan, error) {
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	hand = slices.Concat(hand, m.copied(hand))
	s, err := m.walks(starts(m, *best, hand), placements(hand), o.Budget, o.Seed)
	if err != nil || s == nil {
		return &Plan{}, err
	}
	// A walk adds up changes; what it found is priced as a whole before it counts.
	whole, err := m.place(s.p)
	if err != nil {
		return nil, err
	}
	if whole.score != s.score {
		return nil, fmt.Errorf("internal error: a walk ends with score %d, the whole price is %d", s.score, whole.score)
	}
	p := *s.p
	p.Strategy = searchedName
	s = whole
	s.p = &p
	end := &Plan{Name: searchedName, Place: &p, priced: s}
	if m.feasible(s) && (*best == nil || s.score < (*best).priced.score) {
		*best = end
		r.Searcher = "mcmc"
	}
	return end, nil
}

// placements lists those of plans that could be made.
func placements(hand []*Plan) []*placement.Placement {
	var list []*placement.Placement
	for _, h := range hand {
		if h.Place != nil {
			list = append(list, h.Place)
		}
	}
	return list
}

// fit is what is left to do where nothing was found that can be used: to say what
// is missing, memory or time within the limits. For limits it looks for what
// takes least time, which may be within them.
func (m *model) fit(r *Result, hand, found []*Plan, o Options) (*Plan, error) {
	fit := m.fitting(slices.Concat(hand, found))
	if len(fit) == 0 || len(m.limits) == 0 {
		return nil, m.tooLittle(hand)
	}
	w := &fastest{}
	if o.Searcher != "hand" {
		var err error
		if w, err = m.fastest(); err != nil {
			w = &fastest{} // the model is not one that "exact" can solve
		}
		best := bestOf(m.fitting(w.found))
		r.Searcher = "exact"
		if o.Searcher != "exact" {
			end, err := m.runWalk(r, &best, slices.Concat(hand, w.found), o)
			if err != nil {
				return nil, err
			}
			w.found = append(w.found, end)
		}
		if best != nil {
			return best, nil
		}
	}
	return nil, m.limitsMissed(append(fit, m.fitting(w.found)...), w)
}

// tooLittle says how much memory is missing.
func (m *model) tooLittle(hand []*Plan) error {
	e := &FitError{Machine: m.Machine.Name, Have: m.budget}
	var closest *Plan
	for _, h := range hand {
		if h.priced != nil && (closest == nil || slices.Max(h.priced.bytes) < slices.Max(closest.priced.bytes)) {
			closest = h
		}
	}
	if closest != nil {
		e.Name, e.Need = closest.Name, slices.Max(closest.priced.bytes)
	}
	return e
}

// fitting lists the plans that fit into memory.
func (m *model) fitting(plans []*Plan) []*Plan {
	var list []*Plan
	for _, h := range plans {
		if h.priced != nil && m.fits(h.priced.bytes) {
			list = append(list, h)
		}
	}
	return list
}

// priced is a plan in the form for others.
func (m *model) priced(h *Plan) *Priced {
	p := &Priced{Name: h.Name, Why: h.Why, Placement: h.Place}
	if h.priced == nil {
		return p
	}
	p.Score, p.Bytes, p.Fits, p.Times = h.priced.score/scoreUnits, h.priced.bytes, m.feasible(h.priced), m.timesTo(h.priced.times)
	for i := range m.loads {
		l := &m.loads[i]
		var sum int64
		for _, t := range h.priced.times[l.first : l.first+l.samples] {
			sum += t
		}
		p.Steps = append(p.Steps, sum/int64(l.samples))
	}
	return p
}

// Price prices placements as a search would.
func Price(p *Problem, list ...*placement.Placement) ([]*Priced, error) {
	m, err := newModel(p)
	if err != nil {
		return nil, err
	}
	var out []*Priced
	for _, pl := range list {
		if err := pl.Check(p.Outline.Summary); err != nil {
			return nil, err
		}
		if pl.Devices != p.Machine.Devices {
			return nil, fmt.Errorf("placement %q is for %d devices, %s has %d; use --gpus %d", pl.Strategy, pl.Devices, p.Machine.Name, p.Machine.Devices, pl.Devices)
		}
		s, err := m.place(pl)
		if err != nil {
			return nil, err
		}
		h := &Plan{Name: pl.Strategy, Place: pl, priced: s, Why: m.why(s.bytes, s.times)}
		out = append(out, m.priced(h))
	}
	return out, nil
}
