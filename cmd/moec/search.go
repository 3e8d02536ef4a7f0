package main

import (
	"fmt"
	"math"
	"time"

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
	first    limitFlag
	token    limitFlag
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
	fs.Var(&f.first, "max-first-token", "only placements that take no longer to the first token of a prompt of the workload, such as 300ms")
	fs.Var(&f.token, "max-per-token", "only placements of which no decode step of the workload takes longer, such as 20ms")
	fs.Float64Var(&f.quantile, "quantile", 0, "rank placements by a quantile of the sampled batches, such as 0.95, not by the mean")
	fs.StringVar(&f.routing, "routing", "uniform", "how tokens choose experts: uniform, power:SKEW[:SEED] or a trace of \"moec run --record-routing\"")
}

// limitFlag is a time in ps that is above 0 if it is given.
type limitFlag int64

// maxLimitFlag is what a limit can be at most; search.Workload takes little more.
const maxLimitFlag = 15 * time.Minute

// Set implements pflag.Value.
func (f *limitFlag) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxLimitFlag {
		return fmt.Errorf("want a time above 0, at most %v, such as 20ms or 1.5s", maxLimitFlag)
	}
	*f = limitFlag(d.Nanoseconds() * 1000)
	return nil
}

// String implements pflag.Value; there is no default to print.
func (f *limitFlag) String() string {
	if *f == 0 {
		return ""
	}
	return time.Duration(*f / 1000).String()
}

// Type implements pflag.Value.
func (f *limitFlag) Type() string { return "duration" }

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
		Workload: f.workload, FirstToken: int64(f.first), PerToken: int64(f.token), Quantile: int(math.Round(f.quantile * 1000)), Routing: f.routing}
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

  {"steps": [{"sequences": 8, "tokens": 8, "rows": 8, "context": 1024, "count": 256}]}

A file may have limits in picoseconds, which --max-first-token and
--max-per-token override:

  "prompts": 8, "first_token_ps": 300000000000, "per_token_ps": 20000000000

The time to the first token is that of all prompt steps of one prompt: of each
kind of step its count, divided by the number of prompts (1 if it is not given).
The time per token is that of one decode step; no kind may take longer. Both are
means over the sampled batches, or with --quantile that quantile. Only placements
that keep the limits are chosen; if none is found, the error (exit code 6) says
what is reached, and whether it is proven that nothing is within the limits.`,
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
