package search

import (
	"cmp"
	"fmt"
	"slices"

	"moec/ir/placement"
)

// proof is what "exact" can say: a placement, and a score that no placement of
// the space goes below.
type proof struct {
	best *state   // nil: it put together none that fits
	all  []*state // the best of each number of token groups
	// bounds are bounds on each number of token groups.
	bounds []int64
	bound  int64
	limit  string // what the bound stops at, if it is below the best
}

// exact solves every part by itself, for every number of token groups, and
// puts the solutions together.
//
// The score is a sum over parts, and what a part costs depends on others only
// in which devices values come from, which never makes it cheaper than if they
// were everywhere. So the sum of the best scores of the parts is a bound; and
// where the best placements of all parts have the same devices and fit into
// memory, it is reached. beat is a score that is reached already.
func (m *model) exact(beat int64) (*proof, error) {
	for i := range m.parts {
		if m.parts[i].slow {
			return nil, fmt.Errorf("layer %d chooses experts more than once", i-1)
		}
	}
	r := &proof{bound: never}
	for _, groups := range m.groupings() {
		g, err := m.exactGroups(groups, beat)
		if err != nil {
			return nil, err
		}
		if g.best != nil {
			r.all = append(r.all, g.best)
		}
		if g.best != nil && (r.best == nil || g.best.score < r.best.score) {
			r.best = g.best
			beat = min(beat, g.best.score)
		}
		if g.bound < r.bound {
			r.bound, r.limit = g.bound, g.limit
		}
		r.bounds = append(r.bounds, g.bound)
	}
	return r, m.polishAll(r)
}

// polishAll polishes what was found for each number of token groups, if it may
// not be the best.
func (m *model) polishAll(r *proof) error {
	if r.best == nil || r.best.score <= r.bound {
		return nil
	}
	for i, s := range r.all {
		better, err := m.polish(s)
		if err != nil {
			return err
		}
		if r.all[i] = better; better.score < r.best.score {
			r.best = better
		}
	}
	return nil
}

// groupings lists the numbers of token groups that are looked at.
func (m *model) groupings() []int {
	if m.only > 0 {
		return []int{m.only}
	}
	return upTo(m.devices + 1)[1:]
}

// exactGroups is exact for one number of token groups. Its bound may be any
// score that is no lower than beat, if there is nothing lower.
func (m *model) exactGroups(groups int, beat int64) (*proof, error) {
	ends, err := m.bestEnds(groups)
	if err != nil {
		return nil, err
	}
	c := &chain{model: m, ends: ends, layers: make(map[*part][]*layerResult)}
	for _, sizes := range m.groupSizes(groups) {
		c.sizes = append(c.sizes, sizes)
	}
	if groups > 1 || m.many(groups) {
		bound, err := c.several(groups, beat)
		if err != nil || bound >= beat {
			return &proof{bound: bound}, err
		}
		if m.many(groups) {
			return &proof{bound: bound, limit: fmt.Sprintf("%d token groups on %d devices: too many choices to look at", groups, m.devices)}, nil
		}
		return c.join()
	}
	for i := 1; i <= m.layers(); i++ {
		p := m.parts[i]
		for _, sizes := range c.sizes[len(c.layers[p]):] {
			l, err := m.bestLayer(i, sizes[0], nil)
			if err != nil {
				return nil, err
			}
			c.layers[p] = append(c.layers[p], l)
			m.ones[p] = append(m.ones[p], l.bound.one)
		}
	}
	r, err := c.join()
	if err != nil || r.best != nil && r.best.score <= r.bound || r.bound >= beat || m.devices > maxGrowth || m.kind(m.devices-1) > 0 {
		return r, err
	}
	if err := c.growth(); err != nil { // a group may grow on the way, which was only bounded
		return nil, err
	}
	return c.join()
}

// maxGrowth is the most devices for which groups that grow are worked out.
const maxGrowth = 4

