package jinja

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// str is Python's str(v): what printing v gives.
func (r *run) str(v Value) (string, error) {
	switch v := v.(type) {
	case Str:
		return string(v), nil
	case Markup:
		return string(v), nil
	case *undefined:
		return "", nil
	}
	return r.repr(v)
}

// repr is Python's repr(v): how v looks inside a list.
func (r *run) repr(v Value) (string, error) {
	p := printer{limit: min(r.limits.Output, r.limits.Memory-r.memory)}
	p.repr(v)
	if p.full {
		return "", errorf(LimitError, "a value is too large or nested too deep to be printed")
	}
	return p.out.String(), r.charge(p.out.Len())
}

// brief returns the beginning of v's repr, for errors.
func brief(v Value) string {
	p := printer{limit: 60}
	p.repr(v)
	if p.full {
		s := p.out.String()
		return strings.ToValidUTF8(s[:min(len(s), 60)], "") + "..."
	}
	return p.out.String()
}

// printer writes reprs. It stops, and sets full, once it has written more than
// the limit: values that share parts can print exponentially large, and a
// namespace can hold itself.
type printer struct {
	out   strings.Builder
	limit int
	depth int
	full  bool
}

func (p *printer) put(s string) {
	if p.full {
		return
	}
	p.out.WriteString(s)
	p.full = p.out.Len() > p.limit
}

func (p *printer) repr(v Value) {
	if p.depth++; p.depth > deepest {
		p.full = true
	}
	defer func() { p.depth-- }()
	if p.full {
		return
	}
	if s, ok := text(v); ok && len(s) > p.limit-p.out.Len() {
		p.put(s[:max(p.limit-p.out.Len(), 0)])
		p.full = true
		return
	}
	switch v := v.(type) {
	case Markup:
		p.put("Markup(" + quote(string(v)) + ")")
	case *List:
		p.items("[", v.Items, "]")
	case *Tuple:
		if len(v.Items) == 1 {
			p.items("(", v.Items, ",)")
		} else {
			p.items("(", v.Items, ")")
		}
	case *Dict:
		p.dict(v)
	case *view:
		p.items(v.name+"([", v.items, "])")
	case *namespace:
		p.put("<Namespace ")
		p.dict(v.vars)
		p.put(">")
	default:
		p.put(reprPlain(v))
	}
}

func (p *printer) items(open string, items []Value, closing string) {
	p.put(open)
	for i, item := range items {
		if i > 0 {
			p.put(", ")
		}
		p.repr(item)
		if p.full {
			return
		}
	}
	p.put(closing)
}

func (p *printer) dict(d *Dict) {
	p.put("{")
	for i := range d.keys {
		if i > 0 {
			p.put(", ")
		}
		p.repr(d.keys[i])
		p.put(": ")
		p.repr(d.values[i])
		if p.full {
			return
		}
	}
	p.put("}")
}

// reprPlain is repr of a value that holds no others.
func reprPlain(v Value) string {
	switch v := v.(type) {
	case None:
		return "None"
	case Bool:
		if v {
			return "True"
		}
		return "False"
	case Int:
		return strconv.FormatInt(int64(v), 10)
	case Float:
		return floatString(float64(v))
	case Big:
		return v.n.String()
	case Str:
		return quote(string(v))
	case *span:
		if v.step == 1 {
			return fmt.Sprintf("range(%d, %d)", v.start, v.stop)
		}
		return fmt.Sprintf("range(%d, %d, %d)", v.start, v.stop, v.step)
	case *undefined:
		return "Undefined"
	case *function:
		return "<function " + v.name + ">"
	}
	return "<" + v.typeName() + " object>"
}

// floatString is Python's repr of a float: the shortest digits that give it
// back, with an exponent below 1e-4 and from 1e16 on.
func floatString(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	case math.IsNaN(f):
		return "nan"
	}
	if size := math.Abs(f); size != 0 && (size < 1e-4 || size >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// quote is Python's repr of a text.
func quote(s string) string {
	mark := '\''
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		mark = '"'
	}
	var out strings.Builder
	out.WriteRune(mark)
	for _, c := range s {
		switch {
		case c == mark || c == '\\':
			out.WriteRune('\\')
			out.WriteRune(c)
		case c == '\n':
			out.WriteString(`\n`)
		case c == '\r':
			out.WriteString(`\r`)
		case c == '\t':
			out.WriteString(`\t`)
		case c == ' ' || unicode.IsPrint(c):
			out.WriteRune(c)
		case c < 0x100:
			fmt.Fprintf(&out, `\x%02x`, c)
		case c < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, c)
		default:
			fmt.Fprintf(&out, `\U%08x`, c)
		}
	}
	out.WriteRune(mark)
	return out.String()
}

// htmlEscapes replaces what HTML gives a meaning to.
var htmlEscapes = strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;")

// escape returns v as HTML text.
func (r *run) escape(v Value) (Markup, error) {
	if m, ok := v.(Markup); ok {
		return m, nil
	}
	s, err := r.str(v)
	if err != nil {
		return "", err
	}
	// The longest replacement has five characters.
	if err := r.charge(5 * len(s)); err != nil {
		return "", err
	}
	return Markup(htmlEscapes.Replace(s)), nil
}
