package arith

import (
	"math"
	"math/cmplx"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

func close64(got float32, want, tol float64) bool {
	return math.Abs(float64(got)-want) <= tol*(1+math.Abs(want))
}

func TestSoftmax(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 1))
	for _, n := range []int{1, 2, 8, 61, 128} {
		x := randomRow(rng, n)
		for i := range x {
			x[i] *= 20
		}
		var total float64
		for _, v := range x {
			total += math.Exp(float64(v))
		}
		y := make([]float32, n)
		Softmax(y, x)
		for i, v := range x {
			if want := math.Exp(float64(v)) / total; !close64(y[i], want, 1e-6) {
				t.Fatalf("softmax of %d, entry %d: %v, want %v", n, i, y[i], want)
			}
		}
	}
	masked := []float32{1, -inf, 1}
	if Softmax(masked, masked); !slices.Equal(masked, []float32{0.5, 0, 0.5}) {
		t.Errorf("softmax with a masked entry = %v", masked)
	}
	bad := []float32{1, nan}
	if Softmax(bad, bad); bad[0] == bad[0] {
		t.Errorf("softmax hides NaN: %v", bad)
	}
}

func TestNorms(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	const eps = 1e-5
	for _, n := range []int{1, 7, 64, 100} {
		x, w, b := randomRow(rng, n), randomRow(rng, n), randomRow(rng, n)
		var mean, squares, variance float64
		for _, v := range x {
			mean += float64(v) / float64(n)
			squares += float64(v) * float64(v) / float64(n)
		}
		for _, v := range x {
			variance += (float64(v) - mean) * (float64(v) - mean) / float64(n)
		}
		rms, plain, layer := make([]float32, n), make([]float32, n), make([]float32, n)
		RMSNorm(rms, x, w, eps)
		RMSNorm(plain, x, nil, eps)
		LayerNorm(layer, x, w, b, eps)
		for i, v := range x {
			want := float64(v) / math.Sqrt(squares+eps)
			if !close64(plain[i], want, 1e-6) || !close64(rms[i], want*float64(w[i]), 1e-6) {
				t.Fatalf("rms_norm of %d, entry %d: %v and %v, want %v and %v", n, i, plain[i], rms[i], want, want*float64(w[i]))
			}
			want = (float64(v)-mean)/math.Sqrt(variance+eps)*float64(w[i]) + float64(b[i])
			if n > 1 && !close64(layer[i], want, 2e-6) {
				t.Fatalf("layer_norm of %d, entry %d: %v, want %v", n, i, layer[i], want)
			}
		}
		LayerNorm(x, x, w, b, eps)
		if !slices.Equal(x, layer) {
			t.Errorf("layer_norm in place differs: %v, want %v", x, layer)
		}
	}
}

func TestRotate(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 3))
	freqs := []float32{1, 0.1, 0.01}
	cos, sin := make([]float32, 3), make([]float32, 3)
	const position, scale = 17, 1.25
	Angles(cos, sin, position, freqs, scale)
	for _, style := range []Style{Half, Interleaved} {
		x := randomRow(rng, 8)
		y := make([]float32, 8)
		Rotate(y, x, cos, sin, style)
		for i, f := range freqs {
			a, b := i, i+3
			if style == Interleaved {
				a, b = 2*i, 2*i+1
			}
			want := complex(float64(x[a]), float64(x[b])) * cmplx.Rect(scale, position*float64(f))
			if !close64(y[a], real(want), 1e-6) || !close64(y[b], imag(want), 1e-6) {
				t.Errorf("style %d pair %d: (%v, %v), want %v", style, i, y[a], y[b], want)
			}
		}
		if y[6] != x[6] || y[7] != x[7] {
			t.Errorf("style %d changed entries past the pairs: %v", style, y[6:])
		}
		Rotate(x, x, cos, sin, style)
		if !slices.Equal(x, y) {
			t.Errorf("style %d in place: %v, want %v", style, x, y)
		}
	}
}

// plainTopK sorts all indices by the rules of the op.
func plainTopK(t TopK, x []float32) []int32 {
	rank := func(v []float32) []int {
		idx := make([]int, len(v))
		for i := range idx {
			idx[i] = i
		}
		sort.SliceStable(idx, func(i, j int) bool {
			a, b := v[idx[i]], v[idx[j]]
			return a > b || a == a && b != b
		})
		return idx
	}
	groups := max(t.Groups, 1)
	size := len(x) / groups
	scores := make([]float32, groups)
	for g := range scores {
		run := x[g*size:][:size]
		order := rank(run)
		scores[g] = run[order[0]]
		if t.Score == TwoLargest && size > 1 {
			scores[g] += run[order[1]]
		}
	}
	open := map[int]bool{}
	for _, g := range rank(scores)[:max(1, t.TopGroups)] {
		open[g] = true
	}
	var out []int32
	for _, i := range rank(x) {
		if open[i/size] && len(out) < t.K {
			out = append(out, int32(i))
		}
	}
	return out
}

func TestTopK(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 4))
	for range 2000 {
		groups := 1 + rng.IntN(4)
		top := 1 + rng.IntN(groups)
		size := 1 + rng.IntN(6)
		c := TopK{K: 1 + rng.IntN(top*size), Groups: groups, TopGroups: top, Score: GroupScore(rng.IntN(2))}
		x := make([]float32, groups*size)
		for i := range x {
			x[i] = float32(rng.IntN(5)) // many ties
			switch rng.IntN(12) {
			case 0:
				x[i] = nan
			case 1:
				x[i] = -inf
			case 2:
				x[i] = minZero
			}
		}
		got := make([]int32, c.K)
		c.Row(got, x)
		if want := plainTopK(c, x); !slices.Equal(got, want) {
			t.Fatalf("%+v of %v = %v, want %v", c, x, got, want)
		}
	}
}

func TestTopKKnown(t *testing.T) {
	got := make([]int32, 3)
	for _, c := range []struct {
		topk TopK
		x    []float32
		want []int32
	}{
		{TopK{K: 3}, []float32{1, 3, 3, 2}, []int32{1, 2, 3}},
		{TopK{K: 3}, []float32{nan, -inf, nan, 0}, []int32{3, 1, 0}},
		{TopK{K: 2, Groups: 2, TopGroups: 1}, []float32{5, 0, 0, 4, 4, 0}, []int32{0, 1}},
		{TopK{K: 2, Groups: 2, TopGroups: 1, Score: TwoLargest}, []float32{5, 0, 0, 4, 4, 0}, []int32{3, 4}},
	} {
		c.topk.Row(got[:c.topk.K], c.x)
		if !slices.Equal(got[:c.topk.K], c.want) {
			t.Errorf("%+v of %v = %v, want %v", c.topk, c.x, got[:c.topk.K], c.want)
		}
	}
}
