package eval

import (
	"fmt"

	"moec/ir/tensor"
)

// reshape is all elements in the same order; so is transfer.
func reshape(c *Call) error {
	c.Out.copyFrom(0, c.Args[0], 0, max(len(c.Out.F), len(c.Out.I)))
	return nil
}

// slice is entries lo, lo+step, ... below hi of an axis.
func slice(c *Call) error {
	x, axis := c.Args[0], c.Attrs.Int("axis", 0)
	lo, step := c.Attrs.Int("lo", 0), c.Attrs.Int("step", 1)
	outer, inner := x.around(axis)
	n := c.Out.extent(axis)
	for o := range outer {
		for i := range n {
			c.Out.copyFrom((o*n+i)*inner, x, (o*x.extent(axis)+lo+i*step)*inner, inner)
		}
	}
	return nil
}

// concat is the operands one after the other along an axis; so are
// all_gather and pack.
func concat(c *Call) error {
	axis := c.Attrs.Int("axis", 0)
	outer, inner := c.Out.around(axis)
	n := c.Out.extent(axis)
	at := 0
	for _, x := range c.Args {
		part := x.extent(axis) * inner
		for o := range outer {
			c.Out.copyFrom(o*n*inner+at, x, o*part, part)
		}
		at += part
	}
	return nil
}

// broadcast repeats the one entry of an axis.
func broadcast(c *Call) error {
	x, axis := c.Args[0], c.Attrs.Int("axis", 0)
	outer, inner := x.around(axis)
	n := c.Out.extent(axis)
	for o := range outer {
		for i := range n {
			c.Out.copyFrom((o*n+i)*inner, x, o*inner, inner)
		}
	}
	return nil
}

// pickRows copies rows, entries of the first axis, of x.
func pickRows(c *Call, x Value, rows []int32) error {
	_, inner := x.around(0)
	for i, r := range rows {
		if r < 0 || int(r) >= x.extent(0) {
			return fmt.Errorf("entry %d is row %d of %d", i, r, x.extent(0))
		}
		c.Out.copyFrom(i*inner, x, int(r)*inner, inner)
	}
	return nil
}

// takeRows is the listed rows.
func takeRows(c *Call) error { return pickRows(c, c.Args[0], c.Args[1].I) }

// embed is the row of each id.
func embed(c *Call) error { return pickRows(c, c.Args[1], c.Args[0].I) }

// gather is the listed entries of each row.
func gather(c *Call) error {
	x, ids := c.Args[0], c.Args[1]
	n, k := x.last(), ids.last()
	for t := range x.extent(0) {
		for j, id := range ids.ints(t) {
			if id < 0 || int(id) >= n {
				return fmt.Errorf("row %d wants entry %d of %d", t, id, n)
			}
			c.Out.copyFrom(t*k+j, x, t*n+int(id), 1)
		}
	}
	return nil
}

// dispatch is each row once for each of its slots.
func dispatch(c *Call) error {
	x, k := c.Args[0], c.Args[1].last()
	n := x.last()
	for t := range x.extent(0) {
		for j := range k {
			c.Out.copyFrom((t*k+j)*n, x, t*n, n)
		}
	}
	return nil
}

// ownRows is the rows of a token group, which follow those of the groups
// before it.
func ownRows(c *Call) error {
	symbol := c.Type.Shape[0].Sym.Base()
	first := 0
	for g := range c.Attrs.Int("group", 0) {
		first += c.Step.Bound(tensor.Sym(symbol).Of(g))
	}
	_, inner := c.Args[0].around(0)
	c.Out.copyFrom(0, c.Args[0], first*inner, c.Out.extent(0)*inner)
	return nil
}

// asPart gives a value a first axis of extent 1.
func asPart(c *Call) error {
	copy(c.Out.F, c.Args[0].F)
	copy(c.Out.I, c.Args[0].I)
	return nil
}
