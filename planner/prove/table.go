package prove

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
	"moec/ir/tensor"
)

// table is what the model computes, by congruence: a class for each op on
// operands that are the same entries. What only moves entries has no class of
// its own.
type table struct {
	g       *ir.Graph
	classes []*class
	byKey   map[string][]*class // of an op and the class of an entry that it works on
	values  map[*ir.Node]*meant
	weights map[string]int // classes
	consts  map[string]int
}

// class is an op of the model on certain operands.
type class struct {
	id    int
	title string
	// args are rows of operands, as long as the result's if the op works entry
	// by entry, in pieces of n entries that make m of the result otherwise.
	args   []runs
	extra  string // operands that must be the same as a whole
	n, m   int
	firsts map[entry][]int // pieces that begin with an entry
	bounds []int           // of a contraction
	total  int             // experts
	heads  int             // query heads that share a KV head
	node   *ir.Node
}

// meant is a value of the model in terms of classes.
type meant struct {
	runs   runs
	dims   []int // of a row
	matrix *matrix
}

// matrix is a weight of two axes, or of three of which the first is experts.
type matrix struct {
	pieces []slab
}

// slab is a part of a weight: rows and columns, of experts or of none.
type slab struct {
	of      int
	rows    [2]int
	cols    [2]int
	experts []int
}

// rowDims returns the extents of a row: all but the symbol's.
func rowDims(t tensor.Type) []int {
	var dims []int
	for _, d := range t.Shape {
		if d.Sym == "" {
			dims = append(dims, d.N)
		}
	}
	return dims
}

// rowAxis returns which axis of a row an axis of the type is.
func rowAxis(t tensor.Type, axis int) int {
	at := axis
	for _, d := range t.Shape[:axis] {
		if d.Sym != "" {
			at--
		}
	}
	return at
}

// newTable goes through the graph.
func newTable(g *ir.Graph) (*table, error) {
	t := &table{g: g, byKey: make(map[string][]*class), values: make(map[*ir.Node]*meant), weights: make(map[string]int), consts: make(map[string]int)}
	for _, n := range g.Nodes {
		v, err := t.node(n)
		if err != nil {
			return nil, fmt.Errorf("%%%d %s: %w", n.ID(), n.Op.Name, err)
		}
		t.values[n] = v
	}
	return t, nil
}

// fresh makes a class.
func (t *table) fresh(title string) *class {
	c := &class{id: len(t.classes), title: title}
	t.classes = append(t.classes, c)
	return c
}

// constClass returns the class of a table of constants.
func (t *table) constClass(shape []int, values []float32) int {
	key := fmt.Sprint(shape, values)
	id, ok := t.consts[key]
	if !ok {
		id = t.fresh("a const").id
		t.consts[key] = id
	}
	return id
}

// weightClass returns the class of a weight.
func (t *table) weightClass(name string) int {
	id, ok := t.weights[name]
	if !ok {
		id = t.fresh("weight " + name).id
		t.weights[name] = id
	}
	return id
}

// weightValue is a part of a weight: entries if it has one axis, else a slab.
func weightValue(of int, slice [][2]int, experts []int) *meant {
	v := &meant{}
	for i, r := range slice {
		v.dims = append(v.dims, r[1]-r[0])
		if i == 0 && experts != nil {
			v.dims[0] = len(experts)
		}
	}
	last := len(slice) - 1
	switch {
	case len(slice) == 1 && experts != nil:
		for _, e := range experts {
			v.runs = v.runs.add(run{of: of, at: e, n: 1})
		}
	case len(slice) == 1:
		v.runs = runs{{of: of, at: slice[0][0], n: v.dims[0]}}
	case experts != nil && last == 1: // a row for each expert
		v.matrix = &matrix{[]slab{{of: of, rows: [2]int{0, 1}, cols: slice[1], experts: experts}}}
	default:
		v.matrix = &matrix{[]slab{{of: of, rows: slice[last-1], cols: slice[last], experts: experts}}}
	}
	return v
}

