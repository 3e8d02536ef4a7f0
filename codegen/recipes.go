package codegen

import (
	"fmt"
	"strconv"
	"strings"

	"moec/codegen/kernels"
	"moec/ir/tensor"
)

// use is a kernel that can execute a step, with everything that a launch
// needs.
type use struct {
	kernel *kernels.Kernel
	params []string
	args   []Arg
	items  Extent
}

// recipe says how a kernel of the table executes a step.
type recipe func(s *site) (*use, error)

// recipes has an entry for every op that a step may have. Ops that only
// describe residents (input, weight, const, pack, param), reshape, which is
// another type for the same memory, fused, whose body runs, and send, which is
// a matter between host threads, have none.
var recipes = map[string]recipe{
	"add": elementPair, "sub": elementPair, "mul": elementPair, "div": elementPair, "max": elementPair, "min": elementPair,
	"neg": element, "abs": element, "exp": element, "log": element, "sqrt": element, "tanh": element, "sigmoid": element,
	"relu": element, "silu": element, "gelu": element, "gelu_tanh": element, "softplus": element, "round": roundElement,
	"softmax": row, "sum": row, "rms_norm": norm, "layer_norm": norm,
	"slice": slice, "broadcast": repeat, "dispatch": dispatch, "concat": concat, "take_rows": takeRows, "embed": embed,
	"gather": gather, "copy": copyAll, "part": copyAll, "own_rows": ownRows,
	"matmul": matmul, "matmul_nodes": matmul,
	"rope": rope, "kv_append": kvAppend, "attention": attention,
	"topk": topK, "expert_matmul": expertMatmul, "expert_matmul_nodes": expertMatmul, "expert_rows": expertRows,
	"combine": combine, "combine_nodes": combine,
	"all_reduce": allReduce, "all_gather": concat, "transfer": copyAll,
}

// useOf returns the use of a kernel with template arguments: element types,
// words, numbers and lists of numbers.
func useOf(name string, params ...any) *use {
	u := &use{kernel: kernels.Lookup(name)}
	for _, p := range params {
		u.params = append(u.params, text(p))
	}
	return u
}

func text(p any) string {
	switch p := p.(type) {
	case []int:
		list := make([]string, len(p))
		for i, n := range p {
			list[i] = strconv.Itoa(n)
		}
		return strings.Join(list, ",")
	case bool:
		if p {
			return "1"
		}
		return "0"
	}
	return fmt.Sprint(p)
}

// over says how much work there is and what a launch takes.
func (u *use) over(items Extent, args ...Arg) (*use, error) {
	u.items, u.args = items, args
	return u, nil
}

func element(s *site) (*use, error) {
	n := elems(s.out.Shape)
	return useOf(s.Op, s.args[0].DType).over(n, result(), operand(0), count(n))
}

func roundElement(s *site) (*use, error) {
	n := elems(s.out.Shape)
	return useOf("round", s.args[0].DType, s.out.DType).over(n, result(), operand(0), count(n))
}

// elementPair pairs elements, repeating extents of 1.
func elementPair(s *site) (*use, error) {
	n := elems(s.out.Shape)
	shape := s.out.Shape
	if len(shape) == 0 {
		shape = tensor.Ints(1)
	}
	ext := make([]Extent, len(shape))
	for i, d := range shape {
		ext[i] = extent(d)
	}
	return useOf(s.Op, s.args[0].DType, s.args[1].DType, len(shape)).over(n, result(), operand(0), operand(1), count(n),
		counts(ext...), counts(strides(s.args[0].Shape, len(shape))...), counts(strides(s.args[1].Shape, len(shape))...))
}

// strides returns how far apart an operand's elements are along each axis of a
// result of the given rank: 0 where it is repeated.
func strides(in tensor.Shape, rank int) []Extent {
	list := make([]Extent, rank)
	for i := range in {
		if in[i] != tensor.N(1) {
			list[rank-len(in)+i] = elems(in[i+1:])
		}
	}
	return list
}

func row(s *site) (*use, error) {
	x := s.args[0]
	rows := rowsOf(x.Shape)
	return useOf(s.Op, x.DType, x.Shape.Last().N).over(rows, result(), operand(0), count(rows))
}

// norm is rms_norm or layer_norm. A weight that is not there has type f32.
func norm(s *site) (*use, error) {
	x := s.args[0]
	rows := rowsOf(x.Shape)
	weights := 1
	if s.Op == "layer_norm" {
		weights = 2
	}
	params, args := []any{x.DType}, []Arg{result(), operand(0)}
	for i := 1; i <= weights; i++ {
		if i < len(s.args) {
			params, args = append(params, s.args[i].DType), append(args, operand(i))
		} else {
			params, args = append(params, tensor.F32), append(args, null())
		}
	}
	u := useOf(s.Op, append(params, x.Shape.Last().N)...)
	return u.over(rows, append(args, count(rows), double(s.Attrs.Float("eps", 0)))...)
}

func rope(s *site) (*use, error) {
	x, freqs := s.args[0], s.args[2].Shape[0].N
	heads, dim := x.Shape[1].N, x.Shape[2].N
	tokens := extent(x.Shape[0])
	u := useOf("rope", x.DType, s.args[2].DType, heads, dim, freqs, s.Attrs.Text("style") == "interleaved")
	return u.over(tokens.times(heads*(dim-freqs)), result(), operand(0), operand(1), operand(2), count(tokens), float(s.Attrs.Float("scale", 1)))
}

func topK(s *site) (*use, error) {
	x := s.args[0]
	rows := extent(x.Shape[0])
	groups := s.Attrs.Int("groups", 1)
	u := useOf("topk", x.DType, x.Shape[1].N, s.Attrs.Int("k", 0), groups, s.Attrs.Int("top_groups", groups), s.Attrs.Text("group_score") == "top2sum")
	return u.over(rows, result(), operand(0), count(rows))
}
