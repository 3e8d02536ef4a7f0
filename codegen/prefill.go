package codegen

import (
	"fmt"
	"slices"

	"moec/codegen/kernels"
	"moec/planner/plan"
)

// Series is the record from which a runtime executes a whole program with a few
// kernels a layer, in steps of any number of tokens.
type Series struct {
	Tokens int   // of a step, at most
	Space  int64 // bytes of memory that its kernels have to themselves
	Runs   []SeriesRun
}

// SeriesRun is a list of launches, for each of some layers or once.
type SeriesRun struct {
	Layers plan.Range
	Calls  []*Call
}

// Call is one launch of a series.
type Call struct {
	Unit    int // index of the image that holds the kernel
	Kernel  string
	Symbol  string
	Threads int
	Shared  int // bytes of dynamic shared memory
	Grid    Grid
	Args    []Field
	// Covers are the steps whose work it does, for each layer of its run.
	Covers []Cover

	use       *use
	from, end string // names of the first step that it covers and of the first that it does not
	back      int    // 1 if they are the layer's before
}

// Cover is some steps of a block's queue that follow each other; without a block
// it is none.
type Cover struct {
	Block       string
	Layer       int // -1 outside the layers
	First, Last int
}

// covers notes the steps from one on, up to one that is not covered.
func (c *Call) covers(from, end string) *Call {
	c.from, c.end = from, end
	return c
}

// before is covers for steps of the layer before.
func (c *Call) before(from, end string) *Call {
	c.back = 1
	return c.covers(from, end)
}

// cover finds the steps that a launch covers in a layer.
func (b *seriesBuilder) cover(c *Call, layer int) Cover {
	layer -= c.back
	steps := b.stepsOf(layer)
	first, end := steps[c.from], steps[c.end]
	if first == nil {
		return Cover{Layer: layer}
	}
	if layer >= b.layers {
		layer = -1
	}
	last := first.at.Step
	switch {
	case end != nil && end.at.Block == first.at.Block:
		last = max(last, end.at.Step-1)
	default:
		for _, s := range steps {
			if s.at.Block == first.at.Block {
				last = max(last, s.at.Step)
			}
		}
	}
	return Cover{Block: first.at.Block, Layer: layer, First: first.at.Step, Last: last}
}

// Grid says how many blocks a launch has: Times for each Per items, at most Most
// on each multiprocessor if Most is not 0.
type Grid struct {
	Items            Extent
	Per, Times, Most int
}

// Blocks returns the number of blocks for so many items.
func (g Grid) Blocks(items, multiprocessors int) int {
	blocks := (items + g.Per - 1) / g.Per * g.Times
	if g.Most > 0 {
		blocks = min(blocks, g.Most*multiprocessors)
	}
	return blocks
}

// each has a block for so many items.
func each(items Extent, per int) Grid { return Grid{items, per, 1, 0} }

// persistent has as many blocks as are at work at the same time.
func persistent(items Extent, most int) Grid { return Grid{items, 1, 1, most} }

// Prefill is the name of the series in plans.
const Prefill = "prefill"

// Sizes of the kernels for many tokens (gemm_tiles.cuh, gemm_panels.cuh,
// flash_attention.cuh).
const (
	gemmRows     = 128 // of a tile
	panelColumns = 128 // rows of a weight that a tile of panels has
	featureBlock = 64  // features in a stage
	flashRows    = 128
	flashShared  = 1024 + 6*(flashRows*2*128) + 8*11
	panelSlack   = 32 << 10 // bytes that a copy of a tile may read past the last row
	slotsRounded = 8        // an expert's slots begin at multiples of that
	panelThreads = 256      // of fill_panels, eight elements each
)

// treeLevels returns how many levels of the tree wait in shared memory, of so
// many segments: two are in registers.
func treeLevels(segments int) int {
	levels := 0
	for n := 1; n < segments; n *= 2 {
		levels++
	}
	return max(0, levels-2)
}

// tileOf returns how many rows of a weight, or tokens, a tile has, and the stages
// of its ring: as many as registers and shared memory have room for.
func tileOf(segments int) (width, stages int) {
	switch segments {
	case 1:
		return 256, 4
	case 2:
		return 192, 5
	case 4:
		return 128, 6
	}
	return 128, 5
}

// gemmShared is Shape::shared_bytes.
func gemmShared(bn, stages, segments int) int {
	return 1024 + stages*((gemmRows+bn)*2*featureBlock+16) + treeLevels(segments)*gemmRows*bn*4
}

