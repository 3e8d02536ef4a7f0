package eval

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"moec/ir"
	"moec/ir/arith"
	"moec/ir/tensor"
)

func symbol(s string) tensor.Sym { return tensor.Sym(s) }

// build makes graphs for property tests; a type error is a fault of the test.
type build struct {
	t *testing.T
	g *ir.Graph
	// values are what params stand for.
	values map[*ir.Node]Value
}

func newBuild(t *testing.T) *build {
	return &build{t, ir.NewGraph("test"), map[*ir.Node]Value{}}
}

func (b *build) add(op string, attrs []ir.Attr, args ...*ir.Node) *ir.Node {
	b.t.Helper()
	n, err := b.g.Add(ir.Op(op), args, ir.MakeAttrs(attrs...), nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// value adds a param with the given elements; its first extent is the step's
// number of tokens if rows is set.
func (b *build) value(v Value, rows bool) *ir.Node {
	b.t.Helper()
	typ := tensor.Type{DType: v.Type.DType, Shape: slices.Clone(v.Type.Shape)}
	if rows {
		typ.Shape[0] = tensor.S(tensor.Tokens)
	}
	n := b.add("param", []ir.Attr{attr("index", len(b.values)), attr("type", typ.String())})
	b.values[n] = v
	return n
}

// eval evaluates all nodes for a step of so many tokens and returns the last.
func (b *build) eval(tokens int) Value {
	b.t.Helper()
	step := &Step{Spans: []Span{{Tokens: make([]int32, tokens)}}}
	e := &execution{ops: table(), env: Env{Step: step, State: NewState()}, values: b.values}
	var last Value
	for _, n := range b.g.Nodes {
		if n.Op.Name != "param" {
			v, err := e.node(n, -1, -1)
			if err != nil {
				b.t.Fatal(err)
			}
			e.values[n] = v
		}
		last = e.values[n]
	}
	return last
}

func random(rng *rand.Rand, extents ...int) Value {
	v := Floats(nil, extents...)
	v.F = make([]float32, v.Type.Shape.Static())
	for i := range v.F {
		v.F[i] = float32(rng.NormFloat64())
	}
	return v
}

// randomBounds cuts some number of features into segments.
func randomBounds(rng *rand.Rand, segments int) []int {
	bounds := []int{0}
	for range segments {
		bounds = append(bounds, bounds[len(bounds)-1]+1+rng.IntN(13))
	}
	return bounds
}

// cut is the segments leaf to end-1.
type cut struct{ leaf, end int }

func randomCuts(rng *rand.Rand, segments int) []cut {
	var cuts []cut
	for leaf := 0; leaf < segments; {
		end := leaf + 1 + rng.IntN(segments-leaf)
		cuts = append(cuts, cut{leaf, end})
		leaf = end
	}
	rng.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
	return cuts
}

// local returns the attributes of the part of a contraction in a cut.
func (c cut) local(bounds []int) []ir.Attr {
	var own []int
	for _, b := range bounds[c.leaf : c.end+1] {
		own = append(own, b-bounds[c.leaf])
	}
	return []ir.Attr{attr("bounds", own), attr("leaf", c.leaf), attr("leaves", len(bounds)-1)}
}

// columns returns the entries lo to hi-1 of the last axis.
func columns(v Value, lo, hi int) Value {
	out := Value{Type: tensor.Type{DType: v.Type.DType, Shape: v.Type.Shape.With(len(v.Type.Shape)-1, tensor.N(hi-lo))}}
	for r := range v.rows() {
		out.F = append(out.F, v.row(r)[lo:hi]...)
	}
	return out
}

// reduce adds an all_reduce of partial sums.
func (b *build) reduce(parts []*ir.Node, leaves int) {
	var spans [][]int
	for _, p := range parts {
		list := p.LocalSpans
		if p.Op.Name == "combine_nodes" {
			list = p.ExpertSpans
		}
		var flat []int
		for _, s := range list() {
			flat = append(flat, s.Lo, s.Hi)
		}
		spans = append(spans, flat)
	}
	b.add("all_reduce", []ir.Attr{attr("spans", spans), attr("leaves", leaves), attr("channel", 0)}, parts...)
}

// TestMatmulSplits compares a matmul with the parts of random splits of its
// segments, reduced, bit for bit.
func TestMatmulSplits(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 1))
	for range 200 {
		segments, tokens, features := 1+rng.IntN(9), 1+rng.IntN(3), 1+rng.IntN(4)
		bounds := randomBounds(rng, segments)
		k := bounds[segments]
		x, w := random(rng, tokens, k), random(rng, features, k)

		whole := newBuild(t)
		whole.add("matmul", []ir.Attr{attr("bounds", bounds)}, whole.value(x, true), whole.value(w, false))
		want := whole.eval(tokens)

		split := newBuild(t)
		var parts []*ir.Node
		for _, c := range randomCuts(rng, segments) {
			lo, hi := bounds[c.leaf], bounds[c.end]
			parts = append(parts, split.add("matmul_nodes", c.local(bounds), split.value(columns(x, lo, hi), true), split.value(columns(w, lo, hi), false)))
		}
		split.reduce(parts, segments)
		if got := split.eval(tokens); !sameBits(got.F, want.F) {
			t.Fatalf("bounds %v in %d parts: %v, want %v", bounds, len(parts), got.F, want.F)
		}
		if tokens*features == 1 && !close32(want.F[0], plainDot(x.F, w.F), 1e-4) {
			t.Fatalf("matmul = %v, want %v", want.F[0], plainDot(x.F, w.F))
		}
	}
}

