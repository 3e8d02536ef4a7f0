package dsl

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/participle/v2"
	"github.com/alecthomas/participle/v2/lexer"

	"moec/ir/diag"
)

// File is a description whose statements and names are sound.
type File struct {
	Name  string // as given to Parse
	Model string // the name after "model"
	Title string // what follows it: the paper, usually

	source     []byte
	statements []*statement
	blocks     map[string]*statement
	functions  map[string]*function
}

// maxErrors is how many errors of one file are listed.
const maxErrors = 20

// Parse reads a description. Where there are errors it returns them, sorted by
// position, and no file.
func Parse(file string, src []byte) (*File, diag.List) {
	statements, list := parse(file, src)
	f := &File{Name: file, source: src, statements: statements, blocks: map[string]*statement{}, functions: allFunctions()}
	if len(list) == 0 {
		f.header(&list)
		list = append(list, resolve(f)...)
	}
	if len(list) > 0 {
		return nil, f.capped(list)
	}
	return f, nil
}

// capped sorts a list, cuts what nobody reads, and quotes the file.
func (f *File) capped(list diag.List) diag.List {
	list.Sort()
	if more := len(list) - maxErrors; more > 0 {
		list = append(list[:maxErrors:maxErrors], diag.Diagnostic{Message: countOf(more, "more error") + " not shown"})
	}
	list.Quote(f.Name, f.source)
	return list
}

// parse reads statements, without a look at names.
func parse(file string, src []byte) ([]*statement, diag.List) {
	tokens, list := lex(file, src)
	if tokens == nil {
		return nil, list
	}
	lines, more := split(tokens)
	list = append(list, more...)
	p := &lineParser{list: &list}
	return p.statements(lines), list
}

// lineParser turns lines into statements.
type lineParser struct{ list *diag.List }

func (p *lineParser) statements(lines []*line) []*statement {
	var out []*statement
	var last *statement // an if that an else may follow
	for _, l := range lines {
		st := p.statement(l)
		if st == nil {
			last = nil
			continue
		}
		st.body = p.statements(l.body)
		if st.Else == nil {
			out = append(out, st)
			last = nil
			if st.If != nil {
				last = st
			}
			continue
		}
		last = p.orElse(last, st)
	}
	return out
}

// orElse attaches an else to the if before it and returns the if that a
// further else belongs to.
func (p *lineParser) orElse(last, st *statement) *statement {
	if last == nil {
		p.list.Addf(place(st.Pos), 4, "this else follows no if")
		return nil
	}
	if st.Else.Cond == nil {
		last.orElse = st.body
		return nil
	}
	st.If = &ifStmt{Pos: st.Else.Pos, Cond: st.Else.Cond}
	st.Else = nil
	last.orElse = []*statement{st}
	return st
}

// statement parses the tokens of one line.
func (p *lineParser) statement(l *line) *statement {
	isBad := func(t lexer.Token) bool { return t.Type == tBad }
	if l.broken || slices.ContainsFunc(l.tokens, isBad) {
		return nil // reported already
	}
	end := lexer.Position{Filename: l.end.File, Line: l.end.Line, Column: l.end.Col}
	tokens, err := lexer.Upgrade(&tokenList{tokens: l.tokens, end: end})
	if err != nil {
		p.list.Addf(l.pos(), 1, "internal error: %v", err)
		return nil
	}
	st, err := parser.ParseFromLexer(tokens)
	if err != nil {
		p.list.Add(explain(l, err))
		return nil
	}
	st.braced, st.end = l.braced, end
	if takesBody(st) != l.braced {
		p.body(st)
		return nil
	}
	p.grow(st)
	return st
}

func takesBody(st *statement) bool {
	return st.Block != nil || st.If != nil || st.Else != nil || st.For != nil
}

func (p *lineParser) body(st *statement) {
	if st.braced {
		p.list.Addf(place(st.end), 1, "this { follows a statement that has no body; only block, if, else and for have one")
		return
	}
	p.list.Addf(place(st.end), 1, "a { is due here, and after it the statements of the body")
}

// grow builds the trees of all expressions of a statement.
func (p *lineParser) grow(st *statement) {
	g := grower{p.list}
	st.expressions(func(e *expr) { g.expr(e) })
}

// expressions calls visit for each expression of a statement, its body left
// out.
func (st *statement) expressions(visit func(*expr)) {
	some := func(list ...*expr) {
		for _, e := range list {
			if e != nil {
				visit(e)
			}
		}
	}
	switch {
	case st.Setting != nil:
		some(st.Setting.Default)
	case st.Expect != nil:
		some(st.Expect.Values...)
	case st.Require != nil:
		some(st.Require.Cond)
	case st.Block != nil:
		for _, prm := range st.Block.Params {
			some(prm.Type.dims()...)
		}
		some(st.Block.Result.dims()...)
	case st.Weight != nil:
		some(st.Weight.Type.dims()...)
		for _, s := range st.Weight.Sources {
			some(s.dims()...)
		}
		some(st.Weight.Cond)
	case st.Return != nil:
		some(st.Return.Value)
	case st.If != nil:
		some(st.If.Cond)
	case st.Else != nil:
		some(st.Else.Cond)
	case st.For != nil:
		some(st.For.First, st.For.End)
	case st.Output != nil:
		some(st.Output.Value)
	case st.Bind != nil:
		some(st.Bind.Type.dims()...)
		some(st.Bind.Value)
	}
}

