package dsl

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/alecthomas/participle/v2/lexer"

	"moec/ir/diag"
)

// Limits of a source file. They are far above any description in use and keep
// the time and memory for hostile ones small.
const (
	maxSource    = 1 << 18 // bytes
	maxDepth     = 64      // brackets inside brackets
	maxName      = 64      // bytes of a name
	maxNumber    = 40      // bytes of a number
	maxText      = 256     // bytes of a string
	maxStatement = 4096    // tokens of a statement
)

// keywords cannot be names. Words that are only known in some place (tokens,
// expert, the element types) are names that come with the language.
const keywords = `model|size|count|real|flag|text|list|type|expect|require|block|weight|return|` +
	`if|else|for|in|at|through|from|of|output|true|false|none|and|or|not|transposed`

// definition splits every text into tokens without an error: what fits no
// other rule is a Bad token.
var definition = lexer.MustStateful(lexer.Rules{"Root": {
	{Name: "Space", Pattern: `[ \t\r]+`},
	{Name: "Newline", Pattern: `\n`},
	{Name: "Comment", Pattern: `#[^\n]*`},
	{Name: "String", Pattern: `"[^"\n]*"`},
	{Name: "Real", Pattern: `[0-9]+(\.[0-9]+([eE][+-]?[0-9]+)?|[eE][+-]?[0-9]+)`},
	{Name: "Int", Pattern: `[0-9]+`},
	{Name: "Keyword", Pattern: `(` + keywords + `)\b`},
	{Name: "Ident", Pattern: `[A-Za-z_][A-Za-z0-9_]*`},
	{Name: "Mark", Pattern: `->|==|!=|<=|>=|//|\.\.|[-+*/%^<>=?|,:;.(){}\[\]]`},
	{Name: "Bad", Pattern: `.`},
}})

// Token types of the definition.
var (
	symbols   = definition.Symbols()
	tSpace    = symbols["Space"]
	tNewline  = symbols["Newline"]
	tComment  = symbols["Comment"]
	tString   = symbols["String"]
	tReal     = symbols["Real"]
	tInt      = symbols["Int"]
	tKeyword  = symbols["Keyword"]
	tIdent    = symbols["Ident"]
	tBad      = symbols["Bad"]
	tEOF      = lexer.EOF
	spaceLike = map[lexer.TokenType]bool{tSpace: true, tComment: true, tNewline: true}
)

// place converts a position of the lexer.
func place(p lexer.Position) diag.Pos {
	return diag.Pos{File: p.Filename, Line: p.Line, Col: p.Column}
}

// lex returns the tokens of a file, spaces left out, ending with EOF.
func lex(file string, src []byte) ([]lexer.Token, diag.List) {
	list := checkText(file, src)
	if len(list) > 0 {
		return nil, list
	}
	l := &lineLexer{list: &list}
	for text := range strings.Lines(string(src)) {
		l.line++
		l.lex(file, text)
	}
	end := lexer.Position{Filename: file, Line: l.line + 1, Column: 1}
	if n := len(src); n > 0 && src[n-1] != '\n' && len(l.tokens) > 0 {
		last := l.tokens[len(l.tokens)-1]
		end = last.Pos
		end.Column += utf8.RuneCountInString(last.Value)
	}
	return append(l.tokens, lexer.EOFToken(end)), list
}

// lineLexer collects tokens line by line, which none exceeds: the time of a
// match may grow with the text behind it.
type lineLexer struct {
	line   int
	tokens []lexer.Token
	list   *diag.List
}

func (l *lineLexer) lex(file, text string) {
	scanner, err := definition.LexString(file, text)
	bad := false // only the first character that fits nowhere is reported
	for err == nil {
		var t lexer.Token
		if t, err = scanner.Next(); t.EOF() {
			break
		}
		t.Pos.Line = l.line
		if t.Type == tSpace {
			continue
		}
		l.tokens = append(l.tokens, t)
		if (t.Type != tBad || !bad) && len(*l.list) < maxWrong {
			checkToken(t, l.list)
		}
		bad = bad || t.Type == tBad
	}
	if err != nil {
		l.list.Addf(diag.Pos{File: file, Line: l.line, Col: 1}, 1, "internal error: %v", err)
	}
}

// maxCharErrors is how many bad characters of a file are listed.
const maxCharErrors = 5

// checkText refuses what is no plain UTF-8 text.
func checkText(file string, src []byte) diag.List {
	var list diag.List
	at := diag.Pos{File: file, Line: 1, Col: 1}
	if len(src) > maxSource {
		list.Addf(at, 1, "the file has %d bytes, a description has at most %d", len(src), maxSource)
		return list
	}
	for i := 0; i < len(src) && len(list) < maxCharErrors; {
		r, n := utf8.DecodeRune(src[i:])
		switch {
		case r == utf8.RuneError && n <= 1:
			list.Addf(at, 1, "byte 0x%02x is not UTF-8; save the file as UTF-8", src[i])
		case r == '\ufeff':
			list.Addf(at, 1, "a byte order mark (U+FEFF); save the file as UTF-8 without it")
		case r != '\n' && r != '\t' && r != '\r' && unicode.IsControl(r):
			list.Addf(at, 1, "control character U+%04X; remove it", r)
		case unicode.Is(unicode.Bidi_Control, r):
			list.Addf(at, 1, "character U+%04X changes the direction of text and can hide what a line says; remove it", r)
		}
		i += n
		at.Col++
		if r == '\n' {
			at.Line++
			at.Col = 1
		}
	}
	return list
}

// checkToken applies the limits of single tokens.
func checkToken(t lexer.Token, list *diag.List) {
	at, n := place(t.Pos), utf8.RuneCountInString(t.Value)
	switch {
	case t.Type == tIdent && len(t.Value) > maxName:
		list.Addf(at, n, "a name of %d letters; names have at most %d", len(t.Value), maxName)
	case (t.Type == tInt || t.Type == tReal) && len(t.Value) > maxNumber:
		list.Addf(at, n, "a number of %d digits; numbers have at most %d", len(t.Value), maxNumber)
	case t.Type == tString && len(t.Value)-2 > maxText:
		list.Addf(at, n, "a string of %d bytes; strings have at most %d", len(t.Value)-2, maxText)
	case t.Type == tBad && t.Value == `"`:
		list.Addf(at, 1, `the string that begins here has no closing " on this line`)
	case t.Type == tBad:
		list.Addf(at, 1, "character %q has no meaning outside strings and comments%s", t.Value, insteadOf(t.Value))
	}
}

// insteadOf says what someone who types that character may be looking for.
func insteadOf(char string) string {
	switch char {
	case "'", "`", "\u201c", "\u201d", "\u2018", "\u2019":
		return `; strings are written "like this"`
	case "&":
		return "; write and"
	case "!":
		return "; write not, or != to compare"
	case "@":
		return "; a product with a weight is written linear(x, w)"
	}
	return ""
}

// describe names a token in a message.
func describe(t lexer.Token) string {
	switch {
	case t.EOF():
		return "the end of the line"
	case t.Type == tString:
		return "the string " + shorten(t.Value)
	case t.Type == tKeyword:
		return "the word " + t.Value
	case t.Type == tIdent:
		return "the name " + shorten(t.Value)
	case t.Type == tInt, t.Type == tReal:
		return "the number " + shorten(t.Value)
	}
	return `"` + t.Value + `"`
}

// shorten cuts what is too long for a message.
func shorten(s string) string {
	const longest = 48
	if utf8.RuneCountInString(s) <= longest {
		return s
	}
	r := []rune(s)
	return strings.TrimSpace(string(r[:longest-3])) + "..."
}
