package ir

import (
	"slices"

	"moec/ir/tensor"
	"moec/ir/tree"
)

func (s *scope) weights() {
	seen := map[string]bool{}
	for _, w := range s.g.Weights {
		if w.Name == "" || seen[w.Name] {
			s.problem("weight %q has no name or is listed twice", w.Name)
		}
		seen[w.Name] = true
		if !w.DType.Float() {
			s.problem("weight %q has element type %s", w.Name, w.DType)
		}
		if w.Layer < -1 || w.Layer >= s.g.Layers {
			s.problem("weight %q is in layer %d of %d", w.Name, w.Layer, s.g.Layers)
		}
		if slices.ContainsFunc(w.Shape, func(d int) bool { return d < 1 }) {
			s.problem("weight %q has shape %v", w.Name, w.Shape)
		}
		if w.Experts != 0 && (len(w.Shape) == 0 || w.Shape[0] != w.Experts) {
			s.problem("weight %q has %d experts and shape %v", w.Name, w.Experts, w.Shape)
		}
		s.source(w)
	}
}

// source checks that a view lies in the stored tensor and has the weight's
// extents, apart from extents of 1.
func (s *scope) source(w *Weight) {
	src := w.Source
	if src.Key == "" {
		return
	}
	if len(src.View) != len(src.Stored) {
		s.problem("weight %q: view of %d axes on stored shape %v", w.Name, len(src.View), src.Stored)
		return
	}
	var shape []int
	stacked := 0
	for i, a := range src.View {
		if a.Expert {
			stacked++
			if src.Stored[i] != w.Experts {
				s.problem("weight %q has %d experts, axis %d of stored shape %v has %d", w.Name, w.Experts, i, src.Stored, src.Stored[i])
			}
			continue
		}
		if a.Lo < 0 || a.Lo >= a.Hi || a.Hi > src.Stored[i] || a.Step < 1 {
			s.problem("weight %q: [%d:%d:%d] is not a part of axis %d of stored shape %v", w.Name, a.Lo, a.Hi, a.Step, i, src.Stored)
			return
		}
		shape = append(shape, (a.Hi-a.Lo+a.Step-1)/a.Step)
	}
	if n := len(shape); src.Transposed && n >= 2 {
		shape[n-2], shape[n-1] = shape[n-1], shape[n-2]
	}
	want := 0
	if w.Experts != 0 {
		shape = append([]int{w.Experts}, shape...)
		want = 1
	}
	if src.PerExpert() {
		stacked++
	}
	if stacked != want {
		s.problem("weight %q has %d experts, its source %q numbers them %d times", w.Name, w.Experts, src.Key, stacked)
	}
	if !slices.Equal(withoutOnes(shape), withoutOnes(w.Shape)) {
		s.problem("weight %q has shape %v, its source gives %v", w.Name, w.Shape, shape)
	}
}

func withoutOnes(shape []int) []int {
	return slices.DeleteFunc(slices.Clone(shape), func(d int) bool { return d == 1 })
}

// weight checks a weight node against the table.
func (s *scope) weight(n *Node) {
	if n.Op.Name != "weight" {
		return
	}
	name := n.Attrs.Text("name")
	w := s.g.Weight(name)
	if w == nil {
		s.at(n, "no weight is called %q", name)
		return
	}
	if d := n.Attrs.DType("dtype"); d != w.DType {
		s.at(n, "weight %q is %s, the node %s", name, w.DType, d)
	}
	shape, ok := s.held(n, w)
	if got := n.Attrs.Ints("shape"); ok && !slices.Equal(got, shape) {
		s.at(n, "shape is %v, what is held of weight %q %v has %v", got, name, w.Shape, shape)
	}
}

