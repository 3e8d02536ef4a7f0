// Package eval is the plain meaning of every op: the definition that backends
// are compared with.
//
// A graph, weights and a step go in, the graph's outputs come out, and KV
// caches grow in a State. It runs logical graphs, and placed graphs of all
// devices in one process. Ops take and give arrays on the host, in the order
// of the graph's nodes, on one goroutine; nothing is done for speed that would
// hide what an op means. The bits are those that every backend with the same
// order of additions must give: see package arith.
package eval

import (
	"errors"
	"fmt"
	"sync"

	"moec/ir"
	"moec/ir/arith"
	"moec/ir/tensor"
)

// Func is the meaning of an op: it fills in c.Out.
type Func func(c *Call) error

// Call is one application of an op.
type Call struct {
	Attrs ir.Attrs
	Args  []Value
	Out   Value       // allocated, all zeros
	Type  tensor.Type // of the result, with symbols
	// Device and Group are where the result belongs, -1 in a logical graph.
	Device, Group int
	Env
}

// Env is what a call may use besides its operands.
type Env struct {
	Step    *Step
	Weights Weights
	State   *State
}

// Output names a result of a graph.
type Output struct {
	Name  string
	Group int
}

// Program is a graph with its weights, ready to run steps. It may be used by
// one goroutine at a time.
type Program struct {
	// Observe, if not nil, is called with the result of every node of a step.
	Observe func(*ir.Node, Value)

	g        *ir.Graph
	weights  Weights
	ops      map[string]Func
	resident map[*ir.Node]Value
	uses     map[*ir.Node]int
}

// Run runs one step of a graph, which must obey ir.Verify. Several steps are
// faster by Load.
func Run(g *ir.Graph, step *Step, weights Weights, state *State) (map[Output]Value, error) {
	p, err := Load(g, weights)
	if err != nil {
		return nil, err
	}
	return p.Run(step, state)
}

// Load evaluates what a graph, which must obey ir.Verify, keeps between steps.
func Load(g *ir.Graph, weights Weights) (*Program, error) {
	p := &Program{g: g, weights: weights, ops: table(), resident: map[*ir.Node]Value{}, uses: map[*ir.Node]int{}}
	for n, readers := range g.Uses() {
		p.uses[n] = len(readers)
	}
	for _, o := range g.Outputs {
		p.uses[o.Value]++
	}
	e := &execution{ops: p.ops, env: Env{Step: &Step{}, Weights: weights}, values: p.resident}
	for _, n := range g.Nodes {
		if !n.Op.Has(ir.Resident) {
			continue
		}
		v, err := e.node(n, n.Device, n.Group)
		if err != nil {
			return nil, err
		}
		p.resident[n] = v
	}
	return p, nil
}

// Run runs one step.
func (p *Program) Run(step *Step, state *State) (map[Output]Value, error) {
	if err := step.check(p.g.Groups); err != nil {
		return nil, err
	}
	e := &execution{ops: p.ops, env: Env{step, p.weights, state}, values: map[*ir.Node]Value{}}
	left := make(map[*ir.Node]int, len(p.uses)) // readers still to come
	for n, v := range p.resident {
		e.values[n] = v
	}
	for n, k := range p.uses {
		left[n] = k
	}
	for _, n := range p.g.Nodes {
		if n.Op.Has(ir.Resident) {
			continue
		}
		v, err := e.node(n, n.Device, n.Group)
		if err != nil {
			return nil, err
		}
		if p.Observe != nil {
			p.Observe(n, v)
		}
		e.values[n] = v
		for _, a := range n.Args {
			if left[a]--; left[a] == 0 {
				delete(e.values, a)
			}
		}
	}
	out := make(map[Output]Value, len(p.g.Outputs))
	for _, o := range p.g.Outputs {
		out[Output{o.Name, o.Group}] = e.values[o.Value]
	}
	return out, nil
}

// execution is one pass over a graph or over the body of a fused op.
type execution struct {
	ops    map[string]Func
	env    Env
	values map[*ir.Node]Value
}

// node evaluates a node whose operands have values.
func (e *execution) node(n *ir.Node, device, group int) (Value, error) {
	c := &Call{Attrs: n.Attrs, Type: n.Type, Device: device, Group: group, Env: e.env}
	for _, a := range n.Args {
		c.Args = append(c.Args, e.values[a])
	}
	if err := apply(e.ops, n.Op.Name, c); err != nil {
		return Value{}, fmt.Errorf("%%%d %s: %w", n.ID(), n.Op.Name, err)
	}
	return c.Out, nil
}

// shared is a table for single applications.
var shared = sync.OnceValue(table)

// Apply evaluates an op by name. It allocates c.Out; everything else in c
// must be set.
func Apply(op string, c *Call) error { return apply(shared(), op, c) }

func apply(ops map[string]Func, op string, c *Call) error {
	f, ok := ops[op]
	if !ok {
		return errors.New("op has no evaluator")
	}
	c.Out = New(tensor.Type{DType: c.Type.DType, Shape: tensor.Ints(c.Type.Shape.Extents(c.Step.Bound)...)})
	return f(c)
}

// exact reports whether all elements are numbers of the type.
func exact(data []float32, d tensor.DType) bool {
	rounded := make([]float32, len(data))
	arith.Round(rounded, data, d)
	for i, x := range data {
		if rounded[i] != x && x == x {
			return false
		}
	}
	return true
}
