package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"moec/compiler"
	"moec/dsl"
	"moec/ir"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/passes"
	"moec/passes/trace"
	"moec/planner/plan"
	"moec/planner/prove"
	"moec/runtime/checkpoint"
)

// compileFlags say what to compile for. They are the same wherever a
// description is compiled on the way.
type compileFlags struct {
	checkpoint string
	set        []string
	gpus       int
	machine    string
	strategy   string
	placement  string
	numerics   string
	segments   int
	limits     plan.Limits
	searchFlags
	noProof bool

	print string
	dot   string
	to    string
	off   []string
}

func (f *compileFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.checkpoint, "checkpoint", "", "Hugging Face directory: sizes from its config.json, weights by its tensors")
	fs.StringArrayVar(&f.set, "set", nil, "name=value: give a setting of the description another value")
	fs.IntVar(&f.gpus, "gpus", 0, "devices to plan for (default: all of --machine, else 1)")
	fs.StringVar(&f.machine, "machine", "", "machine to plan for, by name or file (default h200x8; see \"moec machines\")")
	fs.StringVar(&f.strategy, "strategy", "", "how to place the model: \"moec strategies\" lists the words (default: what the search finds)")
	fs.StringVar(&f.placement, "placement", "", "file that places the model: a whole placement, or a map of experts to devices")
	fs.StringVar(&f.numerics, "numerics", string(ir.Invariant), "invariant: the same bits for every placement; fast: less traffic")
	fs.IntVar(&f.segments, "segments", compiler.DefaultSegments, "leaves of a sum that a placement may divide")
	fs.IntVar(&f.limits.Tokens, "tokens", 0, "tokens of the largest step (default 256)")
	fs.IntVar(&f.limits.Sequences, "sequences", 0, "sequences at the same time (default 8)")
	fs.IntVar(&f.limits.Context, "context", 0, "positions of a sequence (default 4096, or what the model allows)")
	fs.IntVar(&f.limits.Page, "page", 0, "positions of a KV page (default 16)")
	f.searchFlags.add(c)
}

func (f *compileFlags) addDebug(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.print, "print", "", "show graphs: changed (what each pass changed), all, or the name of a pass")
	fs.StringVar(&f.dot, "dot", "", "draw the graph after this pass in the DOT language; pipe it into \"moec svg\"")
	fs.StringVar(&f.to, "to", "", "stop after this pass")
	fs.StringArrayVar(&f.off, "off", nil, "leave a pass out")
	fs.BoolVar(&f.noProof, "no-proof", false, "do not prove that the plan computes what the description says")
}

func compileCommand(a *app) *cobra.Command {
	var f compileFlags
	var out string
	var times bool
	c := &cobra.Command{Use: "compile FILE.moe", Short: "compile a description into a plan", Args: cobra.ExactArgs(1),
		Example: `  moec compile examples/mixtral.moe --gpus 4 -o mixtral.plan
  moec compile examples/mixtral.moe --gpus 4 --checkpoint DIR --strategy ep
  moec compile examples/mixtral.moe --print changed`,
		RunE: func(c *cobra.Command, args []string) error {
			r, err := a.compile(c.Context(), args[0], &f)
			if err != nil {
				return err
			}
			if r.Plan == nil || f.dot != "" { // --to ended it early, or a picture was all
				return nil
			}
			if out == "" {
				out = strings.TrimSuffix(filepath.Base(args[0]), ".moe") + ".plan"
			}
			if err := r.prove(f.noProof); err != nil {
				return err
			}
			if err := plan.Write(out, r.Plan); err != nil {
				return err
			}
			return a.summary(r, out, times)
		}}
	f.add(c)
	f.addDebug(c)
	c.Flags().StringVarP(&out, "output", "o", "", "plan file to write (default: the description's name with .plan, here)")
	c.Flags().BoolVar(&times, "time", false, "also print what each stage and pass took")
	return c
}

// compiled is a result and how its placement was chosen.
type compiled struct {
	*compiler.Result
	Candidates      []passes.Candidate // of models that the search does not take
	found           *outcome
	proof           *prove.Report // nil: not asked for
	invariant, fast int64         // bytes between devices a token
}

// readSource reads a description.
func readSource(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failf(exitDescription, "%s: there is no such description; the examples directory has some", path)
	case err == nil && (!info.Mode().IsRegular() || info.Size() > maxSource):
		return nil, failf(exitDescription, "%s: is not a description: need a regular file of at most %d bytes", path, maxSource)
	}
	src, err := os.ReadFile(path)
	return src, fail(exitDescription, err)
}

// maxSource bounds a description; a page is 3 kB.
const maxSource = 4 << 20

