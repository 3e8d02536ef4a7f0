package simulate

import (
	"container/heap"
	"fmt"
	"slices"
	"strings"

	"moec/ir/cost"
	"moec/planner/plan"
)

// Options say what devices and links can do.
type Options struct {
	// Overlap lets an exchange run beside steps that do not depend on it. The
	// runtimes of this repository do not do that: a device stands still until
	// its part of an exchange is done.
	Overlap bool
	// Contention lets transfers wait for ports and shared parts of links that
	// others use. Without, every exchange takes as long as it would alone.
	Contention bool
	// SegmentBytes is what a port gives to one transfer before it looks at the
	// next, with Contention; 0 is DefaultSegment.
	SegmentBytes int64
	// Batch says who chose which expert; nil spreads slots evenly.
	Batch Batch
}

// DefaultSegment is the usual SegmentBytes: NCCL cuts its transfers into slices
// of that order.
const DefaultSegment = 256 << 10

// minSegment keeps the number of events within reason.
const minSegment = 4 << 10

// Step follows a step through devices and links, event by event.
func (s *Simulator) Step(l cost.Load, o Options) (*Result, error) {
	if err := checkLoad(l); err != nil {
		return nil, err
	}
	if err := s.checkLimits(l); err != nil {
		return nil, err
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = DefaultSegment
	}
	if o.SegmentBytes < minSegment {
		return nil, &Error{What: "bytes of a segment", Need: fmt.Sprint("at least ", minSegment), Have: fmt.Sprint(o.SegmentBytes), Remedy: "use larger segments"}
	}
	e := &engine{sim: s, options: o, exchanges: make(map[[2]int]*exchange)}
	e.prog, e.bucket = s.program(l.Tokens)
	var err error
	if e.list, err = s.prices(e.prog, l, o.Batch); err != nil {
		return nil, err
	}
	for _, t := range e.prog.turns {
		prices, err := e.list.of(t)
		if err != nil {
			return nil, err
		}
		e.prices = append(e.prices, prices)
	}
	if err := e.run(); err != nil {
		return nil, err
	}
	return e.result()
}

// engine follows one step. Devices run ahead of the clock of the events until
// they need an exchange whose end is not known.
type engine struct {
	sim       *Simulator
	options   Options
	prog      *program
	bucket    plan.Bucket
	list      *priceList
	prices    [][]cost.Cost // by turn, then step
	devices   []*device
	exchanges map[[2]int]*exchange // by turn and meeting
	spans     []Span               // steps and exchanges, in no particular order
	net       network
	events    events
	pushed    int
	now       int64
}

// device is where a device is in its queues.
type device struct {
	id       int
	turn, at int // of the next step
	queue    []*step
	clock    int64
	last     int    // number of the span that ends at clock, -1 at the start
	lane     []Span // steps and waits
	copies   []Span
	pending  []*part // exchanges that the steps so far have not waited for
	waiting  *part   // what the next step waits for
	issued   []*part // exchanges whose end is not known, in order
	free     int64   // when the last exchange ended, and the span that ended then
	freed    int
}

// exchange is a collective of a turn.
type exchange struct {
	number int
	turn   int
	meet   *meeting
	parts  []*part // as meet.steps
	here   int     // devices that have arrived
	start  int64   // when the last one did
	from   int     // which
	cause  int     // the span that ended then
	parked []*flow // transfers of the second round whose sender is in the first
}

// part is what one device does in an exchange.
type part struct {
	*exchange
	step   *step
	device *device
	issued int64 // when the queue came to it
	cause  int   // the span that ended then
	done   int64 // -1: not known
	span   int   // the span that ends at done

	phases []phase // that are left
	open   int     // transfers of the first of them
}

func (e *engine) run() error {
	e.net.init(e.sim)
	for d := range e.sim.plan.Memory {
		dev := &device{id: d, turn: -1, last: -1, freed: -1}
		e.devices = append(e.devices, dev)
	}
	for _, d := range e.devices {
		e.advance(d)
	}
	for len(e.events) > 0 {
		for e.now = e.events[0].time; len(e.events) > 0 && e.events[0].time == e.now; {
			e.handle(heap.Pop(&e.events).(event))
		}
		e.arbitrate()
	}
	return e.stuck()
}

// stuck reports devices that are not done although nothing more happens.
func (e *engine) stuck() error {
	var list []string
	for _, d := range e.devices {
		if d.turn < len(e.prog.turns) || d.waiting != nil {
			list = append(list, fmt.Sprint(d.id))
		}
	}
	if list == nil {
		return nil
	}
	return &Error{What: "devices " + strings.Join(list, ", ") + " wait for each other for ever", Remedy: verifyIt}
}

