package sample

import (
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
