package mutate

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir/tensor"
	"moec/planner/plan"
)

// shardMutations damage what devices keep of weights, and who serves which
// experts.
var shardMutations = []Mutation{
	{"a slice is of other entries", "V13", func(e *editor) (string, bool) {
		w, p := e.part()
		s := p.Slice[e.rng.IntN(len(p.Slice))]
		by := some(e, -4, -2, -1, 1, 2, 4)
		s[0] += by
		s[1] += by
		return fmt.Sprint(w.Name, " of device ", w.Device, ": ", p.Slice), true
	}},
	{"a slice is shorter or longer", "V13", func(e *editor) (string, bool) {
		w, p := e.part()
		s := p.Slice[e.rng.IntN(len(p.Slice))]
		s[e.rng.IntN(2)] += some(e, -1, 1)
		return fmt.Sprint(w.Name, " of device ", w.Device, ": ", p.Slice), true
	}},
	{"a slice is not one", "V13", func(e *editor) (string, bool) {
		w, p := e.part()
		i := e.rng.IntN(len(p.Slice))
		switch e.rng.IntN(4) {
		case 0:
			p.Slice[i] = p.Slice[i][:1]
		case 1:
			p.Slice = p.Slice[:len(p.Slice)-1]
		case 2:
			p.Slice[i] = []int{p.Slice[i][1], p.Slice[i][0]}
		default:
			p.Slice = append(p.Slice, []int{0, 1})
		}
		return fmt.Sprint(w.Name, " of device ", w.Device, ": ", p.Slice), true
	}},
	{"two devices exchange their slices", "V15", func(e *editor) (string, bool) {
		w := &e.Weights[e.rng.IntN(len(e.Weights))]
		o, ok := pick(e, e.elsewhere(w))
		if !ok || len(w.Parts) != len(o.Parts) {
			return "", false
		}
		for i := range w.Parts {
			w.Parts[i].Slice, o.Parts[i].Slice = o.Parts[i].Slice, w.Parts[i].Slice
			w.Parts[i].Experts, o.Parts[i].Experts = o.Parts[i].Experts, w.Parts[i].Experts
		}
		w.Shape, o.Shape = o.Shape, w.Shape
		return fmt.Sprint(w.Name, " of devices ", w.Device, " and ", o.Device), true
	}},
	{"a device has another's slice too", "V13", func(e *editor) (string, bool) {
		w := &e.Weights[e.rng.IntN(len(e.Weights))]
		o, ok := pick(e, e.elsewhere(w))
		if !ok || len(w.Parts) != len(o.Parts) {
			return "", false
		}
		for i := range w.Parts {
			w.Parts[i].Slice = each(o.Parts[i].Slice, slices.Clone[[]int])
		}
		return fmt.Sprint(w.Name, " of devices ", w.Device, " and ", o.Device), true
	}},
	{"a weight is read from another key", "V13", func(e *editor) (string, bool) {
		w, p := e.part()
		_, q := e.part()
		p.Source.Key = some(e, q.Source.Key, "", "x."+p.Source.Key, strings.ReplaceAll(p.Source.Key, "{layer}", "0"), strings.ReplaceAll(p.Source.Key, "{expert}", "0"))
		return fmt.Sprint(w.Name, " of device ", w.Device, ": ", p.Source.Key), true
	}},
	{"a weight is read from another key everywhere", Meaning, func(e *editor) (string, bool) {
		_, p := e.part()
		name, key := p.Weight, "x."+p.Source.Key
		e.parts(func(_ *plan.Weight, q *plan.Part) {
			if q.Weight == name {
				q.Source.Key = key
			}
		})
		return name, true
	}},
	{"two weights exchange their keys", Meaning, func(e *editor) (string, bool) {
		_, p := e.part()
		a := clonePart(*p)
		_, q := e.part()
		b := clonePart(*q)
		if a.Weight == b.Weight || !slices.Equal(a.Shape, b.Shape) || !slices.Equal(a.Source.Stored, b.Source.Stored) {
			return "", false
		}
		e.parts(func(_ *plan.Weight, r *plan.Part) {
			switch r.Weight {
			case a.Weight:
				r.Source = clonePart(b).Source
			case b.Weight:
				r.Source = clonePart(a).Source
			}
		})
		return a.Weight + " and " + b.Weight, true
	}},
	{"a part is of another weight", "V13", func(e *editor) (string, bool) {
		w, p := e.part()
		_, q := e.part()
		what := p.Weight
		p.Weight = q.Weight
		return fmt.Sprint(w.Name, " of device ", w.Device, ": ", p.Weight, " for ", what), true
	}},
	{"two parts are exchanged", "V13", func(e *editor) (string, bool) {
		w, ok := e.joined()
		if !ok {
			return "", false
		}
		a, b, _ := two(e, pointers(w.Parts))
		*a, *b = *b, *a
		return fmt.Sprint(w), true
	}},
	{"a part is lost", "V13", func(e *editor) (string, bool) {
		w, ok := e.joined()
		if !ok {
			w = &e.Weights[e.rng.IntN(len(e.Weights))]
		}
		i := e.rng.IntN(len(w.Parts))
		w.Parts = slices.Delete(w.Parts, i, i+1)
		return fmt.Sprint(w.Name, " of device ", w.Device, ": part ", i), true
	}},
	{"a part comes twice", "V13", func(e *editor) (string, bool) {
		w, p := e.part()
		w.Parts = append(w.Parts, clonePart(*p))
		return fmt.Sprint(w.Name, " of device ", w.Device), true
	}},
	{"parts are joined along another axis", "V13", func(e *editor) (string, bool) {
		w, ok := e.joined()
		if !ok {
			w = &e.Weights[e.rng.IntN(len(e.Weights))]
		}
		w.Axis = some(e, w.Axis+1, -1, 9)
		return fmt.Sprint(w.Name, " of device ", w.Device, ": ", w.Axis), true
	}},
	{"a weight is read the other way round", "V13", func(e *editor) (string, bool) {
		w, p := e.part()
		p.Source.Transposed = !p.Source.Transposed
		return fmt.Sprint(w.Name, " of device ", w.Device), true
	}},
	{"a weight is read the other way round everywhere", Meaning, func(e *editor) (string, bool) {
		_, p := e.part()
		name := p.Weight
		e.parts(func(_ *plan.Weight, q *plan.Part) {
			if q.Weight == name {
				q.Source.Transposed = !q.Source.Transposed
			}
		})
		return name, true
	}},
	{"a view is another", "V13", func(e *editor) (string, bool) {
		w, p := e.part()
		v, ok := pick(e, pointers(p.Source.View))
		if !ok {
			return "", false
		}
		switch e.rng.IntN(4) {
		case 0:
			v.Lo++
			v.Hi++
		case 1:
			v.Hi += some(e, -1, 1)
		case 2:
			v.Step += some(e, -1, 1)
		default:
			v.Expert = !v.Expert
		}
		return fmt.Sprint(w.Name, " of device ", w.Device, ": ", p.Source.View), true
	}},
	{"a stored tensor is of another shape", Meaning, func(e *editor) (string, bool) {
		_, p := e.part()
		if len(p.Source.Stored) == 0 {
			return "", false
		}
		name, i := p.Weight, e.rng.IntN(len(p.Source.Stored))
		e.parts(func(_ *plan.Weight, q *plan.Part) {
			if q.Weight == name {
				q.Source.Stored[i]++
			}
		})
		return name, true
	}},
	{"a weight is of another shape", "V13", func(e *editor) (string, bool) {
		w, p := e.part()
		if e.rng.IntN(2) == 0 {
			i := e.rng.IntN(len(p.Shape))
			p.Shape[i] = e.near(p.Shape[i])
		} else {
			i := e.rng.IntN(len(w.Shape))
			w.Shape[i] = e.near(w.Shape[i])
		}
		return fmt.Sprint(w.Name, " of device ", w.Device), true
	}},
	{"a weight is of another type", "V28", func(e *editor) (string, bool) {
		w := &e.Weights[e.rng.IntN(len(e.Weights))]
		w.DType = some(e, tensor.F32, tensor.BF16, tensor.F16, tensor.I32)
		return fmt.Sprint(w.Name, " of device ", w.Device, ": ", w.DType), true
	}},
	{"a weight is of another type everywhere", Meaning, func(e *editor) (string, bool) {
		_, p := e.part()
		name := p.Weight
		e.parts(func(w *plan.Weight, q *plan.Part) {
			if q.Weight == name && w.DType.Bytes() == 2 {
				w.DType = tensor.BF16 + tensor.F16 - w.DType
			}
		})
		return name, true
	}},
	{"the model has other parameters", "V13", func(e *editor) (string, bool) {
		e.Model.Params += some(e, int64(-1), 1, -e.Model.Params)
		return fmt.Sprint(e.Model.Params), true
	}},

	{"a device keeps another expert", "V14", func(e *editor) (string, bool) {
		w, p, ok := e.expertPart()
		if !ok {
			return "", false
		}
		i := e.rng.IntN(len(p.Experts))
		p.Experts[i] = some(e, p.Experts[i]+1, p.Experts[i]-1, -1, p.Shape[0], e.rng.IntN(p.Shape[0]))
		return fmt.Sprint(w, p), true
	}},
	{"experts of a weight are exchanged", "V14", func(e *editor) (string, bool) {
		w, p, ok := e.expertPart()
		if !ok || len(p.Experts) < 2 {
			return "", false
		}
		a, b, _ := two(e, pointers(p.Experts))
		*a, *b = *b, *a
		return fmt.Sprint(w.Name, " of device ", w.Device, ": ", p.Experts), true
	}},
	{"experts of a layer's weights are exchanged", "V14", func(e *editor) (string, bool) {
		w, p, ok := e.expertPart()
		if !ok || len(p.Experts) < 2 {
			return "", false
		}
		i, j := e.rng.IntN(len(p.Experts)), e.rng.IntN(len(p.Experts))
		e.parts(func(o *plan.Weight, q *plan.Part) {
			if o.Device == w.Device && len(q.Experts) > max(i, j) {
				q.Experts[i], q.Experts[j] = q.Experts[j], q.Experts[i]
			}
		})
		return fmt.Sprint("device ", w.Device, ": ", i, " and ", j), true
	}},
	{"experts of weights and steps are exchanged", "V15", func(e *editor) (string, bool) {
		w, p, ok := e.expertPart()
		if !ok || len(p.Experts) < 2 {
			return "", false
		}
		i, j := e.rng.IntN(len(p.Experts)), e.rng.IntN(len(p.Experts))
		e.parts(func(o *plan.Weight, q *plan.Part) {
			if o.Device == w.Device && len(q.Experts) > max(i, j) {
				q.Experts[i], q.Experts[j] = q.Experts[j], q.Experts[i]
			}
		})
		for _, s := range e.sites(func(s site) bool { return s.queue.Device == w.Device && len(s.Attrs.Ints("experts")) > max(i, j) }) {
			list := s.Attrs.Ints("experts")
			list[i], list[j] = list[j], list[i]
			if turns := s.Attrs.Sets("turns"); len(turns) > max(i, j) {
				turns[i], turns[j] = turns[j], turns[i]
			}
		}
		return fmt.Sprint("device ", w.Device, ": ", i, " and ", j), true
	}},
	{"an expert has no home", "V14", func(e *editor) (string, bool) {
		w, p, ok := e.expertPart()
		if !ok {
			return "", false
		}
		i := e.rng.IntN(len(p.Experts))
		p.Experts = slices.Delete(p.Experts, i, i+1)
		w.Shape[0]--
		return fmt.Sprint(w.Name, " of device ", w.Device), true
	}},
	{"a device gives up an expert", "V14", func(e *editor) (string, bool) { return e.dismiss() }},
	{"an expert is served by another device too", "V14", func(e *editor) (string, bool) { return e.duplicate() }},
	{"a step names other experts", "V14", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Attrs.Ints("experts")) > 0 })
		if !ok {
			return "", false
		}
		list := s.Attrs.Ints("experts")
		switch e.rng.IntN(4) {
		case 0:
			i, j := e.rng.IntN(len(list)), e.rng.IntN(len(list))
			list[i], list[j] = list[j], list[i]
		case 1:
			s.Attrs = s.Attrs.With("experts", list[:len(list)-1])
		case 2:
			s.Attrs = s.Attrs.With("experts", append(list, list[0]))
		default:
			list[e.rng.IntN(len(list))] = e.rng.IntN(s.Attrs.Int("total", 1))
		}
		return fmt.Sprint(s, ": ", s.Attrs.Ints("experts")), true
	}},
	{"two devices exchange the experts of their steps", "V14", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Attrs.Has("experts") })
		if !ok {
			return "", false
		}
		o, ok := pick(e, e.twins(s))
		if !ok {
			return "", false
		}
		x, y := s.Attrs.Ints("experts"), o.Attrs.Ints("experts")
		s.Attrs, o.Attrs = s.Attrs.With("experts", y), o.Attrs.With("experts", x)
		return fmt.Sprint(s, " and ", o), true
	}},
	{"a layer has other experts", "V17", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Attrs.Has("total") })
		if !ok {
			return "", false
		}
		s.Attrs = s.Attrs.With("total", max(0, e.near(s.Attrs.Int("total", 0))))
		return fmt.Sprint(s), true
	}},
	{"an expert serves another turn", "V14", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Attrs.Ints("experts")) > 0 })
		if !ok {
			return "", false
		}
		n := len(s.Attrs.Ints("experts"))
		turns := cloneSets(s.Attrs.Sets("turns"))
		for len(turns) < n {
			turns = append(turns, []int{0, 1})
		}
		turns[e.rng.IntN(n)] = some(e, []int{0, 2}, []int{1, 2}, []int{0, 1}, []int{1, 3}, []int{2, 1}, []int{0, 0})
		s.Attrs = s.Attrs.With("turns", turns)
		return fmt.Sprint(s, ": ", turns), true
	}},
	{"an expert serves another turn in all steps of a device", "V14", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Attrs.Ints("experts")) > 0 })
		if !ok {
			return "", false
		}
		n := len(s.Attrs.Ints("experts"))
		i, turn := e.rng.IntN(n), some(e, []int{0, 2}, []int{1, 2}, []int{0, 1}, []int{1, 3})
		for _, o := range e.sites(func(o site) bool {
			return o.queue == s.queue && slices.Equal(o.Attrs.Ints("experts"), s.Attrs.Ints("experts"))
		}) {
			turns := cloneSets(o.Attrs.Sets("turns"))
			for len(turns) < n {
				turns = append(turns, []int{0, 1})
			}
			turns[i] = slices.Clone(turn)
			o.Attrs = o.Attrs.With("turns", turns)
		}
		return fmt.Sprint(s, ": ", i, " ", turn), true
	}},
	{"copies do not take turns", "V14", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Attrs.Has("turns") })
		if !ok {
			return "", false
		}
		for _, o := range e.sites(func(o site) bool { return o.block == s.block }) {
			o.Attrs = o.Attrs.Without("turns")
		}
		return fmt.Sprint(s), true
	}},
}

