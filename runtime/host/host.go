// Package host runs plans on the CPU: one goroutine and one memory for each
// device of the plan.
//
// A plan's steps, buffers and offsets are taken as they are; nothing is
// decided here. Every op gives the bits of its definition in package eval, on
// any number of cores: rows and results are divided between workers, sums
// never.
package host

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"moec/ir/tensor"
	"moec/planner/plan"
	"moec/runtime/step"
	"moec/runtime/weights"
)

// Options change how a program runs, never what it computes.
type Options struct {
	// Poison fills memory with NaN when its life ends, so that reading it
	// shows in the results.
	Poison bool
	// Progress is told of weight bytes as they are loaded; nil for nobody.
	Progress func(bytes int64)
}

// Program is a loaded plan.
type Program struct {
	plan     *plan.Plan
	devices  []*device
	barriers []*barrier
	options  Options
	observed *observation // nil if nobody observes
	failed   error
}

// device is one device of the plan.
type device struct {
	id      int
	memory  []byte
	shared  map[string]view // buffers of the program
	turns   []turn
	scratch []float32
	used    int
}

// turn is one execution of a block's queue: for one layer, or once.
type turn struct {
	name  string // for messages: block and layer
	layer int    // -1 outside the layers
	calls []*call
	dirty [][]byte // the block's buffers, poisoned at the start
}

// Load puts the weights into the memories and prepares every step.
func Load(ctx context.Context, p *plan.Plan, src weights.Source, o Options) (*Program, error) {
	if err := fits(p, ram()); err != nil {
		return nil, err
	}
	g := &Program{plan: p, options: o}
	for _, m := range p.Memory {
		g.devices = append(g.devices, &device{id: m.Device, memory: make([]byte, m.Total), shared: make(map[string]view)})
	}
	for _, d := range g.devices {
		for _, c := range p.Consts {
			copy(cast[float32](d.memory[c.Offset:], len(c.Values)), c.Values)
		}
	}
	err := weights.Load(ctx, p, src, func(device int, offset int64, data []byte) error {
		copy(g.devices[device].memory[offset:], data)
		if o.Progress != nil {
			o.Progress(int64(len(data)))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return g, g.prepare(&p.Programs[0])
}

// fits checks that the memories of all devices fit the host, before any
// weight is read. A host of 0 bytes does not say.
func fits(p *plan.Plan, host int64) error {
	var need int64
	for _, m := range p.Memory {
		need += m.Total
	}
	if host > 0 && need > host {
		return fmt.Errorf("the memories of %d devices do not fit this host: need %s, have %s; run on a larger host or on GPUs, or compile with fewer --sequences or a shorter --context",
			len(p.Memory), plan.Bytes(need), plan.Bytes(host))
	}
	return nil
}

// piece returns bytes of a device's memory, which the plan may place badly.
func (d *device) piece(offset, bytes int64) ([]byte, error) {
	if offset < 0 || bytes < 0 || offset+bytes > int64(len(d.memory)) {
		return nil, fmt.Errorf("internal error: %d bytes at %d of device %d, which has %d", bytes, offset, d.id, len(d.memory))
	}
	return d.memory[offset : offset+bytes : offset+bytes], nil
}

// Step executes one step and returns the logits of each token group, a row of
// the vocabulary's size for each wanted row, one after the other.
func (g *Program) Step(ctx context.Context, s *step.Step) ([][]float32, error) {
	if g.failed != nil {
		return nil, g.failed
	}
	l := g.plan.Limits
	if err := s.Check(step.Limits{Tokens: l.Tokens, Rows: l.Rows, Sequences: l.Sequences, Context: l.Context, Page: l.Page, Pages: l.Pages, Vocab: g.plan.Model.Vocab}); err != nil {
		return nil, err
	}
	bounds := s.Bounds()
	var wg sync.WaitGroup
	errs := make([]error, len(g.devices))
	for i, d := range g.devices {
		wg.Go(func() {
			if errs[i] = g.execute(ctx, d, s, bounds); errs[i] != nil {
				for _, b := range g.barriers {
					b.stop()
				}
			}
		})
	}
	wg.Wait()
	if err := firstCause(errs); err != nil {
		g.failed = err
		return nil, err
	}
	if g.observed != nil {
		g.observed.tell(s)
	}
	return g.logits(s, bounds)
}

// firstCause returns the error of the device that failed by itself.
func firstCause(errs []error) error {
	var stopped error
	for _, err := range errs {
		if errors.Is(err, errStopped) {
			stopped = err
		} else if err != nil {
			return err
		}
	}
	return stopped
}

// execute runs the queues of one device.
func (g *Program) execute(ctx context.Context, d *device, s *step.Step, bounds tensor.Bounds) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: device %d: %v", d.id, r)
		}
	}()
	d.inputs(s)
	for i := range d.turns {
		t := &d.turns[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		if g.options.Poison {
			for _, b := range t.dirty {
				poison(b)
			}
		}
		for _, c := range t.calls {
			if err := c.run(s, bounds); err != nil {
				return fmt.Errorf("device %d: %s: %s: %w", d.id, t.name, c.step.Op, err)
			}
			if g.options.Poison {
				for _, b := range c.dead {
					poison(b)
				}
			}
		}
	}
	return nil
}

// poison fills memory with a NaN of every floating-point type.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xff
	}
}

// inputs fills the buffers that a step brings.
func (d *device) inputs(s *step.Step) {
	for i := range s.Groups {
		grp := &s.Groups[i]
		for name, list := range map[string][]int32{"tokens": grp.Tokens, "positions": grp.Positions, "sequences": grp.Sequences, "rows": grp.Rows} {
			if v, ok := d.shared[name]; ok && i == 0 {
				copy(v.i32(len(list)), list)
			}
			if v, ok := d.shared[fmt.Sprintf("%s.%d", name, i)]; ok {
				copy(v.i32(len(list)), list)
			}
		}
	}
}

// logits copies the results out.
func (g *Program) logits(s *step.Step, bounds tensor.Bounds) ([][]float32, error) {
	out := make([][]float32, len(s.Groups))
	for _, o := range g.plan.Programs[0].Outputs {
		if o.Name != "logits" || o.Group >= len(out) {
			continue
		}
		v, ok := g.devices[o.Device].shared[o.Buffer]
		if !ok {
			return nil, fmt.Errorf("internal error: no buffer %q on device %d", o.Buffer, o.Device)
		}
		v.Type = o.Type
		rows, n := rowsOf(o.Type.Shape.Extents(bounds))
		list := make([]float32, rows*n)
		for r := range rows {
			copy(list[r*n:], v.rowFloats(r, n, list[r*n:(r+1)*n]))
		}
		out[max(o.Group, 0)] = list
	}
	return out, nil
}

// Close releases the memories.
func (g *Program) Close() error {
	g.devices = nil
	g.failed = errors.New("the program is closed")
	return nil
}
