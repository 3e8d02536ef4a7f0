package dsl

import (
	"errors"
	"fmt"

	"moec/ir"
	"moec/ir/diag"
	"moec/ir/tensor"
)

func attr(name string, value any) ir.Attr { return ir.Attr{Name: name, Value: value} }

// add appends an operation to the graph; nil after an error. What can go wrong
// is checked before, in the author's words; the type rules of the graph are a
// second look.
func (f *frame) add(op string, attrs ir.Attrs, at diag.Pos, args ...*ir.Node) *ir.Node {
	if !f.step(at) {
		return nil
	}
	like := &ir.Node{Layer: f.layer, Device: -1, Group: -1, Block: f.block.name, Pos: at}
	n, err := f.graph.Add(ir.Op(op), args, attrs, like)
	if err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			err = inner
		}
		f.errorf(at, 1, "%s: %v", op, err)
		return nil
	}
	return n
}

// input returns a list that each step brings.
func (f *frame) input(name string, at diag.Pos) *ir.Node {
	if n := f.inputs[name]; n != nil {
		return n
	}
	n := f.addOutside("input", ir.MakeAttrs(attr("name", name)), at)
	if n != nil {
		f.inputs[name] = n
	}
	return n
}

// addOutside appends an operation that layers and blocks share.
func (f *frame) addOutside(op string, attrs ir.Attrs, at diag.Pos) *ir.Node {
	layer, block := f.layer, f.block
	f.layer, f.block = -1, blockName{}
	n := f.add(op, attrs, at)
	f.layer, f.block = layer, block
	return n
}

// constant returns a table of the graph.
func (f *frame) constant(values []float32, at diag.Pos) *ir.Node {
	return f.addOutside("const", ir.MakeAttrs(attr("shape", []int{len(values)}), attr("values", values)), at)
}

// scalar returns a number as a value of the graph.
func (f *frame) scalar(x float64, at diag.Pos) *tensorValue {
	n := f.add("const", ir.MakeAttrs(attr("shape", []int{}), attr("values", []float32{float32(x)})), at)
	if n == nil {
		return nil
	}
	return &tensorValue{node: n, weight: true}
}

// rounded returns x in a storage type. Weights keep theirs, and indices are
// not rounded.
func (f *frame) rounded(x *tensorValue, d tensor.DType, at diag.Pos) *tensorValue {
	if x.weight || !x.dtype().Float() || x.dtype() == d || d == tensor.F32 {
		return x
	}
	n := f.add("round", ir.MakeAttrs(attr("dtype", d)), at, x.node)
	if n == nil {
		return x
	}
	y := *x
	y.node, y.loose = n, false
	return &y
}

// operand returns x as an operation takes it that reads stored values: rounded
// to the storage type unless its author asked for f32.
func (f *frame) operand(x *tensorValue, at diag.Pos) *tensorValue {
	if x.loose {
		return f.rounded(x, f.act, at)
	}
	return x
}

// wrap makes a value of a new operation; poison when it failed.
func wrap(n *ir.Node, like *tensorValue, s shape) value {
	if n == nil {
		return poison{}
	}
	return like.derived(n, s)
}

// unaryOp applies an element by element operation.
func (f *frame) unaryOp(op string, x *tensorValue, at diag.Pos) value {
	x = f.perSlot(x, at)
	if x == nil || !f.floats(at, op, x) {
		return poison{}
	}
	return wrap(f.add(op, nil, at, x.node), x, x.shape)
}

// floats refuses operands that hold indices.
func (f *frame) floats(at diag.Pos, what string, list ...*tensorValue) bool {
	for _, x := range list {
		if !x.dtype().Float() {
			f.noted(f.about(diag.Diagnostic{Pos: at, Width: 1, Message: fmt.Sprintf("%s computes with numbers; this is a choice of entries, %s", what, x)}, x))
			return false
		}
	}
	return true
}

// perSlot turns the vector that each expert has into one for each slot. Other
// values stay as they are; nil after an error.
func (f *frame) perSlot(x *tensorValue, at diag.Pos) *tensorValue {
	if x.expert == nil {
		return x
	}
	if len(x.shape) > 1 {
		f.noted(f.about(diag.Diagnostic{Pos: at, Width: 1, Message: fmt.Sprintf("a matrix that each expert has its own of only serves in linear; this is %s", x)}, x))
		return nil
	}
	n := f.add("expert_rows", x.expert.attrs(), at, x.node, x.expert.ids)
	if n == nil {
		return nil
	}
	s := shape{{sym: tensor.Tokens}, x.shape.last()}
	return &tensorValue{node: n, shape: s, slots: true, loose: n.Type.DType == tensor.F32, origin: x.origin}
}

// attrs returns the attributes of operations over experts.
func (e *expertBody) attrs() ir.Attrs {
	return ir.MakeAttrs(attr("experts", e.experts), attr("total", e.total))
}

// elementOps maps operators to operations on tensors.
var elementOps = map[string]string{"+": "add", "-": "sub", "*": "mul", "/": "div"}

// tensorBinary applies an operator of which a side is a tensor.
func (f *frame) tensorBinary(n binaryNode, a, b value) value {
	op := elementOps[n.op]
	if op == "" {
		d := diag.Diagnostic{Pos: n.pos(), Width: len(n.op), Message: fmt.Sprintf("%s takes values known when compiling; tensors are combined with + - * /", n.op)}
		return f.noted(d)
	}
	x, y := f.side(n.x, a, n.op), f.side(n.y, b, n.op)
	if x == nil || y == nil {
		return poison{}
	}
	return f.combine(op, x, y, elementwise{n.pos(), n.op, textOf(n.x), textOf(n.y)})
}

