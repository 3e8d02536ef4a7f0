package prove

import (
	"fmt"
	"math"
	"slices"

	"moec/ir"
	"moec/ir/tensor"
)

// rope turns pairs of entries by angles of which nothing is known but that
// they follow from position, frequency and the factor on sine and cosine.
func rope(c *call) error {
	x, positions, freqs := c.args[0], c.args[1].data, c.args[2].data
	heads, pairs := x.dims[1], len(freqs)
	near, far := 1, pairs // from one pair to the next, from an entry to its partner
	if c.attrs.Text("style") == "interleaved" {
		near, far = 2, 1
	}
	for t, p := range positions {
		for i, f := range freqs {
			cos, sin := hash(mixIn(mixIn(c.salt, 1), p), f), hash(mixIn(mixIn(c.salt, 2), p), f)
			if isPoison(p) {
				cos, sin = p, p
			}
			for h := range heads {
				in, out := x.row(t*heads+h), c.out.row(t*heads+h)
				a, b := in[i*near], in[i*near+far]
				out[i*near] = sub(mul(a, cos), mul(b, sin))
				out[i*near+far] = add(mul(b, cos), mul(a, sin))
			}
		}
		for h := range heads {
			copy(c.out.row(t*heads + h)[2*pairs:], x.row(t*heads + h)[2*pairs:])
		}
	}
	return nil
}

// pager finds the place of a sequence's position in a cache.
type pager func(sequence, position uint64) (int, error)

// kvAppend stores keys and values at the places of their tokens.
func (c *call) kvAppend(kv *cache, at pager) error {
	k, v, sequences, positions := c.args[0], c.args[1], c.args[2].data, c.args[3].data
	for t := range sequences {
		place, err := at(sequences[t], positions[t])
		if err != nil {
			return err
		}
		entry := make([]uint64, 0, kv.heads*kv.width())
		for h := range kv.heads {
			entry = append(entry, k.row(t*kv.heads+h)...)
			entry = append(entry, v.row(t*kv.heads+h)...)
		}
		kv.places[place] = entry
	}
	return nil
}

// attention is, for each query head of each token, the mean of the values that
// it sees with weights that are an unknown function of scale, softcap, window,
// position and the product of query and key, and of the sink.
func (c *call) attention(kv *cache, at pager, missing func(place int) uint64) error {
	q, sequences, positions := c.args[0], c.args[2].data, c.args[3].data
	group, first, kvFirst := c.attrs.Int("group", 1), c.attrs.Int("q_first", 0), c.attrs.Int("kv_first", 0)
	heads, sinks := q.dims[1], c.optional(4)
	for t, p := range positions {
		entries, err := c.visible(kv, at, missing, sequences[t], p)
		if err != nil {
			return err
		}
		for h := range heads {
			head := (first+h)/group - kvFirst
			if head < 0 || head >= kv.heads {
				return fmt.Errorf("query head %d reads KV head %d of %d", first+h, head, kv.heads)
			}
			total, out := uint64(0), c.out.row(t*heads+h)
			if sinks != nil {
				total = hash(mixIn(c.salt, 1), sinks[h])
			}
			for _, e := range entries {
				row := e.data[head*kv.width():][:kv.width()]
				weight := hash(mixIn(c.salt, e.position+2), dot(q.row(t*heads+h), row[:kv.keyDim]))
				total = add(total, weight)
				addRow(out, row[kv.keyDim:], weight)
			}
			total = inverse(total)
			for i := range out {
				out[i] = mul(out[i], total)
			}
		}
	}
	return nil
}

// seen is what a cache holds of a position.
type seen struct {
	position uint64
	data     []uint64
}

// visible lists the entries that the token at a position sees.
func (c *call) visible(kv *cache, at pager, missing func(place int) uint64, sequence, position uint64) ([]seen, error) {
	if isPoison(position) {
		return nil, undefinedError(position)
	}
	from := uint64(0)
	if w := uint64(max(0, c.attrs.Int("window", 0))); w > 0 && position+1 > w {
		from = position + 1 - w
	}
	var list []seen
	for p := from; p <= position; p++ {
		place, err := at(sequence, p)
		if err != nil {
			return nil, err
		}
		data := kv.places[place]
		if data == nil {
			data = make([]uint64, kv.heads*kv.width())
			fill(data, missing(place))
		}
		list = append(list, seen{p, data})
	}
	return list, nil
}

// choices are the experts that the rows of a router choose. The logical graph
// makes them, so that all experts of a layer are chosen about equally often
// whatever the router's numbers are; the plan looks them up. A row that the
// model does not have finds none. A row may choose otherwise in the next step:
// nothing is known of the router but that it is a function.
type choices struct {
	made  map[uint64][]uint64 // of a row's hash
	decks map[int]*deck       // by topk node
}

