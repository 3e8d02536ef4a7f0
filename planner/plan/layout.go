package plan

import (
	"bytes"
	"strings"
)

// lineWidth is how long a value may be before it is spread over lines.
const lineWidth = 120

// layout spreads compact JSON over lines so that a person can read it and a
// line diff means something. A value that fits stays on one line, and so does
// every list of plain values and every record that is a row of a table: a
// step without a body, a part of a weight. An object that ends in a list has
// the rest on one line and the list below. Anything else has a line for each
// member.
func layout(raw []byte) []byte {
	var out bytes.Buffer
	l := layouter{in: raw, out: &out}
	l.value(0)
	out.WriteByte('\n')
	return out.Bytes()
}

type layouter struct {
	in  []byte
	out *bytes.Buffer
	at  int
}

// end returns the end of the value that starts at from.
func (l *layouter) end(from int) int {
	depth, quoted := 0, false
	for i := from; i < len(l.in); i++ {
		switch c := l.in[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return i
			}
			depth--
			if depth == 0 {
				return i + 1
			}
		case c == ',' && depth == 0:
			return i
		}
	}
	return len(l.in)
}

// row reports whether a long value stays on its line.
func row(text []byte) bool {
	switch {
	case text[0] == '[':
		return !bytes.ContainsAny(text, `{"`)
	case bytes.HasPrefix(text, []byte(`{"op":`)):
		return !bytes.Contains(text, []byte(`"body":[`))
	}
	return bytes.HasPrefix(text, []byte(`{"weight":`)) || bytes.HasPrefix(text, []byte(`{"name":`)) && !bytes.Contains(text, []byte(`:[{`))
}

func (l *layouter) value(depth int) {
	end := l.end(l.at)
	text := l.in[l.at:end]
	switch c := text[0]; {
	case c != '{' && c != '[', len(text) <= lineWidth-2*depth, row(text):
		l.spaced(text)
		l.at = end
	case c == '{' && l.hanging(depth, end):
	default:
		l.spread(depth, end)
	}
}

// spread writes each member or element on a line.
func (l *layouter) spread(depth, end int) {
	open := l.in[l.at]
	l.out.WriteByte(open)
	l.at++
	for l.at < end-1 {
		l.out.WriteString("\n" + strings.Repeat("  ", depth+1))
		if open == '{' {
			l.key()
		}
		l.value(depth + 1)
		if l.in[l.at] == ',' {
			l.out.WriteByte(',')
			l.at++
		}
	}
	l.out.WriteString("\n" + strings.Repeat("  ", depth))
	l.out.WriteByte(l.in[l.at])
	l.at++
}

// key writes the name of a member and goes on to its value.
func (l *layouter) key() {
	colon := l.at + bytes.Index(l.in[l.at:], []byte(`":`)) + 2
	l.out.Write(l.in[l.at:colon])
	l.out.WriteByte(' ')
	l.at = colon
}

// hanging writes an object that ends in a list, if none of its other members
// is a list of objects, and reports whether this is one.
func (l *layouter) hanging(depth, end int) bool {
	last := l.at + 1 // of the last member's name
	for i := last; i < end-1; {
		last = i
		i = l.end(i+bytes.Index(l.in[i:], []byte(`":`))+2) + 1
	}
	value := last + bytes.Index(l.in[last:], []byte(`":`)) + 2
	if l.in[value] != '[' || bytes.Contains(l.in[l.at:last], []byte(`[{"`)) {
		return false
	}
	l.spaced(l.in[l.at:last])
	if last > l.at+1 {
		l.out.WriteByte(' ')
	}
	l.at = last
	l.key()
	l.spread(depth, end-1)
	l.out.WriteByte('}')
	l.at++
	return true
}

// spaced writes compact text with a space after commas between members of
// objects and strings, and after colons.
func (l *layouter) spaced(text []byte) {
	quoted := false
	var nest []byte
	for i := 0; i < len(text); i++ {
		c := text[i]
		l.out.WriteByte(c)
		switch {
		case quoted && c == '\\':
			i++
			l.out.WriteByte(text[i])
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			nest = append(nest, c)
		case c == '}' || c == ']':
			nest = nest[:len(nest)-1]
		case c == ':', c == ',' && i+1 < len(text) && (nest[len(nest)-1] == '{' || text[i+1] == '"' || text[i+1] == '{'):
			l.out.WriteByte(' ')
		}
	}
}
