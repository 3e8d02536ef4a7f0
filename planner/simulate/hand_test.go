package simulate

import (
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/planner/plan"
)

func thousand() cost.Load { return cost.Load{Sequences: 1, Tokens: 1000, Rows: 1, Context: 100} }

// TestOneSender lets two transfers of 400,000 bytes leave device 0 at once. A
// byte takes 10 ns; segments of 200,000 bytes take turns on its port.
func TestOneSender(t *testing.T) {
	g := newGraph(t, 3, 1)
	x := g.embed(0, 100)
	g.together("transfer", 0, []int{1}, x)
	y := g.together("transfer", 1, []int{2}, x)
	s := simulator(t, g.plan(y[0]), slow(3))
	const begin = 800e6 + 100e3 // rows read and written, a launch
	const end = 400e6           // the result is written
	for _, c := range []struct {
		contention    bool
		first, second int64
	}{{false, 4000e6, 4000e6}, {true, 6000e6, 8000e6}} {
		r := s.must(t, thousand(), Options{Contention: c.contention})
		for d, link := range map[int]int64{1: c.first, 2: c.second} {
			dev := r.Devices[d]
			i := 1 // after the wait
			if got, want := dev.Spans[i].End, int64(begin+100e3+1e6+link+end); got != want {
				t.Errorf("contention %t: device %d is done at %d ps, want %d", c.contention, d, got, want)
			}
		}
	}
	r := s.must(t, thousand(), Options{Contention: true})
	for _, l := range r.Links {
		if l.Out && (len(l.Spans) != 4 || l.Busy != 8000e6 || l.Bytes != 800000) {
			t.Errorf("%s: %+v", l.Name, l)
		}
	}
}

// TestOneReceiver lets two devices send to one, by two exchanges: they follow
// each other, since a device has one exchange at a time.
func TestOneReceiver(t *testing.T) {
	g := newGraph(t, 3, 1)
	a := g.together("transfer", 0, []int{0}, g.embed(1, 100))
	g.together("transfer", 1, []int{0}, g.embed(2, 100))
	s := simulator(t, g.plan(a[0]), slow(3))
	const one = 100e3 + 1e6 + 4000e6 + 400e6
	for _, o := range modes {
		if r := s.must(t, thousand(), o); r.Time != 800e6+100e3+2*one {
			t.Errorf("overlap %t, contention %t: %d ps", o.Overlap, o.Contention, r.Time)
		}
	}
}

// TestSharedUplink lets two pairs exchange through uplinks of 1.5 times a
// port's bandwidth. Two devices behind one get three quarters of their ports.
func TestSharedUplink(t *testing.T) {
	m := slow(4)
	m.Links[0].Shared = &machine.Shared{Kind: "switch", Devices: 2, Bandwidth: machine.Quantity{Value: 15e7}}
	g := newGraph(t, 4, 1)
	a, b := g.embed(0, 100), g.embed(1, 100)
	g.together("transfer", 0, []int{2}, a)
	y := g.together("transfer", 1, []int{3}, b)
	s := simulator(t, g.plan(y[0]), m)
	r := s.must(t, thousand(), Options{Contention: true, SegmentBytes: 4096})
	// 98 segments each; the uplink is free again after two thirds of a port's
	// time for a segment, and alternates.
	uplink := int64(800000 * 20000 / 3)
	begin := int64(800e6 + 200e3 + 1e6)
	link := r.Time - begin - 400e6
	if link < uplink || link > uplink+2*4096*10e3 {
		t.Errorf("the transfers take %d ps, want about %d", link, uplink)
	}
	var seen int
	for _, l := range r.Links {
		if l.Shared {
			seen++
			if l.Bytes != 800000 || l.Busy < uplink-200 || l.Busy > uplink+200 {
				t.Errorf("%s: %d bytes in %d ps", l.Name, l.Bytes, l.Busy)
			}
		}
	}
	if seen != 2 {
		t.Errorf("%d shared parts are used, want the way out and the way in", seen)
	}
}

