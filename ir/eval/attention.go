package eval

import (
	"fmt"

	"moec/ir/arith"
)

// rope turns the pairs of each head by the token's angles.
func rope(c *Call) error {
	x, positions, freqs := c.Args[0], c.Args[1], c.Args[2]
	style := arith.Half
	if c.Attrs.Text("style") == "interleaved" {
		style = arith.Interleaved
	}
	cos, sin := make([]float32, len(freqs.F)), make([]float32, len(freqs.F))
	heads := x.extent(1)
	for t, p := range positions.I {
		arith.Angles(cos, sin, p, freqs.F, c.Attrs.Float("scale", 1))
		for h := range heads {
			arith.Rotate(c.Out.row(t*heads+h), x.row(t*heads+h), cos, sin, style)
		}
	}
	return nil
}

// kvAppend stores keys and values at the tokens' sequences and positions.
func kvAppend(c *Call) error {
	k, v, sequences, positions := c.Args[0], c.Args[1], c.Args[2], c.Args[3]
	heads := k.extent(1)
	cache := c.State.cache(part{c.Attrs.Text("cache"), c.Device, c.Group}, heads, k.last(), v.last())
	width := k.last() + v.last()
	for t, s := range sequences.I {
		entry, err := cache.at(s, int(positions.I[t]))
		if err != nil {
			return err
		}
		for h := range heads {
			copy(entry[h*width:], k.row(t*heads+h))
			copy(entry[h*width+k.last():], v.row(t*heads+h))
		}
	}
	c.Out.Cache = cache
	return nil
}

// attention lets each query head of each token look at the positions of its
// sequence up to its own, or the last of them that the window shows.
func attention(c *Call) error {
	q, cache, sequences, positions := c.Args[0], c.Args[1].Cache, c.Args[2], c.Args[3]
	rule := arith.Attention{Scale: float32(c.Attrs.Float("scale", 1)), Softcap: float32(c.Attrs.Float("softcap", 0))}
	group, chunk := c.Attrs.Int("group", 1), c.Attrs.Int("chunk", 1)
	first, kvFirst := c.Attrs.Int("q_first", 0), c.Attrs.Int("kv_first", 0)
	heads, sinks := q.extent(1), c.optional(4)
	for t, s := range sequences.I {
		p := int(positions.I[t])
		if have := cache.Positions(s); p < 0 || p >= have {
			return fmt.Errorf("sequence %d: position %d is not one of the %d stored", s, p, have)
		}
		from := arith.FirstVisible(p, c.Attrs.Int("window", 0))
		for h := range heads {
			sink := arith.NoSink
			if sinks != nil {
				sink = sinks[h]
			}
			seen := cache.head(s, (first+h)/group-kvFirst)
			arith.Merge(c.Out.row(t*heads+h), chunks(rule, q.row(t*heads+h), seen, from, p+1, chunk), sink)
		}
	}
	return nil
}

// head returns all positions of a sequence for one KV head.
func (c *Cache) head(sequence int32, head int) arith.Rows {
	all := c.sequences[sequence]
	return arith.Rows{Data: all[head*(c.KeyDim+c.ValDim):], N: len(all) / c.width(), Stride: c.width(), KeyDim: c.KeyDim, ValDim: c.ValDim}
}

// chunks computes positions lo to hi-1, chunk by chunk at multiples of size.
func chunks(rule arith.Attention, q []float32, seen arith.Rows, lo, hi, size int) []arith.Partial {
	var parts []arith.Partial
	scores := make([]float32, min(size, hi-lo))
	for at := lo; at < hi; {
		end := min(hi, (at/size+1)*size)
		run := seen
		run.Data, run.N = seen.Data[at*seen.Stride:], end-at
		p := arith.Partial{Out: make([]float32, seen.ValDim)}
		rule.Chunk(&p, q, []arith.Rows{run}, scores)
		parts = append(parts, p)
		at = end
	}
	return parts
}
