package dsl

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/participle/v2/lexer"

	"moec/ir/diag"
)

// Format returns the canonical layout of a description: spaces, indents and
// columns are the language's, line breaks and comments the author's. Its
// result formats to itself. A file that does not parse is not formatted.
func Format(file string, src []byte) ([]byte, diag.List) {
	if _, list := parse(file, src); len(list) > 0 {
		f := &File{Name: file, source: src}
		return nil, f.capped(list)
	}
	tokens, _ := lex(file, src)
	f := &formatter{tokens: tokens}
	f.rows()
	f.align()
	out := f.print()
	if again, list := lex(file, out); len(list) > 0 || !sameTokens(tokens, again) {
		return nil, diag.List{{Pos: diag.Pos{File: file, Line: 1, Col: 1}, Message: "internal error: formatting would change the meaning of the file; it is left as it is"}}
	}
	return out, nil
}

// sameTokens reports whether two texts say the same, line breaks aside.
func sameTokens(a, b []lexer.Token) bool {
	said := func(list []lexer.Token) []string {
		var out []string
		for i, t := range list {
			switch {
			case t.Type == tNewline, t.Value == ";" && t.Type != tString, idleComma(list, i):
			case t.Type == tComment:
				out = append(out, comment(t.Value))
			default:
				out = append(out, t.Value)
			}
		}
		return out
	}
	return slices.Equal(said(a), said(b))
}

// idleComma reports whether token i is a comma right before a closing bracket.
func idleComma(list []lexer.Token, i int) bool {
	return list[i].Value == "," && i+1 < len(list) && (list[i+1].Value == ")" || list[i+1].Value == "]")
}

// comment puts a space between # and what follows.
func comment(text string) string {
	text = strings.TrimRight(text, " \t\r")
	if rest := strings.TrimLeft(text, "#"); rest != "" && rest[0] != ' ' && rest[0] != '!' {
		text = text[:len(text)-len(rest)] + " " + rest
	}
	return text
}

// row is a line of the result.
type row struct {
	tokens  []lexer.Token
	comment string
	indent  int
	blank   bool // an empty line comes before
	goesOn  bool // it continues a statement
	cells   []string
}

const indentWidth = 2

type formatter struct {
	tokens []lexer.Token
	list   []*row
	row    *row
	braces int
	open   int  // ( and [
	inside bool // a statement is not at its end
	blank  bool
}

// rows cuts the tokens into lines.
func (f *formatter) rows() {
	f.row = &row{}
	breaks := 0
	for i, t := range f.tokens {
		if t.Type != tNewline {
			breaks = 0
		}
		switch {
		case t.EOF():
			f.endRow()
		case t.Type == tNewline:
			if breaks++; breaks > 1 {
				f.blank = true
			}
			if !f.elseFollows(i) {
				f.endRow()
			}
		case t.Type == tComment:
			f.row.comment = comment(t.Value)
			f.endRow()
		case t.Value == ";" && t.Type != tString:
			f.endRow()
			f.inside = false
		case t.Value == "{":
			f.add(t)
			f.braces++
			f.inside = false
			f.endBefore(i)
		case t.Value == "}":
			f.endRow()
			f.blank = false
			f.braces--
			f.inside = false
			f.add(t)
			if !f.elseFollows(i + 1) {
				f.endBefore(i)
			}
		case idleComma(f.tokens, i):
		default:
			f.add(t)
		}
	}
}

// elseFollows reports whether only line breaks come between a closing brace
// that the row at hand begins with and an else.
func (f *formatter) elseFollows(i int) bool {
	if len(f.row.tokens) != 1 || f.row.tokens[0].Value != "}" {
		return false
	}
	for f.tokens[i].Type == tNewline {
		i++
	}
	return f.tokens[i].Value == "else"
}

// endBefore ends the row unless a comment follows on its line.
func (f *formatter) endBefore(i int) {
	if f.tokens[i+1].Type != tComment {
		f.endRow()
	}
}

