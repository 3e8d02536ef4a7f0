package eval

import "moec/ir/arith"

// unary applies f to each element.
func unary(f func(float32) float32) Func {
	return func(c *Call) error {
		for i, x := range c.Args[0].F {
			c.Out.F[i] = f(x)
		}
		return nil
	}
}

// binary applies f to pairs of elements. Shapes are aligned at their last
// axes; an operand whose extent is 1, or that lacks the axis, is repeated.
func binary(f func(a, b float32) float32) Func {
	return func(c *Call) error {
		a, b := c.Args[0], c.Args[1]
		stepA, stepB := steps(c.Out, a), steps(c.Out, b)
		index := make([]int, len(stepA))
		at, bt := 0, 0
		for i := range c.Out.F {
			c.Out.F[i] = f(a.F[at], b.F[bt])
			// Count index up by one, from the last axis, and follow it.
			for axis := len(index) - 1; axis >= 0; axis-- {
				index[axis]++
				at, bt = at+stepA[axis], bt+stepB[axis]
				n := c.Out.extent(axis)
				if index[axis] < n {
					break
				}
				at, bt = at-n*stepA[axis], bt-n*stepB[axis]
				index[axis] = 0
			}
		}
		return nil
	}
}

// steps returns how far apart neighbours along each axis of out are in v: 0
// along axes on which v is repeated.
func steps(out, v Value) []int {
	list := make([]int, len(out.Type.Shape))
	shift := len(out.Type.Shape) - len(v.Type.Shape)
	step := 1
	for axis := len(v.Type.Shape) - 1; axis >= 0; axis-- {
		if n := v.extent(axis); n != 1 {
			list[shift+axis] = step
			step *= n
		}
	}
	return list
}

// round rounds each element to the type of the result.
func round(c *Call) error {
	arith.Round(c.Out.F, c.Args[0].F, c.Type.DType)
	return nil
}
