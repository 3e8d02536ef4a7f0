package main

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"moec/compiler"
	"moec/dsl"
	"moec/ir"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/passes"
	"moec/passes/balance"
	"moec/passes/search"
	"moec/passes/trace"
	"moec/planner/plan"
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
	f.addTarget(c)
	fs.StringVar(&f.strategy, "strategy", "", "`WORDS` that say how to place the model; \"moec strategies\" lists them (default: what the search finds)")
	fs.StringVar(&f.placement, "placement", "", "`FILE` that places the model: a whole placement, a map of experts to devices, or EPLB's phy2log or a solution of ExFlow on top of --strategy (default ep)")
	f.searchFlags.add(c)
}

// addTarget adds the flags that say what is compiled, and for which machine.
func (f *compileFlags) addTarget(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.checkpoint, "checkpoint", "", "Hugging Face directory `DIR`: sizes from its config.json, weights by its tensors")
	fs.StringArrayVar(&f.set, "set", nil, "`NAME=VALUE`: give a setting of the description another value; may be given several times")
	fs.IntVar(&f.gpus, "gpus", 0, "devices to plan for (default: all of --machine, else 1)")
	fs.StringVar(&f.machine, "machine", "", "machine to plan for, by `NAME|FILE` (default h200x8; \"moec machine\" lists them)")
	fs.StringVar(&f.numerics, "numerics", string(ir.Invariant), "`MODE`: invariant gives the same bits for every placement; fast has less traffic")
	fs.IntVar(&f.segments, "segments", compiler.DefaultSegments, "leaves of a sum that a placement may divide")
	fs.IntVar(&f.limits.Tokens, "tokens", 0, "tokens of the largest step (default 2048 on GPUs if they fit, else 256)")
	fs.IntVar(&f.limits.Sequences, "sequences", 0, "sequences at the same time (default 8)")
	fs.IntVar(&f.limits.Context, "context", 0, "positions of a sequence (default 4096, or what the model allows)")
	fs.IntVar(&f.limits.Page, "page", 0, "positions of a KV page (default 16)")
}

func (f *compileFlags) addDebug(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVar(&f.print, "print", "", "print graphs: changed (what each pass changed), all, or the graph after one `PASS`")
	fs.StringVar(&f.dot, "dot", "", "draw the graph after this `PASS` in the DOT language, and write no plan; \"moec svg\" lays it out")
	fs.StringVar(&f.to, "to", "", "stop after this `PASS`; \"moec passes\" lists them")
	fs.StringArrayVar(&f.off, "off", nil, "leave this `PASS` out; may be given several times")
	fs.BoolVar(&f.noProof, "no-proof", false, "do not prove that the plan computes what the description says")
}

func compileCommand(a *app) *cobra.Command {
	var f compileFlags
	var out, write string
	var times bool
	c := &cobra.Command{Use: "compile FILE.moe", Short: "compile a description into a plan", Args: cobra.ExactArgs(1),
		Long: `Compile searches for the placement of a model that a workload runs fastest on,
plans every step of every device, checks the plan, and proves that it computes
what the description says. It ends with what was chosen, what it is compared
with, and how far from the best it can be. A placement may be given instead,
by --strategy or --placement; it is priced and compared the same way.`,
		RunE: func(c *cobra.Command, args []string) error {
			defer collectLess()()
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
			if err := plan.Write(out, r.Plan); err != nil {
				return err
			}
			if write != "" {
				if err := replaceFile(write, r.Plan.Placement.Format()); err != nil {
					return err
				}
			}
			return a.screen(r, out, times)
		}}
	f.add(c)
	f.addDebug(c)
	f.addSeed(c)
	c.Flags().StringVar(&write, "write-placement", "", "also write the placement to this `FILE`, to edit it and give it to --placement")
	c.Flags().StringVarP(&out, "output", "o", "", "plan `FILE` to write (default: the description's name with .plan, here)")
	c.Flags().BoolVar(&times, "time", false, "also print what each stage and pass took")
	return c
}

// compiled is a result and how its placement was chosen.
type compiled struct {
	*compiler.Result
	machine *machine.Machine
	// explain is how the command that explains the plan names what it needs.
	explain string
}

// collectLess lets garbage grow to four times what is in use, unless GOGC says
// otherwise: graphs that are thrown away are most of a compilation's memory,
// of which there is enough. The function that it returns sets it back.
func collectLess() func() {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	old := debug.SetGCPercent(400)
	return func() { debug.SetGCPercent(old) }
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
	o := compiler.Options{Limits: f.limits, To: f.to, Off: make(map[string]bool), Machine: planMachine(m), Place: f.given(m.Devices), Prove: !f.noProof}
	if o.Search, err = f.search(m); err != nil {
		return nil, err
	}
	if o.Place != nil && f.open() { // what is given is compared with what people would name
		o.Search.Options.Searcher = "hand"
	}
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
	c := &compiled{machine: m, explain: "--of " + path}
	if f.checkpoint != "" {
		c.explain += " --checkpoint " + f.checkpoint
	}
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
	return bind(f.checkpoint, set)
}

// bind binds a description to a checkpoint, if there is one, and settings.
func bind(dir string, set map[string]string) (dsl.Env, func(), error) {
	if dir == "" {
		return dsl.Env{Set: set}, func() {}, nil
	}
	files, err := checkpoint.Open(dir)
	if err != nil {
		return dsl.Env{}, nil, fail(exitCheckpoint, err)
	}
	return compiler.Bind(files, set), func() { files.Close() }, nil
}

// given is the placement that the flags ask for, or nil.
func (f *compileFlags) given(devices int) func(*ir.Graph) (*placement.Placement, error) {
	switch {
	case f.placement != "":
		return func(g *ir.Graph) (*placement.Placement, error) {
			return placementFile(g, f.placement, f.strategy, devices)
		}
	case f.strategy != "":
		return func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, f.strategy, devices) }
	}
	return nil
}

// compileError gives errors of compiling their exit codes.
func compileError(err error, m *machine.Machine) error {
	var rules *plan.VerifyError
	var proof *compiler.ProofError
	var ask *compiler.AskError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &proof):
		return failf(exitInternal, "%w; --no-proof writes it all the same", err)
	case isDiagnostics(err):
		return fail(exitDescription, err)
	case errors.As(err, &ask):
		return fail(exitUsage, ask)
	case placementError(err) != nil:
		return fail(exitPlacement, placementError(err))
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

// placementError is the part of an error that says why a placement cannot be
// used, or nil.
func placementError(err error) error {
	var strategy *passes.PlacementError
	var file *placement.FileError
	var wrong *placement.Error
	var imported *balance.FileError
	var fit *search.FitError
	switch {
	case errors.As(err, &strategy):
		return strategy
	case errors.As(err, &file):
		return file
	case errors.As(err, &wrong):
		return wrong
	case errors.As(err, &imported):
		return imported
	case errors.As(err, &fit):
		return fit
	}
	return nil
}
