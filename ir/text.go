package ir

import (
	"bytes"
	"io"
	"math"
	"slices"
	"strconv"

	"moec/ir/tensor"
)

// The IR text has one line for each node, weight, cache and output:
//
//	graph "tiny" placed {
//	  devices 2
//	  layers 1
//	  numerics invariant 4
//	  source "tiny.moe"
//	  weight "wq" bf16[8,16] @layer 0 from "model.layers.{layer}.q" [8,16]
//	  cache "layers.0" bf16 heads 2 key 4 value 4 @layer 0
//	  %12 = matmul(%3, %11) {bounds=[0,8,16]} : f32[T,8] @layer 0 @device 1 "q" attention @9:5
//	  output "logits" = %40
//	}
//
// Everything that has the value NewGraph or Add gives it is left out: no
// devices, one group, layer -1. "@9:5" is a place in the source named above,
// @"other.moe":9:5 one elsewhere. A body is a graph inside its attribute. Text
// after # is a comment. Parse is the inverse of Print.

// Print returns g as IR text.
func Print(g *Graph) string {
	p := printer{}
	p.graph(g)
	p.buf = append(p.buf, '\n')
	return string(p.buf)
}

// Fprint writes g to w as IR text.
func Fprint(w io.Writer, g *Graph) error {
	p := printer{}
	p.graph(g)
	p.buf = append(p.buf, '\n')
	_, err := io.Copy(w, bytes.NewReader(p.buf))
	return err
}

// printer collects text; body graphs are indented by their depth.
type printer struct {
	buf    []byte
	depth  int
	source string // file of positions without one of their own
}

func (p *printer) text(list ...string) {
	for _, s := range list {
		p.buf = append(p.buf, s...)
	}
}

func (p *printer) quote(s string) { p.buf = strconv.AppendQuote(p.buf, s) }

func (p *printer) int(before string, n int) {
	p.text(before)
	p.buf = strconv.AppendInt(p.buf, int64(n), 10)
}

// count prints a number that is left out when it is the usual one.
func (p *printer) count(before string, n, usual int) {
	if n != usual {
		p.int(before, n)
	}
}

func (p *printer) line() {
	p.text("\n")
	for range p.depth {
		p.text("  ")
	}
}

func (p *printer) graph(g *Graph) {
	p.text("graph ")
	p.quote(g.Name)
	p.text(" ", g.Level.String(), " {")
	outer := p.source
	p.depth++
	p.header(g)
	for _, w := range g.Weights {
		p.line()
		p.weight(w)
	}
	for _, c := range g.Caches {
		p.line()
		p.cache(c)
	}
	for _, n := range g.Nodes {
		p.line()
		p.node(n)
	}
	for _, o := range g.Outputs {
		p.line()
		p.text("output ")
		p.quote(o.Name)
		p.count(" @group ", o.Group, 0)
		p.text(" = ")
		p.value(o.Value)
	}
	p.depth--
	p.source = outer
	p.line()
	p.text("}")
}

func (p *printer) header(g *Graph) {
	for _, h := range graphCounts {
		if n := *h.field(g); n != h.usual {
			p.line()
			p.int(h.name+" ", n)
		}
	}
	if usual := NewGraph("").Numerics; g.Numerics != usual {
		p.line()
		p.text("numerics ")
		p.word(string(g.Numerics.Mode))
		p.int(" ", g.Numerics.Segments)
	}
	if g.nextID != g.afterLast() {
		p.line()
		p.int("next %", int(g.nextID))
	}
	p.source = ""
	for _, n := range g.Nodes {
		if n.Pos.File != "" {
			p.source = n.Pos.File
			p.line()
			p.text("source ")
			p.quote(p.source)
			break
		}
	}
}

// graphCounts are the numbers in a graph's header.
var graphCounts = []struct {
	name  string
	usual int
	field func(*Graph) *int
}{
	{"devices", 0, func(g *Graph) *int { return &g.Devices }},
	{"groups", 1, func(g *Graph) *int { return &g.Groups }},
	{"layers", 0, func(g *Graph) *int { return &g.Layers }},
}

// afterLast is the ID after the largest in use.
func (g *Graph) afterLast() int64 {
	var next int64
	for _, n := range g.Nodes {
		next = max(next, n.id+1)
	}
	return next
}

// isWord reports whether s can stand without quotes.
func isWord(s string) bool {
	if s == "" || !letter(s[0]) {
		return false
	}
	for i := range len(s) {
		if !letter(s[i]) && !digit(s[i]) && s[i] != '.' {
			return false
		}
	}
	return true
}

func letter(c byte) bool { return c == '_' || 'a' <= c|0x20 && c|0x20 <= 'z' }
func digit(c byte) bool  { return '0' <= c && c <= '9' }