// chain is what is known of all parts of a model on one number of token groups.
type chain struct {
	*model
	sizes  [][]int // of token groups
	ends   [2]*endResult
	layers map[*part][]*layerResult // for each of the sizes
	grown  map[*part][][]*grown     // for each of the sizes, after each smaller one
}

// grown is a layer on one token group after a layer on a smaller one.
type grown struct {
	layerResult
	prev []int // devices of the smaller group that give the best score
}

// growth works out layers after layers on fewer devices, whichever those are.
func (c *chain) growth() error {
	c.grown = make(map[*part][][]*grown)
	for i := 2; i <= c.model.layers(); i++ {
		p := c.parts[i]
		if c.grown[p] != nil {
			continue
		}
		for k := range c.sizes {
			var list []*grown
			for j := range k {
				g := &grown{layerResult: *newResult(never, 1)}
				for _, prev := range c.smaller(c.sizes[j][0], c.sizes[k][0]) {
					l, err := c.bestLayer(i, c.sizes[k][0], prev)
					if err != nil {
						return err
					}
					if l.best < g.best {
						g.best, g.layer, g.prev = l.best, l.layer, prev
					}
					g.bound = g.bound.min(l.bound)
				}
				list = append(list, g)
			}
			c.grown[p] = append(c.grown[p], list)
		}
	}
	return nil
}

// smaller lists the choices of n devices before a group of the first size
// devices: some of those, and others, which are alike.
func (c *chain) smaller(n, size int) [][]int {
	var list [][]int
	for mask := range 1 << size {
		var some []int
		for d := range size {
			if mask&(1<<d) != 0 {
				some = append(some, d)
			}
		}
		for d := size; d < c.devices && len(some) < n; d++ {
			some = append(some, d)
		}
		if len(some) == n {
			list = append(list, some)
		}
	}
	return list
}

// several works out layers on several token groups as far as they may beat a
// score, and returns a score that nothing is below.
func (c *chain) several(groups int, beat int64) (int64, error) {
	least, choices := make(map[*part]int64), make(map[*part][]groupChoice)
	alike := make(map[*part]int64)
	bound := c.ends[0].bound.many + min(c.ends[1].bound.one, c.ends[1].bound.many)
	var savings []saving
	for i := 1; i <= c.model.layers(); i++ {
		p := c.parts[i]
		if alike[p]++; choices[p] == nil {
			var err error
			if least[p], choices[p], err = c.leastGroups(i, groups); err != nil {
				return 0, err
			}
		}
		bound = min(bound+least[p], never)
		if ch := choices[p][0]; c.many(groups) && ch.spread > ch.local {
			savings = append(savings, saving{ch.spread - ch.local, c.expertBytes(p)})
		}
	}
	bound += c.unaffordable(savings, groups)
	if bound >= beat || c.many(groups) {
		return bound, nil
	}
	for i := 1; i <= c.model.layers(); i++ {
		p := c.parts[i]
		for _, ch := range choices[p][len(c.layers[p]):] {
			l, err := c.bestGroups(i, ch, least[p]+(beat-bound)/alike[p]+1)
			if err != nil {
				return 0, err
			}
			c.layers[p] = append(c.layers[p], l)
		}
	}
	return bound, nil
}

// saving is what a layer saves if every token group has experts of its own,
// and the bytes of its experts.
type saving struct{ score, bytes int64 }

// expertBytes is what all experts of a layer keep.
func (c *chain) expertBytes(p *part) int64 {
	if p.experts == 0 {
		return 0
	}
	return int64(p.experts) * c.kernels(p.shape, 0, p.leaves).bytes
}

