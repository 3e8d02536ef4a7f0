package search

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"moec/ir"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/passes"
)

// TestChangeIsAWholePrice walks at random, from random and from named
// placements, and compares what a change costs with the price of the whole.
func TestChangeIsAWholePrice(t *testing.T) {
	o := outline(t, "mixtral", ir.Invariant, 8, tiny)
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
		walk(t, fmt.Sprint("seed ", seed), m, p, rng, 100)
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
	v := &mover{m, rng, hand}
	now, err := m.place(p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range steps {
		p, first, last := v.propose(now.p)
		if p == nil {
			continue
		}
		if err := p.Check(m.Outline.Summary); err != nil {
			t.Fatalf("%s: step %d makes a placement that is wrong: %v", name, i, err)
		}
		next, err := m.change(now, p, first, last)
		if err != nil {
			t.Fatalf("%s: step %d: %v", name, i, err)
		}
		want, err := m.place(p)
		if err != nil {
			t.Fatal(err)
		}
		if next.score != want.score || !slices.Equal(next.times, want.times) || !slices.Equal(next.bytes, want.bytes) {
			t.Fatalf("%s: step %d: a change of layers %d to %d gives score %d and bytes %v, the whole price is %d and %v", name, i, first, last, next.score, next.bytes, want.score, want.bytes)
		}
		now = next
	}
}

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
	v := &mover{m, rand.New(rand.NewPCG(1, 1)), hand}
	b.ResetTimer()
	for range b.N {
		p, first, last := v.propose(now.p)
		if p == nil {
			continue
		}
		next, err := m.change(now, p, first, last)
		if err != nil {
			b.Fatal(err)
		}
		if next.score < now.score+now.score/100 {
			now = next
		}
	}
}
