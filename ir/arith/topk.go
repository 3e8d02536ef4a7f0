package arith

import "slices"

// TopK selects the K largest entries of a row. With Groups > 1 the row is
// equal runs of entries, and only those of the TopGroups best are open.
type TopK struct {
	K         int
	Groups    int // 0 and 1: none
	TopGroups int
	Score     GroupScore
}

// GroupScore says what ranks a group: its largest entry, or the sum of its
// two largest.
type GroupScore uint8

// The scores.
const (
	Largest GroupScore = iota
	TwoLargest
)

// above reports whether entry i of x comes before entry j: the larger one, or
// of equals the one with the smaller index. NaN is below everything.
func above(x []float32, i, j int32) bool {
	a, b := x[i], x[j]
	switch {
	case a > b:
		return true
	case a < b:
		return false
	}
	if nanA, nanB := a != a, b != b; nanA != nanB {
		return nanB
	}
	return i < j
}

// insert puts the indices lo to hi-1 of x in their places among the best,
// of which there are at most k.
func insert(best []int32, x []float32, lo, hi, k int) []int32 {
	for i := int32(lo); i < int32(hi); i++ {
		at := len(best)
		for at > 0 && above(x, i, best[at-1]) {
			at--
		}
		switch {
		case at == k:
			continue
		case len(best) < k:
			best = append(best, 0)
		}
		copy(best[at+1:], best[at:])
		best[at] = i
	}
	return best
}

// Row writes the indices of the selected entries of x, largest first, to dst.
func (t TopK) Row(dst []int32, x []float32) {
	best := dst[:0:t.K]
	if t.Groups <= 1 {
		insert(best, x, 0, len(x), t.K)
		return
	}
	size := len(x) / t.Groups
	scores := make([]float32, t.Groups)
	for g := range scores {
		scores[g] = t.score(x[g*size : (g+1)*size])
	}
	open := insert(nil, scores, 0, t.Groups, t.TopGroups)
	slices.Sort(open)
	for _, g := range open {
		best = insert(best, x, int(g)*size, int(g+1)*size, t.K)
	}
}

func (t TopK) score(group []float32) float32 {
	var buf [2]int32
	best := insert(buf[:0], group, 0, len(group), 2)
	if t.Score == TwoLargest && len(best) == 2 {
		return group[best[0]] + group[best[1]]
	}
	return group[best[0]]
}
