package host

import (
	"moec/ir/arith"
	"moec/ir/tensor"
)

// grain is how many elements a worker takes at least: about 20 us of scalar
// work, ten times what starting a goroutine costs.
const grain = 1 << 13

// unary applies f to each element.
func unary(f func(float32) float32) kernel {
	return func(c *call) {
		n := product(c.outDims())
		x, out := c.floats(0, n), c.out.f32(n)
		parallel(n, grain, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				out[i] = f(x[i])
			}
		})
	}
}

func runRound(c *call) {
	n := product(c.outDims())
	x := c.floats(0, n)
	if c.out.DType == tensor.F32 {
		copy(c.out.f32(n), x)
		return
	}
	parallel(n, grain, func(lo, hi int) { arith.Narrow(c.out.half(n)[lo:hi], x[lo:hi], c.out.DType) })
}

// binary applies f to pairs of elements, repeating extents of 1.
func binary(f func(a, b float32) float32) kernel {
	return func(c *call) {
		ext := c.outDims()
		rows, n := rowsOf(ext)
		a, b := newRepeater(c, 0, ext), newRepeater(c, 1, ext)
		out := c.out.f32(rows * n)
		parallel(rows, max(1, grain/max(n, 1)), func(lo, hi int) {
			for r := lo; r < hi; r++ {
				x, y := a.row(r), b.row(r)
				dst := out[r*n : (r+1)*n]
				for i := range dst {
					dst[i] = f(x[i*a.step], y[i*b.step])
				}
			}
		})
	}
}

// repeater finds the rows of an operand for the rows of a larger result.
type repeater struct {
	data    []float32
	ext     []int // of the result, without the last
	strides []int // of the operand for each of ext, 0 where it is repeated
	step    int   // 0 if the last extent is repeated
}

func newRepeater(c *call, arg int, ext []int) *repeater {
	in := c.dims(arg)
	r := &repeater{data: c.floats(arg, product(in)), ext: ext[:max(0, len(ext)-1)], step: 1}
	if len(in) == 0 || in[len(in)-1] == 1 {
		r.step = 0
	}
	r.strides = make([]int, len(r.ext))
	stride := 1
	if len(in) > 0 {
		stride = in[len(in)-1]
	}
	for i := len(r.ext) - 1; i >= 0; i-- {
		k := i - (len(ext) - len(in))
		if k < 0 {
			break
		}
		if in[k] != 1 {
			r.strides[i] = stride
		}
		stride *= in[k]
	}
	return r
}

func (r *repeater) row(i int) []float32 {
	at := 0
	for d := len(r.ext) - 1; d >= 0; d-- {
		at += i % r.ext[d] * r.strides[d]
		i /= r.ext[d]
	}
	return r.data[at:]
}

// byRow applies f to the rows along the last axis.
func byRow(f func(c *call, dst, x []float32)) kernel {
	return func(c *call) {
		rows, n := rowsOf(c.dims(0))
		_, m := rowsOf(c.outDims())
		x, out := c.floats(0, rows*n), c.out.f32(rows*m)
		parallel(rows, max(1, grain/max(n, 1)), func(lo, hi int) {
			for r := lo; r < hi; r++ {
				f(c, out[r*m:(r+1)*m], x[r*n:(r+1)*n])
			}
		})
	}
}

// normed prepares weights once and normalises the rows.
func normed(f func(dst, x, w, b []float32, eps float64)) kernel {
	return func(c *call) {
		_, n := rowsOf(c.dims(0))
		var w, b []float32
		if len(c.args) > 1 {
			w = c.floats(1, n)
		}
		if len(c.args) > 2 {
			b = c.floats(2, n)
		}
		eps := c.step.Attrs.Float("eps", 0)
		byRow(func(_ *call, dst, x []float32) { f(dst, x, w, b, eps) })(c)
	}
}

func runRope(c *call) {
	ext := c.outDims()
	t, heads, n := ext[0], ext[1], ext[2]
	x, out := c.floats(0, t*heads*n), c.out.f32(t*heads*n)
	positions := c.args[1].i32(t)
	freqs := c.floats(2, c.dims(2)[0])
	style := arith.Half
	if c.step.Attrs.Text("style") == "interleaved" {
		style = arith.Interleaved
	}
	scale := c.step.Attrs.Float("scale", 1)
	parallel(t, max(1, grain/(8*heads*n)), func(lo, hi int) {
		cos, sin := make([]float32, len(freqs)), make([]float32, len(freqs))
		for i := lo; i < hi; i++ {
			arith.Angles(cos, sin, positions[i], freqs, scale)
			for h := range heads {
				at := (i*heads + h) * n
				arith.Rotate(out[at:at+n], x[at:at+n], cos, sin, style)
			}
		}
	})
}

func runTopK(c *call) {
	in, out := c.dims(0), c.outDims()
	x, ids := c.floats(0, in[0]*in[1]), c.out.i32(out[0]*out[1])
	a := c.step.Attrs
	k := arith.TopK{K: out[1], Groups: a.Int("groups", 0), TopGroups: a.Int("top_groups", 0)}
	if a.Text("group_score") == "top2sum" {
		k.Score = arith.TwoLargest
	}
	for t := range in[0] {
		k.Row(ids[t*out[1]:(t+1)*out[1]], x[t*in[1]:(t+1)*in[1]])
	}
}
