package dsl

import (
	"moec/ir"
	"moec/ir/tensor"
)

// expertFunctions choose experts and send tokens through them.
var expertFunctions = []function{
	{"topk", params("x k groups? top_groups? group_score?"), "choices [tokens, k]: which k entries of a row of x [tokens, N] are largest; with groups, among those of the top_groups best runs of N/groups entries", runTopK},
	{"gather", params("x chosen"), "[tokens, k]: the chosen entries of each row of x [tokens, N]", runGather},
	{routeName, params("x chosen weights experts?"), "[tokens, M]: the sum over a token's choices of weights [tokens, k] times what the block after through makes of its row of x [tokens, N]", runRoute},
}

func runTopK(c *invocation) value {
	x, k := c.rows("x", 2), c.int("k", 0)
	groups, top := c.int("groups", 1), c.int("top_groups", 1)
	score := c.text("group_score", "max")
	if c.bad || !c.floats(c.at, "topk", x) {
		return poison{}
	}
	n := x.shape[1].n
	switch {
	case x.slots:
		return c.failf("experts do not choose experts")
	case score != "max" && score != "top2sum":
		return c.failf("group_score is %q, want max or top2sum", shorten(score))
	case groups < 1 || n%groups != 0:
		return c.failAbout([]*tensorValue{x}, "%s entries do not fall into %d equal groups", x.shape[1], groups)
	case top < 1 || top > groups:
		return c.failf("%d groups of %d are kept", top, groups)
	case k < 1 || k > n/groups*top:
		return c.failAbout([]*tensorValue{x}, "%d are chosen among %d", k, n/groups*top)
	}
	attrs := []ir.Attr{attr("k", k)}
	if groups > 1 {
		attrs = append(attrs, attr("groups", groups), attr("top_groups", top), attr("group_score", score))
	}
	node := c.add("topk", ir.MakeAttrs(attrs...), c.at, x.node)
	if node == nil {
		return poison{}
	}
	return &tensorValue{node: node, shape: shape{x.shape[0], {n: k, text: textOf(c.args["k"].node)}}, among: n}
}

// choices returns an argument that topk made.
func (c *invocation) choices(name string) *tensorValue {
	t := c.tensor(name)
	if t == nil {
		return nil
	}
	if t.dtype() != tensor.I32 || len(t.shape) != 2 {
		c.failAbout([]*tensorValue{t}, "%s is %s, want what topk returns", c.nameOf(name), t)
		return nil
	}
	return t
}

func runGather(c *invocation) value {
	x, chosen := c.rows("x", 2), c.choices("chosen")
	if c.bad {
		return poison{}
	}
	if x.slots || chosen.among > 0 && x.shape[1].n != chosen.among {
		return c.failAbout([]*tensorValue{x, chosen}, "x has %s entries a row, the choices are among %d", x.shape[1], chosen.among)
	}
	return c.moved(c.add("gather", nil, c.at, x.node, chosen.node), x, chosen.shape)
}

// runRoute sends each token through the bodies of its chosen experts.
func runRoute(c *invocation) value {
	x, chosen, weights := c.rows("x", 2), c.choices("chosen"), c.rows("weights", 2)
	if c.bad || !c.floats(c.at, routeName, x, weights) {
		return poison{}
	}
	experts := c.int("experts", chosen.among)
	switch {
	case c.bad:
		return poison{}
	case c.expert != nil || x.slots:
		return c.failf("experts do not route to experts")
	case !weights.shape[1].same(chosen.shape[1]):
		return c.failAbout([]*tensorValue{weights, chosen}, "%s and %s for each token", countOf(weights.shape[1].n, "weight"), countOf(chosen.shape[1].n, "choice"))
	case experts < 1 || experts > maxExpert:
		return c.failf("%d experts, want 1 to %d", experts, maxExpert)
	case chosen.among > 0 && experts != chosen.among:
		return c.failAbout([]*tensorValue{chosen}, "%d experts, the choices are among %d", experts, chosen.among)
	}
	c.steps += experts / 4 // for the lists of experts
	x = c.operand(x, c.at)
	slots := c.add("dispatch", nil, c.at, x.node, chosen.node)
	if slots == nil {
		return poison{}
	}
	row := &tensorValue{node: slots, shape: x.shape, slots: true, origin: x.origin}
	body := &expertBody{ids: chosen.node, total: experts, experts: make([]int, experts)}
	for i := range body.experts {
		body.experts[i] = i
	}
	t := c.call.through
	st := c.file.blocks[t.name]
	v := c.callBlock(blockCall{at: t.pos(), block: st.Block, body: st.body, args: t.args, scopes: c.call.scopes, routed: row, expert: body})
	return c.combined(v, chosen, weights, body)
}

// combined adds up what the experts made.
func (c *invocation) combined(v value, chosen, weights *tensorValue, body *expertBody) value {
	if v == (poison{}) {
		return v
	}
	y, ok := v.(*tensorValue)
	if !ok || !y.slots || len(y.shape) != 2 {
		return c.failf("block %s returns %s, want [tokens, N] made of the tokens it is given", c.call.through.name, show(v))
	}
	n := c.add("combine", ir.MakeAttrs(attr("total", body.total)), c.at, y.node, chosen.node, weights.node)
	if n == nil {
		return poison{}
	}
	return &tensorValue{node: n, shape: shape{weights.shape[0], y.shape[1]}, loose: true}
}
