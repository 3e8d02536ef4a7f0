package codegen

import (
	"fmt"
	"maps"
	"slices"

	"moec/ir/tensor"
	"moec/planner/plan"
)

// The steps of a mixture-of-experts transformer with rotated queries and keys,
// a softmax router and gated experts, as the passes leave them on one device.
var (
	decoderBegin = []line{{"x", "embed", "in:tokens w:embedding"}}
	decoderHeads = []line{
		{"a1", "rms_norm", "x w:norm"}, {"a", "round", "a1"}, {"y", "matmul", "a w:qkv"},
		{"q1", "slice", "y"}, {"k1", "slice", "y"}, {"v1", "slice", "y"},
		{"q2", "rope", "q1 in:positions c:freqs"}, {"q", "round", "q2"}, {"k2", "rope", "k1 in:positions c:freqs"}, {"k", "round", "k2"}, {"v", "round", "v1"},
		{"", "kv_append", "k v in:sequences in:positions k:cache"}, {"o1", "attention", "q k:cache in:sequences in:positions"},
	}
	decoderJoin     = []line{{"o", "round", "o1"}, {"o2", "matmul", "o w:out"}, {"o3", "round", "o2"}, {"h1", "add", "x o3"}, {"h", "round", "h1"}}
	decoderLastJoin = []line{{"o0", "take_rows", "o1 in:rows"}, {"o", "round", "o0"}, {"r", "take_rows", "x in:rows"},
		{"o2", "matmul", "o w:out"}, {"o3", "round", "o2"}, {"h1", "add", "r o3"}, {"h", "round", "h1"}}
	decoderExperts = []line{
		{"b1", "rms_norm", "h w:norm2"}, {"b", "round", "b1"}, {"s1", "matmul", "b w:router"}, {"s2", "round", "s1"}, {"s", "softmax", "s2"},
		{"ids", "topk", "s"}, {"g1", "gather", "s ids"}, {"g2", "sum", "g1"}, {"g", "div", "g1 g2"}, {"d", "dispatch", "b ids"},
		{"u1", "expert_matmul", "d w:gate_up ids"}, {"u2", "slice", "u1"}, {"u3", "slice", "u1"}, {"u4", "silu", "u2"}, {"u5", "mul", "u4 u3"}, {"u", "round", "u5"},
		{"z1", "expert_matmul", "u w:down ids"}, {"z", "round", "z1"}, {"m1", "combine", "z ids g"}, {"m2", "round", "m1"}, {"m3", "add", "h m2"}, {"x", "round", "m3"},
	}
	decoderEnd = []line{{"e1", "rms_norm", "x w:last_norm"}, {"e", "round", "e1"}, {"logits", "matmul", "e w:head"}}
)

// decoder is a program that is such a transformer.
type decoder struct {
	*match
	plan *plan.Plan
	prog *plan.Program
	runs []map[string]*site // the steps of each run, by name of the result

	element                                                tensor.DType
	layers, hidden, heads, kvHeads, dim, ffn, experts, top int
	vocab, chunk, outSegments, downSegments                int
	eps, scale                                             float64
}

// matchDecoder recognises a program, or says why it is none that the kernel for
// whole decoding steps executes.
func matchDecoder(p *plan.Plan, prog *plan.Program) (*decoder, error) {
	if len(p.Memory) != 1 {
		return nil, fmt.Errorf("the plan is for %d devices, the kernel for one", len(p.Memory))
	}
	blocks := make(map[string][]*site)
	if err := sitesOf(p, prog, func(s *site) error {
		blocks[s.at.Block] = append(blocks[s.at.Block], s)
		return nil
	}); err != nil {
		return nil, err
	}
	d := &decoder{match: newMatch(), plan: p, prog: prog}
	if err := d.blocks(blocks); err != nil {
		return nil, err
	}
	for _, steps := range d.runs {
		if err := d.types(steps); err != nil {
			return nil, err
		}
	}
	if err := d.sizes(); err != nil {
		return nil, err
	}
	return d, d.fits()
}

// blocks matches the program's runs: the begin, layers, the last layer, the end.
func (d *decoder) blocks(blocks map[string][]*site) error {
	runs := d.prog.Runs
	if len(runs) < 3 {
		return fmt.Errorf("%d runs of blocks, at least 3 are wanted", len(runs))
	}
	for i, r := range runs {
		pattern := slices.Concat(decoderHeads, decoderJoin, decoderExperts)
		switch {
		case i == 0:
			pattern = decoderBegin
		case i == len(runs)-1:
			pattern = decoderEnd
		case i == len(runs)-2:
			pattern = slices.Concat(decoderHeads, decoderLastJoin, decoderExperts)
		}
		outside := i == 0 || i == len(runs)-1
		if outside != (r.Layers == plan.NoLayers) || !outside && r.Layers.First != d.layers || i == len(runs)-2 && r.Layers.Len() != 1 {
			return fmt.Errorf("run %d is of layers %v", i, r.Layers)
		}
		if err := d.block(blocks[r.Block], pattern); err != nil {
			return err
		}
		d.runs = append(d.runs, maps.Clone(d.steps))
		if !outside {
			d.layers += r.Layers.Len()
			if err := d.layer(); err != nil {
				return err
			}
		}
	}
	if d.buffers["logits"] != d.output() {
		return fmt.Errorf("the logits are not the output")
	}
	return nil
}