// compile compiles a description as the flags say.
func (a *app) compile(ctx context.Context, path string, f *compileFlags) (*compiled, error) {
	src, err := readSource(path)
	if err != nil {
		return nil, err
	}
	m, err := f.target()
	if err != nil {
		return nil, fail(exitPlacement, err)
	}
	o := compiler.Options{Limits: f.limits, To: f.to, Off: make(map[string]bool), Machine: planMachine(m)}
	for _, name := range f.off {
		o.Off[name] = true
	}
	switch {
	case f.print != "":
		o.Sink = trace.NewText(a.out, f.print)
	case f.dot != "":
		o.Sink = &picture{a.out, f.dot}
		o.To = cmp.Or(o.To, f.dot)
	}
	if o.Numerics, err = f.mode(); err != nil {
		return nil, err
	}
	env, done, err := f.env()
	if err != nil {
		return nil, err
	}
	defer done()
	o.Env = env
	c := &compiled{}
	o.Place = func(g *ir.Graph) (*placement.Placement, error) { return c.place(g, m, f, o) }
	c.Result, err = compiler.Compile(path, src, o)
	if err == nil {
		err = ctx.Err()
	}
	return c, compileError(err, m)
}

// target is the machine to plan for.
func (f *compileFlags) target() (*machine.Machine, error) {
	name, gpus := f.machine, f.gpus
	if name == "" {
		name, gpus = "h200x8", max(1, gpus)
	}
	m, err := machine.Lookup(name)
	if err != nil || gpus == 0 {
		return m, err
	}
	return m.With(gpus)
}

func planMachine(m *machine.Machine) plan.Machine {
	return plan.Machine{Name: m.Name, Devices: m.Devices, Memory: m.Device.Memory.Value, Reserve: m.Device.Reserve.Value, Hash: m.Hash()}
}

func (f *compileFlags) mode() (ir.Numerics, error) {
	n := ir.Numerics{Mode: ir.Mode(f.numerics), Segments: f.segments}
	if n.Mode != ir.Invariant && n.Mode != ir.Fast {
		return n, failf(exitUsage, "--numerics %q: want %s or %s", f.numerics, ir.Invariant, ir.Fast)
	}
	if n.Segments < 1 || n.Segments > maxSegments {
		return n, failf(exitUsage, "--segments %d: want 1 to %d", n.Segments, maxSegments)
	}
	return n, nil
}

// maxSegments is far above what pays: every segment costs a partial sum.
const maxSegments = 1024

// env is what the description is bound to, and a function that closes it.
func (f *compileFlags) env() (dsl.Env, func(), error) {
	set := make(map[string]string)
	for _, s := range f.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return dsl.Env{}, nil, failf(exitUsage, "--set %q: want name=value", s)
		}
		set[name] = value
	}
	if f.checkpoint == "" {
		return dsl.Env{Set: set}, func() {}, nil
	}
	files, err := checkpoint.Open(f.checkpoint)
	if err != nil {
		return dsl.Env{}, nil, fail(exitCheckpoint, err)
	}
	return compiler.Bind(files, set), func() { files.Close() }, nil
}

// place chooses the placement: from a file, by name, or the cheapest.
func (c *compiled) place(g *ir.Graph, m *machine.Machine, f *compileFlags, o compiler.Options) (p *placement.Placement, err error) {
	limits := compiler.Limits(o.Limits, plan.Model{})
	switch {
	case f.placement != "":
		p, err = placementFile(g, f.placement, m.Devices)
	case f.strategy != "":
		p, err = passes.Named(g, f.strategy, m.Devices)
	default:
		p, err = c.search(g, m, f, limits)
	}
	if err == nil && m.Devices > 1 {
		c.invariant, c.fast, err = passes.Saving(g, p)
	}
	return p, err
}

// search looks for a placement. A graph that is not a chain of layers is given
// the cheapest of the named strategies.
func (c *compiled) search(g *ir.Graph, m *machine.Machine, f *compileFlags, limits plan.Limits) (p *placement.Placement, err error) {
	problem, err := f.problem(g, m, limits)
	var usage coded
	if err != nil && !errors.As(err, &usage) {
		p, c.Candidates, err = passes.Choose(g, m, limits.Sequences*limits.Context)
		return p, err
	}
	if err != nil {
		return nil, err
	}
	if c.found, err = f.run(problem, limits.Tokens); err != nil {
		return nil, err
	}
	return c.found.Chosen.Placement, nil
}

// prove interprets the plan and the description over a prime field and
// compares them.
func (c *compiled) prove(off bool) error {
	if off {
		return nil
	}
	report, err := prove.Check(c.Plan, c.Logical, prove.Options{Seed: 1})
	if err != nil {
		return failf(exitInternal, "internal error: the plan does not compute what the description says: %w; --no-proof writes it all the same", err)
	}
	c.proof = &report
	return nil
}

