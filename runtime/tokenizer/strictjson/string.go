package strictjson

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// String reads a string. Without escapes the result shares the document's
// memory and costs no allocation.
func (r *Reader) String() (string, error) {
	if err := r.want(String); err != nil {
		return "", err
	}
	begin := r.pos + 1
	for i := begin; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '"':
			r.pos = i + 1
			return r.text[begin:i], nil
		case c == '\\':
			return r.escaped(begin, i)
		case c < ' ':
			return "", r.Errorf("the string holds the control character %#02x; write it as an escape", c)
		}
	}
	return "", r.Errorf("the string has no closing quote")
}

// escaped reads the rest of a string that begins at begin and has its first
// backslash at i.
func (r *Reader) escaped(begin, i int) (string, error) {
	var out strings.Builder
	out.WriteString(r.text[begin:i])
	for i < len(r.text) {
		switch c := r.text[i]; {
		case c == '"':
			r.pos = i + 1
			return out.String(), nil
		case c == '\\':
			value, next, err := r.escape(i + 1)
			if err != nil {
				return "", err
			}
			out.WriteRune(value)
			i = next
		case c < ' ':
			return "", r.Errorf("the string holds the control character %#02x; write it as an escape", c)
		default:
			out.WriteByte(c)
			i++
		}
	}
	return "", r.Errorf("the string has no closing quote")
}

// simpleEscapes maps the letter after a backslash to what it stands for.
var simpleEscapes = map[byte]rune{
	'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t',
}

// escape decodes the escape whose letter is at i and returns the place after it.
func (r *Reader) escape(i int) (rune, int, error) {
	letter := r.at(i)
	if value, ok := simpleEscapes[letter]; ok {
		return value, i + 1, nil
	}
	if letter != 'u' {
		return 0, 0, r.Errorf("the string holds the unknown escape \\%c", letter)
	}
	value, ok := r.hex(i + 1)
	if !ok {
		return 0, 0, r.Errorf("the string holds a \\u without four hexadecimal digits")
	}
	if !utf16.IsSurrogate(value) {
		return value, i + 5, nil
	}
	if r.at(i+5) == '\\' && r.at(i+6) == 'u' {
		if low, ok := r.hex(i + 7); ok {
			if pair := utf16.DecodeRune(value, low); pair != utf8.RuneError {
				return pair, i + 11, nil
			}
		}
	}
	return 0, 0, r.Errorf("the string holds the lone surrogate \\u%04x, which is no character", value)
}

// hex reads four hexadecimal digits at i.
func (r *Reader) hex(i int) (rune, bool) {
	if i+4 > len(r.text) {
		return 0, false
	}
	n, err := strconv.ParseUint(r.text[i:i+4], 16, 16)
	return rune(n), err == nil
}
