package dsl

import (
	"cmp"
	"math"
	"slices"

	"moec/ir/diag"
)

// eval returns the value of an expression, poison after an error.
func (f *frame) eval(n node) value {
	if !f.step(n.pos()) {
		return poison{}
	}
	switch n := n.(type) {
	case literal:
		return n.value
	case nameNode:
		return f.nameValue(n)
	case listNode:
		return f.listValue(n)
	case unaryNode:
		return f.unary(n)
	case binaryNode:
		return f.binary(n)
	case choiceNode:
		return f.choice(n)
	case indexNode:
		return f.index(n)
	case callNode:
		return f.callValue(n)
	}
	return f.errorf(n.pos(), 1, "internal error: unknown expression %T", n)
}

func (f *frame) nameValue(n nameNode) value {
	v, ok := f.lookup(n.name)
	switch {
	case n.name == tokensName:
		return f.errorf(n.pos(), len(n.name), "tokens is only known when the model runs; it stands in extents alone")
	case n.name == expertName:
		return f.errorf(n.pos(), len(n.name), "expert stands only in the [ ] after the key of a weight")
	case !ok:
		return f.errorf(n.pos(), len(n.name), "%s has no value here: the statement that gives it one was not reached with these settings", n.name)
	}
	if t, isTensor := v.(*tensorValue); isTensor && f.outer != nil {
		if _, own := f.vars[n.name]; !own {
			return f.errorf(n.pos(), len(n.name), "%s is %s of the top level; pass it to block %s as an argument", n.name, kindOf(t), f.block.name)
		}
	}
	return v
}

func (f *frame) listValue(n listNode) value {
	list := make([]value, len(n.items))
	var bad value
	for i, x := range n.items {
		list[i] = f.eval(x)
		switch list[i].(type) {
		case poison:
			bad = poison{}
		case *tensorValue:
			return f.errorf(x.pos(), 1, "a list holds values known when compiling, no tensors; join tensors with concat")
		case []value:
			return f.errorf(x.pos(), 1, "a list holds no lists")
		}
	}
	if bad != nil {
		return bad
	}
	return list
}

func (f *frame) choice(n choiceNode) value {
	v := f.eval(n.cond)
	ok, isBool := v.(bool)
	switch {
	case v == (poison{}):
		return v
	case !isBool:
		return f.errorf(n.cond.pos(), 1, "the condition after if is true or false when compiling; %s is %s", textOf(n.cond), kindOf(v))
	case ok:
		return f.eval(n.then)
	}
	return f.eval(n.other)
}

func (f *frame) unary(n unaryNode) value {
	v := f.eval(n.x)
	switch x := v.(type) {
	case poison:
		return v
	case bool:
		if n.op == "not" {
			return !x
		}
	case float64:
		if n.op == "-" {
			return -x
		}
	case int64, layerNumber:
		if i, _ := whole(x); n.op == "-" {
			return -i
		}
	case *tensorValue:
		if n.op == "-" {
			return f.unaryOp("neg", x, n.pos())
		}
	}
	return f.errorf(n.pos(), len(n.op), "%s cannot be applied to %s, which is %s", n.op, textOf(n.x), kindOf(v))
}

func (f *frame) binary(n binaryNode) value {
	x := f.eval(n.x)
	if b, ok := x.(bool); ok && (n.op == "and" && !b || n.op == "or" && b) {
		return b // the right side may have no value then
	}
	y := f.eval(n.y)
	if x == (poison{}) || y == (poison{}) {
		return poison{}
	}
	_, tx := x.(*tensorValue)
	_, ty := y.(*tensorValue)
	if tx || ty {
		return f.tensorBinary(n, x, y)
	}
	switch n.op {
	case "and", "or":
		return f.logic(n, x, y)
	case "==":
		return equal(x, y)
	case "!=":
		return !equal(x, y)
	case "in", "not in":
		return f.membership(n, x, y)
	}
	a, okA := number(x)
	b, okB := number(y)
	if !okA || !okB {
		return f.errorf(n.pos(), len(n.op), "%s takes numbers; %s is %s and %s is %s", n.op, textOf(n.x), kindOf(x), textOf(n.y), kindOf(y))
	}
	switch n.op {
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">":
		return a > b
	case ">=":
		return a >= b
	}
	i, wholeX := whole(x)
	j, wholeY := whole(y)
	if wholeX && wholeY && (n.op != "^" || j >= 0) {
		return f.wholeArithmetic(n, i, j)
	}
	return f.realArithmetic(n, a, b)
}