func plainDot(a, b []float32) float64 {
	var sum float64
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func close32(got float32, want, tol float64) bool {
	return math.Abs(float64(got)-want) <= tol*(1+math.Abs(want))
}

// randomIDs returns k different experts for each token.
func randomIDs(rng *rand.Rand, tokens, k, total int) Value {
	var ids []int32
	for range tokens {
		for _, e := range rng.Perm(total)[:k] {
			ids = append(ids, int32(e))
		}
	}
	return Indices(ids, tokens, k)
}

// stack returns the listed entries of the first axis.
func stack(v Value, entries []int) Value {
	out := Value{Type: tensor.Type{DType: v.Type.DType, Shape: v.Type.Shape.With(0, tensor.N(len(entries)))}}
	_, inner := v.around(0)
	for _, e := range entries {
		out.F = append(out.F, v.F[e*inner:(e+1)*inner]...)
	}
	return out
}

// TestExpertMatmulSplits splits the features of all experts.
func TestExpertMatmulSplits(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 2))
	for range 100 {
		segments, tokens, total := 1+rng.IntN(6), 1+rng.IntN(3), 1+rng.IntN(5)
		k := 1 + rng.IntN(total)
		bounds := randomBounds(rng, segments)
		x, w, ids := random(rng, tokens, k, bounds[segments]), random(rng, total, 3, bounds[segments]), randomIDs(rng, tokens, k, total)
		experts := []ir.Attr{attr("experts", rng.Perm(total)), attr("total", total)}
		w = stack(w, experts[0].Value.([]int))

		whole := newBuild(t)
		whole.add("expert_matmul", append(slices.Clone(experts), attr("bounds", bounds)), whole.value(x, true), whole.value(w, false), whole.value(ids, true))
		want := whole.eval(tokens)

		split := newBuild(t)
		idsNode := split.value(ids, true)
		var parts []*ir.Node
		for _, c := range randomCuts(rng, segments) {
			lo, hi := bounds[c.leaf], bounds[c.end]
			parts = append(parts, split.add("expert_matmul_nodes", append(slices.Clone(experts), c.local(bounds)...),
				split.value(columns(x, lo, hi), true), split.value(columns(w, lo, hi), false), idsNode))
		}
		split.reduce(parts, segments)
		if got := split.eval(tokens); !sameBits(got.F, want.F) {
			t.Fatalf("bounds %v in %d parts: %v, want %v", bounds, len(parts), got.F, want.F)
		}
		for s, e := range ids.I { // and with the definition
			at := slices.Index(experts[0].Value.([]int), int(e))
			if got, want := want.row(s)[2], plainDot(x.row(s), w.row(at*3+2)); !close32(got, want, 1e-4) {
				t.Fatalf("slot %d of expert %d: %v, want %v", s, e, got, want)
			}
		}
	}
}

