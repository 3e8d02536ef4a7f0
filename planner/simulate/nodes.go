package simulate

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// program is a plan's program with its steps as nodes.
type program struct {
	name     string
	plan     *plan.Program
	shared   map[key]*plan.Buffer
	variants []*variant
	turns    []turn // in the order in which every device goes through them
}

// turn is one execution of a block: for one layer, or once (layer -1).
type turn struct {
	*variant
	layer int
}

// variant is a block for layers in which all residents have the same types,
// so that a step costs the same in each of them.
type variant struct {
	number int // in program.variants
	block  *plan.Block
	local  map[key]*plan.Buffer
	queues []queue
	steps  []*step // of all queues, one queue after the other
	meets  []*meeting
	order  []unit // an order in which everything can be done
	routed bool   // some prices depend on who chose which expert
}

// queue is what one device does, in order.
type queue struct {
	device int
	steps  []*step
}

// step is one step of a queue.
type step struct {
	index  int // in variant.steps
	at     int // in the queue
	device int
	op     string // what it is called: the kind of a fused step
	name   string // the op and the weight it reads
	plan   *plan.Step
	node   *ir.Node
	meet   *meeting // of a collective
	sends  bool     // takes part without having the result
	routed bool     // its price depends on who chose which expert
	group  int      // token group of its rows, -1: all tokens
	reads  []piece  // buffers of this device
	writes []piece
}

// piece is a part of a device's arena.
type piece struct{ lo, hi int64 }

func overlap(a, b []piece) bool {
	for _, x := range a {
		for _, y := range b {
			if x.lo < y.hi && y.lo < x.hi {
				return true
			}
		}
	}
	return false
}

// meeting is a collective: the steps of one channel.
type meeting struct {
	index   int // in variant.meets
	channel int
	steps   []*step // of those who take part, by device
}

// unit is a step that is done alone, or a collective.
type unit struct {
	step *step
	meet *meeting
}

// key names something of a device.
type key struct {
	device int
	name   string
}

// builder makes nodes from steps.
type builder struct {
	plan    *plan.Plan
	shared  map[key]*plan.Buffer
	weights map[key][]*plan.Weight
	caches  map[key][]*plan.Cache
	consts  map[string]*plan.Const

	// Of the block at work.
	block *plan.Block
	local map[key]*plan.Buffer
	layer int
}

func newProgram(p *plan.Plan, prog *plan.Program) (*program, error) {
	b := &builder{plan: p, shared: index(prog.Buffers), weights: make(map[key][]*plan.Weight), caches: make(map[key][]*plan.Cache), consts: make(map[string]*plan.Const)}
	for i := range p.Weights {
		w := &p.Weights[i]
		b.weights[key{w.Device, w.Name}] = append(b.weights[key{w.Device, w.Name}], w)
	}
	for i := range p.Caches {
		c := &p.Caches[i]
		b.caches[key{c.Device, c.Name}] = append(b.caches[key{c.Device, c.Name}], c)
	}
	for i := range p.Consts {
		b.consts[p.Consts[i].Name] = &p.Consts[i]
	}
	out := &program{name: prog.Name, plan: prog, shared: b.shared}
	blocks := make(map[string]*plan.Block, len(prog.Blocks))
	for i := range prog.Blocks {
		blocks[prog.Blocks[i].Name] = &prog.Blocks[i]
	}
	known := make(map[string]*variant)
	for _, r := range prog.Runs {
		if b.block = blocks[r.Block]; b.block == nil {
			return nil, &Error{What: fmt.Sprintf("there is no block %q to run", r.Block), Remedy: verifyIt}
		}
		if err := b.run(out, r, known); err != nil {
			return nil, err
		}
	}
	return out, nil
}

const verifyIt = `check the plan with "moec plan verify"`

// maxTurns bounds the turns of a program: 61 layers are the most that a known
// model has.
const maxTurns = 1 << 14

