package prove

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"moec/ir"
	"moec/ir/eval"
	"moec/ir/tensor"
)

// opCase is an op on operands of given types, whose integers stay below a
// bound.
type opCase struct {
	op    string
	args  []string
	attrs []ir.Attr
	below []int // of the entries of i32 operands, by operand
	exact bool  // the op of the evaluator gives the same whole numbers
}

func attr(name string, value any) ir.Attr { return ir.Attr{Name: name, Value: value} }

var opCases = []opCase{
	{"add", []string{"f32[T,3]", "f32[3]"}, nil, nil, true},
	{"sub", []string{"f32[T,2,3]", "f32[T,1,3]"}, nil, nil, true},
	{"mul", []string{"f32[T,3]", "f32[T,1]"}, nil, nil, true},
	{"div", []string{"f32[T,3]", "f32[T,3]"}, nil, nil, false},
	{"max", []string{"f32[T,3]", "f32[T,3]"}, nil, nil, false},
	{"min", []string{"f32[T,3]", "f32[]"}, nil, nil, false},
	{"neg", []string{"f32[T,3]"}, nil, nil, true},
	{"abs", []string{"f32[T,3]"}, nil, nil, false},
	{"exp", []string{"f32[T,3]"}, nil, nil, false},
	{"log", []string{"f32[T,3]"}, nil, nil, false},
	{"sqrt", []string{"f32[T,3]"}, nil, nil, false},
	{"tanh", []string{"f32[T,3]"}, nil, nil, false},
	{"sigmoid", []string{"f32[T,3]"}, nil, nil, false},
	{"relu", []string{"f32[T,3]"}, nil, nil, false},
	{"silu", []string{"f32[T,3]"}, nil, nil, false},
	{"gelu", []string{"f32[T,3]"}, nil, nil, false},
	{"gelu_tanh", []string{"f32[T,3]"}, nil, nil, false},
	{"softplus", []string{"f32[T,3]"}, nil, nil, false},
	{"round", []string{"f32[T,3]"}, []ir.Attr{attr("dtype", tensor.BF16)}, nil, false},
	{"softmax", []string{"f32[T,5]"}, nil, nil, false},
	{"sum", []string{"f32[T,2,5]"}, nil, nil, true},
	{"rms_norm", []string{"f32[T,5]", "f32[5]"}, []ir.Attr{attr("eps", 1e-5)}, nil, false},
	{"layer_norm", []string{"f32[T,5]", "f32[5]", "f32[5]"}, []ir.Attr{attr("eps", 1e-5)}, nil, false},
	{"reshape", []string{"f32[T,6]"}, []ir.Attr{attr("tail", []int{2, 3})}, nil, true},
	{"copy", []string{"f32[T,6]"}, nil, nil, false},
	{"transfer", []string{"f32[T,6]"}, []ir.Attr{attr("channel", 0)}, nil, true},
	{"part", []string{"f32[T,6]"}, nil, nil, true},
	{"slice", []string{"f32[T,2,6]"}, []ir.Attr{attr("axis", 2), attr("lo", 1), attr("hi", 6), attr("step", 2)}, nil, true},
	{"concat", []string{"f32[T,2,3]", "f32[T,1,3]"}, []ir.Attr{attr("axis", 1)}, nil, true},
	{"all_gather", []string{"f32[T,3]", "f32[T,2]"}, []ir.Attr{attr("axis", 1), attr("channel", 0)}, nil, true},
	{"broadcast", []string{"f32[T,1,3]"}, []ir.Attr{attr("axis", 1), attr("n", 4)}, nil, true},
	{"take_rows", []string{"f32[T,3]", "i32[S]"}, nil, []int{0, 4}, true},
	{"embed", []string{"i32[T]", "f32[7,3]"}, nil, []int{7}, true},
	{"gather", []string{"f32[T,6]", "i32[T,2]"}, nil, []int{0, 6}, true},
	{"own_rows", []string{"f32[T,3]"}, []ir.Attr{attr("group", 1)}, nil, true},
	{"matmul", []string{"f32[T,2,6]", "f32[4,6]"}, []ir.Attr{attr("bounds", []int{0, 2, 6})}, nil, true},
	{"matmul_nodes", []string{"f32[T,6]", "f32[4,6]"}, []ir.Attr{attr("bounds", []int{0, 1, 4, 6}), attr("leaf", 0), attr("leaves", 4)}, nil, true},
	{"rope", []string{"f32[T,2,6]", "i32[T]", "f32[2]"}, []ir.Attr{attr("style", "half"), attr("scale", 1.5)}, []int{0, 9}, false},
	{"topk", []string{"f32[T,6]"}, []ir.Attr{attr("k", 2)}, nil, false},
	{"dispatch", []string{"f32[T,3]", "i32[T,2]"}, nil, []int{0, 6}, true},
	{"expert_matmul", []string{"f32[T,2,3]", "f32[6,4,3]", "i32[T,2]"}, []ir.Attr{attr("experts", []int{5, 4, 3, 2, 1, 0}), attr("total", 6)}, []int{0, 0, 6}, true},
	{"expert_matmul_nodes", []string{"f32[T,2,6]", "f32[6,4,6]", "i32[T,2]"},
		[]ir.Attr{attr("bounds", []int{0, 2, 6}), attr("leaf", 1), attr("leaves", 3), attr("experts", []int{0, 1, 2, 3, 4, 5}), attr("total", 6)}, []int{0, 0, 6}, true},
	{"expert_rows", []string{"f32[6,4]", "i32[T,2]"}, []ir.Attr{attr("experts", []int{1, 0, 2, 3, 5, 4}), attr("total", 6)}, []int{0, 6}, true},
	{"combine", []string{"f32[T,2,3]", "i32[T,2]", "f32[T,2]"}, []ir.Attr{attr("total", 6)}, []int{0, 6, 0}, true},
	{"combine_nodes", []string{"f32[T,2,3]", "i32[T,2]", "f32[T,2]"},
		[]ir.Attr{attr("experts", []int{0, 2, 3}), attr("total", 6), attr("turns", [][]int{{0, 1}, {1, 2}, {0, 1}})}, []int{0, 6, 0}, true},
	{"all_reduce", []string{"f32[1,T,3]", "f32[2,T,3]"}, []ir.Attr{attr("spans", [][]int{{0, 1}, {1, 2, 2, 4}}), attr("leaves", 4), attr("channel", 0)}, nil, true},
}

