package search

import (
	"encoding/binary"
	"slices"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/placement"
	"moec/passes"
)

// partState is a priced part of a placement. It does not change once made.
type partState struct {
	script *script
	times  []int64 // of each batch
	score  int64
	bytes  []int64 // of each device
}

// state is a priced placement.
type state struct {
	p     *placement.Placement
	parts []*partState
	times []int64 // of each batch: the sum over the parts
	score int64
	bytes []int64
}

// layerOf is the layer whose groups a part works with.
func (m *model) layerOf(i int) int { return min(max(i-1, 0), m.layers()-1) }

// place prices a whole placement.
func (m *model) place(p *placement.Placement) (*state, error) {
	s := &state{p: p, parts: make([]*partState, len(m.parts)), times: make([]int64, m.width), bytes: make([]int64, m.devices)}
	var needs []passes.Need
	for i := len(m.parts) - 1; i >= 0; i-- {
		ps, err := m.evaluate(i, p, needs, nil)
		if err != nil {
			return nil, err
		}
		s.parts[i], needs = ps, ps.script.needs
		s.add(ps, 1)
	}
	shared(s.parts[0], s.parts[len(s.parts)-1], s.bytes, -1)
	if m.Workload.Quantile > 0 {
		s.score = m.quantile(s.times)
	}
	return s, nil
}

// add adds a part's price, or takes it away.
func (s *state) add(ps *partState, sign int64) {
	s.score += sign * ps.score
	for j, t := range ps.times {
		s.times[j] += sign * t
	}
	for d, b := range ps.bytes {
		s.bytes[d] += sign * b
	}
}

// shared adds to bytes, or takes away, what prologue and epilogue keep in
// common.
func shared(first, last *partState, bytes []int64, sign int64) {
	for _, h := range last.script.held {
		if slices.Contains(first.script.held, h) {
			bytes[h.Device] += sign * h.Bytes
		}
	}
}

// fits reports whether every device has room for what it keeps.
func (m *model) fits(bytes []int64) bool { return m.over(bytes) == 0 }

// over is by how many bytes devices have too much, together.
func (m *model) over(bytes []int64) int64 {
	var sum int64
	for _, b := range bytes {
		sum += max(0, b-m.budget)
	}
	return sum
}

// evaluate prices a part of a placement. reuse may be a script that is known
// to be right.
func (m *model) evaluate(i int, p *placement.Placement, needs []passes.Need, reuse *script) (*partState, error) {
	m.counts.Layers++
	c := m.parts[i]
	l := &p.Layers[m.layerOf(i)]
	if c.layer >= 0 && (c.slow || m.outside(c, l)) {
		return m.evaluateWhole(i, p, needs)
	}
	s := reuse
	if s == nil {
		var err error
		if s, err = m.script(i, p, needs); err != nil {
			return nil, err
		}
	}
	return m.follow(c, s, l), nil
}

// follow prices a part by its script and the homes of its experts.
func (m *model) follow(c *part, s *script, l *placement.Layer) *partState {
	numbers := make([]int64, m.width+m.devices)
	ps := &partState{script: s, times: numbers[:m.width], bytes: numbers[m.width:]}
	copy(ps.bytes, s.bytes)
	m.start(s)
	if c.experts > 0 {
		for k := range m.serves(c, l, s.wanted) {
			m.run(c, &m.served[k])
		}
		m.keep(c, l, ps.bytes)
	}
	for k := range s.post {
		m.happen(&s.post[k])
	}
	for d := range m.devices {
		for j, t := range m.clock(d) {
			ps.times[j] = max(ps.times[j], t)
		}
	}
	ps.score = m.score(ps.times)
	return ps
}

// start sets the clocks to where the experts begin.
func (m *model) start(s *script) {
	for d := range m.devices {
		clock := m.clock(d)
		for k := range m.loads {
			l := &m.loads[k]
			x := s.pre[k*m.devices+d]
			for j := l.first; j < l.first+l.samples; j++ {
				clock[j] = x
			}
		}
	}
}

// happen lets an event of all batches happen.
func (m *model) happen(e *event) {
	if e.meeting == nil {
		m.addOnce(e.price, m.clock(e.device))
		return
	}
	m.meet(e.meeting)
	for _, w := range e.members {
		m.addOnce(w.price, m.clock(w.device))
	}
}

// keep adds the experts that devices keep.
func (m *model) keep(c *part, l *placement.Layer, bytes []int64) {
	for _, e := range l.Experts {
		for _, split := range e {
			for _, sh := range split {
				first, end := sh.Lo*c.leaves/m.segments(), sh.Hi*c.leaves/m.segments()
				if first < end {
					bytes[sh.Device] += m.kernels(c.shape, first, end).bytes
				}
			}
		}
	}
}

