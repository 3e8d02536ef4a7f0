package sample

import (
	"encoding/binary"
	"hash/fnv"
	"math"
	"testing"
)

func TestGreedyTakesFirstOfEquals(t *testing.T) {
	if got := Greedy([]float32{float32(math.NaN()), 1, 3, 3}); got != 2 {
		t.Errorf("Greedy = %d, want 2", got)
	}
}

// TestFrequencies draws often and compares with the probabilities.
func TestFrequencies(t *testing.T) {
	logits := []float32{0, 1, 2, 3, -1}
	for _, c := range []struct {
		p    Params
		open []int
	}{
		{Params{Temperature: 1}, []int{0, 1, 2, 3, 4}},
		{Params{Temperature: 2, TopK: 2}, []int{2, 3}},
		{Params{Temperature: 1, TopP: 0.9}, []int{1, 2, 3}},
		{Params{Temperature: 1, TopP: 0.6}, []int{3}},
		{Params{Temperature: 0}, []int{3}},
	} {
		want := make([]float64, len(logits))
		var total float64
		for _, i := range c.open {
			want[i] = math.Exp(float64(logits[i]) / max(c.p.Temperature, 1e-9) * 1)
			if c.p.Temperature == 0 {
				want[i] = 1
			}
			total += want[i]
		}
		const n = 20000
		got := make([]int, len(logits))
		for pos := range n {
			got[c.p.Next(logits, 7, pos)]++
		}
		for i := range want {
			p := want[i] / total
			if d := math.Abs(float64(got[i])/n - p); d > 4*math.Sqrt(p*(1-p)/n) {
				t.Errorf("%+v: token %d came %d times of %d, want %.4f", c.p, i, got[i], n, p)
			}
		}
	}
}

// TestWeight compares with the exponential function.
func TestWeight(t *testing.T) {
	for i := range 100_000 {
		x := -25 * float64(i) / 100_000
		want := math.Exp(x) * (1 << weightBits)
		if got := float64(Weight(x)); math.Abs(got-want) > 0.501 {
			t.Fatalf("Weight(%v) = %v, want %v", x, got, want)
		}
	}
	for _, x := range []float64{math.Inf(-1), math.NaN(), -1e300} {
		if got := Weight(x); got != 0 {
			t.Errorf("Weight(%v) = %d, want 0", x, got)
		}
	}
}

// TestWeightBits keeps the bits: a GPU has the same.
func TestWeightBits(t *testing.T) {
	h := fnv.New64a()
	for i := range 100_000 {
		h.Write(binary.LittleEndian.AppendUint32(nil, Weight(-23*float64(i)/100_003)))
	}
	if got, want := h.Sum64(), uint64(0xb7fec8a93c23acb8); got != want {
		t.Errorf("hash of weights %#x, want %#x", got, want)
	}
}

// TestNotNumbers chooses something even then.
func TestNotNumbers(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		logits []float32
		want   int
	}{{[]float32{nan, nan}, 1}, {[]float32{nan, 2}, 1}, {[]float32{1, inf, 2}, 1}, {[]float32{-inf, -inf}, 0}} {
		for _, p := range []Params{{}, {Temperature: 1}, {Temperature: 1, TopK: 2, TopP: 0.5}} {
			if got := p.Next(c.logits, 0, 0); got != c.want {
				t.Errorf("%+v of %v = %d, want %d", p, c.logits, got, c.want)
			}
		}
	}
}

func TestDependsOnSeedSequenceAndPosition(t *testing.T) {
	base := Uniform(1, 2, 3)
	for _, other := range []float64{Uniform(2, 2, 3), Uniform(1, 3, 3), Uniform(1, 2, 4), Uniform(1, 3, 2)} {
		if other == base {
			t.Error("two places drew the same number")
		}
	}
}

func TestCheck(t *testing.T) {
	for _, p := range []Params{{Temperature: -1}, {Temperature: math.NaN()}, {TopK: -1}, {TopP: 1.5}} {
		if p.Check() == nil {
			t.Errorf("%+v passes", p)
		}
	}
	if err := (Params{Temperature: 0.7, TopK: 40, TopP: 0.95}).Check(); err != nil {
		t.Error(err)
	}
}