// unaffordable is how much of the savings memory does not allow: experts of
// every group's own are as many copies. Savings are taken in fractions, the
// best for its bytes first.
func (c *chain) unaffordable(list []saving, groups int) int64 {
	room := c.budget * int64(c.devices)
	for i := range c.model.layers() {
		room -= c.expertBytes(c.parts[i+1])
	}
	slices.SortStableFunc(list, func(a, b saving) int { // by score for each byte, in products that fit
		return cmp.Compare(float64(b.score)/float64(b.bytes), float64(a.score)/float64(a.bytes))
	})
	var lost int64
	for _, s := range list {
		need := s.bytes * int64(groups-1)
		switch {
		case room >= need:
			room -= need
		case room > 0:
			lost += s.score - int64(float64(s.score)*float64(room)/float64(need)) - 1
			room = 0
		default:
			lost += s.score
		}
	}
	return max(lost, 0)
}

// reach is what it costs at least to get to a layer's end: with its result on
// one device of each group, and on several; and the sizes before, for the
// layers as they can be put together.
type reach struct {
	least bounds
	best  int64
	from  int
	// alone is the same as best if the result is on one device only, and
	// aloneFrom where that comes from.
	alone     int64
	aloneFrom int
	shrinks   bool // best comes from a layer that left its result on one device
}

// join puts the best placements of the parts together: the cheapest way
// through the sizes of token groups, layer by layer.
//
// A group that grows waits for rows to come to the new devices; a group that
// shrinks costs nothing. Only ways that stay or shrink are put together.
func (c *chain) join() (*proof, error) {
	r := &proof{}
	ways := make([][]reach, c.model.layers()+1)
	ways[0] = make([]reach, len(c.sizes))
	for k := range ways[0] {
		ways[0][k] = reach{least: bounds{never, c.ends[0].bound.many}, best: c.ends[0].score(c.sizes[k]), from: k, alone: never}
	}
	for l := range c.model.layers() {
		ways[l+1] = make([]reach, len(c.sizes))
		for k := range c.sizes {
			ways[l+1][k] = c.step(ways[l], l+1, k)
			if res := c.layers[c.parts[l+1]][k]; res.limit != "" && r.limit == "" {
				r.limit = fmt.Sprintf("layer %d: %s", l, res.limit)
			}
		}
	}
	r.bound = never
	best, at, alone := int64(never), 0, false
	for k, w := range ways[c.model.layers()] {
		r.bound = min(r.bound, w.least.many+c.ends[1].bound.many, w.least.one+c.ends[1].bound.one)
		if score := w.best + c.ends[1].score(c.sizes[k]); score < best {
			best, at, alone = score, k, false
		}
		if score := w.alone + c.ends[1].bound.one; len(c.sizes[k]) == 1 && score < best {
			best, at, alone = score, k, true
		}
	}
	if best >= never {
		return r, nil
	}
	return r, c.assemble(r, ways, at, alone)
}

// step extends the ways to a part on token groups of sizes number k.
func (c *chain) step(before []reach, i, k int) reach {
	l := c.layers[c.parts[i]][k]
	w := reach{least: noBound, best: never, from: k, alone: never, aloneFrom: k}
	for j, b := range before {
		grows := 0
		for g := range c.sizes[k] {
			grows = max(grows, c.sizes[k][g]-c.sizes[j][g])
		}
		many, one, best := l.bound, l.bound, l.best
		if len(l.late) > 0 {
			one = one.max(l.late[0])
			if grows > 0 {
				many, best = many.max(l.late[c.sizes[j][0]-1]), never
			}
		}
		if grows > 0 && c.grown[c.parts[i]] != nil {
			g := c.grown[c.parts[i]][k][j]
			many, best = many.max(g.bound), g.best
		}
		w.least.one = min(w.least.one, b.least.many+many.one, b.least.one+one.one)
		w.least.many = min(w.least.many, b.least.many+many.many, b.least.one+one.many)
		fits := j == k || len(c.sizes[k]) == 1
		if score := b.best + best; fits && l.layer.Groups != nil && score < w.best {
			w.best, w.from, w.shrinks = score, j, false
		}
		if score := b.best + l.alone; fits && grows <= 0 && l.alone < never && score < w.alone {
			w.alone, w.aloneFrom = score, j
		}
		if score := b.alone + l.best; len(c.sizes[k]) == 1 && c.sizes[k][0] == 1 && b.alone < never && score < w.best {
			w.best, w.from, w.shrinks = score, j, true
		}
	}
	return w
}

