package prove

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
	"moec/ir/tensor"
	"moec/ir/tree"
	"moec/planner/plan"
)

// follower says what the buffers of a plan hold in terms of the model, while a
// machine goes through a step of full size.
type follower struct {
	t *table
	m *machine
}

// means is what a buffer holds.
type means struct {
	meant
	sum   *partSum // nil: whole values
	slots *held    // the slots whose rows are there; nil: all, or there are none
}

// partSum is entries that are sums over some leaves only. Buffers have an entry
// of an outermost axis for each span; runs are those of one.
type partSum struct {
	spans  []tree.Span
	leaves int
	turns  [][2]int // of each span
}

// held is experts, and in which turns they are served.
type held struct{ turns map[int][2]int }

// always is the turn of an expert without copies.
var always = [2]int{0, 1}

func heldBy(attrs ir.Attrs) *held {
	h := &held{make(map[int][2]int)}
	sets := attrs.Sets("turns")
	for i, e := range attrs.Ints("experts") {
		h.turns[e] = always
		if sets != nil {
			h.turns[e] = [2]int{sets[i][0], sets[i][1]}
		}
	}
	return h
}

// covers reports whether the rows of all that o serves are there.
func (h *held) covers(o *held) bool {
	if h == nil {
		return true
	}
	for e, turn := range o.turns {
		if have, ok := h.turns[e]; !ok || have != always && have != turn {
			return false
		}
	}
	return true
}

// meet returns the slots that both have.
func (h *held) meet(o *held) *held {
	if h == nil || o == nil {
		if h == nil {
			return o
		}
		return h
	}
	both := &held{make(map[int][2]int)}
	for e, turn := range h.turns {
		switch have, ok := o.turns[e]; {
		case !ok:
		case have == turn || have == always:
			both.turns[e] = turn
		case turn == always:
			both.turns[e] = have
		}
	}
	return both
}

// list is one of the lists that a step brings.
func (f *follower) list(name string, b *plan.Buffer) *array {
	for _, n := range f.t.g.Nodes {
		if n.Op.Name == "input" && n.Attrs.Text("name") == name {
			return &array{dtype: tensor.I32, means: &means{meant: *f.t.values[n]}}
		}
	}
	c := f.t.fresh("the step's " + name) // the model does not ask for it
	return &array{dtype: b.Type.DType, means: &means{meant: meant{runs: runs{{of: c.id, n: 1}}}}}
}

// weight is what a device keeps of a weight.
func (f *follower) weight(w *plan.Weight, layer int) *array {
	var all means
	var dims [][]int
	var list []runs
	for i := range w.Parts {
		p := &w.Parts[i]
		var slice [][2]int
		for _, r := range p.Slice {
			slice = append(slice, [2]int{r[0], r[1]})
		}
		v := weightValue(f.t.weightClass(named(p.Weight, layer)), slice, p.Experts)
		list, dims = append(list, v.runs), append(dims, v.dims)
		if v.matrix != nil {
			if all.matrix == nil {
				all.matrix = &matrix{}
			}
			all.matrix.pieces = append(all.matrix.pieces, v.matrix.pieces...)
		}
	}
	if all.matrix == nil {
		all.runs = joined(list, dims, w.Axis)
	} else if len(w.Parts) > 1 && w.Axis != len(w.Shape)-2 {
		all.matrix = &matrix{} // joined otherwise than along features: nothing reads that
	}
	all.dims = w.Shape
	return &array{dtype: w.DType, means: &all}
}

func (f *follower) constant(c *plan.Const) *array {
	n := len(c.Values)
	return &array{dtype: tensor.F32, means: &means{meant: meant{runs: runs{{of: f.t.constClass(c.Shape, c.Values), n: n}}, dims: c.Shape}}}
}

