// Package codegentest makes a plan that has a step of every op, for the tests
// of the code generator and of the CUDA runtime.
//
// The plan is on one device and knows no model: a test fills the operands'
// buffers itself and looks at the results'.
package codegentest

import (
	"strings"

	"moec/ir"
	"moec/ir/tensor"
)

// Case is one step with the types of its operands.
type Case struct {
	Op    string
	Attrs []ir.Attr
	Args  []string // types; a cache has extent C
	Limit int      // numbers in i32 operands are below it
}

// Limits of the plan that the cases are made for.
const (
	Sequences = 3
	Context   = 40
	Page      = 8
	Pages     = 17
	Tokens    = 8
	Rows      = 4
)

func at(name string, value any) ir.Attr { return ir.Attr{Name: name, Value: value} }

// Cases returns cases for every op that a kernel executes, with odd extents
// and all element types.
func Cases() []Case {
	var list []Case
	for _, d := range []string{"f32", "bf16", "f16"} {
		for _, c := range anyType() {
			for i, a := range c.Args {
				c.Args[i] = strings.ReplaceAll(a, "X", d)
			}
			list = append(list, c)
		}
	}
	list = append(list, elementCases()...)
	list = append(list, mixedCases()...)
	list = append(list, attentionCases()...)
	return append(list, expertCases()...)
}

// anyType has X for the element type.
func anyType() []Case {
	list := []Case{
		{Op: "softmax", Args: []string{"X[T,9]"}}, {Op: "softmax", Args: []string{"X[T,3,70]"}}, {Op: "sum", Args: []string{"X[T,3,41]"}},
		{Op: "rms_norm", Attrs: []ir.Attr{at("eps", 1e-5)}, Args: []string{"X[T,37]", "X[37]"}},
		{Op: "rms_norm", Attrs: []ir.Attr{at("eps", 1e-6)}, Args: []string{"X[T,3,8]"}},
		{Op: "layer_norm", Attrs: []ir.Attr{at("eps", 1e-5)}, Args: []string{"X[T,21]", "X[21]", "X[21]"}},
		{Op: "layer_norm", Attrs: []ir.Attr{at("eps", 1e-5)}, Args: []string{"X[T,65]"}},
		{Op: "copy", Args: []string{"X[T,5]"}}, {Op: "part", Args: []string{"X[T,5]"}}, {Op: "transfer", Attrs: []ir.Attr{at("channel", 0)}, Args: []string{"X[T,2,3]"}},
		{Op: "own_rows", Attrs: []ir.Attr{at("group", 0)}, Args: []string{"X[T,5]"}}, {Op: "own_rows", Attrs: []ir.Attr{at("group", 1)}, Args: []string{"X[T,5]"}},
		{Op: "slice", Attrs: []ir.Attr{at("axis", 2), at("lo", 1), at("hi", 8), at("step", 3)}, Args: []string{"X[T,3,9]"}},
		{Op: "slice", Attrs: []ir.Attr{at("axis", 1), at("lo", 2), at("hi", 5)}, Args: []string{"X[T,6,2]"}},
		{Op: "concat", Attrs: []ir.Attr{at("axis", 1)}, Args: []string{"X[T,2]", "X[T,5]", "X[T,1]"}},
		{Op: "all_gather", Attrs: []ir.Attr{at("axis", 0), at("channel", 0)}, Args: []string{"X[T.0,3]", "X[T.1,3]"}},
		{Op: "all_gather", Attrs: []ir.Attr{at("axis", 1), at("channel", 0)}, Args: []string{"X[T,2,3]", "X[T,1,3]"}},
		{Op: "broadcast", Attrs: []ir.Attr{at("axis", 1), at("n", 4)}, Args: []string{"X[T,1,3]"}},
		{Op: "take_rows", Args: []string{"X[T,2,3]", "i32[S]"}, Limit: 2},
		{Op: "embed", Args: []string{"i32[T]", "X[13,6]"}, Limit: 13},
		{Op: "gather", Args: []string{"X[T,6]", "i32[T,3]"}, Limit: 6},
		{Op: "dispatch", Args: []string{"X[T,5]", "i32[T,3]"}, Limit: 6},
		{Op: "rope", Attrs: []ir.Attr{at("style", "half"), at("scale", 1.1)}, Args: []string{"X[T,2,10]", "i32[T]", "f32[4]"}, Limit: 900},
		{Op: "rope", Attrs: []ir.Attr{at("style", "interleaved")}, Args: []string{"X[T,3,8]", "i32[T]", "f32[4]"}, Limit: 1 << 20},
		{Op: "topk", Attrs: []ir.Attr{at("k", 3)}, Args: []string{"X[T,7]"}},
		{Op: "topk", Attrs: []ir.Attr{at("k", 2), at("groups", 4), at("top_groups", 2), at("group_score", "top2sum")}, Args: []string{"X[T,12]"}},
		{Op: "topk", Attrs: []ir.Attr{at("k", 6), at("groups", 8), at("top_groups", 3), at("group_score", "max")}, Args: []string{"X[T,64]"}},
		{Op: "matmul", Args: []string{"X[T,33]", "X[5,33]"}},
		{Op: "matmul", Attrs: []ir.Attr{at("bounds", []int{0, 8, 19, 33})}, Args: []string{"X[T,33]", "X[70,33]"}},
		{Op: "matmul", Attrs: []ir.Attr{at("bounds", []int{0, 40, 80, 120, 160, 200, 240, 280, 300})}, Args: []string{"X[S,2,300]", "X[11,300]"}},
		{Op: "matmul_nodes", Attrs: []ir.Attr{at("bounds", []int{0, 8, 16, 25}), at("leaf", 1), at("leaves", 5)}, Args: []string{"X[T,25]", "X[9,25]"}},
		{Op: "matmul_nodes", Attrs: []ir.Attr{at("bounds", []int{0, 8, 16, 24, 32, 40, 47}), at("leaf", 0), at("leaves", 6)}, Args: []string{"X[T,47]", "X[9,47]"}},
	}
	for _, name := range []string{"neg", "abs", "exp", "log", "sqrt", "tanh", "sigmoid", "relu", "silu", "gelu", "gelu_tanh", "softplus"} {
		list = append(list, Case{Op: name, Args: []string{"X[T,291]"}})
	}
	for _, d := range []tensor.DType{tensor.F32, tensor.BF16, tensor.F16} {
		list = append(list, Case{Op: "round", Attrs: []ir.Attr{at("dtype", d)}, Args: []string{"X[T,7]"}})
	}
	return list
}