// part returns a part of a weight that some device keeps.
func (e *editor) part() (*plan.Weight, *plan.Part) {
	w := &e.Weights[e.rng.IntN(len(e.Weights))]
	return w, &w.Parts[e.rng.IntN(len(w.Parts))]
}

// parts calls f with every part.
func (e *editor) parts(f func(*plan.Weight, *plan.Part)) {
	for i := range e.Weights {
		for j := range e.Weights[i].Parts {
			f(&e.Weights[i], &e.Weights[i].Parts[j])
		}
	}
}

// expertPart returns a part whose first axis numbers experts.
func (e *editor) expertPart() (w *plan.Weight, p *plan.Part, ok bool) {
	type found struct {
		w *plan.Weight
		p *plan.Part
	}
	var list []found
	e.parts(func(w *plan.Weight, p *plan.Part) {
		if len(p.Experts) > 0 {
			list = append(list, found{w, p})
		}
	})
	f, ok := pick(e, list)
	return f.w, f.p, ok
}

// joined returns a weight of several parts.
func (e *editor) joined() (*plan.Weight, bool) {
	return pick(e, slices.DeleteFunc(pointers(e.Weights), func(w *plan.Weight) bool { return len(w.Parts) < 2 }))
}

// elsewhere lists what other devices keep under the name of w.
func (e *editor) elsewhere(w *plan.Weight) []*plan.Weight {
	return slices.DeleteFunc(pointers(e.Weights), func(o *plan.Weight) bool {
		return o.Device == w.Device || o.Name != w.Name || o.Layers != w.Layers
	})
}

