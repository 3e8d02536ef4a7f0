package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"moec/codegen"
	"moec/compiler"
	"moec/dsl"
	"moec/ir"
	"moec/ir/placement"
	"moec/passes"
	"moec/planner/plan"
	"moec/runtime"
	"moec/runtime/kv"
	"moec/runtime/step"
	"moec/runtime/weights"
)

// decoderSizes are the smallest that the kernel for whole decoding steps takes
// and the host does in seconds.
var decoderSizes = map[string]string{"layers": "3", "hidden": "2048", "ffn": "2048", "heads": "16", "kv_heads": "4", "head_dim": "128", "vocab": "1024"}

// decoderPrompts have one and two chunks of attention, and are alone in a step
// and beside others.
var decoderPrompts = []int{300, 70, 33, 9, 1}

// checkDecoder compares the kernels for whole programs, the one for decoding
// steps and the series for many tokens, and the plan's single steps with the
// host's backend; all read weights in tiles.
func checkDecoder(act string) error {
	var prompts [][]int
	for i, n := range decoderPrompts {
		ids := make([]int, n)
		for j := range ids {
			ids[j] = (j*j*7 + 131*i + j) % 1024
		}
		prompts = append(prompts, ids)
	}
	p, err := decoderPlan(act, 64)
	if err != nil {
		return err
	}
	want, _, err := logits("cpu", p, decoderWeights, prompts)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		name           string
		tokens         int // of a step, at most
		wholes, remain int // programs that the plan has, and from which one on
	}{{"whole", 64, 1, 0}, {"steps", 64, 1, 1}, {"series", 512, 2, 1}} {
		if p, err = decoderPlan(act, c.tokens); err != nil {
			return err
		}
		section, err := codegen.Choose(p, "sm_90a")
		if err != nil {
			return err
		}
		if len(section.Wholes) != c.wholes {
			return fmt.Errorf("%s: %d of %d kernels execute the whole program", c.name, len(section.Wholes), c.wholes)
		}
		section.Wholes = section.Wholes[c.remain:]
		p.Kernels = []plan.Kernels{section}
		if err := plan.Verify(p); err != nil {
			return err
		}
		got, err := checkWhole(c.name, act, p, prompts, want)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if c.name == "series" {
			if err := checkChunks(act, prompts, got, p.Model.Vocab); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return nil
}

// checkChunks runs prompts in chunks of which only the last has a row of logits,
// all at once: it must have the bits that it has where every row is wanted.
func checkChunks(act string, prompts [][]int, whole [][]float32, vocab int) error {
	p, err := decoderPlan(act, 128)
	if err != nil {
		return err
	}
	section, err := codegen.Choose(p, "sm_90a")
	if err != nil {
		return err
	}
	p.Kernels = []plan.Kernels{section}
	b, err := runtime.Lookup("cuda")
	if err != nil {
		return err
	}
	ctx := context.Background()
	program, err := b.Load(ctx, p, decoderWeights, runtime.Options{Poison: true})
	if err != nil {
		return err
	}
	defer program.Close()
	same := 0
	for i, ids := range prompts {
		for at := 0; at < len(ids); at += p.Limits.Tokens {
			s := chunkOf(p.Limits, ids, at, min(len(ids), at+p.Limits.Tokens))
			logits, err := program.Step(ctx, s)
			if err != nil {
				return err
			}
			if len(s.Groups[0].Rows) > 0 && sameBits([][]float32{logits[0]}, [][]float32{whole[i][len(whole[i])-vocab:]}) == "same bits" {
				same++
			}
		}
	}
	if same != len(prompts) {
		return fmt.Errorf("in chunks with few rows: %d of %d prompts end with the same bits", same, len(prompts))
	}
	fmt.Printf("%-20s %-6s %d prompts in chunks of %d tokens, one row each: same bits\n", "chunks", act, len(prompts), p.Limits.Tokens)
	return nil
}

// chunkOf is the step of a prompt's tokens from one to another; only the
// prompt's last has logits.
func chunkOf(l plan.Limits, ids []int, from, to int) *step.Step {
	g := step.Group{Pages: make([][]int32, l.Sequences)}
	for i := range kv.For(len(ids), l.Page) {
		g.Pages[0] = append(g.Pages[0], int32(i))
	}
	for i := from; i < to; i++ {
		g.Tokens, g.Positions, g.Sequences = append(g.Tokens, int32(ids[i])), append(g.Positions, int32(i)), append(g.Sequences, 0)
	}
	if to == len(ids) {
		g.Rows = []int32{int32(len(g.Tokens) - 1)}
	}
	return &step.Step{Groups: []step.Group{g}, Prompt: true}
}

// decoderWeights are made up.
var decoderWeights = weights.Random{Seed: 5}

// checkWhole compares all prompts together with the host's logits, and with each
// alone. It returns the former.
func checkWhole(name, act string, p *plan.Plan, prompts [][]int, want [][]float32) ([][]float32, error) {
	got, took, err := logits("cuda", p, decoderWeights, prompts)
	if err != nil {
		return nil, err
	}
	note := ""
	for i := range prompts {
		alone, _, err := logits("cuda", p, decoderWeights, prompts[i:i+1])
		if err != nil {
			return nil, err
		}
		note += fmt.Sprintf(" %d alone: %s;", len(prompts[i]), sameBits(alone, got[i:i+1]))
	}
	d := compare(got, want, p.Model.Vocab)
	printDecoder(name, act, d, took, note+" "+spread(d.divergences))
	return got, nil
}

// spread says how the divergence of positions is spread: where rounding makes a
// token choose another expert, few positions have nearly all of it.
func spread(list []float64) string {
	slices.Sort(list)
	at := func(percent int) float64 { return list[(len(list)-1)*percent/100] }
	return fmt.Sprintf("KL of positions: median %.1e, 90 %% %.1e, 98 %% %.1e, largest %.1e", at(50), at(90), at(98), at(100))
}

func printDecoder(name, act string, d difference, took time.Duration, note string) {
	fmt.Printf("%-20s %-6s %-6s %9d %9.2g %9.2g %9.2g %7.2f%% %7.1f %s\n", "decoder", act, name, d.positions, d.largest, math.Sqrt(d.squares/float64(d.positions*1024)),
		d.kl/float64(d.positions), 100*float64(d.same)/float64(d.positions), took.Seconds(), note)
}

// decoderPlan compiles the example's description for one device and steps of so
// many tokens.
func decoderPlan(act string, tokens int) (*plan.Plan, error) {
	const description = "examples/mixtral.moe"
	src, err := os.ReadFile(description)
	if err != nil {
		return nil, err
	}
	set := map[string]string{"act": act}
	for name, value := range decoderSizes {
		set[name] = value
	}
	r, err := compiler.Compile(description, src, compiler.Options{Env: dsl.Env{Set: set}, Limits: plan.Limits{Tokens: tokens, Rows: tokens, Sequences: 8, Context: 512, Page: 16},
		Place: func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, "tp1", 1) }})
	if err != nil {
		return nil, err
	}
	return r.Plan, nil
}
