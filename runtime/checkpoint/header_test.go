package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// image makes a file from a header's text and data.
func image(header string, data int) []byte {
	return sized(uint64(len(header)), header, data)
}

// sized is image with any header length.
func sized(n uint64, header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, n)
	b = append(b, header...)
	return append(b, make([]byte, data)...)
}

// one makes the header of one tensor "t".
func one(dtype, shape, offsets string) string {
	return `{"t":` + entry(dtype, shape, offsets) + `}`
}

func entry(dtype, shape, offsets string) string {
	return fmt.Sprintf(`{"dtype":%q,"shape":%s,"data_offsets":%s}`, dtype, shape, offsets)
}

// two makes the header of tensors "a" and "b" of 4 and n bytes.
func two(offsetsA, offsetsB string, n int) string {
	return `{"a":` + entry("U8", "[4]", offsetsA) + `,"b":` + entry("U8", fmt.Sprintf("[%d]", n), offsetsB) + `}`
}

func parse(file []byte) ([]Info, error) {
	return readHeader(bytes.NewReader(file), int64(len(file)), "dir/f.safetensors", "f.safetensors")
}

var goodHeaders = []struct {
	name  string
	file  []byte
	names string // by offset
}{
	{"A1 no tensors", image("{}", 0), ""},
	{"A2 one tensor", image(one("F32", "[2]", "[0,8]"), 8), "t"},
	{"A3 trailing spaces", image(one("F32", "[2]", "[0,8]")+"   ", 8), "t"},
	{"A4 leading white space", image(" \t\r\n"+one("F32", "[2]", "[0,8]"), 8), "t"},
	{"A5 no elements", image(one("F32", "[2,0]", "[0,0]"), 0), "t"},
	{"A6 scalar", image(one("F32", "[]", "[0,4]"), 4), "t"},
	{"A7 metadata", image(`{"__metadata__":{"format":"pt","a":"\u00e9\ud83d\ude00"},"t":`+entry("U8", "[1]", "[0,1]")+`}`, 1), "t"},
	{"A8 not in offset order", image(two("[8,12]", "[0,8]", 8), 12), "b a"},
	{"empty metadata", image(`{"__metadata__":{}}`, 0), ""},
	{"empty tensors at one place", image(`{"a":`+entry("U8", "[0]", "[0,0]")+`,"b":`+entry("U8", "[0]", "[0,0]")+`}`, 0), "a b"},
	{"empty tensor before another", image(two("[0,4]", "[0,0]", 0), 4), "b a"},
	{"escaped name", image(`{"\u0074\/\"é":`+entry("U8", "[1]", "[0,1]")+`}`, 1), `t/"é`},
	{"fields in another order", image(`{ "t" : { "data_offsets" : [ 0 , 4 ] , "shape" : [ 1 , 1 ] , "dtype" : "I32" } }`, 4), "t"},
	{"highest rank", image(one("U8", "[1,1,1,1,1,1,1,1]", "[0,1]"), 1), "t"},
	{"whole bytes of F4", image(one("F4", "[3,2]", "[0,3]"), 3), "t"},
	{"whole bytes of F6", image(one("F6_E2M3", "[4]", "[0,3]"), 3), "t"},
}

func TestGoodHeaders(t *testing.T) {
	for _, c := range goodHeaders {
		t.Run(c.name, func(t *testing.T) {
			tensors, err := parse(c.file)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, info := range tensors {
				names = append(names, info.Name)
			}
			if got := strings.Join(names, " "); got != c.names {
				t.Errorf("tensors are %q, want %q", got, c.names)
			}
		})
	}
}

func TestHeaderInfo(t *testing.T) {
	header := two("[8,12]", "[0,8]", 8)
	tensors, err := parse(image(header, 12))
	if err != nil {
		t.Fatal(err)
	}
	base := int64(8 + len(header))
	a := tensors[1]
	if a.Name != "a" || a.DType != "U8" || !slices.Equal(a.Shape, []int64{4}) || a.File != "f.safetensors" ||
		a.Begin != base+8 || a.End != base+12 || a.Bytes() != 4 || a.Elements() != 4 {
		t.Errorf("tensor is %+v with data from %d", a, base)
	}
}

const (
	lfs  = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 4999819336\n"
	html = "<!DOCTYPE html>\n<html><head><title>503 Service Unavailable</title></head></html>\n"
)

