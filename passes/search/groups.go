package search

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/placement"
)

// leastGroups is a score that no placement of a part has which divides the
// tokens into that many groups, and the choices of devices for them.
//
// Each group works on its own tokens up to the experts; then either every group
// has experts of its own, and the slowest group counts, or the rows of all
// groups are gathered where the experts are.
func (m *model) leastGroups(i, groups int) (int64, []groupChoice, error) {
	nodes, err := m.alone(i)
	if err != nil {
		return 0, nil, err
	}
	c := m.parts[i]
	if m.many(groups) {
		spread, local := m.coarse(c, nodes, groups)
		return min(spread, local), []groupChoice{{m.groupSizes(groups)[0], spread, local}}, nil
	}
	least := int64(never)
	var list []groupChoice
	for _, sizes := range m.groupSizes(groups) {
		before := make([][]int64, groups) // [group][load]
		for g, n := range sizes {
			before[g] = m.leastBefore(c, nodes, g, groups, n)
		}
		ch := groupChoice{sizes: sizes, local: never}
		if c.experts == 0 {
			ch.spread = m.slowest(before)
		} else {
			ch.spread, ch.local = m.spreadBound(c, before, sizes), m.localBound(c, before, sizes)
			if ones := m.ones[c]; m.together(groups) && len(ones) >= sizes[0] {
				ch.local = max(ch.local, ones[sizes[0]-1]) // the others only look on
			}
		}
		least = min(least, ch.spread, ch.local)
		list = append(list, ch)
	}
	return least, list, nil
}

// coarse bounds a part on many devices without looking at every choice of
// sizes: some group has no more devices than the groups have on average, and
// no fewer tokens than the last.
func (m *model) coarse(c *part, nodes []*ir.Node, groups int) (spread, local int64) {
	g, n := groups-1, m.devices/groups
	before := m.leastBefore(c, nodes, g, groups, n)
	if c.experts == 0 {
		slowest := m.slowest([][]int64{before})
		return slowest, slowest
	}
	local = m.oneGroup(c, before, g, groups, n)
	if groups == 1 {
		return local, local
	}
	f, w := m.floors(c, -1, 1), m.workOf(c, -1, 1)
	starts := make([][]int64, len(m.loads))
	for k := range m.loads {
		starts[k] = slices.Repeat([]int64{before[k] + f.once[k]}, m.devices)
	}
	return m.leastEnding(f, w, starts, 2, true), local
}

// oneGroup bounds what a group takes that has experts of its own.
func (m *model) oneGroup(c *part, before []int64, g, groups, n int) int64 {
	f, w := m.floors(c, g, groups), m.workOf(c, g, groups)
	starts := make([][]int64, len(m.loads))
	for k := range m.loads {
		starts[k] = slices.Repeat([]int64{before[k] + f.once[k]}, n)
	}
	return m.leastEnding(f, w, starts, min(2, n), false)
}

// groupChoice is how many devices token groups have, and what no placement on
// them goes below: with experts for all tokens, and with experts of their own.
type groupChoice struct {
	sizes         []int
	spread, local int64
}

// bestGroups finds the best placement of a part on several token groups, as
// far as it may beat a score.
func (m *model) bestGroups(i int, ch groupChoice, beat int64) (*layerResult, error) {
	r := newResult(beat, 1)
	m.looks = m.looksForLayer()
	if ch.local < r.best {
		if ok, err := m.localExperts(i, ch.sizes, r); err != nil {
			return nil, err
		} else if !ok {
			r.cannot(bounds{ch.local, ch.local}, fmt.Sprintf("token groups of %v devices with experts of their own", ch.sizes))
		}
	}
	if ch.spread < r.best {
		if err := m.spread(i, ch, r); err != nil {
			return nil, err
		}
	}
	return r.finish(), nil
}

// localExperts looks at placements in which every group has experts of its
// own. It reports false if there are more than it looks at, which is so unless
// every group is one device: then there is only one.
func (m *model) localExperts(i int, sizes []int, r *layerResult) (bool, error) {
	c := m.parts[i]
	opens, err := m.openings(i, sizes, 0, nil)
	if err != nil || slices.Max(sizes) > 1 {
		return false, err
	}
	for k := range opens {
		o := &opens[k]
		l := o.layer
		l.Experts = make([]placement.Expert, c.experts)
		for e := range l.Experts {
			for _, g := range l.Groups {
				l.Experts[e] = append(l.Experts[e], even(g, m.segments()))
			}
		}
		p := m.same(l)
		s, err := m.script(i, p, nil)
		if err != nil {
			return false, err
		}
		score := m.follow(c, s, &l).score
		r.improve(score, l)
		r.bound = r.bound.min(bounds{score, score})
	}
	return true, nil
}

// together reports whether the first group has all tokens in every load.
func (m *model) together(groups int) bool {
	for k := range m.loads {
		if m.loads[k].Of(m.loads[k].Tokens, 0, groups) < m.loads[k].Tokens {
			return false
		}
	}
	return true
}

// maxOpenings bounds the ways to place a layer but for its experts that are
// looked at for one choice of token groups.
const maxOpenings = 400

// spread looks at placements whose experts work on the rows of all groups.
func (m *model) spread(i int, ch groupChoice, r *layerResult) error {
	count, used := 1, 0
	for _, n := range ch.sizes {
		used += n
		count = min(count*len(m.splits(upTo(n))), maxOpenings+1)
	}
	if m.summary(i).Dense > 1 {
		count *= count
	}
	if count > maxOpenings {
		r.cannot(bounds{ch.spread, ch.spread}, fmt.Sprintf("token groups of %v devices", ch.sizes))
		return nil
	}
	for others := range m.devices - used + 1 {
		opens, err := m.openings(i, ch.sizes, others, nil)
		if err != nil {
			return err
		}
		if err := m.closeAll(i, opens, r); err != nil {
			return err
		}
	}
	return nil
}

