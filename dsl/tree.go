package dsl

import (
	"math"
	"strconv"
	"strings"

	"github.com/alecthomas/participle/v2/lexer"

	"moec/ir/diag"
)

// node is an expression as a tree.
type node interface{ pos() diag.Pos }

type at diag.Pos

func (a at) pos() diag.Pos { return diag.Pos(a) }

type (
	literal struct {
		at
		value value
		text  string
	}
	nameNode struct {
		at
		name string
	}
	listNode struct {
		at
		items []node
	}
	unaryNode struct {
		at
		op string
		x  node
	}
	binaryNode struct {
		at
		op   string
		x, y node
	}
	choiceNode struct {
		at
		cond, then, other node
	}
	indexNode struct {
		at
		x     node
		items []indexPart
	}
	callNode struct {
		at
		name    string
		args    []argNode
		through *targetNode
		scopes  *scopes
	}
	targetNode struct {
		at
		name string
		args []argNode
	}
	argNode struct {
		name string // "" when given by place
		at   diag.Pos
		x    node
	}
)

// indexPart is one axis of an index: one entry, or a run of entries with
// bounds that may be nil.
type indexPart struct {
	at           diag.Pos
	one          node // nil for a run
	lo, hi, step node
}

// full reports whether the part is a bare ":".
func (p indexPart) full() bool { return p.one == nil && p.lo == nil && p.hi == nil && p.step == nil }

// grower turns parsed expressions into trees.
type grower struct{ list *diag.List }

func (g grower) errorf(p lexer.Position, width int, format string, args ...any) node {
	g.list.Addf(place(p), width, format, args...)
	return literal{at: at(place(p)), value: poison{}}
}

// expr sets and returns the tree of e.
func (g grower) expr(e *expr) node {
	if e == nil {
		return nil
	}
	c := climber{grower: g, e: e}
	e.tree = c.binary(0)
	if e.If != nil {
		e.tree = choiceNode{at(place(e.If.Pos)), g.expr(e.If.Cond), e.tree, g.expr(e.If.Else)}
	}
	return e.tree
}

// strength is how firmly an operator binds its operands.
var strength = map[string]int{
	"or": 1, "and": 2,
	"==": 4, "!=": 4, "<": 4, "<=": 4, ">": 4, ">=": 4, "in": 4, "not in": 4,
	"+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6, "^": 8,
}

// Strengths of prefix operators, and that of comparisons, which do not chain.
const (
	notStrength     = 3
	compareStrength = 4
	minusStrength   = 7
)

// climber walks over the operands of one expression.
type climber struct {
	grower
	e      *expr
	at     int // operand: 0 is e.First
	prefix int // prefixes of that operand that are used up
}

func (c *climber) operand() *operand {
	if c.at == 0 {
		return c.e.First
	}
	return c.e.Rest[c.at-1].Right
}

// unary reads an operand with its prefixes.
func (c *climber) unary() node {
	o := c.operand()
	if c.prefix == len(o.Prefix) {
		x := c.base(o.Base)
		for _, i := range o.Index {
			x = indexNode{at(place(i.Pos)), x, c.index(i)}
		}
		c.at++
		c.prefix = 0
		return x
	}
	p := o.Prefix[c.prefix]
	c.prefix++
	least := minusStrength
	if p.Op == "not" {
		least = notStrength
	}
	return unaryNode{at(place(p.Pos)), p.Op, c.binary(least)}
}

// binary reads operators that bind at least that firmly.
func (c *climber) binary(least int) node {
	x := c.unary()
	compared := false
	for c.at > 0 && c.at <= len(c.e.Rest) {
		o := c.e.Rest[c.at-1]
		op := o.Op
		if o.In {
			op += " in"
		}
		s := strength[op]
		if s == 0 {
			return c.errorf(o.Pos, len(o.Op), "%q is no operator; write and, or, not in or a comparison", op)
		}
		if s < least {
			return x
		}
		if s == compareStrength {
			if compared {
				return c.errorf(o.Pos, len(o.Op), "comparisons do not chain; write a < b and b < c")
			}
			compared = true
		}
		next := s + 1
		if op == "^" {
			next = minusStrength // to the right first, and 2 ^ -1 needs no parentheses
		}
		x = binaryNode{at(place(o.Pos)), op, x, c.binary(next)}
	}
	return x
}

