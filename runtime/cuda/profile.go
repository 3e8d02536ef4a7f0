package cuda

import (
	"context"
	"time"

	"moec/runtime/cuda/driver"
	"moec/runtime/step"
)

// Took is one kernel of a profiled step. Times are the device's own, from its
// first kernel on.
type Took struct {
	Device      int
	Block       string // "" for a kernel that executes a whole step
	Layer, Step int    // index of the step in its queue; -1: outside the layers, a whole step
	Covers      int    // steps from that one on that it executes; 0 for a step's own kernel
	Op          string // or the kernel, if it covers steps
	Start, End  time.Duration
}

// WholeStep is the Op of a kernel that executes a whole step.
const WholeStep = "whole step"

// Profile executes a step with an event before and after each kernel, and
// returns what they took, device by device in order. Its logits are dropped.
// apart runs a kernel for each op where one kernel would execute the step.
func (g *Program) Profile(ctx context.Context, s *step.Step, apart bool) ([]Took, error) {
	p := &profile{apart: apart, devices: make([]laps, len(g.devices))}
	r, err := g.execute(ctx, s, p)
	if err != nil {
		return nil, err
	}
	var list []Took
	for _, d := range r.devices {
		took, err := p.devices[d.id].read(d.gpu)
		if err != nil {
			return nil, err
		}
		list = append(list, took...)
	}
	return list, nil
}

// profile is what a step that is profiled keeps.
type profile struct {
	apart   bool
	devices []laps // by device: each is used on its thread alone
}

// laps are the kernels of one device.
type laps struct {
	list   []Took
	events []driver.Event // two for each
}

// mark puts an event on the stream, if there is a profile.
func (p *profile) mark(d *device) error {
	if p == nil {
		return nil
	}
	e, err := d.gpu.NewEvent(true)
	if err != nil {
		return err
	}
	l := &p.devices[d.id]
	l.events = append(l.events, e)
	return d.gpu.Record(e, d.stream)
}

// note marks the end of a kernel before which there is a mark.
func (p *profile) note(d *device, t Took) error {
	if p == nil {
		return nil
	}
	t.Device = d.id
	p.devices[d.id].list = append(p.devices[d.id].list, t)
	return p.mark(d)
}

// wants reports whether a kernel for the whole step may execute it.
func (p *profile) wants(m *whole) bool { return m != nil && p.whole() }

// whole reports whether the step may be executed as a whole.
func (p *profile) whole() bool { return p == nil || !p.apart }

// read takes the times of a device whose stream is empty, and gives the events
// back.
func (l *laps) read(gpu driver.Device) ([]Took, error) {
	for i := range l.list {
		t := &l.list[i]
		for _, at := range []struct {
			event driver.Event
			to    *time.Duration
		}{{l.events[2*i], &t.Start}, {l.events[2*i+1], &t.End}} {
			var err error
			if *at.to, err = gpu.Elapsed(l.events[0], at.event); err != nil {
				return nil, err
			}
		}
	}
	for _, e := range l.events {
		if err := gpu.CloseEvent(e); err != nil {
			return nil, err
		}
	}
	return l.list, nil
}
