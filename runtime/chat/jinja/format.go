package jinja

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// directive is one place of a format text: how a value is written there.
type directive struct {
	left, zero, sign, space bool
	width, precision        int // precision is -1 if absent
	verb                    byte
}

// formatting is one use of Python's "text % values".
type formatting struct {
	values []Value
	named  *Dict // what %(name)s looks in, or nil
	used   int   // values written so far
	out    strings.Builder
}

// format is Python's "text % values".
func (r *run) format(format string, values Value) (Value, error) {
	f := formatting{values: []Value{values}}
	if t, ok := values.(*Tuple); ok {
		f.values = t.Items
	}
	f.named, _ = values.(*Dict)
	for {
		before, rest, found := strings.Cut(format, "%")
		f.out.WriteString(before)
		if !found {
			break
		}
		var err error
		if format, err = f.directive(r, rest); err != nil {
			return nil, err
		}
	}
	if f.used < len(f.values) && !keyable(values) {
		return nil, errorf(TypeError, "not all arguments converted during string formatting")
	}
	return Str(f.out.String()), r.charge(f.out.Len())
}

// directive writes what stands after a percent sign and returns the rest.
func (f *formatting) directive(r *run, format string) (string, error) {
	key, keyed := "", false
	if after, ok := strings.CutPrefix(format, "("); ok {
		if key, format, keyed = strings.Cut(after, ")"); !keyed {
			return "", errorf(ValueError, "incomplete format key")
		}
	}
	d, rest, err := parseDirective(format)
	if err != nil {
		return "", err
	}
	if d.verb == '%' {
		f.out.WriteByte('%')
		return rest, nil
	}
	var v Value
	if keyed {
		v, err = f.lookup(key)
	} else {
		v, err = f.next()
	}
	if err != nil {
		return "", err
	}
	written, err := r.write(d, v)
	if err != nil {
		return "", err
	}
	f.out.WriteString(written)
	return rest, r.charge(len(written))
}

func (f *formatting) lookup(key string) (Value, error) {
	if f.named == nil {
		return nil, errorf(TypeError, "format requires a mapping")
	}
	v, ok := f.named.Get(key)
	if !ok {
		return nil, errorf(KeyError, "%s", quote(key))
	}
	return v, nil
}

func (f *formatting) next() (Value, error) {
	if f.used == len(f.values) {
		return nil, errorf(TypeError, "not enough arguments for format string")
	}
	f.used++
	return f.values[f.used-1], nil
}

// keyable holds for values that Python's % takes for a mapping, and whose use it
// does not check.
func keyable(v Value) bool {
	switch v.(type) {
	case *Dict, *List, *span, *undefined:
		return true
	}
	return false
}

// maxField is the widest field and the longest precision of a format.
const maxField = 10_000

// parseDirective reads flags, width, precision and verb.
func parseDirective(s string) (directive, string, error) {
	d := directive{precision: -1}
	for s != "" && strings.IndexByte("-+ 0#", s[0]) >= 0 {
		d.left = d.left || s[0] == '-'
		d.zero = d.zero || s[0] == '0'
		d.sign = d.sign || s[0] == '+'
		d.space = d.space || s[0] == ' '
		s = s[1:]
	}
	d.width, s = leadingNumber(s)
	if after, ok := strings.CutPrefix(s, "."); ok {
		d.precision, s = leadingNumber(after)
	}
	if d.width > maxField || d.precision > maxField {
		return d, s, errorf(ValueError, "a format's width and precision may be at most %d", maxField)
	}
	if s == "" {
		return d, s, errorf(ValueError, "incomplete format")
	}
	d.verb = s[0]
	return d, s[1:], nil
}

// leadingNumber reads digits; numbers beyond maxField stop growing.
func leadingNumber(s string) (int, string) {
	n := 0
	for s != "" && isDigit(s[0]) {
		n = min(n*10+int(s[0]-'0'), maxField+1)
		s = s[1:]
	}
	return n, s
}

// write writes a value as a directive says.
func (r *run) write(d directive, v Value) (string, error) {
	var out string
	var err error
	numeric := true
	switch d.verb {
	case 's':
		out, err = r.str(v)
		numeric = false
	case 'r', 'a':
		out, err = r.repr(v)
		numeric = false
	case 'd', 'i', 'u', 'x', 'X', 'o':
		out, err = writeInt(d, v)
	case 'f', 'F', 'e', 'E', 'g', 'G':
		out, err = writeFloat(d, v)
	default:
		return "", errorf(ValueError, "unsupported format character '%c'", d.verb)
	}
	if err != nil {
		return "", err
	}
	if !numeric && d.precision >= 0 {
		runes := []rune(out)
		out = string(runes[:min(len(runes), d.precision)])
	}
	if numeric {
		out = d.signed(out)
	}
	return d.padded(out, numeric), nil
}

