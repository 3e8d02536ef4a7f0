package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"moec/ir"
	"moec/ir/tensor"
)

// VerifyGraph checks what Verify cannot know of a plan: that it is about the
// weights of the logical graph that it was made from (rules V13 and V26), uses
// them as it does (V17), and puts numbers together in the order that the graph
// says (V25). It does not follow values from block to block. The plan must be
// one that Verify accepts.
func VerifyGraph(p *Plan, g *ir.Graph) error {
	v := &verifier{p: p}
	v.index()
	m := modelOf(g)
	for _, r := range []struct {
		id    string
		check func(*verifier, *model)
	}{{"V26", (*verifier).sameModel}, {"V13", (*verifier).sameWeights}, {"V17", (*verifier).sameUses}, {"V25", (*verifier).sameSums}, {"V25", (*verifier).sameTerms}} {
		v.rule, v.limit = r.id, len(v.problems)+maxProblems
		r.check(v, m)
	}
	if len(v.problems) == 0 {
		return nil
	}
	return &VerifyError{v.problems}
}

// model is what a plan must not change of a logical graph.
type model struct {
	g      *ir.Graph
	cuts   map[string][][]int // by weight: the bounds of each contraction of it; "" for what is no weight
	chunks map[string][]int   // by cache
	uses   map[use]bool
}

// use is an op on a weight or a cache: which, with what attributes, and the
// type of the elements that it works on.
type use struct {
	resident, op, attrs string
	dtype               tensor.DType
}

// useOf describes a step or a node. Parts of a sum are used like the whole, and
// attributes that placements change do not count.
func useOf(resident, op string, attrs ir.Attrs, x tensor.DType) use {
	u := use{resident: resident, op: strings.TrimSuffix(op, "_nodes"), dtype: x}
	for _, name := range []string{"eps", "scale", "softcap", "window", "group"} {
		if a := attrs.Get(name); a != nil {
			u.attrs += fmt.Sprintf(" %s %v", name, a)
		}
	}
	return u
}

func (u use) String() string { return u.op + u.attrs + " of " + u.dtype.String() }

func modelOf(g *ir.Graph) *model {
	m := &model{g: g, cuts: make(map[string][][]int), chunks: make(map[string][]int), uses: make(map[use]bool)}
	for _, n := range g.Nodes {
		m.node(n, n.Args)
	}
	return m
}

// node notes how n adds. Operands are those of the graph's nodes, for what is
// in a body those of the fused node.
func (m *model) node(n *ir.Node, args []*ir.Node) {
	if body := n.Attrs.Body(); body != nil {
		for _, inner := range body.Nodes {
			var outer []*ir.Node
			for _, a := range inner.Args {
				if a.Op.Name == "param" {
					a = args[a.Attrs.Int("index", 0)]
				}
				outer = append(outer, a)
			}
			m.node(inner, outer)
		}
	}
	for i, a := range args {
		for _, name := range residentsOf(a) {
			if i > 0 {
				m.uses[useOf(name, n.Op.Name, n.Attrs, args[0].Type.DType)] = true
			}
		}
	}
	switch {
	case slices.Contains(contractions, n.Op.Name):
		for _, name := range residentsOf(args[1]) {
			m.cuts[name] = append(m.cuts[name], boundsOf(n, args[1]))
		}
	case n.Op.Name == "attention":
		name := args[1].Attrs.Text("cache")
		m.chunks[name] = append(m.chunks[name], n.Attrs.Int("chunk", 0))
	}
}

// residentsOf names the weights or the cache that an operand is, or "" if it is
// none.
func residentsOf(n *ir.Node) []string {
	switch n.Op.Name {
	case "kv_append":
		return []string{n.Attrs.Text("cache")}
	case "weight":
		return []string{n.Attrs.Text("name")}
	case "pack":
		var names []string
		for _, a := range n.Args {
			names = append(names, residentsOf(a)...)
		}
		return names
	}
	return []string{""}
}

// boundsOf returns where a contraction cuts its features.
func boundsOf(n, w *ir.Node) []int {
	if b := n.Attrs.Ints("bounds"); b != nil {
		return b
	}
	return []int{0, w.Type.Shape.Last().N}
}

// inLayer returns a name in a layer.
func inLayer(name string, layer int) string {
	return strings.ReplaceAll(name, "{layer}", strconv.Itoa(layer))
}

// sameModel is rule V26.
func (v *verifier) sameModel(m *model) {
	if v.p.Model.Layers != m.g.Layers {
		v.fail("the plan has %d layers, the model %d", v.p.Model.Layers, m.g.Layers)
	}
	if v.p.Numerics != m.g.Numerics {
		v.fail("the plan's numerics are %s with %d segments, the model's %s with %d", v.p.Numerics.Mode, v.p.Numerics.Segments, m.g.Numerics.Mode, m.g.Numerics.Segments)
	}
	for _, o := range m.g.Outputs {
		if s := o.Value.Type.Shape; o.Name == "logits" && s.Last().N != v.p.Model.Vocab {
			v.fail("the plan's vocabulary has %d words, the model's %d", v.p.Model.Vocab, s.Last().N)
		}
	}
}

