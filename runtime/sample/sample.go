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

// candidate is a token that may be chosen.
type candidate struct {
	id int
	p  float64
}

// Next chooses the token at a position of a sequence.
func (p Params) Next(logits []float32, sequence, position int) int {
	if p.Temperature == 0 || p.TopK == 1 {
		return Greedy(logits)
	}
	list := p.candidates(logits)
	var total float64
	for _, c := range list {
		total += c.p
	}
	target := Uniform(p.Seed, sequence, position) * total
	for _, c := range list {
		if target -= c.p; target < 0 {
			return c.id
		}
	}
	return list[len(list)-1].id
}

// candidates lists what top-k and top-p leave, most probable first, with
// weights that are not normalised.
func (p Params) candidates(logits []float32) []candidate {
	top := float64(logits[Greedy(logits)])
	list := make([]candidate, len(logits))
	for i, v := range logits {
		list[i] = candidate{i, math.Exp((float64(v) - top) / p.Temperature)}
	}
	slices.SortFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(b.p, a.p), cmp.Compare(a.id, b.id))
	})
	if p.TopK > 0 && p.TopK < len(list) {
		list = list[:p.TopK]
	}
	if p.TopP > 0 && p.TopP < 1 {
		list = list[:nucleus(list, p.TopP)]
	}
	return list
}

// nucleus returns how many candidates reach a share of the whole.
func nucleus(list []candidate, share float64) int {
	var total, sum float64
	for _, c := range list {
		total += c.p
	}
	for i, c := range list {
		if sum += c.p; sum >= share*total {
			return i + 1
		}
	}
	return len(list)
}

// Uniform returns a number in [0, 1) for a position of a sequence.
func Uniform(seed uint64, sequence, position int) float64 {
	x := mix(mix(mix(seed)+uint64(sequence)) + uint64(position))
	return float64(x>>11) / (1 << 53)
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
