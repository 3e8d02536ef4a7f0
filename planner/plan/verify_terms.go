package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"moec/ir"
	"moec/ir/tensor"
)

// Rule V25 with the model at hand also looks at how values are put together:
// additions and products of three values in another order give other bits, and
// an interpretation over a field cannot see that.
//
// A term is what a value is made of, back to ops on weights and caches and to
// what comes from other layers. Every step of a plan must make a term that the
// model makes in the same layer. Terms are the same for every placement: what
// moves values is left out, and parts of a sum are what the sum is.

// terms gives equal terms equal numbers.
type terms struct {
	ids  map[string]int
	text []string // by number, for messages
}

// anyOrder are the ops that do not care for the order of their operands.
var anyOrder = []string{"add", "mul", "max", "min"}

// of returns the number of a term: an op on terms.
func (t *terms) of(op, attrs string, args ...int) int {
	if slices.Contains(anyOrder, op) {
		args = slices.Sorted(slices.Values(args))
	}
	key := op + attrs + fmt.Sprint(args)
	id, ok := t.ids[key]
	if !ok {
		id = len(t.text)
		t.ids[key] = id
		t.text = append(t.text, t.describe(op+attrs, args))
	}
	return id
}

// maxTerm bounds the text of a term.
const maxTerm = 120

func (t *terms) describe(head string, args []int) string {
	var list []string
	for _, a := range args {
		list = append(list, t.text[a])
	}
	if len(list) > 0 {
		head += "(" + strings.Join(list, ", ") + ")"
	}
	if len(head) > maxTerm {
		head = head[:maxTerm] + "…"
	}
	return head
}

// carried is what comes from another layer.
func (t *terms) carried() int { return t.of("carried", "") }

// constant is a table of numbers.
func (t *terms) constant(shape []int, values []float32) int {
	var s strings.Builder
	for _, x := range values {
		s.WriteString(" " + strconv.FormatFloat(float64(x), 'g', -1, 32))
	}
	return t.of("const", fmt.Sprint(shape, s.String()))
}

// bounded are the ops that are known by the weight or the cache that they work
// on: what else they work on is not part of the term.
var bounded = []string{"matmul", "expert_matmul", "attention", "rms_norm", "layer_norm", "embed", "expert_rows"}

// whole returns the op that an op does a part of.
func whole(op string) string { return strings.TrimSuffix(op, "_nodes") }

// moved reports whether an op's result is its first operand's term.
func moved(op string) bool {
	return OpInfo(op).Has(ir.Moves) && op != "embed" || op == "all_reduce"
}

// lasting prints the attributes that are the same for every placement.
func lasting(attrs ir.Attrs) string {
	var s string
	for _, name := range []string{"eps", "scale", "softcap", "window", "group", "k", "groups", "top_groups", "group_score", "style", "dtype"} {
		if a := attrs.Get(name); a != nil {
			s += fmt.Sprintf(" %s %v", name, a)
		}
	}
	return s
}

// graphTerms are the terms of a graph, by layer.
type graphTerms struct {
	terms
	made map[int]map[int]bool // layer to terms
}

func newGraphTerms(g *ir.Graph) *graphTerms {
	t := &graphTerms{terms{ids: make(map[string]int)}, make(map[int]map[int]bool)}
	ids, after := make(map[*ir.Node]int), make(map[*ir.Node]bool) // after the layers
	for _, n := range g.Nodes {
		after[n] = n.Layer < 0 && slices.ContainsFunc(n.Args, func(a *ir.Node) bool { return a.Layer >= 0 || after[a] })
		ids[n] = t.node(n, n.Layer, func(a *ir.Node) int {
			resident := a.Op.Has(ir.Nullary)
			if !resident && (a.Layer != n.Layer || after[a] != after[n]) {
				return t.carried()
			}
			return ids[a]
		})
	}
	return t
}