// caseStep has 3 tokens of group 0 and 2 of group 1, and as many rows.
var caseStep = &eval.Step{Groups: 2, Spans: []eval.Span{{Tokens: []int32{1, 2, 3}}, {Tokens: []int32{4, 5}, Group: 1, Skip: 1}}}

func (o opCase) env() *env {
	return &env{fast: o.op != "round", seed: 5, bounds: caseStep.Bound, choices: newChoices(), choose: true, copies: 1, groups: 2}
}

// node infers the op's type.
func (o opCase) node(t *testing.T) *ir.Node {
	t.Helper()
	n := &ir.Node{Op: ir.Op(o.op), Attrs: ir.MakeAttrs(slices.Clone(o.attrs)...), Group: -1}
	for _, a := range o.args {
		typ, err := tensor.ParseType(a)
		if err != nil {
			t.Fatal(err)
		}
		n.Args = append(n.Args, &ir.Node{Type: typ})
	}
	if o.op == "copy" {
		n.Type = n.Args[0].Type
		return n
	}
	var err error
	if n.Type, err = ir.Infer(n); err != nil {
		t.Fatal(err)
	}
	return n
}

// operands are small numbers, all different from 0.
func (o opCase) operands(n *ir.Node, rng *rand.Rand) []*array {
	var list []*array
	for i, a := range n.Args {
		v := newArray(a.Type.DType, a.Type.Shape.Extents(caseStep.Bound))
		for j := range v.data {
			v.data[j] = 1 + uint64(rng.IntN(20))
			if a.Type.DType == tensor.I32 {
				v.data[j] = uint64((j*5 + rng.IntN(2)) % o.below[i])
				if len(v.dims) == 2 && j%2 == 1 && v.data[j] == v.data[j-1] {
					v.data[j] = (v.data[j] + 1) % uint64(o.below[i]) // no expert twice
				}
			}
		}
		list = append(list, v)
	}
	return list
}

func (o opCase) apply(t *testing.T, n *ir.Node, args []*array) *array {
	t.Helper()
	var types []tensor.Type
	for _, a := range n.Args {
		types = append(types, a.Type)
	}
	s, err := newSpec(o.op, n.Attrs, types, 1, o.env())
	if err != nil {
		t.Fatal(err)
	}
	c := &call{spec: s, env: o.env(), args: args, out: newArray(n.Type.DType, n.Type.Shape.Extents(caseStep.Bound)), undefined: func() uint64 { return poisoned }}
	if err := s.fn(c); err != nil {
		t.Fatal(err)
	}
	return c.out
}

// TestOpsAgainstEvaluator compares ops on whole numbers with the definitions:
// what is linear gives the same whole numbers in the field.
func TestOpsAgainstEvaluator(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 1))
	for _, o := range opCases {
		if !o.exact {
			continue
		}
		n := o.node(t)
		args := o.operands(n, rng)
		c := &eval.Call{Attrs: n.Attrs, Type: n.Type, Device: -1, Group: -1, Env: eval.Env{Step: caseStep}}
		for i, a := range args {
			v := eval.New(tensor.Type{DType: n.Args[i].Type.DType, Shape: tensor.Ints(a.dims...)})
			for j, x := range a.data {
				if v.I != nil {
					v.I[j] = int32(x)
				} else {
					v.F[j] = float32(x)
				}
			}
			c.Args = append(c.Args, v)
		}
		if err := eval.Apply(o.op, c); err != nil {
			t.Fatalf("%s: %v", o.op, err)
		}
		got := o.apply(t, n, args)
		if len(got.data) != len(c.Out.F) {
			t.Fatalf("%s: %d entries, want %d", o.op, len(got.data), len(c.Out.F))
		}
		for i, want := range c.Out.F {
			number := uint64(max(want, 0))
			if want < 0 {
				number = neg(uint64(-want))
			}
			if want != want != isPoison(got.data[i]) || want == want && got.data[i] != number {
				t.Errorf("%s: entry %d is %d, want %v", o.op, i, got.data[i], want)
				break
			}
		}
	}
}

