package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/routing"
	"moec/planner/plan"
	"moec/planner/simulate"
	"moec/runtime"
	"moec/runtime/cuda"
	"moec/runtime/kv"
	"moec/runtime/step"
)

// profileFlags say which step is profiled.
type profileFlags struct {
	sequences, tokens, context, steps int
	apart                             bool
	chosen, trace                     string

	experts int            // that worked, of all layers; 0 if they were not counted
	batch   simulate.Batch // who of the step's tokens chose which
}

// profileWarmup are steps that are not looked at: they bring code and clocks up.
const profileWarmup = 2

func profileCommand(a *app) *cobra.Command {
	var load loadFlags
	var f profileFlags
	c := &cobra.Command{Use: "profile PLAN|FILE.moe", Short: "measure each kernel of a step on GPUs, beside what its work must take", Args: cobra.ExactArgs(1),
		Long: `Profile runs a step several times with a clock before and after each kernel, and
shows the one of median length: how often each kernel ran and how long, what it
must read and write, and how long that takes at the rate of a plain read of
memory in the same run, or its arithmetic at the rates of the machine
description (the floor). What a kernel does along with another's work has no
floor of its own. Clocks keep kernels a few microseconds apart.

Where one kernel executes the whole step it is one line, where a series of
kernels does, each has the floor of all operations that it executes; --apart runs
a kernel for each operation instead. Such a kernel counts the experts that work, and the
floor has as many; else, or if --chosen is given, they are drawn.`,
		RunE: func(c *cobra.Command, args []string) error { return a.profile(c.Context(), args[0], &load, &f) }}
	load.add(c)
	c.Flags().Lookup("devices").DefValue = "cuda"
	load.devices = "cuda"
	fs := c.Flags()
	fs.IntVar(&f.sequences, "batch", simSequences, "sequences of the step")
	fs.IntVar(&f.tokens, "step-tokens", 1, "tokens of each sequence")
	fs.IntVar(&f.context, "prompt-tokens", 128, "positions of each sequence before the step")
	fs.IntVar(&f.steps, "steps", 5, "how often the step is run")
	fs.BoolVar(&f.apart, "apart", false, "run a kernel for each operation even where one executes the whole step")
	fs.StringVar(&f.chosen, "chosen", "", "how the floor takes experts to be chosen, if they are not counted: uniform, power:SKEW[:SEED] or a trace file (default \"uniform\")")
	fs.StringVar(&f.trace, "trace", "", "write a trace of the kernels and of the simulated step, for chrome://tracing or Perfetto, to this `FILE`")
	return c
}

// profiled is a program that takes the times of its kernels.
type profiled interface {
	runtime.Program
	Profile(ctx context.Context, s *step.Step, apart bool) ([]cuda.Took, error)
	Measure() (cuda.Measure, error)
	ReadStream(ctx context.Context) (float64, error)
}

// profile is the profile command.
func (a *app) profile(ctx context.Context, path string, load *loadFlags, f *profileFlags) error {
	load.limits.Sequences = max(load.limits.Sequences, f.sequences)
	if load.weights == "" && load.checkpoint == "" {
		load.weights = "random"
	}
	s, err := a.open(ctx, path, load)
	if err != nil {
		return err
	}
	defer s.close()
	m, err := f.check(a, path, s.plan)
	if err != nil {
		return err
	}
	p, err := a.load(ctx, s, load)
	if err != nil {
		return err
	}
	defer p.Close()
	program, ok := p.(profiled)
	if !ok {
		return failf(exitUsage, "profile measures GPUs: need --devices cuda, have %s", load.devices)
	}
	took, stream, err := f.measure(ctx, program, s.plan)
	if err != nil {
		return err
	}
	if err := f.choose(s.plan); err != nil {
		return err
	}
	r, err := f.report(s.plan, m, took, stream)
	if err != nil {
		return err
	}
	r.Plan = path
	if f.trace != "" {
		if err := f.write(s.plan, m, r); err != nil {
			return err
		}
	}
	if a.json {
		return a.printJSON(r)
	}
	return r.print(a)
}

