package main

import (
	"context"
	"fmt"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"moec/codegen"
	"moec/codegen/nvcc"
	"moec/ir/machine"
	"moec/planner/plan"
)

// kernelFlags say for which architectures kernels are chosen, and how they are
// compiled.
type kernelFlags struct {
	archs       []string
	out         string
	cache, nvcc string
	noCompile   bool
	single      bool
}

func kernelsCommand(a *app) *cobra.Command {
	var f kernelFlags
	c := &cobra.Command{Use: "kernels PLAN", Short: "choose a plan's kernels for GPUs, and compile them", Args: cobra.ExactArgs(1),
		Long: `Kernels writes into a plan which kernels execute it on GPUs of some architectures
and how weights lie for them, and compiles those kernels with nvcc into a cache.
A plan without such a choice gets one when it is run, and whatever is not in the
cache is compiled then; a plan with one runs without nvcc wherever the cache is.

Kernels for whole steps are fast and differ in the last bits from those for
single operations, which execute plans for several devices: --single-steps gives
the bits of those.

The table has an image for each file of kernels: how many functions it has, the
most registers of a thread that one of them takes, bytes of local memory (which
would make it slow), and whether it was in the cache.`,
		RunE: func(c *cobra.Command, args []string) error { return a.kernels(c.Context(), args[0], &f) }}
	fs := c.Flags()
	fs.StringSliceVar(&f.archs, "arch", nil, "`ARCHITECTURES` such as sm_80,sm_90a (default: that of the plan's machine)")
	fs.StringVarP(&f.out, "output", "o", "", "plan `FILE` to write (default: the plan itself)")
	fs.StringVar(&f.cache, "cache", "", "`DIR` to keep images in (default: the user's cache directory)")
	fs.StringVar(&f.nvcc, "nvcc", "", "nvcc or a CUDA toolkit, by `PATH` (default: in CUDA_HOME, beside the sources, in PATH)")
	fs.BoolVar(&f.single, "single-steps", false, "a kernel for each operation alone: slow, and the same bits on any number of devices")
	fs.BoolVar(&f.noCompile, "no-compile", false, "choose, and compile nothing")
	return c
}

// archPattern is how an architecture is called.
var archPattern = regexp.MustCompile(`^sm_[0-9]{2,3}a?$`)

// archsOf returns what the flag names, or the architecture of a plan's machine.
func archsOf(path string, p *plan.Plan, named []string) ([]string, error) {
	for _, arch := range named {
		if !archPattern.MatchString(arch) {
			return nil, failf(exitUsage, "--arch %q: need an architecture such as sm_80 or sm_90a", arch)
		}
	}
	if len(named) > 0 {
		return named, nil
	}
	if m, err := machine.Lookup(p.Machine.Name); err == nil && m.Device.Arch != "" {
		return []string{codegen.Target(m.Device.Arch)}, nil
	}
	return nil, failf(exitUsage, "%s was made for %s, whose GPUs' architecture is not known; name it with --arch", path, p.Machine.Name)
}

// kernels is the kernels command.
func (a *app) kernels(ctx context.Context, path string, f *kernelFlags) error {
	p, err := readPlan(path)
	if err != nil {
		return err
	}
	archs, err := archsOf(path, p, f.archs)
	if err != nil {
		return err
	}
	var compiler *nvcc.Compiler
	if !f.noCompile {
		if compiler, err = f.compiler(ctx, a); err != nil {
			return err
		}
	}
	for _, arch := range archs {
		choose := codegen.Choose
		if f.single {
			choose = codegen.ChooseSingle
		}
		k, err := choose(p, arch)
		if err != nil {
			return fail(exitPlan, fmt.Errorf("%s: %w", path, err))
		}
		p.Kernels = slices.DeleteFunc(p.Kernels, func(old plan.Kernels) bool { return old.Backend == k.Backend && old.Arch == arch })
		p.Kernels = append(p.Kernels, k)
		code, err := codegen.Generate(p, k)
		if err != nil {
			return err
		}
		if compiler == nil {
			continue
		}
		if err := a.images(ctx, code, compiler); err != nil {
			return err
		}
	}
	if err := plan.Verify(p); err != nil {
		return err
	}
	if f.out == "" {
		f.out = path
	}
	return plan.Write(f.out, p)
}

// compiler returns nvcc with its cache.
func (f *kernelFlags) compiler(ctx context.Context, a *app) (*nvcc.Compiler, error) {
	dir, err := f.cache, error(nil)
	if dir == "" {
		if dir, err = nvcc.DefaultCacheDir(); err != nil {
			return nil, err
		}
	}
	tool, err := nvcc.Find(ctx, nvcc.DefaultSearch(f.nvcc))
	if err != nil {
		return nil, fail(exitDevices, fmt.Errorf("%w; or only choose kernels, with --no-compile", err))
	}
	return nvcc.New(nvcc.Options{Toolchain: tool, CacheDir: dir, Warn: a.warn}), nil
}

