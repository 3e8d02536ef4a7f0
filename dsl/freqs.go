package dsl

import "math"

// The frequencies of rotary embeddings are computed step by step as the
// transformers library does (modeling_rope_utils), in f32 where it uses f32
// tensors and in f64 where it uses Python numbers.

// maxTheta keeps powers finite in f32.
const maxTheta = 1e30

// base returns theta^(2i/dim) for each pair: the exponent is rounded to f32
// before the power is, and the power after.
func (c *invocation) base() []float32 {
	theta, dim := c.real("theta", 0), c.int("dim", 0)
	switch {
	case c.bad:
		return nil
	case !(theta > 0) || theta > maxTheta:
		c.failf("theta is %s, want a number above 0 and at most %g", showReal(theta), maxTheta)
		return nil
	case dim < 2 || dim%2 != 0 || dim > maxFloats:
		c.failf("dim is %d, want an even number from 2 to %d", dim, maxFloats)
		return nil
	}
	c.steps += dim / 16 // as much work as that many expressions
	out := make([]float32, dim/2)
	for i := range out {
		exponent := float32(2*i) / float32(dim)
		out[i] = float32(math.Pow(theta, float64(exponent)))
	}
	return out
}

// plainFreqs returns 1 / theta^(2i/dim).
func (c *invocation) plainFreqs() []float32 {
	out := c.base()
	for i, p := range out {
		out[i] = 1 / p
	}
	return out
}

func runFreqs(c *invocation) value {
	powers := c.base()
	factor, scale := c.real("factor", 1), c.real("scale", 1)
	list, isList := c.args["factors"].value.([]value)
	if c.given("factors") && !isList {
		c.wrong("factors", "a list of numbers")
	}
	switch {
	case c.bad:
		return poison{}
	case isList && len(list) != len(powers):
		return c.failf("%d factors for %d frequencies", len(list), len(powers))
	case !(factor > 0):
		return c.failf("factor is %s, want a number above 0", showReal(factor))
	}
	for i := range powers {
		p := powers[i]
		if isList {
			x, ok := number(list[i])
			if !ok || !(x > 0) {
				return c.failf("entry %d of factors is %s, want a number above 0", i, show(list[i]))
			}
			p = float32(x) * p
		}
		powers[i] = 1 / p
		if factor != 1 {
			powers[i] /= float32(factor)
		}
	}
	return &table{values: powers, factor: scale}
}

func runFreqsLlama3(c *invocation) value {
	freqs := c.plainFreqs()
	factor, low, high := c.real("factor", 0), c.real("low_freq_factor", 0), c.real("high_freq_factor", 0)
	original := c.real("original", 0)
	switch {
	case c.bad:
		return poison{}
	case !(factor > 0) || !(low > 0) || !(high > low) || !(original > 0):
		return c.failf("factor %s, low_freq_factor %s, high_freq_factor %s, original %s: want numbers above 0, and high above low",
			showReal(factor), showReal(low), showReal(high), showReal(original))
	}
	longest, shortest := float32(original/low), float32(original/high)
	for i, f := range freqs {
		wave := float32(2*math.Pi) / f
		slow := f
		if wave > longest {
			slow = f / float32(factor)
		}
		if !(wave < shortest) && !(wave > longest) {
			smooth := (float32(original)/wave - float32(low)) / float32(high-low)
			slow = float32((1-smooth)*slow)/float32(factor) + float32(smooth*slow)
		}
		freqs[i] = slow
	}
	return &table{values: freqs, factor: 1}
}

// yarn are the numbers of YaRN that are not tensors.
type yarn struct {
	theta, factor, original float64
	fast, slow              float64
	truncate                bool
	dim                     int
}

func runFreqsYarn(c *invocation) value {
	powers := c.base()
	y := yarn{
		theta: c.real("theta", 0), dim: c.int("dim", 0), factor: c.real("factor", 0), original: c.real("original", 0),
		fast: c.real("beta_fast", 32), slow: c.real("beta_slow", 1), truncate: c.flag("truncate", true),
	}
	scale := c.yarnScale(y.factor)
	switch {
	case c.bad:
		return poison{}
	case !(y.factor > 0) || !(y.original > 0) || !(y.fast > 0) || !(y.slow > 0) || y.theta <= 1:
		return c.failf("theta %s, factor %s, original %s, beta_fast %s, beta_slow %s: want numbers above 0, and theta above 1",
			showReal(y.theta), showReal(y.factor), showReal(y.original), showReal(y.fast), showReal(y.slow))
	}
	low, high := y.correctionRange()
	if low == high {
		high += 0.001 // as in the library, against a division by zero
	}
	for i, p := range powers {
		ramp := (float32(i) - float32(low)) / float32(high-low)
		keep := 1 - min(max(ramp, 0), 1)
		kept, slowed := 1/p, 1/(float32(y.factor)*p)
		powers[i] = float32(slowed*(1-keep)) + float32(kept*keep)
	}
	return &table{values: powers, factor: scale}
}

// yarnScale returns the factor on sine and cosine.
func (c *invocation) yarnScale(factor float64) float64 {
	if c.given("attention_factor") {
		return c.real("attention_factor", 1)
	}
	m, all := c.real("mscale", 0), c.real("mscale_all_dim", 0)
	if m != 0 && all != 0 {
		return mscale(factor, m) / mscale(factor, all)
	}
	return mscale(factor, 1)
}

func mscale(factor, m float64) float64 {
	if factor <= 1 {
		return 1
	}
	return 0.1*m*math.Log(factor) + 1
}

// correctionRange returns the pairs between which frequencies are blended.
func (y yarn) correctionRange() (low, high float64) {
	pair := func(turns float64) float64 {
		return float64(y.dim) * math.Log(y.original/(turns*2*math.Pi)) / (2 * math.Log(y.theta))
	}
	low, high = pair(y.fast), pair(y.slow)
	if y.truncate {
		low, high = math.Floor(low), math.Ceil(high)
	}
	return max(low, 0), min(high, float64(y.dim-1))
}
