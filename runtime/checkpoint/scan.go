package checkpoint

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"
)

// window is the memory, in bytes, through which a scanner reads a file.
const window = 32 << 10

// scanner reads JSON strictly and in one go: no duplicate keys where the
// caller looks for them, no invalid UTF-8, no lone surrogates, no trailing
// commas, nothing after the value. It holds one window of the text and one
// string, so what a file costs is decided by what its callers keep.
type scanner struct {
	file   string
	header bool // say "header byte N" instead of line and column
	remedy string

	src    io.Reader
	buf    []byte
	unread []byte // part of buf
	err    error  // of src, but not io.EOF
	now    position
	mark   position // where errors point: the token read last
	str    []byte   // the string being read
}

// position is a place in the text. Lines and columns count from 1, in bytes.
type position struct {
	offset, lineStart int64
	line              int
}

// newScanner reads the text of a JSON file.
func newScanner(file string, src io.Reader) *scanner {
	first := position{line: 1}
	return &scanner{file: file, src: src, buf: make([]byte, window), now: first, mark: first}
}

// fail returns an error at the mark.
func (s *scanner) fail(format string, args ...any) *Error {
	e := &Error{File: s.file, What: fmt.Sprintf(format, args...), Remedy: s.remedy}
	if s.err != nil {
		e.What, e.Remedy, e.Err = "cannot be read: "+s.err.Error(), remedyDisk, s.err
	}
	if s.header {
		e.What = fmt.Sprintf("header byte %d: %s", s.mark.offset, e.What)
	} else {
		e.At = fmt.Sprintf("%d:%d", s.mark.line, s.mark.offset-s.mark.lineStart+1)
	}
	return e
}

// peek returns the next byte, or false at the end.
func (s *scanner) peek() (byte, bool) {
	for len(s.unread) == 0 {
		if s.err != nil {
			return 0, false
		}
		n, err := s.src.Read(s.buf)
		s.unread = s.buf[:n]
		if n == 0 && err != nil {
			if err != io.EOF {
				s.err = err
			}
			return 0, false
		}
	}
	return s.unread[0], true
}

// take moves past the byte that peek returned.
func (s *scanner) take() {
	c := s.unread[0]
	s.unread = s.unread[1:]
	s.now.offset++
	if c == '\n' {
		s.now.line++
		s.now.lineStart = s.now.offset
	}
}

// token skips white space, marks the place and returns the first byte of what
// follows, or false at the end.
func (s *scanner) token() (byte, bool) {
	for {
		s.skip(len(s.unread) - len(bytes.TrimLeft(s.unread, " ")))
		c, ok := s.peek()
		if !ok || c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			s.mark = s.now
			return c, ok
		}
		s.take()
	}
}

