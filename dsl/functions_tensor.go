package dsl

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"moec/ir"
	"moec/ir/diag"
	"moec/ir/tensor"
)

// tensorFunctions work on tensors; where it makes sense, on numbers too.
var tensorFunctions = []function{
	{"embed", params("w"), "[tokens, N]: the row of w [V, N] for each token of the step", runEmbed},
	{"linear", params("x w b?"), "[..., M]: x [..., N] times the transpose of w [M, N], plus b [M]", runLinear},

	{"rmsnorm", params("x w? eps"), "x / sqrt(mean(x^2) + eps) over the last axis, times w [N]", runRMSNorm},
	{"layernorm", params("x w? b? eps"), "(x - mean) / sqrt(variance + eps) over the last axis, times w [N], plus b [N]", runLayerNorm},
	{"softmax", params("x"), "softmax over the last axis", runSoftmax},
	{"sum", params("x"), "sum over the last axis, which stays with extent 1", runSum},

	activation("silu", "x / (1 + e^-x)"),
	activation("gelu", "x/2 (1 + erf(x / sqrt 2))"),
	activation("gelu_tanh", "x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))"),
	activation("relu", "max(x, 0)"),
	activation("sigmoid", "1 / (1 + e^-x)"),
	activation("tanh", "hyperbolic tangent"),
	activation("softplus", "log(1 + e^x)"),
	{"activation", params("x name"), "the activation that config.json calls so: silu, gelu, gelu_pytorch_tanh, relu, ...", runActivation},

	{"exp", params("x"), "e^x", runMath("exp", math.Exp)},
	{"log", params("x"), "natural logarithm", runMath("log", math.Log)},
	{"sqrt", params("x"), "square root", runMath("sqrt", math.Sqrt)},
	{"abs", params("x"), "x without its sign", runMath("abs", math.Abs)},
	{"max", params("a b"), "the larger of a and b", runPair("max", math.Max)},
	{"min", params("a b"), "the smaller of a and b", runPair("min", math.Min)},
	{"clamp", params("x low? high?"), "x, at least low and at most high", runClamp},
	{"greater", params("a b"), "1 where a > b, else 0", runGreater},

	{"split", params("x n"), "[..., n, N/n]: the last axis cut into n equal parts", runSplit},
	{"join", params("x"), "[tokens, N]: all axes but the first made one", runJoin},
	{"reshape", params("x shape"), "[tokens, ...]: the elements of each row under other extents, given as a list", runReshape},
	{"concat", params("x* axis?"), "values one after the other along an axis, the last if none is given", runConcat},
	{"broadcast", params("x axis n"), "an axis of extent 1 repeated n times", runBroadcast},
}

func roundTo(d tensor.DType) ir.Attrs { return ir.MakeAttrs(attr("dtype", d)) }

func activation(name, doc string) function {
	return function{name, params("x"), doc, func(c *invocation) value {
		x := c.tensor("x")
		if x == nil {
			return poison{}
		}
		return c.unaryOp(name, x, c.at)
	}}
}

// activationNames maps the spellings of config.json to operations.
var activationNames = map[string]string{
	"silu": "silu", "swish": "silu", "gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
	"gelu_fast": "gelu_tanh", "gelu_tanh": "gelu_tanh", "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "softplus": "softplus",
}

func runActivation(c *invocation) value {
	x, name := c.tensor("x"), c.text("name", "")
	if c.bad {
		return poison{}
	}
	op, ok := activationNames[name]
	if !ok {
		var known []string
		for n := range activationNames {
			known = append(known, n)
		}
		slices.Sort(known)
		return c.failf("no activation is called %q; there are %s", shorten(name), strings.Join(known, ", "))
	}
	return c.unaryOp(op, x, c.at)
}

// runMath computes numbers at once and tensors when the model runs.
func runMath(op string, compute func(float64) float64) func(*invocation) value {
	return func(c *invocation) value {
		if _, ok := number(c.args["x"].value); !ok {
			x := c.tensor("x")
			if x == nil {
				return poison{}
			}
			return c.unaryOp(op, x, c.at)
		}
		if n, ok := whole(c.args["x"].value); ok && op == "abs" {
			return max(n, -n)
		}
		x := c.real("x", 0)
		if r := compute(x); finite(r) {
			return r
		}
		return c.failf("%s has no value", showReal(x))
	}
}