// TestOverlap runs a product beside an exchange that it does not need, and
// one after it that it needs.
func TestOverlap(t *testing.T) {
	g := newGraph(t, 2, 1)
	x := []*ir.Node{g.embed(0, 100), g.embed(1, 100)}
	joined := g.together("all_gather", 0, []int{0, 1}, x...)
	beside := g.op(0, -1, "matmul", nil, x[0], g.weight(0, "beside", 50, 100))
	after := g.op(0, -1, "matmul", nil, joined[0], g.weight(0, "after", 50, 200))
	sum := g.op(0, -1, "add", nil, beside, after)
	s := simulator(t, g.plan(sum), slow(2))
	const (
		embed    = 800e6 + 100e3
		exchange = 1e6 + 4000e6 + 400e6 + 800e6 + 100e3 // 400,000 bytes come, as many are read, twice as many written
		first    = 2*1000*50*100*1e3 + 100e3            // flops
		second   = 2*1000*50*200*1e3 + 100e3
	)
	for overlap, want := range map[bool]int64{false: embed + exchange + first + second, true: embed + max(exchange, first) + second} {
		r := s.must(t, thousand(), Options{Overlap: overlap})
		if r.Time != want {
			t.Errorf("overlap %t: %d ps, want %d", overlap, r.Time, want)
		}
		if n := len(r.Devices[0].Copies); n != count(overlap) {
			t.Errorf("overlap %t: %d exchanges beside steps", overlap, n)
		}
	}
}

// TestTwoRounds has a sum of three devices that pays to be done in two rounds,
// which stay as fast as the closed form when ports are taken in turn.
func TestTwoRounds(t *testing.T) {
	g := newGraph(t, 3, 1)
	var parts []*ir.Node
	for d := range 3 {
		parts = append(parts, g.op(d, -1, "part", nil, g.op(d, -1, "matmul", nil, g.embed(d, 4), g.weight(d, "w", 10, 4))))
	}
	s := simulator(t, g.plan(g.together("all_reduce", 0, []int{0, 1, 2}, parts...)[0]), slow(3))
	l := cost.Load{Sequences: 1, Tokens: 90, Rows: 1, Context: 100}
	// 3,600 bytes each: a third of two others' comes in, then two thirds of
	// the sum.
	const embed, product = 2*90*16*1e3 + 100e3, 2*90*40*1e3 + 100e3
	const sum = 2e6 + 4*1200*10e3 + 7200e3 + 100e3
	for _, contention := range []bool{false, true} {
		r := s.must(t, l, Options{Contention: contention})
		if want := int64(embed + product + sum); r.Time != want || r.Closed.Time != want {
			t.Errorf("contention %t: %d ps, lockstep %d, want %d", contention, r.Time, r.Closed.Time, want)
		}
	}
}

// TestDrift lets one device fall behind in one block and the other in the
// next. In lockstep both wait.
func TestDrift(t *testing.T) {
	g := newGraph(t, 2, 1)
	g.Layers = 2
	x := []*ir.Node{g.embed(0, 10), g.embed(1, 10)}
	for l := range 2 {
		g.layer = l
		n := []int{1000, 10} // features of each device's product
		if l == 1 {
			n = []int{10, 1000}
		}
		for d := range 2 {
			y := g.op(d, -1, "matmul", nil, x[d], g.weight(d, []string{"a", "b"}[d], n[d], 10))
			x[d] = g.op(d, -1, "matmul", nil, y, g.weight(d, []string{"c", "d"}[d], 10, n[d]))
		}
	}
	g.layer = -1
	out := g.together("all_gather", 0, []int{0, 1}, x...)
	s := simulator(t, g.plan(out[0]), slow(2))
	l := cost.Load{Sequences: 1, Tokens: 1, Rows: 1, Context: 100}
	c, err := s.Lockstep(l, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Turns) != 4 || c.Turns[1].Time != c.Turns[2].Time || c.Turns[1].Layer != 0 || c.Turns[3].Layer != -1 {
		t.Fatalf("turns %+v", c.Turns)
	}
	// A wide product and its counterpart read 40,000 bytes of weights and
	// write or read 4,000 and 40; a narrow one has 10 in place of 1,000.
	const wide, narrow = 2 * (44040e3 + 100e3), 2 * (480e3 + 100e3)
	if c.Turns[1].Time != wide {
		t.Errorf("a layer takes %d ps, want %d", c.Turns[1].Time, int64(wide))
	}
	if r := s.must(t, l, Options{}); c.Time-r.Time != wide-narrow {
		t.Errorf("events take %d ps less than lockstep, want %d", c.Time-r.Time, int64(wide-narrow))
	}
}

