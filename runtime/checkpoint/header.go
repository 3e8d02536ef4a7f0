package checkpoint

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a safetensors header.
const (
	lengthBytes = 8           // the file begins with the header's length, u64
	maxHeader   = 100_000_000 // bytes; the limit of the format's own library
	maxTensors  = 1 << 20     // seven times those of the largest published model
	maxRank     = 8           // extents of a tensor; models use at most 5
	maxName     = 1 << 10     // bytes of a tensor's name; models use below 150
	maxMetadata = 1 << 12     // keys of __metadata__

	// maxElements bounds the product of a tensor's extents, zeros left out, so
	// that its size in bits fits an int64 for every element type.
	maxElements = (1<<63 - 1) / maxBits
)

// metadataKey is the entry of a header that is not a tensor.
const metadataKey = "__metadata__"

// Info describes a tensor. Begin and End are byte offsets in the file.
type Info struct {
	Name       string
	DType      string // as in the file: "BF16"
	Shape      []int64
	File       string // name of the file in the checkpoint's directory
	Begin, End int64
}

// Bytes returns the size of the tensor's data.
func (t Info) Bytes() int64 { return t.End - t.Begin }

// Elements returns the number of elements.
func (t Info) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// readHeader reads the header of the safetensors file r of the given size and
// returns its tensors by offset. Path is for errors, file for Info.File.
func readHeader(r io.ReaderAt, size int64, path, file string) ([]Info, error) {
	n, err := headerLength(r, size, path)
	if err != nil {
		return nil, err
	}
	text := newScanner(path, io.NewSectionReader(r, lengthBytes, n))
	text.header, text.remedy = true, remedySave
	h := headerReader{scanner: text, file: file, base: lengthBytes + n, seen: make(map[string]bool)}
	if err := h.object(maxName, h.entry); err != nil {
		return nil, err
	}
	if err := h.end(); err != nil {
		return nil, err
	}
	if err := checkLayout(h.tensors, h.base, size, path); err != nil {
		return nil, err
	}
	return h.tensors, nil
}

// headerLength reads and checks the length of the header.
func headerLength(r io.ReaderAt, size int64, path string) (int64, error) {
	bad := &Error{File: path, Remedy: remedySave}
	start := make([]byte, min(size, sniffed))
	if _, err := r.ReadAt(start, 0); err != nil && err != io.EOF {
		bad.What, bad.Remedy, bad.Err = "cannot be read: "+err.Error(), remedyDisk, err
		return 0, bad
	}
	if size >= lengthBytes {
		n := binary.LittleEndian.Uint64(start)
		switch {
		case n == 0:
			bad.What = "is not a safetensors file: its header length is 0"
			return 0, bad
		case n <= maxHeader && int64(n) > size-lengthBytes:
			bad.What, bad.Need, bad.Have, bad.Remedy = "truncated in its header", bytesOf(lengthBytes+n), bytesOf(size), remedyAgain
			return 0, bad
		case n <= maxHeader:
			return int64(n), nil
		}
		bad.What, bad.Need, bad.Have = "is not a safetensors file: header length", "at most "+bytesOf(maxHeader), bytesOf(n)
	} else {
		bad.What, bad.Need, bad.Have, bad.Remedy = "truncated", fmt.Sprintf("at least %d bytes", lengthBytes+len("{}")), bytesOf(size), remedyAgain
	}
	if d, ok := disguised(start); ok {
		return 0, &Error{File: path, What: d.what, Remedy: d.remedy}
	}
	return 0, bad
}

// sniffed is how many bytes of a file are looked at to tell what it is.
const sniffed = 512