// node returns the term of a node and notes it, with all of its body.
func (t *graphTerms) node(n *ir.Node, layer int, of func(*ir.Node) int) int {
	if body := n.Attrs.Body(); body != nil {
		return t.body(n, body, layer, of)
	}
	op := whole(n.Op.Name)
	switch op {
	case "const":
		return t.constant(n.Attrs.Ints("shape"), n.Attrs.Floats("values"))
	case "input", "weight":
		return t.of(op, " "+n.Attrs.Text("name"))
	case "kv_append":
		return t.of("cache", " "+n.Attrs.Text("cache"))
	}
	var args []int
	for _, a := range n.Args {
		args = append(args, of(a))
	}
	if moved(op) {
		return args[0]
	}
	if names := residents(n.Args); slices.Contains(bounded, op) && names != nil {
		args = nil
		for _, name := range names {
			args = append(args, t.of(name[0], " "+name[1]))
		}
	}
	id := t.of(op, lasting(n.Attrs), args...)
	if t.made[layer] == nil {
		t.made[layer] = make(map[int]bool)
	}
	t.made[layer][id] = true
	return id
}

// residents lists the weights and caches among operands: kind and name.
func residents(args []*ir.Node) [][2]string {
	var list [][2]string
	for _, a := range args {
		switch a.Op.Name {
		case "weight":
			list = append(list, [2]string{"weight", a.Attrs.Text("name")})
		case "kv_append":
			list = append(list, [2]string{"cache", a.Attrs.Text("cache")})
		}
	}
	return list
}

// body returns the term of a fused node. Params are the node's operands.
func (t *graphTerms) body(n *ir.Node, body *ir.Graph, layer int, of func(*ir.Node) int) int {
	ids := make(map[*ir.Node]int)
	for _, inner := range body.Nodes {
		if inner.Op.Name == "param" {
			continue
		}
		outer := &ir.Node{Op: inner.Op, Attrs: inner.Attrs}
		for _, a := range inner.Args {
			if a.Op.Name == "param" {
				a = n.Args[a.Attrs.Int("index", 0)]
			}
			outer.Args = append(outer.Args, a)
		}
		ids[inner] = t.node(outer, layer, func(a *ir.Node) int {
			if id, ok := ids[a]; ok {
				return id
			}
			return of(a)
		})
	}
	return ids[body.Outputs[0].Value]
}

// piece is a run of entries of a value's last axis that have one term. Weights
// that are joined make values of several; other values have one, of any
// width.
type piece struct{ width, term int }

// planTerms follows the terms of a block's values. What cannot be followed has
// no pieces.
type planTerms struct {
	*graphTerms
	v     *verifier
	b     *blockIndex
	layer int
	made  map[bufKey][]piece
}

// sameTerms is rule V25 with the model at hand. Fast numerics let placements
// divide sums of sums.
func (v *verifier) sameTerms(m *model) {
	if v.p.Numerics.Mode == ir.Fast {
		return
	}
	t := newGraphTerms(m.g)
	for _, prog := range v.progs {
		for _, r := range prog.Runs {
			first, count := r.Layers.layersOf()
			for layer := first; layer < first+count; layer++ {
				p := &planTerms{t, v, prog.blocks[r.Block], layer, make(map[bufKey][]piece)}
				p.turn()
			}
		}
	}
}

func (p *planTerms) turn() {
	walker{p.b, func(q *Queue, at int) {
		s := &q.Steps[at]
		for i := range s.Body {
			p.step(meeting{q, at, &s.Body[i]})
		}
		if len(s.Body) == 0 {
			p.step(meeting{q, at, s})
		}
	}, func(list []meeting) {
		for _, m := range list {
			p.step(m)
		}
	}}.walk()
}

// step gives a step's result its terms, which must be the model's.
func (p *planTerms) step(m meeting) {
	if m.s.Out == "" {
		return
	}
	result := p.result(m.s)
	p.made[bufKey{m.q.Device, m.s.Out}] = result
	if moved(m.s.Op) {
		return
	}
	for _, r := range result {
		if !p.graphTerms.made[p.layer][r.term] {
			p.v.fail("%s: makes %s, which the model does not in layer %d", where(p.b, m.q, m.at, m.s), p.text[r.term], p.layer)
		}
	}
}

func (p *planTerms) result(s *Step) []piece {
	op := whole(s.Op)
	if at := slices.IndexFunc(s.Args, func(a Ref) bool { return a.Kind == WeightRef || a.Kind == CacheRef }); at >= 0 && slices.Contains(bounded, op) {
		return p.onResidents(op, s)
	}
	var args [][]piece
	for _, a := range s.Args {
		args = append(args, p.of(a))
	}
	switch {
	case slices.ContainsFunc(args, func(a []piece) bool { return a == nil }):
		return nil
	case s.Op == "slice":
		return p.sliced(s, args[0])
	case (s.Op == "concat" || s.Op == "all_gather") && len(args[0]) > 1 && s.Attrs.Int("axis", 0) == p.last(s.Args[0]):
		return nil
	case moved(s.Op):
		return args[0]
	}
	return p.each(op, s, args)
}

