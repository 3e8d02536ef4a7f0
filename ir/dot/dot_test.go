package dot

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/gonum/graph/formats/dot"

	"moec/ir"
	"moec/ir/tensor"
	"moec/ir/textdiff"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// chain is a graph of layers that each multiply and add; odd ones out have a
// different width in between.
func chain(t *testing.T, placed bool, widths ...int) *ir.Graph {
	t.Helper()
	g := ir.NewGraph("chain")
	g.Layers = len(widths)
	op := func(layer int, name string, attrs ir.Attrs, args ...*ir.Node) *ir.Node {
		n, err := g.Add(ir.Op(name), args, attrs, nil)
		if err != nil {
			t.Fatal(err)
		}
		n.Layer = layer
		if placed {
			n.Device = 0
		}
		return n
	}
	at := func(name string, v any) ir.Attr { return ir.Attr{Name: name, Value: v} }
	weight := func(layer int, name string, n, k int) *ir.Node {
		return op(layer, "weight", ir.MakeAttrs(at("name", name), at("dtype", tensor.F32), at("shape", []int{n, k})))
	}
	x := op(-1, "embed", nil, op(-1, "input", ir.MakeAttrs(at("name", "tokens"))), weight(-1, "table", 9, 8))
	for l, w := range widths {
		h := op(l, "matmul", nil, x, weight(l, fmt.Sprintf("layers.%d.up", l), w, 8))
		x = op(l, "add", nil, x, op(l, "matmul", nil, h, weight(l, fmt.Sprintf("layers.%d.down", l), 8, w)))
	}
	x = op(-1, "rms_norm", ir.MakeAttrs(at("eps", 1e-5)), x)
	g.Outputs = []ir.Output{{Name: "logits", Value: x}}
	return g
}

