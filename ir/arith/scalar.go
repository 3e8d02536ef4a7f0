package arith

import "math"

// Scalar functions are computed in float64 and rounded to float32 once.

// Constants of exp: log2(e), and ln 2 in two parts, of which the first ends in
// 21 zero bits, so that its product with an integer below 2^20 is exact.
const (
	log2e = 0x1.71547652b82fep+00
	ln2Hi = 0x1.62e42feep-01
	ln2Lo = 0x1.a39ef35793c76p-33
)

// Arguments past these give infinity and zero in float32.
const (
	expMax = 89.0   // e^89 > 2^128
	expMin = -104.0 // e^-104 < 2^-150
)

// expSteps are 1/n! for n from 10 down to 2: with |r| <= ln(2)/2 what is cut
// off is below 2^-41 of the result.
var expSteps = [...]float64{
	1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2,
}

// expParts returns n and e^r - 1 with x = n ln 2 + r, |r| <= ln(2)/2.
func expParts(x float64) (n int, em1 float64) {
	k := math.Floor(float64(x*log2e) + 0.5)
	r := (x - float64(k*ln2Hi)) - float64(k*ln2Lo)
	p := expSteps[0]
	for _, c := range expSteps[1:] {
		p = float64(p*r) + c
	}
	return int(k), r + float64(float64(r*r)*p)
}

// exp is e^x in float64 to 2^-40 of the result, for x that float32 results
// need; it takes the place of math.Exp, whose bits depend on the machine.
func exp(x float64) float64 {
	switch {
	case x > expMax:
		return math.Inf(1)
	case x < expMin:
		return 0
	case x != x:
		return x
	}
	n, em1 := expParts(x)
	return float64(math.Float64frombits(uint64(n+1023)<<52) * (1 + em1))
}

// expm1 is e^x - 1 to 2^-38 of the result, also near 0.
func expm1(x float64) float64 {
	if math.Abs(x) < math.Ln2/2 {
		_, em1 := expParts(x)
		return em1
	}
	return exp(x) - 1
}

// Exp returns e^x.
func Exp(x float32) float32 { return float32(exp(float64(x))) }

// Log returns the natural logarithm.
func Log(x float32) float32 { return float32(math.Log(float64(x))) }

// Sqrt returns the square root.
func Sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// Tanh returns the hyperbolic tangent.
func Tanh(x float32) float32 { return float32(tanh(float64(x))) }

func tanh(x float64) float64 {
	m := expm1(-2 * math.Abs(x))
	return math.Copysign(m/(2+m), x)
}

// Sigmoid returns 1 / (1 + e^-x).
func Sigmoid(x float32) float32 { return float32(1 / (1 + exp(-float64(x)))) }

// Silu returns x / (1 + e^-x), and 0 at minus infinity.
func Silu(x float32) float32 {
	if math.IsInf(float64(x), -1) {
		return 0
	}
	return float32(float64(x) / (1 + exp(-float64(x))))
}

// Gelu returns x/2 (1 + erf(x / sqrt 2)), and 0 at minus infinity.
func Gelu(x float32) float32 {
	if math.IsInf(float64(x), -1) {
		return 0
	}
	v := float64(x)
	return float32(float64(0.5*v) * math.Erfc(-v/math.Sqrt2))
}

// GeluTanh returns x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), and 0 at
// minus infinity.
func GeluTanh(x float32) float32 {
	if math.IsInf(float64(x), -1) {
		return 0
	}
	v := float64(x)
	cube := float64(float64(v*v) * v)
	inner := float64(math.Sqrt(2/math.Pi) * (v + float64(0.044715*cube)))
	// (1 + tanh(y))/2 = 1 / (1 + e^-2y), without the cancellation.
	return float32(v / (1 + exp(-2*inner)))
}

// Softplus returns log(1 + e^x).
func Softplus(x float32) float32 {
	v := float64(x)
	return float32(max(v, 0) + math.Log1p(exp(-math.Abs(v))))
}

// Relu returns the larger of x and +0; NaN stays NaN.
func Relu(x float32) float32 { return max(x, 0) }

// Neg returns -x.
func Neg(x float32) float32 { return -x }

// Abs returns |x|.
func Abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// Softcap returns c tanh(x / c), both steps rounded to float32.
func Softcap(x, c float32) float32 { return float32(c * Tanh(x/c)) }
