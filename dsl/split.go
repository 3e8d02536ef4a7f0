package dsl

import (
	"github.com/alecthomas/participle/v2/lexer"

	"moec/ir/diag"
)

// line is one statement before it is parsed: its tokens up to the body, and
// the statements of the body. A statement usually is a line of the file; it
// goes on inside ( ) and [ ], after an operator, and when the next line begins
// with one.
type line struct {
	tokens []lexer.Token
	braced bool
	broken bool // a bracket does not fit, which has been reported
	body   []*line
	end    diag.Pos // just past the tokens
}

func (l *line) pos() diag.Pos { return place(l.tokens[0].Pos) }

// splitter cuts tokens into statements. It never gives up: a bracket that is
// not closed ends where a new statement must begin.
type splitter struct {
	tokens []lexer.Token
	at     int
	list   diag.List
	open   []lexer.Token // braces
}

// split returns the statements of a file.
func split(tokens []lexer.Token) ([]*line, diag.List) {
	s := &splitter{tokens: tokens}
	lines := s.lines()
	for s.peek().Value == "}" && !s.peek().EOF() {
		s.list.Addf(place(s.peek().Pos), 1, "this } closes nothing")
		s.at++
		lines = append(lines, s.lines()...)
	}
	return lines, s.list
}

func (s *splitter) peek() lexer.Token { return s.tokens[s.at] }

// is reports whether the next token is that mark or word.
func (s *splitter) is(value string) bool {
	t := s.peek()
	return t.Value == value && t.Type != tString && t.Type != tComment
}

// lines reads statements up to a closing brace or the end of the file.
func (s *splitter) lines() []*line {
	var lines []*line
	for !s.peek().EOF() && !s.is("}") {
		if t := s.peek(); spaceLike[t.Type] || t.Value == ";" {
			s.at++
			continue
		}
		if l := s.line(); l != nil {
			lines = append(lines, l)
		}
		if s.topLevelInside() {
			break
		}
	}
	return lines
}

// topLevelInside reports whether a statement that only stands at the top level
// begins inside a body, which then lacks its closing brace.
func (s *splitter) topLevelInside() bool {
	if len(s.open) == 0 {
		return false
	}
	i := s.at
	for spaceLike[s.tokens[i].Type] || s.tokens[i].Value == ";" {
		i++
	}
	return topLevelOnly[s.tokens[i].Value] && s.tokens[i].Type == tKeyword
}

// line reads one statement and its body.
func (s *splitter) line() *line {
	l := &line{}
	errors := len(s.list)
	l.tokens = s.header()
	l.broken = len(s.list) > errors
	last := l.tokens
	if len(last) > 0 {
		t := last[len(last)-1]
		l.end = place(t.Pos)
		l.end.Col += len([]rune(t.Value))
	}
	if s.is("{") {
		s.body(l)
	}
	if len(l.tokens) == 0 {
		return nil
	}
	if len(l.tokens) > maxStatement {
		s.list.Addf(l.pos(), 1, "a statement of %d words and marks; statements have at most %d", len(l.tokens), maxStatement)
		return nil
	}
	return l
}

// body reads { statements }.
func (s *splitter) body(l *line) {
	brace := s.peek()
	if len(l.tokens) == 0 {
		s.list.Addf(place(brace.Pos), 1, "this { follows no block, if, else or for")
	}
	s.at++
	l.braced = true
	s.open = append(s.open, brace)
	if len(s.open) > maxDepth {
		s.list.Addf(place(brace.Pos), 1, "more than %d brackets inside each other", maxDepth)
		s.at = len(s.tokens) - 1
		s.open = s.open[:0]
		return
	}
	l.body = s.lines()
	if len(s.open) == 0 {
		return // gave up inside
	}
	s.open = s.open[:len(s.open)-1]
	if s.is("}") {
		s.at++
		return
	}
	what := "the end of the file"
	if !s.peek().EOF() {
		what = "the next statement of the top level"
	}
	s.list.Addf(place(brace.Pos), 1, "this { has no } before %s", what)
}

