package ir

import "moec/ir/tensor"

// Traits are properties that passes ask for.
type Traits uint16

// The traits.
const (
	// Elementwise results have an element for each element of the broadcast
	// operands, computed from those alone.
	Elementwise Traits = 1 << iota
	// RowWise results have a row for each row (token) of the first operand;
	// a row depends on the same row of the operands that have rows, alone.
	RowWise
	// Moves results are copies of operand elements: no arithmetic, no
	// rounding, the element type of the first operand.
	Moves
	// Collective ops read values of several devices.
	Collective
	// Resident results are made once, when the plan is loaded.
	Resident
	// Effect ops change resident state and are never removed or merged.
	Effect
	// Nullary ops have no operands.
	Nullary
)

// Arg describes one operand.
type Arg struct {
	Name     string
	Doc      string // shape and meaning
	Optional bool   // may be left out; only the last operand
	Many     bool   // one or more; only the last operand
}

// AttrInfo describes one attribute.
type AttrInfo struct {
	Name     string
	Kind     AttrKind
	Optional bool
	Doc      string
}

// OpInfo is one row of the op table: all that the compiler knows of an op.
type OpInfo struct {
	Name   string
	Doc    string // one line, shown by "moec ops"
	Args   []Arg
	Attrs  []AttrInfo
	Traits Traits
	Level  Level                            // Placed: only in placed graphs
	Infer  func(*Node) (tensor.Type, error) // the result's type
	Work   func(*Node, tensor.Bounds) Work  // operations and bytes
}

// Has reports whether the op has all the traits.
func (o *OpInfo) Has(t Traits) bool { return o.Traits&t == t }

// Work is what executing a node costs, apart from any machine.
type Work struct {
	Flops int64 // floating-point operations
	Read  int64 // bytes read from device memory
	Write int64 // bytes written to device memory
	Sent  int64 // bytes that come from other devices
}

// Add returns the sum of two costs.
func (w Work) Add(v Work) Work {
	return Work{w.Flops + v.Flops, w.Read + v.Read, w.Write + v.Write, w.Sent + v.Sent}
}

func args(names ...string) []Arg {
	list := make([]Arg, 0, len(names)/2)
	for i := 0; i < len(names); i += 2 {
		list = append(list, Arg{Name: names[i], Doc: names[i+1]})
	}
	return list
}

func optional(list []Arg, name, doc string) []Arg {
	return append(list, Arg{Name: name, Doc: doc, Optional: true})
}

func need(name string, kind AttrKind, doc string) AttrInfo {
	return AttrInfo{Name: name, Kind: kind, Doc: doc}
}

func may(name string, kind AttrKind, doc string) AttrInfo {
	return AttrInfo{Name: name, Kind: kind, Doc: doc, Optional: true}
}

// Attributes that several ops share.
var (
	axisAttr   = need("axis", Int, "which axis, counted from 0")
	boundsAttr = may("bounds", Ints, "first index of each segment of the contraction, then its end; absent: one segment")
	partBounds = need("bounds", Ints, "first local index of each local segment of the contraction, then the local end")
	leafAttr   = need("leaf", Int, "number of the first local segment")
	leavesAttr = need("leaves", Int, "leaves of the whole sum")
	expertsAtt = need("experts", Ints, "the experts held, in the order of the weight's first axis")
	totalAttr  = need("total", Int, "experts of the layer")
	turnsAttr  = may("turns", Sets, "for each expert held: [r, n], it serves the tokens t with t mod n = r; absent: [0, 1]")
)

