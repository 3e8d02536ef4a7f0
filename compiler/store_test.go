package compiler

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"

	"moec/ir"
	"moec/ir/arith"
	"moec/ir/eval"
	"moec/ir/tensor"
)

// store is a checkpoint in memory, of random tensors.
type store struct {
	seed    uint64
	tensors map[string]*stored
}

type stored struct {
	dtype tensor.DType
	shape []int
	data  []float32 // exact in dtype
}

// newStore has a tensor for everything that weights are read from.
func newStore(list []*ir.Weight, seed uint64) *store {
	s := &store{seed, map[string]*stored{}}
	for _, w := range list {
		for e := range max(1, w.Experts) {
			if key := w.Source.KeyFor(w.Layer, e); s.tensors[key] == nil {
				s.tensors[key] = s.fill(key, w)
			}
		}
	}
	return s
}

// fill makes a tensor: norms are around 1, other vectors small, and matrices
// keep the scale of what they multiply. Its type is usually the one that the
// description asks for.
func (s *store) fill(key string, w *ir.Weight) *stored {
	d := w.DType
	if r := s.random(w.Source.Key); r.IntN(4) == 0 {
		d = []tensor.DType{tensor.F32, tensor.BF16, tensor.F16}[r.IntN(3)]
	}
	rank := len(w.Shape)
	if w.Experts > 0 {
		rank--
	}
	mean, deviation := 0.0, 0.3
	switch {
	case strings.Contains(key, "norm.weight"):
		mean, deviation = 1, 0.2
	case rank > 1 && !strings.Contains(key, "embedding"):
		deviation = 1 / math.Sqrt(float64(w.Shape[len(w.Shape)-1]))
	case rank > 1:
		deviation = 1
	}
	n := 1
	for _, k := range w.Source.Stored {
		n *= k
	}
	t := &stored{d, w.Source.Stored, make([]float32, n)}
	r := s.random(key)
	for i := range t.data {
		t.data[i] = float32(mean + float64(deviation*r.NormFloat64()))
	}
	arith.Round(t.data, t.data, d)
	return t
}

func (s *store) random(key string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(key))
	return rand.New(rand.NewPCG(s.seed, h.Sum64()))
}

// tensor is a dsl.Env's Tensor.
func (s *store) tensor(name string) (tensor.DType, []int, bool) {
	t, ok := s.tensors[name]
	if !ok {
		return tensor.Invalid, nil, false
	}
	return t.dtype, t.shape, true
}

// ReadSlice implements weights.Tensors.
func (s *store) ReadSlice(name string, begin, end []int64, dst []byte) error {
	t, ok := s.tensors[name]
	if !ok {
		return fmt.Errorf("no tensor %s", name)
	}
	size := t.dtype.Bytes()
	var walk func(axis, at int)
	walk = func(axis, at int) {
		if axis == len(t.shape) {
			switch t.dtype {
			case tensor.BF16:
				binary.LittleEndian.PutUint16(dst, arith.ToBF16(t.data[at]))
			case tensor.F16:
				binary.LittleEndian.PutUint16(dst, arith.ToF16(t.data[at]))
			default:
				binary.LittleEndian.PutUint32(dst, math.Float32bits(t.data[at]))
			}
			dst = dst[size:]
			return
		}
		for i := begin[axis]; i < end[axis]; i++ {
			walk(axis+1, at*t.shape[axis]+int(i))
		}
	}
	walk(0, 0)
	if len(dst) != 0 {
		return fmt.Errorf("tensor %s: %d bytes too many are wanted", name, len(dst))
	}
	return nil
}

// arrays returns weights as the evaluator takes them.
func (s *store) arrays(list []*ir.Weight) eval.Arrays {
	all := eval.Arrays{}
	for _, w := range list {
		a := eval.Array{Shape: w.Shape}
		for e := range max(1, w.Experts) {
			a.Data = append(a.Data, s.view(w, e)...)
		}
		all[w.Name] = a
	}
	return all
}

// view returns the part of a stored tensor that a weight is, of one expert if
// it has experts.
func (s *store) view(w *ir.Weight, expert int) []float32 {
	t := s.tensors[w.Source.KeyFor(w.Layer, expert)]
	view := w.Source.View
	order := make([]int, len(view)) // axes in the order of the weight's
	for i := range order {
		order[i] = i
	}
	if n := len(order); w.Source.Transposed {
		order[n-2], order[n-1] = order[n-1], order[n-2]
	}
	strides := make([]int, len(view))
	for i, stride := len(view)-1, 1; i >= 0; i-- {
		strides[i] = stride
		stride *= t.shape[i]
	}
	var out []float32
	var walk func(k, at int)
	walk = func(k, at int) {
		if k == len(order) {
			out = append(out, t.data[at])
			return
		}
		axis := order[k]
		if a := view[axis]; a.Expert {
			walk(k+1, at+expert*strides[axis])
		} else {
			for i := a.Lo; i < a.Hi; i += a.Step {
				walk(k+1, at+i*strides[axis])
			}
		}
	}
	walk(0, 0)
	return out
}
