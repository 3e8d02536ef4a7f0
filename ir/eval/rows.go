package eval

import "moec/ir/arith"

// optional returns the elements of operand i, or nil when it is not given.
func (c *Call) optional(i int) []float32 {
	if i >= len(c.Args) {
		return nil
	}
	return c.Args[i].F
}

// softmax is e^(x - max) over its sum, for each row.
func softmax(c *Call) error {
	for r := range c.Out.rows() {
		arith.Softmax(c.Out.row(r), c.Args[0].row(r))
	}
	return nil
}

// sum adds up each row in the canonical order.
func sum(c *Call) error {
	for r := range c.Out.rows() {
		c.Out.F[r] = arith.Sum(c.Args[0].row(r))
	}
	return nil
}

// rmsNorm divides each row by the root of its mean square.
func rmsNorm(c *Call) error {
	eps := c.Attrs.Float("eps", 0)
	for r := range c.Out.rows() {
		arith.RMSNorm(c.Out.row(r), c.Args[0].row(r), c.optional(1), eps)
	}
	return nil
}

// layerNorm takes the mean from each row and divides it by its deviation.
func layerNorm(c *Call) error {
	eps := c.Attrs.Float("eps", 0)
	for r := range c.Out.rows() {
		arith.LayerNorm(c.Out.row(r), c.Args[0].row(r), c.optional(1), c.optional(2), eps)
	}
	return nil
}
