package arith

import "math"

// Attention is the arithmetic of one query head for one token. Positions are
// taken chunk by chunk, chunks at fixed multiples of the chunk's length:
//
//   - a score is Dot(q, k) times Scale, capped by Softcap(score, Softcap)
//     unless that is 0;
//   - a chunk gives m = max(scores), l = sum of e^(score - m) and
//     o = sum of e^(score - m) times v, both in order of position;
//   - chunks are merged in order: with M the largest m and sink, the weights
//     are e^(m - M), L = sum of weight*l, then plus e^(sink - M),
//     O = sum of weight*o, and the result is O / L.
//
// So the bits depend on a token's own position and window, never on which
// other tokens are computed with it or on how a cache is cut into pages.
type Attention struct {
	Scale   float32
	Softcap float32 // 0: none
}

// Rows is a run of consecutive positions of one KV head in memory: position i
// has its key at Data[i*Stride] and its value KeyDim after that.
type Rows struct {
	Data           []float32
	N, Stride      int
	KeyDim, ValDim int
}

// Key returns the key at position i of the run.
func (r Rows) Key(i int) []float32 { return r.Data[i*r.Stride:][:r.KeyDim] }

// Value returns the value at position i of the run.
func (r Rows) Value(i int) []float32 { return r.Data[i*r.Stride+r.KeyDim:][:r.ValDim] }

// Partial is what one chunk contributes to the attention of one token.
type Partial struct {
	Max, Sum float32
	Out      []float32 // ValDim entries
}

// Chunk computes the part of the visible positions of one chunk, which may lie
// in several runs. p.Out must have ValDim entries, scores one for each position.
func (a Attention) Chunk(p *Partial, q []float32, runs []Rows, scores []float32) {
	n := 0
	for _, r := range runs {
		for i := range r.N {
			s := float32(Dot(q, r.Key(i)) * a.Scale)
			if a.Softcap != 0 {
				s = Softcap(s, a.Softcap)
			}
			scores[n] = s
			n++
		}
	}
	scores = scores[:n]
	p.Max, p.Sum = Max(scores), 0
	clear(p.Out)
	n = 0
	for _, r := range runs {
		for i := range r.N {
			e := Exp(scores[n] - p.Max)
			p.Sum += e
			for d, v := range r.Value(i) {
				p.Out[d] += float32(e * v)
			}
			n++
		}
	}
}

// NoSink is a sink that changes nothing.
var NoSink = float32(math.Inf(-1))

// Merge writes the attention over all chunks, in order, to dst. The sink is a
// logit that takes part in the softmax and has no value.
func Merge(dst []float32, parts []Partial, sink float32) {
	m := sink
	for _, p := range parts {
		m = max(m, p.Max)
	}
	var sum float32
	clear(dst)
	for _, p := range parts {
		w := Exp(p.Max - m)
		sum += float32(w * p.Sum)
		for d, v := range p.Out {
			dst[d] += float32(w * v)
		}
	}
	if sink != NoSink {
		sum += Exp(sink - m)
	}
	for d := range dst {
		dst[d] /= sum
	}
}

// FirstVisible returns the first position that a token at the given position
// sees; window 0 shows them all.
func FirstVisible(position, window int) int {
	if window <= 0 {
		return 0
	}
	return max(0, position-window+1)
}
