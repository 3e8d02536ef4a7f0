package search

import (
	"math"
	"math/bits"
	"slices"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/placement"
	"moec/ir/tensor"
)

// never is a price that nothing has.
const never = math.MaxInt64 / 4

// opening is a way to place everything of a layer but its experts: where the
// clocks are when the experts begin.
type opening struct {
	layer  placement.Layer // without experts
	hosts  []int           // devices that may have experts: those of the groups, and others
	tokens int             // how many of them go on with the result
	prev   [][]int         // token groups of the layer before, where they are others
	script *script
}

// openings lists the ways to place a layer but for its experts on token groups
// of those sizes, with so many more devices for experts. Devices are alike, so
// they are numbered group by group.
//
// Attention and dense parts are divided in every run of segments, or copied to
// every number of devices of their group. prev is the token groups of the layer
// before if they are not the same.
func (m *model) openings(i int, sizes []int, others int, prev [][]int) ([]opening, error) {
	var list []opening
	for _, hosts := range m.layouts(len(slices.Concat(numbered(sizes)...)) + others) {
		var groups [][]int
		next := 0
		for _, n := range sizes {
			groups = append(groups, hosts[next:next+n])
			next += n
		}
		none := make([][]placement.Split, 1)
		for _, g := range groups {
			none[0] = append(none[0], even(g, m.segments()))
		}
		attention, dense := none, none
		if m.summary(i).Attention > 1 {
			attention = m.eachGroup(groups)
		}
		if m.summary(i).Dense > 1 {
			dense = m.eachGroup(groups)
		}
		for _, a := range attention {
			for _, d := range dense {
				o := opening{layer: placement.Layer{Groups: groups, Attention: a, Dense: d}, hosts: hosts, tokens: next, prev: prev}
				if err := m.open(i, &o); err != nil {
					return nil, err
				}
				list = append(list, o)
			}
		}
	}
	return list, nil
}

// kind numbers the devices: those with the same number may change places, for
// they share the same part of a link.
func (m *model) kind(device int) int {
	for _, l := range m.Machine.Links {
		if l.Shared != nil {
			return l.Shared.Run(device)
		}
	}
	return 0
}

// maxLayouts bounds the orders of devices that are not alike.
const maxLayouts = 6

// layouts lists the choices of n devices, in order, that differ: where all
// devices are alike, the first ones. Runs of devices that share a link are
// alike as well, so they are named in the order of their first use.
func (m *model) layouts(n int) [][]int {
	var list [][]int
	var extend func(some []int, runs int)
	extend = func(some []int, runs int) {
		if len(some) == n {
			list = append(list, slices.Clone(some))
			return
		}
		tried := make(map[int]bool)
		for d := range m.devices {
			k := m.kind(d)
			if k > runs || tried[k] || slices.Contains(some, d) {
				continue
			}
			tried[k] = true
			extend(append(some, d), max(runs, k+1))
		}
	}
	extend(nil, 0)
	if len(list) > maxLayouts {
		return list[:1] // too many: see unalike
	}
	return list
}

// unalike reports whether devices differ in more ways than are looked at.
func (m *model) unalike() bool {
	runs := make(map[int]bool)
	for d := range m.devices {
		runs[m.kind(d)] = true
	}
	return len(runs) > 1 && m.devices > maxManySizes
}

// eachGroup lists every choice of a split for each group.
func (m *model) eachGroup(groups [][]int) [][]placement.Split {
	list := [][]placement.Split{nil}
	for _, g := range groups {
		var longer [][]placement.Split
		for _, head := range list {
			for _, s := range m.splits(g) {
				longer = append(longer, append(slices.Clone(head), s))
			}
		}
		list = longer
	}
	return list
}

func (m *model) summary(i int) placement.LayerSummary { return m.Outline.Summary.Layers[i-1] }

