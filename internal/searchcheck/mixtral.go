package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"moec/ir/placement"
	"moec/passes/search"
)

// machines are those that the question was asked for: fast links, the machines
// that it was first asked on, and slow links.
var machines = []string{"h200x4", "v100x4", "l40sx4"}

// chunk is the tokens of a prompt that a step takes.
const chunk = 2048

// workloads are single loads and the default.
func workloads() []search.Workload {
	mixed, _ := search.ParseWorkload("", chunk)
	return []search.Workload{search.Decode(1), search.Decode(8), search.Decode(64), search.Prefill(2048, chunk), mixed}
}

func (c *check) mixtral() error {
	fmt.Printf("  %-8s %-13s %10s %10s %8s %8s   %-7s %10s   mcmc over exact: median, worst of %d seeds\n", "machine", "workload", "chosen ms", "bound ms", "gap %", "time", "hand", "ms", c.seeds)
	for _, name := range machines {
		for _, w := range workloads() {
			p, err := c.problem(name, w, "uniform")
			if err != nil {
				return err
			}
			begin := time.Now()
			r, err := search.Run(p, search.Options{Searcher: "exact"})
			if err != nil {
				return err
			}
			took := time.Since(begin)
			gap, _ := r.Gap()
			median, worst, err := c.walks(p, r)
			if err != nil {
				return err
			}
			fmt.Printf("  %-8s %-13s %10.4f %10.4f %8.4f %6.2f s   %-7s %10.4f   %.3f %%, %.3f %%\n", name, w.Name, milliseconds(r.Chosen.Score), milliseconds(r.Bound), percent(gap), took.Seconds(), r.Best().Name, milliseconds(r.Best().Score), percent(median), percent(worst))
			if gap != 0 || median > 1e4 || worst > 3e4 {
				c.short(os.Stdout, "gap %.4f %%, mcmc %.3f %%, %.3f %%: want 0, 1, 3", percent(gap), percent(median), percent(worst))
			}
		}
	}
	return nil
}

// walks runs mcmc for every seed and compares with exact, in parts of a
// million.
func (c *check) walks(p *search.Problem, r *search.Result) (median, worst int64, err error) {
	var over []int64
	for seed := range uint64(c.seeds) {
		walk, err := search.Run(p, search.Options{Searcher: "mcmc", Seed: seed})
		if err != nil {
			return 0, 0, err
		}
		over = append(over, (walk.Chosen.Score-r.Chosen.Score)*1e6/r.Chosen.Score)
	}
	if len(over) == 0 {
		return 0, 0, nil
	}
	slices.Sort(over)
	return over[len(over)/2], over[len(over)-1], nil
}

// random prices random placements; none may be below the bound.
func (c *check) random() error {
	loads := workloads()
	return inOrder(len(machines)*len(loads), func(i int, out io.Writer) error {
		return c.randomOn(out, machines[i/len(loads)], loads[i%len(loads)])
	})
}

func (c *check) randomOn(out io.Writer, name string, w search.Workload) error {
	p, err := c.problem(name, w, "uniform")
	if err != nil {
		return err
	}
	r, err := search.Run(p, search.Options{Searcher: "exact"})
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var list []*placement.Placement
	for range c.placements / (len(machines) * len(workloads())) {
		list = append(list, placement.Random(rng, p.Outline.Summary, p.Machine.Devices))
	}
	priced, err := search.Price(p, list...)
	if err != nil {
		return err
	}
	least := priced[0]
	for _, x := range priced {
		if x.Score < least.Score {
			least = x
		}
	}
	fmt.Fprintf(out, "  %-8s %-13s %d placements: the cheapest is %.2f times the bound\n", name, w.Name, len(list), float64(least.Score)/float64(r.Bound))
	if least.Score < r.Bound {
		c.short(out, "a random placement costs %d ps, the bound is %d", least.Score, r.Bound)
	}
	return nil
}
