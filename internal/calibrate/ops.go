package calibrate

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"moec/compiler"
	"moec/dsl"
	"moec/ir"
	"moec/ir/cost"
	"moec/planner/plan"
)

// descriptions hold an op in each layer.
//
//go:embed ops/*.moe
var descriptions embed.FS

// settings are those of a description.
type settings map[string]int

// op is a row of the table of ops that are measured: what it takes is the
// difference of two plans. They have the same inputs and outputs, so that what
// a step costs beside the op drops out.
type op struct {
	name string // as prices call it
	file string // of descriptions
	// pair returns what the larger and the smaller plan have: several layers
	// with the op and fewer.
	pair  func(layers int) (more, less settings)
	sizes func(quick bool) []size
}

// size is a size of an op.
type size struct {
	settings
	load   cost.Load
	length int   // positions of each sequence when the step ends
	held   int64 // elements of weights and caches that the op reads
}

// ops is the table. Experts are 8, of which a token chooses 2, as in
// experts.moe.
var ops = []op{
	{"matmul", "matmul", deeper, products},
	{"expert_matmul", "experts", func(n int) (more, less settings) {
		return settings{"layers": n, "depth": 2}, settings{"layers": n, "depth": 1}
	}, experts},
	{"combine", "experts", func(n int) (more, less settings) {
		return settings{"layers": n + 1, "depth": 0}, settings{"layers": 1, "depth": 0}
	}, func(quick bool) []size { return rows(quick, 64) }},
	{"attention", "attention", deeper, contexts},
	{"embed", "embed", deeper, func(quick bool) []size { return rows(quick, 1024) }},
}

// deeper is one layer and several more.
func deeper(n int) (more, less settings) { return settings{"layers": n + 1}, settings{"layers": 1} }

// prompt is a step of so many tokens of one sequence, from its start.
func prompt(tokens int, s settings, held int) size {
	return size{s, cost.Load{Sequences: 1, Tokens: tokens, Rows: tokens, Context: (tokens + 1) / 2}, tokens, int64(held)}
}

// products are sizes of matmul, from those that wait for weights to those that
// are bound by arithmetic.
func products(quick bool) (list []size) {
	widths, tokens := []int{1024, 2048, 4096, 8192}, []int{1, 8, 32, 128, 512, 2048, 8192}
	if quick {
		widths, tokens = []int{256, 512}, []int{1, 8, 32}
	}
	for _, n := range widths {
		for _, t := range tokens {
			list = append(list, prompt(t, settings{"n": n}, n*n))
		}
	}
	return list
}

// experts are sizes of expert_matmul: a token's expert alone, all of them, and
// many slots for each.
func experts(quick bool) (list []size) {
	widths, tokens := []int{1024, 2048, 4096}, []int{1, 4, 16, 64, 256, 1024, 4096}
	if quick {
		widths, tokens = []int{128, 256}, []int{1, 4, 32}
	}
	for _, n := range widths {
		for _, t := range tokens {
			list = append(list, prompt(t, settings{"n": n}, 8*n*n))
		}
	}
	return list
}

// rows are sizes of ops that move rows, of tables with so many.
func rows(quick bool, vocab int) (list []size) {
	widths, tokens := []int{1024, 4096}, []int{1, 16, 128, 512, 2048, 8192}
	if quick {
		widths, tokens = []int{1024}, []int{16, 64, 256}
	}
	for _, n := range widths {
		for _, t := range tokens {
			list = append(list, prompt(t, settings{"n": n, "vocab": vocab}, vocab*n))
		}
	}
	return list
}

// contexts are sizes of attention: sequences that add a token each to what they
// have, and prompts.
func contexts(quick bool) (list []size) {
	decode, prompts := [][2]int{{1, 1024}, {1, 8192}, {8, 1024}, {8, 8192}, {64, 1024}, {64, 4096}}, []int{128, 512, 2048, 8192}
	if quick {
		decode, prompts = [][2]int{{1, 32}, {2, 64}, {4, 128}}, []int{16}
	}
	const held = 2 * 8 * 128 // elements of a position, as in attention.moe
	for _, d := range decode {
		list = append(list, size{settings{}, cost.Load{Sequences: d[0], Tokens: d[0], Rows: d[0], Context: d[1]}, d[1], int64(held * d[0] * d[1])})
	}
	for _, t := range prompts {
		list = append(list, prompt(t, settings{}, held*t))
	}
	return list
}

func (s *size) String() string {
	text := fmt.Sprintf("%d tokens of %d, %d positions", s.load.Tokens, s.load.Sequences, s.length)
	if n := s.settings["n"]; n > 0 {
		text = fmt.Sprintf("%d tokens, width %d", s.load.Tokens, n)
	}
	return text
}

// Bounds of what is measured, for the whole and the quick measurement.
type bounds struct {
	price  int64 // ps, by the machine's figures: of an op, and twice that of all layers
	cold   int64 // bytes that layers hold together, so that none is still in a cache: three times the 60 MB of an H200
	held   int64 // bytes at most
	sizes  int   // of an op
	layers int   // at most
}

func (c *calibration) bounds() bounds {
	if c.Quick {
		return bounds{price: 1e9, cold: 8 << 20, held: 64 << 20, sizes: 4, layers: 4}
	}
	return bounds{price: 20e9, cold: 192 << 20, held: 2 << 30, sizes: 10, layers: 32}
}

