package plan

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir/tree"
)

// shard is a box of a logical weight that some device keeps.
type shard struct {
	slice   [][]int
	experts []int
}

// coverage collects what all devices keep of each weight in each layer.
func (v *verifier) coverage() {
	type key struct {
		weight string
		layer  int
	}
	shapes := make(map[key][]int)
	shards := make(map[key][]shard)
	var order []key
	for _, w := range v.p.Weights {
		for _, p := range w.Parts {
			if err := p.inRange(); err != nil {
				v.fail("weight %s of device %d: %v", w.Name, w.Device, err)
				continue
			}
			for i := range w.Layers.Len() {
				k := key{p.Weight, w.Layers.First + i}
				if w.Layers == NoLayers {
					k.layer = -1
				}
				if shapes[k] == nil {
					shapes[k] = p.Shape
					order = append(order, k)
				}
				shards[k] = append(shards[k], shard{p.Slice, p.Experts})
			}
		}
		v.partsFill(w)
	}
	var params int64
	for _, k := range order {
		n := int64(1)
		for _, d := range shapes[k] {
			n *= int64(d)
		}
		params += n
		if have := covered(shapes[k], shards[k]); have != n {
			v.fail("weight %s of layer %d has %d elements, the devices keep %d of them", k.weight, k.layer, n, have)
		}
	}
	if params != v.p.Model.Params {
		v.fail("the devices keep weights of %d parameters, the model has %d", params, v.p.Model.Params)
	}
}

// inRange checks a slice against the shape of its weight.
func (p Part) inRange() error {
	if len(p.Slice) != len(p.Shape) || len(p.Shape) == 0 {
		return fmt.Errorf("%s has %d axes, its slice %d", p.Weight, len(p.Shape), len(p.Slice))
	}
	for i, s := range p.Slice {
		if len(s) != 2 || s[0] < 0 || s[0] >= s[1] || s[1] > p.Shape[i] {
			return fmt.Errorf("slice %v leaves axis %d of %s, which has %d", s, i, p.Weight, p.Shape[i])
		}
	}
	for i, e := range p.Experts {
		if e < 0 || e >= p.Shape[0] || slices.Contains(p.Experts[:i], e) {
			return fmt.Errorf("expert %d of %s is kept twice or is not one of %d", e, p.Weight, p.Shape[0])
		}
	}
	return nil
}

// partsFill checks that the parts of a weight have the shape it is kept in.
func (v *verifier) partsFill(w Weight) {
	sum := 0
	for _, p := range w.Parts {
		ext := p.Extents()
		if w.Axis < 0 || w.Axis >= len(ext) || len(ext) != len(w.Shape) {
			v.fail("weight %s of device %d joins %s along axis %d", w.Name, w.Device, p.Weight, w.Axis)
			return
		}
		sum += ext[w.Axis]
		for i := range ext {
			if i != w.Axis && ext[i] != w.Shape[i] {
				v.fail("weight %s of device %d keeps %v, its part %s is %v", w.Name, w.Device, w.Shape, p.Weight, ext)
			}
		}
	}
	if len(w.Parts) == 0 || sum != w.Shape[w.Axis] {
		v.fail("weight %s of device %d keeps %d along axis %d, its parts have %d", w.Name, w.Device, w.Shape[w.Axis], w.Axis, sum)
	}
}

// covered counts the elements that at least one shard holds. The axes are cut
// at all ends of slices, so that each cell is held whole or not at all.
func covered(shape []int, shards []shard) int64 {
	cuts := make([][]int, len(shape))
	for i, d := range shape {
		cuts[i] = []int{0, d}
		for _, s := range shards {
			if i == 0 && s.experts != nil {
				for _, e := range s.experts {
					cuts[i] = append(cuts[i], e, e+1)
				}
				continue
			}
			cuts[i] = append(cuts[i], s.slice[i][0], s.slice[i][1])
		}
		slices.Sort(cuts[i])
		cuts[i] = slices.Compact(cuts[i])
	}
	return cells(cuts, shards, 0)
}

// cells sums the cells of the remaining axes that some shard holds.
func cells(cuts [][]int, shards []shard, axis int) int64 {
	if len(shards) == 0 {
		return 0
	}
	if axis == len(cuts) {
		return 1
	}
	var sum int64
	for i := 1; i < len(cuts[axis]); i++ {
		lo, hi := cuts[axis][i-1], cuts[axis][i]
		var holds []shard
		for _, s := range shards {
			if axis == 0 && s.experts != nil && slices.Contains(s.experts, lo) || !(axis == 0 && s.experts != nil) && s.slice[axis][0] <= lo && hi <= s.slice[axis][1] {
				holds = append(holds, s)
			}
		}
		sum += int64(hi-lo) * cells(cuts, holds, axis+1)
	}
	return sum
}

