package prove

import (
	"fmt"
	"math"

	"moec/ir"
	"moec/ir/tensor"
)

// shrinker divides extents. Each axis of each value has a variable; operations
// say which axes are the same, and which numbers along them must stay whole.
// Axes that are the same form a class, which has one factor: the largest by
// which all its numbers can be divided and no extent becomes 1.
//
// Axes that count things which differ in kind are not divided: heads, experts,
// slots, parts of a sum, and every axis of a reshape but the innermost.
type shrinker struct {
	full    bool // divide nothing
	up      []int
	gcd     []int // of the class's extents and the numbers along it
	least   []int // its smallest extent
	extents []int // of each axis
	names   []string
	tokens  int // of all steps together, about
	of      map[any][]int
}

// typed is a type with the variables of its axes; -1 for a symbol, which is no
// class's.
type typed struct {
	tensor.Type
	axes []int
}

func newShrinker(full bool, tokens int) *shrinker {
	return &shrinker{full: full, tokens: tokens, of: make(map[any][]int)}
}

// typed returns a thing's type with its variables, the same at every call.
func (s *shrinker) typed(key any, t tensor.Type) typed {
	axes, ok := s.of[key]
	if !ok {
		for i, d := range t.Shape {
			v := -1
			if d.Sym == "" {
				v = len(s.up)
				s.up, s.gcd, s.least = append(s.up, v), append(s.gcd, d.N), append(s.least, d.N)
				s.extents = append(s.extents, d.N)
				s.names = append(s.names, nameOf(key, i))
			}
			axes = append(axes, v)
		}
		s.of[key] = axes
	}
	return typed{t, axes}
}

// nameOf names an axis of a weight; others have no name that a person knows.
func nameOf(key any, axis int) string {
	if w, ok := key.(*ir.Weight); ok {
		return fmt.Sprintf("axis %d of %s", axis, w.Name)
	}
	return ""
}

func (s *shrinker) root(v int) int {
	for s.up[v] != v {
		s.up[v] = s.up[s.up[v]]
		v = s.up[v]
	}
	return v
}

// join makes two axes one class. An axis without a class pins the other.
func (s *shrinker) join(a, b int) {
	switch {
	case a < 0 && b < 0:
	case a < 0:
		s.need(b, 1)
	case b < 0:
		s.need(a, 1)
	default:
		a, b = s.root(a), s.root(b)
		if a == b {
			return
		}
		if b < a { // the first keeps its name
			a, b = b, a
		}
		s.up[b] = a
		s.gcd[a] = gcd(s.gcd[a], s.gcd[b])
		s.least[a] = min(s.least[a], s.least[b])
		if s.names[a] == "" {
			s.names[a] = s.names[b]
		}
	}
}

// need says that n along the axis must be divisible by its factor.
func (s *shrinker) need(v int, n ...int) {
	for _, k := range n {
		if v >= 0 {
			r := s.root(v)
			s.gcd[r] = gcd(s.gcd[r], k)
		}
	}
}

