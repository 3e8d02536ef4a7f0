package dot

import (
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/graph/encoding"
	"gonum.org/v1/gonum/graph/encoding/dot"
	"gonum.org/v1/gonum/graph/simple"
)

// Picture is a drawing in the making: boxes in panels, and edges.
type Picture struct {
	all   canvas
	count int   // of clusters
	most  int64 // bytes of the widest edge
}

// NewPicture returns an empty picture.
func NewPicture(title string) *Picture {
	return &Picture{all: canvas{DirectedGraph: simple.NewDirectedGraph(), title: title}}
}

// Panel is a frame around boxes and other panels.
type Panel struct {
	c *cluster
	p *Picture
}

// Plain is the colour of what belongs to no device.
const Plain = -1

// palette colours devices: the lane, and what stands out in it. Accents are
// Paul Tol's scheme "light", which the colour-blind can tell apart and on which
// black text can be read; lanes are a quarter of it on white. The ninth device
// looks like the first: a number stands beside every colour.
var palette = [...]struct{ lane, accent string }{
	{"#ddeaf6", "#77aadd"}, {"#fbe1d9", "#ee8866"}, {"#d0eee6", "#44bb99"}, {"#ffeaee", "#ffaabb"},
	{"#fbf6e1", "#eedd88"}, {"#eef2cc", "#bbcc33"}, {"#e6f6ff", "#99ddff"}, {"#eaeabf", "#aaaa00"},
}

// Colours is how many devices have colours of their own.
const Colours = len(palette)

// joint is the colour of what passes between devices.
const joint = "#e0a000"

// laneOf and accentOf return the colours of a device.
func laneOf(device int) string {
	if device < 0 {
		return "#fcfcfc"
	}
	return palette[device%len(palette)].lane
}

func accentOf(device int) string {
	if device < 0 {
		return "#cfd8dc"
	}
	return palette[device%len(palette)].accent
}

// Panel adds a panel, with lines of text in its corner, in a device's colour.
func (p *Picture) Panel(label string, device int) *Panel {
	panel := p.panel(label, device)
	p.all.parts = append(p.all.parts, panel.c)
	return panel
}

// Panel adds a panel inside another.
func (o *Panel) Panel(label string, device int) *Panel {
	panel := o.p.panel(label, device)
	o.c.parts = append(o.c.parts, panel.c)
	return panel
}

func (p *Picture) panel(label string, device int) *Panel {
	text := quote("")
	if label != "" {
		text = "<" + strings.ReplaceAll(html.EscapeString(label)+"\n", "\n", `<BR ALIGN="LEFT"/>`) + ">"
	}
	p.count++
	return &Panel{&cluster{simple.NewDirectedGraph(), "cluster_" + strconv.Itoa(p.count), attributes{
		{Key: "label", Value: text}, {Key: "labeljust", Value: "l"}, {Key: "style", Value: quote("rounded,filled")},
		{Key: "color", Value: quote("#b0b0b0")}, {Key: "fillcolor", Value: quote(laneOf(device))}, {Key: "fontsize", Value: "12"},
	}, nil}, p}
}

// Box is a step or an operation.
type Box struct {
	Name    string   // what it does, in bold
	Details []string // lines below
	Experts []int    // cells in the device's colour
	Type    string   // of the result, small
	Device  int      // or Plain
	Joint   bool     // done by several devices together
}

// Node is a box that was added.
type Node struct {
	id    int64
	lane  string // nodes of a lane stand below each other
	label string // HTML of graphviz
}

// ID implements graph.Node.
func (n *Node) ID() int64 { return n.id }

// DOTID implements dot.Node.
func (n *Node) DOTID() string { return member(n.id).DOTID() }

// Attributes implements encoding.Attributer.
func (n *Node) Attributes() []encoding.Attribute {
	a := attributes{{Key: "label", Value: "<" + n.label + ">"}}
	if n.lane != "" {
		a = append(a, encoding.Attribute{Key: "group", Value: n.lane})
	}
	return a
}

// Box adds a box outside all panels.
func (p *Picture) Box(b Box) *Node { return p.node(b.html()) }

// Box adds a box to a panel. Boxes of a device stand below each other.
func (o *Panel) Box(b Box) *Node {
	n := o.node(b.html())
	if b.Device >= 0 {
		n.lane = fmt.Sprintf("device%d", b.Device)
	}
	return n
}

// node adds a node to a panel.
func (o *Panel) node(label string) *Node {
	n := o.p.node(label)
	o.c.AddNode(member(n.id))
	return n
}

// node adds a node outside all panels.
func (p *Picture) node(label string) *Node {
	n := &Node{id: int64(p.all.Nodes().Len()), label: label}
	p.all.AddNode(n)
	return n
}

// member is a node in a cluster; what it looks like stands once, in the whole.
type member int64