func (f *frame) logic(n binaryNode, x, y value) value {
	if _, ok := x.(bool); !ok {
		return f.errorf(n.x.pos(), 1, "%s takes true or false; %s is %s", n.op, textOf(n.x), kindOf(x))
	}
	b, ok := y.(bool)
	if !ok {
		return f.errorf(n.y.pos(), 1, "%s takes true or false; %s is %s", n.op, textOf(n.y), kindOf(y))
	}
	return b // the left side did not decide
}

func (f *frame) membership(n binaryNode, x, y value) value {
	list, ok := y.([]value)
	if !ok {
		return f.errorf(n.y.pos(), 1, "%s looks into a list; %s is %s", n.op, textOf(n.y), kindOf(y))
	}
	for _, v := range list {
		if equal(x, v) {
			return n.op == "in"
		}
	}
	return n.op != "in"
}

// wholeArithmetic keeps whole numbers whole: a division must come out even.
func (f *frame) wholeArithmetic(n binaryNode, a, b int64) value {
	if (n.op == "/" || n.op == "//" || n.op == "%") && b == 0 {
		return f.errorf(n.pos(), len(n.op), "%s %s %s divides by zero", textOf(n.x), n.op, textOf(n.y))
	}
	var r int64
	ok := true
	switch n.op {
	case "+":
		r = a + b // both below 2^53
	case "-":
		r = a - b
	case "*":
		r, ok = product(a, b)
	case "/":
		if a%b != 0 {
			d := diag.Diagnostic{Pos: n.pos(), Width: 1, Message: textOf(n) + ": " + show(a) + " is not a multiple of " + show(b)}
			d = f.boundFrom(d, n)
			return f.noted(d.Noted(diag.Pos{}, "// divides whole numbers and drops the rest; for a real result, make one side real, as in 2.0"))
		}
		r = a / b
	case "//":
		r = floorDiv(a, b)
	case "%":
		r = a - b*floorDiv(a, b)
	case "^":
		r, ok = power(a, b)
	default:
		return f.errorf(n.pos(), len(n.op), "internal error: unknown operator %s", n.op)
	}
	if !ok || r > maxInt || r < -maxInt {
		return f.errorf(n.pos(), len(n.op), "%s %s %s is above %d, the largest whole number", show(a), n.op, show(b), int64(maxInt))
	}
	return r
}

// floorDiv rounds down.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// product reports whether a * b stays a whole number.
func product(a, b int64) (int64, bool) {
	if a == 0 || b == 0 {
		return 0, true
	}
	r := a * b
	return r, r/b == a && r <= maxInt && r >= -maxInt
}

func power(a, n int64) (int64, bool) {
	r, ok := int64(1), true
	if a == 0 || a == 1 || a == -1 {
		n = min(n, 2+n%2) // the same result without the work
	}
	for ; n > 0 && ok; n-- {
		r, ok = product(r, a)
	}
	return r, ok
}

func (f *frame) realArithmetic(n binaryNode, a, b float64) value {
	var r float64
	switch n.op {
	case "+":
		r = a + b
	case "-":
		r = a - b
	case "*":
		r = a * b
	case "/":
		r = a / b
	case "//":
		r = math.Floor(a / b)
	case "%":
		r = a - b*math.Floor(a/b)
	case "^":
		r = math.Pow(a, b)
	}
	if !finite(r) {
		return f.errorf(n.pos(), len(n.op), "%s %s %s has no value", showReal(a), n.op, showReal(b))
	}
	return r
}

// index takes entries of a list, or parts of a tensor.
func (f *frame) index(n indexNode) value {
	v := f.eval(n.x)
	switch x := v.(type) {
	case poison:
		return v
	case []value:
		return f.listIndex(n, x)
	case *tensorValue:
		return f.tensorIndex(n, x)
	}
	return f.errorf(n.pos(), 1, "only lists and tensors have entries; %s is %s", textOf(n.x), kindOf(v))
}