// next returns the step that a device comes to, nil at the end.
func (e *engine) next(d *device) *step {
	for d.turn < 0 || d.at == len(d.queue) {
		if d.turn++; d.turn >= len(e.prog.turns) {
			d.turn = len(e.prog.turns)
			return nil
		}
		d.at, d.queue = 0, nil
		for _, q := range e.prog.turns[d.turn].queues {
			if q.device == d.id {
				d.queue = q.steps
			}
		}
	}
	return d.queue[d.at]
}

// advance lets a device go on as far as it can.
func (e *engine) advance(d *device) {
	for {
		st := e.next(d)
		if p := e.needs(d, st); p != nil {
			if p.done < 0 {
				d.waiting = p
				return
			}
			e.absorb(d, p)
			continue
		}
		if st == nil {
			return
		}
		d.at++
		if st.meet != nil {
			e.issue(d, st)
		} else {
			e.do(d, st)
		}
	}
}

// needs returns an exchange that a step (nil: the end) must wait for: any, or
// with Overlap one that it depends on. Exchanges wait for each other anyhow.
func (e *engine) needs(d *device, st *step) *part {
	if e.options.Overlap {
		d.pending = slices.DeleteFunc(d.pending, func(p *part) bool { return p.done >= 0 && p.done <= d.clock })
	}
	for _, p := range d.pending {
		switch {
		case !e.options.Overlap, st == nil:
			return p
		case st.meet == nil && st.after(p.step):
			return p
		}
	}
	return nil
}

// after reports whether a step must wait for an exchange: it reads what comes
// out, or writes over that or over what goes in.
func (st *step) after(ex *step) bool {
	return overlap(st.reads, ex.writes) || overlap(st.writes, ex.writes) || overlap(st.writes, ex.reads)
}

// do lets a device work on a step.
func (e *engine) do(d *device, st *step) {
	c := e.prices[d.turn][st.index]
	if c.Total() == 0 {
		return
	}
	d.last = e.span(d, d.turn, st, d.clock, c, d.last)
	d.clock += c.Total()
	d.lane = append(d.lane, e.spans[d.last])
}

// span notes that a device works on a step.
func (e *engine) span(d *device, turn int, st *step, start int64, c cost.Cost, cause int) int {
	t := e.prog.turns[turn]
	e.spans = append(e.spans, Span{Name: st.name, Op: st.op, Kind: kindOf(st, c), Device: d.id, Block: t.block.Name, Layer: t.layer, Step: st.at,
		Start: start, End: start + c.Total(), Cost: c, turn: turn, cause: cause})
	return len(e.spans) - 1
}

// absorb lets a device wait for the end of an exchange.
func (e *engine) absorb(d *device, p *part) {
	d.pending = slices.DeleteFunc(d.pending, func(o *part) bool { return o == p })
	if e.options.Overlap || p.step.sends {
		if p.done > d.clock {
			e.wait(d, p, p.done)
			d.last = p.span
		}
		return
	}
	e.wait(d, p, p.start)
	d.last, d.clock = p.span, p.done
	if p.done > p.start {
		d.lane = append(d.lane, e.spans[p.span])
	}
}

// wait lets a device stand still for an exchange.
func (e *engine) wait(d *device, p *part, until int64) {
	if until <= d.clock {
		return
	}
	t := e.prog.turns[p.turn]
	d.lane = append(d.lane, Span{Name: "wait for " + p.step.op, Op: p.step.op, Kind: Wait, Device: d.id, Block: t.block.Name, Layer: t.layer, Step: p.step.at,
		Start: d.clock, End: until, turn: p.turn, cause: -1})
	d.clock = until
}

// issue lets a device take part in an exchange, when those before are done.
func (e *engine) issue(d *device, st *step) {
	at := [2]int{d.turn, st.meet.index}
	ex := e.exchanges[at]
	if ex == nil {
		ex = &exchange{number: len(e.exchanges), turn: d.turn, meet: st.meet, parts: make([]*part, len(st.meet.steps)), start: -1, cause: -1}
		e.exchanges[at] = ex
	}
	p := &part{exchange: ex, step: st, device: d, issued: d.clock, cause: d.last, done: -1, span: -1}
	ex.parts[slices.Index(st.meet.steps, st)] = p
	d.pending = append(d.pending, p)
	d.issued = append(d.issued, p)
	if len(d.issued) == 1 {
		e.arrive(p)
	}
}

// arrive lets a device wait for the others of an exchange, which begins when
// the last one is there.
func (e *engine) arrive(p *part) {
	at, cause := p.issued, p.cause
	if p.device.free > at {
		at, cause = p.device.free, p.device.freed
	}
	ex := p.exchange
	if at > ex.start || at == ex.start && p.device.id < ex.from {
		ex.start, ex.from, ex.cause = at, p.device.id, cause
	}
	if ex.here++; ex.here == len(ex.parts) {
		e.push(event{time: ex.start, kind: begins, part: ex.parts[0]})
	}
}

