package search

import (
	"fmt"
	"math"
	"math/bits"
	"slices"

	"moec/ir/placement"
)

// option is a way to place a layer on one token group, as far as bounds tell
// it: an opening, how many devices have experts, and how they are held.
type option struct {
	open    *opening
	devices int
	end     ending
	bound   int64 // no placement of this kind has a lower score
}

// layerResult is what is known of the best placement of a layer by itself.
type layerResult struct {
	bound int64 // no placement on one token group has a lower score
	best  int64
	layer placement.Layer // that has the best score
	limit string          // what the bound stops at, if it is below the best
}

// bestLayer finds the best placement of a part on one token group, memory
// aside, best first: options whose bound is lowest are worked out until the
// next bound is no lower than what was found.
func (m *model) bestLayer(i int) (*layerResult, error) {
	c := m.parts[i]
	opens, err := m.openings(i, 0)
	if err != nil {
		return nil, err
	}
	r := &layerResult{bound: never, best: never}
	if c.experts == 0 {
		for k := range opens {
			if ps := m.follow(c, opens[k].script, &opens[k].layer); ps.score < r.best {
				r.bound, r.best, r.layer = ps.score, ps.score, opens[k].layer
			}
		}
		return r, nil
	}
	list := m.options(c, opens)
	slices.SortStableFunc(list, func(a, b option) int { return int(min(1, max(-1, a.bound-b.bound))) })
	for k := range list {
		o := &list[k]
		if o.bound >= r.best {
			break
		}
		layer, score, ok := m.refine(c, o)
		if score < r.best {
			r.best, r.layer = score, layer
		}
		if !ok && o.bound < r.bound {
			r.bound, r.limit = o.bound, fmt.Sprintf("%s on %d devices, %d of them with the tokens", o.end, o.devices, len(o.open.layer.Groups[0]))
		}
	}
	r.bound = min(r.bound, r.best)
	return r, nil
}

// options bounds every way to hold the experts after every opening.
func (m *model) options(c *part, opens []opening) []option {
	f := m.floors(c, -1, 1)
	w := m.workOf(c, -1, 1)
	var list []option
	for k := range opens {
		o := &opens[k]
		for n := 1; n <= m.devices; n++ {
			starts := m.starts(o, n, f)
			for end := range endings {
				if b := m.bound(f, end, n, len(o.layer.Groups[0]), m.levels(starts, w, end)); b < never {
					list = append(list, option{o, n, end, b})
				}
			}
		}
	}
	return list
}

// starts returns, for each load, when n devices are ready for slots at the
// earliest, in ascending order: those of the token group, and others when the
// rows have come to them.
func (m *model) starts(o *opening, n int, f *floor) [][]int64 {
	group := o.layer.Groups[0]
	list := make([][]int64, len(m.loads))
	for k := range m.loads {
		var at []int64
		for _, d := range group {
			at = append(at, o.script.pre[k*m.devices+d]+f.once[k])
		}
		slices.Sort(at)
		for len(at) < n {
			at = append(at, at[0]+f.far[k]/2) // rows are sent in half the bytes of what is added up
		}
		list[k] = at[:n]
	}
	return list
}

// work is what slots take, for each batch.
type work struct {
	total  []int64 // on one device, each expert whole
	copied []int64 // the same where the expert that makes least of it has copies
	tall   []int64 // the expert that takes longest
	low    []int64 // the same if every expert may have copies
}

// workOf sums and compares what the slots of experts take.
func (m *model) workOf(c *part, group, groups int) *work {
	w := &work{total: m.totals(c, group, groups), copied: m.extra(c, group, groups), tall: make([]int64, m.width), low: make([]int64, m.width)}
	for j := range w.copied {
		w.copied[j] += w.total[j]
	}
	for e := range c.experts {
		alone := m.slotsOf(c, e, 0, 1, group, groups)
		least := slices.Clone(alone)
		for n := 2; n <= m.devices; n++ {
			most := make([]int64, m.width)
			for r := range n {
				for j, x := range m.slotsOf(c, e, r, n, group, groups) {
					most[j] = max(most[j], x)
				}
			}
			for j, x := range most {
				least[j] = min(least[j], x)
			}
		}
		for j := range alone {
			w.tall[j], w.low[j] = max(w.tall[j], alone[j]), max(w.low[j], least[j])
		}
	}
	return w
}

// slotsOf is what the slots take that a copy of an expert serves, for each
// batch: at least that, where measurements correct prices.
func (m *model) slotsOf(c *part, e, turn, turns, group, groups int) []int64 {
	sum := make([]int64, m.width)
	for set, nodes := range m.kernels(c.shape, 0, c.leaves).sets {
		least := m.Machine.Least(opOf(nodes[0]))
		for j, x := range m.row(c, rowsKey{first: 0, end: c.leaves, set: set, turn: turn, turns: turns, group: group, groups: groups}, e) {
			if m.corrected() {
				x = x / 1e6 * least
			}
			sum[j] += x
		}
	}
	return sum
}

// levels is, for each batch, when the work is done at the earliest: work that
// can be divided rises like water, and a whole expert takes its time.
func (m *model) levels(starts [][]int64, w *work, end ending) []int64 {
	list := make([]int64, m.width)
	for k := range m.loads {
		l := &m.loads[k]
		for j := l.first; j < l.first+l.samples; j++ {
			switch end {
			case whole:
				list[j] = max(level(starts[k], w.total[j]), starts[k][0]+w.tall[j])
			case repeated:
				list[j] = max(level(starts[k], w.copied[j]), starts[k][0]+w.low[j])
			default:
				list[j] = level(starts[k], w.total[j])
			}
		}
	}
	return list
}