// disguises are what is found under the name of a safetensors or JSON file,
// by first bytes. None can begin a safetensors file: as a header length they
// are far above the limit.
var disguises = []struct {
	prefix, what, remedy string
}{
	{"version https://git-lfs", "is a Git LFS pointer, not the file it stands for", `run "git lfs pull" in its directory`},
	{"<", "is a web page or XML text, probably an error message saved by a download", remedyAgain},
	{"PK\x03\x04", "is a zip archive, as pickle checkpoints are: pickle checkpoints are not read", remedyPickle},
	{"\x80\x02", "is a pickle: pickle checkpoints are not read", remedyPickle},
	{"\x80\x04", "is a pickle: pickle checkpoints are not read", remedyPickle},
	{"GGUF", "is a GGUF file, not safetensors", "give a checkpoint in safetensors form"},
	{"{\"", jsonDisguise, remedyAgain},
}

// jsonDisguise is what a safetensors file must not be, but a JSON file is.
const jsonDisguise = "is JSON text, not safetensors"

// disguise is what a file is instead.
type disguise struct{ what, remedy string }

// disguised tells by its first bytes whether a file is something else.
func disguised(start []byte) (disguise, bool) {
	start = bytes.TrimLeft(start, "\xef\xbb\xbf \t\r\n")
	for _, d := range disguises {
		if bytes.HasPrefix(start, []byte(d.prefix)) {
			return disguise{d.what, d.remedy}, true
		}
	}
	return disguise{}, false
}

// headerReader reads the entries of a header.
type headerReader struct {
	*scanner
	file    string
	base    int64 // offset of the data in the file
	seen    map[string]bool
	tensors []Info
}

// entry reads one tensor's description, or the metadata.
func (h *headerReader) entry(name string) error {
	if h.seen[name] {
		return h.fail("%q is listed twice", name)
	}
	if len(h.tensors) == maxTensors {
		return h.fail("header lists more than %s tensors", digits(maxTensors))
	}
	h.seen[name] = true
	if name == metadataKey {
		return h.metadata()
	}
	if fault := nameFault(name); fault != "" {
		return h.fail("tensor %q: %s", name, fault)
	}
	t, err := h.tensor(name)
	h.tensors = append(h.tensors, t)
	return err
}

// nameFault says what is wrong with a tensor's name, or "". Names are shown to
// people, so they must print as they are.
func nameFault(name string) string {
	if name == "" {
		return "name is empty"
	}
	if !utf8.ValidString(name) {
		return "name is not UTF-8"
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Sprintf("name holds the unprintable character %U", r)
		}
	}
	return ""
}

// metadata checks the metadata, a map of strings to strings, and drops it:
// nothing in it says how to read the file.
func (h *headerReader) metadata() error {
	keys := make(map[string]bool)
	return h.within(metadataKey, h.object(maxName, func(key string) error {
		if keys[key] {
			return h.fail("key %q is listed twice", key)
		}
		if len(keys) == maxMetadata {
			return h.fail("there are more than %s keys", digits(maxMetadata))
		}
		keys[key] = true
		_, err := h.text(discard)
		return h.within(fmt.Sprintf("%q", key), err)
	}))
}

// within says in err, which may be nil, what was being read.
func (h *headerReader) within(what string, err error) error {
	if e, ok := err.(*Error); ok && e.Err == nil {
		at, rest, _ := strings.Cut(e.What, ": ")
		e.What = at + ": " + what + ": " + rest
	}
	return err
}

// fields are what describes a tensor, in the order in which a missing one is
// reported.
var fields = [...]string{"dtype", "shape", "data_offsets"}

// tensor reads the description of a tensor.
func (h *headerReader) tensor(name string) (Info, error) {
	t := Info{Name: name, File: h.file, Shape: []int64{}}
	var offsets [2]int64
	var have [len(fields)]bool
	err := h.object(maxName, func(field string) (err error) {
		i := slices.Index(fields[:], field)
		if i < 0 {
			return h.fail("unknown field %q", field)
		}
		if have[i] {
			return h.fail("field %q is there twice", field)
		}
		have[i] = true
		switch field {
		case "dtype":
			t.DType, err = h.dtype()
		case "shape":
			t.Shape, err = h.shape()
		case "data_offsets":
			offsets, err = h.offsets()
		}
		return err
	})
	for i, f := range fields {
		if err == nil && !have[i] {
			err = h.fail("field %q is missing", f)
		}
	}
	if err == nil {
		err = h.size(t, offsets)
	}
	t.Begin, t.End = h.base+offsets[0], h.base+offsets[1]
	return t, h.within(fmt.Sprintf("tensor %q", name), err)
}