// ops is the op table, in the order of "moec ops".
var ops = []*OpInfo{
	// What a step and a checkpoint provide.
	{Name: "input", Doc: "a list that each step brings: tokens, positions, sequences (one entry a token) or rows (one entry a wanted logits row)",
		Attrs: []AttrInfo{need("name", Text, "tokens, positions, sequences or rows")}, Traits: Nullary, Infer: inferInput, Work: noWork},
	{Name: "const", Doc: "a table of numbers",
		Attrs: []AttrInfo{need("shape", Ints, "extents; [] is a scalar"), need("values", Floats, "row-major")}, Traits: Nullary | Resident, Infer: inferConst, Work: noWork},
	{Name: "weight", Doc: "a weight of the graph's table, or the slice of it that a device holds",
		Attrs: []AttrInfo{need("name", Text, "the weight"), need("dtype", DTypes, "element type"), need("shape", Ints, "extents of what is held"),
			may("slice", Sets, "[lo, hi) of each axis held; absent: all"), may("experts", Ints, "the experts held, for the first axis; absent: all")},
		Traits: Nullary | Resident, Infer: inferWeight, Work: noWork},
	{Name: "param", Doc: "an operand of a fused op, inside its body",
		Attrs: []AttrInfo{need("index", Int, "which operand"), need("type", Text, "its type")}, Traits: Nullary, Infer: inferParam, Work: noWork},

	// Element by element, in f32, with trailing extents broadcast.
	binary("add", "a + b"), binary("sub", "a - b"), binary("mul", "a * b"), binary("div", "a / b"),
	binary("max", "the larger of a and b"), binary("min", "the smaller of a and b"),
	unary("neg", "-x"), unary("abs", "|x|"), unary("exp", "e^x"), unary("log", "natural logarithm"), unary("sqrt", "square root"),
	unary("tanh", "hyperbolic tangent"), unary("sigmoid", "1 / (1 + e^-x)"), unary("relu", "max(x, 0)"),
	unary("silu", "x / (1 + e^-x)"), unary("gelu", "x/2 (1 + erf(x / sqrt 2))"),
	unary("gelu_tanh", "x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))"), unary("softplus", "log(1 + e^x)"),
	{Name: "round", Doc: "x rounded to a storage type, to nearest, ties to even; fusion keeps it", Args: args("x", "f32"),
		Attrs: []AttrInfo{need("dtype", DTypes, "bf16, f16 or f32")}, Traits: Elementwise | RowWise, Infer: inferRound, Work: elementWork},

	// Along the last axis.
	{Name: "softmax", Doc: "softmax over the last axis, in f32", Args: args("x", "[..., N]"), Traits: RowWise, Infer: inferSame, Work: elementWork},
	{Name: "sum", Doc: "sum over the last axis, kept with extent 1", Args: args("x", "[..., N]"), Traits: RowWise, Infer: inferSum, Work: elementWork},
	{Name: "rms_norm", Doc: "x / sqrt(mean(x^2) + eps) over the last axis, times w", Args: optional(args("x", "[..., N]"), "w", "[N]"),
		Attrs: []AttrInfo{need("eps", Float, "")}, Traits: RowWise, Infer: inferNorm, Work: elementWork},
	{Name: "layer_norm", Doc: "(x - mean) / sqrt(variance + eps) over the last axis, times w, plus b", Args: optional(optional(args("x", "[..., N]"), "w", "[N]"), "b", "[N]"),
		Attrs: []AttrInfo{need("eps", Float, "")}, Traits: RowWise, Infer: inferNorm, Work: elementWork},

	// Moving elements.
	{Name: "reshape", Doc: "the same elements of each row under other extents", Args: args("x", "[R, ...]"),
		Attrs: []AttrInfo{need("tail", Ints, "extents after the first")}, Traits: RowWise | Moves, Infer: inferReshape, Work: moveWork},
	{Name: "slice", Doc: "entries lo to hi-1 of an axis", Args: args("x", ""),
		Attrs: []AttrInfo{axisAttr, need("lo", Int, ""), need("hi", Int, ""), may("step", Int, "1 when absent")}, Traits: RowWise | Moves, Infer: inferSlice, Work: moveWork},
	{Name: "concat", Doc: "operands one after the other along an axis", Args: []Arg{{Name: "x", Many: true}},
		Attrs: []AttrInfo{axisAttr}, Traits: RowWise | Moves, Infer: inferConcat, Work: moveWork},
	{Name: "broadcast", Doc: "an axis of extent 1 repeated", Args: args("x", ""),
		Attrs: []AttrInfo{axisAttr, need("n", Int, "new extent")}, Traits: RowWise | Moves, Infer: inferBroadcast, Work: moveWork},
	{Name: "take_rows", Doc: "the rows of x that are listed", Args: args("x", "[T, ...]", "rows", "i32 [S]"), Traits: Moves, Infer: inferTakeRows, Work: moveWork},
	{Name: "embed", Doc: "row ids[t] of w, for each token", Args: args("ids", "i32 [T]", "w", "[V, N]"), Traits: RowWise | Moves, Infer: inferEmbed, Work: moveWork},
	{Name: "gather", Doc: "x[t, ids[t, j]]", Args: args("x", "[T, E]", "ids", "i32 [T, k]"), Traits: RowWise | Moves, Infer: inferGather, Work: moveWork},

	// Contractions. Products are summed in f32: within a segment in the
	// backend's own fixed order, between segments along the tree.
	{Name: "matmul", Doc: "x times the transpose of w", Args: args("x", "[..., K]", "w", "[N, K]"),
		Attrs: []AttrInfo{boundsAttr}, Traits: RowWise, Infer: inferMatmul, Work: matmulWork},
	{Name: "matmul_nodes", Doc: "the part of a matmul over the local segments: one value for each subtree they cover", Args: args("x", "[..., K local]", "w", "[N, K local]"),
		Attrs: []AttrInfo{partBounds, leafAttr, leavesAttr}, Level: Placed, Infer: inferMatmulNodes, Work: matmulWork},

	// Attention.
	{Name: "rope", Doc: "rotary embedding: pairs of the last axis turned by position times frequency", Args: args("x", "[T, h, d]", "positions", "i32 [T]", "freqs", "[d/2 or fewer]"),
		Attrs: []AttrInfo{need("style", Text, "half: x[i] pairs with x[i + F] for F frequencies; interleaved: x[2i] with x[2i+1]; entries past 2F are kept"),
			may("scale", Float, "factor on sine and cosine, 1 when absent")}, Traits: RowWise, Infer: inferRope, Work: elementWork},
	{Name: "kv_append", Doc: "stores each token's key and value in the cache, at its sequence and position", Args: args("k", "[T, h, dk]", "v", "[T, h, dv]", "sequences", "i32 [T]", "positions", "i32 [T]"),
		Attrs: []AttrInfo{need("cache", Text, "the cache")}, Traits: Effect, Infer: inferAppend, Work: elementWork},
	{Name: "attention", Doc: "softmax(scale q k) v over the cached positions that a token may see, chunk by chunk at fixed positions",
		Args: optional(args("q", "[T, h, dk]", "kv", "[C, hk, dk+dv]", "sequences", "i32 [T]", "positions", "i32 [T]"), "sinks", "[h]: a logit that takes part in the softmax without a value"),
		Attrs: []AttrInfo{need("scale", Float, ""), need("group", Int, "query heads that share a KV head"), need("chunk", Int, "positions of a chunk"),
			may("window", Int, "positions seen, the token's own included; absent: all"), may("softcap", Float, "c tanh(score / c)"),
			may("q_first", Int, "number of the first local query head"), may("kv_first", Int, "number of the first local KV head")},
		Infer: inferAttention, Work: attentionWork},

	// Experts. A token's k choices are its slots. Rows of slots whose expert
	// is not held, or not in turn, are left undefined and never read.
	{Name: "topk", Doc: "indices of the k largest entries of a row, largest first, ties to the smaller index", Args: args("x", "[T, E]"),
		Attrs: []AttrInfo{need("k", Int, ""), may("groups", Int, "equal runs of entries that are first chosen among"), may("top_groups", Int, "groups kept"),
			may("group_score", Text, "max or top2sum: what ranks a group")}, Traits: RowWise, Infer: inferTopK, Work: elementWork},
	{Name: "dispatch", Doc: "each token's row once for each of its slots", Args: args("x", "[T, N]", "ids", "i32 [T, k]"), Traits: RowWise | Moves, Infer: inferDispatch, Work: moveWork},
	{Name: "expert_matmul", Doc: "matmul of each slot's row with its expert's weight", Args: args("x", "[T, k, K]", "w", "[E, N, K]", "ids", "i32 [T, k]"),
		Attrs: []AttrInfo{boundsAttr, expertsAtt, totalAttr, turnsAttr}, Traits: RowWise, Infer: inferExpertMatmul, Work: expertWork},
	{Name: "expert_matmul_nodes", Doc: "matmul_nodes of each slot's row with its expert's weight", Args: args("x", "[T, k, K local]", "w", "[E, N, K local]", "ids", "i32 [T, k]"),
		Attrs: []AttrInfo{partBounds, leafAttr, leavesAttr, expertsAtt, totalAttr, turnsAttr}, Level: Placed, Infer: inferExpertNodes, Work: expertWork},
	{Name: "expert_rows", Doc: "the expert's row of w for each slot", Args: args("w", "[E, N]", "ids", "i32 [T, k]"),
		Attrs: []AttrInfo{expertsAtt, totalAttr, turnsAttr}, Infer: inferExpertRows, Work: moveWork},
	{Name: "combine", Doc: "sum over a token's slots of weight times row, along the tree over experts", Args: args("x", "[T, k, N]", "ids", "i32 [T, k]", "weights", "[T, k]"),
		Attrs: []AttrInfo{totalAttr}, Traits: RowWise, Infer: inferCombine, Work: elementWork},
	{Name: "combine_nodes", Doc: "the part of a combine over the experts held: one value for each subtree they cover", Args: args("x", "[T, k, N]", "ids", "i32 [T, k]", "weights", "[T, k]"),
		Attrs: []AttrInfo{expertsAtt, totalAttr, turnsAttr}, Level: Placed, Infer: inferCombineNodes, Work: elementWork},

	// Between devices. An operand may live on any device; the result is on
	// the node's own.
	{Name: "all_reduce", Doc: "parts of a sum from several devices, added along the tree, plus zero", Args: []Arg{{Name: "parts", Doc: "[nodes, ...] each", Many: true}},
		Attrs:  []AttrInfo{need("spans", Sets, "for each operand: lo, hi of each of its nodes"), leavesAttr, need("channel", Int, "number shared by the members of one collective")},
		Traits: Collective, Level: Placed, Infer: inferAllReduce, Work: collectiveWork},
	{Name: "all_gather", Doc: "shards from several devices, one after the other along an axis", Args: []Arg{{Name: "shards", Many: true}},
		Attrs: []AttrInfo{axisAttr, need("channel", Int, "number shared by the members of one collective")}, Traits: Collective | Moves, Level: Placed, Infer: inferConcat, Work: collectiveWork},
	{Name: "transfer", Doc: "a value of another device", Args: args("x", ""),
		Attrs: []AttrInfo{need("channel", Int, "number of this transfer")}, Traits: Collective | Moves, Level: Placed, Infer: inferMoved, Work: collectiveWork},
	{Name: "part", Doc: "a value as one part of a sum over devices: a new first axis of extent 1", Args: args("x", ""), Traits: Moves, Level: Placed, Infer: inferPart, Work: noWork},
	{Name: "own_rows", Doc: "the rows of a token group, out of the rows of all groups in order", Args: args("x", "[T, ...]"),
		Attrs: []AttrInfo{need("group", Int, "")}, Traits: Moves, Level: Placed, Infer: inferOwnRows, Work: moveWork},

	// Made by fusion.
	{Name: "pack", Doc: "weights joined along an axis when they are loaded", Args: []Arg{{Name: "w", Many: true}}, Attrs: []AttrInfo{axisAttr}, Traits: Resident | Moves, Infer: inferConcat, Work: noWork},
	{Name: "fused", Doc: "several operations that a backend may do at once; the body says what they are", Args: []Arg{{Name: "x", Many: true}},
		Attrs: []AttrInfo{need("kind", Text, "name of the fusion"), need("body", Body, "the operations on params")}, Infer: inferFused, Work: fusedWork},
}

func binary(name, doc string) *OpInfo {
	return &OpInfo{Name: name, Doc: doc, Args: args("a", "", "b", "trailing extents equal or 1"), Traits: Elementwise | RowWise, Infer: inferBinary, Work: elementWork}
}

func unary(name, doc string) *OpInfo {
	return &OpInfo{Name: name, Doc: doc, Args: args("x", ""), Traits: Elementwise | RowWise, Infer: inferSame, Work: elementWork}
}

// Ops returns the op table.
func Ops() []*OpInfo { return ops }

var opIndex = func() map[string]*OpInfo {
	m := make(map[string]*OpInfo, len(ops))
	for _, o := range ops {
		m[o.Name] = o
	}
	return m
}()

// Op returns the op of that name, or nil.
func Op(name string) *OpInfo { return opIndex[name] }
