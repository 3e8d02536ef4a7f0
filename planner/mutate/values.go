package mutate

import (
	"fmt"
	"slices"

	"moec/planner/plan"
)

// valueMutations leave a plan of sound form that computes something else, or
// the same in another way.
var valueMutations = []Mutation{
	{"an operand is another value of its type", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return !collective(s) && len(s.refs(plan.BufferRef)) > 0 })
		if !ok {
			return "", false
		}
		a, _ := pick(e, s.refs(plan.BufferRef))
		b, ok := pick(e, e.alike(s, a.Device, a.Name))
		if !ok {
			return "", false
		}
		a.Name = b.Name
		return fmt.Sprint(s, ": ", b), true
	}},
	{"an operand is another value on every device", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return !collective(s) && s.inner < 0 && len(s.refs(plan.BufferRef)) > 0 })
		if !ok {
			return "", false
		}
		i, n := e.rng.IntN(len(s.Args)), e.rng.IntN(8)
		for _, t := range e.twins(s) {
			if i >= len(t.Args) || t.Args[i].Kind != plan.BufferRef {
				continue
			}
			if list := e.alike(t, t.Args[i].Device, t.Args[i].Name); len(list) > 0 {
				t.Args[i].Name = list[n%len(list)].Name
			}
		}
		return fmt.Sprint(s, ": operand ", i), true
	}},
	{"two operands of one type are exchanged", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.refs(plan.BufferRef)) > 1 && !collective(s) })
		if !ok {
			return "", false
		}
		a, b, _ := two(e, s.refs(plan.BufferRef))
		x, okX := e.find(s, a.Device, a.Name)
		y, okY := e.find(s, b.Device, b.Name)
		if !okX || !okY || !x.Type.Equal(y.Type) {
			return "", false
		}
		*a, *b = *b, *a
		return fmt.Sprint(s), true
	}},
	{"a step is another of its form", Meaning, func(e *editor) (string, bool) {
		pairs := [][]string{
			{"add", "sub", "mul", "div", "max", "min"},
			{"neg", "abs", "exp", "log", "sqrt", "tanh", "sigmoid", "relu", "silu", "gelu", "gelu_tanh", "softplus", "softmax", "copy"},
			{"rms_norm", "layer_norm"},
		}
		s, ok := e.site(func(s site) bool {
			return slices.ContainsFunc(pairs, func(p []string) bool { return slices.Contains(p, s.Op) })
		})
		if !ok {
			return "", false
		}
		what := fmt.Sprint(s)
		for _, p := range pairs {
			if slices.Contains(p, s.Op) {
				s.Op, _ = pick(e, p)
				break
			}
		}
		return what + " as " + s.Op, true
	}},
	{"a number is another", Meaning, func(e *editor) (string, bool) {
		s, i, ok := e.attr(func(v any) bool { _, real := v.(float64); return real })
		if !ok {
			return "", false
		}
		s.Attrs[i].Value = e.other(s.Attrs[i].Value)
		return fmt.Sprint(s, " ", i), true
	}},
	{"an attribute is another", Meaning, func(e *editor) (string, bool) {
		s, i, ok := e.attr(func(any) bool { return true })
		if !ok || s.Attrs[i].Name == "channel" {
			return "", false
		}
		s.Attrs[i].Value = e.other(s.Attrs[i].Value)
		return fmt.Sprint(s, ": ", s.Attrs[i].Name, " is ", s.Attrs[i].Value), true
	}},
	{"an attribute is another on every device", Meaning, func(e *editor) (string, bool) {
		s, i, ok := e.attr(func(any) bool { return true })
		if !ok || s.Attrs[i].Name == "channel" {
			return "", false
		}
		name, value := s.Attrs[i].Name, e.other(s.Attrs[i].Value)
		for _, t := range e.twins(s) {
			t.Attrs = t.Attrs.With(name, cloneValue(value))
		}
		return fmt.Sprint(s, ": ", name, " is ", value), true
	}},
	{"attention looks elsewhere", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(op("attention"))
		if !ok {
			return "", false
		}
		name := some(e, "scale", "group", "window", "softcap", "q_first", "kv_first")
		switch name {
		case "scale":
			s.Attrs = s.Attrs.With(name, 2*s.Attrs.Float(name, 1))
		case "softcap":
			s.Attrs = s.Attrs.With(name, some(e, 1.0, 30.0))
		default:
			s.Attrs = s.Attrs.With(name, max(0, s.Attrs.Int(name, 0)+some(e, -1, 1, 2)))
		}
		return fmt.Sprint(s, ": ", name), true
	}},
	{"rope turns otherwise", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(op("rope"))
		if !ok {
			return "", false
		}
		if e.rng.IntN(2) == 0 {
			style := "half"
			if s.Attrs.Text("style") == style {
				style = "interleaved"
			}
			s.Attrs = s.Attrs.With("style", style)
		} else {
			s.Attrs = s.Attrs.With("scale", 1.25)
		}
		return fmt.Sprint(s), true
	}},
	{"routing chooses otherwise", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(op("topk"))
		if !ok {
			return "", false
		}
		switch e.rng.IntN(3) {
		case 0:
			s.Attrs = s.Attrs.With("k", max(1, s.Attrs.Int("k", 1)+some(e, -1, 1)))
		case 1:
			s.Attrs = s.Attrs.With("groups", 2).With("top_groups", 1).With("group_score", "max")
		default:
			s.Attrs = s.Attrs.Without("groups").Without("top_groups").Without("group_score")
		}
		return fmt.Sprint(s), true
	}},
	{"a step takes another slice", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(op("slice"))
		if !ok {
			return "", false
		}
		by := some(e, -2, -1, 1, 2)
		list := []site{s}
		if e.rng.IntN(2) == 0 {
			list = e.twins(s)
		}
		for _, t := range list {
			t.Attrs = t.Attrs.With("lo", max(0, t.Attrs.Int("lo", 0)+by)).With("hi", max(0, t.Attrs.Int("hi", 0)+by))
		}
		return fmt.Sprint(s), true
	}},
	{"a const has other values", Meaning, func(e *editor) (string, bool) {
		c, ok := pick(e, pointers(e.Consts))
		if !ok || len(c.Values) == 0 {
			return "", false
		}
		v := &c.Values[e.rng.IntN(len(c.Values))]
		*v = some(e, *v+0.5, 2**v, -*v)
		return c.Name, true
	}},
	{"a step uses another const", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.refs(plan.ConstRef)) > 0 })
		if !ok {
			return "", false
		}
		c, _ := pick(e, e.Consts)
		s.refs(plan.ConstRef)[0].Name = c.Name
		return fmt.Sprint(s, ": ", c.Name), true
	}},
	{"a step uses another weight", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.refs(plan.WeightRef)) > 0 })
		if !ok {
			return "", false
		}
		a := s.refs(plan.WeightRef)[0]
		w, ok := pick(e, e.sameShape(s.queue.Device, a.Name))
		if !ok {
			return "", false
		}
		a.Name = w.Name
		return fmt.Sprint(s, ": ", w.Name), true
	}},
	{"two steps exchange their weights", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.refs(plan.WeightRef)) > 0 })
		if !ok {
			return "", false
		}
		a := s.refs(plan.WeightRef)[0]
		names := e.sameShape(s.queue.Device, a.Name)
		o, ok := e.site(func(o site) bool {
			r := o.refs(plan.WeightRef)
			return o.queue == s.queue && len(r) > 0 && slices.ContainsFunc(names, func(w plan.Weight) bool { return w.Name == r[0].Name })
		})
		if !ok {
			return "", false
		}
		b := o.refs(plan.WeightRef)[0]
		a.Name, b.Name = b.Name, a.Name
		return fmt.Sprint(s, " and ", o), true
	}},
	{"a buffer is renamed everywhere", Meaning, func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(func(p place) bool { return p.block != nil }))
		if !ok {
			return "", false
		}
		old, name := b.Name, "other"
		for _, s := range e.sites(func(s site) bool { return s.block == b.block }) {
			if s.queue.Device == b.Device && s.Out == old {
				s.Out = name
			}
			for _, r := range s.refs(plan.BufferRef) {
				if r.Device == b.Device && r.Name == old {
					r.Name = name
				}
			}
		}
		b.Name = name
		return old, true
	}},
}

