package plan

import (
	"bytes"
	"strings"
)

// lineWidth is how long a value may be before it is spread over lines.
const lineWidth = 120

// layout spreads compact JSON over lines so that a person can read it and a
// line diff means something: what fits a line stays on one, and so does every
// list of plain values, every step without a body and every part of a weight.
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

// skip returns the end of the value that starts at l.at.
func (l *layouter) skip() int {
	depth, quoted := 0, false
	for i := l.at; i < len(l.in); i++ {
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

// whole reports whether a long value stays on its line.
func whole(text []byte) bool {
	if bytes.HasPrefix(text, []byte(`{"op":`)) {
		return !bytes.Contains(text, []byte(`"body":[`))
	}
	if bytes.HasPrefix(text, []byte(`{"weight":`)) || bytes.HasPrefix(text, []byte(`{"name":`)) && !bytes.Contains(text, []byte(`:[{`)) {
		return true
	}
	return text[0] == '[' && !bytes.ContainsAny(text, `{"`)
}

func (l *layouter) value(depth int) {
	end := l.skip()
	text := l.in[l.at:end]
	if c := text[0]; c != '{' && c != '[' || len(text) <= lineWidth-2*depth || whole(text) {
		l.spaced(text)
		l.at = end
		return
	}
	open, last := text[0], text[len(text)-1]
	l.out.WriteByte(open)
	l.at++
	for first := true; l.in[l.at] != last; first = false {
		if !first {
			l.out.WriteByte(',')
			l.at++
		}
		l.out.WriteString("\n" + strings.Repeat("  ", depth+1))
		if open == '{' {
			colon := l.at + bytes.Index(l.in[l.at:], []byte(`":`)) + 2
			l.out.Write(l.in[l.at:colon])
			l.out.WriteByte(' ')
			l.at = colon
		}
		l.value(depth + 1)
	}
	l.out.WriteString("\n" + strings.Repeat("  ", depth))
	l.out.WriteByte(last)
	l.at++
}

// spaced writes compact text with a space after commas between members of
// objects and after colons.
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
		case c == ':', c == ',' && nest[len(nest)-1] == '{', c == ',' && i+1 < len(text) && text[i+1] == '"':
			l.out.WriteByte(' ')
		}
	}
}
