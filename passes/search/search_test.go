package search

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/ir/routing"
)

// mixtral is the problem of Mixtral 8x7B at full size.
func mixtral(t testing.TB, machineName, spec string, w Workload) *Problem {
	t.Helper()
	set := map[string]string{}
	if strings.HasPrefix(machineName, "v100") {
		set["act"] = "f16"
	}
	o := outline(t, "mixtral", ir.Invariant, 8, set)
	stats, err := routing.Parse(spec, shapes(o))
	if err != nil {
		t.Fatal(err)
	}
	return &Problem{Outline: o, Machine: machineOf(t, machineName), Stats: stats, Positions: 8 * 4096, Workload: w}
}

func run(t testing.TB, p *Problem, o Options) *Result {
	t.Helper()
	r, err := Run(p, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestMixtralHasNoGap solves Mixtral 8x7B exactly; all machines and loads are
// in internal/searchcheck.
func TestMixtralHasNoGap(t *testing.T) {
	mixed, err := ParseWorkload("", 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		machine string
		w       Workload
	}{{"h200x4", mixed}, {"v100x4", Decode(64)}, {"l40sx4", Prefill(2048, 2048)}} {
		p := mixtral(t, c.machine, "uniform", c.w)
		r := run(t, p, Options{Searcher: "exact"})
		if gap, ok := r.Gap(); !ok || gap != 0 || r.Chosen.Score > r.Best().Score || r.Limit != "" {
			t.Errorf("%s %s: gap %d ppm (%t), %d ps, best by hand %d, %q", c.machine, c.w.Name, gap, ok, r.Chosen.Score, r.Best().Score, r.Limit)
		}
		if err := r.Chosen.Placement.Check(p.Outline.Summary); err != nil {
			t.Errorf("%s %s: the placement is wrong: %v", c.machine, c.w.Name, err)
		}
		walk := run(t, p, Options{Searcher: "mcmc", Seed: 1})
		if over := walk.Chosen.Score - r.Chosen.Score; over < 0 || over > r.Chosen.Score*3/100 {
			t.Errorf("%s %s: mcmc finds %d ps, exact %d", c.machine, c.w.Name, walk.Chosen.Score, r.Chosen.Score)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		var list []*placement.Placement
		for range 60 {
			list = append(list, placement.Random(rng, p.Outline.Summary, 4))
		}
		priced, err := Price(p, list...)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range priced {
			if x.Score < r.Bound {
				t.Errorf("%s %s: a random placement costs %d ps, the bound is %d", c.machine, c.w.Name, x.Score, r.Bound)
			}
		}
	}
}

// TestNeverWorseThanByHand searches where exact leaves a gap: tokens prefer
// some experts.
func TestNeverWorseThanByHand(t *testing.T) {
	for _, name := range []string{"a100x4", "l4x8"} {
		for _, batch := range []int{2, 256} {
			o := outline(t, "mixtral", ir.Invariant, 8, map[string]string{"layers": "3", "hidden": "1024", "ffn": "3584"})
			p := &Problem{Outline: o, Machine: machineOf(t, name), Stats: routing.PowerLaw(shapes(o), 1.2, 1), Workload: Decode(batch), Positions: 4096, Samples: 4}
			r, err := Run(p, Options{Budget: 500})
			var fit *FitError
			if errors.As(err, &fit) {
				if fit.Need <= fit.Have {
					t.Errorf("%s: needs %d bytes, has %d, and does not fit", name, fit.Need, fit.Have)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, h := range r.Hand {
				if h.Why == "" && h.Score < r.Chosen.Score {
					t.Errorf("%s batch %d: %s costs %d ps, chosen %d", name, batch, h.Name, h.Score, r.Chosen.Score)
				}
			}
			if r.Chosen.Score < r.Bound {
				t.Errorf("%s batch %d: chosen %d ps is below the bound %d", name, batch, r.Chosen.Score, r.Bound)
			}
		}
	}
}

// TestSearchIsDeterministic runs the same search twice, on one core and on all.
func TestSearchIsDeterministic(t *testing.T) {
	o := outline(t, "mixtral", ir.Invariant, 8, tiny)
	search := func() *Result {
		return run(t, &Problem{Outline: o, Machine: machineOf(t, "h200x4"), Stats: routing.PowerLaw(shapes(o), 1, 1), Workload: Decode(4)}, Options{Budget: 3000, Seed: 5})
	}
	a := search()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if b := search(); !reflect.DeepEqual(a, b) {
		t.Errorf("%+v\n%+v", a.Chosen, b.Chosen)
	}
}

// TestMeasurementsCorrectPrices prices with a machine file that has
// measurements, the search's way and node by node.
func TestMeasurementsCorrectPrices(t *testing.T) {
	o := outline(t, "mixtral", ir.Invariant, 8, tiny)
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 3))
		p := placement.Random(rng, o.Summary, 3)
		m := modelFor(t, o, routing.PowerLaw(shapes(o), 1, 3), "h200x8", 3)
		for _, op := range []string{"matmul", "expert_matmul", "combine", "attention", "all_reduce"} {
			m.Machine.Measured = append(m.Machine.Measured, machine.Curve{Op: op, Source: "test", Points: []machine.Point{{Price: 1000, Took: 3000}, {Price: 1e6, Took: 1.5e6}}})
		}
		measured, err := newModel(m.Problem)
		if err != nil {
			t.Fatal(err)
		}
		comparePrices(t, "measured", measured, p)
	}
}

// TestMemoryIsALimit searches where the fastest placement does not fit.
func TestMemoryIsALimit(t *testing.T) {
	o := outline(t, "mixtral", ir.Invariant, 8, map[string]string{"layers": "4", "act": "bf16"})
	p := &Problem{Outline: o, Machine: machineOf(t, "h200x4"), Stats: routing.Uniform(shapes(o)), Workload: Prefill(2048, 2048), Samples: 1}
	free := run(t, p, Options{Searcher: "exact"})
	most := int64(0)
	for _, b := range free.Chosen.Bytes {
		most = max(most, b)
	}
	small := *p.Machine
	small.Device.Memory.Value = most + small.Device.Reserve.Value - 1
	p.Machine = &small
	r, err := Run(p, Options{Budget: 2000})
	if err != nil {
		t.Fatal(err)
	}
	for d, b := range r.Chosen.Bytes {
		if b > most-1 {
			t.Errorf("device %d keeps %d bytes, has room for %d", d, b, most-1)
		}
	}
	if r.Chosen.Score < r.Bound || r.Bound > free.Chosen.Score {
		t.Errorf("chosen %d, bound %d, without the limit %d", r.Chosen.Score, r.Bound, free.Chosen.Score)
	}
	small.Device.Memory.Value = 1 << 32
	var fit *FitError
	if _, err := Run(p, Options{Budget: 100}); !errors.As(err, &fit) || fit.Need <= fit.Have || fit.Name == "" {
		t.Errorf("4 GB a device for 12 GB of weights: %v", err)
	}
}

func TestWorkloads(t *testing.T) {
	for _, spec := range []string{"", "mixed", "latency", "throughput", "prefill", "chat", "batch8", "prefill512"} {
		if w, err := ParseWorkload(spec, 256); err != nil || w.Check() != nil {
			t.Errorf("%q: %+v, %v", spec, w, err)
		}
	}
	if w, _ := ParseWorkload("prefill2048", 256); w.Steps[0].Count != 8 || w.Steps[0].Tokens != 256 {
		t.Errorf("a prompt of 2048 in chunks of 256 is %+v", w.Steps)
	}
	for spec, want := range map[string]string{"fast": "name one of mixed", "batch0": "name one of", "no/such.json": "cannot be read"} {
		if _, err := ParseWorkload(spec, 256); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}
