package prove

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/tree"
)

// contraction says how products are added: in leaves, each with a coefficient
// of its own. A leaf's coefficient follows from its number and the number of
// leaves, so that a sum agrees with another only if every feature is in the
// same leaf of both. Under fast numerics leaves are whatever a placement makes
// of them, and all coefficients are 1.
type contraction struct {
	ends  []int // of the local leaves, scaled
	coef  []uint64
	node  []int // of the local leaves: the entry of the result that they go to
	nodes int
}

func newContraction(attrs ir.Attrs, k, factor int, e *env) *contraction {
	bounds := attrs.Ints("bounds")
	first, leaves := attrs.Int("leaf", 0), attrs.Int("leaves", len(bounds)-1)
	if len(bounds) < 2 {
		return &contraction{ends: []int{k / factor}, coef: []uint64{1}, node: []int{0}, nodes: 1}
	}
	c := &contraction{nodes: 1}
	var spans []tree.Span
	if attrs.Has("leaf") {
		spans = (&ir.Node{Attrs: attrs}).LocalSpans()
		c.nodes = len(spans)
	}
	for i, end := range bounds[1:] {
		leaf := first + i
		c.ends = append(c.ends, end/factor)
		c.coef = append(c.coef, e.leaf(leaf, leaves))
		c.node = append(c.node, max(0, slices.IndexFunc(spans, func(s tree.Span) bool { return leaf >= s.Lo && leaf < s.Hi })))
	}
	return c
}

// leaf returns the coefficient of a leaf.
func (e *env) leaf(leaf, leaves int) uint64 {
	if e.fast || leaves == 1 {
		return 1
	}
	return number(mixIn(mixIn(mixText(e.seed, "leaf"), uint64(leaf)), uint64(leaves)))
}

// dot adds the products of x and w to the entries of dst, which lie stride
// apart from at on.
func (k *contraction) dot(dst []uint64, at, stride int, x, w []uint64) {
	begin := 0
	for i, end := range k.ends {
		v := dot(x[begin:end], w[begin:end])
		if k.coef[i] != 1 {
			v = mul(v, k.coef[i])
		}
		p := &dst[at+k.node[i]*stride]
		*p = add(*p, v)
		begin = end
	}
}

// matmul is each row of x with each row of w; as matmul_nodes, an entry for
// each subtree, outermost.
func matmul(c *call) error {
	x, w := c.args[0], c.args[1]
	rows, features := x.rows(), w.dims[0]
	for r := range rows {
		for n := range features {
			c.sums.dot(c.out.data, r*features+n, rows*features, x.row(r), w.row(n))
		}
	}
	return c.markSpans()
}

// markSpans notes which part of a sum the result is.
func (c *call) markSpans() error {
	if c.spans != nil {
		c.out.spans, c.out.leaves = c.spans, c.attrs.Int("leaves", c.total)
	}
	return nil
}

// allReduce adds all entries of all operands. Operands that know which
// subtrees they are must be listed so.
func allReduce(c *call) error {
	sets, leaves := c.attrs.Sets("spans"), c.attrs.Int("leaves", 0)
	n := len(c.out.data)
	for i, a := range c.args {
		if have := flatten(a.spans); a.spans != nil && (i >= len(sets) || a.leaves != leaves || !slices.Equal(have, sets[i])) {
			return fmt.Errorf("takes operand %d for leaves %v of %d; it holds %v of %d", i, sets[i], leaves, have, a.leaves)
		}
		for at := 0; at+n <= len(a.data) && n > 0; at += n {
			for j := range n {
				c.out.data[j] = add(c.out.data[j], a.data[at+j])
			}
		}
	}
	return nil
}

func flatten(spans []tree.Span) []int {
	var flat []int
	for _, s := range spans {
		flat = append(flat, s.Lo, s.Hi)
	}
	return flat
}

// holdings say which experts a device serves, and for which tokens.
type holdings struct {
	at    []int // expert to index, -1 if it is elsewhere
	turns [][]int
}

func newHoldings(attrs ir.Attrs) *holdings {
	h := &holdings{at: make([]int, max(0, attrs.Int("total", 0))), turns: attrs.Sets("turns")}
	for e := range h.at {
		h.at[e] = -1
	}
	for i, e := range attrs.Ints("experts") {
		if e >= 0 && e < len(h.at) {
			h.at[e] = i
		}
	}
	return h
}

// index returns where among those held the expert of a token's slot is, or -1
// if it is elsewhere or not in turn.
func (h *holdings) index(token int, expert uint64) int {
	if expert >= uint64(len(h.at)) || h.at[expert] < 0 {
		return -1
	}
	i := h.at[expert]
	if h.turns != nil && token%h.turns[i][1] != h.turns[i][0] {
		return -1
	}
	return i
}

// expertMatmul is each slot's row with each row of its expert's weight; also
// expert_matmul_nodes. Rows of slots that are not served are undefined.
func expertMatmul(c *call) error {
	x, w, ids := c.args[0], c.args[1], c.args[2]
	slots, k, features := len(ids.data), ids.last(), w.dims[1]
	for s, e := range ids.data {
		if isPoison(e) {
			return undefinedError(e)
		}
		i := c.held.index(s/k, e)
		if i < 0 {
			for node := range c.sums.nodes {
				fill(c.out.data[(node*slots+s)*features:][:features], c.undefined())
			}
			continue
		}
		for n := range features {
			c.sums.dot(c.out.data, s*features+n, slots*features, x.row(s), w.row(i*features+n))
		}
	}
	return c.markSpans()
}

func fill(list []uint64, x uint64) {
	for i := range list {
		list[i] = x
	}
}

// expertRows is the row of each slot's expert.
func expertRows(c *call) error {
	w, ids := c.args[0], c.args[1]
	for s, e := range ids.data {
		if isPoison(e) {
			return undefinedError(e)
		}
		if i := c.held.index(s/ids.last(), e); i >= 0 {
			copy(c.out.row(s), w.row(i))
		} else {
			fill(c.out.row(s), c.undefined())
		}
	}
	return nil
}

// combine adds a token's slots, each times its weight.
func combine(c *call) error {
	x, ids, weights := c.args[0], c.args[1], c.args[2]
	k := ids.last()
	for s, e := range ids.data {
		if isPoison(e) {
			return undefinedError(e)
		}
		if e >= uint64(c.total) {
			return fmt.Errorf("token %d has expert %d of %d", s/k, e, c.total)
		}
		addRow(c.out.row(s/k), x.row(s), weights.data[s])
	}
	return nil
}

func addRow(dst, x []uint64, by uint64) {
	for i := range dst {
		dst[i] = add(dst[i], mul(x[i], by))
	}
}

// combineNodes adds, for each subtree of the experts held, the slots that are
// served here.
func combineNodes(c *call) error {
	x, ids, weights := c.args[0], c.args[1], c.args[2]
	k, tokens := ids.last(), ids.dims[0]
	for s, e := range ids.data {
		t := s / k
		if isPoison(e) {
			return undefinedError(e)
		}
		if c.held.index(t, e) < 0 {
			continue
		}
		for i, span := range c.spans {
			if int(e) >= span.Lo && int(e) < span.Hi {
				addRow(c.out.row(i*tokens+t), x.row(s), weights.data[s])
			}
		}
	}
	return c.markSpans()
}