// TestOpsSeeEverything changes every entry of every operand, and every
// attribute that makes another function: the result must change. All ops are
// there.
func TestOpsSeeEverything(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 2))
	seen := make(map[string]bool)
	for _, o := range opCases {
		seen[o.op] = true
		n := o.node(t)
		args := o.operands(n, rng)
		before := o.apply(t, n, args)
		for i, a := range args {
			if blind(o.op, i) {
				continue
			}
			for j := range a.data {
				if !read(o.op, n, args, i, j) {
					continue
				}
				other := slices.Clone(args)
				b := *a
				b.data = slices.Clone(a.data)
				b.data[j] = 1000 + b.data[j]
				if a.dtype == tensor.I32 {
					b.data[j] = (a.data[j] + 2) % uint64(o.below[i])
				}
				other[i] = &b
				if slices.Equal(before.data, o.apply(t, n, other).data) {
					t.Errorf("%s: entry %d of operand %d does not count", o.op, j, i)
				}
			}
		}
		for _, a := range o.attrs {
			if x, ok := a.Value.(float64); ok {
				m := *n
				m.Attrs = n.Attrs.With(a.Name, 2*x)
				if slices.Equal(before.data, o.apply(t, &m, args).data) {
					t.Errorf("%s: %s does not count", o.op, a.Name)
				}
			}
		}
	}
	for op := range kernels {
		if !seen[op] && op != "send" {
			t.Errorf("%s has no case", op)
		}
	}
}

// blind operands only say how many of something there are.
func blind(op string, arg int) bool { return op == "dispatch" && arg == 1 || op == "topk" }

// read reports whether an op needs an entry at all: rows of what was not
// chosen, or not asked for, do not count.
func read(op string, n *ir.Node, args []*array, i, j int) bool {
	switch {
	case op == "slice":
		return j%6%2 == 1
	case op == "own_rows":
		return j >= 3*3
	case op == "take_rows" && i == 0:
		return slices.Contains(args[1].data, uint64(j/3))
	case op == "embed" && i == 1:
		return slices.Contains(args[0].data, uint64(j/3))
	case op == "gather" && i == 0:
		return slices.Contains(args[1].row(j/6), uint64(j%6))
	case op == "expert_rows" && i == 0:
		return slices.Contains(args[1].data, uint64(n.Attrs.Ints("experts")[j/4]))
	case (op == "expert_matmul" || op == "expert_matmul_nodes") && i == 1:
		return slices.Contains(args[2].data, uint64(n.Attrs.Ints("experts")[j/volume(args[1].dims[1:])]))
	case op == "combine" && i == 1:
		return false // the sum is over all slots, whichever their experts
	case op == "combine_nodes" && i != 1:
		slot := j
		if i == 0 {
			slot = j / 3
		}
		return newHoldings(n.Attrs).index(slot/2, args[1].data[slot]) >= 0
	case op == "combine_nodes":
		h := newHoldings(n.Attrs)
		return h.index(j/2, args[1].data[j]) >= 0 || h.index(j/2, (args[1].data[j]+2)%6) >= 0
	}
	return true
}

// TestChoices checks that all experts are chosen about equally often, that
// rows that are equal choose alike, and that unknown rows choose nothing.
func TestChoices(t *testing.T) {
	o := opCase{"topk", []string{"f32[T,6]"}, []ir.Attr{attr("k", 2)}, nil, false}
	n := o.node(t)
	e := o.env()
	s, err := newSpec(o.op, n.Attrs, []tensor.Type{n.Args[0].Type}, 1, e)
	if err != nil {
		t.Fatal(err)
	}
	x := newArray(tensor.F32, []int{5, 6})
	for i := range x.data {
		x.data[i] = uint64(i)
	}
	copy(x.row(4), x.row(1))
	run := func(x *array) *array {
		c := &call{spec: s, env: e, args: []*array{x}, out: newArray(tensor.I32, []int{5, 2}), undefined: func() uint64 { return poisoned | 7 }}
		if err := topk(c); err != nil {
			t.Fatal(err)
		}
		return c.out
	}
	first := run(x)
	count := make([]int, 6)
	for _, id := range first.data[:8] {
		count[id]++
	}
	if slices.Min(count) < 1 || slices.Max(count) > 2 || !slices.Equal(first.row(1), first.row(4)) {
		t.Errorf("choices %v", first.data)
	}
	e.choose = false
	if again := run(x); !slices.Equal(again.data, first.data) {
		t.Errorf("choices %v, then %v", first.data, again.data)
	}
	x.data[0]++
	if other := run(x); other.data[0] != poisoned|7 || other.data[2] != first.data[2] {
		t.Errorf("an unknown row chooses %v", fmt.Sprint(other.data))
	}
}
