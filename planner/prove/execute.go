package prove

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// machine runs a program of a plan: a memory and a place in the queues for
// each device. Devices go on by themselves and meet in collectives; every
// access to another's memory must be ordered by those meetings.
type machine struct {
	p       *plan.Plan
	prog    *plan.Program
	s       *shrinker
	env     *env
	logical *logical
	script  *script
	limits  tensor.Bounds

	devices []*device
	rows    map[residentKey][]row
	buffers map[*plan.Buffer]*loc
	tables  map[tableKey]*loc // consts
	blocks  map[string]*block
	turns   []turn
	common  []*loc // the program's buffers
	kept    map[keptKey]*array
	loaded  []*loc // consts, then weights, in the order in which they are loaded
	outputs []operand

	origins []origin
	blamed  map[origin]uint64

	now      *step
	alone    *Mismatch // the first read of a device that takes no part in it
	meetings map[meetingKey]*meeting
	steps    int64
	elements int64

	// follow, if not nil, computes what buffers mean instead of numbers.
	follow *follower
	// observe, if not nil, is called with the operands and the result of
	// every step.
	observe func(d *device, s *site, layer int, args []*array, out *array)
}

// device is one device's memory and progress.
type device struct {
	id     int
	all    []*loc
	clock  []int // the latest time of each device that this one knows of
	turn   int   // into machine.turns
	at     int   // into the queue
	waits  bool
	unseen []access // of others to this memory, which nothing orders before what comes
}

// access is a read of a device's memory by another.
type access struct {
	l      *loc
	reader int
	time   int
	by     origin
}

// turn is one execution of a block.
type turn struct {
	block *block
	layer int
}

type meetingKey struct{ turn, channel int }

// meeting is the members of a collective that have reached it.
type meeting struct{ there []member }

type member struct {
	d *device
	s *site
}

// raceError is an access that nothing orders.
type raceError struct{ text string }

func (e *raceError) Error() string { return e.text }

// settle checks that all reads of l's bytes by others come before a write.
func (d *device) settle(l *loc, o origin) error {
	if len(d.unseen) == 0 {
		return nil
	}
	left := d.unseen[:0]
	for _, a := range d.unseen {
		if d.clock[a.reader] >= a.time {
			continue
		}
		left = append(left, a)
		if a.l.lo < l.hi && l.lo < a.l.hi {
			lo, hi := max(a.l.lo, l.lo), min(a.l.hi, l.hi)
			return &raceError{fmt.Sprintf("writes bytes %d to %d of device %d (%s), which %s reads; nothing orders the two", lo, hi, d.id, l.name, a.by)}
		}
	}
	d.unseen = left
	return nil
}

// run executes all queues for one step.
func (m *machine) run(st *step) error {
	m.now, m.env.bounds, m.env.choose = st, st.all, false
	m.meetings = make(map[meetingKey]*meeting)
	m.begin()
	var ready []*device
	for _, d := range m.devices {
		d.turn, d.at, d.waits = -1, 0, false
		m.nextTurn(d)
		ready = append(ready, d)
	}
	for len(ready) > 0 {
		d := ready[0]
		ready = ready[1:]
		freed, err := m.advance(d)
		if err != nil {
			return err
		}
		ready = append(ready, freed...)
	}
	return m.stuck()
}

// begin fills the lists that the step brings, and forgets the rest.
func (m *machine) begin() {
	for _, l := range m.common {
		l.drop(origin{why: endedWithStep}, m.devices[l.device].clock[l.device])
	}
	for i := range m.prog.Buffers {
		b := &m.prog.Buffers[i]
		list, of, ok := inputOf(b.Name, len(m.now.groups))
		if !ok {
			continue
		}
		l := m.common[i]
		data := m.now.list(list, of)
		l.dropOverlaps(origin{why: "was overwritten by the step's list " + b.Name}, m.devices[l.device].clock[l.device])
		l.content, l.layout = &array{dtype: tensor.I32, dims: []int{len(data)}, data: data}, layoutOf(b.Type)
		if m.follow != nil {
			l.content = m.follow.list(list, b)
		}
	}
}

// inputOf returns which list of which token group a buffer is for.
func inputOf(name string, groups int) (list string, of int, ok bool) {
	for _, list := range []string{"tokens", "positions", "sequences", "rows"} {
		if name == list {
			return list, 0, true
		}
		for g := range groups {
			if name == fmt.Sprintf("%s.%d", list, g) {
				return list, g, true
			}
		}
	}
	return "", 0, false
}