func elementCases() []Case {
	var list []Case
	for _, name := range []string{"add", "sub", "mul", "div", "max", "min"} {
		list = append(list, Case{Op: name, Args: []string{"f32[T,2,5]", "f32[5]"}}, Case{Op: name, Args: []string{"bf16[T,1]", "f32[T,6]"}},
			Case{Op: name, Args: []string{"f32[]", "f32[T,3]"}}, Case{Op: name, Args: []string{"f16[T,3,5]", "bf16[3,1]"}})
	}
	return list
}

func mixedCases() []Case {
	return []Case{
		{Op: "rms_norm", Attrs: []ir.Attr{at("eps", 1e-5)}, Args: []string{"f32[T,130]", "bf16[130]"}},
		{Op: "layer_norm", Attrs: []ir.Attr{at("eps", 1e-5)}, Args: []string{"f16[T,21]", "f32[21]", "bf16[21]"}},
		{Op: "matmul", Attrs: []ir.Attr{at("bounds", []int{0, 16, 33})}, Args: []string{"f16[T,2,33]", "f32[4,33]"}},
		{Op: "matmul", Args: []string{"f32[T,40]", "bf16[6,40]"}},
		{Op: "take_rows", Args: []string{"i32[T]", "i32[S]"}, Limit: 2},
		{Op: "all_reduce", Attrs: []ir.Attr{at("spans", [][]int{{0, 2, 2, 3}, {3, 4}}), at("leaves", 4), at("channel", 0)}, Args: []string{"f32[2,T,5]", "f32[1,T,5]"}},
		{Op: "all_reduce", Attrs: []ir.Attr{at("spans", [][]int{{4, 8}, {0, 1, 3, 4}, {1, 2, 2, 3}, {1, 2}}), at("leaves", 8), at("channel", 0)},
			Args: []string{"f32[1,T,33]", "f32[2,T,33]", "f32[2,T,33]", "f32[1,T,33]"}},
		{Op: "all_reduce", Attrs: []ir.Attr{at("spans", [][]int{{0, 3}}), at("leaves", 3), at("channel", 0)}, Args: []string{"f32[1,S,2]"}},
	}
}

