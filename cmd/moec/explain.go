package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"moec/compiler"
	"moec/dsl"
	"moec/ir"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/passes/search"
	"moec/planner/plan"
	"moec/planner/simulate"
)

// explainFlags say what a plan's placement is explained with.
type explainFlags struct {
	of         string
	checkpoint string
	machine    string
	whyNot     string
	layers     string
	searchFlags
}

func explainCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "explain", Short: "say why a plan is as it is", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(explainPlace(a), explainKernels(a))
	return c
}

func explainPlace(a *app) *cobra.Command {
	f := explainFlags{searchFlags: searchFlags{budget: search.DefaultBudget}}
	c := &cobra.Command{Use: "place PLAN --of FILE.moe", Short: "say what each layer's placement costs, and what others would", Args: cobra.ExactArgs(1),
		Long: `Place says how a plan's layers are placed, what that costs by kind of step and
term, and for each layer the five best other ways, all else as it is: by how
much the workload would take longer, and in which step and term most. Layers
that are alike are on one line.

With --why-not it compares the whole placement with another: a strategy by name
or a placement file. The description must be the one that the plan was made
from; sizes are the plan's. A plan does not hold what it was searched for: give
--workload, --routing and --seed again if they were not the defaults.`,
		RunE: func(_ *cobra.Command, args []string) error { return a.explainPlace(args[0], &f) }}
	fs := c.Flags()
	fs.StringVar(&f.of, "of", "", "`FILE.moe` that the plan was made from (needed)")
	fs.StringVar(&f.checkpoint, "checkpoint", "", "Hugging Face directory `DIR`, if the plan was made with one")
	fs.StringVar(&f.machine, "machine", "", "machine to price for, by `NAME|FILE` (default: the plan's)")
	fs.StringVar(&f.whyNot, "why-not", "", "compare with a `PLACEMENT`: a strategy or a placement file")
	fs.StringVar(&f.layers, "layers", "", "only these `LAYERS`: 3 or 0-7 (default: all)")
	f.addPriced(c)
	f.addSeed(c)
	return c
}

// explainPlace explains what the flags say.
func (a *app) explainPlace(path string, f *explainFlags) error {
	p, err := readPlan(path)
	if err != nil {
		return err
	}
	first, last, err := f.explained(p)
	if err != nil {
		return err
	}
	m, err := a.simMachine(p, f.machine)
	if err != nil {
		return err
	}
	g, problem, err := f.problem(path, p, m)
	if err != nil {
		return err
	}
	if f.whyNot != "" {
		return a.whyNot(path, p, g, problem, f.whyNot)
	}
	x, err := search.Explain(problem, &p.Placement, first, last)
	if err != nil {
		return fail(exitPlacement, err)
	}
	if a.json {
		return a.printJSON(map[string]any{"plan": path, "machine": m.Name, "workload": problem.Workload, "routing": problem.Stats.Name, "explanation": x})
	}
	a.printf("%s: %s on %s, %s for %s; routing %s\n", path, p.Placement.Strategy, m.Name, simulate.Duration(x.Placed.Score), workloadText(problem.Workload), problem.Stats.Name)
	a.terms(x.Loads, x.Terms)
	for i := range x.Parts {
		a.explainPart(p, x, &x.Parts[i])
	}
	return nil
}

// explained is the range of layers that are explained; -1, -1 is all.
func (f *explainFlags) explained(p *plan.Plan) (first, last int, err error) {
	if f.layers == "" {
		return -1, -1, nil
	}
	var rest string
	if n, _ := fmt.Sscanf(f.layers+" .", "%d-%d %s", &first, &last, &rest); n == 3 && rest == "." && first <= last {
		return first, last, f.inside(first, last, p)
	}
	if n, _ := fmt.Sscanf(f.layers+" .", "%d %s", &first, &rest); n == 2 && rest == "." {
		return first, first, f.inside(first, first, p)
	}
	return 0, 0, failf(exitUsage, "--layers %q: want a layer or a range of them, such as 3 or 0-7", f.layers)
}

func (f *explainFlags) inside(first, last int, p *plan.Plan) error {
	if first < 0 || last >= p.Model.Layers {
		return failf(exitUsage, "--layers %s: the plan has layers 0 to %d", f.layers, p.Model.Layers-1)
	}
	return nil
}

// problem is what the plan's placement is priced as an answer to, and the
// description's graph.
func (f *explainFlags) problem(path string, p *plan.Plan, m *machine.Machine) (*ir.Graph, *search.Problem, error) {
	if f.of == "" {
		return nil, nil, failf(exitUsage, "explain place needs the description that %s was made from: --of FILE.moe", path)
	}
	src, err := readSource(f.of)
	if err != nil {
		return nil, nil, err
	}
	s, err := f.search(m)
	if err != nil {
		return nil, nil, err
	}
	env, done, err := f.env(p)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	g, model, _, err := compiler.Logical(f.of, src, compiler.Options{Env: env, Numerics: p.Numerics, Limits: p.Limits}, m.Device.Kind)
	if err != nil {
		return nil, nil, compileError(err, m)
	}
	if model.Hash != p.Model.Hash {
		return nil, nil, failf(exitPlacement, "%s was not made from %s: the plan's model is %s (%s), this is %s (%s); name its description, and --checkpoint if it was made with one",
			path, f.of, p.Model.Name, short(p.Model.Hash), model.Name, short(model.Hash))
	}
	problem, reason, err := s.Problem(g, p.Limits, 0)
	if err != nil {
		return nil, nil, compileError(err, m)
	}
	if reason != nil {
		return nil, nil, failf(exitPlacement, "%s is not priced layer by layer: %w", f.of, reason)
	}
	return g, problem, nil
}