// bound is the least score of an ending, if the work is done at those levels.
// tokens is how many devices go on with the result.
func (m *model) bound(f *floor, end ending, n, tokens int, times []int64) int64 {
	after := make([]int64, len(m.loads))
	for k := range m.loads {
		switch {
		case end == divided && n == 1, end == mixed && n == 1, end == repeated && n == 1:
			return never // the same as whole
		case end == divided && f.early:
			after[k] = f.all[k] + f.last[n-1][k]
		case end == divided && n >= tokens:
			after[k] = f.sum[n-1][k] + f.all[k]
		case end == divided:
			after[k] = f.sum[n-1][k] + f.parts[k] + f.far[k]
		case end == whole && n == 1 && tokens == 1:
			after[k] = f.all[k]
		case end == whole && n == 1:
			after[k] = f.parts[k] + f.far[k]
		case end == whole:
			after[k] = f.parts[k] + f.last[n-1][k]
		case end == repeated && tokens == 1:
			after[k] = f.parts[k] + f.last[n-1][k]
		case end == repeated:
			after[k] = f.parts[k] + f.more[n-1][k]
		case tokens > 1:
			after[k] = f.sum[1][k] + f.parts[k] + f.far[k]
		default:
			after[k] = f.sum[1][k] + f.parts[k]
		}
	}
	var sum int64
	for k := range m.loads {
		l := &m.loads[k]
		for j := l.first; j < l.first+l.samples; j++ {
			sum += (times[j] + after[k]) * l.weight
		}
	}
	return sum
}

// refine finds the best placement of an option. It reports false if it did not
// look at all of them.
func (m *model) refine(c *part, o *option) (placement.Layer, int64, bool) {
	group := o.open.layer.Groups[0]
	best, layer := int64(never), o.open.layer
	look := func(experts []placement.Expert) int64 {
		l := o.open.layer
		l.Experts = experts
		ps := m.follow(c, o.open.script, &l)
		if ps.score < best {
			best, layer = ps.score, l
			layer.Experts = slices.Clone(experts)
		}
		return ps.score
	}
	if o.devices > len(group) {
		return layer, never, false
	}
	switch o.end {
	case divided:
		for _, order := range m.orders(o.open) {
			for _, s := range m.splits(order) {
				if len(s) == o.devices && !s.Copies(m.segments()) {
					experts := make([]placement.Expert, c.experts)
					for e := range experts {
						experts[e] = placement.Expert{s}
					}
					look(experts)
				}
			}
		}
		return layer, best, true
	case whole:
		ok := m.partitions(c, o, look)
		return layer, best, ok
	}
	return layer, never, false
}

// alike numbers the devices of an opening's group: those with the same number
// begin together.
func (m *model) alike(o *opening) []int {
	group := o.layer.Groups[0]
	kinds := make([]int, len(group))
	for i, d := range group {
		kinds[i] = i
		for j, e := range group[:i] {
			same := true
			for k := range m.loads {
				same = same && o.script.pre[k*m.devices+d] == o.script.pre[k*m.devices+e]
			}
			if same {
				kinds[i] = kinds[j]
				break
			}
		}
	}
	return kinds
}

// orders lists the orders of an opening's devices that are not alike.
func (m *model) orders(o *opening) [][]int {
	group, kinds := o.layer.Groups[0], m.alike(o)
	var list [][]int
	var extend func(order []int, used uint64)
	extend = func(order []int, used uint64) {
		if len(order) == len(group) {
			list = append(list, slices.Clone(order))
			return
		}
		var tried uint64 // kinds
		for i, d := range group {
			if used&(1<<i) == 0 && tried&(1<<kinds[i]) == 0 {
				tried |= 1 << kinds[i]
				extend(append(order, d), used|1<<i)
			}
		}
	}
	extend(nil, 0)
	return list
}

// maxPartitions bounds the ways to deal out experts that are looked at.
const maxPartitions = 40000

// partitions looks at every way to deal whole experts out to that many devices
// of an option; devices that begin together are alike.
func (m *model) partitions(c *part, o *option, look func([]placement.Expert) int64) bool {
	group, kinds := o.open.layer.Groups[0], m.alike(o.open)
	if ways(c.experts, o.devices, kinds) > maxPartitions {
		return false
	}
	homes := make([]placement.Expert, len(group))
	for k, d := range group {
		homes[k] = placement.Expert{{{Device: d, Lo: 0, Hi: m.segments()}}}
	}
	experts := make([]placement.Expert, c.experts)
	var deal func(e int, used uint64)
	deal = func(e int, used uint64) {
		n := bits.OnesCount64(used)
		if n > o.devices || c.experts-e < o.devices-n {
			return
		}
		if e == c.experts {
			look(experts)
			return
		}
		var tried uint64 // kinds of which an unused device was tried
		for k := range group {
			if used&(1<<k) == 0 {
				if tried&(1<<kinds[k]) != 0 {
					continue
				}
				tried |= 1 << kinds[k]
			}
			experts[e] = homes[k]
			deal(e+1, used|1<<k)
		}
	}
	deal(0, 0)
	return true
}

// ways estimates how many ways there are to deal experts out: to different
// devices, less the orders of those that are alike.
func ways(experts, devices int, kinds []int) float64 {
	n := math.Pow(float64(devices), float64(experts))
	count := map[int]int{}
	for _, k := range kinds {
		if count[k]++; count[k] > 1 && devices > 1 {
			n /= float64(min(count[k], devices))
		}
	}
	return n
}
