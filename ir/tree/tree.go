// Package tree defines the one order in which moec adds partial sums.
//
// A sum that a placement may split has a fixed number of leaves: the segments
// of a contraction, or the experts of a layer. Leaves are added along the
// binary tree over their numbers (padded to a power of two), so whoever holds
// a complete subtree may add it up alone and send one value, and every
// placement gets the same bits. A device that holds leaves 0, 1 and 2 of 4
// sends two values: the subtree [0,2) and the leaf [2,3).
package tree

import "slices"

// Span is the subtree over the leaves Lo to Hi-1.
type Span struct{ Lo, Hi int }

// width returns the number of leaves of the padded tree.
func width(leaves int) int {
	w := 1
	for w < leaves {
		w *= 2
	}
	return w
}

// Cover returns the largest subtrees that lie within set, in leaf order.
// A leaf in solo is never merged with others: it is held by several devices
// and only one of them contributes it for a given token.
func Cover(set []int, leaves int, solo []int) []Span {
	var spans []Span
	var walk func(lo, hi int)
	walk = func(lo, hi int) {
		if lo >= leaves {
			return
		}
		if full(set, solo, Span{lo, min(hi, leaves)}) {
			spans = append(spans, Span{lo, min(hi, leaves)})
			return
		}
		if hi-lo > 1 {
			mid := (lo + hi) / 2
			walk(lo, mid)
			walk(mid, hi)
		}
	}
	walk(0, width(leaves))
	return spans
}

// full reports whether set holds every leaf of s, none of them solo unless it
// is the only one.
func full(set, solo []int, s Span) bool {
	for leaf := s.Lo; leaf < s.Hi; leaf++ {
		if !slices.Contains(set, leaf) || s.Hi-s.Lo > 1 && slices.Contains(solo, leaf) {
			return false
		}
	}
	return true
}

// Range returns the leaves lo to hi-1.
func Range(lo, hi int) []int {
	r := make([]int, 0, hi-lo)
	for i := lo; i < hi; i++ {
		r = append(r, i)
	}
	return r
}

// Add is one addition: Dst += Src, both indices into a list of terms.
type Add struct{ Dst, Src int }

// Order returns the additions that sum terms, each the sum over a span, along
// the tree, and the index of the term that ends up holding the whole. Terms
// over the same span (the solo leaves of several devices) are added first, in
// the order given. It reports false when the terms overlap otherwise.
func Order(terms []Span, leaves int) (adds []Add, root int, ok bool) {
	used := 0
	var walk func(lo, hi int) int
	walk = func(lo, hi int) int {
		at := -1
		for i, t := range terms {
			if t == (Span{lo, min(hi, leaves)}) {
				used++
				if at < 0 {
					at = i
				} else {
					adds = append(adds, Add{at, i})
				}
			}
		}
		if at >= 0 || hi-lo <= 1 || lo >= leaves {
			return at
		}
		mid := (lo + hi) / 2
		left, right := walk(lo, mid), walk(mid, hi)
		if left < 0 {
			return right
		}
		if right >= 0 {
			adds = append(adds, Add{left, right})
		}
		return left
	}
	root = walk(0, width(leaves))
	return adds, root, used == len(terms) && root >= 0
}