// sameWeights is rule V13: a part is read from where the model says.
func (v *verifier) sameWeights(m *model) {
	for _, w := range v.p.Weights {
		first, count := w.Layers.layersOf()
		for _, p := range w.Parts {
			for layer := first; layer < first+count; layer++ {
				name := inLayer(p.Weight, layer)
				have := m.g.Weight(name)
				if have == nil || have.Layer != layer {
					v.fail("weight %s of device %d: the model has no %s in layer %d", w.Name, w.Device, name, layer)
					break
				}
				want := Part{Source: have.Source, Shape: have.Shape, Experts: p.Experts}
				if (p.Experts != nil) != (have.Experts > 0) || have.DType != w.DType || !p.sameWeight(want) {
					v.fail("weight %s of device %d: %s is %s %v from %q %v, the model's %s %v from %q %v", w.Name, w.Device, name,
						w.DType, p.Shape, p.Source.Key, p.Source.View, have.DType, have.Shape, have.Source.Key, have.Source.View)
					break
				}
			}
		}
	}
}

// sameUses is rule V17 with the model at hand: another attribute shows where a
// weight or a cache is used, and so does a rounding that is left out.
func (v *verifier) sameUses(m *model) {
	for _, prog := range v.progs {
		for _, r := range prog.Runs {
			b := prog.blocks[r.Block]
			v.turns(b, r.Layers, func(layer int) {
				b.steps(func(q *Queue, at int, s *Step) { v.sameUse(m, b, meeting{q, at, s}, layer) })
			})
		}
	}
}

func (v *verifier) sameUse(m *model, b *blockIndex, at meeting, layer int) {
	for i, a := range at.s.Args {
		if i == 0 || len(at.s.Body) > 0 || at.s.Op == "kv_append" {
			continue
		}
		for _, name := range v.modelNames(a, layer) {
			u := useOf(name, at.s.Op, at.s.Attrs, v.storedType(b, at.s.Args[0], layer).DType)
			if !m.uses[u] {
				v.fail("%s: uses %s for %s, the model does not", where(b, at.q, at.at, at.s), name, u)
			}
		}
	}
}

// modelNames lists what the model calls the weights or the cache of an operand.
func (v *verifier) modelNames(a Ref, layer int) []string {
	var names []string
	switch a.Kind {
	case CacheRef:
		names = append(names, inLayer(a.Name, layer))
	case WeightRef:
		for _, p := range v.weight(a.Device, a.Name, layer).Parts {
			names = append(names, inLayer(p.Weight, layer))
		}
	}
	return names
}

// sameSums is rule V25 with the model at hand.
func (v *verifier) sameSums(m *model) {
	v.blocks(func(b *blockIndex) { v.chunksLike(m, b) })
	v.contracted(func(b *blockIndex, at meeting, layer int, p Part) {
		c, _ := cutOf(at.s, p)
		if v.p.Numerics.Mode == ir.Fast && (at.s.Attrs.Has("leaf") || at.s.Attrs.Ints("bounds") == nil) {
			if len(c.at) > 2 {
				v.fail("%s: a share of %s is %d leaves, under fast numerics it is one", where(b, at.q, at.at, at.s), p.Weight, len(c.at)-1)
			}
			return
		}
		if list := m.cuts[inLayer(p.Weight, layer)]; !slices.ContainsFunc(list, c.within) {
			v.fail("%s: adds %s from leaf %d of %d at features %v, the model at %v", where(b, at.q, at.at, at.s), p.Weight, c.first, c.whole, c.at, list)
		}
	})
	v.blocks(func(b *blockIndex) {
		b.steps(func(q *Queue, at int, s *Step) {
			bounds := s.Attrs.Ints("bounds")
			if !slices.Contains(contractions, s.Op) || len(s.Args) < 2 || s.Args[1].Kind == WeightRef || s.Attrs.Has("leaves") || bounds == nil {
				return
			}
			if !slices.ContainsFunc(m.cuts[""], func(c []int) bool { return slices.Equal(c, bounds) }) {
				v.fail("%s: adds in segments %v, the model in %v", where(b, q, at, s), bounds, m.cuts[""])
			}
		})
	})
}

// chunksLike checks the chunks of a block's attention in every layer.
func (v *verifier) chunksLike(m *model, b *blockIndex) {
	for _, r := range b.prog.Runs {
		if r.Block != b.Name {
			continue
		}
		first, count := r.Layers.layersOf()
		b.steps(func(q *Queue, at int, s *Step) {
			if s.Op != "attention" || len(s.Args) < 2 {
				return
			}
			for layer := first; layer < first+count; layer++ {
				name := inLayer(s.Args[1].Name, layer)
				if n := s.Attrs.Int("chunk", 0); !slices.Contains(m.chunks[name], n) {
					v.fail("%s: adds %d positions of %s at a time, the model %v", where(b, q, at, s), n, name, m.chunks[name])
					return
				}
			}
		})
	}
}
