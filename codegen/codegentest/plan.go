package codegentest

import (
	"fmt"

	"moec/ir"
	"moec/ir/placement"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// Operand names the buffer of an operand of case i, and Result its result's.
func Operand(i, arg int) string { return fmt.Sprintf("c%d.%d", i, arg) }

// Result names the buffer of the result of case i.
func Result(i int) string { return fmt.Sprintf("c%d", i) }

// CacheName names the cache of case i.
func CacheName(i int) string { return fmt.Sprintf("cache%d", i) }

// Limits are those of the plan.
func Limits() plan.Limits {
	return plan.Limits{Tokens: Tokens, Rows: Rows, Sequences: Sequences, Context: Context, Page: Page, Pages: Pages}
}

const alignment = 256

// Plan returns a plan whose one block does the cases one after the other.
func Plan(cases []Case) (*plan.Plan, error) {
	m := &maker{block: plan.Block{Name: "ops", Queues: []plan.Queue{{}}}}
	for i, c := range cases {
		if err := m.add(i, c); err != nil {
			return nil, fmt.Errorf("case %d: %s: %w", i, c.Op, err)
		}
	}
	l := Limits()
	memory := plan.Memory{Caches: m.cached}
	for i := range m.block.Buffers {
		b := &m.block.Buffers[i]
		b.Offset = memory.Caches + memory.Buffers
		memory.Buffers += b.Bytes
	}
	memory.Total = memory.Caches + memory.Buffers
	memory.Budget = memory.Total
	return &plan.Plan{
		Model:     plan.Model{Name: "every op"},
		Machine:   plan.Machine{Name: "test", Devices: 1, Memory: memory.Total},
		Numerics:  ir.Numerics{Mode: ir.Invariant, Segments: 8},
		Placement: placement.Placement{},
		Limits:    l,
		Buckets:   []plan.Bucket{{Tokens: l.Tokens, Program: "main"}},
		Caches:    m.caches,
		Memory:    []plan.Memory{memory},
		Programs:  []plan.Program{{Name: "main", Runs: []plan.Run{{Block: "ops", Layers: plan.NoLayers}}, Blocks: []plan.Block{m.block}}},
	}, nil
}

// maker collects the parts of the plan.
type maker struct {
	block  plan.Block
	caches []plan.Cache
	cached int64
}

func (m *maker) add(i int, c Case) error {
	s := plan.Step{Op: c.Op, Attrs: ir.MakeAttrs(append([]ir.Attr{}, c.Attrs...)...)}
	n := &ir.Node{Op: plan.OpInfo(c.Op), Attrs: s.Attrs, Group: -1}
	for a, text := range c.Args {
		t, err := tensor.ParseType(text)
		if err != nil {
			return err
		}
		if t.Shape.Sym() == tensor.Cached {
			m.cache(i, t, n.Args)
			s.Args = append(s.Args, plan.Ref{Kind: plan.CacheRef, Name: CacheName(i)})
		} else {
			s.Args = append(s.Args, m.buffer(Operand(i, a), t))
		}
		n.Args = append(n.Args, &ir.Node{Type: t})
	}
	switch c.Op {
	case "kv_append":
	case "copy":
		s.Out = m.buffer(Result(i), n.Args[0].Type).Name
	default:
		t, err := ir.Infer(n)
		if err != nil {
			return err
		}
		s.Out = m.buffer(Result(i), t).Name
	}
	m.block.Queues[0].Steps = append(m.block.Queues[0].Steps, s)
	return nil
}

func (m *maker) buffer(name string, t tensor.Type) plan.Ref {
	bytes := (t.Bytes(Limits().Bounds()) + alignment - 1) / alignment * alignment
	m.block.Buffers = append(m.block.Buffers, plan.Buffer{Name: name, Type: t, Bytes: bytes})
	return plan.Ref{Kind: plan.BufferRef, Name: name}
}

// cache adds a cache whose keys are as long as those of the operand before.
func (m *maker) cache(i int, t tensor.Type, args []*ir.Node) {
	key := args[0].Type.Shape[2].N
	c := plan.Cache{Name: CacheName(i), Layers: plan.NoLayers, Heads: t.Shape[1].N, KeyDim: key, ValDim: t.Shape[2].N - key, DType: t.DType,
		Group: max(0, args[0].Type.Shape[0].Sym.Group()), Offset: m.cached}
	c.Stride = (c.Bytes(Limits()) + alignment - 1) / alignment * alignment
	m.cached += c.Stride
	m.caches = append(m.caches, c)
}
