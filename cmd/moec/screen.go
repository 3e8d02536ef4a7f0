package main

import (
	"fmt"
	"strings"

	"moec/compiler"
	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/passes/search"
	"moec/planner/plan"
	"moec/planner/simulate"
)

// screen prints what was compiled, how the placement was found, and how it
// compares.
func (a *app) screen(r *compiled, file string, stages bool) error {
	out, err := r.overview(file)
	if err != nil {
		return err
	}
	var times []search.Time
	if r.Choice != nil {
		times = r.Choice.Used().Times
	}
	if a.json {
		return a.printJSON(struct {
			*overview
			Times []search.Time `json:"time_limits,omitempty"`
		}{out, times})
	}
	a.head(r, out)
	if r.Choice != nil {
		a.printf("  search     %s\n", out.verdict(r.Choice))
		a.printf("  workload   %s; routing %s\n", workloadText(out.Workload), out.Routing)
		a.limits(times)
		a.table(out)
		a.where(out, r.explain)
		a.checks(out)
	}
	a.memory(out)
	a.printf("  verified   %s\n", out.Verified)
	if stages {
		a.times(r.Result)
	}
	next := fmt.Sprintf("moec plan svg %s -o plan.svg", file)
	if out.Best != nil && len(out.Memory) > 1 {
		next += fmt.Sprintf(" | moec explain place %s %s --why-not %s", file, r.explain, out.Best.Name)
	}
	return a.printf("  next       %s\n", next)
}

// head says what the plan is for.
func (a *app) head(r *compiled, out *overview) {
	p := r.Plan
	a.printf("%s\n", out.Plan)
	a.printf("  model      %s: %s parameters, %s a token, %d layers; weights %s\n", p.Model.Name, plan.Count(p.Model.Params), plan.Count(p.Model.Active), p.Model.Layers, plan.Bytes(out.Weights))
	a.printf("  machine    %s: %d x %s%s\n", p.Machine.Name, p.Machine.Devices, plan.Bytes(p.Machine.Memory), linkText(r.machine))
	a.printf("  strategy   %s, numerics %s\n", p.Placement.Strategy, p.Numerics.Mode)
	if t := out.Traffic; t.Invariant > 0 {
		used := t.Invariant
		if p.Numerics.Mode == ir.Fast {
			used = t.Fast
		}
		a.printf("  traffic    %s a token between devices; --numerics fast would send %s\n", plan.Bytes(used), plan.Bytes(t.Fast))
	}
}

// linkText is the links of a machine, the nearest first.
func linkText(m *machine.Machine) string {
	if m.Devices < 2 {
		return ""
	}
	text := ""
	for _, l := range m.Links {
		text += fmt.Sprintf(", %s %s/s each way", l.Kind, plan.Bytes(l.Bandwidth.Value))
		if l.Span > 0 {
			text += fmt.Sprintf(" within %d", l.Span)
		}
	}
	return text
}

// workloadText names a workload and says what it is.
func workloadText(w search.Workload) string {
	text := w.Name
	if w.Doc != "" {
		text += ": " + w.Doc
	}
	if w.Quantile > 0 {
		text += fmt.Sprintf("; ranked by the quantile %v", float64(w.Quantile)/1000)
	}
	return text
}

// limits prints what the workload allows and what is reached.
func (a *app) limits(times []search.Time) {
	for i := range times {
		t := &times[i]
		name := ""
		if i == 0 {
			name = "limits"
		}
		reached := simulate.Duration(t.Reached)
		if t.Step != nil {
			reached += " (" + stepName(*t.Step) + ")"
		}
		a.printf("  %-10s %s: at most %s, reached %s\n", name, t.Name, simulate.Duration(t.Limit), reached)
	}
}

