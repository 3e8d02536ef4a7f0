// Command gpucheck runs the example model and the tiny checkpoints from the
// same plan files on the CPU and on GPUs, and prints how far apart the logits
// are.
//
// It needs a binary with CUDA support (make build-gpucheck), a GPU and nvcc,
// and no Go: run it in the root of the repository. Plans with two devices run
// on two logical devices of one GPU.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"moec/compiler"
	"moec/ir"
	"moec/ir/placement"
	"moec/passes"
	"moec/planner/plan"
	"moec/runtime"
	"moec/runtime/checkpoint"
	"moec/runtime/cuda/driver"
	"moec/runtime/generate"
	"moec/runtime/sample"
	"moec/runtime/weights"
)

func main() {
	only := flag.String("only", "", "only checkpoints whose name has this in it")
	commit := flag.String("commit", "unknown", "the commit that the binary was built from, for the report")
	flag.Parse()
	d, err := driver.Open()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpucheck:", err)
		os.Exit(1)
	}
	fmt.Printf("%s, commit %s, %s\n\n", time.Now().UTC().Format("2006-01-02"), *commit, d.Devices()[0].Name)
	fmt.Printf("%-20s %-6s %-6s %9s %9s %9s %9s %8s %7s  %s\n", "checkpoint", "type", "plan", "positions", "max error", "RMS error", "mean KL", "top-1", "load s", "two devices, and in company")
	failed := false
	if strings.Contains("choose", *only) {
		if err := errors.Join(checkChoose(d), checkAhead("bf16")); err != nil {
			fmt.Printf("%-20s %v\n", "choose", err)
			failed = true
		}
	}
	for _, act := range []string{"bf16", "f16"} {
		if !strings.Contains("decoder", *only) {
			break
		}
		if err := checkDecoder(act); err != nil {
			fmt.Printf("%-20s %v\n", "decoder", err)
			failed = true
		}
	}
	for _, c := range cases() {
		if !strings.Contains(c.name, *only) {
			continue
		}
		if err := c.run(); err != nil {
			fmt.Printf("%-20s %v\n", c.name, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// testCase is a checkpoint with prompts.
type testCase struct {
	name, dir string
	prompts   [][]int
	limits    plan.Limits
}

// cases are the example model on its recorded text, and every tiny checkpoint
// on its recorded prompts.
func cases() []testCase {
	text, err := recordedText("testdata/example/golden.safetensors")
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpucheck:", err)
	}
	list := []testCase{{"example", "examples/tiny-mixtral", text, plan.Limits{Tokens: 256, Rows: 256, Sequences: 8, Context: 256, Page: 16}}}
	goldens, _ := filepath.Glob("testdata/families/*/golden.json")
	for _, path := range goldens {
		var meta struct {
			Prompts []struct{ IDs []int }
		}
		text, err := os.ReadFile(path)
		if err != nil || json.Unmarshal(text, &meta) != nil {
			continue
		}
		c := testCase{name: filepath.Base(filepath.Dir(path)), dir: filepath.Dir(path), limits: plan.Limits{Tokens: 40, Rows: 40, Sequences: 2, Context: 64, Page: 8}}
		for _, p := range meta.Prompts {
			c.prompts = append(c.prompts, p.IDs)
		}
		list = append(list, c)
	}
	return list
}

// recordedText reads the windows of validation text that the example's
// reference run has: i32 ids [windows, length].
func recordedText(path string) ([][]int, error) {
	f, err := checkpoint.OpenFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, ok := f.Tensor("ids")
	if !ok || len(info.Shape) != 2 || info.DType != "I32" {
		return nil, fmt.Errorf("%s has no ids", path)
	}
	raw := make([]byte, info.Bytes())
	if err := f.ReadAt("ids", raw, 0); err != nil {
		return nil, err
	}
	list := make([][]int, info.Shape[0])
	for w := range list {
		for i := range int(info.Shape[1]) {
			list[w] = append(list[w], int(binary.LittleEndian.Uint32(raw[4*(w*int(info.Shape[1])+i):])))
		}
	}
	return list, nil
}

// run compares one checkpoint: one device, then two logical devices.
func (c *testCase) run() error {
	files, err := checkpoint.Open(c.dir)
	if err != nil {
		return err
	}
	defer files.Close()
	dir, err := os.MkdirTemp("", "gpucheck")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var first [][]float32
	for _, s := range []struct {
		name    string
		devices int
	}{{"tp1", 1}, {"tp2", 2}, {"ep2", 2}} {
		p, err := c.plan(files, filepath.Join(dir, s.name), s.name, s.devices)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		src := weights.Checkpoint{Tensors: files}
		want, _, err := logits("cpu", p, src, c.prompts)
		if err != nil {
			return fmt.Errorf("%s on the CPU: %w", s.name, err)
		}
		got, took, err := logits("cuda", p, src, c.prompts)
		if err != nil {
			return fmt.Errorf("%s on the GPU: %w", s.name, err)
		}
		note := ""
		if first == nil {
			first = got
			alone, _, err := logits("cuda", p, src, c.prompts[len(c.prompts)-1:])
			if err != nil {
				return err
			}
			note = "alone: " + sameBits(alone, got[len(got)-1:])
		} else {
			note = "against one device: " + sameBits(got, first)
		}
		c.print(p, s.name, compare(got, want, p.Model.Vocab), took, note)
	}
	return nil
}

// plan compiles the description of the checkpoint, writes the plan and reads
// it back.
func (c *testCase) plan(files *checkpoint.Checkpoint, path, strategy string, devices int) (*plan.Plan, error) {
	kind, _ := files.Config().Lookup("model_type")
	name, _ := kind.Text()
	description := filepath.Join("examples", name+".moe")
	src, err := os.ReadFile(description)
	if err != nil {
		return nil, err
	}
	r, err := compiler.Compile(description, src, compiler.Options{Env: compiler.Bind(files, nil), Limits: c.limits,
		Place: func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, strategy, devices) }})
	if err != nil {
		return nil, err
	}
	if err := plan.Write(path, r.Plan); err != nil {
		return nil, err
	}
	p, err := plan.Read(path)
	if err != nil {
		return nil, err
	}
	return p, plan.Verify(p)
}

