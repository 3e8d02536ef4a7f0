package plan

import (
	"fmt"
	"slices"
	"strings"

	"gonum.org/v1/gonum/graph"
	"gonum.org/v1/gonum/graph/encoding"
	"gonum.org/v1/gonum/graph/encoding/dot"
	"gonum.org/v1/gonum/graph/simple"

	"moec/ir"
	"moec/ir/tensor"
)

// DOT draws a program: a cluster for each block and in it one for each
// device, with its steps as boxes, experts by number, and collectives as
// ellipses between the devices. Steps that only move, round or scale what
// another made are left out. A block that runs for several layers is drawn once
// and says so.
func DOT(p *Plan) ([]byte, error) {
	d := &drawing{g: simple.NewDirectedGraph(), p: p}
	for i := range p.Programs {
		for _, r := range p.Programs[i].Runs {
			d.run(&p.Programs[i], r)
		}
	}
	return dot.Marshal(d, p.Model.Name, "", "  ")
}

// drawing is the whole graph in gonum's terms.
type drawing struct {
	g        *simple.DirectedGraph
	p        *Plan
	clusters []dot.Graph
	seen     map[string]bool
	last     map[int]graph.Node // by device: the end of the block before
}

// vertex is a box or an ellipse.
type vertex struct {
	id    int64
	label string
	shape string
	fill  string
}

func (v *vertex) ID() int64     { return v.id }
func (v *vertex) DOTID() string { return fmt.Sprintf("n%d", v.id) }
func (v *vertex) Attributes() []encoding.Attribute {
	return []encoding.Attribute{{Key: "label", Value: quote(v.label)}, {Key: "shape", Value: v.shape}, {Key: "fillcolor", Value: quote(v.fill)}}
}

// arrow is an edge with a label.
type arrow struct {
	simple.Edge
	label string
}

func (a *arrow) Attributes() []encoding.Attribute {
	if a.label == "" {
		return nil
	}
	return []encoding.Attribute{{Key: "label", Value: quote(a.label)}}
}

