// Package strictjson reads JSON that nobody vouches for.
//
// In goes the text of one document; out come its values, one at a time and in
// the order written, through a Reader that walks the text without building a
// tree. A Reader is small and may be copied: a copy is a bookmark that can be
// read later. Unlike encoding/json it refuses duplicate names, invalid UTF-8,
// lone surrogates, text after the value and nesting beyond a fixed depth, and
// every error names the document, the line and the column. It never allocates
// more than the text's own size for a value and never panics on its input.
package strictjson

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxDepth is the deepest nesting of objects and arrays that is read. Files of
// this kind nest fewer than ten levels; the cap bounds the stack.
const MaxDepth = 128

// Kind says what the next value is.
type Kind byte

// The kinds of values, and End for the end of the text.
const (
	End Kind = iota
	Object
	Array
	String
	Number
	Bool
	Null
	Bad
)

// kindNames holds what a kind is called in errors.
var kindNames = [...]string{
	End: "the end of the text", Object: "an object", Array: "an array", String: "a string",
	Number: "a number", Bool: "true or false", Null: "null", Bad: "no JSON value",
}

// String returns what the kind is called in errors.
func (k Kind) String() string { return kindNames[k] }

// Error is a fault in the text, with its place.
type Error struct {
	Name         string // the document's name, usually its file
	Line, Column int    // 1-based; the column counts bytes
	Problem      string
}

// Error returns "name:line:column: problem".
func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", e.Name, e.Line, e.Column, e.Problem)
}

// Reader walks one document. The zero value is not usable; call New.
type Reader struct {
	name  string
	text  string
	pos   int
	last  int // where the value read last begins; errors point there
	depth int
}

// New returns a Reader that stands before the document's value.
func New(name string, data []byte) (*Reader, error) {
	r := &Reader{name: name, text: string(data)}
	if !utf8.ValidString(r.text) {
		r.last = firstInvalid(r.text)
		return nil, r.Errorf("the byte 0x%02x is not UTF-8; save the file as UTF-8", r.text[r.last])
	}
	if strings.HasPrefix(r.text, "\uFEFF") {
		return nil, r.Errorf("the text begins with a byte order mark; save the file as UTF-8 without one")
	}
	return r, nil
}

