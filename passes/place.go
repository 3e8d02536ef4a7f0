package passes

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/placement"
)

// place divides the logical graph between devices.
//
//	before:  y = matmul(x, w) {bounds=[0,8,16]}
//	after:   p = matmul_nodes(x0, w[:, 0:8])  {leaf=0, leaves=2}   @device 0
//	         q = matmul_nodes(x1, w[:, 8:16]) {leaf=1, leaves=2}   @device 1
//	         y = all_reduce(p, q) {spans=[[0,1],[1,2]]}            @device 0
//	         y = all_reduce(p, q) {spans=[[0,1],[1,2]]}            @device 1
//
// Nodes in no region are computed whole by every device of their token group.
// A region is computed by each device on its own units; what closes it is
// added up over the devices, and what others need whole is gathered. The walk
// is in graph order and makes all members of a collective together, so devices
// meet collectives in one order.
//
// Runs after "segment", because shares are runs of segments, and before the
// fusions, none of which may cross a device.
func place(c *Context, g *ir.Graph) error {
	if c.Choose != nil {
		if err := c.Choose(g); err != nil {
			return err
		}
	}
	if c.Placement == nil {
		return fmt.Errorf("no placement is given")
	}
	p := newPlacer(g, c.Placement)
	for _, n := range g.Nodes {
		if err := p.visit(n); err != nil {
			return err
		}
	}
	if err := p.outputs(); err != nil {
		return err
	}
	*g = *p.g
	return nil
}

// placer builds the placed graph beside the logical one.
type placer struct {
	old       *ir.Graph
	g         *ir.Graph
	placement *placement.Placement
	regions   map[*ir.Node]*Region
	begun     map[*Region]bool
	after     map[*ir.Node]bool // depends on a layer

	// Values on devices. Whole values have the rows of the device's token
	// group; all values have the rows of all groups; cut values have the
	// device's run of units.
	whole, all, cut map[at]*ir.Node
	homes           map[*ir.Node][]int // devices with the whole value, in the order they got it
	channels        int
	err             error
}

// at is a logical node on a device.
type at struct {
	n      *ir.Node
	device int
}

func newPlacer(g *ir.Graph, pl *placement.Placement) *placer {
	p := &placer{
		old: g, placement: pl, g: ir.NewGraph(g.Name),
		regions: make(map[*ir.Node]*Region), begun: make(map[*Region]bool), after: make(map[*ir.Node]bool),
		whole: make(map[at]*ir.Node), all: make(map[at]*ir.Node), cut: make(map[at]*ir.Node), homes: make(map[*ir.Node][]int),
	}
	p.g.Level, p.g.Devices, p.g.Layers, p.g.Numerics = ir.Placed, pl.Devices, g.Layers, g.Numerics
	p.g.Groups = max(1, len(pl.Layers[0].Groups))
	p.g.Weights, p.g.Caches = g.Weights, g.Caches
	for _, r := range FindRegions(g) {
		for _, list := range [][]*ir.Node{r.Before, r.Open, r.Inner, r.Close, r.After} {
			for _, n := range list {
				p.regions[n] = r
			}
		}
		if r.Combine != nil {
			p.regions[r.Combine] = r
		}
	}
	for _, n := range g.Nodes {
		p.after[n] = n.Layer >= 0 || slices.ContainsFunc(n.Args, func(a *ir.Node) bool { return p.after[a] })
	}
	return p
}

// layer returns how the layer of n is placed; what comes before the layers is
// with the first, what comes after with the last.
func (p *placer) layer(n *ir.Node) *placement.Layer {
	switch {
	case n.Layer >= 0:
		return &p.placement.Layers[n.Layer]
	case p.after[n]:
		return &p.placement.Layers[len(p.placement.Layers)-1]
	}
	return &p.placement.Layers[0]
}

// split returns the split of a region for a token group.
func (p *placer) split(r *Region, like *ir.Node, group int) placement.Split {
	l := p.layer(like)
	lists := map[Kind][]placement.Split{Attention: l.Attention, Dense: l.Dense, Embedding: p.placement.Embed, Head: p.placement.Head}
	list := lists[r.Kind]
	if group >= len(list) {
		return nil
	}
	return list[group]
}

// number is what the graph calls a token group: -1 when there is only one.
func (p *placer) number(group int) int {
	if p.g.Groups == 1 {
		return -1
	}
	return group
}

// visit places one logical node. Nodes without operands are placed where they
// are read.
func (p *placer) visit(n *ir.Node) error {
	if n.Op.Has(ir.Nullary) {
		return p.err
	}
	r := p.regions[n]
	switch {
	case r != nil && r.Kind == Experts:
		if r.Combine == n {
			p.experts(r)
		}
	default:
		for group, devices := range p.layer(n).Groups {
			p.visitGroup(n, r, group, devices)
		}
	}
	return p.err
}

