package tree

import (
	"math/rand/v2"
	"testing"
)

// sum adds leaf values along the tree the plain way.
func sum(v []float32, lo, hi int) (float32, bool) {
	if lo >= len(v) {
		return 0, false
	}
	if hi-lo == 1 {
		return v[lo], true
	}
	mid := (lo + hi) / 2
	l, _ := sum(v, lo, mid)
	r, ok := sum(v, mid, hi)
	if !ok {
		return l, true
	}
	return l + r, true
}

func spanSum(v []float32, s Span, leaves int) float32 {
	hi := s.Lo + width(s.Hi-s.Lo)
	t, _ := sum(v[:min(leaves, s.Hi)], s.Lo, hi)
	return t
}

// TestPlacementKeepsBits splits leaves over devices at random and checks that
// every split gives the bits of the whole tree.
func TestPlacementKeepsBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		leaves := 1 + rng.IntN(17)
		v := make([]float32, leaves)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		want, _ := sum(v, 0, width(leaves))
		sets := make([][]int, 1+rng.IntN(5))
		for leaf := range leaves {
			d := rng.IntN(len(sets))
			sets[d] = append(sets[d], leaf)
		}
		var terms []Span
		var values []float32
		for _, set := range sets {
			for _, s := range Cover(set, leaves, nil) {
				terms = append(terms, s)
				values = append(values, spanSum(v, s, leaves))
			}
		}
		adds, root, ok := Order(terms, leaves)
		if !ok {
			t.Fatalf("Order(%v, %d) refused", terms, leaves)
		}
		for _, a := range adds {
			values[a.Dst] += values[a.Src]
		}
		if values[root] != want {
			t.Fatalf("leaves %d sets %v: sum %v, want %v", leaves, sets, values[root], want)
		}
	}
}

func TestCover(t *testing.T) {
	for _, c := range []struct {
		set, solo []int
		leaves    int
		want      []Span
	}{
		{Range(0, 4), nil, 4, []Span{{0, 4}}},
		{Range(0, 3), nil, 4, []Span{{0, 2}, {2, 3}}},
		{Range(0, 3), nil, 3, []Span{{0, 3}}},
		{[]int{2}, nil, 3, []Span{{2, 3}}},
		{Range(0, 4), []int{1}, 4, []Span{{0, 1}, {1, 2}, {2, 4}}},
		{[]int{0, 3, 4, 5}, nil, 8, []Span{{0, 1}, {3, 4}, {4, 6}}},
	} {
		got := Cover(c.set, c.leaves, c.solo)
		if len(got) != len(c.want) {
			t.Fatalf("Cover(%v, %d, %v) = %v, want %v", c.set, c.leaves, c.solo, got, c.want)
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("Cover(%v, %d, %v) = %v, want %v", c.set, c.leaves, c.solo, got, c.want)
			}
		}
	}
}

func TestOrderRefusesOverlap(t *testing.T) {
	if _, _, ok := Order([]Span{{0, 2}, {1, 2}}, 4); ok {
		t.Error("Order accepted a leaf inside a subtree that is also given")
	}
}
