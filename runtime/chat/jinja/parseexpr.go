package jinja

// constants holds the names that are values.
var constants = map[string]Value{
	"true": Bool(true), "True": Bool(true), "false": Bool(false), "False": Bool(false),
	"none": None{}, "None": None{},
}

// tuple reads an expression, or several with commas between them.
func (p *parser) tuple() (expr, error) { return p.tupleOf((*parser).expression) }

func (p *parser) tupleOf(part func(*parser) (expr, error)) (expr, error) {
	first, err := part(p)
	if err != nil || !p.is(",") {
		return first, err
	}
	list := &listExpr{items: []expr{first}, tuple: true}
	for p.skip(",") {
		if !p.startsExpr() {
			break
		}
		next, err := part(p)
		if err != nil {
			return nil, err
		}
		list.items = append(list.items, next)
	}
	return list, nil
}

// startsExpr reports whether an expression may begin here.
func (p *parser) startsExpr() bool {
	t := p.peek()
	switch t.kind {
	case tokenString, tokenNumber:
		return true
	case tokenName:
		return t.text != "in" && t.text != "recursive"
	case tokenOperator:
		return t.text == "(" || t.text == "[" || t.text == "{" || t.text == "-" || t.text == "+"
	}
	return false
}

// expression reads "a if b else c" and all that binds tighter.
func (p *parser) expression() (expr, error) {
	undo, err := p.deeper()
	if err != nil {
		return nil, err
	}
	defer undo()
	e, err := p.or()
	if err != nil {
		return nil, err
	}
	for p.skip("if") {
		c := &condExpr{then: e}
		if c.test, err = p.or(); err != nil {
			return nil, err
		}
		if p.skip("else") {
			if c.other, err = p.expression(); err != nil {
				return nil, err
			}
		}
		e = c
	}
	return e, nil
}

func (p *parser) or() (expr, error) {
	return p.logic("or", (*parser).and)
}

func (p *parser) and() (expr, error) {
	return p.logic("and", (*parser).not)
}

func (p *parser) logic(op string, operand func(*parser) (expr, error)) (expr, error) {
	e, err := operand(p)
	for links := 0; err == nil && p.skip(op); {
		if err := p.longer(&links); err != nil {
			return nil, err
		}
		var right expr
		right, err = operand(p)
		e = &logicExpr{op == "and", e, right}
	}
	return e, err
}

func (p *parser) not() (expr, error) {
	line := p.peek().line
	if !p.skip("not") {
		return p.compare()
	}
	undo, err := p.deeper()
	if err != nil {
		return nil, err
	}
	defer undo()
	of, err := p.not()
	return &unaryExpr{"not", of, line}, err
}

func (p *parser) compare() (expr, error) {
	line := p.peek().line
	first, err := p.level(0)
	if err != nil {
		return nil, err
	}
	c := &compareExpr{first: first, line: line}
	for {
		op := p.comparison()
		if op == "" {
			break
		}
		with, err := p.level(0)
		if err != nil {
			return nil, err
		}
		c.rest = append(c.rest, comparison{op, with})
	}
	if len(c.rest) == 0 {
		return first, nil
	}
	return c, nil
}

// comparison takes a comparing operator, if one is next.
func (p *parser) comparison() string {
	for _, op := range []string{"==", "!=", "<=", ">=", "<", ">", "in"} {
		if p.skip(op) {
			return op
		}
	}
	if next := p.at + 1; p.is("not") && next < len(p.tokens) && p.tokens[next].kind == tokenName && p.tokens[next].text == "in" {
		p.at += 2
		return "not in"
	}
	return ""
}

// levels holds the binary operators, loosest first.
var levels = [][]string{{"+", "-"}, {"~"}, {"*", "/", "//", "%"}, {"**"}}

// level reads operands of one level of binary operators. All of them group from
// the left, the power, too.
func (p *parser) level(n int) (expr, error) {
	if n == len(levels) {
		return p.unary(true)
	}
	e, err := p.level(n + 1)
	for links := 0; err == nil; {
		if err := p.longer(&links); err != nil {
			return nil, err
		}
		line := p.peek().line
		op := ""
		for _, candidate := range levels[n] {
			if p.skip(candidate) {
				op = candidate
				break
			}
		}
		if op == "" {
			return e, nil
		}
		var right expr
		right, err = p.level(n + 1)
		e = binary(op, e, right, line)
	}
	return e, err
}

