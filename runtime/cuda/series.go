package cuda

import (
	"encoding/binary"
	"fmt"

	"moec/codegen"
	"moec/ir"
	"moec/planner/plan"
	"moec/runtime/cuda/driver"
)

// series is a program that a few kernels a layer execute, with its addresses
// found.
type series struct {
	*codegen.Series
	calls    []seriesCall
	from, to driver.Event
}

// seriesCall is one launch of a series, for one layer.
type seriesCall struct {
	*codegen.Call
	function driver.Function
	args     []uint64 // addresses; 0 for what is no pointer
	took     Took     // what a profile says of it, but for the times
}

// series prepares the program if a series executes it.
func (p *preparer) series() error {
	s := p.code.Series[p.prog.Name]
	if s == nil {
		return nil
	}
	d := p.devices[0]
	q := &series{Series: s}
	functions := make(map[*codegen.Call]driver.Function)
	for _, r := range s.Runs {
		for i := range max(1, r.Layers.Len()) {
			p.layer = -1
			if r.Layers != plan.NoLayers {
				p.layer = r.Layers.First + i
			}
			for _, c := range r.Calls {
				if err := p.seriesCall(d, q, c, functions); err != nil {
					return fmt.Errorf("program %s: kernel %s: %w", p.prog.Name, c.Symbol, err)
				}
				v := c.Covers[i]
				t := &q.calls[len(q.calls)-1].took
				if *t = (Took{Block: v.Block, Layer: v.Layer, Step: v.First, Covers: v.Last - v.First + 1, Op: c.Kernel}); v.Block == "" {
					t.Step, t.Covers = -1, 0
				}
			}
		}
	}
	for _, e := range []*driver.Event{&q.from, &q.to} {
		var err error
		if *e, err = d.gpu.NewEvent(true); err != nil {
			return err
		}
	}
	d.programs[len(d.programs)-1].series = q
	return nil
}

func (p *preparer) seriesCall(d *device, q *series, c *codegen.Call, functions map[*codegen.Call]driver.Function) (err error) {
	f, ok := functions[c]
	if !ok {
		if f, err = d.gpu.Function(d.modules[c.Unit], c.Symbol); err != nil {
			return err
		}
		if c.Shared > 0 {
			if err := d.gpu.SetMaxShared(f, c.Shared); err != nil {
				return err
			}
		}
		functions[c] = f
	}
	out := seriesCall{Call: c, function: f, args: make([]uint64, len(c.Args))}
	for i, a := range c.Args {
		if out.args[i], err = p.argument(d, a); err != nil {
			return err
		}
	}
	q.calls = append(q.calls, out)
	return nil
}

// argument returns the address that a field stands for in the layer, 0 for a
// number.
func (p *preparer) argument(d *device, f codegen.Field) (uint64, error) {
	ref := plan.Ref{Name: f.Name, Device: d.id}
	switch f.Kind {
	case codegen.ConstantField, codegen.CountField, codegen.LongField:
		return 0, nil
	case codegen.PagesField:
		return uint64(d.tables[0]), nil
	case codegen.SpaceField:
		return uint64(d.space + driver.Ptr(d.seriesSpace+f.Offset)), nil
	case codegen.BufferField:
		at, ok := d.programs[len(d.programs)-1].inputs[f.Name]
		if !ok {
			return 0, fmt.Errorf("internal error: no buffer %q", f.Name)
		}
		return uint64(at), nil
	case codegen.WeightField, codegen.LayerWeightField:
		ref.Kind = plan.WeightRef
	case codegen.LayerCacheField:
		ref.Kind = plan.CacheRef
	case codegen.ConstField:
		ref.Kind = plan.ConstRef
	default:
		return 0, fmt.Errorf("internal error: argument of kind %d", f.Kind)
	}
	at, err := p.address(ref)
	return uint64(at), err
}

// Apart returns how many generated tokens a step may have: those of the kernel
// that executes decoding steps, if other kernels execute prompts or larger steps
// and a sequence's bits must not depend on its company. It is 0 if steps may have
// both.
func (g *Program) Apart() int {
	if g.plan.Numerics.Mode != ir.Invariant {
		return 0
	}
	for _, q := range g.devices[0].programs {
		if q.whole != nil && (q.series != nil || g.plan.Limits.Tokens > q.whole.Tokens) {
			return q.whole.Tokens
		}
	}
	return 0
}

// series puts a program's kernels on the device's stream.
func (r *run) series(d *device, s *series) error {
	if err := d.gpu.Record(s.from, d.stream); err != nil {
		return err
	}
	for i := range s.calls {
		c := &s.calls[i]
		blocks := c.Grid.Blocks(c.Grid.Items.Of(r.bounds), d.gpu.Info().Multiprocessors)
		if blocks == 0 {
			continue
		}
		d.params.Reset()
		for j, a := range c.Args {
			switch a.Kind {
			case codegen.ConstantField:
				d.params.Struct(a.Bytes)
			case codegen.CountField:
				d.bytes = binary.LittleEndian.AppendUint32(d.bytes[:0], uint32(a.N.Of(r.bounds)))
				d.params.Struct(d.bytes)
			case codegen.LongField:
				d.params.Int64(int64(a.N.Of(r.bounds)))
			default:
				d.params.Ptr(driver.Ptr(c.args[j]))
			}
		}
		shape := driver.Shape{Grid: driver.Dim{X: uint32(blocks), Y: 1, Z: 1}, Block: driver.Dim{X: uint32(c.Threads), Y: 1, Z: 1}, Shared: uint32(c.Shared)}
		if err := r.profile.mark(d); err != nil {
			return err
		}
		if err := d.gpu.Launch(c.function, shape, &d.params, d.stream); err != nil {
			return fmt.Errorf("device %d: kernel %s: %w", d.id, c.Symbol, err)
		}
		if err := r.profile.note(d, c.took); err != nil {
			return err
		}
		r.launches++
	}
	if err := d.gpu.Record(s.to, d.stream); err != nil {
		return err
	}
	d.timed = &timed{s.from, s.to, r.launches}
	return nil
}
