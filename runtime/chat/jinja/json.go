package jinja

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf16"
)

// filterToJSON writes JSON as Python's json.dumps does: with a space after
// commas and colons, keys in their order, no escapes for HTML.
func filterToJSON(r *run, a []Value) (Value, error) {
	w := &jsonWriter{r: r, ascii: truth(a[1]), sorted: truth(a[4]), comma: ", ", colon: ": "}
	if _, none := a[2].(None); !none {
		w.pretty, w.comma = true, ","
		var err error
		if w.indent, err = indentText(a[2]); err != nil {
			return nil, err
		}
	}
	if _, none := a[3].(None); !none {
		two, ok := sequence(a[3])
		if !ok || len(two) != 2 {
			return nil, errorf(ValueError, "separators must be two texts")
		}
		var err error
		if w.comma, err = wantText(two[0], "a separator"); err != nil {
			return nil, err
		}
		if w.colon, err = wantText(two[1], "a separator"); err != nil {
			return nil, err
		}
	}
	if err := w.write(a[0]); err != nil {
		return nil, err
	}
	return Str(w.out.String()), nil
}

func indentText(v Value) (string, error) {
	if s, ok := text(v); ok {
		return s, nil
	}
	n, err := wantInt(v, "indent")
	if err == nil && n > maxField {
		err = errorf(ValueError, "indent may be at most %d", maxField)
	}
	if err != nil {
		return "", err
	}
	return strings.Repeat(" ", max(n, 0)), nil
}

// jsonWriter writes one value as JSON.
type jsonWriter struct {
	r            *run
	out          strings.Builder
	ascii        bool // escape all that is not ASCII
	sorted       bool
	pretty       bool
	indent       string // one level's, if pretty
	comma, colon string
	depth        int
}

func (w *jsonWriter) put(s string) error {
	if w.out.Len()+len(s) > w.r.limits.Output {
		return errorf(LimitError, "a value is too large to be written as JSON")
	}
	w.out.WriteString(s)
	return w.r.charge(len(s))
}

func (w *jsonWriter) write(v Value) error {
	if err := w.r.step(); err != nil {
		return err
	}
	switch v := v.(type) {
	case Str:
		return w.text(string(v))
	case Markup:
		return w.text(string(v))
	case *Dict:
		return w.dict(v)
	}
	if items, ok := sequence(v); ok {
		return w.list(items)
	}
	s, ok := jsonScalar(v)
	if !ok {
		return errorf(TypeError, "Object of type %s is not JSON serializable", v.typeName())
	}
	return w.put(s)
}

// jsonScalar returns the JSON of a value that holds no others.
func jsonScalar(v Value) (string, bool) {
	switch v := v.(type) {
	case None:
		return "null", true
	case Bool:
		if v {
			return "true", true
		}
		return "false", true
	case Int, Big:
		return reprPlain(v), true
	case Float:
		switch f := float64(v); {
		case math.IsNaN(f):
			return "NaN", true
		case math.IsInf(f, 1):
			return "Infinity", true
		case math.IsInf(f, -1):
			return "-Infinity", true
		default:
			return floatString(f), true
		}
	}
	return "", false
}

// block writes n members between brackets.
func (w *jsonWriter) block(open, closing string, n int, member func(int) error) error {
	if n == 0 {
		return w.put(open + closing)
	}
	if w.depth++; w.depth > deepest {
		return errorf(LimitError, "values nested deeper than %d cannot be written as JSON", deepest)
	}
	if err := w.put(open); err != nil {
		return err
	}
	for i := range n {
		if i > 0 {
			if err := w.put(w.comma); err != nil {
				return err
			}
		}
		if err := w.newline(); err != nil {
			return err
		}
		if err := member(i); err != nil {
			return err
		}
	}
	w.depth--
	if err := w.newline(); err != nil {
		return err
	}
	return w.put(closing)
}

func (w *jsonWriter) newline() error {
	if !w.pretty {
		return nil
	}
	if len(w.indent)*w.depth > w.r.limits.Output {
		return w.put(strings.Repeat(" ", w.r.limits.Output+1))
	}
	return w.put("\n" + strings.Repeat(w.indent, w.depth))
}

func (w *jsonWriter) list(items []Value) error {
	return w.block("[", "]", len(items), func(i int) error { return w.write(items[i]) })
}

func (w *jsonWriter) dict(d *Dict) error {
	keys := make([]string, d.Len())
	order := make([]int, d.Len())
	for i, key := range d.keys {
		order[i] = i
		s, ok := text(key)
		if !ok {
			s, ok = jsonScalar(key)
		}
		if !ok {
			return errorf(TypeError, "keys must be str, int, float, bool or None, not %s", key.typeName())
		}
		keys[i] = s
	}
	if w.sorted {
		slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(keys[a], keys[b]) })
	}
	return w.block("{", "}", d.Len(), func(i int) error {
		if err := w.text(keys[order[i]]); err != nil {
			return err
		}
		if err := w.put(w.colon); err != nil {
			return err
		}
		return w.write(d.values[order[i]])
	})
}

// jsonEscapes holds the escapes with a letter.
var jsonEscapes = map[rune]string{
	'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\b': `\b`, '\f': `\f`,
}

func (w *jsonWriter) text(s string) error {
	var out strings.Builder
	out.WriteByte('"')
	for _, c := range s {
		letter, ok := jsonEscapes[c]
		switch {
		case ok:
			out.WriteString(letter)
		case c < ' ' || w.ascii && c > '~' && c < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, c)
		case w.ascii && c > '~':
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			out.WriteRune(c)
		}
	}
	out.WriteByte('"')
	return w.put(out.String())
}
