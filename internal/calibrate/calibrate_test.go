package calibrate

import (
	"context"
	"encoding/binary"
	"math"
	"reflect"
	"strings"
	"testing"

	"moec/compiler"
	"moec/ir/arith"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/tensor"
	"moec/planner/plan"
	"moec/runtime"
)

func lookup(t *testing.T, name string) *machine.Machine {
	t.Helper()
	m, err := machine.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func backend(t *testing.T, name string) runtime.Backend {
	t.Helper()
	b, err := runtime.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestQuick calibrates the CPU and prices a product of a size that was not
// measured. Hosts are shared: a few tries may go wrong.
func TestQuick(t *testing.T) {
	const tries = 4
	for try := 1; ; try++ {
		list := make(map[string]int)
		out, err := Run(context.Background(), Options{Machine: lookup(t, "host"), Backend: backend(t, "cpu"), Quick: true,
			Progress: func(m Measurement) {
				list[m.Op]++
				t.Logf("%-14s %-32s price %10.1f us, took %10.1f us", m.Op, m.Size, float64(m.Price)/1e6, float64(m.Took)/1e6)
			}, Warn: func(s string) { t.Log(s) }})
		if err != nil {
			t.Fatal(err)
		}
		out = readBack(t, out)
		for _, op := range ops {
			if list[op.name] == 0 || !curveOf(out, op.name) {
				t.Errorf("%s was not measured", op.name)
			}
		}
		said, took := product(t, out)
		t.Logf("16 tokens, width 384: priced %.1f us, took %.1f us", float64(said)/1e6, float64(took)/1e6)
		if said < 2*took && took < 2*said {
			return
		}
		if try == tries {
			t.Fatalf("a product is priced %d ps and took %d, %d times", said, took, tries)
		}
	}
}

func curveOf(m *machine.Machine, op string) bool {
	for _, c := range m.Measured {
		if c.Op == op {
			return strings.Contains(c.Source, "cpu backend on") && len(c.Points) > 0
		}
	}
	return false
}

// product prices a product with a machine's measurements and measures it.
func product(t *testing.T, m *machine.Machine) (said, took int64) {
	t.Helper()
	c := &calibration{Options: Options{Backend: backend(t, "cpu"), Quick: true}, figures: m, weights: tensor.F32}
	s := candidate{size: prompt(16, settings{"n": 384}, 384*384), layers: 8}
	r, err := c.compile(ops[0], s.size, settings{"layers": 1})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := c.price(r.Graph, s.load, "matmul")
	all, n, err := c.difference(context.Background(), ops[0], s)
	if err != nil {
		t.Fatal(err)
	}
	return p.op + p.beside, all / n
}

// TestPairs checks that the plans of an op differ by that op alone.
func TestPairs(t *testing.T) {
	c := &calibration{figures: lookup(t, "host"), weights: tensor.F32}
	for _, o := range ops {
		s := o.sizes(true)[0]
		more, less := o.pair(3)
		a, err := c.compile(o, s, more)
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.compile(o, s, less)
		if err != nil {
			t.Fatal(err)
		}
		for name := range map[string]bool{"matmul": true, "expert_matmul": true, "combine": true, "attention": true, "embed": true} {
			_, x := c.price(a.Graph, s.load, name)
			_, y := c.price(b.Graph, s.load, name)
			want := int64(0)
			if name == o.name {
				want = 3
			}
			if x-y != want {
				t.Errorf("%s: the plans differ by %d %s, want %d", o.name, x-y, name, want)
			}
		}
	}
}

// TestRoutesAreEven runs the expert descriptions' routing: every expert gets as
// many slots as prices take it to get.
func TestRoutesAreEven(t *testing.T) {
	const experts, tokens = 8, 64
	raw := make([]byte, 4*experts*tokens)
	if err := (filler{}).Read(plan.Part{Weight: "routes", Shape: []int{tokens, experts}}, tensor.F32, -1, raw); err != nil {
		t.Fatal(err)
	}
	counts := make([]int, experts)
	for tok := range tokens {
		for _, e := range twoBest(raw[4*experts*tok : 4*experts*(tok+1)]) {
			counts[e]++
		}
		all := slots * (tok + 1)
		for e, n := range counts {
			if n != all/experts && n != (all+experts-1)/experts {
				t.Fatalf("after %d tokens expert %d has %d slots of %d", tok+1, e, n, all)
			}
		}
	}
}

func TestPoints(t *testing.T) {
	m := func(price, took int64) Measurement { return Measurement{Price: price, Took: took} }
	for _, c := range []struct {
		list []Measurement
		want []machine.Point
	}{
		{[]Measurement{m(30, 9), m(10, 3), m(20, 5)}, []machine.Point{{Price: 10, Took: 3}, {Price: 20, Took: 5}, {Price: 30, Took: 9}}},
		{[]Measurement{m(10, 8), m(20, 4), m(30, 9)}, []machine.Point{{Price: 10, Took: 6}, {Price: 20, Took: 6}, {Price: 30, Took: 9}}},
		{[]Measurement{m(10, 8), m(20, 9), m(30, 1)}, []machine.Point{{Price: 10, Took: 6}, {Price: 20, Took: 6}, {Price: 30, Took: 6}}},
		{[]Measurement{m(10, 3), m(10, 5), m(20, 7)}, []machine.Point{{Price: 10, Took: 4}, {Price: 20, Took: 7}}},
		{[]Measurement{m(10, 9), m(20, 7), m(20, 5), m(40, 2), m(50, 20)}, []machine.Point{{Price: 10, Took: 5}, {Price: 20, Took: 5}, {Price: 40, Took: 5}, {Price: 50, Took: 20}}},
	} {
		if got := points(c.list); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v gives %v, want %v", c.list, got, c.want)
		}
	}
}

func TestReplace(t *testing.T) {
	m := &machine.Machine{Measured: []machine.Curve{{Op: "matmul", Source: "old", Points: []machine.Point{{Price: 1, Took: 1}}}, {Op: "transfer", Source: "old"}}}
	before := m.Measured
	replace(m, "matmul", "new", []Measurement{{Price: 2, Took: 3}})
	replace(m, "attention", "new", []Measurement{{Price: 2, Took: 3}})
	replace(m, "embed", "new", nil)
	var names []string
	for _, c := range m.Measured {
		names = append(names, c.Op+" "+c.Source)
	}
	if want := []string{"attention new", "matmul new", "transfer old"}; !reflect.DeepEqual(names, want) || before[0].Source != "old" {
		t.Errorf("curves are %v, want %v", names, want)
	}
}

// TestSuits refuses to measure for another machine.
func TestSuits(t *testing.T) {
	for _, c := range []struct{ machine, backend, name, want string }{
		{"host", "cpu", "any", ""},
		{"h200x8", "cuda", "NVIDIA H200", ""},
		{"h200x8", "cpu", "any", "measuring with --backend cpu: need devices of kind cpu, have cuda; describe this host"},
		{"h200x8", "cuda", "NVIDIA L4", "measuring on this host: need NVIDIA H200, have NVIDIA L4; describe this host"},
	} {
		err := suits(lookup(t, c.machine), c.backend, c.name)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for name, want := range map[string]tensor.DType{"v100x4": tensor.F16, "h200x8": tensor.BF16, "host": tensor.F32} {
		if got := fastest(lookup(t, name)); got != want {
			t.Errorf("%s is measured in %s, want %s", name, got, want)
		}
	}
}

// TestPlansOfExchanges makes plans that the verifier accepts, whose price grows
// with what is exchanged.
func TestPlansOfExchanges(t *testing.T) {
	c := &calibration{figures: lookup(t, "host"), weights: tensor.F32}
	for _, x := range exchanges {
		for devices := 2; devices < 5; devices++ {
			var last int64
			for _, tokens := range []int{1, 8} {
				s := prompt(tokens, nil, 0)
				b := newBuilder(x.name, devices)
				if _, err := b.plan(x, 3, limits(&s)); err != nil {
					t.Errorf("%s on %d devices: %v", x.name, devices, err)
					continue
				}
				p, n := c.price(b.Graph, s.load, x.name)
				members := int64(devices)
				if x.name == "transfer" {
					members = 1
				}
				if n != 3*members || p.op <= last {
					t.Errorf("%s on %d devices: %d nodes of %d ps, for less %d", x.name, devices, n, p.op, last)
				}
				last = p.op
			}
		}
	}
}

// TestSizesSpan checks for machines far apart that what is chosen waits for
// memory at one end and for arithmetic at the other.
func TestSizesSpan(t *testing.T) {
	for _, name := range []string{"h200x8", "v100x4", "l4x8", "host"} {
		m := lookup(t, name)
		c := &calibration{figures: m, weights: fastest(m)}
		for _, o := range ops[:2] { // products
			list, err := c.candidates(o)
			if err != nil {
				t.Fatal(err)
			}
			list = spread(list, c.bounds().sizes)
			memory, compute := 0, 0
			for _, s := range list {
				r, err := c.compile(o, s.size, settings{"layers": 1})
				if err != nil {
					t.Fatal(err)
				}
				if bound(cost.NewPricer(m, s.load, 1), r) {
					compute++
				} else {
					memory++
				}
				if s.layers < few || s.held*int64(s.layers*c.weights.Bytes()) > c.bounds().held {
					t.Errorf("%s: %s %s in %d layers", name, o.name, s.String(), s.layers)
				}
			}
			if memory < 2 || compute < 1 || len(list) > c.bounds().sizes {
				t.Errorf("%s: %d sizes of %s wait for memory, %d for arithmetic", name, memory, o.name, compute)
			}
		}
	}
}

// bound reports whether a product of a graph is bound by arithmetic.
func bound(p *cost.Pricer, r *compiler.Result) bool {
	var sum cost.Cost
	for _, n := range r.Graph.Nodes {
		if n.Op.Name == "fused" {
			for _, inner := range n.Attrs.Body().Nodes {
				if strings.HasSuffix(inner.Op.Name, "matmul") {
					sum = sum.Add(p.Node(inner, nil))
				}
			}
		} else if strings.HasSuffix(n.Op.Name, "matmul") {
			sum = sum.Add(p.Node(n, nil))
		}
	}
	return sum.Compute > sum.Memory
}

// twoBest returns the two largest entries of a row of f32.
func twoBest(raw []byte) []int32 {
	row := make([]float32, len(raw)/4)
	for i := range row {
		row[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	two := make([]int32, 2)
	arith.TopK{K: 2}.Row(two, row)
	return two
}

func TestRates(t *testing.T) {
	q := func(n int64) machine.Quantity { return machine.Quantity{Value: n, Unit: "flop/s", Source: "old"} }
	for _, c := range []struct {
		measured string
		rate     int64
		want     map[string]int64
	}{
		{"bf16", 30, map[string]int64{"bf16": 30, "f16": 30, "f32": 30}},
		{"bf16", 90, map[string]int64{"bf16": 90, "f16": 90, "f32": 67}},
		{"f32", 50, map[string]int64{"bf16": 50, "f16": 50, "f32": 50}},
	} {
		old := map[string]machine.Quantity{"bf16": q(743), "f16": q(743), "f32": q(67)}
		got := rates(old, c.measured, machine.Quantity{Value: c.rate, Unit: "flop/s", Source: "new"})
		for name, want := range c.want {
			if got[name].Value != want || got[name].Source == "" || want != old[name].Value && got[name].Source == "old" {
				t.Errorf("%s measured as %d: %s is %+v, want %d", c.measured, c.rate, name, got[name], want)
			}
		}
		if old["bf16"].Value != 743 {
			t.Error("the old rates changed")
		}
	}
}
