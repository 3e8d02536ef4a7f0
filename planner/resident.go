package planner

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"moec/ir"
	"moec/planner/plan"
)

// residents gives constants, weights and caches their place in each arena.
func (b *builder) residents() error {
	b.refs = make(map[*ir.Node]plan.Ref)
	b.consts()
	if err := b.weights(); err != nil {
		return err
	}
	return b.caches()
}

// consts lists the tables of the graph and of the bodies of fused nodes, equal
// ones once.
func (b *builder) consts() {
	var offset int64
	add := func(n *ir.Node, device int) {
		shape, values := n.Attrs.Ints("shape"), n.Attrs.Floats("values")
		i := slices.IndexFunc(b.p.Consts, func(c plan.Const) bool {
			return slices.Equal(c.Shape, shape) && slices.Equal(c.Values, values)
		})
		if i < 0 {
			i = len(b.p.Consts)
			b.p.Consts = append(b.p.Consts, plan.Const{Name: "c" + strconv.Itoa(i), Shape: shape, Values: values, Offset: offset})
			offset += alignUp(int64(4 * len(values)))
		}
		b.refs[n] = plan.Ref{Kind: plan.ConstRef, Name: b.p.Consts[i].Name, Device: device}
	}
	for _, n := range b.g.Nodes {
		if n.Op.Name == "const" {
			add(n, n.Device)
		}
		if body := n.Attrs.Body(); body != nil {
			for _, inner := range body.Nodes {
				if inner.Op.Name == "const" {
					add(inner, n.Device)
				}
			}
		}
	}
	for d := range b.memory {
		b.memory[d].Consts = offset
	}
}

// pattern replaces the layer's number in a name by {layer}. Names are made of
// parts joined by dots; the number stands alone in one of them.
func pattern(name string, layer int) string {
	if layer < 0 {
		return name
	}
	parts := strings.Split(name, ".")
	if i := slices.Index(parts, strconv.Itoa(layer)); i >= 0 {
		parts[i] = "{layer}"
	}
	return strings.Join(parts, ".")
}

// held is a resident weight of one device and one layer.
type held struct {
	layer int
	w     plan.Weight
}

// weights lists what each device holds, folds layers that hold the same, and
// lays the weights out one after the other.
func (b *builder) weights() error {
	type key struct {
		device int
		name   string
	}
	var order []key
	found := make(map[key][]held)
	pieces := make(map[key]map[int][]plan.Weight) // of one name, by layer
	read := b.readDirectly()
	for _, n := range b.g.Nodes {
		if n.Op.Name != "weight" && n.Op.Name != "pack" || !read[n] {
			continue
		}
		h, err := b.hold(n)
		if err != nil {
			return err
		}
		base := key{n.Device, h.w.Name}
		if pieces[base] == nil {
			pieces[base] = make(map[int][]plan.Weight)
		}
		list := pieces[base][h.layer]
		i := slices.IndexFunc(list, func(o plan.Weight) bool { return reflect.DeepEqual(o, h.w) })
		fresh := i < 0
		if fresh {
			i = len(list)
			pieces[base][h.layer] = append(list, h.w)
		}
		h.w.Name = plan.PieceName(h.w.Name, i)
		b.refs[n] = plan.Ref{Kind: plan.WeightRef, Name: h.w.Name, Device: n.Device}
		if !fresh {
			continue
		}
		k := key{n.Device, h.w.Name}
		if len(found[k]) == 0 {
			order = append(order, k)
		}
		found[k] = append(found[k], h)
	}
	for _, k := range order {
		b.place(found[k])
	}
	slices.SortStableFunc(b.p.Weights, func(v, w plan.Weight) int { return v.Device - w.Device })
	return nil
}

// readDirectly finds the weights and packs that some step reads: a weight
// that only a pack reads is not kept on its own.
func (b *builder) readDirectly() map[*ir.Node]bool {
	read := make(map[*ir.Node]bool)
	for _, n := range b.g.Nodes {
		if n.Op.Name == "pack" {
			continue
		}
		for _, a := range n.Args {
			read[a] = true
		}
	}
	return read
}

