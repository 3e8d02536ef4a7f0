package cuda

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"moec/codegen"
	"moec/ir/arith"
	"moec/ir/tensor"
	"moec/planner/plan"
	"moec/runtime/cuda/driver"
	"moec/runtime/step"
)

// run is the execution of one step.
type run struct {
	*Program
	step     *step.Step
	bounds   tensor.Bounds
	number   int // of the program
	launches int // so far
	profile  *profile
}

// device runs the queues of one device, on its thread.
func (r *run) device(ctx context.Context, d *device) error {
	if r.options.Poison {
		if err := r.poison(d); err != nil {
			return err
		}
	}
	q := &d.programs[r.number]
	d.staged.used, d.timed = 0, nil
	if err := r.inputs(d, q); err != nil {
		return err
	}
	if err := r.enqueue(ctx, d, q); err != nil {
		return err
	}
	return d.gpu.Sync(ctx, d.stream)
}

// enqueue puts a step on the device's stream; only at collectives it waits.
func (r *run) enqueue(ctx context.Context, d *device, q *queue) error {
	if r.profile.wants(q.whole) && r.bounds(tensor.Tokens) <= q.whole.Tokens && !(r.step.Prompt && r.Apart() > 0) {
		return r.whole(d, q.whole)
	}
	if q.series != nil && r.profile.whole() {
		return r.series(d, q.series)
	}
	for i := range q.turns {
		t := &q.turns[i]
		if err := ctx.Err(); err != nil {
			return err
		}
		for j := range t.calls {
			if err := r.call(ctx, d, &t.calls[j]); err != nil {
				return fmt.Errorf("device %d: %s: %s: %w", d.id, t.name, t.calls[j].op, err)
			}
		}
	}
	return nil
}

// call launches a step. At a collective all devices first finish what they
// have queued, so that everybody's operand is ready, and go on when everybody
// has read what it needs.
func (r *run) call(ctx context.Context, d *device, c *call) error {
	if c.meeting == nil {
		return r.launch(d, c)
	}
	if err := d.gpu.Sync(ctx, d.stream); err != nil {
		return err
	}
	if err := c.meeting.wait(); err != nil {
		return err
	}
	if c.launch != nil {
		if err := r.launch(d, c); err != nil {
			return err
		}
		if err := d.gpu.Sync(ctx, d.stream); err != nil {
			return err
		}
	}
	return c.meeting.wait()
}

// launch puts one kernel on the device's stream.
func (r *run) launch(d *device, c *call) error {
	blocks := c.launch.Blocks(r.bounds)
	if blocks == 0 {
		return nil
	}
	d.params.Reset()
	for i := range c.launch.Args {
		r.argument(d, c, &c.launch.Args[i])
	}
	shape := driver.Shape{Grid: driver.Dim{X: uint32(blocks), Y: 1, Z: 1}, Block: driver.Dim{X: uint32(c.launch.Threads), Y: 1, Z: 1}}
	r.launches++
	if err := r.profile.mark(d); err != nil {
		return err
	}
	if err := d.gpu.Launch(c.function, shape, &d.params, d.stream); err != nil {
		return err
	}
	return r.profile.note(d, Took{Block: c.at.Block, Layer: c.layer, Step: c.at.Step, Op: c.op})
}

// argument adds one argument of a launch.
func (r *run) argument(d *device, c *call, a *codegen.Arg) {
	switch a.Kind {
	case codegen.Result:
		d.params.Ptr(c.out)
	case codegen.Operand:
		d.params.Ptr(c.args[a.Index])
	case codegen.Pages:
		d.params.Ptr(d.tables[a.Index])
	case codegen.Count:
		d.params.Int64(int64(a.N[0].Of(r.bounds)))
	case codegen.Constant:
		d.params.Struct(a.Bytes)
	case codegen.Operands:
		d.bytes = d.bytes[:0]
		for _, p := range c.args {
			d.bytes = binary.LittleEndian.AppendUint64(d.bytes, uint64(p))
		}
		d.params.Struct(d.bytes)
	case codegen.Counts:
		d.bytes = d.bytes[:0]
		for _, n := range a.N {
			d.bytes = binary.LittleEndian.AppendUint32(d.bytes, uint32(n.Of(r.bounds)))
		}
		d.params.Struct(d.bytes)
	}
}

// inputs fills the buffers that a step brings, and the page tables.
func (r *run) inputs(d *device, q *queue) error {
	for i := range r.step.Groups {
		grp := &r.step.Groups[i]
		for _, in := range []struct {
			name string
			list []int32
		}{{"tokens", grp.Tokens}, {"positions", grp.Positions}, {"sequences", grp.Sequences}, {"rows", grp.Rows}} {
			if at, ok := q.inputs[in.name]; ok && i == 0 {
				if err := d.upload(at, in.list); err != nil {
					return err
				}
			}
			if at, ok := q.inputs[fmt.Sprintf("%s.%d", in.name, i)]; ok {
				if err := d.upload(at, in.list); err != nil {
					return err
				}
			}
		}
		if _, ok := d.tables[i]; ok {
			if err := d.uploadTable(i, flatten(grp.Pages, r.plan.Limits)); err != nil {
				return err
			}
		}
	}
	return nil
}

// flatten lays page lists out as rows of a page table.
func flatten(pages [][]int32, l plan.Limits) []int32 {
	width := codegen.TableWidth(l)
	list := make([]int32, min(len(pages), l.Sequences)*width)
	for s := range len(list) / width {
		copy(list[s*width:(s+1)*width], pages[s])
	}
	return list
}

// poison fills the device's buffers, and what a series has to itself, with a NaN
// of every floating-point type.
func (r *run) poison(d *device) error {
	m := r.plan.Memory[d.id]
	if err := d.gpu.Sync(context.Background(), d.stream); err != nil {
		return err
	}
	if bytes := d.spaceBytes - d.seriesSpace; bytes > 0 {
		if err := d.gpu.Memset(d.space+driver.Ptr(d.seriesSpace), 0xff, bytes); err != nil {
			return err
		}
	}
	return d.gpu.Memset(d.arena+driver.Ptr(m.Total-m.Buffers), 0xff, m.Buffers)
}

// logits copies the results out.
func (r *run) logits() ([][]float32, error) {
	out := make([][]float32, len(r.step.Groups))
	for _, o := range r.plan.Programs[r.number].Outputs {
		if o.Name != "logits" || o.Group >= len(out) {
			continue
		}
		d := r.devices[o.Device]
		at, ok := d.programs[r.number].inputs[o.Buffer]
		if !ok {
			return nil, fmt.Errorf("internal error: no buffer %q on device %d", o.Buffer, o.Device)
		}
		raw := make([]byte, o.Type.Bytes(r.bounds))
		if err := d.gpu.DtoH(raw, at); err != nil {
			r.failed = err
			return nil, err
		}
		out[max(o.Group, 0)] = floats(raw, o.Type.DType)
	}
	return out, nil
}

// floats returns the elements in memory of a floating-point type.
func floats(raw []byte, d tensor.DType) []float32 {
	n := len(raw) / d.Bytes()
	list := make([]float32, n)
	if d == tensor.F32 {
		for i := range list {
			list[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
		return list
	}
	half := make([]uint16, n)
	for i := range half {
		half[i] = binary.LittleEndian.Uint16(raw[2*i:])
	}
	arith.Widen(list, half, d)
	return list
}
