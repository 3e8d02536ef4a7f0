// Package dot draws in the DOT language of graphviz.
//
// In goes an IR graph of any level, out comes text for people to look at: a
// cluster for each layer and in it one for each device. A Picture is what it
// draws with, and what plans are drawn with. The package never changes a
// graph and never lays one out.
package dot

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
)

// Graph draws g. Weights, constants and the lists of a step stand in the boxes
// of the operations that read them. With fold, of consecutive layers that are
// the same but for their weights the first is drawn, and its cluster says for
// how many it stands.
func Graph(g *ir.Graph, fold bool) ([]byte, error) {
	d := &drawing{
		p: NewPicture(title(g)), g: g, stands: standsFor(g, fold),
		nodes: make(map[*ir.Node]*Node), panels: make(map[place]*Panel), members: make(map[int][]*ir.Node), weights: make(map[string]*ir.Weight),
	}
	for _, w := range g.Weights {
		d.weights[w.Name] = w
	}
	for _, n := range g.Nodes {
		if n.Op.Has(ir.Collective) && d.drawn(n) {
			c := n.Attrs.Int("channel", 0)
			d.members[c] = append(d.members[c], n)
		}
	}
	for _, n := range g.Nodes {
		if d.drawn(n) {
			d.node(n)
		}
	}
	d.collectives()
	return d.p.DOT()
}

func title(g *ir.Graph) string {
	if g.Level == ir.Placed {
		return fmt.Sprintf("%s, placed on %d devices", g.Name, g.Devices)
	}
	return g.Name
}

// drawing is a graph being drawn.
type drawing struct {
	p       *Picture
	g       *ir.Graph
	stands  layers
	nodes   map[*ir.Node]*Node
	panels  map[place]*Panel
	members map[int][]*ir.Node // of each channel
	weights map[string]*ir.Weight
}

// place is a part of the picture.
type place struct {
	part, device int
	block        string
}

// drawn reports whether n gets a box: it is made in a step, in a layer that no
// other stands for.
func (d *drawing) drawn(n *ir.Node) bool {
	return !n.Op.Has(ir.Nullary) && !n.Op.Has(ir.Resident) && d.stands.of(n.Layer) == n.Layer
}

// node draws an operation and the edges from what it reads. What a member of a
// collective reads of another member is drawn between the two.
func (d *drawing) node(n *ir.Node) {
	v := d.panel(n).Box(d.box(n))
	d.nodes[n] = v
	for _, a := range n.Args {
		from := d.nodes[d.stands.node(a)]
		switch {
		case from == nil:
		case a.Device == n.Device && a.Layer != n.Layer:
			d.p.Edge(from, v, Carries, "")
		case a.Device == n.Device:
			d.p.Edge(from, v, Reads, "")
		case !d.member(n, a.Device):
			d.p.Edge(from, v, Sends, a.Type.String())
		}
	}
}

// member reports whether a device has a member of the collective of n.
func (d *drawing) member(n *ir.Node, device int) bool {
	return slices.ContainsFunc(d.members[n.Attrs.Int("channel", 0)], func(m *ir.Node) bool { return m.Device == device })
}

// collectives places the members of each beside each other and draws what
// passes between them.
func (d *drawing) collectives() {
	for _, n := range d.g.Nodes {
		c := n.Attrs.Int("channel", 0)
		if !n.Op.Has(ir.Collective) || len(d.members[c]) < 2 || d.members[c][0] != n {
			continue
		}
		var row []*Node
		for i, m := range d.members[c] {
			row = append(row, d.nodes[m])
			if i > 0 {
				d.p.Edge(row[i-1], row[i], Exchange, gives(d.members[c][i-1], m))
			}
		}
		d.p.Row(row...)
	}
}

// gives lists the types that two members contribute.
func gives(a, b *ir.Node) string {
	var types []string
	for _, m := range []*ir.Node{a, b} {
		for _, arg := range m.Args {
			if t := arg.Type.String(); arg.Device == m.Device && !slices.Contains(types, t) {
				types = append(types, t)
			}
		}
	}
	return strings.Join(types, " / ")
}

// panel returns the innermost panel of a node: that of its device or block in
// that of its layer.
func (d *drawing) panel(n *ir.Node) *Panel {
	part := n.Layer
	if part < 0 && d.stands.after[n] {
		part = d.g.Layers
	}
	outer := d.panels[place{part, Plain, ""}]
	if outer == nil {
		outer = d.p.Panel(d.label(part), Plain)
		d.panels[place{part, Plain, ""}] = outer
	}
	at := place{part, n.Device, ""}
	label := fmt.Sprintf("device %d", n.Device)
	if n.Device < 0 {
		at, label = place{part, Plain, n.Block}, n.Block
	}
	if d.panels[at] == nil {
		d.panels[at] = outer.Panel(label, n.Device)
	}
	return d.panels[at]
}

func (d *drawing) label(part int) string {
	switch part {
	case -1:
		return "before the layers"
	case d.g.Layers:
		return "after the layers"
	}
	return d.stands.label(part)
}

// box describes an operation.
func (d *drawing) box(n *ir.Node) Box {
	var body []string
	if g := n.Attrs.Body(); g != nil {
		for _, b := range g.Nodes {
			body = append(body, b.Op.Name)
		}
	}
	b := Box{Name: strings.Join(Summary(n.Op.Name, body), ", "), Device: n.Device, Joint: n.Op.Has(ir.Collective), Experts: experts(n), Type: n.Type.String()}
	if n.Name != "" {
		b.Name = n.Name + " = " + b.Name
	}
	var names []string
	for _, a := range n.Args {
		names = append(names, d.residents(a)...)
	}
	b.Details = Pack(names)
	return b
}

// residents names what an operand is if it has no box.
func (d *drawing) residents(a *ir.Node) []string {
	switch a.Op.Name {
	case "input":
		return []string{a.Attrs.Text("name")}
	case "weight":
		name := a.Attrs.Text("name")
		short := name[strings.LastIndex(name, ".")+1:]
		if w := d.weights[name]; w != nil {
			short += Slice(a.Attrs.Sets("slice"), w.Shape, w.Experts > 0)
		}
		return []string{short}
	case "pack":
		var names []string
		for _, w := range a.Args {
			names = append(names, d.residents(w)...)
		}
		return names
	}
	return nil
}

// Slice prints what is kept of a weight of the given shape: "[0:64]" or
// "[:,0:64]", or "" for all of it. The first axis may number experts, which are
// told apart.
func Slice(slice [][]int, whole []int, experts bool) string {
	var axes []string
	cut := false
	for i, r := range slice {
		switch {
		case i == 0 && experts:
		case i < len(whole) && len(r) == 2 && (r[0] > 0 || r[1] < whole[i]):
			axes, cut = append(axes, fmt.Sprintf("%d:%d", r[0], r[1])), true
		default:
			axes = append(axes, ":")
		}
	}
	if !cut {
		return ""
	}
	for axes[len(axes)-1] == ":" {
		axes = axes[:len(axes)-1]
	}
	return "[" + strings.Join(axes, ",") + "]"
}

// experts lists the experts that an operation works with.
func experts(n *ir.Node) []int {
	if e := n.Attrs.Ints("experts"); e != nil {
		return e
	}
	if g := n.Attrs.Body(); g != nil {
		for _, b := range g.Nodes {
			if e := experts(b); e != nil {
				return e
			}
		}
	}
	return nil
}
