package prove

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// joinParts checks that the parts of a weight fill it and are read from where
// the model says, and joins its axes with those of the model's weights.
func (m *machine) joinParts(w *plan.Weight, t typed) error {
	along := 0
	for i := range w.Parts {
		p := &w.Parts[i]
		if err := partFits(p, w); err != nil {
			return err
		}
		for axis, r := range p.Slice {
			m.s.need(t.axes[axis], r[0], r[1], p.Shape[axis])
		}
		if p.Experts != nil {
			m.s.need(t.axes[0], 1)
		}
		along += p.Extents()[w.Axis]
		for turn := range w.Layers.Len() {
			name := named(p.Weight, layerOf(w.Layers, turn))
			lw := m.logical.weights[name]
			if lw == nil {
				return fmt.Errorf("the model has no weight %q", name)
			}
			if lw.DType != w.DType || !slices.Equal(lw.Shape, p.Shape) || !sameSource(lw.Source, p.Source) {
				return fmt.Errorf("%s is read as %s%v from %+v, the model's is %s%v from %+v", name, w.DType, p.Shape, p.Source, lw.DType, lw.Shape, lw.Source)
			}
			for axis, v := range m.s.weight(lw).axes {
				m.s.join(v, t.axes[axis])
			}
		}
	}
	if along != w.Shape[w.Axis] {
		return fmt.Errorf("its parts have %d entries along axis %d, it has %d", along, w.Axis, w.Shape[w.Axis])
	}
	return nil
}

// partFits checks a part's numbers.
func partFits(p *plan.Part, w *plan.Weight) error {
	rank := len(w.Shape)
	if rank == 0 || len(p.Slice) != rank || len(p.Shape) != rank || w.Axis < 0 || w.Axis >= rank {
		return fmt.Errorf("shape %v, joined along axis %d, has a part %v of %v", w.Shape, w.Axis, p.Slice, p.Shape)
	}
	for axis, r := range p.Slice {
		if len(r) != 2 || r[0] < 0 || r[0] > r[1] || r[1] > p.Shape[axis] {
			return fmt.Errorf("%v is not a part of %v", p.Slice, p.Shape)
		}
	}
	for _, e := range p.Experts {
		if e < 0 || e >= p.Shape[0] {
			return fmt.Errorf("keeps expert %d of %d", e, p.Shape[0])
		}
	}
	for axis, n := range p.Extents() {
		if axis != w.Axis && n != w.Shape[axis] {
			return fmt.Errorf("shape %v has a part of shape %v", w.Shape, p.Extents())
		}
	}
	return nil
}

// keptKey is what some devices keep of a weight in a layer.
type keptKey struct {
	what  string
	layer int
}

// shared returns what a device keeps of a weight, which others may keep too.
func (m *machine) shared(k keptKey, w *plan.Weight, t typed) (*array, error) {
	a := m.kept[k]
	if a == nil {
		var err error
		if a, err = m.assemble(w, t, k.layer); err != nil {
			return nil, err
		}
		m.kept[k] = a
	}
	return a, nil
}

// assemble makes what a device keeps of a weight in a layer.
func (m *machine) assemble(w *plan.Weight, t typed, layer int) (*array, error) {
	out := newArray(w.DType, m.s.shape(t).Extents(nil))
	outer, inner := out.around(w.Axis)
	row, at := out.dims[w.Axis]*inner, 0
	for i := range w.Parts {
		p := m.weightPart(&w.Parts[i], t, layer)
		data := make([]uint64, volume(p.extents()))
		p.fill(data)
		n := p.extents()[w.Axis] * inner
		for o := range outer {
			copy(out.data[o*row+at:][:n], data[o*n:])
		}
		at += n
	}
	return out, nil
}

// weightPart divides a part's numbers.
func (m *machine) weightPart(p *plan.Part, t typed, layer int) weightPart {
	part := weightPart{salt: weightSalt(m.env.seed, named(p.Weight, layer)), experts: p.Experts}
	for axis, r := range p.Slice {
		f := m.s.factor(t.axes[axis])
		part.slice = append(part.slice, [2]int{r[0] / f, r[1] / f})
		part.shape = append(part.shape, p.Shape[axis]/f)
	}
	return part
}

func sameSource(a, b ir.Source) bool {
	return a.Key == b.Key && a.Transposed == b.Transposed && slices.Equal(a.Stored, b.Stored) && slices.Equal(a.View, b.View)
}

// tableKey is a const on a device.
type tableKey struct {
	device int
	c      *plan.Const
}

// prepareConsts gives every const its loc on every device.
func (m *machine) prepareConsts() error {
	m.tables = make(map[tableKey]*loc)
	for i := range m.p.Consts {
		c := &m.p.Consts[i]
		if volume(c.Shape) != len(c.Values) {
			return fmt.Errorf("const %s has %d values for shape %v", c.Name, len(c.Values), c.Shape)
		}
		t := m.s.typed(c, tensor.Type{DType: tensor.F32, Shape: tensor.Ints(c.Shape...)})
		for _, d := range m.devices {
			l, err := m.loc(d.id, c.Offset, 4*int64(len(c.Values)), tensor.F32, "const "+c.Name)
			if err != nil {
				return err
			}
			l.load = func() (*array, error) {
				if m.follow != nil {
					return m.follow.constant(c), nil
				}
				return m.s.table(c.Shape, c.Values, t, m.env.seed), nil
			}
			m.tables[tableKey{d.id, c}] = l
			m.loaded = append(m.loaded, l)
		}
	}
	m.joinConsts()
	return nil
}

// joinConsts joins the axes of equal tables of plan and model.
func (m *machine) joinConsts() {
	for i := range m.p.Consts {
		c := &m.p.Consts[i]
		t := tensor.Type{DType: tensor.F32, Shape: tensor.Ints(c.Shape...)}
		for _, n := range m.logical.consts {
			if slices.Equal(n.Attrs.Ints("shape"), c.Shape) && slices.Equal(n.Attrs.Floats("values"), c.Values) {
				own, of := m.s.typed(c, t), m.s.typed(n, n.Type)
				for axis := range own.axes {
					m.s.join(own.axes[axis], of.axes[axis])
				}
			}
		}
	}
}

// settleResidents loads consts and weights in order: what shares bytes with
// one that is loaded later is lost.
func (m *machine) settleResidents() {
	done := make(map[*loc]bool)
	for _, d := range m.devices {
		d.findOverlaps()
	}
	for _, l := range m.loaded {
		for _, o := range l.overlaps {
			if done[o] {
				o.drop(origin{why: "was overwritten when " + l.name + " was loaded"}, 0)
			}
		}
		done[l] = true
	}
}
