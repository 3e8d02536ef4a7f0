package checkpoint

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Tensor is a tensor to be written, with its data as stored: row-major,
// little-endian.
type Tensor struct {
	Name  string
	DType string
	Shape []int64
	Data  []byte
}

// Write writes a safetensors file so that path holds the old file or the whole
// new one, never a part. The bytes depend on the set of tensors only, not on
// their order: wider element types come first, so that all data is aligned,
// and names are in order within a type.
func Write(path string, tensors []Tensor) (err error) {
	sorted := append([]Tensor(nil), tensors...)
	sort.SliceStable(sorted, func(i, j int) bool {
		a, _ := Bits(sorted[i].DType)
		b, _ := Bits(sorted[j].DType)
		return a > b || a == b && sorted[i].Name < sorted[j].Name
	})
	header, err := encodeHeader(sorted)
	if err != nil {
		return &Error{File: path, What: err.Error(), Remedy: "nothing was written"}
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return &Error{File: path, What: "cannot be written: " + err.Error(), Remedy: "name a directory that exists and can be written to", Err: err}
	}
	defer func() {
		if err != nil {
			tmp.Close()
			os.Remove(tmp.Name())
			err = &Error{File: path, What: "cannot be written: " + err.Error(), Remedy: "nothing was written", Err: err}
		}
	}()
	if err = writeAll(tmp, header, sorted); err != nil {
		return err
	}
	if err = tmp.Chmod(0o644); err != nil {
		return err
	}
	if err = tmp.Sync(); err != nil {
		return err
	}
	if err = tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func writeAll(w io.Writer, header []byte, tensors []Tensor) error {
	b := bufio.NewWriterSize(w, 1<<20)
	b.Write(header) // Flush returns the error of any Write
	for _, t := range tensors {
		b.Write(t.Data)
	}
	return b.Flush()
}

// encodeHeader makes the length and header of a file, padded with spaces so
// that the data begins at a multiple of 8 bytes.
func encodeHeader(tensors []Tensor) ([]byte, error) {
	text := []byte(`{"` + metadataKey + `":{"format":"pt"}`) // older readers insist on a format
	names := make(map[string]bool, len(tensors))
	var at int64
	for _, t := range tensors {
		if err := checkTensor(t); err != nil {
			return nil, err
		}
		if names[t.Name] {
			return nil, fmt.Errorf("two tensors are called %q", t.Name)
		}
		names[t.Name] = true
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, err
		}
		end := at + int64(len(t.Data))
		text = fmt.Appendf(text, `,%s:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`, name, t.DType, shapeText(t.Shape), at, end)
		at = end
	}
	text = append(text, '}')
	if n := len(text) % lengthBytes; n != 0 {
		text = append(text, strings.Repeat(" ", lengthBytes-n)...)
	}
	if len(text) > maxHeader {
		return nil, fmt.Errorf("header of %s: need at most %s", bytesOf(len(text)), bytesOf(maxHeader))
	}
	return append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), nil
}

// checkTensor applies the rules that a reader of the file will apply.
func checkTensor(t Tensor) error {
	fault := nameFault(t.Name)
	bits, known := Bits(t.DType)
	elements := int64(1)
	for _, d := range t.Shape {
		if d < 0 || d > 0 && elements > maxElements/d {
			fault = "shape " + shapeText(t.Shape) + " has a negative extent or too many elements"
			break
		}
		elements *= max(d, 1)
	}
	switch {
	case fault != "":
	case t.Name == metadataKey || len(t.Name) > maxName:
		fault = fmt.Sprintf("name is reserved or longer than %d bytes", maxName)
	case !known:
		fault = fmt.Sprintf("unknown dtype %q", t.DType)
	case len(t.Shape) > maxRank:
		fault = fmt.Sprintf("shape has %d extents, more than %d", len(t.Shape), maxRank)
	case Info{Shape: t.Shape}.Elements()*bits != int64(len(t.Data))*8:
		fault = fmt.Sprintf("%s %s does not fit its data of %s", t.DType, shapeText(t.Shape), bytesOf(len(t.Data)))
	default:
		return nil
	}
	return fmt.Errorf("tensor %q: %s", t.Name, fault)
}