// verdict says how the placement was found, and how far from the best it may
// be.
func (o *overview) verdict(c *compiler.Choice) string {
	how := o.Search.Searcher
	switch {
	case o.Search.Given:
		how = "given"
	case o.Bound > 0 && how == "hand": // exact found nothing better
		how = "exact"
	case o.Bound > 0 && how == "mcmc":
		how = "exact, then mcmc"
	}
	text := fmt.Sprintf("%s, %s layers priced in %.2f s: ", how, thousands(o.Priced), o.Seconds)
	if o.Search.Rounds > 1 {
		text = fmt.Sprintf("%s, %s layers priced in %.2f s, the last of %d rounds, as buffers did not fit: ", how, thousands(o.Priced), o.Seconds, o.Search.Rounds)
	}
	gap, ok := c.Gap()
	switch {
	case o.Search.Reason != "":
		return text + "only named strategies were compared: " + o.Search.Reason
	case !ok && o.Search.Limit != "":
		return text + "no bound: " + o.Search.Limit
	case !ok:
		return text + "no bound was worked out; --search exact does"
	case gap <= 0 && len(c.Used().Times) > 0:
		return text + "no placement of this space that keeps the limits is faster (gap 0 %)"
	case gap <= 0:
		return text + "no placement of this space is faster (gap 0 %)"
	}
	text += fmt.Sprintf("at most %.2f %% faster is possible", float64(gap)/1e4)
	if o.Search.Limit != "" {
		text += "; the bound stops at " + o.Search.Limit
	}
	return text
}

// thousands prints a number with commas.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// table prints what steps take with the chosen placement and the named
// strategies, the best first.
func (a *app) table(o *overview) {
	a.printf("  %-20s", "ms")
	for _, b := range o.Buckets {
		a.printf(" %*s", columnWidth(b), b.Name)
	}
	a.printf("  workload\n")
	name := "chosen"
	if o.Search.Given {
		name = o.Chosen.Name + ", given"
	}
	a.tableRow(o, name, o.Chosen)
	left := 0
	for _, alt := range o.Others {
		switch {
		case len(alt.MS) > 0 && len(o.Memory) > 1:
			a.tableRow(o, alt.Name+" by hand", alt)
		case alt.Why == "" && len(o.Memory) > 1:
			left++
		case strings.HasPrefix(alt.Why, "does not fit"), strings.HasPrefix(alt.Why, "breaks the limit"):
			a.printf("    %-18s %s\n", alt.Name, alt.Why)
		}
	}
	if left > 0 {
		a.printf("    %d more strategies cost more; --json lists them\n", left)
	}
	most := 0
	for _, s := range o.Workload.Steps {
		most = max(most, s.Sequences)
	}
	if n := o.Limits.Sequences; most > n {
		a.printf("    priced beyond the plan's %d sequences; --sequences %d makes room for all steps of the workload\n", n, most)
	}
}

func columnWidth(b shownStep) int { return max(9, len(b.Name)) }

// tableRow prints the times of a placement, and the price of the workload as a
// multiple of the chosen one's.
func (a *app) tableRow(o *overview, name string, alt *alternative) {
	a.printf("    %-18s", name)
	for k, b := range o.Buckets {
		a.printf(" %*s", columnWidth(b), msText(alt.MS[k]))
	}
	a.printf("  %.3f x\n", float64(alt.Score)/float64(max(1, o.Chosen.Score)))
}

// msText prints milliseconds with three or four digits that count.
func msText(ms float64) string {
	switch {
	case ms < 0.1:
		return fmt.Sprintf("%.4f", ms)
	case ms < 10:
		return fmt.Sprintf("%.3f", ms)
	case ms < 100:
		return fmt.Sprintf("%.2f", ms)
	}
	return fmt.Sprintf("%.1f", ms)
}

// maxWhere bounds the lines that say how placements differ.
const maxWhere = 5

// where says in which loads and layers the chosen placement differs from the
// best by hand.
func (a *app) where(o *overview, explain string) {
	if o.Best == nil || len(o.Memory) == 1 {
		return
	}
	w := o.Best.Where
	if w == nil {
		a.printf("  wins       nowhere: it is %s\n", o.Best.Name)
		return
	}
	verdict := "where it wins"
	switch {
	case o.Chosen.Score > o.Best.Score:
		verdict = "where it loses"
	case o.Chosen.Score == o.Best.Score:
		verdict = "it takes as long"
	}
	a.printf("  against    %s, %s: %s\n", o.Best.Name, verdict, lossText(w.Loads, w.Terms))
	lines := append([]string{}, o.Best.Ends...)
	for _, c := range o.Best.Layers {
		for _, text := range c.Changes {
			lines = append(lines, fmt.Sprintf("layers %s: %s", c.Layers, text))
		}
	}
	for i, line := range lines {
		if i == maxWhere {
			a.printf("    and %d more differences: moec explain place %s %s --why-not %s\n", len(lines)-maxWhere, o.Plan, explain, o.Best.Name)
			break
		}
		a.printf("    %s\n", line)
	}
}

