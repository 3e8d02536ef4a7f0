package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"

	"moec/codegen"
	"moec/codegen/kernels"
	"moec/codegen/nvcc"
	"moec/planner/plan"
	"moec/runtime"
	"moec/runtime/cuda/driver"
	"moec/runtime/generate"
	"moec/runtime/sample"
	"moec/runtime/step"
	"moec/runtime/weights"
)

// draws are ways to choose, each of another sequence.
func draws() []sample.Draw {
	var list []sample.Draw
	for _, t := range []float64{0, 0.05, 0.7, 1, 30} {
		for _, k := range []int{0, 1, 2, 50, 900} {
			for _, p := range []float64{0, 1e-9, 0.3, 0.95} {
				list = append(list, sample.Draw{Params: sample.Params{Temperature: t, TopK: k, TopP: p, Seed: uint64(len(list) / 7)}, Sequence: len(list)})
			}
		}
	}
	return list
}

// rows are logits: spread as a model's are, with many equal ones, all equal,
// with numbers that are none, and with nothing but those.
func rows(vocab int) [][]float32 {
	r := rand.New(rand.NewPCG(1, 2))
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	list := make([][]float32, 6)
	for i := range list {
		for j := range vocab {
			v := 3 * r.NormFloat64()
			x := []float32{float32(v), float32(math.Round(v)), 1, float32(v), nan, float32(v)}[i]
			switch {
			case i == 3 && j%7 == 0:
				x = nan
			case i == 3 && j%11 == 0:
				x = -inf
			case i == 5 && j == 5:
				x = inf
			}
			list[i] = append(list[i], x)
		}
	}
	return list
}

// checkChoose compares the kernel that chooses tokens with package sample.
func checkChoose(d driver.Driver) error {
	gpu, err := d.Device(0)
	if err != nil {
		return err
	}
	defer gpu.Close()
	image, symbol, err := chooseImage(gpu.Info().Arch())
	if err != nil {
		return err
	}
	m, err := gpu.LoadModule(image)
	if err != nil {
		return err
	}
	f, err := gpu.Function(m, symbol)
	if err != nil {
		return err
	}
	compared := 0
	for _, c := range []struct{ vocab, rows, positions int }{{1, 6, 3}, {33, 6, 9}, {1000, 6, 9}, {32000, 6, 1}, {151_936, 2, 1}} {
		for i, logits := range rows(c.vocab)[:c.rows] {
			for position := range c.positions {
				want := make([]int32, len(draws()))
				for j, d := range draws() {
					want[j] = int32(d.Next(logits, d.Sequence, position+1))
				}
				got, err := chooseOn(gpu, f, logits, position)
				if err != nil {
					return err
				}
				for j := range want {
					if compared++; got[j] != want[j] {
						return fmt.Errorf("vocabulary of %d, row %d, %+v at %d: the GPU chooses %d, want %d", c.vocab, i, draws()[j], position, got[j], want[j])
					}
				}
			}
		}
	}
	fmt.Printf("%-20s %d tokens as on the host\n", "choose", compared)
	return nil
}

// chooseImage compiles the kernel.
func chooseImage(arch string) ([]byte, string, error) {
	k := kernels.Lookup("choose")
	code, err := codegen.Generate(&plan.Plan{}, plan.Kernels{Backend: codegen.Backend, Arch: codegen.Target(arch)})
	if err != nil {
		return nil, "", err
	}
	ctx := context.Background()
	tool, err := nvcc.Find(ctx, nvcc.DefaultSearch(""))
	if err != nil {
		return nil, "", err
	}
	dir, err := os.MkdirTemp("", "gpucheck")
	if err != nil {
		return nil, "", err
	}
	defer os.RemoveAll(dir)
	results, err := code.Compile(ctx, nvcc.New(nvcc.Options{CacheDir: dir, Toolchain: tool}), 2, nil)
	if err != nil {
		return nil, "", err
	}
	return results[code.Sampling].Image, k.Symbol(nil), nil
}