// badHeaders has files and what their error must say.
var badHeaders = []struct {
	name string
	file []byte
	want string
}{
	{"F01 empty file", nil, "truncated: need at least 10 bytes, have 0 bytes; download it again"},
	{"F02 7 bytes", make([]byte, 7), "truncated: need at least 10 bytes, have 7 bytes"},
	{"F03 length 0", sized(0, "{}", 0), "header length is 0"},
	{"F04 length one too many", sized(3, "{}", 0), "truncated in its header: need 11 bytes, have 10 bytes"},
	{"F05 length 2^63", sized(1<<63, "{}", 0), "header length: need at most 100,000,000 bytes, have 9,223,372,036,854,775,808 bytes"},
	{"F06 length 2^64-1", sized(math.MaxUint64, "{}", 0), "have 18,446,744,073,709,551,615 bytes"},
	{"F07 length over the limit", sized(maxHeader+1, "{}", 0), "need at most 100,000,000 bytes, have 100,000,001 bytes"},
	{"F08 length wraps", sized(math.MaxUint64-7, "{}", 0), "have 18,446,744,073,709,551,608 bytes"},
	{"F09 not UTF-8", image("{\"t\xff\":1}", 0), "header byte 3: text is not UTF-8 at the byte 0xff"},
	{"F10 open brace only", image("{", 0), "header byte 1: want a string, have the end of the text"},
	{"F11 array", image("[]", 0), "header byte 0: want an object, have an array"},
	{"F12 null", image("null", 0), "want an object, have null"},
	{"F13 two objects", image("{}{}", 0), "header byte 2: there is text after the value: an object"},
	{"F14 NUL after", image("{}\x00\x00", 0), "there is text after the value: the byte 0x00"},
	{"F15 byte order mark", image("\xef\xbb\xbf{}", 0), "want an object, have a byte order mark"},
	{"F16 deep objects", image(strings.Repeat(`{"a":`, 100_000)+strings.Repeat("}", 100_000), 0), `unknown field "a"`},
	{"F16 deep arrays", image(`{"t":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+"}", 0), "want an object, have an array"},
	{"F16 deep shape", image(`{"t":{"shape":`+strings.Repeat("[", 100_000), 0), "want a number, have an array"},
	{"F17 tensor twice", image(`{"t":`+entry("U8", "[1]", "[0,1]")+`,"t":`+entry("U8", "[1]", "[0,1]")+`}`, 1), `"t" is listed twice`},
	{"F18 tensor twice, otherwise", image(`{"t":`+entry("U8", "[1]", "[0,1]")+`,"t":`+entry("U8", "[2]", "[1,3]")+`}`, 3), `"t" is listed twice`},
	{"F19 dtype twice", image(`{"t":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), `tensor "t": field "dtype" is there twice`},
	{"F20 same name escaped", image(`{"t":`+entry("U8", "[1]", "[0,1]")+`,"\u0074":`+entry("U8", "[1]", "[1,2]")+`}`, 2), `"t" is listed twice`},
	{"F21 DTYPE", image(`{"t":{"DTYPE":"U8","shape":[1],"data_offsets":[0,1]}}`, 1), `unknown field "DTYPE"`},
	{"F22 unknown field", image(`{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}}`, 1), `tensor "t": unknown field "x"`},
	{"F23 lone surrogate", image(`{"t\ud800":`+entry("U8", "[1]", "[0,1]")+`}`, 1), `half a surrogate pair, \ud800`},
	{"F24 number in metadata", image(`{"__metadata__":{"a":1}}`, 0), `__metadata__: "a": want a string, have a number`},
	{"F25 tensor as metadata", image(`{"__metadata__":`+entry("U8", "[1]", "[0,1]")+`}`, 1), `__metadata__: "shape": want a string, have an array`},
	{"F26 no data_offsets", image(`{"t":{"dtype":"U8","shape":[1]}}`, 1), `tensor "t": field "data_offsets" is missing`},
	{"F27 no shape", image(`{"t":{"dtype":"U8","data_offsets":[0,1]}}`, 1), `tensor "t": field "shape" is missing`},
	{"F28 no dtype", image(`{"t":{"shape":[1],"data_offsets":[0,1]}}`, 1), `tensor "t": field "dtype" is missing`},
	{"F29 one offset", image(one("U8", "[1]", "[0]"), 1), "data_offsets has 1 numbers, want two"},
	{"F30 three offsets", image(one("U8", "[1]", "[0,1,2]"), 1), "data_offsets has more than two numbers"},
	{"F31 tensor null", image(`{"t":null}`, 0), `tensor "t": want an object, have null`},
	{"F32 dtype F128", image(one("F128", "[1]", "[0,16]"), 16), `tensor "t": unknown dtype "F128"`},
	{"F33 extent -1", image(one("U8", "[-1]", "[0,1]"), 1), "want an integer that is not negative"},
	{"F34 extent 1.0", image(one("U8", "[1.0]", "[0,1]"), 1), "want an integer written in digits only, have 1.0"},
	{"F35 extent 1e0", image(one("U8", "[1e0]", "[0,1]"), 1), "want an integer written in digits only, have 1e0"},
	{"F36 extent string", image(one("U8", `["1"]`, "[0,1]"), 1), "want a number, have a string"},
	{"F37 extent 2^64-2", image(one("U8", "[2,18446744073709551614]", "[0,1]"), 1), "want an integer below 2^63, have 18446744073709551614"},
	{"F38 product overflows", image(one("F32", "[2,9223372036854775807]", "[0,4]"), 4), "more than 2^57 elements"},
	{"F39 product wraps", image(one("F32", "[4611686018427387904,4]", "[0,0]"), 0), "more than 2^57 elements"},
	{"F40 extent above 2^64", image(one("U8", "[18446744073709551617]", "[0,1]"), 1), "want an integer below 2^63"},
	{"F41 zero hides overflow", image(one("U8", "[9223372036854775808,9223372036854775808,0]", "[0,0]"), 0), "want an integer below 2^63"},
	{"F41 zero first", image(one("U8", "[0,4611686018427387904,4611686018427387904]", "[0,0]"), 0), "more than 2^57 elements"},
	{"F42 rank 10,000", image(one("U8", "["+strings.Repeat("1,", 9999)+"1]", "[0,1]"), 1), "shape has more than 8 extents"},
	{"F43 shape against range", image(one("F32", "[2,3]", "[0,20]"), 20), `tensor "t": F32 [2,3] does not fit data_offsets [0,20]: need 24 bytes, have 20 bytes`},
	{"F44 end before begin", image(one("U8", "[1]", "[1,0]"), 1), "data_offsets end at 0 before they begin at 1"},
	{"F45 negative offset", image(one("U8", "[1]", "[-1,0]"), 1), "want an integer that is not negative"},
	{"F46 past the end", image(one("U8", "[100]", "[0,100]"), 1), "truncated: need 165 bytes, have 66 bytes (99 missing); download it again"},
	{"F47 one range, two tensors", image(two("[0,4]", "[0,4]", 4), 4), `tensors "a" and "b" share bytes`},
	{"F48 overlap", image(two("[0,4]", "[2,6]", 4), 6), `tensors "a" and "b" share bytes`},
	{"F48 empty inside another", image(two("[0,4]", "[2,2]", 0), 4), `tensors "a" and "b" share bytes`},
	{"F49 hole at the start", image(one("U8", "[4]", "[1,5]"), 5), `1 byte before tensor "t" belong to no tensor`},
	{"F50 hole in the middle", image(two("[0,4]", "[6,10]", 4), 10), `2 bytes before tensor "b" belong to no tensor`},
	{"F51 bytes at the end", image(one("U8", "[4]", "[0,4]"), 11), "7 bytes after the last tensor belong to no tensor"},
	{"F52 one byte short", image(one("U8", "[4]", "[0,4]"), 3), "have 64 bytes (1 missing)"},
	{"F53 odd F4", image(one("F4", "[3]", "[0,2]"), 2), "F4 [3] fills 12 bits, which is not a whole number of bytes"},
	{"F54 empty name", image(`{"":`+entry("U8", "[1]", "[0,1]")+`}`, 1), "name is empty"},
	{"F55 NUL in a name", image(`{"a\u0000":`+entry("U8", "[1]", "[0,1]")+`}`, 1), `tensor "a\x00": name holds the unprintable character U+0000`},
	{"F55 newline in a name", image(`{"a\n":`+entry("U8", "[1]", "[0,1]")+`}`, 1), "name holds the unprintable character U+000A"},
	{"F55 ESC in a name", image(`{"a\u001b[2J":`+entry("U8", "[1]", "[0,1]")+`}`, 1), "name holds the unprintable character U+001B"},
	{"right-to-left override", image(`{"a\u202e":`+entry("U8", "[1]", "[0,1]")+`}`, 1), "name holds the unprintable character U+202E"},
	{"long name", image(`{"`+strings.Repeat("a", maxName+1)+`":1}`, 0), "string is longer than 1,024 bytes"},
	{"raw newline in a string", image("{\"a\n\":1}", 0), "control character 0x0a unescaped"},
	{"low surrogate first", image(`{"\udc00\ud800":1}`, 0), "half a surrogate pair"},
	{"high surrogate twice", image(`{"\ud800\ud800":1}`, 0), "half a surrogate pair"},
	{"high surrogate, then newline", image(`{"\ud800\n":1}`, 0), "half a surrogate pair"},
	{"short escape", image(`{"\u12":1}`, 0), "four hexadecimal digits"},
	{"unknown escape", image(`{"\x41":1}`, 0), "unknown escape"},
	{"overlong UTF-8", image("{\"\xc0\x80\":1}", 0), "text is not UTF-8 at the byte 0xc0"},
	{"UTF-8 of a surrogate", image("{\"\xed\xa0\x80\":1}", 0), "text is not UTF-8 at the byte 0xed"},
	{"cut UTF-8", image("{\"\xe2\x82\":1}", 0), "text is not UTF-8 at the byte 0xe2"},
	{"string without end", image(`{"abc`, 0), "text ends inside a string"},
	{"trailing comma", image(`{"t":`+entry("U8", "[1]", "[0,1]")+`,}`, 1), "want a string, have '}'"},
	{"comma in array", image(one("U8", "[1,]", "[0,1]"), 1), "want a number, have ']'"},
	{"leading zero", image(one("U8", "[01]", "[0,1]"), 1), "no leading zero"},
	{"minus zero", image(one("U8", "[-0]", "[0,0]"), 0), "not negative"},
	{"long number", image(one("U8", "["+strings.Repeat("1", 1<<20)+"]", "[0,1]"), 1), "number is longer than 64 bytes"},
	{"number cut at its point", image(one("U8", "[1.]", "[0,1]"), 1), "digits after its point"},
	{"number cut at its exponent", image(one("U8", "[1e]", "[0,1]"), 1), "digits in its exponent"},
	{"shape null", image(one("U8", "null", "[0,1]"), 1), "want an array, have null"},
	{"dtype number", image(`{"t":{"dtype":8}}`, 0), `tensor "t": want a string, have a number`},
	{"dtype in small letters", image(one("f32", "[1]", "[0,4]"), 4), `unknown dtype "f32"`},
	{"metadata twice", image(`{"__metadata__":{},"__metadata__":{}}`, 0), `"__metadata__" is listed twice`},
	{"metadata key twice", image(`{"__metadata__":{"a":"","\u0061":""}}`, 0), `__metadata__: key "a" is listed twice`},
	{"metadata null", image(`{"__metadata__":null}`, 0), "__metadata__: want an object, have null"},
	{"huge offset", image(one("U8", "[1]", "[9223372036854775806,9223372036854775807]"), 1), "above 2^62"},
	{"no colon", image(`{"t"}`, 0), "want a colon after the key"},
	{"D13 Git LFS pointer", []byte(lfs), "is a Git LFS pointer, not the file it stands for; run \"git lfs pull\""},
	{"D14 web page", []byte(html), "is a web page or XML text"},
	{"D14 short text", []byte("<html>"), "is a web page or XML text"},
	{"D14 error object", []byte(`{"error":"Repository not found"}`), "is JSON text, not safetensors"},
	{"D12 zip", []byte("PK\x03\x04\x00\x00\x08\x08\x00\x00\x00\x00\x00\x00archive/data.pkl"), "is a zip archive, as pickle checkpoints are: pickle checkpoints are not read; convert it"},
	{"D12 pickle", []byte("\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."), "is a pickle: pickle checkpoints are not read"},
	{"GGUF", []byte("GGUF\x03\x00\x00\x00\x23\x01"), "is a GGUF file"},
}

func TestBadHeaders(t *testing.T) {
	for _, c := range badHeaders {
		t.Run(c.name, func(t *testing.T) {
			_, err := parse(c.file)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error is %v, want one with %q", err, c.want)
			}
			if !strings.HasPrefix(err.Error(), "dir/f.safetensors: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is\n  %v\nwant the file's name and\n  %s", err, c.want)
			}
			if e.Remedy == "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("error has no remedy or several lines: %v", err)
			}
		})
	}
}

