package arith

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"moec/ir/tensor"
	"moec/ir/tree"
)

func randomRow(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// plainDot is the canonical order written down once more, with the products
// rounded by a table so that nothing can be fused.
func plainDot(a, b []float32) float32 {
	products := make([]float32, len(a))
	for k := range a {
		products[k] = float32(float64(a[k]) * float64(b[k])) // exact in float64
	}
	var lane [8]float32
	for k, p := range products {
		lane[k%8] += p
	}
	return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]))
}

// TestDot checks every variant against the plain loop at lengths around the
// lanes and the block of widened weights.
func TestDot(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, n := range []int{0, 1, 7, 8, 9, 16, 63, 255, 256, 257, 515, 1000} {
		rows := [4][]float32{randomRow(rng, n), randomRow(rng, n), randomRow(rng, n), randomRow(rng, n)}
		w := randomRow(rng, n)
		var want [4]float32
		for r := range rows {
			want[r] = plainDot(rows[r], w)
		}
		if got := Dot(rows[0], w); got != want[0] {
			t.Errorf("Dot of %d: %v, want %v", n, got, want[0])
		}
		a, b, c, d := Dot4(w, rows[0], rows[1], rows[2], rows[3])
		if got := [4]float32{a, b, c, d}; got != want {
			t.Errorf("Dot4 of %d: %v, want %v", n, got, want)
		}
		for _, h := range halves {
			patterns, wide := make([]uint16, n), make([]float32, n)
			Narrow(patterns, w, h.d)
			Widen(wide, patterns, h.d)
			for r := range rows {
				want[r] = plainDot(rows[r], wide)
			}
			if got := Dot4Half(patterns, h.d, rows); got != want {
				t.Errorf("Dot4Half %s of %d: %v, want %v", h.name, n, got, want)
			}
			single := DotBF16
			if h.d == tensor.F16 {
				single = DotF16
			}
			if got := single(rows[0], patterns); got != want[0] {
				t.Errorf("dot %s of %d: %v, want %v", h.name, n, got, want[0])
			}
		}
		ones := make([]float32, n)
		for i := range ones {
			ones[i] = 1
		}
		if got, want := Sum(w), plainDot(w, ones); got != want {
			t.Errorf("Sum of %d: %v, want %v", n, got, want)
		}
	}
}

// TestDotRoundsProducts fails where a product is added without being rounded:
// (1+2^-12)^2 - (1+2^-11) is 2^-24 then, and 0 otherwise.
func TestDotRoundsProducts(t *testing.T) {
	a, b := make([]float32, 9), make([]float32, 9)
	a[0], b[0] = -(1 + 0x1p-11), 1
	a[8], b[8] = 1+0x1p-12, 1+0x1p-12
	if got := Dot(a, b); got != 0 {
		t.Errorf("Dot = %v, want 0", got)
	}
}

func TestDotPaddingAndZeros(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	a, b := randomRow(rng, 37), randomRow(rng, 37)
	want := Dot(a, b)
	if got := Dot(append(slices.Clone(a), make([]float32, 11)...), append(slices.Clone(b), make([]float32, 11)...)); got != want {
		t.Errorf("padded Dot = %v, want %v", got, want)
	}
	negative := float32(math.Copysign(0, -1))
	if got := Dot([]float32{negative, 1}, []float32{1, negative}); math.Signbit(float64(got)) {
		t.Error("Dot gave -0")
	}
}

// TestContraction compares a contraction with the tree's own order of
// additions, and the parts of random cuts, added along the tree, with the whole.
func TestContraction(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 3))
	for range 300 {
		leaves := 1 + rng.IntN(12)
		bounds := []int{0}
		for range leaves {
			bounds = append(bounds, bounds[len(bounds)-1]+1+rng.IntN(20))
		}
		k := bounds[leaves]
		x, w := randomRow(rng, k), randomRow(rng, k)
		sums := make([]float32, leaves)
		spans := make([]tree.Span, leaves)
		for i := range sums {
			sums[i] = plainDot(x[bounds[i]:bounds[i+1]], w[bounds[i]:bounds[i+1]])
			spans[i] = tree.Span{Lo: i, Hi: i + 1}
		}
		want := addAlong(sums, spans, leaves)
		var got [1]float32
		if Whole(k, bounds).Dot(got[:], x, w); got[0] != want {
			t.Fatalf("bounds %v: %v, want %v", bounds, got[0], want)
		}
		if parts := cutAtRandom(rng, bounds, x, w); parts != want {
			t.Fatalf("bounds %v: parts give %v, want %v", bounds, parts, want)
		}
	}
}

