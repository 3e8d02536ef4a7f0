// Package runtime loads plans and runs them on a backend.
//
// It decides nothing that a plan decides. Backends are rows of a table; all
// execute the same plan and are tested against the same definition.
package runtime

import (
	"context"
	"fmt"
	"strings"

	"moec/planner/plan"
	"moec/runtime/cuda"
	"moec/runtime/host"
	"moec/runtime/step"
	"moec/runtime/weights"
)

// Program is a plan with its weights in place.
type Program interface {
	// Step executes one step and returns the logits of each token group: a
	// row for each wanted row. After an error other than a bad step the
	// program can only be closed.
	Step(ctx context.Context, s *step.Step) ([][]float32, error)
	Close() error
}

// Options are the same for every backend.
type Options struct {
	Poison   bool              // host: fill dead memory with NaN
	Progress func(bytes int64) // told of weight bytes as they are loaded, or nil
	// Oversubscribe lets a plan have more devices than there are GPUs.
	Oversubscribe bool
	Nvcc          string         // path to nvcc or a toolkit; "" looks in the usual places
	Warn          func(s string) // told of what slows the work, or nil
}

// Backend is one row of the backend table.
type Backend struct {
	Name string
	Doc  string
	// Load puts the weights in place. It fails before it reads any when the
	// plan cannot run here.
	Load func(ctx context.Context, p *plan.Plan, src weights.Source, o Options) (Program, error)
}

// Backends lists the backends; the first is the default.
func Backends() []Backend {
	return []Backend{
		{Name: "cpu", Doc: "the host's processor: one goroutine and one memory for each device of the plan", Load: loadHost},
		{Name: "cuda", Doc: "NVIDIA GPUs: one arena and stream for each device of the plan", Load: loadCUDA},
	}
}

func loadHost(ctx context.Context, p *plan.Plan, src weights.Source, o Options) (Program, error) {
	return host.Load(ctx, p, src, host.Options{Poison: o.Poison, Progress: o.Progress})
}

func loadCUDA(ctx context.Context, p *plan.Plan, src weights.Source, o Options) (Program, error) {
	return cuda.Load(ctx, p, src, cuda.Options{Oversubscribe: o.Oversubscribe, Poison: o.Poison, Progress: o.Progress, Nvcc: o.Nvcc, Warn: o.Warn})
}

// Lookup returns the backend of that name.
func Lookup(name string) (Backend, error) {
	var names []string
	for _, b := range Backends() {
		if b.Name == name {
			return b, nil
		}
		names = append(names, b.Name)
	}
	return Backend{}, fmt.Errorf("unknown devices %q: want %s", name, strings.Join(names, " or "))
}
