package dsl

import "slices"

// didYouMean returns `; did you mean "x"?` for the name that is closest to
// word, or "" when none is close.
func didYouMean(word string, names []string) string {
	if len(word) > maxName {
		return ""
	}
	best, least := "", closeEnough(word)+1
	slices.Sort(names)
	for _, n := range names {
		if d := distance(word, n); d < least {
			best, least = n, d
		}
	}
	if best == "" {
		return ""
	}
	return `; did you mean ` + best + `?`
}

// closeEnough is how many typing mistakes a word of that length may hold.
func closeEnough(word string) int {
	switch n := len(word); {
	case n <= 2:
		return 0
	case n <= 5:
		return 1
	default:
		return 2
	}
}

// distance counts the letters to insert, remove, change or swap with a
// neighbour to get from a to b.
func distance(a, b string) int {
	before := make([]int, len(b)+1)
	last := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
