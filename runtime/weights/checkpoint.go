package weights

import (
	"fmt"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// Tensors is a checkpoint: boxes of stored tensors, row-major.
type Tensors interface {
	ReadSlice(name string, begin, end []int64, dst []byte) error
}

// Checkpoint is the Source of a checkpoint's tensors.
type Checkpoint struct{ Tensors Tensors }

// Read implements Source.
func (c Checkpoint) Read(p plan.Part, d tensor.DType, layer int, dst []byte) error {
	if len(p.Experts) == 0 {
		return c.one(p.Source, p.Slice, reading{layer: layer, expert: -1, size: d.Bytes()}, dst)
	}
	each := len(dst) / len(p.Experts)
	for i, e := range p.Experts {
		if err := c.one(p.Source, p.Slice[1:], reading{layer: layer, expert: e, size: d.Bytes()}, dst[i*each:(i+1)*each]); err != nil {
			return err
		}
	}
	return nil
}

// reading says which tensor is read, and how large its elements are.
type reading struct{ layer, expert, size int }

// one reads a slice of a weight, or of one expert's.
func (c Checkpoint) one(s ir.Source, slice [][]int, r reading, dst []byte) error {
	key := s.KeyFor(r.layer, r.expert)
	axes := make([]box, 0, len(slice)) // in stored order, without the expert's
	begin, end := make([]int64, len(s.View)), make([]int64, len(s.View))
	logical := storedOrder(slice, s.Transposed)
	for i, a := range s.View {
		if a.Expert {
			begin[i], end[i] = int64(r.expert), int64(r.expert)+1
			continue
		}
		if len(axes) == len(logical) {
			return fmt.Errorf("internal error: weight %s has %d axes, its tensor more", key, len(logical))
		}
		b := boxOf(a, logical[len(axes)])
		begin[i], end[i] = int64(b.lo), int64(b.hi)
		axes = append(axes, b)
	}
	if plainBox(axes) && !s.Transposed {
		return c.Tensors.ReadSlice(key, begin, end, dst)
	}
	n := r.size
	for _, b := range axes {
		n *= b.hi - b.lo
	}
	raw := make([]byte, n)
	if err := c.Tensors.ReadSlice(key, begin, end, raw); err != nil {
		return err
	}
	pick(dst, raw, axes, pickOrder{s.Transposed, r.size})
	return nil
}

// box is what is read of a stored axis: [lo, hi), of which every step-th
// entry is wanted.
type box struct{ lo, hi, step, count int }

func boxOf(a ir.Axis, want []int) box {
	step := max(1, a.Step)
	count := want[1] - want[0]
	lo := a.Lo + want[0]*step
	return box{lo, lo + (count-1)*step + 1, step, count}
}

func plainBox(axes []box) bool {
	for _, b := range axes {
		if b.step != 1 {
			return false
		}
	}
	return true
}

// storedOrder swaps the two innermost axes of a transposed tensor.
func storedOrder(slice [][]int, transposed bool) [][]int {
	if n := len(slice); transposed && n >= 2 {
		out := append([][]int(nil), slice...)
		out[n-1], out[n-2] = out[n-2], out[n-1]
		return out
	}
	return slice
}

// pickOrder says how picked elements are written.
type pickOrder struct {
	transposed bool
	size       int
}

// pick copies the wanted elements of a box to dst, in logical order.
func pick(dst, raw []byte, axes []box, o pickOrder) {
	rank := len(axes)
	strides := make([]int, rank) // of the box, in bytes
	stride := o.size
	for i := rank - 1; i >= 0; i-- {
		strides[i] = stride * axes[i].step
		stride *= axes[i].hi - axes[i].lo
	}
	counts := make([]int, rank)
	for i, b := range axes {
		counts[i] = b.count
	}
	if o.transposed && rank >= 2 {
		strides[rank-1], strides[rank-2] = strides[rank-2], strides[rank-1]
		counts[rank-1], counts[rank-2] = counts[rank-2], counts[rank-1]
	}
	index := make([]int, rank)
	from := 0
	for at := 0; at < len(dst); at += o.size {
		copy(dst[at:at+o.size], raw[from:from+o.size])
		for i := rank - 1; i >= 0; i-- {
			index[i]++
			from += strides[i]
			if index[i] < counts[i] {
				break
			}
			from -= index[i] * strides[i]
			index[i] = 0
		}
	}
}