// operand returns what an operand holds under the extents that it is seen with.
func (f *follower) operand(s *site, i int, a *array) (*means, error) {
	if a.means == nil {
		return nil, fmt.Errorf("operand %s is undefined: %s", s.args[i].ref.Name, f.m.reason(a.lost))
	}
	h := *a.means
	h.dims = rowDims(s.args[i].t.Type)
	if h.sum != nil {
		if h.dims = h.dims[1:]; !s.collective && s.op != "copy" {
			return nil, fmt.Errorf("reads %s, which is %s", s.args[i].ref.Name, h.sum)
		}
	}
	return &h, nil
}

func (p *partSum) String() string {
	if p == nil {
		return "no part of a sum"
	}
	return fmt.Sprintf("the sum over leaves %v of %d", flatten(p.spans), p.leaves)
}

// compute returns what the result of a step holds.
func (f *follower) compute(s *site, args []*array) (*array, error) {
	var list []*means
	var meants []*meant
	for i, a := range args {
		if a == nil { // a cache
			list, meants = append(list, nil), append(meants, nil)
			continue
		}
		h, err := f.operand(s, i, a)
		if err != nil {
			return nil, err
		}
		list, meants = append(list, h), append(meants, &h.meant)
	}
	out, err := f.apply(s, list, meants)
	if err != nil {
		return nil, err
	}
	if out.dims = rowDims(s.made.Type); out.sum != nil {
		out.dims = out.dims[1:]
	}
	return &array{dtype: s.made.DType, means: out}, nil
}

func (f *follower) apply(s *site, args []*means, meants []*meant) (*means, error) {
	attrs := s.step.Attrs
	var in tensor.Type
	if len(s.args) > 0 {
		in = s.args[0].t.Type
	}
	if s.op == "all_reduce" {
		return f.allReduce(attrs, args)
	}
	if s.op == "attention" {
		return f.attention(s, args)
	}
	if v, moved, err := moves(s.op, attrs, in, s.made.Type, meants); moved || err != nil {
		if err != nil {
			return nil, err
		}
		out := &means{meant: *v, sum: args[0].sum}
		for _, a := range args {
			out.slots = out.slots.meet(a.slots)
			if a.matrix != nil || !out.sum.equal(a.sum) {
				return nil, fmt.Errorf("joins what does not belong together")
			}
		}
		return out, nil
	}
	c, err := f.t.describe(s.op, attrs, s.made.Type, meants)
	if err != nil {
		return nil, err
	}
	switch s.op {
	case "matmul", "matmul_nodes":
		return f.matmul(s, c, args, nil)
	case "expert_matmul", "expert_matmul_nodes":
		return f.matmul(s, c, args, heldBy(attrs))
	case "embed":
		return f.embed(s, c, args)
	case "expert_rows":
		return f.expertRows(s, c, args)
	case "combine", "combine_nodes":
		return f.combine(s, c, args)
	case "take_rows":
		if a, b := s.args[0].t.Shape.Sym(), s.args[1].t.Shape.Sym(); a.Group() != b.Group() {
			return nil, fmt.Errorf("takes rows %s of %s", b, a)
		}
	}
	if ir.Op(s.op).Has(ir.Elementwise) || s.op == "take_rows" {
		out := &means{}
		for _, a := range args {
			out.slots = out.slots.meet(a.slots)
		}
		n := volume(rowDims(s.made.Type))
		if out.runs, err = f.t.entrywise(opKey(s.op, attrs), c, n); err != nil && slices.Contains(commutative, s.op) {
			slices.Reverse(c.args)
			if list, swapped := f.t.entrywise(opKey(s.op, attrs), c, n); swapped == nil {
				out.runs, err = list, nil
			}
		}
		return out, err
	}
	for i, a := range args {
		if a.slots != nil && (i > 0 || len(a.dims) < 2) { // not slot by slot
			return nil, fmt.Errorf("reads %s, of which some slots are undefined", s.args[i].ref.Name)
		}
	}
	list, err := f.t.rowwise(opKey(s.op, attrs), c)
	return &means{meant: meant{runs: list}, slots: args[0].slots}, err
}

// commutative ops may have their operands in the other order.
var commutative = []string{"add", "mul", "max", "min"}

