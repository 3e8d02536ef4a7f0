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
	Fits  bool    `json:"fits"`
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

// FitError says that no placement was found that fits.
type FitError struct {
	Machine string
	Name    string // the strategy that comes closest
	Need    int64  // bytes of its fullest device
	Have    int64
}

// Error implements error on one line.
func (e *FitError) Error() string {
	if e.Name == "" {
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
	best, closest := bestOf(m, hand)
	for _, h := range hand {
		r.Hand = append(r.Hand, m.priced(h))
	}
	if o.Searcher == "exact" || o.Searcher == "auto" {
		if err := m.runExact(r, &best); err != nil {
			return nil, err
		}
	}
	if o.Searcher == "mcmc" || o.Searcher == "auto" && (best == nil || best.priced.score/scoreUnits > r.Bound) {
		if err := m.runWalk(r, &best, hand, o); err != nil {
			return nil, err
		}
	}
	r.Counts = m.counts
	if best == nil {
		return r, m.nothingFits(closest)
	}
	r.Chosen = m.priced(best)
	return r, nil
}

// bestOf returns the best plan that can be used, and the one that needs least
// memory.
func bestOf(m *model, hand []*Plan) (best, closest *Plan) {
	for _, h := range hand {
		if h.priced == nil {
			continue
		}
		if h.Why == "" && (best == nil || h.priced.score < best.priced.score) {
			best = h
		}
		if closest == nil || slices.Max(h.priced.bytes) < slices.Max(closest.priced.bytes) {
			closest = h
		}
	}
	return best, closest
}

// runExact lets "exact" improve on the best.
func (m *model) runExact(r *Result, best **Plan) error {
	beat := int64(never)
	if *best != nil {
		beat = (*best).priced.score
	}
	e, err := m.exact(beat)
	if err != nil {
		r.Limit = err.Error()
		return nil // the model is not one that it can solve; others can search
	}
	r.Bound, r.Limit = e.bound/scoreUnits, e.limit
	if e.best != nil && (*best == nil || e.best.score < (*best).priced.score) {
		*best = &Plan{Name: "searched", Place: e.best.p, priced: e.best}
		r.Searcher = "exact"
	}
	if *best != nil && e.bound > (*best).priced.score { // a named strategy is as good as anything
		r.Bound = (*best).priced.score / scoreUnits
	}
	if *best != nil && (*best).priced.score/scoreUnits <= r.Bound {
		r.Limit = ""
	}
	return nil
}

// runWalk lets "mcmc" improve on the best.
func (m *model) runWalk(r *Result, best **Plan, hand []*Plan, o Options) error {
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	hand = append(hand, m.copied(hand)...)
	s, err := m.walks(starts(m, *best, hand), placements(hand), o.Budget, o.Seed)
	if err != nil || s == nil {
		return err
	}
	// A walk adds up changes; what it found is priced as a whole before it counts.
	whole, err := m.place(s.p)
	if err != nil {
		return err
	}
	if whole.score != s.score {
		return fmt.Errorf("internal error: a walk ends with score %d, the whole price is %d", s.score, whole.score)
	}
	if m.fits(s.bytes) && (*best == nil || s.score < (*best).priced.score) {
		p := *s.p
		p.Strategy = "searched"
		s.p = &p
		*best = &Plan{Name: "searched", Place: &p, priced: s}
		r.Searcher = "mcmc"
	}
	return nil
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

func (m *model) nothingFits(closest *Plan) error {
	e := &FitError{Machine: m.Machine.Name, Have: m.budget}
	if closest != nil {
		e.Name, e.Need = closest.Name, slices.Max(closest.priced.bytes)
	}
	return e
}

// priced is a plan in the form for others.
func (m *model) priced(h *Plan) *Priced {
	p := &Priced{Name: h.Name, Why: h.Why, Placement: h.Place}
	if h.priced == nil {
		return p
	}
	p.Score, p.Bytes, p.Fits = h.priced.score/scoreUnits, h.priced.bytes, m.fits(h.priced.bytes)
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
		h := &Plan{Name: pl.Strategy, Place: pl, priced: s}
		if !m.fits(s.bytes) {
			h.Why = m.tooLarge(s.bytes)
		}
		out = append(out, m.priced(h))
	}
	return out, nil
}
