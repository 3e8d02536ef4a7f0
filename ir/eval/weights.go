package eval

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"

	"moec/ir"
	"moec/ir/arith"
)

// Weights gives the elements of weights.
type Weights interface {
	// Weight returns the elements of the part of a weight that slice, [lo, hi)
	// of each axis, and experts, entries of the first axis in the order wanted,
	// select; nil selects everything. They are exact in the weight's type. The
	// caller does not change them.
	Weight(name string, slice [][]int, experts []int) ([]float32, error)
}

// Array is a whole weight.
type Array struct {
	Shape []int
	Data  []float32
}

// Arrays are weights in memory, by name.
type Arrays map[string]Array

// Weight implements Weights.
func (a Arrays) Weight(name string, slice [][]int, experts []int) ([]float32, error) {
	w, ok := a[name]
	if !ok {
		return nil, fmt.Errorf("weight %q is not given", name)
	}
	picks := make([][]int, len(w.Shape))
	for axis, d := range w.Shape {
		lo, hi := 0, d
		if slice != nil {
			lo, hi = slice[axis][0], slice[axis][1]
		}
		for i := lo; i < hi; i++ {
			picks[axis] = append(picks[axis], i)
		}
	}
	if experts != nil {
		picks[0] = experts
	}
	return pick(w, picks, nil, 0), nil
}

// pick appends the elements whose index on each axis is listed; at is the
// index of the first one over the axes already passed.
func pick(w Array, picks [][]int, out []float32, at int) []float32 {
	axis := len(w.Shape) - len(picks)
	if len(picks) == 0 {
		return append(out, w.Data[at])
	}
	for _, i := range picks[0] {
		out = pick(w, picks[1:], out, at*w.Shape[axis]+i)
	}
	return out
}

// RandomWeights returns weights for a graph. They depend on the seed and the
// weight's name alone, and keep activations near 1: matrices have variance
// 1/inputs, vectors lie around 1.
func RandomWeights(g *ir.Graph, seed uint64) Arrays {
	all := Arrays{}
	for _, w := range g.Weights {
		h := fnv.New64a()
		h.Write([]byte(w.Name))
		rng := rand.New(rand.NewPCG(seed, h.Sum64()))
		n := 1
		for _, d := range w.Shape {
			n *= d
		}
		mean, deviation := 1.0, 0.2
		if len(w.Shape) > 1 {
			mean, deviation = 0, 1/math.Sqrt(float64(w.Shape[len(w.Shape)-1]))
		}
		data := make([]float32, n)
		for i := range data {
			data[i] = float32(mean + float64(deviation*rng.NormFloat64()))
		}
		arith.Round(data, data, w.DType)
		all[w.Name] = Array{slices.Clone(w.Shape), data}
	}
	return all
}
