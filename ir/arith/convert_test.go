package arith

import (
	"math"
	"math/rand/v2"
	"testing"

	"moec/ir/tensor"
)

// half is one storage type under test.
type half struct {
	name string
	d    tensor.DType
	to   func(float32) uint16
	from func(uint16) float32
	inf  uint16
}

var halves = []half{
	{"bf16", tensor.BF16, ToBF16, FromBF16, 0x7f80},
	{"f16", tensor.F16, ToF16, FromF16, 0x7c00},
}

// TestEveryPattern converts all 65536 patterns there and back.
func TestEveryPattern(t *testing.T) {
	for _, h := range halves {
		for p := range 1 << 16 {
			x := h.from(uint16(p))
			back := h.to(x)
			if x != x {
				if y := h.from(back); y == y {
					t.Fatalf("%s %#04x: NaN came back as %v", h.name, p, y)
				}
				continue
			}
			if back != uint16(p) {
				t.Fatalf("%s %#04x = %v came back as %#04x", h.name, p, x, back)
			}
		}
	}
}

// TestF16Values checks patterns against the format's definition.
func TestF16Values(t *testing.T) {
	for p := range 0x7c00 {
		e, m := p>>10, float64(p&0x3ff)
		want := math.Ldexp(1+m/1024, e-15)
		if e == 0 {
			want = math.Ldexp(m/1024, -14)
		}
		if got := FromF16(uint16(p)); float64(got) != want {
			t.Fatalf("FromF16(%#04x) = %v, want %v", p, got, want)
		}
		if got := FromF16(uint16(p) | 0x8000); float64(got) != -want {
			t.Fatalf("FromF16(%#04x) = %v, want %v", p|0x8000, got, -want)
		}
	}
}

// TestNearestEven checks roundings against the two neighbours, in float64:
// finite patterns ascend with the value, so the neighbour is the next pattern.
func TestNearestEven(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, h := range halves {
		for p := uint16(0); p < h.inf; p++ {
			lo, hi := float64(h.from(p)), float64(h.from(p+1))
			if p+1 == h.inf { // the step continues past the largest
				hi = lo + (lo - float64(h.from(p-1)))
			}
			mid := lo + (hi-lo)/2
			even := p + p&1
			below := float32(lo + (mid-lo)*0.999*rng.Float64())
			above := float32(mid + (hi-mid)*(0.001+0.999*rng.Float64()))
			for _, c := range []struct {
				x    float32
				want uint16
			}{{float32(mid), even}, {math.Nextafter32(float32(mid), 0), p}, {math.Nextafter32(float32(mid), float32(math.Inf(1))), p + 1}, {below, p}, {above, p + 1}} {
				if float64(float32(mid)) != mid {
					t.Fatalf("%s: midpoint %v is not a float32", h.name, mid)
				}
				if got := h.to(c.x); got != c.want {
					t.Fatalf("%s: %v between %#04x and %#04x became %#04x, want %#04x", h.name, c.x, p, p+1, got, c.want)
				}
				if got := h.to(-c.x); got != c.want|0x8000 {
					t.Fatalf("%s: %v became %#04x, want %#04x", h.name, -c.x, got, c.want|0x8000)
				}
			}
		}
	}
}

func TestSpecialConversions(t *testing.T) {
	inf := float32(math.Inf(1))
	for _, h := range halves {
		for _, c := range []struct {
			x    float32
			want uint16
		}{{0, 0}, {float32(math.Copysign(0, -1)), 0x8000}, {inf, h.inf}, {-inf, h.inf | 0x8000}, {math.MaxFloat32, h.inf}} {
			if got := h.to(c.x); got != c.want {
				t.Errorf("%s: %v became %#04x, want %#04x", h.name, c.x, got, c.want)
			}
		}
		for _, bits := range []uint32{0x7f800001, 0xff800001, 0x7fc00000, 0x7fffffff} {
			x := math.Float32frombits(bits)
			if y := h.from(h.to(x)); y == y || math.Signbit(float64(y)) != math.Signbit(float64(x)) {
				t.Errorf("%s: NaN %#08x became %v (%#04x)", h.name, bits, y, h.to(x))
			}
		}
	}
}

func TestSlices(t *testing.T) {
	src := []float32{1, -2.0009765625, 3.14159, 1e-6, 70000}
	for _, h := range halves {
		patterns, wide, rounded := make([]uint16, len(src)), make([]float32, len(src)), make([]float32, len(src))
		Narrow(patterns, src, h.d)
		Widen(wide, patterns, h.d)
		Round(rounded, src, h.d)
		for i, x := range src {
			if want := h.from(h.to(x)); wide[i] != want || rounded[i] != want {
				t.Errorf("%s: %v became %v by Narrow and Widen, %v by Round, want %v", h.name, x, wide[i], rounded[i], want)
			}
		}
	}
	same := make([]float32, len(src))
	if Round(same, src, tensor.F32); same[2] != src[2] {
		t.Errorf("Round to f32 changed %v to %v", src[2], same[2])
	}
	if RoundBF16(1.00390625) != 1 || RoundF16(1.00048828125) != 1 {
		t.Error("a tie did not go to even")
	}
}
