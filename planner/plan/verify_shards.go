package plan

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
	"moec/ir/tensor"
)

// shard is a box of a logical weight that some device keeps.
type shard struct {
	slice   [][]int
	experts []int
}

// logical is a weight of the model in one layer, and who keeps what of it.
type logical struct {
	name   string
	layer  int
	dtype  tensor.DType
	part   Part // one of them
	shards []shard
}

// coverage is rule V13.
func (v *verifier) coverage() {
	type key struct {
		weight string
		layer  int
	}
	found := make(map[key]*logical)
	var order []*logical
	for i := range v.p.Weights {
		w := &v.p.Weights[i]
		for _, p := range w.Parts {
			if err := p.inRange(); err != nil {
				v.fail("weight %s of device %d: %v", w.Name, w.Device, err)
				return
			}
			if err := p.sourceFits(w.Layers); err != nil {
				v.fail("weight %s of device %d: %s: %v", w.Name, w.Device, p.Weight, err)
			}
			first, count := w.Layers.layersOf()
			for i := range count {
				k := key{p.Weight, first + i}
				l := found[k]
				if l == nil {
					l = &logical{name: p.Weight, layer: first + i, dtype: w.DType, part: p}
					found[k] = l
					order = append(order, l)
				}
				if !l.part.sameWeight(p) || l.dtype != w.DType {
					v.fail("weight %s of layer %d is not the same on all devices: shape %v, type %s or source %q on device %d", p.Weight, first+i, p.Shape, w.DType, p.Source.Key, w.Device)
					continue
				}
				l.shards = append(l.shards, shard{p.Slice, p.Experts})
			}
		}
		v.partsFill(w)
	}
	var params int64
	counter := v.cellCounter()
	for _, l := range order {
		n := int64(1)
		for _, d := range l.part.Shape {
			n *= int64(d)
		}
		params += n
		if have := counter.covered(l.part.Shape, l.shards); have != n {
			v.fail("weight %s of layer %d has %d elements, the devices keep %d of them", l.name, l.layer, n, have)
		}
	}
	if params != v.p.Model.Params {
		v.fail("the devices keep weights of %d parameters, the model has %d", params, v.p.Model.Params)
	}
	v.unread()
}

// unread looks for weights that no step of a program reads in some layer.
func (v *verifier) unread() {
	for _, prog := range v.progs {
		read := make(map[*Weight]map[int]bool) // to layers
		for _, r := range prog.Runs {
			first, count := r.Layers.layersOf()
			prog.blocks[r.Block].steps(func(_ *Queue, _ int, s *Step) {
				for _, a := range s.Args {
					for i := 0; a.Kind == WeightRef && i < count; i++ {
						w := v.weight(a.Device, a.Name, first+i)
						if read[w] == nil {
							read[w] = make(map[int]bool)
						}
						read[w][first+i] = true
					}
				}
			})
		}
		for i := range v.p.Weights {
			w := &v.p.Weights[i]
			if n := w.Layers.Len(); len(read[w]) < n {
				v.fail("%s: weight %s of device %d is read in %d of %d layers", prog.Name, w.Name, w.Device, len(read[w]), n)
			}
		}
	}
}

// inRange checks a slice against the shape of its weight.
func (p Part) inRange() error {
	if !goodShape(p.Shape) || len(p.Slice) != len(p.Shape) || len(p.Shape) == 0 {
		return fmt.Errorf("%s has shape %v, its slice %d axes", p.Weight, p.Shape, len(p.Slice))
	}
	for i, s := range p.Slice {
		if len(s) != 2 || s[0] < 0 || s[0] >= s[1] || s[1] > p.Shape[i] {
			return fmt.Errorf("slice %v leaves axis %d of %s, which has %d", s, i, p.Weight, p.Shape[i])
		}
	}
	if p.Experts == nil {
		return nil
	}
	if p.Slice[0][0] != 0 || p.Slice[0][1] != p.Shape[0] {
		return fmt.Errorf("slice %v of %s is not all %d experts, of which some are listed", p.Slice[0], p.Weight, p.Shape[0])
	}
	seen := make(map[int]bool, len(p.Experts))
	for _, e := range p.Experts {
		if e < 0 || e >= p.Shape[0] || seen[e] {
			return fmt.Errorf("expert %d of %s is kept twice or is not one of %d", e, p.Weight, p.Shape[0])
		}
		seen[e] = true
	}
	if len(p.Experts) == 0 {
		return fmt.Errorf("no expert of %s is kept", p.Weight)
	}
	return nil
}