// TestRefusals checks what is said of plans and loads that make no sense.
func TestRefusals(t *testing.T) {
	make := func(change func(p *plan.Plan)) *plan.Plan {
		g := newGraph(t, 2, 1)
		x, y := g.embed(0, 10), g.embed(1, 10)
		g.together("all_gather", 0, []int{0, 1}, x, y)
		out := g.together("all_gather", 1, []int{0, 1}, y, x)
		p := g.plan(out[0])
		change(p)
		return p
	}
	queue := func(p *plan.Plan, d int) []plan.Step { return p.Programs[0].Blocks[0].Queues[d].Steps }
	for _, c := range []struct {
		want   string
		change func(p *plan.Plan)
	}{
		{"wait for each other for ever: device 0 at step 1 (all_gather, channel 1), device 1 at step 1", func(p *plan.Plan) { q := queue(p, 0); q[1], q[2] = q[2], q[1] }},
		{"device 0 owns an operand of channel 1", func(p *plan.Plan) { q := &p.Programs[0].Blocks[0].Queues[0]; q.Steps = q.Steps[:2] }},
		{`no buffer "nowhere"`, func(p *plan.Plan) { queue(p, 0)[0].Out = "nowhere" }},
		{`no block "z"`, func(p *plan.Plan) { p.Programs[0].Runs[0].Block = "z" }},
		{`no weight "w"`, func(p *plan.Plan) { queue(p, 1)[0].Args[1].Name = "w" }},
		{"device 1: step 0 (embed): embed: w has shape", func(p *plan.Plan) { p.Weights[1].Shape = []int{5} }},
		{`no op "what"`, func(p *plan.Plan) { queue(p, 0)[0].Op = "what" }},
		{"two steps of channel 0", func(p *plan.Plan) { queue(p, 0)[2].Attrs = queue(p, 0)[1].Attrs }},
		{"has no channel", func(p *plan.Plan) { queue(p, 0)[2] = plan.Step{Op: "send", Args: queue(p, 0)[1].Args[:1]} }},
		{"devices of the plan: need 10, have 2", func(p *plan.Plan) { p.Programs[0].Blocks[0].Queues[0].Device = 9 }},
		{"no program", func(p *plan.Plan) { p.Programs = nil }},
		{"devices of machine slow: need 3, have 2", func(p *plan.Plan) { p.Memory = append(p.Memory, plan.Memory{Device: 2}) }},
	} {
		if _, err := New(make(c.change), slow(2)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	s := simulator(t, make(func(*plan.Plan) {}), slow(2))
	for _, c := range []struct {
		want string
		load cost.Load
		o    Options
	}{
		{"the load: need", cost.Load{Sequences: 0, Tokens: 1}, Options{}},
		{"the load: need", cost.Load{Sequences: 2, Tokens: 3}, Options{}},
		{"the load: need", cost.Load{Sequences: 2, Tokens: 2, Rows: 3}, Options{}},
		{"tokens of a step of the plan: need 2000, have 1024", cost.Load{Sequences: 1, Tokens: 2000}, Options{}},
		{"sequences of a step of the plan: need 65, have 64", cost.Load{Sequences: 65, Tokens: 65}, Options{}},
		{"context of a step of the plan: need 5000, have 4096", cost.Load{Sequences: 1, Tokens: 1, Context: 5000}, Options{}},
		{"bytes of a segment: need at least 4096, have 7", cost.Load{Sequences: 1, Tokens: 1}, Options{Contention: true, SegmentBytes: 7}},
	} {
		if _, err := s.Step(c.load, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.load, err, c.want)
		}
	}
	if _, err := s.Lockstep(cost.Load{Sequences: 1, Tokens: 4000, Rows: 1, Context: 9000}, nil); err != nil {
		t.Errorf("the closed form asks for limits: %v", err)
	}
}