// check compares the step with what a plan has room for, and finds the machine
// of the plan.
func (f *profileFlags) check(a *app, path string, p *plan.Plan) (*machine.Machine, error) {
	if f.sequences < 1 || f.tokens < 1 || f.context < 0 || f.steps < 1 {
		return nil, failf(exitUsage, "profile: need at least 1 for --batch, --step-tokens and --steps, and no negative --prompt-tokens")
	}
	positions := f.context + f.tokens
	for _, l := range []struct {
		what       string
		need, have int
		remedy     string
	}{
		{"sequences", f.sequences, p.Limits.Sequences, "a smaller --batch, or compile with --sequences"},
		{"tokens of a step", f.sequences * f.tokens, p.Limits.Tokens, "a smaller --batch or --step-tokens, or compile with --tokens"},
		{"rows of a step", f.sequences, p.Limits.Rows, "a smaller --batch"},
		{"positions", positions, p.Limits.Context, "fewer --prompt-tokens, or compile with --context"},
		{"KV pages", f.sequences * kv.For(positions, p.Limits.Page), p.Limits.Pages, "a smaller --batch, or compile with --sequences and --context"},
		{"token groups", 1, p.Groups(), ""},
	} {
		if l.remedy == "" && l.need < l.have {
			return nil, failf(exitUsage, "profile: %s has %d token groups, and one is measured; compile with a --strategy without dp and adp", path, l.have)
		}
		if l.need > l.have {
			return nil, failf(exitUsage, "profile: %s has too few %s: need %d, have %d; use %s", path, l.what, l.need, l.have, l.remedy)
		}
	}
	return a.simMachine(p, "")
}

// load is the step as the simulator has it.
func (f *profileFlags) load() cost.Load {
	return cost.Load{Sequences: f.sequences, Tokens: f.sequences * f.tokens, Rows: f.sequences, Context: f.context + f.tokens}
}

// step is the tokens first to last-1 of each sequence.
func (f *profileFlags) step(p *plan.Plan, sequences []int, first, last int) *step.Step {
	g := step.Group{Pages: make([][]int32, p.Limits.Sequences)}
	pages := kv.For(f.context+f.tokens, p.Limits.Page)
	for s := range f.sequences {
		for i := range pages {
			g.Pages[s] = append(g.Pages[s], int32(s*pages+i))
		}
	}
	for _, s := range sequences {
		ids := madeUp(s+last, p.Model.Vocab)[s:]
		for at := first; at < last; at++ {
			g.Tokens, g.Positions, g.Sequences = append(g.Tokens, int32(ids[at])), append(g.Positions, int32(at)), append(g.Sequences, int32(s))
		}
		g.Rows = append(g.Rows, int32(len(g.Tokens)-1))
	}
	return &step.Step{Groups: []step.Group{g}, Prompt: f.tokens > 1}
}

// measure fills the caches, reads memory, and returns the step of median length.
func (f *profileFlags) measure(ctx context.Context, program profiled, p *plan.Plan) ([]cuda.Took, float64, error) {
	var all []int
	chunk := min(benchChunk, p.Limits.Tokens)
	for s := range f.sequences {
		all = append(all, s)
		for at := 0; at < f.context; at += chunk {
			if _, err := program.Step(ctx, f.step(p, []int{s}, at, min(at+chunk, f.context))); err != nil {
				return nil, 0, err
			}
		}
	}
	var rates []float64
	for range 6 {
		r, err := program.ReadStream(ctx)
		if err != nil {
			return nil, 0, err
		}
		rates = append(rates, r)
	}
	if err := f.count(ctx, program, f.step(p, all, f.context, f.context+f.tokens)); err != nil {
		return nil, 0, err
	}
	var runs [][]cuda.Took
	for i := range profileWarmup + f.steps {
		took, err := program.Profile(ctx, f.step(p, all, f.context, f.context+f.tokens), f.apart)
		if err != nil {
			return nil, 0, err
		}
		if i >= profileWarmup {
			runs = append(runs, took)
		}
	}
	slices.SortStableFunc(runs, func(a, b []cuda.Took) int { return cmp.Compare(lengthOf(a), lengthOf(b)) })
	return runs[len(runs)/2], quantilesOf(rates[1:]).Median, nil
}

// count runs a step to see how many experts work.
func (f *profileFlags) count(ctx context.Context, program profiled, s *step.Step) error {
	before, err := program.Measure()
	if err != nil {
		return err
	}
	if _, err := program.Step(ctx, s); err != nil {
		return err
	}
	after, err := program.Measure()
	f.experts = after.Experts - before.Experts
	return err
}

