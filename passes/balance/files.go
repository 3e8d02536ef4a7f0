package balance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// FileError says what is wrong with a file of another tool.
type FileError struct {
	File   string
	Line   int // 0 when not known
	What   string
	Remedy string
}

// Error implements error on one line.
func (e *FileError) Error() string {
	s := e.File
	if e.Line > 0 {
		s += ":" + strconv.Itoa(e.Line)
	}
	s += ": " + e.What
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// exflowHeader is the first line of a solution of ExFlow
// (github.com/YJHMITWEB/ExFlow).
const exflowHeader = "Expert,Node"

// ParseExFlow reads a solution of ExFlow: a line for each expert, which are
// numbered through all layers, with the device that keeps it. It returns the
// device of each expert of each layer with experts.
func ParseExFlow(file string, text []byte, layers, experts, devices int) ([][]int, error) {
	if layers < 1 || experts < 1 || devices < 1 || layers > maxExperts || experts > maxExperts {
		return nil, fmt.Errorf("%s: need a model with layers of experts and a device, have %d layers of %d on %d", file, layers, experts, devices)
	}
	fail := func(line int, format string, args ...any) ([][]int, error) {
		return nil, &FileError{File: file, Line: line, What: fmt.Sprintf(format, args...)}
	}
	lines := strings.Split(strings.TrimRight(string(text), "\r\n \t"), "\n")
	if strings.TrimSpace(lines[0]) != exflowHeader {
		return nil, &FileError{File: file, Line: 1, What: fmt.Sprintf("need the line %q, have %q", exflowHeader, strings.TrimSpace(lines[0])), Remedy: "give a file from ExFlow's solutions"}
	}
	if have := len(lines) - 1; have != layers*experts {
		return fail(0, "need a line for each of %d experts, %d in each of %d layers, have %d", layers*experts, experts, layers, have)
	}
	homes := make([][]int, layers)
	for l := range homes {
		homes[l] = make([]int, experts)
		for e := range homes[l] {
			homes[l][e] = -1
		}
	}
	for i, line := range lines[1:] {
		a, b, ok := strings.Cut(strings.TrimSpace(line), ",")
		e, err := strconv.Atoi(a)
		d, err2 := strconv.Atoi(b)
		switch {
		case !ok || err != nil || err2 != nil:
			return fail(i+2, "need two numbers with a comma between, an expert and its device, have %q", line)
		case e < 0 || e >= layers*experts:
			return fail(i+2, "need an expert from 0 to %d, have %d", layers*experts-1, e)
		case d < 0 || d >= devices:
			return fail(i+2, "need a device from 0 to %d, have %d", devices-1, d)
		case homes[e/experts][e%experts] >= 0:
			return fail(i+2, "expert %d is listed twice", e)
		}
		homes[e/experts][e%experts] = d
	}
	return homes, nil
}

// FormatExFlow writes homes as ExFlow does.
func FormatExFlow(homes [][]int) []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, exflowHeader)
	n := 0
	for _, layer := range homes {
		for _, d := range layer {
			fmt.Fprintf(&b, "%d,%d\n", n, d)
			n++
		}
	}
	return b.Bytes()
}

// ParseLayouts reads EPLB's phy2log: for each layer with experts a list of the
// expert in each slot, -1 for a slot that is not used. The list of lists may
// be printed by PyTorch, with tensor( ) around it.
func ParseLayouts(file string, text []byte, layers, experts, devices int) ([][]int, error) {
	layouts, err := decodeLayouts(file, text)
	if err != nil {
		return nil, err
	}
	fail := func(format string, args ...any) ([][]int, error) {
		return nil, &FileError{File: file, What: fmt.Sprintf(format, args...)}
	}
	if len(layouts) != layers {
		return fail("need slots of %d layers with experts, have %d", layers, len(layouts))
	}
	for l, layout := range layouts {
		if devices < 1 || len(layout) == 0 || len(layout)%devices != 0 {
			return fail("layer %d: need the same number of slots on each of %d devices, have %d in all", l, devices, len(layout))
		}
		for i, e := range layout {
			if e < None || e >= experts {
				return fail("layer %d, slot %d: need an expert from 0 to %d, or -1 for none, have %d", l, i, experts-1, e)
			}
		}
		for e, n := range Counts(layout, experts) {
			if n == 0 {
				return fail("layer %d: expert %d has no slot", l, e)
			}
		}
	}
	return layouts, nil
}

func decodeLayouts(file string, text []byte) ([][]int, error) {
	// What stands around the lists becomes spaces, so that positions stay.
	if body := bytes.TrimSpace(text); bytes.HasPrefix(body, []byte("tensor(")) && bytes.HasSuffix(body, []byte(")")) {
		text = bytes.Clone(text)
		copy(text[bytes.Index(text, []byte("tensor(")):], "       ")
		text[bytes.LastIndexByte(text, ')')] = ' '
	}
	var layouts [][]int
	d := json.NewDecoder(bytes.NewReader(text))
	err := d.Decode(&layouts)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return layouts, nil
		}
		err = errors.New("there is text after the lists")
	}
	e := &FileError{File: file, What: "is not a list of lists of numbers: " + strings.TrimPrefix(err.Error(), "json: "), Remedy: "write EPLB's phy2log as [[0, 1, ...], ...]"}
	at := d.InputOffset()
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &kind):
		at = kind.Offset
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		at = int64(len(text))
		e.What = "is not a list of lists of numbers: it ends too early"
	}
	e.Line = 1 + bytes.Count(text[:min(at, int64(len(text)))], []byte("\n"))
	return nil, e
}

// FormatLayouts writes layouts as ParseLayouts reads them, a line for each
// layer.
func FormatLayouts(layouts [][]int) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for l, layout := range layouts {
		if l > 0 {
			b.WriteString(",\n ")
		}
		b.WriteByte('[')
		for i, e := range layout {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(strconv.Itoa(e))
		}
		b.WriteByte(']')
	}
	b.WriteString("]\n")
	return b.Bytes()
}
