package eval

import (
	"math"
	"slices"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/tensor"
)

func TestEveryOpHasAnEvaluatorAndADoc(t *testing.T) {
	funcs := table()
	for _, op := range ir.Ops() {
		if funcs[op.Name] == nil {
			t.Errorf("op %q has no evaluator", op.Name)
		}
		if op.Doc == "" {
			t.Errorf("op %q has no description", op.Name)
		}
		if _, ok := elsewhere[op.Name]; !ok && !slices.ContainsFunc(cases, func(c opCase) bool { return c.op == op.Name }) {
			t.Errorf("op %q has no case", op.Name)
		}
		delete(funcs, op.Name)
	}
	for name := range funcs {
		t.Errorf("evaluator %q is for no op", name)
	}
}

// elsewhere are ops with tests of their own.
var elsewhere = map[string]string{
	"input": "TestInputs", "weight": "TestWeights", "param": "TestFused", "fused": "TestFused",
	"kv_append": "TestAttention", "attention": "TestAttention",
	"matmul_nodes": "TestMatmulSplits", "expert_matmul_nodes": "TestExpertMatmulSplits",
	"combine_nodes": "TestCombineSplits",
}

// operand is a value with the type that the graph gives it.
type operand struct {
	text  string // "f32[T,2]"
	value []float32
}

// opCase is one application with its known result. The step has 3 tokens in
// two groups: 2 and 1.
type opCase struct {
	op    string
	attrs []ir.Attr
	args  []operand
	want  operand
}

func attr(name string, value any) ir.Attr { return ir.Attr{Name: name, Value: value} }

var (
	nan = float32(math.NaN())
	inf = float32(math.Inf(1))

	minusZero = float32(math.Copysign(0, -1))

	abcd = operand{"f32[T,4]", []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}
)

var testStep = &Step{Groups: 2, Spans: []Span{
	{Sequence: 4, First: 7, Tokens: []int32{21}, Group: 1},
	{Sequence: 9, First: 0, Tokens: []int32{31, 32}, Skip: 1},
}}

