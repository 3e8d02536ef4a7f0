//go:build cuda && cgo

package driver

import (
	"fmt"
	"unsafe"

	"gorgonia.org/cu"
)

// device is one open device.
type device struct {
	info Info
	dev  cu.Device
	ctx  cu.CUContext
	exec *executor
	// functions are those that Function returned; used on the device's thread.
	functions map[Function]function
}

// function is what a launch is checked against.
type function struct {
	name   string
	module Module
	params []uint32 // sizes in bytes; nil: not known
}

func (d *device) Info() Info { return d.info }

func (d *device) Do(f func() error) error { return d.exec.do(f) }

func (d *device) Close() error {
	err := d.Do(func() error {
		if err := cu.SetCurrentContext(cu.CUContext{}); err != nil {
			return d.fail(err, "leave its context")
		}
		return d.fail(d.dev.ReleasePrimaryCtx(), "release its context")
	})
	d.exec.close()
	return err
}

// fail wraps an error of cu, or returns nil.
func (d *device) fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return failure(d.info.Index, codeOf(err), format, args...)
}

// refuse is the error for a call that is wrong before the driver sees it.
func (d *device) refuse(format string, args ...any) error {
	return fmt.Errorf("device %d: %s", d.info.Index, fmt.Sprintf(format, args...))
}

func (d *device) MemInfo() (free, total int64, err error) {
	err = d.Do(func() (err error) {
		free, total, err = cu.MemInfo()
		return d.fail(err, "ask for its free memory")
	})
	return free, total, err
}

func (d *device) Alloc(bytes int64) (p Ptr, err error) {
	if bytes <= 0 {
		return 0, d.refuse("allocate %d bytes: need at least one", bytes)
	}
	err = d.Do(func() error {
		got, err := cu.MemAlloc(bytes)
		p = Ptr(got)
		if codeOf(err) == CodeOutOfMemory {
			if free, total, ask := cu.MemInfo(); ask == nil {
				return d.fail(err, "allocate %d bytes, %d of %d free", bytes, free, total)
			}
		}
		return d.fail(err, "allocate %d bytes", bytes)
	})
	return p, err
}

func (d *device) Free(p Ptr) error {
	return d.Do(func() error { return d.fail(cu.MemFree(cu.DevicePtr(p)), "free memory at %#x", uint64(p)) })
}

// hostBuffer is page-locked memory, reachable from every device.
type hostBuffer struct {
	d     *device
	bytes []byte
}

func (d *device) AllocHost(bytes int64) (HostBuffer, error) {
	if bytes <= 0 {
		return nil, d.refuse("page-lock %d bytes of host memory: need at least one", bytes)
	}
	b := &hostBuffer{d: d}
	err := d.Do(func() error {
		p, code := allocHost(bytes)
		if code == 0 {
			b.bytes = unsafe.Slice((*byte)(p), bytes)
		}
		return failure(d.info.Index, code, "page-lock %d bytes of host memory", bytes)
	})
	if err != nil {
		return nil, err
	}
	return b, nil
}

func (b *hostBuffer) Bytes() []byte { return b.bytes }

func (b *hostBuffer) Free() error {
	return b.d.Do(func() error {
		if b.bytes == nil {
			return nil
		}
		err := cu.MemFreeHost(unsafe.Pointer(&b.bytes[0]))
		b.bytes = nil
		return b.d.fail(err, "free page-locked host memory")
	})
}

// part checks a range of page-locked memory and returns its address.
func (d *device) part(p HostPart) (unsafe.Pointer, error) {
	b, ok := p.Buffer.(*hostBuffer)
	if !ok {
		return nil, d.refuse("copy host memory: the buffer is not from AllocHost")
	}
	have := int64(len(b.bytes))
	if p.Offset < 0 || p.Bytes <= 0 || p.Offset > have || p.Bytes > have-p.Offset {
		return nil, d.refuse("copy host memory: bytes %d to %d of a buffer of %d", p.Offset, p.Offset+p.Bytes, have)
	}
	return unsafe.Pointer(&b.bytes[p.Offset]), nil
}

