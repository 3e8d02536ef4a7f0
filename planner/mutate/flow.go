package mutate

import (
	"fmt"
	"slices"

	"moec/planner/plan"
)

// flowMutations damage which steps there are, their order, and where their
// results go.
var flowMutations = []Mutation{
	{"a step is dropped", "V03", func(e *editor) (string, bool) {
		return e.drop(func(s site) bool { return s.inner < 0 && !collective(s) })
	}},
	{"a step of a body is dropped", "V03", func(e *editor) (string, bool) {
		return e.drop(func(s site) bool { return s.inner >= 0 })
	}},
	{"a step is dropped and its operand used instead", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Out != "" && !collective(s) && len(s.refs(plan.BufferRef)) > 0 })
		if !ok {
			return "", false
		}
		what, out, a := fmt.Sprint(s), s.Out, *s.refs(plan.BufferRef)[0]
		for _, o := range e.sites(func(o site) bool { return o.block == s.block }) {
			for _, r := range o.refs(plan.BufferRef) {
				if r.Device == s.queue.Device && r.Name == out {
					r.Name, r.Type = a.Name, a.Type
				}
			}
		}
		l := s.list()
		*l = slices.Delete(*l, s.index(), s.index()+1)
		s.block.Buffers = slices.DeleteFunc(s.block.Buffers, func(b plan.Buffer) bool { return b.Device == s.queue.Device && b.Name == out })
		return what, true
	}},
	{"a step is done twice", "V03", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return !collective(s) })
		if !ok {
			return "", false
		}
		what, l := fmt.Sprint(s), s.list()
		*l = slices.Insert(*l, s.index(), cloneStep(*s.Step))
		return what, true
	}},
	{"a step is done again later", "V03", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return !collective(s) && s.inner < 0 })
		if !ok {
			return "", false
		}
		what := fmt.Sprint(s)
		s.queue.Steps = append(s.queue.Steps, cloneStep(*s.Step))
		return what, true
	}},
	{"neighbours are exchanged", "V04", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.index() > 0 })
		if !ok {
			return "", false
		}
		l, i := *s.list(), s.index()
		l[i-1], l[i] = l[i], l[i-1]
		return fmt.Sprint(s), true
	}},
	{"a step is moved", "V04", func(e *editor) (string, bool) {
		s, ok := e.site(nil)
		if !ok {
			return "", false
		}
		what, to := fmt.Sprint(s), e.rng.IntN(len(*s.list()))
		e.move(s, to)
		return fmt.Sprint(what, " to ", to), true
	}},
	{"two steps are exchanged", "V04", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(*s.list()) > 1 })
		if !ok {
			return "", false
		}
		a, b, _ := two(e, pointers(*s.list()))
		*a, *b = *b, *a
		return fmt.Sprint(a.Op, " and ", b.Op, " of ", s.block.Name), true
	}},
	{"a queue is reversed", "V04", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.queue.Steps) > 1 })
		if !ok {
			return "", false
		}
		slices.Reverse(s.queue.Steps)
		return fmt.Sprint(s), true
	}},
	{"a result goes elsewhere", "V03", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Out != "" })
		if !ok {
			return "", false
		}
		b, ok := pick(e, e.alike(s, s.queue.Device, s.Out))
		if !ok {
			return "", false
		}
		s.Out = b.Name
		return fmt.Sprint(s, ": ", b), true
	}},
	{"a result is thrown away", "V03", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Out != "" })
		if !ok {
			return "", false
		}
		s.Out = ""
		return fmt.Sprint(s), true
	}},
	{"storing has a result", "V03", func(e *editor) (string, bool) {
		s, ok := e.site(op("kv_append", "send"))
		if !ok {
			return "", false
		}
		b, _ := pick(e, e.seen(s))
		s.Out = b.Name
		return fmt.Sprint(s, ": ", b), true
	}},
	{"two results are exchanged", "V03", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Out != "" })
		if !ok {
			return "", false
		}
		o, ok := e.site(func(o site) bool {
			return o.queue == s.queue && o.inner < 0 && s.inner < 0 && o.Out != "" && o.at != s.at
		})
		if !ok {
			return "", false
		}
		s.Out, o.Out = o.Out, s.Out
		return fmt.Sprint(s, " and ", o), true
	}},
	{"tokens are not stored", "V03", func(e *editor) (string, bool) { return e.drop(op("kv_append")) }},
	{"attention comes before the tokens are stored", "V04", func(e *editor) (string, bool) {
		s, ok := e.site(op("kv_append"))
		if !ok || s.at+1 >= len(s.queue.Steps) {
			return "", false
		}
		what := fmt.Sprint(s)
		e.move(s, len(s.queue.Steps)-1)
		return what, true
	}},
	{"a layer is left out", "V03", func(e *editor) (string, bool) {
		r, ok := e.run(func(r *plan.Run) bool { return r.Layers.Len() > 1 })
		if !ok {
			return "", false
		}
		*some(e, &r.Layers.First, &r.Layers.Last) += 0
		if e.rng.IntN(2) == 0 {
			r.Layers.First++
		} else {
			r.Layers.Last--
		}
		return fmt.Sprint(r), true
	}},
	{"a layer is run twice", "V03", func(e *editor) (string, bool) {
		prog := e.program()
		i := e.rng.IntN(len(prog.Runs))
		r := prog.Runs[i]
		if r.Layers != plan.NoLayers {
			r.Layers.First = r.Layers.Last
		}
		prog.Runs = slices.Insert(prog.Runs, i, r)
		return fmt.Sprint(r), true
	}},
	{"a run is left out", "V01", func(e *editor) (string, bool) {
		prog := e.program()
		i := e.rng.IntN(len(prog.Runs))
		what := fmt.Sprint(prog.Runs[i])
		prog.Runs = slices.Delete(prog.Runs, i, i+1)
		return what, true
	}},
	{"two runs are exchanged", "V04", func(e *editor) (string, bool) {
		a, b, ok := two(e, pointers(e.program().Runs))
		if !ok {
			return "", false
		}
		*a, *b = *b, *a
		return fmt.Sprint(a, " and ", b), true
	}},
	{"a run is split and its halves exchanged", Meaning, func(e *editor) (string, bool) {
		prog := e.program()
		i := slices.IndexFunc(prog.Runs, func(r plan.Run) bool { return r.Layers.Len() > 1 })
		if i < 0 {
			return "", false
		}
		a, b := prog.Runs[i], prog.Runs[i]
		a.Layers.First++
		b.Layers.Last = b.Layers.First
		prog.Runs = slices.Replace(prog.Runs, i, i+1, a, b)
		return fmt.Sprint(a, b), true
	}},
	{"two runs exchange their blocks", "V03", func(e *editor) (string, bool) {
		a, b, ok := two(e, pointers(e.program().Runs))
		if ok {
			a.Block, b.Block = b.Block, a.Block
		}
		return fmt.Sprint(a, " and ", b), ok && a.Block != b.Block
	}},
	{"an output is not given", "V03", func(e *editor) (string, bool) {
		prog := e.program()
		i := e.rng.IntN(len(prog.Outputs))
		prog.Outputs = slices.Delete(prog.Outputs, i, i+1)
		return fmt.Sprint(i), true
	}},
	{"an output is given twice", "V03", func(e *editor) (string, bool) {
		prog := e.program()
		o, ok := pick(e, prog.Outputs)
		prog.Outputs = append(prog.Outputs, o)
		return o.Name, ok
	}},
	{"an output is of another group", "V03", func(e *editor) (string, bool) {
		o, ok := pick(e, pointers(e.program().Outputs))
		if !ok {
			return "", false
		}
		o.Group = some(e, o.Group+1, o.Group-1, 0)
		return fmt.Sprint(o), true
	}},
	{"an output is in another buffer", "V17", func(e *editor) (string, bool) {
		prog := e.program()
		o, ok := pick(e, pointers(prog.Outputs))
		if !ok {
			return "", false
		}
		b, _ := pick(e, pointers(prog.Buffers))
		o.Buffer, o.Device = b.Name, b.Device
		return fmt.Sprint(o), true
	}},
	{"an output has another name", "V03", func(e *editor) (string, bool) {
		o, ok := pick(e, pointers(e.program().Outputs))
		if !ok {
			return "", false
		}
		o.Name = some(e, "", "other", "logit")
		return fmt.Sprint(o), true
	}},
	{"a body ends elsewhere", "V03", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.inner >= 0 && s.inner == len(s.queue.Steps[s.at].Body)-1 })
		if !ok {
			return "", false
		}
		b, ok := pick(e, e.alike(s, s.queue.Device, s.Out))
		if !ok {
			return "", false
		}
		s.Out = b.Name
		return fmt.Sprint(s, ": ", b), true
	}},
	{"a body is reversed", "V04", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Body) > 1 })
		if !ok {
			return "", false
		}
		slices.Reverse(s.Body)
		return fmt.Sprint(s), true
	}},
	{"a value is read before it is made", "V04", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.inner < 0 && !collective(s) && len(e.own(s)) > 0 })
		if !ok {
			return "", false
		}
		var later []string
		for _, o := range s.queue.Steps[s.at:] {
			later = append(later, o.Out)
		}
		a, _ := pick(e, s.refs(plan.BufferRef))
		list := slices.DeleteFunc(e.alike(s, a.Device, a.Name), func(p place) bool { return !slices.Contains(later, p.Name) })
		b, ok := pick(e, list)
		if !ok {
			return "", false
		}
		a.Name = b.Name
		return fmt.Sprint(s, ": ", b), true
	}},
	{"a step becomes a copy", Meaning, func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Out != "" && !collective(s) && len(s.refs(plan.BufferRef)) > 0 })
		if !ok {
			return "", false
		}
		what := fmt.Sprint(s)
		a, _ := pick(e, s.refs(plan.BufferRef))
		*s.Step = plan.Step{Op: "copy", Out: s.Out, Args: []plan.Ref{*a}}
		return what, true
	}},
}