// compileError gives errors of compiling their exit codes.
func compileError(err error, m *machine.Machine) error {
	var strategy *passes.PlacementError
	var file *placement.FileError
	var rules *plan.VerifyError
	switch {
	case err == nil:
		return nil
	case isDiagnostics(err):
		return fail(exitDescription, err)
	case errors.As(err, &strategy):
		return fail(exitPlacement, strategy)
	case errors.As(err, &file):
		return fail(exitPlacement, file)
	case errors.As(err, &rules):
		for _, p := range rules.Problems {
			if p.Rule == "V12" {
				return failf(exitPlacement, "the plan does not fit %s: %s; use more devices (--gpus), another --strategy, fewer --sequences or a shorter --context", m.Name, p.Text)
			}
		}
		return failf(exitInternal, "internal error: the plan breaks a rule: %w", err)
	}
	return err
}

// summary says what was compiled and why it is placed as it is.
func (a *app) summary(r *compiled, out string, times bool) error {
	p := r.Plan
	if a.json {
		return a.printJSON(map[string]any{"plan": out, "model": p.Model, "machine": p.Machine, "strategy": p.Placement.Strategy,
			"numerics": p.Numerics, "limits": p.Limits, "memory": p.Memory, "alternatives": r.Candidates, "stages": r.Stages, "passes": r.Timings,
			"traffic": map[string]int64{"invariant": r.invariant, "fast": r.fast}, "search": r.found.summary()})
	}
	a.printf("%s\n", out)
	a.printf("  model      %s: %s parameters, %s a token, %d layers\n", p.Model.Name, plan.Count(p.Model.Params), plan.Count(p.Model.Active), p.Model.Layers)
	a.printf("  machine    %s: %d x %s\n", p.Machine.Name, p.Machine.Devices, plan.Bytes(p.Machine.Memory))
	a.printf("  strategy   %s, numerics %s\n", p.Placement.Strategy, p.Numerics.Mode)
	if r.invariant > 0 {
		a.printf("  traffic    %s a token between devices; --numerics fast would send %s\n", plan.Bytes(pick(p.Numerics.Mode == ir.Fast, r.fast, r.invariant)), plan.Bytes(r.fast))
	}
	for _, m := range p.Memory {
		a.printf("  device %-3d %s of %s: weights %s, KV %s, buffers %s\n", m.Device, plan.Bytes(m.Total), plan.Bytes(m.Budget), plan.Bytes(m.Weights), plan.Bytes(m.Caches), plan.Bytes(m.Buffers))
	}
	a.candidates(r)
	if r.found != nil {
		a.printOutcome(r.found)
	}
	if r.proof != nil {
		a.printf("  verified   %d rules; equal to the description over Z_p in %d steps\n", len(plan.Rules()), r.proof.Steps)
	}
	if times {
		for _, s := range r.Stages {
			a.printf("  %-12s %8.1f ms\n", s.Name, s.Took.Seconds()*1e3)
		}
		for _, t := range r.Timings {
			a.printf("    %-18s %8.1f ms %6d nodes\n", t.Pass, t.Took.Seconds()*1e3, t.Nodes)
		}
	}
	return a.printf("  next       moec plan show %s | moec plan svg %s -o plan.svg\n", out, out)
}

func pick(yes bool, a, b int64) int64 {
	if yes {
		return a
	}
	return b
}

// candidates prints the strategies that were priced.
func (a *app) candidates(r *compiled) {
	if len(r.Candidates) < 2 {
		return
	}
	a.printf("  %-24s", "estimated ms a step")
	for _, l := range passes.Loads {
		a.printf(" %9s", loadName(l.Tokens))
	}
	a.printf("\n")
	for _, c := range r.Candidates {
		name := c.Strategy
		if c.Strategy == r.Plan.Placement.Strategy {
			name += " (chosen)"
		}
		a.printf("    %-22s", name)
		for _, s := range c.Steps {
			a.printf(" %9.2f", float64(s.Total())/1e9)
		}
		if c.Reason != "" {
			a.printf("  %s", c.Reason)
		}
		a.printf("\n")
	}
}

func loadName(tokens int) string {
	if tokens > 1000 {
		return fmt.Sprintf("prompt %d", tokens)
	}
	return fmt.Sprintf("batch %d", tokens)
}

// placementFile reads a whole placement or a map of experts.
func placementFile(g *ir.Graph, path string, devices int) (*placement.Placement, error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &placement.FileError{File: path, What: "there is no such placement file", Remedy: "name a file with a placement or a map of experts, or a --strategy"}
	case err != nil:
		return nil, &placement.FileError{File: path, What: err.Error()}
	}
	return passes.FromFile(g, path, text, devices)
}
