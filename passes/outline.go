package passes

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/placement"
	"moec/ir/tensor"
)

// Outline places one layer of a logical graph at a time, so that a search can
// price a layer without placing the others. What comes before the layers and
// what comes after them are parts of their own:
//
//	part 0: prologue    part 1 to Layers: layer 0 to Layers-1    part Layers+1: epilogue
//
// Placing all parts one after the other gives the nodes of placing the graph.
type Outline struct {
	Graph   *ir.Graph
	Summary placement.Summary
	// Class is, for each part, the first part that has the same structure.
	Class []int

	base  placer
	parts []*outlinePart
}

// outlinePart is the logical nodes of a part.
type outlinePart struct {
	nodes   []*ir.Node
	imports []*ir.Node // values of earlier parts that it reads
	exports []*ir.Node // values that later parts or outputs read
}

// Need is a value that later parts read: an export of the part by number, for
// a token group, on a device.
type Need struct{ Value, Tag, Device int }

// PlacedPart is what the devices do for one part.
type PlacedPart struct {
	Nodes []PlacedNode // kernels and collectives, in order
	Held  []Held       // weights that devices keep
	// Cached is, for each device, the bytes that it keeps for a position.
	Cached []int64
	Needs  []Need // what the part reads of earlier ones: imports by number
}

// PlacedNode is a node, and whether it serves routed experts.
type PlacedNode struct {
	*ir.Node
	Serves bool
}

// Held is a slice of a weight that a device keeps.
type Held struct {
	Device int
	Key    string
	Bytes  int64
	Stack  bool // it belongs to routed experts
}

// NewOutline prepares a logical graph, which "segment" has seen. The graph
// must not change afterwards.
func NewOutline(g *ir.Graph) (*Outline, error) {
	regions := FindRegions(g)
	o := &Outline{Graph: g, Summary: summary(g, regions), parts: make([]*outlinePart, g.Layers+2)}
	none := &placement.Placement{Devices: 1, Layers: make([]placement.Layer, max(1, g.Layers))}
	o.base = *newPlacer(g, none, regions)
	for i := range o.parts {
		o.parts[i] = &outlinePart{}
	}
	of := make(map[*ir.Node]int, len(g.Nodes))
	for _, n := range g.Nodes {
		at := o.part(n)
		of[n] = at
		p := o.parts[at]
		p.nodes = append(p.nodes, n)
		for _, a := range n.Args {
			if of[a] == at || a.Op.Has(ir.Nullary) || a.Op.Has(ir.Resident) {
				continue
			}
			if of[a] != at-1 {
				return nil, fmt.Errorf("%%%d %s of part %d reads %%%d %s of part %d: parts must follow each other", n.ID(), n.Op.Name, at, a.ID(), a.Op.Name, of[a])
			}
			if !slices.Contains(p.imports, a) {
				p.imports = append(p.imports, a)
				o.parts[at-1].exports = append(o.parts[at-1].exports, a)
			}
		}
	}
	for _, out := range g.Outputs {
		if of[out.Value] != g.Layers+1 {
			return nil, fmt.Errorf("output %q is made inside the layers", out.Name)
		}
		o.parts[g.Layers+1].exports = append(o.parts[g.Layers+1].exports, out.Value)
	}
	o.classes()
	return o, nil
}

// part returns the number of the part that n belongs to.
func (o *Outline) part(n *ir.Node) int {
	switch {
	case n.Layer >= 0:
		return n.Layer + 1
	case o.base.late[n]:
		return o.Graph.Layers + 1
	}
	return 0
}

// classes finds parts of the same structure.
func (o *Outline) classes() {
	first := make(map[string]int)
	for i, p := range o.parts {
		key := o.key(i, p)
		if _, ok := first[key]; !ok {
			first[key] = i
		}
		o.Class = append(o.Class, first[key])
	}
}

// key is equal for parts whose nodes are the same but for the names of weights
// and caches.
func (o *Outline) key(at int, p *outlinePart) string {
	number := make(map[*ir.Node]string)
	for i, n := range p.imports {
		number[n] = fmt.Sprint("in", i)
	}
	var b strings.Builder
	if at == 0 || at == len(o.parts)-1 {
		fmt.Fprint(&b, "part ", at)
	}
	for _, n := range p.imports {
		if r := o.base.owner[n]; r != nil && r.Kind != Experts {
			fmt.Fprint(&b, r.Kind) // not on every device; see leaves
		}
	}
	for i, n := range p.nodes {
		number[n] = fmt.Sprint(i)
		fmt.Fprint(&b, n.Op.Name, n.Type, "(")
		for _, a := range n.Args {
			if id, ok := number[a]; ok {
				fmt.Fprint(&b, id, ",")
			} else {
				fmt.Fprint(&b, a.Op.Name, a.Type, nameless(a.Attrs), ",")
			}
		}
		fmt.Fprint(&b, ")", nameless(n.Attrs), ";")
	}
	for _, n := range p.exports {
		fmt.Fprint(&b, "out", number[n])
	}
	return b.String()
}

