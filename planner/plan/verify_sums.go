package plan

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/tree"
)

// sums is rule V15.
func (v *verifier) sums() { v.report() }

// twice is rule V16.
func (v *verifier) twice() { v.report() }

// spansOf returns the subtrees that the result of a step holds.
func spansOf(s *Step) []tree.Span {
	n := &ir.Node{Op: OpInfo(s.Op), Attrs: s.Attrs}
	if s.Op == "combine_nodes" {
		return n.ExpertSpans()
	}
	return n.LocalSpans()
}

// segments is what matmul_nodes and expert_matmul_nodes make.
func (t *tracker) segments(c *factCall) *part {
	p := &part{spans: spansOf(c.m.s), leaves: c.m.s.Attrs.Int("leaves", 0)}
	for range p.spans {
		p.turns = append(p.turns, everyToken)
	}
	t.cutAlike(c)
	return p
}

// cutAlike checks that every device cuts a weight into leaves at the same
// features, and that leaves are all of it. In mode fast leaves are the shares
// of those who divide the rows of a token group, or some experts, between
// them; others may divide them otherwise.
func (t *tracker) cutAlike(c *factCall) {
	a := c.m.s.Args[1]
	if a.Kind != WeightRef {
		return
	}
	leaf, leaves := c.m.s.Attrs.Int("leaf", 0), c.m.s.Attrs.Int("leaves", 0)
	team := ""
	if t.v.p.Numerics.Mode == ir.Fast {
		team = fmt.Sprint(c.types[0].Shape[0], c.m.s.Attrs.Ints("experts"), c.m.s.Attrs.Sets("turns"))
	}
	for _, p := range t.v.weight(a.Device, a.Name, t.layer).Parts {
		if p.inRange() != nil {
			continue // rule V13
		}
		last := len(p.Shape) - 1
		for i, bound := range c.m.s.Attrs.Ints("bounds") {
			key, at := cutKey{c.b.Name, p.Weight, leaves, leaf + i, team}, p.Slice[last][0]+bound
			have, ok := t.cuts[key]
			if !ok {
				t.cuts[key] = at
				have = at
			}
			if have != at || key.leaf == 0 && at != 0 || key.leaf == leaves && at != p.Shape[last] {
				t.fail("V15", "%s: leaf %d of %d begins at feature %d of %d of %s here, at %d elsewhere", c.where(), key.leaf, leaves, at, p.Shape[last], p.Weight, have)
			}
		}
	}
}

func (t *tracker) matmulNodes(c *factCall) fact {
	return fact{slots: c.args[0].slots, part: t.segments(c)}
}

// onePart makes a value one part of a sum, as whichever leaf the sum says.
func (t *tracker) onePart(c *factCall) fact {
	f := c.args[0]
	f.part = &part{}
	return f
}

// experts checks that the weight has the experts that the step names, and that
// the rows it works on are there. The rows it makes are those.
func (t *tracker) experts(c *factCall, weight, ids int) *slots {
	attrs := c.m.s.Attrs
	served := servedBy(attrs)
	t.choice(c, ids, served.total)
	if a := c.m.s.Args[weight]; a.Kind == WeightRef {
		for _, p := range t.v.weight(a.Device, a.Name, t.layer).Parts {
			if !slices.Equal(p.Experts, attrs.Ints("experts")) {
				t.fail("V14", "%s: works with experts %v, %s has %v", c.where(), attrs.Ints("experts"), p.Weight, p.Experts)
			}
		}
	}
	return served
}

// defined checks that an operand has the rows of all that is served.
func (t *tracker) defined(c *factCall, i int, served *slots) {
	for e := range served.total {
		if turn, ok := served.turns[e]; ok && !c.args[i].slots.has(e, turn) {
			t.fail("V14", "%s: reads the rows of expert %d in turn %d of %d of %s, which are not there", c.where(), e, turn[0], turn[1], c.m.s.Args[i].Name)
		}
	}
}