// TestEveryDType reads one tensor of each element type of the format.
func TestEveryDType(t *testing.T) {
	for _, row := range dtypes {
		header := one(row.name, "[8]", fmt.Sprintf("[0,%d]", row.bits))
		tensors, err := parse(image(header, int(row.bits)))
		if err != nil || tensors[0].DType != row.name {
			t.Errorf("%s: tensors %v, error %v", row.name, tensors, err)
		}
	}
}

// TestTruncatedHeader cuts a file at every byte.
func TestTruncatedHeader(t *testing.T) {
	whole := image(`{"__metadata__":{"format":"pt"},"a":`+entry("F32", "[2,3]", "[4,28]")+`,"b":`+entry("BF16", "[2]", "[0,4]")+`}`, 28)
	if _, err := parse(whole); err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		_, err := parse(whole[:n])
		if err == nil || !strings.Contains(err.Error(), "truncated") {
			t.Errorf("first %d of %d bytes: error is %v", n, len(whole), err)
		}
	}
	// A header that is short but says so is malformed, not truncated.
	header := whole[8 : len(whole)-28]
	for n := 1; n < len(header); n++ {
		if _, err := parse(sized(uint64(n), string(header[:n]), 28)); err == nil {
			t.Errorf("header cut at %d of %d bytes is accepted", n, len(header))
		}
	}
}

