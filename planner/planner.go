// Package planner turns a placed graph into a plan: the steps of each device
// in order, layers that repeat stored once, and every buffer at an offset.
//
// It decides order and memory only. Where things run was decided by the
// placement and what is fused by the passes; it imports neither.
package planner

import (
	"fmt"
	"math/bits"

	"moec/ir"
	"moec/ir/placement"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// Options is what a plan needs besides the placed graph.
type Options struct {
	Model     plan.Model
	Machine   plan.Machine
	Placement placement.Placement
	Limits    plan.Limits
}

// align is the alignment of everything in an arena, in bytes: what
// cuMemAlloc guarantees, and enough for any vector load.
const align = 256

func alignUp(n int64) int64 { return (n + align - 1) / align * align }

// Make plans a placed graph. The graph is not changed. It fails when the
// graph has something that no plan can express; whether the plan fits the
// machine is for plan.Verify to say.
func Make(g *ir.Graph, o Options) (*plan.Plan, error) {
	if g.Level != ir.Placed {
		return nil, fmt.Errorf("internal error: planning a %s graph", g.Level)
	}
	p := &plan.Plan{Model: o.Model, Machine: o.Machine, Numerics: g.Numerics, Placement: o.Placement, Limits: o.Limits}
	b := &builder{g: g, p: p, uses: g.Uses(), bounds: limitBounds(o.Limits)}
	b.order()
	b.memory = make([]plan.Memory, g.Devices)
	if err := b.residents(); err != nil {
		return nil, err
	}
	b.segments()
	b.fold()
	if err := b.program(); err != nil {
		return nil, err
	}
	for d := range b.memory {
		m := &b.memory[d]
		m.Device, m.Budget = d, o.Machine.Memory-o.Machine.Reserve
		m.Total = m.Consts + m.Weights + m.Caches + m.Buffers
	}
	p.Memory = b.memory
	p.Buckets = buckets(o.Limits.Tokens, p.Programs[0].Name)
	return p, nil
}

// builder carries the plan in the making.
type builder struct {
	g      *ir.Graph
	p      *plan.Plan
	uses   map[*ir.Node][]*ir.Node
	bounds tensor.Bounds
	memory []plan.Memory
	index  map[*ir.Node]int // place in graph order

	refs    map[*ir.Node]plan.Ref // of resident nodes, inputs and carried values
	segs    []*segment            // prologue, layers, epilogue
	seg     map[*ir.Node]int      // segment of every other node
	carried *carriers
	reps    []*segment // the segment that stands for each block
	names   []string   // of the blocks
}

func (b *builder) order() {
	b.index = make(map[*ir.Node]int, len(b.g.Nodes))
	for i, n := range b.g.Nodes {
		b.index[n] = i
	}
}

// limitBounds gives every symbol its largest value: a token group may get
// all tokens of a step.
func limitBounds(l plan.Limits) tensor.Bounds {
	return func(s tensor.Sym) int {
		switch s.Base() {
		case tensor.Rows:
			return l.Rows
		case tensor.Cached:
			return l.Context
		}
		return l.Tokens
	}
}

// buckets are the powers of two up to the step limit, and the limit.
func buckets(limit int, program string) []plan.Bucket {
	var list []plan.Bucket
	for n := 1; n < limit; n *= 2 {
		list = append(list, plan.Bucket{Tokens: n, Program: program})
	}
	if bits.OnesCount(uint(limit)) >= 1 {
		list = append(list, plan.Bucket{Tokens: limit, Program: program})
	}
	return list
}

// root returns the node whose storage n uses: a reshape is its operand under
// other extents.
func root(n *ir.Node) *ir.Node {
	for n.Op.Name == "reshape" {
		n = n.Args[0]
	}
	return n
}
