package ir

import (
	"fmt"
	"strings"

	"moec/ir/tensor"
	"moec/ir/tree"
)

// Infer checks operands and attributes of n against its row of the op table
// and returns the type of its result.
func Infer(n *Node) (tensor.Type, error) {
	if err := checkArgs(n); err != nil {
		return tensor.Type{}, fmt.Errorf("%s: %w", n.Op.Name, err)
	}
	if err := checkAttrs(n); err != nil {
		return tensor.Type{}, fmt.Errorf("%s: %w", n.Op.Name, err)
	}
	t, err := n.Op.Infer(n)
	if err != nil {
		return tensor.Type{}, fmt.Errorf("%s: %w", n.Op.Name, err)
	}
	return t, nil
}

func checkArgs(n *Node) error {
	least, most := 0, len(n.Op.Args)
	for _, a := range n.Op.Args {
		if !a.Optional {
			least++
		}
		if a.Many {
			most = len(n.Args)
		}
	}
	if len(n.Args) < least || len(n.Args) > most {
		return fmt.Errorf("has %d operands, takes %s", len(n.Args), arity(n.Op))
	}
	for i, a := range n.Args {
		if a == nil {
			return fmt.Errorf("operand %d is missing", i)
		}
	}
	return nil
}

func arity(o *OpInfo) string {
	var names []string
	for _, a := range o.Args {
		switch {
		case a.Many:
			names = append(names, a.Name+"...")
		case a.Optional:
			names = append(names, "["+a.Name+"]")
		default:
			names = append(names, a.Name)
		}
	}
	return "(" + strings.Join(names, ", ") + ")"
}

func checkAttrs(n *Node) error {
	for _, at := range n.Attrs {
		info, ok := attrInfo(n.Op, at.Name)
		if !ok {
			return fmt.Errorf("has no attribute %q", at.Name)
		}
		if kind, ok := kindOf(at.Value); !ok || kind != info.Kind {
			return fmt.Errorf("attribute %q is not of kind %s", at.Name, info.Kind)
		}
	}
	for _, info := range n.Op.Attrs {
		if !info.Optional && !n.Attrs.Has(info.Name) {
			return fmt.Errorf("attribute %q is missing", info.Name)
		}
	}
	return nil
}

func attrInfo(o *OpInfo, name string) (AttrInfo, bool) {
	for _, info := range o.Attrs {
		if info.Name == name {
			return info, true
		}
	}
	return AttrInfo{}, false
}

func f32(s tensor.Shape) tensor.Type { return tensor.Type{DType: tensor.F32, Shape: s} }

func (n *Node) arg(i int) tensor.Type { return n.Args[i].Type }

func inferInput(n *Node) (tensor.Type, error) {
	sym := tensor.Tokens
	switch name := n.Attrs.Text("name"); name {
	case "tokens", "positions", "sequences":
	case "rows":
		sym = tensor.Rows
	default:
		return tensor.Type{}, fmt.Errorf("no step brings a list %q: want tokens, positions, sequences or rows", name)
	}
	if n.Group >= 0 {
		sym = sym.Of(n.Group)
	}
	return tensor.Of(tensor.I32, tensor.S(sym)), nil
}

func inferConst(n *Node) (tensor.Type, error) {
	shape := tensor.Ints(n.Attrs.Ints("shape")...)
	if got, want := len(n.Attrs.Floats("values")), shape.Static(); got != want {
		return tensor.Type{}, fmt.Errorf("has %d values for shape %s, which needs %d", got, shape, want)
	}
	return f32(shape), nil
}

func inferWeight(n *Node) (tensor.Type, error) {
	d := n.Attrs.DType("dtype")
	if !d.Float() {
		return tensor.Type{}, fmt.Errorf("element type %s is not a floating-point type", d)
	}
	return tensor.Type{DType: d, Shape: tensor.Ints(n.Attrs.Ints("shape")...)}, nil
}

func inferParam(n *Node) (tensor.Type, error) { return tensor.ParseType(n.Attrs.Text("type")) }