// found says in words what the next token is.
func (s *scanner) found() string {
	c, ok := s.token()
	switch {
	case !ok:
		return "the end of the text"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case c == '-' || isDigit(c):
		return "a number"
	case c == 't' || c == 'f':
		return "true or false"
	case c == 'n':
		return "null"
	case c == 'N' || c == 'I':
		return "NaN or Infinity"
	case c == 0xef && s.now.offset == 0:
		return "a byte order mark"
	case c < 0x21 || c > 0x7e:
		return fmt.Sprintf("the byte 0x%02x", c)
	}
	return strconv.QuoteRune(rune(c))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// open reads the byte that begins a value of the named kind.
func (s *scanner) open(c byte, kind string) error {
	if have, ok := s.token(); !ok || have != c {
		return s.fail("want %s, have %s", kind, s.found())
	}
	s.take()
	return nil
}

// end checks that nothing follows.
func (s *scanner) end() error {
	if _, ok := s.token(); ok || s.err != nil {
		return s.fail("there is text after the value: %s", s.found())
	}
	return nil
}

// object reads an object. It calls member after each key, which is at most max
// bytes long; member reads the value.
func (s *scanner) object(max int, member func(key string) error) error {
	if err := s.open('{', "an object"); err != nil {
		return err
	}
	if c, ok := s.token(); ok && c == '}' {
		s.take()
		return nil
	}
	for {
		key, err := s.text(max)
		if err != nil {
			return err
		}
		at := s.mark
		if err := s.open(':', "a colon after the key"); err != nil {
			return err
		}
		s.mark = at
		if err := member(key); err != nil {
			return err
		}
		if more, err := s.more('}'); err != nil || !more {
			return err
		}
	}
}

// array reads an array and calls item for each of its values; item reads it.
func (s *scanner) array(item func() error) error {
	if err := s.open('[', "an array"); err != nil {
		return err
	}
	if c, ok := s.token(); ok && c == ']' {
		s.take()
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if more, err := s.more(']'); err != nil || !more {
			return err
		}
	}
}

// more reads a comma, or the byte that closes the object or array.
func (s *scanner) more(closing byte) (bool, error) {
	c, ok := s.token()
	if !ok || c != ',' && c != closing {
		return false, s.fail("want a comma or %q, have %s", closing, s.found())
	}
	s.take()
	return c == ',', nil
}

// word reads true, false or null.
func (s *scanner) word(w string) error {
	s.token()
	for i := range len(w) {
		if c, ok := s.peek(); !ok || c != w[i] {
			return s.fail("want a value, have a word that is not %s", w)
		}
		s.take()
	}
	return nil
}

// maxNumber is the longest number, in bytes. The exact decimal form of any
// float64 that a person or a library writes is shorter.
const maxNumber = 64

// number reads a number and returns it as written.
func (s *scanner) number() (string, error) {
	if c, ok := s.token(); !ok || c != '-' && !isDigit(c) {
		return "", s.fail("want a number, have %s", s.found())
	}
	s.str = s.str[:0]
	s.accept("-")
	first, whole := len(s.str), s.digits()
	if whole == 0 || whole > 1 && s.str[first] == '0' {
		return "", s.fail("a number has digits and no leading zero")
	}
	if s.accept(".") && s.digits() == 0 {
		return "", s.fail("a number has digits after its point")
	}
	if s.accept("eE") {
		s.accept("+-")
		if s.digits() == 0 {
			return "", s.fail("a number has digits in its exponent")
		}
	}
	if len(s.str) > maxNumber {
		return "", s.fail("number is longer than %d bytes", maxNumber)
	}
	return string(s.str), nil
}

// accept takes the next byte if it is one of set.
func (s *scanner) accept(set string) bool {
	c, ok := s.peek()
	for i := range len(set) {
		if ok && c == set[i] {
			s.str = append(s.str, c)
			s.take()
			return true
		}
	}
	return false
}

// digits takes decimal digits, one more than a number may have at most, and
// returns how many there were.
func (s *scanner) digits() int {
	n := 0
	for len(s.str) <= maxNumber {
		c, ok := s.peek()
		if !ok || !isDigit(c) {
			break
		}
		s.str = append(s.str, c)
		s.take()
		n++
	}
	return n
}

// integer reads a number that is written as a plain integer in [0, 2^63).
func (s *scanner) integer() (int64, error) {
	if c, ok := s.token(); ok && c == '-' {
		return 0, s.fail("want an integer that is not negative")
	}
	text, err := s.number()
	if err != nil {
		return 0, err
	}
	var n int64
	for i := range len(text) {
		if !isDigit(text[i]) {
			return 0, s.fail("want an integer written in digits only, have %s", text)
		}
		d := int64(text[i] - '0')
		if n > (1<<63-1-d)/10 {
			return 0, s.fail("want an integer below 2^63, have %s", text)
		}
		n = n*10 + d
	}
	return n, nil
}

// discard, as a limit of text, means that the string is checked, not kept.
const discard = -1

// text reads a string of at most max bytes.
func (s *scanner) text(max int) (string, error) {
	if err := s.open('"', "a string"); err != nil {
		return "", err
	}
	begin := s.mark
	s.str = s.str[:0]
	for {
		s.plain()
		if max == discard {
			s.str = s.str[:0]
		} else if len(s.str) > max {
			s.mark = begin
			return "", s.fail("string is longer than %s", bytesOf(max))
		}
		c, ok := s.peek()
		if ok && c == '"' {
			s.take()
			s.mark = begin
			return string(s.str), nil
		}
		if err := s.char(c, ok); err != nil {
			return "", err
		}
	}
}

// plain reads what the window holds of a string up to a byte that needs a
// closer look.
func (s *scanner) plain() {
	n := 0
	for _, c := range s.unread {
		if c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			break
		}
		n++
	}
	s.str = append(s.str, s.unread[:n]...)
	s.skip(n)
}

