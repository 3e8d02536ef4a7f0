package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"moec/compiler"
	"moec/ir"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/passes"
	"moec/passes/search"
	"moec/planner/plan"
)

// planPrice prices one placement as the search does.
func planPrice(a *app) *cobra.Command {
	var f compileFlags
	var of string
	c := &cobra.Command{Use: "price PLACEMENT --of FILE.moe", Short: "price a placement file or a strategy as the search does", Args: cobra.ExactArgs(1),
		Example: `  moec plan price ep4 --of examples/mixtral.moe --gpus 4
  moec plan price mine.json --of examples/mixtral.moe --gpus 4 --workload prefill`,
		RunE: func(c *cobra.Command, args []string) error {
			if of == "" {
				return failf(exitUsage, "plan price wants the description that is placed: --of FILE.moe")
			}
			return a.price(args[0], of, &f)
		}}
	f.add(c)
	c.Flags().StringVar(&of, "of", "", "description that is placed")
	return c
}

func (a *app) price(what, of string, f *compileFlags) error {
	src, err := readSource(of)
	if err != nil {
		return err
	}
	m, err := f.target()
	if err != nil {
		return fail(exitPlacement, err)
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
	o := compiler.Options{Env: env, Numerics: numerics, Limits: f.limits, To: "place"}
	o.Place = func(g *ir.Graph) (*placement.Placement, error) {
		p, err := namedOrFile(g, what, m.Devices)
		if err != nil {
			return nil, err
		}
		return p, a.printPrice(g, m, p, f)
	}
	_, err = compiler.Compile(of, src, o)
	return compileError(err, m)
}

// namedOrFile is a strategy by name, or the placement of a file.
func namedOrFile(g *ir.Graph, what string, devices int) (*placement.Placement, error) {
	if _, err := os.Stat(what); errors.Is(err, fs.ErrNotExist) {
		return passes.Named(g, what, devices)
	}
	return placementFile(g, what, devices)
}

// printPrice prints what a placement costs, and how far it is from the bound.
func (a *app) printPrice(g *ir.Graph, m *machine.Machine, p *placement.Placement, f *compileFlags) error {
	limits := compiler.Limits(f.limits, plan.Model{})
	problem, err := f.problem(g, m, limits)
	if err != nil {
		return err
	}
	priced, err := search.Price(problem, p)
	if err != nil {
		return err
	}
	best, err := search.Run(problem, search.Options{Searcher: "exact"})
	if err != nil {
		return err
	}
	x := priced[0]
	if a.json {
		return a.printJSON(map[string]any{"placement": x, "workload": problem.Workload, "bound_ps": best.Bound, "best_ps": best.Chosen.Score})
	}
	a.printf("%s on %s: %.4f ms for %s\n", x.Name, m.Name, float64(x.Score)/1e9, problem.Workload.Name)
	for k, s := range problem.Workload.Steps {
		a.printf("  %6d tokens of %d sequences, %d times: %10.4f ms each\n", s.Tokens, s.Sequences, s.Count, float64(x.Steps[k])/1e9)
	}
	for d, b := range x.Bytes {
		a.printf("  device %-3d %6.1f GB of weights and KV entries\n", d, float64(b)/1e9)
	}
	if x.Why != "" {
		a.printf("  %s\n", x.Why)
	}
	distance := "no bound was worked out"
	if best.Bound > 0 {
		distance = fmt.Sprintf("%.2f %% above the bound", 100*float64(x.Score-best.Bound)/float64(best.Bound))
	}
	return a.printf("  %s; the search finds %.4f ms\n", distance, float64(best.Chosen.Score)/1e9)
}
