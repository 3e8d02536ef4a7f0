package driver

import (
	"encoding/binary"
	"math"
)

// Params builds the parameters of a launch: the kernel's arguments, one after
// the other, each aligned to its own size, as the compiler lays them out. The
// zero value is an empty list. Reset keeps the memory, so that a step can build
// its parameters without allocating.
type Params struct {
	bytes []byte
}

// Bytes is the block to pass to Launch, valid until the next change.
func (p *Params) Bytes() []byte { return p.bytes }

// Reset empties the list.
func (p *Params) Reset() { p.bytes = p.bytes[:0] }

// Ptr adds a pointer into device memory.
func (p *Params) Ptr(v Ptr) *Params { return p.Uint64(uint64(v)) }

// Uint32 adds a 32-bit unsigned integer.
func (p *Params) Uint32(v uint32) *Params {
	p.align(4)
	p.bytes = binary.LittleEndian.AppendUint32(p.bytes, v)
	return p
}

// Int32 adds a 32-bit integer.
func (p *Params) Int32(v int32) *Params { return p.Uint32(uint32(v)) }

// Float32 adds a 32-bit float.
func (p *Params) Float32(v float32) *Params { return p.Uint32(math.Float32bits(v)) }

// Uint64 adds a 64-bit unsigned integer.
func (p *Params) Uint64(v uint64) *Params {
	p.align(8)
	p.bytes = binary.LittleEndian.AppendUint64(p.bytes, v)
	return p
}

// Int64 adds a 64-bit integer.
func (p *Params) Int64(v int64) *Params { return p.Uint64(uint64(v)) }

// Struct adds a struct that is passed by value, given its bytes and alignment;
// a tensor map has 128 bytes and alignment 64.
func (p *Params) Struct(v []byte, alignment int) *Params {
	p.align(alignment)
	p.bytes = append(p.bytes, v...)
	return p
}

func (p *Params) align(n int) {
	for len(p.bytes)%n != 0 {
		p.bytes = append(p.bytes, 0)
	}
}
