package search

import (
	"encoding/binary"
	"slices"
	"strings"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/ir/tensor"
	"moec/ir/tree"
	"moec/passes"
)

// serve is how the experts of a layer are served for a token group, or for all
// tokens: teams of devices compute slots, one all_reduce adds them up. It
// mirrors what "place" does; see passes.serve.
type serve struct {
	group  int // -1: all tokens
	groups int
	wanted []int // devices that go on with the result
	teams  []team
	mode   serveMode
	meet   []int   // who takes part in the last exchange
	last   []int64 // [load][wanted], of the last exchange
}

type serveMode int

const (
	combineParts serveMode = iota // each team combines, then all teams' parts are added
	combineAll                    // one team has everything, and every device combines
	combineEarly                  // the same, combining before adding
)

// team is the devices that hold some experts, each its share of the features.
type team struct {
	split   placement.Split
	experts []int
	turns   [][2]int
	holders []holder
	spans   int       // subtrees that the experts are, in the tree over experts
	sums    [][]int64 // for each sum over features: [load][member]
	once    [][]int64 // [holder][set*loads+load]: what does not depend on slots
	combine []int64   // [load]: the same of the combination
}

// holder is a device with its leaves of each expert.
type holder struct{ device, first, end int }

// kernels is what a holder runs on slots.
type kernels struct {
	// sets are kernels that are priced together: all of them, unless the
	// machine's measurements correct each on its own.
	sets  [][]*ir.Node
	close []*ir.Node // those that make partial sums
	bytes int64      // of an expert's weights
}

// serves works out who serves which experts. The result is good until the next
// call.
func (m *model) serves(c *part, l *placement.Layer, wanted map[int][]int) []serve {
	m.served = m.served[:0]
	if len(l.Groups) == 1 {
		m.serve(c, m.nextServe(-1, 1, wanted[-1]), l.Groups[0], l.Experts)
		return m.served
	}
	if !l.Local() {
		m.serve(c, m.nextServe(-1, 1, wanted[-1]), slices.Concat(l.Groups...), l.Experts)
		return m.served
	}
	for g, devices := range l.Groups {
		own := make([]placement.Expert, len(l.Experts))
		for e := range own {
			own[e] = l.Experts[e].In(devices)
		}
		m.serve(c, m.nextServe(g, len(l.Groups), wanted[g]), devices, own)
	}
	return m.served
}

// nextServe returns a cleared entry of the scratch list.
func (m *model) nextServe(group, groups int, wanted []int) *serve {
	if len(m.served) < cap(m.served) {
		m.served = m.served[:len(m.served)+1]
	} else {
		m.served = append(m.served, serve{})
	}
	s := &m.served[len(m.served)-1]
	*s = serve{group: group, groups: groups, wanted: wanted, teams: s.teams[:0], meet: s.meet[:0]}
	return s
}

// nextTeam returns a cleared entry of the list of teams.
func (s *serve) nextTeam() *team {
	if len(s.teams) < cap(s.teams) {
		s.teams = s.teams[:len(s.teams)+1]
	} else {
		s.teams = append(s.teams, team{})
	}
	t := &s.teams[len(s.teams)-1]
	*t = team{experts: t.experts[:0], turns: t.turns[:0], holders: t.holders[:0], sums: t.sums[:0], once: t.once[:0]}
	return t
}

// serve fills in s: devices are those of the token groups.
func (m *model) serve(c *part, s *serve, devices []int, experts []placement.Expert) {
	for e, copies := range experts {
		for turn, split := range copies {
			t := s.teamOf(split)
			if t == nil {
				t = s.nextTeam()
				t.split = split
				t.holders = m.holders(c, split, t.holders)
			}
			t.experts = append(t.experts, e)
			t.turns = append(t.turns, [2]int{turn, len(copies)})
		}
	}
	t := &s.teams[0]
	switch {
	case len(s.teams) == 1 && c.early && len(t.holders) > 1 && !t.inTurns():
		s.mode = combineEarly
	case len(s.teams) == 1 && !t.inTurns() && t.hasAll(devices):
		s.mode = combineAll
	}
	m.price(c, s)
}

func (s *serve) teamOf(split placement.Split) *team {
	for i := range s.teams {
		if slices.Equal(s.teams[i].split, split) {
			return &s.teams[i]
		}
	}
	return nil
}

