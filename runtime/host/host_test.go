package host

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/arith"
	"moec/ir/eval"
	"moec/ir/tensor"
	"moec/planner/plan"
	"moec/runtime/step"
)

// TestEveryOpHasAKernel compares the kernels with the op table.
func TestEveryOpHasAKernel(t *testing.T) {
	without := map[string]bool{"input": true, "const": true, "weight": true, "param": true, "reshape": true, "pack": true, "fused": true}
	for _, o := range ir.Ops() {
		if kernels[o.Name] == nil != without[o.Name] {
			t.Errorf("op %s: kernel %v, listed as having none %v", o.Name, kernels[o.Name] != nil, without[o.Name])
		}
	}
	for name := range kernels {
		if plan.OpInfo(name) == nil {
			t.Errorf("kernel %s is for no op", name)
		}
	}
}

// opCase is an op on operands of random contents.
type opCase struct {
	op    string
	attrs []ir.Attr
	args  []string // types; i32 operands hold numbers below limit
	limit int
}

func at(name string, value any) ir.Attr { return ir.Attr{Name: name, Value: value} }

// opCases has every op but kv_append and attention, which whole models test.
func opCases() []opCase {
	list := []opCase{
		{op: "round", attrs: []ir.Attr{at("dtype", tensor.BF16)}, args: []string{"f32[T,7]"}},
		{op: "round", attrs: []ir.Attr{at("dtype", tensor.F16)}, args: []string{"f32[T,2,5]"}},
		{op: "softmax", args: []string{"f32[T,9]"}}, {op: "sum", args: []string{"f32[T,3,11]"}},
		{op: "rms_norm", attrs: []ir.Attr{at("eps", 1e-5)}, args: []string{"bf16[T,37]", "bf16[37]"}},
		{op: "rms_norm", attrs: []ir.Attr{at("eps", 1e-6)}, args: []string{"f32[T,3,8]"}},
		{op: "layer_norm", attrs: []ir.Attr{at("eps", 1e-5)}, args: []string{"f16[T,21]", "f32[21]", "bf16[21]"}},
		{op: "slice", attrs: []ir.Attr{at("axis", 2), at("lo", 1), at("hi", 8), at("step", 3)}, args: []string{"bf16[T,3,9]"}},
		{op: "slice", attrs: []ir.Attr{at("axis", 1), at("lo", 2), at("hi", 5)}, args: []string{"f32[T,6,2]"}},
		{op: "concat", attrs: []ir.Attr{at("axis", 1)}, args: []string{"f16[T,2]", "f16[T,5]", "f16[T,1]"}},
		{op: "broadcast", attrs: []ir.Attr{at("axis", 1), at("n", 4)}, args: []string{"bf16[T,1,3]"}},
		{op: "take_rows", args: []string{"f32[T,2,3]", "i32[S]"}, limit: 5},
		{op: "embed", args: []string{"i32[T]", "bf16[13,6]"}, limit: 13},
		{op: "gather", args: []string{"f32[T,6]", "i32[T,3]"}, limit: 6},
		{op: "dispatch", args: []string{"bf16[T,5]", "i32[T,3]"}, limit: 6},
		{op: "rope", attrs: []ir.Attr{at("style", "half"), at("scale", 1.1)}, args: []string{"bf16[T,2,10]", "i32[T]", "f32[4]"}, limit: 900},
		{op: "rope", attrs: []ir.Attr{at("style", "interleaved")}, args: []string{"f32[T,3,8]", "i32[T]", "f32[4]"}, limit: 900},
		{op: "topk", attrs: []ir.Attr{at("k", 3)}, args: []string{"f32[T,7]"}},
		{op: "topk", attrs: []ir.Attr{at("k", 2), at("groups", 4), at("top_groups", 2), at("group_score", "top2sum")}, args: []string{"f32[T,12]"}},
		{op: "matmul", args: []string{"f32[T,33]", "f32[5,33]"}},
		{op: "matmul", attrs: []ir.Attr{at("bounds", []int{0, 8, 19, 33})}, args: []string{"bf16[T,33]", "bf16[70,33]"}},
		{op: "matmul", attrs: []ir.Attr{at("bounds", []int{0, 16, 33})}, args: []string{"f16[T,2,33]", "f16[4,33]"}},
		{op: "matmul_nodes", attrs: []ir.Attr{at("bounds", []int{0, 8, 16, 25}), at("leaf", 1), at("leaves", 5)}, args: []string{"bf16[T,25]", "bf16[9,25]"}},
	}
	for _, name := range []string{"add", "sub", "mul", "div", "max", "min"} {
		list = append(list, opCase{op: name, args: []string{"f32[T,2,5]", "f32[5]"}}, opCase{op: name, args: []string{"bf16[T,1]", "f32[T,6]"}}, opCase{op: name, args: []string{"f32[]", "f32[T,3]"}})
	}
	for _, name := range []string{"neg", "abs", "exp", "log", "sqrt", "tanh", "sigmoid", "relu", "silu", "gelu", "gelu_tanh", "softplus"} {
		list = append(list, opCase{op: name, args: []string{"f32[T,9]"}}, opCase{op: name, args: []string{"bf16[T,9]"}})
	}
	return append(list, expertCases()...)
}

