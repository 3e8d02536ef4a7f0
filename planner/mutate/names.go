package mutate

import (
	"fmt"
	"math"
	"slices"

	"moec/planner/plan"
)

// nameMutations damage what everything else relies on: devices, numbers,
// names.
var nameMutations = []Mutation{
	{"the machine loses a device", "V24", func(e *editor) (string, bool) {
		e.Machine.Devices = len(e.Memory) - 1
		return fmt.Sprintf("%d devices for %d accounts", e.Machine.Devices, len(e.Memory)), true
	}},
	{"an account is lost", "V24", func(e *editor) (string, bool) {
		i := e.rng.IntN(len(e.Memory))
		e.Memory = slices.Delete(e.Memory, i, i+1)
		return fmt.Sprint(i), true
	}},
	{"a thing is on a device that does not exist", "V24", func(e *editor) (string, bool) {
		d := some(e, -1, len(e.Memory), len(e.Memory)+3, math.MaxInt)
		at, what := e.device()
		*at = d
		return fmt.Sprintf("%s on device %d", what, d), true
	}},
	{"a thing is on another device", "V01", func(e *editor) (string, bool) {
		at, what := e.device()
		if len(e.Memory) < 2 {
			return "", false
		}
		*at = (*at + 1 + e.rng.IntN(len(e.Memory)-1)) % len(e.Memory)
		return fmt.Sprintf("%s on device %d", what, *at), true
	}},
	{"the placement names a device that does not exist", "V24", func(e *editor) (string, bool) {
		if len(e.Placement.Layers) == 0 {
			return "", false
		}
		l := &e.Placement.Layers[e.rng.IntN(len(e.Placement.Layers))]
		l.Groups = append(l.Groups, []int{len(e.Memory)})
		return "a token group", true
	}},
	{"two devices exchange their queues", "V01", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.block.Queues) > 1 })
		if !ok {
			return "", false
		}
		a, b, _ := two(e, pointers(s.block.Queues))
		a.Device, b.Device = b.Device, a.Device
		return fmt.Sprintf("%s: devices %d and %d", s.block.Name, a.Device, b.Device), true
	}},

	{"a const is no number", "V27", func(e *editor) (string, bool) {
		c, ok := pick(e, pointers(e.Consts))
		if !ok || len(c.Values) == 0 {
			return "", false
		}
		c.Values[e.rng.IntN(len(c.Values))] = some(e, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)))
		return c.Name, true
	}},
	{"an attribute is no number", "V27", func(e *editor) (string, bool) {
		s, i, ok := e.attr(func(v any) bool { _, real := v.(float64); return real })
		if !ok {
			return "", false
		}
		s.Attrs[i].Value = some(e, math.NaN(), math.Inf(1), math.Inf(-1))
		return fmt.Sprint(s, " ", i), true
	}},

	{"a buffer is renamed", "V01", func(e *editor) (string, bool) {
		b, ok := pick(e, e.buffers(nil))
		if !ok {
			return "", false
		}
		what := b.String()
		b.Name = some(e, "", "b 0", "y@1", "weight:y", "other", "tokens.99")
		return what + " to " + b.Name, true
	}},
	{"a buffer has another's name", "V01", func(e *editor) (string, bool) {
		a, b, ok := two(e, e.buffers(nil))
		if !ok || a.Name == b.Name {
			return "", false
		}
		what := fmt.Sprint(a, " as ", b)
		a.Name = b.Name
		return what, true
	}},
	{"an operand does not exist", "V01", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Args) > 0 })
		if !ok {
			return "", false
		}
		a := &s.Args[e.rng.IntN(len(s.Args))]
		what := a.Name
		a.Name += some(e, "0", "'", ".{layer}")
		return fmt.Sprint(s, ": ", what), true
	}},
	{"an operand is of another kind", "V01", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return len(s.Args) > 0 })
		if !ok {
			return "", false
		}
		a := &s.Args[e.rng.IntN(len(s.Args))]
		a.Kind = some(e, plan.BufferRef, plan.WeightRef, plan.ConstRef, plan.CacheRef, "disk")
		return fmt.Sprintf("%s: %s as %s", s, a.Name, a.Kind), true
	}},
	{"a result goes nowhere that exists", "V01", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.Out != "" })
		if !ok {
			return "", false
		}
		s.Out += "0000"
		return fmt.Sprint(s), true
	}},
	{"an op that no plan has", "V01", func(e *editor) (string, bool) {
		s, ok := e.site(nil)
		if !ok {
			return "", false
		}
		what := fmt.Sprint(s)
		s.Op = some(e, "reshape", "weight", "input", "pack", "nothing", "")
		return what + " is " + s.Op, true
	}},
	{"a collective has no channel", "V01", func(e *editor) (string, bool) {
		s, ok := e.site(collective)
		if !ok {
			return "", false
		}
		s.Attrs = s.Attrs.Without("channel")
		return fmt.Sprint(s), true
	}},
	{"a number is out of range", "V01", func(e *editor) (string, bool) {
		s, i, ok := e.attr(func(v any) bool { _, is := v.(int); return is })
		if !ok {
			return "", false
		}
		s.Attrs[i].Value = some(e, -1, -1<<40, 1<<40, math.MaxInt)
		return fmt.Sprint(s, " ", i), true
	}},
	{"a run is of another block", "V01", func(e *editor) (string, bool) {
		prog := e.program()
		r := &prog.Runs[e.rng.IntN(len(prog.Runs))]
		what := r.Block
		r.Block = some(e, "", "nothing", prog.Blocks[e.rng.IntN(len(prog.Blocks))].Name)
		return what + " as " + r.Block, true
	}},
	{"a run leaves the layers", "V01", func(e *editor) (string, bool) {
		r, ok := e.run(func(r *plan.Run) bool { return r.Layers != plan.NoLayers })
		if !ok {
			return "", false
		}
		r.Layers = some(e, plan.Range{First: r.Layers.First, Last: e.Model.Layers}, plan.Range{First: -1, Last: r.Layers.Last},
			plan.Range{First: r.Layers.Last + 1, Last: r.Layers.First}, plan.Range{First: r.Layers.First, Last: 1 << 40})
		return fmt.Sprint(r), true
	}},
	{"a weight is for other layers", "V01", func(e *editor) (string, bool) {
		w := &e.Weights[e.rng.IntN(len(e.Weights))]
		what := fmt.Sprint(w.Name, " of device ", w.Device, ": ", w.Layers)
		w.Layers = e.otherLayers(w.Layers)
		return fmt.Sprint(what, " to ", w.Layers), true
	}},
	{"a cache is for other layers", "V01", func(e *editor) (string, bool) {
		c, ok := pick(e, pointers(e.Caches))
		if !ok {
			return "", false
		}
		what := fmt.Sprint(c.Name, " of device ", c.Device, ": ", c.Layers)
		c.Layers = e.otherLayers(c.Layers)
		return fmt.Sprint(what, " to ", c.Layers), true
	}},
	{"a resident is given twice", "V01", func(e *editor) (string, bool) {
		if c, ok := pick(e, e.Caches); ok && e.rng.IntN(3) == 0 {
			e.Caches = append(e.Caches, c)
			return c.Name, true
		}
		w := e.Weights[e.rng.IntN(len(e.Weights))]
		e.Weights = append(e.Weights, w)
		return w.Name, true
	}},
	{"a resident is lost", "V01", func(e *editor) (string, bool) {
		i := e.rng.IntN(len(e.Weights))
		what := e.Weights[i].Name
		e.Weights = slices.Delete(e.Weights, i, i+1)
		return what, true
	}},
	{"a bucket", "V01", func(e *editor) (string, bool) {
		b := &e.Buckets[e.rng.IntN(len(e.Buckets))]
		switch e.rng.IntN(4) {
		case 0:
			b.Program += "x"
		case 1:
			e.Buckets = e.Buckets[:len(e.Buckets)-1]
		case 2:
			e.Buckets = append(e.Buckets, e.Buckets[0])
		default:
			b.Tokens = some(e, 0, -1, e.Limits.Tokens+1)
		}
		return fmt.Sprint(e.Buckets), true
	}},
	{"a limit is not positive", "V01", func(e *editor) (string, bool) {
		l := &e.Limits
		*some(e, &l.Tokens, &l.Rows, &l.Sequences, &l.Context, &l.Page, &l.Pages, &e.Model.Vocab, &e.Numerics.Segments) = some(e, 0, -1, math.MaxInt)
		return fmt.Sprintf("%+v", *l), true
	}},
	{"the model has other layers", "V01", func(e *editor) (string, bool) {
		e.Model.Layers = some(e, e.Model.Layers-1, 0, -1, 1<<20)
		return fmt.Sprint(e.Model.Layers), true
	}},
	{"an account is not a number of bytes", "V01", func(e *editor) (string, bool) {
		m := &e.Memory[e.rng.IntN(len(e.Memory))]
		*some(e, &m.Consts, &m.Weights, &m.Caches, &m.Buffers, &m.Total, &m.Budget) = some(e, int64(-256), math.MinInt64, math.MaxInt64)
		return fmt.Sprintf("%+v", *m), true
	}},
	{"a program twice", "V01", func(e *editor) (string, bool) {
		e.Programs = append(e.Programs, e.Programs[0])
		return "", true
	}},
	{"a fused step loses its body", "V01", func(e *editor) (string, bool) {
		s, ok := e.site(op("fused"))
		if !ok {
			return "", false
		}
		s.Body = nil
		return fmt.Sprint(s), true
	}},
	{"a plain step gets a body", "V01", func(e *editor) (string, bool) {
		s, ok := e.site(func(s site) bool { return s.inner < 0 && len(s.Body) == 0 })
		if !ok {
			return "", false
		}
		s.Body = []plan.Step{cloneStep(*s.Step)}
		return fmt.Sprint(s), true
	}},
	{"a kernel for a step that does not exist", "V01", func(e *editor) (string, bool) {
		s, ok := e.site(nil)
		if !ok {
			return "", false
		}
		c := plan.Choice{Program: s.prog.Name, Block: s.block.Name, Device: s.queue.Device, Step: len(s.queue.Steps), Kernel: "k", Params: []string{}}
		e.Kernels = append(e.Kernels, plan.Kernels{Backend: "cuda", Arch: "sm_90a", Choices: []plan.Choice{c}})
		return fmt.Sprint(s), true
	}},
	{"the plan is for another model", "V26", func(e *editor) (string, bool) {
		e.Model.Hash = some(e, "", "00", e.Model.Hash+"0")
		return e.Model.Hash, true
	}},
}