// sameShape lists the other weights of a device of the shape and type of that
// called name.
func (e *editor) sameShape(device int, name string) []plan.Weight {
	i := slices.IndexFunc(e.Weights, func(w plan.Weight) bool { return w.Device == device && w.Name == name })
	if i < 0 {
		return nil
	}
	var list []plan.Weight
	for _, w := range e.Weights {
		if w.Device == device && w.Name != name && w.DType == e.Weights[i].DType && slices.Equal(w.Shape, e.Weights[i].Shape) {
			list = append(list, w)
		}
	}
	return list
}

// other returns a value near v.
func (e *editor) other(v any) any {
	switch v := v.(type) {
	case int:
		return max(0, e.near(v))
	case float64:
		return some(e, 2*v, v+0.5, v/2, -v)
	case string:
		return v + "x"
	case []int:
		w := slices.Clone(v)
		if len(w) > 0 {
			i := e.rng.IntN(len(w))
			w[i] = max(0, e.near(w[i]))
		}
		return w
	case [][]int:
		w := cloneSets(v)
		if len(w) == 0 {
			return w
		}
		i, j := e.rng.IntN(len(w)), e.rng.IntN(len(w))
		w[i], w[j] = w[j], slices.Clone(w[i])
		if k := len(w[j]); k > 0 && e.rng.IntN(2) == 0 {
			w[j][e.rng.IntN(k)] += some(e, -1, 1)
		}
		return w
	}
	return v
}
