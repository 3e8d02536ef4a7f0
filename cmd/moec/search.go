package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"moec/ir"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/passes"
	"moec/passes/search"
	"moec/planner/plan"
)

// searchFlags say how a placement is searched for.
type searchFlags struct {
	searcher string
	budget   int64
	seed     uint64
	workload string
	routing  string
}

func (f *searchFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.searcher, "search", "auto", "how to search for a placement: auto, exact, mcmc or hand")
	fs.Int64Var(&f.budget, "budget", search.DefaultBudget, "changes that mcmc proposes")
	fs.Uint64Var(&f.seed, "search-seed", 0, "seed of mcmc")
	f.addPriced(c)
}

// addPriced adds the flags that say what is priced.
func (f *searchFlags) addPriced(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.workload, "workload", "", "what to be fast for: mixed (the default), latency, throughput, prefill, chat, batchN, prefillN or a JSON file")
	fs.StringVar(&f.routing, "routing", "uniform", "how tokens choose experts: uniform, power:SKEW or a trace of \"moec run --record-routing\"")
}

// outcome is what a search found, for the screen.
type outcome struct {
	*search.Result
	problem *search.Problem
	took    time.Duration
	steps   []search.Step
	shown   []*search.Priced // the chosen placement, then the best by hand, priced for shownSteps
}

// shownSteps are the steps whose times the screen shows.
func shownSteps(chunk int) search.Workload {
	w := search.Workload{Name: "shown"}
	for _, n := range []int{1, 8, 32, 64} {
		w.Steps = append(w.Steps, search.Decode(n).Steps...)
	}
	w.Steps = append(w.Steps, search.Prefill(2048, chunk).Steps...)
	return w
}

// problem is what to search a placement for.
func (f *searchFlags) problem(g *ir.Graph, m *machine.Machine, limits plan.Limits) (*search.Problem, error) {
	o, err := passes.NewOutline(g.Clone())
	if err != nil {
		return nil, err
	}
	w, err := search.ParseWorkload(f.workload, limits.Tokens)
	if err != nil {
		return nil, fail(exitUsage, err)
	}
	var shapes []routing.Shape
	for l, s := range o.Summary.Layers {
		shapes = append(shapes, routing.Shape{Experts: s.Experts, Slots: o.Slots(l + 1)})
	}
	stats, err := routing.Parse(f.routing, shapes)
	if err != nil {
		return nil, fail(exitUsage, err)
	}
	return &search.Problem{Outline: o, Machine: m, Stats: stats, Workload: w, Positions: limits.Sequences * limits.Context}, nil
}

// run searches, and prices what the screen shows.
func (f *searchFlags) run(p *search.Problem, chunk int) (*outcome, error) {
	if f.budget < 1 {
		return nil, failf(exitUsage, "--budget %d: want at least 1 change", f.budget)
	}
	begin := time.Now()
	r, err := search.Run(p, search.Options{Searcher: f.searcher, Budget: f.budget, Seed: f.seed})
	var fit *search.FitError
	if errors.As(err, &fit) {
		return nil, fail(exitPlacement, err)
	}
	if err != nil {
		return nil, fail(exitUsage, err)
	}
	o := &outcome{Result: r, problem: p, took: time.Since(begin)}
	return o, o.show(chunk)
}

// show prices the chosen placement and the best strategies for single steps.
func (o *outcome) show(chunk int) error {
	const most = 6
	list := []*placement.Placement{o.Chosen.Placement}
	for _, h := range byScore(o.Hand) {
		if h.Why == "" && len(list) <= most {
			list = append(list, h.Placement)
		}
	}
	p := *o.problem
	p.Workload = shownSteps(chunk)
	o.steps = p.Workload.Steps
	var err error
	o.shown, err = search.Price(&p, list...)
	return err
}

// byScore sorts strategies that can be used before the others, the cheapest
// first.
func byScore(list []*search.Priced) []*search.Priced {
	var out []*search.Priced
	for _, h := range list {
		at := len(out)
		for at > 0 && out[at-1].Score > h.Score {
			at--
		}
		out = append(out[:at], append([]*search.Priced{h}, out[at:]...)...)
	}
	return out
}

// printOutcome prints how the placement was found and what it is compared with.
func (a *app) printOutcome(o *outcome) {
	verdict := "no bound was worked out"
	if gap, ok := o.Gap(); ok {
		verdict = "no placement of this space is faster (gap 0 %)"
		if gap > 0 {
			verdict = fmt.Sprintf("at most %.2f %% faster is possible (%s)", float64(gap)/1e4, o.Limit)
		}
	}
	a.printf("  search     %s, %d layers priced in %.2f s: %s\n", o.Searcher, o.Counts.Layers, o.took.Seconds(), verdict)
	a.printf("  workload   %s; routing %s\n", o.problem.Workload.Name, o.problem.Stats.Name)
	a.printf("  %-20s %10s %10s %10s %10s %14s\n", "ms", "batch 1", "8", "32", "64", "prefill 2048")
	for i, p := range o.shown {
		name := p.Name + " by hand"
		if i == 0 {
			name = "chosen"
		}
		a.printf("    %-18s", name)
		for k, t := range p.Steps {
			width := 10
			if o.steps[k].Prompt() {
				width = 14
			}
			a.printf(" %*.2f", width, float64(t*o.steps[k].Count)/1e9)
		}
		a.printf("\n")
	}
	for _, h := range o.Hand {
		if strings.HasPrefix(h.Why, "does not fit") {
			a.printf("    %-18s %s\n", h.Name, h.Why)
		}
	}
}

// summary is the outcome for --json; nil if nothing was searched.
func (o *outcome) summary() map[string]any {
	if o == nil {
		return nil
	}
	m := map[string]any{"searcher": o.Searcher, "search_seconds": o.took.Seconds(), "plans_priced": o.Counts.Layers, "limit": o.Limit,
		"workload": o.problem.Workload, "routing": o.problem.Stats.Name, "chosen": o.Chosen, "alternatives": o.Hand, "bound_ps": o.Bound}
	if gap, ok := o.Gap(); ok {
		m["gap"] = float64(gap) / 1e6
	}
	ms := make(map[string]float64)
	for k, t := range o.shown[0].Steps {
		name := fmt.Sprintf("batch %d", o.steps[k].Tokens)
		if o.steps[k].Prompt() {
			name = "prefill 2048"
		}
		ms[name] = float64(t*o.steps[k].Count) / 1e9
	}
	m["predicted_ms"] = ms
	return m
}