// lossText says for each kind of step how much the first placement saves, or
// costs, in the workload, and in which term most.
func lossText(loads []search.Step, terms []cost.Cost) string {
	var parts []string
	for k, c := range terms {
		total := c.Total() * loads[k].Count
		verb := "saves"
		if total < 0 {
			verb, c, total = "costs", cost.Cost{Compute: -c.Compute, Memory: -c.Memory, Link: -c.Link, Launch: -c.Launch}, -total
		}
		if total > 0 {
			term, _ := search.Most(c)
			parts = append(parts, fmt.Sprintf("%s %s %s (%s)", stepName(loads[k]), verb, simulate.Duration(total), term))
		}
	}
	if len(parts) == 0 {
		return "no step differs"
	}
	return strings.Join(parts, ", ")
}

// checks prints what other batches and the simulator say.
func (a *app) checks(o *overview) {
	if u := o.Unseen; u != nil && len(o.Memory) > 1 {
		a.printf("  unseen     on other batches the workload takes %s, %s %s (%+.2f %%)\n", simulate.Duration(u.Chosen), o.Best.Name, simulate.Duration(u.Best), percentMore(u.Best, u.Chosen))
	}
	if s := o.Sim; s != nil && len(s.Steps) > 0 {
		left := ""
		if len(s.Left) > 0 {
			left = "; the plan has no room for " + strings.Join(s.Left, ", ")
		}
		a.printf("  simulator  events with contention: %s for %s, %+.2f %% beside the closed form%s\n", simulate.Duration(s.Time), strings.Join(s.Steps, ", "), percentMore(s.Time, s.Closed), left)
	}
}

// percentMore is by how many percent a is more than b.
func percentMore(a, b int64) float64 { return 100 * float64(a-b) / float64(max(1, b)) }

// maxMemory is how many devices are listed one by one.
const maxMemory = 8

// memory prints what devices keep.
func (a *app) memory(o *overview) {
	fullest := o.Memory[0]
	var parts []string
	for _, m := range o.Memory {
		if m.Total > fullest.Total {
			fullest = m
		}
		parts = append(parts, fmt.Sprintf("gpu%d %s", m.Device, plan.Bytes(m.Total)))
	}
	if len(parts) > maxMemory {
		parts = []string{fmt.Sprintf("%d devices, the fullest gpu%d %s", len(parts), fullest.Device, plan.Bytes(fullest.Total))}
	}
	a.printf("  memory     %s of %s; gpu%d: weights %s, KV %s, buffers %s\n", strings.Join(parts, "  "), plan.Bytes(fullest.Budget), fullest.Device,
		plan.Bytes(fullest.Weights), plan.Bytes(fullest.Caches), plan.Bytes(fullest.Buffers+fullest.Consts))
}

// String says what was checked.
func (v verified) String() string {
	text := fmt.Sprintf("%d rules", v.Rules)
	if !v.Proof {
		return text + "; not proved (--no-proof)"
	}
	text += fmt.Sprintf("; equal to the description over Z_p in %s steps", thousands(v.Steps))
	if v.Unrounded {
		return text + ", rounding left out"
	}
	return text + ", and every buffer followed at full size"
}

// times prints what stages and passes took.
func (a *app) times(r *compiler.Result) {
	for _, s := range r.Stages {
		a.printf("  %-12s %8.1f ms\n", s.Name, s.Took.Seconds()*1e3)
	}
	for _, t := range r.Timings {
		a.printf("    %-18s %8.1f ms %6d nodes\n", t.Pass, t.Took.Seconds()*1e3, t.Nodes)
	}
}
