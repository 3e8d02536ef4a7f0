package compiler

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/passes"
	"moec/passes/search"
	"moec/planner/plan"
)

// Search says how a placement is looked for, and what it should be fast for.
type Search struct {
	Machine  *machine.Machine
	Options  search.Options
	Workload string // as search.ParseWorkload reads it
	Quantile int    // in parts of a thousand; 0: as the workload has it
	Routing  string // as routing.Parse reads it; "" is uniform
	// FirstToken and PerToken are limits in ps, as search.Workload has them; 0:
	// as the workload has them.
	FirstToken, PerToken int64
}

// Choice is how a placement came about.
type Choice struct {
	// Problem is what was searched for. Its outline is nil if the graph is no
	// chain of layers; then only named strategies were compared, as a whole.
	Problem *search.Problem
	Found   *search.Result
	// Reason says why only named strategies were compared.
	Reason string
	// Given is the placement that was asked for, priced; nil if the one found
	// was taken.
	Given  *search.Priced
	Rounds int // searches, each with the buffers of the plan before
	Took   time.Duration
}

// Used returns the placement of the plan, priced.
func (c *Choice) Used() *search.Priced {
	if c.Given != nil {
		return c.Given
	}
	return c.Found.Chosen
}

// Gap is by how much the price of the placement used is above the bound, in
// parts of a million, and whether there is a bound.
func (c *Choice) Gap() (int64, bool) {
	if c.Found.Bound <= 0 {
		return 0, false
	}
	return (c.Used().Score - c.Found.Bound) * 1e6 / c.Found.Bound, true
}

// AskError says that what a search was asked for is wrong.
type AskError struct{ Err error }

// Error implements error.
func (e *AskError) Error() string { return e.Err.Error() }

// Unwrap returns what is wrong.
func (e *AskError) Unwrap() error { return e.Err }

// Check reports what is wrong with a search whatever the model is.
func (s *Search) Check() error {
	var names []string
	for _, r := range search.Searchers {
		names = append(names, r.Name)
	}
	o := s.Options
	switch {
	case o.Searcher != "" && !slices.Contains(names, o.Searcher):
		return &AskError{fmt.Errorf("there is no searcher %q: have %s", o.Searcher, strings.Join(names, ", "))}
	case o.Budget < 0:
		return &AskError{fmt.Errorf("a budget of %d: need 1 change or more", o.Budget)}
	case s.Quantile < 0 || s.Quantile > 1000:
		return &AskError{fmt.Errorf("a quantile of %d thousandths: need 0 to 1000", s.Quantile)}
	}
	w, err := s.workload(defaultTokens)
	if err == nil && w.Quantile > 0 && o.Searcher == "exact" {
		return &AskError{errors.New("exact proves means, not quantiles; search for a quantile with mcmc or hand")}
	}
	return err
}

func (s *Search) workload(chunk int) (search.Workload, error) {
	w, err := search.ParseWorkload(s.Workload, chunk)
	if err != nil {
		return w, &AskError{err}
	}
	if s.Quantile > 0 {
		w.Quantile = s.Quantile
	}
	if s.FirstToken != 0 {
		w.FirstToken = s.FirstToken
	}
	if s.PerToken != 0 {
		w.PerToken = s.PerToken
	}
	if err := w.Check(); err != nil {
		return w, &AskError{err}
	}
	return w, nil
}

// Problem is what a placement of a logical graph is searched for. Prompts are
// worked on in the chunks that the limits allow; buffers is what a device needs
// besides weights and KV entries. Its outline is nil if the graph is no chain
// of layers, and reason says why.
func (s *Search) Problem(g *ir.Graph, l plan.Limits, buffers int64) (p *search.Problem, reason, err error) {
	w, err := s.workload(l.Tokens)
	if err != nil {
		return nil, nil, err
	}
	p = &search.Problem{Machine: s.Machine, Workload: w, Positions: l.Pages * l.Page, Buffers: buffers, Seed: s.Options.Seed}
	o, reason := passes.NewOutline(g)
	if reason != nil {
		return p, reason, nil
	}
	shapes := make([]routing.Shape, len(o.Summary.Layers))
	for i, layer := range o.Summary.Layers {
		shapes[i] = routing.Shape{Experts: layer.Experts, Slots: o.Slots(i + 1)}
	}
	spec := s.Routing
	if spec == "" {
		spec = "uniform"
	}
	p.Stats, err = routing.Parse(spec, shapes)
	if err != nil {
		return nil, nil, &AskError{err}
	}
	p.Outline = o
	return p, nil, nil
}

