package search

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"moec/ir/cost"
	"moec/ir/placement"
	"moec/passes"
)

// option is a way to place a layer on one token group, as far as bounds tell
// it: an opening, how many devices have experts, and how they are held.
type option struct {
	part    int
	open    *opening
	devices int
	end     ending
	bound   bounds // no placement of this kind has a lower score
}

// bounds are scores that nothing is below: if one device of a token group goes
// on with what a layer leaves, and if several do.
//
// Sending a layer's result to one device may be cheaper than sending it to all.
// But then the others have nothing to work on in the next layer until rows come
// to them, which costs more than it saves; to prove that takes two bounds.
type bounds struct{ one, many int64 }

var noBound = bounds{never, never}

func (b bounds) min(c bounds) bounds { return bounds{min(b.one, c.one), min(b.many, c.many)} }

func (b bounds) max(c bounds) bounds { return bounds{max(b.one, c.one), max(b.many, c.many)} }

func (b bounds) add(x int64) bounds { return bounds{min(b.one+x, never), min(b.many+x, never)} }

// layerResult is what is known of the best placement of a layer by itself, on
// token groups of given sizes.
type layerResult struct {
	bound bounds // no placement has a lower score
	// late is the same where only k+1 devices of the group have what the layer
	// before left, and the others must wait for it.
	late  []bounds
	best  int64
	layer placement.Layer // that has the best score
	// alone is the best score if only one device of the group goes on with the
	// result, and the placement and the device that have it.
	alone       int64
	aloneLayer  placement.Layer
	aloneDevice int
	limit       string // what the bound stops at, if it is below the best
}

func newResult(beat int64, devices int) *layerResult {
	r := &layerResult{bound: noBound, best: beat, alone: never}
	for range devices - 1 {
		r.late = append(r.late, noBound)
	}
	return r
}

// improve takes over what is better of a layer.
func (r *layerResult) improve(score int64, layer placement.Layer) {
	if score < r.best {
		r.best, r.layer = score, layer
	}
}

// improveAlone is improve if only one device goes on.
func (r *layerResult) improveAlone(score int64, layer placement.Layer, device int) {
	if score < r.alone {
		r.alone, r.aloneLayer, r.aloneDevice = score, layer, device
	}
}

// cannot notes that placements of a kind were not looked at.
func (r *layerResult) cannot(b bounds, why string) {
	if b.many < min(r.bound.many, r.best) {
		r.limit = why
	}
	r.bound = r.bound.min(b)
}

// finish takes what was found for a bound of what was not looked at.
func (r *layerResult) finish() *layerResult {
	r.bound = r.bound.min(bounds{r.best, r.best})
	if r.bound.many >= r.best {
		r.limit = ""
	}
	return r
}

// maxLooks is how many placements of layers "exact" looks at for a whole model,
// so that it ends within seconds; what is left over is bounded.
const maxLooks = 400000

// looksForLayer is a layer's share of maxLooks.
func (m *model) looksForLayer() int64 {
	different := make(map[*part]bool)
	for _, p := range m.parts {
		different[p] = true
	}
	return max(200, maxLooks/m.thrift/int64(len(different)*m.devices))
}

// bestLayer finds the best placement of a part on one token group of so many
// devices, memory aside, best first: options whose bound is lowest are worked
// out until the next bound is no lower than what was found. prev is the devices
// that have what the layer before left, if they are not the same.
func (m *model) bestLayer(i, devices int, prev []int) (*layerResult, error) {
	r := newResult(never, devices)
	m.looks = m.looksForLayer()
	var groups [][]int
	if prev != nil {
		groups = [][]int{prev}
	}
	opens, err := m.openings(i, []int{devices}, 0, groups)
	if err != nil {
		return nil, err
	}
	if err := m.closeAll(i, opens, r); err != nil {
		return nil, err
	}
	return r.finish(), nil
}

// closeAll looks for the best way to place the experts after any of the
// openings.
func (m *model) closeAll(i int, opens []opening, r *layerResult) error {
	c := m.parts[i]
	if c.experts == 0 {
		return m.closeDense(i, opens, r)
	}
	f, w := m.floors(c, -1, 1), m.workOf(c, -1, 1)
	list := m.options(i, f, w, opens)
	slices.SortStableFunc(list, func(a, b option) int { return cmp.Compare(a.bound.one, b.bound.one) })
	for k := range list {
		o := &list[k]
		least := o.bound
		if o.bound.one < r.best {
			seen, ok := m.refine(c, f, o, r)
			if ok = ok && !m.unalike(); ok { // what was not looked at is no better than the best
				least = least.max(seen.min(bounds{r.best, r.best}))
			} else {
				r.cannot(o.bound, fmt.Sprintf("%s on %d devices, %d of them with the tokens of %d groups", o.end, o.devices, o.open.tokens, len(o.open.layer.Groups)))
			}
		}
		for k := range r.late {
			late := m.lateBound(i, f, w, o, k+1)
			r.late[k] = r.late[k].min(least.add(m.delay(i, o.open, k+1)).max(late))
		}
	}
	return nil
}

