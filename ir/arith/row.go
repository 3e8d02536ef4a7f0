package arith

import "math"

// Softmax writes e^(x - m) / s to dst, which may be x: m is the largest entry
// and s the sum of the exponentials in the canonical order. A row that holds
// NaN, or nothing above minus infinity, gives NaN.
func Softmax(dst, x []float32) {
	dst = dst[:len(x)]
	m := Max(x)
	for i, v := range x {
		dst[i] = Exp(v - m)
	}
	s := Sum(dst)
	for i := range dst {
		dst[i] /= s
	}
}

// Max returns the largest entry, minus infinity for an empty row, and NaN if
// any entry is.
func Max(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		m = max(m, v)
	}
	return m
}

// RMSNorm writes x / sqrt(mean(x^2) + eps) to dst, which may be x: the sum of
// squares is in the canonical order, the factor is rounded to float32, and the
// product with w (nil for none) is rounded after the product with the factor.
func RMSNorm(dst, x, w []float32, eps float64) {
	scaleNorm(dst, x, w, Dot(x, x), eps)
}

// LayerNorm writes (x - mean) / sqrt(variance + eps) to dst, which may be x,
// times w and plus b, either of which may be nil. Sums are in the canonical
// order and every step but the square root is rounded to float32.
func LayerNorm(dst, x, w, b []float32, eps float64) {
	dst = dst[:len(x)]
	mean := float32(float64(Sum(x)) / float64(len(x)))
	for i, v := range x {
		dst[i] = v - mean
	}
	scaleNorm(dst, dst, w, Dot(dst, dst), eps)
	if b != nil {
		AddRow(dst, b)
	}
}

// scaleNorm divides x by the square root of the mean of its squares plus eps.
func scaleNorm(dst, x, w []float32, squares float32, eps float64) {
	dst = dst[:len(x)]
	factor := float32(1 / math.Sqrt(float64(squares)/float64(len(x))+eps))
	if w == nil {
		ScaleRow(dst, x, factor)
		return
	}
	w = w[:len(x)]
	for i, v := range x {
		dst[i] = float32(float32(v*factor) * w[i])
	}
}

// Style says which entries of a head a rotary embedding pairs.
type Style uint8

// Half pairs entry i with entry i + F of F frequencies, Interleaved entry 2i
// with entry 2i+1. Entries past 2F are kept.
const (
	Half Style = iota
	Interleaved
)

// Angles writes cosine and sine, times scale, of position times each
// frequency: the angle is rounded to float32, its cosine and sine are rounded,
// and so are their products with scale.
func Angles(cos, sin []float32, position int32, freqs []float32, scale float64) {
	cos, sin = cos[:len(freqs)], sin[:len(freqs)]
	for i, f := range freqs {
		angle := float64(float32(float32(position) * f))
		cos[i] = float32(float32(math.Cos(angle)) * float32(scale))
		sin[i] = float32(float32(math.Sin(angle)) * float32(scale))
	}
}

// Rotate writes the row x of one head, its pairs turned, to dst, which may be x.
func Rotate(dst, x, cos, sin []float32, style Style) {
	dst = dst[:len(x)]
	n := len(cos)
	for i, c := range cos {
		a, b := i, i+n
		if style == Interleaved {
			a, b = 2*i, 2*i+1
		}
		s, u, v := sin[i], x[a], x[b]
		dst[a] = float32(u*c) - float32(v*s)
		dst[b] = float32(v*c) + float32(u*s)
	}
	copy(dst[2*n:], x[2*n:])
}
