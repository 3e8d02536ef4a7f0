package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"

	"moec/ir/arith"
)

// dtypes has a row for each element type of the safetensors format, with its
// size in bits. Types below 8 bits are packed without gaps.
var dtypes = []struct {
	name string
	bits int64
}{
	{"BOOL", 8}, {"U8", 8}, {"I8", 8}, {"I16", 16}, {"U16", 16}, {"I32", 32}, {"U32", 32}, {"I64", 64}, {"U64", 64},
	{"F64", 64}, {"F32", 32}, {"F16", 16}, {"BF16", 16},
	{"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8},
	{"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
	{"C64", 64},
}

// maxBits is the size of the widest element type.
const maxBits = 64

// Bits returns the size of an element in bits.
func Bits(dtype string) (int64, bool) {
	for _, row := range dtypes {
		if row.name == dtype {
			return row.bits, true
		}
	}
	return 0, false
}

// floats are the conversions between stored elements and float32.
var floats = map[string]struct {
	size  int
	widen func(src []byte) float32
	store func(dst []byte, x float32)
}{
	"F32": {4,
		func(src []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(src)) },
		func(dst []byte, x float32) { binary.LittleEndian.PutUint32(dst, math.Float32bits(x)) }},
	"BF16": {2,
		func(src []byte) float32 { return arith.FromBF16(binary.LittleEndian.Uint16(src)) },
		func(dst []byte, x float32) { binary.LittleEndian.PutUint16(dst, arith.ToBF16(x)) }},
	"F16": {2,
		func(src []byte) float32 { return arith.FromF16(binary.LittleEndian.Uint16(src)) },
		func(dst []byte, x float32) { binary.LittleEndian.PutUint16(dst, arith.ToF16(x)) }},
}

// Widen writes the values of stored elements of type F32, BF16 or F16 to dst,
// exactly.
func Widen(dst []float32, dtype string, src []byte) error {
	f, ok := floats[dtype]
	if !ok {
		return fmt.Errorf("element type %s has no conversion to float32: need F32, BF16 or F16", plain(dtype))
	}
	if len(src) != len(dst)*f.size {
		return fmt.Errorf("%d values of type %s: need %d bytes, have %d", len(dst), dtype, len(dst)*f.size, len(src))
	}
	for i := range dst {
		dst[i] = f.widen(src[i*f.size:])
	}
	return nil
}

// Narrow writes src to dst as elements of type F32, BF16 or F16, rounded to
// the nearest, ties to even.
func Narrow(dst []byte, dtype string, src []float32) error {
	f, ok := floats[dtype]
	if !ok {
		return fmt.Errorf("element type %s has no conversion from float32: need F32, BF16 or F16", plain(dtype))
	}
	if len(dst) != len(src)*f.size {
		return fmt.Errorf("%d values of type %s: need %d bytes, have %d", len(src), dtype, len(src)*f.size, len(dst))
	}
	for i, x := range src {
		f.store(dst[i*f.size:], x)
	}
	return nil
}