func (p *partSum) equal(o *partSum) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.leaves == o.leaves && slices.Equal(p.spans, o.spans)
}

// entrywise finds, for each entry of a result, the op of the model on the same
// entries of operands.
func (t *table) entrywise(key string, c *class, n int) (runs, error) {
	var out runs
	for i := 0; i < n; {
		var best run
		for _, o := range t.byKey[fmt.Sprint(key, c.args[0].cut(i, i+1).first().of)] {
			if o.extra != c.extra || len(o.args) != len(c.args) {
				continue
			}
			for _, at := range places(c, i, o) {
				l := n - i
				for k := range c.args {
					l = min(l, c.args[k].agree(i, o.args[k], at))
				}
				if l > best.n {
					best = run{of: o.id, at: at, n: l}
				}
			}
		}
		if best.n == 0 {
			return nil, t.unknown(c, i, i+1)
		}
		out = out.add(best)
		i += best.n
	}
	return out, nil
}

// places lists where in o the entries that make entry i may be.
func places(c *class, i int, o *class) []int {
	var list []int
	for k := range c.args {
		for _, at := range o.args[k].find(c.args[k].cut(i, i+1).first()) {
			if !slices.Contains(list, at) {
				list = append(list, at)
			}
		}
	}
	return list
}

// rowwise finds, for each run of n entries, the op of the model that works on
// the same run.
func (t *table) rowwise(key string, c *class) (runs, error) {
	var out runs
	for i := 0; i*c.n < c.args[0].length(); i++ {
		v := c.args[0].cut(i*c.n, (i+1)*c.n)
		o, at := t.piece(key, c, v)
		if o == nil {
			return nil, t.unknown(c, i*c.n, (i+1)*c.n)
		}
		out = out.add(run{of: o.id, at: at * o.m, n: o.m})
	}
	return out, nil
}

// piece finds the class that works on a run as one of its pieces, and which.
func (t *table) piece(key string, c *class, v runs) (*class, int) {
	for _, o := range t.byKey[fmt.Sprint(key, v.first().of)] {
		if o.extra != c.extra || o.n != c.n {
			continue
		}
		for _, at := range o.firsts[v.first()] {
			if o.args[0].cut(at*o.n, (at+1)*o.n).equal(v) {
				return o, at
			}
		}
	}
	return nil, 0
}

// unknown is the error that the model does nothing of the kind.
func (t *table) unknown(c *class, lo, hi int) error {
	var list []string
	for _, a := range c.args {
		list = append(list, t.text(a.cut(lo, hi)))
	}
	return fmt.Errorf("the model has no such op on %s", strings.Join(list, " and "))
}

// text names entries for messages.
func (t *table) text(l runs) string {
	var list []string
	for i, r := range l {
		if i == 3 {
			list = append(list, "others")
			break
		}
		hi := r.at + r.n
		if r.repeated {
			hi = r.at + 1
		}
		list = append(list, fmt.Sprintf("%s [%d,%d)", t.classes[r.of].title, r.at, hi))
	}
	return strings.Join(list, ", ")
}

// matmul finds the contraction of each piece of the weight with the columns of
// the operand that the piece has.
func (f *follower) matmul(s *site, c *class, args []*means, experts *held) (*means, error) {
	x, w := args[0], args[1].matrix
	if w == nil || len(w.pieces) == 0 {
		return nil, fmt.Errorf("reads %s, which is no matrix", s.args[1].ref.Name)
	}
	if experts != nil {
		if !x.slots.covers(experts) {
			return nil, fmt.Errorf("reads rows of slots that %s does not have", s.args[0].ref.Name)
		}
	} else if x.slots != nil {
		return nil, fmt.Errorf("reads %s, of which some slots are undefined", s.args[0].ref.Name)
	}
	out := &means{slots: experts}
	for i := 0; i*c.n < x.runs.length(); i++ {
		v := x.runs.cut(i*c.n, (i+1)*c.n)
		for _, p := range w.pieces {
			if experts != nil && !slices.Equal(p.experts, s.step.Attrs.Ints("experts")) {
				return nil, fmt.Errorf("works with experts %v of %s, which has %v", s.step.Attrs.Ints("experts"), f.t.classes[p.of].title, p.experts)
			}
			o, at, err := f.contraction(s, c, p, v, i)
			if err != nil {
				return nil, err
			}
			out.runs = out.runs.add(run{of: o.id, at: at*o.m + p.rows[0], n: p.rows[1] - p.rows[0]})
		}
	}
	if strings.HasSuffix(s.op, "_nodes") {
		out.sum = &partSum{spans: s.spec.spans, leaves: s.step.Attrs.Int("leaves", 0)}
		for range out.sum.spans {
			out.sum.turns = append(out.sum.turns, always)
		}
	}
	return out, nil
}