// inferBinary aligns shapes at their last extents; an extent of 1, or one
// that is not there, is repeated.
func inferBinary(n *Node) (tensor.Type, error) {
	a, b := n.arg(0).Shape, n.arg(1).Shape
	if len(a) < len(b) {
		a, b = b, a
	}
	out := append(tensor.Shape{}, a...)
	shift := len(a) - len(b)
	for i, d := range b {
		switch e := a[shift+i]; {
		case d == e, d == tensor.N(1):
		case e == tensor.N(1):
			out[shift+i] = d
		default:
			return tensor.Type{}, fmt.Errorf("shapes %s and %s do not match: extent %s against %s", n.arg(0).Shape, n.arg(1).Shape, e, d)
		}
	}
	return f32(out), nil
}

func inferSame(n *Node) (tensor.Type, error) { return f32(n.arg(0).Shape), nil }

func inferMoved(n *Node) (tensor.Type, error) { return n.arg(0), nil }

func inferRound(n *Node) (tensor.Type, error) {
	d := n.Attrs.DType("dtype")
	if !d.Float() {
		return tensor.Type{}, fmt.Errorf("cannot round to %s", d)
	}
	return tensor.Type{DType: d, Shape: n.arg(0).Shape}, nil
}

func inferSum(n *Node) (tensor.Type, error) {
	s := n.arg(0).Shape
	if len(s) == 0 {
		return tensor.Type{}, fmt.Errorf("a scalar has no last axis")
	}
	return f32(s.With(len(s)-1, tensor.N(1))), nil
}

func inferNorm(n *Node) (tensor.Type, error) {
	x := n.arg(0).Shape
	for i := 1; i < len(n.Args); i++ {
		if w := n.arg(i).Shape; len(w) != 1 || w[0] != x.Last() {
			return tensor.Type{}, fmt.Errorf("%s has shape %s; the last extent of x %s wants [%s]", n.Op.Args[i].Name, w, x, x.Last())
		}
	}
	return f32(x), nil
}

func inferReshape(n *Node) (tensor.Type, error) {
	x := n.arg(0)
	if len(x.Shape) == 0 || x.Shape[0].Sym == "" {
		return tensor.Type{}, fmt.Errorf("x %s has no rows", x.Shape)
	}
	tail := tensor.Ints(n.Attrs.Ints("tail")...)
	if got, want := tail.Static(), x.Shape[1:].Static(); got != want {
		return tensor.Type{}, fmt.Errorf("a row of %s has %d elements, %s has %d", x.Shape, want, tail, got)
	}
	return tensor.Type{DType: x.DType, Shape: append(tensor.Shape{x.Shape[0]}, tail...)}, nil
}

func (n *Node) axis() (int, error) {
	axis, rank := n.Attrs.Int("axis", -1), len(n.arg(0).Shape)
	if axis < 0 || axis >= rank {
		return 0, fmt.Errorf("axis %d is outside shape %s", axis, n.arg(0).Shape)
	}
	return axis, nil
}

func inferSlice(n *Node) (tensor.Type, error) {
	axis, err := n.axis()
	if err != nil {
		return tensor.Type{}, err
	}
	x := n.arg(0)
	lo, hi, step := n.Attrs.Int("lo", 0), n.Attrs.Int("hi", 0), n.Attrs.Int("step", 1)
	d := x.Shape[axis]
	if d.Sym != "" || lo < 0 || hi > d.N || lo >= hi || step < 1 {
		return tensor.Type{}, fmt.Errorf("[%d:%d:%d] is not a part of axis %d of %s", lo, hi, step, axis, x.Shape)
	}
	return tensor.Type{DType: x.DType, Shape: x.Shape.With(axis, tensor.N((hi-lo+step-1)/step))}, nil
}

// inferConcat joins constant extents, or the rows of all token groups.
func inferConcat(n *Node) (tensor.Type, error) {
	axis, err := n.axis()
	if err != nil {
		return tensor.Type{}, err
	}
	first := n.arg(0)
	sum := tensor.N(0)
	for i := range n.Args {
		t := n.arg(i)
		if t.DType != first.DType || len(t.Shape) != len(first.Shape) || !t.Shape.With(axis, first.Shape[axis]).Equal(first.Shape) {
			return tensor.Type{}, fmt.Errorf("operand %d is %s, which does not join %s along axis %d", i, t, first, axis)
		}
		switch d := t.Shape[axis]; {
		case d.Sym == "":
			sum.N += d.N
		case d.Sym.Group() == i:
			sum.Sym = d.Sym.Base()
		default:
			return tensor.Type{}, fmt.Errorf("operand %d has extent %s on axis %d, not the rows of group %d", i, d, axis, i)
		}
	}
	if sum.Sym != "" && sum.N != 0 {
		return tensor.Type{}, fmt.Errorf("axis %d joins rows and constant extents", axis)
	}
	return tensor.Type{DType: first.DType, Shape: first.Shape.With(axis, sum)}, nil
}

