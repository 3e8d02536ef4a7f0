package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/routing"
	"moec/planner/plan"
	"moec/planner/simulate"
)

// simFlags say what to simulate.
type simFlags struct {
	machine    string
	sequences  int
	tokens     int
	context    int
	prompt     int
	overlap    bool
	contention bool
	routing    string
	seed       uint64
	trace, svg string
}

// Defaults of a decode step, if the plan allows as many.
const (
	simSequences = 8
	simContext   = 1024
)

func planSim(a *app) *cobra.Command {
	var f simFlags
	c := &cobra.Command{Use: "sim PLAN", Short: "simulate a step of a plan on a machine: its time, and where it goes", Args: cobra.ExactArgs(1),
		Long: `Sim follows a step of a plan through the devices and links of a machine and
says how long it takes, what each device and link does meanwhile, how much
memory is in use and what the time depends on. Nothing is run. Prices are those
that placements are chosen by; docs/simulator.md says what is left out.

Without flags the step is a decode step of 8 sequences with 1,024 positions.`,
		RunE: func(c *cobra.Command, args []string) error { return a.sim(c, args[0], &f) }}
	fs := c.Flags()
	fs.StringVar(&f.machine, "machine", "", "machine to simulate, by `NAME|FILE` (default: the plan's)")
	fs.IntVar(&f.sequences, "sequences", 0, fmt.Sprintf("sequences of the step (default %d, or what the plan allows)", simSequences))
	fs.IntVar(&f.tokens, "tokens", 0, "tokens of the step, of all sequences (default: one for each)")
	fs.IntVar(&f.context, "context", 0, fmt.Sprintf("positions that each token sees (default %d, or what the plan allows)", simContext))
	fs.IntVar(&f.prompt, "prompt", 0, "simulate a prompt of so many tokens instead, in the chunks that the plan allows")
	fs.BoolVar(&f.overlap, "overlap", false, "let exchanges run beside steps that do not need them, as hardware could; moec's runtimes do not")
	fs.BoolVar(&f.contention, "contention", false, "let transfers wait for ports and shared links")
	fs.StringVar(&f.routing, "routing", "even", "`HOW` tokens choose experts: even, or drawn by uniform, power:SKEW[:SEED] or a trace file")
	fs.Uint64Var(&f.seed, "seed", 1, "seed of the tokens that --routing draws")
	fs.StringVar(&f.trace, "trace", "", "write a trace for chrome://tracing or Perfetto to this `FILE`")
	fs.StringVar(&f.svg, "svg", "", "draw the step as SVG into this `FILE`")
	return c
}

// sim simulates what the flags say.
func (a *app) sim(c *cobra.Command, path string, f *simFlags) error {
	p, err := readPlan(path)
	if err != nil {
		return err
	}
	w, err := f.workload(c, p)
	if err != nil {
		return err
	}
	m, err := a.simMachine(p, f.machine)
	if err != nil {
		return err
	}
	s, err := simulate.New(p, m)
	if err != nil {
		return fail(exitPlacement, err)
	}
	batch, err := f.batches(p)
	if err != nil {
		return err
	}
	total, err := s.Run(w, simulate.Options{Overlap: f.overlap, Contention: f.contention}, batch)
	if err != nil {
		var refused *simulate.Error
		if errors.As(err, &refused) {
			return fail(exitUsage, err)
		}
		return err
	}
	longest := 0
	for i, r := range total.Steps {
		if r.Time > total.Steps[longest].Time {
			longest = i
		}
	}
	if err := f.files(total.Steps[longest]); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"plan": path, "machine": m.Name, "overlap": f.overlap, "contention": f.contention, "routing": f.routing,
			"time_ps": total.Time, "lockstep_ps": total.Closed, "steps": total.Steps})
	}
	return a.simReport(path, p, m, f, total, longest)
}

