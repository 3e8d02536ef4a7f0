package host

import (
	"moec/ir/arith"
	"moec/ir/tree"
)

// held says which experts are here, in the order of the weight's first axis,
// and which tokens each of them serves.
type held struct {
	at    []int // expert to index, -1 if it is elsewhere
	turns [][]int
}

func newHeld(c *call) *held {
	a := c.step.Attrs
	h := &held{at: make([]int, a.Int("total", 0)), turns: a.Sets("turns")}
	for e := range h.at {
		h.at[e] = -1
	}
	for i, e := range a.Ints("experts") {
		h.at[e] = i
	}
	return h
}

// index returns where the weight of an expert is if it serves token t here,
// else -1.
func (h *held) index(expert, t int) int {
	if expert < 0 || expert >= len(h.at) || h.at[expert] < 0 {
		return -1
	}
	i := h.at[expert]
	if h.turns != nil && t%h.turns[i][1] != h.turns[i][0] {
		return -1
	}
	return i
}

// byExpert lists the rows of each expert held.
func byExpert(c *call, ids []int32, k int) [][]int {
	h := newHeld(c)
	lists := make([][]int, len(c.step.Attrs.Ints("experts")))
	for row, e := range ids {
		if i := h.index(int(e), row/k); i >= 0 {
			lists[i] = append(lists[i], row)
		}
	}
	return lists
}

// runExpertMatmul also is expert_matmul_nodes.
func runExpertMatmul(c *call) {
	in, w := c.dims(0), c.dims(1)
	rows, k, n := in[0]*in[1], in[2], w[1]
	x := c.floats(0, rows*k)
	lists := byExpert(c, c.args[2].i32(rows), in[1])
	nodes, contraction := c.contraction(k)
	out := c.out.f32(nodes * rows * n)
	for e, list := range lists {
		if len(list) == 0 {
			continue
		}
		parallel(n, max(1, products/(len(list)*k)), func(lo, hi int) {
			sum, scratch, dst := contraction(), make([]float32, k), make([]float32, nodes)
			var row weightRow
			for j := lo; j < hi; j++ {
				row.load(c.args[1], e*n+j, k, scratch, len(list))
				for _, r := range list {
					row.dot(sum, dst, x[r*k:(r+1)*k])
					for i, v := range dst {
						out[(i*rows+r)*n+j] = v
					}
				}
			}
		})
	}
}

// runCombine sums all experts of the layer.
func runCombine(c *call) {
	total := c.step.Attrs.Int("total", 0)
	combine(c, []tree.Span{{Lo: 0, Hi: total}}, func(expert, _ int) bool { return expert >= 0 && expert < total })
}

// runCombineNodes sums the experts held, one value for each subtree.
func runCombineNodes(c *call) {
	h := newHeld(c)
	combine(c, expertSpans(c), func(expert, t int) bool { return h.index(expert, t) >= 0 })
}

// expertSpans lists the subtrees that the experts held cover. An expert that
// takes turns with copies elsewhere stays alone.
func expertSpans(c *call) []tree.Span {
	experts := c.step.Attrs.Ints("experts")
	var solo []int
	for i, t := range c.step.Attrs.Sets("turns") {
		if t[1] > 1 {
			solo = append(solo, experts[i])
		}
	}
	return tree.Cover(experts, c.step.Attrs.Int("total", 0), solo)
}

// combine writes, for each span and token, the sum over the slots whose
// expert is in the span and served here.
func combine(c *call, spans []tree.Span, served func(expert, t int) bool) {
	in := c.dims(0)
	tokens, k, n := in[0], in[1], in[2]
	x, ids := c.floats(0, tokens*k*n), c.args[1].i32(tokens*k)
	weights, out := c.floats(2, tokens*k), c.out.f32(len(spans)*tokens*n)
	parallel(tokens, max(1, grain/(k*n)), func(lo, hi int) {
		rows := make([][]float32, k)
		scratch := make([]float32, k*n)
		experts := make([]int32, k)
		var adds []tree.Add
		for t := lo; t < hi; t++ {
			for j := range k {
				experts[j] = -1
				if e := int(ids[t*k+j]); served(e, t) {
					experts[j] = int32(e)
				}
				rows[j] = scratch[j*n : (j+1)*n]
			}
			for i, span := range spans {
				var root int
				adds, root = arith.Slots(adds[:0], experts, span)
				sumSlots(out[(i*tokens+t)*n:][:n], x[t*k*n:], weights[t*k:], rows, adds, root)
			}
		}
	})
}

// sumSlots adds the weighted rows of a token's slots; none give zero.
func sumSlots(dst, x, weights []float32, rows [][]float32, adds []tree.Add, root int) {
	n := len(dst)
	if root < 0 {
		clear(dst)
		return
	}
	scale := func(j int) { arith.ScaleRow(rows[j], x[j*n:(j+1)*n], weights[j]) }
	scale(root)
	for _, a := range adds {
		if a.Src != root {
			scale(a.Src)
		}
		if a.Dst != root {
			scale(a.Dst)
		}
	}
	for _, a := range adds {
		arith.AddRow(rows[a.Dst], rows[a.Src])
	}
	for i, v := range rows[root] {
		dst[i] = v + 0
	}
}

// runAllReduce adds the nodes of all devices along the tree.
func runAllReduce(c *call) {
	var spans []tree.Span
	var terms [][]float32
	n := product(c.outDims())
	for i, flat := range c.step.Attrs.Sets("spans") {
		part := c.floats(i, n*len(flat)/2)
		for j := 0; j+1 < len(flat); j += 2 {
			spans = append(spans, tree.Span{Lo: flat[j], Hi: flat[j+1]})
			terms = append(terms, part[j/2*n:(j/2+1)*n])
		}
	}
	adds, root, ok := tree.Order(spans, c.step.Attrs.Int("leaves", 0))
	if !ok {
		panic("internal error: overlapping parts of a sum")
	}
	out := c.out.f32(n)
	parallel(n, grain, func(lo, hi int) {
		v := make([]float32, len(terms))
		for i := lo; i < hi; i++ {
			for j, t := range terms {
				v[j] = t[i]
			}
			for _, a := range adds {
				v[a.Dst] += v[a.Src]
			}
			out[i] = v[root] + 0
		}
	})
}