// hold describes a weight or pack node as a resident weight.
func (b *builder) hold(n *ir.Node) (held, error) {
	parts := []*ir.Node{n}
	axis := 0
	if n.Op.Name == "pack" {
		parts, axis = n.Args, n.Attrs.Int("axis", 0)
	}
	h := held{layer: -1}
	var names []string
	for _, part := range parts {
		w := b.g.Weight(part.Attrs.Text("name"))
		if w == nil {
			return h, fmt.Errorf("internal error: no weight %q", part.Attrs.Text("name"))
		}
		h.layer = w.Layer
		p := plan.Part{Weight: pattern(w.Name, w.Layer), Source: w.Source, Shape: w.Shape, Slice: part.Attrs.Sets("slice"), Experts: part.Attrs.Ints("experts")}
		fillPart(&p, w)
		names = append(names, p.Weight)
		h.w.Parts = append(h.w.Parts, p)
	}
	h.w.Name, h.w.Device, h.w.DType, h.w.Axis = strings.Join(names, "+"), n.Device, n.Type.DType, axis
	h.w.Shape = n.Type.Shape.Extents(b.bounds)
	h.w.Layers = plan.Range{First: h.layer, Last: h.layer}
	if h.layer < 0 {
		h.w.Layers = plan.NoLayers
	}
	return h, nil
}

// fillPart writes out what a weight node leaves unsaid: all of each axis.
func fillPart(p *plan.Part, w *ir.Weight) {
	if p.Slice == nil {
		for _, d := range w.Shape {
			p.Slice = append(p.Slice, []int{0, d})
		}
	}
	if w.Experts > 0 && p.Experts == nil {
		for e := p.Slice[0][0]; e < p.Slice[0][1]; e++ {
			p.Experts = append(p.Experts, e)
		}
	}
}

// place folds runs of layers that hold the same and gives each run a place.
func (b *builder) place(list []held) {
	for i := 0; i < len(list); {
		j := i + 1
		for j < len(list) && list[j].layer == list[j-1].layer+1 && sameHold(list[i].w, list[j].w) {
			j++
		}
		w := list[i].w
		if w.Layers != plan.NoLayers {
			w.Layers.Last = list[j-1].layer
		}
		m := &b.memory[w.Device]
		w.Stride = alignUp(w.Bytes())
		w.Offset = m.Consts + m.Weights
		m.Weights += w.Stride * int64(j-i)
		b.p.Weights = append(b.p.Weights, w)
		i = j
	}
}

func sameHold(a, b plan.Weight) bool {
	a.Layers, b.Layers = plan.Range{}, plan.Range{}
	return reflect.DeepEqual(a, b)
}

// caches lists the KV state of each device and lays it out after the weights.
func (b *builder) caches() error {
	for _, n := range b.g.Nodes {
		if n.Op.Name != "kv_append" {
			continue
		}
		c := b.g.Cache(n.Attrs.Text("cache"))
		if c == nil {
			return fmt.Errorf("internal error: no cache %q", n.Attrs.Text("cache"))
		}
		e := plan.Cache{
			Name: pattern(c.Name, c.Layer), Device: n.Device, Group: max(n.Group, 0), Layers: plan.Range{First: c.Layer, Last: c.Layer},
			Heads: n.Type.Shape[1].N, First: b.firstHead(n), KeyDim: c.KeyDim, ValDim: c.ValDim, DType: n.Type.DType, Window: c.Window,
		}
		b.refs[n] = plan.Ref{Kind: plan.CacheRef, Name: e.Name, Device: n.Device}
		b.addCache(e)
	}
	for i := range b.p.Caches {
		c := &b.p.Caches[i]
		m := &b.memory[c.Device]
		c.Stride = alignUp(c.Bytes(b.p.Limits))
		c.Offset = m.Consts + m.Weights + m.Caches
		m.Caches += c.Stride * int64(c.Layers.Len())
	}
	return nil
}

// addCache extends the entry of the layer before by one, or starts another.
func (b *builder) addCache(e plan.Cache) {
	for i := range b.p.Caches {
		c := &b.p.Caches[i]
		next := e
		next.Layers = c.Layers
		if *c == next && c.Layers.Last+1 == e.Layers.First {
			c.Layers.Last++
			return
		}
	}
	b.p.Caches = append(b.p.Caches, e)
}

// firstHead returns the number of the first KV head in the cache of n.
func (b *builder) firstHead(n *ir.Node) int {
	for _, u := range b.uses[n] {
		if u.Op.Name == "attention" {
			return u.Attrs.Int("kv_first", 0)
		}
	}
	return 0
}