// lateBound bounds an option if only so many devices have the rows at first,
// and everything but the experts is copied: the others are late.
func (m *model) lateBound(i int, f *floor, w *work, o *option, early int) bounds {
	if len(o.open.layer.Groups) > 1 || o.open.tokens < 2 || !o.open.layer.Attention[0].Copies(m.segments()) {
		return bounds{}
	}
	waits := m.waits(i)
	starts := m.starts(o.open, o.devices, f)
	for k := range starts {
		for d := early; d < len(starts[k]); d++ {
			starts[k][d] = max(starts[k][d], starts[k][0]+waits[k])
		}
	}
	return m.bound(f, o.end, o.devices, o.open, m.levels(starts, w, o.end))
}

// waits is, for each load, how long it takes until a layer's rows have come to
// another device.
func (m *model) waits(i int) []int64 {
	rows := m.Outline.Import(m.parts[i].index)
	list := make([]int64, len(m.loads))
	for k := range m.loads {
		bytes := rows.Bytes(m.loads[k].Bounds(1))
		list[k] = m.pricer(k, -1, 1).Exchange("transfer", 0, []cost.Part{{Device: m.nearest(), Bytes: bytes}}, bytes).Total()
	}
	return list
}

// closeDense prices openings of a layer without experts. What it costs to leave
// the result on one device is tried for each.
func (m *model) closeDense(i int, opens []opening, r *layerResult) error {
	c := m.parts[i]
	for k := range opens {
		o := &opens[k]
		score := m.follow(c, o.script, &o.layer).score
		r.improve(score, o.layer)
		one := score
		for _, d := range o.hosts[:o.tokens] {
			s, err := m.leaving(i, o, d)
			if err != nil {
				return err
			}
			alone := m.follow(c, s, &o.layer).score
			one = min(one, alone)
			r.improveAlone(alone, o.layer, d)
		}
		b := bounds{one, score}
		r.bound = r.bound.min(b)
		for k := range r.late {
			r.late[k] = r.late[k].min(b.add(m.delay(i, o, k+1)))
		}
	}
	return nil
}

// leaving is the script of an opening that leaves its result on one device of
// its group.
func (m *model) leaving(i int, o *opening, device int) (*script, error) {
	p := m.around(i, m.opened(i, o))
	var needs []passes.Need
	for _, n := range m.Outline.AllNeeds(m.parts[i].index, p) {
		if n.Device == device || len(o.layer.Groups) > 1 {
			needs = append(needs, n)
		}
	}
	return m.script(i, m.opened(i, o), needs)
}

// delay is, in the score, by how much longer an opening takes at least if only
// so many devices have the rows: where more have parts of the attention, they
// wait for rows to come.
func (m *model) delay(i int, o *opening, early int) int64 {
	if len(o.layer.Groups) > 1 {
		return 0
	}
	split := o.layer.Attention[0]
	if len(split) <= early || split.Copies(m.segments()) {
		return 0
	}
	least, most := m.segments(), 0
	for _, sh := range split {
		least, most = min(least, sh.Hi-sh.Lo), max(most, sh.Hi-sh.Lo)
	}
	var sum int64
	for k, wait := range m.waits(i) {
		if most > least { // the device that has the rows may have more to do meanwhile
			wait -= o.script.pre[k*m.devices] // all of it, at most
		}
		sum += max(0, wait) * m.loads[k].weight * int64(m.loads[k].samples)
	}
	return sum
}

