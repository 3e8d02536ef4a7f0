package compiler

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"testing"

	"moec/planner/plan"
	"moec/runtime/checkpoint"
	"moec/runtime/generate"
	"moec/runtime/host"
	"moec/runtime/weights"
)

// golden is a file of reference tensors.
type golden struct {
	*testing.T
	files *checkpoint.Checkpoint
}

func openGolden(t *testing.T, path string) golden {
	t.Helper()
	files, err := checkpoint.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	return golden{t, files}
}

// words returns a tensor of 4-byte elements as bits, and its last extent.
func (g golden) words(name, dtype string) ([]uint32, int) {
	g.Helper()
	info, ok := g.files.Tensor(name)
	if !ok || info.DType != dtype {
		g.Fatalf("no %s tensor %s", dtype, name)
	}
	raw := make([]byte, info.Bytes())
	if err := g.files.ReadAt(name, raw, 0); err != nil {
		g.Fatal(err)
	}
	bits := make([]uint32, len(raw)/4)
	for i := range bits {
		bits[i] = binary.LittleEndian.Uint32(raw[4*i:])
	}
	return bits, int(info.Shape[len(info.Shape)-1])
}

func (g golden) floats(name string) []float32 {
	g.Helper()
	bits, _ := g.words(name, "F32")
	list := make([]float32, len(bits))
	for i, b := range bits {
		list[i] = math.Float32frombits(b)
	}
	return list
}

func (g golden) ints(name string) []int {
	g.Helper()
	bits, _ := g.words(name, "I32")
	list := make([]int, len(bits))
	for i, b := range bits {
		list[i] = int(int32(b))
	}
	return list
}

// readJSON decodes a file.
func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// openCheckpoint opens a model directory until the test ends.
func openCheckpoint(t *testing.T, dir string) *checkpoint.Checkpoint {
	t.Helper()
	files, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	return files
}

// loaded is a plan on the CPU backend.
type loaded struct {
	*host.Program
	plan *plan.Plan
}

// load compiles a description for a checkpoint, with the settings of
// o.Env.Set, and loads its weights.
func load(t *testing.T, file string, files *checkpoint.Checkpoint, o Options) loaded {
	t.Helper()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o.Env = Bind(files, o.Env.Set)
	r, err := Compile(file, src, o)
	if err != nil {
		t.Fatal(err)
	}
	program, err := host.Load(context.Background(), r.Plan, weights.Checkpoint{Tensors: files}, host.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return loaded{program, r.Plan}
}

// logits runs prompts together and returns the logits of every position.
func (l loaded) logits(t *testing.T, prompts [][]int) [][]float32 {
	t.Helper()
	rows, err := generate.Logits(context.Background(), l.Program, l.plan, prompts)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// greedy continues prompts together, each by the token of the largest logit.
func (l loaded) greedy(t *testing.T, prompts [][]int, n int) [][]int {
	t.Helper()
	requests := make([]generate.Request, len(prompts))
	for i, p := range prompts {
		requests[i] = generate.Request{Prompt: p, MaxTokens: n}
	}
	out := make([][]int, len(prompts))
	_, err := generate.New(l.Program, l.plan).Run(context.Background(), requests, func(e generate.Event) {
		if e.Token >= 0 {
			out[e.Sequence] = append(out[e.Sequence], e.Token)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
