package prove

import "math/bits"

// prime is 2^61-1, a Mersenne prime: products reduce by a shift and an
// addition, and two different polynomials of degree d agree at a random point
// with probability at most d/2^61.
const prime = 1<<61 - 1

// poisoned marks what is not a number: the rest of the word says why. Numbers
// of the field have their three highest bits clear.
const poisoned = 1 << 63

func isPoison(x uint64) bool { return x >= poisoned }

// add returns a + b.
func add(a, b uint64) uint64 {
	if (a|b)&poisoned != 0 {
		return either(a, b)
	}
	s := a + b
	if s >= prime {
		s -= prime
	}
	return s
}

// neg returns -a.
func neg(a uint64) uint64 {
	if a == 0 || isPoison(a) {
		return a
	}
	return prime - a
}

func sub(a, b uint64) uint64 { return add(a, neg(b)) }

// mul returns a * b.
func mul(a, b uint64) uint64 {
	if (a|b)&poisoned != 0 {
		return either(a, b)
	}
	return product(a, b)
}

// product is mul of two numbers.
func product(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	s := lo&prime + (lo>>61 | hi<<3)
	if s >= prime {
		s -= prime
	}
	return s
}

// inverse returns 1/a, and 0 for 0.
func inverse(a uint64) uint64 {
	if isPoison(a) {
		return a
	}
	// a^(p-2): the exponent's bits are all ones but the second.
	r := uint64(1)
	for bit := 60; bit >= 0; bit-- {
		r = product(r, r)
		if bit != 1 {
			r = product(r, a)
		}
	}
	return r
}

// either returns the first of two words that is poison.
func either(a, b uint64) uint64 {
	if isPoison(a) {
		return a
	}
	return b
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// mixIn adds a word to a running hash. The order of words counts.
func mixIn(h, x uint64) uint64 { return mix(h*0x2545f4914f6cdd1d ^ mix(x)) }

// number makes a hash a number of the field.
func number(h uint64) uint64 {
	h &= prime
	if h == prime {
		return 0
	}
	return h
}

// hash returns the value of an uninterpreted function, named by its salt, at
// x; of poison it is poison.
func hash(salt, x uint64) uint64 {
	if isPoison(x) {
		return x
	}
	return number(mixIn(salt, x))
}

// mixText adds text to a running hash.
func mixText(h uint64, text string) uint64 {
	h = mixIn(h, uint64(len(text)))
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * 0x100000001b3
	}
	return mix(h)
}

// dot returns the sum of products of two lists of equal length, and poison if
// any of them has some.
func dot(x, w []uint64) uint64 {
	var hi, lo, bad, sum uint64
	for i, a := range x {
		b := w[i]
		bad |= a | b
		h, l := bits.Mul64(a, b)
		var carry uint64
		lo, carry = bits.Add64(lo, l, 0)
		hi += h + carry
		if i&31 == 31 { // 32 products are below 2^127
			sum, hi, lo = add(sum, reduce(hi, lo)), 0, 0
		}
	}
	if bad&poisoned != 0 {
		for i, a := range x {
			if isPoison(a) || isPoison(w[i]) {
				return either(a, w[i])
			}
		}
	}
	return add(sum, reduce(hi, lo))
}

// reduce returns the number hi*2^64 + lo, of hi below 2^63.
func reduce(hi, lo uint64) uint64 {
	low := number(lo&prime) + lo>>61
	high := number(hi&prime) + hi>>61
	// 2^64 is 8 times 2^61, which is 1.
	return add(low%prime, product(high%prime, 8))
}