// complete makes the end of a device's part known.
func (e *engine) complete(p *part, done int64, span int) {
	p.done, p.span = done, span
	d := p.device
	d.issued = d.issued[1:]
	d.free, d.freed = done, span
	if len(d.issued) > 0 {
		e.arrive(d.issued[0])
	}
	if d.waiting == p {
		d.waiting = nil
		e.advance(d)
	}
}

// begin lets everybody in an exchange do its part.
func (e *engine) begin(ex *exchange) {
	for _, p := range ex.parts {
		if p.step.sends {
			e.complete(p, ex.start, ex.cause)
			continue
		}
		c := e.prices[ex.turn][p.step.index]
		if e.options.Contention {
			p.phases = e.sim.incoming(e.list.p, p.step, c.Link, true)
			e.push(event{time: ex.start + c.Launch, kind: received, part: p})
			continue
		}
		e.net.alone(e, p, ex.start+c.Launch, e.sim.incoming(e.list.p, p.step, c.Link, false))
		e.finish(p, c)
	}
}

// finish ends a member's part, which took as long as c says.
func (e *engine) finish(p *part, c cost.Cost) {
	span := p.exchange.cause
	if c.Total() > 0 {
		span = e.span(p.device, p.turn, p.step, p.start, c, span)
		if e.options.Overlap {
			p.device.copies = append(p.device.copies, e.spans[span])
		}
	}
	e.complete(p, p.start+c.Total(), span)
}

// event is something that happens at a time.
type event struct {
	time int64
	kind happening
	part *part
	flow *flow
	seq  int
}

// happening says what happens, in the order in which it does at one time.
type happening uint8

const (
	arrived  happening = iota // a segment of flow is there
	received                  // part has received a phase, or begins to
	ready                     // the latency of part's phase is over
	begins                    // part's exchange begins
	freed                     // a part of a link is free
)

func (e *engine) push(v event) {
	v.seq = e.pushed
	e.pushed++
	heap.Push(&e.events, v)
}

func (e *engine) handle(v event) {
	switch v.kind {
	case arrived:
		e.arrived(v.flow)
	case received:
		e.received(v.part)
	case ready:
		e.ready(v.part)
	case begins:
		e.begin(v.part.exchange)
	}
}

// events is a heap: by time, then kind, device, turn and step.
type events []event

func (h events) Len() int      { return len(h) }
func (h events) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *events) Push(x any)   { *h = append(*h, x.(event)) }
func (h *events) Pop() any {
	old := *h
	v := old[len(old)-1]
	*h = old[:len(old)-1]
	return v
}

func (h events) Less(i, j int) bool {
	a, b := &h[i], &h[j]
	switch {
	case a.time != b.time:
		return a.time < b.time
	case a.kind != b.kind:
		return a.kind < b.kind
	case a.part != nil && b.part != nil && a.part.device.id != b.part.device.id:
		return a.part.device.id < b.part.device.id
	case a.part != nil && b.part != nil && a.part.turn != b.part.turn:
		return a.part.turn < b.part.turn
	case a.part != nil && b.part != nil && a.part.step.at != b.part.step.at:
		return a.part.step.at < b.part.step.at
	}
	return a.seq < b.seq
}

// result gathers what happened.
func (e *engine) result() (*Result, error) {
	r := &Result{Program: e.prog.name, Bucket: e.bucket.Tokens, Load: e.list.p.Load}
	end := -1
	for _, d := range e.devices {
		if d.clock > r.Time {
			r.Time, end = d.clock, d.last
		}
	}
	for _, d := range e.devices {
		r.Devices = append(r.Devices, d.timeline(r.Time, len(e.prog.turns)))
	}
	r.Links = e.net.lanes()
	r.Path = e.path(end)
	r.Memory = e.highWater(r)
	var err error
	r.Closed, err = e.sim.Lockstep(r.Load, e.options.Batch)
	return r, err
}

// timeline adds up what a device does.
func (d *device) timeline(end int64, turns int) Device {
	out := Device{Device: d.id, Spans: d.lane, Copies: d.copies}
	if d.clock < end {
		out.Spans = append(out.Spans, Span{Name: "wait for the end", Kind: Wait, Device: d.id, Layer: -1, Start: d.clock, End: end, turn: turns, cause: -1})
	}
	for _, s := range out.Spans {
		switch s.Kind {
		case Wait:
			out.Wait += s.End - s.Start
		case Link:
			out.Exchange += s.End - s.Start
		default:
			out.Busy += s.End - s.Start
		}
	}
	for _, s := range d.copies {
		out.Exchange += s.End - s.Start
	}
	return out
}