// panelShared is Panel::shared_bytes.
func panelShared(tokens, stages, segments int) int {
	return 1024 + stages*((panelColumns+tokens)*2*featureBlock+16) + treeLevels(segments)*tokens/2*256*4
}

// seriesBuilder makes the series of a decoder.
type seriesBuilder struct {
	*decoder
	space

	tokens, rows                                      Extent
	turns, places, x, normed, query, attended         Field
	projected, middle, chosen, shares                 Field
	starts, list, panels, gated, expertOut            Field
	wantedX, wantedAttended                           Field
	heldExperts                                       Arg
	tokenCount, rowCount, tableWidth, epsilon, noSink Field
}

// series returns the series that executes a decoder.
func (d *decoder) series() (*Series, error) {
	b := &seriesBuilder{decoder: d, tokens: elems(d.steps["q"].out.Shape[:1]), rows: elems(d.steps["e"].out.Shape[:1])}
	if err := b.memory(); err != nil {
		return nil, err
	}
	last := d.layers - 1
	s := &Series{Tokens: d.plan.Limits.Tokens, Space: b.bytes}
	run := func(first, last int, calls ...*Call) {
		if first <= last {
			s.Runs = append(s.Runs, SeriesRun{plan.Range{First: first, Last: last}, calls})
		}
	}
	s.Runs = append(s.Runs, SeriesRun{plan.NoLayers, []*Call{b.begin()}})
	if last == 0 {
		run(0, 0, append([]*Call{b.embed()}, b.layer(true)...)...)
	} else {
		run(0, 0, append([]*Call{b.embed()}, b.layer(false)...)...)
		run(1, last-1, append([]*Call{b.sum(b.tokens, weightIn(d, "norm"))}, b.layer(false)...)...)
		run(last, last, append([]*Call{b.sum(b.tokens, weightIn(d, "norm"))}, b.layer(true)...)...)
	}
	s.Runs = append(s.Runs, SeriesRun{plan.NoLayers, []*Call{b.sum(b.rows, weightOf(d, "last_norm")), b.head()}})
	layer := -1
	for _, r := range s.Runs {
		for _, c := range r.Calls {
			if err := c.check(); err != nil {
				return nil, err
			}
			for i := range max(1, r.Layers.Len()) {
				c.Covers = append(c.Covers, b.cover(c, layer+i))
			}
		}
		layer += max(1, r.Layers.Len())
	}
	return s, nil
}

// weightIn is a weight of the layer whose turn it is, weightOf one outside the
// layers.
func weightIn(d *decoder, name string) Field {
	return Field{Kind: LayerWeightField, Name: d.residents["w:"+name]}
}

func weightOf(d *decoder, name string) Field {
	return Field{Kind: WeightField, Name: d.residents["w:"+name]}
}

// capacity is how many places the lists of experts' slots have.
func (b *seriesBuilder) capacity(rows Extent) Extent {
	e := rows.times(b.top)
	e.Plus = slotsRounded * b.experts
	return e
}

// memory lays out what kernels hand on, for the largest step.
func (b *seriesBuilder) memory() error {
	l := b.plan.Limits
	const element = 2
	t, row, heads := l.Tokens, b.hidden*element, b.heads*b.dim*element
	slots := t*b.top + slotsRounded*b.experts
	for _, p := range []struct {
		to    *Field
		bytes int
	}{
		{&b.turns, t * b.dim / 2 * 8}, {&b.places, 4 * t}, {&b.x, t * row}, {&b.normed, t * row}, {&b.query, t * heads}, {&b.attended, t * heads},
		{&b.projected, t * row}, {&b.middle, t * row}, {&b.chosen, 4 * t * b.top}, {&b.shares, 4 * t * b.top},
		{&b.starts, 4 * (2*b.experts + 1)}, {&b.list, 4 * slots}, {&b.panels, slots*row + panelSlack}, {&b.gated, slots*b.ffn*element + panelSlack},
		{&b.expertOut, t * b.top * row}, {&b.wantedX, l.Rows * row}, {&b.wantedAttended, l.Rows * heads},
	} {
		*p.to = b.take(p.bytes)
	}
	b.tokenCount, b.rowCount = Field{Kind: CountField, N: b.tokens}, Field{Kind: CountField, N: b.rows}
	b.tableWidth, b.epsilon, b.noSink = constant(integer(TableWidth(l))), constant(double(b.eps)), constant(null())
	all := make([]int, b.experts)
	for e := range all {
		all[e] = e
	}
	var err error
	b.heldExperts, err = held(all, nil, b.experts)
	return err
}