// dismiss takes an expert from a device, in its weights and in its steps.
func (e *editor) dismiss() (string, bool) {
	w, p, ok := e.expertPart()
	if !ok || len(p.Experts) < 2 {
		return "", false
	}
	i := e.rng.IntN(len(p.Experts))
	gone := slices.Clone(p.Experts)
	cut := func(list []int) []int { return slices.Delete(slices.Clone(list), i, i+1) }
	for _, o := range pointers(e.Weights) {
		if o.Device == w.Device && len(o.Parts) > 0 && slices.Equal(o.Parts[0].Experts, gone) {
			o.Shape[0]--
			for j := range o.Parts {
				if len(o.Parts[j].Experts) > i {
					o.Parts[j].Experts = cut(o.Parts[j].Experts)
				}
			}
		}
	}
	for _, s := range e.sites(func(s site) bool { return s.queue.Device == w.Device && slices.Equal(s.Attrs.Ints("experts"), gone) }) {
		s.Attrs = s.Attrs.With("experts", cut(gone))
		if turns := s.Attrs.Sets("turns"); len(turns) > i {
			s.Attrs = s.Attrs.With("turns", slices.Delete(cloneSets(turns), i, i+1))
		}
	}
	return fmt.Sprint("device ", w.Device, ": expert ", gone[i]), true
}

