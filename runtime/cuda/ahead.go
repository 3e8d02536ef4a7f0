package cuda

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"moec/codegen"
	"moec/codegen/kernels"
	"moec/ir/tensor"
	"moec/planner/plan"
	"moec/runtime/cuda/driver"
	"moec/runtime/sample"
	"moec/runtime/step"
)

// aheadSteps is how many steps are on a device's stream at most: while the host
// looks at the tokens of one, the others keep the device busy. More would delay
// whatever comes after a sequence that ends unforeseen.
const aheadSteps = 4

// drawBytes is the size of struct Draw in sample.cuh.
const drawBytes = 32

// ahead is what a device needs to choose tokens and to feed them to the step
// that follows.
type ahead struct {
	choose driver.Function
	rows   int // at most
	// memory holds struct Draw of each row, then 32-bit numbers: three lists with
	// an entry for each row (the token chosen, its position, the sequence's slot)
	// and a count of rows that are chosen.
	memory driver.Ptr
	// host is what memory begins with, then the tokens of each queued step.
	host  driver.HostBuffer
	turns [aheadSteps]struct{ from, to driver.Event }
}

func (a *ahead) bytes() int64 { return int64(a.rows)*(drawBytes+3*4) + 4 }

// list returns the address of one of the lists.
func (a *ahead) list(i int) driver.Ptr { return a.memory + driver.Ptr(a.rows*(drawBytes+4*i)) }

// chosen is where the host finds the tokens of a queued step.
func (a *ahead) chosen(number, rows int) driver.HostPart {
	return driver.HostPart{Buffer: a.host, Offset: a.bytes() + int64(number%aheadSteps*a.rows*4), Bytes: int64(4 * rows)}
}

// newAhead makes room for the most sequences that a plan allows.
func newAhead(d *device, l plan.Limits) (_ *ahead, err error) {
	a := &ahead{rows: min(l.Sequences, l.Tokens, l.Rows)}
	if a.choose, err = d.gpu.Function(d.modules[d.sampling], codegen.SymbolOf("choose")); err != nil {
		return nil, err
	}
	d.ahead = a // close gives back what there is
	if a.memory, err = d.gpu.Alloc(a.bytes()); err != nil {
		return nil, err
	}
	if a.host, err = d.gpu.AllocHost(a.bytes() + int64(aheadSteps*a.rows*4)); err != nil {
		return nil, err
	}
	for i := range a.turns {
		for _, e := range []*driver.Event{&a.turns[i].from, &a.turns[i].to} {
			if *e, err = d.gpu.NewEvent(true); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}

func (a *ahead) close(d *device) (err error) {
	if a.host != nil {
		err = a.host.Free()
	}
	if a.memory != 0 && err == nil {
		err = d.gpu.Free(a.memory)
	}
	return err
}

// continued is what a call of Continue did.
type continued struct {
	times    []time.Duration // of steps, on the device
	launches int             // of a step
}

// Continue executes up to n steps, of which s is the first and asks for the
// logits of every token. The device chooses a token for each row, as draws say,
// and makes the next step of them: of the same sequences, a position further.
// Steps are queued ahead of the host; take gets the tokens of each in order, and
// says whether more steps are wanted. Steps that are queued by then are still
// executed and taken.
//
// It reports false, and does nothing, where this is not possible: with several
// devices or token groups, for a step of another kind.
func (g *Program) Continue(ctx context.Context, s *step.Step, draws []sample.Draw, n int, take func(tokens []int32) (more bool)) (bool, error) {
	if g.failed != nil {
		return false, g.failed
	}
	if err := g.check(s); err != nil {
		return false, err
	}
	c := &continuing{run: run{Program: g, step: s, bounds: s.Bounds(), number: g.programFor(s)}}
	if !c.possible(draws) {
		return false, nil
	}
	if err := c.room(n); err != nil {
		return false, err
	}
	g.continued = continued{}
	err := c.start(ctx, draws)
	if err == nil {
		err = c.steps(ctx, n, take)
	}
	if err != nil {
		g.failed = err
	}
	return true, err
}

// continuing is a call of Continue.
type continuing struct {
	run
	d      *device
	q      *queue
	logits driver.Ptr
	vocab  int
	count  int // of rows
}

// possible reports whether one device can do all of it, and finds what it needs.
func (c *continuing) possible(draws []sample.Draw) bool {
	if len(c.devices) != 1 || len(c.step.Groups) != 1 || c.options.Poison {
		return false
	}
	grp := &c.step.Groups[0]
	c.count = len(grp.Tokens)
	if len(grp.Rows) != c.count || len(draws) != c.count || c.count == 0 || c.count > min(c.plan.Limits.Sequences, c.plan.Limits.Rows) {
		return false
	}
	c.d = c.devices[0]
	c.q = &c.d.programs[c.number]
	for _, o := range c.plan.Programs[c.number].Outputs {
		if o.Name == "logits" && o.Type.DType == tensor.F32 {
			c.logits, c.vocab = c.q.inputs[o.Buffer], o.Type.Shape.Last().N
		}
	}
	return c.logits != 0
}

// room checks that sequences have pages for n more positions.
func (c *continuing) room(n int) error {
	grp, l := &c.step.Groups[0], c.plan.Limits
	for i, slot := range grp.Sequences {
		last := int(grp.Positions[i]) + n - 1
		if have := min(l.Context, len(grp.Pages[slot])*l.Page); last >= have {
			return fmt.Errorf("%d steps of sequence slot %d from position %d on: it has room for %d positions", n, slot, grp.Positions[i], have)
		}
	}
	return nil
}

// start uploads the first step and how tokens are chosen.
func (c *continuing) start(ctx context.Context, draws []sample.Draw) error {
	return c.d.gpu.Do(func() (err error) {
		a := c.d.ahead
		if a == nil {
			if a, err = newAhead(c.d, c.plan.Limits); err != nil {
				return err
			}
		}
		c.d.staged.used = 0
		if err := c.inputs(c.d, c.q); err != nil {
			return err
		}
		b := a.host.Bytes()[:0]
		for _, d := range draws {
			b = appendDraw(b, d)
		}
		b = append(b, make([]byte, int(a.bytes())-len(b))...)
		grp := &c.step.Groups[0]
		for i := range draws {
			at := a.rows*(drawBytes+4) + 4*i
			binary.LittleEndian.PutUint32(b[at:], uint32(grp.Positions[i]))
			binary.LittleEndian.PutUint32(b[at+4*a.rows:], uint32(grp.Sequences[i]))
		}
		return c.d.gpu.HtoDAsync(a.memory, driver.HostPart{Buffer: a.host, Bytes: a.bytes()}, c.d.stream)
	})
}

// appendDraw appends struct Draw of sample.cuh.
func appendDraw(b []byte, d sample.Draw) []byte {
	if d.Greedy() {
		d.Temperature = 0
	}
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(d.Temperature))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(d.TopP))
	b = binary.LittleEndian.AppendUint64(b, sample.Key(d.Seed, d.Sequence))
	return binary.LittleEndian.AppendUint64(b, uint64(min(d.TopK, math.MaxInt32)))
}