// sameWeight reports whether two parts are of the same logical weight.
func (p Part) sameWeight(q Part) bool {
	a, b := p.Source, q.Source
	return slices.Equal(p.Shape, q.Shape) && (p.Experts == nil) == (q.Experts == nil) &&
		a.Key == b.Key && a.Transposed == b.Transposed && slices.Equal(a.Stored, b.Stored) && slices.Equal(a.View, b.View)
}

// sourceFits checks that the view of the stored tensor has the weight's
// extents, and that keys are told apart.
func (p Part) sourceFits(layers Range) error {
	s := p.Source
	if keyed := strings.Contains(s.Key, "{layer}"); s.Key == "" || layers == NoLayers && keyed || layers.Len() > 1 && (!keyed || !strings.Contains(p.Weight, "{layer}")) {
		return fmt.Errorf("its key %q does not name one tensor for each layer", s.Key)
	}
	if len(s.View) != len(s.Stored) {
		return fmt.Errorf("view of %d axes on stored shape %v", len(s.View), s.Stored)
	}
	numbered := 0
	if s.PerExpert() {
		numbered++
	}
	var shape []int
	for i, a := range s.View {
		switch {
		case a.Expert && s.Stored[i] != p.Shape[0]:
			return fmt.Errorf("axis %d of stored shape %v numbers experts, the weight has %d", i, s.Stored, p.Shape[0])
		case a.Expert:
			numbered++
		case a.Lo < 0 || a.Lo >= a.Hi || a.Hi > s.Stored[i] || a.Step < 1:
			return fmt.Errorf("[%d:%d:%d] is not a part of axis %d of stored shape %v", a.Lo, a.Hi, a.Step, i, s.Stored)
		default:
			shape = append(shape, (a.Hi-a.Lo-1)/a.Step+1)
		}
	}
	if n := len(shape); s.Transposed && n >= 2 {
		shape[n-2], shape[n-1] = shape[n-1], shape[n-2]
	} else if s.Transposed {
		return fmt.Errorf("a tensor of %d axes is transposed", n)
	}
	want := p.Shape
	if p.Experts != nil {
		want = want[1:]
	}
	if (numbered == 1) != (p.Experts != nil) || numbered > 1 || !slices.Equal(shape, want) {
		return fmt.Errorf("its shape is %v, its source gives %v and numbers experts %d times", p.Shape, shape, numbered)
	}
	return nil
}

// partsFill checks that the parts of a weight have the shape it is kept in.
func (v *verifier) partsFill(w *Weight) {
	if w.Axis < 0 || w.Axis >= len(w.Shape) || len(w.Parts) == 0 {
		v.fail("weight %s of device %d joins %d parts along axis %d of %v", w.Name, w.Device, len(w.Parts), w.Axis, w.Shape)
		return
	}
	sum := 0
	var names []string
	for _, p := range w.Parts {
		names = append(names, p.Weight)
	}
	if piece, ok := strings.CutPrefix(w.Name, strings.Join(names, "+")); !ok || strings.Trim(piece, "/0123456789") != "" {
		v.fail("weight %s of device %d is not called after its parts, %v", w.Name, w.Device, names)
	}
	for _, p := range w.Parts {
		ext := p.Extents()
		if len(ext) != len(w.Shape) {
			v.fail("weight %s of device %d keeps %v, its part %s is %v", w.Name, w.Device, w.Shape, p.Weight, ext)
			return
		}
		sum += ext[w.Axis]
		ext[w.Axis] = w.Shape[w.Axis]
		if !slices.Equal(ext, w.Shape) {
			v.fail("weight %s of device %d keeps %v, its part %s is %v", w.Name, w.Device, w.Shape, p.Weight, ext)
		}
	}
	if sum != w.Shape[w.Axis] {
		v.fail("weight %s of device %d keeps %d along axis %d, its parts have %d", w.Name, w.Device, w.Shape[w.Axis], w.Axis, sum)
	}
}

