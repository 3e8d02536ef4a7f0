package prove

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"moec/ir/tensor"
	"moec/ir/tree"
)

// explain finds the step at which a plan begins to compute something else: it
// runs both sides again and looks for the first step that makes numbers which
// the model does not have, in parts of its sums either.
func (c *checker) explain(program int, err error) error {
	var x *Mismatch
	if !errors.As(err, &x) || x.Kind != Value && x.Kind != Fault {
		return err
	}
	again, failed := newChecker(c.p, c.logical.Graph, c.o)
	if failed != nil {
		return err
	}
	t := &tracer{c: again, m: again.list[program], known: make(map[uint64]place), values: make(map[int]*array)}
	_, _ = again.check(program, t) // it fails as before
	if t.found == nil {
		t.describeOutput(x)
		return x
	}
	t.found.Output, t.found.Group = x.Output, x.Group
	return t.found
}

// tracer watches both sides.
type tracer struct {
	c      *checker
	m      *machine
	known  map[uint64]place
	values map[int]*array // of the present step, by node
	nodes  []*modelNode
	found  *Mismatch
}

// place is where the model has a number first.
type place struct{ node, at int }

// model notes all numbers of a node, and those of the parts of its sum.
func (t *tracer) model(n *modelNode, a *array) {
	if n.index == 0 {
		clear(t.values)
	}
	for len(t.nodes) <= n.index {
		t.nodes = append(t.nodes, nil)
	}
	t.nodes[n.index], t.values[n.index] = n, a
	if a.dtype == tensor.I32 {
		return
	}
	t.note(n, a.data)
	switch {
	case n.spec == nil:
	case n.Op.Name == "combine":
		t.noteSlots(n)
	case n.spec.sums != nil && len(n.spec.sums.ends) > 1 && !t.c.fast():
		t.noteLeaves(n)
	}
}

func (t *tracer) note(n *modelNode, list []uint64) {
	for i, x := range list {
		if _, ok := t.known[x]; !ok {
			t.known[x] = place{n.index, i}
		}
	}
}

// noteLeaves notes the sums over all subtrees of a contraction's leaves.
func (t *tracer) noteLeaves(n *modelNode) {
	x, w, k := t.values[n.args[0]], t.values[n.args[1]], n.spec.sums
	leaves := make([]uint64, len(k.ends))
	rows, features := x.rows(), w.dims[len(w.dims)-2]
	for r := range rows {
		first := 0
		if len(n.args) > 2 {
			e := t.values[n.args[2]].data[r]
			first = int(e) * features
		}
		for f := range features {
			begin := 0
			for i, end := range k.ends {
				leaves[i] = mul(dot(x.row(r)[begin:end], w.row(first + f)[begin:end]), k.coef[i])
				begin = end
			}
			t.noteTree(n, leaves)
		}
	}
}

// noteTree notes the sums over all subtrees, in order of their size.
func (t *tracer) noteTree(n *modelNode, leaves []uint64) {
	list := slices.Clone(leaves)
	for len(list) > 1 {
		t.note(n, list)
		for i := range list {
			if i%2 == 0 {
				if list[i/2] = list[i]; i+1 < len(list) {
					list[i/2] = add(list[i], list[i+1])
				}
			}
		}
		list = list[:(len(list)+1)/2]
	}
}

// noteSlots notes the sums over all subtrees of experts, for each token.
func (t *tracer) noteSlots(n *modelNode) {
	x, ids, weights := t.values[n.args[0]], t.values[n.args[1]], t.values[n.args[2]]
	k := ids.last()
	row := make([]uint64, x.last())
	for token := range ids.rows() {
		for width := 1; width < 2*n.spec.total; width *= 2 {
			for _, e := range ids.row(token) {
				lo := int(e) / width * width
				span := tree.Span{Lo: lo, Hi: lo + width}
				clear(row)
				for j, o := range ids.row(token) {
					if int(o) >= span.Lo && int(o) < span.Hi {
						addRow(row, x.row(token*k+j), weights.row(token)[j])
					}
				}
				t.note(n, row)
			}
		}
	}
}

// plan looks at what a step makes.
func (t *tracer) plan(_ *device, s *site, layer int, args []*array, out *array) {
	if t.found != nil || out == nil {
		return
	}
	why, bad := t.strange(out)
	if !bad {
		return
	}
	if t.c.fast() { // parts of sums are not known, nor what is made of them
		if s.spec.sums != nil {
			return
		}
		for _, a := range args {
			if a == nil {
				continue
			}
			if _, strange := t.strange(a); strange && s.op != "all_reduce" {
				return
			}
		}
	}
	t.found = t.m.mismatch(Value, s, layer)
	t.found.Text = t.text(s, layer, args, why)
}

