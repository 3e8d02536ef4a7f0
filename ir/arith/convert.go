// Package arith is the arithmetic under every op: conversions between storage
// types, the canonical dot product and sums, scalar functions, and operations
// on one row.
//
// Numbers go in as plain slices and come out as plain slices. The evaluator
// and the host backend share it, so their results are equal bit for bit. Every
// function fixes the order of its additions and rounds every product, so that
// no compiler may fuse a multiplication with an addition: the bits are the same
// on every architecture, except that log, erf, sin and cos come from package
// math, whose results may differ between architectures in the last bit of a
// float64. The package knows no graphs, no threads and no memory but its
// arguments.
package arith

import (
	"math"

	"moec/ir/tensor"
)

// FromBF16 returns the value of a bf16 bit pattern, exactly.
func FromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// ToBF16 rounds x to the nearest bf16, ties to even; NaN stays NaN.
func ToBF16(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// FromF16 returns the value of a binary16 bit pattern, exactly.
func FromF16(h uint16) float32 {
	sign, mag := uint32(h&0x8000)<<16, uint32(h&0x7fff)<<13
	if h&0x7c00 == 0x7c00 {
		return math.Float32frombits(sign | mag | 0x7f800000)
	}
	// The exponent field is 112 too small for the wider bias; the product is
	// exact and turns subnormals into normal numbers.
	scaled := math.Float32frombits(mag) * 0x1p112
	return math.Float32frombits(sign | math.Float32bits(scaled))
}

// ToF16 rounds x to the nearest binary16, ties to even; NaN stays NaN, and
// what rounds past 65504 becomes infinite.
func ToF16(x float32) uint16 {
	b := math.Float32bits(x)
	sign, mag := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case mag > 0x7f800000:
		return sign | 0x7e00 | uint16(mag>>13&0x3ff)
	case mag >= 0x477ff000: // 65520, half way to what would be the next
		return sign | 0x7c00
	case mag < 0x38800000: // below 2^-14: the sum's last bit is 2^-24
		return sign | uint16(math.Float32bits(math.Float32frombits(mag)+0.5)-0x3f000000)
	}
	return sign | uint16((mag-0x38000000+0xfff+mag>>13&1)>>13)
}

// RoundBF16 returns the bf16 nearest to x as a float32.
func RoundBF16(x float32) float32 { return FromBF16(ToBF16(x)) }

// RoundF16 returns the binary16 nearest to x as a float32.
func RoundF16(x float32) float32 { return FromF16(ToF16(x)) }

// Round writes src rounded to d, as float32, to dst, which may be src.
func Round(dst, src []float32, d tensor.DType) {
	dst = dst[:len(src)]
	switch d {
	case tensor.BF16:
		for i, x := range src {
			dst[i] = RoundBF16(x)
		}
	case tensor.F16:
		for i, x := range src {
			dst[i] = RoundF16(x)
		}
	default:
		copy(dst, src)
	}
}

// Widen writes the values of half-width patterns of type d, bf16 or f16, to dst.
func Widen(dst []float32, src []uint16, d tensor.DType) {
	dst = dst[:len(src)]
	if d == tensor.F16 {
		for i, h := range src {
			dst[i] = FromF16(h)
		}
		return
	}
	for i, h := range src {
		dst[i] = FromBF16(h)
	}
}

// Narrow writes src rounded to d, bf16 or f16, to dst as patterns.
func Narrow(dst []uint16, src []float32, d tensor.DType) {
	dst = dst[:len(src)]
	if d == tensor.F16 {
		for i, x := range src {
			dst[i] = ToF16(x)
		}
		return
	}
	for i, x := range src {
		dst[i] = ToBF16(x)
	}
}
