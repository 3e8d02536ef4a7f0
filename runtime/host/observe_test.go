package host_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"moec/compiler"
	"moec/ir"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/passes"
	"moec/planner/plan"
	"moec/runtime/checkpoint"
	"moec/runtime/generate"
	"moec/runtime/host"
	"moec/runtime/step"
	"moec/runtime/weights"
)

// seen is what a run chose: for each token id and position of a sequence, the
// experts of all layers.
type seen struct {
	choices []host.Choice
	tokens  map[string][]int32
	trace   []byte
	sample  [][]int32 // in the order in which tokens came
}

// observe compiles a description for some devices and runs prompts.
func observe(t *testing.T, file, dir, strategy string, devices int, prompts [][]int) seen {
	t.Helper()
	files, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	o := compiler.Options{Env: compiler.Bind(files, nil), Limits: plan.Limits{Tokens: 256, Rows: 256, Sequences: 4, Context: 256, Page: 8}}
	o.Place = func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, strategy, devices) }
	r, err := compiler.Compile(file, src, o)
	if err != nil {
		t.Fatal(err)
	}
	program, err := host.Load(context.Background(), r.Plan, weights.Checkpoint{Tensors: files}, host.Options{Poison: true})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	return run(t, program, r.Plan, prompts)
}

// run runs the prompts and looks at every choice.
func run(t *testing.T, program *host.Program, p *plan.Plan, prompts [][]int) seen {
	t.Helper()
	s := seen{tokens: make(map[string][]int32)}
	var recorder *routing.Recorder
	choices, err := program.Observe(func(now *step.Step, chosen [][]int32) {
		var ids []int32
		for g := range now.Groups {
			for i, id := range now.Groups[g].Tokens {
				var all []int32
				for l, c := range s.choices {
					all = append(all, chosen[l][(len(ids)+i)*c.Slots:][:c.Slots]...)
				}
				s.tokens[fmt.Sprint(now.Groups[g].Positions[i], id)] = all
				s.sample = append(s.sample, all)
			}
			ids = append(ids, now.Groups[g].Tokens...)
		}
		if err := recorder.Add(ids, chosen); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s.choices = choices
	var shapes []routing.Shape
	for _, c := range choices {
		shapes = append(shapes, routing.Shape{Experts: c.Experts, Slots: c.Slots})
	}
	if recorder, err = routing.NewRecorder(shapes); err != nil {
		t.Fatal(err)
	}
	if _, err := generate.Logits(context.Background(), program, p, prompts); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := recorder.Write(&b); err != nil {
		t.Fatal(err)
	}
	s.trace = b.Bytes()
	stats, err := routing.ParseTrace("trace", s.trace, shapes)
	if err != nil {
		t.Fatal(err)
	}
	for l := range stats.Layers {
		var sum int64
		for _, n := range stats.Layers[l].Weight {
			sum += n
		}
		if want := int64(len(s.sample) * choices[l].Slots); sum != want {
			t.Errorf("layer %d: %d slots counted, want %d", l, sum, want)
		}
	}
	return s
}

// TestObserveFamilies looks at models of all kinds: with layers without
// experts, with shared experts, with groups of experts. The experts chosen do
// not depend on the placement.
func TestObserveFamilies(t *testing.T) {
	for _, c := range []struct {
		family, description string
		want                []host.Choice
	}{
		{"mixtral", "mixtral", []host.Choice{{Experts: 8, Slots: 2}, {Experts: 8, Slots: 2}}},
		{"deepseek_v3", "deepseek_v3", []host.Choice{{}, {Experts: 12, Slots: 3}, {Experts: 12, Slots: 3}}},
		{"gpt_oss", "gpt_oss", []host.Choice{{Experts: 5, Slots: 2}, {Experts: 5, Slots: 2}, {Experts: 5, Slots: 2}}},
		{"qwen2_moe_step", "qwen2_moe", []host.Choice{{}, {Experts: 7, Slots: 2}, {}, {Experts: 7, Slots: 2}}},
		{"olmoe", "olmoe", []host.Choice{{Experts: 12, Slots: 4}, {Experts: 12, Slots: 4}}},
	} {
		var meta struct {
			Prompts []struct{ IDs []int }
		}
		dir := "../../testdata/families/" + c.family
		text, err := os.ReadFile(filepath.Join(dir, "golden.json"))
		if err == nil {
			err = json.Unmarshal(text, &meta)
		}
		if err != nil {
			t.Fatal(err)
		}
		var prompts [][]int
		for _, p := range meta.Prompts {
			prompts = append(prompts, p.IDs)
		}
		file := "../../examples/" + c.description + ".moe"
		one := observe(t, file, dir, "tp", 1, prompts)
		if !slices.Equal(one.choices, c.want) {
			t.Errorf("%s: layers choose %v, want %v", c.family, one.choices, c.want)
		}
		for token, list := range one.tokens {
			if slices.Contains(list, -1) {
				t.Errorf("%s: token %s has no choice in a layer: %v", c.family, token, list)
			}
		}
		for _, strategy := range []string{"tp", "ep", "dp", "pp", "adp"} {
			if two := observe(t, file, dir, strategy, 2, prompts); fmt.Sprint(two.tokens) != fmt.Sprint(one.tokens) {
				t.Errorf("%s: %s2 chooses other experts than one device", c.family, strategy)
			}
		}
	}
}

// TestObserveExample runs the tokens of the example's trace: it was recorded
// by transformers, in float32, and hardly differs.
func TestObserveExample(t *testing.T) {
	const dir = "../../examples/tiny-mixtral"
	var file struct {
		Sample []struct {
			ID      int
			Experts [][]int32
		}
	}
	text, err := os.ReadFile(dir + "/routing.json")
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil {
		t.Fatal(err)
	}
	var prompt []int
	for _, s := range file.Sample {
		prompt = append(prompt, s.ID)
	}
	have := observe(t, "../../examples/mixtral.moe", dir, "ep", 4, [][]int{prompt})
	if len(have.sample) != len(file.Sample) {
		t.Fatalf("%d tokens, want %d", len(have.sample), len(file.Sample))
	}
	same := 0
	for i, s := range file.Sample {
		for l := range s.Experts {
			if slices.Equal(have.sample[i][2*l:2*l+2], s.Experts[l]) {
				same++
			}
		}
	}
	share := float64(same) / float64(4*len(file.Sample))
	t.Logf("%d tokens in 4 layers: the same experts in the same order in %.2f %%", len(file.Sample), 100*share)
	if share < 0.97 {
		t.Errorf("the same experts in only %.2f %%", 100*share)
	}
	shapes := slices.Repeat([]routing.Shape{{Experts: 8, Slots: 2}}, 4)
	ours, err := routing.ParseTrace("trace", have.trace, shapes)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := routing.Parse(dir+"/routing.json", shapes)
	if err != nil {
		t.Fatal(err)
	}
	for l := range ours.Layers {
		a, b := ours.Layers[l], theirs.Layers[l]
		if a.Shape != b.Shape || (a.Next == nil) != (b.Next == nil) || len(a.Pairs) != len(b.Pairs) || len(ours.Sample()[l]) != len(theirs.Sample()[l]) {
			t.Errorf("layer %d: other tables than the example's", l)
		}
	}
}
