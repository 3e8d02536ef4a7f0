package passes

import (
	"reflect"
	"slices"

	"moec/ir"
)

// packProjections joins contractions that read the same value into one, on
// weights that are joined when they are loaded.
//
//	before:  q = round(matmul(x, wq))    after:  w = pack(wq, wk, wv){axis=0}
//	         k = round(matmul(x, wk))            y = round(matmul(x, w))
//	         v = round(matmul(x, wv))            q = slice(y)  k = slice(y)  v = slice(y)
//
// Each output feature is summed as before, so the bits stay. Contractions
// whose results meet in an elementwise op (gate and up) are joined with each
// other only, so that "fuse gate" finds them alone. It runs after place,
// because each device packs the slices that it holds.
func packProjections(_ *Context, g *ir.Graph) error {
	p := &packer{g: g, uses: g.Uses(), out: outputs(g), first: map[*ir.Node]*pack{}, last: map[*ir.Node]*pack{}, drop: map[*ir.Node]bool{}}
	for _, list := range p.candidates() {
		for _, set := range p.divide(list) {
			if len(set) > 1 {
				p.plan(set)
			}
		}
	}
	return rewrite(g, p.visit)
}

type packer struct {
	g     *ir.Graph
	uses  map[*ir.Node][]*ir.Node
	out   map[*ir.Node]bool
	first map[*ir.Node]*pack // by the first contraction
	last  map[*ir.Node]*pack // by each value that is replaced
	drop  map[*ir.Node]bool
}

// pack is one set of contractions in the making.
type pack struct {
	stages [][]*ir.Node // the contractions, then ops that each result goes through alike
	slices map[*ir.Node]*ir.Node
}

// candidates returns lists of contractions that could be joined, in graph
// order.
func (p *packer) candidates() [][]*ir.Node {
	var lists [][]*ir.Node
	byInput := map[*ir.Node][]int{} // numbers of lists
	for _, n := range p.g.Nodes {
		if !contraction(n) || n.Args[1].Op.Name != "weight" || len(p.uses[n.Args[1]]) != 1 {
			continue
		}
		x := n.Args[0]
		at := slices.IndexFunc(byInput[x], func(i int) bool { return joinable(lists[i][0], n) })
		if at < 0 {
			byInput[x] = append(byInput[x], len(lists))
			lists = append(lists, []*ir.Node{n})
			continue
		}
		lists[byInput[x][at]] = append(lists[byInput[x][at]], n)
	}
	return lists
}

// joinable reports whether a and b, which read the same value, differ in the
// weight alone.
func joinable(a, b *ir.Node) bool {
	return a.Op == b.Op && together(a, b) && a.Args[1].Type.DType == b.Args[1].Type.DType &&
		slices.Equal(a.Args[2:], b.Args[2:]) && reflect.DeepEqual(a.Attrs, b.Attrs)
}

// divide separates contractions whose results meet from the others.
func (p *packer) divide(list []*ir.Node) [][]*ir.Node {
	var sets [][]*ir.Node
	var reach []map[*ir.Node]bool
	for _, n := range list {
		r := map[*ir.Node]bool{}
		p.reach(n, r)
		at := slices.IndexFunc(reach, func(other map[*ir.Node]bool) bool { return meets(r, other) })
		if at < 0 {
			sets, reach = append(sets, []*ir.Node{n}), append(reach, r)
			continue
		}
		sets[at] = append(sets[at], n)
		for m := range r {
			reach[at][m] = true
		}
	}
	var alone []*ir.Node
	sets = slices.DeleteFunc(sets, func(set []*ir.Node) bool {
		if len(set) == 1 {
			alone = append(alone, set[0])
		}
		return len(set) == 1
	})
	return append(sets, alone)
}

// reach collects the elementwise ops that the value of n goes through.
func (p *packer) reach(n *ir.Node, set map[*ir.Node]bool) {
	for _, u := range p.uses[n] {
		if u.Op.Has(ir.Elementwise) && together(u, n) && !set[u] {
			set[u] = true
			p.reach(u, set)
		}
	}
}

