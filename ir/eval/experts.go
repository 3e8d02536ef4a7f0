package eval

import (
	"fmt"
	"math"
	"slices"

	"moec/ir"
	"moec/ir/arith"
	"moec/ir/tree"
)

// topk is the indices of each row's largest entries.
func topk(c *Call) error {
	rule := arith.TopK{K: c.Attrs.Int("k", 1), Groups: c.Attrs.Int("groups", 1), TopGroups: c.Attrs.Int("top_groups", 1)}
	if c.Attrs.Text("group_score") == "top2sum" {
		rule.Score = arith.TwoLargest
	}
	for r := range c.Out.rows() {
		rule.Row(c.Out.ints(r), c.Args[0].row(r))
	}
	return nil
}

// holdings say which experts a device serves, and for which tokens.
type holdings struct {
	experts []int
	turns   [][]int
}

func holdingsOf(attrs ir.Attrs) holdings {
	return holdings{attrs.Ints("experts"), attrs.Sets("turns")}
}

// index returns where among those held the expert of a token's slot is, or -1
// if it is not held or another device's turn.
func (h holdings) index(token int, expert int32) int {
	i := slices.Index(h.experts, int(expert))
	if i >= 0 && h.turns != nil && token%h.turns[i][1] != h.turns[i][0] {
		return -1
	}
	return i
}

// undefined fills rows that nothing may read with NaN, so that reading them
// shows.
func undefined(row []float32) {
	for i := range row {
		row[i] = float32(math.NaN())
	}
}

// expertMatmul is the dot product of each slot's row with each row of its
// expert's weight; as expert_matmul_nodes, one for each node, nodes outermost.
func expertMatmul(c *Call) error {
	x, w, ids := c.Args[0], c.Args[1], c.Args[2]
	held, sums := holdingsOf(c.Attrs), contraction(c.Attrs, x.last())
	nodes := make([]float32, sums.Nodes())
	slots, features := len(ids.I), w.extent(1)
	undefined(c.Out.F)
	for s, e := range ids.I {
		i := held.index(s/ids.last(), e)
		if i < 0 {
			continue
		}
		for n := range features {
			sums.Dot(nodes, x.row(s), w.row(i*features+n))
			for node, v := range nodes {
				c.Out.F[(node*slots+s)*features+n] = v
			}
		}
	}
	return nil
}

// expertRows is the row of each slot's expert.
func expertRows(c *Call) error {
	w, ids := c.Args[0], c.Args[1]
	held := holdingsOf(c.Attrs)
	for s, e := range ids.I {
		if i := held.index(s/ids.last(), e); i >= 0 {
			copy(c.Out.row(s), w.row(i))
		} else {
			undefined(c.Out.row(s))
		}
	}
	return nil
}

// slotSums adds a token's slots, each weighted, along the tree over experts.
type slotSums struct {
	x, weights Value
	terms      [][]float32
}

func newSlotSums(x, weights Value) *slotSums {
	s := &slotSums{x: x, weights: weights}
	for range x.extent(1) {
		s.terms = append(s.terms, make([]float32, x.last()))
	}
	return s
}

// token writes the sum over the slots of token t whose experts lie in span to
// dst; experts has -1 for slots to leave out. Without any the sum is zero.
func (s *slotSums) token(dst []float32, t int, experts []int32, span tree.Span) {
	for j, e := range experts {
		if e >= 0 {
			arith.ScaleRow(s.terms[j], s.x.row(t*len(experts)+j), s.weights.row(t)[j])
		}
	}
	adds, root := arith.Slots(nil, experts, span)
	for _, a := range adds {
		arith.AddRow(s.terms[a.Dst], s.terms[a.Src])
	}
	clear(dst)
	if root >= 0 {
		arith.AddRow(dst, s.terms[root]) // +0 and the sum, so never -0
	}
}

// combine adds up all slots of each token.
func combine(c *Call) error {
	x, ids, total := c.Args[0], c.Args[1], c.Attrs.Int("total", 0)
	sums := newSlotSums(x, c.Args[2])
	for t := range x.extent(0) {
		for _, e := range ids.ints(t) {
			if e < 0 || int(e) >= total {
				return fmt.Errorf("token %d has expert %d of %d", t, e, total)
			}
		}
		sums.token(c.Out.row(t), t, ids.ints(t), tree.Span{Lo: 0, Hi: total})
	}
	return nil
}

// combineNodes adds up, for each subtree of the experts held, the slots that
// are served here.
func combineNodes(c *Call) error {
	x, ids := c.Args[0], c.Args[1]
	sums, held := newSlotSums(x, c.Args[2]), holdingsOf(c.Attrs)
	spans := (&ir.Node{Attrs: c.Attrs}).ExpertSpans()
	tokens := x.extent(0)
	for t := range tokens {
		experts := slices.Clone(ids.ints(t))
		for j, e := range experts {
			if held.index(t, e) < 0 {
				experts[j] = -1
			}
		}
		for i, span := range spans {
			sums.token(c.Out.row(i*tokens+t), t, experts, span)
		}
	}
	return nil
}
