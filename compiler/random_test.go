package compiler

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"testing"
	"time"

	"moec/dsl"
	"moec/dsl/moegen"
	"moec/ir"
	"moec/ir/eval"
	"moec/ir/placement"
	"moec/passes"
	"moec/planner/plan"
	"moec/runtime/generate"
	"moec/runtime/host"
	"moec/runtime/weights"
)

var (
	cases = flag.Int("cases", 80, "random programs to run")
	first = flag.Uint64("seed", 1, "seed of the first random program")
)

// TestRandomPrograms compiles random programs for random placements, runs the
// plans on the CPU backend and compares with the evaluator, which runs the
// logical graph for each prompt alone. Seeds follow each other from -seed.
func TestRandomPrograms(t *testing.T) {
	begin, failed := time.Now(), 0
	for i := range uint64(*cases) {
		seed := *first + i
		c := &randomCase{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x706c616365)), mode: ir.Invariant}
		if err := c.run(); err != nil {
			t.Errorf("seed %d: %v\n%s\nagain: go test ./compiler -run TestRandomPrograms -args -seed %d -cases 1", seed, err, c, seed)
			if failed++; failed == 5 {
				t.Fatalf("stopped after %d failures", failed)
			}
		}
	}
	t.Logf("%d random programs from seed %d in %.1f s", *cases, *first, time.Since(begin).Seconds())
}

// TestRandomFast runs random programs under fast numerics, in f32 and with
// every part divided where it can be: logits are near the evaluator's, and
// some differ.
func TestRandomFast(t *testing.T) {
	differ := 0
	for seed := range uint64(20) {
		c := &randomCase{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x66617374)), mode: ir.Fast, tolerance: 1e-3}
		if err := c.run(); err != nil {
			t.Errorf("seed %d: %v\n%s", seed, err, c)
		}
		if c.worst > 0 {
			differ++
		}
	}
	t.Logf("%d of 20 programs differ", differ)
	if differ < 3 {
		t.Errorf("logits of %d programs differ from the evaluator's, want at least 3", differ)
	}
}

// randomCase is a program, its placement and its prompts.
type randomCase struct {
	seed      uint64
	rng       *rand.Rand
	source    string
	options   Options
	placement *placement.Placement
	prompts   [][]int

	mode      ir.Mode
	tolerance float64 // 0: bits are equal
	worst     float64 // difference seen
}

// String prints what is needed to look at a failure.
func (c *randomCase) String() string {
	text := c.source
	if c.placement != nil {
		text += string(c.placement.Format())
	}
	return fmt.Sprintf("%s\nlimits %+v, numerics %+v, off %v, prompts %v\n", text, c.options.Limits, c.options.Numerics, c.options.Off, c.prompts)
}

func (c *randomCase) run() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	c.source = moegen.Program(c.seed)
	if c.mode == ir.Fast { // rounding would make much of a small difference
		c.options.Env.Set = map[string]string{"act": "f32"}
	}
	bare, err := build(c.source, c.options.Env)
	if err != nil {
		return err
	}
	files := newStore(bare.Weights, c.seed)
	c.draw(bare)
	c.options.Env.Tensor = files.tensor
	r, err := Compile("random.moe", []byte(c.source), c.options)
	if err != nil {
		return fmt.Errorf("compile: %w", explain(err))
	}
	if err := ir.Verify(r.Logical); err != nil {
		return fmt.Errorf("logical graph: %w", err)
	}
	want, err := c.evaluate(r.Logical, files)
	if err != nil {
		return fmt.Errorf("evaluate: %w", err)
	}
	p, err := throughFile(r.Plan)
	if err != nil {
		return fmt.Errorf("plan file: %w", explain(err))
	}
	program, err := host.Load(context.Background(), p, weights.Checkpoint{Tensors: files}, host.Options{Poison: true})
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer program.Close()
	for range 2 { // pages are used again
		if err := c.ragged(program, p, want); err != nil {
			return err
		}
	}
	return c.alone(program, p, want)
}

// throughFile writes a plan, reads it again and verifies it.
func throughFile(p *plan.Plan) (*plan.Plan, error) {
	text, err := plan.Encode(p)
	if err != nil {
		return nil, err
	}
	if p, err = plan.Decode("random.plan", text); err != nil {
		return nil, err
	}
	return p, plan.Verify(p)
}

// build evaluates a description.
func build(source string, env dsl.Env) (*ir.Graph, error) {
	f, list := dsl.Parse("random.moe", []byte(source))
	if err := list.Err(); err != nil {
		return nil, err
	}
	m, list := dsl.Build(f, env)
	if err := list.Err(); err != nil {
		return nil, err
	}
	return m.Graph, nil
}

