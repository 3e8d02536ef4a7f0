package routing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// file is a trace file. Keys that are not listed are for people and ignored.
type file struct {
	Experts  int         `json:"experts"`
	TopK     int         `json:"top_k"`
	Layers   int         `json:"layers"` // those with experts
	Tokens   int64       `json:"tokens"`
	PerLayer []fileLayer `json:"per_layer"`
	// Transitions[l][e][f] is Layer.Next of the l-th layer with experts.
	Transitions [][][]int64 `json:"transitions"`
	Sample      []fileToken `json:"sample"`
}

// fileLayer is one layer with experts. Experts and TopK are there where they
// differ from the file's.
type fileLayer struct {
	Experts int       `json:"experts"`
	TopK    int       `json:"top_k"`
	Counts  []int64   `json:"counts"`
	Pairs   [][]int64 `json:"co_activation"`
}

// fileToken is the way of one token: its experts in each layer, best first.
type fileToken struct {
	Experts [][]int `json:"experts"`
}

// maxTokens bounds the tokens of a trace, so that sums of counts over all
// experts and slots fit an int64.
const maxTokens = 1 << 40

// Error says what is wrong with a trace file.
type Error struct {
	File   string
	Line   int // 0 when not known
	Where  string
	What   string
	Remedy string
}

// Error implements error on one line.
func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s += ":" + strconv.Itoa(e.Line)
	}
	for _, part := range []string{e.Where, e.What} {
		if part != "" {
			s += ": " + part
		}
	}
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// record is the remedy where a trace is of no use.
const record = "record one with moec run --record-routing FILE"

// readTrace reads the trace file at path.
func readTrace(path string, shapes []Shape) (*Stats, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		var p *os.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, &Error{File: path, What: err.Error(), Remedy: "a routing is uniform, power:SKEW, power:SKEW:SEED or the path of a trace file"}
	}
	return ParseTrace(path, text, shapes)
}

// ParseTrace reads the text of a trace file that was recorded for a model of
// the given shapes. Counts that do not add up are refused.
func ParseTrace(path string, text []byte, shapes []Shape) (*Stats, error) {
	if err := checkShapes(shapes); err != nil {
		return nil, err
	}
	f, err := decode(path, text)
	if err != nil {
		return nil, err
	}
	r := &reader{file: f, path: path}
	if err := r.match(shapes); err != nil {
		return nil, err
	}
	s := &Stats{Name: filepath.Base(path)}
	for _, sh := range shapes {
		s.Layers = append(s.Layers, Layer{Shape: sh})
	}
	for l := range s.Layers {
		if s.Layers[l].Experts > 0 {
			r.layers = append(r.layers, &s.Layers[l])
		}
	}
	for _, step := range []func() error{r.counts, r.pairs, r.transitions} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	s.sample, err = r.sample(s.Layers)
	return s, err
}

// decode reads the JSON.
func decode(path string, text []byte) (*file, error) {
	f := new(file)
	d := json.NewDecoder(bytes.NewReader(text))
	err := d.Decode(f)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return f, nil
		}
		return nil, &Error{File: path, Line: line(text, d.InputOffset()), What: "there is text after the end of the trace", Remedy: record}
	}
	e := &Error{File: path, What: "is not a trace: " + strings.TrimPrefix(err.Error(), "json: "), Remedy: record}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		e.Line = line(text, syntax.Offset)
	case errors.As(err, &kind):
		e.Line, e.Where, e.What = line(text, kind.Offset), kind.Field, fmt.Sprintf("need a %s, have a %s", kind.Type, kind.Value)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e.Line, e.What = line(text, int64(len(text))), "is not a trace: it ends too early"
	}
	return nil, e
}

func line(text []byte, offset int64) int {
	return 1 + bytes.Count(text[:max(0, min(offset, int64(len(text))))], []byte("\n"))
}

// reader checks a trace and turns it into statistics.
type reader struct {
	*file
	path   string
	layers []*Layer // those with experts
}

func (r *reader) fail(where, format string, args ...any) error {
	return &Error{File: r.path, Where: where, What: fmt.Sprintf(format, args...), Remedy: record}
}

// shape returns the shape that the file gives its i-th layer.
func (r *reader) shape(i int) Shape {
	sh := Shape{r.Experts, r.TopK}
	if l := r.PerLayer[i]; l.Experts != 0 || l.TopK != 0 {
		sh = Shape{l.Experts, l.TopK}
	}
	return sh
}

// match compares the shape of the trace with the model's.
func (r *reader) match(shapes []Shape) error {
	if r.Tokens < 1 || r.Tokens > maxTokens {
		return r.fail("tokens", "need 1 to %d, have %d", int64(maxTokens), r.Tokens)
	}
	if len(r.PerLayer) != r.Layers {
		return r.fail("per_layer", "need an entry for each of %d layers, have %d", r.Layers, len(r.PerLayer))
	}
	n := 0
	for l, sh := range shapes {
		if sh.Experts == 0 {
			continue
		}
		if n < r.Layers && r.shape(n) != sh {
			have := r.shape(n)
			return r.fail(fmt.Sprintf("per_layer[%d]", n), "layer %d of the model chooses %d of %d experts, the trace has %d of %d", l, sh.Slots, sh.Experts, have.Slots, have.Experts)
		}
		n++
	}
	if n != r.Layers {
		return r.fail("layers", "the model has %d layers with experts, the trace has %d", n, r.Layers)
	}
	return nil
}

