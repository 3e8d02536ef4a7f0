package arith

import (
	"math"
	"testing"
)

var (
	inf     = float32(math.Inf(1))
	nan     = float32(math.NaN())
	minZero = float32(math.Copysign(0, -1))
)

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// functions pairs each scalar function with its definition in float64.
var functions = []struct {
	name string
	f    func(float32) float32
	want func(float64) float64
	// least is where the definition below stops being accurate in float64.
	least float64
}{
	{"exp", Exp, math.Exp, -200},
	{"log", Log, math.Log, 0},
	{"sqrt", Sqrt, math.Sqrt, 0},
	{"tanh", Tanh, math.Tanh, -200},
	{"sigmoid", Sigmoid, sigmoid, -88},
	{"silu", Silu, func(x float64) float64 { return x * sigmoid(x) }, -88},
	{"gelu", Gelu, func(x float64) float64 { return x / 2 * math.Erfc(-x/math.Sqrt2) }, -13},
	{"gelu_tanh", GeluTanh, func(x float64) float64 {
		return x * sigmoid(2*math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))
	}, -9},
	{"softplus", Softplus, func(x float64) float64 { return math.Max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }, -87},
	{"relu", Relu, func(x float64) float64 { return math.Max(x, 0) }, -200},
	{"neg", Neg, func(x float64) float64 { return -x }, -200},
	{"abs", Abs, math.Abs, -200},
}

// TestFunctions sweeps each function and allows half a unit in the last place
// and a little for the few results that are not correctly rounded.
func TestFunctions(t *testing.T) {
	for _, fn := range functions {
		for i := -40000; i <= 40000; i++ {
			v := float64(i) / 40000
			x := float32(math.Copysign(math.Exp(12*math.Abs(v))-1, v) / 1500)
			if float64(x) < fn.least {
				continue
			}
			got, want := float64(fn.f(x)), fn.want(float64(x))
			r := float32(want)
			if math.IsInf(float64(r), 0) {
				if got != float64(r) {
					t.Fatalf("%s(%v) = %v, want %v", fn.name, x, got, r)
				}
				continue
			}
			ulp := float64(math.Nextafter32(float32(math.Abs(want)), inf)) - math.Abs(float64(r))
			if d := math.Abs(got - want); d > 0.5001*ulp && d > 0 {
				t.Fatalf("%s(%v) = %v, want %v", fn.name, x, got, want)
			}
		}
	}
}

func TestSpecialValues(t *testing.T) {
	for _, c := range []struct {
		name    string
		f       func(float32) float32
		x, want float32
	}{
		{"exp", Exp, inf, inf}, {"exp", Exp, -inf, 0}, {"exp", Exp, 0, 1}, {"exp", Exp, nan, nan}, {"exp", Exp, 88.8, inf}, {"exp", Exp, -150, 0},
		{"log", Log, 0, -inf}, {"log", Log, -1, nan}, {"sqrt", Sqrt, -1, nan},
		{"tanh", Tanh, inf, 1}, {"tanh", Tanh, -inf, -1}, {"tanh", Tanh, minZero, minZero}, {"tanh", Tanh, 1e-30, 1e-30}, {"tanh", Tanh, nan, nan},
		{"sigmoid", Sigmoid, inf, 1}, {"sigmoid", Sigmoid, -inf, 0}, {"sigmoid", Sigmoid, nan, nan},
		{"silu", Silu, inf, inf}, {"silu", Silu, -inf, 0}, {"silu", Silu, nan, nan}, {"silu", Silu, 0, 0},
		{"gelu", Gelu, inf, inf}, {"gelu", Gelu, -inf, 0}, {"gelu", Gelu, nan, nan},
		{"gelu_tanh", GeluTanh, inf, inf}, {"gelu_tanh", GeluTanh, -inf, 0}, {"gelu_tanh", GeluTanh, nan, nan},
		{"softplus", Softplus, inf, inf}, {"softplus", Softplus, -inf, 0}, {"softplus", Softplus, nan, nan},
		{"relu", Relu, nan, nan}, {"relu", Relu, minZero, 0}, {"relu", Relu, -inf, 0},
		{"abs", Abs, minZero, 0}, {"abs", Abs, -inf, inf}, {"neg", Neg, 0, minZero},
	} {
		got := c.f(c.x)
		if c.want != c.want && got != got {
			continue
		}
		if got != c.want || math.Signbit(float64(got)) != math.Signbit(float64(c.want)) {
			t.Errorf("%s(%v) = %v, want %v", c.name, c.x, got, c.want)
		}
	}
	if got := Softcap(100, 30); math.Abs(float64(got)-30*math.Tanh(100.0/30)) > 1e-5 {
		t.Errorf("Softcap(100, 30) = %v", got)
	}
}