func (f *frame) listIndex(n indexNode, list []value) value {
	if len(n.items) != 1 || n.items[0].one == nil {
		return f.errorf(n.pos(), 1, "a list is indexed by one whole number")
	}
	i, ok := f.wholeNumber(n.items[0].one, "the index of a list")
	if !ok {
		return poison{}
	}
	if i < 0 || i >= int64(len(list)) {
		return f.errorf(n.items[0].at, 1, "entry %d of %s, which has %d, numbered from 0", i, textOf(n.x), len(list))
	}
	return list[i]
}

// callValue calls a function of the language or a block.
func (f *frame) callValue(n callNode) value {
	if b := f.file.functions[n.name]; b != nil {
		return f.callFunction(n, b)
	}
	st := f.file.blocks[n.name]
	return f.callBlock(blockCall{at: n.pos(), block: st.Block, body: st.body, args: n.args, scopes: n.scopes})
}

// blockCall is the call of a block by name, or through a route.
type blockCall struct {
	at     diag.Pos
	block  *blockStmt
	body   []*statement
	args   []argNode
	scopes *scopes
	routed *tensorValue // the first parameter's value, of a route
	expert *expertBody  // of a route
}

// callBlock runs the body of a block in a frame of its own.
func (f *frame) callBlock(c blockCall) value {
	name := c.block.Name.Text
	if f.depth >= maxCalls {
		return f.errorf(c.at, len(name), "block %s is called inside %d other calls; blocks must not call themselves", name, maxCalls)
	}
	top := f
	if f.outer != nil {
		top = f.outer
	}
	g := &frame{
		builder: f.builder, outer: top, block: blockName{name, c.block.Result}, depth: f.depth + 1,
		vars: map[string]value{}, calls: map[string][]string{}, expert: f.expert,
	}
	if c.expert != nil {
		g.expert = c.expert
	}
	var ok bool
	if g.scopes, ok = f.under(f.scopes, c.scopes, g.expert != nil); !ok {
		return poison{}
	}
	g.path = f.joinPath(f.numbered(name, g.scopes))
	if !f.passArgs(g, c) {
		return poison{}
	}
	g.run(c.body)
	if !g.done && !f.stopped {
		return f.errorf(c.at, len(name), "block %s ends without return", name)
	}
	return g.result
}

// passArgs evaluates arguments in f and gives them to the parameters of g.
func (f *frame) passArgs(g *frame, c blockCall) bool {
	params := c.block.Params
	given := make(map[string]argument, len(params))
	next := 0
	if c.routed != nil {
		given[params[0].Name.Text] = argument{c.routed, nil}
		next = 1
	}
	for _, a := range c.args {
		name := a.name
		if name == "" {
			name = params[next].Name.Text
			next++
		}
		v := f.eval(a.x)
		if t, ok := v.(*tensorValue); ok && !t.weight && c.routed != nil {
			f.errorf(a.x.pos(), 1, "route passes the tokens themselves; other arguments are weights or known when compiling")
			return false
		}
		given[name] = argument{v, a.x}
	}
	// Extents of tensors may name parameters that are known when compiling.
	good := true
	tensorsLast := slices.Clone(params)
	slices.SortStableFunc(tensorsLast, func(a, b *param) int { return cmp.Compare(b.Type.kind(), a.Type.kind()) })
	for _, p := range tensorsLast {
		a, n := given[p.Name.Text], naming{p.Name.Text, p.Type, c.at, 1, origin{"parameter " + p.Name.Text + " of " + g.block.name, place(p.Name.Pos)}}
		if a.node != nil {
			n.at = a.node.pos()
		}
		g.vars[p.Name.Text] = g.named(a.value, n)
		if _, bad := g.vars[p.Name.Text].(poison); bad {
			good = false
		}
	}
	return good
}

// joinPath returns the path of something called name inside f.
func (f *frame) joinPath(name string) string {
	if f.path == "" {
		return name
	}
	return f.path + "." + name
}
