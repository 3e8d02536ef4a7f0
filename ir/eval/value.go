package eval

import (
	"moec/ir/tensor"
)

// Value is an array on the host, row-major. Floating-point elements are held
// as float32 whatever their type: bf16 and f16 ones have been rounded.
type Value struct {
	Type tensor.Type // extents are numbers
	F    []float32
	I    []int32 // instead of F when the type is i32
	// Cache is what a kv_append gives instead of elements.
	Cache *Cache
}

// New returns a value of zeros. All extents of t must be numbers.
func New(t tensor.Type) Value {
	n := t.Shape.Static()
	if t.DType == tensor.I32 {
		return Value{Type: t, I: make([]int32, n)}
	}
	return Value{Type: t, F: make([]float32, n)}
}

// Floats returns an f32 value of the given extents and elements.
func Floats(data []float32, extents ...int) Value {
	return Value{Type: tensor.Type{DType: tensor.F32, Shape: tensor.Ints(extents...)}, F: data}
}

// Indices returns an i32 value of the given extents and elements.
func Indices(data []int32, extents ...int) Value {
	return Value{Type: tensor.Type{DType: tensor.I32, Shape: tensor.Ints(extents...)}, I: data}
}

// extent returns the extent of an axis.
func (v Value) extent(axis int) int { return v.Type.Shape[axis].N }

// last returns the innermost extent.
func (v Value) last() int { return v.Type.Shape.Last().N }

// rows returns how many rows along the last axis there are.
func (v Value) rows() int {
	n := 1
	for _, d := range v.Type.Shape[:max(0, len(v.Type.Shape)-1)] {
		n *= d.N
	}
	return n
}

// row returns row i along the last axis.
func (v Value) row(i int) []float32 { return v.F[i*v.last():][:v.last()] }

// ints returns row i along the last axis of an i32 value.
func (v Value) ints(i int) []int32 { return v.I[i*v.last():][:v.last()] }

// around returns the product of the extents before an axis and of those after.
func (v Value) around(axis int) (outer, inner int) {
	outer, inner = 1, 1
	for i, d := range v.Type.Shape {
		if i < axis {
			outer *= d.N
		}
		if i > axis {
			inner *= d.N
		}
	}
	return outer, inner
}

// copyFrom copies n elements of src from index s to index d of v.
func (v Value) copyFrom(d int, src Value, s, n int) {
	if v.Type.DType == tensor.I32 {
		copy(v.I[d:d+n], src.I[s:s+n])
		return
	}
	copy(v.F[d:d+n], src.F[s:s+n])
}