func writeInt(d directive, v Value) (string, error) {
	if u, ok := v.(*undefined); ok {
		return "", u.err()
	}
	f, ok := v.(Float)
	if ok && strings.IndexByte("diu", d.verb) >= 0 {
		whole := truncated(float64(f), None{})
		if _, none := whole.(None); none {
			return "", errorf(ValueError, "cannot convert float %s to integer", floatString(float64(f)))
		}
		return reprPlain(whole), nil
	}
	if !isInteger(v) {
		if b, ok := v.(Big); ok && d.verb == 'd' {
			return b.n.String(), nil
		}
		return "", errorf(TypeError, "%%%c format: a real number is required, not %s", d.verb, v.typeName())
	}
	n, _ := toInt(v)
	switch d.verb {
	case 'x':
		return strconv.FormatInt(n, 16), nil
	case 'X':
		return strings.ToUpper(strconv.FormatInt(n, 16)), nil
	case 'o':
		return strconv.FormatInt(n, 8), nil
	}
	return strconv.FormatInt(n, 10), nil
}

func writeFloat(d directive, v Value) (string, error) {
	if u, ok := v.(*undefined); ok {
		return "", u.err()
	}
	if !isNumber(v) {
		return "", errorf(TypeError, "must be real number, not %s", v.typeName())
	}
	f, _ := number(v)
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return floatString(f), nil
	}
	precision := d.precision
	if precision < 0 {
		precision = 6
	}
	// C's and Go's formats agree but for g, whose exponent begins elsewhere.
	return fmt.Sprintf("%."+strconv.Itoa(precision)+string(d.verb), f), nil
}

func (d directive) signed(s string) string {
	switch {
	case strings.HasPrefix(s, "-"):
	case d.sign:
		return "+" + s
	case d.space:
		return " " + s
	}
	return s
}

// padded fills s up to the width.
func (d directive) padded(s string, numeric bool) string {
	missing := d.width - runeCount(s)
	switch {
	case missing <= 0:
		return s
	case d.left:
		return s + strings.Repeat(" ", missing)
	case d.zero && numeric:
		sign := len(s) - len(strings.TrimLeft(s, "+- "))
		return s[:sign] + strings.Repeat("0", missing) + s[sign:]
	}
	return strings.Repeat(" ", missing) + s
}

// textFormat is the method format. Fields name an argument; going into it with
// points or brackets is refused, since that is how sandboxes are left.
func textFormat(r *run, args arguments) (Value, error) {
	s, _ := text(args.positional[0])
	values := args.positional[1:]
	var out strings.Builder
	next := 0
	for s != "" {
		at := strings.IndexAny(s, "{}")
		if at < 0 {
			out.WriteString(s)
			break
		}
		out.WriteString(s[:at])
		if at+1 < len(s) && s[at+1] == s[at] { // {{ or }}
			out.WriteByte(s[at])
			s = s[at+2:]
			continue
		}
		end := strings.IndexByte(s[at:], '}')
		if s[at] == '}' || end < 0 {
			return nil, errorf(ValueError, "Single '%c' encountered in format string", s[at])
		}
		field, spec, _ := strings.Cut(s[at+1:at+end], ":")
		s = s[at+end+1:]
		if field == "" {
			field = strconv.Itoa(next)
			next++
		}
		v, err := fieldValue(field, values, args)
		if err != nil {
			return nil, err
		}
		written, err := r.writeSpec(spec, v)
		if err != nil {
			return nil, err
		}
		if err := r.charge(len(written)); err != nil {
			return nil, err
		}
		out.WriteString(written)
	}
	return retext(args.positional[0], out.String()), r.charge(out.Len())
}

func fieldValue(field string, values []Value, args arguments) (Value, error) {
	if n, ok := digits(field); ok {
		if n >= len(values) {
			return nil, errorf(IndexError, "Replacement index %d out of range for positional args tuple", n)
		}
		return values[n], nil
	}
	for i, name := range args.names {
		if name == field {
			return args.named[i], nil
		}
	}
	if strings.ContainsAny(field, ".[!") {
		return nil, errorf(SecurityError, "the format field %s goes into its value, which is not supported", quote(field))
	}
	return nil, errorf(KeyError, "%s", quote(field))
}

// writeSpec writes a value as a field's specification says: an alignment, a sign,
// a width, a precision and a verb.
func (r *run) writeSpec(spec string, v Value) (string, error) {
	if spec == "" {
		return r.str(v)
	}
	align := byte(0)
	if strings.IndexByte("<>^", spec[0]) >= 0 {
		align, spec = spec[0], spec[1:]
	}
	if strings.HasPrefix(spec, "-") {
		spec = spec[1:]
	}
	verb := byte('s')
	if isNumber(v) {
		if _, float := v.(Float); !float {
			verb = 'd'
		}
		if align == 0 {
			align = '>'
		}
	}
	if spec == "" || isDigit(spec[len(spec)-1]) {
		spec += string(verb)
	}
	d, rest, err := parseDirective(spec)
	if err != nil {
		return "", err
	}
	if rest != "" {
		return "", errorf(ValueError, "Invalid format specifier")
	}
	width := d.width
	if align == '^' {
		d.width = 0
	}
	d.left = align == '<' || align == 0
	out, err := r.write(d, v)
	if missing := width - runeCount(out); err == nil && align == '^' && missing > 0 {
		out = strings.Repeat(" ", missing/2) + out + strings.Repeat(" ", missing-missing/2)
	}
	return out, err
}
