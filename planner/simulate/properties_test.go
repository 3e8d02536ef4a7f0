package simulate

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/routing"
	"moec/planner/plan"
)

// modes are all combinations of what devices and links can do.
var modes = []Options{{}, {Overlap: true}, {Contention: true}, {Overlap: true, Contention: true}}

// samples are plans of named and of random placements.
func samples(t *testing.T, f func(name string, p *plan.Plan)) {
	compileSamples.Do(func() {
		for _, s := range []string{"tp 4", "ep 4", "dp 4", "adp 4", "pp 2", "tp2ep2 4", "dp2tp2 4"} {
			var name string
			var devices int
			fmt.Sscan(s, &name, &devices)
			sampled = append(sampled, sample{s, compiled(t, small(3), ir.Invariant, named(name, devices)).Plan})
		}
		for seed := range uint64(8) {
			sampled = append(sampled, sample{fmt.Sprint("seed ", seed), compiled(t, small(3), ir.Fast, random(100+seed)).Plan})
		}
	})
	for _, s := range sampled {
		f(s.name, s.plan)
	}
}

type sample struct {
	name string
	plan *plan.Plan
}

var (
	sampled        []sample
	compileSamples sync.Once
)

// skewed draws batches in which some experts are far more popular.
func skewed(p *plan.Plan, tokens int) Batch {
	stats := routing.PowerLaw(Shapes(p), 1.5, 3)
	return func(layer int) *routing.Batch { return stats.Draw(1, layer, tokens, 0) }
}

// TestTimelines checks what holds of every result.
func TestTimelines(t *testing.T) {
	samples(t, func(name string, p *plan.Plan) {
		for _, m := range []*machine.Machine{slow(8), towers()} {
			s := simulator(t, p, m)
			for i, o := range modes {
				l := append(loads, cost.Load{Sequences: 1, Tokens: 512, Rows: 512, Context: 256})[(i+len(name))%(len(loads)+1)]
				o.Batch = skewed(p, l.Tokens)
				if why := wrong(s.must(t, l, o), s, o); why != "" {
					t.Errorf("%s on %s, %+v, overlap %t, contention %t: %s", name, m.Name, l, o.Overlap, o.Contention, why)
				}
			}
		}
	})
}

// wrong says what does not hold of a result.
func wrong(r *Result, s *Simulator, o Options) string {
	for _, d := range r.Devices {
		if why := gaps(d.Spans, r.Time); why != "" {
			return fmt.Sprintf("device %d: %s", d.Device, why)
		}
		if !o.Overlap && d.Busy+d.Exchange+d.Wait != r.Time {
			return fmt.Sprintf("device %d: busy %d, in exchanges %d, waiting %d, in all %d", d.Device, d.Busy, d.Exchange, d.Wait, r.Time)
		}
		for i, c := range d.Copies {
			if i > 0 && c.Start < d.Copies[i-1].End {
				return fmt.Sprintf("device %d: exchanges at once: %+v", d.Device, c)
			}
		}
		for _, sp := range append(d.Spans, d.Copies...) {
			if sp.Kind != Wait && sp.Cost.Total() != sp.End-sp.Start {
				return fmt.Sprintf("device %d: terms do not add up: %+v", d.Device, sp)
			}
		}
	}
	if r.Path.Cost.Total() != r.Time || gaps(r.Path.Spans, r.Time) != "" {
		return "critical path: " + gaps(r.Path.Spans, r.Time)
	}
	var ops int64
	for _, op := range r.Path.Ops {
		ops += op.Time
	}
	if ops != r.Time {
		return fmt.Sprintf("the path's ops take %d ps", ops)
	}
	var in, out int64
	for _, l := range r.Links {
		var busy, bytes, at int64
		for _, sp := range l.Spans {
			if sp.Start < at || sp.End > r.Time {
				return fmt.Sprintf("%s is taken twice or too late: %+v", l.Name, sp)
			}
			at, busy, bytes = sp.End, busy+sp.End-sp.Start, bytes+sp.Bytes
		}
		if busy != l.Busy || bytes != l.Bytes {
			return l.Name + " does not add up"
		}
		switch {
		case l.Shared:
		case l.Out:
			out += bytes
		default:
			in += bytes
		}
	}
	if o.Contention && in != out {
		return fmt.Sprintf("%d bytes are received, %d sent", in, out)
	}
	for i, h := range r.Memory {
		if m := s.plan.Memory[i]; h.Buffers < 0 || h.Total > m.Total || h.Total > h.Reserved {
			return fmt.Sprintf("memory %+v, reserved %+v", h, m)
		}
	}
	return ""
}