// onResidents is an op on weights or a cache, of which one may be several
// joined: then each makes a piece.
func (p *planTerms) onResidents(op string, s *Step) []piece {
	n := 1
	var on [][]piece
	for _, a := range s.Args {
		if a.Kind == WeightRef || a.Kind == CacheRef {
			on = append(on, p.of(a))
			n = max(n, len(on[len(on)-1]))
		}
	}
	var result []piece
	for i := range n {
		width := 0
		var args []int
		for _, list := range on {
			r := list[0]
			if len(list) > 1 {
				r = list[min(i, len(list)-1)]
				width = r.width
			}
			args = append(args, r.term)
		}
		result = append(result, piece{width, p.terms.of(op, lasting(s.Attrs), args...)})
	}
	return result
}

// each is an op element by element, or one on values of one piece.
func (p *planTerms) each(op string, s *Step, args [][]piece) []piece {
	n := 1
	for _, a := range args {
		n = max(n, len(a))
	}
	var result []piece
	for i := range n {
		var terms []int
		width := 0
		for j, a := range args {
			switch {
			case len(a) == n:
				terms, width = append(terms, a[i].term), max(width, a[i].width)
			case len(a) == 1 && p.narrow(s.Args[j]):
				terms = append(terms, a[0].term)
			default:
				return nil
			}
			if n > 1 && (!OpInfo(s.Op).Has(ir.Elementwise) || len(a) == n && a[i].width != width) {
				return nil
			}
		}
		result = append(result, piece{width, p.terms.of(op, lasting(s.Attrs), terms...)})
	}
	return result
}

// narrow reports whether an operand's last extent is 1, so that it is repeated.
func (p *planTerms) narrow(a Ref) bool {
	shape := p.shape(a)
	return len(shape) == 0 || shape.Last() == tensor.N(1)
}

func (p *planTerms) shape(a Ref) tensor.Shape {
	t, err := p.v.typeOf(p.b, a, p.layer)
	if err != nil {
		return nil
	}
	return t.Shape
}

func (p *planTerms) last(a Ref) int { return len(p.shape(a)) - 1 }

// sliced returns the pieces of a slice.
func (p *planTerms) sliced(s *Step, x []piece) []piece {
	if len(x) == 1 || s.Attrs.Int("axis", 0) != p.last(s.Args[0]) {
		return x
	}
	lo, hi, at := s.Attrs.Int("lo", 0), s.Attrs.Int("hi", 0), 0
	var result []piece
	for _, r := range x {
		if w := min(hi, at+r.width) - max(lo, at); w > 0 {
			result = append(result, piece{w, r.term})
		}
		at += r.width
	}
	if s.Attrs.Int("step", 1) != 1 && len(result) > 1 {
		return nil
	}
	return result
}

// of returns the pieces of an operand.
func (p *planTerms) of(a Ref) []piece {
	switch a.Kind {
	case ConstRef:
		c := p.v.consts[a.Name]
		return []piece{{0, p.constant(c.Shape, c.Values)}}
	case CacheRef:
		return []piece{{0, p.terms.of("cache", " "+inLayer(a.Name, p.layer))}}
	case WeightRef:
		return p.weight(p.v.weight(a.Device, a.Name, p.layer))
	}
	list, known := p.made[bufKey{a.Device, a.Name}]
	if name, _, ok := inputOf(a.Name); !known && ok && p.b.local[bufKey{a.Device, a.Name}] == nil {
		return []piece{{0, p.terms.of("input", " "+name)}}
	}
	if !known {
		return []piece{{0, p.carried()}}
	}
	if len(list) > 1 { // under other extents the last axis is another
		width := 0
		for _, r := range list {
			width += r.width
		}
		if shape := p.shape(a); len(shape) == 0 || shape.Last() != tensor.N(width) {
			return nil
		}
	}
	return list
}

// weight returns the pieces of what is kept of weights: joined along the rows
// of a matrix, they make the pieces of a product's last axis.
func (p *planTerms) weight(w *Weight) []piece {
	var list []piece
	for _, part := range w.Parts {
		list = append(list, piece{part.Extents()[w.Axis], p.terms.of("weight", " "+inLayer(part.Weight, p.layer))})
	}
	return list
}
