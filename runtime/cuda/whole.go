package cuda

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"moec/codegen"
	"moec/planner/plan"
	"moec/runtime/cuda/driver"
)

// whole is a program that one kernel executes, with its addresses found.
type whole struct {
	*codegen.Whole
	function driver.Function
	fields   []byte // of its struct; counts are zero
	counts   []int  // where they go, in the order of the fields
	from, to driver.Event
}

// wholes prepares the programs of one device that one kernel executes.
func (p *preparer) wholes() error {
	w := p.code.Wholes[p.prog.Name]
	if w == nil {
		return nil
	}
	d := p.devices[0]
	m := &whole{Whole: w}
	var err error
	if m.function, err = d.gpu.Function(d.modules[w.Unit], w.Symbol); err != nil {
		return err
	}
	if err := d.gpu.SetMaxShared(m.function, w.Shared); err != nil {
		return err
	}
	for _, f := range w.Fields {
		if err := p.field(d, m, f); err != nil {
			return fmt.Errorf("program %s: kernel %s: %w", p.prog.Name, w.Symbol, err)
		}
	}
	for _, e := range []*driver.Event{&m.from, &m.to} {
		if *e, err = d.gpu.NewEvent(true); err != nil {
			return err
		}
	}
	d.programs[len(d.programs)-1].whole = m
	return nil
}

// field appends a field to the struct.
func (p *preparer) field(d *device, m *whole, f codegen.Field) error {
	add := func(v uint64) { m.fields = binary.LittleEndian.AppendUint64(m.fields, v) }
	switch f.Kind {
	case codegen.ConstantField:
		m.fields = append(m.fields, f.Bytes...)
	case codegen.CountField:
		m.counts = append(m.counts, len(m.fields))
		m.fields = append(m.fields, 0, 0, 0, 0)
	case codegen.PagesField:
		add(uint64(d.tables[0]))
	case codegen.SpaceField:
		add(uint64(d.space + driver.Ptr(f.Offset)))
	case codegen.BufferField:
		at, ok := d.programs[len(d.programs)-1].inputs[f.Name]
		if !ok {
			return fmt.Errorf("internal error: no buffer %q", f.Name)
		}
		add(uint64(at))
	default:
		return p.resident(m, f, add)
	}
	return nil
}

// resident appends where a resident of the first layer is, and how far apart
// layers are.
func (p *preparer) resident(m *whole, f codegen.Field, add func(uint64)) error {
	kind := map[codegen.FieldKind]plan.RefKind{codegen.WeightField: plan.WeightRef, codegen.WeightsField: plan.WeightRef, codegen.CachesField: plan.CacheRef, codegen.ConstField: plan.ConstRef}[f.Kind]
	p.layer = -1
	if f.Kind == codegen.WeightsField || f.Kind == codegen.CachesField {
		p.layer = 0
	}
	at, err := p.address(plan.Ref{Kind: kind, Name: f.Name})
	if err != nil {
		return err
	}
	add(uint64(at))
	if p.layer < 0 {
		return nil
	}
	p.layer = 1
	next, err := p.address(plan.Ref{Kind: kind, Name: f.Name})
	if err != nil {
		next = at // one layer
	}
	add(uint64(next - at))
	return nil
}

// whole launches a program's only kernel.
func (r *run) whole(d *device, m *whole) error {
	i := 0
	for _, f := range m.Fields {
		if f.Kind == codegen.CountField {
			binary.LittleEndian.PutUint32(m.fields[m.counts[i]:], uint32(f.N.Of(r.bounds)))
			i++
		}
	}
	d.params.Reset()
	d.params.Struct(m.fields)
	shape := driver.Shape{Grid: driver.Dim{X: uint32(d.gpu.Info().Multiprocessors), Y: 1, Z: 1}, Block: driver.Dim{X: uint32(m.Threads), Y: 1, Z: 1},
		Shared: uint32(m.Shared), Cooperative: true}
	if err := d.gpu.Record(m.from, d.stream); err != nil {
		return err
	}
	if err := r.profile.mark(d); err != nil {
		return err
	}
	if err := d.gpu.Launch(m.function, shape, &d.params, d.stream); err != nil {
		return err
	}
	if err := r.profile.note(d, Took{Layer: -1, Step: -1, Op: WholeStep}); err != nil {
		return err
	}
	if err := d.gpu.Record(m.to, d.stream); err != nil {
		return err
	}
	d.timed = &timed{m.from, m.to, 1}
	r.launches++
	return nil
}

// Measure says what the device knows of the steps so far.
type Measure struct {
	Last time.Duration // of the last step on the device, from its first kernel to its last; 0 if it was not taken
	// Steps are the times on the device of the last call of Continue, each from
	// the step's first kernel to its token.
	Steps    []time.Duration
	Experts  int // that worked, over all layers and steps that one kernel executed
	Launches int // of the last step
}

// timed is a device's last step outside Continue: what was recorded before its
// first kernel and after its last, and how many there were.
type timed struct {
	from, to driver.Event
	launches int
}

// Measure returns it. Of steps outside Continue only those of programs are
// measured that are executed as a whole.
func (g *Program) Measure() (Measure, error) {
	m := Measure{Steps: g.continued.times}
	for _, d := range g.devices {
		if d.timed != nil {
			t, err := d.gpu.Elapsed(d.timed.from, d.timed.to)
			if err != nil {
				return m, err
			}
			m.Last, m.Launches = max(m.Last, t), d.timed.launches
		}
		for _, q := range d.programs {
			if q.whole == nil {
				continue
			}
			count := make([]byte, 4)
			if err := d.gpu.DtoH(count, d.space+driver.Ptr(q.whole.Counter)); err != nil {
				return m, err
			}
			m.Experts += int(binary.LittleEndian.Uint32(count))
		}
	}
	if len(m.Steps) > 0 {
		m.Launches = g.continued.launches
	}
	return m, nil
}

// ReadStream reads the largest weights of the first device once and returns
// the bytes a second that its memory gave.
func (g *Program) ReadStream(ctx context.Context) (float64, error) {
	d := g.devices[0]
	m := g.plan.Memory[0]
	bytes := min(m.Weights, 24<<30) / 16 * 16
	f, err := d.gpu.Function(d.modules[d.loading], codegen.SymbolOf("read_all"))
	if err != nil {
		return 0, err
	}
	from, err := d.gpu.NewEvent(true)
	if err != nil {
		return 0, err
	}
	to, err := d.gpu.NewEvent(true)
	if err != nil {
		return 0, err
	}
	var params driver.Params
	// Nothing is written unless all words have one certain sum.
	params.Ptr(d.arena).Ptr(d.arena + driver.Ptr(m.Consts)).Int64(bytes / 16)
	// Two blocks of 256 threads on a multiprocessor, eight loads each in flight,
	// give the most on an H200 and an H100.
	if err := d.gpu.Record(from, d.stream); err != nil {
		return 0, err
	}
	if err := d.gpu.Launch(f, line(2*d.gpu.Info().Multiprocessors), &params, d.stream); err != nil {
		return 0, err
	}
	if err := d.gpu.Record(to, d.stream); err != nil {
		return 0, err
	}
	if err := d.gpu.Sync(ctx, d.stream); err != nil {
		return 0, err
	}
	t, err := d.gpu.Elapsed(from, to)
	if err != nil {
		return 0, err
	}
	if err := d.gpu.CloseEvent(from); err != nil {
		return 0, err
	}
	return float64(bytes) / t.Seconds(), d.gpu.CloseEvent(to)
}
