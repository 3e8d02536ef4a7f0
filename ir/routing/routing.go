// Package routing holds how often the tokens of a model choose its experts:
// statistics as an input of the placement search.
//
// Statistics come from a formula (every expert alike, or a power law) or from
// a trace that a run recorded. What comes out are batches of made-up tokens
// with the experts that each chose, the same on every machine, and how often
// tokens change devices between layers. The package knows no graph, no
// placement of anything else and no time.
package routing

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// maxExperts is how many experts a uint16 can number.
const maxExperts = 1 << 16

// Shape is what a layer chooses: Slots of its Experts for every token. A layer
// without experts has 0 of both.
type Shape struct {
	Experts, Slots int
}

// Layer is the statistics of one layer. All numbers are counts, of which only
// the ratios matter.
type Layer struct {
	Shape
	Weight []int64 // for each expert, how often it was chosen
	// Pairs[e][f] counts tokens that chose both e and f; nil if not known.
	Pairs [][]int64
	// Next[e][f] counts tokens that chose e here and f in the next layer that
	// has experts; nil if not known.
	Next [][]int64
}

// Stats is the statistics of all layers of a model, those without experts
// included.
type Stats struct {
	Name   string // "uniform", "power:1.2:1" or the name of a trace file
	Layers []Layer

	sample [][]uint16
}

// Sample returns the choices of single tokens that a trace recorded, in the
// form of Walk, or nil.
func (s *Stats) Sample() [][]uint16 { return s.sample }

// Uniform returns statistics in which all experts of a layer are alike.
func Uniform(shapes []Shape) *Stats {
	s := &Stats{Name: "uniform"}
	for _, sh := range shapes {
		w := make([]int64, sh.Experts)
		for e := range w {
			w[e] = 1
		}
		s.Layers = append(s.Layers, Layer{Shape: sh, Weight: w})
	}
	return s
}

// powerScale is the weight of the most popular expert of a power law. It is
// small beside the 53 bits of a float64, so that a last bit that differs
// between processors does not survive rounding.
const powerScale = 1_000_000

// PowerLaw returns statistics in which the expert of popularity rank r is
// chosen in proportion to (r+1)^-skew. The seed says, for each layer, which
// expert has which rank.
func PowerLaw(shapes []Shape, skew float64, seed uint64) *Stats {
	s := &Stats{Name: fmt.Sprintf("power:%v:%d", skew, seed)}
	for l, sh := range shapes {
		w := make([]int64, sh.Experts)
		for r := range w {
			w[r] = max(1, int64(math.Round(powerScale*math.Pow(float64(r+1), -skew))))
		}
		g := newSource(seed, uint64(l))
		for i := len(w) - 1; i > 0; i-- {
			j := g.below(int64(i + 1))
			w[i], w[j] = w[j], w[i]
		}
		s.Layers = append(s.Layers, Layer{Shape: sh, Weight: w})
	}
	return s
}

// Parse returns the statistics that spec names: "uniform", "power:SKEW",
// "power:SKEW:SEED" or the path of a trace file.
func Parse(spec string, shapes []Shape) (*Stats, error) {
	if err := checkShapes(shapes); err != nil {
		return nil, err
	}
	kind, rest, _ := strings.Cut(spec, ":")
	switch kind {
	case "uniform":
		if spec == "uniform" {
			return Uniform(shapes), nil
		}
	case "power":
		skew, seed, err := parsePower(rest)
		if err != nil {
			return nil, fmt.Errorf("routing %q: %w", spec, err)
		}
		return PowerLaw(shapes, skew, seed), nil
	case "":
		return nil, fmt.Errorf("routing %q names no statistics: want uniform, power:SKEW, power:SKEW:SEED or the path of a trace file", spec)
	}
	return readTrace(spec, shapes)
}

// maxSkew keeps a power law from being one expert and rounding.
const maxSkew = 8

func parsePower(text string) (skew float64, seed uint64, err error) {
	first, second, seeded := strings.Cut(text, ":")
	if skew, err = strconv.ParseFloat(first, 64); err != nil || !(skew >= 0 && skew <= maxSkew) {
		return 0, 0, fmt.Errorf("the skew is %q, want a number from 0 (uniform) to %d, as in power:1.2", first, maxSkew)
	}
	seed = 1
	if seeded {
		if seed, err = strconv.ParseUint(second, 10, 64); err != nil {
			return 0, 0, fmt.Errorf("the seed is %q, want a whole number from 0, as in power:1.2:7", second)
		}
	}
	return skew, seed, nil
}

// checkShapes refuses shapes that no model has.
func checkShapes(shapes []Shape) error {
	for l, sh := range shapes {
		if sh.Experts < 0 || sh.Experts > maxExperts || sh.Slots < 0 || sh.Slots > sh.Experts || sh.Experts > 0 && sh.Slots == 0 {
			return fmt.Errorf("layer %d chooses %d of %d experts: want 1 or more of at most %d", l, sh.Slots, sh.Experts, maxExperts)
		}
	}
	return nil
}

// Class returns the first layer with the same shape and statistics. Layers of
// one class get the same batches.
func (s *Stats) Class(layer int) int {
	for l := range layer {
		if s.Layers[l].same(&s.Layers[layer]) {
			return l
		}
	}
	return layer
}

// same reports whether batches of two layers are drawn alike.
func (l *Layer) same(o *Layer) bool {
	return l.Shape == o.Shape && slices.Equal(l.Weight, o.Weight) && slices.EqualFunc(l.Pairs, o.Pairs, slices.Equal[[]int64])
}

// Batch is the experts that the tokens of one step chose in one layer.
type Batch struct {
	Tokens, Slots, Experts int
	Chosen                 []uint16 // Chosen[t*Slots+s] is the expert of slot s of token t
}

// Count returns how many slots of the tokens lo to hi-1 chose an expert,
// counting only every turns-th token: those with (t-lo)%turns == turn.
func (b *Batch) Count(expert, turn, turns, lo, hi int) int {
	n, e := 0, uint16(expert)
	for t := lo + turn; t < hi; t += turns {
		for _, c := range b.Chosen[t*b.Slots : (t+1)*b.Slots] {
			if c == e {
				n++
			}
		}
	}
	return n
}

// source is a stream of random numbers that is the same on every machine:
// math/rand/v2's Rand is not, it draws small numbers differently where words
// have 32 bits.
type source struct{ rand.PCG }

// newSource returns the stream of a seed and a list of numbers.
func newSource(seed uint64, of ...uint64) *source {
	h := seed
	for _, n := range of {
		h = mix(h ^ mix(n+0x9e3779b97f4a7c15))
	}
	g := new(source)
	g.Seed(seed, h)
	return g
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// below returns a number from 0 to n-1. Its bias, below n/2^64, is far below
// what counts of tokens can show.
func (g *source) below(n int64) int64 {
	hi, _ := bits.Mul64(g.Uint64(), uint64(n))
	return int64(hi)
}