// side returns an operand of an operator as a tensor.
func (f *frame) side(n node, v value, op string) *tensorValue {
	if t, ok := v.(*tensorValue); ok {
		return t
	}
	if x, ok := number(v); ok {
		return f.scalar(x, n.pos())
	}
	f.errorf(n.pos(), 1, "%s takes tensors and numbers; %s is %s", op, textOf(n), kindOf(v))
	return nil
}

// elementwise says which operation is applied to what, for messages.
type elementwise struct {
	at         diag.Pos
	name, x, y string
}

// combine applies an operation to two tensors element by element.
func (f *frame) combine(op string, x, y *tensorValue, e elementwise) value {
	x, y = f.perSlot(x, e.at), f.perSlot(y, e.at)
	if x == nil || y == nil || !f.floats(e.at, e.name, x, y) {
		return poison{}
	}
	if x.shape.rowed() && y.shape.rowed() && x.slots != y.slots {
		return f.errorf(e.at, len(e.name), "%s takes two values of the same rows; only one of %s and %s is inside the experts", e.name, e.x, e.y)
	}
	s, axis := broadcastShapes(x.shape, y.shape)
	if axis >= 0 {
		d := diag.Diagnostic{Pos: e.at, Width: len(e.name), Message: fmt.Sprintf(
			"%s takes two values whose extents agree or are 1, compared from the last; %s is %s and %s is %s", e.name, e.x, x.shape, e.y, y.shape)}
		return f.noted(f.about(d, x, y))
	}
	n := f.add(op, nil, e.at, x.node, y.node)
	if n == nil {
		return poison{}
	}
	return &tensorValue{node: n, shape: s, slots: x.slots || y.slots, weight: x.weight && y.weight, loose: true}
}

// broadcastShapes aligns shapes at their last extents; axis is where they do
// not match, counted from the last, or -1.
func broadcastShapes(a, b shape) (s shape, axis int) {
	if len(a) < len(b) {
		a, b = b, a
	}
	s = append(shape{}, a...)
	for i := range b {
		k := len(a) - 1 - i
		d, e := a[k], b[len(b)-1-i]
		switch {
		case d.same(e), e.isOne():
		case d.isOne():
			s[k] = e
		default:
			return nil, i
		}
	}
	return s, -1
}

// tensorIndex takes parts of the axes of a tensor.
func (f *frame) tensorIndex(n indexNode, x *tensorValue) value {
	if len(n.items) != len(x.shape) {
		return f.noted(f.about(diag.Diagnostic{Pos: n.pos(), Width: 1, Message: fmt.Sprintf("the index has %s, %s is %s", countAxes(len(n.items)), textOf(n.x), x.shape)}, x))
	}
	if x.expert != nil {
		return f.errorf(n.pos(), 1, "a weight that each expert has its own of is not cut here; cut the stored tensor, after its key")
	}
	var v value = x
	gone := 0
	for i, p := range n.items {
		t := v.(*tensorValue)
		axis := i - gone
		if v = f.cut(t, axis, p); v == (poison{}) {
			return v
		}
		if p.one != nil {
			if v = f.dropAxis(v.(*tensorValue), axis, p.at); v == (poison{}) {
				return v
			}
			gone++
		}
	}
	return v
}

// cut takes a part of one axis.
func (f *frame) cut(x *tensorValue, axis int, p indexPart) value {
	if p.full() {
		return x
	}
	e := x.shape[axis]
	if e.sym != "" {
		return f.errorf(p.at, 1, "the tokens of a step are not cut; write : for the first axis")
	}
	lo, hi, step, ok := f.span(p, e.n, func() string { return fmt.Sprintf("axis %d of %s", axis, x.shape) })
	if !ok {
		return poison{}
	}
	attrs := []ir.Attr{attr("axis", x.axis(axis)), attr("lo", lo), attr("hi", hi)}
	if step != 1 {
		attrs = append(attrs, attr("step", step))
	}
	size := extent{n: (hi - lo + step - 1) / step}
	if lo == 0 && step == 1 && p.hi != nil {
		size.text = textOf(p.hi)
	}
	return f.moved(f.add("slice", ir.MakeAttrs(attrs...), p.at, x.node), x, x.shape.with(axis, size))
}

// moved wraps an operation that copies elements: what had to be rounded still
// has to be.
func (f *frame) moved(n *ir.Node, like *tensorValue, s shape) value {
	v := wrap(n, like, s)
	if t, ok := v.(*tensorValue); ok {
		t.loose = like.loose
	}
	return v
}

// dropAxis removes an axis of one entry.
func (f *frame) dropAxis(x *tensorValue, axis int, at diag.Pos) value {
	s := append(shape{}, x.shape[:axis]...)
	return f.reshape(x, append(s, x.shape[axis+1:]...), at)
}

// reshape gives the elements of each row other extents.
func (f *frame) reshape(x *tensorValue, s shape, at diag.Pos) value {
	if !x.shape.rowed() {
		return f.errorf(at, 1, "only values with a row for each token take other extents; this is %s", x.shape)
	}
	tail := s[1:].ints()
	if x.slots {
		tail = append([]int{x.node.Type.Shape[1].N}, tail...)
	}
	return f.moved(f.add("reshape", ir.MakeAttrs(attr("tail", tail)), at, x.node), x, s)
}