// stepsOf returns the steps of a layer, or of what comes before layer 0 and after
// the last.
func (d *decoder) stepsOf(layer int) map[string]*site {
	if layer < 0 {
		return d.runs[0]
	}
	for i, r := range d.prog.Runs {
		if r.Layers != plan.NoLayers && r.Layers.Has(layer) {
			return d.runs[i]
		}
	}
	return d.runs[len(d.runs)-1]
}

// output names the program's only output.
func (d *decoder) output() string {
	if len(d.prog.Outputs) != 1 || d.prog.Outputs[0].Name != "logits" {
		return ""
	}
	return d.prog.Outputs[0].Buffer
}

// layer checks the attributes of a layer's steps, which must be those of the
// layers before.
func (d *decoder) layer() error {
	q, k, out, down := d.steps["q2"], d.steps["k2"], d.steps["o2"], d.steps["z1"]
	heads, kvHeads, dim := q.out.Shape[1].N, k.out.Shape[1].N, q.out.Shape[2].N
	att, top := d.steps["o1"], d.steps["ids"].Attrs.Int("k", 0)
	outSegments, downSegments := segmentsOf(out, out.args[0].Shape.Last().N), segmentsOf(down, down.args[0].Shape.Last().N)
	eps, scale, chunk := d.steps["a1"].Attrs.Float("eps", 0), att.Attrs.Float("scale", 1), att.Attrs.Int("chunk", 1)
	if d.heads == 0 {
		d.heads, d.kvHeads, d.dim, d.top, d.chunk, d.eps, d.scale = heads, kvHeads, dim, top, chunk, eps, scale
		d.outSegments, d.downSegments, d.element = outSegments, downSegments, d.steps["a"].out.DType
	}
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{heads == d.heads && kvHeads == d.kvHeads && dim == d.dim && top == d.top && chunk == d.chunk && scale == d.scale, "layers differ"},
		{outSegments > 0 && outSegments == d.outSegments && downSegments > 0 && downSegments == d.downSegments, "sums are not cut into 1, 2, 4 or 8 segments of whole stages of 256 features"},
		{eps == d.eps && d.steps["b1"].Attrs.Float("eps", 0) == eps, "norms differ"},
		{d.steps["y"].Attrs.Ints("bounds") == nil && d.steps["s1"].Attrs.Ints("bounds") == nil && d.steps["u1"].Attrs.Ints("bounds") == nil, "sums are cut that the kernel does not cut"},
		{plainRope(q, dim) && plainRope(k, dim), "the rotation is of another style"},
		{d.slices("q1", 0, heads*dim) && d.slices("k1", heads*dim, (heads+kvHeads)*dim) && d.slices("v1", (heads+kvHeads)*dim, (heads+2*kvHeads)*dim), "queries, keys and values lie otherwise"},
		{att.Attrs.Int("group", 1)*kvHeads == heads && att.Attrs.Int("window", 0) == 0 && att.Attrs.Float("softcap", 0) == 0, "attention has a window, a cap or other groups"},
		{att.Attrs.Int("q_first", 0) == 0 && att.Attrs.Int("kv_first", 0) == 0, "attention has some heads alone"},
		{d.steps["ids"].Attrs.Int("groups", 1) == 1, "experts are chosen in groups"},
		{allHere(d.steps["u1"]) && allHere(down), "some experts are elsewhere"},
	} {
		if !c.ok {
			return fmt.Errorf("%s", c.what)
		}
	}
	return nil
}

// types checks that everything is rounded to one element type of two bytes.
func (d *decoder) types(steps map[string]*site) error {
	for _, name := range slices.Sorted(maps.Keys(steps)) {
		s := steps[name]
		if s.Op == "round" && s.out.DType != d.element {
			return fmt.Errorf("%s is rounded to %v, others to %v", name, s.out.DType, d.element)
		}
		for i, a := range s.Args {
			if a.Kind == plan.WeightRef && s.args[i].DType != d.element {
				return fmt.Errorf("weight %s is of type %v, activations of %v", a.Name, s.args[i].DType, d.element)
			}
		}
	}
	if d.element != tensor.BF16 && d.element != tensor.F16 {
		return fmt.Errorf("elements are of type %v", d.element)
	}
	return nil
}

