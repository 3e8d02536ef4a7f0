package plan

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
	"moec/ir/tensor"
)

// types is rule V17: it infers the result of every step from its operands, as
// in the IR. What lists number is found by following the values.
func (v *verifier) types() {
	for _, prog := range v.progs {
		for i := range prog.Buffers {
			b := &prog.Buffers[i]
			list, group, ok := inputOf(b.Name)
			if ok && (!b.Type.Equal(inputType(list, group)) || group >= v.groups || group < 0 && v.groups > 1) {
				v.fail("%s: input %s of device %d is %s; there are %d token groups", prog.Name, b.Name, b.Device, b.Type, v.groups)
			}
		}
		for _, r := range prog.Runs {
			b := prog.blocks[r.Block]
			v.turns(b, r.Layers, func(layer int) {
				b.steps(func(q *Queue, at int, s *Step) {
					if err := v.stepType(b, q, s, layer); err != nil {
						v.fail("%s: %v", where(b, q, at, s), err)
					}
				})
			})
		}
		for _, o := range prog.Outputs {
			if b := prog.shared[bufKey{o.Device, o.Buffer}]; !sameElements(o.Type, b.Type) {
				v.fail("%s: output %s is %s, its buffer %s", prog.Name, o.Name, o.Type, b.Type)
			}
			if rows := o.Type.Shape.Sym(); o.Name == "logits" && (rows.Base() != tensor.Rows || rows.Group() >= 0 && rows.Group() != o.Group || rows.Group() < 0 && v.groups > 1 || len(o.Type.Shape) != 2 || o.Type.Shape[1] != tensor.N(v.p.Model.Vocab)) {
				v.fail("%s: logits of group %d are %s, not a row of %d for each row wanted", prog.Name, o.Group, o.Type, v.p.Model.Vocab)
			}
		}
	}
	v.report()
}

// turns calls f with the layers of a run, leaving out those in which every
// operand is kept like in the layer before.
func (v *verifier) turns(b *blockIndex, r Range, f func(layer int)) {
	var refs []Ref
	b.steps(func(_ *Queue, _ int, s *Step) {
		for _, a := range s.Args {
			if a.Kind == WeightRef || a.Kind == CacheRef {
				refs = append(refs, a)
			}
		}
	})
	first, count := r.layersOf()
	var last, now []any
	for i := range count {
		now = now[:0]
		for _, a := range refs {
			if a.Kind == WeightRef {
				now = append(now, v.weight(a.Device, a.Name, first+i))
			} else {
				now = append(now, v.cache(a.Device, a.Name, first+i))
			}
		}
		if i == 0 || !slices.Equal(last, now) {
			f(first + i)
		}
		last = append(last[:0], now...)
	}
}

// stepType checks one step.
func (v *verifier) stepType(b *blockIndex, q *Queue, s *Step, layer int) error {
	n := &ir.Node{Op: OpInfo(s.Op), Attrs: s.Attrs, Device: q.Device, Group: -1, Layer: layer}
	args := s.Args
	var kv *Cache
	if s.Op == "kv_append" {
		if len(args) != 5 || args[4].Kind != CacheRef {
			return fmt.Errorf("its last operand is not a cache")
		}
		kv = v.cache(args[4].Device, args[4].Name, layer)
		args = args[:4]
		n.Attrs = n.Attrs.With("cache", "")
	}
	for _, a := range args {
		t, err := v.typeOf(b, a, layer)
		if err != nil {
			return err
		}
		n.Args = append(n.Args, &ir.Node{Type: t})
	}
	switch {
	case s.Op == "send":
		return nil // as many operands as the collective has here
	case len(s.Body) > 0:
		return v.bodyReads(s)
	}
	got, err := v.infer(n)
	if err != nil {
		return err
	}
	if kv != nil {
		return fitsCache(n, kv)
	}
	if s.Op == "attention" {
		if err := v.attentionReads(b, s, layer); err != nil {
			return err
		}
	}
	out := b.buffer(q.Device, s.Out)
	if out == nil || !got.Equal(out.Type) {
		return fmt.Errorf("makes %s, which %q is not", got, s.Out)
	}
	return nil
}

// infer returns the type that an op makes of its operands.
func (v *verifier) infer(n *ir.Node) (tensor.Type, error) {
	single := !n.Op.Has(ir.Elementwise) && !n.Op.Has(ir.Collective)
	for i, a := range n.Args {
		if single && len(a.Type.Shape) == 0 {
			return tensor.Type{}, fmt.Errorf("operand %d is a scalar, which only element by element operations take", i)
		}
		if len(n.Op.Args) == 0 || n.Op.Has(ir.Moves) {
			continue
		}
		info := n.Op.Args[min(i, len(n.Op.Args)-1)]
		if integer := strings.HasPrefix(info.Doc, tensor.I32.String()); integer == a.Type.DType.Float() {
			return tensor.Type{}, fmt.Errorf("operand %s is %s", info.Name, a.Type)
		}
	}
	if n.Op.Name == "copy" {
		if len(n.Args) != 1 {
			return tensor.Type{}, fmt.Errorf("has %d operands, takes 1", len(n.Args))
		}
		return n.Args[0].Type, nil
	}
	t, err := ir.Infer(n)
	if err != nil {
		return t, err
	}
	if eps := n.Attrs.Float("eps", 0); eps < 0 {
		return t, fmt.Errorf("adds %v to what is not negative and may be 0", eps)
	}
	if all := n.Op.Name == "all_gather" || n.Op.Name == "concat"; all && t.Shape[0].Sym != "" && n.Attrs.Int("axis", 0) == 0 && len(n.Args) != v.groups {
		return t, fmt.Errorf("joins the rows of %d token groups, there are %d", len(n.Args), v.groups)
	}
	if g := n.Attrs.Int("group", -1); n.Op.Name == "own_rows" && g >= v.groups {
		return t, fmt.Errorf("token group %d of %d", g, v.groups)
	}
	return t, nil
}

