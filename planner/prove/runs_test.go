package prove

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// plain lists the entries of runs one by one.
func plain(l runs) []entry {
	var out []entry
	for _, r := range l {
		for i := range r.n {
			out = append(out, r.entry(i))
		}
	}
	return out
}

func packed(list []entry) runs {
	var out runs
	for _, e := range list {
		out = out.add(run{of: e.of, at: e.at, n: 1})
	}
	return out
}

func randomRuns(rng *rand.Rand, n int) runs {
	var out runs
	for left := n; left > 0; {
		k := 1 + rng.IntN(left)
		out = out.add(run{of: rng.IntN(2), at: rng.IntN(4), n: k, repeated: rng.IntN(3) == 0})
		left -= k
	}
	return out
}

// TestRuns compares lists of runs with plain lists of entries.
func TestRuns(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 1))
	for range 3000 {
		a, b, c := 1+rng.IntN(3), 1+rng.IntN(4), 1+rng.IntN(3)
		l := randomRuns(rng, a*b*c)
		all := plain(l)
		if len(all) != a*b*c || l.length() != a*b*c || !packed(all).equal(l) || !l.equal(packed(all)) {
			t.Fatalf("%v is %v", l, all)
		}
		lo := rng.IntN(b)
		hi := lo + 1 + rng.IntN(b-lo)
		step := 1 + rng.IntN(2)
		var want []entry
		for o := range a {
			for i := lo; i < hi; i += step {
				want = append(want, all[(o*b+i)*c:(o*b+i+1)*c]...)
			}
		}
		if got := plain(l.sliced([]int{a, b, c}, 1, lo, hi, step)); !slices.Equal(got, want) {
			t.Fatalf("%v [%d:%d:%d] of %d %d %d is %v, want %v", l, lo, hi, step, a, b, c, got, want)
		}
		parts := []runs{l.sliced([]int{a, b, c}, 1, 0, lo, 1), l.sliced([]int{a, b, c}, 1, lo, b, 1)}
		if got := joined(parts, [][]int{{a, lo, c}, {a, b - lo, c}}, 1); !got.equal(l) {
			t.Fatalf("%v joined is %v, want %v", parts, got, l)
		}
		checkSpread(t, randomRuns(rng, a*c), []int{a, 1, c}, []int{a, b, c})
		checkSpread(t, randomRuns(rng, a), []int{a, 1, 1}, []int{a, b, c})
		checkSpread(t, randomRuns(rng, c), []int{c}, []int{a, b, c})
		checkSpread(t, randomRuns(rng, 1), nil, []int{a, b, c})
		m := randomRuns(rng, a*b*c)
		i, j := rng.IntN(a*b*c), rng.IntN(a*b*c)
		n := 0
		for i+n < a*b*c && j+n < a*b*c && all[i+n] == plain(m)[j+n] {
			n++
		}
		if got := l.agree(i, m, j); got != n {
			t.Fatalf("%v from %d agrees with %v from %d in %d entries, want %d", l, i, m, j, got, n)
		}
	}
}

func checkSpread(t *testing.T, l runs, dims, to []int) {
	t.Helper()
	all := plain(l)
	steps := strides(to, dims)
	var want []entry
	index := make([]int, len(to))
	for range volume(to) {
		at := 0
		for axis, i := range index {
			at += i * steps[axis]
		}
		want = append(want, all[at])
		for axis := len(to) - 1; axis >= 0; axis-- {
			if index[axis]++; index[axis] < to[axis] {
				break
			}
			index[axis] = 0
		}
	}
	if got := plain(l.spread(dims, to)); !slices.Equal(got, want) {
		t.Fatalf("%v of %v spread to %v is %v, want %v", l, dims, to, got, want)
	}
}
