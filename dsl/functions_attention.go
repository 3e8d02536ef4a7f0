package dsl

import (
	"fmt"

	"moec/ir"
)

// attentionFunctions are rotary embeddings and attention.
var attentionFunctions = []function{
	{"rope", params("x freqs style?"), "[tokens, heads, N]: pairs of the last axis turned by position times frequency", runRope},
	{"rope_freqs", params("theta dim factor? factors? scale?"), "dim/2 frequencies theta^(-2i/dim), divided by factor and factors[i]", runFreqs},
	{"rope_freqs_llama3", params("theta dim factor low_freq_factor high_freq_factor original"), "frequencies of Llama 3.1: long waves slowed by factor", runFreqsLlama3},
	{"rope_freqs_yarn", params("theta dim factor original beta_fast? beta_slow? truncate? mscale? mscale_all_dim? attention_factor?"),
		"frequencies of YaRN, arXiv:2309.00071, with their factor on sine and cosine", runFreqsYarn},
	{"attend", params("q k v scale window? softcap? sinks?"), "[tokens, heads, V]: causal attention of q [tokens, heads, K] to k [tokens, kv_heads, K] and v [tokens, kv_heads, V] of this and earlier steps", runAttend},
}

func runRope(c *invocation) value {
	x := c.rows("x", 3)
	t, ok := c.args["freqs"].value.(*table)
	if !ok {
		c.wrong("freqs", "what rope_freqs or one of its kin returns")
	}
	style := c.text("style", "half")
	if c.bad {
		return poison{}
	}
	switch {
	case x.slots:
		return c.failf("there are no positions inside experts")
	case style != "half" && style != "interleaved":
		return c.failf("style is %q, want half or interleaved", shorten(style))
	case 2*len(t.values) > x.shape.last().n:
		return c.failAbout([]*tensorValue{x}, "%d frequencies turn %d entries, a head of x has %s", len(t.values), 2*len(t.values), x.shape.last())
	}
	if t.node == nil {
		t.node = c.constant(t.values, c.at)
	}
	positions := c.input("positions", c.at)
	if t.node == nil || positions == nil {
		return poison{}
	}
	attrs := []ir.Attr{attr("style", style)}
	if t.factor != 1 {
		attrs = append(attrs, attr("scale", t.factor))
	}
	return wrap(c.add("rope", ir.MakeAttrs(attrs...), c.at, x.node, positions, t.node), x, x.shape)
}

// runAttend stores keys and values in the cache and attends to it.
func runAttend(c *invocation) value {
	q, k, v := c.rows("q", 3), c.rows("k", 3), c.rows("v", 3)
	sinks := c.optional("sinks")
	if c.bad || !c.attendShapes(q, k, v, sinks) {
		return poison{}
	}
	attrs := []ir.Attr{attr("scale", c.real("scale", 0)), attr("group", q.shape[1].n/k.shape[1].n), attr("chunk", chunkRows)}
	window := c.int("window", 0)
	if c.given("window") {
		c.atLeast("window", window, 1)
		attrs = append(attrs, attr("window", window))
	}
	if c.given("softcap") {
		softcap := c.real("softcap", 0)
		if softcap <= 0 {
			c.failf("softcap is %s, want a number above 0", showReal(softcap))
		}
		attrs = append(attrs, attr("softcap", softcap))
	}
	if c.bad {
		return poison{}
	}
	cache := c.cache(k, v, window)
	k, v = c.rounded(k, c.act, c.at), c.rounded(v, c.act, c.at)
	q = c.operand(q, c.at)
	sequences, positions := c.input("sequences", c.at), c.input("positions", c.at)
	kv := c.add("kv_append", ir.MakeAttrs(attr("cache", cache)), c.at, k.node, v.node, sequences, positions)
	if kv == nil {
		return poison{}
	}
	args := []*ir.Node{q.node, kv, sequences, positions}
	if sinks != nil {
		args = append(args, sinks.node)
	}
	s := shape{q.shape[0], q.shape[1], v.shape[2]}
	return wrap(c.add("attention", ir.MakeAttrs(attrs...), c.at, args...), q, s)
}

func (c *invocation) attendShapes(q, k, v, sinks *tensorValue) bool {
	all := []*tensorValue{q, k, v}
	switch {
	case q.slots || k.slots || v.slots:
		c.failf("there is no attention inside experts")
	case !q.shape[2].same(k.shape[2]):
		c.failAbout(all[:2], "a head of q has %s entries, a head of k %s", q.shape[2], k.shape[2])
	case !k.shape[1].same(v.shape[1]):
		c.failAbout(all[1:], "k has %s heads, v %s", k.shape[1], v.shape[1])
	case q.shape[1].n%k.shape[1].n != 0:
		c.failAbout(all[:2], "q has %s heads, which is not a multiple of the %s heads of k", q.shape[1], k.shape[1])
	case sinks != nil && (len(sinks.shape) != 1 || !sinks.shape[0].same(q.shape[1]) || sinks.expert != nil):
		c.failAbout([]*tensorValue{sinks, q}, "%s is %s, want one for each head, [%s]", c.nameOf("sinks"), sinks.shape, q.shape[1])
	default:
		return c.floats(c.at, "attend", all...)
	}
	return false
}

// cache declares the cache of an attention and returns its name.
func (c *invocation) cache(k, v *tensorValue, window int) string {
	base := c.path
	if base == "" {
		base = "attention"
	}
	if c.layer >= 0 {
		base = fmt.Sprintf("layers.%d.%s", c.layer, base)
	}
	name := base
	for i := 2; c.caches[name]; i++ {
		name = fmt.Sprintf("%s_%d", base, i)
	}
	c.caches[name] = true
	c.graph.Caches = append(c.graph.Caches, &ir.Cache{
		Name: name, Layer: c.layer, Heads: k.shape[1].n, KeyDim: k.shape[2].n, ValDim: v.shape[2].n, DType: c.act, Window: window,
	})
	return name
}