func meets(a, b map[*ir.Node]bool) bool {
	for n := range a {
		if b[n] {
			return true
		}
	}
	return false
}

// plan joins a set, and what every result of it goes through alike: rounding,
// and the addition of a bias.
func (p *packer) plan(set []*ir.Node) {
	k := &pack{stages: [][]*ir.Node{set}, slices: map[*ir.Node]*ir.Node{}}
	for next := p.next(set); next != nil; next = p.next(next) {
		k.stages = append(k.stages, next)
	}
	p.first[set[0]] = k
	for _, stage := range k.stages {
		for _, n := range stage {
			p.drop[n] = true
		}
	}
	for _, n := range k.stages[len(k.stages)-1] {
		p.last[n] = k
	}
}

// next returns the only readers of the values if they all do the same.
func (p *packer) next(values []*ir.Node) []*ir.Node {
	var stage []*ir.Node
	for _, v := range values {
		if p.out[v] || len(p.uses[v]) != 1 {
			return nil
		}
		u := p.uses[v][0]
		same := len(stage) == 0 || u.Op == stage[0].Op && reflect.DeepEqual(u.Attrs, stage[0].Attrs) && sameBias(u, stage[0])
		if !together(u, v) || !same || u.Op.Name != "round" && !p.addsBias(u, v) || slices.Contains(stage, u) {
			return nil
		}
		stage = append(stage, u)
	}
	return stage
}

// addsBias reports whether u adds a weight of its own to the features of v.
func (p *packer) addsBias(u, v *ir.Node) bool {
	if u.Op.Name != "add" || u.Args[0] != v {
		return false
	}
	b := u.Args[1]
	return b.Op.Name == "weight" && len(p.uses[b]) == 1 && len(b.Type.Shape) == 1 && b.Type.Shape[0] == v.Type.Shape.Last()
}

func sameBias(a, b *ir.Node) bool {
	return a.Op.Name != "add" || a.Args[1].Type.DType == b.Args[1].Type.DType
}

func (p *packer) visit(r *rewriter, n *ir.Node) *ir.Node {
	if k := p.first[n]; k != nil {
		k.build(r)
	}
	if k := p.last[n]; k != nil {
		return k.slices[n]
	}
	if p.drop[n] {
		return nil
	}
	return n
}

// build adds the joined ops and a slice for each value they replace.
func (k *pack) build(r *rewriter) {
	set := k.stages[0]
	first := set[0]
	w := joinWeights(r, set, len(first.Args[1].Type.Shape)-2)
	args := slices.Clone(first.Args)
	args[1] = w
	y := r.add(first.Op.Name, first, first.Attrs, args...)
	y.Name = ""
	for _, stage := range k.stages[1:] {
		args := []*ir.Node{y}
		if stage[0].Op.Name == "add" {
			args = append(args, joinWeights(r, stage, 0))
		}
		y = r.add(stage[0].Op.Name, first, stage[0].Attrs, args...)
		y.Name = ""
	}
	lo, axis := 0, lastAxis(y)
	for _, n := range k.stages[len(k.stages)-1] {
		hi := lo + n.Type.Shape.Last().N
		k.slices[n] = r.add("slice", n, sliceAttrs(axis, lo, hi, 1), y)
		lo = hi
	}
}

// joinWeights packs operand 1 of each node along an axis.
func joinWeights(r *rewriter, set []*ir.Node, axis int) *ir.Node {
	weights := make([]*ir.Node, len(set))
	for i, n := range set {
		r.hoist(n.Args[1])
		weights[i] = n.Args[1]
	}
	w := r.add("pack", set[0].Args[1], ir.MakeAttrs(ir.Attr{Name: "axis", Value: axis}), weights...)
	w.Name = ""
	return w
}