// add appends a token to the row.
func (f *formatter) add(t lexer.Token) {
	r := f.row
	if len(r.tokens) == 0 {
		r.goesOn = f.open > 0 || f.inside || len(f.list) > 0 && t.Type != tString && t.Value != "else" && comesAfter[t.Value]
		if t.Value == "else" {
			r.goesOn = f.continuesWithElse()
		}
		depth := f.braces
		if r.goesOn && t.Value != ")" && t.Value != "]" {
			depth++
		}
		r.indent = depth * indentWidth
	}
	switch t.Value {
	case "(", "[":
		f.open++
	case ")", "]":
		f.open--
	}
	f.inside = f.open > 0 || goesOn(t)
	r.tokens = append(r.tokens, t)
}

// continuesWithElse reports whether an else at the start of a row belongs to
// an expression, not to a closing brace.
func (f *formatter) continuesWithElse() bool {
	for i := len(f.list) - 1; i >= 0; i-- {
		if n := len(f.list[i].tokens); n > 0 {
			return f.list[i].tokens[n-1].Value != "}"
		}
	}
	return false
}

func (f *formatter) endRow() {
	r := f.row
	if len(r.tokens) == 0 && r.comment == "" {
		return
	}
	if len(r.tokens) == 0 {
		r.goesOn = f.open > 0 || f.inside
		r.indent = f.braces * indentWidth
		if r.goesOn {
			r.indent += indentWidth
		}
	}
	r.blank = f.blank && len(f.list) > 0 && !opens(f.list[len(f.list)-1])
	f.blank = false
	f.list = append(f.list, r)
	f.row = &row{}
}

// opens reports whether a row ends with an opening brace.
func opens(r *row) bool {
	n := len(r.tokens)
	return n > 0 && r.tokens[n-1].Value == "{"
}

// align cuts rows into cells and pads those of neighbours to columns.
func (f *formatter) align() {
	for _, r := range f.list {
		r.cells = r.cut()
	}
	f.runs(func(a, b *row) bool { return len(a.cells) > 1 && kindOfRow(a) == kindOfRow(b) && !b.goesOn }, padCells)
	f.runs(func(a, b *row) bool {
		return len(a.tokens) > 0 && len(b.tokens) > 0 && a.comment != "" && b.comment != ""
	}, padComments)
}

// runs calls pad for each longest run of neighbours of which each and the next
// are alike.
func (f *formatter) runs(alike func(a, b *row) bool, pad func([]*row)) {
	for i := 0; i < len(f.list); {
		j := i + 1
		for j < len(f.list) && !f.list[j].blank && f.list[j].indent == f.list[i].indent && alike(f.list[j-1], f.list[j]) {
			j++
		}
		pad(f.list[i:j])
		i = j
	}
}

// kindOfRow says which rows have columns in common: settings of all kinds, or
// rows that begin with the same word.
func kindOfRow(r *row) string {
	if len(r.tokens) == 0 || r.goesOn {
		return ""
	}
	if _, ok := kinds[r.tokens[0].Value]; ok {
		return "setting"
	}
	return r.tokens[0].Value
}

// cut splits a row where columns may begin.
func (r *row) cut() []string {
	kind := kindOfRow(r)
	var cells []string
	start, depth := 0, 0
	var stops []string
	switch kind {
	case "setting":
		stops = []string{"", "=", "from"}
	case "weight":
		stops = []string{"="}
	}
	for i, t := range r.tokens {
		switch t.Value {
		case "(", "[":
			depth++
		case ")", "]":
			depth--
		}
		if len(stops) == 0 || depth > 0 || i == 0 {
			continue
		}
		if stop := stops[0]; stop == "" && t.Type == tIdent || stop != "" && t.Value == stop {
			cells = append(cells, join(r.tokens[:i], start))
			start, stops = i, stops[1:]
		}
	}
	return append(cells, join(r.tokens, start))
}

