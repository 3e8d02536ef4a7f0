package dsl

import (
	"fmt"
	"math"
	"strings"

	"moec/ir/diag"
	"moec/ir/tensor"
)

// function is a row of the table of functions that the language has.
type function struct {
	name   string
	params []parameter
	doc    string // one line: shapes and meaning
	run    func(*invocation) value
}

// parameter is one argument of a function.
type parameter struct {
	name     string
	optional bool
	many     bool // one or more, by place; only the first
}

const routeName = "route"

// params reads a list of parameters: "x w b?" or "x* axis?".
func params(list string) []parameter {
	var out []parameter
	for _, word := range strings.Fields(list) {
		p := parameter{name: strings.TrimRight(word, "?*")}
		p.optional = strings.HasSuffix(word, "?")
		p.many = strings.HasSuffix(word, "*")
		out = append(out, p)
	}
	return out
}

// signature prints parameters as in a message.
func signature(list []parameter) string {
	var words []string
	for _, p := range list {
		switch {
		case p.many:
			words = append(words, p.name+", ...")
		case p.optional:
			words = append(words, p.name+"?")
		default:
			words = append(words, p.name)
		}
	}
	return strings.Join(words, ", ")
}

// allFunctions returns the functions of the language by name. It is made for
// each file: as a variable it would depend on itself, since functions evaluate
// expressions.
func allFunctions() map[string]*function {
	index := map[string]*function{}
	for _, group := range [][]function{tensorFunctions, attentionFunctions, expertFunctions, numberFunctions} {
		for i := range group {
			index[group[i].name] = &group[i]
		}
	}
	return index
}

// invocation is one call of a function: its arguments, evaluated.
type invocation struct {
	*frame
	call  callNode
	at    diag.Pos
	width int
	args  map[string]argument
	many  []argument
	bad   bool
}

type argument struct {
	value value
	node  node
}

// callFunction evaluates the arguments and runs a function.
func (f *frame) callFunction(n callNode, b *function) value {
	c := &invocation{frame: f, call: n, at: n.pos(), width: len(n.name), args: make(map[string]argument, len(n.args))}
	next := 0
	for _, a := range n.args {
		arg := argument{f.eval(a.x), a.x}
		if arg.value == (poison{}) {
			c.bad = true
		}
		switch {
		case a.name != "":
			c.args[a.name] = arg
		case b.params[0].many:
			c.many = append(c.many, arg)
		default:
			c.args[b.params[next].name] = arg
			next++
		}
	}
	if c.bad {
		return poison{}
	}
	v := b.run(c)
	if c.bad {
		return poison{}
	}
	if t, ok := v.(*tensorValue); ok && t.origin.at == (diag.Pos{}) {
		t.origin = origin{"the result of " + n.name, c.at}
	}
	return v
}

// failf reports an error of the call.
func (c *invocation) failf(format string, args ...any) value {
	c.bad = true
	return c.errorf(c.at, c.width, "%s: %s", c.call.name, fmt.Sprintf(format, args...))
}

// failAbout reports an error and says where the values come from.
func (c *invocation) failAbout(list []*tensorValue, format string, args ...any) value {
	c.bad = true
	d := diag.Diagnostic{Pos: c.at, Width: c.width, Message: c.call.name + ": " + fmt.Sprintf(format, args...)}
	return c.noted(c.about(d, list...))
}

// given reports whether an argument is there and not none.
func (c *invocation) given(name string) bool { return c.args[name].value != nil }

// wrong reports an argument of another kind.
func (c *invocation) wrong(name, want string) {
	if c.bad {
		return
	}
	c.bad = true
	a := c.args[name]
	c.errorf(a.pos(c), 1, "%s: %s is %s, want %s", c.call.name, c.nameOf(name), kindOf(a.value), want)
}

func (a argument) pos(c *invocation) diag.Pos {
	if a.node == nil {
		return c.at
	}
	return a.node.pos()
}

// nameOf names an argument by what the author wrote, if that is short.
func (c *invocation) nameOf(name string) string {
	if n, ok := c.args[name].node.(nameNode); ok && n.name != name {
		return name + " (" + n.name + ")"
	}
	return name
}