func binary(op string, left, right expr, line int) expr {
	if op != "~" {
		return &binaryExpr{op, left, right, line}
	}
	if c, ok := left.(*concatExpr); ok {
		return &concatExpr{append(c.parts, right)}
	}
	return &concatExpr{[]expr{left, right}}
}

// unary reads signs, a primary expression and what follows it.
func (p *parser) unary(withFilters bool) (expr, error) {
	undo, err := p.deeper()
	if err != nil {
		return nil, err
	}
	defer undo()
	t := p.peek()
	var e expr
	if p.is("-") || p.is("+") {
		p.take()
		of, err := p.unary(false)
		if err != nil {
			return nil, err
		}
		e = &unaryExpr{t.text, of, t.line}
	} else if e, err = p.primary(); err != nil {
		return nil, err
	}
	if e, err = p.postfix(e); err != nil || !withFilters {
		return e, err
	}
	for links := 0; ; {
		if err := p.longer(&links); err != nil {
			return nil, err
		}
		switch {
		case p.skip("|"):
			e, err = p.filter(e)
		case p.is("is"):
			e, err = p.test(e)
		case p.is("("):
			e, err = p.call(e)
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) primary() (expr, error) {
	switch t := p.take(); {
	case t.kind == tokenName:
		if value, ok := constants[t.text]; ok {
			return &constExpr{value}, nil
		}
		p.note(t.text)
		return &nameExpr{t.text}, nil
	case t.kind == tokenString:
		s := t.text
		for p.peek().kind == tokenString { // neighbouring texts join
			s += p.take().text
		}
		return &constExpr{Str(s)}, nil
	case t.kind == tokenNumber:
		return &constExpr{t.value}, nil
	case t.kind == tokenOperator && t.text == "(":
		return p.parenthesis()
	case t.kind == tokenOperator && t.text == "[":
		items, err := p.list("]")
		return &listExpr{items: items}, err
	case t.kind == tokenOperator && t.text == "{":
		return p.dict()
	default:
		p.at = max(p.at-1, 0)
		return nil, p.errorf("want an expression, have %v", t)
	}
}

// note remembers that a macro takes arguments beyond its parameters, which it
// does if its body uses one of three names.
func (p *parser) note(name string) {
	for _, m := range p.macros {
		m.extra = m.extra || name == "varargs"
		m.named = m.named || name == "kwargs"
		m.calls = m.calls || name == "caller"
	}
}

func (p *parser) parenthesis() (expr, error) {
	if p.skip(")") {
		return &listExpr{tuple: true}, nil
	}
	e, err := p.tuple()
	if err != nil {
		return nil, err
	}
	return e, p.want(")")
}

// list reads expressions with commas between them up to a closing bracket.
func (p *parser) list(closing string) ([]expr, error) {
	var items []expr
	for !p.skip(closing) {
		if len(items) > 0 {
			if err := p.want(","); err != nil {
				return nil, err
			}
			if p.skip(closing) {
				break
			}
		}
		item, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func (p *parser) dict() (expr, error) {
	d := &dictExpr{}
	for !p.skip("}") {
		if len(d.keys) > 0 {
			if err := p.want(","); err != nil {
				return nil, err
			}
			if p.skip("}") {
				break
			}
		}
		key, err := p.expression()
		if err != nil {
			return nil, err
		}
		if err := p.want(":"); err != nil {
			return nil, err
		}
		value, err := p.expression()
		if err != nil {
			return nil, err
		}
		d.keys = append(d.keys, key)
		d.values = append(d.values, value)
	}
	return d, nil
}

// postfix reads attributes, subscripts and calls.
func (p *parser) postfix(e expr) (expr, error) {
	for links := 0; ; {
		if err := p.longer(&links); err != nil {
			return nil, err
		}
		var err error
		switch line := p.peek().line; {
		case p.skip("."):
			e, err = p.attribute(e, line)
		case p.skip("["):
			e, err = p.subscript(e, line)
		case p.is("("):
			e, err = p.call(e)
		default:
			return e, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) attribute(of expr, line int) (expr, error) {
	switch t := p.take(); t.kind {
	case tokenName:
		return &attrExpr{of, t.text, line}, nil
	case tokenNumber:
		if n, ok := t.value.(Int); ok {
			return &itemExpr{of, &constExpr{n}, line}, nil
		}
	}
	p.at--
	return nil, p.errorf("want a name or number after the point, have %v", p.peek())
}

func (p *parser) subscript(of expr, line int) (expr, error) {
	var parts [3]expr
	colons := 0
	for !p.is("]") {
		if p.skip(":") {
			if colons++; colons > 2 {
				return nil, p.errorf("a slice has at most two colons")
			}
			continue
		}
		if parts[colons] != nil {
			break
		}
		var err error
		if parts[colons], err = p.expression(); err != nil {
			return nil, err
		}
	}
	if err := p.want("]"); err != nil {
		return nil, err
	}
	if colons > 0 {
		return &sliceExpr{of, parts[0], parts[1], parts[2], line}, nil
	}
	if parts[0] == nil {
		return nil, p.errorf("want an index between the brackets")
	}
	return &itemExpr{of, parts[0], line}, nil
}

func (p *parser) call(of expr) (expr, error) {
	line := p.peek().line
	args, err := p.arguments()
	return &callExpr{of, args, line}, err
}

// arguments reads the arguments of a call with their parentheses.
func (p *parser) arguments() (callArgs, error) {
	var a callArgs
	if err := p.want("("); err != nil {
		return a, err
	}
	for first := true; !p.skip(")"); first = false {
		if !first {
			if err := p.want(","); err != nil {
				return a, err
			}
			if p.skip(")") {
				break
			}
		}
		if err := p.argument(&a); err != nil {
			return a, err
		}
	}
	return a, nil
}

func (p *parser) argument(a *callArgs) (err error) {
	switch {
	case a.restNamed != nil:
		return p.errorf("an argument follows **")
	case p.skip("**"):
		a.restNamed, err = p.expression()
		return err
	case p.is("*") && a.rest == nil:
		p.take()
		a.rest, err = p.expression()
		return err
	}
	if next := p.at + 1; p.peek().kind == tokenName && next < len(p.tokens) && p.tokens[next].kind == tokenOperator && p.tokens[next].text == "=" {
		name := p.take().text
		p.take()
		value, err := p.expression()
		a.names = append(a.names, name)
		a.named = append(a.named, value)
		return err
	}
	if len(a.names) > 0 || a.rest != nil {
		return p.errorf("an argument without a name follows one with")
	}
	value, err := p.expression()
	a.positional = append(a.positional, value)
	return err
}

// filters reads any number of "|name(arguments)".
func (p *parser) filters(e expr) (expr, error) {
	var err error
	for links := 0; err == nil && p.skip("|"); {
		if err := p.longer(&links); err != nil {
			return nil, err
		}
		e, err = p.filter(e)
	}
	return e, err
}

// filter reads the name and arguments of a filter.
func (p *parser) filter(of expr) (expr, error) {
	name, err := p.wantKind(tokenName)
	if err != nil {
		return nil, err
	}
	if _, ok := filterTable[name.text]; !ok {
		p.at--
		return nil, p.errorf("the filter '%s' is not known; known are %s", name.text, known(filterTable))
	}
	f := &filterExpr{of: of, name: name.text, line: name.line}
	if p.is("(") {
		f.args, err = p.arguments()
	}
	return f, err
}

// test reads "is name", with "not" and arguments.
func (p *parser) test(of expr) (expr, error) {
	p.take()
	negated := p.skip("not")
	name, err := p.wantKind(tokenName)
	if err != nil {
		return nil, err
	}
	if _, ok := testTable[name.text]; !ok {
		p.at--
		return nil, p.errorf("the test '%s' is not known; known are %s", name.text, known(testTable))
	}
	t := &testExpr{of: of, name: name.text, line: name.line}
	if p.is("(") {
		t.args, err = p.arguments()
	} else if p.startsArgument() {
		if p.is("is") {
			return nil, p.errorf("tests cannot be chained; use 'and'")
		}
		var arg expr
		if arg, err = p.primary(); err == nil {
			arg, err = p.postfix(arg)
		}
		t.args.positional = []expr{arg}
	}
	if negated {
		return &unaryExpr{"not", t, name.line}, err
	}
	return t, err
}

// startsArgument reports whether a test's argument without parentheses is next.
func (p *parser) startsArgument() bool {
	switch t := p.peek(); t.kind {
	case tokenString, tokenNumber:
		return true
	case tokenName:
		return t.text != "else" && t.text != "or" && t.text != "and"
	case tokenOperator:
		return t.text == "[" || t.text == "{"
	}
	return false
}
