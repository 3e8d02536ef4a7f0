package ir

import (
	"strings"

	"moec/ir/diag"
	"moec/ir/tensor"
)

// Limits of the IR text. A Mixtral graph placed on 4 devices has 1 MB.
const (
	maxText  = 1 << 28 // bytes
	maxDepth = 16      // bodies in bodies
	maxID    = 1 << 50
)

// Parse reads IR text; name stands for it in error positions. It checks the
// form only: that ops and attributes exist and that operands are defined
// somewhere. Verify checks the rest.
func Parse(name, text string) (*Graph, error) {
	p := parser{scanner: scanner{file: name, text: text}}
	if len(text) > maxText {
		p.fail(0, "text has %d bytes, the limit is %d", len(text), maxText)
		return nil, p.err
	}
	p.next()
	g := p.graph(0)
	if p.err == nil && p.tok.kind != endToken {
		p.fail(p.tok.at, "found %s after the graph", p.tok)
	}
	if p.err != nil {
		return nil, p.err
	}
	return g, nil
}

type parser struct {
	scanner
	source string
}

// use is a mention of a value, resolved when the graph has been read.
type use struct {
	at int
	id int64
	to func(*Node)
}

// names is what a graph's text refers to by number.
type names struct {
	nodes map[int64]*Node
	uses  []use
}

func (p *parser) graph(depth int) *Graph {
	at := p.tok.at
	if depth > maxDepth {
		p.fail(at, "bodies are nested more than %d deep", maxDepth)
	}
	p.expect("graph")
	g := NewGraph(p.quoted("the graph's name"))
	switch {
	case p.accept("logical"):
	case p.accept("placed"):
		g.Level = Placed
	default:
		p.fail(p.tok.at, "found %s, want logical or placed", p.tok)
	}
	p.expect("{")
	outer := p.source
	p.source = ""
	known := names{nodes: map[int64]*Node{}}
	for p.err == nil && !p.is("}") {
		p.item(g, &known, depth)
	}
	p.source = outer
	p.expect("}")
	for _, u := range known.uses {
		n, ok := known.nodes[u.id]
		if !ok {
			p.fail(u.at, "%%%d is not defined", u.id)
			break
		}
		u.to(n)
	}
	return g
}

// items are the lines of a graph by their first word; nodes start with %.
var items = map[string]func(*parser, *Graph, *names){
	"numerics": func(p *parser, g *Graph, _ *names) {
		g.Numerics = Numerics{Mode: Mode(p.wordOrQuoted("a mode")), Segments: p.int()}
	},
	"next": func(p *parser, g *Graph, _ *names) {
		p.expect("%")
		g.nextID = max(g.nextID, p.id())
	},
	"source": func(p *parser, _ *Graph, _ *names) { p.source = p.quoted("a file name") },
	"weight": func(p *parser, g *Graph, _ *names) { g.Weights = append(g.Weights, p.weight()) },
	"cache":  func(p *parser, g *Graph, _ *names) { g.Caches = append(g.Caches, p.cache()) },
	"output": (*parser).output,
}

func (p *parser) item(g *Graph, known *names, depth int) {
	t := p.tok
	if p.accept("%") {
		p.node(g, known, depth)
		return
	}
	word := p.word("a node, weight, cache, output or header line")
	if read, ok := items[word]; ok {
		read(p, g, known)
		return
	}
	for _, c := range graphCounts {
		if c.name == word {
			*c.field(g) = p.int()
			return
		}
	}
	if p.err == nil {
		p.fail(t.at, "found %s, want a node, weight, cache, output or header line", t)
	}
}

func (p *parser) id() int64 {
	t := p.tok
	n := p.int()
	if n < 0 || n > maxID {
		p.fail(t.at, "ID %d is not between 0 and %d", n, maxID)
		return 0
	}
	return int64(n)
}

// value reads a mention of a value.
func (p *parser) value(known *names, to func(*Node)) {
	at := p.tok.at
	p.expect("%")
	known.uses = append(known.uses, use{at, p.id(), to})
}

func (p *parser) output(g *Graph, known *names) {
	o := Output{Name: p.quoted("the output's name")}
	if p.accept("@") {
		p.expect("group")
		o.Group = p.int()
	}
	p.expect("=")
	i := len(g.Outputs)
	g.Outputs = append(g.Outputs, o)
	p.value(known, func(n *Node) { g.Outputs[i].Value = n })
}

func (p *parser) dtype() tensor.DType {
	t := p.tok
	d, ok := tensor.ParseDType(p.word("an element type"))
	if !ok && p.err == nil {
		p.fail(t.at, "found %s, want an element type: f32, bf16, f16 or i32", t)
	}
	return d
}

func (p *parser) ints() []int {
	list := []int{}
	p.list(func() { list = append(list, p.int()) })
	return list
}

func (p *parser) layer() int {
	if !p.accept("@") {
		return -1
	}
	p.expect("layer")
	return p.int()
}

func (p *parser) weight() *Weight {
	w := &Weight{Name: p.quoted("the weight's name"), DType: p.dtype(), Shape: p.ints()}
	if p.accept("experts") {
		w.Experts = p.int()
	}
	w.Layer = p.layer()
	if !p.accept("from") {
		return w
	}
	s := &w.Source
	s.Key, s.Stored = p.quoted("a key"), p.ints()
	if p.accept("view") {
		s.View = []Axis{}
		p.list(func() { s.View = append(s.View, p.axis()) })
	} else {
		s.View = wholeView(s.Stored)
	}
	s.Transposed = p.accept("transposed")
	return w
}

