package simulate

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"moec/compiler"
	"moec/dsl"
	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/ir/tensor"
	"moec/passes"
	"moec/planner"
	"moec/planner/plan"
)

// slow is a machine whose prices can be worked out by hand: a byte of memory
// takes 1 ns, a flop 1 ns in f32 and 0.5 ns in half precision, a byte of a
// link 10 ns, a step 100 ns, an exchange 1 us.
func slow(devices int) *machine.Machine {
	q := func(n int64) machine.Quantity { return machine.Quantity{Value: n} }
	return &machine.Machine{Name: "slow", Devices: devices,
		Device: machine.Device{Memory: q(1 << 40), Bandwidth: q(1e9), Rates: map[string]machine.Quantity{"f32": q(1e9), "bf16": q(2e9)}, Launch: q(100e3)},
		Links:  []machine.Link{{Kind: "wire", Latency: q(1e6), Bandwidth: q(1e8)}}}
}

// towers is slow with pairs of devices on a faster link, and pairs of those
// pairs behind a shared uplink.
func towers() *machine.Machine {
	m := slow(8)
	q := func(n int64) machine.Quantity { return machine.Quantity{Value: n} }
	m.Name = "towers"
	m.Links = []machine.Link{
		{Kind: "board", Span: 2, Latency: q(500e3), Bandwidth: q(4e8), Sizes: []machine.Size{{Bytes: 1000, Time: q(4e6)}, {Bytes: 100000, Time: q(260e6)}}},
		{Kind: "network", Latency: q(3e6), Bandwidth: q(1e8), Shared: &machine.Shared{Kind: "switch", Devices: 4, Bandwidth: q(15e7)}},
	}
	m.Measured = []machine.Curve{{Op: "matmul", Points: []machine.Point{{Price: 1e6, Took: 3e6}, {Price: 1e9, Took: 12e8}}}, {Op: "all_reduce", Points: []machine.Point{{Price: 1e6, Took: 2e6}}}}
	return m
}

// graph builds placed graphs by hand.
type graph struct {
	t testing.TB
	*ir.Graph
	layer int
}

func newGraph(t testing.TB, devices, groups int) *graph {
	g := &graph{t, ir.NewGraph("test"), -1}
	g.Level, g.Devices, g.Groups = ir.Placed, devices, groups
	return g
}