func (p *printer) word(s string) {
	if isWord(s) {
		p.text(s)
	} else {
		p.quote(s)
	}
}

func (p *printer) value(n *Node) {
	if n == nil {
		p.text("%?")
		return
	}
	p.int("%", int(n.id))
}

func (p *printer) weight(w *Weight) {
	p.text("weight ")
	p.quote(w.Name)
	p.text(" ", w.DType.String())
	p.ints(w.Shape)
	p.count(" experts ", w.Experts, 0)
	p.count(" @layer ", w.Layer, -1)
	s := w.Source
	if s.Key == "" && s.Stored == nil && s.View == nil && !s.Transposed {
		return
	}
	p.text(" from ")
	p.quote(s.Key)
	p.text(" ")
	p.ints(s.Stored)
	if !slices.Equal(s.View, wholeView(s.Stored)) {
		p.text(" view [")
		for i, a := range s.View {
			if i > 0 {
				p.text(", ")
			}
			p.axis(a)
		}
		p.text("]")
	}
	if s.Transposed {
		p.text(" transposed")
	}
}

// wholeView selects all of a stored tensor; the text leaves it out.
func wholeView(stored []int) []Axis {
	view := make([]Axis, len(stored))
	for i, d := range stored {
		view[i] = Axis{Hi: d, Step: 1}
	}
	return view
}

func (p *printer) axis(a Axis) {
	if a.Expert {
		p.text("expert")
		if a == (Axis{Expert: true}) {
			return
		}
		p.text(" ")
	}
	p.int("", a.Lo)
	p.int(":", a.Hi)
	p.count(":", a.Step, 1)
}

func (p *printer) cache(c *Cache) {
	p.text("cache ")
	p.quote(c.Name)
	p.text(" ", c.DType.String())
	p.int(" heads ", c.Heads)
	p.int(" key ", c.KeyDim)
	p.int(" value ", c.ValDim)
	p.count(" window ", c.Window, 0)
	p.count(" @layer ", c.Layer, -1)
}

func (p *printer) node(n *Node) {
	p.value(n)
	p.text(" = ")
	if n.Op == nil {
		p.text("?")
	} else {
		p.text(n.Op.Name)
	}
	if len(n.Args) > 0 {
		for i, a := range n.Args {
			p.text([]string{"(", ", "}[min(i, 1)])
			p.value(a)
		}
		p.text(")")
	}
	if len(n.Attrs) > 0 {
		for i, a := range n.Attrs {
			p.text([]string{" {", ", "}[min(i, 1)])
			p.text(a.Name, "=")
			p.attr(a.Value)
		}
		p.text("}")
	}
	p.text(" : ", n.Type.String())
	p.count(" @layer ", n.Layer, -1)
	p.count(" @device ", n.Device, -1)
	p.count(" @group ", n.Group, -1)
	if n.Name != "" {
		p.text(" ")
		p.quote(n.Name)
	}
	p.place(n)
}

// place prints the block and the source position.
func (p *printer) place(n *Node) {
	if isWord(n.Block) {
		p.text(" ", n.Block)
	} else if n.Block != "" {
		p.text(" @block ")
		p.quote(n.Block)
	}
	pos := n.Pos
	if pos.File == "" && pos.Line == 0 && pos.Col == 0 {
		return
	}
	p.text(" @")
	if pos.File != p.source {
		p.quote(pos.File)
		p.text(":")
	}
	p.int("", pos.Line)
	p.int(":", pos.Col)
}

func (p *printer) attr(value any) {
	switch v := value.(type) {
	case int:
		p.int("", v)
	case float64:
		p.float(v, 64)
	case string:
		p.quote(v)
	case []int:
		p.ints(v)
	case [][]int:
		p.text("[")
		for i, s := range v {
			if i > 0 {
				p.text(",")
			}
			p.ints(s)
		}
		p.text("]")
	case []float32:
		p.text("[")
		for i, f := range v {
			if i > 0 {
				p.text(",")
			}
			p.float(float64(f), 32)
		}
		p.text("]")
	case tensor.DType:
		p.text(v.String())
	case *Graph:
		if v != nil {
			p.graph(v)
		}
	}
}

func (p *printer) ints(list []int) {
	p.text("[")
	for i, n := range list {
		if i > 0 {
			p.text(",")
		}
		p.int("", n)
	}
	p.text("]")
}

// float prints the shortest text that reads back as the same number.
func (p *printer) float(f float64, bits int) {
	switch {
	case f != f:
		p.text("nan")
	case math.IsInf(f, 1):
		p.text("inf")
	case math.IsInf(f, -1):
		p.text("-inf")
	default:
		at := len(p.buf)
		p.buf = strconv.AppendFloat(p.buf, f, 'g', -1, bits)
		if !bytes.ContainsAny(p.buf[at:], ".e") {
			p.text(".0")
		}
	}
}