// nameless prints attributes without the names of weights and caches.
func nameless(a ir.Attrs) string {
	return fmt.Sprint(a.Without("name").Without("cache"))
}

// placerFor is a placer with fresh maps on the facts that all parts share.
func (o *Outline) placerFor(p *placement.Placement) *placer {
	c := o.base
	c.plan = p
	c.g = ir.NewGraph(o.Graph.Name)
	c.g.Level, c.g.Devices, c.g.Groups = ir.Placed, p.Devices, len(p.Layers[0].Groups)
	c.g.Layers, c.g.Numerics, c.g.Weights, c.g.Caches = o.Graph.Layers, o.Graph.Numerics, o.Graph.Weights, o.Graph.Caches
	c.values, c.sources, c.parts = map[valueKey]*ir.Node{}, map[valueKey][]int{}, map[valueKey]*ir.Node{}
	c.pieces, c.weights = map[pieceKey]*ir.Node{}, map[weightKey]*ir.Node{}
	c.served = map[*ir.Node]bool{}
	return &c
}

// Place places a part: of p, the layers next to the part's own must be filled
// in too. Nil needs stand for everything that the part exports, on all devices
// of its groups.
func (o *Outline) Place(part int, p *placement.Placement, needs []Need) (*PlacedPart, error) {
	t := o.parts[part]
	pl := o.placerFor(p)
	seeds := o.seed(pl, t)
	for _, n := range t.nodes {
		pl.now = n
		pl.visit(n)
		if pl.err != nil {
			return nil, pl.err
		}
	}
	if needs == nil {
		needs = o.AllNeeds(part, p)
	}
	for i, need := range needs {
		v := pl.values[valueKey{t.exports[need.Value], need.Tag, need.Device}]
		if part == len(o.parts)-1 { // outputs are brought to where they are read
			pl.now = t.exports[need.Value]
			v = pl.whole(pl.now, need.Tag, need.Device)
		}
		if v == nil {
			return nil, fmt.Errorf("internal error: part %d does not leave value %d of group %d on device %d", part, need.Value, need.Tag, need.Device)
		}
		pl.g.Outputs = append(pl.g.Outputs, ir.Output{Name: fmt.Sprint(i), Value: v})
	}
	if pl.err != nil {
		return nil, pl.err
	}
	live := ir.NewGraph(o.Graph.Name)
	live.Level, live.Devices, live.Groups, live.Outputs = ir.Placed, pl.g.Devices, pl.g.Groups, pl.g.Outputs
	live.Layers, live.Numerics, live.Weights, live.Caches = pl.g.Layers, pl.g.Numerics, pl.g.Weights, pl.g.Caches
	for i, n := range pl.read() {
		live.Insert(n, int64(i))
	}
	return o.finish(pl, live, seeds)
}

// AllNeeds lists every export of a part on every device of its groups; for
// the epilogue, outputs on the first device of each.
func (o *Outline) AllNeeds(part int, p *placement.Placement) []Need {
	pl := &placer{plan: p, late: o.base.late, g: &ir.Graph{Groups: len(p.Layers[0].Groups)}}
	var list []Need
	for i, v := range o.parts[part].exports {
		for group, devices := range pl.groups(v) {
			if part == len(o.parts)-1 {
				devices = devices[:1]
			}
			for _, d := range devices {
				list = append(list, Need{i, pl.tag(v, group), d})
			}
		}
	}
	return list
}

// seed puts the imports where the part before leaves them.
func (o *Outline) seed(pl *placer, t *outlinePart) map[*ir.Node]Need {
	seeds := make(map[*ir.Node]Need)
	for i, v := range t.imports {
		for group := range pl.groups(v) {
			tag := pl.tag(v, group)
			made, brought := o.leaves(pl, v, group)
			for j, d := range slices.Concat(made, brought) {
				key := valueKey{v, tag, d}
				if pl.values[key] != nil {
					continue
				}
				n := importNode(v, i, tag, d)
				pl.g.Insert(n, int64(len(pl.g.Nodes)))
				seeds[n] = Need{i, tag, d}
				if pl.values[key] = n; j < len(made) {
					pl.set(v, tag, n)
				}
			}
		}
	}
	return seeds
}

