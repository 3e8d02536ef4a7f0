package search

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"moec/dsl"
	"moec/ir"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/passes"
)

// outline reads an example with other sizes.
func outline(t testing.TB, example string, mode ir.Mode, segments int, set map[string]string) *passes.Outline {
	t.Helper()
	src, err := os.ReadFile(filepath.Join("../../examples", example+".moe"))
	if err != nil {
		t.Fatal(err)
	}
	f, list := dsl.Parse(example, src)
	if len(list) > 0 {
		t.Fatal(list)
	}
	b, list := dsl.Build(f, dsl.Env{Set: set})
	if len(list) > 0 {
		t.Fatal(list)
	}
	ctx := &passes.Context{Numerics: ir.Numerics{Mode: mode, Segments: segments}, To: "segment"}
	if err := passes.Run(ctx, b.Graph); err != nil {
		t.Fatal(err)
	}
	o, err := passes.NewOutline(b.Graph)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// shapes are the routed layers of a model.
func shapes(o *passes.Outline) []routing.Shape {
	var list []routing.Shape
	for l, s := range o.Summary.Layers {
		list = append(list, routing.Shape{Experts: s.Experts, Slots: o.Slots(l + 1)})
	}
	return list
}

func machineOf(t testing.TB, name string) *machine.Machine {
	t.Helper()
	m, err := machine.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tiny is a Mixtral of two layers and small sizes.
var tiny = map[string]string{"layers": "3", "hidden": "64", "heads": "8", "kv_heads": "4", "ffn": "96", "experts": "8", "vocab": "128"}

// TestPricesAreThoseOfThePlacedGraph prices random placements in the way of
// the search and node by node.
func TestPricesAreThoseOfThePlacedGraph(t *testing.T) {
	small := map[string]map[string]string{
		"mixtral": tiny,
	}
	for _, example := range []string{"mixtral"} {
		for _, mode := range []ir.Mode{ir.Invariant, ir.Fast} {
			o := outline(t, example, mode, 8, small[example])
			stats := routing.PowerLaw(shapes(o), 1.2, 3)
			for seed := range uint64(100) {
				rng := rand.New(rand.NewPCG(seed, 1))
				p := placement.Random(rng, o.Summary, 1+rng.IntN(5))
				m, err := newModel(&Problem{Outline: o, Machine: narrowed(t, "h200x8", p.Devices), Stats: stats, Positions: 1000, Workload: Workload{Name: "test", Steps: []Step{
					decode(1, 3), decode(6, 2), {Load: prefill(40, 32, 1).Load, Count: 1}}}})
				if err != nil {
					t.Fatal(err)
				}
				comparePrices(t, fmt.Sprintf("%s %s seed %d", example, mode, seed), m, p)
			}
		}
	}
}

func narrowed(t testing.TB, name string, devices int) *machine.Machine {
	t.Helper()
	m, err := machineOf(t, name).With(devices)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func comparePrices(t *testing.T, name string, m *model, p *placement.Placement) {
	t.Helper()
	s, err := m.place(p)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var needs []passes.Need
	for i := len(m.parts) - 1; i >= 0; i-- {
		whole, err := m.evaluateWhole(i, p, needs)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		needs = whole.script.needs
		for j, want := range whole.times {
			if got := s.parts[i].times[j]; got != want {
				t.Errorf("%s: part %d of batch %d takes %d ps, node by node %d\n%+v", name, i, j, got, want, p.Layers[m.layerOf(i)])
				break
			}
		}
		for d, want := range whole.bytes {
			if got := s.parts[i].bytes[d]; got != want {
				t.Errorf("%s: part %d keeps %d bytes on device %d, node by node %d", name, i, got, d, want)
				break
			}
		}
	}
}