// holders returns the devices of a split that have leaves.
func (m *model) holders(c *part, split placement.Split, list []holder) []holder {
	for _, sh := range split {
		first, end := sh.Lo*c.leaves/m.segments(), sh.Hi*c.leaves/m.segments()
		if first < end {
			list = append(list, holder{sh.Device, first, end})
		}
	}
	return list
}

func (t *team) inTurns() bool {
	return slices.ContainsFunc(t.turns, func(turn [2]int) bool { return turn[1] > 1 })
}

func (t *team) hasAll(devices []int) bool {
	for _, d := range devices {
		if !slices.ContainsFunc(t.holders, func(h holder) bool { return h.device == d }) {
			return false
		}
	}
	return true
}

// cover counts the subtrees that a team combines.
func (t *team) cover(total int) int {
	if total <= 64 {
		var held, solo uint64
		for i, e := range t.experts {
			held |= 1 << e
			if t.turns[i][1] > 1 {
				solo |= 1 << e
			}
		}
		return spans(held, solo, total)
	}
	var solo []int
	for i, turn := range t.turns {
		if turn[1] > 1 {
			solo = append(solo, t.experts[i])
		}
	}
	return len(tree.Cover(t.experts, total, solo))
}

// spans counts the largest subtrees of the tree over total leaves that lie in
// held, of which those in solo are alone; see tree.Cover.
func spans(held, solo uint64, total int) int {
	width := 1
	for width < total {
		width *= 2
	}
	n := 0
	for lo := 0; lo < total; {
		if held&(1<<lo) == 0 {
			lo++
			continue
		}
		size := 1
		for next := 2; next <= width && lo%next == 0; next *= 2 {
			all := (^uint64(0) >> (64 - min(next, 64))) << lo
			if end := min(lo+next, total); end < 64 {
				all &= 1<<end - 1
			}
			if solo&all != 0 || held&all != all {
				break
			}
			size = next
		}
		n++
		lo += size
	}
	return n
}

// price fills in what does not depend on who chose whom.
func (m *model) price(c *part, s *serve) {
	for i := range s.teams {
		t := &s.teams[i]
		for _, h := range t.holders {
			once := m.find(pricedKernels, c, s, h.first, h.end)
			if once == nil {
				once = m.store(m.once(s, m.kernels(c.shape, h.first, h.end), 1), pricedKernels, c, s, h.first, h.end)
			}
			t.once = append(t.once, once)
		}
		switch s.mode {
		case combineParts:
			t.spans = t.cover(c.experts)
			if t.combine = m.find(pricedCombination, c, s, t.spans); t.combine == nil {
				t.combine = m.store(m.once(s, c.combine, t.spans), pricedCombination, c, s, t.spans)
			}
		case combineEarly:
			if t.combine = m.find(pricedSums, c, s); t.combine == nil {
				t.combine = m.store(m.node(s, c.sums), pricedSums, c, s)
			}
		default:
			if t.combine = m.find(pricedWhole, c, s); t.combine == nil {
				t.combine = m.store(m.node(s, c.whole), pricedWhole, c, s)
			}
		}
		if len(t.holders) > 1 && s.mode != combineEarly {
			m.sums(c, s, t)
		}
	}
	parts := m.parted[:0]
	switch s.mode {
	case combineAll:
		return
	case combineEarly:
		for _, h := range s.teams[0].holders {
			parts = append(parts, cost.Part{Device: h.device, Bytes: 1})
			s.join(h.device)
		}
	default:
		for _, t := range s.teams {
			parts = append(parts, cost.Part{Device: t.holders[0].device, Bytes: int64(t.spans)})
			s.join(t.holders[0].device)
		}
	}
	for _, d := range s.wanted {
		s.join(d)
	}
	m.parted = parts
	s.last = m.exchange(pricedLast, c, s, parts, s.wanted, c.whole.Type)
}

func (s *serve) join(device int) {
	if !slices.Contains(s.meet, device) {
		s.meet = append(s.meet, device)
	}
}

// What prices are known for; see find.
const (
	pricedKernels byte = iota
	pricedCombination
	pricedSums
	pricedWhole
	pricedLast
	pricedFloorSlots
	pricedFloorRows
	pricedFloorSum
	pricedSum // and more, one for each sum of a team
)

// find returns prices that were worked out before for the same numbers, or nil.
func (m *model) find(what byte, c *part, s *serve, numbers ...int) []int64 {
	m.priceKey(what, c, s, numbers)
	return m.prices[string(m.key8)]
}

