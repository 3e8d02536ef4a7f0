package jinja

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tokenKind is what a token is.
type tokenKind byte

const (
	tokenEnd tokenKind = iota
	tokenData
	tokenBlockBegin // {%
	tokenBlockEnd
	tokenPrintBegin // {{
	tokenPrintEnd
	tokenName
	tokenString
	tokenNumber
	tokenOperator
)

var tokenNames = [...]string{
	tokenEnd: "the end of the template", tokenData: "text", tokenBlockBegin: "'{%'", tokenBlockEnd: "'%}'",
	tokenPrintBegin: "'{{'", tokenPrintEnd: "'}}'", tokenName: "a name", tokenString: "a string",
	tokenNumber: "a number", tokenOperator: "an operator",
}

// token is a piece of the source.
type token struct {
	kind  tokenKind
	text  string // the text, name, operator or number; a string's value
	value Value  // a number's value
	line  int
}

// String describes the token for errors.
func (t token) String() string {
	switch t.kind {
	case tokenName, tokenOperator, tokenNumber:
		return quote(t.text)
	}
	return tokenNames[t.kind]
}

// lexer cuts the source of a template into tokens. White space around tags is
// dealt with here: the first newline after a block or comment goes
// (trim_blocks), and so does white space before one that begins a line
// (lstrip_blocks); a minus sign at a tag's edge takes all white space on that
// side, a plus sign none.
type lexer struct {
	name   string
	src    string
	pos    int
	line   int
	lined  int // line counts the newlines before here
	tokens []token
}

// lex returns the tokens of a template.
func lex(name, source string) ([]token, error) {
	source = strings.ReplaceAll(source, "\r\n", "\n")
	source = strings.ReplaceAll(source, "\r", "\n")
	source = strings.TrimSuffix(source, "\n")
	l := &lexer{name: name, src: source, line: 1}
	for l.pos < len(l.src) {
		if err := l.next(); err != nil {
			return nil, err
		}
	}
	l.add(tokenEnd, "", l.pos)
	return l.tokens, nil
}

func (l *lexer) add(kind tokenKind, text string, at int) {
	l.tokens = append(l.tokens, token{kind: kind, text: text, line: l.lineAt(at)})
}

// lineAt returns the line of a place; places must not go backwards.
func (l *lexer) lineAt(at int) int {
	if at > l.lined {
		l.line += strings.Count(l.src[l.lined:at], "\n")
		l.lined = at
	}
	return l.line
}

func (l *lexer) errorf(format string, args ...any) error {
	return &Error{Kind: SyntaxError, Name: l.name, Line: l.lineAt(min(l.pos, len(l.src))), Message: fmt.Sprintf(format, args...)}
}

// next reads text up to a tag, and the tag.
func (l *lexer) next() error {
	begin := l.pos
	at := tagBegin(l.src[begin:])
	if at < 0 {
		l.data(l.src[begin:], begin)
		l.pos = len(l.src)
		return nil
	}
	l.pos = begin + at
	kind := l.src[l.pos+1]
	if kind == '%' {
		if end := rawBegin(l.src[l.pos:]); end > 0 {
			l.data(l.trimmed(begin, l.pos, true), begin)
			l.pos += end
			return l.raw()
		}
	}
	l.data(l.trimmed(begin, l.pos, kind != '{'), begin)
	tag := l.pos
	l.pos += 2
	if c := l.at(0); c == '-' || c == '+' {
		l.pos++
	}
	switch kind {
	case '#':
		return l.comment()
	case '%':
		l.add(tokenBlockBegin, "", tag)
		return l.tag("%}", tokenBlockEnd)
	}
	l.add(tokenPrintBegin, "", tag)
	return l.tag("}}", tokenPrintEnd)
}

// tagBegin returns the place of the first tag.
func tagBegin(s string) int {
	for from := 0; ; {
		at := strings.IndexByte(s[from:], '{')
		if at < 0 || from+at+1 >= len(s) {
			return -1
		}
		from += at
		switch s[from+1] {
		case '{', '%', '#':
			return from
		}
		from++
	}
}

func (l *lexer) data(text string, at int) {
	if text != "" {
		l.add(tokenData, text, at)
	}
}

// trimmed returns the text from begin to the tag at end without the white space
// that the tag's sign, or lstrip_blocks if lstrip is set, takes away.
func (l *lexer) trimmed(begin, end int, lstrip bool) string {
	text := l.src[begin:end]
	sign := byte(0)
	if end+2 < len(l.src) {
		sign = l.src[end+2]
	}
	if sign == '-' {
		return strings.TrimRightFunc(text, isSpace)
	}
	if sign == '+' || !lstrip {
		return text
	}
	line := strings.LastIndexByte(text, '\n') + 1
	atLineStart := line > 0 || begin == 0 || l.src[begin-1] == '\n'
	if atLineStart && strings.TrimLeftFunc(text[line:], isSpace) == "" {
		return text[:line]
	}
	return text
}