func (g grower) base(b *base) node {
	here := at(place(b.Pos))
	switch {
	case b.Int != nil:
		n, err := strconv.ParseInt(*b.Int, 10, 64)
		if err != nil || n > maxInt {
			if len(*b.Int) > maxNumber {
				return literal{at: here, value: poison{}} // reported by lex
			}
			return g.errorf(b.Pos, len(*b.Int), "%s is above %d, the largest whole number", shorten(*b.Int), int64(maxInt))
		}
		return literal{here, n, *b.Int}
	case b.Real != nil:
		x, err := strconv.ParseFloat(*b.Real, 64)
		if err != nil || math.IsInf(x, 0) {
			return g.errorf(b.Pos, len(*b.Real), "%s is above the largest real number", shorten(*b.Real))
		}
		return literal{here, x, *b.Real}
	case b.String != nil:
		return literal{here, unquote(*b.String), *b.String}
	case b.Word == "none":
		return literal{here, nil, b.Word}
	case b.Word != "":
		return literal{here, b.Word == "true", b.Word}
	case b.Use != nil:
		return g.use(b.Use)
	case b.Paren != nil:
		return g.expr(b.Paren)
	}
	n := listNode{at: here}
	for _, e := range b.List.Items {
		n.items = append(n.items, g.expr(e))
	}
	return n
}

func (g grower) use(u *use) node {
	here := at(place(u.Pos))
	if u.Call == nil {
		return nameNode{here, u.Name}
	}
	n := callNode{at: here, name: u.Name, args: g.args(u.Call.Args), scopes: u.Call.At}
	if t := u.Call.Through; t != nil {
		n.through = &targetNode{at(place(t.Pos)), t.Name, g.args(t.Args)}
	}
	return n
}

func (g grower) args(list []*arg) []argNode {
	var out []argNode
	seen := map[string]bool{}
	for _, a := range list {
		n := argNode{at: place(a.Pos), x: g.expr(a.First)}
		if a.Named == nil {
			if len(seen) > 0 {
				g.errorf(a.Pos, 1, "an argument without a name after one with a name; put it first, or name it")
			}
			out = append(out, n)
			continue
		}
		named, ok := n.x.(nameNode)
		if !ok {
			g.errorf(a.Pos, 1, "the part before = is no name; an argument is written name = value, a comparison ==")
			continue
		}
		if seen[named.name] {
			g.errorf(a.Pos, len(named.name), "argument %s is given twice", named.name)
			continue
		}
		seen[named.name] = true
		out = append(out, argNode{named.name, place(a.Pos), g.expr(a.Named)})
	}
	return out
}

func (g grower) index(i *index) []indexPart {
	parts := make([]indexPart, len(i.Items))
	for k, item := range i.Items {
		for _, e := range []*expr{item.Lo, item.Hi, item.Step, item.To, item.By} {
			g.expr(e)
		}
		parts[k] = partOf(item)
	}
	return parts
}

// partOf returns an entry of an index whose expressions have trees.
func partOf(item *indexItem) indexPart {
	tree := func(e *expr) node {
		if e == nil {
			return nil
		}
		return e.tree
	}
	p := indexPart{at: place(item.Pos)}
	switch {
	case item.Full:
		p.hi, p.step = tree(item.To), tree(item.By)
	case item.Range:
		p.lo, p.hi, p.step = tree(item.Lo), tree(item.Hi), tree(item.Step)
	default:
		p.one = tree(item.Lo)
	}
	return p
}

// unquote drops the quotes of a string token; there are no escapes.
func unquote(s string) string { return strings.TrimSuffix(strings.TrimPrefix(s, `"`), `"`) }

// textOf writes an expression on one line, for messages.
func textOf(n node) string {
	switch n := n.(type) {
	case literal:
		return n.text
	case nameNode:
		return n.name
	case unaryNode:
		if n.op == "not" {
			return "not " + inner(n.x)
		}
		return n.op + inner(n.x)
	case binaryNode:
		if n.op == "*" || n.op == "/" || n.op == "^" {
			return inner(n.x) + n.op + inner(n.y)
		}
		return inner(n.x) + " " + n.op + " " + inner(n.y)
	case callNode:
		return n.name + "(...)"
	case indexNode:
		return inner(n.x) + "[...]"
	}
	return "..."
}

// inner is textOf with parentheses where they are needed.
func inner(n node) string {
	if b, ok := n.(binaryNode); ok && b.op != "*" && b.op != "^" {
		return "(" + textOf(n) + ")"
	}
	return textOf(n)
}

// eachNode calls visit for n and every node inside it.
func eachNode(n node, visit func(node)) {
	if n == nil {
		return
	}
	visit(n)
	switch n := n.(type) {
	case listNode:
		for _, x := range n.items {
			eachNode(x, visit)
		}
	case unaryNode:
		eachNode(n.x, visit)
	case binaryNode:
		eachNode(n.x, visit)
		eachNode(n.y, visit)
	case choiceNode:
		eachNode(n.cond, visit)
		eachNode(n.then, visit)
		eachNode(n.other, visit)
	case indexNode:
		eachNode(n.x, visit)
		for _, p := range n.items {
			p.each(visit)
		}
	case callNode:
		eachArg(n.args, visit)
		if n.through != nil {
			eachArg(n.through.args, visit)
		}
	}
}

func (p indexPart) each(visit func(node)) {
	for _, x := range []node{p.one, p.lo, p.hi, p.step} {
		eachNode(x, visit)
	}
}

func eachArg(args []argNode, visit func(node)) {
	for _, a := range args {
		eachNode(a.x, visit)
	}
}
