package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"moec/ir/routing"
	"moec/planner/plan"
	"moec/runtime"
	"moec/runtime/generate"
	"moec/runtime/host"
	"moec/runtime/step"
)

// loadFlags say which plan to run with which weights on which devices.
type loadFlags struct {
	compileFlags
	weights string
	seed    uint64
	devices string
	// Of the CUDA backend.
	oversubscribe bool
	nvcc, cache   string
}

func (f *loadFlags) add(c *cobra.Command) {
	f.compileFlags.add(c)
	c.Flags().StringVar(&f.weights, "weights", "", "`random`: weights drawn at random instead of a checkpoint's")
	c.Flags().Uint64Var(&f.seed, "weights-seed", 1, "seed of random weights")
	c.Flags().StringVar(&f.devices, "devices", "cpu", "`BACKEND` to run on: "+backendNames())
	c.Flags().BoolVar(&f.oversubscribe, "oversubscribe", false, "with --devices cuda: devices of the plan may share a GPU")
	c.Flags().StringVar(&f.nvcc, "nvcc", "", "with --devices cuda: `PATH` of nvcc or of a CUDA toolkit (default: from CUDA_HOME, then PATH)")
	c.Flags().StringVar(&f.cache, "kernel-cache", "", "with --devices cuda: `DIR` of compiled kernels, as \"moec kernels --cache\" fills it (default: in the user's cache directory)")
}

func backendNames() string {
	var names []string
	for _, b := range runtime.Backends() {
		names = append(names, b.Name)
	}
	return strings.Join(names, " or ")
}

func runCommand(a *app) *cobra.Command {
	var load loadFlags
	var prompt promptFlags
	var record string
	c := &cobra.Command{Use: "run PLAN|FILE.moe", Short: "run a plan and stream tokens; a description is compiled first", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.generate(c, args[0], &load, &prompt, record)
		}}
	load.add(c)
	prompt.add(c)
	c.Flags().StringVar(&record, "record-routing", "", "write which experts the tokens chose to this trace `FILE`, for the placement search (CPU only)")
	return c
}

// generate is the run command.
func (a *app) generate(c *cobra.Command, path string, load *loadFlags, prompt *promptFlags, record string) error {
	if record != "" {
		if err := mayRecord(load.devices, record); err != nil {
			return err
		}
	}
	s, err := a.open(c.Context(), path, load)
	if err != nil {
		return err
	}
	defer s.close()
	requests, err := prompt.requests(c, s.model, s.plan.Model.Vocab)
	if err != nil {
		return err
	}
	program, err := a.load(c.Context(), s, load)
	if err != nil {
		return err
	}
	defer program.Close()
	printer := &printer{app: a, texts: make([]strings.Builder, len(requests)), single: len(requests) == 1}
	engine := generate.New(program, s.plan)
	var trace *recording
	if record != "" {
		if trace, err = newRecording(program, s.plan); err != nil {
			return err
		}
		engine.ComputeAll()
	}
	stats, err := engine.Run(c.Context(), requests, printer.event)
	if err == nil {
		err = printer.err
	}
	if err != nil {
		return err
	}
	if trace != nil {
		if err := trace.write(record); err != nil {
			return err
		}
	}
	return a.stats(stats)
}

// observable is a program that can say which experts were chosen.
type observable interface {
	Observe(host.Observer) ([]host.Choice, error)
}

// mayRecord checks before anything is loaded that routing can be recorded.
func mayRecord(devices, file string) error {
	if devices != "cpu" {
		return failf(exitUsage, "--record-routing needs --devices cpu, have %s: other devices keep the chosen experts in their own memory, and the host never reads them", devices)
	}
	if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
		return failf(exitUsage, "--record-routing %s: there is no directory %s", file, filepath.Dir(file))
	}
	return nil
}

// recording is the trace of a run in the making.
type recording struct {
	*routing.Recorder
	err error
}