// counts reads how often each expert was chosen: every token fills all slots.
func (r *reader) counts() error {
	for i, l := range r.layers {
		where := fmt.Sprintf("per_layer[%d].counts", i)
		list := r.PerLayer[i].Counts
		if len(list) != l.Experts {
			return r.fail(where, "need %d numbers, have %d", l.Experts, len(list))
		}
		var sum int64
		for e, n := range list {
			if n < 0 || n > r.Tokens {
				return r.fail(where, "expert %d: need 0 to %d, the tokens, have %d", e, r.Tokens, n)
			}
			sum += n
		}
		if need := r.Tokens * int64(l.Slots); sum != need {
			return r.fail(where, "need a sum of %d, %d for each of %d tokens, have %d", need, l.Slots, r.Tokens, sum)
		}
		l.Weight = list
	}
	return nil
}

// pairs reads which experts were chosen together: with each of its tokens, an
// expert meets all other slots.
func (r *reader) pairs() error {
	for i, l := range r.layers {
		rows := r.PerLayer[i].Pairs
		if rows == nil {
			continue
		}
		where := fmt.Sprintf("per_layer[%d].co_activation", i)
		if err := r.matrix(where, rows, l.Weight, l.Experts, l.Slots-1); err != nil {
			return err
		}
		for e := range rows {
			for f := range e + 1 {
				if rows[e][f] != rows[f][e] || e == f && rows[e][f] != 0 {
					return r.fail(where, "experts %d and %d: need the same count both ways and 0 of an expert with itself, have %d and %d", f, e, rows[f][e], rows[e][f])
				}
			}
		}
		l.Pairs = rows
	}
	return nil
}

// transitions reads which experts follow which: an expert meets all slots of
// the next layer.
func (r *reader) transitions() error {
	if r.Transitions == nil {
		return nil
	}
	if need := max(0, len(r.layers)-1); len(r.Transitions) != need {
		return r.fail("transitions", "need %d tables, one between each two layers, have %d", need, len(r.Transitions))
	}
	for i, rows := range r.Transitions {
		where := fmt.Sprintf("transitions[%d]", i)
		from, to := r.layers[i], r.layers[i+1]
		if err := r.matrix(where, rows, from.Weight, to.Experts, to.Slots); err != nil {
			return err
		}
		for f, n := range to.Weight {
			var sum int64
			for e := range rows {
				sum += rows[e][f]
			}
			if need := n * int64(from.Slots); sum != need {
				return r.fail(where, "column %d: need a sum of %d, %d for each of its %d tokens, have %d", f, need, from.Slots, n, sum)
			}
		}
		from.Next = rows
	}
	return nil
}

// matrix checks a table: a row for each of the counts, whose sum is so many
// times the count.
func (r *reader) matrix(where string, rows [][]int64, counts []int64, width, times int) error {
	if len(rows) != len(counts) {
		return r.fail(where, "need %d rows, have %d", len(counts), len(rows))
	}
	for e, row := range rows {
		if len(row) != width {
			return r.fail(where, "row %d: need %d numbers, have %d", e, width, len(row))
		}
		var sum int64
		for f, n := range row {
			if n < 0 || n > r.Tokens {
				return r.fail(where, "row %d, column %d: need 0 to %d, the tokens, have %d", e, f, r.Tokens, n)
			}
			sum += n
		}
		if need := counts[e] * int64(times); sum != need {
			return r.fail(where, "row %d: need a sum of %d, %d for each of its %d tokens, have %d", e, need, times, counts[e], sum)
		}
	}
	return nil
}

// sample reads the choices of single tokens, layer by layer.
func (r *reader) sample(layers []Layer) ([][]uint16, error) {
	if len(r.Sample) == 0 {
		return nil, nil
	}
	for t, token := range r.Sample {
		where := fmt.Sprintf("sample[%d].experts", t)
		if len(token.Experts) != len(r.layers) {
			return nil, r.fail(where, "need the choices of %d layers, have %d", len(r.layers), len(token.Experts))
		}
		for i, list := range token.Experts {
			if err := r.choice(fmt.Sprintf("%s[%d]", where, i), list, r.layers[i].Shape); err != nil {
				return nil, err
			}
		}
	}
	out := make([][]uint16, len(layers))
	n := 0
	for l := range layers {
		if layers[l].Experts == 0 {
			continue
		}
		for _, token := range r.Sample {
			for _, e := range token.Experts[n] {
				out[l] = append(out[l], uint16(e))
			}
		}
		n++
	}
	return out, nil
}

// choice checks that a token chose different experts that exist.
func (r *reader) choice(where string, list []int, sh Shape) error {
	if len(list) != sh.Slots {
		return r.fail(where, "need %d experts, have %d", sh.Slots, len(list))
	}
	for i, e := range list {
		if e < 0 || e >= sh.Experts {
			return r.fail(where, "need experts from 0 to %d, have %d", sh.Experts-1, e)
		}
		for _, f := range list[:i] {
			if e == f {
				return r.fail(where, "need different experts, have %d twice", e)
			}
		}
	}
	return nil
}