// chooseOn lets the kernel choose from the same logits by all draws.
func chooseOn(gpu driver.Device, f driver.Function, logits []float32, position int) ([]int32, error) {
	var table, text []byte
	for _, d := range draws() {
		if d.Greedy() {
			d.Temperature = 0
		}
		for _, v := range []uint64{math.Float64bits(d.Temperature), math.Float64bits(d.TopP), sample.Key(d.Seed, d.Sequence), uint64(d.TopK)} {
			table = binary.LittleEndian.AppendUint64(table, v)
		}
		for _, v := range logits {
			text = binary.LittleEndian.AppendUint32(text, math.Float32bits(v))
		}
	}
	n := len(draws())
	numbers := make([]byte, 4*(3*n+1)) // chosen, positions, slots, finished
	for i := range n {
		binary.LittleEndian.PutUint32(numbers[4*(n+i):], uint32(position))
	}
	at, err := gpu.Alloc(int64(len(text) + len(table) + 2*len(numbers)))
	if err != nil {
		return nil, err
	}
	defer gpu.Free(at)
	if err := gpu.HtoD(at, append(append(text, table...), numbers...)); err != nil {
		return nil, err
	}
	draws, lists := at+driver.Ptr(len(text)), at+driver.Ptr(len(text)+len(table))
	var feed []byte
	for _, p := range []driver.Ptr{lists + driver.Ptr(len(numbers)), 0, 0, 0, lists, lists + driver.Ptr(4*n), lists + driver.Ptr(8*n), lists + driver.Ptr(12*n)} {
		feed = binary.LittleEndian.AppendUint64(feed, uint64(p))
	}
	var params driver.Params
	params.Ptr(at).Ptr(draws).Int32(int32(len(logits))).Struct(feed)
	shape := driver.Shape{Grid: driver.Dim{X: uint32(n), Y: 1, Z: 1}, Block: driver.Dim{X: uint32(kernels.Lookup("choose").Block), Y: 1, Z: 1}}
	if err := gpu.Launch(f, shape, &params, 0); err != nil {
		return nil, err
	}
	if err := gpu.Sync(context.Background(), 0); err != nil {
		return nil, err
	}
	got := make([]byte, len(numbers))
	if err := gpu.DtoH(got, lists); err != nil {
		return nil, err
	}
	list := make([]int32, n)
	for i := range list {
		list[i] = int32(binary.LittleEndian.Uint32(got[4*i:]))
	}
	return list, nil
}

// counting counts the steps that a program continues by itself.
type counting struct {
	generate.Ahead
	steps int
}

func (c *counting) Continue(ctx context.Context, s *step.Step, draws []sample.Draw, n int, take func([]int32) bool) (bool, error) {
	return c.Ahead.Continue(ctx, s, draws, n, func(tokens []int32) bool {
		c.steps++
		return take(tokens)
	})
}

// Apart keeps generated tokens apart from prompts, as the program wants.
func (c *counting) Apart() int { return c.Ahead.(generate.Apart).Apart() }

// checkAhead compares sequences that the GPU continues by itself with those
// whose tokens the host chooses, of the same plan and weights.
func checkAhead(act string) error {
	p, err := decoderPlan(act, 512)
	if err != nil {
		return err
	}
	section, err := codegen.Choose(p, "sm_90a")
	if err != nil {
		return err
	}
	var requests []generate.Request
	for i, d := range draws() {
		if i%5 == 3 {
			requests = append(requests, generate.Request{Prompt: []int{i, 2 * i, 7}[:1+i%3], MaxTokens: 20 + i%40, Sampling: d.Params, Stop: []int{i, 17 * i % 1024, 600 + i}})
		}
	}
	for _, whole := range []bool{true, false} {
		if p.Kernels = []plan.Kernels{section}; !whole {
			p.Kernels[0].Wholes = nil
		}
		if err := sameEvents(p, requests, whole); err != nil {
			return err
		}
	}
	return nil
}

func sameEvents(p *plan.Plan, requests []generate.Request, whole bool) error {
	ctx := context.Background()
	b, err := runtime.Lookup("cuda")
	if err != nil {
		return err
	}
	program, err := b.Load(ctx, p, weights.Random{Seed: 5}, runtime.Options{})
	if err != nil {
		return err
	}
	defer program.Close()
	ahead, ok := program.(generate.Ahead)
	if !ok {
		return fmt.Errorf("the program cannot continue by itself")
	}
	run := func(program generate.Program) ([][]generate.Event, error) {
		list := make([][]generate.Event, len(requests))
		_, err := generate.New(program, p).Run(ctx, requests, func(e generate.Event) { list[e.Sequence] = append(list[e.Sequence], e) })
		return list, err
	}
	c := &counting{Ahead: ahead}
	got, err := run(c)
	if err != nil {
		return err
	}
	want, err := run(struct{ generate.Apart }{program.(generate.Apart)}) // without Continue
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(got, want) || c.steps == 0 {
		return fmt.Errorf("ahead, whole program %v: other tokens than step by step, %d steps continued", whole, c.steps)
	}
	fmt.Printf("%-20s %d steps continued, whole program %v: tokens as step by step\n", "ahead", c.steps, whole)
	return nil
}