// ID implements graph.Node.
func (m member) ID() int64 { return int64(m) }

// DOTID implements dot.Node.
func (m member) DOTID() string { return "n" + strconv.FormatInt(int64(m), 10) }

// Row places boxes beside each other.
func (p *Picture) Row(list ...*Node) {
	p.count++
	row := &cluster{simple.NewDirectedGraph(), "row_" + strconv.Itoa(p.count), attributes{{Key: "rank", Value: "same"}}, nil}
	for _, n := range list {
		row.AddNode(member(n.id))
	}
	p.all.parts = append(p.all.parts, row)
}

// Style is the kind of an edge.
type Style uint8

// The kinds.
const (
	Reads    Style = iota // a value that is read
	Follows               // only places the second below the first; not shown
	Carries               // from one panel to the next
	Sends                 // from one device to another
	Exchange              // between members of a collective, both ways
)

// styles has the attributes of each kind.
var styles = [...]attributes{
	Reads:    {{Key: "weight", Value: "20"}},
	Follows:  {{Key: "weight", Value: "20"}, {Key: "style", Value: "invis"}},
	Carries:  {{Key: "weight", Value: "5"}, {Key: "color", Value: `"#c8c8c8"`}, {Key: "arrowhead", Value: "none"}},
	Sends:    {{Key: "color", Value: `"` + joint + `"`}, {Key: "penwidth", Value: "2"}},
	Exchange: {{Key: "color", Value: `"` + joint + `"`}, {Key: "penwidth", Value: "2"}, {Key: "dir", Value: "both"}},
}

// Edge adds an edge, with a label if it is not empty. Between two boxes there
// is one edge; the first stays.
func (p *Picture) Edge(from, to *Node, style Style, label string) {
	if from.id == to.id || p.all.HasEdgeFromTo(from.id, to.id) {
		return
	}
	a := slices.Clone(styles[style])
	if label != "" {
		a = append(a, encoding.Attribute{Key: "label", Value: quote(label)})
	}
	p.all.SetEdge(&arrow{simple.Edge{F: from, T: to}, a})
}

// Traffic adds an edge that is as wide as what passes between two boxes in a
// step: bytes there, from the first to the second, and back. Widths are in
// proportion to the most bytes of any edge of the picture.
func (p *Picture) Traffic(from, to *Node, there, back int64, label string) {
	if from.id == to.id || p.all.HasEdgeFromTo(from.id, to.id) {
		return
	}
	dir := "both"
	switch {
	case back == 0:
		dir = "forward"
	case there == 0:
		dir = "back"
	}
	text := strings.ReplaceAll(html.EscapeString(label), "\n", "<BR/>")
	p.most = max(p.most, there+back)
	p.all.SetEdge(&river{arrow{simple.Edge{F: from, T: to}, attributes{{Key: "color", Value: quote(joint)}, {Key: "dir", Value: dir},
		{Key: "label", Value: `<<TABLE BORDER="0" CELLBORDER="0" CELLPADDING="3"><TR><TD WIDTH="` + strconv.Itoa(6+58*longest(label)/10) + `">` + text + `</TD></TR></TABLE>>`}}}, p, there + back}) // the padding keeps a wide edge off the text
}

// river is an edge with a width.
type river struct {
	arrow
	p     *Picture
	bytes int64
}

// Widths of edges, in tenths of a point: of no bytes, and what the most bytes
// add.
const (
	thin  = 10
	thick = 50
)

// Attributes implements encoding.Attributer.
func (r *river) Attributes() []encoding.Attribute {
	width := thin + thick*r.bytes/max(1, r.p.most)
	return append(slices.Clone(r.attributes), encoding.Attribute{Key: "penwidth", Value: fmt.Sprintf("%d.%d", width/10, width%10)})
}

// DOT returns the text.
func (p *Picture) DOT() ([]byte, error) { return dot.Marshal(&p.all, "", "", "  ") }

// canvas is a picture in gonum's terms.
type canvas struct {
	*simple.DirectedGraph
	title string
	parts []dot.Graph
}

// DOTAttributers implements dot.Attributers.
func (p *canvas) DOTAttributers() (g, n, e encoding.Attributer) {
	font := encoding.Attribute{Key: "fontname", Value: quote("Helvetica")}
	return attributes{{Key: "label", Value: quote(p.title)}, {Key: "labelloc", Value: "t"}, {Key: "fontsize", Value: "15"}, font, {Key: "newrank", Value: "true"},
			{Key: "nodesep", Value: "0.35"}, {Key: "ranksep", Value: "0.28"}, {Key: "bgcolor", Value: quote("white")}},
		attributes{{Key: "shape", Value: "plain"}, font, {Key: "fontsize", Value: "10"}},
		attributes{font, {Key: "fontsize", Value: "9"}, {Key: "fontcolor", Value: quote("#7a5a00")}, {Key: "color", Value: quote("#555555")}, {Key: "arrowsize", Value: "0.6"}}
}

