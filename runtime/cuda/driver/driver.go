// Package driver is the thin layer over NVIDIA's CUDA driver: devices, memory,
// streams, events, modules and launches.
//
// In go numbers and handles, out come results and errors that name the device,
// what was asked of it, the driver's code, what that means and what to do. The
// package never plans, compiles or retries, and starts no work of its own.
//
// The real implementation (build tag cuda) goes through gorgonia.org/cu and a
// small C file beside it. It needs no driver to start: a binary built with the
// tag loads libcuda.so.1 when Open is called and says so when there is none.
// Without the tag, Open says how to build with it.
package driver

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Errors of Open, for callers that fall back to another backend.
var (
	ErrNotBuilt = errors.New("this moec was built without CUDA support") // no build tag
	ErrNoDriver = errors.New("no NVIDIA driver (libcuda.so.1)")          // the library is not there
	ErrNoDevice = errors.New("no CUDA device")                           // the driver sees none
)

// LibraryVariable is the environment variable that names the driver's library
// where it is in an unusual place.
const LibraryVariable = "MOEC_LIBCUDA"

// Ptr is an address in a device's memory.
type Ptr uint64

// Handles of the driver's objects. They belong to the device that made them.
// The zero Stream is the default stream, which waits for nothing that was put
// on streams of NewStream.
type (
	Stream   uintptr
	Event    uintptr
	Module   uintptr
	Function uintptr
)

// Driver is the loaded NVIDIA driver.
type Driver interface {
	// Version is the newest CUDA version that the driver supports: 13000 is 13.0.
	Version() int
	// Devices describes the visible devices in the driver's order.
	Devices() []Info
	// Device opens a device by its index in Devices: it retains the primary
	// context and starts the thread that all of the device's calls run on. One
	// physical device can be opened several times.
	Device(index int) (Device, error)
}

// Info describes a device that need not be open.
type Info struct {
	Index           int
	Name            string
	UUID            string // "GPU-" and 32 hexadecimal digits in five groups
	Major, Minor    int    // compute capability
	Memory          int64  // bytes, all of it
	Multiprocessors int
	SharedPerBlock  int // bytes, the most that SetMaxShared can ask for
	L2              int // bytes
	PCI             string
}

// Arch is the architecture that code must be compiled for, e.g. "sm_90". The
// architecture's own features ("sm_90a") run on it as well.
func (i Info) Arch() string { return fmt.Sprintf("sm_%d%d", i.Major, i.Minor) }

func (i Info) String() string {
	return fmt.Sprintf("device %d: %s, %s, %.1f GiB, %s", i.Index, i.Name, i.Arch(), float64(i.Memory)/(1<<30), i.UUID)
}

// Dim is the size of a grid in blocks or of a block in threads.
type Dim struct{ X, Y, Z uint32 }

// Shape is the shape of a launch.
type Shape struct {
	Grid, Block Dim
	Shared      uint32 // bytes of dynamic shared memory per block
	// Cooperative asks for all blocks to run at the same time, as blocks must
	// that wait for each other; the launch fails if they cannot.
	Cooperative bool
}

// Usage is what a loaded function needs, in bytes where it is memory.
type Usage struct {
	Registers, Local, Shared, Constant int
	MaxThreads                         int // per block
	Arch                               int // of the machine code that was chosen: 90 is sm_90
}

// HostBuffer is page-locked host memory. Only such memory can be copied while
// the host goes on.
type HostBuffer interface {
	// Bytes is the memory. It must not be used after Free.
	Bytes() []byte
	Free() error
}

// Device is an open device. Its methods may be called from any goroutine: they
// run on the device's own thread, one at a time. Inside Do they run directly,
// without a hand-over, so a loop of launches belongs into one Do.
//
// Calls without a stream finish before they return, but do not wait for work
// that was put on streams.
type Device interface {
	Memory
	Copier
	Runner
	Peer

	Info() Info
	// Do runs a function on the device's thread and returns its error.
	Do(f func() error) error
	// Close waits for the running call, releases the context and stops the
	// thread. Handles and memory of the device are invalid afterwards.
	Close() error
}

// Memory allocates and fills memory.
type Memory interface {
	// MemInfo returns the free and total bytes of the device.
	MemInfo() (free, total int64, err error)
	Alloc(bytes int64) (Ptr, error)
	Free(p Ptr) error
	AllocHost(bytes int64) (HostBuffer, error)
	Memset(dst Ptr, value byte, bytes int64) error
	MemsetAsync(dst Ptr, value byte, bytes int64, s Stream) error
}

// Copier moves bytes.
type Copier interface {
	HtoD(dst Ptr, src []byte) error
	DtoH(dst []byte, src Ptr) error
	DtoD(dst, src Ptr, bytes int64) error
	// HtoDAsync and DtoHAsync copy a part of page-locked memory; the part must
	// stay untouched until the stream has passed the copy.
	HtoDAsync(dst Ptr, src HostPart, s Stream) error
	DtoHAsync(dst HostPart, src Ptr, s Stream) error
	DtoDAsync(dst, src Ptr, bytes int64, s Stream) error
}

// HostPart is a range of a host buffer.
type HostPart struct {
	Buffer HostBuffer
	Offset int64
	Bytes  int64
}

// Runner loads code, runs it and orders it.
type Runner interface {
	// LoadModule loads a cubin or PTX image.
	LoadModule(image []byte) (Module, error)
	UnloadModule(m Module) error
	Function(m Module, name string) (Function, error)
	// Global returns the address and size of a variable of a module.
	Global(m Module, name string) (Ptr, int64, error)
	Usage(f Function) (Usage, error)
	// SetMaxShared allows a function dynamic shared memory beyond 48 KiB.
	SetMaxShared(f Function, bytes int) error
	// Launch puts one launch on a stream. Arguments that differ from the
	// kernel's parameters in number or size are refused, if the driver knows
	// those (CUDA 12.4 and newer).
	Launch(f Function, shape Shape, params *Params, s Stream) error

	NewStream() (Stream, error)
	CloseStream(s Stream) error
	// Sync waits until a stream is empty. A context that can end makes it look
	// again and again instead of blocking, and leaves the stream as it is.
	Sync(ctx context.Context, s Stream) error
	// Wait makes a stream wait for an event, not the host.
	Wait(s Stream, e Event) error

	// NewEvent makes an event; only timed ones can be asked for Elapsed.
	NewEvent(timed bool) (Event, error)
	CloseEvent(e Event) error
	Record(e Event, s Stream) error
	SyncEvent(ctx context.Context, e Event) error
	// Done reports whether an event has happened.
	Done(e Event) (bool, error)
	Elapsed(from, to Event) (time.Duration, error)
}

// Peer reaches other devices.
type Peer interface {
	// CanAccess reports whether this device can read and write the peer's
	// memory directly.
	CanAccess(peer Device) (bool, error)
	// EnableAccess maps the peer's memory into this device. Doing it again is
	// no error.
	EnableAccess(peer Device) error
	// PeerCopy copies from this device's memory into the peer's, through the
	// host where they cannot reach each other.
	PeerCopy(peer Device, dst, src Ptr, bytes int64) error
	PeerCopyAsync(peer Device, dst, src Ptr, bytes int64, s Stream) error
}
