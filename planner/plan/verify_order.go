package plan

import (
	"fmt"
	"slices"

	"moec/ir"
)

// Rule V25: the order in which numbers are added is recorded, and is one order
// for the whole plan. A contraction of a weight is cut into the same leaves
// wherever it is done, and attention adds the same chunks.

// cut is where the features of a contraction are cut: leaf number first begins
// at feature at[0] of the whole weight, and so on. whole is the number of all
// leaves.
type cut struct {
	at           []int
	first, whole int
}

// contractions are the ops that add products along a weight's last axis.
var contractions = []string{"matmul", "expert_matmul", "matmul_nodes", "expert_matmul_nodes"}

// cutOf returns how a contraction cuts the features of a part of its weight,
// or false if it does not have the whole.
func cutOf(s *Step, p Part) (cut, bool) {
	last := len(p.Shape) - 1
	lo, hi := p.Slice[last][0], p.Slice[last][1]
	bounds := s.Attrs.Ints("bounds")
	if bounds == nil {
		bounds = []int{0, hi - lo}
	}
	c := cut{first: s.Attrs.Int("leaf", 0), whole: s.Attrs.Int("leaves", len(bounds)-1)}
	for _, b := range bounds {
		c.at = append(c.at, lo+b)
	}
	return c, s.Attrs.Has("leaves") || lo == 0 && hi == p.Shape[last]
}

// within reports whether all of bounds agree with a cut of all features.
func (c cut) within(all []int) bool {
	if c.whole != len(all)-1 || c.first+len(c.at) > len(all) {
		return false
	}
	return slices.Equal(c.at, all[c.first:c.first+len(c.at)])
}

// contracted calls f with every part of a weight that a contraction adds
// along.
func (v *verifier) contracted(f func(b *blockIndex, m meeting, layer int, p Part)) {
	for _, prog := range v.progs {
		for _, r := range prog.Runs {
			b := prog.blocks[r.Block]
			v.turns(b, r.Layers, func(layer int) {
				b.steps(func(q *Queue, at int, s *Step) {
					if !slices.Contains(contractions, s.Op) || len(s.Args) < 2 || s.Args[1].Kind != WeightRef || s.Args[1].Device != q.Device {
						return
					}
					w := v.weight(q.Device, s.Args[1].Name, layer)
					if len(w.Parts) > 1 && w.Axis == len(w.Shape)-1 {
						return // the features of several weights are one sum
					}
					for _, p := range w.Parts {
						if p.inRange() == nil {
							f(b, meeting{q, at, s}, layer, p)
						}
					}
				})
			})
		}
	}
}

// order is rule V25. Under fast numerics a device's share is a leaf, so there
// is nothing to agree on.
func (v *verifier) order() {
	v.chunks()
	if v.p.Numerics.Mode != ir.Invariant {
		return
	}
	type key struct {
		weight string
		shape  string
		leaf   int
	}
	type leaf struct{ at, whole int }
	found := make(map[key]leaf)
	v.contracted(func(b *blockIndex, m meeting, _ int, p Part) {
		c, whole := cutOf(m.s, p)
		if !whole {
			v.fail("%s: adds features %v of %s, which are neither all nor leaves", where(b, m.q, m.at, m.s), p.Slice[len(p.Slice)-1], p.Weight)
			return
		}
		if c.whole > v.p.Numerics.Segments {
			v.fail("%s: adds %s in %d segments, the plan has %d", where(b, m.q, m.at, m.s), p.Weight, c.whole, v.p.Numerics.Segments)
		}
		for i, at := range c.at {
			k := key{p.Weight, fmt.Sprint(p.Shape), c.first + i}
			have, ok := found[k]
			if !ok {
				have = leaf{at, c.whole}
				found[k] = have
			}
			if have.at != at || have.whole != c.whole {
				v.fail("%s: leaf %d of %d of %s begins at feature %d here, elsewhere leaf %d of %d at %d", where(b, m.q, m.at, m.s), k.leaf, c.whole, p.Weight, at, k.leaf, have.whole, have.at)
			}
		}
	})
}

// chunks checks that all who read a layer's cache add up the same chunks.
func (v *verifier) chunks() {
	found := make(map[string]int)
	v.blocks(func(b *blockIndex) {
		b.steps(func(q *Queue, at int, s *Step) {
			if s.Op != "attention" || len(s.Args) < 2 {
				return
			}
			name, n := s.Args[1].Name, s.Attrs.Int("chunk", 0)
			if have, ok := found[name]; ok && have != n {
				v.fail("%s: adds %d positions of %s at a time, elsewhere %d", where(b, q, at, s), n, name, have)
			}
			found[name] = n
		})
	})
}