func (g *graph) op(device, group int, op string, attrs []ir.Attr, args ...*ir.Node) *ir.Node {
	g.t.Helper()
	n, err := g.Add(ir.Op(op), args, ir.MakeAttrs(attrs...), &ir.Node{Layer: g.layer, Device: device, Group: group})
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

func (g *graph) weight(device int, name string, shape ...int) *ir.Node {
	if g.layer >= 0 {
		name = fmt.Sprintf("layers.%d.%s", g.layer, name)
	}
	if g.Weight(name) == nil {
		g.Weights = append(g.Weights, &ir.Weight{Name: name, Layer: g.layer, DType: tensor.F32, Shape: shape, Source: ir.Source{Key: name, Stored: shape}})
	}
	return g.op(device, -1, "weight", []ir.Attr{{Name: "name", Value: name}, {Name: "dtype", Value: tensor.F32}, {Name: "shape", Value: shape}})
}

// embed gives rows of n features on a device.
func (g *graph) embed(device, n int) *ir.Node {
	ids := g.op(device, -1, "input", []ir.Attr{{Name: "name", Value: "tokens"}})
	return g.op(device, -1, "embed", nil, ids, g.weight(device, fmt.Sprintf("embed%d", n), 5, n))
}

// together adds a collective on several devices.
func (g *graph) together(op string, channel int, devices []int, args ...*ir.Node) []*ir.Node {
	var list []*ir.Node
	for _, d := range devices {
		attrs := []ir.Attr{{Name: "channel", Value: channel}}
		switch op {
		case "all_gather":
			attrs = append(attrs, ir.Attr{Name: "axis", Value: 1})
		case "all_reduce":
			spans := make([][]int, len(args))
			for i := range spans {
				spans[i] = []int{i, i + 1}
			}
			attrs = append(attrs, ir.Attr{Name: "spans", Value: spans}, ir.Attr{Name: "leaves", Value: len(args)})
		}
		list = append(list, g.op(d, -1, op, attrs, args...))
	}
	return list
}

// plan makes a plan whose output is a value of the graph.
func (g *graph) plan(out *ir.Node) *plan.Plan {
	g.t.Helper()
	g.Outputs = []ir.Output{{Name: "logits", Value: out}}
	p, err := planner.Make(g.Graph, planner.Options{Machine: plan.Machine{Devices: g.Devices, Memory: 1 << 40},
		Limits: plan.Limits{Tokens: 1024, Rows: 1024, Sequences: 64, Context: 4096, Page: 16, Pages: 256}})
	if err != nil {
		g.t.Fatal(err)
	}
	return p
}

// small are the settings of a model that compiles in milliseconds.
func small(layers int) map[string]string {
	return map[string]string{"layers": fmt.Sprint(layers), "hidden": "48", "heads": "12", "kv_heads": "6", "head_dim": "4", "ffn": "40", "experts": "10", "vocab": "37"}
}

// compiled compiles an example for a placement.
func compiled(t testing.TB, set map[string]string, mode ir.Mode, place func(*ir.Graph) (*placement.Placement, error)) *compiler.Result {
	t.Helper()
	src, err := os.ReadFile("../../examples/mixtral.moe")
	if err != nil {
		t.Fatal(err)
	}
	r, err := compiler.Compile("mixtral.moe", src, compiler.Options{Env: dsl.Env{Set: set}, Numerics: ir.Numerics{Mode: mode, Segments: 8}, Place: place,
		Limits: plan.Limits{Tokens: 512, Rows: 512, Sequences: 64, Context: 2048}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func named(strategy string, devices int) func(*ir.Graph) (*placement.Placement, error) {
	return func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, strategy, devices) }
}

func random(seed uint64) func(*ir.Graph) (*placement.Placement, error) {
	return func(g *ir.Graph) (*placement.Placement, error) {
		rng := rand.New(rand.NewPCG(seed, 7))
		return placement.Random(rng, passes.Summarise(g), 1+rng.IntN(8)), nil
	}
}

// simulator prepares a plan.
func simulator(t testing.TB, p *plan.Plan, m *machine.Machine) *Simulator {
	t.Helper()
	s, err := New(p, m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Simulator) must(t testing.TB, l cost.Load, o Options) *Result {
	t.Helper()
	r, err := s.Step(l, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// loads are the kinds of steps that tests try.
var loads = []cost.Load{
	{Sequences: 1, Tokens: 1, Rows: 1, Context: 100},
	{Sequences: 6, Tokens: 6, Rows: 6, Context: 50},
	{Sequences: 2, Tokens: 64, Rows: 2, Context: 16},
	{Sequences: 1, Tokens: 200, Rows: 0, Context: 100},
}

// TestByHand prices a meeting of a fast and a slow device.
func TestByHand(t *testing.T) {
	g := newGraph(t, 2, 1)
	list := g.together("all_gather", 0, []int{0, 1}, g.embed(0, 10), g.embed(1, 1000))
	s := simulator(t, g.plan(list[0]), slow(2))
	l := cost.Load{Sequences: 1, Tokens: 1, Rows: 1, Context: 100}
	// Device 0 embeds for 80 ns + 100 ns, device 1 for 8,000 ns + 100 ns.
	// Device 0 then gets 4,000 bytes for 1 us + 40 us, reads 40 and writes
	// 4,040; device 1 gets 40 bytes, reads 4,000 and writes 4,040.
	const meet, first, second = 8100e3, 41000e3 + 4080e3 + 100e3, 1400e3 + 8040e3 + 100e3
	closed, err := s.Lockstep(l, nil)
	if want := (cost.Cost{Memory: 80e3 + 4080e3, Launch: 200e3, Link: 7920e3 + 41000e3}); err != nil || closed.Cost != want || closed.Time != meet+first {
		t.Errorf("lockstep: %+v, %v; want %+v", closed, err, want)
	}
	r := s.must(t, l, Options{})
	if r.Time != meet+first {
		t.Errorf("the step takes %d ps, want %d", r.Time, int64(meet+first))
	}
	for d, want := range [][4]int64{{180e3, first, 7920e3, 41000e3 - 1000e3}, {8100e3, second, first - second, 400e3}} {
		dev := r.Devices[d]
		if got := [4]int64{dev.Busy, dev.Exchange, dev.Wait, r.Links[d].Busy}; got != want {
			t.Errorf("device %d is busy, exchanges, waits and receives for %d ps, want %d", d, got, want)
		}
	}
	// The path goes from device 1's embedding to device 0's exchange.
	if p := r.Path; len(p.Spans) != 2 || p.Spans[0].Device != 1 || p.Spans[1].Device != 0 || p.Cost != (cost.Cost{Memory: 8000e3 + 4080e3, Launch: 200e3, Link: 41000e3}) {
		t.Errorf("critical path %+v", p)
	}
	// Device 0 holds its tokens and rows of 10 and 1,010 features.
	if h := r.Memory[0]; h.Buffers != 4+40+4040 || h.Op != "all_gather" || h.Time != meet {
		t.Errorf("high-water mark %+v", h)
	}
}

// TestAsCost compares events with package cost, which goes through the placed
// graph: it lets clocks go on between layers as well.
func TestAsCost(t *testing.T) {
	for _, c := range []struct {
		strategy string
		devices  int
	}{{"tp", 1}, {"tp", 2}, {"ep", 5}, {"dp", 3}, {"adp", 3}, {"pp", 3}, {"tp3ep2", 6}, {"pp2dp2", 4}, {"adp2tp2", 4}} {
		for _, mode := range []ir.Mode{ir.Invariant, ir.Fast} {
			compare(t, fmt.Sprint(c.strategy, " ", c.devices, " ", mode), compiled(t, small(3), mode, named(c.strategy, c.devices)))
		}
	}
	for seed := range uint64(12) {
		compare(t, fmt.Sprint("seed ", seed), compiled(t, small(3), ir.Invariant, random(seed)))
	}
}

func compare(t *testing.T, name string, r *compiler.Result) {
	t.Helper()
	for _, m := range []*machine.Machine{slow(8), towers()} {
		s := simulator(t, r.Plan, m)
		for _, l := range loads {
			want := cost.Step(r.Graph, m, l).Total()
			got := s.must(t, l, Options{})
			if got.Time != want {
				t.Errorf("%s on %s, %+v: %d ps, package cost says %d", name, m.Name, l, got.Time, want)
			}
		}
	}
}