// skip moves past n bytes of the window, none of which ends a line.
func (s *scanner) skip(n int) {
	s.unread = s.unread[n:]
	s.now.offset += int64(n)
}

// char reads one character of a string; c and ok are what peek returned.
func (s *scanner) char(c byte, ok bool) error {
	s.mark = s.now
	switch {
	case !ok:
		return s.fail("text ends inside a string")
	case c == '\\':
		return s.escape()
	case c < 0x20:
		return s.fail("string holds the control character 0x%02x unescaped", c)
	case c < utf8.RuneSelf:
		s.str = append(s.str, c)
		s.take()
		return nil
	}
	var seq [utf8.UTFMax]byte
	n := 0
	for n < len(seq) && ok && (n == 0 || c&0xc0 == 0x80) && !utf8.FullRune(seq[:n]) {
		seq[n] = c
		n++
		s.take()
		c, ok = s.peek()
	}
	if r, size := utf8.DecodeRune(seq[:n]); size != n || r == utf8.RuneError && n == 1 {
		return s.fail("text is not UTF-8 at the byte 0x%02x", seq[0])
	}
	s.str = append(s.str, seq[:n]...)
	return nil
}

// escapes maps the letter of an escape to its character.
var escapes = map[byte]byte{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// escape reads an escape sequence of a string.
func (s *scanner) escape() error {
	s.take()
	c, ok := s.peek()
	if !ok {
		return s.fail("text ends inside a string")
	}
	if plain, known := escapes[c]; known {
		s.str = append(s.str, plain)
		s.take()
		return nil
	}
	if c != 'u' {
		return s.fail("string holds an unknown escape")
	}
	r, err := s.unit()
	if err != nil {
		return err
	}
	if 0xd800 <= r && r < 0xe000 {
		if r >= 0xdc00 || !s.accepted('\\') {
			return s.fail("string holds half a surrogate pair, \\u%04x", r)
		}
		low := rune(0)
		if c, ok := s.peek(); ok && c == 'u' {
			if low, err = s.unit(); err != nil {
				return err
			}
		}
		if low < 0xdc00 || low >= 0xe000 {
			return s.fail("string holds half a surrogate pair, \\u%04x", r)
		}
		r = 0x10000 + (r-0xd800)<<10 + (low - 0xdc00)
	}
	s.str = utf8.AppendRune(s.str, r)
	return nil
}

// accepted takes the next byte if it is c.
func (s *scanner) accepted(c byte) bool {
	have, ok := s.peek()
	if ok && have == c {
		s.take()
		return true
	}
	return false
}

// unit reads the "u" and the four digits of an escape.
func (s *scanner) unit() (rune, error) {
	s.take()
	var r rune
	for range 4 {
		c, ok := s.peek()
		d := hex(c)
		if !ok || d < 0 {
			return 0, s.fail("string holds an escape without four hexadecimal digits")
		}
		r = r<<4 | d
		s.take()
	}
	return r, nil
}

// hex returns the value of a hexadecimal digit, or -1.
func hex(c byte) rune {
	switch {
	case isDigit(c):
		return rune(c - '0')
	case 'a' <= c && c <= 'f':
		return rune(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return rune(c-'A') + 10
	}
	return -1
}
