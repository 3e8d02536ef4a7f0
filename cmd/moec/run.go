package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"moec/planner/plan"
	"moec/runtime"
	"moec/runtime/generate"
)

// loadFlags say which plan to run with which weights on which devices.
type loadFlags struct {
	compileFlags
	weights string
	seed    uint64
	devices string
	// Of the CUDA backend.
	oversubscribe bool
	nvcc          string
}

func (f *loadFlags) add(c *cobra.Command) {
	f.compileFlags.add(c)
	c.Flags().StringVar(&f.weights, "weights", "", `"random" instead of a checkpoint's weights`)
	c.Flags().Uint64Var(&f.seed, "weights-seed", 1, "of random weights")
	c.Flags().StringVar(&f.devices, "devices", "cpu", "what to run on: "+backendNames())
	c.Flags().BoolVar(&f.oversubscribe, "oversubscribe", false, "with --devices cuda: devices of the plan may share a GPU")
	c.Flags().StringVar(&f.nvcc, "nvcc", "", "with --devices cuda: path to nvcc or a CUDA toolkit (default: CUDA_HOME, PATH)")
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
	c := &cobra.Command{Use: "run PLAN|FILE.moe", Short: "run a plan and stream tokens; a description is compiled first", Args: cobra.ExactArgs(1),
		Example: `  moec run mixtral.plan --checkpoint DIR --prompt "Once upon a time" --max-tokens 200
  moec run mixtral.plan --weights random --prompt-tokens 128 --max-tokens 64`,
		RunE: func(c *cobra.Command, args []string) error {
			return a.generate(c, args[0], &load, &prompt)
		}}
	load.add(c)
	prompt.add(c)
	return c
}

// generate is the run command.
func (a *app) generate(c *cobra.Command, path string, load *loadFlags, prompt *promptFlags) error {
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
	stats, err := generate.New(program, s.plan).Run(c.Context(), requests, printer.event)
	if err == nil {
		err = printer.err
	}
	if err != nil {
		return err
	}
	return a.stats(stats)
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

// load puts the weights in place, with a progress bar on a terminal.
func (a *app) load(ctx context.Context, s *session, f *loadFlags) (runtime.Program, error) {
	backend, err := runtime.Lookup(f.devices)
	if err != nil {
		return nil, fail(exitUsage, err)
	}
	bar := newBar(a.err, "weights", weightBytes(s.plan))
	program, err := backend.Load(ctx, s.plan, s.source, runtime.Options{Progress: bar.add, Oversubscribe: f.oversubscribe, Nvcc: f.nvcc, Warn: a.warn})
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