// home is the experts of a device, with turns.
type home struct {
	experts []int
	turns   [][]int
}

// randomHomes gives each expert to one device, or to several in turns.
func randomHomes(rng *rand.Rand, total, devices int) []home {
	homes := make([]home, devices)
	for _, e := range rng.Perm(total) {
		copies := 1
		if rng.IntN(3) == 0 {
			copies += rng.IntN(devices)
		}
		for r, d := range rng.Perm(devices)[:copies] {
			homes[d].experts = append(homes[d].experts, e)
			homes[d].turns = append(homes[d].turns, []int{r, copies})
		}
	}
	return homes
}

// TestCombineSplits spreads experts over devices at random, with replicas in
// turns: what each computes and adds up gives the bits of one device.
func TestCombineSplits(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 3))
	replicas := 0
	for range 300 {
		total, tokens, devices := 1+rng.IntN(12), 1+rng.IntN(5), 1+rng.IntN(4)
		k := 1 + rng.IntN(min(total, 4))
		const features, width = 5, 3
		x, w, weights := random(rng, tokens, k, features), random(rng, total, width, features), random(rng, tokens, k)
		ids := randomIDs(rng, tokens, k, total)
		all := make([]int, total)
		for i := range all {
			all[i] = i
		}

		whole := newBuild(t)
		idsNode := whole.value(ids, true)
		rows := whole.add("expert_matmul", []ir.Attr{attr("experts", all), attr("total", total)}, whole.value(x, true), whole.value(w, false), idsNode)
		whole.add("combine", []ir.Attr{attr("total", total)}, rows, idsNode, whole.value(weights, true))
		want := whole.eval(tokens)

		split := newBuild(t)
		var parts []*ir.Node
		for _, h := range randomHomes(rng, total, devices) {
			if len(h.experts) == 0 {
				continue
			}
			held := []ir.Attr{attr("experts", h.experts), attr("total", total), attr("turns", h.turns)}
			idsNode := split.value(ids, true)
			rows := split.add("expert_matmul", held, split.value(x, true), split.value(stack(w, h.experts), false), idsNode)
			parts = append(parts, split.add("combine_nodes", held, rows, idsNode, split.value(weights, true)))
			if slices.ContainsFunc(h.turns, func(t []int) bool { return t[1] > 1 }) {
				replicas++
			}
		}
		split.reduce(parts, total)
		if got := split.eval(tokens); !sameBits(got.F, want.F) {
			t.Fatalf("experts on %d devices: %v, want %v", devices, got.F, want.F)
		}
		checkCombine(t, want, whole.values[rows], ids, weights)
	}
	if replicas < 50 {
		t.Errorf("only %d devices had replicas", replicas)
	}
}

// checkCombine compares with a sum over slots in float64.
func checkCombine(t *testing.T, got, rows, ids, weights Value) {
	t.Helper()
	k := ids.last()
	for tok := range got.rows() {
		for n, g := range got.row(tok) {
			var sum float64
			for j := range k {
				sum += float64(weights.row(tok)[j]) * float64(rows.row(tok*k + j)[n])
			}
			if !close32(g, sum, 1e-5) {
				t.Fatalf("token %d: %v, want %v", tok, g, sum)
			}
		}
	}
}

// attentionCase is one attention over one sequence.
type attentionCase struct {
	tokens, group, kvHeads, dk, dv, chunk, window int
	softcap                                       float64
	sinks                                         bool
	qFirst, heads                                 int // local query heads; 0: all
}

// TestAttention compares with a plain softmax over the visible positions.
func TestAttention(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 4))
	for _, c := range []attentionCase{
		{tokens: 1, group: 1, kvHeads: 1, dk: 4, dv: 4, chunk: 4},
		{tokens: 9, group: 2, kvHeads: 2, dk: 8, dv: 6, chunk: 4},
		{tokens: 9, group: 1, kvHeads: 3, dk: 5, dv: 7, chunk: 3, window: 4},
		{tokens: 7, group: 2, kvHeads: 1, dk: 4, dv: 4, chunk: 2, softcap: 1.5},
		{tokens: 7, group: 2, kvHeads: 2, dk: 4, dv: 4, chunk: 16, sinks: true},
		{tokens: 6, group: 3, kvHeads: 2, dk: 4, dv: 2, chunk: 2, qFirst: 2, heads: 3},
	} {
		checkAttention(t, rng, c)
	}
}

