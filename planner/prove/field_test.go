package prove

import (
	"math/big"
	"math/rand/v2"
	"testing"
)

// numbers are random elements and the ends of the field.
func numbers(rng *rand.Rand, n int) []uint64 {
	list := []uint64{0, 1, 2, prime - 1, prime - 2, 1 << 60}
	for len(list) < n {
		list = append(list, rng.Uint64N(prime))
	}
	return list
}

func TestField(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 1))
	p := new(big.Int).SetUint64(prime)
	of := func(x uint64) *big.Int { return new(big.Int).SetUint64(x) }
	list := numbers(rng, 200)
	for _, a := range list {
		for _, b := range list {
			sum := new(big.Int).Mod(new(big.Int).Add(of(a), of(b)), p).Uint64()
			times := new(big.Int).Mod(new(big.Int).Mul(of(a), of(b)), p).Uint64()
			less := new(big.Int).Mod(new(big.Int).Sub(of(a), of(b)), p).Uint64()
			if add(a, b) != sum || mul(a, b) != times || sub(a, b) != less {
				t.Fatalf("of %d and %d: %d, %d, %d, want %d, %d, %d", a, b, add(a, b), mul(a, b), sub(a, b), sum, times, less)
			}
		}
		if a != 0 && mul(a, inverse(a)) != 1 {
			t.Fatalf("%d times its inverse is %d", a, mul(a, inverse(a)))
		}
	}
}

func TestDot(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 2))
	for n := range 200 {
		x, w := numbers(rng, n)[:min(n, 6)], numbers(rng, n)[:min(n, 6)]
		for len(x) < n {
			x, w = append(x, prime-1-uint64(rng.IntN(2))), append(w, prime-1-uint64(rng.IntN(3)))
		}
		want := uint64(0)
		for i := range x {
			want = add(want, mul(x[i], w[i]))
		}
		if got := dot(x, w); got != want {
			t.Fatalf("%d products: %d, want %d", n, got, want)
		}
	}
}

// TestPoisonSpreads checks that nothing makes a number of what is none.
func TestPoisonSpreads(t *testing.T) {
	const bad = poisoned | 5
	for name, got := range map[string]uint64{
		"add": add(3, bad), "add'": add(bad, 3), "mul": mul(0, bad), "mul'": mul(bad, 0), "neg": neg(bad), "inverse": inverse(bad),
		"hash": hash(9, bad), "dot": dot([]uint64{1, 2, bad}, []uint64{1, 0, 0}), "dot'": dot([]uint64{1}, []uint64{bad}),
	} {
		if got != bad {
			t.Errorf("%s makes %x of poison", name, got)
		}
	}
}

// TestHashes checks that hashes are elements, and that arguments and their
// order count.
func TestHashes(t *testing.T) {
	seen := make(map[uint64]bool)
	for a := range uint64(200) {
		for b := range uint64(200) {
			x := number(mixIn(mixIn(1, a), b))
			if x >= prime || seen[x] {
				t.Fatalf("hash of %d, %d is %d", a, b, x)
			}
			seen[x] = true
		}
	}
	if mixText(1, "ab") == mixText(1, "ba") || mixText(mixText(1, "a"), "b") == mixText(1, "ab") {
		t.Error("texts collide")
	}
}