// failing gives an error instead of the bytes from a point on.
type failing struct {
	io.ReaderAt
	from int64
}

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, errors.New("input/output error")
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestUnreadableHeader(t *testing.T) {
	whole := image(one("U8", "[4096]", "[0,4096]")+strings.Repeat(" ", 2*window), 4096)
	for _, from := range []int64{0, 600, window + 600} {
		_, err := readHeader(failing{bytes.NewReader(whole), from}, int64(len(whole)), "f", "f")
		if err == nil || !strings.Contains(err.Error(), "cannot be read: input/output error; check the disk") {
			t.Errorf("disk that fails from byte %d: error is %v", from, err)
		}
	}
}

// filler is a file of a header's length and beginning, then one byte on and on.
type filler struct {
	start, fill []byte
}

func (f filler) ReadAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		n += copy(p[n:], f.fill)
	}
	if off < int64(len(f.start)) {
		copy(p, f.start[off:])
	}
	return len(p), nil
}

// TestHugeHeaders checks that the memory to refuse a header of 100 MB does not
// depend on its length.
func TestHugeHeaders(t *testing.T) {
	for _, c := range []struct {
		name, start string
		fill        byte
		want        string
	}{
		{"NULs", "", 0, "have the byte 0x00"},
		{"name without end", `{"`, 'a', "string is longer"},
		{"spaces", "", ' ', "have the end of the text"},
		{"metadata without end", `{"__metadata__":{"a":"`, 'a', "text ends inside a string"},
		{"number without end", `{"t":{"shape":[`, '1', "number is longer"},
		{"dtype without end", `{"t":{"dtype":"`, 'F', "string is longer"},
		{"arrays", `{"t":`, '[', "want an object, have an array"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			file := filler{sized(maxHeader, c.start, 0), bytes.Repeat([]byte{c.fill}, window)}
			_, err := readHeader(file, lengthBytes+maxHeader+4, "f", "f")
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
			const most = 1 << 20
			if got := after.TotalAlloc - before.TotalAlloc; got > most {
				t.Errorf("%d bytes allocated in %v, want at most %d", got, time.Since(start), most)
			}
		})
	}
}

