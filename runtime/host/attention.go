package host

import (
	"moec/ir/arith"
	"moec/ir/tensor"
)

// group returns the index of the token group whose rows have this symbol.
func group(v view) int { return max(0, v.Shape[0].Sym.Group()) }

// runAppend stores keys and values: k, v, sequences, positions, cache.
func runAppend(c *call) {
	ext := c.dims(0)
	tokens, heads := ext[0], ext[1]
	size := c.args[0].DType.Bytes()
	keyBytes, valBytes := ext[2]*size, c.dims(1)[2]*size
	sequences, positions := c.args[2].i32(tokens), c.args[3].i32(tokens)
	pages := c.now.Groups[group(c.args[0])].Pages
	for t := range tokens {
		pos := int(positions[t])
		page := int(pages[sequences[t]][pos/c.kv.page])
		dst := c.kv.memory[page*c.kv.bytes+pos%c.kv.page*heads*(keyBytes+valBytes):]
		for h := range heads {
			at := dst[h*(keyBytes+valBytes):]
			copy(at[:keyBytes], c.args[0].data[(t*heads+h)*keyBytes:])
			copy(at[keyBytes:keyBytes+valBytes], c.args[1].data[(t*heads+h)*valBytes:])
		}
	}
}

// attender is what a worker needs for the heads it computes.
type attender struct {
	*call
	arith      arith.Attention
	q, out     []float32
	sinks      []float32
	heads, dk  int
	dv         int
	chunk, win int
	sequences  []int32
	positions  []int32
	pages      [][]int32
	wide       []float32
	scores     []float32
	parts      []arith.Partial
	runs       []arith.Rows
}

// runAttention computes q, cache, sequences, positions and sinks, if any.
func runAttention(c *call) {
	ext := c.dims(0)
	tokens, heads, dk := ext[0], ext[1], ext[2]
	a := c.step.Attrs
	base := attender{call: c, heads: heads, dk: dk, dv: c.kv.ValDim, chunk: a.Int("chunk", 1), win: a.Int("window", 0),
		arith: arith.Attention{Scale: float32(a.Float("scale", 1)), Softcap: float32(a.Float("softcap", 0))},
		q:     c.floats(0, tokens*heads*dk), out: c.out.f32(tokens * heads * c.kv.ValDim),
		sequences: c.args[2].i32(tokens), positions: c.args[3].i32(tokens), pages: c.now.Groups[group(c.args[0])].Pages}
	if len(c.args) > 4 {
		base.sinks = c.floats(4, heads)
	}
	share, first, kvFirst := a.Int("group", 1), a.Int("q_first", 0), a.Int("kv_first", 0)
	parallel(tokens*heads, 4, func(lo, hi int) {
		w := base
		for i := lo; i < hi; i++ {
			t, h := i/heads, i%heads
			w.head(t, h, (first+h)/share-kvFirst)
		}
	})
}

// head computes one query head of one token.
func (w *attender) head(t, h, kvHead int) {
	pos := int(w.positions[t])
	n := 0
	for lo := arith.FirstVisible(pos, w.win); lo <= pos; {
		hi := min(pos+1, (lo/w.chunk+1)*w.chunk)
		w.load(int(w.sequences[t]), kvHead, lo, hi)
		if n == len(w.parts) {
			w.parts = append(w.parts, arith.Partial{Out: make([]float32, w.dv)})
		}
		w.arith.Chunk(&w.parts[n], w.q[(t*w.heads+h)*w.dk:][:w.dk], w.runs, w.scores)
		n++
		lo = hi
	}
	sink := arith.NoSink
	if w.sinks != nil {
		sink = w.sinks[h]
	}
	arith.Merge(w.out[(t*w.heads+h)*w.dv:][:w.dv], w.parts[:n], sink)
}

// load finds the keys and values of positions lo to hi-1, widening halves.
func (w *attender) load(sequence, kvHead, lo, hi int) {
	row := w.dk + w.dv
	if need := (hi - lo) * row; len(w.wide) < need {
		w.wide = make([]float32, need)
	}
	if len(w.scores) < hi-lo {
		w.scores = make([]float32, hi-lo)
	}
	w.runs = w.runs[:0]
	size := w.kv.DType.Bytes()
	for at := lo; at < hi; {
		end := min(hi, (at/w.kv.page+1)*w.kv.page)
		page := int(w.pages[sequence][at/w.kv.page])
		memory := w.kv.memory[page*w.kv.bytes+(at%w.kv.page*w.kv.Heads+kvHead)*row*size:]
		r := arith.Rows{N: end - at, Stride: w.kv.Heads * row, KeyDim: w.dk, ValDim: w.dv}
		if w.kv.DType == tensor.F32 {
			r.Data = cast[float32](memory, (r.N-1)*r.Stride+row)
		} else {
			r.Data, r.Stride = w.wide[(at-lo)*row:(end-lo)*row], row
			for i := range r.N {
				arith.Widen(r.Data[i*row:(i+1)*row], cast[uint16](memory[2*i*w.kv.Heads*row:], row), w.kv.DType)
			}
		}
		w.runs = append(w.runs, r)
		at = end
	}
}
