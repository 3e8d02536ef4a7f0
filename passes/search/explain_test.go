package search

import (
	"slices"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/passes"
)

// smallProblem is a small model whose tokens prefer some experts.
func smallProblem(t *testing.T, devices int) *Problem {
	o := outline(t, "mixtral", ir.Invariant, 8, tiny)
	return &Problem{Outline: o, Machine: narrowed(t, "h200x8", devices), Stats: routing.PowerLaw(shapes(o), 1.2, 3), Positions: 1000, Samples: 4,
		Workload: Workload{Name: "test", Steps: []Step{decode(1, 3), decode(6, 2), {Load: prefill(40, 32, 1).Load, Count: 1}}}}
}

func namedPlace(t *testing.T, p *Problem, name string) *placement.Placement {
	t.Helper()
	pl, err := passes.NamedFor(p.Outline.Summary, name, p.Machine.Devices)
	if err != nil {
		t.Fatal(err)
	}
	return pl
}

// near compares prices of a step of a whole model, whose terms are rounded in
// every part.
func near(a, b int64) bool { return a-b < 1000 && b-a < 1000 }

// TestExplainAddsUp checks that the terms of all parts are the price, and that
// what another way costs more is what a placement with it costs more.
func TestExplainAddsUp(t *testing.T) {
	for _, name := range []string{"tp4", "ep4", "tp2ep2", "adp4", "pp2tp2", "dp2tp2"} {
		p := smallProblem(t, 4)
		pl := namedPlace(t, p, name)
		x, err := Explain(p, pl, -1, -1)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sum := make([]cost.Cost, len(x.Loads))
		var total int64
		for _, r := range x.Parts {
			for k, c := range r.Terms {
				sum[k] = sum[k].Add(times(c, r.Len()))
			}
			total += r.Total.Total()
			if r.Name == "layers" && (len(r.Others) != shownOthers || r.Tried < 20) {
				t.Errorf("%s, layers %d to %d: %d others of %d", name, r.First, r.Last, len(r.Others), r.Tried)
			}
			for _, o := range r.Others {
				checkOther(t, name, p, x, &r, o)
			}
		}
		for k, c := range sum {
			if !near(c.Total(), x.Placed.Steps[k]) || c != x.Terms[k] {
				t.Errorf("%s, load %d: terms %+v make %d ps, want %d", name, k, c, c.Total(), x.Placed.Steps[k])
			}
		}
		if !near(total, x.Placed.Score) {
			t.Errorf("%s: parts make %d ps, want %d", name, total, x.Placed.Score)
		}
	}
}

// checkOther prices a placement in which the layers are placed the other way.
func checkOther(t *testing.T, name string, p *Problem, x *Explanation, r *PartRun, o Other) {
	t.Helper()
	other := *x.Placed.Placement
	other.Layers = slices.Clone(other.Layers)
	o.edit.put(&other)
	priced, err := Price(p, &other)
	if err != nil {
		t.Fatalf("%s, %s: %v", name, o.Name, err)
	}
	if got := priced[0].Score - x.Placed.Score; got-o.Extra > 1 || o.Extra-got > 1 {
		t.Errorf("%s, layers %d to %d, %s: costs %d ps more, want %d", name, r.First, r.Last, o.Name, o.Extra, got)
	}
	var extra int64
	for k, c := range o.Loads {
		extra += c.Total() * x.Loads[k].Count
	}
	if !near(extra, o.Extra) {
		t.Errorf("%s, layers %d to %d, %s: terms make %d ps, want %d", name, r.First, r.Last, o.Name, extra, o.Extra)
	}
}

// TestExplainOrders checks that others come cheapest first, that none of them
// beats the best placement, and that one that does not fit says so.
func TestExplainOrders(t *testing.T) {
	p := smallProblem(t, 4)
	r := run(t, p, Options{Searcher: "exact"})
	if gap, ok := r.Gap(); !ok || gap != 0 {
		t.Skipf("not solved: gap %d", gap)
	}
	x, err := Explain(p, r.Chosen.Placement, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	explained := 0
	for _, part := range x.Parts {
		if len(part.Others) == 0 {
			continue
		}
		if explained++; part.First != 1 || part.Last != 1 {
			t.Errorf("layers %d to %d are explained, want 1", part.First, part.Last)
		}
		for i, o := range part.Others {
			if o.Extra < 0 && o.Fits || i > 0 && o.Extra < part.Others[i-1].Extra {
				t.Errorf("%s costs %d ps more", o.Name, o.Extra)
			}
		}
	}
	if explained != 1 {
		t.Errorf("%d runs are explained", explained)
	}
	small := *p.Machine
	small.Device.Memory.Value = small.Device.Reserve.Value + slices.Max(r.Chosen.Bytes) - 1
	p.Machine = &small
	x, err = Explain(p, r.Chosen.Placement, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	tight := false
	for _, part := range x.Parts {
		for _, o := range part.Others {
			tight = tight || !o.Fits && strings.Contains(o.Why, "does not fit")
		}
	}
	if !tight || x.Placed.Fits || !strings.Contains(x.Placed.Why, "does not fit") {
		t.Errorf("with a byte less than is needed everything fits: %t, %q", tight, x.Placed.Why)
	}
}

// TestCompareAddsUp compares placements with themselves and with others.
func TestCompareAddsUp(t *testing.T) {
	p := smallProblem(t, 4)
	a := namedPlace(t, p, "tp4")
	for _, name := range []string{"tp4", "ep4", "adp4", "pp2tp2"} {
		b := namedPlace(t, p, name)
		c, err := Compare(p, a, b)
		if err != nil {
			t.Fatal(err)
		}
		var sum, weighed int64
		next := 0
		for _, d := range c.Parts {
			sum += d.Extra
			if d.Name != "layers" {
				continue
			}
			if d.First != next {
				t.Errorf("%s: layers go on at %d, want %d", name, d.First, next)
			}
			next = d.Last + 1
		}
		for k, d := range c.Terms {
			weighed += d.Total() * c.Loads[k].Count
		}
		if want := c.B.Score - c.A.Score; !near(sum, want) || !near(weighed, want) || name == "tp4" != (want == 0) {
			t.Errorf("%s: parts make %d ps, terms %d, want %d", name, sum, weighed, want)
		}
	}
	other := namedPlace(t, smallProblem(t, 2), "tp2")
	if _, err := Compare(p, a, other); err == nil || !strings.Contains(err.Error(), "is for 2 devices") {
		t.Errorf("two devices: %v", err)
	}
}

// TestWorst names the load and the term that lose most.
func TestWorst(t *testing.T) {
	loads := []Step{decode(1, 10), decode(8, 1)}
	load, term, lost, ok := Worst(loads, []cost.Cost{{Memory: 5, Link: 7}, {Link: 100, Launch: 20}})
	if !ok || load != 0 || term != "links" || lost != 7 {
		t.Errorf("load %d, %s %d", load, term, lost)
	}
	if _, _, _, ok := Worst(loads, []cost.Cost{{Memory: -5}, {}}); ok {
		t.Error("something is lost where nothing is")
	}
}
