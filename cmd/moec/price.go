package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"moec/compiler"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/passes/search"
	"moec/planner/plan"
	"moec/planner/simulate"
)

// planPrice prices one placement as the search does.
func planPrice(a *app) *cobra.Command {
	var f compileFlags
	var of string
	c := &cobra.Command{Use: "price PLACEMENT --of FILE.moe", Short: "price a placement file or a strategy as the search does", Args: cobra.ExactArgs(1),
		Long: `Price says what one placement costs, exactly as the search prices it: by kind of
step and term, the memory it needs, and how far it is from the bound that the
exact search proves. The placement is a strategy by name, or a file: a whole
placement ("moec compile --write-placement" writes one), a map of experts,
EPLB's phy2log or a solution of ExFlow.`,
		RunE: func(_ *cobra.Command, args []string) error {
			if of == "" {
				return failf(exitUsage, "plan price needs the description that is placed: --of FILE.moe")
			}
			return a.price(args[0], of, &f)
		}}
	f.addTarget(c)
	f.searchFlags.add(c)
	f.addSeed(c)
	c.Flags().StringVar(&of, "of", "", "`FILE.moe` that is placed (needed)")
	return c
}

// price prices what the flags say.
func (a *app) price(what, of string, f *compileFlags) error {
	m, err := f.target()
	if err != nil {
		return fail(exitPlacement, err)
	}
	s, err := f.search(m)
	if err != nil {
		return err
	}
	src, err := readSource(of)
	if err != nil {
		return err
	}
	numerics, err := f.mode()
	if err != nil {
		return err
	}
	env, done, err := f.env()
	if err != nil {
		return err
	}
	defer done()
	g, _, limits, err := compiler.Logical(of, src, compiler.Options{Env: env, Numerics: numerics, Limits: f.limits}, m.Device.Kind)
	if err != nil {
		return compileError(err, m)
	}
	p, err := namedOrFile(g, what, m.Devices)
	if err != nil {
		return compileError(err, m)
	}
	problem, reason, err := s.Problem(g, limits, 0)
	if err != nil {
		return compileError(err, m)
	}
	if reason != nil {
		return failf(exitPlacement, "%s is not priced layer by layer: %w; \"moec compile --strategy\" prices strategies as a whole", of, reason)
	}
	return a.pricePlacement(m, p, problem, f.bounded(s, problem))
}

// bounded are the options of a search of which a bound is wanted more than a
// better placement.
func (f *searchFlags) bounded(s *compiler.Search, p *search.Problem) search.Options {
	o := s.Options
	switch {
	case !f.open():
	case p.Workload.Quantile > 0:
		o.Searcher = "mcmc"
	default:
		o.Searcher = "exact"
	}
	return o
}

// pricePlacement prints what a placement costs, and how far it is from the
// bound.
func (a *app) pricePlacement(m *machine.Machine, p *placement.Placement, problem *search.Problem, o search.Options) error {
	x, err := search.Terms(problem, p)
	if err != nil {
		return fail(exitPlacement, err)
	}
	found, err := search.Run(problem, o)
	if found == nil {
		return compileError(err, m)
	}
	d := x.Placed
	if a.json {
		out := map[string]any{"placement": d, "machine": m.Name, "workload": problem.Workload, "routing": problem.Stats.Name, "terms": x.Terms, "bound_ps": found.Bound}
		if found.Chosen != nil {
			out["best_ps"] = found.Chosen.Score
		}
		if found.Bound > 0 {
			out["above_bound"] = float64(d.Score-found.Bound) / float64(found.Bound)
		}
		return a.printJSON(out)
	}
	a.printf("%s on %s: %s for %s; routing %s\n", p.Strategy, m.Name, simulate.Duration(d.Score), workloadText(problem.Workload), problem.Stats.Name)
	a.terms(x.Loads, x.Terms)
	for i, b := range d.Bytes {
		a.printf("  device %-3d %s of weights and KV entries\n", i, plan.Bytes(b))
	}
	if d.Why != "" {
		a.printf("  %s\n", d.Why)
	}
	text := "no bound was worked out"
	if found.Bound > 0 {
		text = fmt.Sprintf("%.2f %% above the bound", percentMore(d.Score, found.Bound))
	}
	if found.Chosen != nil {
		text += fmt.Sprintf("; the best that was found takes %s", simulate.Duration(found.Chosen.Score))
	}
	return a.printf("  %s\n", text)
}

// terms prints the price of each load by term.
func (a *app) terms(loads []search.Step, terms []cost.Cost) {
	a.printf("  %-22s %6s %10s %10s %10s %10s %10s\n", "step", "times", "each", "arithmetic", "memory", "links", "launches")
	for k, c := range terms {
		a.printf("  %-22s %6d %10s %10s %10s %10s %10s\n", stepName(loads[k]), loads[k].Count, simulate.Duration(c.Total()),
			simulate.Duration(c.Compute), simulate.Duration(c.Memory), simulate.Duration(c.Link), simulate.Duration(c.Launch))
	}
}