// run adds the turns of a run.
func (b *builder) run(out *program, r plan.Run, known map[string]*variant) error {
	b.local = index(b.block.Buffers)
	if len(out.turns)+r.Layers.Len() > maxTurns {
		return &Error{What: "turns of blocks", Need: fmt.Sprintf("at most %d", maxTurns), Have: "more", Remedy: verifyIt}
	}
	for i := range r.Layers.Len() {
		b.layer = -1
		if r.Layers != plan.NoLayers {
			b.layer = r.Layers.First + i
		}
		id := b.residents()
		v := known[id]
		if v == nil {
			var err error
			if v, err = b.variant(len(out.variants)); err != nil {
				return fmt.Errorf("block %s: %w", b.block.Name, err)
			}
			out.variants = append(out.variants, v)
			known[id] = v
		}
		out.turns = append(out.turns, turn{v, b.layer})
	}
	return nil
}

func index(list []plan.Buffer) map[key]*plan.Buffer {
	m := make(map[key]*plan.Buffer, len(list))
	for i := range list {
		m[key{list[i].Device, list[i].Name}] = &list[i]
	}
	return m
}

// residents prints what tells the layers of a block apart: the types of what
// its steps find in memory.
func (b *builder) residents() string {
	id := []byte(b.block.Name)
	for _, q := range b.block.Queues {
		for i := range q.Steps {
			for _, a := range q.Steps[i].Args {
				if a.Kind == plan.WeightRef || a.Kind == plan.CacheRef {
					t, _ := b.stored(a)
					id = append(append(id, ' '), t.String()...)
				}
			}
		}
	}
	return string(id)
}

// variant makes the nodes of the block for a layer.
func (b *builder) variant(number int) (*variant, error) {
	v := &variant{number: number, block: b.block, local: b.local}
	for qi := range b.block.Queues {
		q := &b.block.Queues[qi]
		if q.Device < 0 || q.Device >= len(b.plan.Memory) {
			return nil, &Error{What: "devices of the plan", Need: fmt.Sprint(q.Device + 1), Have: fmt.Sprint(len(b.plan.Memory)), Remedy: verifyIt}
		}
		list := queue{device: q.Device}
		for i := range q.Steps {
			st, err := b.step(q.Device, &q.Steps[i])
			if err != nil {
				return nil, fmt.Errorf("device %d: step %d (%s): %w", q.Device, i, q.Steps[i].Op, err)
			}
			st.index, st.at = len(v.steps), i
			v.routed = v.routed || st.routed
			v.steps = append(v.steps, st)
			list.steps = append(list.steps, st)
		}
		v.queues = append(v.queues, list)
	}
	return v, v.schedule()
}

// step makes a node of a step.
func (b *builder) step(device int, s *plan.Step) (*step, error) {
	n, err := b.node(device, s)
	if err != nil {
		return nil, err
	}
	st := &step{device: device, op: s.Op, plan: s, node: n, sends: s.Op == "send", group: -1}
	if kind := s.Attrs.Text("kind"); kind != "" {
		st.op = kind
	}
	st.name = st.op
	if i := slices.IndexFunc(s.Args, func(a plan.Ref) bool { return a.Kind == plan.WeightRef }); i >= 0 {
		st.name += " " + s.Args[i].Name[strings.LastIndex(s.Args[i].Name, ".")+1:]
	}
	inner := []*ir.Node{n}
	if body := n.Attrs.Body(); body != nil {
		inner = body.Nodes
	}
	for _, n := range inner {
		if cost.IsKernel(n.Op.Name) && n.Attrs.Has("experts") {
			st.routed, st.group = true, n.Type.Shape.Sym().Group()
		}
	}
	return st, b.pieces(st, s)
}

// pieces lists the memory that a step reads and writes.
func (b *builder) pieces(st *step, s *plan.Step) error {
	for _, a := range s.Args {
		if a.Kind == plan.BufferRef && a.Device == st.device {
			buf, err := b.buffer(key{a.Device, a.Name})
			if err != nil {
				return err
			}
			st.reads = append(st.reads, piece{buf.Offset, buf.Offset + buf.Bytes})
		}
	}
	outs := []string{s.Out}
	for i := range s.Body {
		outs = append(outs, s.Body[i].Out)
	}
	for _, name := range outs {
		if name == "" {
			continue
		}
		buf, err := b.buffer(key{st.device, name})
		if err != nil {
			return err
		}
		st.writes = append(st.writes, piece{buf.Offset, buf.Offset + buf.Bytes})
	}
	return nil
}