// FuzzHeader looks for panics, errors without a file, and accepted files whose
// tensors do not fill the file.
func FuzzHeader(f *testing.F) {
	for _, c := range goodHeaders {
		f.Add(c.file)
	}
	for _, c := range badHeaders {
		if len(c.file) < 1<<12 {
			f.Add(c.file)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) { checkParse(t, file) })
}

// checkParse parses a file, which is either refused properly or filled by its
// tensors.
func checkParse(t *testing.T, file []byte) {
	t.Helper()
	tensors, err := parse(file)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) || e.File == "" || e.What == "" || e.Remedy == "" {
			t.Errorf("error without file, reason or remedy: %#v", err)
		}
		return
	}
	at := int64(lengthBytes) + int64(binary.LittleEndian.Uint64(file))
	for _, info := range tensors {
		bits, ok := Bits(info.DType)
		if !ok || info.Begin != at || info.Bytes()*8 != info.Elements()*bits || nameFault(info.Name) != "" {
			t.Errorf("%q: accepted tensor %+v at byte %d", file, info, at)
		}
		at = info.End
	}
	if at != int64(len(file)) {
		t.Errorf("%q: tensors end at byte %d of %d", file, at, len(file))
	}
}

// TestDamagedHeader changes each byte of a file in turn.
func TestDamagedHeader(t *testing.T) {
	whole := image(`{"__metadata__":{"format":"pt"},"a":`+entry("F32", "[2,3]", "[4,28]")+`,"b":`+entry("BF16", "[2]", "[0,4]")+`}`, 28)
	for i := range whole {
		for _, c := range []byte("\x00\x01\xff\"\\{}[]:,0129e.- \n") {
			damaged := bytes.Clone(whole)
			damaged[i] = c
			checkParse(t, damaged)
		}
		checkParse(t, slices.Delete(bytes.Clone(whole), i, i+1))
		checkParse(t, slices.Insert(bytes.Clone(whole), i, whole[i]))
	}
}