// bodyReads checks that a body works on its step's operands and its own
// values alone.
func (v *verifier) bodyReads(s *Step) error {
	made := make(map[string]bool)
	for i := range s.Body {
		for _, a := range s.Body[i].Args {
			own := a.Kind == ConstRef || a.Kind == BufferRef && made[a.Name]
			if !own && !slices.ContainsFunc(s.Args, func(o Ref) bool { return o.Kind == a.Kind && o.Name == a.Name && o.Device == a.Device }) {
				return fmt.Errorf("its body reads %s, which is neither an operand nor its own", a.Name)
			}
		}
		made[s.Body[i].Out] = true
	}
	for _, o := range s.Args {
		read := slices.ContainsFunc(s.Body, func(inner Step) bool {
			return slices.ContainsFunc(inner.Args, func(a Ref) bool { return o.Kind == a.Kind && o.Name == a.Name && o.Device == a.Device })
		})
		if !read {
			return fmt.Errorf("its body does not read operand %s", o.Name)
		}
	}
	return nil
}

// fitsCache compares what is stored with the cache.
func fitsCache(n *ir.Node, c *Cache) error {
	k, val := n.Args[0].Type, n.Args[1].Type
	group := max(0, k.Shape[0].Sym.Group())
	if k.DType != c.DType || k.Shape[1].N != c.Heads || k.Shape[2].N != c.KeyDim || val.Shape[2].N != c.ValDim || group != c.Group {
		return fmt.Errorf("stores keys %s and values %s in cache %s: %d heads of %d + %d %s of token group %d", k, val, c.Name, c.Heads, c.KeyDim, c.ValDim, c.DType, c.Group)
	}
	return nil
}

// attentionReads compares an attention with the cache that it reads.
func (v *verifier) attentionReads(b *blockIndex, s *Step, layer int) error {
	if s.Args[1].Kind != CacheRef {
		return fmt.Errorf("reads %s, which is no cache", s.Args[1].Name)
	}
	c := v.cache(s.Args[1].Device, s.Args[1].Name, layer)
	q, err := v.typeOf(b, s.Args[0], layer)
	if err != nil {
		return err
	}
	window := s.Attrs.Int("window", 0)
	if c.Window > 0 && (window == 0 || window > c.Window) {
		return fmt.Errorf("sees %d positions (0: all), cache %s keeps %d", window, c.Name, c.Window)
	}
	if first := s.Attrs.Int("kv_first", 0); first != c.First || q.Shape[2].N != c.KeyDim || max(0, q.Shape[0].Sym.Group()) != c.Group {
		return fmt.Errorf("reads %s with KV heads from %d of cache %s: heads from %d, keys of %d, token group %d", q, first, c.Name, c.First, c.KeyDim, c.Group)
	}
	return nil
}

// sameElements allows other extents for the same rows, as after a reshape:
// the elements lie in memory in the same order for any number of rows.
func sameElements(a, b tensor.Type) bool {
	outerA, symA, innerA := split(a.Shape)
	outerB, symB, innerB := split(b.Shape)
	return a.DType == b.DType && symA == symB && outerA == outerB && innerA == innerB
}

// split returns the products of the extents before and after the symbol; all
// are after it if there is none.
func split(s tensor.Shape) (outer int, sym tensor.Sym, inner int) {
	at := slices.IndexFunc(s, func(d tensor.Dim) bool { return d.Sym != "" })
	if at < 0 {
		return 1, "", s.Static()
	}
	return s[:at].Static(), s[at].Sym, s[at+1:].Static()
}

// typeOf returns the type that an operand is read as.
func (v *verifier) typeOf(b *blockIndex, a Ref, layer int) (tensor.Type, error) {
	t := v.storedType(b, a, layer)
	if a.Type.DType == tensor.Invalid {
		return t, nil
	}
	if !sameElements(a.Type, t) {
		return t, fmt.Errorf("%s is %s, read as %s", a.Name, t, a.Type)
	}
	return a.Type, nil
}

// storedType returns the type of what an operand names, which exists.
func (v *verifier) storedType(b *blockIndex, a Ref, layer int) tensor.Type {
	switch a.Kind {
	case ConstRef:
		return tensor.Type{DType: tensor.F32, Shape: tensor.Ints(v.consts[a.Name].Shape...)}
	case WeightRef:
		w := v.weight(a.Device, a.Name, layer)
		return tensor.Type{DType: w.DType, Shape: tensor.Ints(w.Shape...)}
	case CacheRef:
		c := v.cache(a.Device, a.Name, layer)
		return tensor.Of(c.DType, tensor.S(tensor.Cached), tensor.N(c.Heads), tensor.N(c.KeyDim+c.ValDim))
	}
	return b.buffer(a.Device, a.Name).Type
}