// finish waits for the default stream, where calls without a stream run: the
// driver returns from some of them before the device is done.
func finish(err error) error {
	if err != nil {
		return err
	}
	return cu.NoStream.Synchronize()
}

func (d *device) Memset(dst Ptr, value byte, bytes int64) error {
	return d.sized(bytes, "set", func() error {
		return d.fail(finish(cu.MemsetD8(cu.DevicePtr(dst), value, bytes)), "set %d bytes at %#x", bytes, uint64(dst))
	})
}

func (d *device) MemsetAsync(dst Ptr, value byte, bytes int64, s Stream) error {
	return d.sized(bytes, "set", func() error {
		return d.fail(cu.MemsetD8Async(cu.DevicePtr(dst), value, bytes, reinterpret[cu.Stream](s)), "set %d bytes at %#x", bytes, uint64(dst))
	})
}

// sized runs a call on a number of bytes; none is no work, and a negative
// number would be an enormous one to the driver.
func (d *device) sized(bytes int64, verb string, f func() error) error {
	if bytes < 0 {
		return d.refuse("%s %d bytes: need a positive number", verb, bytes)
	}
	if bytes == 0 {
		return nil
	}
	return d.Do(f)
}

func (d *device) HtoD(dst Ptr, src []byte) error {
	n := int64(len(src))
	return d.sized(n, "copy", func() error {
		err := cu.MemcpyHtoD(cu.DevicePtr(dst), unsafe.Pointer(unsafe.SliceData(src)), n)
		return d.fail(finish(err), "copy %d bytes from the host to %#x", n, uint64(dst))
	})
}

func (d *device) DtoH(dst []byte, src Ptr) error {
	n := int64(len(dst))
	return d.sized(n, "copy", func() error {
		err := cu.MemcpyDtoH(unsafe.Pointer(unsafe.SliceData(dst)), cu.DevicePtr(src), n)
		return d.fail(err, "copy %d bytes from %#x to the host", n, uint64(src))
	})
}

func (d *device) DtoD(dst, src Ptr, bytes int64) error {
	return d.sized(bytes, "copy", func() error {
		err := cu.MemcpyDtoD(cu.DevicePtr(dst), cu.DevicePtr(src), bytes)
		return d.fail(finish(err), "copy %d bytes from %#x to %#x", bytes, uint64(src), uint64(dst))
	})
}

func (d *device) HtoDAsync(dst Ptr, src HostPart, s Stream) error {
	return d.Do(func() error {
		from, err := d.part(src)
		if err != nil {
			return err
		}
		err = cu.MemcpyHtoDAsync(cu.DevicePtr(dst), from, src.Bytes, reinterpret[cu.Stream](s))
		return d.fail(err, "copy %d bytes from the host to %#x", src.Bytes, uint64(dst))
	})
}

func (d *device) DtoHAsync(dst HostPart, src Ptr, s Stream) error {
	return d.Do(func() error {
		to, err := d.part(dst)
		if err != nil {
			return err
		}
		err = cu.MemcpyDtoHAsync(to, cu.DevicePtr(src), dst.Bytes, reinterpret[cu.Stream](s))
		return d.fail(err, "copy %d bytes from %#x to the host", dst.Bytes, uint64(src))
	})
}

func (d *device) DtoDAsync(dst, src Ptr, bytes int64, s Stream) error {
	return d.sized(bytes, "copy", func() error {
		err := cu.MemcpyDtoDAsync(cu.DevicePtr(dst), cu.DevicePtr(src), bytes, reinterpret[cu.Stream](s))
		return d.fail(err, "copy %d bytes from %#x to %#x", bytes, uint64(src), uint64(dst))
	})
}