// workload is the steps to simulate.
func (f *simFlags) workload(c *cobra.Command, p *plan.Plan) (simulate.Workload, error) {
	for _, n := range []struct {
		flag  string
		value int
		least int
	}{{"sequences", f.sequences, 1}, {"tokens", f.tokens, 1}, {"context", f.context, 0}, {"prompt", f.prompt, 1}} {
		switch changed := c.Flags().Changed(n.flag); {
		case changed && n.value < n.least:
			return nil, failf(exitUsage, "--%s %d: want %d or more", n.flag, n.value, n.least)
		case changed && f.prompt > 0 && n.flag != "prompt":
			return nil, failf(exitUsage, "--prompt and --%s do not go together: a prompt says all of its steps", n.flag)
		}
	}
	if f.prompt > p.Limits.Context {
		return nil, failf(exitUsage, "--prompt %d: the plan allows sequences of %d positions; ask for less, or compile with a larger --context", f.prompt, p.Limits.Context)
	}
	if f.prompt > 0 {
		return simulate.Prompt(p, f.prompt), nil
	}
	sequences, context := cmp.Or(f.sequences, min(simSequences, p.Limits.Sequences)), f.context
	if !c.Flags().Changed("context") {
		context = min(simContext, p.Limits.Context)
	}
	l := cost.Load{Sequences: sequences, Tokens: cmp.Or(f.tokens, sequences), Rows: sequences, Context: context}
	if l.Tokens%l.Sequences != 0 {
		return nil, failf(exitUsage, "--tokens %d is no multiple of %d sequences; give the same number to each", l.Tokens, l.Sequences)
	}
	return simulate.Workload{{Load: l, Count: 1}}, nil
}

// simMachine is the machine to simulate: the plan's if none is named.
func (a *app) simMachine(p *plan.Plan, name string) (*machine.Machine, error) {
	m, err := machine.Lookup(cmp.Or(name, p.Machine.Name))
	switch {
	case err != nil && name == "":
		return nil, failf(exitPlacement, "the plan is for machine %s, of which there is no description here (%w); name one, or its file, with --machine", p.Machine.Name, err)
	case err != nil:
		return nil, fail(exitPlacement, err)
	}
	if few, err := m.With(p.Machine.Devices); err == nil && few.Hash() == p.Machine.Hash {
		return few, nil // the plan is for some of the machine's devices
	}
	if m.Hash() != p.Machine.Hash {
		a.warn(fmt.Sprintf("the plan was made for %s (%s), this is %s (%s): times are of this one", p.Machine.Name, short(p.Machine.Hash), m.Name, short(m.Hash())))
	}
	return m, nil
}

// short shortens a hash so that people can compare it.
func short(hash string) string { return cmp.Or(hash[:min(8, len(hash))], "no hash") }

// batches draws tokens by routing statistics, the same for all layers of a
// class.
func (f *simFlags) batches(p *plan.Plan) (func(tokens int) simulate.Batch, error) {
	if f.routing == "even" {
		return nil, nil
	}
	stats, err := routing.Parse(f.routing, simulate.Shapes(p))
	if err != nil {
		return nil, fail(exitUsage, err)
	}
	type key struct{ class, tokens int }
	drawn := make(map[key]*routing.Batch)
	return func(tokens int) simulate.Batch {
		return func(layer int) *routing.Batch {
			if layer < 0 || layer >= len(stats.Layers) {
				return nil
			}
			k := key{stats.Class(layer), tokens}
			if drawn[k] == nil {
				drawn[k] = stats.Draw(f.seed, layer, tokens, 0)
			}
			return drawn[k]
		}
	}, nil
}