// visitGroup places a node on the devices of a token group.
func (p *placer) visitGroup(n *ir.Node, r *Region, group int, devices []int) {
	var split placement.Split
	if r != nil {
		split = p.split(r, n, group)
	}
	shares := p.shares(r, split)
	if len(shares) == 0 {
		for _, d := range devices {
			p.keep(n, d, p.copy(n, d, p.number(group)))
		}
		return
	}
	for _, s := range shares {
		p.cut[at{n, s.device}] = p.part(n, r, s, p.number(group))
	}
	switch {
	case slices.Contains(r.Close, n):
		p.reduce(n, shares, devices, p.number(group))
	case slices.Contains(r.Gather, n):
		p.gather(n, r.Members[n].Result.Axis, shares, devices)
	}
}

// share is a device's run of segments of a region, and of its units.
type share struct {
	device     int
	first, end int // segments
	lo, hi     int // units
	index, of  int // among the shares
}

// shares returns the disjoint shares of a split in order, or none when every
// device computes the whole region.
func (p *placer) shares(r *Region, split placement.Split) []share {
	if r == nil || r.Units < 2 {
		return nil
	}
	var list []share
	for _, s := range split {
		first, end := r.Local(s.Lo, s.Hi, p.placement.Segments)
		if first == end {
			continue
		}
		lo, hi := r.UnitsOf(first, end)
		list = append(list, share{device: s.Device, first: first, end: end, lo: lo, hi: hi})
	}
	if len(list) < 2 || list[0].first == list[1].first {
		return nil // one device or copies
	}
	for i := range list {
		list[i].index, list[i].of = i, len(list)
	}
	return list
}

// copy makes n on a device from whole operands.
func (p *placer) copy(n *ir.Node, device, group int) *ir.Node {
	args := make([]*ir.Node, len(n.Args))
	for i, a := range n.Args {
		args[i] = p.get(a, n, device, group)
	}
	return p.add(n.Op.Name, n, spot{device, group}, n.Attrs, args...)
}

// spot is where a placed node belongs.
type spot struct{ device, group int }

// add makes a placed node that stands for the logical node like.
func (p *placer) add(op string, like *ir.Node, s spot, attrs ir.Attrs, args ...*ir.Node) *ir.Node {
	if p.err != nil {
		return nil
	}
	proto := *like
	proto.Device, proto.Group = s.device, s.group
	n, err := p.g.Add(ir.Op(op), args, attrs, &proto)
	if err != nil {
		p.err = fmt.Errorf("internal error: %s on device %d: %w", like.Pos, s.device, err)
		return nil
	}
	n.Name = like.Name
	return n
}

// keep remembers the whole value of n on a device.
func (p *placer) keep(n *ir.Node, device int, v *ir.Node) {
	p.whole[at{n, device}] = v
	p.homes[n] = append(p.homes[n], device)
}

// get returns the whole value of a on a device for its reader n: what is
// there, or made there, or brought from the first device of the token group
// that has it.
func (p *placer) get(a, n *ir.Node, device, group int) *ir.Node {
	if v, ok := p.whole[at{a, device}]; ok {
		return v
	}
	if p.err != nil {
		return nil
	}
	if a.Op.Has(ir.Nullary) {
		v := p.add(a.Op.Name, a, spot{device, p.rowsOf(a, group)}, a.Attrs)
		p.keep(a, device, v)
		return v
	}
	for _, d := range p.homes[a] {
		v := p.whole[at{a, d}]
		if v.Group != group && v.Group >= 0 {
			continue
		}
		like := *n
		like.Name = a.Name
		moved := p.add("transfer", &like, spot{device, v.Group}, p.channel(nil), v)
		p.keep(a, device, moved)
		return moved
	}
	p.err = fmt.Errorf("internal error: no device of group %d has the value of %%%d %s, which device %d needs", group, a.ID(), a.Op.Name, device)
	return nil
}

// rowsOf returns the group of a node without operands: only lists that a step
// brings belong to one.
func (p *placer) rowsOf(a *ir.Node, group int) int {
	if a.Op.Name == "input" {
		return group
	}
	return -1
}

// channel adds the number of a new collective to attributes.
func (p *placer) channel(attrs ir.Attrs) ir.Attrs {
	p.channels++
	return attrs.With("channel", p.channels-1)
}

// outputs names the results: for each token group, on the first device that
// has it.
func (p *placer) outputs() error {
	for _, o := range p.old.Outputs {
		for group, devices := range p.layer(o.Value).Groups {
			v := p.get(o.Value, o.Value, devices[0], p.number(group))
			p.g.Outputs = append(p.g.Outputs, ir.Output{Name: o.Name, Group: group, Value: v})
		}
	}
	return p.err
}