func (b *builder) buffer(k key) (*plan.Buffer, error) {
	if buf := b.local[k]; buf != nil {
		return buf, nil
	}
	if buf := b.shared[k]; buf != nil {
		return buf, nil
	}
	return nil, &Error{What: fmt.Sprintf("there is no buffer %q on device %d", k.name, k.device), Remedy: verifyIt}
}

// node makes a node of a step, with all that its price depends on.
func (b *builder) node(device int, s *plan.Step) (*ir.Node, error) {
	info := plan.OpInfo(s.Op)
	if info == nil {
		return nil, &Error{What: fmt.Sprintf("there is no op %q", s.Op), Remedy: verifyIt}
	}
	n := &ir.Node{Op: info, Attrs: s.Attrs, Layer: b.layer, Device: device, Group: -1}
	for _, a := range s.Args {
		t, err := b.typeOf(a)
		if err != nil {
			return nil, err
		}
		if a.Device < 0 || a.Device >= len(b.plan.Memory) || a.Device != device && !info.Has(ir.Collective) {
			return nil, &Error{What: fmt.Sprintf("reads %q of device %d", a.Name, a.Device), Remedy: verifyIt}
		}
		n.Args = append(n.Args, &ir.Node{Type: t, Device: a.Device, Group: -1, Layer: b.layer})
	}
	if len(s.Body) > 0 {
		body := ir.NewGraph(s.Op)
		for i := range s.Body {
			inner, err := b.node(device, &s.Body[i])
			if err != nil {
				return nil, err
			}
			body.Nodes = append(body.Nodes, inner)
		}
		n.Attrs = n.Attrs.With("body", body)
		return n, nil
	}
	return n, priced(n)
}

// priced gives a node that costs anything its type, and refuses what cannot be
// priced.
func priced(n *ir.Node) error {
	collective := n.Op.Has(ir.Collective) && n.Op.Name != "send"
	switch {
	case n.Op.Name == "fused":
		return &Error{What: "is fused and has no body", Remedy: verifyIt}
	case !collective && !cost.IsKernel(n.Op.Name):
		return nil
	case !collective:
		for i, a := range n.Args {
			if len(a.Type.Shape) == 0 {
				return &Error{What: fmt.Sprintf("operand %d is a scalar", i), Remedy: verifyIt}
			}
		}
	}
	t, err := ir.Infer(n)
	if err != nil {
		return err
	}
	n.Type = t
	return nil
}

// typeOf returns the type that an operand is read as.
func (b *builder) typeOf(a plan.Ref) (tensor.Type, error) {
	t, err := b.stored(a)
	if a.Type.DType != tensor.Invalid {
		t = a.Type
	}
	return t, err
}

// stored returns the type of what an operand names.
func (b *builder) stored(a plan.Ref) (tensor.Type, error) {
	k := key{a.Device, a.Name}
	switch a.Kind {
	case plan.BufferRef:
		buf, err := b.buffer(k)
		if err != nil {
			return tensor.Type{}, err
		}
		return buf.Type, nil
	case plan.ConstRef:
		if c := b.consts[a.Name]; c != nil {
			return tensor.Type{DType: tensor.F32, Shape: tensor.Ints(c.Shape...)}, nil
		}
	case plan.WeightRef:
		for _, w := range b.weights[k] {
			if w.Layers == plan.NoLayers || w.Layers.Has(b.layer) {
				return tensor.Type{DType: w.DType, Shape: tensor.Ints(w.Shape...)}, nil
			}
		}
	case plan.CacheRef:
		for _, c := range b.caches[k] {
			if c.Layers == plan.NoLayers || c.Layers.Has(b.layer) {
				return tensor.Of(c.DType, tensor.S(tensor.Cached), tensor.N(c.Heads), tensor.N(c.KeyDim+c.ValDim)), nil
			}
		}
	}
	return tensor.Type{}, &Error{What: fmt.Sprintf("there is no %s %q on device %d for layer %d", a.Kind, a.Name, a.Device, b.layer), Remedy: verifyIt}
}