// rawBegin returns the length of a {% raw %} at the beginning of s, or 0.
func rawBegin(s string) int {
	rest := strings.TrimPrefix(s, "{%")
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		rest = rest[1:]
	}
	rest, found := strings.CutPrefix(strings.TrimLeftFunc(rest, isSpace), "raw")
	if !found {
		return 0
	}
	rest = strings.TrimLeftFunc(rest, isSpace)
	if after, ok := strings.CutPrefix(rest, "-%}"); ok {
		return len(s) - len(strings.TrimLeftFunc(after, isSpace))
	}
	if after, ok := strings.CutPrefix(rest, "%}"); ok {
		return len(s) - len(after)
	}
	return 0
}

// raw reads text up to {% endraw %}.
func (l *lexer) raw() error {
	begin := l.pos
	for at := begin; ; at++ {
		tag := strings.Index(l.src[at:], "{%")
		if tag < 0 {
			return l.errorf("raw has no endraw")
		}
		at += tag
		rest := l.src[at+2:]
		if rest != "" && (rest[0] == '-' || rest[0] == '+') {
			rest = rest[1:]
		}
		rest, found := strings.CutPrefix(strings.TrimLeftFunc(rest, isSpace), "endraw")
		if !found {
			continue
		}
		l.pos = len(l.src) - len(strings.TrimLeftFunc(rest, isSpace))
		if !l.end("%}", true) {
			l.pos = begin
			continue
		}
		l.data(l.trimmed(begin, at, true), begin)
		return nil
	}
}

// comment reads up to the end of a comment.
func (l *lexer) comment() error {
	at := strings.Index(l.src[l.pos:], "#}")
	if at < 0 {
		return l.errorf("a comment has no end")
	}
	if at > 0 && strings.IndexByte("-+", l.src[l.pos+at-1]) >= 0 {
		at--
	}
	l.pos += at
	l.end("#}", true)
	return nil
}

// end reads the end of a tag with the white space that it takes along. A plus
// sign is known where a newline is trimmed.
func (l *lexer) end(mark string, trim bool) bool {
	rest := l.src[l.pos:]
	switch {
	case strings.HasPrefix(rest, "-"+mark):
		rest = strings.TrimLeftFunc(rest[len(mark)+1:], isSpace)
	case trim && strings.HasPrefix(rest, "+"+mark):
		rest = rest[len(mark)+1:]
	case strings.HasPrefix(rest, mark):
		rest = rest[len(mark):]
		if trim {
			rest = strings.TrimPrefix(rest, "\n")
		}
	default:
		return false
	}
	l.pos = len(l.src) - len(rest)
	return true
}

// tag reads the tokens of a block or print tag up to its end. Inside brackets
// the end is not looked for: }} may close two mappings.
func (l *lexer) tag(mark string, kind tokenKind) error {
	var open []byte
	for {
		for l.pos < len(l.src) {
			c, size := utf8.DecodeRuneInString(l.src[l.pos:])
			if !isSpace(c) {
				break
			}
			l.pos += size
		}
		if l.pos >= len(l.src) {
			return l.errorf("a tag has no end; want '%s'", mark)
		}
		at := l.pos
		if len(open) == 0 && l.end(mark, kind == tokenBlockEnd) {
			l.add(kind, "", at)
			return nil
		}
		if err := l.token(); err != nil {
			return err
		}
		last := l.tokens[len(l.tokens)-1]
		if last.kind != tokenOperator {
			continue
		}
		switch closing := closers[last.text]; {
		case closing != 0:
			open = append(open, closing)
		case strings.Contains(")]}", last.text):
			if len(open) == 0 || open[len(open)-1] != last.text[0] {
				return l.errorf("unexpected '%s'", last.text)
			}
			open = open[:len(open)-1]
		}
	}
}

// closers maps opening brackets to closing ones.
var closers = map[string]byte{"(": ')', "[": ']', "{": '}'}

// operators holds all operators, the longer ones first.
var operators = []string{"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":", "|", ",", ";"}

// token reads one token inside a tag.
func (l *lexer) token() error {
	rest := l.src[l.pos:]
	c, _ := utf8.DecodeRuneInString(rest)
	switch {
	case c == '\'' || c == '"':
		return l.string(byte(c))
	case '0' <= c && c <= '9':
		return l.number()
	case c == '_' || unicode.IsLetter(c):
		end := strings.IndexFunc(rest, func(c rune) bool {
			return c != '_' && !unicode.IsLetter(c) && !unicode.IsNumber(c) && !unicode.Is(unicode.M, c)
		})
		if end < 0 {
			end = len(rest)
		}
		l.add(tokenName, rest[:end], l.pos)
		l.pos += end
		return nil
	}
	for _, op := range operators {
		if strings.HasPrefix(rest, op) {
			l.add(tokenOperator, op, l.pos)
			l.pos += len(op)
			return nil
		}
	}
	return l.errorf("unexpected character %s", quote(string(c)))
}

func (l *lexer) at(i int) byte {
	if l.pos+i < len(l.src) {
		return l.src[l.pos+i]
	}
	return 0
}

// isSpace holds for what Python calls space: Unicode's white space and the four
// separators of ASCII.
func isSpace(c rune) bool {
	return unicode.IsSpace(c) || 0x1c <= c && c <= 0x1f
}