func checkAttention(t *testing.T, rng *rand.Rand, c attentionCase) {
	t.Helper()
	heads := c.heads
	if heads == 0 {
		heads = c.group * c.kvHeads
	}
	const scale = 0.4
	q, k, v := random(rng, c.tokens, heads, c.dk), random(rng, c.tokens, c.kvHeads, c.dk), random(rng, c.tokens, c.kvHeads, c.dv)
	sinks := random(rng, heads)
	b := newBuild(t)
	seqs, pos := Indices(make([]int32, c.tokens), c.tokens), Indices(make([]int32, c.tokens), c.tokens)
	for i := range pos.I {
		pos.I[i] = int32(i)
	}
	seqNode, posNode := b.value(seqs, true), b.value(pos, true)
	kv := b.add("kv_append", []ir.Attr{attr("cache", "c")}, b.value(k, true), b.value(v, true), seqNode, posNode)
	args := []*ir.Node{b.value(q, true), kv, seqNode, posNode}
	attrs := []ir.Attr{attr("scale", scale), attr("group", c.group), attr("chunk", c.chunk), attr("q_first", c.qFirst)}
	if c.window > 0 {
		attrs = append(attrs, attr("window", c.window))
	}
	if c.softcap > 0 {
		attrs = append(attrs, attr("softcap", c.softcap))
	}
	if c.sinks {
		args = append(args, b.value(sinks, false))
	}
	b.add("attention", attrs, args...)
	got := b.eval(c.tokens)
	for tok := range c.tokens {
		for h := range heads {
			from := arith.FirstVisible(tok, c.window)
			kvHead := (c.qFirst + h) / c.group
			if !c.sinks {
				rule := arith.Attention{Scale: scale, Softcap: float32(c.softcap)}
				if bits := inChunks(rule, q.row(tok*heads+h), k, v, kvHead, [3]int{from, tok, c.chunk}); !sameBits(got.row(tok*heads+h), bits) {
					t.Fatalf("%+v token %d head %d: %v, in chunks %v", c, tok, h, got.row(tok*heads+h), bits)
				}
			}
			var total float64
			if c.sinks {
				total = math.Exp(float64(sinks.F[h]))
			}
			want := make([]float64, c.dv)
			for p := from; p <= tok; p++ {
				score := scale * plainDot(q.row(tok*heads+h), k.row(p*c.kvHeads+kvHead))
				if c.softcap > 0 {
					score = c.softcap * math.Tanh(score/c.softcap)
				}
				total += math.Exp(score)
				for d, x := range v.row(p*c.kvHeads + kvHead) {
					want[d] += math.Exp(score) * float64(x)
				}
			}
			for d, w := range want {
				if g := got.row(tok*heads + h)[d]; !close32(g, w/total, 2e-6) {
					t.Fatalf("%+v token %d head %d entry %d: %v, want %v", c, tok, h, d, g, w/total)
				}
			}
		}
	}
}

// inChunks is attention of positions from to last, with the position of each
// chunk's start a multiple of its size: span is from, last and size.
func inChunks(rule arith.Attention, q []float32, k, v Value, head int, span [3]int) []float32 {
	from, last, size := span[0], span[1], span[2]
	var parts []arith.Partial
	for c := 0; c*size <= last; c++ {
		var runs []arith.Rows // a position each
		for p := c * size; p < (c+1)*size && p <= last; p++ {
			if p >= from {
				at := p*k.extent(1) + head
				runs = append(runs, arith.Rows{Data: append(slices.Clone(k.row(at)), v.row(at)...), N: 1, KeyDim: k.last(), ValDim: v.last()})
			}
		}
		if len(runs) > 0 {
			part := arith.Partial{Out: make([]float32, v.last())}
			rule.Chunk(&part, q, runs, make([]float32, size))
			parts = append(parts, part)
		}
	}
	out := make([]float32, v.last())
	arith.Merge(out, parts, arith.NoSink)
	return out
}