// duplicate gives a device an expert that another has, in its weights and in
// its steps.
func (e *editor) duplicate() (string, bool) {
	w, p, ok := e.expertPart()
	if !ok {
		return "", false
	}
	from := w.Device
	old := slices.Clone(p.Experts)
	var to []int
	e.parts(func(o *plan.Weight, q *plan.Part) {
		if o.Device != from && len(q.Experts) > 0 && !slices.Equal(q.Experts, old) && !slices.Contains(to, o.Device) {
			to = append(to, o.Device)
		}
	})
	d, ok := pick(e, to)
	if !ok {
		return "", false
	}
	expert, _ := pick(e, old)
	e.parts(func(o *plan.Weight, q *plan.Part) {
		if o.Device == d && len(q.Experts) > 0 && !slices.Contains(q.Experts, expert) {
			q.Experts = append(q.Experts, expert)
			o.Shape[0] = len(q.Experts)
		}
	})
	for _, s := range e.sites(func(s site) bool { return s.queue.Device == d && s.Attrs.Has("experts") }) {
		list := s.Attrs.Ints("experts")
		if slices.Contains(list, expert) {
			continue
		}
		s.Attrs = s.Attrs.With("experts", append(slices.Clone(list), expert))
		if turns := s.Attrs.Sets("turns"); turns != nil {
			s.Attrs = s.Attrs.With("turns", append(cloneSets(turns), []int{0, 1}))
		}
	}
	return fmt.Sprint("expert ", expert, " of device ", from, " on ", d), true
}
