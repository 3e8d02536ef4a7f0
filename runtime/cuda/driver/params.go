package driver

import (
	"encoding/binary"
	"math"
)

// Params holds the arguments of a launch in the kernel's order. Where each of
// them lies in the kernel's parameter memory is the driver's business: a struct
// aligned to 64 bytes, such as a tensor map, has a place that differs between
// architectures. The zero value is an empty list. Reset keeps the memory, so
// that a step can build its arguments without allocating.
type Params struct {
	bytes []byte // the arguments without gaps
	list  []param
}

// param is one argument, as C reads it.
type param struct{ offset, size uint32 }

// maxParams bounds the arguments of one kernel.
const maxParams = 256

// Len is the number of arguments.
func (p *Params) Len() int { return len(p.list) }

// Bytes is the arguments, one after the other without gaps.
func (p *Params) Bytes() []byte { return p.bytes }

// Reset empties the list.
func (p *Params) Reset() { p.bytes, p.list = p.bytes[:0], p.list[:0] }

// begin notes that an argument of some bytes follows.
func (p *Params) begin(size int) {
	p.list = append(p.list, param{uint32(len(p.bytes)), uint32(size)})
}

// Ptr adds a pointer into device memory.
func (p *Params) Ptr(v Ptr) *Params { return p.Uint64(uint64(v)) }

// Uint32 adds a 32-bit unsigned integer.
func (p *Params) Uint32(v uint32) *Params {
	p.begin(4)
	p.bytes = binary.LittleEndian.AppendUint32(p.bytes, v)
	return p
}

// Int32 adds a 32-bit integer.
func (p *Params) Int32(v int32) *Params { return p.Uint32(uint32(v)) }

// Float32 adds a 32-bit float.
func (p *Params) Float32(v float32) *Params { return p.Uint32(math.Float32bits(v)) }

// Uint64 adds a 64-bit unsigned integer.
func (p *Params) Uint64(v uint64) *Params {
	p.begin(8)
	p.bytes = binary.LittleEndian.AppendUint64(p.bytes, v)
	return p
}

// Int64 adds a 64-bit integer.
func (p *Params) Int64(v int64) *Params { return p.Uint64(uint64(v)) }

// Struct adds a struct that is passed by value, given its bytes.
func (p *Params) Struct(v []byte) *Params {
	p.begin(len(v))
	p.bytes = append(p.bytes, v...)
	return p
}