// runPair is runMath for two operands.
func runPair(op string, compute func(a, b float64) float64) func(*invocation) value {
	return func(c *invocation) value {
		a, b := c.args["a"].value, c.args["b"].value
		x, okA := number(a)
		y, okB := number(b)
		if !okA || !okB {
			return c.pair(op)
		}
		r := compute(x, y)
		_, wholeA := whole(a)
		if _, wholeB := whole(b); wholeA && wholeB {
			return int64(r)
		}
		return r
	}
}

// pair applies an operation to the arguments a and b, of which a side is a
// tensor.
func (c *invocation) pair(op string) value {
	a, b := c.args["a"], c.args["b"]
	x, y := c.side(a.node, a.value, c.call.name), c.side(b.node, b.value, c.call.name)
	if x == nil || y == nil {
		return poison{}
	}
	return c.combine(op, x, y, elementwise{c.at, c.call.name, textOf(a.node), textOf(b.node)})
}

// withNumber applies an operation to a tensor and a number.
func (c *invocation) withNumber(op string, v value, x float64) value {
	t, ok := v.(*tensorValue)
	if !ok {
		return v
	}
	s := c.scalar(x, c.at)
	if s == nil {
		return poison{}
	}
	return c.combine(op, t, s, elementwise{c.at, c.call.name, "x", showReal(x)})
}

func runClamp(c *invocation) value {
	x := c.tensor("x")
	if x == nil {
		return poison{}
	}
	if !c.given("low") && !c.given("high") {
		return c.failf("neither low nor high is given")
	}
	var v value = x
	if c.given("low") {
		v = c.withNumber("max", v, c.real("low", 0))
	}
	if c.given("high") {
		v = c.withNumber("min", v, c.real("high", 0))
	}
	return v
}

// stepScale takes every positive number, the smallest included, to 1 or more
// in two multiplications.
const stepScale = 0x1p126

// runGreater makes 1 of every positive difference by scaling and cutting.
func runGreater(c *invocation) value {
	v := c.pair("sub")
	if t, ok := v.(*tensorValue); ok {
		v = c.unaryOp("relu", t, c.at)
	}
	for range 2 {
		v = c.withNumber("min", c.withNumber("mul", v, stepScale), 1)
	}
	return v
}

func runEmbed(c *invocation) value {
	w := c.tensor("w")
	if w == nil {
		return poison{}
	}
	if !w.weight || len(w.shape) != 2 {
		return c.failAbout([]*tensorValue{w}, "%s is %s, want a weight [V, N]", c.nameOf("w"), w.shape)
	}
	n := c.add("embed", nil, c.at, c.input("tokens", c.at), w.node)
	if n == nil {
		return poison{}
	}
	return &tensorValue{node: n, shape: shape{{sym: tensor.Tokens}, w.shape[1]}}
}

func runLinear(c *invocation) value {
	x, w, b := c.tensor("x"), c.tensor("w"), c.optional("b")
	if c.bad || !c.floats(c.at, "linear", x) {
		return poison{}
	}
	if !c.linearShapes(x, w, b) {
		return poison{}
	}
	if w.expert != nil && !x.slots {
		return c.failAbout([]*tensorValue{w, x}, "each expert has its own %s, and %s is not inside the experts", textOf(c.args["w"].node), textOf(c.args["x"].node))
	}
	x = c.operand(x, c.at)
	var v value
	out := x.shape.with(len(x.shape)-1, w.shape[0])
	if w.expert != nil {
		v = wrap(c.add("expert_matmul", w.expert.attrs(), c.at, x.node, w.node, w.expert.ids), x, out)
	} else {
		v = wrap(c.add("matmul", nil, c.at, x.node, w.node), x, out)
	}
	if y, ok := v.(*tensorValue); ok && b != nil {
		return c.combine("add", y, b, elementwise{c.at, "linear", "x w", textOf(c.args["b"].node)})
	}
	return v
}