// nextTurn goes to the next turn that has a queue for the device.
func (m *machine) nextTurn(d *device) {
	d.at = 0
	for d.turn++; d.turn < len(m.turns); d.turn++ {
		t := m.turns[d.turn]
		if t.block.queues[d.id] == nil {
			continue
		}
		o := origin{why: endedWithTurn, by: t.block.queues[d.id][0], layer: t.layer}
		for _, l := range t.block.locals[d.id] {
			l.dropOverlaps(o, d.clock[d.id])
			l.drop(o, d.clock[d.id])
		}
		return
	}
}

// advance runs a device until it waits, and returns the devices that a meeting
// has freed.
func (m *machine) advance(d *device) ([]*device, error) {
	for d.turn < len(m.turns) {
		t := m.turns[d.turn]
		queue := t.block.queues[d.id]
		if d.at == len(queue) {
			m.nextTurn(d)
			continue
		}
		s := queue[d.at]
		if s.collective {
			return m.arrive(d, s)
		}
		d.clock[d.id]++
		if err := m.act(d, s, t.layer); err != nil {
			return nil, m.failed(s, t.layer, err)
		}
		d.at++
	}
	return nil, nil
}

// arrive is a device that reaches a collective. The last one to come lets all
// of them do it.
func (m *machine) arrive(d *device, s *site) ([]*device, error) {
	key := meetingKey{d.turn, s.channel}
	mt := m.meetings[key]
	if mt == nil {
		mt = &meeting{}
		m.meetings[key] = mt
	}
	d.waits = true
	mt.there = append(mt.there, member{d, s})
	t := m.turns[d.turn]
	if len(mt.there) < t.block.members[s.channel] {
		return nil, nil
	}
	delete(m.meetings, key)
	if err := m.meet(mt.there, t.layer); err != nil {
		return nil, err
	}
	var freed []*device
	for _, x := range mt.there {
		x.d.waits = false
		x.d.at++
		freed = append(freed, x.d)
	}
	return freed, nil
}

// joinClocks lets everybody know what any of them knows.
func joinClocks(list []member) {
	most := slices.Clone(list[0].d.clock)
	for _, x := range list[1:] {
		for i, t := range x.d.clock {
			most[i] = max(most[i], t)
		}
	}
	for _, x := range list {
		copy(x.d.clock, most)
	}
}

// meet does a collective: all reads of all members, then all writes.
func (m *machine) meet(list []member, layer int) error {
	joinClocks(list)
	defer joinClocks(list)
	if err := m.apart(list, layer); err != nil {
		return err
	}
	results := make([]*array, len(list))
	for i, x := range list {
		x.d.clock[x.d.id]++
		if x.s.op == "send" {
			m.steps++
			continue
		}
		if twin := m.twin(list[:i], x.s); twin >= 0 {
			results[i] = results[twin]
			m.count(results[i])
			continue
		}
		args, err := m.operands(x.d, x.s, layer)
		if err == nil {
			results[i], err = m.compute(x.d, x.s, layer, args)
		}
		if err != nil {
			return m.failed(x.s, layer, err)
		}
	}
	for i, x := range list {
		if results[i] == nil {
			continue
		}
		if err := m.write(x.d, x.s.out.loc, results[i], x.s.out.layout, origin{why: overwritten, by: x.s, layer: layer}); err != nil {
			return m.failed(x.s, layer, err)
		}
	}
	return nil
}

// twin returns which of the members before computes the same, or -1. All but
// the first of those that only add up need not be computed.
func (m *machine) twin(before []member, s *site) int {
	if m.observe != nil {
		return -1
	}
	return slices.IndexFunc(before, func(x member) bool {
		return x.s.op == s.op && x.s.alike == s.alike && x.s.out.dtype == s.out.dtype && s.alike >= 0
	})
}