func newChoices() *choices { return &choices{make(map[uint64][]uint64), make(map[int]*deck)} }

// deck hands out experts: those first that were handed out least, and of those
// the ones that had the fewest rows of the same remainders, so that each copy
// of an expert gets its turn.
type deck struct {
	seed  uint64
	dealt []map[int]int     // by expert and token group
	seen  []map[rowsOf]bool // by expert
}

// rowsOf is the rows of a token group, or of all (-1), whose number leaves a
// remainder.
type rowsOf struct{ group, by, remainder int }

// numbered is a row: its number among all rows, its token group and its number
// there.
type numbered struct{ row, group, inGroup int }

// mostCopies is how many copies of an expert a deck tries to reach.
const mostCopies = 4

func newDeck(seed uint64, limit int) *deck {
	d := &deck{seed, make([]map[int]int, limit), make([]map[rowsOf]bool, limit)}
	for e := range d.seen {
		d.dealt[e], d.seen[e] = make(map[int]int), make(map[rowsOf]bool)
	}
	return d
}

// deal returns n different experts for a row.
func (d *deck) deal(n, copies int, r numbered) []uint64 {
	var hand []uint64
	for range n {
		best, key := -1, uint64(math.MaxUint64)
		for e := range d.dealt {
			k := uint64(d.dealt[e][r.group])<<32 | mixIn(d.seed, uint64(r.row*len(d.dealt)+e))>>36
			for by := 2; by <= copies; by++ {
				for _, of := range r.remainders(by) {
					if d.seen[e][of] {
						k += 1 << 28
					}
				}
			}
			if k < key && !slices.Contains(hand, uint64(e)) {
				best, key = e, k
			}
		}
		d.dealt[best][r.group]++
		for by := 2; by <= copies; by++ {
			for _, of := range r.remainders(by) {
				d.seen[best][of] = true
			}
		}
		hand = append(hand, uint64(best))
	}
	return hand
}

// remainders lists the rows that a row is one of.
func (r numbered) remainders(by int) [2]rowsOf {
	return [2]rowsOf{{-1, by, r.row % by}, {r.group, by, r.inGroup % by}}
}

// number finds out which row of which token group a row is. If the experts are
// there for the rows of all groups, groups do not count.
func (e *env) number(sym tensor.Sym, row int) numbered {
	r := numbered{row: row, inGroup: row}
	for ; e.local && r.group < e.groups-1; r.group++ {
		n := e.bounds(sym.Base().Of(r.group))
		if r.inGroup < n {
			break
		}
		r.inGroup -= n
	}
	return r
}

// topk is the choice of each row.
func topk(c *call) error {
	x, k := c.args[0], c.out.last()
	for t := range x.rows() {
		h, bad := mixIn(c.salt, uint64(c.round)), uint64(0)
		for _, v := range x.row(t) {
			h = mixIn(h, v)
			if isPoison(v) && bad == 0 {
				bad = v
			}
		}
		hand, known := c.choices.made[h]
		switch {
		case bad != 0:
			fill(c.out.row(t), bad)
			continue
		case known:
		case c.choose:
			d := c.choices.decks[c.node]
			if d == nil {
				d = newDeck(mixIn(c.seed, uint64(c.node)), x.last())
				c.choices.decks[c.node] = d
			}
			hand = d.deal(min(k, x.last()), c.copies, c.number(c.rows, t))
			c.choices.made[h] = hand
		default:
			fill(c.out.row(t), c.undefined())
			continue
		}
		copy(c.out.row(t), hand)
	}
	return nil
}

// meaning returns the attributes of an op that make another function of it,
// without those that say what is so anyhow.
func meaning(op string, attrs ir.Attrs) ir.Attrs {
	switch op {
	case "rope":
		if attrs.Float("scale", 1) == 1 {
			attrs = attrs.Without("scale")
		}
	case "topk":
		if attrs.Int("groups", 1) == attrs.Int("top_groups", 1) { // all are kept
			attrs = attrs.Without("groups").Without("top_groups").Without("group_score")
		}
		if attrs.Text("group_score") == "max" {
			attrs = attrs.Without("group_score")
		}
	case "attention":
		if attrs.Float("softcap", 0) == 0 {
			attrs = attrs.Without("softcap")
		}
	case "round":
		return nil
	}
	return attrs
}

// elementsOf returns the shape and type without its symbol's place, for
// comparing what may be read as each other: the products of the extents before
// and after the symbol.
func elementsOf(t tensor.Type) (outer int, sym tensor.Sym, inner int) {
	at := slices.IndexFunc(t.Shape, func(d tensor.Dim) bool { return d.Sym != "" })
	if at < 0 {
		return 1, "", t.Shape.Static()
	}
	return t.Shape[:at].Static(), t.Shape[at].Sym, t.Shape[at+1:].Static()
}