var cases = []opCase{
	{"const", []ir.Attr{attr("shape", []int{2, 1}), attr("values", []float32{3, -1})}, nil, operand{"f32[2,1]", []float32{3, -1}}},

	{"add", nil, []operand{{"f32[2,3]", []float32{1, 2, 3, 4, 5, 6}}, {"f32[3]", []float32{10, 20, 30}}}, operand{"f32[2,3]", []float32{11, 22, 33, 14, 25, 36}}},
	{"sub", nil, []operand{{"f32[2,1]", []float32{1, 2}}, {"f32[1,3]", []float32{10, 20, 30}}}, operand{"f32[2,3]", []float32{-9, -19, -29, -8, -18, -28}}},
	{"mul", nil, []operand{{"f32[]", []float32{3}}, {"f32[2,2]", []float32{1, 2, 3, 4}}}, operand{"f32[2,2]", []float32{3, 6, 9, 12}}},
	{"mul", nil, []operand{{"f32[T,2,2]", []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}, {"f32[2,1]", []float32{1, -1}}}, operand{"f32[T,2,2]", []float32{1, 2, -3, -4, 5, 6, -7, -8, 9, 10, -11, -12}}},
	{"div", nil, []operand{{"bf16[2]", []float32{1, -1}}, {"f32[2]", []float32{4, 0}}}, operand{"f32[2]", []float32{0.25, -inf}}},
	{"max", nil, []operand{{"f32[3]", []float32{1, nan, -inf}}, {"f32[3]", []float32{2, 5, -1}}}, operand{"f32[3]", []float32{2, nan, -1}}},
	{"min", nil, []operand{{"f32[3]", []float32{1, 4, -inf}}, {"f32[3]", []float32{2, nan, -1}}}, operand{"f32[3]", []float32{1, nan, -inf}}},

	{"neg", nil, []operand{{"f32[2]", []float32{1, -2}}}, operand{"f32[2]", []float32{-1, 2}}},
	{"abs", nil, []operand{{"f32[2]", []float32{1, -2}}}, operand{"f32[2]", []float32{1, 2}}},
	{"exp", nil, []operand{{"f32[3]", []float32{0, 1, -1}}}, operand{"f32[3]", []float32{1, math.E, 1 / math.E}}},
	{"log", nil, []operand{{"f32[2]", []float32{1, 10}}}, operand{"f32[2]", []float32{0, math.Ln10}}},
	{"sqrt", nil, []operand{{"f32[2]", []float32{2, 9}}}, operand{"f32[2]", []float32{math.Sqrt2, 3}}},
	{"tanh", nil, []operand{{"f32[2]", []float32{0.5, -20}}}, operand{"f32[2]", []float32{0.46211717, -1}}},
	{"sigmoid", nil, []operand{{"f32[2]", []float32{0, 2}}}, operand{"f32[2]", []float32{0.5, 0.880797}}},
	{"relu", nil, []operand{{"f32[2]", []float32{-3, 2}}}, operand{"f32[2]", []float32{0, 2}}},
	{"silu", nil, []operand{{"f32[2]", []float32{0, 2}}}, operand{"f32[2]", []float32{0, 1.761594}}},
	{"gelu", nil, []operand{{"f32[2]", []float32{1, -1}}}, operand{"f32[2]", []float32{0.8413447, -0.15865526}}},
	{"gelu_tanh", nil, []operand{{"f32[2]", []float32{1, -1}}}, operand{"f32[2]", []float32{0.841192, -0.15880801}}},
	{"softplus", nil, []operand{{"f32[2]", []float32{0, 1}}}, operand{"f32[2]", []float32{math.Ln2, 1.3132617}}},
	{"round", []ir.Attr{attr("dtype", tensor.BF16)}, []operand{{"f32[2]", []float32{1.00390625, 3.140625}}}, operand{"bf16[2]", []float32{1, 3.140625}}},
	{"round", []ir.Attr{attr("dtype", tensor.F16)}, []operand{{"f32[2]", []float32{1e6, 1.00048828125}}}, operand{"f16[2]", []float32{inf, 1}}},

	{"softmax", nil, []operand{{"f32[2,2]", []float32{0, float32(math.Log(3)), 1000, 1000}}}, operand{"f32[2,2]", []float32{0.25, 0.75, 0.5, 0.5}}},
	{"sum", nil, []operand{abcd}, operand{"f32[T,1]", []float32{10, 26, 42}}},
	{"rms_norm", []ir.Attr{attr("eps", 0.0)}, []operand{{"f32[2,2]", []float32{3, 3, 1, 7}}, {"f32[2]", []float32{2, 10}}}, operand{"f32[2,2]", []float32{2, 10, 0.4, 14}}},
	{"rms_norm", []ir.Attr{attr("eps", 3.0)}, []operand{{"f32[1,2]", []float32{1, 1}}}, operand{"f32[1,2]", []float32{0.5, 0.5}}},
	{"layer_norm", []ir.Attr{attr("eps", 0.0)}, []operand{{"f32[1,2]", []float32{1, 5}}, {"f32[2]", []float32{3, 4}}, {"f32[2]", []float32{10, 20}}}, operand{"f32[1,2]", []float32{7, 24}}},

	{"part", nil, []operand{abcd}, operand{"f32[1,T,4]", abcd.value}},
	{"reshape", []ir.Attr{attr("tail", []int{2, 2})}, []operand{abcd}, operand{"f32[T,2,2]", abcd.value}},
	{"slice", []ir.Attr{attr("axis", 1), attr("lo", 1), attr("hi", 4), attr("step", 2)}, []operand{abcd}, operand{"f32[T,2]", []float32{2, 4, 6, 8, 10, 12}}},
	{"slice", []ir.Attr{attr("axis", 1), attr("lo", 1), attr("hi", 2)}, []operand{{"bf16[T,2,2]", abcd.value}}, operand{"bf16[T,1,2]", []float32{3, 4, 7, 8, 11, 12}}},
	{"concat", []ir.Attr{attr("axis", 1)}, []operand{{"f32[T,1]", []float32{1, 2, 3}}, {"f32[T,2]", []float32{4, 5, 6, 7, 8, 9}}}, operand{"f32[T,3]", []float32{1, 4, 5, 2, 6, 7, 3, 8, 9}}},
	{"broadcast", []ir.Attr{attr("axis", 1), attr("n", 2)}, []operand{{"f32[T,1,2]", []float32{1, 2, 3, 4, 5, 6}}}, operand{"f32[T,2,2]", []float32{1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 5, 6}}},
	{"take_rows", nil, []operand{abcd, {"i32[S]", []float32{2, 0}}}, operand{"f32[S,4]", []float32{9, 10, 11, 12, 1, 2, 3, 4}}},
	{"embed", nil, []operand{{"i32[T]", []float32{1, 0, 1}}, {"f16[2,2]", []float32{1, 2, 3, 4}}}, operand{"f16[T,2]", []float32{3, 4, 1, 2, 3, 4}}},
	{"gather", nil, []operand{abcd, {"i32[T,2]", []float32{3, 0, 1, 1, 2, 3}}}, operand{"f32[T,2]", []float32{4, 1, 6, 6, 11, 12}}},

	{"matmul", nil, []operand{abcd, {"f32[2,4]", []float32{1, 0, 0, 1, 0, 1, -1, 0}}}, operand{"f32[T,2]", []float32{5, -1, 13, -1, 21, -1}}},
	{"matmul", []ir.Attr{attr("bounds", []int{0, 1, 4})}, []operand{{"f32[T,4]", []float32{0, 0, 0, 0, 1, 1, 1, 1, 0x1p24, 1, -0x1p24, 1}}, {"f32[1,4]", []float32{1, 1, 1, 1}}}, operand{"f32[T,1]", []float32{0, 4, 2}}},

	{"rope", []ir.Attr{attr("style", "half"), attr("scale", 2.0)}, []operand{{"f32[T,1,3]", []float32{1, 0, 5, 1, 0, 5, 0, 1, 5}}, {"i32[T]", []float32{0, 1, 2}}, {"f32[1]", []float32{math.Pi / 2}}}, operand{"f32[T,1,3]", []float32{2, 0, 5, 0, 2, 5, 0, -2, 5}}},
	{"rope", []ir.Attr{attr("style", "interleaved")}, []operand{{"f32[T,1,4]", []float32{1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0}}, {"i32[T]", []float32{0, 1, 2}}, {"f32[2]", []float32{math.Pi / 2, math.Pi}}}, operand{"f32[T,1,4]", []float32{1, 0, 1, 0, 0, 1, -1, 0, -1, 0, 1, 0}}},

	{"topk", []ir.Attr{attr("k", 2)}, []operand{{"f32[T,4]", []float32{1, 4, 4, 2, nan, nan, -inf, 0, 3, 2, 1, 0}}}, operand{"i32[T,2]", []float32{1, 2, 3, 2, 0, 1}}},
	{"topk", []ir.Attr{attr("k", 2), attr("groups", 2), attr("top_groups", 1), attr("group_score", "top2sum")}, []operand{{"f32[T,4]", []float32{9, 0, 6, 6, 9, 4, 6, 6, 0, 0, 0, 0}}}, operand{"i32[T,2]", []float32{2, 3, 0, 1, 0, 1}}},
	{"dispatch", nil, []operand{{"bf16[T,2]", []float32{1, 2, 3, 4, 5, 6}}, {"i32[T,2]", []float32{0, 1, 2, 3, 0, 1}}}, operand{"bf16[T,2,2]", []float32{1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 5, 6}}},
	{"expert_matmul", []ir.Attr{attr("experts", []int{2, 0}), attr("total", 3)},
		[]operand{{"f32[T,2,1]", []float32{1, 2, 3, 4, 5, 6}}, {"f32[2,2,1]", []float32{10, 20, 30, 40}}, {"i32[T,2]", []float32{0, 1, 2, 0, 1, 2}}},
		operand{"f32[T,2,2]", []float32{30, 40, nan, nan, 30, 60, 120, 160, nan, nan, 60, 120}}},
	{"expert_rows", []ir.Attr{attr("experts", []int{2, 0}), attr("total", 3), attr("turns", [][]int{{1, 2}, {0, 1}})},
		[]operand{{"f32[2,2]", []float32{10, 20, 30, 40}}, {"i32[T,2]", []float32{0, 2, 2, 0, 1, 2}}},
		operand{"f32[T,2,2]", []float32{30, 40, nan, nan, 10, 20, 30, 40, nan, nan, nan, nan}}},
	{"combine", []ir.Attr{attr("total", 4)},
		[]operand{{"f32[T,2,1]", []float32{1, 2, 3, 4, minusZero, minusZero}}, {"i32[T,2]", []float32{3, 0, 1, 2, 0, 1}}, {"f32[T,2]", []float32{0.5, 2, 1, 1, 1, 1}}},
		operand{"f32[T,1]", []float32{4.5, 7, 0}}},

	{"all_reduce", []ir.Attr{attr("spans", [][]int{{0, 1}, {1, 2, 2, 3}}), attr("leaves", 3), attr("channel", 0)},
		[]operand{{"f32[1,T,1]", []float32{1, 2, 0x1p24}}, {"f32[2,T,1]", []float32{10, 20, 1, 100, 200, 1}}}, operand{"f32[T,1]", []float32{111, 222, 0x1p24}}},
	{"all_reduce", []ir.Attr{attr("spans", [][]int{{0, 1}, {1, 2}}), attr("leaves", 2), attr("channel", 0)},
		[]operand{{"f32[1,T,1]", []float32{minusZero, 0, minusZero}}, {"f32[1,T,1]", []float32{minusZero, minusZero, minusZero}}}, operand{"f32[T,1]", []float32{0, 0, 0}}},
	{"all_gather", []ir.Attr{attr("axis", 0), attr("channel", 0)}, []operand{{"f32[T.0,1]", []float32{1, 2}}, {"f32[T.1,1]", []float32{3}}}, operand{"f32[T,1]", []float32{1, 2, 3}}},
	{"transfer", []ir.Attr{attr("channel", 0)}, []operand{{"i32[T,2]", []float32{1, 2, 3, 4, 5, 6}}}, operand{"i32[T,2]", []float32{1, 2, 3, 4, 5, 6}}},
	{"own_rows", []ir.Attr{attr("group", 1)}, []operand{abcd}, operand{"f32[T.1,4]", []float32{9, 10, 11, 12}}},
	{"own_rows", []ir.Attr{attr("group", 0)}, []operand{{"i32[S,1]", []float32{5, 6}}}, operand{"i32[S.0,1]", []float32{5}}},
	{"pack", []ir.Attr{attr("axis", 0)}, []operand{{"bf16[1,2]", []float32{1, 2}}, {"bf16[2,2]", []float32{3, 4, 5, 6}}}, operand{"bf16[3,2]", []float32{1, 2, 3, 4, 5, 6}}},
}