// contraction finds the class of which v are the operands' entries over the
// columns of a piece.
func (f *follower) contraction(s *site, c *class, p slab, v runs, slot int) (*class, int, error) {
	err := f.t.unknown(c, slot*c.n, (slot+1)*c.n)
	err = fmt.Errorf("%w and %s, columns %d to %d", err, f.t.classes[p.of].title, p.cols[0], p.cols[1])
	for _, o := range f.t.byKey[fmt.Sprint(opKey(s.op, s.step.Attrs), p.of)] {
		if o.extra != c.extra || p.cols[1] > o.n {
			continue
		}
		for at := 0; at*o.n < o.args[0].length(); at++ {
			if !o.args[0].cut(at*o.n+p.cols[0], at*o.n+p.cols[1]).equal(v) || c.extra != "" && at != slot {
				continue
			}
			if wrong := cutLike(s, c.bounds, o, p.cols); wrong != nil {
				err = wrong
				continue
			}
			return o, at, nil
		}
	}
	return nil, 0, err
}

// cutLike checks that the step's segments are those of the model.
func cutLike(s *site, bounds []int, o *class, cols [2]int) error {
	if !strings.HasSuffix(s.op, "_nodes") {
		if cols != [2]int{0, o.n} || !slices.Equal(bounds, o.bounds) {
			return fmt.Errorf("adds columns %d to %d of %d in segments %v, the model all in %v", cols[0], cols[1], o.n, bounds, o.bounds)
		}
		return nil
	}
	leaf, leaves := s.step.Attrs.Int("leaf", 0), s.step.Attrs.Int("leaves", 0)
	for i, b := range bounds {
		if leaf+i >= len(o.bounds) || leaves != len(o.bounds)-1 || o.bounds[leaf+i] != cols[0]+b {
			return fmt.Errorf("leaf %d of %d begins at column %d, the model's segments are %v", leaf+i, leaves, cols[0]+b, o.bounds)
		}
	}
	return nil
}

// embed takes columns of all rows of a weight.
func (f *follower) embed(s *site, c *class, args []*means) (*means, error) {
	w := args[1].matrix
	if w == nil || len(w.pieces) != 1 {
		return nil, fmt.Errorf("reads %s, which is no table of words", s.args[1].ref.Name)
	}
	p := w.pieces[0]
	for _, o := range f.t.byKey[fmt.Sprint(opKey(s.op, s.step.Attrs), p.of)] {
		if words := o.node.Args[1].Type.Shape[0].N; o.extra == c.extra && p.rows == [2]int{0, words} {
			return &means{meant: meant{runs: runs{{of: o.id, at: p.cols[0], n: p.cols[1] - p.cols[0]}}}}, nil
		}
	}
	return nil, fmt.Errorf("the model does not look up words in rows %d to %d of %s", p.rows[0], p.rows[1], f.t.classes[p.of].title)
}