// homes checks that the devices of a block serve every expert, each token
// once: by one device, by shares of its features, or by copies in turn.
func (v *verifier) homes() {
	v.blocks(func(b *blockIndex) {
		type service struct{ turn, of int }
		served := make(map[string]map[int][]service) // weight, expert
		total := make(map[string]int)
		b.steps(func(q *Queue, at int, s *Step) {
			if !strings.HasPrefix(s.Op, "expert_matmul") {
				return
			}
			name := fmt.Sprintf("%s of rows %v", PieceOf(s.Args[1].Name), b.buffer(q.Device, s.Args[2].Name).Type.Shape[0])
			total[name] = s.Attrs.Int("total", 0)
			if served[name] == nil {
				served[name] = make(map[int][]service)
			}
			turns := s.Attrs.Sets("turns")
			for i, e := range s.Attrs.Ints("experts") {
				t := service{0, 1}
				if turns != nil {
					t = service{turns[i][0], turns[i][1]}
				}
				served[name][e] = append(served[name][e], t)
			}
		})
		for name, experts := range served {
			for e := range total[name] {
				turns := make(map[int]bool)
				of := 0
				for _, t := range experts[e] {
					turns[t.turn] = true
					if of != 0 && of != t.of {
						v.fail("%s: copies of expert %d of %s take turns of %d and %d", b.Name, e, name, of, t.of)
					}
					of = t.of
				}
				if len(turns) != of || of == 0 {
					v.fail("%s: expert %d of %s is served in %d of %d turns", b.Name, e, name, len(turns), of)
				}
			}
		}
	})
}

// partial reports whether an op makes parts of a sum.
func partial(op string) bool { return strings.HasSuffix(op, "_nodes") }

// sums follows partial sums to the all_reduce that adds them.
func (v *verifier) sums() {
	v.blocks(func(b *blockIndex) {
		parts := make(map[bufKey]bool)
		b.steps(func(q *Queue, at int, s *Step) {
			if partial(s.Op) {
				parts[bufKey{q.Device, s.Out}] = true
			}
		})
		read := make(map[bufKey]bool)
		b.steps(func(q *Queue, at int, s *Step) {
			for _, a := range s.Args {
				key := bufKey{a.Device, a.Name}
				if a.Kind != BufferRef || !parts[key] {
					continue
				}
				read[key] = true
				switch s.Op {
				case "all_reduce", "send":
				case "round":
					parts[bufKey{q.Device, s.Out}] = true
				default:
					v.fail("%s: reads %s, which is part of a sum", where(b, q, at, s), a.Name)
				}
			}
			if s.Op == "all_reduce" {
				v.wholeSum(b, q, at, s)
			}
		})
		for key := range parts {
			if !read[key] {
				v.fail("%s: nobody adds %s of device %d, a part of a sum", b.Name, key.name, key.device)
			}
		}
	})
}

// wholeSum checks that the spans of an all_reduce are the tree's leaves, all
// of them.
func (v *verifier) wholeSum(b *blockIndex, q *Queue, at int, s *Step) {
	leaves := s.Attrs.Int("leaves", 0)
	seen := make([]bool, max(0, min(leaves, maxLimit)))
	for _, flat := range s.Attrs.Sets("spans") {
		for i := 0; i+1 < len(flat); i += 2 {
			for leaf := max(0, flat[i]); leaf < min(flat[i+1], leaves); leaf++ {
				seen[leaf] = true
			}
		}
	}
	if i := slices.Index(seen, false); i >= 0 || leaves < 1 {
		v.fail("%s: leaf %d of %d is missing from the sum", where(b, q, at, s), i, leaves)
	}
}

// twice looks for operands that an all_reduce lists twice, and for leaves
// that several operands hold without taking turns.
func (v *verifier) twice() {
	v.blocks(func(b *blockIndex) {
		turns := b.turns()
		b.steps(func(q *Queue, at int, s *Step) {
			if s.Op != "all_reduce" {
				return
			}
			held := make(map[tree.Span]int)
			for i, flat := range s.Attrs.Sets("spans") {
				if i >= len(s.Args) {
					break
				}
				a := s.Args[i]
				if slices.ContainsFunc(s.Args[:i], func(o Ref) bool { return o.Device == a.Device && o.Name == a.Name }) {
					v.fail("%s: adds %s of device %d twice", where(b, q, at, s), a.Name, a.Device)
				}
				for j := 0; j+1 < len(flat); j += 2 {
					span := tree.Span{Lo: flat[j], Hi: flat[j+1]}
					held[span]++
					if held[span] > 1 && !turns[bufKey{a.Device, a.Name}] {
						v.fail("%s: leaves %d to %d come from several devices that do not take turns", where(b, q, at, s), span.Lo, span.Hi)
					}
				}
			}
		})
	})
}

// turns lists the parts of sums over experts that take turns with copies.
func (b *blockIndex) turns() map[bufKey]bool {
	t := make(map[bufKey]bool)
	b.steps(func(q *Queue, at int, s *Step) {
		if s.Op == "combine_nodes" && s.Attrs.Has("turns") {
			t[bufKey{q.Device, s.Out}] = true
		}
	})
	return t
}
