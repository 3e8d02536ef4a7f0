package jinja

import (
	"fmt"
	"slices"
	"strings"
)

const (
	// maxSource is the longest template that is read, in bytes; published ones
	// have less than 60 KB.
	maxSource = 1 << 20
	// maxNesting is how deep blocks and expressions may nest; each pair of
	// parentheses counts as two.
	maxNesting = 200
	// maxChain is how many operators, calls or filters may follow each other in
	// one expression: evaluating such a chain recurses.
	maxChain = 5000
)

// Template is a parsed template. It does not change and may be rendered by many
// goroutines at once.
type Template struct {
	name string
	body block
}

// Parse reads the source of a template. The name is for errors.
func Parse(name, source string) (*Template, error) {
	if len(source) > maxSource {
		return nil, &Error{SyntaxError, name, 1, fmt.Sprintf("the template has %d bytes, at most %d are read", len(source), maxSource)}
	}
	tokens, err := lex(name, source)
	if err != nil {
		return nil, err
	}
	p := &parser{name: name, tokens: tokens}
	body, err := p.body()
	if err != nil {
		return nil, err
	}
	return &Template{name, body}, nil
}

// parser turns tokens into statements by recursive descent.
type parser struct {
	name   string
	tokens []token
	at     int
	depth  int
	loops  int          // loops around the current place, for break and continue
	macros []*macroBody // macros around the current place
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != tokenEnd {
		p.at++
	}
	return t
}

func (p *parser) errorf(format string, args ...any) error {
	return &Error{SyntaxError, p.name, p.peek().line, fmt.Sprintf(format, args...)}
}

// deeper counts nesting; its result undoes it.
func (p *parser) deeper() (func(), error) {
	if p.depth++; p.depth > maxNesting {
		return nil, p.errorf("nested deeper than %d levels", maxNesting)
	}
	return func() { p.depth-- }, nil
}

// longer counts the links of a chain of operators.
func (p *parser) longer(links *int) error {
	if *links++; *links > maxChain {
		return p.errorf("an expression has more than %d operators in a row", maxChain)
	}
	return nil
}

// is reports whether the next token is the operator or name.
func (p *parser) is(text string) bool {
	t := p.peek()
	return (t.kind == tokenOperator || t.kind == tokenName) && t.text == text
}

// skip takes the next token if it is the operator or name.
func (p *parser) skip(text string) bool {
	if p.is(text) {
		p.at++
		return true
	}
	return false
}

func (p *parser) want(text string) error {
	if !p.skip(text) {
		return p.errorf("want '%s', have %v", text, p.peek())
	}
	return nil
}

func (p *parser) wantKind(kind tokenKind) (token, error) {
	if p.peek().kind != kind {
		return token{}, p.errorf("want %s, have %v", tokenNames[kind], p.peek())
	}
	return p.take(), nil
}

// body reads statements up to a block that begins with one of the ends, or to
// the end of the template if there are none. The next token is then that name.
func (p *parser) body(ends ...string) (block, error) {
	undo, err := p.deeper()
	if err != nil {
		return nil, err
	}
	defer undo()
	var body block
	for {
		switch t := p.take(); t.kind {
		case tokenData:
			body = append(body, &textStmt{t.text})
		case tokenPrintBegin:
			value, err := p.tuple()
			if err != nil {
				return nil, err
			}
			if _, err := p.wantKind(tokenPrintEnd); err != nil {
				return nil, err
			}
			body = append(body, &printStmt{value, t.line})
		case tokenBlockBegin:
			if name := p.peek(); name.kind == tokenName && slices.Contains(ends, name.text) {
				return body, nil
			}
			s, err := p.statement()
			if err != nil {
				return nil, err
			}
			body = append(body, s)
		default:
			if len(ends) > 0 {
				return nil, p.errorf("the template ends in a block; want %s", strings.Join(ends, " or "))
			}
			return body, nil
		}
	}
}

// blockEnd reads the end of a tag.
func (p *parser) blockEnd() error {
	_, err := p.wantKind(tokenBlockEnd)
	return err
}