// store keeps prices for find, and returns them.
func (m *model) store(list []int64, what byte, c *part, s *serve, numbers ...int) []int64 {
	m.priceKey(what, c, s, numbers)
	m.prices[string(m.key8)] = list
	return list
}

func (m *model) priceKey(what byte, c *part, s *serve, numbers []int) {
	m.key8 = append(m.key8[:0], what)
	m.key8 = binary.AppendVarint(m.key8, int64(c.index))
	m.key8 = binary.AppendVarint(m.key8, int64(s.group))
	m.key8 = binary.AppendVarint(m.key8, int64(s.groups))
	for _, n := range numbers {
		m.key8 = binary.AppendVarint(m.key8, int64(n))
	}
}

// sums prices the sums over features of a team: one for each kernel that makes
// partial ones.
func (m *model) sums(c *part, s *serve, t *team) {
	members := []int{t.holders[0].device}
	if s.mode == combineAll {
		members = s.wanted
	}
	for i, n := range m.kernels(c.shape, t.holders[0].first, t.holders[0].end).close {
		var parts []cost.Part
		for _, h := range t.holders {
			nodes := m.kernels(c.shape, h.first, h.end).close[i].Type.Shape[0].N
			parts = append(parts, cost.Part{Device: h.device, Bytes: int64(nodes)})
		}
		sum := n.Type
		sum.Shape = sum.Shape[1:]
		t.sums = append(t.sums, m.exchange(pricedSum+byte(i), c, s, parts, members, sum))
	}
}

// exchange prices an all_reduce for each load and member: of parts that are so
// many times as large as the result.
func (m *model) exchange(what byte, c *part, s *serve, parts []cost.Part, members []int, result tensor.Type) []int64 {
	m.numbers = append(m.numbers[:0], len(parts))
	for _, a := range parts {
		m.numbers = append(m.numbers, a.Device, int(a.Bytes))
	}
	m.numbers = append(m.numbers, members...)
	if list := m.find(what, c, s, m.numbers...); list != nil {
		return list
	}
	list := make([]int64, 0, len(m.loads)*len(members))
	sized := make([]cost.Part, len(parts))
	for i := range m.loads {
		out := result.Bytes(m.loads[i].Share(s.group, s.groups).Bounds(1))
		for j, a := range parts {
			sized[j] = cost.Part{Device: a.Device, Bytes: a.Bytes * out}
		}
		p := m.pricer(i, s.group, s.groups)
		for _, d := range members {
			list = append(list, p.Exchange("all_reduce", d, sized, out).Total())
		}
	}
	return m.store(list, what, c, s, m.numbers...)
}

// node prices a node under each load.
func (m *model) node(s *serve, n *ir.Node) []int64 {
	list := make([]int64, len(m.loads))
	for i := range m.loads {
		list[i] = m.pricer(i, s.group, s.groups).Node(n, nil).Total()
	}
	return list
}

// once prices what kernels do whatever is chosen, [set][load], for results of
// so many values a row. Where measurements correct prices, launches are left
// to eval, which corrects first.
func (m *model) once(s *serve, k *kernels, spans int) []int64 {
	list := make([]int64, 0, len(k.sets)*len(m.loads))
	for _, set := range k.sets {
		for i := range m.loads {
			p := m.pricer(i, s.group, s.groups)
			var sum int64
			for _, n := range set {
				w := p.ExpertWork(n)
				w.Base *= int64(spans)
				sum += p.Base(w).Total()
				if !m.corrected() {
					sum += m.Machine.Device.Launch.Value
				}
			}
			list = append(list, sum)
		}
	}
	return list
}

func (m *model) corrected() bool { return len(m.Machine.Measured) > 0 }