func attentionCases() []Case {
	attend := func(more ...ir.Attr) []ir.Attr {
		return append([]ir.Attr{at("scale", 0.31), at("group", 2), at("chunk", 8)}, more...)
	}
	lists := []string{"i32[T]", "i32[T]"}
	with := func(sinks string, types ...string) []string {
		types = append(types, lists...)
		if sinks != "" {
			types = append(types, sinks)
		}
		return types
	}
	return []Case{
		{Op: "kv_append", Args: []string{"f32[T,2,6]", "f32[T,2,5]", "i32[T]", "i32[T]", "f32[C,2,11]"}},
		{Op: "kv_append", Args: []string{"bf16[T.1,3,4]", "bf16[T.1,3,4]", "i32[T.1]", "i32[T.1]", "bf16[C,3,8]"}},
		{Op: "attention", Attrs: attend(), Args: with("", "f32[T,4,6]", "f32[C,2,11]")},
		{Op: "attention", Attrs: attend(), Args: with("", "bf16[T,4,64]", "bf16[C,2,128]")},
		{Op: "attention", Attrs: attend(at("window", 7), at("softcap", 5.0)), Args: with("", "f16[T,4,6]", "f16[C,2,12]")},
		{Op: "attention", Attrs: attend(at("q_first", 3), at("kv_first", 1)), Args: with("bf16[3]", "bf16[T,3,8]", "f32[C,2,144]")},
		{Op: "attention", Attrs: attend(at("window", 13), at("chunk", 12)), Args: with("f32[6]", "f32[T,6,5]", "bf16[C,3,9]")},
	}
}

func expertCases() []Case {
	some := []ir.Attr{at("experts", []int{4, 1, 2}), at("total", 6)}
	with := func(base []ir.Attr, more ...ir.Attr) []ir.Attr { return append(base[:len(base):len(base)], more...) }
	turns := with(some, at("turns", [][]int{{0, 1}, {1, 2}, {0, 1}}))
	nodes := []ir.Attr{at("bounds", []int{0, 8, 16, 21}), at("leaf", 0), at("leaves", 4)}
	return []Case{
		{Op: "expert_matmul", Attrs: some, Args: []string{"bf16[T,2,21]", "bf16[3,4,21]", "i32[T,2]"}, Limit: 6},
		{Op: "expert_matmul", Attrs: with(turns, at("bounds", []int{0, 5, 21})), Args: []string{"f32[T,2,21]", "f16[3,40,21]", "i32[T,2]"}, Limit: 6},
		{Op: "expert_matmul_nodes", Attrs: with(some, nodes...), Args: []string{"f32[T,2,21]", "f32[3,4,21]", "i32[T,2]"}, Limit: 6},
		{Op: "expert_rows", Attrs: some, Args: []string{"bf16[3,4]", "i32[T,2]"}, Limit: 6},
		{Op: "expert_rows", Attrs: turns, Args: []string{"f32[3,5]", "i32[T,3]"}, Limit: 6},
		{Op: "combine", Attrs: []ir.Attr{at("total", 6)}, Args: []string{"bf16[T,3,10]", "i32[T,3]", "f32[T,3]"}, Limit: 6},
		{Op: "combine", Attrs: []ir.Attr{at("total", 37)}, Args: []string{"f32[T,8,33]", "i32[T,8]", "bf16[T,8]"}, Limit: 37},
		{Op: "combine", Attrs: []ir.Attr{at("total", 1)}, Args: []string{"f16[T,1,3]", "i32[T,1]", "f32[T,1]"}, Limit: 1},
		{Op: "combine_nodes", Attrs: turns, Args: []string{"f32[T,3,10]", "i32[T,3]", "f32[T,3]"}, Limit: 6},
		{Op: "combine_nodes", Attrs: some, Args: []string{"f16[T,4,7]", "i32[T,4]", "bf16[T,4]"}, Limit: 6},
	}
}
