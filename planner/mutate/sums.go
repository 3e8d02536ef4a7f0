package mutate

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/planner/plan"
)

// nodes are the ops that make parts of sums.
var nodes = []string{"matmul_nodes", "expert_matmul_nodes", "combine_nodes", "part"}

// sumMutations damage sums whose parts are made by several devices, and the
// order in which they are added.
var sumMutations = []Mutation{
	{"a part is not added", "V15", func(e *editor) (string, bool) {
		return e.reduce(func(s *plan.Step, i, _ int) {
			s.Args = slices.Delete(s.Args, i, i+1)
			s.Attrs = s.Attrs.With("spans", slices.Delete(cloneSets(s.Attrs.Sets("spans")), i, i+1))
		})
	}},
	{"a part is added twice", "V16", func(e *editor) (string, bool) {
		return e.reduce(func(s *plan.Step, i, _ int) {
			s.Args = append(s.Args, s.Args[i])
			s.Attrs = s.Attrs.With("spans", append(cloneSets(s.Attrs.Sets("spans")), s.Attrs.Sets("spans")[i]))
		})
	}},
	{"a part is added instead of another", "V16", func(e *editor) (string, bool) {
		return e.reduce(func(s *plan.Step, i, j int) { s.Args[j] = s.Args[i] })
	}},
	{"a part stands for another's leaves too", "V16", func(e *editor) (string, bool) {
		return e.reduce(func(s *plan.Step, i, j int) {
			spans := cloneSets(s.Attrs.Sets("spans"))
			spans[j] = spans[i]
			s.Attrs = s.Attrs.With("spans", spans)
		})
	}},
	{"parts exchange their leaves", "V15", func(e *editor) (string, bool) {
		return e.reduce(func(s *plan.Step, i, j int) {
			spans := cloneSets(s.Attrs.Sets("spans"))
			spans[i], spans[j] = spans[j], spans[i]
			s.Attrs = s.Attrs.With("spans", spans)
		})
	}},
	{"parts are exchanged", "V15", func(e *editor) (string, bool) {
		return e.reduce(func(s *plan.Step, i, j int) { s.Args[i], s.Args[j] = s.Args[j], s.Args[i] })
	}},
	{"parts are added in another order", "V25", func(e *editor) (string, bool) {
		return e.reduce(func(s *plan.Step, i, j int) {
			spans := cloneSets(s.Attrs.Sets("spans"))
			spans[i], spans[j] = spans[j], spans[i]
			s.Args[i], s.Args[j] = s.Args[j], s.Args[i]
			s.Attrs = s.Attrs.With("spans", spans)
		})
	}},
	{"a sum has other leaves", "V15", func(e *editor) (string, bool) {
		by := some(e, -1, 1, 2)
		return e.reduce(func(s *plan.Step, _, _ int) { s.Attrs = s.Attrs.With("leaves", max(0, s.Attrs.Int("leaves", 0)+by)) })
	}},
	{"a span is another", "V15", func(e *editor) (string, bool) {
		at, by := e.rng.IntN(2), some(e, -1, 1)
		return e.reduce(func(s *plan.Step, i, _ int) {
			spans := cloneSets(s.Attrs.Sets("spans"))
			if len(spans[i]) > at {
				spans[i][at] = max(0, spans[i][at]+by)
			}
			s.Attrs = s.Attrs.With("spans", spans)
		})
	}},
	{"a part begins at another leaf", "V15", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Attrs.Has("leaf") })
		if !ok {
			return "", false
		}
		s.Attrs = s.Attrs.With("leaf", max(0, e.near(s.Attrs.Int("leaf", 0))))
		return fmt.Sprint(s), true
	}},
	{"a part is of a sum of other leaves", "V15", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Attrs.Has("leaf") })
		if !ok {
			return "", false
		}
		s.Attrs = s.Attrs.With("leaves", max(0, e.near(s.Attrs.Int("leaves", 0))))
		return fmt.Sprint(s), true
	}},
	{"a segment ends elsewhere", "V25", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Attrs.Ints("bounds")) > 2 })
		if !ok {
			return "", false
		}
		return fmt.Sprint(s), shiftBound(e, s, []site{s})
	}},
	{"a segment ends elsewhere on every device", "V25", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Attrs.Ints("bounds")) > 2 })
		if !ok {
			return "", false
		}
		return fmt.Sprint(s), shiftBound(e, s, e.twins(s))
	}},
	{"two segments are one", "V25", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Attrs.Ints("bounds")) > 2 })
		if !ok {
			return "", false
		}
		list := []site{s}
		if e.rng.IntN(2) == 0 {
			list = e.twins(s)
		}
		i := 1 + e.rng.IntN(len(s.Attrs.Ints("bounds"))-2)
		for _, t := range list {
			if b := slices.Clone(t.Attrs.Ints("bounds")); i < len(b)-1 {
				t.Attrs = t.Attrs.With("bounds", slices.Delete(b, i, i+1))
			}
		}
		return fmt.Sprint(s), true
	}},
	{"a contraction has no segments", "V25", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Attrs.Has("bounds") && !s.Attrs.Has("leaf") })
		if !ok {
			return "", false
		}
		list := []site{s}
		if e.rng.IntN(2) == 0 {
			list = e.twins(s)
		}
		for _, t := range list {
			t.Attrs = t.Attrs.Without("bounds")
		}
		return fmt.Sprint(s), true
	}},
	{"a contraction gets segments", "V25", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool {
			return (s.Op == "matmul" || s.Op == "expert_matmul") && !s.Attrs.Has("bounds") && len(s.refs(plan.WeightRef)) > 0
		})
		if !ok {
			return "", false
		}
		for i := range e.Weights {
			if w := &e.Weights[i]; w.Name == s.refs(plan.WeightRef)[0].Name && w.Device == s.queue.Device {
				k := w.Shape[len(w.Shape)-1]
				s.Attrs = s.Attrs.With("bounds", []int{0, k / 2, k})
				return fmt.Sprint(s), k > 1
			}
		}
		return "", false
	}},
	{"attention adds other chunks", "V25", func(e *editor) (string, bool) {
		s, ok := e.site(op("attention"))
		if !ok {
			return "", false
		}
		list := []site{s}
		switch e.rng.IntN(3) {
		case 0:
			list = e.twins(s)
		case 1:
			list = e.sites(op("attention"))
		}
		n := some(e, 1, 2, 3, 4, s.Attrs.Int("chunk", 0)+1, 0)
		for _, t := range list {
			t.Attrs = t.Attrs.With("chunk", n)
		}
		return fmt.Sprint(s, ": ", n), true
	}},
	{"three values are put together in another order", "V25", func(e *editor) (string, bool) {
		s, inner, ok := e.nested()
		if !ok {
			return "", false
		}
		for i := range s.Args {
			if s.Args[i].Name == inner.Out {
				j := e.rng.IntN(len(inner.Args))
				s.Args[1-i], inner.Args[j] = inner.Args[j], s.Args[1-i]
				return fmt.Sprint(s, " and ", inner), true
			}
		}
		return "", false
	}},
	{"the record of the order of sums is another", "V25", func(e *editor) (string, bool) {
		if e.rng.IntN(2) == 0 {
			e.Numerics.Segments = max(1, e.near(e.Numerics.Segments))
		} else {
			e.Numerics.Mode = some(e, ir.Invariant, ir.Fast, "", "exact")
		}
		return fmt.Sprint(e.Numerics), true
	}},
	{"a part is read as the sum", "V15", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return op("all_reduce")(s) && len(e.own(s)) > 0 })
		if !ok {
			return "", false
		}
		a, _ := pick(e, e.own(s))
		out, found := e.find(s, s.queue.Device, s.Out)
		if !found {
			return "", false
		}
		for _, o := range e.sites(func(o site) bool { return o.queue == s.queue }) {
			for _, r := range o.refs(plan.BufferRef) {
				if r.Name == s.Out && r.Device == s.queue.Device && r.Type.DType == 0 {
					r.Name, r.Type = a, cloneBuffer(*out.Buffer).Type
				}
			}
		}
		return fmt.Sprint(s, ": ", a), true
	}},
	{"a sum is one of its parts", "V15", func(e *editor) (string, bool) {
		s, ok := e.site(op("all_reduce"))
		if !ok {
			return "", false
		}
		what := fmt.Sprint(s)
		out, found := e.find(s, s.queue.Device, s.Out)
		if !found {
			return "", false
		}
		a := s.Args[e.rng.IntN(len(s.Args))]
		a.Type = cloneBuffer(*out.Buffer).Type
		c := s.Attrs.Int("channel", 0)
		for _, m := range e.members(s) {
			if m.Op == "all_reduce" {
				*m.Step = plan.Step{Op: "transfer", Out: m.Out, Args: []plan.Ref{a}, Attrs: ir.MakeAttrs(ir.Attr{Name: "channel", Value: c})}
			}
		}
		return what, true
	}},
	{"a contraction makes one value of its parts", "V15", func(e *editor) (string, bool) {
		s, ok := e.site(op(nodes...))
		if !ok {
			return "", false
		}
		s.Op = map[string]string{"matmul_nodes": "matmul", "expert_matmul_nodes": "expert_matmul", "combine_nodes": "combine", "part": "copy"}[s.Op]
		s.Attrs = s.Attrs.Without("leaf").Without("leaves")
		return fmt.Sprint(s), true
	}},
}