// quote makes a DOT string: only quotes and backslashes are special, and \n
// breaks the line.
func quote(s string) string {
	s = strings.ReplaceAll(s, `\`, `\\`)
	s = strings.ReplaceAll(s, `"`, `\"`)
	return `"` + strings.ReplaceAll(s, "\n", `\n`) + `"`
}

// cluster is a box around nodes.
type cluster struct {
	*simple.DirectedGraph
	id, label, color string
	parts            []dot.Graph
}

func (c *cluster) DOTID() string { return "cluster_" + c.id }
func (c *cluster) DOTAttributers() (g, n, e encoding.Attributer) {
	return attributes{{Key: "label", Value: quote(c.label)}, {Key: "style", Value: quote("rounded,filled")}, {Key: "color", Value: quote("#888888")}, {Key: "fillcolor", Value: quote(c.color)}}, attributes{}, attributes{}
}
func (c *cluster) Structure() []dot.Graph { return c.parts }

type attributes []encoding.Attribute

func (a attributes) Attributes() []encoding.Attribute { return a }

func (d *drawing) DOTID() string { return quote(d.p.Model.Name) }
func (d *drawing) DOTAttributers() (g, n, e encoding.Attributer) {
	return attributes{{Key: "rankdir", Value: "TB"}, {Key: "fontname", Value: quote("Helvetica")}, {Key: "compound", Value: "true"}, {Key: "newrank", Value: "true"}},
		attributes{{Key: "style", Value: "filled"}, {Key: "fontname", Value: quote("Helvetica")}, {Key: "fontsize", Value: "10"}, {Key: "margin", Value: quote("0.08,0.04")}},
		attributes{{Key: "fontsize", Value: "8"}, {Key: "fontname", Value: quote("Helvetica")}, {Key: "color", Value: quote("#555555")}}
}
func (d *drawing) Structure() []dot.Graph         { return d.clusters }
func (d *drawing) Node(id int64) graph.Node       { return d.g.Node(id) }
func (d *drawing) Nodes() graph.Nodes             { return d.g.Nodes() }
func (d *drawing) From(id int64) graph.Nodes      { return d.g.From(id) }
func (d *drawing) HasEdgeBetween(x, y int64) bool { return d.g.HasEdgeBetween(x, y) }
func (d *drawing) Edge(u, v int64) graph.Edge     { return d.g.Edge(u, v) }
func (d *drawing) HasEdgeFromTo(u, v int64) bool  { return d.g.HasEdgeFromTo(u, v) }
func (d *drawing) To(id int64) graph.Nodes        { return d.g.To(id) }

var _ graph.Directed = (*drawing)(nil)

// palette colours devices; the ninth looks like the first.
var palette = []string{"#dbe9f6", "#fde3cf", "#dff0d8", "#f6dbe9", "#fff5c2", "#e3dcf3", "#d5efef", "#eeeeee"}

// run draws a block, unless it was drawn for other layers already.
func (d *drawing) run(prog *Program, r Run) {
	if d.seen == nil {
		d.seen, d.last = make(map[string]bool), make(map[int]graph.Node)
	}
	if d.seen[r.Block] {
		return
	}
	d.seen[r.Block] = true
	i := slices.IndexFunc(prog.Blocks, func(b Block) bool { return b.Name == r.Block })
	if i < 0 {
		return
	}
	b := &prog.Blocks[i]
	outer := &cluster{DirectedGraph: simple.NewDirectedGraph(), id: r.Block, label: blockLabel(prog, r.Block), color: "#fafafa"}
	a := &artist{drawing: d, block: b, made: make(map[bufKey]graph.Node), meet: make(map[int]graph.Node), before: d.last, outer: outer}
	d.last = make(map[int]graph.Node)
	for qi := range b.Queues {
		a.queue(&b.Queues[qi])
	}
	d.clusters = append(d.clusters, outer)
}

// blockLabel says which layers a block runs for.
func blockLabel(prog *Program, block string) string {
	var layers []string
	count := 0
	for _, r := range prog.Runs {
		if r.Block == block && r.Layers != NoLayers {
			layers = append(layers, r.Layers.String())
			count += r.Layers.Len()
		}
	}
	switch {
	case count == 0:
		return block
	case count == 1:
		return "layer " + layers[0]
	}
	return fmt.Sprintf("layers %s: %d with the same plan, drawn once", strings.Join(layers, ", "), count)
}

// artist draws one block.
type artist struct {
	*drawing
	block  *Block
	made   map[bufKey]graph.Node // the drawn step that a buffer's value is from
	meet   map[int]graph.Node    // by channel
	before map[int]graph.Node
	outer  *cluster
}

func (a *artist) add(in *cluster, v *vertex) graph.Node {
	v.id = int64(a.g.Nodes().Len())
	a.g.AddNode(v)
	in.AddNode(v)
	return v
}

func (a *artist) queue(q *Queue) {
	c := &cluster{DirectedGraph: simple.NewDirectedGraph(), id: fmt.Sprintf("%s_%d", a.block.Name, q.Device), label: fmt.Sprintf("device %d", q.Device), color: palette[q.Device%len(palette)]}
	a.outer.parts = append(a.outer.parts, c)
	for i := range q.Steps {
		s := &q.Steps[i]
		from := a.sources(s)
		node := latest(from)
		if drawn(s) {
			node = a.node(c, q.Device, s)
			a.edges(s, from, node)
		}
		if s.Out != "" && node != nil {
			a.made[bufKey{q.Device, s.Out}] = node
			a.last[q.Device] = node
		}
	}
}

// drawn reports whether a step gets a box of its own.
func drawn(s *Step) bool {
	switch s.Op {
	case "attention", "topk", "combine", "combine_nodes":
		return true
	}
	return OpInfo(s.Op).Has(ir.Collective) || weightName(s) != ""
}

// sources returns, for each operand, the drawn step that it is from, or nil.
func (a *artist) sources(s *Step) []graph.Node {
	list := make([]graph.Node, len(s.Args))
	for i, arg := range s.Args {
		if arg.Kind != BufferRef || isInput(arg.Name) {
			continue
		}
		if n, ok := a.made[bufKey{arg.Device, arg.Name}]; ok {
			list[i] = n
		} else if strings.HasPrefix(arg.Name, "x") {
			list[i] = a.before[arg.Device]
		}
	}
	return list
}

// latest returns the source that was drawn last.
func latest(list []graph.Node) graph.Node {
	var last graph.Node
	for _, n := range list {
		if n != nil && (last == nil || n.ID() > last.ID()) {
			last = n
		}
	}
	return last
}

// node draws a step; the members of a collective are one ellipse.
func (a *artist) node(c *cluster, device int, s *Step) graph.Node {
	if !OpInfo(s.Op).Has(ir.Collective) {
		return a.add(c, &vertex{label: a.label(device, s), shape: "box", fill: "white"})
	}
	channel := s.Attrs.Int("channel", 0)
	if n, ok := a.meet[channel]; ok {
		return n
	}
	n := a.add(a.outer, &vertex{label: strings.ReplaceAll(s.Op, "_", " "), shape: "ellipse", fill: "#ffd966"})
	a.meet[channel] = n
	return n
}

// edges draws what a step reads.
func (a *artist) edges(s *Step, from []graph.Node, node graph.Node) {
	for i, n := range from {
		if n == nil || n.ID() == node.ID() || a.g.HasEdgeFromTo(n.ID(), node.ID()) {
			continue
		}
		e := &arrow{Edge: simple.Edge{F: n, T: node}}
		if OpInfo(s.Op).Has(ir.Collective) {
			e.label = perRow(a.typeOf(s.Args[i].Device, s.Args[i].Name))
		}
		a.g.SetEdge(e)
	}
}

func (a *artist) typeOf(device int, name string) tensor.Type {
	for _, b := range a.block.Buffers {
		if b.Name == name && b.Device == device {
			return b.Type
		}
	}
	return tensor.Type{}
}

// perRow is the size of a value for each token or wanted row.
func perRow(t tensor.Type) string {
	switch t.Shape.Sym().Base() {
	case tensor.Tokens:
		return Bytes(int64(t.Shape.Static()*t.DType.Bytes())) + " a token"
	case tensor.Rows:
		return Bytes(int64(t.Shape.Static()*t.DType.Bytes())) + " a row"
	}
	return ""
}

// weightName lists the weights that a step or its body reads.
func weightName(s *Step) string {
	var names []string
	for _, arg := range s.Args {
		if arg.Kind != WeightRef {
			continue
		}
		for _, part := range strings.Split(arg.Name, "+") {
			names = append(names, part[strings.LastIndex(part, ".")+1:])
		}
	}
	return strings.Join(names, " ")
}

// label names a step, its weights, its experts and its result.
func (a *artist) label(device int, s *Step) string {
	name := strings.ReplaceAll(s.Op, "_", " ")
	if s.Op == "fused" {
		name = s.Attrs.Text("kind")
	}
	lines := []string{name}
	if w := weightName(s); w != "" {
		lines = append(lines, w)
	}
	if e := expertsOf(s); e != nil {
		lines = append(lines, "experts "+numbers(e))
	}
	if t := a.typeOf(device, s.Out); t.DType != tensor.Invalid {
		lines = append(lines, t.String())
	}
	return strings.Join(lines, "\n")
}

func expertsOf(s *Step) []int {
	if e := s.Attrs.Ints("experts"); e != nil {
		return e
	}
	for i := range s.Body {
		if e := s.Body[i].Attrs.Ints("experts"); e != nil {
			return e
		}
	}
	return nil
}

// numbers prints "0-3 7".
func numbers(list []int) string {
	var parts []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		if j > i {
			parts = append(parts, fmt.Sprintf("%d-%d", list[i], list[j]))
		} else {
			parts = append(parts, fmt.Sprint(list[i]))
		}
		i = j + 1
	}
	return strings.Join(parts, " ")
}