// few is the number of layers that are always measured at once.
const few = 2

// layersOf is how many layers to measure at once of an op that holds so many
// bytes and has a price; 0 if it is too large.
func (b bounds) layersOf(bytes, price int64) int {
	if few*bytes > b.held || price > b.price {
		return 0
	}
	return int(max(few, min((b.cold+bytes-1)/bytes, int64(b.layers), b.held/bytes, few*b.price/max(1, price))))
}

// op measures the sizes of an op, by ascending price.
func (c *calibration) op(ctx context.Context, o op) ([]Measurement, error) {
	list, err := c.candidates(o)
	if err != nil {
		return nil, err
	}
	var done []Measurement
	for _, s := range spread(list, c.bounds().sizes) {
		all, n, err := c.difference(ctx, o, s)
		if errors.Is(err, errSlow) {
			c.warn("%s %s is left out, and what is priced higher: it %v", o.name, s.String(), err)
			break
		}
		if err != nil {
			return nil, err
		}
		if m, ok := c.took(o.name, s.String(), all, n, s.price); ok {
			done = append(done, m)
		}
	}
	return done, nil
}

// candidate is a size with its price.
type candidate struct {
	size
	price
	layers int
}

// candidates are the sizes of an op that can be measured, by ascending price.
func (c *calibration) candidates(o op) ([]candidate, error) {
	b := c.bounds()
	var list []candidate
	for _, s := range o.sizes(c.Quick) {
		_, less := o.pair(1)
		r, err := c.compile(o, s, less)
		if err != nil {
			return nil, err
		}
		p, n := c.price(r.Graph, s.load, o.name)
		if n == 0 {
			return nil, fmt.Errorf("internal error: %s.moe has no %s", o.file, o.name)
		}
		if layers := b.layersOf(s.held*int64(c.weights.Bytes()), p.op); layers > 0 {
			list = append(list, candidate{s, p, layers})
		}
	}
	slices.SortStableFunc(list, func(a, b candidate) int { return cmp.Compare(a.op, b.op) })
	return list, nil
}

// spread takes n entries of a list, evenly, the first and the last among them.
func spread(list []candidate, n int) []candidate {
	if len(list) <= n {
		return list
	}
	out := make([]candidate, n)
	for i := range out {
		out[i] = list[i*(len(list)-1)/(n-1)]
	}
	return out
}

// difference returns what the larger plan takes more than the smaller one, in
// ps, and how many ops more it has.
func (c *calibration) difference(ctx context.Context, o op, s candidate) (ps, n int64, err error) {
	more, less := o.pair(s.layers)
	var two [2]*job
	var counts [2]int64
	for i, set := range []settings{more, less} {
		r, err := c.compile(o, s.size, set)
		if err != nil {
			return 0, 0, err
		}
		_, counts[i] = c.price(r.Graph, s.load, o.name)
		if two[i], err = c.load(ctx, r.Plan, &s.size); err != nil {
			return 0, 0, errors.Join(err, two[0].close())
		}
	}
	ps, err = c.time(ctx, two[0], two[1])
	return ps, counts[0] - counts[1], errors.Join(err, two[0].close(), two[1].close())
}

// compile compiles the description of an op for one device.
func (c *calibration) compile(o op, s size, more settings) (*compiler.Result, error) {
	src, err := descriptions.ReadFile("ops/" + o.file + ".moe")
	if err != nil {
		return nil, err
	}
	set := map[string]string{"act": c.weights.String()}
	for _, from := range []settings{s.settings, more} {
		for _, name := range slices.Sorted(maps.Keys(from)) {
			set[name] = strconv.Itoa(from[name])
		}
	}
	return compiler.Compile(o.file+".moe", src, compiler.Options{Env: dsl.Env{Set: set}, Limits: limits(&s)})
}

// limits are those that the step of a size needs.
func limits(s *size) plan.Limits {
	l := plan.Limits{Tokens: s.load.Tokens, Rows: s.load.Rows, Sequences: s.load.Sequences, Context: s.length, Page: page}
	l.Pages = l.Sequences * ((l.Context + page - 1) / page)
	return l
}

// page is the number of positions of a KV page, the default of plans.
const page = 16

// price is what a node costs: what measurements correct, how much of that is
// arithmetic, and what is beside it.
type price struct{ op, compute, beside int64 }

// price returns the mean price of the nodes of an op, bodies of fused ones
// included, and their number.
func (c *calibration) price(g *ir.Graph, l cost.Load, name string) (price, int64) {
	pricer := cost.NewPricer(c.figures, l, g.Groups)
	var sum price
	var n int64
	var walk func([]*ir.Node)
	walk = func(nodes []*ir.Node) {
		for _, node := range nodes {
			if node.Op.Name == "fused" {
				walk(node.Attrs.Body().Nodes)
				continue
			}
			if strings.TrimSuffix(node.Op.Name, "_nodes") != name {
				continue
			}
			p := pricer.Node(node, nil)
			link := node.Op.Has(ir.Collective)
			corrected := p.Compute + p.Memory
			if link {
				corrected = p.Link
			}
			sum = price{sum.op + corrected, sum.compute + p.Compute, sum.beside + p.Total() - corrected}
			n++
		}
	}
	walk(g.Nodes)
	if n == 0 {
		return sum, 0
	}
	return price{sum.op / n, sum.compute / n, sum.beside / n}, n
}
