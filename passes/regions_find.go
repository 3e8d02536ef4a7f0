package passes

import (
	"slices"

	"moec/ir"
)

// featureRun is the number of features of a unit where the extent allows it:
// the width of a tensor-core tile's K step for 16-bit types (mma.m16n8k16), so
// that a device's share starts where a tile does.
const featureRun = 16

// FindRegions returns the regions of a logical graph, in graph order of their
// first nodes. They depend on the graph alone.
//
// Each contraction is tried as the one that closes a region: its input
// features are cut and the cut is followed upwards, op by op, until it meets
// contractions that can open the region by computing part of their output
// features. Whatever the cut cannot pass stays whole.
func FindRegions(g *ir.Graph) []*Region {
	f := &finder{g: g, uses: g.Uses(), at: make(map[*ir.Node]int, len(g.Nodes)), blocked: map[*ir.Node]bool{}}
	for i, n := range g.Nodes {
		f.at[n] = i
	}
	f.slots = findSlots(g, f.uses)
	for {
		before := len(f.blocked)
		regions := f.search()
		if len(f.blocked) == before {
			return f.finish(regions)
		}
	}
}

// finder is the state of one search. A node is blocked when two demands on it
// contradict; the search then starts again with the node whole.
type finder struct {
	g       *ir.Graph
	uses    map[*ir.Node][]*ir.Node
	at      map[*ir.Node]int // position in the graph
	slots   map[*ir.Node]*ir.Node
	blocked map[*ir.Node]bool

	owner map[*ir.Node]*Region // of members
	parts map[*ir.Node]*Region // Experts regions by combine
}

// search makes one attempt. Contractions after an attention op come first, so
// that the projections before it open its region even where another
// projection without a norm precedes them.
func (f *finder) search() []*Region {
	f.owner, f.parts = map[*ir.Node]*Region{}, map[*ir.Node]*Region{}
	regions := f.expertRegions()
	var rest []*ir.Node
	for _, n := range f.g.Nodes {
		if !contraction(n) || n.Layer < 0 {
			continue
		}
		if heads := f.headsBefore(n); heads > 0 {
			regions = f.close(regions, n, heads)
		} else {
			rest = append(rest, n)
		}
	}
	for _, n := range rest {
		k := n.Args[0].Type.Shape.Last().N
		regions = f.close(regions, n, f.runs(k))
	}
	regions = append(regions, f.ends()...)
	for _, r := range regions {
		f.check(r)
	}
	return regions
}

// runs returns the number of units that a feature axis is cut into.
func (f *finder) runs(extent int) int {
	if extent%(featureRun*max(f.g.Numerics.Segments, 1)) == 0 {
		return extent / featureRun
	}
	return extent
}

// headsBefore returns the query heads of the attention op that n's input
// comes from without another contraction between, or 0.
func (f *finder) headsBefore(n *ir.Node) int {
	seen := map[*ir.Node]bool{}
	var walk func(*ir.Node) int
	walk = func(v *ir.Node) int {
		if seen[v] || v.Layer != n.Layer || contraction(v) || v.Op.Name == "combine" {
			return 0
		}
		seen[v] = true
		if v.Op.Name == "attention" {
			return v.Type.Shape[1].N
		}
		for _, a := range v.Args {
			if heads := walk(a); heads > 0 {
				return heads
			}
		}
		return 0
	}
	return walk(n.Args[0])
}

// close tries n as the end of a region of that many units, and adds it to the
// region it shares members with, or makes a new one.
func (f *finder) close(regions []*Region, n *ir.Node, units int) []*Region {
	x := n.Args[0]
	if f.owner[n] != nil || f.blocked[n] || units < 1 || x.Type.Shape.Last().N%units != 0 {
		return regions
	}
	cut := Cut{len(x.Type.Shape) - 1, x.Type.Shape.Last().N / units, 1}
	t := &follow{finder: f, root: n, units: units, members: map[*ir.Node]Member{}, again: map[*ir.Node]bool{}}
	t.visit(x, cut)
	t.prune()
	if !t.opens() {
		return regions
	}
	r, ok := f.join(t)
	if !ok {
		return regions
	}
	if r == nil {
		r = &Region{Kind: kindOf(t), Layer: n.Layer, Units: units, Members: map[*ir.Node]Member{}}
		regions = append(regions, r)
	}
	args := wholes(n, cut)
	args[1] = cut.moved(len(n.Args[1].Type.Shape) - 1)
	t.members[n] = Member{Result: Whole, Args: args}
	f.take(r, t)
	r.Close = append(r.Close, n)
	return regions
}

// kindOf names the region of a new trace outside the experts.
func kindOf(t *follow) Kind {
	for n := range t.members {
		if n.Op.Name == "attention" {
			return Attention
		}
	}
	return Dense
}

// join returns the region that the trace must be added to: that of the
// members it shares, or of the experts it lies among; nil when it shares none.
// It reports false when there are two such regions, or different units.
func (f *finder) join(t *follow) (*Region, bool) {
	var found *Region
	if c := f.slots[t.root]; c != nil {
		found = f.parts[c]
	}
	for n := range t.members {
		r := f.owner[n]
		if r == nil {
			continue
		}
		if found != nil && found != r {
			return nil, false
		}
		found = r
	}
	fresh := found != nil && found.Kind == Experts && len(found.Members) == 0
	if fresh {
		found.Units = t.units
	}
	return found, found == nil || found.Units == t.units
}

