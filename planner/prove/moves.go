package prove

import (
	"fmt"

	"moec/ir/tensor"
)

// same is all elements in the same order.
func same(c *call) error {
	copy(c.out.data, c.args[0].data)
	if c.op != "part" {
		c.out.spans, c.out.leaves = c.args[0].spans, c.args[0].leaves
	}
	return nil
}

// slice is entries lo, lo+step, ... below hi of an axis. With a step, lo is
// below it and counts entries of full size.
func slice(c *call) error {
	x, axis := c.args[0], c.attrs.Int("axis", 0)
	lo, step := c.attrs.Int("lo", 0), c.attrs.Int("step", 1)
	if step == 1 {
		lo /= c.factor
	}
	outer, inner := x.around(axis)
	n, m := c.out.dims[axis], x.dims[axis]
	for o := range outer {
		for i := range n {
			copy(c.out.data[(o*n+i)*inner:][:inner], x.data[(o*m+lo+i*step)*inner:])
		}
	}
	return nil
}

// concat is the operands one after the other along an axis; so is all_gather.
func concat(c *call) error {
	axis := c.attrs.Int("axis", 0)
	outer, inner := c.out.around(axis)
	row, at := c.out.dims[axis]*inner, 0
	for _, x := range c.args {
		n := x.dims[axis] * inner
		for o := range outer {
			copy(c.out.data[o*row+at:][:n], x.data[o*n:])
		}
		at += n
	}
	return nil
}

// broadcast repeats the one entry of an axis.
func broadcast(c *call) error {
	x, axis := c.args[0], c.attrs.Int("axis", 0)
	outer, inner := x.around(axis)
	n := c.out.dims[axis]
	for o := range outer {
		for i := range n {
			copy(c.out.data[(o*n+i)*inner:][:inner], x.data[o*inner:])
		}
	}
	return nil
}

// undefinedError is an index that is no number.
type undefinedError uint64

func (undefinedError) Error() string { return "an index is undefined" }

// pickRows copies rows, entries of the first axis, of x.
func (c *call) pickRows(x *array, rows []uint64) error {
	_, inner := x.around(0)
	for i, r := range rows {
		if isPoison(r) {
			return undefinedError(r)
		}
		if r >= uint64(x.dims[0]) {
			return fmt.Errorf("entry %d is row %d of %d", i, r, x.dims[0])
		}
		copy(c.out.data[i*inner:][:inner], x.data[int(r)*inner:])
	}
	return nil
}

func takeRows(c *call) error { return c.pickRows(c.args[0], c.args[1].data) }

func embed(c *call) error { return c.pickRows(c.args[1], c.args[0].data) }

// gather is the listed entries of each row.
func gather(c *call) error {
	x, ids := c.args[0], c.args[1]
	n, k := x.last(), ids.last()
	for i, id := range ids.data {
		if isPoison(id) {
			return undefinedError(id)
		}
		if id >= uint64(n) {
			return fmt.Errorf("row %d wants entry %d of %d", i/k, id, n)
		}
		c.out.data[i] = x.data[i/k*n+int(id)]
	}
	return nil
}

// dispatch is each row once for each of its slots.
func dispatch(c *call) error {
	x, k := c.args[0], c.args[1].last()
	for s := range c.out.rows() {
		copy(c.out.row(s), x.row(s/k))
	}
	return nil
}

// ownRows is the rows of a token group, which follow those of the groups
// before it.
func ownRows(c *call) error {
	first := 0
	for g := range c.attrs.Int("group", 0) {
		first += c.bounds(tensor.Sym(c.rows.Base()).Of(g))
	}
	x := c.args[0]
	_, inner := x.around(0)
	if (first+c.out.dims[0])*inner > len(x.data) {
		return fmt.Errorf("takes rows %d to %d of %d", first, first+c.out.dims[0], x.dims[0])
	}
	copy(c.out.data, x.data[first*inner:])
	return nil
}