func cloneSets(sets [][]int) [][]int { return cloneValue(sets).([][]int) }

// reduce changes an all_reduce in the same way on all its members, with two
// of its operands.
func (e *editor) reduce(f func(s *plan.Step, i, j int)) (string, bool) {
	s, ok := e.site(func(s site) bool { return s.Op == "all_reduce" && len(s.Args) > 1 })
	if !ok {
		return "", false
	}
	what := fmt.Sprint(s)
	n := len(s.Args)
	i := e.rng.IntN(n)
	j := (i + 1 + e.rng.IntN(n-1)) % n
	for _, m := range e.members(s) {
		if m.Op == "all_reduce" && len(m.Args) == n && len(m.Attrs.Sets("spans")) == n {
			f(m.Step, i, j)
		}
	}
	return fmt.Sprint(what, ": operands ", i, " and ", j), true
}

// twins lists the steps of all devices that do what s does in the same place
// among the steps of its op, s included.
func (e *editor) twins(s site) []site {
	nth := func(s site) int {
		n := 0
		for i := range s.at {
			if s.queue.Steps[i].Op == s.queue.Steps[s.at].Op {
				n++
			}
		}
		return n
	}
	n := nth(s)
	return e.sites(func(o site) bool {
		return o.block == s.block && o.Op == s.Op && o.inner == s.inner && o.queue.Steps[o.at].Op == s.queue.Steps[s.at].Op && nth(o) == n
	})
}

// nested returns a sum or product and one that it works on.
func (e *editor) nested() (s, inner site, ok bool) {
	type pair struct{ s, inner site }
	var list []pair
	both := op("add", "mul")
	sites := e.sites(func(s site) bool { return both(s) && len(s.Args) == 2 })
	for _, s := range sites {
		for _, t := range sites {
			uses := func(a plan.Ref) bool { return a.Kind == plan.BufferRef && a.Name == t.Out }
			if t.Op == s.Op && t.queue == s.queue && t.Out != s.Out && slices.ContainsFunc(s.Args, uses) {
				list = append(list, pair{s, t})
			}
		}
	}
	p, ok := pick(e, list)
	return p.s, p.inner, ok
}

// shiftBound moves an inner bound of s by one, in all steps of a list.
func shiftBound(e *editor, s site, list []site) bool {
	i, by := 1+e.rng.IntN(len(s.Attrs.Ints("bounds"))-2), some(e, -1, 1)
	for _, s := range list {
		if b := slices.Clone(s.Attrs.Ints("bounds")); i < len(b)-1 {
			b[i] += by
			s.Attrs = s.Attrs.With("bounds", b)
		}
	}
	return true
}