// kernels returns what a device runs that holds some leaves of experts.
func (m *model) kernels(c *shape, first, end int) *kernels {
	if k := c.kernels[[2]int{first, end}]; k != nil {
		return k
	}
	const holder, other, rest = 0, 1, 2 // devices
	segments := m.segments()
	at := func(leaf int) int { return (leaf*segments + c.leaves - 1) / c.leaves }
	lo, hi := at(first), at(end)
	var split placement.Split
	for _, sh := range []placement.Share{{Device: other, Lo: 0, Hi: lo}, {Device: holder, Lo: lo, Hi: hi}, {Device: rest, Lo: hi, Hi: segments}} {
		if sh.Lo < sh.Hi {
			split = append(split, sh)
		}
	}
	experts := make([]placement.Expert, c.experts)
	for e := range experts {
		experts[e] = placement.Expert{split}
	}
	if c.experts > 1 { // two teams: the slots are not combined early
		experts[0] = placement.Expert{{{Device: rest, Lo: 0, Hi: segments}}}
	}
	k := &kernels{}
	var all []*ir.Node
	placed := m.probe(c, experts)
	for _, n := range placed.Nodes {
		if n.Serves && n.Device == holder && strings.HasPrefix(n.Op.Name, "expert_matmul") {
			all = append(all, n.Node)
			if n.Op.Name == "expert_matmul_nodes" {
				k.close = append(k.close, n.Node)
			}
		}
	}
	k.sets = m.sets(all)
	held := int64(max(1, c.experts-1))
	for _, h := range placed.Held {
		if h.Stack && h.Device == holder {
			k.bytes += h.Bytes / held
		}
	}
	c.kernels[[2]int{first, end}] = k
	return k
}

// sets groups kernels that are priced together.
func (m *model) sets(all []*ir.Node) [][]*ir.Node {
	if !m.corrected() {
		return [][]*ir.Node{all}
	}
	var list [][]*ir.Node
	for _, n := range all {
		list = append(list, []*ir.Node{n})
	}
	return list
}

// probe places a layer on three devices with the given experts and everything
// else on the first.
func (m *model) probe(c *shape, experts []placement.Expert) *passes.PlacedPart {
	p := m.blank(3)
	all := placement.Split{{Device: 0, Lo: 0, Hi: m.segments()}}
	l := placement.Layer{Groups: [][]int{{0, 1, 2}}, Attention: []placement.Split{all}, Dense: []placement.Split{all}, Experts: experts}
	p.Embed, p.Head = l.Attention, l.Attention
	for i := range p.Layers {
		p.Layers[i] = l
	}
	placed, err := m.Outline.Place(c.index, p, nil)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return placed
}

// combinations finds the ops that combine slots.
func (m *model) combinations(c *shape) {
	segments := m.segments()
	whole := make([]placement.Expert, c.experts)
	for e := range whole {
		whole[e] = placement.Expert{{{Device: 0, Lo: 0, Hi: segments}}}
	}
	for _, n := range m.probe(c, whole).Nodes {
		if n.Op.Name == "combine_nodes" {
			one := *n.Node // its result has one value a row
			one.Type.Shape = append(tensor.Shape{tensor.N(1)}, n.Type.Shape[1:]...)
			c.combine = &kernels{sets: [][]*ir.Node{{&one}}}
			c.whole = &ir.Node{Op: ir.Op("combine"), Args: n.Args, Attrs: n.Attrs.Without("experts").Without("turns"), Type: tensor.Type{DType: n.Type.DType, Shape: n.Type.Shape[1:]}, Group: -1}
			x := *n.Args[0]
			x.Type.DType = tensor.F32
			sums := *c.whole
			sums.Args = append([]*ir.Node{&x}, n.Args[1:]...)
			c.sums = &sums
		}
	}
}

// rowsKey says which slots are priced on which kernels.
type rowsKey struct {
	first, end  int // -1, -1: the combination
	set         int
	turn, turns int
	group       int
	groups      int
}

// row returns, for an expert, the price in each batch of the slots that a
// holder works on.
func (m *model) row(c *part, key rowsKey, expert int) []int64 {
	return m.rowsOf(c, key)[expert*m.width : (expert+1)*m.width]
}

// rowsOf returns the rows of all experts.
func (m *model) rowsOf(c *part, key rowsKey) []int64 {
	all := c.rows[key]
	if all == nil {
		all = m.rows(c, key)
		c.rows[key] = all
	}
	return all
}

func (m *model) rows(c *part, key rowsKey) []int64 {
	k := c.combine
	if key.first >= 0 {
		k = m.kernels(c.shape, key.first, key.end)
	}
	all := make([]int64, c.experts*m.width)
	for i := range m.loads {
		l := &m.loads[i]
		p := m.pricer(i, key.group, key.groups)
		lo := 0
		if key.group >= 0 {
			lo, _ = l.TokensOf(key.group, key.groups)
		}
		for _, n := range k.sets[key.set] {
			w := p.ExpertWork(n)
			rows := n.Args[0].Type.Shape[0].Of(p.Load.Bounds(1))
			for b := range l.samples {
				for e, slots := range counts(c.batches[l.first+b], key, lo, lo+rows) {
					all[e*m.width+l.first+b] += p.Expert(w, slots).Total()
				}
			}
		}
	}
	return all
}

