package host

import (
	"unsafe"

	"moec/ir/arith"
	"moec/ir/tensor"
)

// view is an operand or a result: a piece of a device's memory and its type.
type view struct {
	tensor.Type
	data []byte // sized for the largest step
}

// cast sees n elements of memory as a slice of T. Offsets are multiples of
// 256, so the alignment is right.
func cast[T float32 | uint16 | int32](data []byte, n int) []T {
	if n == 0 {
		return nil
	}
	_ = data[n*int(unsafe.Sizeof(*new(T)))-1]
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(data))), n)
}

func (v view) f32(n int) []float32 { return cast[float32](v.data, n) }
func (v view) half(n int) []uint16 { return cast[uint16](v.data, n) }
func (v view) i32(n int) []int32   { return cast[int32](v.data, n) }

// rowFloats returns row r of n elements as f32: the memory itself, or widened
// into scratch.
func (v view) rowFloats(r, n int, scratch []float32) []float32 {
	if v.DType == tensor.F32 {
		return cast[float32](v.data[4*r*n:], n)
	}
	arith.Widen(scratch[:n], cast[uint16](v.data[2*r*n:], n), v.DType)
	return scratch[:n]
}

// setRow stores a row of f32 as row r, rounded to the view's type.
func (v view) setRow(r int, row []float32) {
	n := len(row)
	if v.DType == tensor.F32 {
		copy(cast[float32](v.data[4*r*n:], n), row)
		return
	}
	arith.Narrow(cast[uint16](v.data[2*r*n:], n), row, v.DType)
}

// rowsOf splits extents into a number of rows and the last extent.
func rowsOf(ext []int) (rows, n int) {
	rows, n = 1, 1
	for i, d := range ext {
		if i == len(ext)-1 {
			n = d
		} else {
			rows *= d
		}
	}
	return rows, n
}

func product(ext []int) int {
	n := 1
	for _, d := range ext {
		n *= d
	}
	return n
}
