package ir

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"moec/ir/diag"
)

// tokenKind is the kind of a token of the IR text.
type tokenKind uint8

const (
	endToken tokenKind = iota
	wordToken
	numberToken
	stringToken
	markToken // one character, or an unknown one
)

// token is a piece of the text; of a string, text is its value.
type token struct {
	kind tokenKind
	at   int // offset
	text string
}

// String shows a token in messages.
func (t token) String() string {
	switch t.kind {
	case endToken:
		return "the end"
	case stringToken:
		return strconv.Quote(t.text)
	}
	return t.text
}

// scanner cuts text into tokens. After the first error everything is at the
// end, so that loops over tokens stop.
type scanner struct {
	file, text string
	offset     int // after tok
	tok        token
	fresh      bool // tok is the first of its line
	err        error
}

// fail records the first error.
func (s *scanner) fail(at int, format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("%s: %s", s.pos(at), fmt.Sprintf(format, args...))
	}
	s.offset = len(s.text)
	s.tok = token{kind: endToken, at: s.offset}
}

// pos is the place of an offset.
func (s *scanner) pos(at int) diag.Pos {
	before := s.text[:at]
	start := strings.LastIndexByte(before, '\n') + 1
	return diag.Pos{File: s.file, Line: 1 + strings.Count(before, "\n"), Col: 1 + utf8.RuneCountInString(before[start:])}
}

// next reads the next token into tok.
func (s *scanner) next() {
	s.skipBlanks()
	at := s.offset
	if at == len(s.text) {
		s.tok = token{kind: endToken, at: at}
		return
	}
	c := s.text[at]
	switch {
	case letter(c):
		s.take(wordToken, func(i int) bool { c := s.text[i]; return letter(c) || digit(c) || c == '.' })
	case digit(c), c == '-':
		s.take(numberToken, s.inNumber)
	case c == '"':
		s.takeString()
	default:
		_, size := utf8.DecodeRuneInString(s.text[at:])
		s.offset += size
		s.tok = token{markToken, at, s.text[at:s.offset]}
	}
}

func (s *scanner) skipBlanks() {
	s.fresh = s.offset == 0
	for s.offset < len(s.text) {
		switch c := s.text[s.offset]; c {
		case ' ', '\t', '\r', '\n':
			s.fresh = s.fresh || c == '\n'
			s.offset++
		case '#':
			end := strings.IndexByte(s.text[s.offset:], '\n')
			if end < 0 {
				end = len(s.text) - s.offset
			}
			s.offset += end
		default:
			return
		}
	}
}

// take reads a token of a first character and all that follow and belong.
func (s *scanner) take(kind tokenKind, belongs func(int) bool) {
	at := s.offset
	s.offset++
	for s.offset < len(s.text) && belongs(s.offset) {
		s.offset++
	}
	s.tok = token{kind, at, s.text[at:s.offset]}
}

// inNumber accepts letters, digits and the point, and a sign after an exponent.
func (s *scanner) inNumber(i int) bool {
	c := s.text[i]
	if c == '-' || c == '+' {
		return s.text[i-1]|0x20 == 'e'
	}
	return letter(c) || digit(c) || c == '.'
}

func (s *scanner) takeString() {
	at := s.offset
	quoted, err := strconv.QuotedPrefix(s.text[at:])
	if err != nil {
		s.fail(at, "string has no end or a bad escape")
		return
	}
	text, err := strconv.Unquote(quoted)
	if err != nil {
		s.fail(at, "string has a bad escape")
		return
	}
	s.offset += len(quoted)
	s.tok = token{stringToken, at, text}
}

// is reports whether the next token is this word or mark.
func (s *scanner) is(text string) bool {
	return (s.tok.kind == wordToken || s.tok.kind == markToken) && s.tok.text == text
}

// accept skips the token if it is this word or mark.
func (s *scanner) accept(text string) bool {
	if !s.is(text) {
		return false
	}
	s.next()
	return true
}

// expect skips this word or mark, or fails.
func (s *scanner) expect(text string) {
	if !s.accept(text) {
		s.fail(s.tok.at, "found %s, want %q", s.tok, text)
	}
}

// word returns a bare word.
func (s *scanner) word(what string) string {
	t := s.tok
	if t.kind != wordToken {
		s.fail(t.at, "found %s, want %s", t, what)
		return ""
	}
	s.next()
	return t.text
}

// quoted returns the value of a string.
func (s *scanner) quoted(what string) string {
	t := s.tok
	if t.kind != stringToken {
		s.fail(t.at, "found %s, want %s in quotes", t, what)
		return ""
	}
	s.next()
	return t.text
}

// wordOrQuoted returns a word, which has quotes where it needs them.
func (s *scanner) wordOrQuoted(what string) string {
	if s.tok.kind == stringToken {
		return s.quoted(what)
	}
	return s.word(what)
}

// int returns an integer.
func (s *scanner) int() int {
	t := s.tok
	n, err := strconv.Atoi(t.text)
	if t.kind != numberToken || err != nil || strconv.Itoa(n) != t.text {
		s.fail(t.at, "found %s, want a whole number", t)
		return 0
	}
	s.next()
	return n
}

// float returns a number of the given width.
func (s *scanner) float(bits int) float64 {
	t := s.tok
	f, err := strconv.ParseFloat(t.text, bits)
	if t.kind != numberToken && t.kind != wordToken || err != nil {
		s.fail(t.at, "found %s, want a number of %d bits", t, bits)
		return 0
	}
	s.next()
	return f
}

// list calls element for each element between brackets.
func (s *scanner) list(element func()) {
	s.expect("[")
	for s.err == nil && !s.is("]") {
		element()
		if !s.is("]") {
			s.expect(",")
		}
	}
	s.expect("]")
}