// imageRow is one compiled file of kernels.
type imageRow struct {
	Arch      string `json:"arch"`
	File      string `json:"file"`
	Functions int    `json:"functions"`
	Registers int    `json:"registers"`
	Local     int    `json:"local_bytes"`
	Bytes     int    `json:"bytes"`
	Cached    bool   `json:"cached"`
}

// images compiles a plan's kernels and prints what they need.
func (a *app) images(ctx context.Context, code *codegen.Code, compiler *nvcc.Compiler) error {
	begin := time.Now()
	bar := newCountBar(a.err, "compiling for "+code.Arch, len(code.Units))
	results, err := code.Compile(ctx, compiler, runtime.GOMAXPROCS(0), func(nvcc.Progress) { bar.add(1) })
	bar.end()
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fail(exitDevices, err)
	}
	rows := make([]imageRow, len(results))
	for i, r := range results {
		rows[i] = imageRow{Arch: code.Arch, File: code.Units[i].File, Functions: len(code.Units[i].Symbols), Bytes: len(r.Image), Cached: r.Cached}
		for _, fn := range r.Report {
			rows[i].Registers = max(rows[i].Registers, fn.Registers)
			rows[i].Local = max(rows[i].Local, fn.Stack, fn.SpillStores, fn.SpillLoads)
		}
	}
	if a.json {
		return a.printJSON(rows)
	}
	a.printf("%s: %d images, %.1f s\n  %-24s %9s %9s %6s %9s\n", code.Arch, len(rows), time.Since(begin).Seconds(), "file", "functions", "registers", "local", "kB")
	for _, r := range rows {
		note := ""
		if r.Cached {
			note = "  cached"
		}
		if err := a.printf("  %-24s %9d %9d %6d %9.1f%s\n", r.File, r.Functions, r.Registers, r.Local, float64(r.Bytes)/1e3, note); err != nil {
			return err
		}
	}
	return nil
}

func explainKernels(a *app) *cobra.Command {
	var archs []string
	c := &cobra.Command{Use: "kernels PLAN", Short: "say which kernels execute a plan on GPUs, and why no others", Args: cobra.ExactArgs(1),
		Long: `Kernels lists, for each program of a plan, the kernels that can execute the whole
of it and the steps that they take, or why they do not; then the kernels of
single steps, which run where no other does, by how often a step launches them.`,
		RunE: func(_ *cobra.Command, args []string) error { return a.explainKernels(args[0], archs) }}
	c.Flags().StringSliceVar(&archs, "arch", nil, "`ARCHITECTURES` such as sm_80,sm_90a (default: that of the plan's machine)")
	return c
}

func (a *app) explainKernels(path string, named []string) error {
	p, err := readPlan(path)
	if err != nil {
		return err
	}
	archs, err := archsOf(path, p, named)
	if err != nil {
		return err
	}
	for _, arch := range archs {
		e, err := codegen.Explain(p, arch)
		if err != nil {
			return fail(exitPlan, fmt.Errorf("%s: %w", path, err))
		}
		if a.json {
			err = a.printJSON(e)
		} else {
			err = a.kernelText(path, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *app) kernelText(path string, e *codegen.Explanation) error {
	for _, p := range e.Programs {
		a.printf("%s: program %s on %s\n", path, p.Program, e.Arch)
		for _, c := range p.Candidates {
			if c.Why != "" {
				a.printf("  %-10s no step: %s\n", c.Kernel, c.Why)
				continue
			}
			what := "steps"
			if c.Prompts {
				what = "prompts, and steps that are larger than the above takes,"
			}
			a.printf("  %-10s %s of %d to %d tokens; %s of its own memory; %s\n", c.Kernel, what, c.From, c.To, plan.Bytes(c.Space), strings.Join(c.Params, " "))
			for _, l := range c.Launches {
				a.printf("    %5d %-14s %s\n", l.Count, l.Kernel, strings.Join(l.Params, " "))
			}
		}
		a.printf("  where none of these runs, a kernel for each operation: launches, kernel, instantiations, operations that it alone is for\n")
		for _, s := range p.Steps {
			a.printf("    %5d %-14s %3d  %s\n", s.Launches, s.Kernel, s.Instantiations, strings.Join(s.Ops, ", "))
		}
	}
	for _, l := range e.Layouts {
		if err := a.printf("  weight %s on device %d lies in %s: %s\n", l.Weight, l.Device, l.Layout.Layout, l.Why); err != nil {
			return err
		}
	}
	return nil
}