// choose decides who chose which expert: in each layer as many as were counted,
// each as often, or what is drawn.
func (f *profileFlags) choose(p *plan.Plan) error {
	shapes := simulate.Shapes(p)
	stats, err := routing.Parse(cmp.Or(f.chosen, "uniform"), shapes)
	if err != nil {
		return fail(exitUsage, err)
	}
	layers, tokens := len(shapes), f.sequences*f.tokens
	f.batch = func(layer int) *routing.Batch {
		if layer < 0 || layer >= layers {
			return nil
		}
		drawn := stats.Draw(1, layer, tokens, layer)
		if f.experts == 0 || f.chosen != "" {
			return drawn
		}
		working := f.experts*(layer+1)/layers - f.experts*layer/layers
		for i := range drawn.Chosen {
			drawn.Chosen[i] = uint16(i % max(1, working))
		}
		return drawn
	}
	return nil
}

func lengthOf(list []cuda.Took) time.Duration {
	var end time.Duration
	for _, t := range list {
		end = max(end, t.End)
	}
	return end
}

// profileRow is what kernels of one kind took together, over all layers and
// devices. Times are in microseconds.
type profileRow struct {
	Name    string  `json:"name"`
	Count   int     `json:"count"`
	Total   float64 `json:"total_us"`
	Floor   float64 `json:"floor_us,omitempty"`
	Bytes   float64 `json:"bytes,omitempty"` // where memory is the floor
	Percent float64 `json:"percent_of_floor,omitempty"`
}

// profileReport is the profile of one step.
type profileReport struct {
	Plan    string       `json:"plan"`
	Load    cost.Load    `json:"load"`
	Devices int          `json:"devices"`
	Stream  float64      `json:"stream_bytes_per_second"`
	Time    float64      `json:"time_us"`    // of the slowest device
	Between float64      `json:"between_us"` // kernels, of all devices
	Kernels int          `json:"kernels"`
	Experts float64      `json:"experts,omitempty"` // that worked in a layer, if they were counted
	Rows    []profileRow `json:"rows"`

	spans []simulate.Measured
}

// stepOf finds a step of a device.
type stepOf struct {
	device      int
	block       string
	layer, step int
}

// report puts what kernels took beside their floors.
func (f *profileFlags) report(p *plan.Plan, m *machine.Machine, took []cuda.Took, stream float64) (*profileReport, error) {
	floors, whole, err := f.floors(p, m, stream)
	if err != nil {
		return nil, err
	}
	r := &profileReport{Load: f.load(), Devices: len(p.Memory), Stream: stream, Kernels: len(took), Experts: float64(f.experts) / float64(max(1, p.Model.Layers))}
	rows := make(map[string]*profileRow)
	seen := make(map[stepOf]bool)
	for i, t := range took {
		key := stepOf{t.Device, t.Block, t.Layer, t.Step}
		span, priced := floors[key]
		switch {
		case t.Op == cuda.WholeStep:
			span, priced = simulate.Span{Name: t.Op, Cost: whole}, true
		case t.Covers > 0:
			span, priced = covered(floors, key, t), true
		}
		name := t.Op
		if priced {
			name = span.Name
		}
		row := rows[name]
		if row == nil {
			row = &profileRow{Name: name}
			rows[name] = row
		}
		row.Count++
		row.Total += micros(t.End - t.Start)
		if priced && !seen[key] {
			seen[key] = true
			row.Floor += float64(span.Cost.Total()) / 1e6
			row.Bytes += float64(span.Cost.Memory) / 1e12 * stream
		}
		r.Time = max(r.Time, micros(t.End))
		r.note(t, name, span.Cost)
		if i > 0 && took[i-1].Device == t.Device {
			r.Between += micros(t.Start - took[i-1].End)
		}
	}
	for _, row := range rows {
		row.Percent = 100 * row.Floor / row.Total
		r.Rows = append(r.Rows, *row)
	}
	slices.SortFunc(r.Rows, func(a, b profileRow) int { return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Name, b.Name)) })
	return r, nil
}

