package placement

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"
)

// form is a placement as JSON: layers and experts that are placed the same are
// written once, with the range of their numbers.
//
//	{"devices": 4, "strategy": "tp", "segments": 8,
//	 "embed": [[[0,0,8],[1,0,8]]],
//	 "layers": [{"layers": "0-31", "groups": [[0,1]], "attention": [[[0,0,4],[1,4,8]]], ...
//	   "experts": [{"experts": "0-7", "copies": [[[0,0,4],[1,4,8]]]}]}],
//	 "head": ...}
//
// A share is [device, lo, hi].
type form struct {
	Devices  int        `json:"devices"`
	Strategy string     `json:"strategy"`
	Segments int        `json:"segments"`
	Embed    []Split    `json:"embed"`
	Layers   []layerRun `json:"layers"`
	Head     []Split    `json:"head"`
}

type layerRun struct {
	Layers    span        `json:"layers"`
	Groups    [][]int     `json:"groups"`
	Attention []Split     `json:"attention"`
	Dense     []Split     `json:"dense"`
	Experts   []expertRun `json:"experts"`
}

type expertRun struct {
	Experts span    `json:"experts"`
	Copies  []Split `json:"copies"`
}

// span is a range of numbers, both ends included: "3" or "0-31".
type span struct{ first, last int }

// maxNumber bounds the layers and experts of a file, so that a short file
// cannot ask for much memory.
const maxNumber = 1 << 12

// MarshalText implements encoding.TextMarshaler.
func (s span) MarshalText() ([]byte, error) {
	if s.first == s.last {
		return strconv.AppendInt(nil, int64(s.first), 10), nil
	}
	return fmt.Appendf(nil, "%d-%d", s.first, s.last), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *span) UnmarshalText(text []byte) error {
	first, last, both := strings.Cut(string(text), "-")
	if !both {
		last = first
	}
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(last)
	if errA != nil || errB != nil || a < 0 || b < a || b >= maxNumber {
		return fmt.Errorf("%q is neither a number nor first-last, below %d", text, maxNumber)
	}
	*s = span{a, b}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (s Share) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "[%d,%d,%d]", s.Device, s.Lo, s.Hi), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Share) UnmarshalJSON(text []byte) error {
	var list []int
	if err := json.Unmarshal(text, &list); err != nil || len(list) != 3 {
		return fmt.Errorf("share %s is not [device, lo, hi]", text)
	}
	*s = Share{list[0], list[1], list[2]}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (p Placement) MarshalJSON() ([]byte, error) { return json.Marshal(p.form()) }

func (p *Placement) form() form {
	f := form{Devices: p.Devices, Strategy: p.Strategy, Segments: p.Segments, Embed: p.Embed, Head: p.Head, Layers: []layerRun{}}
	for i, l := range p.Layers {
		if i > 0 && reflect.DeepEqual(l, p.Layers[i-1]) {
			f.Layers[len(f.Layers)-1].Layers.last = i
			continue
		}
		f.Layers = append(f.Layers, layerRun{span{i, i}, l.Groups, l.Attention, l.Dense, expertRuns(l.Experts)})
	}
	return f
}

func expertRuns(list []Expert) []expertRun {
	runs := []expertRun{}
	for i, e := range list {
		if i > 0 && reflect.DeepEqual(e, list[i-1]) {
			runs[len(runs)-1].Experts.last = i
			continue
		}
		runs = append(runs, expertRun{span{i, i}, e})
	}
	return runs
}

// UnmarshalJSON implements json.Unmarshaler. It checks the form only; Check
// checks that the placement makes sense.
func (p *Placement) UnmarshalJSON(text []byte) error {
	var f form
	if err := strict(text, &f); err != nil {
		return err
	}
	q := Placement{Devices: f.Devices, Strategy: f.Strategy, Segments: f.Segments, Embed: f.Embed, Head: f.Head}
	for _, r := range f.Layers {
		if r.Layers.first != len(q.Layers) {
			return fmt.Errorf("layers start at %d, want %d: ranges must follow each other", r.Layers.first, len(q.Layers))
		}
		var experts []Expert
		for _, e := range r.Experts {
			if e.Experts.first != len(experts) {
				return fmt.Errorf("experts of layer %d start at %d, want %d: ranges must follow each other", r.Layers.first, e.Experts.first, len(experts))
			}
			for range e.Experts.last - e.Experts.first + 1 {
				experts = append(experts, e.Copies)
			}
		}
		for range r.Layers.last - r.Layers.first + 1 {
			q.Layers = append(q.Layers, Layer{r.Groups, r.Attention, r.Dense, experts})
		}
	}
	*p = q
	return nil
}

// strict decodes one JSON value without unknown fields or anything after it.
func strict(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is text after the end of the object")
	}
	return nil
}

// FileError says what is wrong with a placement or expert map file.
type FileError struct {
	File   string
	Line   int // 0 when not known
	What   string
	Remedy string
}

// Error implements error on one line.
func (e *FileError) Error() string {
	at := e.File
	if e.Line > 0 {
		at += ":" + strconv.Itoa(e.Line)
	}
	s := at + ": " + e.What
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// fileError turns an error of the JSON decoder into one with a line.
func fileError(file string, text []byte, err error) *FileError {
	e := &FileError{File: file, What: strings.TrimPrefix(err.Error(), "json: ")}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	at := int64(-1)
	switch {
	case errors.As(err, &syntax):
		at, e.What = syntax.Offset, "is not JSON: "+syntax.Error()
	case errors.As(err, &kind):
		at, e.What = kind.Offset, fmt.Sprintf("%s is a %s, want %s", kind.Field, kind.Value, kind.Type)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		at, e.What = int64(len(text)), "is not JSON: it ends too early"
	}
	if at >= 0 {
		e.Line = 1 + bytes.Count(text[:min(at, int64(len(text)))], []byte("\n"))
	}
	return e
}

// Parse reads a placement file.
func Parse(file string, text []byte) (*Placement, error) {
	var raw json.RawMessage
	if err := strict(text, &raw); err != nil {
		return nil, fileError(file, text, err)
	}
	p := new(Placement)
	if err := p.UnmarshalJSON(text); err != nil {
		return nil, fileError(file, text, err)
	}
	return p, nil
}

// Format returns the placement's file: each run of layers is a line. The same
// placement always gives the same text.
func (p *Placement) Format() []byte {
	f := p.form()
	var b bytes.Buffer
	fmt.Fprintf(&b, "{\n  \"devices\": %d,\n  \"strategy\": %s,\n  \"segments\": %d,\n", f.Devices, compact(f.Strategy), f.Segments)
	fmt.Fprintf(&b, "  \"embed\": %s,\n  \"layers\": [", compact(f.Embed))
	for i, r := range f.Layers {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n    %s", compact(r))
	}
	fmt.Fprintf(&b, "\n  ],\n  \"head\": %s\n}\n", compact(f.Head))
	return b.Bytes()
}

func compact(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("internal error: placement: " + err.Error())
	}
	return text
}
