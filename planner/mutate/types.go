package mutate

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// typeMutations damage types and what must agree with them.
var typeMutations = []Mutation{
	{"a buffer is of another element type", "V17", func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(nil))
		if !ok {
			return "", false
		}
		b.Type.DType = some(e, tensor.F32, tensor.BF16, tensor.F16, tensor.I32)
		return fmt.Sprint(b, " ", b.Type), true
	}},
	{"a buffer is of another element type and large enough", "V17", func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(func(p place) bool { return p.Type.DType.Bytes() == 2 }))
		if !ok {
			return "", false
		}
		b.Type.DType = tensor.BF16 + tensor.F16 - b.Type.DType
		return fmt.Sprint(b, " ", b.Type), true
	}},
	{"a buffer has other extents", "V17", func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(func(p place) bool { return len(p.Type.Shape) > 0 }))
		if !ok {
			return "", false
		}
		s := b.Type.Shape
		i := e.rng.IntN(len(s))
		if s[i].Sym != "" || e.rng.IntN(3) == 0 {
			s[i] = some(e, tensor.S(tensor.Tokens), tensor.S(tensor.Rows), tensor.S(tensor.Tokens.Of(0)), tensor.S(tensor.Tokens.Of(1)), tensor.N(1))
		} else {
			s[i].N = e.near(s[i].N)
		}
		return fmt.Sprint(b, " ", b.Type), true
	}},
	{"a buffer's extents are exchanged", "V17", func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(func(p place) bool { return len(p.Type.Shape) > 1 }))
		if !ok {
			return "", false
		}
		x, y, _ := two(e, pointers(b.Type.Shape))
		*x, *y = *y, *x
		return fmt.Sprint(b, " ", b.Type), true
	}},
	{"an operand is read under other extents", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.refs(plan.BufferRef)) > 0 })
		if !ok {
			return "", false
		}
		a, _ := pick(e, s.refs(plan.BufferRef))
		if a.Type.DType == tensor.Invalid {
			b, found := e.find(s, a.Device, a.Name)
			if !found {
				return "", false
			}
			a.Type = cloneBuffer(*b.Buffer).Type
		}
		e.damage(&a.Type)
		return fmt.Sprint(s, ": ", a.Name, " as ", a.Type), true
	}},
	{"an operand is read under its buffer's extents", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool {
			return slices.ContainsFunc(s.Args, func(a plan.Ref) bool { return a.Type.DType != tensor.Invalid })
		})
		if !ok {
			return "", false
		}
		for i := range s.Args {
			s.Args[i].Type = tensor.Type{}
		}
		return fmt.Sprint(s), true
	}},
	{"an operand of another type", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return !collective(s) && len(s.refs(plan.BufferRef)) > 0 })
		if !ok {
			return "", false
		}
		a, _ := pick(e, s.refs(plan.BufferRef))
		b, ok := pick(e, e.seen(s))
		if !ok {
			return "", false
		}
		a.Name, a.Type = b.Name, tensor.Type{}
		return fmt.Sprint(s, ": ", b), true
	}},
	{"an operand is missing", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Args) > 0 && !collective(s) })
		if !ok {
			return "", false
		}
		i := e.rng.IntN(len(s.Args))
		s.Args = slices.Delete(s.Args, i, i+1)
		return fmt.Sprint(s), true
	}},
	{"an operand too many", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Args) > 0 && !collective(s) })
		if !ok {
			return "", false
		}
		a, _ := pick(e, s.Args)
		s.Args = append(s.Args, a)
		return fmt.Sprint(s), true
	}},
	{"operands are exchanged", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Args) > 1 && !collective(s) })
		if !ok {
			return "", false
		}
		a, b, _ := two(e, pointers(s.Args))
		*a, *b = *b, *a
		return fmt.Sprint(s), true
	}},
	{"a rounding is to another type", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(op("round"))
		if !ok {
			return "", false
		}
		s.Attrs = s.Attrs.With("dtype", some(e, tensor.F32, tensor.F16, tensor.BF16, tensor.I32))
		return fmt.Sprint(s), true
	}},
	{"a rounding is left out", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(op("round"))
		if !ok {
			return "", false
		}
		*s.Step = plan.Step{Op: "copy", Out: s.Out, Args: s.Args}
		return fmt.Sprint(s), true
	}},
	{"a value is rounded to half and called bf16", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(op("round"))
		if !ok {
			return "", false
		}
		b, ok := e.find(s, s.queue.Device, s.Out)
		if ok && b.Type.DType.Bytes() == 2 {
			s.Attrs = s.Attrs.With("dtype", tensor.BF16+tensor.F16-b.Type.DType)
		}
		return fmt.Sprint(s), ok
	}},
	{"lists of a step are exchanged", "V17", func(e *editor) (string, bool) {
		lists := func(s site) []*plan.Ref {
			var out []*plan.Ref
			for _, a := range s.refs(plan.BufferRef) {
				if b, ok := e.find(s, a.Device, a.Name); ok && b.Type.DType == tensor.I32 {
					out = append(out, a)
				}
			}
			return out
		}
		s, ok := e.site(func(s site) bool { return len(lists(s)) > 0 && !collective(s) })
		if !ok {
			return "", false
		}
		a, _ := pick(e, lists(s))
		b, ok := pick(e, e.buffers(func(p place) bool {
			return p.prog == s.prog && p.block == nil && p.Device == a.Device && p.Type.DType == tensor.I32 && p.Name != a.Name
		}))
		if !ok {
			return "", false
		}
		a.Name = b.Name
		return fmt.Sprint(s, ": ", b), true
	}},
	{"two input buffers exchange names", "V17", func(e *editor) (string, bool) {
		a, b, ok := two(e, e.buffers(func(p place) bool { return p.block == nil && p.Type.DType == tensor.I32 }))
		if ok && a.Device == b.Device {
			a.Name, b.Name = b.Name, a.Name
		}
		return fmt.Sprint(a, " and ", b), ok && a.Device == b.Device
	}},
	{"an attribute is missing", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Attrs) > 0 && s.Op != "fused" && !collective(s) })
		if !ok {
			return "", false
		}
		name := s.Attrs[e.rng.IntN(len(s.Attrs))].Name
		s.Attrs = s.Attrs.Without(name)
		return fmt.Sprint(s, ": ", name), true
	}},
	{"an attribute is of another kind", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Attrs) > 0 && s.Op != "fused" })
		if !ok {
			return "", false
		}
		a := &s.Attrs[e.rng.IntN(len(s.Attrs))]
		a.Value = some[any](e, 1, 1.5, "x", []int{1}, [][]int{{1}})
		return fmt.Sprintf("%s: %s = %v", s, a.Name, a.Value), true
	}},
	{"an attribute too many", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(nil)
		if !ok {
			return "", false
		}
		var names []string
		for _, o := range ir.Ops() {
			for _, a := range o.Attrs {
				names = append(names, a.Name)
			}
		}
		name, _ := pick(e, names)
		if s.Attrs.Has(name) {
			return "", false
		}
		s.Attrs = s.Attrs.With(name, some[any](e, 0, 1, 2, 0.5, []int{0, 1}))
		return fmt.Sprint(s, ": ", name), true
	}},
	{"a fused step is of another kind", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(op("fused"))
		if !ok {
			return "", false
		}
		o, _ := e.site(op("fused"))
		kind := some(e, "nothing", o.Attrs.Text("kind"))
		if kind == s.Attrs.Text("kind") {
			return "", false
		}
		s.Attrs = s.Attrs.With("kind", kind)
		return fmt.Sprint(s), true
	}},
	{"a body reads what is no operand", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Body) > 0 && len(s.Args) > 1 })
		if !ok {
			return "", false
		}
		i := e.rng.IntN(len(s.Args))
		s.Args = slices.Delete(s.Args, i, i+1)
		return fmt.Sprint(s), true
	}},
	{"a cache has other sizes", "V17", func(e *editor) (string, bool) {
		c, ok := pick(e, pointers(e.Caches))
		if !ok {
			return "", false
		}
		f := some(e, &c.Heads, &c.KeyDim, &c.ValDim)
		*f = e.near(*f)
		return fmt.Sprintf("%+v", *c), true
	}},
	{"a cache exchanges keys and values", "V17", func(e *editor) (string, bool) {
		c, ok := pick(e, pointers(e.Caches))
		if !ok {
			return "", false
		}
		if by := some(e, 1, -1, 2); c.KeyDim == c.ValDim {
			c.KeyDim, c.ValDim = c.KeyDim+by, c.ValDim-by
		} else {
			c.KeyDim, c.ValDim = c.ValDim, c.KeyDim
		}
		return fmt.Sprintf("%+v", *c), true
	}},
	{"a cache has other heads", "V17", func(e *editor) (string, bool) {
		c, ok := pick(e, pointers(e.Caches))
		if !ok {
			return "", false
		}
		c.First = e.near(c.First)
		return fmt.Sprintf("%+v", *c), true
	}},
	{"a cache holds another type", "V17", func(e *editor) (string, bool) {
		c, ok := pick(e, pointers(e.Caches))
		if !ok {
			return "", false
		}
		c.DType = some(e, tensor.F32, tensor.BF16, tensor.F16, tensor.I32)
		return fmt.Sprintf("%+v", *c), true
	}},
	{"a cache is of another group", "V17", func(e *editor) (string, bool) {
		c, ok := pick(e, pointers(e.Caches))
		if !ok {
			return "", false
		}
		c.Group = e.near(c.Group)
		return fmt.Sprintf("%+v", *c), true
	}},
	{"a cache keeps fewer positions", "V17", func(e *editor) (string, bool) {
		c, ok := pick(e, pointers(e.Caches))
		if !ok {
			return "", false
		}
		c.Window = some(e, 1, c.Window-1, c.Window/2, -1)
		return fmt.Sprintf("%+v", *c), true
	}},
	{"a step uses another cache", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.refs(plan.CacheRef)) > 0 })
		if !ok {
			return "", false
		}
		c, _ := pick(e, e.Caches)
		s.refs(plan.CacheRef)[0].Name = c.Name
		return fmt.Sprint(s, ": ", c.Name), true
	}},
	{"logits are of another shape", "V17", func(e *editor) (string, bool) {
		o, ok := pick(e, pointers(e.program().Outputs))
		if !ok {
			return "", false
		}
		e.damage(&o.Type)
		return fmt.Sprint(o), true
	}},
	{"the vocabulary is another", "V17", func(e *editor) (string, bool) {
		e.Model.Vocab = e.near(e.Model.Vocab)
		return fmt.Sprint(e.Model.Vocab), true
	}},
}

// damage changes a type a little.
func (e *editor) damage(t *tensor.Type) {
	if len(t.Shape) == 0 || e.rng.IntN(4) == 0 {
		t.DType = some(e, tensor.F32, tensor.BF16, tensor.F16, tensor.I32)
		return
	}
	i := e.rng.IntN(len(t.Shape))
	d := &t.Shape[i]
	switch {
	case d.Sym != "":
		*d = some(e, tensor.S(tensor.Tokens), tensor.S(tensor.Rows), tensor.N(1))
	case d.N%2 == 0 && e.rng.IntN(2) == 0:
		d.N /= 2
		t.Shape = slices.Insert(t.Shape, i+e.rng.IntN(2), tensor.N(2))
	default:
		d.N = e.near(d.N)
	}
}