// env binds a description to the sizes of a plan.
func (f *explainFlags) env(p *plan.Plan) (dsl.Env, func(), error) {
	set := make(map[string]string)
	for _, b := range p.Model.Bindings {
		set[b.Name] = b.Value
	}
	return bind(f.checkpoint, set)
}

// partName names a run of parts.
func partName(name string, first, last int) string {
	switch {
	case first < 0:
		return name
	case first == last:
		return fmt.Sprintf("layer %d", first)
	}
	return fmt.Sprintf("layers %d-%d", first, last)
}

// explainPart prints how parts are placed, what they cost, and other ways.
func (a *app) explainPart(p *plan.Plan, x *search.Explanation, r *search.PartRun) {
	total := r.Total.Total()
	a.printf("%s: %s of the workload, %.1f %% (memory %s, arithmetic %s, links %s, launches %s)\n", partName(r.Name, r.First, r.Last), simulate.Duration(total),
		100*float64(total)/float64(max(1, x.Placed.Score)), simulate.Duration(r.Total.Memory), simulate.Duration(r.Total.Compute), simulate.Duration(r.Total.Link), simulate.Duration(r.Total.Launch))
	if r.First < 0 {
		return
	}
	for _, line := range plan.LayerText(&p.Placement.Layers[r.First]) {
		a.printf("    %s\n", line)
	}
	if len(r.Others) == 0 {
		return
	}
	a.printf("  the best of %d other ways, all else as it is:\n", r.Tried)
	for _, o := range r.Others {
		text := o.Name
		if o.Like > 0 {
			text += fmt.Sprintf(" (and %d like it)", o.Like)
		}
		a.printf("    %+.3f %%  %s: %s\n", 100*float64(o.Extra)/float64(max(1, x.Placed.Score)), text, whyText(x.Loads, &o))
	}
}

// whyText says why another way was not chosen.
func whyText(loads []search.Step, o *search.Other) string {
	var list []string
	if !o.Fits {
		list = append(list, o.Why)
	}
	if k, term, lost, ok := search.Worst(loads, o.Loads); ok && o.Extra > 0 {
		list = append(list, fmt.Sprintf("%s takes %s more, %s %s", stepName(loads[k]), simulate.Duration(o.Loads[k].Total()), simulate.Duration(lost), termText(term)))
	} else if o.Extra == 0 {
		list = append(list, "takes as long")
	} else if o.Extra < 0 && o.Fits {
		list = append(list, "is faster: the plan was made for something else")
	}
	return strings.Join(list, "; ")
}

// termText says where time is lost.
func termText(term string) string {
	if term == "links" {
		return "on links"
	}
	return "of " + term
}

// whyNot compares the plan's placement with another.
func (a *app) whyNot(path string, p *plan.Plan, g *ir.Graph, problem *search.Problem, what string) error {
	other, err := namedOrFile(g, what, problem.Machine.Devices)
	if err != nil {
		return compileError(err, problem.Machine)
	}
	c, err := search.Compare(problem, &p.Placement, other)
	if err != nil {
		return fail(exitPlacement, err)
	}
	if a.json {
		return a.printJSON(map[string]any{"plan": path, "machine": problem.Machine.Name, "workload": problem.Workload, "routing": problem.Stats.Name, "why_not": what, "comparison": c,
			"ends": plan.EndChanges(&p.Placement, other), "layers": plan.LayerChanges(&p.Placement, other)})
	}
	a.printf("%s: %s takes %s, %s %s (%+.3f %%) for %s; routing %s\n", path, cmp.Or(c.A.Name, "its placement"), simulate.Duration(c.A.Score), what, simulate.Duration(c.B.Score),
		percentMore(c.B.Score, c.A.Score), workloadText(problem.Workload), problem.Stats.Name)
	if c.B.Why != "" {
		a.printf("  %s %s\n", what, c.B.Why)
	}
	a.printf("  how much longer %s takes:\n", what)
	a.terms(c.Loads, c.Terms)
	for _, d := range c.Parts {
		alike := ""
		if d.Alike {
			alike = ", placed alike"
		}
		a.printf("  %-14s %+.3f %%%s\n", partName(d.Name, d.First, d.Last), 100*float64(d.Extra)/float64(max(1, c.A.Score)), alike)
		a.differences(d, p, other)
	}
	return nil
}

// differences prints how a run of parts is placed in a plan and in another
// placement.
func (a *app) differences(d search.PartDiff, p *plan.Plan, other *placement.Placement) {
	var lines []string
	switch d.Name {
	case "prologue":
		lines = plan.EndChanges(&placement.Placement{Embed: p.Placement.Embed}, &placement.Placement{Embed: other.Embed})
	case "epilogue":
		lines = plan.EndChanges(&placement.Placement{Head: p.Placement.Head}, &placement.Placement{Head: other.Head})
	default:
		cut := func(l []placement.Layer) *placement.Placement {
			return &placement.Placement{Layers: l[d.First : d.First+1]}
		}
		for _, c := range plan.LayerChanges(cut(p.Placement.Layers), cut(other.Layers)) {
			lines = append(lines, c.Changes...)
		}
	}
	for _, line := range lines {
		a.printf("    %s\n", line)
	}
}