// strange reports whether a value has numbers that the model does not have, or
// is undefined where it should not be.
func (t *tracer) strange(a *array) (why string, bad bool) {
	for _, x := range a.data {
		if isPoison(x) {
			if o := t.m.reason(x); o.why != notHeld {
				return o.String(), true
			}
			continue
		}
		if _, ok := t.known[x]; !ok && a.dtype != tensor.I32 && x != 0 {
			return "", true
		}
	}
	return "", false
}

// text says what a step makes of what.
func (t *tracer) text(s *site, layer int, args []*array, why string) string {
	var list []string
	for i, a := range args {
		name := string(s.args[i].ref.Name)
		if s.args[i].ref.Device != s.device {
			name += fmt.Sprintf("@%d", s.args[i].ref.Device)
		}
		if a == nil {
			list = append(list, name)
			continue
		}
		list = append(list, name+", "+t.describe(a))
	}
	text := "makes what the model does not have"
	if why != "" {
		text = "its result is undefined (" + why + ")"
	}
	text += ", of " + strings.Join(list, "; ")
	for _, at := range s.step.Attrs {
		if at.Name == "spans" {
			continue // very long
		}
		text += fmt.Sprintf(", %s=%v", at.Name, at.Value)
	}
	return text + t.similar(s, layer, args)
}

// describe says what a value is in the model.
func (t *tracer) describe(a *array) string {
	if a.dtype == tensor.I32 {
		return "a list"
	}
	var nodes []int
	whole := true
	for i, x := range a.data {
		p, ok := t.known[x]
		switch {
		case isPoison(x):
			if o := t.m.reason(x); o.why != notHeld {
				return "undefined: " + o.String()
			}
			continue
		case x == 0:
			continue
		case !ok:
			return "nothing of the model's"
		case !slices.Contains(nodes, p.node):
			nodes = append(nodes, p.node)
		}
		whole = whole && p.at == i && len(nodes) == 1
	}
	slices.Sort(nodes)
	var names []string
	for i, n := range nodes {
		if i == 3 {
			names = append(names, "others")
			break
		}
		names = append(names, t.nodes[n].title())
	}
	if len(nodes) == 0 {
		return "nothing but zeros"
	}
	if whole && len(t.values[nodes[0]].data) == len(a.data) {
		return names[0]
	}
	return "entries of " + strings.Join(names, " and ")
}

// title names a node for people.
func (n *modelNode) title() string {
	text := fmt.Sprintf("%%%d %s", n.ID(), n.Op.Name)
	if n.Op.Name == "weight" {
		return "weight " + n.Attrs.Text("name")
	}
	if n.Name != "" {
		text += " " + n.Name
	}
	if n.Layer >= 0 {
		text += fmt.Sprintf(" of layer %d", n.Layer)
	}
	return text
}

// similar names the model's nodes of the step's op and layer that read one of
// its operands.
func (t *tracer) similar(s *site, layer int, args []*array) string {
	op := strings.TrimSuffix(s.op, "_nodes")
	var list []string
	for _, n := range t.nodes {
		if n.Op.Name != op || n.Layer != layer || len(list) == 3 {
			continue
		}
		if slices.ContainsFunc(args, func(a *array) bool { return a != nil && t.reads(n, a) }) {
			var of []string
			for _, a := range n.args {
				of = append(of, t.nodes[a].title())
			}
			list = append(list, fmt.Sprintf("%s reads %s", n.title(), strings.Join(of, ", ")))
		}
	}
	if len(list) == 0 {
		return ""
	}
	return "; in the model " + strings.Join(list, "; ")
}

// reads reports whether a node has an operand whose numbers a has, at the same
// place.
func (t *tracer) reads(n *modelNode, a *array) bool {
	if a.dtype == tensor.I32 || len(a.data) == 0 {
		return false
	}
	p, ok := t.known[a.data[0]]
	return ok && slices.ContainsFunc(n.args, func(i int) bool {
		v := t.values[i]
		return v != nil && v.dtype != tensor.I32 && (i == p.node || len(v.data) > 0 && v.data[0] == a.data[0])
	})
}

// describeOutput says what an output holds in the model's terms.
func (t *tracer) describeOutput(x *Mismatch) {
	for i := range t.m.prog.Outputs {
		o := &t.m.prog.Outputs[i]
		if a := t.m.outputs[i].loc.content; o.Name == x.Output && o.Group == x.Group && a != nil {
			x.Text += "; it holds " + t.describe(a)
		}
	}
}
