package routing

import (
	"slices"
)

// Draw makes up the choices of a step's tokens in one layer. The same seed,
// class of layers and sample number give the same tokens, and a shorter batch
// is the beginning of a longer one.
//
// The slots of a token hold different experts. The first is drawn by Weight.
// Where Pairs is known, each later one is drawn from what was chosen together
// with those before it; else by Weight among the experts left.
func (s *Stats) Draw(seed uint64, layer, tokens, sample int) *Batch {
	class := s.Class(layer)
	l := &s.Layers[class]
	b := &Batch{Tokens: tokens, Slots: l.Slots, Experts: l.Experts, Chosen: make([]uint16, tokens*l.Slots)}
	if l.Experts == 0 {
		return b
	}
	d := newDrawer(newSource(seed, uint64(class), uint64(sample)), l)
	for t := range tokens {
		d.token(b.Chosen[t*l.Slots : (t+1)*l.Slots])
	}
	return b
}

// Walk makes up tokens and follows each through all layers. It returns, for
// each layer, the expert of slot s of token t at t*Slots+s.
//
// The first layer with experts is drawn as in Draw. Where Next is known, slot
// s of the following one is drawn from what was chosen after the expert of
// slot s; else as in Draw.
func (s *Stats) Walk(seed uint64, tokens int) [][]uint16 {
	paths := make([][]uint16, len(s.Layers))
	g := newSource(seed)
	last := -1
	for i := range s.Layers {
		l := &s.Layers[i]
		paths[i] = make([]uint16, tokens*l.Slots)
		if l.Experts == 0 {
			continue
		}
		d := newDrawer(g, l)
		var follow *table
		if last >= 0 && s.Layers[last].Next != nil {
			follow = newTable(s.Layers[last].Next)
		}
		for t := range tokens {
			chosen := paths[i][t*l.Slots : (t+1)*l.Slots]
			if follow == nil {
				d.token(chosen)
				continue
			}
			from := paths[last][t*s.Layers[last].Slots:][:s.Layers[last].Slots]
			d.after(chosen, from, follow)
		}
		last = i
	}
	return paths
}

// tries is how often a draw is repeated because its expert is taken already,
// before the experts left are added up instead.
const tries = 6

// drawer draws the experts of tokens in one layer.
type drawer struct {
	*source
	all   []int64 // sums of Weight, expert by expert
	pairs *table  // or nil
}

func newDrawer(g *source, l *Layer) *drawer {
	d := &drawer{source: g, all: sums(l.Weight)}
	if l.Pairs != nil {
		d.pairs = newTable(l.Pairs)
	}
	return d
}

// token fills the slots of one token.
func (d *drawer) token(chosen []uint16) {
	for i := range chosen {
		if i == 0 || d.pairs == nil || !d.fromRows(d.pairs, chosen[:i], chosen, i) {
			d.plain(chosen, i)
		}
	}
}

// after fills the slots of a token that chose others in the layer before.
func (d *drawer) after(chosen, from []uint16, follow *table) {
	for i := range chosen {
		f := min(i, len(from)-1)
		if !d.fromRows(follow, from[f:f+1], chosen, i) {
			d.plain(chosen, i)
		}
	}
}

// plain chooses slot i by the weights of the experts not chosen yet.
func (d *drawer) plain(chosen []uint16, i int) {
	total := d.all[len(d.all)-1]
	if total > 0 {
		for range tries {
			e := search(d.all, d.below(total))
			if !slices.Contains(chosen[:i], e) {
				chosen[i] = e
				return
			}
		}
	}
	if d.left(d.all, chosen, i) {
		return
	}
	// No expert left was ever chosen: all those are alike.
	n := d.below(int64(len(d.all) - i))
	for e := range d.all {
		if slices.Contains(chosen[:i], uint16(e)) {
			continue
		}
		if n == 0 {
			chosen[i] = uint16(e)
			return
		}
		n--
	}
}

// left chooses slot i by weights, given as sums, leaving out those chosen. It
// reports false if nothing is left.
func (d *drawer) left(sum []int64, chosen []uint16, i int) bool {
	total := sum[len(sum)-1]
	for _, e := range chosen[:i] {
		total -= weight(sum, int(e))
	}
	if total <= 0 {
		return false
	}
	n := d.below(total)
	for e := range sum {
		if w := weight(sum, e); w > 0 && !slices.Contains(chosen[:i], uint16(e)) {
			if n < w {
				chosen[i] = uint16(e)
				return true
			}
			n -= w
		}
	}
	return false
}

// fromRows chooses slot i by the added rows of a table, leaving out those
// chosen. It reports false if the rows are empty or all in them is taken.
func (d *drawer) fromRows(t *table, rows, chosen []uint16, i int) bool {
	var total int64
	for _, r := range rows {
		total += t.total(r)
	}
	if total <= 0 {
		return false
	}
	for range tries {
		n, r := d.below(total), 0
		for ; n >= t.total(rows[r]); r++ {
			n -= t.total(rows[r])
		}
		e := search(t.row(rows[r]), n)
		if !slices.Contains(chosen[:i], e) {
			chosen[i] = e
			return true
		}
	}
	added := make([]int64, t.width)
	for _, r := range rows {
		for e, v := range t.row(r) {
			added[e] += v
		}
	}
	return d.left(added, chosen, i)
}

// table is rows of weights, each as sums once it was asked for.
type table struct {
	rows  [][]int64
	sums  [][]int64
	width int
}

func newTable(rows [][]int64) *table {
	t := &table{rows: rows, sums: make([][]int64, len(rows))}
	if len(rows) > 0 {
		t.width = len(rows[0])
	}
	return t
}

func (t *table) row(r uint16) []int64 {
	if t.sums[r] == nil {
		t.sums[r] = sums(t.rows[r])
	}
	return t.sums[r]
}

func (t *table) total(r uint16) int64 { return t.row(r)[t.width-1] }

// sums adds weights up: entry e is the weight of the experts 0 to e.
func sums(weights []int64) []int64 {
	out := make([]int64, len(weights))
	var n int64
	for e, w := range weights {
		n += max(0, w)
		out[e] = n
	}
	return out
}

func weight(sum []int64, e int) int64 {
	if e == 0 {
		return sum[0]
	}
	return sum[e] - sum[e-1]
}

// search returns the first expert whose sum is above n.
func search(sum []int64, n int64) uint16 {
	lo, hi := 0, len(sum)-1
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); sum[mid] > n {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return uint16(lo)
}