// make builds the operand's value under the test step.
func (o operand) make(t testing.TB) (tensor.Type, Value) {
	t.Helper()
	typ, err := tensor.ParseType(o.text)
	if err != nil {
		t.Fatal(err)
	}
	v := New(tensor.Type{DType: typ.DType, Shape: tensor.Ints(typ.Shape.Extents(testStep.Bound)...)})
	if len(v.F)+len(v.I) != len(o.value) {
		t.Fatalf("%s has %d elements", o.text, len(o.value))
	}
	copy(v.F, o.value)
	for i := range v.I {
		v.I[i] = int32(o.value[i])
	}
	return typ, v
}

// applyOp infers the type of an application and evaluates it.
func applyOp(t testing.TB, op string, attrs []ir.Attr, args ...operand) (Value, error) {
	t.Helper()
	n := &ir.Node{Op: ir.Op(op), Attrs: ir.MakeAttrs(attrs...), Group: -1, Device: -1}
	c := &Call{Attrs: n.Attrs, Device: -1, Group: -1, Env: Env{Step: testStep, State: NewState()}}
	for _, a := range args {
		typ, v := a.make(t)
		n.Args = append(n.Args, &ir.Node{Op: ir.Op("param"), Type: typ})
		c.Args = append(c.Args, v)
	}
	typ, err := ir.Infer(n)
	if err != nil {
		t.Fatal(err)
	}
	c.Type = typ
	err = Apply(op, c)
	return c.Out, err
}