// summaryOf is what placements need to know of a part that is a layer.
func (m *model) summaryOf(c *part) placement.LayerSummary { return m.summary(c.index) }

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// splits lists every split of a part over the first devices of a group, in
// order, and copies on the first ones.
func (m *model) splits(group []int) []placement.Split {
	var list []placement.Split
	var extend func(s placement.Split, lo int)
	extend = func(s placement.Split, lo int) {
		if lo == m.segments() {
			list = append(list, slices.Clone(s))
			return
		}
		if len(s) == len(group) {
			return
		}
		for hi := lo + 1; hi <= m.segments(); hi++ {
			extend(append(s, placement.Share{Device: group[len(s)], Lo: lo, Hi: hi}), hi)
		}
	}
	extend(nil, 0)
	for n := 2; n <= len(group); n++ {
		var s placement.Split
		for _, d := range group[:n] {
			s = append(s, placement.Share{Device: d, Lo: 0, Hi: m.segments()})
		}
		list = append(list, s)
	}
	return list
}

// open works out an opening.
func (m *model) open(i int, o *opening) error {
	s, err := m.script(i, m.opened(i, o), nil)
	o.script = s
	return err
}

// opened is a placement of an opening: experts are taken to be on all its
// hosts, so that each works out who chose whom, and not to be at home in every
// group.
func (m *model) opened(i int, o *opening) *placement.Placement {
	l := o.layer
	l.Experts = make([]placement.Expert, m.parts[i].experts)
	for e := range l.Experts {
		l.Experts[e] = placement.Expert{even(o.hosts, m.segments())}
	}
	p := m.same(l)
	if o.prev != nil && i > 1 {
		p.Layers[i-2].Groups = o.prev
	}
	return p
}

// ending is how the experts of a layer are held, as far as bounds tell it.
type ending int

const (
	divided  ending = iota // every expert divided alike over all devices in use
	whole                  // every expert whole, once
	repeated               // every copy whole, some experts more than once
	mixed                  // some experts divided, others not or otherwise
	endings
)

// String names an ending.
func (e ending) String() string {
	return [...]string{"experts divided alike", "whole experts", "whole experts, some copied", "some experts divided"}[e]
}

// floor is, for each load, what the exchanges around the experts of a layer
// cost at least.
type floor struct {
	sum   [][]int64 // [devices]: a sum over features of slots, of as many parts
	last  [][]int64 // [devices]: the last exchange, of a part from each
	more  [][]int64 // [devices]: the same if an expert has copies
	far   []int64   // a row for each token that comes from another device
	none  []int64   // the same that comes from nowhere
	once  []int64   // kernels before the sums, whatever is chosen
	parts []int64   // combining a part
	all   []int64   // combining all
	early bool
}

// floors prices exchanges of the least size: by the nearest devices.
func (m *model) floors(c *part, group, groups int) *floor {
	s := &serve{group: group, groups: groups}
	f := &floor{early: c.early, once: m.once(s, m.kernels(c.shape, 0, c.leaves), 1), parts: m.once(s, c.combine, 1), all: m.node(s, c.whole)}
	row := c.whole.Type
	slots := row
	if n := m.slotType(c); n != nil {
		slots = *n
	}
	slotSum := func(parts []cost.Part) []int64 { return m.leastExchange(pricedFloorSlots, c, s, parts, slots) }
	rowSum := func(parts []cost.Part) []int64 { return m.leastExchange(pricedFloorRows, c, s, parts, row) }
	for n := 1; n <= m.devices; n++ {
		var parts []cost.Part
		for d := range n {
			parts = append(parts, cost.Part{Device: d, Bytes: 1})
		}
		f.sum = append(f.sum, slotSum(parts))
		f.last = append(f.last, rowSum(parts))
		extra := slices.Clone(parts)
		for k, far := n-1, m.copiesFar(c.experts, n); k < far && n > 1; k++ {
			extra[1+k%(n-1)].Bytes++
		}
		f.more = append(f.more, rowSum(extra))
	}
	f.far = rowSum([]cost.Part{{Device: m.nearest(), Bytes: 1}})
	f.none = rowSum([]cost.Part{{Device: 0, Bytes: 1}})
	return f
}

