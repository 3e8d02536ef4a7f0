package host

import (
	"fmt"
	"strconv"
	"strings"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
	"moec/runtime/step"
)

// call is one step of a plan on one device, for one layer, with its operands
// found.
type call struct {
	step    *plan.Step
	device  *device
	args    []view
	out     view
	kv      *cache
	body    []*call
	barrier *barrier
	kernel  kernel
	watch   *watch   // nil unless somebody wants to see the result
	dead    [][]byte // buffers that are not read after it

	// Of the step being executed.
	now    *step.Step
	bounds tensor.Bounds
}

// cache is the KV state of a layer on this device.
type cache struct {
	plan.Cache
	page   int // positions
	memory []byte
	bytes  int // of a page
}

// kernel executes one op.
type kernel func(*call)

// prepare resolves every step of the program.
func (g *Program) prepare(prog *plan.Program) error {
	for _, b := range prog.Buffers {
		if err := g.devices[b.Device].add(g.devices[b.Device].shared, b); err != nil {
			return err
		}
	}
	blocks := make(map[string]*plan.Block, len(prog.Blocks))
	for i := range prog.Blocks {
		blocks[prog.Blocks[i].Name] = &prog.Blocks[i]
	}
	for _, run := range prog.Runs {
		block, ok := blocks[run.Block]
		if !ok {
			return fmt.Errorf("internal error: no block %q", run.Block)
		}
		barriers := g.channels(block)
		for i := range run.Layers.Len() {
			layer := layerOf(run, i)
			for qi := range block.Queues {
				if err := g.turn(block, &block.Queues[qi], layer, barriers); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (d *device) add(table map[string]view, b plan.Buffer) error {
	data, err := d.piece(b.Offset, b.Bytes)
	if err == nil {
		table[b.Name] = view{b.Type, data}
	}
	return err
}

// channels makes a barrier for each collective of a block.
func (g *Program) channels(block *plan.Block) map[int]*barrier {
	members := make(map[int]int)
	for _, q := range block.Queues {
		for _, s := range q.Steps {
			if plan.OpInfo(s.Op).Has(ir.Collective) {
				members[s.Attrs.Int("channel", 0)]++
			}
		}
	}
	barriers := make(map[int]*barrier, len(members))
	for c, n := range members {
		barriers[c] = newBarrier(n)
		g.barriers = append(g.barriers, barriers[c])
	}
	return barriers
}

// turn prepares one queue for one layer.
func (g *Program) turn(block *plan.Block, q *plan.Queue, layer int, barriers map[int]*barrier) error {
	d := g.devices[q.Device]
	t := turn{name: block.Name, layer: layer}
	if layer >= 0 {
		t.name += " at layer " + strconv.Itoa(layer)
	}
	r := &resolver{g: g, layer: layer, local: make([]map[string]view, len(g.devices))}
	for i := range r.local {
		r.local[i] = make(map[string]view)
	}
	for _, b := range block.Buffers {
		if err := g.devices[b.Device].add(r.local[b.Device], b); err != nil {
			return err
		}
		if b.Device == q.Device {
			t.dirty = append(t.dirty, r.local[b.Device][b.Name].data)
		}
	}
	for i := range q.Steps {
		c, err := r.call(d, &q.Steps[i])
		if err != nil {
			return fmt.Errorf("%s: %s: %w", t.name, q.Steps[i].Op, err)
		}
		c.barrier = barriers[q.Steps[i].Attrs.Int("channel", -1)]
		t.calls = append(t.calls, c)
	}
	markDead(t.calls, r.local[q.Device])
	d.turns = append(d.turns, t)
	return nil
}

// markDead finds, for every buffer of the block, the last call that touches it.
func markDead(calls []*call, local map[string]view) {
	last := make(map[string]int)
	for i, c := range calls {
		last[c.step.Out] = i
		for _, a := range c.step.Args {
			if a.Kind == plan.BufferRef && a.Device == c.device.id {
				last[a.Name] = i
			}
		}
	}
	for name, i := range last {
		if v, ok := local[name]; ok {
			calls[i].dead = append(calls[i].dead, v.data)
		}
	}
}

// resolver finds operands for one layer.
type resolver struct {
	g     *Program
	layer int
	local []map[string]view // buffers of the block, by device
}

func (r *resolver) call(d *device, s *plan.Step) (*call, error) {
	c := &call{step: s, device: d, kernel: kernels[s.Op]}
	for _, a := range s.Args {
		if a.Kind == plan.CacheRef {
			kv, v, err := r.cache(a)
			if err != nil {
				return nil, err
			}
			c.kv = kv
			c.args = append(c.args, v)
			continue
		}
		v, err := r.operand(a)
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, v)
	}
	if s.Out != "" {
		v, err := r.operand(plan.Ref{Kind: plan.BufferRef, Name: s.Out, Device: d.id})
		if err != nil {
			return nil, err
		}
		c.out = v
	}
	for i := range s.Body {
		b, err := r.call(d, &s.Body[i])
		if err != nil {
			return nil, err
		}
		c.body = append(c.body, b)
	}
	if c.kernel == nil && c.body == nil {
		return nil, fmt.Errorf("the CPU backend has no op %q", s.Op)
	}
	return c, nil
}

func (r *resolver) operand(a plan.Ref) (view, error) {
	if a.Device < 0 || a.Device >= len(r.g.devices) {
		return view{}, fmt.Errorf("operand %q is on device %d of %d", a.Name, a.Device, len(r.g.devices))
	}
	v, err := r.find(a)
	if a.Type.DType != tensor.Invalid {
		v.Type = a.Type
	}
	return v, err
}

func (r *resolver) find(a plan.Ref) (view, error) {
	d := r.g.devices[a.Device]
	switch a.Kind {
	case plan.BufferRef:
		if v, ok := r.local[a.Device][a.Name]; ok {
			return v, nil
		}
		if v, ok := d.shared[a.Name]; ok {
			return v, nil
		}
	case plan.ConstRef:
		for _, c := range r.g.plan.Consts {
			if c.Name == a.Name {
				data, err := d.piece(c.Offset, int64(4*len(c.Values)))
				return view{tensor.Type{DType: tensor.F32, Shape: tensor.Ints(c.Shape...)}, data}, err
			}
		}
	case plan.WeightRef:
		for _, w := range r.g.plan.Weights {
			if w.Name != a.Name || w.Device != a.Device {
				continue
			}
			if turn, ok := w.Layers.Turn(r.layer); ok || w.Layers == plan.NoLayers {
				data, err := d.piece(w.Offset+int64(turn)*w.Stride, w.Bytes())
				return view{tensor.Type{DType: w.DType, Shape: tensor.Ints(w.Shape...)}, data}, err
			}
		}
	}
	return view{}, fmt.Errorf("no %s %q for layer %d on device %d", a.Kind, a.Name, r.layer, a.Device)
}

func (r *resolver) cache(a plan.Ref) (*cache, view, error) {
	for _, c := range r.g.plan.Caches {
		turn, ok := c.Layers.Turn(r.layer)
		if c.Name != a.Name || c.Device != a.Device || !ok && c.Layers != plan.NoLayers {
			continue
		}
		l := r.g.plan.Limits
		data, err := r.g.devices[a.Device].piece(c.Offset+int64(turn)*c.Stride, c.Bytes(l))
		t := tensor.Of(c.DType, tensor.S(tensor.Cached), tensor.N(c.Heads), tensor.N(c.KeyDim+c.ValDim))
		return &cache{Cache: c, page: l.Page, memory: data, bytes: int(c.PageBytes(l))}, view{Type: t}, err
	}
	return nil, view{}, fmt.Errorf("no cache %q for layer %d on device %d", strings.TrimSpace(a.Name), r.layer, a.Device)
}

// run executes the call on a step.
func (c *call) run(s *step.Step, bounds tensor.Bounds) error {
	c.now, c.bounds = s, bounds
	c.device.used = 0
	if c.body != nil {
		for _, b := range c.body {
			if err := b.run(s, bounds); err != nil {
				return err
			}
		}
		return nil
	}
	if c.barrier == nil {
		c.kernel(c)
		if c.watch != nil {
			c.watch.take(c)
		}
		return nil
	}
	// Everybody's operand is ready; then everybody has read what it needs.
	if err := c.barrier.wait(); err != nil {
		return err
	}
	c.kernel(c)
	return c.barrier.wait()
}

// dims returns the extents of operand i in this step.
func (c *call) dims(i int) []int { return c.args[i].Shape.Extents(c.bounds) }

// outDims returns the extents of the result in this step.
func (c *call) outDims() []int { return c.out.Shape.Extents(c.bounds) }

// alloc returns n floats that are free until the call ends.
func (c *call) alloc(n int) []float32 {
	d := c.device
	if d.used+n > len(d.scratch) {
		d.scratch, d.used = make([]float32, max(n, 2*len(d.scratch))), 0
	}
	s := d.scratch[d.used : d.used+n : d.used+n]
	d.used += n
	return s
}

// floats returns all n elements of operand i as f32.
func (c *call) floats(i, n int) []float32 {
	if c.args[i].DType == tensor.F32 {
		return c.args[i].f32(n)
	}
	return c.args[i].rowFloats(0, n, c.alloc(n))
}
