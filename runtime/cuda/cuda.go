// Package cuda runs plans on NVIDIA GPUs: one arena, one stream and one host
// thread for each device of the plan.
//
// A plan's steps, buffers and offsets are taken as they are, and its kernels
// section says what executes each step. Several devices of a plan may share a
// GPU: they meet on the host, so none waits for another inside a kernel. The
// host brings tokens and page tables and takes logits; it never reads a
// routing result. Nothing is tuned here.
//
// In a binary without CUDA support Load says so; everything else builds.
package cuda

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"moec/codegen"
	"moec/planner/plan"
	"moec/runtime/cuda/driver"
	"moec/runtime/step"
	"moec/runtime/weights"
)

// Options change where and how a program runs, never what it computes.
type Options struct {
	// Oversubscribe lets a plan have more devices than there are GPUs: they
	// are dealt out to the GPUs in turn.
	Oversubscribe bool
	// Poison fills buffers with NaN before every step, so that reading what
	// was not written shows in the results.
	Poison bool
	// Progress is told of weight bytes as they are loaded; nil for nobody.
	Progress func(bytes int64)
	// Nvcc is a path to nvcc or to a toolkit; "" looks in the usual places.
	Nvcc string
	// Cache is the directory of compiled kernels; "" is the user's.
	Cache string
	// Compiled is told of kernels as they are compiled; nil for nobody.
	Compiled func(done, total int)
	// Warn takes what slows the work but does not stop it; nil drops it.
	Warn func(message string)
}

// Program is a loaded plan.
type Program struct {
	plan    *plan.Plan
	section plan.Kernels
	devices []*device
	// meetings of every collective, to be stopped when a device fails.
	meetings []*meeting
	options  Options
	failed   error
	// continued is what the last call of Continue did.
	continued continued
}

// Load puts the weights into the memories and prepares every launch. What
// cannot work (no driver, no GPU, too few of them, too little memory, another
// architecture, no nvcc) ends it before any weight is read.
func Load(ctx context.Context, p *plan.Plan, src weights.Source, o Options) (*Program, error) {
	d, err := driver.Open()
	if err != nil {
		return nil, fmt.Errorf("CUDA cannot be used: %w; or run with --devices cpu", err)
	}
	return load(ctx, d, p, src, o)
}

func load(ctx context.Context, d driver.Driver, p *plan.Plan, src weights.Source, o Options) (_ *Program, err error) {
	g := &Program{plan: p, options: o}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.release())
		}
	}()
	arch, err := g.open(d)
	if err != nil {
		return nil, err
	}
	if g.section, err = codegen.Section(p, arch); err != nil {
		return nil, err
	}
	for _, dev := range g.devices {
		one, series := spaceOf(g.section, dev.id)
		dev.layouts, dev.seriesSpace, dev.spaceBytes = g.section.Layouts, one, one+series
	}
	if err := g.fits(); err != nil {
		return nil, err
	}
	code, images, err := g.compile(ctx)
	if err != nil {
		return nil, err
	}
	for _, dev := range g.devices {
		if err := dev.allocate(p, images); err != nil {
			return nil, err
		}
		dev.loading, dev.sampling = code.Loading, code.Sampling
	}
	if err := g.prepare(code); err != nil {
		return nil, err
	}
	return g, g.fill(ctx, src)
}

// Step executes one step and returns the logits of each token group, a row of
// the vocabulary's size for each wanted row, one after the other.
func (g *Program) Step(ctx context.Context, s *step.Step) ([][]float32, error) {
	r, err := g.execute(ctx, s, nil)
	if err != nil {
		return nil, err
	}
	return r.logits()
}

// execute runs one step on all devices; profile is nil if nobody wants times.
func (g *Program) execute(ctx context.Context, s *step.Step, p *profile) (*run, error) {
	if g.failed != nil {
		return nil, g.failed
	}
	if err := g.check(s); err != nil {
		return nil, err
	}
	r := &run{Program: g, step: s, bounds: s.Bounds(), number: g.programFor(s), profile: p}
	g.continued = continued{}
	var wg sync.WaitGroup
	errs := make([]error, len(g.devices))
	for i, d := range g.devices {
		wg.Go(func() {
			if errs[i] = d.gpu.Do(func() error { return r.device(ctx, d) }); errs[i] != nil {
				for _, m := range g.meetings {
					m.stop()
				}
			}
		})
	}
	wg.Wait()
	if err := firstCause(errs); err != nil {
		g.failed = err
		return nil, err
	}
	return r, nil
}

// check says what is wrong with a step.
func (g *Program) check(s *step.Step) error {
	l := g.plan.Limits
	return s.Check(step.Limits{Tokens: l.Tokens, Rows: l.Rows, Sequences: l.Sequences, Context: l.Context, Page: l.Page, Pages: l.Pages, Vocab: g.plan.Model.Vocab})
}

// programFor returns the index of the program for a step's tokens: that of the
// smallest bucket that holds them.
func (g *Program) programFor(s *step.Step) int {
	tokens := 0
	for _, grp := range s.Groups {
		tokens += len(grp.Tokens)
	}
	for _, b := range g.plan.Buckets {
		if b.Tokens < tokens {
			continue
		}
		for i, p := range g.plan.Programs {
			if p.Name == b.Program {
				return i
			}
		}
	}
	return 0
}

// firstCause returns the error of the device that failed by itself.
func firstCause(errs []error) error {
	var stopped error
	for _, err := range errs {
		if errors.Is(err, errStopped) {
			stopped = err
		} else if err != nil {
			return err
		}
	}
	return stopped
}

// Close releases the devices' memory and contexts.
func (g *Program) Close() error {
	g.failed = errors.New("the program is closed")
	return g.release()
}

func (g *Program) release() error {
	var errs []error
	for _, d := range g.devices {
		errs = append(errs, d.close())
	}
	g.devices = nil
	return errors.Join(errs...)
}