func addAlong(values []float32, spans []tree.Span, leaves int) float32 {
	adds, root, ok := tree.Order(spans, leaves)
	if !ok {
		return float32(math.NaN())
	}
	values = slices.Clone(values)
	for _, a := range adds {
		values[a.Dst] += values[a.Src]
	}
	return values[root]
}

// cutAtRandom computes runs of segments one by one and adds their nodes.
func cutAtRandom(rng *rand.Rand, bounds []int, x, w []float32) float32 {
	leaves := len(bounds) - 1
	var values []float32
	var spans []tree.Span
	for leaf := 0; leaf < leaves; {
		end := leaf + 1 + rng.IntN(leaves-leaf)
		local := make([]int, 0, end-leaf+1)
		for _, b := range bounds[leaf : end+1] {
			local = append(local, b-bounds[leaf])
		}
		cover := tree.Cover(tree.Range(leaf, end), leaves, nil)
		c := Part(local, leaf, cover)
		nodes := make([]float32, c.Nodes())
		c.Dot(nodes, x[bounds[leaf]:bounds[end]], w[bounds[leaf]:bounds[end]])
		values, spans = append(values, nodes...), append(spans, cover...)
		leaf = end
	}
	return addAlong(values, spans, leaves)
}

func TestContractionHalf(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 4))
	bounds := []int{0, 5, 40, 300}
	x, w := randomRow(rng, 300), randomRow(rng, 300)
	for _, h := range halves {
		patterns, wide := make([]uint16, 300), make([]float32, 300)
		Narrow(patterns, w, h.d)
		Widen(wide, patterns, h.d)
		var want, got [1]float32
		c := Whole(300, bounds)
		c.Dot(want[:], x, wide)
		if h.d == tensor.BF16 {
			c.DotBF16(got[:], x, patterns)
		} else {
			c.DotF16(got[:], x, patterns)
		}
		if got != want {
			t.Errorf("%s: %v, want %v", h.name, got[0], want[0])
		}
	}
	var one [1]float32
	if Whole(300, nil).Dot(one[:], x, w); one[0] != Dot(x, w) {
		t.Error("without bounds the contraction is not one segment")
	}
}

// TestSlots compares with the tree's order over all experts, for the whole
// layer and for every subtree that a random set of experts covers.
func TestSlots(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 5))
	for range 500 {
		total, k := 1+rng.IntN(20), 1+rng.IntN(6)
		experts, values := make([]int32, k), randomRow(rng, k)
		for j := range experts {
			experts[j] = int32(rng.IntN(total+1)) - 1
		}
		for _, span := range append(tree.Cover(tree.Range(0, rng.IntN(total+1)), total, nil), tree.Span{Lo: 0, Hi: total}) {
			var in []float32
			var spans []tree.Span
			for j, e := range experts {
				if int(e) >= span.Lo && int(e) < span.Hi {
					in = append(in, values[j])
					spans = append(spans, tree.Span{Lo: int(e), Hi: int(e) + 1})
				}
			}
			adds, root := Slots(nil, experts, span)
			if len(in) == 0 {
				if root != -1 || len(adds) != 0 {
					t.Fatalf("experts %v in %v: root %d, adds %v", experts, span, root, adds)
				}
				continue
			}
			got := slices.Clone(values)
			for _, a := range adds {
				got[a.Dst] += got[a.Src]
			}
			if want := addAlong(in, spans, total); root < 0 || got[root] != want {
				t.Fatalf("experts %v in %v: adds %v root %d, want sum %v", experts, span, adds, root, want)
			}
		}
	}
}