// padCells makes the cells of rows columns.
func padCells(rows []*row) {
	for column := 0; ; column++ {
		widest := 0
		for _, r := range rows {
			if column < len(r.cells)-1 {
				widest = max(widest, utf8.RuneCountInString(r.cells[column]))
			}
		}
		if widest == 0 {
			return
		}
		for _, r := range rows {
			if column < len(r.cells)-1 {
				r.cells[column] = padded(r.cells[column], widest)
			}
		}
	}
}

// padComments makes the comments of rows begin in one column.
func padComments(rows []*row) {
	if len(rows) < 2 {
		return
	}
	widest := 0
	for _, r := range rows {
		widest = max(widest, utf8.RuneCountInString(strings.Join(r.cells, " ")))
	}
	for _, r := range rows {
		r.cells = []string{padded(strings.Join(r.cells, " "), widest)}
	}
}

func padded(s string, width int) string {
	return s + strings.Repeat(" ", width-utf8.RuneCountInString(s))
}

func (f *formatter) print() []byte {
	var out strings.Builder
	for _, r := range f.list {
		if r.blank {
			out.WriteByte('\n')
		}
		text := strings.Repeat(" ", r.indent) + strings.Join(r.cells, " ")
		switch {
		case r.comment == "":
		case len(r.tokens) == 0:
			text += r.comment
		default:
			text += "  " + r.comment
		}
		out.WriteString(strings.TrimRight(text, " ") + "\n")
	}
	return []byte(out.String())
}

// join writes the tokens from start on with spaces where the language has
// them; earlier ones only tell what brackets are open.
func join(tokens []lexer.Token, start int) string {
	var out strings.Builder
	var open []string
	square := func() bool { return slices.Contains(open, "[") }
	for i, t := range tokens {
		if i > start && spaced(tokens, i, len(open) > 0 && open[len(open)-1] == "[", square()) {
			out.WriteByte(' ')
		}
		if i >= start {
			out.WriteString(t.Value)
		}
		switch t.Value {
		case "(", "[":
			open = append(open, t.Value)
		case ")", "]":
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		}
	}
	return out.String()
}

// tight are the marks without spaces on either side.
var tight = set("^", ".", "..")

// products are the operators that are tight inside [ ].
var products = set("*", "/", "//", "%")

// spaced reports whether a space stands before token i. inIndex: the innermost
// bracket is a [; inSquare: some bracket is.
func spaced(tokens []lexer.Token, i int, inIndex, inSquare bool) bool {
	a, b := tokens[i-1], tokens[i]
	if a.Type == tString {
		return b.Value != "[" && b.Value != "," && b.Value != ")" && b.Value != "]"
	}
	if b.Type == tString {
		return a.Value != "(" && a.Value != "["
	}
	switch {
	case a.Value == "(" || a.Value == "[" || b.Value == ")" || b.Value == "]" || b.Value == "," || b.Value == "?":
		return false
	case tight[a.Value] || tight[b.Value]:
		return false
	case a.Value == ",":
		return true
	case a.Value == ":" && inIndex, b.Value == ":":
		return false
	case inSquare && (products[a.Value] || products[b.Value]):
		return false
	case unaryMinus(tokens, i-1):
		return false
	case b.Value == "(":
		return !valueEnds(a)
	case b.Value == "[":
		return !valueEnds(a) || namesType(tokens, i-1)
	}
	return true
}

// unaryMinus reports whether token i is a minus before its operand.
func unaryMinus(tokens []lexer.Token, i int) bool {
	return tokens[i].Value == "-" && (i == 0 || !valueEnds(tokens[i-1]))
}

// valueEnds reports whether a value can end with t, so that a bracket after it
// is a call or an index.
func valueEnds(t lexer.Token) bool {
	switch t.Type {
	case tIdent, tInt, tReal, tString:
		return true
	}
	return t.Value == ")" || t.Value == "]" || t.Value == "true" || t.Value == "false" || t.Value == "none"
}

// namesType reports whether token i is an element type: it follows the colon
// or arrow of a declaration.
func namesType(tokens []lexer.Token, i int) bool {
	return tokens[i].Type == tIdent && i > 0 && (tokens[i-1].Value == ":" || tokens[i-1].Value == "->")
}