// apart checks that no member writes what a member reads.
func (m *machine) apart(list []member, layer int) error {
	b := list[0].s.block
	if b.apart[list[0].s.channel] {
		return nil
	}
	b.apart[list[0].s.channel] = true
	if err := m.offered(list, layer); err != nil {
		return err
	}
	for _, x := range list {
		if x.s.op == "send" {
			continue
		}
		out := x.s.out.loc
		for _, y := range list {
			for i := range y.s.args {
				in := y.s.args[i].at(layer)
				if in == nil || in.device != out.device || in.lo >= out.hi || out.lo >= in.hi {
					continue
				}
				return m.failed(x.s, layer, &raceError{fmt.Sprintf("writes bytes %d to %d of device %d (%s), which device %d reads in the same collective as %s",
					max(in.lo, out.lo), min(in.hi, out.hi), out.device, out.name, y.d.id, in.name)})
			}
		}
	}
	return nil
}

// absent notes a read of a device that takes no part in it. The clocks say
// whether it is a race; if it is none, it still is not allowed: with messages
// in place of shared memory nothing would come.
func (m *machine) absent(s *site, layer int, a plan.Ref) {
	if m.alone != nil {
		return
	}
	m.alone = m.mismatch(Race, s, layer)
	m.alone.Text = fmt.Sprintf("reads %s of device %d, which takes no part", a.Name, a.Device)
}

// offered checks that every device lists what the others read of it.
func (m *machine) offered(list []member, layer int) error {
	for _, x := range list {
		for _, a := range x.s.step.Args {
			if a.Device == x.d.id {
				continue
			}
			i := slices.IndexFunc(list, func(y member) bool { return y.d.id == a.Device })
			if i < 0 {
				m.absent(x.s, layer, a)
				continue
			}
			if !slices.ContainsFunc(list[i].s.step.Args, func(o plan.Ref) bool { return o.Kind == a.Kind && o.Name == a.Name && o.Device == a.Device }) {
				return m.failed(x.s, layer, &raceError{fmt.Sprintf("reads %s of device %d, which does not send it", a.Name, a.Device)})
			}
		}
	}
	return nil
}

// act does a step of one device alone.
func (m *machine) act(d *device, s *site, layer int) error {
	if s.body != nil {
		for _, b := range s.body {
			if err := m.act(d, b, layer); err != nil {
				return m.failed(b, layer, err)
			}
		}
		m.steps++
		return nil
	}
	args, err := m.operands(d, s, layer)
	if err != nil {
		return err
	}
	out, err := m.compute(d, s, layer, args)
	if err != nil || s.op == "kv_append" {
		return err
	}
	return m.write(d, s.out.loc, out, s.out.layout, origin{why: overwritten, by: s, layer: layer})
}

// operands reads what a step needs. A cache has no array.
func (m *machine) operands(d *device, s *site, layer int) ([]*array, error) {
	args := make([]*array, len(s.args))
	for i := range s.args {
		o := &s.args[i]
		l := o.at(layer)
		if l == nil {
			return nil, fmt.Errorf("no %s %q for layer %d on device %d", o.ref.Kind, o.ref.Name, layer, o.ref.Device)
		}
		if l.device != d.id {
			if err := m.foreign(d, s, l, layer); err != nil {
				return nil, err
			}
		}
		if o.ref.Kind == plan.CacheRef {
			continue
		}
		a, err := m.read(l, o, o.shape.Extents(m.now.all))
		if err != nil {
			return nil, err
		}
		args[i] = a
	}
	return args, nil
}

// foreign checks that a read of another's memory comes after what was last
// written there. Unless its owner takes part too, later writes are watched.
func (m *machine) foreign(d *device, s *site, l *loc, layer int) error {
	owner := m.devices[l.device]
	if d.clock[owner.id] < l.changed {
		return &raceError{fmt.Sprintf("reads bytes %d to %d of device %d (%s), which that device writes; nothing orders the two", l.lo, l.hi, l.device, l.name)}
	}
	if owner.waits && owner.turn == d.turn && s.collective {
		if q := m.turns[owner.turn].block.queues[owner.id]; q[owner.at].channel == s.channel {
			return nil
		}
	}
	if !s.collective {
		m.absent(s, layer, plan.Ref{Name: l.name, Device: l.device})
	}
	owner.unseen = append(owner.unseen, access{l, d.id, d.clock[d.id], origin{why: "which", by: s, layer: layer}})
	return nil
}