// device returns where the device of something is written.
func (e *editor) device() (*int, string) {
	prog := e.program()
	switch e.rng.IntN(6) {
	case 0:
		if c, ok := pick(e, pointers(e.Caches)); ok {
			return &c.Device, "cache " + c.Name
		}
	case 1:
		if b, ok := pick(e, e.buffers(nil)); ok {
			return &b.Device, fmt.Sprint("buffer ", b)
		}
	case 2:
		if o, ok := pick(e, pointers(prog.Outputs)); ok {
			return &o.Device, "output " + o.Name
		}
	case 3:
		if s, ok := e.site(nil); ok {
			return &s.queue.Device, "the queue of " + s.String()
		}
	case 4:
		if s, ok := e.site(func(s site) bool { return len(s.Args) > 0 }); ok {
			a := &s.Args[e.rng.IntN(len(s.Args))]
			return &a.Device, fmt.Sprint(s, ": operand ", a.Name)
		}
	}
	w := &e.Weights[e.rng.IntN(len(e.Weights))]
	return &w.Device, "weight " + w.Name
}

// attr returns a step and which of its attributes has a value that fits.
func (e *editor) attr(fits func(any) bool) (site, int, bool) {
	type found struct {
		site
		i int
	}
	var list []found
	for _, s := range e.sites(nil) {
		for i, a := range s.Attrs {
			if fits(a.Value) {
				list = append(list, found{s, i})
			}
		}
	}
	f, ok := pick(e, list)
	return f.site, f.i, ok
}

// run returns a run that fits.
func (e *editor) run(fits func(*plan.Run) bool) (*plan.Run, bool) {
	var list []*plan.Run
	for i := range e.Programs {
		for _, r := range pointers(e.Programs[i].Runs) {
			if fits == nil || fits(r) {
				list = append(list, r)
			}
		}
	}
	return pick(e, list)
}

// otherLayers returns layers near those given.
func (e *editor) otherLayers(r plan.Range) plan.Range {
	if r == plan.NoLayers {
		return plan.Range{First: 0, Last: e.rng.IntN(2)}
	}
	return some(e, plan.Range{First: r.First + 1, Last: r.Last}, plan.Range{First: r.First, Last: r.Last - 1},
		plan.Range{First: r.First, Last: r.Last + 1}, plan.Range{First: r.First + 1, Last: r.Last + 1}, plan.NoLayers)
}