// cellCounter counts elements that at least one shard holds. The axes are cut
// at all ends of slices, so that each cell is held whole or not at all.
type cellCounter struct{ left int }

// cellCounter bounds the cells that a rule looks at, so that a short plan
// cannot take for ever: 61 layers of 400 experts on 64 devices have some
// millions.
func (v *verifier) cellCounter() *cellCounter { return &cellCounter{left: 1 << 27} }

// covered returns -1 when there are too many cells to look at.
func (c *cellCounter) covered(shape []int, shards []shard) int64 {
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
	n := c.cells(cuts, shards, 0)
	if c.left < 0 {
		return -1
	}
	return n
}

// cells sums the cells of the remaining axes that some shard holds.
func (c *cellCounter) cells(cuts [][]int, shards []shard, axis int) int64 {
	if c.left -= len(shards) + 1; c.left < 0 || len(shards) == 0 {
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
			byNumber := axis == 0 && s.experts != nil
			if byNumber && slices.Contains(s.experts, lo) || !byNumber && s.slice[axis][0] <= lo && hi <= s.slice[axis][1] {
				holds = append(holds, s)
			}
		}
		sum += int64(hi-lo) * c.cells(cuts, holds, axis+1)
	}
	return sum
}

// homes is rule V14. The devices of a block serve every expert for all tokens:
// one device, or shares of its features, or copies in turn.
func (v *verifier) homes() {
	counter := v.cellCounter()
	for _, prog := range v.progs {
		for _, r := range prog.Runs {
			b := prog.blocks[r.Block]
			v.turns(b, r.Layers, func(layer int) { v.blockHomes(b, layer, counter) })
		}
	}
	v.report()
}

// service is the rows that work with one weight.
type service struct {
	weight string
	rows   tensor.Sym
}

// served is what is done with a weight: the shards that each expert's copies
// have, by turn.
type served struct {
	part   Part
	total  int
	copies map[int]map[[2]int][]shard
}

func (v *verifier) blockHomes(b *blockIndex, layer int, counter *cellCounter) {
	found := make(map[service]*served)
	var order []service
	b.steps(func(q *Queue, at int, s *Step) {
		if s.Op != "expert_matmul" && s.Op != "expert_matmul_nodes" || v.stepType(b, q, s, layer) != nil || s.Args[1].Kind != WeightRef {
			return
		}
		ids, err := v.typeOf(b, s.Args[2], layer)
		if err != nil {
			return
		}
		for _, p := range v.weight(q.Device, s.Args[1].Name, layer).Parts {
			if p.inRange() != nil {
				continue // rule V13
			}
			k := service{p.Weight, ids.Shape.Sym()}
			if found[k] == nil {
				found[k] = &served{p, s.Attrs.Int("total", 0), make(map[int]map[[2]int][]shard)}
				order = append(order, k)
			}
			found[k].add(s.Attrs, p)
		}
	})
	for _, k := range order {
		if text := found[k].missing(counter); text != "" {
			v.fail("%s: %s of layer %d, rows %s: %s", b.Name, k.weight, layer, k.rows, text)
		}
	}
}

func (s *served) add(a ir.Attrs, p Part) {
	for e, turn := range servedBy(a).turns {
		if s.copies[e] == nil {
			s.copies[e] = make(map[[2]int][]shard)
		}
		s.copies[e][turn] = append(s.copies[e][turn], shard{slice: p.Slice[1:]})
	}
}

// missing says which expert is not served, or "".
func (s *served) missing(counter *cellCounter) string {
	inner := s.part.Shape[1:]
	whole := int64(1)
	for _, d := range inner {
		whole *= int64(d)
	}
	for e := range s.total {
		copies := s.copies[e]
		of := 1
		for turn := range copies {
			of = max(of, turn[1])
		}
		for r := range of {
			if counter.covered(inner, copies[[2]int{r, of}]) != whole {
				return fmt.Sprintf("expert %d is not served whole in turn %d of %d", e, r, of)
			}
		}
		if len(copies) != of {
			return fmt.Sprintf("copies of expert %d take turns of different numbers", e)
		}
	}
	return ""
}