// node returns what a node means.
func (t *table) node(n *ir.Node) (*meant, error) {
	dims := rowDims(n.Type)
	whole := func(c *class) *meant {
		return &meant{runs: runs{{of: c.id, n: volume(dims)}}, dims: dims}
	}
	var args []*meant
	for _, a := range n.Args {
		args = append(args, t.values[a])
	}
	switch n.Op.Name {
	case "input":
		return whole(t.fresh("the step's " + n.Attrs.Text("name"))), nil
	case "const":
		return &meant{runs: runs{{of: t.constClass(n.Attrs.Ints("shape"), n.Attrs.Floats("values")), n: volume(dims)}}, dims: dims}, nil
	case "weight":
		w := t.g.Weight(n.Attrs.Text("name"))
		var slice [][2]int
		var experts []int
		for _, d := range w.Shape {
			slice = append(slice, [2]int{0, d})
		}
		for e := range w.Experts {
			experts = append(experts, e)
		}
		return weightValue(t.weightClass(w.Name), slice, experts), nil
	}
	if v, moved, err := moves(n.Op.Name, n.Attrs, n.Args[0].Type, n.Type, args); moved || err != nil {
		return v, err
	}
	c, err := t.describe(n.Op.Name, n.Attrs, n.Type, args)
	if err != nil {
		return nil, err
	}
	c.node, c.title = n, (&modelNode{Node: n}).title()
	return whole(t.unique(c, n)), nil
}

// unique returns the class that is equal to c, or c, which then is listed.
func (t *table) unique(c *class, n *ir.Node) *class {
	keys := t.keys(n.Op.Name, n.Attrs, c, t.values[weightOperand(n)])
	if n.Op.Name != "kv_append" {
		for _, o := range t.byKey[keys[0]] {
			if o.extra == c.extra && slices.EqualFunc(o.args, c.args, runs.equal) && slices.Equal(o.bounds, c.bounds) {
				return o
			}
		}
	}
	c.id = len(t.classes)
	t.classes = append(t.classes, c)
	for _, k := range keys {
		t.byKey[k] = append(t.byKey[k], c)
	}
	return c
}

// weightOperand returns the operand of a contraction or lookup that is a
// matrix, or nil.
func weightOperand(n *ir.Node) *ir.Node {
	switch n.Op.Name {
	case "matmul", "expert_matmul", "embed":
		return n.Args[1]
	case "expert_rows":
		return n.Args[0]
	}
	return nil
}