// constant is an argument that is known.
func constant(a Arg) Field { return Field{Kind: ConstantField, Bytes: a.Bytes} }

func long(n Extent) Field { return Field{Kind: LongField, N: n} }

func (b *seriesBuilder) input(name string) Field { return Field{Kind: BufferField, Name: name} }

// call makes a launch.
func (b *seriesBuilder) call(u *use, g Grid, shared int, args ...Field) *Call {
	return &Call{Kernel: u.kernel.Name, Symbol: u.kernel.Symbol(u.params), Threads: u.kernel.Block, Shared: shared, Grid: g, Args: args, use: u}
}

func (b *seriesBuilder) begin() *Call {
	pairs := b.dim / 2
	n := b.tokens.times(pairs)
	u := useOf("prefill_begin", pairs, b.plan.Limits.Page)
	return b.call(u, each(n, u.kernel.Block), 0, b.turns, b.places, b.input("positions"), b.input("sequences"), Field{Kind: PagesField},
		Field{Kind: ConstField, Name: b.residents["c:freqs"]}, b.tableWidth, long(n))
}

// rowBlocks are blocks of kernels that take one row after the other, on a
// multiprocessor: enough to hide how long a row's loads take.
const rowBlocks = 8

func (b *seriesBuilder) embed() *Call {
	return b.call(useOf("prefill_embed", b.element, b.hidden), persistent(b.tokens, rowBlocks), 0,
		b.x, b.normed, b.input("tokens"), weightOf(b.decoder, "embedding"), weightIn(b.decoder, "norm"), b.tokenCount, b.epsilon).before("x", "")
}

func (b *seriesBuilder) sum(rows Extent, norm Field) *Call {
	return b.call(useOf("prefill_sum", b.element, b.hidden, b.top), persistent(rows, rowBlocks), 0,
		b.x, b.normed, b.middle, b.expertOut, b.shares, norm, Field{Kind: CountField, N: rows}, b.epsilon).before("m1", "")
}

// layer lists the launches of a layer after its first norm. Only the wanted rows
// of the last layer go past attention.
func (b *seriesBuilder) layer(last bool) []*Call {
	d := b.decoder
	width, stages := tileOf(1)
	columns := (b.heads + 2*b.kvHeads) * b.dim
	share := b.heads / b.kvHeads
	list := []*Call{
		b.call(useOf("gemm_heads", b.element, b.heads, b.kvHeads, b.hidden, width, stages), tiles(b.tokens, columns, width), gemmShared(width, stages, 1),
			b.query, Field{Kind: LayerCacheField, Name: b.residents["k:cache"]}, b.normed, weightIn(d, "qkv"), b.turns, b.places, long(b.tokens)).covers("a1", "o1"),
		b.call(useOf("flash", b.element, b.heads, b.kvHeads, b.plan.Limits.Page), Grid{b.tokens, flashRows / share, b.kvHeads, 0}, flashShared,
			b.attended, b.query, Field{Kind: LayerCacheField, Name: b.residents["k:cache"]}, b.input("sequences"), b.input("positions"), b.noSink,
			Field{Kind: PagesField}, b.tableWidth, b.tokenCount, constant(join(float(b.scale), float(0), integers(0, share, 0, 0)))).covers("o1", "o2"),
	}
	if !last {
		return append(list, b.afterAttention(b.tokens, b.x, b.attended)...)
	}
	list = append(list, b.wanted(b.wantedAttended, b.attended, b.heads*b.dim), b.wanted(b.wantedX, b.x, b.hidden))
	return append(list, b.afterAttention(b.rows, b.wantedX, b.wantedAttended)...)
}

// tiles is the grid of a product of rows and a weight's columns.
func tiles(rows Extent, columns, width int) Grid {
	return Grid{rows, gemmRows, (columns + width - 1) / width, 1}
}

// wanted takes the rows whose logits are wanted.
func (b *seriesBuilder) wanted(to, from Field, width int) *Call {
	n := b.rows.times(width)
	u := useOf("take_rows", kernels.WordOf(b.decoder.element))
	return b.call(u, each(n, u.kernel.Block), 0, to, from, b.input("rows"), long(n), constant(integer(width)))
}