// importNode stands for import number i.
func importNode(v *ir.Node, i, tag, device int) *ir.Node {
	n := &ir.Node{Op: ir.Op("input"), Type: v.Type, Layer: v.Layer, Device: device, Group: tag, Attrs: ir.MakeAttrs(ir.Attr{Name: "name", Value: fmt.Sprint("import", i)})}
	n.Type.Shape = slices.Clone(v.Type.Shape)
	for j, dim := range n.Type.Shape {
		if dim.Sym != "" && tag >= 0 {
			n.Type.Shape[j].Sym = dim.Sym.Of(tag)
		}
	}
	return n
}

// leaves returns on which devices of a token group a value is made, and to
// which others its own part brings it.
func (o *Outline) leaves(pl *placer, v *ir.Node, group int) (made, brought []int) {
	devices := pl.groups(v)[group]
	r := pl.owner[v]
	if r == nil || r.Kind == Experts {
		return devices, nil
	}
	holders := pl.holders(r, pl.split(r, group))
	if !holders[0].all(r) {
		return devices, nil
	}
	for _, h := range holders {
		made = append(made, h.device)
	}
	for _, n := range o.parts[o.part(v)].nodes {
		if pl.owner[n] != r && slices.Contains(n.Args, v) {
			return made, devices // somebody else of its part reads it everywhere
		}
	}
	return made, nil
}

// finish packs projections as the pipeline does and takes stock.
func (o *Outline) finish(pl *placer, g *ir.Graph, seeds map[*ir.Node]Need) (*PlacedPart, error) {
	channels := make(map[int]bool)
	for _, n := range g.Nodes {
		if pl.served[n] && n.Op.Has(ir.Collective) {
			channels[n.Attrs.Int("channel", 0)] = true
		}
	}
	if err := packProjections(nil, g); err != nil {
		return nil, err
	}
	p := &PlacedPart{Cached: make([]int64, g.Devices)}
	for _, n := range g.Nodes {
		switch {
		case n.Op.Name == "weight":
			p.Held = append(p.Held, Held{n.Device, n.Attrs.Text("name") + fmt.Sprint(n.Attrs.Sets("slice"), n.Attrs.Ints("experts")), n.Type.Bytes(nil), o.base.stacks[n.Attrs.Text("name")]})
		case n.Op.Name == "kv_append":
			p.Cached[n.Device] += int64(n.Type.Shape[1].N * n.Type.Shape[2].N * n.Type.DType.Bytes())
		}
		if need, ok := seeds[n]; ok {
			p.Needs = append(p.Needs, need)
			continue
		}
		switch {
		case n.Op.Has(ir.Collective):
			p.Nodes = append(p.Nodes, PlacedNode{n, channels[n.Attrs.Int("channel", 0)]})
		case cost.IsKernel(n.Op.Name):
			name := n.Op.Name
			p.Nodes = append(p.Nodes, PlacedNode{n, strings.HasPrefix(name, "expert_matmul") || strings.HasPrefix(name, "combine")})
		}
	}
	return p, nil
}

// Experts returns the number of routed-experts regions of a part.
func (o *Outline) Experts(part int) int {
	n := 0
	for _, v := range o.parts[part].nodes {
		if r := o.base.owner[v]; r != nil && r.Kind == Experts && v == r.Combine {
			n++
		}
	}
	return n
}

// Slots returns how many experts a token of a part chooses, or 0.
func (o *Outline) Slots(part int) int {
	for _, v := range o.parts[part].nodes {
		if r := o.base.owner[v]; r != nil && r.Kind == Experts {
			return r.Combine.Args[1].Type.Shape[1].N
		}
	}
	return 0
}

// Import returns the type of what a part reads of the one before: of several
// values the smallest, in bytes for each row.
func (o *Outline) Import(part int) tensor.Type {
	var t tensor.Type
	for i, v := range o.parts[part].imports {
		one := func(tensor.Sym) int { return 1 }
		if i == 0 || v.Type.Bytes(one) < t.Bytes(one) {
			t = v.Type
		}
	}
	return t
}

// Early reports whether the slots of a part may be combined before they are
// added up over devices; see serveEarly.
func (o *Outline) Early(part int) bool {
	for _, v := range o.parts[part].nodes {
		if r := o.base.owner[v]; r != nil && r.Kind == Experts {
			return o.Graph.Numerics.Mode == ir.Fast && linear(r)
		}
	}
	return false
}