// logits runs prompts on a backend.
func logits(backend string, p *plan.Plan, src weights.Source, prompts [][]int) ([][]float32, time.Duration, error) {
	ctx := context.Background()
	b, err := runtime.Lookup(backend)
	if err != nil {
		return nil, 0, err
	}
	begin := time.Now()
	program, err := b.Load(ctx, p, src, runtime.Options{Oversubscribe: true, Poison: true})
	if err != nil {
		return nil, 0, err
	}
	defer program.Close()
	took := time.Since(begin)
	rows, err := generate.Logits(ctx, program, p, prompts)
	return rows, took, err
}

// difference says how far the logits of two runs are apart.
type difference struct {
	positions, same int
	largest         float64
	squares, kl     float64   // sums
	divergences     []float64 // of each position
}

func compare(got, want [][]float32, vocab int) difference {
	var d difference
	for i := range want {
		for at := 0; at+vocab <= len(want[i]); at += vocab {
			g, w := got[i][at:at+vocab], want[i][at:at+vocab]
			d.positions++
			if sample.Greedy(g) == sample.Greedy(w) {
				d.same++
			}
			for j := range w {
				e := math.Abs(float64(g[j]) - float64(w[j]))
				if e > d.largest || e != e {
					d.largest = e
				}
				d.squares += e * e
			}
			d.divergences = append(d.divergences, divergence(w, g))
			d.kl += d.divergences[len(d.divergences)-1]
		}
	}
	return d
}

// divergence returns KL(w || g) of the distributions that logits stand for.
func divergence(w, g []float32) float64 {
	lw, lg := logSum(w), logSum(g)
	var kl float64
	for i := range w {
		p := float64(w[i]) - lw
		kl += math.Exp(p) * (p - (float64(g[i]) - lg))
	}
	return kl
}

func logSum(x []float32) float64 {
	top := float64(x[sample.Greedy(x)])
	var sum float64
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}

func sameBits(a, b [][]float32) string {
	different := 0
	for i := range b {
		if len(a[i]) != len(b[i]) {
			return "other shapes"
		}
		for j := range b[i] {
			if math.Float32bits(a[i][j]) != math.Float32bits(b[i][j]) {
				different++
			}
		}
	}
	if different == 0 {
		return "same bits"
	}
	return fmt.Sprintf("%d logits DIFFER", different)
}

func (c *testCase) print(p *plan.Plan, name string, d difference, took time.Duration, note string) {
	act := p.Weights[0].DType.String()
	fmt.Printf("%-20s %-6s %-6s %9d %9.2g %9.2g %9.2g %7.2f%% %7.1f  %s\n", c.name, act, name, d.positions, d.largest, math.Sqrt(d.squares/float64(d.positions*p.Model.Vocab)), d.kl/float64(d.positions), 100*float64(d.same)/float64(d.positions), took.Seconds(), note)
}
