package plan_test

import (
	"slices"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/placement"
	"moec/planner/plan"
)

// all is a share of everything.
func all(devices ...int) placement.Split {
	var s placement.Split
	for _, d := range devices {
		s = append(s, placement.Share{Device: d, Lo: 0, Hi: 8})
	}
	return s
}

func homeOn(device int) placement.Expert { return placement.Expert{all(device)} }

// TestLayerChanges says what differs between two placements of three layers.
func TestLayerChanges(t *testing.T) {
	halves := placement.Split{{Device: 0, Lo: 0, Hi: 4}, {Device: 1, Lo: 4, Hi: 8}}
	layer := func(attention placement.Split, experts ...placement.Expert) placement.Layer {
		return placement.Layer{Groups: [][]int{{0, 1}}, Attention: []placement.Split{attention}, Dense: []placement.Split{halves}, Experts: experts}
	}
	base := layer(halves, homeOn(0), homeOn(0), homeOn(1), homeOn(1))
	a := &placement.Placement{Embed: []placement.Split{halves}, Head: []placement.Split{halves}, Layers: []placement.Layer{base, base, base, base}}
	copied := layer(halves, homeOn(0), homeOn(0), homeOn(1), placement.Expert{all(1), all(0)})
	b := &placement.Placement{Embed: []placement.Split{all(0, 1)}, Head: a.Head, Layers: []placement.Layer{
		base, copied, copied, layer(all(0, 1), homeOn(1), homeOn(1), homeOn(0), homeOn(0))}}
	changes := plan.LayerChanges(a, b)
	want := []plan.LayerChange{
		{Layers: plan.Range{First: 1, Last: 2}, Changes: []string{"expert 3: on device 1 -> on device 1 or on device 0 (kept 2 times)"}},
		{Layers: plan.Range{First: 3, Last: 3}, Changes: []string{
			"attention: split over 0 1 in segments 4+4 -> copied on 0 1", "experts 0-1: on device 0 -> on device 1", "experts 2-3: on device 1 -> on device 0"}},
	}
	same := func(a, b plan.LayerChange) bool { return a.Layers == b.Layers && slices.Equal(a.Changes, b.Changes) }
	if !slices.EqualFunc(changes, want, same) {
		t.Errorf("changes are %q, want %q", changes, want)
	}
	ends := plan.EndChanges(a, b)
	if !slices.Equal(ends, []string{"embedding: split over 0 1 in segments 4+4 -> copied on 0 1"}) {
		t.Errorf("ends are %q", ends)
	}
	if len(plan.LayerChanges(a, a))+len(plan.EndChanges(b, b)) > 0 {
		t.Error("a placement differs from itself")
	}
}

// TestCompare compares plans that differ in one thing each.
func TestCompare(t *testing.T) {
	make := func() *plan.Plan { return samples[2].plan(t) }
	for _, c := range []struct {
		name string
		edit func(*plan.Plan)
		want string // of the facts
	}{
		{"nothing", func(*plan.Plan) {}, ""},
		{"machine", func(p *plan.Plan) { p.Machine.Name = "l4x8" }, "machine"},
		{"description of the machine", func(p *plan.Plan) { p.Machine.Hash = "other" }, "machine's description"},
		{"numerics", func(p *plan.Plan) { p.Numerics.Mode = ir.Fast }, "numerics"},
		{"strategy", func(p *plan.Plan) { p.Placement.Strategy = "by hand" }, "strategy"},
		{"model", func(p *plan.Plan) {
			p.Model.Hash, p.Model.Bindings = "other", []plan.Binding{{Name: "hidden", Value: "9"}}
		}, "description hidden"},
		{"limits", func(p *plan.Plan) { p.Limits.Sequences++; p.Limits.Pages++ }, "sequences KV pages"},
		{"a detail", func(p *plan.Plan) { p.Model.Params++ }, ""},
	} {
		p := make()
		c.edit(p)
		d, err := plan.Compare(make(), p)
		if err != nil {
			t.Fatal(err)
		}
		var facts []string
		for _, f := range d.Facts {
			facts = append(facts, f.What)
		}
		if got := strings.Join(facts, " "); got != c.want || d.Same != (c.name == "nothing") || len(d.Layers)+len(d.Traffic)+len(d.Memory) > 0 {
			t.Errorf("%s: facts %q, want %q; %+v", c.name, got, c.want, d)
		}
	}
	d, err := plan.Compare(samples[0].plan(t), samples[2].plan(t))
	if err != nil || len(d.Memory) != 2 || d.Memory[1].A != nil || d.Memory[1].B == nil || len(d.Traffic) == 0 {
		t.Errorf("one device and two: %+v, %v", d, err)
	}
}

// TestExchanges counts what passes between devices, by hand for one plan.
func TestExchanges(t *testing.T) {
	for _, s := range samples {
		p := s.plan(t)
		sums := plan.Exchanges(p)
		for op, e := range sums {
			if op == "send" || e.Count < 1 || e.Bytes < 1 {
				t.Errorf("%s: %s happens %d times, %d bytes", s.name, op, e.Count, e.Bytes)
			}
			if !ir.Op(op).Has(ir.Collective) {
				t.Errorf("%s: %s is no exchange", s.name, op)
			}
		}
		if (len(sums) > 0) != (s.devices > 1 && s.name != "copies") {
			t.Errorf("%s: exchanges are %v", s.name, sums)
		}
	}
	// A pipeline of two devices passes one row on, in a type of two bytes.
	if e := plan.Exchanges(samples[6].plan(t))["transfer"]; e.Count != 1 || e.Bytes != hidden*2 {
		t.Errorf("a pipeline transfers %+v", e)
	}
}
