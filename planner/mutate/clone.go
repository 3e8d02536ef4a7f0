package mutate

import (
	"slices"

	"moec/ir"
	"moec/ir/placement"
	"moec/planner/plan"
)

// each returns a list of copies; nil stays nil.
func each[T any](list []T, f func(T) T) []T {
	list = slices.Clone(list)
	for i := range list {
		list[i] = f(list[i])
	}
	return list
}

// Clone returns a plan that shares nothing with p that may be changed.
func Clone(p *plan.Plan) *plan.Plan {
	q := *p
	q.Model.Bindings = slices.Clone(p.Model.Bindings)
	q.Placement = clonePlacement(p.Placement)
	q.Buckets = slices.Clone(p.Buckets)
	q.Weights = each(p.Weights, func(w plan.Weight) plan.Weight {
		w.Shape = slices.Clone(w.Shape)
		w.Parts = each(w.Parts, clonePart)
		return w
	})
	q.Consts = each(p.Consts, func(c plan.Const) plan.Const {
		c.Shape, c.Values = slices.Clone(c.Shape), slices.Clone(c.Values)
		return c
	})
	q.Caches = slices.Clone(p.Caches)
	q.Memory = slices.Clone(p.Memory)
	q.Programs = each(p.Programs, cloneProgram)
	q.Kernels = each(p.Kernels, func(k plan.Kernels) plan.Kernels {
		k.Choices = each(k.Choices, func(c plan.Choice) plan.Choice {
			c.Params = slices.Clone(c.Params)
			return c
		})
		return k
	})
	return &q
}

func clonePart(p plan.Part) plan.Part {
	p.Source.Stored, p.Source.View = slices.Clone(p.Source.Stored), slices.Clone(p.Source.View)
	p.Shape, p.Slice, p.Experts = slices.Clone(p.Shape), each(p.Slice, slices.Clone[[]int]), slices.Clone(p.Experts)
	return p
}

func clonePlacement(p placement.Placement) placement.Placement {
	split := slices.Clone[placement.Split]
	splits := func(s []placement.Split) []placement.Split { return each(s, split) }
	p.Embed, p.Head = splits(p.Embed), splits(p.Head)
	p.Layers = each(p.Layers, func(l placement.Layer) placement.Layer {
		l.Groups = each(l.Groups, slices.Clone[[]int])
		l.Attention, l.Dense = splits(l.Attention), splits(l.Dense)
		l.Experts = each(l.Experts, func(e placement.Expert) placement.Expert { return each(e, split) })
		return l
	})
	return p
}

func cloneProgram(p plan.Program) plan.Program {
	p.Buffers = each(p.Buffers, cloneBuffer)
	p.Runs = slices.Clone(p.Runs)
	p.Blocks = each(p.Blocks, func(b plan.Block) plan.Block {
		b.Buffers = each(b.Buffers, cloneBuffer)
		b.Queues = each(b.Queues, func(q plan.Queue) plan.Queue {
			q.Steps = each(q.Steps, cloneStep)
			return q
		})
		return b
	})
	p.Outputs = each(p.Outputs, func(o plan.Output) plan.Output {
		o.Type.Shape = slices.Clone(o.Type.Shape)
		return o
	})
	return p
}

func cloneBuffer(b plan.Buffer) plan.Buffer {
	b.Type.Shape = slices.Clone(b.Type.Shape)
	return b
}

func cloneStep(s plan.Step) plan.Step {
	s.Args = each(s.Args, func(r plan.Ref) plan.Ref {
		r.Type.Shape = slices.Clone(r.Type.Shape)
		return r
	})
	s.Attrs = each(s.Attrs, func(a ir.Attr) ir.Attr {
		a.Value = cloneValue(a.Value)
		return a
	})
	s.Body = each(s.Body, cloneStep)
	return s
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case []int:
		return slices.Clone(v)
	case [][]int:
		return each(v, slices.Clone[[]int])
	case []float32:
		return slices.Clone(v)
	}
	return v
}