// assemble makes the placement of the best way, which ends with sizes number k,
// with the result on one device or on all.
func (c *chain) assemble(r *proof, ways [][]reach, k int, alone bool) error {
	p := c.blank(c.devices)
	p.Strategy = searchedName
	names := upTo(c.devices) // of the devices that are numbered as the layer after does
	head := -1
	for l := c.model.layers(); l > 0; l-- {
		w, res := ways[l][k], c.layers[c.parts[l]][k]
		from, next := w.from, w.shrinks
		switch grown := c.grown[c.parts[l]]; {
		case alone:
			from, next = w.aloneFrom, false
			if l == c.model.layers() {
				head = res.aloneDevice
			} else { // the layer after is on this device
				names = slices.Clone(names)
				names[0], names[res.aloneDevice] = names[res.aloneDevice], names[0]
			}
			p.Layers[l-1] = renamed(res.aloneLayer, names)
		case grown != nil && from < k && len(c.sizes[k]) == 1:
			p.Layers[l-1] = renamed(grown[k][from].layer, names)
			names = rename(grown[k][from].prev, names)
		default:
			p.Layers[l-1] = renamed(res.layer, names)
		}
		k, alone = from, next
	}
	if head >= 0 { // logits are read on the first device of the group
		last := &p.Layers[len(p.Layers)-1]
		group := slices.DeleteFunc(slices.Clone(last.Groups[0]), func(d int) bool { return d == head })
		last.Groups = [][]int{append([]int{head}, group...)}
	}
	p.Embed, p.Head = c.ends[0].of(c.model, p.Layers[0].Groups), c.ends[1].of(c.model, p.Layers[len(p.Layers)-1].Groups)
	if head >= 0 {
		p.Head = []placement.Split{{{Device: head, Lo: 0, Hi: c.segments()}}}
	}
	s, err := c.place(p)
	switch {
	case err != nil:
		return err
	case !c.fits(s.bytes):
		r.limit = "memory: the best placements of the layers do not fit together"
		return nil
	case s.score > r.bound && r.limit == "":
		r.limit = "devices that wait for rows when the next layer is on more of them"
	}
	r.best = s
	return nil
}

// endResult is what is known of the prologue or the epilogue by itself.
type endResult struct {
	bound bounds // no placement on so many token groups has a lower score
	best  map[string]endChoice
}

type endChoice struct {
	score  int64
	splits []placement.Split
}

// rename returns names by which the first devices are those listed.
func rename(first, names []int) []int {
	var list []int
	for _, d := range first {
		list = append(list, names[d])
	}
	for d, name := range names {
		if !slices.Contains(first, d) {
			list = append(list, name)
		}
	}
	return list
}

// renamed is a layer with its devices under other names.
func renamed(l placement.Layer, names []int) placement.Layer {
	split := func(s placement.Split) placement.Split {
		c := slices.Clone(s)
		for i := range c {
			c[i].Device = names[c[i].Device]
		}
		return c
	}
	splits := func(list []placement.Split) []placement.Split {
		var c []placement.Split
		for _, s := range list {
			c = append(c, split(s))
		}
		return c
	}
	r := placement.Layer{Attention: splits(l.Attention), Dense: splits(l.Dense)}
	for _, g := range l.Groups {
		var c []int
		for _, d := range g {
			c = append(c, names[d])
		}
		r.Groups = append(r.Groups, c)
	}
	for _, e := range l.Experts {
		r.Experts = append(r.Experts, splits(e))
	}
	return r
}