// inside reads the end of an opening tag, statements, and the closing tag.
func (p *parser) inside(end string) (block, error) {
	if err := p.blockEnd(); err != nil {
		return nil, err
	}
	body, err := p.body(end)
	if err != nil {
		return nil, err
	}
	p.take()
	return body, p.blockEnd()
}

// statement reads a block tag after its beginning.
func (p *parser) statement() (stmt, error) {
	t, err := p.wantKind(tokenName)
	if err != nil {
		return nil, err
	}
	if reason, ok := refusedTags[t.text]; ok {
		return nil, p.errorf("the tag '%s' is not supported: %s", t.text, reason)
	}
	switch t.text {
	case "if":
		return p.ifTag()
	case "for":
		return p.forTag(t.line)
	case "set":
		return p.setTag(t.line)
	case "macro":
		return p.macroTag()
	case "call":
		return p.callTag()
	case "filter":
		return p.filterTag()
	case "with":
		return p.withTag(t.line)
	case "generation":
		return p.generationTag()
	case "break", "continue":
		return p.jumpTag(t.text)
	}
	return nil, p.errorf("unknown tag '%s'", t.text)
}

// refusedTags holds tags of Jinja that are not read, with the reason.
var refusedTags = map[string]string{
	"include": "other templates are not read", "import": "other templates are not read",
	"from": "other templates are not read", "extends": "other templates are not read",
	"block": "other templates are not read", "autoescape": "chat templates print plain text",
}