// slices reports whether a step takes columns lo to hi.
func (d *decoder) slices(name string, lo, hi int) bool {
	a := d.steps[name].Attrs
	return a.Int("axis", 0) == 1 && a.Int("lo", 0) == lo && a.Int("hi", 0) == hi && a.Int("step", 1) == 1
}

func plainRope(s *site, dim int) bool {
	return s.Attrs.Text("style") == "half" && s.Attrs.Float("scale", 1) == 1 && 2*s.args[2].Shape[0].N == dim
}

// allHere reports whether a step has all experts in their order, without
// copies that take turns.
func allHere(s *site) bool {
	experts := s.Attrs.Ints("experts")
	for i, e := range experts {
		if i != e {
			return false
		}
	}
	for _, t := range s.Attrs.Sets("turns") {
		if t[1] != 1 {
			return false
		}
	}
	return len(experts) == s.Attrs.Int("total", 0)
}

// stageFeatures are the features that a stage of weights has (decode_ring.cuh).
const stageFeatures = 256

// segmentsOf returns into how many equal segments of whole stages a step cuts
// its k features, 0 if it does otherwise.
func segmentsOf(s *site, k int) int {
	bounds := s.Attrs.Ints("bounds")
	if bounds == nil {
		bounds = []int{0, k}
	}
	n := len(bounds) - 1
	if !slices.Contains([]int{1, 2, 4, 8}, n) || k%(n*stageFeatures) != 0 {
		return 0
	}
	for i, b := range bounds {
		if b != i*(k/n) {
			return 0
		}
	}
	return n
}

// sizes reads the sizes from the weights.
func (d *decoder) sizes() error {
	d.hidden = d.steps["y"].args[1].Shape[1].N
	up := d.steps["u1"].args[1].Shape
	d.experts, d.ffn = up[0].N, up[1].N/2
	d.vocab = d.steps["logits"].args[1].Shape[0].N
	gate, other := d.steps["u2"].Attrs, d.steps["u3"].Attrs
	switch {
	case gate.Int("axis", 0) != 2 || gate.Int("lo", 0) != 0 || gate.Int("hi", 0) != d.ffn || other.Int("lo", 0) != d.ffn || other.Int("hi", 0) != 2*d.ffn:
		return fmt.Errorf("gate and up lie otherwise")
	case d.steps["e1"].Attrs.Float("eps", 0) != d.eps:
		return fmt.Errorf("norms differ")
	case d.steps["logits"].Attrs.Ints("bounds") != nil:
		return fmt.Errorf("the head's sum is cut")
	case d.residents["w:head"] == d.residents["w:embedding"]:
		return fmt.Errorf("the head is the embedding, which lies row by row")
	}
	return nil
}

// fits checks the limits of the kernel (decode.cuh).
func (d *decoder) fits() error {
	const threadsElements = 2048    // that a block's threads load at once
	const routerElements = 8 * 6144 // Mixtral 8x22B's: 96 registers of a thread
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{d.dim == 128, "heads are not of 128 entries"},
		{d.chunk == 256, "chunks of attention are not of 256 positions"},
		{d.hidden%threadsElements == 0, "hidden is no multiple of 2048"},
		{d.hidden%stageFeatures == 0 && d.heads*d.dim%stageFeatures == 0, "features are no multiple of 256"},
		{d.ffn%plan.TileSide == 0 && d.vocab%plan.TileSide == 0, "the inner or the vocabulary's size is no multiple of 64"},
		{d.heads%d.kvHeads == 0 && d.heads/d.kvHeads%2 == 0 && d.heads/d.kvHeads <= 8, "not 2, 4, 6 or 8 heads share a KV head"},
		{d.top == 1 || d.top == 2, "more than 2 experts a token"},
		{d.experts <= 32, "more than 32 experts"},
		{d.experts*d.hidden <= routerElements, "the router's weights are more than threads can keep"},
		{d.scale > 0, "scores are not multiplied by a positive number"},
	} {
		if !c.ok {
			return fmt.Errorf("%s", c.what)
		}
	}
	return nil
}

// params are the template arguments of the kernel.
func (d *decoder) params() []string {
	return useOf("decode", d.element, d.layers, d.hidden, d.heads, d.kvHeads, d.dim, d.ffn, d.experts, d.top, d.vocab, d.plan.Limits.Page, d.chunk,
		d.outSegments, d.downSegments).params
}

// tiled lists the weights that the kernel wants in tiles.
func (d *decoder) tiled() []string {
	var list []string
	for _, name := range []string{"w:qkv", "w:out", "w:gate_up", "w:down", "w:head"} {
		list = append(list, d.residents[name])
	}
	return list
}
