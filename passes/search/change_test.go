package search

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"moec/ir"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/ir/tree"
	"moec/passes"
)

// TestChangeIsAWholePrice walks at random, from random and from named
// placements, and compares what a change costs with the price of the whole.
func TestChangeIsAWholePrice(t *testing.T) {
	deep := maps.Clone(tiny)
	deep["layers"] = "5" // several with the same structure and other routing
	o := outline(t, "mixtral", ir.Invariant, 8, deep)
	stats := routing.PowerLaw(shapes(o), 1, 3)
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 2))
		devices := 1 + rng.IntN(4)
		m := modelFor(t, o, stats, "h200x8", devices)
		var p *placement.Placement
		if seed%2 == 0 {
			p = placement.Random(rng, o.Summary, devices)
		} else {
			names := Names(devices)
			p, _ = passes.NamedFor(o.Summary, names[rng.IntN(len(names))], devices)
		}
		walk(t, fmt.Sprint("seed ", seed), m, p, rng, 400)
	}
}

func modelFor(t testing.TB, o *passes.Outline, stats *routing.Stats, machine string, devices int) *model {
	t.Helper()
	m, err := newModel(&Problem{Outline: o, Machine: narrowed(t, machine, devices), Stats: stats, Positions: 1000, Workload: Workload{Name: "test", Steps: []Step{
		decode(1, 3), decode(6, 2), {Load: prefill(40, 32, 1).Load, Count: 1}}}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func walk(t *testing.T, name string, m *model, p *placement.Placement, rng *rand.Rand, steps int) {
	t.Helper()
	var hand []*placement.Placement
	for _, h := range m.hand() {
		if h.Place != nil {
			hand = append(hand, h.Place)
		}
	}
	v := &mover{model: m, Rand: rng, hand: hand}
	now, err := m.place(p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range steps {
		e, ok := v.propose(now.p)
		if !ok {
			continue
		}
		before := now.clone()
		tr, err := m.try(now, e)
		if err != nil {
			t.Fatalf("%s: step %d: %v", name, i, err)
		}
		if rng.IntN(4) == 0 {
			m.drop(now, tr)
			if !reflect.DeepEqual(now.p, before.p) || now.score != before.score {
				t.Fatalf("%s: step %d: a dropped trial leaves something behind", name, i)
			}
			continue
		}
		m.keepTrial(now, tr)
		if err := now.p.Check(m.Outline.Summary); err != nil {
			t.Fatalf("%s: step %d makes a placement that is wrong: %v", name, i, err)
		}
		want, err := m.place(now.p)
		if err != nil {
			t.Fatal(err)
		}
		if now.score != want.score || !slices.Equal(now.bytes, want.bytes) {
			t.Fatalf("%s: step %d: an edit of %d layers from %d gives score %d and bytes %v, the whole price is %d and %v", name, i, len(e.layers), e.first, now.score, now.bytes, want.score, want.bytes)
		}
	}
}

func TestSpans(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 20000 {
		total := 1 + rng.IntN(64)
		var set, solo []int
		var held, alone uint64
		for e := range total {
			if rng.IntN(3) > 0 {
				set, held = append(set, e), held|1<<e
				if rng.IntN(6) == 0 {
					solo, alone = append(solo, e), alone|1<<e
				}
			}
		}
		if got, want := spans(held, alone, total), len(tree.Cover(set, total, solo)); got != want {
			t.Fatalf("%d of %d, %v alone: %d spans, want %d", set, total, solo, got, want)
		}
	}
}

// BenchmarkChange walks as mcmc does, and prints how many changes a second it
// looks at and how much longer the price of a whole placement takes.
func BenchmarkChange(b *testing.B) {
	o := outline(b, "mixtral", ir.Invariant, 8, nil)
	w, _ := ParseWorkload("", 2048)
	m, err := newModel(&Problem{Outline: o, Machine: machineOf(b, "h200x4"), Stats: routing.PowerLaw(shapes(o), 0.8, 1), Positions: 8 * 4096, Workload: w})
	if err != nil {
		b.Fatal(err)
	}
	p, _ := passes.NamedFor(o.Summary, "ep4", 4)
	now, err := m.place(p)
	if err != nil {
		b.Fatal(err)
	}
	var hand []*placement.Placement
	for _, h := range m.hand() {
		hand = append(hand, h.Place)
	}
	b.ResetTimer()
	walked, err := m.mcmc(now, hand, int64(b.N), 1)
	if err != nil {
		b.Fatal(err)
	}
	change := b.Elapsed() / time.Duration(b.N)
	b.StopTimer()
	const wholes = 200
	begin := time.Now()
	for range wholes {
		if _, err := m.place(walked.p); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(time.Second)/float64(max(change, 1)), "changes/s")
	b.ReportMetric(float64(time.Since(begin)/wholes)/float64(max(change, 1)), "whole/change")
}
