package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// chosenBySearch is how a comparison calls what the search chose.
const chosenBySearch = "searched"

// contender is what one strategy gave.
type contender struct {
	Strategy string       `json:"strategy"`
	Why      string       `json:"why,omitempty"` // it was not measured
	Batches  []benchRow   `json:"batches,omitempty"`
	Prefill  []prefillRow `json:"prefill,omitempty"`
}

// comparedPoint is one batch or prompt under all strategies.
type comparedPoint struct {
	Name   string    `json:"name"`
	Tau    float64   `json:"tau"`    // Kendall's, of predictions and times
	Regret float64   `json:"regret"` // of the search's choice; -1 if that was not measured
	Same   bool      `json:"same_tokens"`
	Times  []float64 `json:"measured_ms"`
	Priced []float64 `json:"predicted_ms"`
}

// comparison is the result of bench --compare. Lists of a point are in the order
// of the strategies that were measured.
type comparison struct {
	Plan       string          `json:"plan"`
	Contenders []contender     `json:"strategies"`
	Points     []comparedPoint `json:"points"`
}

// benchCompare measures what the search chooses, then each strategy.
func (a *app) benchCompare(ctx context.Context, path string, load *loadFlags, f *benchFlags) error {
	switch {
	case !strings.HasSuffix(path, ".moe"):
		return failf(exitUsage, "bench --compare places a description: need FILE.moe, have %s", path)
	case load.strategy != "" || load.placement != "":
		return failf(exitUsage, "bench --compare names strategies itself: leave --strategy and --placement out")
	}
	out := &comparison{Plan: path}
	for _, strategy := range append([]string{chosenBySearch}, f.compare...) {
		if !a.json {
			if err := a.printf("%s:\n", strategy); err != nil {
				return err
			}
		}
		c, err := a.contend(ctx, path, *load, f, strategy)
		if err != nil {
			return err
		}
		out.Contenders = append(out.Contenders, *c)
	}
	if !slices.ContainsFunc(out.Contenders, func(x contender) bool { return x.Why == "" }) {
		return failf(exitPlacement, "bench: none of the strategies could be measured; name others with --compare")
	}
	out.compare()
	if a.json {
		return a.printJSON(out)
	}
	return out.print(a)
}

// contend measures one strategy. One that does not fit the machine, or divides
// tokens into groups, is left out.
func (a *app) contend(ctx context.Context, path string, load loadFlags, f *benchFlags, strategy string) (*contender, error) {
	c := &contender{Strategy: strategy}
	if strategy != chosenBySearch {
		load.strategy = strategy
	}
	b, err := a.openBench(ctx, path, &load, f)
	var code coded
	if err != nil && errors.As(err, &code) && (code.code == exitPlacement || code.code == exitUsage) {
		c.Why = err.Error()
		return c, a.say("  not measured: %s\n", c.Why)
	}
	if err != nil {
		return nil, err
	}
	defer b.close()
	if err := b.begin(ctx); err != nil {
		return nil, err
	}
	for _, batch := range f.batches {
		row, err := b.batch(ctx, batch)
		if err != nil {
			return nil, err
		}
		c.Batches = append(c.Batches, row)
		if err := a.say("  batch %d: %.3f ms, predicted %.3f\n", batch, row.Device.Median, row.Predicted); err != nil {
			return nil, err
		}
	}
	for _, n := range f.prefill {
		row, err := b.prefillOf(ctx, n)
		if err != nil {
			return nil, err
		}
		c.Prefill = append(c.Prefill, row)
		if err := a.say("  prefill %d: %.2f ms, predicted %.2f\n", n, row.Device.Median, row.Predicted); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// say prints a line of text, which JSON leaves out.
func (a *app) say(format string, args ...any) error {
	if a.json {
		return nil
	}
	return a.printf(format, args...)
}

// compare puts the strategies beside each other, point by point.
func (c *comparison) compare() {
	measured := slices.DeleteFunc(slices.Clone(c.Contenders), func(x contender) bool { return x.Why != "" })
	for i, row := range measured[0].Batches {
		p := comparedPoint{Name: fmt.Sprintf("batch %d", row.Batch), Same: true}
		for _, x := range measured {
			p.Times, p.Priced = append(p.Times, x.Batches[i].Device.Median), append(p.Priced, x.Batches[i].Predicted)
			p.Same = p.Same && x.Batches[i].Tokens == row.Tokens
		}
		c.Points = append(c.Points, p)
	}
	for i, row := range measured[0].Prefill {
		p := comparedPoint{Name: fmt.Sprintf("prefill %d", row.Prompt), Same: true}
		for _, x := range measured {
			p.Times, p.Priced = append(p.Times, x.Prefill[i].Device.Median), append(p.Priced, x.Prefill[i].Predicted)
		}
		c.Points = append(c.Points, p)
	}
	for i := range c.Points {
		p := &c.Points[i]
		p.Tau = kendall(p.Times, p.Priced)
		if p.Regret = -1; c.Contenders[0].Why == "" {
			p.Regret = p.Times[0]/slices.Min(p.Times) - 1
		}
	}
}

// kendall is Kendall's tau: of all pairs, those that two lists rank alike less
// those that they rank in opposite ways; pairs that are equal in one count for
// neither. It is 1 if there are no pairs.
func kendall(a, b []float64) float64 {
	sum, pairs := 0, 0
	for i := range a {
		for j := range i {
			pairs++
			switch product := (a[i] - a[j]) * (b[i] - b[j]); {
			case product > 0:
				sum++
			case product < 0:
				sum--
			}
		}
	}
	if pairs == 0 {
		return 1
	}
	return float64(sum) / float64(pairs)
}

func (c *comparison) print(a *app) error {
	a.printf("%s: ms measured, and by how much the prediction is off\n  %-14s", c.Plan, "")
	for _, x := range c.Contenders {
		if x.Why == "" {
			a.printf(" %18s", x.Strategy)
		}
	}
	a.printf(" %6s %7s  tokens\n", "tau", "regret")
	for _, p := range c.Points {
		a.printf("  %-14s", p.Name)
		for i, t := range p.Times {
			a.printf(" %10.3f %+6.1f%%", t, 100*(p.Priced[i]/t-1))
		}
		same := "the same"
		switch {
		case !p.Same:
			same = "differ"
		case strings.HasPrefix(p.Name, "prefill"):
			same = "-"
		}
		regret := fmt.Sprintf("%6.1f%%", 100*p.Regret)
		if p.Regret < 0 {
			regret = "      -"
		}
		if err := a.printf(" %6.2f %s  %s\n", p.Tau, regret, same); err != nil {
			return err
		}
	}
	return nil
}