func inferBroadcast(n *Node) (tensor.Type, error) {
	axis, err := n.axis()
	if err != nil {
		return tensor.Type{}, err
	}
	x := n.arg(0)
	if count := n.Attrs.Int("n", 0); x.Shape[axis] != tensor.N(1) || count < 1 {
		return tensor.Type{}, fmt.Errorf("axis %d of %s cannot be repeated %d times: its extent is not 1", axis, x.Shape, count)
	}
	return tensor.Type{DType: x.DType, Shape: x.Shape.With(axis, tensor.N(n.Attrs.Int("n", 0)))}, nil
}

// rows returns the row symbol of operand i.
func (n *Node) rows(i int) (tensor.Dim, error) {
	s := n.arg(i).Shape
	if len(s) == 0 || s[0].Sym == "" || s[0].Sym.Base() == tensor.Cached {
		return tensor.Dim{}, fmt.Errorf("%s %s has no rows", n.Op.Args[min(i, len(n.Op.Args)-1)].Name, s)
	}
	return s[0], nil
}

// sameRows checks that the listed operands have one row for each of operand 0's.
func (n *Node) sameRows(list ...int) error {
	first, err := n.rows(0)
	if err != nil {
		return err
	}
	for _, i := range list {
		d, err := n.rows(i)
		if err != nil {
			return err
		}
		if d != first {
			return fmt.Errorf("%s has rows %s, %s has rows %s", n.Op.Args[i].Name, d, n.Op.Args[0].Name, first)
		}
	}
	return nil
}

// rank checks the number of extents of operand i.
func (n *Node) rank(i, want int) error {
	if s := n.arg(i).Shape; len(s) != want {
		return fmt.Errorf("%s has shape %s, want %d extents", n.Op.Args[i].Name, s, want)
	}
	return nil
}

// ranks checks the ranks of the first operands.
func (n *Node) ranks(want ...int) error {
	for i, w := range want {
		if err := n.rank(i, w); err != nil {
			return err
		}
	}
	return nil
}

// ints checks that operand i holds integers.
func (n *Node) ints(list ...int) error {
	for _, i := range list {
		if n.arg(i).DType != tensor.I32 {
			return fmt.Errorf("%s is %s, want i32", n.Op.Args[i].Name, n.arg(i).DType)
		}
	}
	return nil
}