// TestWriteRead writes a file and reads it back, whatever the order given.
func TestWriteRead(t *testing.T) {
	tensors := []Tensor{
		{"b", "BF16", []int64{2, 1}, []byte{1, 2, 3, 4}},
		{"a<é>\"\\", "F32", []int64{}, []byte{5, 6, 7, 8}},
		{"z", "I64", []int64{1}, []byte{1, 2, 3, 4, 5, 6, 7, 8}},
		{"c", "F4", []int64{2}, []byte{9}},
		{"none", "F32", []int64{0, 3}, nil},
	}
	path := t.TempDir() + "/m.safetensors"
	if err := Write(path, tensors); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	infos, err := parse(first)
	if err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(first); n%8 != 0 {
		t.Errorf("header of %d bytes is not padded", n)
	}
	byName := make(map[string]Info)
	for _, info := range infos {
		byName[info.Name] = info
	}
	for _, want := range tensors {
		got := byName[want.Name]
		if got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) || !bytes.Equal(first[got.Begin:got.End], want.Data) {
			t.Errorf("tensor %q became %+v", want.Name, got)
		}
	}
	slices.Reverse(tensors)
	if err := Write(path, tensors); err != nil {
		t.Fatal(err)
	}
	if second, _ := os.ReadFile(path); !bytes.Equal(first, second) {
		t.Error("the file depends on the order of the tensors")
	}
	if list, _ := os.ReadDir(path[:len(path)-len("/m.safetensors")]); len(list) != 1 {
		t.Errorf("directory holds %v", list)
	}
}

func TestWriteRefuses(t *testing.T) {
	dir := t.TempDir()
	ok := Tensor{"t", "U8", []int64{1}, []byte{1}}
	if err := os.Mkdir(dir+"/taken", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		tensors    []Tensor
		want       string
	}{
		{"no directory", "no/such/f", []Tensor{ok}, "name a directory that exists"},
		{"directory in its place", "taken", []Tensor{ok}, "nothing was written"},
		{"two of a name", "f", []Tensor{ok, {"t", "F32", []int64{0}, nil}}, `two tensors are called "t"`},
		{"no name", "f", []Tensor{{"", "U8", []int64{0}, nil}}, "name is empty"},
		{"name not UTF-8", "f", []Tensor{{"\xff", "U8", []int64{0}, nil}}, "not UTF-8"},
		{"reserved name", "f", []Tensor{{metadataKey, "U8", []int64{0}, nil}}, "reserved"},
		{"unknown dtype", "f", []Tensor{{"t", "F128", []int64{0}, nil}}, `unknown dtype "F128"`},
		{"too little data", "f", []Tensor{{"t", "F32", []int64{2}, make([]byte, 7)}}, "F32 [2] does not fit its data of 7 bytes"},
		{"negative extent", "f", []Tensor{{"t", "F32", []int64{-1}, nil}}, "negative extent"},
		{"overflow", "f", []Tensor{{"t", "F32", []int64{1 << 62, 4}, nil}}, "too many elements"},
		{"rank", "f", []Tensor{{"t", "U8", make([]int64, 9), nil}}, "more than 8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Write(dir+"/"+c.path, c.tensors)
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
		})
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
}