// counts returns the slots of each expert among some tokens that are in turn.
func counts(b *routing.Batch, key rowsKey, lo, hi int) []int {
	list := make([]int, b.Experts)
	for t := lo + key.turn; t < hi; t += key.turns {
		for _, e := range b.Chosen[t*b.Slots : (t+1)*b.Slots] {
			list[e]++
		}
	}
	return list
}

// work adds the time that kernels take on a team's slots to a clock.
func (m *model) work(c *part, s *serve, t *team, key rowsKey, once []int64, clock []int64) {
	k := c.combine
	if key.first >= 0 {
		k = m.kernels(c.shape, key.first, key.end)
	}
	for set := range k.sets {
		key.set = set
		v := clock
		if m.corrected() {
			v = m.vector
			clear(v)
		}
		var all []int64 // of all experts, for the copies that are in turn as key says
		for i, e := range t.experts {
			if turn := t.turns[i]; all == nil || key.turn != turn[0] || key.turns != turn[1] {
				key.turn, key.turns = turn[0], turn[1]
				all = m.rowsOf(c, key)
			}
			for j, x := range all[e*m.width:][:len(v)] {
				v[j] += x
			}
		}
		m.addOnce(once[set*len(m.loads):], v)
		if m.corrected() {
			op := strings.TrimSuffix(k.sets[set][0].Op.Name, "_nodes")
			for j := range clock {
				clock[j] += m.Machine.Correct(op, v[j]) + m.Machine.Device.Launch.Value
			}
		}
	}
}

// addOnce adds to each batch what its load costs whatever is chosen.
func (m *model) addOnce(once, v []int64) {
	for i := range m.loads {
		l := &m.loads[i]
		x := once[i]
		for j := l.first; j < l.first+l.samples; j++ {
			v[j] += x
		}
	}
}

// clock returns the clocks of a device, one for each batch.
func (m *model) clock(device int) []int64 { return m.order[device*m.width : (device+1)*m.width] }

// run lets the clocks go on while the experts are served.
func (m *model) run(c *part, s *serve) {
	for i := range s.teams {
		t := &s.teams[i]
		for j, h := range t.holders {
			m.work(c, s, t, rowsKey{first: h.first, end: h.end, group: s.group, groups: s.groups}, t.once[j], m.clock(h.device))
		}
		for _, sum := range t.sums {
			m.meetTeam(s, t, sum)
		}
		switch s.mode {
		case combineParts:
			m.work(c, s, t, rowsKey{first: -1, end: -1, group: s.group, groups: s.groups}, t.combine, m.clock(t.holders[0].device))
		case combineEarly:
			for _, h := range t.holders {
				m.addOnce(t.combine, m.clock(h.device))
			}
		default:
			for _, d := range s.wanted {
				m.addOnce(t.combine, m.clock(d))
			}
		}
	}
	if s.mode != combineAll {
		m.meet(s.meet)
		m.addPrices(s.wanted, s.last)
	}
}

// meetTeam lets a team add partial sums up.
func (m *model) meetTeam(s *serve, t *team, prices []int64) {
	devices := m.numbers[:0]
	for _, h := range t.holders {
		devices = append(devices, h.device)
	}
	m.numbers = devices
	m.meet(devices)
	if devices = devices[:1]; s.mode == combineAll {
		devices = s.wanted
	}
	m.addPrices(devices, prices)
}

// meet sets the clocks of devices to the last of them.
func (m *model) meet(devices []int) {
	first := m.clock(devices[0])
	for _, d := range devices[1:] {
		for j, x := range m.clock(d) {
			first[j] = max(first[j], x)
		}
	}
	for _, d := range devices[1:] {
		copy(m.clock(d), first)
	}
}

// addPrices adds to each device its price: [load][device].
func (m *model) addPrices(devices []int, prices []int64) {
	n := len(devices)
	for k, d := range devices {
		clock := m.clock(d)
		for i := range m.loads {
			l := &m.loads[i]
			x := prices[i*n+k]
			for j := l.first; j < l.first+l.samples; j++ {
				clock[j] += x
			}
		}
	}
}
