package passes

import (
	"errors"
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/placement"
)

// place gives each device its part of the graph.
//
//	before:  y = matmul(h, w){bounds=[0,4,8]}
//	after:   y0 = matmul_nodes(h, w[0:4]){leaf=0}    on device 0
//	         y1 = matmul_nodes(h, w[4:8]){leaf=1}    on device 1
//	         y = all_reduce(y0, y1)                  on both
//
// What is in no region (see Region) is computed whole by every device of its
// token group. In a region each device computes its run of units; partial sums
// are added along the tree, so the bits are those of the logical graph. Slots
// of experts are computed where the experts live, and combined the same way.
// A value that a device lacks comes by transfer.
//
// Nodes follow the order of the logical graph, collectives included, so all
// devices meet in the same order. It runs after segment, which decided the
// order of sums, and before fusions, which must not cross devices.
func place(ctx *Context, g *ir.Graph) error {
	if ctx.Choose != nil {
		if err := ctx.Choose(g); err != nil {
			return err
		}
	}
	if ctx.Placement == nil {
		return errors.New("no placement is given: choose a strategy")
	}
	regions := FindRegions(g)
	if err := suits(ctx.Placement, summary(g, regions)); err != nil {
		return err
	}
	p := newPlacer(g, ctx.Placement, regions)
	p.run()
	if p.err != nil {
		return p.err
	}
	p.finish(g)
	return nil
}

// everywhere is the tag of values that belong to no token group: they have
// the rows of all tokens, or none.
const everywhere = -1

// valueKey names the value of a logical node for a token group on a device.
type valueKey struct {
	n           *ir.Node
	tag, device int
}

// placer builds the placed graph.
type placer struct {
	old, g *ir.Graph
	plan   *placement.Placement
	owner  map[*ir.Node]*Region // regions of members, of slots and of combine ops
	at     map[*ir.Node]int     // position in the old graph
	late   map[*ir.Node]bool    // outside the layers, after them
	stacks map[string]bool      // weights that have experts
	now    *ir.Node             // the logical node being placed

	values  map[valueKey]*ir.Node  // whole values
	sources map[valueKey][]int     // devices that computed a value, under device 0 of the key
	parts   map[valueKey]*ir.Node  // cut values
	pieces  map[pieceKey]*ir.Node  // slices taken of whole values
	weights map[weightKey]*ir.Node // weights and their slices

	channel int
	err     error

	serving bool              // experts are being served
	served  map[*ir.Node]bool // nodes made meanwhile, if it is not nil
}

func newPlacer(g *ir.Graph, plan *placement.Placement, regions []*Region) *placer {
	p := &placer{old: g, plan: plan, owner: map[*ir.Node]*Region{}, at: map[*ir.Node]int{}, late: map[*ir.Node]bool{}, stacks: map[string]bool{},
		values: map[valueKey]*ir.Node{}, sources: map[valueKey][]int{}, parts: map[valueKey]*ir.Node{},
		pieces: map[pieceKey]*ir.Node{}, weights: map[weightKey]*ir.Node{}}
	p.g = ir.NewGraph(g.Name)
	p.g.Level, p.g.Devices, p.g.Groups = ir.Placed, plan.Devices, len(plan.Layers[0].Groups)
	p.g.Layers, p.g.Numerics, p.g.Weights, p.g.Caches = g.Layers, g.Numerics, g.Weights, g.Caches
	for _, r := range regions {
		if r.Kind == Experts {
			for _, n := range slices.Concat(r.Before, r.After, []*ir.Node{r.Combine}) {
				p.owner[n] = r
			}
		} else if r.Leaves() < 2 {
			continue // cannot be divided: every device has it whole
		}
		for n := range r.Members {
			p.owner[n] = r
		}
	}
	for _, w := range g.Weights {
		p.stacks[w.Name] = w.Experts > 0
	}
	for i, n := range g.Nodes {
		p.at[n] = i
		for _, a := range n.Args {
			p.late[n] = p.late[n] || n.Layer < 0 && (a.Layer >= 0 || p.late[a])
		}
	}
	return p
}

// groups returns the devices of each token group where n is computed.
func (p *placer) groups(n *ir.Node) [][]int {
	switch {
	case n.Layer >= 0:
		return p.plan.Layers[n.Layer].Groups
	case p.late[n]:
		return p.plan.Layers[len(p.plan.Layers)-1].Groups
	}
	return p.plan.Layers[0].Groups
}

// tag returns the tag of n's value for a token group.
func (p *placer) tag(n *ir.Node, group int) int {
	if p.g.Groups == 1 || !perToken(n) {
		return everywhere
	}
	return group
}

// perToken reports whether n has something for each token of a step.
func perToken(n *ir.Node) bool {
	for _, d := range n.Type.Shape {
		if d.Sym != "" {
			return true
		}
	}
	return false
}

func (p *placer) run() {
	for _, n := range p.old.Nodes {
		p.now = n
		if p.visit(n); p.err != nil {
			return
		}
	}
}

// visit places one logical node.
func (p *placer) visit(n *ir.Node) {
	r := p.owner[n]
	switch {
	case n.Op.Has(ir.Nullary): // copied to where it is read
	case r == nil:
		p.replicate(n)
	case r.Kind != Experts:
		p.member(r, n)
	case n == r.Combine:
		p.experts(r)
	}
}