// tensor returns a tensor argument; nil and c.bad when it is none.
func (c *invocation) tensor(name string) *tensorValue {
	t, ok := c.args[name].value.(*tensorValue)
	if !ok {
		c.wrong(name, "a tensor")
		return nil
	}
	return t
}

// optional returns a tensor argument that may be absent or none.
func (c *invocation) optional(name string) *tensorValue {
	if !c.given(name) {
		return nil
	}
	return c.tensor(name)
}

// rows returns a tensor argument with a row for each token and that many
// extents (0: any number above 1).
func (c *invocation) rows(name string, rank int) *tensorValue {
	t := c.tensor(name)
	if t == nil {
		return nil
	}
	want := map[int]string{0: "[tokens, ...]", 2: "[tokens, N]", 3: "[tokens, heads, N]"}[rank]
	if !t.shape.rowed() || len(t.shape) < 2 || rank > 0 && len(t.shape) != rank {
		c.failAbout([]*tensorValue{t}, "%s is %s, want %s", c.nameOf(name), t.shape, want)
		return nil
	}
	return t
}

// int returns a whole number, or def when it is absent or none.
func (c *invocation) int(name string, def int) int {
	if !c.given(name) {
		return def
	}
	n, ok := whole(c.args[name].value)
	if !ok || n > maxExtent || n < -maxExtent {
		c.wrong(name, "a whole number")
	}
	return int(n)
}

// real returns a number, or def when it is absent or none.
func (c *invocation) real(name string, def float64) float64 {
	if !c.given(name) {
		return def
	}
	x, ok := number(c.args[name].value)
	if !ok {
		c.wrong(name, "a number")
	}
	return x
}

// text returns a text, or def when it is absent or none.
func (c *invocation) text(name, def string) string {
	if !c.given(name) {
		return def
	}
	s, ok := c.args[name].value.(string)
	if !ok {
		c.wrong(name, "a text")
	}
	return s
}

// flag returns true or false, or def when it is absent or none.
func (c *invocation) flag(name string, def bool) bool {
	if !c.given(name) {
		return def
	}
	b, ok := c.args[name].value.(bool)
	if !ok {
		c.wrong(name, "true or false")
	}
	return b
}

// atLeast checks a number.
func (c *invocation) atLeast(name string, have, least int) {
	if !c.bad && have < least {
		c.failf("%s is %d, want at least %d", name, have, least)
	}
}

// axis returns the argument axis, counted from the end when negative.
func (c *invocation) axis(rank, def int) int {
	a := c.int("axis", def)
	if a < 0 {
		a += rank
	}
	if !c.bad && (a < 0 || a >= rank) {
		c.failf("axis %d of a value with %s", c.int("axis", def), countAxes(rank))
	}
	return a
}

// numberFunctions are computed when compiling.
var numberFunctions = []function{
	{"floor", params("x"), "the whole number at or below x", wholePart(math.Floor)},
	{"ceil", params("x"), "the whole number at or above x", wholePart(math.Ceil)},
	{"len", params("list"), "number of entries", runLen},
}

func wholePart(round func(float64) float64) func(*invocation) value {
	return func(c *invocation) value {
		x := round(c.real("x", 0))
		if math.Abs(x) > maxInt {
			return c.failf("%s is above %d, the largest whole number", showReal(x), int64(maxInt))
		}
		return int64(x)
	}
}

func runLen(c *invocation) value {
	list, ok := c.args["list"].value.([]value)
	if !ok {
		c.wrong("list", "a list")
	}
	return int64(len(list))
}

// sameDType gives values that are joined one element type: rounded, unless an
// author asked for f32 in one of them.
func (c *invocation) sameDType(list []*tensorValue) []*tensorValue {
	out := make([]*tensorValue, len(list))
	target := list[0].dtype()
	differ := false
	for i, t := range list {
		out[i] = c.operand(t, c.at)
		if out[i].dtype() != out[0].dtype() {
			differ = true
		}
	}
	if !differ {
		return out
	}
	target = tensor.F32
	for i, t := range out {
		if t.dtype() != target {
			if n := c.add("round", roundTo(target), c.at, t.node); n != nil {
				u := *t
				u.node = n
				out[i] = &u
			}
		}
	}
	return out
}