// The most devices for which every choice of one token group, and of several,
// is looked at.
const (
	maxOneGroup  = 8
	maxManySizes = 4
)

// many reports whether there are too many ways to form token groups to look at
// them all.
func (m *model) many(groups int) bool {
	return m.devices > maxOneGroup || groups > 1 && m.devices > maxManySizes
}

// groupSizes lists how many devices so many token groups may have; on many
// devices, only the even choice.
func (m *model) groupSizes(groups int) [][]int {
	if m.many(groups) {
		return [][]int{slices.Repeat([]int{m.devices / groups}, groups)}
	}
	var list [][]int
	var extend func(sizes []int, left int)
	extend = func(sizes []int, left int) {
		if len(sizes) == groups {
			list = append(list, slices.Clone(sizes))
			return
		}
		for n := 1; n <= left; n++ {
			extend(append(sizes, n), left-n)
		}
	}
	extend(nil, m.devices)
	return list
}

// alone returns the kernels that one device runs before the experts.
func (m *model) alone(i int) ([]*ir.Node, error) {
	c := m.parts[i]
	all := []placement.Split{even([]int{0}, m.segments())}
	l := placement.Layer{Groups: [][]int{{0}}, Attention: all, Dense: all, Experts: make([]placement.Expert, c.experts)}
	for e := range l.Experts {
		l.Experts[e] = placement.Expert{all[0]}
	}
	p := m.same(l)
	placed, err := m.Outline.Place(c.index, p, nil)
	if err != nil {
		return nil, err
	}
	before, _ := around(placed.Nodes)
	return before, nil
}

// leastBefore is, for each load, the least time until the tokens of a group are
// ready for the experts on one of its devices: with everything whole, or
// divided evenly and added up.
func (m *model) leastBefore(c *part, nodes []*ir.Node, group, groups, devices int) []int64 {
	list := make([]int64, len(m.loads))
	if len(nodes) == 0 {
		return list
	}
	sum := nodes[len(nodes)-1].Type
	if c.experts > 0 {
		sum = c.whole.Type
	}
	s := &serve{group: group, groups: groups}
	var parts []cost.Part
	most := max(m.summaryOf(c).Attention, m.summaryOf(c).Dense, 1)
	for n := 1; n <= min(devices, most); n++ {
		parts = append(parts, cost.Part{Device: n - 1, Bytes: 1})
		exchange := m.leastExchange(pricedFloorSum, c, s, parts, sum)
		for k := range m.loads {
			p := m.pricer(k, group, groups)
			var work, launches int64
			for _, node := range nodes {
				price := p.Node(node, nil)
				work += price.Compute + price.Memory
				launches += price.Launch
			}
			if n == 1 {
				list[k] = work + launches
			} else {
				list[k] = min(list[k], work/int64(n)+launches+exchange[k])
			}
		}
	}
	return list
}

// slowest is the score of the group that is slowest in each load.
func (m *model) slowest(before [][]int64) int64 {
	var sum int64
	for k := range m.loads {
		var most int64
		for _, b := range before {
			most = max(most, b[k])
		}
		sum += most * m.loads[k].weight * int64(m.loads[k].samples)
	}
	return sum
}

// spreadBound bounds a part whose experts work on the rows of all groups.
func (m *model) spreadBound(c *part, before [][]int64, sizes []int) int64 {
	f, w := m.floors(c, -1, 1), m.workOf(c, -1, 1)
	x := m.kernels(c.shape, 0, c.leaves).sets[0][0].Args[0].Type // [tokens, slots, features]
	row := int64(x.Shape[2].N) * int64(x.DType.Bytes())
	starts := make([][]int64, len(m.loads))
	for k := range m.loads {
		var ready int64
		for _, b := range before {
			ready = max(ready, b[k])
		}
		rows := x.Shape[0].Of(m.loads[k].Bounds(1))
		p := m.pricer(k, -1, 1)
		for g, n := range sizes {
			far := int64(rows-m.loads[k].Of(rows, g, len(sizes))) * row
			at := ready + p.Exchange("all_gather", 0, []cost.Part{{Device: m.nearest(), Bytes: far}}, 0).Link + f.once[k]
			for range n {
				starts[k] = append(starts[k], at)
			}
		}
		slices.Sort(starts[k])
		for len(starts[k]) < m.devices { // devices of no group get all rows
			starts[k] = append(starts[k], starts[k][len(starts[k])-1])
		}
		starts[k] = starts[k][:m.devices]
	}
	return m.leastEnding(f, w, starts, 2, true)
}

// leastEnding is the least score over how the experts are held.
func (m *model) leastEnding(f *floor, w *work, starts [][]int64, tokens int, many bool) int64 {
	best := int64(never)
	for n := 1; n <= len(starts[0]); n++ {
		some := make([][]int64, len(starts))
		for k := range starts {
			some[k] = starts[k][:n]
		}
		for end := range endings {
			if n > 1 || end == whole {
				best = min(best, m.ends(m.levels(some, w, end), m.after(f, end, n, tokens, many)))
			}
		}
	}
	return best
}

// localBound bounds a part in which every group has experts of its own.
func (m *model) localBound(c *part, before [][]int64, sizes []int) int64 {
	var most int64
	for g, n := range sizes {
		most = max(most, m.oneGroup(c, before[g], g, len(sizes), n))
	}
	return most
}
