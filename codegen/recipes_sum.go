package codegen

import (
	"fmt"

	"moec/ir/tensor"
	"moec/ir/tree"
)

// cut describes how a step's contraction is cut: see Segments in dot.cuh.
func cut(s *site, k int) (segments, nodes int, arg Arg) {
	bounds := s.Attrs.Ints("bounds")
	if bounds == nil {
		bounds = []int{0, k}
	}
	segments = len(bounds) - 1
	firsts := []int{0}
	if s.Attrs.Has("leaves") {
		leaf := s.Attrs.Int("leaf", 0)
		firsts = nil
		for _, span := range tree.Cover(tree.Range(leaf, leaf+segments), s.Attrs.Int("leaves", 0), nil) {
			firsts = append(firsts, span.Lo-leaf)
		}
	}
	return segments, len(firsts), join(integers(bounds...), integers(append(firsts, segments)...))
}

// matmul also is matmul_nodes.
func matmul(s *site) (*use, error) {
	x, w := s.args[0], s.args[1]
	k, n := x.Shape.Last().N, w.Shape[0].N
	rows := rowsOf(x.Shape)
	segments, nodes, arg := cut(s, k)
	return useOf("matmul", x.DType, w.DType, s.layout, n, k, segments, nodes).over(rows.times(n), result(), operand(0), operand(1), count(rows), arg)
}

// held describes which experts are here, out of total: see Held in
// experts.cuh.
func held(experts []int, turns [][]int, total int) (Arg, error) {
	if total > 1<<15-1 {
		return Arg{}, fmt.Errorf("%d experts, at most %d are supported", total, 1<<15-1)
	}
	list := make([]int, total+2*len(experts))
	at, turn, of := list[:total], list[total:total+len(experts)], list[total+len(experts):]
	for e := range at {
		at[e] = -1
	}
	for i, e := range experts {
		at[e], turn[i], of[i] = i, 0, 1
		if turns != nil {
			turn[i], of[i] = turns[i][0], turns[i][1]
		}
	}
	return shorts(list...), nil
}

// heldHere describes the experts of the step's attributes.
func heldHere(s *site) (total, count int, arg Arg, err error) {
	experts := s.Attrs.Ints("experts")
	total = s.Attrs.Int("total", 0)
	arg, err = held(experts, s.Attrs.Sets("turns"), total)
	return total, len(experts), arg, err
}

// expertMatmul also is expert_matmul_nodes.
func expertMatmul(s *site) (*use, error) {
	x, w := s.args[0], s.args[1]
	slots, k, n := x.Shape[1].N, x.Shape[2].N, w.Shape[1].N
	rows := rowsOf(x.Shape)
	segments, nodes, cutArg := cut(s, k)
	total, here, heldArg, err := heldHere(s)
	if err != nil {
		return nil, err
	}
	return useOf("expert_matmul", x.DType, w.DType, s.layout, slots, n, k, total, here, segments, nodes).over(rows.times(n),
		result(), operand(0), operand(1), operand(2), count(rows), heldArg, cutArg)
}

func expertRows(s *site) (*use, error) {
	n := elems(s.out.Shape)
	total, here, arg, err := heldHere(s)
	if err != nil {
		return nil, err
	}
	return useOf("expert_rows", word(s.out), s.out.Shape[1].N, s.out.Shape[2].N, total, here).over(n, result(), operand(0), operand(1), count(n), arg)
}

// combine also is combine_nodes. A whole combine holds all experts.
func combine(s *site) (*use, error) {
	x := s.args[0]
	slots, n := x.Shape[1].N, x.Shape[2].N
	total, turns := s.Attrs.Int("total", 0), s.Attrs.Sets("turns")
	experts, spans := tree.Range(0, total), []tree.Span{{Lo: 0, Hi: total}}
	if s.Op == "combine_nodes" {
		experts = s.Attrs.Ints("experts")
		spans = tree.Cover(experts, total, alone(experts, turns))
	}
	arg, err := held(experts, turns, total)
	if err != nil {
		return nil, err
	}
	var ends []int
	for _, span := range spans {
		ends = append(ends, span.Lo, span.Hi)
	}
	tokens := extent(x.Shape[0])
	return useOf("combine", x.DType, s.args[2].DType, slots, n, total, len(experts), len(spans)).over(tokens.times(n*len(spans)),
		result(), operand(0), operand(1), operand(2), count(tokens), arg, integers(ends...))
}

// alone lists the experts that take turns with copies elsewhere: they are
// never added to others here.
func alone(experts []int, turns [][]int) []int {
	var solo []int
	for i, t := range turns {
		if t[1] > 1 {
			solo = append(solo, experts[i])
		}
	}
	return solo
}

func allReduce(s *site) (*use, error) {
	var spans []tree.Span
	var nodes []int
	for _, flat := range s.Attrs.Sets("spans") {
		nodes = append(nodes, len(flat)/2)
		for i := 0; i+1 < len(flat); i += 2 {
			spans = append(spans, tree.Span{Lo: flat[i], Hi: flat[i+1]})
		}
	}
	adds, root, ok := tree.Order(spans, s.Attrs.Int("leaves", 0))
	if !ok {
		return nil, fmt.Errorf("internal error: parts %v of a sum overlap", spans)
	}
	var pairs []int
	for _, a := range adds {
		pairs = append(pairs, a.Dst, a.Src)
	}
	n := elems(s.out.Shape)
	return useOf("all_reduce", s.args[0].DType, len(s.args), len(spans), root, nodes, pairs).over(n, result(), operands(), count(n))
}

// maxShared is the shared memory that a block of any architecture has without
// asking for more, in bytes (CUDA C++ Programming Guide, technical
// specifications).
const maxShared = 48 << 10

func kvAppend(s *site) (*use, error) {
	c := s.cache
	n := extent(s.args[0].Shape[0]).times(c.Heads * (c.KeyDim + c.ValDim))
	return useOf("kv_append", word(s.args[0]), c.Heads, c.KeyDim, c.ValDim, s.limits.Page).over(n,
		operand(4), operand(0), operand(1), operand(2), operand(3), pages(s.group(0)), integer(s.tableWidth()), count(n))
}

// attention takes q, the cache, sequences, positions and sinks, if any.
func attention(s *site) (*use, error) {
	q, c, a := s.args[0], s.cache, s.Attrs
	heads, chunk := q.Shape[1].N, a.Int("chunk", 1)
	// query, and score and place of each position; 512 bytes for the rest.
	if need := 4*c.KeyDim + 8*chunk + 512; need > maxShared {
		return nil, fmt.Errorf("attention in chunks of %d positions needs %d bytes of shared memory, a block has %d; use smaller chunks", chunk, need, maxShared)
	}
	sinkType, sinks := tensor.F32, null()
	if len(s.args) > 4 {
		sinkType, sinks = s.args[4].DType, operand(4)
	}
	items := extent(q.Shape[0]).times(heads)
	rule := join(float(a.Float("scale", 1)), float(a.Float("softcap", 0)), integer(a.Int("window", 0)),
		integer(a.Int("group", 1)), integer(a.Int("q_first", 0)), integer(a.Int("kv_first", 0)))
	return useOf("attention", q.DType, c.DType, sinkType, heads, c.Heads, c.KeyDim, c.ValDim, s.limits.Page, chunk).over(items,
		result(), operand(0), operand(1), operand(2), operand(3), sinks, pages(s.group(0)), integer(s.tableWidth()), count(items), rule)
}