// steps queues steps and takes their tokens.
func (c *continuing) steps(ctx context.Context, n int, take func([]int32) bool) error {
	queued, more := 0, true
	for taken := 0; more || taken < queued; taken++ {
		for ; more && queued < min(n, taken+aheadSteps); queued++ {
			if err := c.d.gpu.Do(func() error { return c.queue(ctx, queued) }); err != nil {
				return err
			}
		}
		if taken == queued {
			return nil
		}
		tokens, err := c.await(ctx, taken)
		if err != nil {
			return err
		}
		more = take(tokens) && more
	}
	return nil
}

// queue puts a step and the choice of its tokens on the stream.
func (c *continuing) queue(ctx context.Context, number int) error {
	a, turn := c.d.ahead, &c.d.ahead.turns[number%aheadSteps]
	if err := c.d.gpu.Record(turn.from, c.d.stream); err != nil {
		return err
	}
	c.launches = 0
	if err := c.enqueue(ctx, c.d, c.q); err != nil {
		return err
	}
	c.d.params.Reset()
	c.d.params.Ptr(c.logits).Ptr(a.memory).Int32(int32(c.vocab)).Struct(c.feed())
	shape := driver.Shape{Grid: driver.Dim{X: uint32(c.count), Y: 1, Z: 1}, Block: driver.Dim{X: uint32(kernels.Lookup("choose").Block), Y: 1, Z: 1}}
	if err := c.d.gpu.Launch(a.choose, shape, &c.d.params, c.d.stream); err != nil {
		return err
	}
	c.continued.launches = c.launches + 1
	if err := c.d.gpu.DtoHAsync(a.chosen(number, c.count), a.list(0), c.d.stream); err != nil {
		return err
	}
	return c.d.gpu.Record(turn.to, c.d.stream)
}

// feed is struct Feed of sample.cuh.
func (c *continuing) feed() []byte {
	var b []byte
	for _, name := range []string{"tokens", "positions", "sequences", "rows"} {
		at, ok := c.q.inputs[name]
		if !ok {
			at = c.q.inputs[name+".0"]
		}
		b = binary.LittleEndian.AppendUint64(b, uint64(at))
	}
	for i := range 4 {
		b = binary.LittleEndian.AppendUint64(b, uint64(c.d.ahead.list(i)))
	}
	return b
}

// await waits for a queued step and returns its tokens.
func (c *continuing) await(ctx context.Context, number int) ([]int32, error) {
	a, turn := c.d.ahead, &c.d.ahead.turns[number%aheadSteps]
	if err := c.d.gpu.SyncEvent(ctx, turn.to); err != nil {
		return nil, err
	}
	t, err := c.d.gpu.Elapsed(turn.from, turn.to)
	if err != nil {
		return nil, err
	}
	c.continued.times = append(c.continued.times, t)
	part := a.chosen(number, c.count)
	tokens := make([]int32, c.count)
	for i := range tokens {
		tokens[i] = int32(binary.LittleEndian.Uint32(a.host.Bytes()[part.Offset+int64(4*i):]))
	}
	return tokens, nil
}