// run searches for a placement of a logical graph. If none of those that fit
// into memory keeps the limits, it returns what was found all the same.
func (s *Search) run(g *ir.Graph, l plan.Limits, buffers int64) (*Choice, error) {
	begin := time.Now()
	p, reason, err := s.Problem(g, l, buffers)
	if err != nil {
		return nil, err
	}
	c := &Choice{Problem: p}
	defer func() { c.Took = time.Since(begin) }()
	if reason == nil {
		o := s.Options
		if p.Workload.Quantile > 0 && (o.Searcher == "" || o.Searcher == search.Searchers[0].Name) {
			o.Searcher = "mcmc" // bounds are of means
		}
		c.Found, reason = search.Run(p, o)
		var fit *search.FitError
		if errors.As(reason, &fit) {
			if len(fit.Missed) > 0 {
				return c, reason
			}
			return nil, reason
		}
	}
	if reason == nil {
		return c, nil
	}
	c.Reason = reason.Error()
	p.Outline, p.Stats = nil, nil
	c.Found, err = compareWhole(g, p)
	if c.Found == nil {
		return nil, err
	}
	return c, err
}

// compareWhole prices the named strategies for a graph that cannot be taken
// apart. It returns them with an error if all that fit break limits.
func compareWhole(g *ir.Graph, p *search.Problem) (*search.Result, error) {
	r := &search.Result{Searcher: "hand"}
	var closest *search.Priced
	for _, name := range search.Names(p.Machine.Devices) {
		pl, err := passes.Named(g, name, p.Machine.Devices)
		var h *search.Priced
		if err == nil {
			h, err = priceWhole(g, p, pl)
		}
		if err != nil {
			r.Hand = append(r.Hand, &search.Priced{Name: name, Why: err.Error()})
			continue
		}
		r.Hand = append(r.Hand, h)
		if closest == nil || slices.Max(h.Bytes) < slices.Max(closest.Bytes) {
			closest = h
		}
	}
	if r.Chosen = r.Best(); r.Chosen != nil {
		return r, nil
	}
	if e := search.Misses(p.Machine.Name, within(r.Hand, room(p))); e != nil {
		return r, e
	}
	e := &search.FitError{Machine: p.Machine.Name, Have: room(p)}
	if closest != nil {
		e.Name, e.Need = closest.Name, slices.Max(closest.Bytes)
	}
	return nil, e
}

// within lists the placements that need no more than so many bytes of a device.
func within(list []*search.Priced, room int64) []*search.Priced {
	var fit []*search.Priced
	for _, h := range list {
		if len(h.Bytes) > 0 && slices.Max(h.Bytes) <= room {
			fit = append(fit, h)
		}
	}
	return fit
}

// room is the bytes of a device for weights and KV entries.
func room(p *search.Problem) int64 {
	d := &p.Machine.Device
	return d.Memory.Value - d.Reserve.Value - p.Buffers
}

// priceWhole prices a placement of a graph that cannot be taken apart.
func priceWhole(g *ir.Graph, p *search.Problem, pl *placement.Placement) (*search.Priced, error) {
	loads := make([]cost.Load, len(p.Workload.Steps))
	for i, s := range p.Workload.Steps {
		loads[i] = s.Load
	}
	costs, resident, err := passes.PriceWhole(g, p.Machine, pl, loads, p.Positions)
	if err != nil {
		return nil, err
	}
	h := &search.Priced{Name: pl.Strategy, Placement: pl}
	for i, c := range costs {
		h.Steps = append(h.Steps, c.Total())
		h.Score += c.Total() * p.Workload.Steps[i].Count
	}
	h.Times = p.Workload.Times(h.Steps)
	h.Why = search.Broken(h.Times)
	for _, m := range resident {
		h.Bytes = append(h.Bytes, m.Weights+m.Caches)
	}
	h.Fits = h.Why == ""
	if most := slices.Max(h.Bytes); most > room(p) {
		h.Fits = false
		h.Why = fmt.Sprintf("does not fit: a device would keep %.1f GB, has room for %.1f", float64(most)/1e9, float64(room(p))/1e9)
	}
	return h, nil
}