// newRecording lets a program tell of its routing.
func newRecording(program runtime.Program, p *plan.Plan) (*recording, error) {
	o, ok := program.(observable)
	if !ok {
		return nil, fail(exitUsage, fmt.Errorf("--record-routing: this backend does not say which experts it chose; use --devices cpu"))
	}
	t := new(recording)
	choices, err := o.Observe(func(s *step.Step, chosen [][]int32) {
		var ids []int32
		for i := range s.Groups {
			ids = append(ids, s.Groups[i].Tokens...)
		}
		if err := t.Add(ids, chosen); err != nil && t.err == nil {
			t.err = err
		}
	})
	if err != nil {
		return nil, fail(exitPlan, err)
	}
	shapes := make([]routing.Shape, len(choices))
	for l, c := range choices {
		shapes[l] = routing.Shape{Experts: c.Experts, Slots: c.Slots}
	}
	if t.Recorder, err = routing.NewRecorder(shapes); err != nil {
		return nil, fail(exitUsage, fmt.Errorf("--record-routing: %w", err))
	}
	return t, nil
}

// write writes the trace file.
func (t *recording) write(file string) error {
	var b bytes.Buffer
	if t.err == nil {
		t.err = t.Write(&b)
	}
	if t.err != nil {
		return t.err
	}
	return replaceFile(file, b.Bytes())
}

// printer shows tokens as they come: the text of a single prompt at once, of
// several when each is done.
type printer struct {
	*app
	single bool
	texts  []strings.Builder
	err    error
}

func (p *printer) event(e generate.Event) {
	if p.err != nil {
		return
	}
	switch text := e.Text; {
	case p.json:
		p.err = p.printJSON(e)
	case p.single:
		if !p.decodes && e.Token >= 0 {
			text = fmt.Sprint(e.Token, " ")
		}
		p.err = p.printf("%s", text)
		if e.Done != "" && p.err == nil {
			p.err = p.printf("\n")
		}
	default:
		if !p.decodes && e.Token >= 0 {
			text = fmt.Sprint(e.Token, " ")
		}
		p.texts[e.Sequence].WriteString(text)
		if e.Done != "" {
			p.err = p.printf("[%d] %s\n", e.Sequence, p.texts[e.Sequence].String())
		}
	}
}

// stats prints speeds to the error output, so that text alone can be piped.
func (a *app) stats(s generate.Stats) error {
	if a.json {
		return a.printJSON(map[string]any{"stats": s})
	}
	_, err := fmt.Fprintf(a.err, "prompt %d tokens, %s tokens/s; decode %d tokens, %s tokens/s; %d steps\n",
		s.PromptTokens, speed(s.PromptTokens, s.PromptTime.Seconds()), s.DecodedTokens, speed(s.DecodedTokens, s.DecodeTime.Seconds()), s.Steps)
	return err
}

// load puts the weights in place, with progress bars on a terminal: of kernels that
// are compiled, then of the weights.
func (a *app) load(ctx context.Context, s *session, f *loadFlags) (runtime.Program, error) {
	backend, err := runtime.Lookup(f.devices)
	if err != nil {
		return nil, fail(exitUsage, err)
	}
	var kernels, bar *bar
	begin := sync.OnceFunc(func() {
		kernels.end()
		bar = newBar(a.err, "weights", weightBytes(s.plan))
	})
	program, err := backend.Load(ctx, s.plan, s.source, runtime.Options{Oversubscribe: f.oversubscribe, Nvcc: f.nvcc, Cache: f.cache, Warn: a.warn,
		Compiled: func(_, total int) {
			if kernels == nil {
				kernels = newCountBar(a.err, "kernels", total)
			}
			kernels.add(1)
		},
		Progress: func(bytes int64) {
			begin()
			bar.add(bytes)
		}})
	kernels.end()
	bar.end()
	if err != nil && ctx.Err() == nil {
		return nil, loadError(err)
	}
	return program, err
}

func weightBytes(p *plan.Plan) int64 {
	var n int64
	for _, w := range p.Weights {
		n += w.Bytes() * int64(w.Layers.Len())
	}
	return n
}
