package host

import (
	"moec/ir/arith"
	"moec/ir/tensor"
	"moec/ir/tree"
)

// products is how many multiplications a worker takes at least: about 50 us.
const products = 1 << 16

// contraction returns a maker of the call's contraction, one for each worker.
func (c *call) contraction(k int) (nodes int, make func() *arith.Contraction) {
	bounds := c.step.Attrs.Ints("bounds")
	if !c.step.Attrs.Has("leaves") {
		return 1, func() *arith.Contraction { return arith.Whole(k, bounds) }
	}
	leaf := c.step.Attrs.Int("leaf", 0)
	spans := tree.Cover(tree.Range(leaf, leaf+len(bounds)-1), c.step.Attrs.Int("leaves", 0), nil)
	return len(spans), func() *arith.Contraction { return arith.Part(bounds, leaf, spans) }
}

// weightRow is one row of a weight, and what it needs to meet rows of x.
type weightRow struct {
	dtype tensor.DType
	wide  []float32
	half  []uint16
}

// dot writes the nodes of the row with x.
func (w *weightRow) dot(k *arith.Contraction, dst, x []float32) {
	switch {
	case w.wide != nil:
		k.Dot(dst, x, w.wide)
	case w.dtype == tensor.BF16:
		k.DotBF16(dst, x, w.half)
	default:
		k.DotF16(dst, x, w.half)
	}
}

// load points w at row r of k elements; a row of halves that meets several
// rows of x is widened once, into scratch.
func (w *weightRow) load(v view, r, k int, scratch []float32, meets int) {
	w.dtype, w.wide, w.half = v.DType, nil, nil
	if v.DType == tensor.F32 || meets > 1 {
		w.wide = v.rowFloats(r, k, scratch)
		return
	}
	w.half = cast[uint16](v.data[2*r*k:], k)
}

// runMatmul also is matmul_nodes: the result of node i follows that of node
// i-1, each [rows, N].
func runMatmul(c *call) {
	rows, k := rowsOf(c.dims(0))
	n := c.dims(1)[0]
	x := c.floats(0, rows*k)
	nodes, contraction := c.contraction(k)
	out := c.out.f32(nodes * rows * n)
	parallel(n, max(1, products/max(1, rows*k)), func(lo, hi int) {
		sum, scratch, dst := contraction(), make([]float32, k), make([]float32, nodes)
		var w weightRow
		for j := lo; j < hi; j++ {
			w.load(c.args[1], j, k, scratch, rows)
			for r := range rows {
				w.dot(sum, dst, x[r*k:(r+1)*k])
				for i, v := range dst {
					out[(i*rows+r)*n+j] = v
				}
			}
		}
	})
}