// gaps says where spans do not follow each other from 0 to the end.
func gaps(spans []Span, end int64) string {
	var at int64
	for _, sp := range spans {
		if sp.Start != at || sp.End < sp.Start {
			return fmt.Sprintf("%+v does not begin at %d", sp, at)
		}
		at = sp.End
	}
	if at != end {
		return fmt.Sprintf("ends at %d, not at %d", at, end)
	}
	return ""
}

// TestOrderOfModes checks that drifting apart and overlap can only help, and
// contention only hurt.
func TestOrderOfModes(t *testing.T) {
	var drift, helped, hurt int
	samples(t, func(name string, p *plan.Plan) {
		m := slow(8)
		s := simulator(t, p, m)
		for _, l := range loads {
			plain, both := s.must(t, l, Options{}), s.must(t, l, Options{Overlap: true})
			slower, last := s.must(t, l, Options{Contention: true}), s.must(t, l, Options{Overlap: true, Contention: true})
			if plain.Time > plain.Closed.Time || both.Time > plain.Time || slower.Time < plain.Time || last.Time < both.Time {
				t.Errorf("%s, %+v: lockstep %d, events %d, overlap %d, contention %d, both %d", name, l, plain.Closed.Time, plain.Time, both.Time, slower.Time, last.Time)
			}
			drift += count(plain.Time < plain.Closed.Time)
			helped += count(both.Time < plain.Time)
			hurt += count(slower.Time > plain.Time)
		}
	})
	if drift == 0 || helped == 0 || hurt == 0 {
		t.Errorf("drift helped %d times, overlap %d times, contention hurt %d times: nothing is shown", drift, helped, hurt)
	}
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// TestSameWithoutDrift compares events with the closed form where devices
// cannot drift apart: equal shares, every block ending in a meeting of all.
func TestSameWithoutDrift(t *testing.T) {
	set := map[string]string{"layers": "4", "hidden": "64", "heads": "8", "kv_heads": "8", "head_dim": "8", "ffn": "64", "experts": "8", "vocab": "64"}
	for _, devices := range []int{1, 2, 4, 8} {
		p := compiled(t, set, ir.Invariant, named("tp", devices)).Plan
		s := simulator(t, p, slow(8))
		for _, l := range loads {
			for _, o := range []Options{{}, {Contention: true}} {
				if r := s.must(t, l, o); r.Time != r.Closed.Time {
					t.Errorf("tp%d, contention %t, %+v: %d ps, lockstep %d", devices, o.Contention, l, r.Time, r.Closed.Time)
				}
			}
		}
	}
}

// TestFasterLinks checks that links with twice the bandwidth, or none to wait
// for, never make a step slower.
func TestFasterLinks(t *testing.T) {
	samples(t, func(name string, p *plan.Plan) {
		for _, l := range loads {
			var last [2]int64
			for i, rate := range []int64{1e7, 15e6, 1e8, 3e8, 1e10} {
				m := slow(8)
				m.Links[0].Bandwidth.Value = rate
				s := simulator(t, p, m)
				for j, o := range []Options{{}, {Overlap: true}} {
					r := s.must(t, l, o)
					if i > 0 && r.Time > last[j] {
						t.Errorf("%s, %+v, overlap %t: %d ps at %d bytes a second, %d before", name, l, o.Overlap, r.Time, rate, last[j])
					}
					last[j] = r.Time
				}
			}
		}
	})
}

// TestPhases checks that what a member receives, link by link, is made up of
// what package cost says.
func TestPhases(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	m := towers()
	m.Measured = append(m.Measured, machine.Curve{Op: "all_gather", Points: []machine.Point{{Price: 1e6, Took: 1e6}, {Price: 1e9, Took: 3e9}}})
	p := compiled(t, small(1), ir.Invariant, named("tp", 1)).Plan
	s := simulator(t, p, m)
	pricer := cost.NewPricer(m, loads[0], 1)
	two := 0
	for range 2000 {
		member, out := rng.IntN(8), rng.Int64N(1<<20)
		parts := make([]cost.Part, 1+rng.IntN(8))
		for i := range parts {
			parts[i] = cost.Part{Device: rng.IntN(8), Bytes: rng.Int64N(1 << (4 + rng.IntN(18)))}
		}
		for _, op := range []string{"all_reduce", "all_gather", "transfer"} {
			want := pricer.Exchange(op, member, parts, out).Link
			list := s.rounds(op, member, parts, out, false)
			if raw := total(list); m.Correct(op, raw) != want {
				t.Fatalf("%s of %+v at %d: %d ps before corrections, package cost says %d after", op, parts, member, raw, want)
			}
			two += count(len(list) > 0 && list[len(list)-1].round > 0)
			if list = s.phases(&ir.Node{Op: ir.Op(op), Device: member}, parts, out, want, false); total(list) != want {
				t.Fatalf("%s of %+v at %d: %d ps, want %d", op, parts, member, total(list), want)
			}
		}
	}
	if two < 100 {
		t.Errorf("%d sums in two rounds", two)
	}
}

// TestBatch counts slots as package routing does, and a crowded expert costs.
func TestBatch(t *testing.T) {
	p := compiled(t, small(2), ir.Invariant, named("dp2ep2", 4)).Plan
	rng := rand.New(rand.NewPCG(3, 4))
	b := &routing.Batch{Tokens: 60, Slots: 2, Experts: 10, Chosen: make([]uint16, 120)}
	for i := range b.Chosen {
		b.Chosen[i] = uint16(rng.IntN(10))
	}
	c := &counter{batch: b, tables: make(map[span][]int)}
	for range 2000 {
		lo := rng.IntN(50)
		hi, turns := lo+rng.IntN(61-lo), 1+rng.IntN(4)
		e, turn := rng.IntN(10), rng.IntN(turns)
		if got, want := c.count(e, turn, span{lo, hi, turns}), b.Count(e, turn, turns, lo, hi); got != want {
			t.Fatalf("expert %d in turn %d of %d among tokens %d to %d: %d slots, want %d", e, turn, turns, lo, hi, got, want)
		}
	}
	s := simulator(t, p, slow(8))
	l := cost.Load{Sequences: 60, Tokens: 60, Rows: 60, Context: 10}
	one := func(int) *routing.Batch {
		b := &routing.Batch{Tokens: 60, Slots: 2, Experts: 10, Chosen: make([]uint16, 120)}
		for i := range b.Chosen {
			b.Chosen[i] = uint16(i % 2)
		}
		return b
	}
	even, err := s.Lockstep(l, nil)
	if err != nil {
		t.Fatal(err)
	}
	crowded, err := s.Lockstep(l, one)
	if err != nil || crowded.Time <= even.Time {
		t.Errorf("all tokens choose two experts: %d ps, %v; spread evenly: %d", crowded.Time, err, even.Time)
	}
	if _, err := s.Lockstep(l, func(int) *routing.Batch { return b }); err != nil {
		t.Error(err)
	}
	l.Tokens, l.Sequences, l.Rows = 30, 30, 30
	if _, err := s.Lockstep(l, one); err == nil || !strings.Contains(err.Error(), "need 30, have 60") {
		t.Errorf("a batch of the wrong size: %v", err)
	}
}
