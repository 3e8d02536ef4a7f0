package compiler

import (
	"encoding/binary"
	"flag"
	"math"
	"slices"
	"testing"

	"moec/planner/plan"
	"moec/runtime/checkpoint"
	"moec/runtime/sample"
	"moec/runtime/tokenizer"
)

const (
	exampleDir    = "../examples/tiny-mixtral"
	exampleGolden = "../testdata/example/golden"
)

var windows = flag.Int("windows", 8, "windows of the example's reference run to compare, at most 8")

// exampleRun is golden.json of the example.
type exampleRun struct {
	Length    int
	Encodings []struct {
		Text    string
		IDs     []int
		Special []int `json:"ids_special"`
		Decoded string
	}
	Greedy []struct {
		PromptIDs []int `json:"prompt_ids"`
		Tokens    []int
		Text      string
	}
}

func readExample(t *testing.T) exampleRun {
	t.Helper()
	var run exampleRun
	readJSON(t, exampleGolden+".json", &run)
	if run.Length == 0 || len(run.Encodings) == 0 || len(run.Greedy) == 0 {
		t.Fatal("golden.json lacks something")
	}
	return run
}

// loadExample compiles the example for four devices, as "make run" does.
func loadExample(t *testing.T, set map[string]string) (loaded, *checkpoint.Checkpoint) {
	t.Helper()
	files := openCheckpoint(t, exampleDir)
	o := Options{Place: named("ep", 4), Limits: plan.Limits{Tokens: 256, Rows: 256, Sequences: 8, Context: 256, Page: 16}}
	o.Env.Set = set
	return load(t, "../examples/mixtral.moe", files, o), files
}

// TestExampleInBF16 compares the trained example, computed in bf16, with its
// float32 run in transformers.
func TestExampleInBF16(t *testing.T) {
	run := readExample(t)
	program, files := loadExample(t, nil)
	r := newReference(t, files)
	ids := r.ints("ids")
	var prompts [][]int
	for w := range min(*windows, len(ids)/run.Length) {
		prompts = append(prompts, ids[w*run.Length:(w+1)*run.Length])
	}
	var kl, worst float64
	same, positions := 0, 0
	for w, logits := range program.logits(t, prompts) {
		for i := range run.Length {
			row := logits[i*r.vocab : (i+1)*r.vocab]
			d := r.divergence(w*run.Length+i, row)
			kl, worst = kl+d, max(worst, d)
			if sample.Greedy(row) == r.top[w*run.Length+i] {
				same++
			}
			positions++
		}
	}
	mean, agreement := kl/float64(positions), float64(same)/float64(positions)
	t.Logf("%d positions: KL(reference || moec) mean %.3g, largest %.3g nats; top-1 agreement %.2f %%", positions, mean, worst, 100*agreement)
	if !(mean <= 1e-4) {
		t.Errorf("mean KL is %g, want at most 1e-4", mean)
	}
	if agreement < 0.995 {
		t.Errorf("the likeliest token agrees at %.2f %% of the positions, want at least 99.5 %%", 100*agreement)
	}
}

// reference is the recorded run: hidden states after the final norm, from
// which logits follow.
type reference struct {
	golden
	vocab, width   int
	head           []float64 // [vocab, width]
	hidden, logSum []float32
	top            []int
	row            []float64
}

func newReference(t *testing.T, files *checkpoint.Checkpoint) *reference {
	t.Helper()
	r := &reference{golden: openGolden(t, exampleGolden+".safetensors")}
	info, _ := files.Tensor("lm_head.weight")
	if info.DType != "BF16" {
		t.Fatalf("lm_head.weight is %q", info.DType)
	}
	raw := make([]byte, info.Bytes())
	if err := files.ReadAt(info.Name, raw, 0); err != nil {
		t.Fatal(err)
	}
	r.vocab, r.width = int(info.Shape[0]), int(info.Shape[1])
	r.head = make([]float64, r.vocab*r.width)
	for i := range r.head {
		r.head[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16))
	}
	r.hidden, r.logSum, r.top = r.floats("hidden"), r.floats("log_sum_exp"), r.ints("top1")
	r.row = make([]float64, r.vocab)
	r.check()
	return r
}