// header collects the tokens of a statement up to its body or its end.
func (s *splitter) header() []lexer.Token {
	var tokens []lexer.Token
	var open []lexer.Token
	for ; ; s.at++ {
		t := s.peek()
		switch {
		case t.EOF():
			s.unclosed(open)
			return tokens
		case t.Type == tComment:
			continue
		case t.Type == tNewline:
			if len(open) > 0 && s.resumes() {
				s.unclosed(open)
				return tokens
			}
			if len(open) == 0 && !s.continues(tokens) {
				return tokens
			}
			continue
		case t.Value == "{" || t.Value == "}" || t.Value == ";":
			s.unclosed(open)
			return tokens
		case t.Value == "(" || t.Value == "[":
			if len(open)+len(s.open) >= maxDepth {
				s.list.Addf(place(t.Pos), 1, "more than %d brackets inside each other", maxDepth)
				s.at = len(s.tokens) - 1
				return nil
			}
			open = append(open, t)
		case t.Value == ")" || t.Value == "]":
			var ok bool
			if open, ok = s.closes(open, t); !ok {
				continue
			}
			tokens = withoutTrailingComma(tokens)
		}
		tokens = append(tokens, t)
	}
}

// withoutTrailingComma drops a comma before a closing bracket.
func withoutTrailingComma(tokens []lexer.Token) []lexer.Token {
	if n := len(tokens); n > 1 && tokens[n-1].Value == "," && tokens[n-2].Value != "(" && tokens[n-2].Value != "[" {
		return tokens[:n-1]
	}
	return tokens
}

// closes pops the bracket that t closes; a bracket that does not fit is left out.
func (s *splitter) closes(open []lexer.Token, t lexer.Token) ([]lexer.Token, bool) {
	if len(open) == 0 {
		s.list.Addf(place(t.Pos), 1, "this %s closes nothing", t.Value)
		return open, false
	}
	last := open[len(open)-1]
	if want := map[string]string{"(": ")", "[": "]"}[last.Value]; want != t.Value {
		d := diag.Diagnostic{Pos: place(t.Pos), Message: "this " + t.Value + " stands where " + want + " is due"}
		s.list.Add(d.Noted(place(last.Pos), "the %s that is open", last.Value))
		return open, false
	}
	return open[:len(open)-1], true
}

func (s *splitter) unclosed(open []lexer.Token) {
	if len(open) > 0 {
		last := open[len(open)-1]
		s.list.Addf(place(last.Pos), 1, "this %s is never closed", last.Value)
	}
}

// next returns the first token after the newline at hand that is no space.
func (s *splitter) next() lexer.Token {
	i := s.at
	for spaceLike[s.tokens[i].Type] {
		i++
	}
	return s.tokens[i]
}

// resumes reports whether the line after a newline inside brackets begins a
// statement.
func (s *splitter) resumes() bool {
	t := s.next()
	return t.EOF() || t.Value == "}" || t.Type == tKeyword && beginsStatement[t.Value]
}

// continues reports whether a statement goes on after the newline at hand.
func (s *splitter) continues(tokens []lexer.Token) bool {
	if len(tokens) > 0 && goesOn(tokens[len(tokens)-1]) {
		return !s.resumes()
	}
	t := s.next()
	if t.Value == "else" {
		return unanswered(tokens)
	}
	return comesAfter[t.Value] && t.Type != tString
}

// unanswered reports whether an if among the tokens lacks its else.
func unanswered(tokens []lexer.Token) bool {
	n := 0
	for _, t := range tokens {
		switch {
		case t.Type != tKeyword:
		case t.Value == "if":
			n++
		case t.Value == "else":
			n--
		}
	}
	return n > 0
}

// goesOn reports whether a statement cannot end with t.
func goesOn(t lexer.Token) bool {
	return t.Type != tString && (comesAfter[t.Value] || t.Value == "not") && t.Value != "?"
}

// comesAfter lists what stands between two parts of a statement.
var comesAfter = set("+", "-", "*", "/", "//", "%", "^", "|", ",", "=", "==", "!=", "<", "<=", ">", ">=",
	"->", ":", ".", "..", "and", "or", "in", "else", "at", "through", "from", "of")

// beginsStatement lists the words that begin a statement and stand nowhere
// inside the brackets of one.
var beginsStatement = set("model", "expect", "require", "block", "weight", "return", "output", "for", "size",
	"count", "real", "flag", "text", "list", "type")

// topLevelOnly lists the words that begin a statement of the top level.
var topLevelOnly = set("model", "expect", "block", "output", "size", "count", "real", "flag", "text", "list", "type")

func set(words ...string) map[string]bool {
	m := make(map[string]bool, len(words))
	for _, w := range words {
		m[w] = true
	}
	return m
}
