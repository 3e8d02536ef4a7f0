// Package runtime loads plans and runs them on a backend.
//
// It decides nothing that a plan decides. Backends are rows of a table; all
// execute the same plan and are tested against the same definition.
package runtime

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"moec/planner/plan"
	"moec/runtime/cuda"
	"moec/runtime/cuda/driver"
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
	Nvcc          string                // path to nvcc or a toolkit; "" looks in the usual places
	Cache         string                // directory of compiled kernels; "" is the user's
	Compiled      func(done, total int) // told of kernels as they are ready, or nil
	Warn          func(s string)        // told of what slows the work, or nil
}

// Backend is one row of the backend table.
type Backend struct {
	Name string
	Doc  string
	// Load puts the weights in place. It fails before it reads any when the
	// plan cannot run here.
	Load func(ctx context.Context, p *plan.Plan, src weights.Source, o Options) (Program, error)
	// Devices names what this host has to run devices of a plan on, each with
	// room for one. It fails where there is nothing.
	Devices func() ([]string, error)
}

// Backends lists the backends; the first is the default.
func Backends() []Backend {
	return []Backend{
		{Name: "cpu", Doc: "the host's processor: one goroutine and one memory for each device of the plan", Load: loadHost, Devices: processors},
		{Name: "cuda", Doc: "NVIDIA GPUs: one arena and stream for each device of the plan", Load: loadCUDA, Devices: gpus},
	}
}

func loadHost(ctx context.Context, p *plan.Plan, src weights.Source, o Options) (Program, error) {
	return host.Load(ctx, p, src, host.Options{Poison: o.Poison, Progress: o.Progress})
}

func loadCUDA(ctx context.Context, p *plan.Plan, src weights.Source, o Options) (Program, error) {
	return cuda.Load(ctx, p, src, cuda.Options{Oversubscribe: o.Oversubscribe, Poison: o.Poison, Progress: o.Progress, Nvcc: o.Nvcc, Cache: o.Cache, Compiled: o.Compiled, Warn: o.Warn})
}

// processors names the host's processor once for each core that the program
// may use.
func processors() ([]string, error) {
	name := "unknown processor"
	info, err := os.ReadFile("/proc/cpuinfo") // not there but on Linux
	if err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				name = strings.TrimSpace(value)
				break
			}
		}
	}
	return slices.Repeat([]string{name}, runtime.GOMAXPROCS(0)), nil
}

// gpus names the GPUs in the driver's order.
func gpus() ([]string, error) {
	d, err := driver.Open()
	if err != nil {
		return nil, fmt.Errorf("CUDA cannot be used: %w", err)
	}
	var names []string
	for _, i := range d.Devices() {
		names = append(names, i.Name)
	}
	return names, nil
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