// files writes the trace and the picture of a step.
func (f *simFlags) files(r *simulate.Result) error {
	for _, file := range []struct {
		path  string
		write func(io.Writer) error
	}{{f.trace, r.WriteTrace}, {f.svg, r.WriteSVG}} {
		if file.path == "" {
			continue
		}
		var out bytes.Buffer
		if err := file.write(&out); err != nil {
			return err
		}
		if err := os.WriteFile(file.path, out.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// simReport prints what was simulated: a line for each step, then the longest
// one in detail.
func (a *app) simReport(path string, p *plan.Plan, m *machine.Machine, f *simFlags, total *simulate.Total, longest int) error {
	a.printf("%s: %s on %s, %d devices\n", path, p.Model.Name, m.Name, len(p.Memory))
	a.printf("  %s; %s; experts chosen: %s\n", either(f.overlap, "exchanges run beside steps", "exchanges stop a device's steps"), either(f.contention, "transfers wait for each other", "transfers do not meet"), f.routing)
	a.printf("  %-34s %-12s %10s %10s %8s\n", "step", "program", "time", "lockstep", "")
	for _, r := range total.Steps {
		a.printf("  %-34s %-12s %10s %10s %8s\n", loadText(r.Load), fmt.Sprintf("%s to %d", r.Program, r.Bucket), simulate.Duration(r.Time), simulate.Duration(r.Closed.Time), difference(r.Time, r.Closed.Time))
	}
	r := total.Steps[longest]
	if len(total.Steps) > 1 {
		a.printf("  %-34s %-12s %10s %10s %8s\n", "together", "", simulate.Duration(total.Time), simulate.Duration(total.Closed), difference(total.Time, total.Closed))
		a.printf("the longest of them, %s\n", loadText(r.Load))
	}
	a.simDevices(r)
	a.simPath(r)
	return a.printf("  next       moec plan sim %s --trace step.json (for ui.perfetto.dev) --svg step.svg\n", path)
}

func either(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

func loadText(l cost.Load) string {
	return fmt.Sprintf("%d tokens of %d, context %d", l.Tokens, l.Sequences, l.Context)
}

// difference says how far the closed form is from the simulation.
func difference(time, closed int64) string {
	if time == 0 {
		return ""
	}
	return fmt.Sprintf("%+.1f%%", 100*float64(closed-time)/float64(time))
}

// share prints a part of a time in percent.
func share(part, whole int64) string {
	return fmt.Sprintf("%.1f%%", 100*float64(part)/float64(max(1, whole)))
}

// simDevices prints what each device does.
func (a *app) simDevices(r *simulate.Result) {
	in, out := make(map[int]int64), make(map[int]int64)
	for _, l := range r.Links {
		switch {
		case l.Shared:
		case l.Out:
			out[l.Device] += l.Busy
		default:
			in[l.Device] += l.Busy
		}
	}
	a.printf("  %-10s %9s %9s %9s %9s   %s\n", "device", "busy", "exchange", "wait", "link", "memory at its most")
	var lines []string
	for i, d := range r.Devices {
		h := r.Memory[i]
		where := h.Op
		if h.Layer >= 0 {
			where = fmt.Sprintf("%s, layer %d", h.Op, h.Layer)
		}
		lines = append(lines, fmt.Sprintf("%9s %9s %9s %9s   %s: buffers %s in %s", share(d.Busy, r.Time), share(d.Exchange, r.Time), share(d.Wait, r.Time), share(max(in[d.Device], out[d.Device]), r.Time),
			plan.Bytes(h.Total), plan.Bytes(h.Buffers), where))
	}
	for i := 0; i < len(lines); {
		j := i + 1
		for j < len(lines) && lines[j] == lines[i] {
			j++
		}
		name := fmt.Sprint(i)
		if j > i+1 {
			name = fmt.Sprintf("%d-%d", i, j-1)
		}
		a.printf("  %-10s %s\n", name, lines[i])
		i = j
	}
	a.simShared(r)
}

// simShared prints the busiest shared part of each link and direction.
func (a *app) simShared(r *simulate.Result) {
	for i, l := range r.Links {
		if !l.Shared || i > 0 && r.Links[i-1].Level == l.Level && r.Links[i-1].Shared && r.Links[i-1].Out == l.Out {
			continue
		}
		most, n := l, 0
		for _, o := range r.Links[i:] {
			if o.Level == l.Level && o.Shared && o.Out == l.Out {
				n++
				if o.Busy > most.Busy {
					most = o
				}
			}
		}
		a.printf("  busiest of %d: %s: %s, %s\n", n, most.Name, share(most.Busy, r.Time), plan.Bytes(most.Bytes))
	}
}

// simPathLines is how many ops of the critical path are printed.
const simPathLines = 10

// simPath prints what the time of the step is made of.
func (a *app) simPath(r *simulate.Result) {
	c := r.Path.Cost
	a.printf("  critical path: arithmetic %s, memory %s, links %s, launches %s\n", share(c.Compute, r.Time), share(c.Memory, r.Time), share(c.Link, r.Time), share(c.Launch, r.Time))
	for i, op := range r.Path.Ops {
		if i == simPathLines {
			var rest int64
			for _, op := range r.Path.Ops[i:] {
				rest += op.Time
			}
			a.printf("    %-32s %5s   %10s %8s\n", "others", "", simulate.Duration(rest), share(rest, r.Time))
			break
		}
		a.printf("    %-32s %5d x %10s %8s\n", op.Op, op.Count, simulate.Duration(op.Time), share(op.Time, r.Time))
	}
}
