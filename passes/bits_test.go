package passes

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"moec/ir"
	"moec/ir/eval"
	"moec/ir/tensor"
)

// results runs two steps, a prompt of two sequences and then a token of each,
// and returns every output in order. Tokens stay below 5, the smallest
// vocabulary of the test graphs.
func results(t *testing.T, name string, g *ir.Graph) []eval.Value {
	t.Helper()
	p, err := eval.Load(g, eval.RandomWeights(g, 7))
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, ir.Print(g))
	}
	state := eval.NewState()
	var list []eval.Value
	for _, spans := range [][]eval.Span{
		{{Sequence: 4, Tokens: []int32{1, 3, 0, 4, 2, 2, 1}, Skip: 2}, {Sequence: 9, Tokens: []int32{2, 0, 3}, Skip: 2}},
		{{Sequence: 9, First: 3, Tokens: []int32{4}}, {Sequence: 4, First: 7, Tokens: []int32{1}}},
	} {
		for i := range spans { // sequences 4 and 9 are of different token groups if there are two
			spans[i].Group = int(spans[i].Sequence) % g.Groups
		}
		out, err := p.Run(&eval.Step{Groups: g.Groups, Spans: spans}, state)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, ir.Print(g))
		}
		for _, o := range g.Outputs {
			list = append(list, out[eval.Output{Name: o.Name, Group: o.Group}])
		}
	}
	return list
}

// distance returns the largest difference of two runs' results, 0 only if all
// bits agree, and infinity if the results cannot be compared.
func distance(a, b []eval.Value) float64 {
	far := 0.0
	for i := range a {
		if !a[i].Type.Equal(b[i].Type) || !slices.Equal(a[i].I, b[i].I) {
			return math.Inf(1)
		}
		for j, x := range a[i].F {
			if y := b[i].F[j]; math.Float32bits(x) != math.Float32bits(y) {
				d := math.Abs(float64(x) - float64(y))
				if math.IsNaN(d) {
					return math.Inf(1)
				}
				far = max(far, d, math.SmallestNonzeroFloat64)
			}
		}
	}
	return far
}

// allowed is how far a pass may move results: not by a bit, except for
// segment, which decides the order of sums in the first place.
func allowed(pass string) float64 {
	if pass == "segment" {
		return 1e-2 // of values around 1, in bf16 that has steps of 2^-8
	}
	return 0
}

// sameResults checks that a pass did not change what a graph means.
func sameResults(t *testing.T, name, pass string, before, after *ir.Graph) {
	t.Helper()
	if d := distance(results(t, name, before), results(t, name, after)); d > allowed(pass) {
		t.Errorf("%s: pass %q moves results by %g\n%s", name, pass, d, ir.Print(after))
	}
}

// TestPassesKeepBits runs all passes on every kind of layer, in graph order
// and in others, and compares after each.
func TestPassesKeepBits(t *testing.T) {
	for _, c := range regionCases {
		for seed := range uint64(3) {
			g := oneLayer(t, c.act, c.build)
			keepsBits(t, fmt.Sprintf("%s, seed %d", c.name, seed), g, &Context{Shuffle: seed})
		}
	}
	for _, act := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		keepsBits(t, "mixtral "+act.String(), mixtral(t, act, small), &Context{})
	}
}

func keepsBits(t *testing.T, name string, g *ir.Graph, ctx *Context) {
	t.Helper()
	before := results(t, name, g)
	if len(before[0].F) == 0 || slices.Min(before[0].F) == slices.Max(before[0].F) {
		t.Fatalf("%s: results are all the same", name)
	}
	for i, p := range logical() {
		if err := ctx.step(p, g, uint64(i)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		after := results(t, name, g)
		if d := distance(before, after); d > allowed(p.Name) {
			t.Fatalf("%s: pass %q moves results by %g", name, p.Name, d)
		}
		before = after
	}
}

// TestPlacedGraphKeepsBits runs the passes after place on a graph of two
// devices and two token groups.
func TestPlacedGraphKeepsBits(t *testing.T) {
	text, err := os.ReadFile("../ir/testdata/placed.ir")
	if err != nil {
		t.Fatal(err)
	}
	g := parse(t, "placed.ir", string(text))
	before := results(t, "placed", g)
	at := slices.IndexFunc(Pipeline[:], func(p Pass) bool { return p.Name == "place" })
	for i, p := range Pipeline[at+1:] {
		if err := (&Context{}).step(p, g, uint64(i)); err != nil {
			t.Fatal(err)
		}
		if d := distance(before, results(t, "placed", g)); d > 0 {
			t.Errorf("pass %q moves results by %g", p.Name, d)
		}
	}
}

// TestDistanceSees makes sure that the comparison notices small changes.
func TestDistanceSees(t *testing.T) {
	g := mixtral(t, tensor.F32, small)
	before := results(t, "before", g)
	for _, n := range g.Nodes {
		if n.Op.Name == "rms_norm" {
			n.Attrs = n.Attrs.With("eps", 1.1e-5)
			break
		}
	}
	if distance(before, results(t, "after", g)) == 0 {
		t.Error("another eps gives the same bits")
	}
}

// TestAnyPassMayBeOff leaves out random optional passes; results stay.
func TestAnyPassMayBeOff(t *testing.T) {
	var want []eval.Value
	r := rand.New(rand.NewPCG(3, 5))
	for i := range 12 {
		ctx := &Context{Off: map[string]bool{}, Shuffle: uint64(i)}
		for _, p := range Pipeline {
			if i > 0 && !p.Required && r.IntN(2) == 0 {
				ctx.Off[p.Name] = true
			}
		}
		g := mixtral(t, tensor.BF16, small)
		if err := runList(logical(), ctx, g); err != nil {
			t.Fatal(err)
		}
		got := results(t, "mixtral", g)
		if want == nil {
			want = got
		}
		if d := distance(want, got); d > 0 {
			t.Errorf("without %v: results move by %g", ctx.Off, d)
		}
	}
}