// score is the best score on token groups of those sizes.
func (e *endResult) score(sizes []int) int64 {
	if c, ok := e.best[fmt.Sprint(numbered(sizes))]; ok {
		return c.score
	}
	return 0
}

// numbered are token groups of those sizes, with devices in order.
func numbered(sizes []int) [][]int {
	var groups [][]int
	next := 0
	for _, n := range sizes {
		groups = append(groups, upTo(next + n)[next:])
		next += n
	}
	return groups
}

// of returns the best splits for token groups.
func (e *endResult) of(m *model, groups [][]int) []placement.Split {
	var sizes []int
	for _, g := range groups {
		sizes = append(sizes, len(g))
	}
	c, ok := e.best[fmt.Sprint(numbered(sizes))]
	var list []placement.Split
	for g, devices := range groups {
		if !ok {
			list = append(list, even(devices, m.segments()))
			continue
		}
		own := slices.Clone(c.splits[g])
		for i := range own {
			own[i].Device = devices[own[i].Device-numbered(sizes)[g][0]]
		}
		list = append(list, own)
	}
	return list
}

// bestEnds finds how to divide the embedding and the head for so many token
// groups, whatever devices they have.
func (m *model) bestEnds(groups int) ([2]*endResult, error) {
	var ends [2]*endResult
	for k, part := range []int{0, len(m.parts) - 1} {
		e := &endResult{bound: noBound, best: map[string]endChoice{}}
		ends[k] = e
		for _, sizes := range m.groupSizes(groups) {
			if m.many(groups) {
				least, err := m.leastEnd(part, groups)
				if err != nil {
					return ends, err
				}
				e.bound = bounds{least, least}
				continue
			}
			if err := m.endOn(e, part, sizes); err != nil {
				return ends, err
			}
		}
	}
	return ends, nil
}

// leastEnd is a score that no prologue or epilogue on so many groups is below:
// its work, divided evenly between the devices that a group has on average.
func (m *model) leastEnd(part, groups int) (int64, error) {
	nodes, err := m.alone(part)
	if err != nil {
		return 0, err
	}
	var sum int64
	for k := range m.loads {
		p := m.pricer(k, groups-1, groups)
		for _, n := range nodes {
			c := p.Node(n, nil)
			sum += ((c.Compute+c.Memory)/int64(m.devices/groups) + c.Launch) * m.loads[k].weight * int64(m.loads[k].samples)
		}
	}
	return sum, nil
}

// endOn looks at token groups of those sizes.
func (m *model) endOn(e *endResult, part int, sizes []int) error {
	groups := numbered(sizes)
	key := fmt.Sprint(groups)
	for _, splits := range m.eachGroup(groups) {
		everywhere := true
		for g, s := range splits {
			everywhere = everywhere && (len(s) == sizes[g] || !s.Copies(m.segments()))
		}
		if part == 0 && !everywhere {
			continue // no cheaper than copies everywhere, and layer 0 would have to fetch it
		}
		score, err := m.endScore(part, groups, splits)
		if err != nil {
			return err
		}
		e.bound.many = min(e.bound.many, score)
		if alone(splits) {
			e.bound.one = min(e.bound.one, score)
		}
		if c, ok := e.best[key]; !ok || score < c.score {
			e.best[key] = endChoice{score, splits}
		}
	}
	return nil
}

// alone reports whether one device of each group has all of a part.
func alone(splits []placement.Split) bool {
	for _, s := range splits {
		if len(s) > 1 {
			return false
		}
	}
	return true
}

// endScore prices the prologue or the epilogue.
func (m *model) endScore(i int, groups [][]int, splits []placement.Split) (int64, error) {
	p := m.blank(m.devices)
	for k := range p.Layers {
		p.Layers[k].Groups = groups
	}
	p.Embed, p.Head = splits, splits
	ps, err := m.evaluate(i, p, nil, nil)
	if err != nil {
		return 0, err
	}
	return ps.score, nil
}