func firstInvalid(s string) int {
	for i := 0; i < len(s); {
		c, size := utf8.DecodeRuneInString(s[i:])
		if c == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(s)
}

// Errorf returns an Error at the value that was read last.
func (r *Reader) Errorf(format string, args ...any) error {
	at := min(r.last, len(r.text))
	before := r.text[:at]
	return &Error{
		Name:    r.name,
		Line:    1 + strings.Count(before, "\n"),
		Column:  at - strings.LastIndexByte(before, '\n'),
		Problem: fmt.Sprintf(format, args...),
	}
}

// Peek returns the kind of the next value without reading it.
func (r *Reader) Peek() Kind {
	r.space()
	if r.pos >= len(r.text) {
		return End
	}
	switch c := r.text[r.pos]; {
	case c == '{':
		return Object
	case c == '[':
		return Array
	case c == '"':
		return String
	case c == '-' || '0' <= c && c <= '9':
		return Number
	case c == 't' || c == 'f':
		return Bool
	case c == 'n':
		return Null
	}
	return Bad
}

func (r *Reader) space() {
	for r.pos < len(r.text) {
		switch r.text[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

// want checks that the next value has the kind and marks its beginning.
func (r *Reader) want(kind Kind) error {
	have := r.Peek()
	r.last = r.pos
	if have != kind {
		return r.Errorf("want %v, have %v", kind, have)
	}
	return nil
}

// End reports an error unless only white space is left.
func (r *Reader) End() error {
	if r.Peek() == End {
		return nil
	}
	r.last = r.pos
	return r.Errorf("there is text after the value")
}

// Null reads a null if the next value is one and reports whether it was.
func (r *Reader) Null() bool {
	return r.Peek() == Null && r.word("null") == nil
}

// Bool reads true or false.
func (r *Reader) Bool() (bool, error) {
	if err := r.want(Bool); err != nil {
		return false, err
	}
	if r.text[r.pos] == 't' {
		return true, r.word("true")
	}
	return false, r.word("false")
}

func (r *Reader) word(w string) error {
	r.last = r.pos
	if !strings.HasPrefix(r.text[r.pos:], w) {
		return r.Errorf("have no JSON value; want %s or another", w)
	}
	r.pos += len(w)
	return nil
}

// Number reads a number and returns it as written.
func (r *Reader) Number() (string, error) {
	if err := r.want(Number); err != nil {
		return "", err
	}
	i := r.pos
	if r.text[i] == '-' {
		i++
	}
	whole := r.digits(i)
	if whole == i || whole > i+1 && r.text[i] == '0' {
		return "", r.Errorf("a number wants digits and no leading zero")
	}
	i = whole
	if r.at(i) == '.' {
		end := r.digits(i + 1)
		if end == i+1 {
			return "", r.Errorf("a number wants digits after its point")
		}
		i = end
	}
	if c := r.at(i); c == 'e' || c == 'E' {
		i++
		if c := r.at(i); c == '+' || c == '-' {
			i++
		}
		end := r.digits(i)
		if end == i {
			return "", r.Errorf("a number wants digits after its exponent's e")
		}
		i = end
	}
	literal := r.text[r.pos:i]
	r.pos = i
	return literal, nil
}

func (r *Reader) at(i int) byte {
	if i < len(r.text) {
		return r.text[i]
	}
	return 0
}

func (r *Reader) digits(i int) int {
	for i < len(r.text) && '0' <= r.text[i] && r.text[i] <= '9' {
		i++
	}
	return i
}

// Int reads a number that is written as an integer and fits int64.
func (r *Reader) Int() (int64, error) {
	literal, err := r.Number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(literal, 10, 64)
	if err != nil {
		return 0, r.Errorf("want an integer below 2^63, have %.40s", literal)
	}
	return n, nil
}

// Object reads an object and calls visit for each member with the Reader
// before the member's value, which visit must read. A repeated name is an error.
func (r *Reader) Object(visit func(name string) error) error {
	seen := make(map[string]bool)
	return r.Table(func(name string) error {
		if seen[name] {
			return r.Errorf("the name %q is there twice; keep one", name)
		}
		seen[name] = true
		return visit(name)
	})
}

// Table is Object for big objects whose caller keeps the names itself and
// therefore also finds repeated ones.
func (r *Reader) Table(visit func(name string) error) error {
	return r.list(Object, '}', func(int) error {
		name, err := r.String()
		if err != nil {
			return err
		}
		if r.space(); r.at(r.pos) != ':' {
			return r.Errorf("want a colon after the name %q", name)
		}
		r.pos++
		return visit(name)
	})
}

// Array reads an array and calls visit for each element with the Reader before
// the element, which visit must read.
func (r *Reader) Array(visit func(index int) error) error {
	return r.list(Array, ']', visit)
}

func (r *Reader) list(kind Kind, closing byte, visit func(index int) error) error {
	if err := r.want(kind); err != nil {
		return err
	}
	if r.depth++; r.depth > MaxDepth {
		return r.Errorf("nested deeper than %d levels", MaxDepth)
	}
	r.pos++
	if r.space(); r.at(r.pos) == closing {
		r.pos++
		r.depth--
		return nil
	}
	for index := 0; ; index++ {
		if err := visit(index); err != nil {
			return err
		}
		r.space()
		switch r.at(r.pos) {
		case ',':
			r.pos++
		case closing:
			r.pos++
			r.depth--
			return nil
		default:
			r.last = r.pos
			return r.Errorf("want a comma or %q, have %v", closing, r.found())
		}
	}
}

// found names what stands at the current place, for errors.
func (r *Reader) found() string {
	if r.pos >= len(r.text) {
		return End.String()
	}
	c, _ := utf8.DecodeRuneInString(r.text[r.pos:])
	return strconv.QuoteRune(c)
}

// Skip reads the next value, checks it and drops it.
func (r *Reader) Skip() error {
	switch kind := r.Peek(); kind {
	case Object:
		return r.Object(func(string) error { return r.Skip() })
	case Array:
		return r.Array(func(int) error { return r.Skip() })
	case String:
		_, err := r.String()
		return err
	case Number:
		_, err := r.Number()
		return err
	case Bool:
		_, err := r.Bool()
		return err
	case Null:
		return r.word("null")
	default:
		r.last = r.pos
		return r.Errorf("want a value, have %v", r.found())
	}
}

// Pass is Skip for big tables: it leaves repeated names to a later reading.
func (r *Reader) Pass() error {
	if r.Peek() == Object {
		return r.Table(func(string) error { return r.Pass() })
	}
	return r.Skip()
}
