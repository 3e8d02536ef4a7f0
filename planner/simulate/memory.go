package simulate

import (
	"moec/ir/tensor"
	"moec/planner/plan"
)

// HighWater is the most memory that a device uses in a step, in bytes, and
// where. Residents are as in the plan; a buffer counts from the step that
// writes it to the last that reads it, with as many rows as the step has.
type HighWater struct {
	Device   int   `json:"device"`
	Consts   int64 `json:"consts"`
	Weights  int64 `json:"weights"`
	Caches   int64 `json:"caches"`
	Buffers  int64 `json:"buffers"`  // at the high-water mark
	Total    int64 `json:"total"`    // the sum of these
	Reserved int64 `json:"reserved"` // of the arena, for the largest step
	Budget   int64 `json:"budget"`

	Block string `json:"block"` // where the mark is
	Layer int    `json:"layer"`
	Step  int    `json:"step"`
	Op    string `json:"op"`
	Time  int64  `json:"time_ps"` // when that step begins
}

// place is a step of a turn of a device, or a step of its body.
type place struct {
	turn int
	*step
	inner       *plan.Step // of the body; nil if there is none
	first, last int        // places of the whole step
}

// life is the places, by number, from which to which a buffer has a value.
type life struct {
	first, last int
	bytes       int64
}

// lives follows the buffers of one device through a step.
type lives struct {
	prog   *program
	device int
	bounds tensor.Bounds
	places []place
	open   map[key]life // the value that is in a buffer now; the key has the turn, -1 for the program's
	change []int64      // bytes more, by place
}

// highWater finds each device's mark.
func (e *engine) highWater(r *Result) []HighWater {
	bounds := r.Load.Bounds(e.sim.groups)
	list := make([]HighWater, 0, len(e.devices))
	for _, m := range e.sim.plan.Memory {
		l := &lives{prog: e.prog, device: m.Device, bounds: bounds, open: make(map[key]life)}
		h := HighWater{Device: m.Device, Consts: m.Consts, Weights: m.Weights, Caches: m.Caches, Reserved: m.Total, Budget: m.Budget, Layer: -1}
		if at, most := l.follow(); at >= 0 {
			p := l.places[at]
			t := e.prog.turns[p.turn]
			h.Buffers, h.Block, h.Layer, h.Step, h.Op = most, t.block.Name, t.layer, p.at, p.op
			h.Time = r.Devices[m.Device].when(p, r.Time)
		}
		h.Total = h.Consts + h.Weights + h.Caches + h.Buffers
		list = append(list, h)
	}
	return list
}

// when returns the time at which a device comes to a place.
func (d *Device) when(p place, end int64) int64 {
	for _, s := range d.Spans {
		if s.Kind != Wait && (s.turn > p.turn || s.turn == p.turn && s.Step >= p.at) {
			return s.Start
		}
	}
	return end
}

// follow returns the place where most bytes are live, the first of equal ones,
// and how many are.
func (l *lives) follow() (at int, most int64) {
	written := make(map[string]bool)
	for t, turn := range l.prog.turns {
		for _, q := range turn.queues {
			if q.device != l.device {
				continue
			}
			for _, st := range q.steps {
				p := place{t, st, nil, len(l.places), len(l.places) + max(0, len(st.plan.Body)-1)}
				for i := range max(1, len(st.plan.Body)) {
					if len(st.plan.Body) > 0 {
						p.inner = &st.plan.Body[i]
					}
					l.places = append(l.places, p)
				}
				written[st.plan.Out] = true
			}
		}
	}
	l.change = make([]int64, len(l.places)+1)
	end := len(l.places) - 1
	for k, b := range l.prog.shared {
		if k.device == l.device && !written[k.name] { // the host fills it before the step
			l.open[key{-1, k.name}] = life{0, end, b.Type.Bytes(l.bounds)}
		}
	}
	for i, p := range l.places {
		l.touch(i, p)
	}
	for _, o := range l.prog.plan.Outputs {
		if v, ok := l.open[key{-1, o.Buffer}]; ok && o.Device == l.device {
			v.last = end
			l.open[key{-1, o.Buffer}] = v
		}
	}
	for _, v := range l.open {
		l.close(v)
	}
	at = -1
	var now int64
	for i := range l.places {
		if now += l.change[i]; at < 0 || now > most {
			at, most = i, now
		}
	}
	return at, most
}

// touch follows one place. The operands of a fused step are needed to its end,
// and its result has memory of its own from its beginning.
func (l *lives) touch(i int, p place) {
	if i == p.first {
		l.read(p, p.plan.Args, p.last)
		l.write(p, p.plan.Out, life{p.first, p.last, 0})
	}
	if p.inner != nil {
		l.read(p, p.inner.Args, i)
		if p.inner.Out != p.plan.Out {
			l.write(p, p.inner.Out, life{i, i, 0})
		}
	}
}

// read notes that values are needed at a place.
func (l *lives) read(p place, args []plan.Ref, at int) {
	for _, a := range args {
		if a.Kind != plan.BufferRef || a.Device != l.device {
			continue
		}
		k, _ := l.find(p, a.Name)
		if v, ok := l.open[k]; ok {
			v.last = max(v.last, at)
			l.open[k] = v
		}
	}
}

// write notes a new value; one that is written over in place goes on.
func (l *lives) write(p place, name string, v life) {
	k, b := l.find(p, name)
	if b == nil {
		return
	}
	v.bytes = b.Type.Bytes(l.bounds)
	if old, ok := l.open[k]; ok && old.last >= v.first {
		v.first = old.first
	} else if ok {
		l.close(old)
	}
	l.open[k] = v
}

// close counts a value that is read no more.
func (l *lives) close(v life) {
	if v.last >= v.first {
		l.change[v.first] += v.bytes
		l.change[v.last+1] -= v.bytes
	}
}

// find returns a buffer of the turn or of the program, or nil.
func (l *lives) find(p place, name string) (key, *plan.Buffer) {
	if b := l.prog.shared[key{l.device, name}]; b != nil {
		return key{-1, name}, b
	}
	return key{p.turn, name}, l.prog.turns[p.turn].local[key{l.device, name}]
}
