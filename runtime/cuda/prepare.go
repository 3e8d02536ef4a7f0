package cuda

import (
	"fmt"
	"strconv"

	"moec/codegen"
	"moec/ir"
	"moec/planner/plan"
	"moec/runtime/cuda/driver"
)

// queue is what a device does in one program.
type queue struct {
	turns  []turn
	inputs map[string]driver.Ptr // buffers of the program
	whole  *whole                // the kernel that executes small steps, if there is one
	series *series               // the kernels that execute steps of any size, if there are such
}

// turn is one execution of a block's queue: for one layer, or once.
type turn struct {
	name  string // for messages: block and layer
	calls []call
}

// call is one step on one device, for one layer, with its operands found.
type call struct {
	op       string
	at       codegen.At
	layer    int             // -1 outside the layers
	launch   *codegen.Launch // nil for send
	function driver.Function
	out      driver.Ptr
	args     []driver.Ptr
	meeting  *meeting // of a collective
}

// prepare resolves every step of every program.
func (g *Program) prepare(code *codegen.Code) error {
	for i := range g.plan.Programs {
		pp := &preparer{Program: g, code: code, prog: &g.plan.Programs[i], functions: make([]map[string]driver.Function, len(g.devices))}
		for d := range g.devices {
			pp.functions[d] = make(map[string]driver.Function)
		}
		if err := pp.program(); err != nil {
			return err
		}
	}
	return nil
}

// preparer resolves the steps of one program.
type preparer struct {
	*Program
	code      *codegen.Code
	prog      *plan.Program
	functions []map[string]driver.Function // by device and symbol

	block    *plan.Block
	layer    int
	meetings map[int]*meeting // of the block, by channel
}

func (p *preparer) program() error {
	for _, d := range p.devices {
		q := queue{inputs: make(map[string]driver.Ptr)}
		for _, b := range p.prog.Buffers {
			if b.Device != d.id {
				continue
			}
			at, err := d.at(p.plan, b.Offset, b.Bytes)
			if err != nil {
				return err
			}
			q.inputs[b.Name] = at
		}
		d.programs = append(d.programs, q)
	}
	for _, run := range p.prog.Runs {
		if err := p.run(run); err != nil {
			return err
		}
	}
	if err := p.wholes(); err != nil {
		return err
	}
	return p.series()
}

// run prepares a block for each layer of a range.
func (p *preparer) run(run plan.Run) error {
	p.block = nil
	for i := range p.prog.Blocks {
		if p.prog.Blocks[i].Name == run.Block {
			p.block = &p.prog.Blocks[i]
		}
	}
	if p.block == nil {
		return fmt.Errorf("internal error: no block %q", run.Block)
	}
	p.meet()
	for i := range run.Layers.Len() {
		p.layer = -1
		if run.Layers != plan.NoLayers {
			p.layer = run.Layers.First + i
		}
		for qi := range p.block.Queues {
			if err := p.turn(&p.block.Queues[qi]); err != nil {
				return err
			}
		}
	}
	return nil
}

// meet makes a meeting for each collective of the block.
func (p *preparer) meet() {
	members := make(map[int]int)
	for _, q := range p.block.Queues {
		for _, s := range q.Steps {
			if collective(s.Op) {
				members[s.Attrs.Int("channel", 0)]++
			}
		}
	}
	p.meetings = make(map[int]*meeting, len(members))
	for channel, n := range members {
		p.meetings[channel] = newMeeting(n)
		p.Program.meetings = append(p.Program.meetings, p.meetings[channel])
	}
}

func collective(op string) bool { return plan.OpInfo(op).Has(ir.Collective) }

func (p *preparer) turn(q *plan.Queue) error {
	t := turn{name: p.block.Name}
	if p.layer >= 0 {
		t.name += " at layer " + strconv.Itoa(p.layer)
	}
	d := p.devices[q.Device]
	for i := range q.Steps {
		at := codegen.At{Program: p.prog.Name, Block: p.block.Name, Device: q.Device, Step: i}
		if err := p.step(d, &t, &q.Steps[i], at); err != nil {
			return fmt.Errorf("%s: %s: %w", t.name, q.Steps[i].Op, err)
		}
	}
	last := &d.programs[len(d.programs)-1]
	last.turns = append(last.turns, t)
	return nil
}