// compute applies a step's op.
func (m *machine) compute(d *device, s *site, layer int, args []*array) (*array, error) {
	if m.follow != nil {
		m.steps++
		if s.op == "kv_append" {
			return nil, m.append(d, s, &call{args: args}, layer)
		}
		return m.follow.compute(s, args)
	}
	c := &call{spec: s.spec, env: m.env, args: args}
	c.undefined = func() uint64 {
		why := notHeld
		if s.op == "topk" {
			why = notChosen
		}
		return m.poison(origin{why: why, by: s, layer: layer})
	}
	if s.op == "kv_append" {
		m.count(args[0])
		return nil, m.append(d, s, c, layer)
	}
	c.out = newArray(s.out.dtype, s.out.shape.Extents(m.now.all))
	m.count(c.out)
	var err error
	if s.op == "attention" {
		l := s.args[1].at(layer)
		kv := l.cache
		if kv == nil {
			kv = s.args[1].newCache()
		}
		err = c.attention(kv, m.pager(s), func(int) uint64 {
			why := l.loss
			if l.cache != nil && why.by == nil { // nobody took its memory
				why = origin{why: neverStored, loc: l, by: s, layer: layer}
			}
			return m.poison(why)
		})
	} else {
		err = s.spec.fn(c)
	}
	if m.observe != nil && err == nil {
		m.observe(d, s, layer, args, c.out)
	}
	return c.out, err
}

// count counts a step and what it makes.
func (m *machine) count(out *array) {
	m.steps++
	m.elements += int64(len(out.data))
}

// append is kv_append: it stores in the cache that is the last operand.
func (m *machine) append(d *device, s *site, c *call, layer int) error {
	kv := &s.args[len(s.args)-1]
	l, o := kv.at(layer), origin{why: overwritten, by: s, layer: layer}
	l.dropOverlaps(o, d.clock[d.id])
	if l.cache == nil {
		if m.follow != nil && l.loss.by != nil {
			return fmt.Errorf("stores in a cache that lost what it held: %s", l.loss)
		}
		l.cache = kv.newCache()
	}
	l.changed = d.clock[d.id]
	if err := d.settle(l, o); err != nil {
		return err
	}
	if m.follow != nil {
		return m.follow.append(s, c.args, l.cache)
	}
	if m.observe != nil {
		m.observe(d, s, layer, c.args[:4], nil)
	}
	return c.kvAppend(l.cache, m.pager(s))
}

// pager finds places by the page lists of the token group whose rows the first
// operand has.
func (m *machine) pager(s *site) pager {
	pages := m.script.pages[max(0, min(s.group, len(m.script.pages)-1))]
	return func(sequence, position uint64) (int, error) {
		if isPoison(sequence) || isPoison(position) {
			return 0, undefinedError(either(sequence, position))
		}
		if sequence >= uint64(len(pages)) || position/uint64(m.script.page) >= uint64(len(pages[sequence])) {
			return 0, fmt.Errorf("position %d of sequence %d has no page", position, sequence)
		}
		return pages[sequence][position/uint64(m.script.page)]*m.script.page + int(position%uint64(m.script.page)), nil
	}
}

// stuck reports the devices that wait for ever.
func (m *machine) stuck() error {
	var first *Mismatch
	for _, d := range m.devices {
		if d.turn >= len(m.turns) {
			continue
		}
		t := m.turns[d.turn]
		s := t.block.queues[d.id][d.at]
		if first == nil {
			first = m.mismatch(Deadlock, s, t.layer)
			first.Text = "devices wait for ever:"
		} else {
			first.Text += ";"
		}
		first.Text += fmt.Sprintf(" device %d at step %d (%s, channel %d) of %s", d.id, s.at, s.op, s.channel, t.name())
	}
	if first == nil {
		return nil
	}
	return first
}

// layer returns the layer in which a device is that does a step.
func (m *machine) layer(s *site) int { return m.turns[m.devices[s.device].turn].layer }

func (t turn) name() string {
	if t.layer < 0 {
		return t.block.Name
	}
	return fmt.Sprintf("%s in layer %d", t.block.Name, t.layer)
}

// rowGroup returns the token group whose rows a type has, 0 if it has all.
func rowGroup(t tensor.Type) int {
	if len(t.Shape) == 0 {
		return 0
	}
	return max(0, t.Shape[0].Sym.Group())
}

// elementwise reports whether an op may write over its operand.
func elementwise(op string) bool {
	info := plan.OpInfo(op)
	return info != nil && info.Has(ir.Elementwise)
}