// options bounds every way to hold the experts after every opening.
func (m *model) options(i int, f *floor, w *work, opens []opening) []option {
	var list []option
	for k := range opens {
		o := &opens[k]
		most := m.devices // on one group, experts may be elsewhere; on several, hosts says where
		if len(o.layer.Groups) > 1 {
			most = len(o.hosts)
		}
		for n := 1; n <= most; n++ {
			starts := m.starts(o, n, f)
			for end := range endings {
				if n > 1 || end == whole { // on one device all endings are the same
					list = append(list, option{i, o, n, end, m.bound(f, end, n, o, m.levels(starts, w, end))})
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
	list := make([][]int64, len(m.loads))
	for k := range m.loads {
		var at []int64
		for _, d := range o.hosts {
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
	w := &work{total: m.totals(c, group, groups), tall: make([]int64, m.width), low: make([]int64, m.width)}
	if m.devices > maxOneGroup { // copies are taken to cost nothing
		w.copied = w.total
		for e := range c.experts {
			for j, x := range m.slotsOf(c, e, 0, 1, group, groups) {
				w.tall[j] = max(w.tall[j], x)
			}
		}
		return w
	}
	w.copied = m.extra(c, group, groups)
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

// bound is the least score of an ending, if the work is done at those times.
func (m *model) bound(f *floor, end ending, n int, o *opening, times []int64) bounds {
	several := len(o.layer.Groups) > 1 // then several devices go on, of different groups
	return bounds{m.ends(times, m.after(f, end, n, o.tokens, several)), m.ends(times, m.after(f, end, n, o.tokens, true))}
}

// ends is the score of times, and so much more for each load.
func (m *model) ends(times, after []int64) int64 {
	var sum int64
	for k := range m.loads {
		l := &m.loads[k]
		for j := l.first; j < l.first+l.samples; j++ {
			sum += (times[j] + after[k]) * l.weight
		}
	}
	return sum
}

// after is, for each load, what an ending on n devices takes at least once the
// work on slots is done. tokens is how many devices are in token groups; many
// says that several of them, if there are several, go on with the result.
func (m *model) after(f *floor, end ending, n, tokens int, many bool) []int64 {
	after := make([]int64, len(m.loads))
	many = many && tokens > 1
	for k := range m.loads {
		last, sent := f.last[n-1][k], f.none[k]
		if many {
			sent = f.far[k]
			if end == repeated {
				last = f.more[n-1][k]
			}
		}
		switch {
		case end == divided && f.early:
			after[k] = f.all[k] + last
		case end == divided:
			after[k] = f.sum[n-1][k] + min(f.all[k], f.parts[k]+sent)
		case end == whole && n == 1:
			after[k] = min(f.all[k], f.parts[k]+sent)
			if tokens > 1 {
				after[k] = f.parts[k] + sent
			}
		case end == mixed:
			// Either one device gets all partial sums, in one go or several, or
			// several devices get some and send theirs on.
			one := f.sum[n-1][k]
			if n > 2 {
				one = min(one, 2*f.sum[1][k])
			}
			after[k] = f.parts[k] + min(one+sent, f.sum[1][k]+f.last[1][k])
		default:
			after[k] = f.parts[k] + last
		}
	}
	return after
}

// refine looks for the best placement of an option. It returns the least that
// it saw, and false if it did not look at all that may be better than what is
// known.
func (m *model) refine(c *part, f *floor, o *option, r *layerResult) (seen bounds, all bool) {
	seen = noBound
	look := func(experts []placement.Expert) {
		l := o.open.layer
		l.Experts = experts
		if len(l.Groups) > 1 && l.Local() {
			return // bounded by itself
		}
		m.looks--
		score := m.follow(c, o.open.script, &l).score
		one, two := score-m.slack(l.Groups, 1), score-m.slack(l.Groups, 2)
		seen = seen.min(bounds{one, two})
		if score >= r.best && one >= r.alone {
			return
		}
		l.Experts = slices.Clone(experts)
		r.improve(score, l)
		if one < r.alone && len(l.Groups) == 1 {
			m.lookAlone(o, l, r)
		}
	}
	defer func() { r.bound = r.bound.min(seen) }()
	if o.devices > len(o.open.hosts) {
		return m.refineOutside(c, o, r)
	}
	switch o.end {
	case divided:
		orders := m.orders(o.open)
		if orders == nil {
			return seen, false
		}
		for _, order := range orders {
			for _, s := range m.splits(order) {
				if m.looks <= 0 {
					return seen, false
				}
				if len(s) == o.devices && !s.Copies(m.segments()) {
					experts := make([]placement.Expert, c.experts)
					for e := range experts {
						experts[e] = placement.Expert{s}
					}
					look(experts)
				}
			}
		}
		return seen, true
	case whole:
		all = m.partitions(c, f, o, r, look)
		return seen, all
	}
	return seen, false
}

// lookAlone prices a layer whose result goes to one device of the group.
func (m *model) lookAlone(o *option, l placement.Layer, r *layerResult) {
	c := m.parts[o.part]
	for _, d := range l.Groups[0] {
		s, err := m.leaving(o.part, o.open, d)
		if err != nil {
			continue // then it is only bounded
		}
		r.improveAlone(m.follow(c, s, &l).score, l, d)
	}
}

// maxOutside bounds the placements with experts away from the tokens that are
// looked at: each is placed node by node.
const maxOutside = 200

// refineOutside is refine for experts that live on devices that the tokens are
// not on.
func (m *model) refineOutside(c *part, o *option, r *layerResult) (seen bounds, all bool) {
	n := len(o.open.hosts)
	if len(o.open.layer.Groups) > 1 || math.Pow(float64(o.devices), float64(c.experts))*math.Pow(2, float64(m.segments())) > maxOutside*float64(m.segments()+1) {
		return noBound, false
	}
	seen = noBound
	look := func(experts []placement.Expert) error {
		l := o.open.layer
		l.Experts = slices.Clone(experts)
		p := m.same(l)
		if o.open.prev != nil && o.part > 1 {
			p.Layers[o.part-2].Groups = o.open.prev
		}
		for _, d := range append([]int{-1}, l.Groups[0]...) {
			var needs []passes.Need // all, or one device's
			for _, need := range m.Outline.AllNeeds(c.index, m.around(o.part, p)) {
				if d < 0 || need.Device == d {
					needs = append(needs, need)
				}
			}
			ps, err := m.evaluate(o.part, p, needs, nil)
			if err != nil {
				return err
			}
			if d < 0 {
				seen.many = min(seen.many, ps.score)
				r.improve(ps.score, l)
			}
			seen.one = min(seen.one, ps.score)
			if d >= 0 {
				r.improveAlone(ps.score, l, d)
			}
		}
		return nil
	}
	hosts := upTo(n + m.devices)[:0]
	hosts = append(hosts, o.open.hosts...)
	for d := 0; len(hosts) < o.devices; d++ {
		if !slices.Contains(o.open.hosts, d) {
			hosts = append(hosts, d)
		}
	}
	for _, experts := range m.outsideWays(c, o, hosts) {
		if err := look(experts); err != nil {
			return noBound, false
		}
	}
	seen.many = min(seen.many, max(seen.one, seen.many))
	r.bound = r.bound.min(seen)
	return seen, o.end == whole || o.end == divided
}

// outsideWays lists the ways to hold experts on all of the hosts.
func (m *model) outsideWays(c *part, o *option, hosts []int) [][]placement.Expert {
	var list [][]placement.Expert
	switch o.end {
	case divided:
		for _, order := range orders(hosts) {
			for _, s := range m.splits(order) {
				if len(s) == len(hosts) && !s.Copies(m.segments()) {
					list = append(list, slices.Repeat([]placement.Expert{{s}}, c.experts))
				}
			}
		}
	case whole:
		experts := make([]placement.Expert, c.experts)
		var deal func(e int)
		deal = func(e int) {
			if e == c.experts {
				if devices := deviceSet(experts); devices == deviceSet([]placement.Expert{{even(hosts, max(m.segments(), len(hosts)))}}) {
					list = append(list, slices.Clone(experts))
				}
				return
			}
			for _, d := range hosts {
				experts[e] = placement.Expert{{{Device: d, Lo: 0, Hi: m.segments()}}}
				deal(e + 1)
			}
		}
		deal(0)
	}
	return list
}

// orders lists the orders of some devices.
func orders(list []int) [][]int {
	if len(list) < 2 {
		return [][]int{list}
	}
	var out [][]int
	for i, d := range list {
		rest := append(slices.Clone(list[:i]), list[i+1:]...)
		for _, o := range orders(rest) {
			out = append(out, append([]int{d}, o...))
		}
	}
	return out
}

// slack is by how much the score that follow just worked out could be lower if
// only so many devices of each token group went on with the result: others may
// do without it if the next layer has nothing for them.
func (m *model) slack(groups [][]int, wanted int) int64 {
	var sum int64
	for i := range m.served {
		s := &m.served[i]
		lists := s.teams[0].sums
		if s.mode != combineAll {
			lists = [][]int64{s.last}
		}
		for _, prices := range lists {
			for k := range m.loads {
				n := len(s.wanted)
				own := prices[k*n : (k+1)*n]
				least := int64(0)
				for _, g := range groups {
					var some []int64
					for j, d := range s.wanted {
						if slices.Contains(g, d) {
							some = append(some, own[j])
						}
					}
					slices.Sort(some)
					if len(some) > 0 {
						least = max(least, some[min(wanted, len(some))-1])
					}
				}
				sum += (slices.Max(own) - least) * m.loads[k].weight * int64(m.loads[k].samples)
			}
		}
	}
	return sum
}

// alike numbers the hosts of an opening: those with the same number begin
// together, and go on with the result or do not.
func (m *model) alike(o *opening) []int {
	group := o.hosts
	kinds := make([]int, len(group))
	for i, d := range group {
		kinds[i] = i
		for j, e := range group[:i] {
			same := (i < o.tokens) == (j < o.tokens) && m.kind(d) == m.kind(e)
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

// maxOrders bounds the orders of devices that are looked at: those of four.
const maxOrders = 24

// orders lists the orders of an opening's devices that are not alike, or nil
// if there are too many.
func (m *model) orders(o *opening) [][]int {
	group, kinds := o.hosts, m.alike(o)
	if n := math.Gamma(float64(len(group) + 1)); n/orderly(kinds) > maxOrders {
		return nil
	}
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
const maxPartitions = 1 << 20

// partitions looks at the ways to deal whole experts out to that many devices
// of an option that may be better than what is known; devices that begin
// together are alike.
func (m *model) partitions(c *part, f *floor, o *option, r *layerResult, look func([]placement.Expert)) bool {
	d := &dealer{model: m, c: c, o: o, r: r, look: look, kinds: m.alike(o.open), after: m.after(f, whole, o.devices, o.open.tokens, len(o.open.layer.Groups) > 1)}
	if ways(c.experts, o.devices, d.kinds) > maxPartitions {
		return false
	}
	for _, device := range o.open.hosts {
		d.homes = append(d.homes, placement.Expert{{{Device: device, Lo: 0, Hi: m.segments()}}})
		ready := make([]int64, m.width)
		for k := range m.loads {
			l := &m.loads[k]
			for j := l.first; j < l.first+l.samples; j++ {
				ready[j] = o.open.script.pre[k*m.devices+device] + f.once[k] + d.after[k]
			}
		}
		d.ends = append(d.ends, ready)
	}
	for e := range c.experts {
		d.slots = append(d.slots, m.slotsOf(c, e, 0, 1, -1, 1))
	}
	d.experts = make([]placement.Expert, c.experts)
	d.deal(0, 0)
	return m.looks > 0
}

// dealer deals experts out to devices.
type dealer struct {
	*model
	c       *part
	o       *option
	r       *layerResult
	look    func([]placement.Expert)
	kinds   []int
	after   []int64
	homes   []placement.Expert
	slots   [][]int64 // of each expert, what it takes in each batch
	ends    [][]int64 // of each host, when it would end with what it has so far
	experts []placement.Expert
}

// deal deals out expert e and those after it.
func (d *dealer) deal(e int, used uint64) {
	n := bits.OnesCount64(used)
	if d.looks--; d.looks <= 0 {
		return
	}
	if n > d.o.devices || d.c.experts-e < d.o.devices-n || d.least(used) >= d.r.best {
		return
	}
	if e == d.c.experts {
		d.look(d.experts)
		return
	}
	var tried uint64 // kinds of which an unused device was tried
	for k := range d.homes {
		if used&(1<<k) == 0 {
			if tried&(1<<d.kinds[k]) != 0 {
				continue
			}
			tried |= 1 << d.kinds[k]
		}
		d.experts[e] = d.homes[k]
		for j, x := range d.slots[e] {
			d.ends[k][j] += x
		}
		d.deal(e+1, used|1<<k)
		for j, x := range d.slots[e] {
			d.ends[k][j] -= x
		}
	}
}

// least is a score that no way to go on from here is below.
func (d *dealer) least(used uint64) int64 {
	var sum int64
	for i := range d.loads {
		l := &d.loads[i]
		var s int64
		for j := l.first; j < l.first+l.samples; j++ {
			var last int64
			for k, ends := range d.ends {
				if used&(1<<k) != 0 {
					last = max(last, ends[j])
				}
			}
			s += last
		}
		sum += s * l.weight
	}
	return sum
}

// orderly is the number of orders that devices of the same kinds have among
// themselves.
func orderly(kinds []int) float64 {
	n := 1.0
	count := map[int]int{}
	for _, k := range kinds {
		count[k]++
		n *= float64(count[k])
	}
	return n
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