func (c *invocation) linearShapes(x, w, b *tensorValue) bool {
	both := []*tensorValue{x, w}
	switch {
	case !x.shape.rowed() || len(x.shape) < 2:
		c.failAbout(both[:1], "%s is %s, want [tokens, ..., N]", c.nameOf("x"), x.shape)
	case len(w.shape) != 2 || w.shape.rowed():
		c.failAbout(both[1:], "%s is %s, want a weight [M, N]", c.nameOf("w"), w.shape)
	case !x.shape.last().same(w.shape[1]):
		d := diag.Diagnostic{Pos: c.at, Width: c.width, Message: fmt.Sprintf("linear: %s has %s entries in its last axis, %s takes %s",
			textOf(c.args["x"].node), x.shape.last(), textOf(c.args["w"].node), w.shape[1])}
		d = c.about(d, both...)
		if x.shape.last().same(w.shape[0]) {
			d = d.Noted(diag.Pos{}, "a weight is declared [out, in]; one that is stored [in, out] has transposed after its key")
		}
		c.bad = true
		c.noted(d)
	case b != nil && (len(b.shape) != 1 || !b.shape[0].same(w.shape[0])):
		c.failAbout([]*tensorValue{b, w}, "the bias %s is %s, want [%s]", c.nameOf("b"), b.shape, w.shape[0])
	default:
		return true
	}
	return false
}

func runRMSNorm(c *invocation) value {
	return c.norm("rms_norm", c.optional("w"), nil)
}

func runLayerNorm(c *invocation) value {
	return c.norm("layer_norm", c.optional("w"), c.optional("b"))
}

// norm applies a normalisation. A vector that each expert has its own of is
// multiplied or added afterwards.
func (c *invocation) norm(op string, w, b *tensorValue) value {
	x, eps := c.rows("x", 0), c.real("eps", 0)
	if c.bad || !c.floats(c.at, c.call.name, x) {
		return poison{}
	}
	for _, p := range []struct {
		name string
		t    *tensorValue
	}{{"w", w}, {"b", b}} {
		if p.t != nil && (len(p.t.shape) != 1 || !p.t.shape[0].same(x.shape.last())) {
			return c.failAbout([]*tensorValue{p.t, x}, "%s is %s, the last axis of x wants [%s]", c.nameOf(p.name), p.t.shape, x.shape.last())
		}
	}
	args := []*ir.Node{x.node}
	inside := w != nil && w.expert == nil
	if inside {
		args = append(args, w.node)
		w = nil
	}
	if inside && b != nil && b.expert == nil {
		args = append(args, b.node)
		b = nil
	}
	v := wrap(c.add(op, ir.MakeAttrs(attr("eps", eps)), c.at, args...), x, x.shape)
	for _, step := range []struct {
		op string
		t  *tensorValue
	}{{"mul", w}, {"add", b}} {
		if y, ok := v.(*tensorValue); ok && step.t != nil {
			v = c.combine(step.op, y, step.t, elementwise{c.at, c.call.name, "x", "w"})
		}
	}
	return v
}

func runSoftmax(c *invocation) value {
	x := c.rows("x", 0)
	if x == nil || !c.floats(c.at, "softmax", x) {
		return poison{}
	}
	return wrap(c.add("softmax", nil, c.at, x.node), x, x.shape)
}

func runSum(c *invocation) value {
	x := c.rows("x", 0)
	if x == nil || !c.floats(c.at, "sum", x) {
		return poison{}
	}
	return wrap(c.add("sum", nil, c.at, x.node), x, x.shape.with(len(x.shape)-1, extent{n: 1}))
}

func runSplit(c *invocation) value {
	x, n := c.rows("x", 0), c.int("n", 0)
	if c.bad {
		return poison{}
	}
	last := x.shape.last()
	if n < 1 || last.n%n != 0 {
		return c.failAbout([]*tensorValue{x}, "%s entries do not cut into %d equal parts", last, n)
	}
	parts := extent{n: n, text: textOf(c.args["n"].node)}
	each := extent{n: last.n / n, text: strings.TrimPrefix(last.text, parts.text+"*")}
	if each.text == last.text {
		each.text = ""
	}
	s := append(append(shape{}, x.shape[:len(x.shape)-1]...), parts, each)
	return c.frame.reshape(x, s, c.at)
}

