package plan

import (
	"fmt"
	"html"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/graph"
	"gonum.org/v1/gonum/graph/encoding"
	"gonum.org/v1/gonum/graph/encoding/dot"
	"gonum.org/v1/gonum/graph/simple"
)

// DOT draws a plan: a cluster for each block and in it one for each device,
// with its steps as boxes from top to bottom and experts by number. The
// members of a collective are beside each other, joined by edges that say what
// passes between them. Steps that only move, round or scale what another made
// are left out. A block that runs for several layers is drawn once and says
// so.
func DOT(p *Plan) ([]byte, error) {
	d := &drawing{DirectedGraph: simple.NewDirectedGraph(), title: title(p)}
	last := make(map[int]graph.Node) // by device: where the block before ended
	for _, panel := range panels(p) {
		last = d.panel(panel, last)
	}
	return dot.Marshal(d, "", "", "  ")
}

// title says what the plan is for.
func title(p *Plan) string {
	strategy := ""
	if p.Placement.Strategy != "" {
		strategy = p.Placement.Strategy + ", "
	}
	return fmt.Sprintf("%s on %d devices of %s\n%s parameters, %d layers, %s%s numerics", p.Model.Name, len(p.Memory), p.Machine.Name, Count(p.Model.Params), p.Model.Layers, strategy, p.Numerics.Mode)
}

// drawing is the whole graph in gonum's terms.
type drawing struct {
	*simple.DirectedGraph
	title string
	parts []dot.Graph
}

// vertex is a box.
type vertex struct {
	id    int64
	lane  string // nodes of a lane stand below each other
	label string // HTML of graphviz
}

func (v *vertex) ID() int64     { return v.id }
func (v *vertex) DOTID() string { return "n" + strconv.FormatInt(v.id, 10) }
func (v *vertex) Attributes() []encoding.Attribute {
	return attributes{{Key: "label", Value: "<" + v.label + ">"}, {Key: "group", Value: quote(v.lane)}}
}

// arrow is an edge with attributes.
type arrow struct {
	simple.Edge
	attributes
}

type attributes []encoding.Attribute

func (a attributes) Attributes() []encoding.Attribute { return a }

// cluster is a box around nodes, or a row of nodes.
type cluster struct {
	*simple.DirectedGraph
	id    string
	own   attributes
	parts []dot.Graph
}

func (c *cluster) DOTID() string { return c.id }
func (c *cluster) DOTAttributers() (g, n, e encoding.Attributer) {
	return c.own, attributes{}, attributes{}
}
func (c *cluster) Structure() []dot.Graph { return c.parts }

func box(id, label, fill string) *cluster {
	return &cluster{DirectedGraph: simple.NewDirectedGraph(), id: "cluster_" + id, own: attributes{
		{Key: "label", Value: "<" + strings.ReplaceAll(html.EscapeString(label)+"\n", "\n", `<BR ALIGN="LEFT"/>`) + ">"}, {Key: "labeljust", Value: "l"}, {Key: "style", Value: quote("rounded,filled")},
		{Key: "color", Value: quote("#b0b0b0")}, {Key: "fillcolor", Value: quote(fill)}, {Key: "fontsize", Value: "12"},
	}}
}

// quote makes a DOT string: only quotes and backslashes are special, and \n
// breaks the line.
func quote(s string) string {
	s = strings.ReplaceAll(s, `\`, `\\`)
	s = strings.ReplaceAll(s, `"`, `\"`)
	return `"` + strings.ReplaceAll(s, "\n", `\n`) + `"`
}

func (d *drawing) DOTAttributers() (g, n, e encoding.Attributer) {
	font := encoding.Attribute{Key: "fontname", Value: quote("Helvetica")}
	return attributes{{Key: "label", Value: quote(d.title)}, {Key: "labelloc", Value: "t"}, {Key: "fontsize", Value: "15"}, font, {Key: "newrank", Value: "true"},
			{Key: "nodesep", Value: "0.35"}, {Key: "ranksep", Value: "0.28"}, {Key: "bgcolor", Value: quote("white")}},
		attributes{{Key: "shape", Value: "plain"}, font, {Key: "fontsize", Value: "10"}},
		attributes{font, {Key: "fontsize", Value: "9"}, {Key: "fontcolor", Value: quote("#7a5a00")}, {Key: "color", Value: quote("#555555")}, {Key: "arrowsize", Value: "0.6"}}
}
func (d *drawing) Structure() []dot.Graph { return d.parts }

// palette colours devices: the lane, and what stands out in it. The ninth
// device looks like the first.
var palette = [...]struct{ lane, accent string }{
	{"#e4eef9", "#8db8e8"}, {"#fdebdc", "#f2b27c"}, {"#e6f3e0", "#97cf85"}, {"#f8e4ef", "#e39cc4"},
	{"#fdf6d3", "#e6cf5c"}, {"#ebe6f7", "#b3a0e0"}, {"#ddf2f2", "#7fcaca"}, {"#efefef", "#bbbbbb"},
}

// joint is the colour of collectives.
const joint = "#e0a000"

// panel adds a block, below the one before, and returns where each device's
// lane ends.
func (d *drawing) panel(p *panel, last map[int]graph.Node) map[int]graph.Node {
	outer := box(p.name, p.label, "#fcfcfc")
	nodes := make([]graph.Node, len(p.steps))
	lanes := make(map[int]*cluster)
	end := make(map[int]graph.Node)
	for device, n := range last {
		end[device] = n
	}
	for i, s := range p.steps {
		lane := lanes[s.device]
		if lane == nil {
			lane = box(fmt.Sprintf("%s_%d", p.name, s.device), p.lane(s.device), palette[s.device%len(palette)].lane)
			lanes[s.device] = lane
			outer.parts = append(outer.parts, lane)
		}
		v := &vertex{id: int64(d.Nodes().Len()), lane: fmt.Sprintf("device %d", s.device), label: s.html()}
		d.AddNode(v)
		lane.AddNode(v)
		nodes[i] = v
		if before, ok := last[s.device]; ok && s.first {
			d.edge(before, v, attributes{{Key: "weight", Value: "20"}, {Key: "color", Value: quote("#c8c8c8")}, {Key: "arrowhead", Value: "none"}})
		}
		end[s.device] = v
	}
	for _, e := range p.edges {
		d.edge(nodes[e.from], nodes[e.to], e.attributes())
	}
	for i, row := range p.rows {
		r := &cluster{DirectedGraph: simple.NewDirectedGraph(), id: fmt.Sprintf("%s_row%d", p.name, i), own: attributes{{Key: "rank", Value: "same"}}}
		for _, at := range row {
			r.AddNode(nodes[at])
		}
		d.parts = append(d.parts, r)
	}
	d.parts = append(d.parts, outer)
	return end
}

func (d *drawing) edge(from, to graph.Node, a attributes) {
	d.SetEdge(&arrow{simple.Edge{F: from, T: to}, a})
}