// logits returns the reference's logits of a position, until the next call.
func (r *reference) logits(position int) []float64 {
	x := r.hidden[position*r.width : (position+1)*r.width]
	for v := range r.row {
		w, sum := r.head[v*r.width:(v+1)*r.width], 0.0
		for i, h := range x {
			sum += float64(h) * w[i]
		}
		r.row[v] = sum
	}
	return r.row
}

// check compares some logits with those that were recorded.
func (r *reference) check() {
	r.Helper()
	want := r.floats("check.logits")
	for i, position := range r.ints("check.rows") {
		for v, got := range r.logits(position) {
			if math.Abs(got-float64(want[i*r.vocab+v])) > 1e-4 {
				r.Fatalf("position %d: logit %d of the reference is %g, recorded %g", position, v, got, want[i*r.vocab+v])
			}
		}
	}
}

// divergence returns KL(reference || other) at a position, in nats.
func (r *reference) divergence(position int, other []float32) float64 {
	sum := 0.0
	for _, v := range other {
		sum += math.Exp(float64(v))
	}
	log, kl := math.Log(sum), 0.0
	for v, x := range r.logits(position) {
		p := x - float64(r.logSum[position])
		kl += math.Exp(p) * (p - (float64(other[v]) - log))
	}
	return kl
}

// TestExampleContinues continues the recorded prompts greedily. In f32 the
// tokens are those of transformers. In bf16 a token may lose to another by
// what rounding can do.
func TestExampleContinues(t *testing.T) {
	run := readExample(t)
	var prompts, all [][]int
	for _, g := range run.Greedy {
		prompts = append(prompts, g.PromptIDs)
		all = append(all, slices.Concat(g.PromptIDs, g.Tokens))
	}
	program, _ := loadExample(t, map[string]string{"act": "f32"})
	for i, got := range program.greedy(t, prompts, len(run.Greedy[0].Tokens)) {
		if want := run.Greedy[i].Tokens; !slices.Equal(got, want) {
			t.Errorf("f32: prompt %d goes on with %v, want %v", i, got, want)
		}
	}
	program, _ = loadExample(t, nil)
	near := 0
	for i, logits := range program.logits(t, all) {
		vocab := len(logits) / len(all[i])
		for at, want := range run.Greedy[i].Tokens {
			row := logits[(len(prompts[i])+at-1)*vocab:][:vocab]
			best := sample.Greedy(row)
			if best == want {
				continue
			}
			near++
			if lead := row[best] - row[want]; lead > 0.1 {
				t.Errorf("bf16: prompt %d, token %d: %d leads %d by %g", i, at, best, want, lead)
			}
		}
	}
	t.Logf("f32: all tokens equal; bf16: %d near ties chosen otherwise", near)
}

// TestExampleTokenizer compares encodings and decodings with the tokenizers
// library.
func TestExampleTokenizer(t *testing.T) {
	run := readExample(t)
	tok, err := tokenizer.Load(exampleDir + "/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range run.Encodings {
		for _, c := range []struct {
			special bool
			want    []int
		}{{false, e.IDs}, {true, e.Special}} {
			if got, err := tok.Encode(e.Text, c.special); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, special %t: %v, %v, want %v", e.Text, c.special, got, err, c.want)
			}
		}
		if got := tok.Decode(e.IDs, false); got != e.Decoded {
			t.Errorf("%v decodes to %q, want %q", e.IDs, got, e.Decoded)
		}
	}
	for _, g := range run.Greedy {
		if got := tok.Decode(g.Tokens, true); got != g.Text {
			t.Errorf("%v decodes to %q, want %q", g.Tokens, got, g.Text)
		}
	}
}