func (t *tracker) expertMatmul(c *factCall) fact {
	served := t.experts(c, 1, 2)
	t.defined(c, 0, served)
	f := fact{slots: served}
	if c.m.s.Op == "expert_matmul_nodes" {
		f.part = t.segments(c)
	}
	return f
}

func (t *tracker) expertRows(c *factCall) fact { return fact{slots: t.experts(c, 0, 1)} }

// combine is combine and combine_nodes.
func (t *tracker) combine(c *factCall) fact {
	attrs := c.m.s.Attrs
	served := servedBy(attrs)
	t.choice(c, 1, served.total)
	if c.m.s.Op == "combine" {
		for e := range served.total {
			served.turns[e] = everyToken
		}
		t.defined(c, 0, served)
		return fact{}
	}
	t.defined(c, 0, served)
	p := &part{spans: spansOf(c.m.s), leaves: served.total, expert: true}
	for _, s := range p.spans {
		p.turns = append(p.turns, served.turns[s.Lo])
	}
	return fact{part: p}
}

// share is who contributes a leaf to a sum, and in which turn.
type share struct {
	device int
	turn   [2]int
}

// allReduce checks that a sum has every leaf once, from the operands that
// hold it.
func (t *tracker) allReduce(c *factCall) fact {
	s := c.m.s
	leaves := s.Attrs.Int("leaves", 0)
	shares := make([][]share, leaves)
	expert := false
	var f fact
	for i, flat := range s.Attrs.Sets("spans") {
		a, held := s.Args[i], c.args[i].part
		f.slots = f.slots.meet(c.args[i].slots)
		if slices.ContainsFunc(s.Args[:i], func(o Ref) bool { return o.Device == a.Device && o.Name == a.Name }) {
			t.fail("V16", "%s: adds %s of device %d twice", c.where(), a.Name, a.Device)
		}
		if held == nil || held.leaves != 0 && (held.leaves != leaves || !slices.Equal(flat, flatten(held.spans))) || held.leaves == 0 && (len(flat) != 2 || flat[1] != flat[0]+1) {
			t.fail("V15", "%s: takes %s of device %d for leaves %v of %d, it holds %s", c.where(), a.Name, a.Device, flat, leaves, held.text())
			continue
		}
		expert = expert || held.expert
		for j := 0; j+1 < len(flat); j += 2 {
			turn := everyToken
			if held.leaves != 0 {
				turn = held.turns[j/2]
			}
			for leaf := max(0, flat[j]); leaf < min(flat[j+1], leaves); leaf++ {
				shares[leaf] = append(shares[leaf], share{a.Device, turn})
			}
		}
	}
	for leaf, list := range shares {
		t.leaf(c, leaf, list, expert)
	}
	return f
}

// leaf checks the shares of one leaf.
func (t *tracker) leaf(c *factCall, leaf int, list []share, expert bool) {
	leaves := c.m.s.Attrs.Int("leaves", 0)
	seen := make(map[[2]int]bool)
	for _, s := range list {
		if seen[s.turn] || s.turn[1] != list[0].turn[1] {
			t.fail("V16", "%s: leaf %d of %d is added again by device %d", c.where(), leaf, leaves, s.device)
			if expert {
				t.fail("V14", "%s: copies of expert %d do not take turns", c.where(), leaf)
			}
			return
		}
		seen[s.turn] = true
	}
	if len(list) == 0 || len(list) != list[0].turn[1] {
		t.fail("V15", "%s: leaf %d of %d is added in %d turns, not in all", c.where(), leaf, leaves, len(list))
	}
}

func flatten(spans []tree.Span) []int {
	var flat []int
	for _, s := range spans {
		flat = append(flat, s.Lo, s.Hi)
	}
	return flat
}

func (p *part) text() string {
	switch {
	case p == nil:
		return "no part of a sum"
	case p.leaves == 0:
		return "one leaf"
	}
	return fmt.Sprintf("%v of %d", flatten(p.spans), p.leaves)
}