// Price prices a placement as the search does.
func Price(g *ir.Graph, p *search.Problem, pl *placement.Placement) (*search.Priced, error) {
	if p.Outline == nil {
		return priceWhole(g, p, pl)
	}
	list, err := search.Price(p, pl)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// place decides the placement by a search: what it finds, or what was given,
// which it prices.
func (r *Result) place(g *ir.Graph, o Options, l plan.Limits, buffers int64) (*placement.Placement, error) {
	if o.Place == nil {
		c, err := o.Search.run(g, l, buffers)
		if err != nil {
			return nil, err
		}
		r.Choice = c
		return c.Found.Chosen.Placement, nil
	}
	given, err := o.Place(g)
	if err != nil {
		return nil, err
	}
	c, err := o.Search.run(g, l, buffers)
	var fit *search.FitError
	switch {
	case errors.As(err, &fit) && c == nil: // planning says whether this one fits
		return given, nil
	case err != nil && fit == nil:
		return nil, err
	}
	if c.Given, err = Price(g, c.Problem, given); err != nil {
		return nil, err
	}
	if text := search.Broken(c.Given.Times); text != "" {
		return nil, &passes.PlacementError{Strategy: cmp.Or(given.Strategy, "given"), What: text, Remedy: "leave it out for what the search finds, or allow more time"}
	}
	if c.Found.Chosen == nil { // it is the only one that keeps the limits
		c.Found.Chosen = c.Given
	}
	r.Choice = c
	return given, nil
}

// maxRounds bounds the searches for one plan: the buffers of a plan are known
// when it is made, and if it is too large they are left free in another search.
const maxRounds = 3

// compileChosen compiles with a search. Steps take as many tokens as devices
// of the kind should have at once; if nothing fits then, fewer.
func compileChosen(file string, src []byte, o Options) (r *Result, err error) {
	if err := o.Search.Check(); err != nil {
		return nil, err
	}
	list := []int{defaultTokens}
	if o.Limits.Tokens == 0 && o.Search.Machine.Device.Kind == "cuda" {
		list = []int{acceleratorTokens, defaultTokens}
	}
	for _, o.tokens = range list {
		if r, err = compileRounds(file, src, o); !tooLarge(err) {
			break
		}
	}
	return r, err
}

// compileRounds searches again if a plan does not fit.
func compileRounds(file string, src []byte, o Options) (r *Result, err error) {
	var stages []Stage
	var took time.Duration
	buffers := int64(0)
	for round := 1; round <= maxRounds; round++ {
		r, err = compile(file, src, o, buffers)
		if r == nil {
			return nil, err
		}
		stages = append(stages, r.Stages...)
		r.Stages = stages
		if r.Choice == nil {
			return r, err
		}
		took += r.Choice.Took
		r.Choice.Rounds, r.Choice.Took = round, took
		if !tooLarge(err) || o.Place != nil {
			return r, err
		}
		buffers = max(buffers+1, unaccounted(r.Plan, r.Choice.Found.Chosen))
	}
	return r, err
}

// unaccounted is the most bytes that a device needs besides what the search
// counted.
func unaccounted(p *plan.Plan, chosen *search.Priced) int64 {
	var most int64
	for _, m := range p.Memory {
		most = max(most, m.Total-chosen.Bytes[m.Device])
	}
	return most
}

// tooLarge reports whether an error says that something does not fit the
// machine's memory.
func tooLarge(err error) bool {
	var fit *search.FitError
	var rules *plan.VerifyError
	switch {
	case errors.As(err, &fit):
		return len(fit.Missed) == 0
	case errors.As(err, &rules):
		return slices.ContainsFunc(rules.Problems, func(p plan.Problem) bool { return p.Rule == "V12" })
	}
	return false
}

// Logical returns a description's graph after the passes on the logical graph,
// how it is identified, and what a plan of it would allow on devices of a kind.
func Logical(file string, src []byte, o Options, kind string) (*ir.Graph, plan.Model, plan.Limits, error) {
	r := &Result{}
	if err := r.build(file, src, o.Env); err != nil {
		return nil, plan.Model{}, plan.Limits{}, err
	}
	g := r.Model.Graph
	model := r.begin(g, o)
	tokens := defaultTokens
	if kind == "cuda" {
		tokens = acceleratorTokens
	}
	err := passes.Run(&passes.Context{Numerics: g.Numerics, To: "segment"}, g)
	return g, model, limitsFor(o.Limits, model, tokens), err
}