// outside reports whether experts live on devices that the tokens are not on:
// values are then brought to them in between.
func (m *model) outside(c *part, l *placement.Layer) bool {
	if len(l.Groups) > 1 || c.experts == 0 {
		return false
	}
	for _, e := range l.Experts {
		for _, split := range e {
			if !split.Within(l.Groups[0]) {
				return true
			}
		}
	}
	return false
}

// evaluateWhole prices a part node by node.
func (m *model) evaluateWhole(i int, p *placement.Placement, needs []passes.Need) (*partState, error) {
	c := m.parts[i]
	placed, err := m.Outline.Place(c.index, m.around(i, p), needs)
	if err != nil {
		return nil, err
	}
	s := &script{needs: placed.Needs, bytes: make([]int64, m.devices)}
	if s.needs == nil {
		s.needs = []passes.Need{}
	}
	s.key = needsKey(s.needs)
	ps := &partState{script: s, times: make([]int64, m.width), bytes: s.bytes}
	for _, h := range placed.Held {
		s.bytes[h.Device] += h.Bytes
		if !h.Stack {
			s.held = append(s.held, h)
		}
	}
	for d, b := range placed.Cached {
		s.bytes[d] += b * int64(m.Positions)
	}
	nodes := make([]*ir.Node, len(placed.Nodes))
	for k, n := range placed.Nodes {
		nodes[k] = n.Node
	}
	groups := len(p.Layers[0].Groups)
	for k := range m.loads {
		l := &m.loads[k]
		pricer := cost.NewPricer(m.Machine, l.Load, groups)
		for b := range l.samples {
			ps.times[l.first+b] = pricer.Turn(nodes, m.slots(c, l, b, groups)).Total()
		}
	}
	ps.score = m.score(ps.times)
	return ps, nil
}

// slots counts for the nodes of a part in one batch.
func (m *model) slots(c *part, l *load, b, groups int) func(group int) cost.Slots {
	if c.batches == nil {
		return nil
	}
	batch := c.batches[l.first+b]
	return func(group int) cost.Slots {
		lo := 0
		if group >= 0 {
			lo, _ = l.TokensOf(group, groups)
		}
		return func(expert, turn, turns, rows int) int { return batch.Count(expert, turn, turns, lo, lo+rows) }
	}
}

// around copies what a part depends on to where the part's class is placed.
func (m *model) around(i int, p *placement.Placement) *placement.Placement {
	c := m.parts[i]
	t := m.blank(p.Devices)
	t.Embed, t.Head = p.Embed, p.Head
	own := p.Layers[m.layerOf(i)]
	for k := range t.Layers {
		t.Layers[k] = own
	}
	if at := m.layerOf(i); i > 1 && c.layer > 0 {
		t.Layers[c.layer-1] = p.Layers[at-1]
	}
	return t
}

// scriptKey leaves in key8 what a part's script depends on.
func (m *model) scriptKey(i int, p *placement.Placement, needs []passes.Need) {
	l := &p.Layers[m.layerOf(i)]
	k := scriptKey{b: m.key8[:0]}
	k.needs(needs)
	k.groups(l.Groups)
	switch {
	case i == 0:
		k.splits(p.Embed)
	case i == len(m.parts)-1:
		k.splits(p.Head)
	default:
		if prev := l.Groups; i > 1 {
			prev = p.Layers[i-2].Groups
			k.groups(prev)
		} else {
			k.splits(p.Embed)
		}
		k.splits(l.Attention)
		k.splits(l.Dense)
		for _, word := range deviceSet(l.Experts) {
			k.b = binary.AppendUvarint(k.b, word)
		}
		if len(l.Groups) > 1 && l.Local() {
			k.number(1)
		}
	}
	m.key8 = k.b
}

// scriptKey collects numbers.
type scriptKey struct{ b []byte }

func (k *scriptKey) number(n int) { k.b = binary.AppendVarint(k.b, int64(n)) }

func (k *scriptKey) groups(list [][]int) {
	k.number(len(list))
	for _, g := range list {
		k.number(len(g))
		for _, d := range g {
			k.number(d)
		}
	}
}

func (k *scriptKey) splits(list []placement.Split) {
	for _, s := range list {
		k.number(len(s))
		for _, sh := range s {
			k.number(sh.Device)
			k.number(sh.Lo)
			k.number(sh.Hi)
		}
	}
}

func (k *scriptKey) needs(list []passes.Need) {
	if list == nil {
		k.number(-1)
		return
	}
	k.number(len(list))
	for _, n := range list {
		k.number(n.Value)
		k.number(n.Tag)
		k.number(n.Device)
	}
}