// explain lists all problems of a plan that does not verify.
func explain(err error) error {
	var v *plan.VerifyError
	if !errors.As(err, &v) {
		return err
	}
	for _, p := range v.Problems {
		err = fmt.Errorf("%w\n%v", err, p)
	}
	return err
}

// draw decides limits, numerics, passes, placement and prompts.
func (c *randomCase) draw(g *ir.Graph) {
	o := &c.options
	o.Numerics = ir.Numerics{Mode: c.mode, Segments: []int{8, 8, 8, 1 + c.rng.IntN(12)}[c.rng.IntN(4)]}
	o.Limits = plan.Limits{Tokens: 1 + c.rng.IntN(20), Sequences: 4, Context: 16, Page: 1 + c.rng.IntN(8)}
	o.Limits.Rows = 1 + c.rng.IntN(o.Limits.Tokens)
	if c.rng.IntN(3) == 0 {
		o.Off = map[string]bool{}
		for _, p := range passes.List() {
			if !p.Required && c.rng.IntN(3) == 0 {
				o.Off[p.Name] = true
			}
		}
	}
	o.Place = func(g *ir.Graph) (*placement.Placement, error) {
		c.placement = randomPlacement(c.rng, g)
		return c.placement, nil
	}
	vocab := g.Outputs[0].Value.Type.Shape.Last().N
	longest := 14
	if c.rng.IntN(40) == 0 { // more than attention adds up at a time
		longest, o.Limits.Context, o.Limits.Tokens, o.Limits.Rows = 300, 320, 64, 50
	}
	for range 1 + c.rng.IntN(4) {
		prompt := make([]int, 1+c.rng.IntN(longest))
		for i := range prompt {
			prompt[i] = c.rng.IntN(vocab)
		}
		c.prompts = append(c.prompts, prompt)
	}
}

// evaluate returns the logits of every position of each prompt, alone.
func (c *randomCase) evaluate(g *ir.Graph, files *store) ([][]float32, error) {
	p, err := eval.Load(g, files.arrays(g.Weights))
	if err != nil {
		return nil, err
	}
	var all [][]float32
	for _, prompt := range c.prompts {
		tokens := make([]int32, len(prompt))
		for i, id := range prompt {
			tokens[i] = int32(id)
		}
		out, err := p.Run(&eval.Step{Spans: []eval.Span{{Tokens: tokens}}}, eval.NewState())
		if err != nil {
			return nil, err
		}
		logits := out[eval.Output{Name: "logits", Group: g.Outputs[0].Group}].F
		for i, x := range logits {
			if x != x || math.IsInf(float64(x), 0) {
				return nil, fmt.Errorf("logit %d is %v", i, x)
			}
		}
		all = append(all, logits)
	}
	return all, nil
}

// ragged runs all prompts together in random steps.
func (c *randomCase) ragged(program *host.Program, p *plan.Plan, want [][]float32) error {
	s := newSchedule(c.rng, p, generate.Groups(p), c.prompts)
	vocab := len(want[0]) / len(c.prompts[0])
	for {
		st, rows := s.next()
		if st == nil {
			return nil
		}
		got, err := program.Step(context.Background(), st)
		if err != nil {
			return err
		}
		for g, list := range rows {
			if len(got[g]) != len(list)*vocab {
				return fmt.Errorf("group %d: %d logits for %d rows of %d", g, len(got[g]), len(list), vocab)
			}
			for i, r := range list {
				if err := c.compare(got[g][i*vocab:(i+1)*vocab], want[r.index][r.position*vocab:(r.position+1)*vocab]); err != nil {
					return fmt.Errorf("in a batch: prompt %d, position %d: %w", r.index, r.position, err)
				}
			}
		}
	}
}

// alone runs each prompt by itself, as "moec logits" does.
func (c *randomCase) alone(program *host.Program, p *plan.Plan, want [][]float32) error {
	for i, prompt := range c.prompts {
		rows, err := generate.Logits(context.Background(), program, p, [][]int{prompt})
		if err != nil {
			return err
		}
		if err := c.compare(rows[0], want[i]); err != nil {
			return fmt.Errorf("alone: prompt %d: %w", i, err)
		}
	}
	return nil
}

// compare compares lists bit by bit, or by the tolerance if there is one.
func (c *randomCase) compare(got, want []float32) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d logits, want %d", len(got), len(want))
	}
	for i, w := range want {
		d := math.Abs(float64(got[i]) - float64(w))
		c.worst = max(c.worst, d)
		if c.tolerance == 0 && math.Float32bits(got[i]) != math.Float32bits(w) || c.tolerance > 0 && !(d <= c.tolerance) {
			return fmt.Errorf("logit %d is %v, want %v", i, got[i], w)
		}
	}
	return nil
}
