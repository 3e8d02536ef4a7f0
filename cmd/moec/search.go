package main

import (
	"math"

	"github.com/spf13/cobra"

	"moec/compiler"
	"moec/ir/machine"
	"moec/passes/search"
)

// searchFlags say how a placement is searched for, and what it should be fast
// for.
type searchFlags struct {
	searcher string
	budget   int64
	seed     uint64
	workload string
	quantile float64
	routing  string
}

// add adds all but the seed, which some commands use for something else.
func (f *searchFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.searcher, "search", search.Searchers[0].Name, "how to search for a placement; \"moec searchers\" lists the ways")
	fs.Int64Var(&f.budget, "budget", search.DefaultBudget, "changes that a random walk proposes")
	f.addPriced(c)
}

// addPriced adds the flags that say what is priced.
func (f *searchFlags) addPriced(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.workload, "workload", search.Presets[0].Name, "what to be fast for: one that \"moec workloads\" lists, or a JSON file")
	fs.Float64Var(&f.quantile, "quantile", 0, "rank placements by a quantile of the sampled batches, such as 0.95, not by the mean")
	fs.StringVar(&f.routing, "routing", "uniform", "how tokens choose experts: uniform, power:SKEW[:SEED] or a trace of \"moec run --record-routing\"")
}

func (f *searchFlags) addSeed(c *cobra.Command) {
	c.Flags().Uint64Var(&f.seed, "seed", 0, "of the batches that placements are priced on, and of random walks")
}

// search is what the flags say, for a machine.
func (f *searchFlags) search(m *machine.Machine) (*compiler.Search, error) {
	if f.budget < 1 {
		return nil, failf(exitUsage, "--budget %d: want 1 change or more", f.budget)
	}
	if !(f.quantile >= 0 && f.quantile <= 1) {
		return nil, failf(exitUsage, "--quantile %v: want 0 to 1", f.quantile)
	}
	s := &compiler.Search{Machine: m, Options: search.Options{Searcher: f.searcher, Budget: f.budget, Seed: f.seed},
		Workload: f.workload, Quantile: int(math.Round(f.quantile * 1000)), Routing: f.routing}
	return s, fail(exitUsage, s.Check())
}

// open reports whether the way to search is left to the command.
func (f *searchFlags) open() bool { return f.searcher == search.Searchers[0].Name }

func searchersCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "searchers", Short: "list the ways to search for a placement", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			for _, s := range search.Searchers {
				if err := a.row(s.Name, s.Doc); err != nil {
					return err
				}
			}
			return nil
		}}
}

func workloadsCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "workloads", Short: "list what placements can be made fast for", Args: cobra.NoArgs,
		Long: `Workloads say what a placement should be fast for: kinds of steps, and how many
of each there are for one of the others. The first is the default. A JSON file
describes another: for each kind of step the sequences, the tokens and rows of
logits of all of them, the positions that each token sees, and how often the
step occurs:

  {"steps": [{"sequences": 8, "tokens": 8, "rows": 8, "context": 1024, "count": 256}]}`,
		RunE: func(*cobra.Command, []string) error {
			for _, w := range search.Presets {
				if err := a.row(w.Name, w.Doc); err != nil {
					return err
				}
			}
			if a.json {
				return nil
			}
			return a.printf("batchN and prefillN are decode steps of N sequences, and prompts of N tokens. A file describes any other: moec workloads --help.\n")
		}}
}

// row prints a row of a table: a name and what it is.
func (a *app) row(name, doc string) error {
	if a.json {
		return a.printJSON(map[string]string{"name": name, "doc": doc})
	}
	return a.printf("%-10s %s\n", name, doc)
}
