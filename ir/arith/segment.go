package arith

import "moec/ir/tree"

// Leaves adds the values of consecutive leaves, the first of which starts a
// subtree, along the tree, and returns the sum. It uses v as scratch space.
func Leaves(v []float32) float32 {
	for width := 1; width < len(v); width *= 2 {
		for i := 0; i+width < len(v); i += 2 * width {
			v[i] += v[i+width]
		}
	}
	return v[0]
}

// Contraction is a sum of products over features that are cut into segments:
// a segment is summed in the canonical order, segments along the tree. It may
// cover all segments of the sum or the consecutive ones that a device holds.
// It has scratch space of its own; goroutines need one each.
type Contraction struct {
	bounds []int       // first feature of each segment, then the end
	nodes  []tree.Span // results, as ranges of local segments
	sums   []float32   // of the segments
}

// Whole returns the contraction of k features with the given bounds, or in one
// segment if bounds is nil. It has one node.
func Whole(k int, bounds []int) *Contraction {
	if bounds == nil {
		bounds = []int{0, k}
	}
	n := len(bounds) - 1
	return &Contraction{bounds, []tree.Span{{Lo: 0, Hi: n}}, make([]float32, n)}
}

// Part returns the contraction over local segments, the first of which is
// number leaf of the whole sum; spans are the subtrees that they cover.
func Part(bounds []int, leaf int, spans []tree.Span) *Contraction {
	nodes := make([]tree.Span, len(spans))
	for i, s := range spans {
		nodes[i] = tree.Span{Lo: s.Lo - leaf, Hi: s.Hi - leaf}
	}
	return &Contraction{bounds, nodes, make([]float32, len(bounds)-1)}
}

// Nodes returns how many values one pair of rows gives.
func (c *Contraction) Nodes() int { return len(c.nodes) }

// Dot writes the value of each node for the rows x and w to dst.
func (c *Contraction) Dot(dst, x, w []float32) {
	for i := range c.sums {
		lo, hi := c.bounds[i], c.bounds[i+1]
		c.sums[i] = Dot(x[lo:hi], w[lo:hi])
	}
	c.finish(dst)
}

// DotBF16 is Dot with a weight row of bf16 patterns.
func (c *Contraction) DotBF16(dst, x []float32, w []uint16) {
	for i := range c.sums {
		lo, hi := c.bounds[i], c.bounds[i+1]
		c.sums[i] = DotBF16(x[lo:hi], w[lo:hi])
	}
	c.finish(dst)
}

// DotF16 is Dot with a weight row of binary16 patterns.
func (c *Contraction) DotF16(dst, x []float32, w []uint16) {
	for i := range c.sums {
		lo, hi := c.bounds[i], c.bounds[i+1]
		c.sums[i] = DotF16(x[lo:hi], w[lo:hi])
	}
	c.finish(dst)
}

func (c *Contraction) finish(dst []float32) {
	for i, n := range c.nodes {
		dst[i] = Leaves(c.sums[n.Lo:n.Hi])
	}
}

// Slots plans the sum over a token's slots, whose experts are the leaves of
// span; experts[j] is slot j's, or negative to leave the slot out. It appends
// the additions between slots to adds and returns them with the slot that ends
// up holding the sum, -1 if no slot's expert is in span. Slots of the same
// expert are added first, in their order.
func Slots(adds []tree.Add, experts []int32, span tree.Span) ([]tree.Add, int) {
	width := 1
	for width < span.Hi-span.Lo {
		width *= 2
	}
	s := slotSum{experts, adds}
	root := s.subtree(span.Lo, span.Lo+width)
	return s.adds, root
}

type slotSum struct {
	experts []int32
	adds    []tree.Add
}

// subtree plans the sum over the experts lo to hi-1 and returns its slot.
func (s *slotSum) subtree(lo, hi int) int {
	first, same := -1, true
	for j, e := range s.experts {
		if int(e) < lo || int(e) >= hi {
			continue
		}
		if first < 0 {
			first = j
		}
		same = same && e == s.experts[first]
	}
	if first < 0 {
		return -1
	}
	if same {
		for j := first + 1; j < len(s.experts); j++ {
			if s.experts[j] == s.experts[first] {
				s.adds = append(s.adds, tree.Add{Dst: first, Src: j})
			}
		}
		return first
	}
	mid := (lo + hi) / 2
	left, right := s.subtree(lo, mid), s.subtree(mid, hi)
	if left < 0 || right < 0 {
		return max(left, right)
	}
	s.adds = append(s.adds, tree.Add{Dst: left, Src: right})
	return left
}

// AddRow adds src to dst.
func AddRow(dst, src []float32) {
	dst = dst[:len(src)]
	for i, x := range src {
		dst[i] += x
	}
}

// ScaleRow writes s times src to dst, which may be src.
func ScaleRow(dst, src []float32, s float32) {
	dst = dst[:len(src)]
	for i, x := range src {
		dst[i] = float32(s * x)
	}
}