// held returns the extents of the part of w that a weight node holds.
func (s *scope) held(n *Node, w *Weight) ([]int, bool) {
	shape := slices.Clone(w.Shape)
	if slice := n.Attrs.Sets("slice"); slice != nil {
		if len(slice) != len(shape) {
			s.at(n, "slice %v has %d axes, weight %q %v has %d", slice, len(slice), w.Name, w.Shape, len(shape))
			return nil, false
		}
		for i, r := range slice {
			if len(r) != 2 || r[0] < 0 || r[0] >= r[1] || r[1] > shape[i] {
				s.at(n, "slice %v is not within weight %q %v", slice, w.Name, w.Shape)
				return nil, false
			}
			shape[i] = r[1] - r[0]
		}
	}
	experts := n.Attrs.Ints("experts")
	if experts == nil {
		return shape, true
	}
	if w.Experts == 0 || len(experts) == 0 || shape[0] != w.Experts {
		s.at(n, "experts %v are held of weight %q, which has %d, %d of them in the slice", experts, w.Name, w.Experts, shape[0])
		return nil, false
	}
	for i, e := range experts {
		if e < 0 || e >= w.Experts || slices.Contains(experts[:i], e) {
			s.at(n, "expert %d is listed twice or is not one of the %d of weight %q", e, w.Experts, w.Name)
			return nil, false
		}
	}
	shape[0] = len(experts)
	return shape, true
}

func (s *scope) resident(n *Node) {
	if !n.Op.Has(Resident) {
		return
	}
	for i, a := range n.Args {
		if !a.Op.Has(Resident) {
			s.at(n, "operand %d, %s %s, is not resident", i, label(a), a.Op.Name)
		}
	}
}

func (s *scope) caches() {
	seen := map[string]bool{}
	for _, c := range s.g.Caches {
		if c.Name == "" || seen[c.Name] {
			s.problem("cache %q has no name or is listed twice", c.Name)
		}
		seen[c.Name] = true
		if c.Layer < -1 || c.Layer >= s.g.Layers {
			s.problem("cache %q is in layer %d of %d", c.Name, c.Layer, s.g.Layers)
		}
		if c.Heads < 1 || c.KeyDim < 1 || c.ValDim < 1 || c.Window < 0 || !c.DType.Float() {
			s.problem("cache %q: %d heads of %d + %d %s, window %d", c.Name, c.Heads, c.KeyDim, c.ValDim, c.DType, c.Window)
		}
	}
}

// cacheUse checks the writers and readers of a cache.
func (s *scope) cacheUse(n *Node) {
	for i, a := range n.Args {
		if rows := a.Type.Shape.Sym(); rows.Base() != tensor.Cached {
			continue
		}
		reader := n.Op.Name == "attention" && i == 1 || n.Op.Name == "fused"
		if !reader || a.Op.Name != "kv_append" && a.Op.Name != "param" {
			s.at(n, "operand %d, %s %s, is a cache: only attention reads one, from a kv_append", i, label(a), a.Op.Name)
			return
		}
		if a.Op.Name != "kv_append" || n.Op.Name != "attention" {
			continue
		}
		c := s.g.Cache(a.Attrs.Text("cache"))
		if window := n.Attrs.Int("window", 0); c != nil && c.Window > 0 && (window == 0 || window > c.Window) {
			s.at(n, "sees %d positions (0: all), cache %q keeps %d", window, c.Name, c.Window)
		}
	}
	if n.Op.Name == "kv_append" && s.within == nil {
		s.append(n)
	}
}

// append checks a kv_append against the table.
func (s *scope) append(n *Node) {
	name := n.Attrs.Text("cache")
	c := s.g.Cache(name)
	if c == nil {
		s.at(n, "no cache is called %q", name)
		return
	}
	k, v := n.Args[0].Type, n.Args[1].Type
	if len(k.Shape) != 3 || len(v.Shape) != 3 {
		return // reported by "types"
	}
	heads := k.Shape[1].N
	fits := heads == c.Heads || s.level == Placed && heads < c.Heads
	if !fits || k.Shape[2].N != c.KeyDim || v.Shape[2].N != c.ValDim || k.DType != c.DType || v.DType != c.DType {
		s.at(n, "keys %s and values %s do not fit cache %q: %d heads of %d + %d %s", k, v, name, c.Heads, c.KeyDim, c.ValDim, c.DType)
	}
}

func (s *scope) appends() {
	type part struct {
		cache         string
		device, group int
	}
	first := map[part]*Node{}
	for _, n := range s.g.Nodes {
		if n.Op.Name != "kv_append" {
			continue
		}
		p := part{n.Attrs.Text("cache"), n.Device, n.Group}
		if other, ok := first[p]; ok {
			s.at(n, "%s also appends to cache %q", label(other), p.cache)
			continue
		}
		first[p] = n
	}
}

