package arith

import "moec/ir/tensor"

// lanes is the number of partial sums of the canonical order: element k of a
// segment is added to lane k mod 8, and the lanes are then added in pairs.
const lanes = 8

// fold adds the lanes: ((0+1)+(2+3)) + ((4+5)+(6+7)).
func fold(s *[lanes]float32) float32 {
	return ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))
}

// addProducts adds a[k]*b[k] to lane k mod 8. It may be called for one run of
// a segment after the other if all runs but the last are multiples of 8 long.
func addProducts(s *[lanes]float32, a, b []float32) {
	b = b[:len(a)]
	s0, s1, s2, s3, s4, s5, s6, s7 := s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
	for len(a) >= lanes && len(b) >= lanes {
		s0 += float32(a[0] * b[0])
		s1 += float32(a[1] * b[1])
		s2 += float32(a[2] * b[2])
		s3 += float32(a[3] * b[3])
		s4 += float32(a[4] * b[4])
		s5 += float32(a[5] * b[5])
		s6 += float32(a[6] * b[6])
		s7 += float32(a[7] * b[7])
		a, b = a[lanes:], b[lanes:]
	}
	s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7] = s0, s1, s2, s3, s4, s5, s6, s7
	for i := range a {
		s[i] += float32(a[i] * b[i])
	}
}

// Dot returns the sum of a[k]*b[k] in the canonical order. Lanes start at +0,
// products are rounded before they are added, and lanes without elements stay
// +0: padding both slices with zeros changes nothing, and no result is -0.
func Dot(a, b []float32) float32 {
	var s [lanes]float32
	addProducts(&s, a, b)
	return fold(&s)
}

// Dot4 returns Dot of b with each of four slices of its length: one weight row
// with four rows of x, or one row of x with four weight rows.
//
// Without vector instructions, keeping four rows in registers is no faster
// than four passes (measured on amd64: 0.5 ns a product either way), so it
// makes them.
func Dot4(b, a0, a1, a2, a3 []float32) (r0, r1, r2, r3 float32) {
	return Dot(a0, b), Dot(a1, b), Dot(a2, b), Dot(a3, b)
}

// DotBF16 is Dot of x with weights given as bf16 patterns.
func DotBF16(x []float32, w []uint16) float32 {
	w = w[:len(x)]
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for len(x) >= lanes && len(w) >= lanes {
		s0 += float32(x[0] * FromBF16(w[0]))
		s1 += float32(x[1] * FromBF16(w[1]))
		s2 += float32(x[2] * FromBF16(w[2]))
		s3 += float32(x[3] * FromBF16(w[3]))
		s4 += float32(x[4] * FromBF16(w[4]))
		s5 += float32(x[5] * FromBF16(w[5]))
		s6 += float32(x[6] * FromBF16(w[6]))
		s7 += float32(x[7] * FromBF16(w[7]))
		x, w = x[lanes:], w[lanes:]
	}
	s := [lanes]float32{s0, s1, s2, s3, s4, s5, s6, s7}
	for i := range x {
		s[i] += float32(x[i] * FromBF16(w[i]))
	}
	return fold(&s)
}

// block is how many weights are widened at a time: a multiple of the lanes
// that stays in the first-level cache together with four rows of x.
const block = 256

// DotF16 is Dot of x with weights given as binary16 patterns.
func DotF16(x []float32, w []uint16) float32 {
	w = w[:len(x)]
	var s [lanes]float32
	var wide [block]float32
	for lo := 0; lo < len(x); lo += block {
		hi := min(lo+block, len(x))
		Widen(wide[:], w[lo:hi], tensor.F16)
		addProducts(&s, x[lo:hi], wide[:hi-lo])
	}
	return fold(&s)
}

// Dot4Half is Dot4 with the weight row w given as patterns of type d, bf16 or
// f16: the weights are widened once for all four rows.
func Dot4Half(w []uint16, d tensor.DType, x [4][]float32) [4]float32 {
	var s [4][lanes]float32
	var wide [block]float32
	for lo := 0; lo < len(w); lo += block {
		hi := min(lo+block, len(w))
		Widen(wide[:], w[lo:hi], d)
		for r := range x {
			addProducts(&s[r], x[r][lo:hi], wide[:hi-lo])
		}
	}
	return [4]float32{fold(&s[0]), fold(&s[1]), fold(&s[2]), fold(&s[3])}
}

// Sum returns the sum of x in the canonical order.
func Sum(x []float32) float32 {
	var s [lanes]float32
	for len(x) >= lanes {
		for i := range lanes {
			s[i] += x[i]
		}
		x = x[lanes:]
	}
	for i := range x {
		s[i] += x[i]
	}
	return fold(&s)
}