// expertRows takes columns of a row for each expert.
func (f *follower) expertRows(s *site, c *class, args []*means) (*means, error) {
	w := args[0].matrix
	if w == nil || len(w.pieces) != 1 || !slices.Equal(w.pieces[0].experts, s.step.Attrs.Ints("experts")) {
		return nil, fmt.Errorf("works with experts %v of %s, which has others", s.step.Attrs.Ints("experts"), s.args[0].ref.Name)
	}
	p := w.pieces[0]
	for _, o := range f.t.byKey[fmt.Sprint(opKey(s.op, s.step.Attrs), p.of)] {
		if o.extra != c.extra {
			continue
		}
		out := &means{slots: heldBy(s.step.Attrs)}
		for slot := range o.n {
			out.runs = out.runs.add(run{of: o.id, at: slot*o.m + p.cols[0], n: p.cols[1] - p.cols[0]})
		}
		return out, nil
	}
	return nil, fmt.Errorf("the model does not take rows of %s for these choices", f.t.classes[p.of].title)
}

// combine adds up the slots of a token, or of those whose experts are held.
func (f *follower) combine(s *site, c *class, args []*means) (*means, error) {
	served := &held{make(map[int][2]int)}
	if s.op == "combine_nodes" {
		served = heldBy(s.step.Attrs)
	} else {
		for e := range c.total {
			served.turns[e] = always
		}
	}
	if !args[0].slots.covers(served) {
		return nil, fmt.Errorf("adds slots that %s does not have", s.args[0].ref.Name)
	}
	out := &means{}
	var err error
	if out.runs, err = f.t.entrywise(opKey(s.op, s.step.Attrs), c, args[0].dims[1]); err != nil {
		return nil, err
	}
	for _, r := range out.runs {
		if o := f.t.classes[r.of]; o.total != c.total {
			return nil, fmt.Errorf("combines %d experts, the model %d", c.total, o.total)
		}
	}
	if s.op == "combine_nodes" {
		out.sum = &partSum{spans: s.spec.spans, leaves: c.total}
		for _, span := range s.spec.spans {
			out.sum.turns = append(out.sum.turns, served.turns[span.Lo])
		}
	}
	return out, nil
}

// allReduce checks that parts of one sum are all there, each once.
func (f *follower) allReduce(attrs ir.Attrs, args []*means) (*means, error) {
	leaves := attrs.Int("leaves", 0)
	turns := make([][][2]int, leaves)
	out := &means{meant: args[0].meant}
	for i, a := range args {
		flat := attrs.Sets("spans")[i]
		if a.sum == nil || a.sum.leaves != leaves || !slices.Equal(flatten(a.sum.spans), flat) {
			return nil, fmt.Errorf("takes operand %d for leaves %v of %d, it is %s", i, flat, leaves, a.sum)
		}
		if !a.runs.equal(out.runs) {
			return nil, fmt.Errorf("adds parts of different sums: %s and %s", f.t.text(out.runs), f.t.text(a.runs))
		}
		out.slots = out.slots.meet(a.slots)
		for j, span := range a.sum.spans {
			for leaf := span.Lo; leaf < min(span.Hi, leaves); leaf++ {
				turns[leaf] = append(turns[leaf], a.sum.turns[j])
			}
		}
	}
	for leaf, list := range turns {
		if !takeTurns(list) {
			return nil, fmt.Errorf("leaf %d of %d is added in turns %v, which are not all, each once", leaf, leaves, list)
		}
	}
	return out, nil
}

// takeTurns reports whether each token is served once.
func takeTurns(list [][2]int) bool {
	if len(list) == 0 || len(list) != list[0][1] {
		return false
	}
	seen := make(map[int]bool)
	for _, turn := range list {
		if turn[1] != list[0][1] || seen[turn[0]] {
			return false
		}
		seen[turn[0]] = true
	}
	return true
}

