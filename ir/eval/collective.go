package eval

import (
	"fmt"

	"moec/ir"
	"moec/ir/arith"
	"moec/ir/tree"
)

// allReduce adds the nodes of all operands along the tree, and zero.
func allReduce(c *Call) error {
	spans := (&ir.Node{Attrs: c.Attrs}).Spans()
	adds, root, ok := tree.Order(spans, c.Attrs.Int("leaves", 0))
	if !ok {
		return fmt.Errorf("spans %v are not the parts of one sum", spans)
	}
	n := len(c.Out.F)
	var terms [][]float32
	for _, part := range c.Args {
		for at := 0; at < part.extent(0); at++ {
			terms = append(terms, append([]float32(nil), part.F[at*n:][:n]...))
		}
	}
	for _, a := range adds {
		arith.AddRow(terms[a.Dst], terms[a.Src])
	}
	arith.AddRow(c.Out.F, terms[root])
	return nil
}
