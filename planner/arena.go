package planner

import (
	"cmp"
	"slices"
)

// need is a buffer that wants an offset: Bytes during First to Last, both
// included.
type need struct {
	first, last int
	bytes       int64
	offset      int64
}

// pack gives each need the lowest offset at which nothing placed before it
// is needed at the same time, the largest first, and returns the size of the
// whole. The result depends on the list's order alone.
func pack(needs []*need) int64 {
	order := slices.Clone(needs)
	slices.SortStableFunc(order, func(a, b *need) int { return cmp.Compare(b.bytes, a.bytes) })
	var placed []*need // by offset
	var size int64
	for _, n := range order {
		n.bytes = alignUp(n.bytes)
		n.offset = 0
		for _, p := range placed {
			if p.first > n.last || n.first > p.last {
				continue
			}
			if p.offset >= n.offset+n.bytes {
				break
			}
			n.offset = max(n.offset, p.offset+p.bytes)
		}
		at, _ := slices.BinarySearchFunc(placed, n, func(a, b *need) int { return cmp.Compare(a.offset, b.offset) })
		placed = slices.Insert(placed, at, n)
		size = max(size, n.offset+n.bytes)
	}
	return size
}
