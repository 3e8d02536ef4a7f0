package balance

import (
	"cmp"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// packer searches a layout of some experts on the devices of one node: it
// improves one that it is given, by swaps of copies between devices and by
// giving slots of one expert to another. It allocates nothing once made.
type packer struct {
	devices, size int // slots of a device
	distinct      bool
	loads         []int64 // of each expert, in units
	bound         int64   // no layout is better
	cur, best     state
	// work counts the pairs that were looked at, limit ends the search. Time
	// would not be the same on every machine.
	work, limit int
	donors      []int // experts with several copies
	order       []int
	random      rand.PCG
}

// state is a layout and what follows from it.
type state struct {
	at    []int    // expert of each slot, or None
	count []int    // copies of each expert
	share []int64  // load of one copy, in units
	dev   []int64  // load of each device, in units
	has   []uint16 // copies of expert e on device d, at e*devices+d
}

func newPacker(experts, slots, devices int, distinct bool) *packer {
	p := &packer{devices: devices, size: slots / devices, distinct: distinct, loads: make([]int64, experts), donors: make([]int, 0, experts), order: make([]int, experts)}
	for _, s := range []*state{&p.cur, &p.best} {
		*s = state{make([]int, slots), make([]int, experts), make([]int64, experts), make([]int64, devices), make([]uint16, experts*devices)}
	}
	return p
}

// copyFrom makes s the same as o.
func (s *state) copyFrom(o *state) {
	copy(s.at, o.at)
	copy(s.count, o.count)
	copy(s.share, o.share)
	copy(s.dev, o.dev)
	copy(s.has, o.has)
}

// most returns the device with the largest load.
func (s *state) most() int {
	m := 0
	for d, w := range s.dev {
		if w > s.dev[m] {
			m = d
		}
	}
	return m
}

func (s *state) max() int64 { return s.dev[s.most()] }

// start takes a layout of experts 0 to n-1, or None, for their loads.
func (p *packer) start(layout []int) {
	s := &p.cur
	clear(s.count)
	clear(s.dev)
	clear(s.has)
	copy(s.at, layout)
	for i, e := range layout {
		if e != None {
			s.count[e]++
			s.has[e*p.devices+i/p.size]++
		}
	}
	var sum int64
	for e, w := range p.loads {
		s.share[e] = w / int64(max(1, s.count[e]))
		sum += w
	}
	for i, e := range layout {
		if e != None {
			s.dev[i/p.size] += s.share[e]
		}
	}
	p.bound = sum / int64(p.devices)
}

// solve improves the current layout until nothing helps, the bound is reached
// or limit pairs were looked at, and leaves the best in best.
func (p *packer) solve(limit int) {
	p.work, p.limit = 0, limit
	if p.distinct {
		p.separate()
	}
	p.descend()
	p.best.copyFrom(&p.cur)
	for p.open() && p.kick() {
	}
	p.random.Seed(1, uint64(len(p.loads)))
	for p.open() && p.shake() {
	}
}

// open reports whether there is more to gain and leave to look for it.
func (p *packer) open() bool { return p.work < p.limit && p.best.max() > p.bound }

// shake makes some random changes to the best layout and descends from there.
// It reports false if there is nothing to change.
func (p *packer) shake() bool {
	p.cur.copyFrom(&p.best)
	p.work += len(p.cur.has) / 8
	changed := false
	for range 1 + p.below(3) {
		i, j := p.below(len(p.cur.at)), p.below(len(p.cur.at))
		p.work += 10
		switch e := p.below(len(p.loads)); {
		case p.mayGive(i, e):
			p.give(i, e)
			changed = true
		case i/p.size != j/p.size && p.mayMove(i, j/p.size) && p.mayMove(j, i/p.size):
			p.exchange(i, j)
			changed = true
		}
	}
	if changed {
		p.descend()
	}
	if p.cur.max() < p.best.max() {
		p.best.copyFrom(&p.cur)
	}
	return len(p.loads) > 1 && p.devices > 1
}

// mayGive reports whether a slot can change to expert e.
func (p *packer) mayGive(slot, e int) bool {
	f := p.cur.at[slot]
	return f != e && (f == None || p.cur.count[f] > 1) && p.cur.has[e*p.devices+slot/p.size] == 0
}

// below returns a random number from 0 to n-1.
func (p *packer) below(n int) int {
	hi, _ := bits.Mul64(p.random.Uint64(), uint64(n))
	return int(hi)
}

// descend lowers the load of the fullest device until no single change does.
func (p *packer) descend() {
	for p.work < p.limit {
		m := p.cur.most()
		if p.cur.dev[m] <= p.bound || !p.swap(m) && !p.replicate(m) {
			return
		}
	}
}

// swap exchanges a copy on device m with a lighter one elsewhere, such that
// the fuller of the two devices is left with the least.
func (p *packer) swap(m int) bool {
	s := &p.cur
	var gain int64
	from, to := -1, -1
	for d, w := range s.dev {
		gap := s.dev[m] - w
		if d == m || gap/2 <= gain {
			continue
		}
		p.work += p.size * p.size
		for i := m * p.size; i < (m+1)*p.size; i++ {
			mine := s.shareAt(i)
			for j := d * p.size; j < (d+1)*p.size; j++ {
				less := mine - s.shareAt(j)
				if g := min(less, gap-less); g > gain && p.mayMove(i, d) && p.mayMove(j, m) {
					gain, from, to = g, i, j
				}
			}
		}
	}
	if from >= 0 {
		p.exchange(from, to)
	}
	return from >= 0
}

func (s *state) shareAt(slot int) int64 {
	if e := s.at[slot]; e != None {
		return s.share[e]
	}
	return 0
}

// mayMove reports whether a slot's expert may live on device d as well.
func (p *packer) mayMove(slot, d int) bool {
	e := p.cur.at[slot]
	return e == None || !p.distinct || p.cur.has[e*p.devices+d] == 0
}

// exchange swaps the experts of two slots.
func (p *packer) exchange(i, j int) {
	e, f := p.cur.at[i], p.cur.at[j]
	p.put(i, None)
	p.put(j, e)
	p.put(i, f)
}

// put gives a slot to an expert, at the shares that there are.
func (p *packer) put(slot, e int) {
	s, d := &p.cur, slot/p.size
	if old := s.at[slot]; old != None {
		s.has[old*p.devices+d]--
		s.dev[d] -= s.share[old]
	}
	if s.at[slot] = e; e != None {
		s.has[e*p.devices+d]++
		s.dev[d] += s.share[e]
	}
}

// recount changes how many copies of an expert share its load.
func (p *packer) recount(e, by int) {
	s := &p.cur
	s.count[e] += by
	share := p.loads[e] / int64(s.count[e])
	for d, n := range s.has[e*p.devices : (e+1)*p.devices] {
		s.dev[d] += int64(n) * (share - s.share[e])
	}
	s.share[e] = share
}

// give takes a slot from an expert that has more and gives it to expert e.
func (p *packer) give(slot, e int) {
	old := p.cur.at[slot]
	p.put(slot, None)
	if old != None {
		p.recount(old, -1)
	}
	p.recount(e, +1)
	p.put(slot, e)
}

// replicate gives an expert of device m one more copy, in the slot of an
// expert with several, if that leaves all devices that it touches below what
// m has now, and takes the best such change.
func (p *packer) replicate(m int) bool {
	s := &p.cur
	least := s.dev[m]
	slot, expert := -1, -1
	for i := m * p.size; i < (m+1)*p.size; i++ {
		e := s.at[i]
		if e == None || slices.Contains(s.at[m*p.size:i], e) {
			continue
		}
		for j, f := range s.at {
			p.work++
			if f == e || f != None && s.count[f] < 2 || s.has[e*p.devices+j/p.size] > 0 {
				continue
			}
			if w := p.after(j, e, least); w < least {
				least, slot, expert = w, j, e
			}
		}
	}
	if slot >= 0 {
		p.give(slot, expert)
	}
	return slot >= 0
}

// after returns the largest load of a device that give would touch, or limit
// if it is not below that.
func (p *packer) after(slot, e int, limit int64) int64 {
	s := &p.cur
	p.work += p.devices
	f, d := s.at[slot], slot/p.size
	share := p.loads[e] / int64(s.count[e]+1)
	fell := s.share[e] - share
	var rose, other int64
	if f != None {
		other = p.loads[f] / int64(s.count[f]-1)
		rose = other - s.share[f]
	}
	var most int64
	for x, w := range s.dev {
		w -= int64(s.has[e*p.devices+x]) * fell
		if f != None {
			w += int64(s.has[f*p.devices+x]) * rose
		}
		if x == d {
			w += share - other
		}
		if w == s.dev[x] {
			continue
		}
		if w >= limit {
			return limit
		}
		most = max(most, w)
	}
	return most
}

// kick tries, from the best layout, to give slots to other experts even where
// that is worse at first, and descends from there. It reports whether one of
// those is better, and makes it the best.
func (p *packer) kick() bool {
	best := p.best.max()
	p.sortExperts()
	for _, e := range p.order {
		for _, f := range p.donors {
			if p.work >= p.limit {
				return false
			}
			if e == f {
				continue
			}
			p.cur.copyFrom(&p.best)
			p.work += len(p.cur.has) / 8
			slot := p.slotFor(e, f)
			if slot < 0 {
				continue
			}
			p.give(slot, e)
			p.descend()
			if p.cur.max() < best {
				p.best.copyFrom(&p.cur)
				return true
			}
		}
	}
	return false
}

// slotFor returns the slot of expert f on the fullest device that has no copy
// of expert e, or -1.
func (p *packer) slotFor(e, f int) int {
	s, slot := &p.cur, -1
	for i, x := range s.at {
		d := i / p.size
		if x == f && s.has[e*p.devices+d] == 0 && (slot < 0 || s.dev[d] > s.dev[slot/p.size]) {
			slot = i
		}
	}
	return slot
}

// sortExperts lists experts with the largest shares first, and those that can
// do with a copy less, those that lose the least by it first.
func (p *packer) sortExperts() {
	s := &p.best
	p.donors = p.donors[:0]
	for e := range p.order {
		p.order[e] = e
		if s.count[e] > 1 {
			p.donors = append(p.donors, e)
		}
	}
	slices.SortFunc(p.order, func(a, b int) int { return cmp.Or(cmp.Compare(s.share[b], s.share[a]), a-b) })
	slices.SortFunc(p.donors, func(a, b int) int {
		return cmp.Or(cmp.Compare(p.loads[a]/int64(s.count[a]-1), p.loads[b]/int64(s.count[b]-1)), a-b)
	})
}

// separate changes the current layout so that no device has an expert twice:
// such a slot goes to the busiest expert that the device lacks, or to none.
func (p *packer) separate() {
	s := &p.cur
	for i, e := range s.at {
		d := i / p.size
		if e == None || s.has[e*p.devices+d] < 2 {
			continue
		}
		p.put(i, None)
		p.recount(e, -1)
	}
	for i, e := range s.at {
		if e != None {
			continue
		}
		busiest := -1
		for f := range s.share {
			if s.has[f*p.devices+i/p.size] == 0 && (busiest < 0 || s.share[f] > s.share[busiest]) {
				busiest = f
			}
		}
		if busiest >= 0 {
			p.recount(busiest, +1)
			p.put(i, busiest)
		}
	}
}