// Structure implements dot.Structurer.
func (p *canvas) Structure() []dot.Graph { return p.parts }

// arrow is an edge with attributes.
type arrow struct {
	simple.Edge
	attributes
}

type attributes []encoding.Attribute

// Attributes implements encoding.Attributer.
func (a attributes) Attributes() []encoding.Attribute { return a }

// cluster is a box around nodes, or a row of nodes.
type cluster struct {
	*simple.DirectedGraph
	id    string
	own   attributes
	parts []dot.Graph
}

// DOTID implements dot.Graph.
func (c *cluster) DOTID() string { return c.id }

// DOTAttributers implements dot.Attributers.
func (c *cluster) DOTAttributers() (g, n, e encoding.Attributer) {
	return c.own, attributes{}, attributes{}
}

// Structure implements dot.Structurer.
func (c *cluster) Structure() []dot.Graph { return c.parts }

// quote makes a DOT string: only quotes and backslashes are special, and \n
// breaks the line.
func quote(s string) string {
	s = strings.ReplaceAll(s, `\`, `\\`)
	s = strings.ReplaceAll(s, `"`, `\"`)
	return `"` + strings.ReplaceAll(s, "\n", `\n`) + `"`
}

// html is the box in graphviz's HTML.
func (b Box) html() string {
	fill := "white"
	if b.Joint {
		fill = "#ffe9a8"
	}
	var out strings.Builder
	fmt.Fprintf(&out, `<TABLE BORDER="1" COLOR="#707070" STYLE="rounded" CELLBORDER="0" CELLSPACING="1" CELLPADDING="2" BGCOLOR="%s">`, fill)
	// Widths in points, for a wide font: text stays in its box whatever font
	// the reader has.
	text := func(s string, size float64, format string) {
		fmt.Fprintf(&out, `<TR><TD WIDTH="%.0f">`+format+`</TD></TR>`, 12+size*float64(len(s)), html.EscapeString(s))
	}
	text(b.Name, 7.2, `<B>%s</B>`)
	for _, d := range b.Details {
		text(d, 6.4, `%s`)
	}
	if len(b.Experts) > 0 {
		out.WriteString(`<TR><TD>` + chips(b.Experts, accentOf(b.Device)) + `</TD></TR>`)
	}
	if b.Type != "" {
		text(b.Type, 5.2, `<FONT POINT-SIZE="8" COLOR="#707070">%s</FONT>`)
	}
	out.WriteString(`</TABLE>`)
	return out.String()
}

// maxChips is how many experts get a cell each; more are drawn as runs.
const maxChips = 16

// chips draws experts as coloured cells, four in a row.
func chips(experts []int, color string) string {
	names := make([]string, len(experts))
	for i, e := range experts {
		names[i] = strconv.Itoa(e)
	}
	if len(experts) > maxChips {
		names = strings.Fields(Numbers(experts))
	}
	var b strings.Builder
	b.WriteString(`<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="3" CELLPADDING="2">`)
	for row := range slices.Chunk(names, 4) {
		b.WriteString(`<TR>`)
		for _, n := range row {
			fmt.Fprintf(&b, `<TD BGCOLOR="%s" WIDTH="22">%s</TD>`, color, n)
		}
		b.WriteString(`</TR>`)
	}
	b.WriteString(`</TABLE>`)
	return b.String()
}

// Numbers prints "0-3 7".
func Numbers(list []int) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if j > i {
			parts = append(parts, fmt.Sprintf("%d-%d", list[i], list[j]))
		} else {
			parts = append(parts, strconv.Itoa(list[i]))
		}
		i = j + 1
	}
	return strings.Join(parts, " ")
}

// quiet are ops of fused bodies that a picture does not mention.
var quiet = []string{"param", "const", "round", "slice", "reshape", "broadcast", "concat", "sum"}

// Summary names the ops of a fused body that tell what it does, each once, or
// the fused op itself if none does.
func Summary(op string, body []string) []string {
	var names []string
	for _, b := range body {
		if !slices.Contains(quiet, b) && !slices.Contains(names, b) {
			names = append(names, b)
		}
	}
	if len(names) == 0 {
		return []string{op}
	}
	return names
}

// Pack joins short names to lines. Names with slices have a line each.
func Pack(names []string) []string {
	const most = 22 // letters
	var lines []string
	for _, t := range names {
		if n := len(lines); n > 0 && !strings.Contains(lines[n-1]+t, "[") && len(lines[n-1])+1+len(t) <= most {
			lines[n-1] += " " + t
		} else {
			lines = append(lines, t)
		}
	}
	return lines
}
