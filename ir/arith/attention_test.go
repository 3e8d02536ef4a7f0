package arith

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// history is the KV rows of one head with a stride wider than a row.
func history(rng *rand.Rand, n, dk, dv int) Rows {
	stride := dk + dv + 3
	return Rows{Data: randomRow(rng, n*stride), N: n, Stride: stride, KeyDim: dk, ValDim: dv}
}

func (r Rows) sub(lo, hi int) Rows {
	r.Data, r.N = r.Data[lo*r.Stride:], hi-lo
	return r
}

// layout is the positions lo to hi-1 in chunks and pages.
type layout struct{ lo, hi, chunk, page int }

// attend runs the chunks, each cut into runs at the ends of pages.
func attend(a Attention, q []float32, r Rows, l layout, sink float32) []float32 {
	lo, hi, chunk, page := l.lo, l.hi, l.chunk, l.page
	var parts []Partial
	scores := make([]float32, chunk)
	for c := lo / chunk * chunk; c < hi; c += chunk {
		var runs []Rows
		for at := max(c, lo); at < min(c+chunk, hi); {
			end := min(at/page*page+page, c+chunk, hi)
			runs = append(runs, r.sub(at, end))
			at = end
		}
		p := Partial{Out: make([]float32, r.ValDim)}
		a.Chunk(&p, q, runs, scores)
		parts = append(parts, p)
	}
	out := make([]float32, r.ValDim)
	Merge(out, parts, sink)
	return out
}

func TestAttention(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 1))
	const n, dk, dv = 50, 16, 11
	r := history(rng, n, dk, dv)
	q := randomRow(rng, dk)
	for _, c := range []struct {
		lo      int
		softcap float32
		sink    float32
	}{{0, 0, NoSink}, {7, 0, NoSink}, {0, 2, NoSink}, {13, 0, 1.5}, {49, 3, 0.25}} {
		a := Attention{Scale: 0.25, Softcap: c.softcap}
		var total float64
		want := make([]float64, dv)
		for i := c.lo; i < n; i++ {
			var s float64
			for d, k := range r.Key(i) {
				s += float64(q[d]) * float64(k)
			}
			s *= 0.25
			if c.softcap != 0 {
				s = float64(c.softcap) * math.Tanh(s/float64(c.softcap))
			}
			total += math.Exp(s)
			for d, v := range r.Value(i) {
				want[d] += math.Exp(s) * float64(v)
			}
		}
		if c.sink != NoSink {
			total += math.Exp(float64(c.sink))
		}
		got := attend(a, q, r, layout{c.lo, n, 8, 64}, c.sink)
		for d := range got {
			if !close64(got[d], want[d]/total, 2e-6) {
				t.Errorf("%+v: entry %d is %v, want %v", c, d, got[d], want[d]/total)
			}
		}
		for _, page := range []int{1, 3, 5, 8} {
			if paged := attend(a, q, r, layout{c.lo, n, 8, page}, c.sink); !slices.Equal(paged, got) {
				t.Errorf("%+v: pages of %d change bits", c, page)
			}
		}
	}
}

func TestFirstVisible(t *testing.T) {
	for _, c := range []struct{ position, window, want int }{{9, 0, 0}, {9, 4, 6}, {2, 4, 0}, {3, 4, 0}, {4, 4, 1}, {5, 1, 5}} {
		if got := FirstVisible(c.position, c.window); got != c.want {
			t.Errorf("FirstVisible(%d, %d) = %d, want %d", c.position, c.window, got, c.want)
		}
	}
}