// append finds which heads of the model are stored.
func (f *follower) append(s *site, args []*array, kv *cache) error {
	var meants []*meant
	for i, a := range args[:4] {
		h, err := f.operand(s, i, a)
		if err != nil {
			return err
		}
		meants = append(meants, &h.meant)
	}
	c, err := f.t.describe(s.op, s.step.Attrs, s.made.Type, meants)
	if err != nil {
		return err
	}
	for h := range kv.heads {
		k, v := c.args[0].cut(h*c.n, (h+1)*c.n), c.args[1].cut(h*c.m, (h+1)*c.m)
		at, found := -1, (*class)(nil)
		for _, o := range f.t.byKey[fmt.Sprint(opKey(s.op, nil), k.first().of)] {
			for _, j := range o.firsts[k.first()] {
				if o.extra == c.extra && o.args[0].cut(j*o.n, (j+1)*o.n).equal(k) && o.args[1].cut(j*o.m, (j+1)*o.m).equal(v) && (h == 0 || j == kv.first+h) {
					at, found = j, o
				}
			}
		}
		if found == nil || h > 0 && found != kv.of {
			return fmt.Errorf("the model does not store %s and %s together, after the head before", f.t.text(k), f.t.text(v))
		}
		if h == 0 && kv.of != nil && kv.of != found {
			return fmt.Errorf("stores %s in the cache that has %s", f.t.text(k), kv.of.title)
		}
		if h == 0 {
			kv.of, kv.first = found, at
		}
	}
	return nil
}

// attention finds the model's head for each query head, and that it reads the
// KV head that the model's reads.
func (f *follower) attention(s *site, args []*means) (*means, error) {
	kv := s.args[1].at(f.m.layer(s)).cache
	if kv == nil || kv.of == nil {
		return nil, fmt.Errorf("cache %s has nothing of this step", s.args[1].ref.Name)
	}
	whole := &meant{runs: runs{{of: kv.of.id, n: volume(rowDims(kv.of.node.Type))}}}
	list := []*meant{&args[0].meant, whole, &args[2].meant, &args[3].meant}
	if len(args) > 4 {
		list = append(list, &args[4].meant)
	}
	c, err := f.t.describe(s.op, s.step.Attrs, s.made.Type, list)
	if err != nil {
		return nil, err
	}
	first, kvFirst := s.step.Attrs.Int("q_first", 0), s.step.Attrs.Int("kv_first", 0)
	out := &means{}
	for h := range args[0].dims[0] {
		v := c.args[0].cut(h*c.n, (h+1)*c.n)
		o, at := f.t.piece(opKey(s.op, s.step.Attrs), c, v)
		switch {
		case o == nil || len(o.args) != len(c.args):
			return nil, f.t.unknown(&class{args: []runs{v}}, 0, v.length())
		case at != first+h:
			return nil, fmt.Errorf("calls query head %d number %d", at, first+h)
		case kvFirst != kv.first || (first+h)/c.heads != at/o.heads:
			return nil, fmt.Errorf("query head %d reads KV head %d of those from %d; the model's reads %d, and the cache's first is %d", at, (first+h)/c.heads, kvFirst, at/o.heads, kv.first)
		case len(c.args) > 1 && !c.args[1].cut(h, h+1).equal(o.args[1].cut(at, at+1)):
			return nil, fmt.Errorf("query head %d has the sink %s", at, f.t.text(c.args[1].cut(h, h+1)))
		}
		out.runs = out.runs.add(run{of: o.id, at: at * o.m, n: o.m})
	}
	return out, nil
}

// output checks that an output is all of the model's.
func (f *follower) output(o *plan.Output, from *operand, a *array) error {
	bad := &Mismatch{Kind: Value, Output: o.Name, Group: o.Group, Device: o.Device, Program: f.m.prog.Name, Step: -1, Body: -1, Layer: -1}
	want := f.t.values[f.t.g.Outputs[f.m.logical.output(o.Name)].Value]
	switch {
	case a.means == nil:
		bad.Text = "is undefined: " + f.m.reason(a.lost).String()
	case a.means.sum != nil || a.means.slots != nil || !a.means.runs.equal(want.runs):
		bad.Text = fmt.Sprintf("is %s, the model's is %s", f.t.text(a.means.runs), f.t.text(want.runs))
	case from.t.Shape.Sym().Group() != o.Group && f.m.p.Groups() > 1:
		bad.Text = fmt.Sprintf("has the rows %s", from.t.Shape.Sym())
	default:
		return nil
	}
	return bad
}