// covered is the work of all steps that a kernel executes.
func covered(floors map[stepOf]simulate.Span, at stepOf, t cuda.Took) simulate.Span {
	sum := simulate.Span{Name: t.Op}
	for range t.Covers {
		sum.Cost = sum.Cost.Add(floors[at].Cost)
		at.step++
	}
	return sum
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// note adds a kernel to the trace.
func (r *profileReport) note(t cuda.Took, name string, c cost.Cost) {
	for len(r.spans) <= t.Device {
		r.spans = append(r.spans, simulate.Measured{Name: fmt.Sprintf("device %d, measured", len(r.spans))})
	}
	kind := simulate.Launch // nothing that counts
	switch {
	case c.Link > max(c.Memory, c.Compute):
		kind = simulate.Link
	case c.Compute > c.Memory:
		kind = simulate.Compute
	case c.Memory > 0:
		kind = simulate.Memory
	}
	d := &r.spans[t.Device]
	d.Spans = append(d.Spans, simulate.Span{Name: name, Op: t.Op, Kind: kind, Device: t.Device, Block: t.Block, Layer: t.Layer, Step: t.Step,
		Start: t.Start.Nanoseconds() * 1000, End: t.End.Nanoseconds() * 1000, Cost: c})
}

// floors prices steps by the rate at which memory was read and the machine's
// rates of arithmetic, without launches.
func (f *profileFlags) floors(p *plan.Plan, m *machine.Machine, stream float64) (map[stepOf]simulate.Span, cost.Cost, error) {
	bare := *m
	bare.Measured, bare.Device.Launch.Value, bare.Device.Bandwidth.Value = nil, 0, int64(stream)
	result, err := f.simulate(p, &bare)
	if err != nil {
		return nil, cost.Cost{}, err
	}
	list := make(map[stepOf]simulate.Span)
	var sum cost.Cost
	for _, d := range result.Devices {
		for _, s := range d.Spans {
			if s.Kind != simulate.Wait {
				list[stepOf{s.Device, s.Block, s.Layer, s.Step}] = s
				sum = sum.Add(s.Cost)
			}
		}
	}
	return list, sum, nil
}

func (f *profileFlags) simulate(p *plan.Plan, m *machine.Machine) (*simulate.Result, error) {
	s, err := simulate.New(p, m)
	if err != nil {
		return nil, fail(exitPlacement, err)
	}
	total, err := s.Run(simulate.Workload{{Load: f.load(), Count: 1}}, simulate.Options{}, func(int) simulate.Batch { return f.batch })
	if err != nil {
		return nil, err
	}
	return total.Steps[0], nil
}

// write writes the trace: the simulated step, and what was measured.
func (f *profileFlags) write(p *plan.Plan, m *machine.Machine, r *profileReport) error {
	result, err := f.simulate(p, m)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := result.WriteTraceBeside(&out, r.spans); err != nil {
		return err
	}
	return os.WriteFile(f.trace, out.Bytes(), 0o644)
}

func (r *profileReport) print(a *app) error {
	ps := func(us float64) string { return simulate.Duration(int64(us * 1e6)) }
	a.printf("%s: %s on %d GPU(s), read stream %.0f GB/s\n", r.Plan, loadText(r.Load), r.Devices, r.Stream/1e9)
	a.printf("  %s on the device, of which %s between %d kernels", ps(r.Time), ps(r.Between), r.Kernels)
	if r.Experts > 0 {
		a.printf("; %.2f experts work in a layer", r.Experts)
	}
	a.printf("\n")
	a.printf("  %-36s %6s %10s %10s %7s %10s %9s %8s\n", "kernel", "count", "each", "together", "share", "floor", "of floor", "GB")
	for _, row := range r.Rows {
		floor := fmt.Sprintf("%10s %8.1f%% %8.3f", ps(row.Floor), row.Percent, row.Bytes/1e9)
		if row.Floor == 0 {
			floor = fmt.Sprintf("%10s %9s %8s", "-", "-", "-")
		}
		if err := a.printf("  %-36s %6d %10s %10s %6.1f%% %s\n", row.Name, row.Count, ps(row.Total/float64(row.Count)), ps(row.Total), 100*row.Total/(r.Time*float64(r.Devices)), floor); err != nil {
			return err
		}
	}
	return nil
}
