package passes

import (
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/tensor"
)

// TestFusionsOnPlacedGraphs runs the whole pipeline for several strategies:
// with all fusions and with none the results are the bits of one device.
func TestFusionsOnPlacedGraphs(t *testing.T) {
	optional := map[string]bool{}
	for _, p := range Pipeline {
		optional[p.Name] = !p.Required && p.Level == ir.Placed
	}
	for _, act := range []tensor.DType{tensor.F32, tensor.BF16} {
		alone := mixtral(t, act, small)
		if err := runList(logical(), &Context{To: "segment"}, alone); err != nil {
			t.Fatal(err)
		}
		want := results(t, "one device", alone)
		for _, strategy := range []string{"tp1", "tp2", "ep2", "tp2ep2", "pp2", "tp4"} {
			for _, off := range []map[string]bool{nil, optional} {
				g := placed(t, act, strategy, &Context{Off: off})
				if d := distance(want, results(t, strategy, g)); d > 0 {
					t.Errorf("%s %s, off %v: results move by %g", act, strategy, off, d)
				}
				if fused := strings.Contains(ir.Print(g), "fused("); fused != (off == nil) {
					t.Errorf("%s %s, off %v: has fused ops: %t", act, strategy, off, fused)
				}
			}
		}
	}
}

// placed runs the whole pipeline.
func placed(t *testing.T, act tensor.DType, strategy string, ctx *Context) *ir.Graph {
	t.Helper()
	g := mixtral(t, act, small)
	devices := map[string]int{"tp1": 1, "tp2": 2, "ep2": 2, "pp2": 2, "tp2ep2": 4, "tp4": 4}[strategy]
	ctx.Choose = func(g *ir.Graph) (err error) {
		ctx.Placement, err = Named(g, strategy, devices)
		return err
	}
	if err := Run(ctx, g); err != nil {
		t.Fatalf("%s: %v", strategy, err)
	}
	return g
}

// TestPackedWeightsAreSlices checks that each device packs what it holds.
func TestPackedWeightsAreSlices(t *testing.T) {
	g := placed(t, tensor.BF16, "tp2", &Context{})
	packs := 0
	for _, n := range g.Nodes {
		if n.Op.Name != "pack" {
			continue
		}
		packs++
		for _, w := range n.Args {
			if w.Op.Name != "weight" || !w.Attrs.Has("slice") || w.Device != n.Device {
				t.Errorf("device %d packs %s", n.Device, w.Attrs.Text("name"))
			}
		}
	}
	if want := 2 * 2 * 2; packs != want { // devices, layers, q/k/v and gate/up
		t.Errorf("%d packs, want %d", packs, want)
	}
}

// TestFusionsShrinkGraphs keeps what the passes after place leave of Mixtral,
// so that a fusion that stops working is noticed.
func TestFusionsShrinkGraphs(t *testing.T) {
	for _, c := range []struct {
		strategy string
		steps    int // nodes that work in each step
	}{{"tp1", 50}, {"tp2", 119}, {"ep2", 123}} {
		g := placed(t, tensor.BF16, c.strategy, &Context{})
		steps := 0
		for _, n := range g.Nodes {
			if !n.Op.Has(ir.Nullary) && !n.Op.Has(ir.Resident) {
				steps++
			}
		}
		if steps != c.steps {
			t.Errorf("%s leaves %d operations, want %d:\n%s", c.strategy, steps, c.steps, ir.Print(g))
		}
	}
}