// all returns the first error.
func all(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func inferTakeRows(n *Node) (tensor.Type, error) {
	if _, err := n.rows(0); err != nil {
		return tensor.Type{}, err
	}
	if err := all(n.rank(1, 1), n.ints(1)); err != nil {
		return tensor.Type{}, err
	}
	return tensor.Type{DType: n.arg(0).DType, Shape: n.arg(0).Shape.With(0, n.arg(1).Shape[0])}, nil
}

func inferEmbed(n *Node) (tensor.Type, error) {
	if err := all(n.ranks(1, 2), n.ints(0)); err != nil {
		return tensor.Type{}, err
	}
	return tensor.Of(n.arg(1).DType, n.arg(0).Shape[0], n.arg(1).Shape[1]), nil
}

func inferGather(n *Node) (tensor.Type, error) {
	if err := all(n.ranks(2, 2), n.ints(1), n.sameRows(1)); err != nil {
		return tensor.Type{}, err
	}
	return tensor.Type{DType: n.arg(0).DType, Shape: n.arg(1).Shape}, nil
}

// contraction checks that the last extents of x and w agree and that the
// segment bounds cut it.
func (n *Node) contraction() error {
	k := n.arg(0).Shape.Last()
	if w := n.arg(1).Shape.Last(); w != k || k.Sym != "" {
		return fmt.Errorf("x %s has %s features, w %s takes %s", n.arg(0).Shape, k, n.arg(1).Shape, w)
	}
	b := n.Attrs.Ints("bounds")
	if b == nil {
		return nil
	}
	if len(b) < 2 || b[0] != 0 || b[len(b)-1] != k.N {
		return fmt.Errorf("bounds %v do not span the %d features", b, k.N)
	}
	for i := 1; i < len(b); i++ {
		if b[i] <= b[i-1] {
			return fmt.Errorf("bounds %v do not ascend", b)
		}
	}
	return nil
}

func inferMatmul(n *Node) (tensor.Type, error) {
	if err := all(n.rank(1, 2), n.contraction()); err != nil {
		return tensor.Type{}, err
	}
	x := n.arg(0).Shape
	return f32(x.With(len(x)-1, n.arg(1).Shape[0])), nil
}

// LocalSpans returns the subtrees that the local segments of a matmul_nodes
// or expert_matmul_nodes cover, one for each row of its first axis.
func (n *Node) LocalSpans() []tree.Span {
	first, count := n.Attrs.Int("leaf", 0), len(n.Attrs.Ints("bounds"))-1
	return tree.Cover(tree.Range(first, first+count), n.Attrs.Int("leaves", 0), nil)
}

func (n *Node) segmentNodes() (int, error) {
	first, count, leaves := n.Attrs.Int("leaf", 0), len(n.Attrs.Ints("bounds"))-1, n.Attrs.Int("leaves", 0)
	if first < 0 || count < 1 || first+count > leaves {
		return 0, fmt.Errorf("segments %d to %d are outside the %d of the sum", first, first+count, leaves)
	}
	return len(n.LocalSpans()), nil
}

func inferMatmulNodes(n *Node) (tensor.Type, error) {
	t, err := inferMatmul(n)
	if err != nil {
		return t, err
	}
	nodes, err := n.segmentNodes()
	return f32(append(tensor.Shape{tensor.N(nodes)}, t.Shape...)), err
}

func inferRope(n *Node) (tensor.Type, error) {
	if err := all(n.ranks(3, 1, 1), n.ints(1), n.sameRows(1)); err != nil {
		return tensor.Type{}, err
	}
	if style := n.Attrs.Text("style"); style != "half" && style != "interleaved" {
		return tensor.Type{}, fmt.Errorf("style %q is neither half nor interleaved", style)
	}
	if f, d := n.arg(2).Shape[0].N, n.arg(0).Shape[2].N; f < 1 || 2*f > d {
		return tensor.Type{}, fmt.Errorf("%d frequencies turn %d entries, a head has %d", f, 2*f, d)
	}
	return f32(n.arg(0).Shape), nil
}

func inferAppend(n *Node) (tensor.Type, error) {
	if err := all(n.ranks(3, 3, 1, 1), n.ints(2, 3), n.sameRows(1, 2, 3)); err != nil {
		return tensor.Type{}, err
	}
	k, v := n.arg(0), n.arg(1)
	if k.DType != v.DType || k.Shape[1] != v.Shape[1] {
		return tensor.Type{}, fmt.Errorf("keys %s and values %s differ in heads or type", k, v)
	}
	return tensor.Of(k.DType, tensor.S(tensor.Cached), k.Shape[1], tensor.N(k.Shape[2].N+v.Shape[2].N)), nil
}

func inferAttention(n *Node) (tensor.Type, error) {
	if err := all(n.ranks(3, 3, 1, 1), n.ints(2, 3), n.sameRows(2, 3)); err != nil {
		return tensor.Type{}, err
	}
	q, kv := n.arg(0).Shape, n.arg(1).Shape
	if kv[0].Sym != tensor.Cached || kv[2].N <= q[2].N {
		return tensor.Type{}, fmt.Errorf("kv %s is not a cache of keys of %s entries and values", kv, q[2])
	}
	group, first := n.Attrs.Int("group", 0), n.Attrs.Int("q_first", 0)
	if group < 1 {
		return tensor.Type{}, fmt.Errorf("group %d is not a number of heads", group)
	}
	if last := (first+q[1].N-1)/group - n.Attrs.Int("kv_first", 0); last >= kv[1].N || first/group < n.Attrs.Int("kv_first", 0) {
		return tensor.Type{}, fmt.Errorf("%s query heads from %d in groups of %d do not fit %s KV heads from %d", q[1], first, group, kv[1], n.Attrs.Int("kv_first", 0))
	}
	if len(n.Args) == 5 && !n.arg(4).Shape.Equal(tensor.Shape{q[1]}) {
		return tensor.Type{}, fmt.Errorf("sinks have shape %s for %s heads", n.arg(4).Shape, q[1])
	}
	if n.Attrs.Int("chunk", 0) < 1 || n.Attrs.Has("window") && n.Attrs.Int("window", 0) < 1 {
		return tensor.Type{}, fmt.Errorf("chunk and window must be at least 1")
	}
	return f32(tensor.Shape{q[0], q[1], tensor.N(kv[2].N - q[2].N)}), nil
}

func inferTopK(n *Node) (tensor.Type, error) {
	if err := n.rank(0, 2); err != nil {
		return tensor.Type{}, err
	}
	e, k := n.arg(0).Shape[1].N, n.Attrs.Int("k", 0)
	groups, top := n.Attrs.Int("groups", 1), n.Attrs.Int("top_groups", 1)
	if groups < 1 || e%groups != 0 || top < 1 || top > groups {
		return tensor.Type{}, fmt.Errorf("%d groups of which %d are kept do not divide %d entries", groups, top, e)
	}
	if open := e / groups * top; k < 1 || k > open {
		return tensor.Type{}, fmt.Errorf("top %d of %d entries", k, open)
	}
	if s := n.Attrs.Text("group_score"); n.Attrs.Has("group_score") && s != "max" && s != "top2sum" {
		return tensor.Type{}, fmt.Errorf("group_score %q is neither max nor top2sum", s)
	}
	return tensor.Of(tensor.I32, n.arg(0).Shape[0], tensor.N(k)), nil
}

func inferDispatch(n *Node) (tensor.Type, error) {
	if err := all(n.ranks(2, 2), n.ints(1), n.sameRows(1)); err != nil {
		return tensor.Type{}, err
	}
	x, ids := n.arg(0), n.arg(1).Shape
	return tensor.Of(x.DType, x.Shape[0], ids[1], x.Shape[1]), nil
}

// held checks the list of experts against the weight's first extent.
func (n *Node) held(extent int) error {
	experts, total := n.Attrs.Ints("experts"), n.Attrs.Int("total", 0)
	if extent >= 0 && len(experts) != extent {
		return fmt.Errorf("the weight has %d experts, the list %d", extent, len(experts))
	}
	seen := make(map[int]bool, len(experts))
	for _, e := range experts {
		if e < 0 || e >= total || seen[e] {
			return fmt.Errorf("expert %d is listed twice or is not one of %d", e, total)
		}
		seen[e] = true
	}
	turns := n.Attrs.Sets("turns")
	if turns != nil && len(turns) != len(experts) {
		return fmt.Errorf("%d turns for %d experts", len(turns), len(experts))
	}
	for _, t := range turns {
		if len(t) != 2 || t[0] < 0 || t[0] >= t[1] {
			return fmt.Errorf("turn %v is not [r, n] with r < n", t)
		}
	}
	return nil
}

func inferExpertMatmul(n *Node) (tensor.Type, error) {
	if err := all(n.ranks(3, 3, 2), n.ints(2), n.sameRows(2), n.contraction(), n.held(n.arg(1).Shape[0].N)); err != nil {
		return tensor.Type{}, err
	}
	if n.arg(0).Shape[1] != n.arg(2).Shape[1] {
		return tensor.Type{}, fmt.Errorf("x %s and ids %s differ in slots", n.arg(0).Shape, n.arg(2).Shape)
	}
	return f32(n.arg(0).Shape.With(2, n.arg(1).Shape[1])), nil
}

func inferExpertNodes(n *Node) (tensor.Type, error) {
	t, err := inferExpertMatmul(n)
	if err != nil {
		return t, err
	}
	nodes, err := n.segmentNodes()
	return f32(append(tensor.Shape{tensor.N(nodes)}, t.Shape...)), err
}

func inferExpertRows(n *Node) (tensor.Type, error) {
	if err := all(n.ranks(2, 2), n.ints(1), n.held(n.arg(0).Shape[0].N)); err != nil {
		return tensor.Type{}, err
	}
	ids := n.arg(1).Shape
	return tensor.Of(n.arg(0).DType, ids[0], ids[1], n.arg(0).Shape[1]), nil
}

func inferCombine(n *Node) (tensor.Type, error) {
	if err := all(n.ranks(3, 2, 2), n.ints(1), n.sameRows(1, 2)); err != nil {
		return tensor.Type{}, err
	}
	x, ids, w := n.arg(0).Shape, n.arg(1).Shape, n.arg(2).Shape
	if x[1] != ids[1] || ids[1] != w[1] {
		return tensor.Type{}, fmt.Errorf("x %s, ids %s and weights %s differ in slots", x, ids, w)
	}
	return f32(tensor.Shape{x[0], x[2]}), nil
}

// ExpertSpans returns the subtrees over the layer's experts that the held
// ones cover, one for each row of the first axis of a combine_nodes.
func (n *Node) ExpertSpans() []tree.Span {
	experts := n.Attrs.Ints("experts")
	var solo []int
	for i, t := range n.Attrs.Sets("turns") {
		if t[1] > 1 {
			solo = append(solo, experts[i])
		}
	}
	return tree.Cover(experts, n.Attrs.Int("total", 0), solo)
}

func inferCombineNodes(n *Node) (tensor.Type, error) {
	t, err := inferCombine(n)
	if err != nil {
		return t, err
	}
	if err := n.held(-1); err != nil {
		return t, err
	}
	return f32(append(tensor.Shape{tensor.N(len(n.ExpertSpans()))}, t.Shape...)), nil
}

// Spans decodes the "spans" attribute of an all_reduce, in operand order.
func (n *Node) Spans() []tree.Span {
	var spans []tree.Span
	for _, flat := range n.Attrs.Sets("spans") {
		for i := 0; i+1 < len(flat); i += 2 {
			spans = append(spans, tree.Span{Lo: flat[i], Hi: flat[i+1]})
		}
	}
	return spans
}

func inferAllReduce(n *Node) (tensor.Type, error) {
	sets := n.Attrs.Sets("spans")
	if len(sets) != len(n.Args) {
		return tensor.Type{}, fmt.Errorf("%d lists of spans for %d operands", len(sets), len(n.Args))
	}
	first := n.arg(0)
	for i, flat := range sets {
		t := n.arg(i)
		if len(t.Shape) < 2 || t.Shape[0] != tensor.N(len(flat)/2) || len(flat)%2 != 0 {
			return tensor.Type{}, fmt.Errorf("operand %d is %s for spans %v", i, t, flat)
		}
		if t.DType != first.DType || !t.Shape[1:].Equal(first.Shape[1:]) {
			return tensor.Type{}, fmt.Errorf("operand %d is %s, operand 0 %s", i, t, first)
		}
	}
	if _, _, ok := tree.Order(n.Spans(), n.Attrs.Int("leaves", 0)); !ok {
		return tensor.Type{}, fmt.Errorf("spans %v overlap", sets)
	}
	return f32(first.Shape[1:]), nil
}

func inferOwnRows(n *Node) (tensor.Type, error) {
	d, err := n.rows(0)
	if err != nil {
		return tensor.Type{}, err
	}
	g := n.Attrs.Int("group", -1)
	if d.Sym.Group() >= 0 || g < 0 {
		return tensor.Type{}, fmt.Errorf("rows %s have no part for group %d", d, g)
	}
	return tensor.Type{DType: n.arg(0).DType, Shape: n.arg(0).Shape.With(0, tensor.S(d.Sym.Of(g)))}, nil
}

func inferFused(n *Node) (tensor.Type, error) {
	body := n.Attrs.Body()
	if len(body.Outputs) != 1 {
		return tensor.Type{}, fmt.Errorf("body has %d results, want 1", len(body.Outputs))
	}
	for _, b := range body.Nodes {
		if b.Op.Name != "param" {
			continue
		}
		i := b.Attrs.Int("index", -1)
		if i < 0 || i >= len(n.Args) || !b.Type.Equal(n.arg(i)) {
			return tensor.Type{}, fmt.Errorf("body takes operand %d as %s", i, b.Type)
		}
	}
	return body.Outputs[0].Value.Type, nil
}

func inferPart(n *Node) (tensor.Type, error) {
	x := n.arg(0)
	return tensor.Type{DType: x.DType, Shape: append(tensor.Shape{tensor.N(1)}, x.Shape...)}, nil
}