func (p *parser) ifTag() (stmt, error) {
	s := &ifStmt{}
	for {
		s.lines = append(s.lines, p.peek().line)
		test, err := p.tupleOf((*parser).or)
		if err != nil {
			return nil, err
		}
		if err := p.blockEnd(); err != nil {
			return nil, err
		}
		then, err := p.body("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		s.tests = append(s.tests, test)
		s.then = append(s.then, then)
		switch p.take().text {
		case "else":
			s.other, err = p.inside("endif")
			return s, err
		case "endif":
			return s, p.blockEnd()
		}
	}
}

func (p *parser) forTag(line int) (stmt, error) {
	s := &forStmt{line: line}
	var err error
	if s.target, err = p.targets("in"); err != nil {
		return nil, err
	}
	if err := p.want("in"); err != nil {
		return nil, err
	}
	if s.over, err = p.tupleOf((*parser).or); err != nil {
		return nil, err
	}
	if p.skip("if") {
		if s.filter, err = p.expression(); err != nil {
			return nil, err
		}
	}
	s.recursive = p.skip("recursive")
	if err := p.blockEnd(); err != nil {
		return nil, err
	}
	p.loops++
	s.body, err = p.body("endfor", "else")
	p.loops--
	if err != nil {
		return nil, err
	}
	if p.take().text == "else" {
		s.other, err = p.inside("endfor")
		return s, err
	}
	return s, p.blockEnd()
}

func (p *parser) setTag(line int) (stmt, error) {
	to, err := p.targets("")
	if err != nil {
		return nil, err
	}
	if p.skip("=") {
		value, err := p.tuple()
		if err != nil {
			return nil, err
		}
		return &setStmt{to, value, line}, p.blockEnd()
	}
	s := &setBlockStmt{target: to, line: line}
	if p.is("|") {
		if s.filter, err = p.filters(captured{}); err != nil {
			return nil, err
		}
	}
	s.body, err = p.inside("endset")
	return s, err
}

func (p *parser) macroTag() (stmt, error) {
	name, err := p.wantKind(tokenName)
	if err != nil {
		return nil, err
	}
	m := &macroBody{name: name.text}
	if err := p.signature(m); err != nil {
		return nil, err
	}
	return &macroStmt{name.text, m}, p.macroBody(m, "endmacro")
}

// macroBody reads the statements of a macro.
func (p *parser) macroBody(m *macroBody, end string) (err error) {
	loops := p.loops
	p.loops = 0 // a break cannot leave the macro
	p.macros = append(p.macros, m)
	m.body, err = p.inside(end)
	p.macros = p.macros[:len(p.macros)-1]
	p.loops = loops
	return err
}

func (p *parser) signature(m *macroBody) error {
	if err := p.want("("); err != nil {
		return err
	}
	for !p.skip(")") {
		if len(m.params) > 0 {
			if err := p.want(","); err != nil {
				return err
			}
		}
		name, err := p.wantKind(tokenName)
		if err != nil {
			return err
		}
		m.params = append(m.params, name.text)
		if p.skip("=") {
			value, err := p.expression()
			if err != nil {
				return err
			}
			m.defaults = append(m.defaults, value)
		} else if len(m.defaults) > 0 {
			return p.errorf("the parameter '%s' has no default but follows one that has", name.text)
		}
	}
	return nil
}

func (p *parser) callTag() (stmt, error) {
	m := &macroBody{name: "caller"}
	if p.is("(") {
		if err := p.signature(m); err != nil {
			return nil, err
		}
	}
	e, err := p.expression()
	if err != nil {
		return nil, err
	}
	call, ok := e.(*callExpr)
	if !ok {
		return nil, p.errorf("call wants a call of a macro")
	}
	return &callStmt{call, m}, p.macroBody(m, "endcall")
}

func (p *parser) filterTag() (stmt, error) {
	first, err := p.filter(captured{})
	if err != nil {
		return nil, err
	}
	s := &filterStmt{}
	if s.filter, err = p.filters(first); err != nil {
		return nil, err
	}
	s.body, err = p.inside("endfilter")
	return s, err
}

func (p *parser) withTag(line int) (stmt, error) {
	s := &withStmt{line: line}
	for p.peek().kind != tokenBlockEnd {
		if len(s.targets) > 0 {
			if err := p.want(","); err != nil {
				return nil, err
			}
		}
		to, err := p.targets("")
		if err != nil {
			return nil, err
		}
		if err := p.want("="); err != nil {
			return nil, err
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		s.targets = append(s.targets, to)
		s.values = append(s.values, value)
	}
	var err error
	s.body, err = p.inside("endwith")
	return s, err
}

// generationTag reads the tag with which templates mark what the model says.
func (p *parser) generationTag() (stmt, error) {
	body, err := p.inside("endgeneration")
	return &scopeStmt{body}, err
}

func (p *parser) jumpTag(name string) (stmt, error) {
	if p.loops == 0 {
		return nil, p.errorf("'%s' is not inside a loop", name)
	}
	if name == "break" {
		return &breakStmt{}, p.blockEnd()
	}
	return &continueStmt{}, p.blockEnd()
}

// targets reads what is assigned to, up to the name end or, if that is "", to
// anything that cannot continue a list.
func (p *parser) targets(end string) (target, error) {
	var all target
	for {
		if len(all.parts) > 0 && (end != "" && p.is(end) || p.is("=") || p.peek().kind == tokenBlockEnd) {
			all.many = true // a comma at the end
			break
		}
		one, err := p.target(end)
		if err != nil {
			return target{}, err
		}
		all.parts = append(all.parts, one)
		if !p.skip(",") {
			break
		}
		all.many = true
	}
	if !all.many {
		return all.parts[0], nil
	}
	return all, nil
}

func (p *parser) target(end string) (target, error) {
	if p.skip("(") {
		undo, err := p.deeper()
		if err != nil {
			return target{}, err
		}
		defer undo()
		inner, err := p.targets(end)
		if err != nil {
			return target{}, err
		}
		return inner, p.want(")")
	}
	name, err := p.wantKind(tokenName)
	if err != nil {
		return target{}, err
	}
	if _, ok := constants[name.text]; ok {
		return target{}, p.errorf("cannot assign to '%s'", name.text)
	}
	t := target{name: name.text}
	if end == "" && p.skip(".") {
		attr, err := p.wantKind(tokenName)
		if err != nil {
			return target{}, err
		}
		t.attr = attr.text
	}
	return t, nil
}