func expertCases() []opCase {
	some := []ir.Attr{at("experts", []int{4, 1, 2}), at("total", 6)}
	turns := append(some[:2:2], at("turns", [][]int{{0, 1}, {1, 2}, {0, 1}}))
	with := func(base []ir.Attr, more ...ir.Attr) []ir.Attr { return append(base[:len(base):len(base)], more...) }
	nodes := []ir.Attr{at("bounds", []int{0, 8, 16, 21}), at("leaf", 0), at("leaves", 4)}
	return []opCase{
		{op: "expert_matmul", attrs: some, args: []string{"bf16[T,2,21]", "bf16[3,4,21]", "i32[T,2]"}, limit: 6},
		{op: "expert_matmul", attrs: with(turns, at("bounds", []int{0, 5, 21})), args: []string{"f32[T,2,21]", "f16[3,40,21]", "i32[T,2]"}, limit: 6},
		{op: "expert_matmul_nodes", attrs: with(some, nodes...), args: []string{"f32[T,2,21]", "f32[3,4,21]", "i32[T,2]"}, limit: 6},
		{op: "expert_rows", attrs: some, args: []string{"bf16[3,4]", "i32[T,2]"}, limit: 6},
		{op: "combine", attrs: []ir.Attr{at("total", 6)}, args: []string{"bf16[T,3,10]", "i32[T,3]", "f32[T,3]"}, limit: 6},
		{op: "combine_nodes", attrs: turns, args: []string{"f32[T,3,10]", "i32[T,3]", "f32[T,3]"}, limit: 6},
		{op: "all_reduce", attrs: []ir.Attr{at("spans", [][]int{{0, 2, 2, 3}, {3, 4}}), at("leaves", 4), at("channel", 0)}, args: []string{"f32[2,T,5]", "bf16[1,T,5]"}},
	}
}

// TestOpsEqualTheirDefinition compares bits with package eval.
func TestOpsEqualTheirDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, c := range opCases() {
		if c.op == "all_reduce" {
			c.args[1] = "f32[1,T,5]"
		}
		for range 3 {
			compare(t, c, rng)
		}
	}
}

func compare(t *testing.T, c opCase, rng *rand.Rand) {
	t.Helper()
	const tokens, rows = 5, 3
	bounds := func(s tensor.Sym) int {
		if s.Base() == tensor.Rows {
			return rows
		}
		return tokens
	}
	n := &ir.Node{Op: ir.Op(c.op), Attrs: ir.MakeAttrs(c.attrs...), Group: -1, Device: 0}
	def := &eval.Call{Attrs: n.Attrs, Device: 0, Group: -1}
	here := &call{step: &plan.Step{Op: c.op, Attrs: n.Attrs}, device: &device{}, bounds: bounds, kernel: kernels[c.op], now: &step.Step{}}
	def.Step = &eval.Step{Spans: []eval.Span{{Tokens: make([]int32, tokens), Skip: tokens - rows}}}
	for _, text := range c.args {
		typ, err := tensor.ParseType(text)
		if err != nil {
			t.Fatal(err)
		}
		n.Args = append(n.Args, &ir.Node{Type: typ})
		v, w := random(rng, typ, bounds, c.limit)
		def.Args = append(def.Args, v)
		here.args = append(here.args, w)
	}
	typ, err := ir.Infer(n)
	if err != nil {
		t.Fatalf("%s: %v", c.op, err)
	}
	def.Type = typ
	if err := eval.Apply(c.op, def); err != nil {
		t.Fatalf("%s: %v", c.op, err)
	}
	here.out = view{typ, make([]byte, typ.Bytes(bounds))}
	poison(here.out.data)
	here.kernel(here)
	same(t, c, def.Out, here.out, bounds)
}

// random fills a value and the same memory.
func random(rng *rand.Rand, typ tensor.Type, bounds tensor.Bounds, limit int) (eval.Value, view) {
	n := typ.Shape.Elems(bounds)
	v := eval.New(tensor.Type{DType: typ.DType, Shape: tensor.Ints(typ.Shape.Extents(bounds)...)})
	w := view{typ, make([]byte, typ.Bytes(bounds))}
	if typ.DType == tensor.I32 {
		for i := range n {
			v.I[i] = int32(rng.IntN(limit))
		}
		copy(w.i32(n), v.I)
		return v, w
	}
	for i := range n {
		v.F[i] = float32(rng.NormFloat64() * 3)
	}
	arith.Round(v.F, v.F, typ.DType)
	w.setRow(0, v.F)
	return v, w
}

func same(t *testing.T, c opCase, want eval.Value, got view, bounds tensor.Bounds) {
	t.Helper()
	n := got.Shape.Elems(bounds)
	if got.DType == tensor.I32 {
		for i, x := range got.i32(n) {
			if x != want.I[i] {
				t.Fatalf("%s: element %d is %d, want %d", c.op, i, x, want.I[i])
			}
		}
		return
	}
	for i, x := range got.rowFloats(0, n, make([]float32, n)) {
		w := want.F[i]
		if w != w { // undefined: whatever is there
			continue
		}
		if math.Float32bits(x) != math.Float32bits(w) {
			t.Fatalf("%s %v: element %d is %v, want %v", c.op, c.args, i, x, w)
		}
	}
}

func TestFits(t *testing.T) {
	p := &plan.Plan{Memory: []plan.Memory{{Total: 3e9}, {Total: 3e9}}}
	if err := fits(p, 5e9); err == nil || !strings.Contains(err.Error(), "need 6.0 GB, have 5.0 GB") {
		t.Errorf("6 GB on a host of 5: %v", err)
	}
	if fits(p, 6e9) != nil || fits(p, 0) != nil {
		t.Error("6 GB refused on a host of 6, or of unknown size")
	}
}