// keys are what a class is found by: the op, what counts of its attributes, and
// a weight or the class of an entry of the first operand.
func (t *table) keys(op string, attrs ir.Attrs, c *class, w *meant) []string {
	key := opKey(op, attrs)
	if w != nil && w.matrix != nil {
		return []string{fmt.Sprint(key, w.matrix.pieces[0].of)}
	}
	var keys []string
	if len(c.args) == 0 {
		return []string{key}
	}
	for _, r := range c.args[0] {
		if k := fmt.Sprint(key, r.of); !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	return keys
}

// opKey is the op and what counts of its attributes.
func opKey(op string, attrs ir.Attrs) string {
	var key strings.Builder
	key.WriteString(strings.TrimSuffix(op, "_nodes") + " ")
	relevant := meaning(op, attrs)
	for _, name := range salted {
		if v := relevant.Get(name); v != nil {
			fmt.Fprintf(&key, "%s=%v ", name, v)
		}
	}
	if op == "round" {
		key.WriteString(attrs.DType("dtype").String() + " ")
	}
	return key.String()
}

// moves is the ops that make nothing new of entries. It reports whether op is
// one.
func moves(op string, attrs ir.Attrs, in, out tensor.Type, args []*meant) (*meant, bool, error) {
	dims := rowDims(out)
	switch op {
	case "reshape", "copy", "transfer", "own_rows", "part":
		return &meant{runs: args[0].runs, dims: dims}, true, nil
	case "round":
		if in.DType != out.DType && out.DType != tensor.F32 {
			return nil, false, nil
		}
		return &meant{runs: args[0].runs, dims: dims}, true, nil
	case "slice":
		axis := rowAxis(in, attrs.Int("axis", 0))
		return &meant{runs: args[0].runs.sliced(args[0].dims, axis, attrs.Int("lo", 0), attrs.Int("hi", 0), attrs.Int("step", 1)), dims: dims}, true, nil
	case "broadcast":
		return &meant{runs: args[0].runs.spread(args[0].dims, dims), dims: dims}, true, nil
	case "dispatch":
		from := append([]int{1}, args[0].dims...)
		return &meant{runs: args[0].runs.spread(from, dims), dims: dims}, true, nil
	case "concat", "all_gather":
		at := attrs.Int("axis", 0)
		if in.Shape[at].Sym != "" { // the rows of all token groups
			for i, a := range args {
				if !a.runs.equal(args[0].runs) {
					return nil, true, fmt.Errorf("token group %d has other entries than group 0", i)
				}
			}
			return &meant{runs: args[0].runs, dims: dims}, true, nil
		}
		var list []runs
		var all [][]int
		for _, a := range args {
			list, all = append(list, a.runs), append(all, a.dims)
		}
		return &meant{runs: joined(list, all, rowAxis(in, at)), dims: dims}, true, nil
	}
	return nil, false, nil
}

// text is operands for comparing as a whole.
func text(args ...*meant) string {
	var out strings.Builder
	for _, a := range args {
		for _, r := range a.runs {
			fmt.Fprint(&out, r.of, ":", r.at, "+", r.n, r.repeated, " ")
		}
		out.WriteString("; ")
	}
	return out.String()
}

// describe makes an op on operands a class that is not in the table yet. Of a
// contraction the operands are as if all of the weight were there.
func (t *table) describe(op string, attrs ir.Attrs, out tensor.Type, args []*meant) (*class, error) {
	c := &class{total: attrs.Int("total", 0), heads: attrs.Int("group", 1)}
	dims := rowDims(out)
	last := func(i int) int { return args[i].dims[len(args[i].dims)-1] }
	switch op {
	case "matmul", "matmul_nodes":
		c.args, c.n, c.m, c.bounds = []runs{args[0].runs}, last(0), dims[len(dims)-1], attrs.Ints("bounds")
	case "expert_matmul", "expert_matmul_nodes":
		c.args, c.n, c.m, c.bounds, c.extra = []runs{args[0].runs}, last(0), dims[len(dims)-1], attrs.Ints("bounds"), text(args[2])
	case "embed":
		c.extra, c.m = text(args[0]), dims[0]
	case "expert_rows":
		c.extra, c.m, c.n = text(args[1]), dims[1], args[1].dims[0]
	case "take_rows":
		c.args, c.extra = []runs{args[0].runs}, text(args[1])
	case "combine", "combine_nodes":
		k := args[0].dims[0]
		for s := range k {
			c.args = append(c.args, args[0].runs.cut(s*last(0), (s+1)*last(0)))
		}
		c.extra = text(args[1], args[2])
	case "gather":
		c.args, c.n, c.m, c.extra = []runs{args[0].runs}, last(0), dims[len(dims)-1], text(args[1])
	case "softmax", "sum", "rms_norm", "layer_norm", "topk":
		c.args, c.n, c.m, c.extra = []runs{args[0].runs}, last(0), dims[len(dims)-1], text(args[1:]...)
	case "rope":
		c.args, c.n, c.m, c.extra = []runs{args[0].runs}, last(0), last(0), text(args[1:]...)
	case "kv_append":
		c.args, c.n, c.m, c.extra = []runs{args[0].runs, args[1].runs}, last(0), last(1), text(args[2:4]...)
	case "attention":
		c.args, c.n, c.m, c.extra = []runs{args[0].runs}, last(0), dims[1], text(args[1:4]...)
		if len(args) > 4 {
			c.args = append(c.args, args[4].runs)
		}
	default:
		if info := ir.Op(op); info == nil || !info.Has(ir.Elementwise) {
			return nil, fmt.Errorf("op %q has no meaning in a plan", op)
		}
		for _, a := range args {
			c.args = append(c.args, a.runs.spread(a.dims, dims))
		}
	}
	if c.n > 0 && len(c.args) > 0 {
		c.firsts = make(map[entry][]int)
		for i := 0; i*c.n < c.args[0].length(); i++ {
			e := c.args[0].cut(i*c.n, i*c.n+1).first()
			c.firsts[e] = append(c.firsts[e], i)
		}
	}
	return c, nil
}