// wide keeps as many entries of an axis as there are tokens to pick them: rows
// of equal words would choose equal experts.
func (s *shrinker) wide(v int) {
	if v >= 0 {
		r := s.root(v)
		s.least[r] = min(s.least[r], max(2, 2*s.extents[v]/s.tokens))
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	if a < 0 {
		return -a
	}
	return a
}

// factor returns by how much the axis is divided.
func (s *shrinker) factor(v int) int {
	if v < 0 || s.full {
		return 1
	}
	r := s.root(v)
	g, best := s.gcd[r], 1
	for d := 1; d <= int(math.Sqrt(float64(g))); d++ {
		for _, f := range []int{d, g / d} {
			if g%d == 0 && f > best && s.least[r]/f >= 2 {
				best = f
			}
		}
	}
	return best
}

// shape returns the divided extents.
func (s *shrinker) shape(t typed) tensor.Shape {
	out := make(tensor.Shape, len(t.Shape))
	for i, d := range t.Shape {
		if out[i] = d; d.Sym == "" {
			out[i].N /= s.factor(t.axes[i])
		}
	}
	return out
}

// axis is an extent and its variable.
type axis struct{ n, v int }

// around splits the axes before and after the symbol; all come after if there
// is none.
func (t typed) around() (outer, inner []axis) {
	at := -1
	for i, d := range t.Shape {
		if d.Sym != "" {
			at = i
			break
		}
	}
	for i, d := range t.Shape {
		switch a := (axis{d.N, t.axes[i]}); {
		case i == at || d.N == 1:
		case i < at:
			outer = append(outer, a)
		default:
			inner = append(inner, a)
		}
	}
	return outer, inner
}

// reshaped says that two types are the same elements in the same order.
func (s *shrinker) reshaped(a, b typed) error {
	outA, inA := a.around()
	outB, inB := b.around()
	if a.Shape.Sym() != b.Shape.Sym() || !s.regrouped(outA, outB) || !s.regrouped(inA, inB) {
		return fmt.Errorf("%s is read as %s", a.Type, b.Type)
	}
	return nil
}

// regrouped matches runs of axes with the same product. Of a run only the
// innermost axes are divided.
func (s *shrinker) regrouped(a, b []axis) bool {
	for len(a) > 0 && len(b) > 0 {
		i, j, n, m := 1, 1, a[0].n, b[0].n
		for n != m {
			switch {
			case n < m && i < len(a):
				n *= a[i].n
				i++
			case m < n && j < len(b):
				m *= b[j].n
				j++
			default:
				return false
			}
		}
		s.join(a[i-1].v, b[j-1].v)
		for _, outer := range append(append([]axis{}, a[:i-1]...), b[:j-1]...) {
			s.need(outer.v, 1)
		}
		a, b = a[i:], b[j:]
	}
	return len(a) == 0 && len(b) == 0
}

// sameAxes joins axes by place, counted from the last; extents that are
// repeated are left alone.
func (s *shrinker) sameAxes(a, b typed) {
	for i := 1; i <= min(len(a.axes), len(b.axes)); i++ {
		x, y := len(a.axes)-i, len(b.axes)-i
		if a.Shape[x] == b.Shape[y] && a.Shape[x].Sym == "" {
			s.join(a.axes[x], b.axes[y])
		}
	}
}

// last returns the variable of the last axis, or -1.
func (t typed) last() int {
	if len(t.axes) == 0 {
		return -1
	}
	return t.axes[len(t.axes)-1]
}

// axis returns the variable of an axis that must exist.
func (t typed) axis(i int) int {
	if i < 0 || i >= len(t.axes) {
		return -1
	}
	return t.axes[i]
}

// constrain says what an operation demands, whose operands and result have the
// types that its op makes. It returns the axis that the numbers among its
// attributes count along, or -1.
func (s *shrinker) constrain(op string, attrs ir.Attrs, args []typed, out typed) (int, error) {
	info := ir.Op(op)
	switch op {
	case "reshape":
		return -1, s.reshaped(args[0], out)
	case "slice":
		return s.sliced(attrs, args[0], out), nil
	case "concat", "all_gather":
		at := attrs.Int("axis", 0)
		for _, a := range args {
			s.sameAxes(a, out)
			s.join(a.axis(at), out.axis(at))
		}
		return -1, nil
	case "take_rows", "own_rows", "embed", "all_reduce", "part", "combine", "combine_nodes", "expert_rows", "dispatch":
		return -1, s.rowed(op, args, out)
	case "gather":
		s.pin(args[0], args[1], out)
		return -1, nil
	case "topk":
		s.pin(args[0], out)
		return -1, nil
	case "matmul", "matmul_nodes", "expert_matmul", "expert_matmul_nodes":
		return s.contracted(attrs, args, out), nil
	case "rope":
		s.sameAxes(args[0], out)
		s.join(args[2].last(), out.last())
		return -1, nil
	case "kv_append", "attention":
		s.attended(op, args, out)
		return -1, nil
	case "rms_norm", "layer_norm":
		for _, a := range args {
			s.sameAxes(a, out)
		}
		return -1, nil
	}
	switch {
	case op == "copy", op == "transfer", op == "broadcast", op == "softmax", op == "sum", info != nil && info.Has(ir.Elementwise):
		for i, a := range args {
			s.sameAxes(a, out)
			for _, b := range args[:i] {
				s.sameAxes(a, b)
			}
		}
		return -1, nil
	}
	return -1, fmt.Errorf("op %q has no meaning in a plan", op)
}

// pin keeps all axes of values undivided.
func (s *shrinker) pin(list ...typed) {
	for _, t := range list {
		for _, v := range t.axes {
			s.need(v, 1)
		}
	}
}

// sliced divides the ends of a slice with the axis. With a step the first
// entry is below the step and stays.
func (s *shrinker) sliced(attrs ir.Attrs, x, out typed) int {
	at, step := attrs.Int("axis", 0), attrs.Int("step", 1)
	lo, hi := attrs.Int("lo", 0), attrs.Int("hi", 0)
	for i := range out.axes {
		s.join(x.axis(i), out.axes[i])
	}
	switch {
	case step == 1:
		s.need(x.axis(at), lo, hi)
	case lo >= step || x.Shape[at].N != step*out.Shape[at].N:
		s.need(x.axis(at), 1)
	}
	return x.axis(at)
}

// rowed is the ops that keep the last axis of a value and may add, drop or
// list others, which are not divided.
func (s *shrinker) rowed(op string, args []typed, out typed) error {
	from := args
	switch op {
	case "embed":
		from = args[1:2]
		s.wide(args[1].axis(0))
	case "take_rows", "own_rows", "part":
		s.sameAxes(args[0], out)
		return nil
	case "all_reduce":
		for _, a := range args {
			s.need(a.axis(0), 1)
			s.sameAxes(a, out)
		}
		return nil
	case "dispatch", "combine", "combine_nodes", "expert_rows":
		from = args[:1]
		s.pin(args[1:]...)
		for _, t := range []typed{args[0], out} {
			for _, v := range t.axes[:max(0, len(t.axes)-1)] {
				s.need(v, 1)
			}
		}
	}
	s.join(from[0].last(), out.last())
	return nil
}

// contracted is every matmul.
func (s *shrinker) contracted(attrs ir.Attrs, args []typed, out typed) int {
	x, w := args[0], args[1]
	s.join(x.last(), w.last())
	s.join(w.axis(len(w.axes)-2), out.last())
	s.need(x.last(), attrs.Ints("bounds")...)
	if len(args) > 2 { // experts and slots
		s.pin(args[2])
		s.need(w.axis(0), 1)
		s.need(x.axis(1), 1)
	}
	if attrs.Has("leaf") {
		s.need(out.axis(0), 1)
	}
	for i := 2; i <= min(len(x.axes), len(out.axes)); i++ {
		s.join(x.axes[len(x.axes)-i], out.axes[len(out.axes)-i])
	}
	return x.last()
}

// attended joins the entries of queries, keys and values, which lie side by
// side in a cache.
func (s *shrinker) attended(op string, args []typed, out typed) {
	list := append([]typed{out}, args[:2]...)
	if op == "attention" && len(args) > 4 {
		s.pin(args[4])
	}
	for _, t := range list {
		s.need(t.axis(1), 1)
		s.join(t.last(), list[1].last())
	}
}