func (p *parser) axis() Axis {
	a := Axis{Expert: p.accept("expert")}
	if a.Expert && p.tok.kind != numberToken {
		return a
	}
	a.Lo = p.int()
	p.expect(":")
	a.Hi, a.Step = p.int(), 1
	if p.accept(":") {
		a.Step = p.int()
	}
	return a
}

func (p *parser) cache() *Cache {
	c := &Cache{Name: p.quoted("the cache's name"), DType: p.dtype()}
	for _, f := range []struct {
		name  string
		field *int
	}{{"heads", &c.Heads}, {"key", &c.KeyDim}, {"value", &c.ValDim}} {
		p.expect(f.name)
		*f.field = p.int()
	}
	if p.accept("window") {
		c.Window = p.int()
	}
	c.Layer = p.layer()
	return c
}

// node reads a node after its %.
func (p *parser) node(g *Graph, known *names, depth int) {
	at := p.tok.at
	id := p.id()
	if known.nodes[id] != nil {
		p.fail(at, "%%%d is defined twice", id)
		return
	}
	p.expect("=")
	n := &Node{Layer: -1, Device: -1, Group: -1}
	at = p.tok.at
	name := p.word("an op")
	if n.Op = Op(name); n.Op == nil {
		p.fail(at, "no op is called %q", name)
		return
	}
	p.operands(n, known)
	p.attrs(n, depth)
	p.expect(":")
	n.Type = p.valueType()
	p.place(n)
	if p.err == nil {
		known.nodes[id] = n
		g.Insert(n, id)
	}
}

func (p *parser) operands(n *Node, known *names) {
	if !p.accept("(") {
		return
	}
	for p.err == nil && !p.is(")") {
		i := len(n.Args)
		n.Args = append(n.Args, nil)
		p.value(known, func(a *Node) { n.Args[i] = a })
		if !p.is(")") {
			p.expect(",")
		}
	}
	p.expect(")")
}

func (p *parser) attrs(n *Node, depth int) {
	if !p.accept("{") {
		return
	}
	for p.err == nil && !p.is("}") {
		at := p.tok.at
		name := p.word("an attribute")
		info, ok := attrInfo(n.Op, name)
		switch {
		case !ok:
			p.fail(at, "%s has no attribute %q", n.Op.Name, name)
		case n.Attrs.Has(name):
			p.fail(at, "attribute %q is given twice", name)
		}
		p.expect("=")
		if p.err == nil {
			n.Attrs = append(n.Attrs, Attr{name, p.attr(info.Kind, depth)})
		}
		if !p.is("}") {
			p.expect(",")
		}
	}
	p.expect("}")
	n.Attrs = MakeAttrs(n.Attrs...)
}

func (p *parser) attr(kind AttrKind, depth int) any {
	switch kind {
	case Int:
		return p.int()
	case Float:
		return p.float(64)
	case Text:
		return p.quoted("a text")
	case Ints:
		return p.ints()
	case Sets:
		list := [][]int{}
		p.list(func() { list = append(list, p.ints()) })
		return list
	case Floats:
		list := []float32{}
		p.list(func() { list = append(list, float32(p.float(32))) })
		return list
	case DTypes:
		return p.dtype()
	}
	return p.graph(depth + 1)
}

// valueType reads a type up to its closing bracket.
func (p *parser) valueType() tensor.Type {
	at := p.tok.at
	end := strings.IndexAny(p.text[at:], "]\n")
	if p.tok.kind != wordToken || end < 0 || p.text[at+end] != ']' {
		p.fail(at, "found %s, want a type", p.tok)
		return tensor.Type{}
	}
	t, err := tensor.ParseType(p.text[at : at+end+1])
	if err != nil {
		p.fail(at, "%v", err)
		return t
	}
	p.offset = at + end + 1
	p.next()
	return t
}

// places are the parts of a node's place that start with @ and a word.
var places = map[string]func(*parser, *Node){
	"layer":  func(p *parser, n *Node) { n.Layer = p.int() },
	"device": func(p *parser, n *Node) { n.Device = p.int() },
	"group":  func(p *parser, n *Node) { n.Group = p.int() },
	"block":  func(p *parser, n *Node) { n.Block = p.quoted("a block") },
}

// place reads what follows the type: a line's layer, device, group, name,
// block and source position.
func (p *parser) place(n *Node) {
	for p.err == nil {
		switch {
		case p.tok.kind == stringToken:
			n.Name = p.quoted("a name")
		case p.tok.kind == wordToken && !p.fresh:
			n.Block = p.word("a block")
		case p.accept("@"):
			p.placePart(n)
		default:
			return
		}
	}
}

func (p *parser) placePart(n *Node) {
	if p.tok.kind == wordToken {
		at := p.tok.at
		word := p.word("")
		read, ok := places[word]
		if !ok {
			p.fail(at, "found @%s, want @layer, @device, @group, @block or a position", word)
			return
		}
		read(p, n)
		return
	}
	n.Pos = diag.Pos{File: p.source}
	if p.tok.kind == stringToken {
		n.Pos.File = p.quoted("a file name")
		p.expect(":")
	}
	n.Pos.Line = p.int()
	p.expect(":")
	n.Pos.Col = p.int()
}
