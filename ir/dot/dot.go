// Package dot draws graphs of the IR in the DOT language.
//
// In goes a graph at any level, out comes text for graphviz: a cluster for each
// layer, in a placed graph one for each device in it, a box for each operation
// with the weights and experts that it uses, and an edge for each value that it
// reads. It never changes a graph and never lays one out.
package dot

import (
	"fmt"
	"strings"

	"gonum.org/v1/gonum/graph"
	"gonum.org/v1/gonum/graph/encoding"
	"gonum.org/v1/gonum/graph/encoding/dot"
	"gonum.org/v1/gonum/graph/simple"

	"moec/ir"
)

// Graph draws g. With fold, of consecutive layers that are the same but for
// their weights the first is drawn, and its cluster says for how many it
// stands.
func Graph(g *ir.Graph, fold bool) ([]byte, error) {
	d := &drawing{DirectedGraph: simple.NewDirectedGraph(), g: g, boxes: make(map[*ir.Node]*box), clusters: make(map[string]*cluster)}
	d.stands = standsFor(g, fold)
	for _, n := range g.Nodes {
		d.node(n)
	}
	return dot.Marshal(d, g.Name, "", "  ")
}

// drawing is the picture in gonum's terms.
type drawing struct {
	*simple.DirectedGraph
	g        *ir.Graph
	stands   layers
	boxes    map[*ir.Node]*box
	clusters map[string]*cluster
	top      []dot.Graph
}

// box is a drawn operation.
type box struct {
	id    int64
	label string
	fill  string
}

func (b *box) ID() int64     { return b.id }
func (b *box) DOTID() string { return fmt.Sprintf("n%d", b.id) }
func (b *box) Attributes() []encoding.Attribute {
	return []encoding.Attribute{{Key: "label", Value: quote(b.label)}, {Key: "fillcolor", Value: quote(b.fill)}}
}

// quote makes a DOT string: only quotes and backslashes are special, and \n
// breaks the line.
func quote(s string) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s)
	return `"` + s + `"`
}

// cluster is a frame around boxes.
type cluster struct {
	*simple.DirectedGraph
	id, label string
	parts     []dot.Graph
}

func (c *cluster) DOTID() string          { return "cluster_" + c.id }
func (c *cluster) Structure() []dot.Graph { return c.parts }
func (c *cluster) DOTAttributers() (g, n, e encoding.Attributer) {
	return attributes{{Key: "label", Value: quote(c.label)}, {Key: "style", Value: "rounded"}}, attributes{}, attributes{}
}

type attributes []encoding.Attribute

func (a attributes) Attributes() []encoding.Attribute { return a }

func (d *drawing) DOTID() string          { return quote(d.g.Name) }
func (d *drawing) Structure() []dot.Graph { return d.top }
func (d *drawing) DOTAttributers() (g, n, e encoding.Attributer) {
	return attributes{{Key: "newrank", Value: "true"}, {Key: "fontname", Value: quote("Helvetica")}},
		attributes{{Key: "shape", Value: "box"}, {Key: "style", Value: "filled"}, {Key: "fontname", Value: quote("Helvetica")}, {Key: "fontsize", Value: "10"}},
		attributes{{Key: "color", Value: quote("#555555")}}
}

// node draws an operation and the edges from what it reads. Operations without
// operands show in the labels of their readers; those of a layer that another
// stands for are not drawn.
func (d *drawing) node(n *ir.Node) {
	if n.Op.Has(ir.Nullary) || d.stands.of(n.Layer) != n.Layer {
		return
	}
	b := &box{id: int64(len(d.boxes)), label: label(n), fill: fill(n)}
	d.boxes[n] = b
	d.AddNode(b)
	d.frame(n).AddNode(b)
	for _, a := range n.Args {
		from := d.boxes[d.stands.node(a)]
		if from != nil && from.id != b.id && !d.HasEdgeFromTo(from.id, b.id) {
			d.SetEdge(d.NewEdge(from, b))
		}
	}
}

// frame returns the innermost cluster of a node, making it and the one around
// it when they are new.
func (d *drawing) frame(n *ir.Node) *cluster {
	id, text := "model", "outside the layers"
	if n.Layer >= 0 {
		id, text = fmt.Sprintf("layer%d", n.Layer), d.stands.label(n.Layer)
	}
	outer := d.cluster(nil, id, text)
	if n.Device < 0 {
		return outer
	}
	return d.cluster(outer, fmt.Sprintf("%s_device%d", outer.id, n.Device), fmt.Sprintf("device %d", n.Device))
}

func (d *drawing) cluster(outer *cluster, id, label string) *cluster {
	if c, ok := d.clusters[id]; ok {
		return c
	}
	c := &cluster{DirectedGraph: simple.NewDirectedGraph(), id: id, label: label}
	d.clusters[id] = c
	if outer == nil {
		d.top = append(d.top, c)
	} else {
		outer.parts = append(outer.parts, c)
	}
	return c
}

// label names an operation, its author's name for it, its weights, its
// experts and its type.
func label(n *ir.Node) string {
	name := n.Op.Name
	if n.Op.Name == "fused" {
		name = n.Attrs.Text("kind")
	}
	if n.Name != "" {
		name = n.Name + " = " + name
	}
	lines := []string{name}
	for _, a := range n.Args {
		if a.Op.Name == "weight" {
			lines = append(lines, a.Attrs.Text("name"))
		}
	}
	if e := n.Attrs.Ints("experts"); e != nil {
		lines = append(lines, strings.Trim(strings.ReplaceAll(fmt.Sprintf("experts %v", e), "[", ""), "]"))
	}
	return strings.Join(append(lines, n.Type.String()), "\n")
}

// fill marks collectives and contractions.
func fill(n *ir.Node) string {
	switch {
	case n.Op.Has(ir.Collective):
		return "#ffd966"
	case len(n.Args) > 1 && n.Args[1].Op.Has(ir.Resident):
		return "#dbe9f6"
	}
	return "white"
}

var _ graph.Directed = (*drawing)(nil)
