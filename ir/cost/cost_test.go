package cost

import (
	"testing"

	"moec/ir"
	"moec/ir/machine"
	"moec/ir/tensor"
)

// slow is a machine whose prices can be worked out by hand: a byte of memory
// takes 1 ns, a flop 1 ns in f32 and 0.5 ns in half precision, a byte of a
// link 10 ns, a step 100 ns, an exchange 1 us.
func slow(devices int) *machine.Machine {
	q := func(n int64) machine.Quantity { return machine.Quantity{Value: n} }
	return &machine.Machine{Name: "slow", Devices: devices,
		Device: machine.Device{Bandwidth: q(1e9), Rates: map[string]machine.Quantity{"f32": q(1e9), "bf16": q(2e9)}, Launch: q(100e3)},
		Links:  []machine.Link{{Latency: q(1e6), Bandwidth: q(1e8)}}}
}

// graph builds placed graphs.
type graph struct {
	t *testing.T
	*ir.Graph
}

func newGraph(t *testing.T, devices, groups int) graph {
	g := ir.NewGraph("test")
	g.Level, g.Devices, g.Groups = ir.Placed, devices, groups
	return graph{t, g}
}

func (g graph) op(device, group int, op string, attrs []ir.Attr, args ...*ir.Node) *ir.Node {
	g.t.Helper()
	n, err := g.Add(ir.Op(op), args, ir.MakeAttrs(attrs...), &ir.Node{Layer: -1, Device: device, Group: group})
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

func (g graph) weight(device int, name string, d tensor.DType, shape ...int) *ir.Node {
	return g.op(device, -1, "weight", []ir.Attr{{Name: "name", Value: name}, {Name: "dtype", Value: d}, {Name: "shape", Value: shape}})
}

// embed gives rows of n features on a device.
func (g graph) embed(device, group, n int) *ir.Node {
	ids := g.op(device, group, "input", []ir.Attr{{Name: "name", Value: "tokens"}})
	return g.op(device, group, "embed", nil, ids, g.weight(device, "embed", tensor.F32, 5, n))
}

func one(tokens int) Load { return Load{Sequences: 1, Tokens: tokens, Rows: 1, Context: 100} }

func TestNode(t *testing.T) {
	g := newGraph(t, 2, 1)
	x, far := g.embed(0, -1, 10), g.embed(1, -1, 10)
	mm := g.op(0, -1, "matmul", nil, x, g.weight(0, "w", tensor.F32, 20, 10))
	half := g.op(0, -1, "matmul", nil, x, g.weight(0, "h", tensor.BF16, 20, 10))
	add := g.op(0, -1, "add", nil, x, x)
	moved := g.op(0, -1, "transfer", []ir.Attr{{Name: "channel", Value: 0}}, far)
	for _, c := range []struct {
		name   string
		n      *ir.Node
		tokens int
		want   Cost
	}{
		// 40 bytes read and 40 written for each token
		{"embed", x, 3, Cost{Memory: 240e3, Launch: 100e3}},
		// weights 800 bytes, x 40, result 80; 400 flops
		{"memory bound", mm, 1, Cost{Memory: 920e3, Launch: 100e3}},
		// weights 800 bytes, x 400, result 800; 4,000 flops
		{"compute bound", mm, 10, Cost{Compute: 4000e3, Launch: 100e3}},
		{"half precision", half, 100, Cost{Compute: 20000e3, Launch: 100e3}},
		{"done along with others", add, 10, Cost{}},
		// 80 bytes over the link, 80 written
		{"transfer", moved, 2, Cost{Link: 1e6 + 800e3, Memory: 80e3, Launch: 100e3}},
	} {
		if got := NewPricer(slow(2), one(c.tokens), 1).Node(c.n, nil); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// TestAllReduce compares one round with two: with three devices, the second
// round pays once the bytes cost more than the latency.
func TestAllReduce(t *testing.T) {
	g := newGraph(t, 3, 1)
	var parts []*ir.Node
	for d := range 3 {
		w := g.weight(d, "w", tensor.F32, 10, 4)
		parts = append(parts, g.op(d, -1, "matmul_nodes", []ir.Attr{{Name: "bounds", Value: []int{0, 4}}, {Name: "leaf", Value: d}, {Name: "leaves", Value: 3}}, g.embed(d, -1, 4), w))
	}
	sum := g.op(0, -1, "all_reduce", []ir.Attr{{Name: "channel", Value: 0}, {Name: "leaves", Value: 3}, {Name: "spans", Value: [][]int{{0, 1}, {1, 2}, {2, 3}}}}, parts...)
	for _, c := range []struct {
		tokens int
		link   int64
	}{
		{1, 1e6 + 800e3},         // 80 bytes come in
		{90, 2e6 + 2*2*1200*1e4}, // 7,200 bytes: a third of them, and two thirds of the sum of 3,600
	} {
		if got := NewPricer(slow(3), one(c.tokens), 1).Node(sum, nil).Link; got != c.link {
			t.Errorf("%d tokens: %d ps, want %d", c.tokens, got, c.link)
		}
	}
}

// TestPromptsReadKeysByTile prices attention: the tokens of a prompt share
// what they read of the cache, those of different sequences do not.
func TestPromptsReadKeysByTile(t *testing.T) {
	g := newGraph(t, 1, 1)
	x := g.op(0, -1, "reshape", []ir.Attr{{Name: "tail", Value: []int{1, 4}}}, g.embed(0, -1, 4))
	in := func(name string) *ir.Node { return g.op(0, -1, "input", []ir.Attr{{Name: "name", Value: name}}) }
	seq, pos := in("sequences"), in("positions")
	kv := g.op(0, -1, "kv_append", []ir.Attr{{Name: "cache", Value: "c"}}, x, x, seq, pos)
	att := g.op(0, -1, "attention", []ir.Attr{{Name: "scale", Value: 1.0}, {Name: "group", Value: 1}, {Name: "chunk", Value: 16}}, x, kv, seq, pos)
	read := func(l Load) int64 {
		m := slow(1)
		m.Device.Rates = map[string]machine.Quantity{"f32": {Value: 1e15}} // leave memory alone
		return NewPricer(m, l, 1).Node(att, nil).Memory
	}
	decode, prompt := read(Load{Sequences: tile, Tokens: tile, Context: 100}), read(Load{Sequences: 1, Tokens: tile, Context: 100})
	if decode < 10*prompt {
		t.Errorf("a step of %d sequences takes %d ps, a prompt of as many tokens %d", tile, decode, prompt)
	}
	if long := read(Load{Sequences: 1, Tokens: tile + 1, Context: 100}); long < prompt+100*8*4*1e3 {
		t.Errorf("one token more than a tile takes %d ps, a tile %d", long, prompt)
	}
}

// TestStep lets a fast and a slow device meet.
func TestStep(t *testing.T) {
	g := newGraph(t, 2, 1)
	x, y := g.embed(0, -1, 10), g.embed(1, -1, 1000)
	joined := func(d int) {
		g.op(d, -1, "all_gather", []ir.Attr{{Name: "axis", Value: 1}, {Name: "channel", Value: 0}}, x, y)
	}
	joined(0)
	joined(1)
	got := Step(g.Graph, slow(2), one(1))
	// Device 1 embeds for 8,000 ns + 100 ns, device 0 for 80 + 100 and waits.
	// Device 0 then gets 4,000 bytes, reads 40 and writes 4,040.
	const wait, link = 7920e3, 1e6 + 40000e3
	want := Cost{Memory: 80e3 + 4080e3, Launch: 200e3, Link: wait + link}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if sent := Traffic(g.Graph, one(1)); sent != 4040 {
		t.Errorf("%d bytes are sent, want 4040", sent)
	}
}

func TestBounds(t *testing.T) {
	b := Load{Sequences: 3, Tokens: 30, Rows: 3, Context: 7}.Bounds(2)
	for sym, want := range map[tensor.Sym]int{tensor.Tokens: 30, tensor.Tokens.Of(0): 20, tensor.Tokens.Of(1): 10, tensor.Rows.Of(0): 2, tensor.Cached: 7} {
		if got := b(sym); got != want {
			t.Errorf("%s is %d, want %d", sym, got, want)
		}
	}
}

func TestResident(t *testing.T) {
	g := newGraph(t, 2, 1)
	g.weight(0, "w", tensor.BF16, 10, 10)
	g.weight(0, "w", tensor.BF16, 10, 10) // the same
	g.op(0, -1, "weight", []ir.Attr{{Name: "name", Value: "w"}, {Name: "dtype", Value: tensor.BF16}, {Name: "shape", Value: []int{5, 10}}, {Name: "slice", Value: [][]int{{0, 5}, {0, 10}}}})
	x := g.op(1, -1, "reshape", []ir.Attr{{Name: "tail", Value: []int{2, 4}}}, g.embed(1, -1, 8))
	in := func(name string) *ir.Node { return g.op(1, -1, "input", []ir.Attr{{Name: "name", Value: name}}) }
	g.op(1, -1, "kv_append", []ir.Attr{{Name: "cache", Value: "c"}}, x, x, in("sequences"), in("positions"))
	got := Resident(g.Graph, 100)
	if want := (Memory{Weights: 300}); got[0] != want {
		t.Errorf("device 0 keeps %+v, want %+v", got[0], want)
	}
	if want := (Memory{Weights: 160, Caches: 100 * 2 * 8 * 4}); got[1] != want {
		t.Errorf("device 1 keeps %+v, want %+v", got[1], want)
	}
}

func TestLargeAmounts(t *testing.T) {
	if got := machine.PS(9e18, 1e12); got != 9e18 {
		t.Errorf("9e18 at 1e12 a second takes %d ps", got)
	}
	if got := machine.PS(9e18, 1); got != 1<<62 {
		t.Errorf("what takes too long takes %d ps, want %d", got, int64(1)<<62)
	}
}