// types returns the types that a statement declares.
func (st *statement) types() []*typeRef {
	var list []*typeRef
	add := func(t *typeRef) {
		if t != nil {
			list = append(list, t)
		}
	}
	switch {
	case st.Block != nil:
		for _, p := range st.Block.Params {
			add(p.Type)
		}
		add(st.Block.Result)
	case st.Weight != nil:
		add(st.Weight.Type)
	case st.Bind != nil:
		add(st.Bind.Type)
	}
	return list
}

// kind returns what kind of setting a type is, "" for tensors and any type.
func (t *typeRef) kind() string {
	if t == nil {
		return ""
	}
	return t.Kind
}

// dims returns the extents of a type, which may be nil.
func (t *typeRef) dims() []*expr {
	switch {
	case t == nil:
	case t.Shape != nil:
		return t.Shape.Dims
	case t.Of != nil:
		return t.Of.Dims
	}
	return nil
}

// dims returns the expressions of a weight's source.
func (s *source) dims() []*expr {
	var list []*expr
	if s.Index != nil {
		for _, i := range s.Index.Items {
			list = append(list, i.Lo, i.Hi, i.Step, i.To, i.By)
		}
	}
	if s.Stored != nil {
		list = append(list, s.Stored.Dims...)
	}
	return list
}

// forms shows how statements are written.
var forms = map[string]string{
	"model":   `model NAME "TITLE"`,
	"expect":  "expect KEY = VALUE",
	"require": `require CONDITION, "REASON"`,
	"block":   "block NAME(PARAMETER: [EXTENT, ...], ...) -> [EXTENT, ...] {",
	"weight":  `weight NAME: [EXTENT, ...] = "KEY"`,
	"return":  "return VALUE",
	"if":      "if CONDITION {",
	"else":    "else {",
	"for":     `for NAME in COUNT at "KEY" {`,
	"output":  "output logits = VALUE",
}

// formOf returns how the statement that begins with t is written.
func formOf(t lexer.Token) string {
	if f, ok := forms[t.Value]; ok {
		return f
	}
	switch t.Value {
	case "size", "count", "real", "flag", "text", "list", "type":
		return t.Value + " NAME = DEFAULT from KEY"
	}
	return "NAME = VALUE"
}

// explain turns an error of participle into a message for people.
func explain(l *line, err error) diag.Diagnostic {
	var unexpected *participle.UnexpectedTokenError
	if !errors.As(err, &unexpected) {
		return diag.Diagnostic{Pos: l.pos(), Message: "internal error: " + err.Error()}
	}
	t := unexpected.Unexpected
	d := diag.Diagnostic{Pos: place(t.Pos), Width: utf8.RuneCountInString(t.Value)}
	what := describe(t)
	if t.EOF() && l.braced {
		what = `"{"`
	}
	due := unexpected.Message()
	first := l.tokens[0]
	form := "; a statement of this kind reads: " + formOf(first)
	switch {
	case t == first && !t.EOF():
		d.Message = "a statement cannot begin with " + what
	case first.Type == tIdent && len(l.tokens) > 1 && t == l.tokens[1] && (t.Type == tIdent || t.Type == tString || t.Type == tKeyword):
		d.Pos, d.Width = place(first.Pos), len(first.Value)
		d.Message = first.Value + " begins no statement"
		if close := didYouMean(first.Value, statementWords()); close != "" {
			d.Message += close
		} else {
			d.Message += "; a value gets a name by NAME = VALUE"
		}
	case t.Type == tKeyword && strings.Contains(due, "expected Name"):
		d.Message = t.Value + " is a word of the language and cannot be a name"
	case strings.Contains(due, "expected Base"):
		d.Message = "a value is due where " + what + " stands"
	case strings.Contains(due, `expected ")"`):
		d.Message = `a comma or ) is due where ` + what + " stands"
	case strings.Contains(due, `expected "]"`):
		d.Message = `a comma or ] is due where ` + what + " stands"
	case t.EOF():
		d.Message = "the statement ends too early" + form
	case dueMark.MatchString(due):
		d.Message = dueMark.FindStringSubmatch(due)[1] + " is due where " + what + " stands" + form
	default:
		d.Message = what + " does not fit here" + form
	}
	return d
}

// dueMark finds the mark that the grammar expects, if it is a single one.
var dueMark = regexp.MustCompile(`expected "([=:(\[])"`)

func statementWords() []string {
	words := strings.Split("size count real flag text list type", " ")
	for w := range forms {
		words = append(words, w)
	}
	return words
}

// header finds the model statement and the blocks.
func (f *File) header(list *diag.List) {
	for i, st := range f.statements {
		switch {
		case st.Model != nil && i > 0:
			list.Addf(place(st.Pos), 5, "model stands first in a file, and once")
		case st.Model != nil:
			f.Model = st.Model.Name.Text
			if st.Model.Title != nil {
				f.Title = unquote(*st.Model.Title)
			}
		case st.Block != nil:
			f.block(st, list)
		}
	}
	if f.Model == "" {
		list.Addf(diag.Pos{File: f.Name, Line: 1, Col: 1}, 1, `the file does not begin with a model statement; write: %s`, forms["model"])
	}
}

func (f *File) block(st *statement, list *diag.List) {
	n := st.Block.Name
	if f.functions[n.Text] != nil {
		list.Addf(place(n.Pos), len(n.Text), "%s is a function of the language; choose another name for the block", n.Text)
		return
	}
	if other := f.blocks[n.Text]; other != nil {
		d := diag.Diagnostic{Pos: place(n.Pos), Width: len(n.Text), Message: "block " + n.Text + " is declared twice"}
		list.Add(d.Noted(place(other.Block.Name.Pos), "the other block %s", n.Text))
		return
	}
	f.blocks[n.Text] = st
}