// replicate computes n whole on every device of each token group.
func (p *placer) replicate(n *ir.Node) {
	for group, devices := range p.groups(n) {
		for _, d := range devices {
			p.compute(n, p.tag(n, group), d)
		}
	}
}

// compute computes n whole on a device.
func (p *placer) compute(n *ir.Node, tag, device int) *ir.Node {
	if v := p.values[valueKey{n, tag, device}]; v != nil {
		return v
	}
	args := make([]*ir.Node, len(n.Args))
	for i, a := range n.Args {
		args[i] = p.whole(a, p.tag(a, tag), device)
	}
	return p.set(n, tag, p.add(n.Op, n, tag, device, n.Attrs, args...))
}

// set records that v is the value of n for a group.
func (p *placer) set(n *ir.Node, tag int, v *ir.Node) *ir.Node {
	p.values[valueKey{n, tag, v.Device}] = v
	p.sources[valueKey{n, tag, 0}] = append(p.sources[valueKey{n, tag, 0}], v.Device)
	return v
}

// whole returns the value of n on a device. It is transferred from another if
// it is not there.
func (p *placer) whole(n *ir.Node, tag, device int) *ir.Node {
	if v := p.values[valueKey{n, tag, device}]; v != nil {
		return v
	}
	if n.Op.Name == "weight" {
		return p.weight(n, device, noPart, nil)
	}
	if n.Op.Has(ir.Nullary) {
		v := p.add(n.Op, n, tag, device, n.Attrs)
		p.values[valueKey{n, tag, device}] = v
		return v
	}
	from := p.sources[valueKey{n, tag, 0}]
	if len(from) == 0 {
		return p.fail("internal error: nobody has %%%d %s for group %d", n.ID(), n.Op.Name, tag)
	}
	src := p.values[valueKey{n, tag, from[p.rank(device)%len(from)]}]
	v := p.collect("transfer", tag, []int{device}, nil, src)[0]
	p.values[valueKey{n, tag, device}] = v
	return v
}

// rank returns the place of a device in its token group where the present
// node is computed, so that each device of a stage has its own to hear from.
func (p *placer) rank(device int) int {
	for _, devices := range p.groups(p.now) {
		if i := slices.Index(devices, device); i >= 0 {
			return i
		}
	}
	return device
}

// add makes a node on a device; like gives layer, block, name and position.
func (p *placer) add(op *ir.OpInfo, like *ir.Node, tag, device int, attrs ir.Attrs, args ...*ir.Node) *ir.Node {
	if p.err != nil {
		return like
	}
	at := &ir.Node{Layer: like.Layer, Device: device, Group: tag, Block: like.Block, Pos: like.Pos}
	n, err := p.g.Add(op, args, attrs, at)
	if err != nil {
		return p.fail("internal error: placing %%%d %s: %w", like.ID(), like.Op.Name, err)
	}
	n.Name = like.Name
	if p.serving && p.served != nil {
		p.served[n] = true
	}
	return n
}

// collect makes a collective with a node on each of the devices.
func (p *placer) collect(op string, tag int, devices []int, attrs ir.Attrs, args ...*ir.Node) []*ir.Node {
	attrs = attrs.With("channel", p.channel)
	p.channel++
	list := make([]*ir.Node, len(devices))
	for i, d := range devices {
		list[i] = p.add(ir.Op(op), p.now, tag, d, attrs, args...)
		if p.err == nil {
			list[i].Name = ""
		}
	}
	return list
}

// fail records the first error. It returns a node so that callers can go on
// until the end of what they do.
func (p *placer) fail(format string, args ...any) *ir.Node {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
	return p.now
}

// finish sets the outputs, each on the first device of its group, removes what
// nobody reads and moves the result into g.
func (p *placer) finish(g *ir.Graph) {
	for _, o := range p.old.Outputs {
		p.now = o.Value
		for group, devices := range p.groups(o.Value) {
			p.g.Outputs = append(p.g.Outputs, ir.Output{Name: o.Name, Group: group, Value: p.whole(o.Value, p.tag(o.Value, group), devices[0])})
		}
	}
	placed := ir.NewGraph(g.Name)
	placed.Level, placed.Devices, placed.Groups = p.g.Level, p.g.Devices, p.g.Groups
	placed.Layers, placed.Numerics, placed.Weights, placed.Caches = g.Layers, g.Numerics, g.Weights, g.Caches
	placed.Outputs = p.g.Outputs
	for i, n := range p.read() {
		placed.Insert(n, int64(i))
	}
	*g = *placed
}

// read returns the nodes that outputs or effects need. Unlike dce it also
// drops members of a collective whose own result nobody reads: no device has
// been told to wait for them yet.
func (p *placer) read() []*ir.Node {
	live := make(map[*ir.Node]bool, len(p.g.Nodes))
	for _, o := range p.g.Outputs {
		live[o.Value] = true
	}
	for _, n := range slices.Backward(p.g.Nodes) {
		if live[n] || n.Op.Has(ir.Effect) {
			live[n] = true
			for _, a := range n.Args {
				live[a] = true
			}
		}
	}
	return slices.DeleteFunc(p.g.Nodes, func(n *ir.Node) bool { return !live[n] })
}
