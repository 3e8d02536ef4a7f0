// Package sample chooses the next token from logits.
//
// Random numbers are a function of seed, sequence and position, so a
// sequence's tokens never depend on what else runs beside it.
package sample

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Params say how to choose. The zero Params chooses the largest logit.
type Params struct {
	Temperature float64 // 0: greedy
	TopK        int     // keep the k largest; 0: all
	TopP        float64 // keep the fewest that reach this probability; 0 and 1: all
	Seed        uint64
}

// Check says which parameter makes no sense.
func (p Params) Check() error {
	switch {
	case !(p.Temperature >= 0) || math.IsInf(p.Temperature, 0):
		return fmt.Errorf("temperature %v is not 0 or a positive number", p.Temperature)
	case p.TopK < 0:
		return fmt.Errorf("top-k %d is negative; 0 keeps all tokens", p.TopK)
	case !(p.TopP >= 0 && p.TopP <= 1):
		return fmt.Errorf("top-p %v is not between 0 and 1", p.TopP)
	}
	return nil
}

// Greedy returns the index of the largest logit, the first of equals.
func Greedy(logits []float32) int {
	best := 0
	for i, v := range logits {
		if v > logits[best] || logits[best] != logits[best] {
			best = i
		}
	}
	return best
}

// Draw is what the tokens of one sequence are chosen with.
type Draw struct {
	Params
	Sequence int
}

// candidate is a token that may be chosen.
type candidate struct {
	id     int
	weight uint64
}

// Next chooses the token at a position of a sequence.
//
// Weights are whole numbers, and their sums are the same in any order: a GPU
// that adds them side by side chooses the same token.
func (p Params) Next(logits []float32, sequence, position int) int {
	if p.Greedy() {
		return Greedy(logits)
	}
	list, total := p.candidates(logits)
	target := uint64(Uniform(p.Seed, sequence, position) * float64(total))
	for _, c := range list {
		if target < c.weight {
			return c.id
		}
		target -= c.weight
	}
	return Greedy(logits) // no logit is a number
}

// Greedy reports whether the largest logit is always chosen.
func (p Params) Greedy() bool { return p.Temperature == 0 || p.TopK == 1 }

// candidates lists what top-k and top-p leave, most probable first, of equals
// the first, and the sum of their weights.
func (p Params) candidates(logits []float32) ([]candidate, uint64) {
	top := float64(logits[Greedy(logits)])
	list := make([]candidate, len(logits))
	for i, v := range logits {
		list[i] = candidate{i, uint64(Weight((float64(v) - top) / p.Temperature))}
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.id, b.id))
	})
	if p.TopK > 0 && p.TopK < len(list) {
		list = list[:p.TopK]
	}
	var total uint64
	for _, c := range list {
		total += c.weight
	}
	if p.TopP > 0 && p.TopP < 1 {
		return nucleus(list, uint64(math.Ceil(p.TopP*float64(total))))
	}
	return list, total
}

// nucleus returns the fewest candidates, but one at least, whose weights reach
// a sum, and that sum.
func nucleus(list []candidate, enough uint64) ([]candidate, uint64) {
	var sum uint64
	for i, c := range list {
		if sum += c.weight; sum >= enough {
			return list[:i+1], sum
		}
	}
	return list, sum
}

// weightBits is the logarithm of the largest weight: sums of a million such
// weights are exact as float64.
const weightBits = 31

// Constants of Weight: beyond weightLimit weights are 0; the first part of
// the logarithm of 2 is short, so that small multiples of it are exact.
const (
	weightLimit = -23
	ln2High     = 0x1.62e42feep-1
	ln2Low      = 0x1.a39ef35793c76p-33
)

// series are the coefficients of e to the power of r, for |r| up to ln(2)/2.
var series = [...]float64{1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320, 1. / 5040, 1. / 720, 1. / 120, 1. / 24, 1. / 6, 1. / 2, 1, 1}

// Weight returns e to the power of x, which is at most 0, times 2 to the power
// of 31, as a whole number. Every operation is rounded to float64, so that all
// processors have the same weights; sample.cuh does the same.
func Weight(x float64) uint32 {
	if !(x > weightLimit) {
		return 0
	}
	k := math.Floor(float64(x*math.Log2E) + 0.5)
	r := float64(x-float64(k*ln2High)) - float64(k*ln2Low)
	y := 0.0
	for _, c := range series {
		y = float64(y*r) + c
	}
	return uint32(math.Ldexp(y, int(k)+weightBits) + 0.5)
}

// Uniform returns a number in [0, 1) for a position of a sequence.
func Uniform(seed uint64, sequence, position int) float64 {
	return float64(mix(Key(seed, sequence)+uint64(position))>>11) / (1 << 53)
}

// Key is what the random numbers of a sequence are made from, with positions.
func Key(seed uint64, sequence int) uint64 { return mix(mix(seed) + uint64(sequence)) }

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