func (h *headerReader) dtype() (string, error) {
	name, err := h.text(maxName)
	if err != nil {
		return "", err
	}
	for _, row := range dtypes {
		if row.name == name {
			return row.name, nil // not name: one string for all tensors
		}
	}
	return "", h.fail("unknown dtype %q", name)
}

func (h *headerReader) shape() ([]int64, error) {
	shape := []int64{}
	elements := int64(1)
	err := h.array(func() error {
		d, err := h.integer()
		if err != nil {
			return err
		}
		if len(shape) == maxRank {
			return h.fail("shape has more than %d extents", maxRank)
		}
		shape = append(shape, d)
		if d > maxElements || d > 0 && elements > maxElements/d {
			return h.fail("shape has more than 2^57 elements")
		}
		elements *= max(d, 1)
		return nil
	})
	return shape, err
}

func (h *headerReader) offsets() (at [2]int64, err error) {
	n := 0
	err = h.array(func() error {
		v, err := h.integer()
		if err != nil {
			return err
		}
		if n == len(at) {
			return h.fail("data_offsets has more than two numbers")
		}
		if v > 1<<62 {
			return h.fail("data_offsets are above 2^62")
		}
		at[n] = v
		n++
		return nil
	})
	switch {
	case err != nil:
	case n != len(at):
		err = h.fail("data_offsets has %d numbers, want two", n)
	case at[1] < at[0]:
		err = h.fail("data_offsets end at %d before they begin at %d", at[1], at[0])
	}
	return at, err
}

// size compares a tensor's type and shape with its range.
func (h *headerReader) size(t Info, offsets [2]int64) error {
	bits, _ := Bits(t.DType)
	bits *= t.Elements()
	if bits%8 != 0 {
		return h.fail("%s %s fills %d bits, which is not a whole number of bytes", t.DType, shapeText(t.Shape), bits)
	}
	if have := offsets[1] - offsets[0]; have != bits/8 {
		e := h.fail("%s %s does not fit data_offsets [%d,%d]", t.DType, shapeText(t.Shape), offsets[0], offsets[1])
		e.Need, e.Have = bytesOf(bits/8), bytesOf(have)
		return e
	}
	return nil
}

// shapeText writes a shape as "[4096,128]".
func shapeText(shape []int64) string {
	parts := make([]string, len(shape))
	for i, d := range shape {
		parts[i] = fmt.Sprint(d)
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// checkLayout sorts the tensors by offset and checks that they fill the file
// from base to its end without holes or overlaps. A hole could hide a second
// file, an overlap lets a small file claim any number of bytes.
func checkLayout(tensors []Info, base, size int64, path string) error {
	sort.SliceStable(tensors, func(i, j int) bool {
		a, b := tensors[i], tensors[j]
		return a.Begin < b.Begin || a.Begin == b.Begin && a.End < b.End
	})
	bad := &Error{File: path, Remedy: remedySave}
	at := base
	for i, t := range tensors {
		switch {
		case t.Begin > at:
			bad.What = fmt.Sprintf("%s before tensor %q belong to no tensor", bytesOf(t.Begin-at), t.Name)
			return bad
		case t.Begin < at && i > 0:
			bad.What = fmt.Sprintf("tensors %q and %q share bytes", tensors[i-1].Name, t.Name)
			return bad
		}
		at = t.End
	}
	switch {
	case at > size:
		bad.What, bad.Need = "truncated", bytesOf(at)
		bad.Have, bad.Remedy = fmt.Sprintf("%s (%s missing)", bytesOf(size), digits(at-size)), remedyAgain
	case at < size:
		bad.What = fmt.Sprintf("%s after the last tensor belong to no tensor", bytesOf(size-at))
	default:
		return nil
	}
	return bad
}
