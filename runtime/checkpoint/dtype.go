package checkpoint

import "encoding/binary"

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

// floats are the element types whose values are examined.
var floats = map[string]struct {
	size     int    // bytes
	exponent uint32 // bits of the exponent; all are set in NaN and infinity
}{
	"F32":  {4, 0x7f800000},
	"BF16": {2, 0x7f80},
	"F16":  {2, 0x7c00},
}

// notFinite counts the elements of a float type that are NaN or infinite.
func notFinite(dtype string, data []byte) int64 {
	f, n := floats[dtype], int64(0)
	for ; len(data) >= f.size; data = data[f.size:] {
		bits := uint32(binary.LittleEndian.Uint16(data))
		if f.size == 4 {
			bits = binary.LittleEndian.Uint32(data)
		}
		if bits&f.exponent == f.exponent {
			n++
		}
	}
	return n
}