// draw draws a graph and checks that the result is DOT, the same each time.
func draw(t *testing.T, g *ir.Graph, fold bool) string {
	t.Helper()
	text, err := Graph(g, fold)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dot.ParseBytes(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for range 3 {
		if again, _ := Graph(g, fold); !bytes.Equal(again, text) {
			t.Fatal("the picture differs from one time to the next")
		}
	}
	return string(text)
}

func TestFold(t *testing.T) {
	text := draw(t, chain(t, false, 4, 4, 4, 6, 4), true)
	for _, want := range []string{"before the layers", "layers 0-2: 3 that are the same, drawn once", "<layer 3<BR", "<layer 4<BR", "after the layers", "f32[T,6]"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "<B>matmul</B>"); n != 6 {
		t.Errorf("%d contractions are drawn, want 2 in each of 3 layers", n)
	}
	// Boxes are numbered as drawn: 0 before the layers, 1 to 3 in layers 0 to
	// 2, 4 to 6 in layer 3.
	if !strings.Contains(text, "n3 -> n4") || !strings.Contains(text, "n9 -> n10") {
		t.Errorf("layer 3 does not follow the folded ones:\n%s", text)
	}
}

// TestFoldLooksAtAttributes folds no layers that do something else.
func TestFoldLooksAtAttributes(t *testing.T) {
	g := chain(t, false, 4, 4, 4)
	for _, n := range g.Nodes {
		if n.Layer == 1 && n.Op.Name == "matmul" && n.Type.Shape.Last() == tensor.N(4) {
			n.Attrs = n.Attrs.With("bounds", []int{0, 4, 8})
		}
	}
	text := draw(t, g, true)
	if strings.Contains(text, "drawn once") || strings.Count(text, "<B>matmul</B>") != 6 {
		t.Errorf("layers with other segments are folded:\n%s", text)
	}
}

func TestEveryLayer(t *testing.T) {
	text := draw(t, chain(t, true, 4, 4), false)
	for _, want := range []string{"<layer 0<BR", "<layer 1<BR", "<device 0<BR", ">up</TD>"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "<device 0<BR"); n != 4 {
		t.Errorf("device 0 is drawn %d times, want once for each layer, before and after them", n)
	}
}

// TestGolden draws graphs of each level: with experts in turns, groups of
// tokens, collectives and fused operations.
func TestGolden(t *testing.T) {
	for _, name := range []string{"logical", "placed"} {
		source := filepath.Join("..", "testdata", name+".ir")
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		g, err := ir.Parse(source, string(text))
		if err != nil {
			t.Fatal(err)
		}
		got := draw(t, g, true) + "\n"
		file := filepath.Join("testdata", name+".dot")
		if *rewrite {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := textdiff.Unified(file, "now", string(want), got); diff != "" {
			t.Errorf("%s (run with -rewrite if it is meant):\n%s", name, diff)
		}
	}
}

// TestText checks that what people call things cannot break the text.
func TestText(t *testing.T) {
	p := NewPicture("a \"title\"\nof two \\ lines")
	panel := p.Panel("<panel> & more", Plain)
	a := panel.Box(Box{Name: "a < b", Details: []string{"w & v", `"quoted"`}, Device: Plain, Type: "f32[T]"})
	b := panel.Panel("device 9", 9).Box(Box{Name: "b", Device: 9, Joint: true, Experts: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 31}})
	p.Edge(a, b, Sends, `8 "bytes"`)
	p.Edge(a, b, Reads, "a second one")
	p.Edge(a, a, Reads, "to itself")
	p.Row(a, b)
	text, err := p.DOT()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dot.ParseBytes(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{`a \"title\"\nof two \\ lines`, "&lt;panel&gt; &amp; more", "a &lt; b", "w &amp; v", `8 \"bytes\"`, ">0-14</TD>", ">16-17</TD>", ">31</TD>", "rank=same"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "second") || strings.Contains(string(text), "itself") {
		t.Errorf("there are more edges than one between two boxes:\n%s", text)
	}
}

func TestSlice(t *testing.T) {
	for _, c := range []struct {
		slice   [][]int
		shape   []int
		experts bool
		want    string
	}{
		{nil, []int{8, 4}, false, ""},
		{[][]int{{0, 8}, {0, 4}}, []int{8, 4}, false, ""},
		{[][]int{{2, 8}, {0, 4}}, []int{8, 4}, false, "[2:8]"},
		{[][]int{{0, 8}, {0, 2}}, []int{8, 4}, false, "[:,0:2]"},
		{[][]int{{0, 3}, {0, 8}, {2, 4}}, []int{6, 8, 4}, true, "[:,2:4]"},
		{[][]int{{0, 3}, {0, 8}, {0, 4}}, []int{6, 8, 4}, true, ""},
	} {
		if got := Slice(c.slice, c.shape, c.experts); got != c.want {
			t.Errorf("slice %v of %v is %q, want %q", c.slice, c.shape, got, c.want)
		}
	}
}

// TestTable checks tables: escapes, colours, spans and rows in cells.
func TestTable(t *testing.T) {
	p := NewPicture("tables")
	p.Panel("of device 1", 1).Table([][]Cell{
		{{Text: "a < b\nc", Left: true, Strong: true, Span: 2}},
		{{Text: "0", Colour: Accent(0)}, {Text: "most", Colour: Shade(100)}, {Text: "none", Colour: Shade(0)}},
		{{Inner: [][]Cell{{{Text: "in", Width: 80}}}}},
	})
	text, err := p.DOT()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dot.ParseBytes(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{
		`<TD COLSPAN="2" WIDTH="38" ALIGN="LEFT" BALIGN="LEFT"><B>a &lt; b<BR ALIGN="LEFT"/>c<BR ALIGN="LEFT"/></B></TD>`,
		`<TD BGCOLOR="#77aadd" WIDTH="12">0</TD>`, `<TD BGCOLOR="#f0b830" WIDTH="31">most</TD>`, `<TD WIDTH="31">none</TD>`, `<TD WIDTH="80">in</TD>`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// TestTraffic checks that edges are as wide as their bytes, and point where the
// bytes go.
func TestTraffic(t *testing.T) {
	p := NewPicture("traffic")
	panel := p.Panel("devices", Plain)
	var list []*Node
	for d := range 4 {
		list = append(list, panel.Box(Box{Name: "box", Device: d}))
	}
	p.Traffic(list[0], list[1], 3, 1, "both")
	p.Traffic(list[1], list[2], 0, 2, "back")
	p.Traffic(list[2], list[3], 1, 0, "there")
	p.Traffic(list[2], list[3], 100, 0, "a second one")
	p.Traffic(list[3], list[3], 100, 0, "to itself")
	p.Traffic(list[3], p.Box(Box{Name: "outside"}), 0, 2, "")
	text, err := p.DOT()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Join(strings.Fields(string(text)), " ")
	for _, want := range []string{`dir=both label=<<TABLE BORDER="0" CELLBORDER="0" CELLPADDING="3"><TR><TD WIDTH="29">both</TD></TR></TABLE>> penwidth=6.0`,
		`dir=back label=<<TABLE BORDER="0" CELLBORDER="0" CELLPADDING="3"><TR><TD WIDTH="29">back</TD></TR></TABLE>> penwidth=3.5`,
		`<TD WIDTH="35">there</TD></TR></TABLE>> penwidth=2.2`, `n3 -> n4 [`} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %s in\n%s", want, lines)
		}
	}
	if strings.Contains(lines, "second") || strings.Contains(lines, "itself") {
		t.Errorf("there are more edges than one between two boxes:\n%s", lines)
	}
}
