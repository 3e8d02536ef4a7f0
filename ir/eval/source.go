package eval

import (
	"fmt"

	"moec/ir"
)

// input is one of the step's lists, of the node's token group or of all.
func input(c *Call) error {
	copy(c.Out.I, c.Step.List(c.Attrs.Text("name"), c.Group))
	return nil
}

// constant is its values.
func constant(c *Call) error {
	copy(c.Out.F, c.Attrs.Floats("values"))
	return nil
}

// weight is the part of a weight that the attributes select.
func weight(c *Call) error {
	name := c.Attrs.Text("name")
	data, err := c.Weights.Weight(name, c.Attrs.Sets("slice"), c.Attrs.Ints("experts"))
	if err != nil {
		return err
	}
	if len(data) != len(c.Out.F) {
		return fmt.Errorf("weight %q has %d elements, %s needs %d", name, len(data), c.Type, len(c.Out.F))
	}
	if !exact(data, c.Type.DType) {
		return fmt.Errorf("weight %q has elements that are not %s", name, c.Type.DType)
	}
	copy(c.Out.F, data)
	return nil
}

// param stands for an operand of a fused op; fused gives it its value.
func param(*Call) error { return fmt.Errorf("outside the body of a fused op") }

// fused runs its body.
func fused(c *Call) error {
	body := c.Attrs.Body()
	e := &execution{ops: table(), env: c.Env, values: map[*ir.Node]Value{}}
	for _, n := range body.Nodes {
		if n.Op.Name == "param" {
			e.values[n] = c.Args[n.Attrs.Int("index", 0)]
			continue
		}
		v, err := e.node(n, c.Device, c.Group)
		if err != nil {
			return err
		}
		e.values[n] = v
	}
	c.Out = e.values[body.Outputs[0].Value]
	return nil
}