// step adds the calls of a step: one, or those of its body.
func (p *preparer) step(d *device, t *turn, s *plan.Step, at codegen.At) error {
	for i := range s.Body {
		at.Body = i + 1
		if err := p.step(d, t, &s.Body[i], at); err != nil {
			return err
		}
	}
	if len(s.Body) > 0 {
		return nil
	}
	c := call{op: s.Op, at: at, layer: p.layer, launch: p.code.Launches[at]}
	if collective(s.Op) {
		c.meeting = p.meetings[s.Attrs.Int("channel", 0)]
	}
	if c.launch != nil {
		if err := p.operands(d, &c, s); err != nil {
			return err
		}
	} else if s.Op != "send" {
		return fmt.Errorf("internal error: no launch for %v", at)
	}
	t.calls = append(t.calls, c)
	return nil
}

func (p *preparer) operands(d *device, c *call, s *plan.Step) (err error) {
	for _, a := range s.Args {
		if err := p.reach(d, a.Device); err != nil {
			return err
		}
		at, err := p.address(a)
		if err != nil {
			return err
		}
		c.args = append(c.args, at)
	}
	if s.Out != "" {
		if c.out, err = p.address(plan.Ref{Kind: plan.BufferRef, Name: s.Out, Device: d.id}); err != nil {
			return err
		}
	}
	known, ok := p.functions[d.id][c.launch.Symbol]
	if !ok {
		if known, err = d.gpu.Function(d.modules[c.launch.Unit], c.launch.Symbol); err != nil {
			return err
		}
		p.functions[d.id][c.launch.Symbol] = known
	}
	c.function = known
	return nil
}

// reach lets a device's kernels read the memory of another device.
func (p *preparer) reach(d *device, other int) error {
	if other < 0 || other >= len(p.devices) {
		return fmt.Errorf("an operand is on device %d of %d", other, len(p.devices))
	}
	o := p.devices[other]
	if o.index == d.index {
		return nil
	}
	can, err := d.gpu.CanAccess(o.gpu)
	if err != nil {
		return err
	}
	if !can {
		return fmt.Errorf("GPU %d cannot read the memory of GPU %d, and the plan divides a value between them; compile for one device, or see nvidia-smi topo -p2p r", d.index, o.index)
	}
	return d.gpu.EnableAccess(o.gpu)
}

// address returns where an operand is in this layer.
func (p *preparer) address(a plan.Ref) (driver.Ptr, error) {
	d := p.devices[a.Device]
	switch a.Kind {
	case plan.BufferRef:
		for _, list := range [][]plan.Buffer{p.block.Buffers, p.prog.Buffers} {
			for _, b := range list {
				if b.Name == a.Name && b.Device == a.Device {
					return d.at(p.plan, b.Offset, b.Bytes)
				}
			}
		}
	case plan.ConstRef:
		for _, c := range p.plan.Consts {
			if c.Name == a.Name {
				return d.at(p.plan, c.Offset, int64(4*len(c.Values)))
			}
		}
	case plan.WeightRef:
		for _, w := range p.plan.Weights {
			if turn, ok := w.Layers.Turn(p.layer); w.Name == a.Name && w.Device == a.Device && (ok || w.Layers == plan.NoLayers) {
				return d.at(p.plan, w.Offset+int64(turn)*w.Stride, w.Bytes())
			}
		}
	case plan.CacheRef:
		for _, c := range p.plan.Caches {
			if turn, ok := c.Layers.Turn(p.layer); c.Name == a.Name && c.Device == a.Device && (ok || c.Layers == plan.NoLayers) {
				return d.at(p.plan, c.Offset+int64(turn)*c.Stride, c.Bytes(p.plan.Limits))
			}
		}
	}
	return 0, fmt.Errorf("no %s %q for layer %d on device %d", a.Kind, a.Name, p.layer, a.Device)
}