func (s *scope) channels() {
	members := map[int][]*Node{}
	for _, n := range s.g.Nodes {
		if !n.Op.Has(Collective) {
			continue
		}
		channel := n.Attrs.Int("channel", -1)
		for _, m := range members[channel] {
			if m.Device == n.Device {
				s.at(n, "%s on device %d is in channel %d too", label(m), m.Device, channel)
			}
		}
		members[channel] = append(members[channel], n)
		first := members[channel][0]
		if first.Op != n.Op || !slices.Equal(first.Args, n.Args) || !sameAttrs(first.Attrs, n.Attrs) {
			s.at(n, "is in channel %d with %s, which has another op, other operands or other attributes", channel, label(first))
		}
	}
}

func sameAttrs(a, b Attrs) bool {
	return slices.EqualFunc(a, b, func(x, y Attr) bool { return x.Name == y.Name && sameValue(x.Value, y.Value) })
}

// partialSums are the ops whose results are parts of a sum, with the subtrees
// that they hold and the attribute that counts the leaves.
var partialSums = map[string]struct {
	spans  func(*Node) []tree.Span
	leaves string
}{
	"matmul_nodes":        {(*Node).LocalSpans, "leaves"},
	"expert_matmul_nodes": {(*Node).LocalSpans, "leaves"},
	"combine_nodes":       {(*Node).ExpertSpans, "total"},
}

func (s *scope) partials(n *Node) {
	if n.Op.Name != "all_reduce" {
		for i, a := range n.Args {
			if _, ok := partialSums[a.Op.Name]; ok {
				s.at(n, "operand %d, %s %s, is a partial sum, which only all_reduce reads", i, label(a), a.Op.Name)
			}
		}
		return
	}
	sets, leaves := n.Attrs.Sets("spans"), n.Attrs.Int("leaves", 0)
	if len(sets) != len(n.Args) {
		return // reported by "types"
	}
	for i, a := range n.Args {
		p, ok := partialSums[a.Op.Name]
		if !ok {
			continue
		}
		var flat []int
		for _, span := range p.spans(a) {
			flat = append(flat, span.Lo, span.Hi)
		}
		if have := a.Attrs.Int(p.leaves, 0); !slices.Equal(flat, sets[i]) || have != leaves {
			s.at(n, "operand %d, %s, holds spans %v of %d leaves, the list says %v of %d", i, label(a), flat, have, sets[i], leaves)
		}
	}
	s.coverage(n, leaves)
}

// coverage checks that the parts of a sum hold each leaf once, or in turns
// that are complete.
func (s *scope) coverage(n *Node, leaves int) {
	shares := make([][][]int, min(leaves, maxLeaves)) // turns of each leaf
	for i, flat := range n.Attrs.Sets("spans") {
		for j := 0; j+1 < len(flat); j += 2 {
			for leaf := max(flat[j], 0); leaf < min(flat[j+1], len(shares)); leaf++ {
				shares[leaf] = append(shares[leaf], turnOf(n.Args[i], leaf))
			}
		}
	}
	for leaf, turns := range shares {
		if !complete(turns) {
			s.at(n, "leaf %d of %d has turns [r, n] %v: the sum does not have it exactly once", leaf, leaves, turns)
			return
		}
	}
}

// turnOf returns the turn in which a contributes an expert, [0, 1] for always.
func turnOf(a *Node, expert int) []int {
	i := slices.Index(a.Attrs.Ints("experts"), expert)
	if turns := a.Attrs.Sets("turns"); a.Op.Name == "combine_nodes" && i >= 0 && i < len(turns) && len(turns[i]) == 2 {
		return turns[i]
	}
	return []int{0, 1}
}

// complete reports whether turns are [0, n] to [n-1, n] in any order.
func complete(turns [][]int) bool {
	seen := make([]bool, len(turns))
	for _, t := range turns {
		if t[1] != len(turns) || t[0] < 0 || t[0] >= len(turns) || seen[t[0]] {
			return false
		}
		seen[t[0]] = true
	}
	return len(turns) > 0
}