// leastExchange is the least that a member of an exchange takes, of which parts
// are on so many devices, wherever those are.
func (m *model) leastExchange(what byte, c *part, s *serve, parts []cost.Part, result tensor.Type) []int64 {
	var least []int64
	most := 0
	for _, a := range parts {
		most = max(most, a.Device)
	}
	if m.unalike() { // as if nothing were shared
		free := *m.Machine
		free.Links = slices.Clone(free.Links)
		for i := range free.Links {
			free.Links[i].Shared = nil
		}
		was := m.Machine
		m.Problem.Machine = &free
		m.pricers = map[[3]int]*cost.Pricer{}
		defer func() { m.Problem.Machine, m.pricers = was, map[[3]int]*cost.Pricer{} }()
	}
	for _, layout := range m.layouts(max(most+1, 1)) {
		moved := slices.Clone(parts)
		for i := range moved {
			moved[i].Device = layout[parts[i].Device]
		}
		list := m.exchange(what, c, s, moved, layout[:1], result)
		if least == nil {
			least = slices.Clone(list)
		}
		for k := range least {
			least[k] = min(least[k], list[k])
		}
	}
	return least
}

// copiesFar is the least number of parts that one of two devices receives of
// others where an expert has two copies. A copy is a part of its own; what is
// left of the tree without that expert is another part for each of its
// subtrees.
func (m *model) copiesFar(experts, n int) int {
	rest := 0
	if experts > 1 {
		rest = experts // of the subtrees without one expert the least number
		if experts <= 64 {
			all := ^uint64(0) >> (64 - experts)
			for e := range experts {
				rest = min(rest, spans(all&^(1<<e), 0, experts))
			}
		} else {
			rest = bits.Len(uint(experts - 1))
		}
	}
	total := max(2+rest, n)
	return (total + n - 2 + 1) / 2
}

// nearest is a device near device 0.
func (m *model) nearest() int { return min(1, m.devices-1) }

// slotType is the type of a sum over features of the slots.
func (m *model) slotType(c *part) *tensor.Type {
	if c.leaves < 2 {
		return nil
	}
	k := m.kernels(c.shape, 0, 1)
	if len(k.close) == 0 {
		return nil
	}
	t := k.close[0].Type
	t.Shape = t.Shape[1:]
	return &t
}

// totals is, for each batch, what all slots take on one device.
func (m *model) totals(c *part, group, groups int) []int64 {
	sum := make([]int64, m.width)
	for e := range c.experts {
		for j, x := range m.slotsOf(c, e, 0, 1, group, groups) {
			sum[j] += x
		}
	}
	return sum
}

func opOf(n *ir.Node) string { return n.Op.Name }

// extra is, for each batch, by how much an expert's copies take longer than
// the expert alone, for the expert and the number of copies where that is
// least in the score.
func (m *model) extra(c *part, group, groups int) []int64 {
	best, least := make([]int64, m.width), int64(never)
	for e := range c.experts {
		for n := 2; n <= m.devices; n++ {
			more := make([]int64, m.width)
			for r := range n {
				for j, x := range m.slotsOf(c, e, r, n, group, groups) {
					more[j] += x
				}
			}
			for j, x := range m.slotsOf(c, e, 0, 1, group, groups) {
				more[j] -= x
			}
			if s := m.score(more); s < least {
				best, least = more, s
			}
		}
	}
	return best
}

// level is the height to which work of a total amount rises that is poured
// over devices which begin at different times, in ascending order, all of them
// touched.
func level(starts []int64, total int64) int64 {
	var sum int64
	for n, s := range starts {
		sum += s
		if n+1 == len(starts) || starts[n+1]*int64(n+1) >= sum+total {
			return max((total+sum)/int64(n+1), starts[len(starts)-1])
		}
	}
	return 0
}
