//go:build cuda && cgo

package driver

import (
	"context"
	"fmt"
	"maps"
	"time"

	"gorgonia.org/cu"
)

func (d *device) LoadModule(image []byte) (m Module, err error) {
	if len(image) == 0 {
		return 0, d.refuse("load a module: the image is empty")
	}
	err = d.Do(func() error {
		mod, err := cu.LoadData(string(image))
		m = reinterpret[Module](mod)
		return d.fail(err, "load a module of %d bytes on %s", len(image), d.info.Arch())
	})
	return m, err
}

func (d *device) UnloadModule(m Module) error {
	return d.Do(func() error {
		maps.DeleteFunc(d.functions, func(_ Function, f function) bool { return f.module == m })
		return d.fail(reinterpret[cu.Module](m).Unload(), "unload a module")
	})
}

func (d *device) Function(m Module, name string) (f Function, err error) {
	err = d.Do(func() error {
		fn, err := reinterpret[cu.Module](m).Function(name)
		if err != nil {
			return d.fail(err, "find kernel %s", name)
		}
		f = reinterpret[Function](fn)
		d.functions[f] = function{name, m, paramSizes(f)}
		return nil
	})
	return f, err
}

func (d *device) Global(m Module, name string) (p Ptr, bytes int64, err error) {
	err = d.Do(func() error {
		at, n, err := reinterpret[cu.Module](m).Global(name)
		p, bytes = Ptr(at), n
		return d.fail(err, "find variable %s", name)
	})
	return p, bytes, err
}

func (d *device) Usage(f Function) (u Usage, err error) {
	err = d.Do(func() error {
		for _, a := range []struct {
			number cu.FunctionAttribute
			to     *int
		}{
			{cu.FnMaxThreadsPerBlock, &u.MaxThreads},
			{cu.SharedSizeBytes, &u.Shared},
			{cu.ConstSizeBytes, &u.Constant},
			{cu.LocalSizeBytes, &u.Local},
			{cu.NumRegs, &u.Registers},
			{cu.BinaryVersion, &u.Arch},
		} {
			n, err := reinterpret[cu.Function](f).Attribute(a.number)
			if err != nil {
				return d.fail(err, "ask for attribute %d of a kernel", int(a.number))
			}
			*a.to = n
		}
		return nil
	})
	return u, err
}

func (d *device) SetMaxShared(f Function, bytes int) error {
	return d.Do(func() error {
		return failure(d.info.Index, setMaxShared(f, bytes), "allow kernel %s %d bytes of shared memory, the device has %d",
			d.functions[f].name, bytes, d.info.SharedPerBlock)
	})
}

func (d *device) Launch(f Function, shape Shape, params *Params, s Stream) error {
	// The direct path makes no closure: this is the one call in a hot loop.
	if d.exec.here() {
		return d.launch(f, shape, params, s)
	}
	return d.Do(func() error { return d.launch(f, shape, params, s) })
}

func (d *device) launch(f Function, shape Shape, params *Params, s Stream) error {
	known := d.functions[f]
	if err := d.checkParams(known, params); err != nil {
		return err
	}
	code := launch(f, shape, params, s)
	if code == 0 {
		return nil
	}
	return failure(d.info.Index, code, "launch %s: grid %v, block %v, %d bytes of shared memory", known.name, shape.Grid, shape.Block, shape.Shared)
}

// checkParams compares arguments with the kernel's parameters. The driver would
// read as many bytes as the kernel has, whatever is there.
func (d *device) checkParams(f function, params *Params) error {
	have := params.list
	if len(have) > maxParams {
		return d.refuse("launch %s: %d arguments, at most %d are supported", f.name, len(have), maxParams)
	}
	if f.params == nil {
		return nil
	}
	if len(have) != len(f.params) {
		return d.refuse("launch %s: %d arguments, the kernel has %d parameters", f.name, len(have), len(f.params))
	}
	for i, size := range f.params {
		if have[i].size != size {
			return d.refuse("launch %s: argument %d has %d bytes, the kernel's parameter has %d", f.name, i, have[i].size, size)
		}
	}
	return nil
}

func (d *device) NewStream() (s Stream, err error) {
	err = d.Do(func() error {
		made, err := cu.MakeStream(cu.NonBlocking)
		s = reinterpret[Stream](made)
		return d.fail(err, "make a stream")
	})
	return s, err
}

func (d *device) CloseStream(s Stream) error {
	return d.Do(func() error {
		stream := reinterpret[cu.Stream](s)
		return d.fail(stream.Destroy(), "close a stream")
	})
}

func (d *device) Wait(s Stream, e Event) error {
	return d.Do(func() error {
		return d.fail(reinterpret[cu.Stream](s).Wait(reinterpret[cu.Event](e), 0), "make a stream wait for an event")
	})
}

func (d *device) Sync(ctx context.Context, s Stream) error {
	stream := reinterpret[cu.Stream](s)
	return d.await(ctx, "wait for a stream", stream.Query, stream.Synchronize)
}

func (d *device) SyncEvent(ctx context.Context, e Event) error {
	event := reinterpret[cu.Event](e)
	return d.await(ctx, "wait for an event", event.Query, event.Synchronize)
}

// Polling looks without a pause at first, since most steps end within it, and
// then often enough that a token is not held up.
const (
	pollBusy  = 200 * time.Microsecond
	pollPause = 50 * time.Microsecond
)

// await waits for the device. With a context that cannot end it blocks in the
// driver; otherwise it asks again and again, so that a kernel that hangs does
// not hold the program.
func (d *device) await(ctx context.Context, doing string, query, block func() error) error {
	if ctx.Done() == nil {
		return d.Do(func() error { return d.fail(block(), "%s", doing) })
	}
	start := time.Now()
	for {
		var code Code
		if err := d.Do(func() error { code = codeOf(query()); return nil }); err != nil {
			return err
		}
		if code != CodeNotReady {
			return failure(d.info.Index, code, "%s", doing)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("device %d: %s for %v: %w", d.info.Index, doing, time.Since(start).Round(time.Millisecond), context.Cause(ctx))
		}
		if time.Since(start) > pollBusy {
			time.Sleep(pollPause)
		}
	}
}

func (d *device) NewEvent(timed bool) (e Event, err error) {
	flags := cu.DisableTiming
	if timed {
		flags = cu.DefaultEvent
	}
	err = d.Do(func() error {
		made, err := cu.MakeEvent(flags)
		e = reinterpret[Event](made)
		return d.fail(err, "make an event")
	})
	return e, err
}

func (d *device) CloseEvent(e Event) error {
	return d.Do(func() error {
		event := reinterpret[cu.Event](e)
		return d.fail(cu.DestroyEvent(&event), "close an event")
	})
}

func (d *device) Record(e Event, s Stream) error {
	return d.Do(func() error {
		return d.fail(reinterpret[cu.Event](e).Record(reinterpret[cu.Stream](s)), "record an event")
	})
}

func (d *device) Done(e Event) (done bool, err error) {
	err = d.Do(func() error {
		err := reinterpret[cu.Event](e).Query()
		done = err == nil
		if codeOf(err) == CodeNotReady {
			return nil
		}
		return d.fail(err, "look at an event")
	})
	return done, err
}

func (d *device) Elapsed(from, to Event) (t time.Duration, err error) {
	err = d.Do(func() error {
		ms, err := reinterpret[cu.Event](from).Elapsed(reinterpret[cu.Event](to))
		t = time.Duration(ms * float64(time.Millisecond))
		return d.fail(err, "take the time between two events")
	})
	return t, err
}
