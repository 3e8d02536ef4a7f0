package dot

import (
	"fmt"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/tensor"
)

// chain is a graph of layers that each multiply and add; odd ones out have a
// different width in between.
func chain(t *testing.T, placed bool, widths ...int) *ir.Graph {
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
	g.Outputs = []ir.Output{{Name: "logits", Value: x}}
	return g
}

func TestFold(t *testing.T) {
	text, err := Graph(chain(t, false, 4, 4, 4, 6, 4), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"layers 0-2: 3 that are the same, drawn once", `"layer 3"`, `"layer 4"`, "layers.3.up", "embed"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "layers.1.up") {
		t.Error("a folded layer is drawn")
	}
	if n := strings.Count(string(text), "n3 ->"); n == 0 {
		t.Errorf("layer 3 does not follow the folded ones:\n%s", text)
	}
}

func TestEveryLayer(t *testing.T) {
	text, err := Graph(chain(t, true, 4, 4), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"layers.0.up", "layers.1.up", "cluster_layer1_device0", "device 0"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