func runJoin(c *invocation) value {
	x := c.rows("x", 0)
	if x == nil {
		return poison{}
	}
	all := extent{n: 1}
	var words []string
	for _, e := range x.shape[1:] {
		all.n *= e.n
		if e.text != "" {
			words = append(words, e.text)
		}
	}
	if len(words) == len(x.shape)-1 {
		all.text = strings.Join(words, "*")
	}
	return c.frame.reshape(x, shape{x.shape[0], all}, c.at)
}

func runReshape(c *invocation) value {
	x := c.rows("x", 0)
	list, ok := c.args["shape"].value.([]value)
	if !ok {
		c.wrong("shape", "a list of extents after the tokens")
	}
	if c.bad {
		return poison{}
	}
	s := shape{x.shape[0]}
	have, want := int64(1), int64(1)
	for _, e := range x.shape[1:] {
		have *= int64(e.n)
	}
	words, _ := c.args["shape"].node.(listNode)
	for i, v := range list {
		n, ok := whole(v)
		if !ok || n < 1 || n > maxExtent {
			return c.failf("extent %d of the list is %s, want a whole number from 1", i, show(v))
		}
		if want, ok = product(want, n); !ok {
			want = maxInt
		}
		e := extent{n: int(n)}
		if i < len(words.items) {
			e.text = textOf(words.items[i])
		}
		s = append(s, e)
	}
	if have != want || len(list) == 0 {
		return c.failAbout([]*tensorValue{x}, "a row of %s has %d elements, the new extents %s have %d", x.shape, have, s[1:], want)
	}
	return c.frame.reshape(x, s, c.at)
}

func runConcat(c *invocation) value {
	var list []*tensorValue
	for _, a := range c.many {
		t, ok := a.value.(*tensorValue)
		if !ok {
			return c.failf("%s is %s, want a tensor", textOf(a.node), kindOf(a.value))
		}
		if t.expert != nil {
			return c.failf("%s is a weight that each expert has its own of; those are not joined", textOf(a.node))
		}
		list = append(list, t)
	}
	first := list[0]
	axis := c.axis(len(first.shape), -1)
	if c.bad {
		return poison{}
	}
	if first.shape[axis].sym != "" {
		return c.failf("the tokens of a step are not joined")
	}
	size, words, all := 0, []string(nil), true
	for i, t := range list {
		if len(t.shape) != len(first.shape) || t.slots != first.slots || !sameBut(t.shape, first.shape, axis) {
			return c.failAbout([]*tensorValue{first, t}, "%s is %s and does not join %s along axis %d", textOf(c.many[i].node), t.shape, first.shape, axis)
		}
		size += t.shape[axis].n
		words = append(words, t.shape[axis].text)
		all = all && t.shape[axis].text != ""
	}
	joined := extent{n: size}
	if all {
		joined.text = "(" + strings.Join(words, " + ") + ")"
	}
	list = c.sameDType(list)
	nodes := make([]*ir.Node, len(list))
	for i, t := range list {
		nodes[i] = t.node
	}
	n := c.add("concat", ir.MakeAttrs(attr("axis", first.axis(axis))), c.at, nodes...)
	return c.moved(n, list[0], first.shape.with(axis, joined))
}

func sameBut(a, b shape, axis int) bool {
	for i := range a {
		if i != axis && !a[i].same(b[i]) {
			return false
		}
	}
	return true
}

func runBroadcast(c *invocation) value {
	x, n := c.tensor("x"), c.int("n", 0)
	if c.bad {
		return poison{}
	}
	axis := c.axis(len(x.shape), 0)
	c.atLeast("n", n, 1)
	switch {
	case c.bad:
		return poison{}
	case x.expert != nil:
		return c.failf("a weight that each expert has its own of is not repeated")
	case !x.shape[axis].isOne():
		return c.failAbout([]*tensorValue{x}, "axis %d of %s has extent %s, want 1", axis, x.shape, x.shape[axis])
	}
	node := c.add("broadcast", ir.MakeAttrs(attr("axis", x.axis(axis)), attr("n", n)), c.at, x.node)
	return c.moved(node, x, x.shape.with(axis, extent{n: n, text: textOf(c.args["n"].node)}))
}