// afterAttention lists the launches from the output projection on.
func (b *seriesBuilder) afterAttention(rows Extent, x, attended Field) []*Call {
	d := b.decoder
	width, stages := tileOf(b.outSegments)
	count, capacity := Field{Kind: CountField, N: rows}, b.capacity(rows)
	fill := useOf("fill_panels", b.element, b.top, b.hidden)
	downWidth, downStages := tileOf(b.downSegments)
	gateWidth, gateStages := tileOf(1)
	all := persistent(fixed(1<<20), 1) // tiles are counted on the device
	return []*Call{
		b.call(useOf("gemm_round", b.element, b.hidden, b.heads*b.dim, b.outSegments, width, stages), tiles(rows, b.hidden, width), gemmShared(width, stages, b.outSegments),
			b.projected, attended, weightIn(d, "out"), long(rows), segmentsArg(b.heads*b.dim, b.outSegments)).covers("o2", "b1"),
		b.call(useOf("prefill_route", b.element, b.hidden, b.experts, b.top), persistent(rows, rowBlocks), 0,
			b.middle, b.normed, b.chosen, b.shares, x, b.projected, weightIn(d, "norm2"), weightIn(d, "router"), count, b.epsilon).covers("b1", "d"),
		b.call(useOf("list_slots", b.top, b.experts, b.experts), each(fixed(b.experts), 1), 0,
			b.starts, b.list, b.chosen, Field{Kind: CountField, N: rows.times(b.top)}, Field{Kind: CountField, N: capacity}, constant(b.heldExperts)),
		b.call(fill, Grid{capacity, 1, b.hidden / 8 / panelThreads, 0}, 0, b.panels, b.normed, b.list, long(capacity)).covers("d", "u1"),
		b.call(useOf("grouped_gate", b.element, 2*b.ffn, b.hidden, b.experts, gateWidth, gateStages), all, panelShared(gateWidth, gateStages, 1),
			b.gated, b.panels, weightIn(d, "gate_up"), b.starts, b.list, long(capacity)).covers("u1", "z1"),
		b.call(useOf("grouped_round", b.element, b.hidden, b.ffn, b.experts, downWidth, downStages, b.downSegments), all, panelShared(downWidth, downStages, b.downSegments),
			b.expertOut, b.gated, weightIn(d, "down"), b.starts, b.list, long(capacity), segmentsArg(b.ffn, b.downSegments)).covers("z1", "m1"),
	}
}

// segmentsArg cuts k features into equal segments, all of them here.
func segmentsArg(k, segments int) Field {
	list := make([]int, 0, segments+3)
	for i := range segments + 1 {
		list = append(list, k/segments*i)
	}
	return constant(integers(append(list, 0, segments)...))
}

func (b *seriesBuilder) head() *Call {
	const width, stages = 128, 6
	return b.call(useOf("gemm", b.element, b.vocab, b.hidden, 1, width, stages), tiles(b.rows, b.vocab, width), gemmShared(width, stages, 1),
		b.input(b.buffers["logits"]), b.normed, weightOf(b.decoder, "head"), long(b.rows), segmentsArg(b.hidden, 1)).covers("e1", "")
}

// check compares a launch with the kernel's row of the table.
func (c *Call) check() error {
	k := c.use.kernel
	if err := k.Check(c.use.params); err != nil {
		return err
	}
	if len(c.Args) != len(k.Args) {
		return fmt.Errorf("internal error: kernel %s takes %d arguments, has %d", k.Name, len(k.Args), len(c.Args))
	}
	for i, a := range k.Args {
		if have := c.Args[i].bytes(); !a.Struct() && have != a.Bytes() {
			return fmt.Errorf("internal error: kernel %s takes %d bytes as %s, has %d", k.Name, a.Bytes(), a.Name, have)
		}
	}
	return nil
}

// bytes returns the size of a field that is an argument.
func (f Field) bytes() int {
	switch f.Kind {
	case ConstantField:
		return len(f.Bytes)
	case CountField:
		return 4
	}
	return 8
}

// seriesOf returns the record of a program that a series executes.
func (g *generator) seriesOf(d *decoder, w plan.Whole) (*Series, error) {
	s, err := d.series()
	if err != nil {
		return nil, err
	}
	if !slices.Equal(w.Params, d.params()) || w.Space != s.Space || w.Tokens != s.Tokens {
		return nil, fmt.Errorf("program %s: the plan has kernels %s with %v, %d tokens and %d bytes, this moec with %v, %d and %d; compile the plan again",
			w.Program, w.Kernel, w.Params, w.Tokens, w.Space, d.params(), s.Tokens, s.Space)
	}
	for _, r := range s.Runs {
		for _, c := range r.Calls {
			g.add(c.use)
		}
	}
	return s, nil
}