func TestOps(t *testing.T) {
	for _, c := range cases {
		got, err := applyOp(t, c.op, c.attrs, c.args...)
		if err != nil {
			t.Errorf("%s: %v", c.op, err)
			continue
		}
		_, want := c.want.make(t)
		if !got.Type.Equal(want.Type) || !slices.Equal(got.I, want.I) {
			t.Errorf("%s = %s %v, want %s %v", c.op, got.Type, got.I, want.Type, want.I)
			continue
		}
		for i, w := range want.F {
			g := got.F[i]
			if (g == g) != (w == w) || w == w && g != w && math.Abs(float64(g-w)) > 1e-6*math.Max(1, math.Abs(float64(w))) {
				t.Errorf("%s = %v, want %v", c.op, got.F, want.F)
				break
			}
			if g == 0 && w == 0 && math.Signbit(float64(g)) != math.Signbit(float64(w)) {
				t.Errorf("%s = %v, want %v, signs of zeros included", c.op, got.F, want.F)
			}
		}
	}
}

func TestOpErrors(t *testing.T) {
	for _, c := range []struct {
		op   string
		args []operand
		want string
	}{
		{"take_rows", []operand{abcd, {"i32[S]", []float32{3, 0}}}, "entry 0 is row 3 of 3"},
		{"embed", []operand{{"i32[T]", []float32{1, -1, 1}}, {"f32[2,1]", []float32{1, 2}}}, "entry 1 is row -1 of 2"},
		{"gather", []operand{abcd, {"i32[T,1]", []float32{3, 0, 4}}}, "row 2 wants entry 4 of 4"},
	} {
		if _, err := applyOp(t, c.op, nil, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.op, err, c.want)
		}
	}
	combined := []operand{{"f32[T,1,1]", []float32{1, 2, 3}}, {"i32[T,1]", []float32{0, 1, 2}}, {"f32[T,1]", []float32{1, 1, 1}}}
	if _, err := applyOp(t, "combine", []ir.Attr{attr("total", 2)}, combined...); err == nil || !strings.Contains(err.Error(), "token 2 has expert 2 of 2") {
		t.Errorf("combine with an expert too many: %v", err)
	}
	if err := Apply("nothing", &Call{}); err == nil {
		t.Error("an unknown op was evaluated")
	}
}