// take makes the members of a trace members of r. A node that two traces cut
// differently is blocked.
func (f *finder) take(r *Region, t *follow) {
	for n, m := range t.members {
		if old, ok := r.Members[n]; ok && old.Result != m.Result {
			f.blocked[n] = true
		}
		r.Members[n] = m
		f.owner[n] = r
	}
}

// ends returns the regions of the embedding and of the head.
func (f *finder) ends() []*Region {
	var regions []*Region
	for _, n := range f.g.Nodes {
		if n.Op.Name != "embed" || n.Layer >= 0 || f.blocked[n] {
			continue
		}
		units := f.runs(n.Type.Shape[1].N)
		cut := Cut{1, n.Type.Shape[1].N / units, 1}
		r := &Region{Kind: Embedding, Layer: -1, Units: units, Members: map[*ir.Node]Member{}}
		r.Members[n] = Member{Result: cut, Args: []Cut{Whole, cut}}
		f.owner[n] = r
		regions = append(regions, r)
	}
	for _, out := range f.g.Outputs {
		shape := out.Value.Type.Shape
		if out.Value.Layer >= 0 || len(shape) < 2 || f.owner[out.Value] != nil {
			continue
		}
		units := f.runs(shape.Last().N)
		t := &follow{finder: f, units: units, members: map[*ir.Node]Member{}, again: map[*ir.Node]bool{}}
		t.root = out.Value
		t.visit(out.Value, Cut{len(shape) - 1, shape.Last().N / units, 1})
		t.prune()
		if r, ok := f.join(t); !t.opens() || !ok || r != nil {
			continue
		}
		r := &Region{Kind: Head, Layer: -1, Units: units, Members: map[*ir.Node]Member{}}
		f.take(r, t)
		regions = append(regions, r)
	}
	return regions
}

// check blocks members that a device cannot compute in part: gathered values
// of which two devices hold the same entries, and caches and attention ops
// that are not cut together.
func (f *finder) check(r *Region) {
	for n, m := range r.Members {
		if m.Result.Share > 1 && f.gathered(r, n) {
			f.blocked[n] = true
		}
		switch n.Op.Name {
		case "kv_append":
			if f.gathered(r, n) {
				f.blocked[n] = true
			}
		case "attention":
			if f.owner[n.Args[1]] != r {
				f.blocked[n] = true
			}
		}
	}
}

// gathered reports whether somebody reads the cut result of n whole.
func (f *finder) gathered(r *Region, n *ir.Node) bool {
	if r.Members[n].Result.IsWhole() {
		return false
	}
	for _, u := range f.uses[n] {
		m, ok := r.Members[u]
		for i, a := range u.Args {
			if a == n && (!ok || m.Args[i].IsWhole()) {
				return true
			}
		}
	}
	return slices.ContainsFunc(f.g.Outputs, func(o ir.Output) bool { return o.Value == n })
}

// finish fills in the lists of nodes and sorts the regions.
func (f *finder) finish(regions []*Region) []*Region {
	for _, r := range regions {
		if r.Kind == Experts {
			f.finishExperts(r)
		}
		closes := r.Close
		r.Close = nil
		for _, n := range f.sorted(r.Members) {
			switch {
			case slices.Contains(closes, n):
				r.Close = append(r.Close, n)
			case opener(n, r.Members[n]):
				r.Open = append(r.Open, n)
			default:
				r.Inner = append(r.Inner, n)
			}
			if f.gathered(r, n) {
				r.Gather = append(r.Gather, n)
			}
		}
		r.Bounds = segmentBounds(r.Units, f.g.Numerics.Segments)
	}
	slices.SortStableFunc(regions, func(a, b *Region) int { return f.start(a) - f.start(b) })
	return regions
}

// opener reports whether n makes part of its result from whole values.
func opener(n *ir.Node, m Member) bool {
	return n.Op.Name == "embed" || contraction(n) && m.Result.Axis == lastAxis(n)
}

// start returns the position of a region's first node.
func (f *finder) start(r *Region) int {
	first := len(f.g.Nodes)
	for _, list := range [][]*ir.Node{r.Open, r.Inner, r.Before, r.After} {
		for _, n := range list {
			first = min(first, f.at[n])
		}
	}
	return first
}

func (f *finder) sorted(members map[*ir.Node]Member) []*ir.Node {
	list := make([]*ir.Node, 0, len(members))
	for n := range members {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b *ir.Node) int { return f.at[a] - f.at[b] })
	return list
}

// segmentBounds cuts units into at most count segments of nearly equal size.
func segmentBounds(units, count int) []int {
	count = max(count, 1)
	bounds := []int{0}
	for i := 1; i <= count; i++ {
		if b := i * units / count; b > bounds[len(bounds)-1] {
			bounds = append(bounds, b)
		}
	}
	return bounds
}
