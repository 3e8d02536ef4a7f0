package eval

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"moec/ir"
)

func load(t testing.TB, file string) *ir.Graph {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	g, err := ir.Parse(file, string(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := ir.Verify(g); err != nil {
		t.Fatal(err)
	}
	return g
}

func run(t testing.TB, p *Program, state *State, step *Step) map[Output]Value {
	t.Helper()
	out, err := p.Run(step, state)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func program(t testing.TB, file string) *Program {
	t.Helper()
	g := load(t, file)
	p, err := Load(g, RandomWeights(g, 5))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var logits = Output{Name: "logits"}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// TestBatchingKeepsBits runs a sequence as one prompt, token by token, in
// pieces, and together with another sequence: its logits are the same bits.
func TestBatchingKeepsBits(t *testing.T) {
	for _, file := range []string{"../testdata/logical.ir", "testdata/twin.ir"} {
		p := program(t, file)
		prompt := []int32{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8}
		other := []int32{2, 7, 1, 8, 2, 8}
		want := run(t, p, NewState(), &Step{Spans: []Span{{Sequence: 1, Tokens: prompt}}})[logits]
		width := want.last()
		if want.rows() != len(prompt) || slices.ContainsFunc(want.F, func(x float32) bool { return x != x }) {
			t.Fatalf("%s: logits %s %v", file, want.Type, want.F)
		}
		if sameBits(want.row(0), want.row(9)) {
			t.Fatalf("%s: logits do not depend on tokens", file)
		}

		state := NewState()
		for i, token := range prompt {
			got := run(t, p, state, &Step{Spans: []Span{{Sequence: 8, First: i, Tokens: []int32{token}}}})[logits]
			if !sameBits(got.F, want.row(i)) {
				t.Fatalf("%s: token %d alone gives %v, want %v", file, i, got.F, want.row(i))
			}
		}

		state = NewState()
		run(t, p, state, &Step{Spans: []Span{{Sequence: 2, Tokens: other[:3], Skip: 3}, {Sequence: 0, Tokens: prompt[:5], Skip: 5}}})
		got := run(t, p, state, &Step{Spans: []Span{{Sequence: 0, First: 5, Tokens: prompt[5:], Skip: 2}, {Sequence: 2, First: 3, Tokens: other[3:], Skip: 3}}})[logits]
		if !sameBits(got.F, want.F[7*width:]) {
			t.Errorf("%s: with another sequence the bits differ", file)
		}
		state.Drop(0)
		got = run(t, p, state, &Step{Spans: []Span{{Sequence: 0, Tokens: prompt}}})[logits]
		if !sameBits(got.F, want.F) {
			t.Errorf("%s: a dropped sequence leaves something behind", file)
		}
	}
}

// TestPlacedKeepsBits compares a placed graph, with token groups, experts
// spread and doubled, and a contraction split, with its logical twin.
func TestPlacedKeepsBits(t *testing.T) {
	placed, twin := program(t, "../testdata/placed.ir"), program(t, "testdata/twin.ir")
	placedState, twinState := NewState(), NewState()
	for _, step := range []*Step{
		{Groups: 2, Spans: []Span{{Sequence: 1, Tokens: []int32{1, 2, 3, 4, 5}, Group: 1}, {Sequence: 0, Tokens: []int32{6, 7, 8}, Skip: 2}, {Sequence: 2, Tokens: []int32{9, 10}, Group: 0}}},
		{Groups: 2, Spans: []Span{{Sequence: 0, First: 3, Tokens: []int32{5}}, {Sequence: 1, First: 5, Tokens: []int32{0, 1, 2}, Group: 1, Skip: 1}}},
		{Groups: 2, Spans: []Span{{Sequence: 1, First: 8, Tokens: []int32{3}, Group: 1}}}, // nothing for group 0
	} {
		want := run(t, twin, twinState, step)[logits]
		out := run(t, placed, placedState, step)
		got := append(slices.Clone(out[logits].F), out[Output{"logits", 1}].F...)
		if !sameBits(got, want.F) {
			t.Fatalf("placed graph gives %v, want %v", got, want.F)
		}
		if slices.ContainsFunc(got, func(x float32) bool { return x != x }) {
			t.Fatalf("an undefined row was read: %v", got)
		}
	}
}

func TestInputs(t *testing.T) {
	for _, c := range []struct {
		name  string
		group int
		want  []int32
	}{
		{"tokens", -1, []int32{31, 32, 21}}, {"tokens", 0, []int32{31, 32}}, {"tokens", 1, []int32{21}},
		{"positions", -1, []int32{0, 1, 7}}, {"positions", 1, []int32{7}},
		{"sequences", -1, []int32{9, 9, 4}},
		{"rows", -1, []int32{1, 2}}, {"rows", 0, []int32{1}}, {"rows", 1, []int32{0}},
	} {
		if got := testStep.List(c.name, c.group); !slices.Equal(got, c.want) {
			t.Errorf("%s of group %d = %v, want %v", c.name, c.group, got, c.want)
		}
	}
	for sym, want := range map[string]int{"T": 3, "T.0": 2, "T.1": 1, "S": 2, "S.0": 1, "S.1": 1, "C": 0} {
		if got := testStep.Bound(symbol(sym)); got != want {
			t.Errorf("%s = %d, want %d", sym, got, want)
		}
	}
}

func TestWeights(t *testing.T) {
	all := Arrays{"w": {[]int{3, 2, 2}, []float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}}}
	for _, c := range []struct {
		slice   [][]int
		experts []int
		want    []float32
	}{
		{nil, nil, all["w"].Data},
		{[][]int{{1, 3}, {0, 1}, {0, 2}}, nil, []float32{4, 5, 8, 9}},
		{nil, []int{2, 0}, []float32{8, 9, 10, 11, 0, 1, 2, 3}},
		{[][]int{{0, 3}, {0, 2}, {1, 2}}, []int{1}, []float32{5, 7}},
	} {
		got, err := all.Weight("w", c.slice, c.experts)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("slice %v experts %v = %v, %v, want %v", c.slice, c.experts, got, err, c.want)
		}
	}
	g := load(t, "../testdata/placed.ir")
	a, b, c := RandomWeights(g, 1), RandomWeights(g, 1), RandomWeights(g, 2)
	for name := range a {
		if !slices.Equal(a[name].Data, b[name].Data) || slices.Equal(a[name].Data, c[name].Data) {
			t.Errorf("random weight %q does not depend on the seed alone", name)
		}
	}
	for _, broken := range []struct {
		change func(Arrays)
		want   string
	}{
		{func(w Arrays) { delete(w, "embed") }, `weight "embed" is not given`},
		{func(w Arrays) { w["embed"].Data[3] = 0.1 }, `weight "embed" has elements that are not bf16`},
		{func(w Arrays) { w["embed"] = Array{[]int{2, 8}, make([]float32, 16)} }, `weight "embed" has 16 elements, bf16[11,8] needs 88`},
	} {
		w := RandomWeights(g, 1)
		broken.change(w)
		if _, err := Load(g, w); err == nil || !strings.Contains(err.Error(), broken.want) {
			t.Errorf("Load = %v, want %q", err, broken.want)
		}
	}
}

func TestStepErrors(t *testing.T) {
	p := program(t, "../testdata/logical.ir")
	placed := program(t, "../testdata/placed.ir")
	one := []int32{1}
	for _, c := range []struct {
		p    *Program
		step Step
		want string
	}{
		{p, Step{Spans: []Span{{First: 3, Tokens: one}}}, "%19 kv_append: sequence 0: position 3 does not follow the 0 that are stored"},
		{p, Step{Spans: []Span{{Tokens: []int32{11}}}}, "%5 embed: entry 0 is row 11 of 11"},
		{p, Step{Spans: []Span{{Tokens: one, Group: 1}}}, "span 0 is for token group 1 of 0"},
		{p, Step{Spans: []Span{{Tokens: one, Skip: 2}}}, "skips the logits of 2 tokens of 1"},
		{p, Step{Spans: []Span{{First: -1, Tokens: one}}}, "starts at position -1"},
		{placed, Step{Spans: []Span{{Tokens: one}}}, "step has 0 token groups, the graph 2"},
	} {
		if _, err := c.p.Run(&c.step, NewState()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Run(%+v) = %v, want %q", c.step, err, c.want)
		}
	}
}

// TestFused compares a fused op with the operations of its body.
func TestFused(t *testing.T) {
	g := load(t, "../testdata/logical.ir")
	text := ir.Print(g)
	at := strings.Index(text, "  %37 = fused")
	plain, err := ir.Parse("plain", text[:at]+`
  %40 = rms_norm(%36) {eps=1e-05} : f32[S,8]
  %37 = matmul(%40, %4) : f32[S,11]
  output "logits" = %37
}`)
	if err != nil {
		t.Fatal(err)
	}
	step := &Step{Spans: []Span{{Tokens: []int32{1, 2, 3}}}}
	weights := RandomWeights(g, 3)
	want, err := Run(plain, step, weights, NewState())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Run(g, step, weights, NewState())
	if err != nil || !sameBits(got[logits].F, want[logits].F) {
		t.Errorf("fused gives %v, %v, want %v", got[logits].F, err, want[logits].F)
	}
	if err := Apply("param", &Call{Env: Env{Step: step}}); err == nil {
		t.Error("a param outside a body was evaluated")
	}
}

func TestObserve(t *testing.T) {
	p := program(t, "../testdata/logical.ir")
	seen := map[string]bool{}
	p.Observe = func(n *ir.Node, v Value) {
		if n.Name != "" {
			seen[n.Name] = true
		}
		if n.Name == "q" && !slices.Equal([]int{v.rows(), v.last()}, []int{2, 8}) {
			t.Errorf("q is %s", v.Type)
		}
	}
	run(t, p, NewState(), &Step{Spans: []Span{{Tokens: []int32{1, 2}}}})
	if !seen["q"] || !seen["x"] {
		t.Errorf("observed %v", seen)
	}
}
