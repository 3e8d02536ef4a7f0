package kernels

// Parameters that many templates take.
var (
	typeX = Param{"X", Type}
	typeW = Param{"W", Type}
	wordE = Param{"E", Word}
	howL  = Param{"L", Layout}
)

func numbers(names ...string) []Param {
	list := make([]Param, len(names))
	for i, n := range names {
		list[i] = Param{n, Number}
	}
	return list
}

func params(list ...any) []Param {
	var out []Param
	for _, p := range list {
		switch p := p.(type) {
		case Param:
			out = append(out, p)
		case []Param:
			out = append(out, p...)
		}
	}
	return out
}

// args makes a list from pairs of a name and a type.
func args(pairs ...string) []Arg {
	list := make([]Arg, 0, len(pairs)/2)
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, Arg{pairs[i], pairs[i+1]})
	}
	return list
}

// Blocks of 256 threads fill a multiprocessor of any architecture with few
// enough registers a thread; nothing here is tuned.
const threads = 256

// attentionBlock is smaller because a block computes one head of one token.
const attentionBlock = 128

// chooseThreads is what sample.cuh says.
const chooseThreads = 512

// decodeThreads and decodeShared are what decode.cuh says; the kernel does not
// compile for less.
const (
	decodeThreads = 384
	decodeShared  = 227 << 10
)

func unary(op, functor string) Kernel {
	return Kernel{Name: op, Ops: []string{op}, File: "elementwise.cuh", Call: "unary<moec::" + functor + ", {X}>", Params: params(typeX),
		Args: args("out", "float*", "x", "const {X}*", "count", "long long"), Unit: Thread, Block: threads}
}

func binary(op, functor string) Kernel {
	return Kernel{Name: op, Ops: []string{op}, File: "elementwise.cuh", Call: "binary<moec::" + functor + ", {A}, {B}, {RANK}>",
		Params: params(Param{"A", Type}, Param{"B", Type}, numbers("RANK")),
		Args: args("out", "float*", "a", "const {A}*", "b", "const {B}*", "count", "long long", "extents", "moec::Ints<{RANK}>",
			"a_strides", "moec::Ints<{RANK}>", "b_strides", "moec::Ints<{RANK}>"), Unit: Thread, Block: threads}
}

// hopper is the architecture of the kernels with its matrix instructions.
// gemmThreads are one warp group that copies and two that multiply, listThreads
// keep the passes over all slots few.
const (
	hopper      = "sm_90a"
	gemmThreads = 384
	listThreads = 1024
)

// The structs that say how a contraction is cut and which experts are here.
const (
	segments = "moec::Segments<{SEGMENTS}, {NODES}>"
	uncut    = "moec::Segments<{SEGMENTS}, 1>" // all of it is here
	held     = "moec::Held<{TOTAL}, {HELD}>"
)

// table is the kernel table, in the order of the op table.
var table = []Kernel{
	binary("add", "Add"), binary("sub", "Sub"), binary("mul", "Mul"), binary("div", "Div"), binary("max", "Max"), binary("min", "Min"),
	unary("neg", "Neg"), unary("abs", "Abs"), unary("exp", "Exp"), unary("log", "Log"), unary("sqrt", "Sqrt"), unary("tanh", "Tanh"),
	unary("sigmoid", "Sigmoid"), unary("relu", "Relu"), unary("silu", "Silu"), unary("gelu", "Gelu"), unary("gelu_tanh", "GeluTanh"),
	unary("softplus", "Softplus"),
	{Name: "round", Ops: []string{"round"}, File: "elementwise.cuh", Call: "round<{X}, {Y}>", Params: params(typeX, Param{"Y", Type}),
		Args: args("out", "{Y}*", "x", "const {X}*", "count", "long long"), Unit: Thread, Block: threads},

	{Name: "softmax", Ops: []string{"softmax"}, File: "rows.cuh", Call: "softmax<{X}, {N}>", Params: params(typeX, numbers("N")),
		Args: args("out", "float*", "x", "const {X}*", "rows", "long long"), Unit: Warp, Block: threads},
	{Name: "sum", Ops: []string{"sum"}, File: "rows.cuh", Call: "sum<{X}, {N}>", Params: params(typeX, numbers("N")),
		Args: args("out", "float*", "x", "const {X}*", "rows", "long long"), Unit: Warp, Block: threads},
	{Name: "rms_norm", Ops: []string{"rms_norm"}, File: "rows.cuh", Call: "rms_norm<{X}, {W}, {N}>", Params: params(typeX, typeW, numbers("N")),
		Args: args("out", "float*", "x", "const {X}*", "w", "const {W}*", "rows", "long long", "eps", "double"), Unit: Warp, Block: threads},
	{Name: "layer_norm", Ops: []string{"layer_norm"}, File: "rows.cuh", Call: "layer_norm<{X}, {W}, {B}, {N}>", Params: params(typeX, typeW, Param{"B", Type}, numbers("N")),
		Args: args("out", "float*", "x", "const {X}*", "w", "const {W}*", "b", "const {B}*", "rows", "long long", "eps", "double"), Unit: Warp, Block: threads},

	{Name: "copy", Ops: []string{"copy", "part", "transfer", "own_rows"}, File: "move.cuh", Call: "copy<{E}>", Params: params(wordE),
		Args: args("out", "{E}*", "x", "const {E}*", "count", "long long", "first", "long long"), Unit: Thread, Block: threads},
	{Name: "strided", Ops: []string{"slice", "broadcast", "dispatch"}, File: "move.cuh", Call: "strided<{E}>", Params: params(wordE),
		Args: args("out", "{E}*", "x", "const {E}*", "count", "long long", "from", "int", "to", "int", "inner", "int", "lo", "int", "step", "int"), Unit: Thread, Block: threads},
	{Name: "concat", Ops: []string{"concat", "all_gather"}, File: "move.cuh", Call: "concat<{E}, {PARTS}>", Params: params(wordE, numbers("PARTS")),
		Args: args("out", "{E}*", "parts", "moec::Pointers<{PARTS}>", "extents", "moec::Ints<{PARTS}>", "count", "long long", "whole", "int", "inner", "int"), Unit: Thread, Block: threads},
	{Name: "take_rows", Ops: []string{"take_rows", "embed"}, File: "move.cuh", Call: "take_rows<{E}>", Params: params(wordE),
		Args: args("out", "{E}*", "x", "const {E}*", "rows", "const int*", "count", "long long", "width", "int"), Unit: Thread, Block: threads},
	{Name: "gather", Ops: []string{"gather"}, File: "move.cuh", Call: "gather<{E}>", Params: params(wordE),
		Args: args("out", "{E}*", "x", "const {E}*", "ids", "const int*", "count", "long long", "width", "int", "picks", "int"), Unit: Thread, Block: threads},

	{Name: "matmul", Ops: []string{"matmul", "matmul_nodes"}, File: "matmul.cuh", Call: "matmul<{X}, {W}, {L}, {N}, {K}, {SEGMENTS}, {NODES}>",
		Params: params(typeX, typeW, howL, numbers("N", "K", "SEGMENTS", "NODES")),
		Args:   args("out", "float*", "x", "const {X}*", "w", "const {W}*", "rows", "long long", "cut", segments), Unit: Warp, Block: threads},

	{Name: "rope", Ops: []string{"rope"}, File: "rope.cuh", Call: "rope<{X}, {F}, {HEADS}, {DIM}, {FREQS}, {INTERLEAVED}>",
		Params: params(typeX, Param{"F", Type}, numbers("HEADS", "DIM", "FREQS", "INTERLEAVED")),
		Args:   args("out", "float*", "x", "const {X}*", "positions", "const int*", "freqs", "const {F}*", "tokens", "long long", "scale", "float"), Unit: Thread, Block: threads},
	{Name: "kv_append", Ops: []string{"kv_append"}, File: "attention.cuh", Call: "kv_append<{E}, {HEADS}, {KEY}, {VALUE}, {PAGE}>",
		Params: params(wordE, numbers("HEADS", "KEY", "VALUE", "PAGE")),
		Args: args("cache", "{E}*", "keys", "const {E}*", "values", "const {E}*", "sequences", "const int*", "positions", "const int*",
			"pages", "const int*", "table_width", "int", "count", "long long"), Unit: Thread, Block: threads},
	{Name: "attention", Ops: []string{"attention"}, File: "attention.cuh", Call: "attention<{Q}, {C}, {S}, {HEADS}, {KV_HEADS}, {KEY}, {VALUE}, {PAGE}, {CHUNK}, {BLOCK}>",
		Params: params(Param{"Q", Type}, Param{"C", Type}, Param{"S", Type}, numbers("HEADS", "KV_HEADS", "KEY", "VALUE", "PAGE", "CHUNK")),
		Args: args("out", "float*", "q", "const {Q}*", "cache", "const {C}*", "sequences", "const int*", "positions", "const int*", "sinks", "const {S}*",
			"pages", "const int*", "table_width", "int", "items", "long long", "rule", "moec::Rule"), Unit: Block, Block: attentionBlock},

	{Name: "topk", Ops: []string{"topk"}, File: "topk.cuh", Call: "topk<{X}, {N}, {K}, {GROUPS}, {TOP}, {TWO}>",
		Params: params(typeX, numbers("N", "K", "GROUPS", "TOP", "TWO")),
		Args:   args("out", "int*", "x", "const {X}*", "rows", "long long"), Unit: Thread, Block: threads},
	{Name: "expert_matmul", Ops: []string{"expert_matmul", "expert_matmul_nodes"}, File: "experts.cuh",
		Call:   "expert_matmul<{X}, {W}, {L}, {SLOTS}, {N}, {K}, {TOTAL}, {HELD}, {SEGMENTS}, {NODES}>",
		Params: params(typeX, typeW, howL, numbers("SLOTS", "N", "K", "TOTAL", "HELD", "SEGMENTS", "NODES")),
		Args:   args("out", "float*", "x", "const {X}*", "w", "const {W}*", "ids", "const int*", "rows", "long long", "held", held, "cut", segments), Unit: Warp, Block: threads},
	{Name: "expert_rows", Ops: []string{"expert_rows"}, File: "experts.cuh", Call: "expert_rows<{E}, {SLOTS}, {N}, {TOTAL}, {HELD}>",
		Params: params(wordE, numbers("SLOTS", "N", "TOTAL", "HELD")),
		Args:   args("out", "{E}*", "w", "const {E}*", "ids", "const int*", "count", "long long", "held", held), Unit: Thread, Block: threads},
	{Name: "combine", Ops: []string{"combine", "combine_nodes"}, File: "experts.cuh", Call: "combine<{X}, {W}, {SLOTS}, {N}, {TOTAL}, {HELD}, {SPANS}>",
		Params: params(typeX, typeW, numbers("SLOTS", "N", "TOTAL", "HELD", "SPANS")),
		Args:   args("out", "float*", "x", "const {X}*", "ids", "const int*", "weights", "const {W}*", "tokens", "long long", "held", held, "spans", "moec::Ints<2 * {SPANS}>"), Unit: Thread, Block: threads},

	{Name: "all_reduce", Ops: []string{"all_reduce"}, File: "reduce.cuh", Call: "all_reduce<{X}, {TERMS}, {ROOT}, moec::List<{NODES}>, moec::List<{ADDS}>>",
		Params: params(typeX, numbers("PARTS", "TERMS", "ROOT"), Param{"NODES", Numbers}, Param{"ADDS", Numbers}),
		Args:   args("out", "float*", "parts", "moec::Pointers<{PARTS}>", "count", "long long"), Unit: Thread, Block: threads},

	{Name: "make_up", File: "load.cuh", Call: "make_up<{X}, {L}>", Params: params(typeX, howL),
		Args: args("out", "{X}*", "piece", "moec::Piece"), Unit: Thread, Block: threads},
	{Name: "lay_tiles", File: "load.cuh", Call: "lay_tiles<{X}>", Params: params(typeX),
		Args: args("out", "{X}*", "rows", "const {X}*", "chunks", "long long", "k", "int"), Unit: Thread, Block: threads},
	{Name: "read_all", File: "load.cuh", Call: "read_all",
		Args: args("out", "unsigned*", "from", "const uint4*", "count", "long long"), Unit: Thread, Block: threads},

	{Name: "choose", File: "sample.cuh", Call: "choose",
		Args: args("logits", "float*", "draws", "const moec::Draw*", "vocab", "int", "feed", "moec::Feed"), Unit: Block, Block: chooseThreads},

	{Name: "decode", File: "decode.cuh",
		Call:   "decode<moec::Model<{X}, {LAYERS}, {HIDDEN}, {HEADS}, {KV_HEADS}, {DIM}, {FFN}, {EXPERTS}, {TOP}, {VOCAB}, {PAGE}, {CHUNK}, {OUT_SEGMENTS}, {DOWN_SEGMENTS}>>",
		Params: params(typeX, numbers("LAYERS", "HIDDEN", "HEADS", "KV_HEADS", "DIM", "FFN", "EXPERTS", "TOP", "VOCAB", "PAGE", "CHUNK", "OUT_SEGMENTS", "DOWN_SEGMENTS")),
		Args:   args("d", "moec::Decoder"), Unit: Whole, Block: decodeThreads, Shared: decodeShared, Arch: hopper},

	{Name: "prefill_begin", File: "prefill.cuh", Call: "prefill_begin<{PAIRS}, {PAGE}>", Params: numbers("PAIRS", "PAGE"),
		Args: args("turns", "float2*", "places", "int*", "positions", "const int*", "sequences", "const int*", "pages", "const int*", "freqs", "const float*",
			"table_width", "int", "count", "long long"), Unit: Thread, Block: threads, Arch: hopper},
	{Name: "prefill_embed", File: "prefill.cuh", Call: "prefill_embed<{X}, {HIDDEN}>", Params: params(typeX, numbers("HIDDEN")),
		Args: args("x", "{X}*", "normed", "{X}*", "tokens", "const int*", "embedding", "const {X}*", "norm", "const {X}*", "rows", "int", "eps", "double"),
		Unit: Block, Block: threads, Arch: hopper},
	{Name: "prefill_sum", File: "prefill.cuh", Call: "prefill_sum<{X}, {HIDDEN}, {TOP}>", Params: params(typeX, numbers("HIDDEN", "TOP")),
		Args: args("x", "{X}*", "normed", "{X}*", "middle", "const {X}*", "expert_out", "const {X}*", "shares", "const float*", "norm", "const {X}*", "rows", "int",
			"eps", "double"), Unit: Block, Block: threads, Arch: hopper},
	{Name: "prefill_route", File: "prefill.cuh", Call: "prefill_route<{X}, {HIDDEN}, {EXPERTS}, {TOP}>", Params: params(typeX, numbers("HIDDEN", "EXPERTS", "TOP")),
		Args: args("middle", "{X}*", "normed", "{X}*", "chosen", "int*", "shares", "float*", "x", "const {X}*", "projected", "const {X}*", "norm", "const {X}*",
			"router", "const {X}*", "rows", "int", "eps", "double"), Unit: Block, Block: threads, Arch: hopper},
	{Name: "flash", File: "flash_attention.cuh", Call: "flash<{X}, {X}, float, {HEADS}, {KV_HEADS}, {PAGE}, 0>", Params: params(typeX, numbers("HEADS", "KV_HEADS", "PAGE")),
		Args: args("out", "{X}*", "q", "const {X}*", "cache", "const {X}*", "sequences", "const int*", "positions", "const int*", "sinks", "const float*",
			"pages", "const int*", "table_width", "int", "tokens", "int", "rule", "moec::Rule"), Unit: Block, Block: gemmThreads, Arch: hopper},
	{Name: "gemm", File: "gemm_wgmma.cuh", Call: "gemm<{X}, {X}, {N}, {K}, {SEGMENTS}, {BN}, {STAGES}, 1>", Params: params(typeX, numbers("N", "K", "SEGMENTS", "BN", "STAGES")),
		Args: args("out", "float*", "x", "const {X}*", "w", "const {X}*", "rows", "long long", "cut", uncut), Unit: Block, Block: gemmThreads, Arch: hopper},
	{Name: "gemm_round", File: "gemm_wgmma.cuh", Call: "gemm_round<{X}, {X}, {N}, {K}, {SEGMENTS}, {BN}, {STAGES}, 1>",
		Params: params(typeX, numbers("N", "K", "SEGMENTS", "BN", "STAGES")),
		Args:   args("out", "{X}*", "x", "const {X}*", "w", "const {X}*", "rows", "long long", "cut", uncut), Unit: Block, Block: gemmThreads, Arch: hopper},
	{Name: "gemm_heads", File: "gemm_wgmma.cuh", Call: "gemm_heads<{X}, {HEADS}, {KV_HEADS}, {K}, {BN}, {STAGES}>", Params: params(typeX, numbers("HEADS", "KV_HEADS", "K", "BN", "STAGES")),
		Args: args("query", "{X}*", "cache", "{X}*", "x", "const {X}*", "w", "const {X}*", "turns", "const float2*", "places", "const int*", "rows", "long long"),
		Unit: Block, Block: gemmThreads, Arch: hopper},
	{Name: "list_slots", File: "gemm_grouped.cuh", Call: "list_slots<{SLOTS}, {TOTAL}, {HELD}, {BLOCK}>", Params: numbers("SLOTS", "TOTAL", "HELD"),
		Args: args("starts", "int*", "list", "int*", "ids", "const int*", "slots", "int", "capacity", "int", "held", held), Unit: Block, Block: listThreads, Arch: hopper},
	{Name: "fill_panels", File: "gemm_grouped.cuh", Call: "fill_panels<{X}, {SHARE}, {K}>", Params: params(typeX, numbers("SHARE", "K")),
		Args: args("panels", "{X}*", "x", "const {X}*", "list", "const int*", "rows", "long long"), Unit: Thread, Block: threads, Arch: hopper},
	{Name: "grouped_gate", File: "gemm_grouped.cuh", Call: "grouped_gate<moec::QuickSilu, {X}, {X}, {N}, {K}, {HELD}, {CAP}, {STAGES}>",
		Params: params(typeX, numbers("N", "K", "HELD", "CAP", "STAGES")),
		Args:   args("out", "{X}*", "x", "const {X}*", "w", "const {X}*", "starts", "const int*", "list", "const int*", "rows", "long long"), Unit: Block, Block: gemmThreads, Arch: hopper},
	{Name: "grouped_round", File: "gemm_grouped.cuh", Call: "grouped_round<{X}, {X}, {N}, {K}, {HELD}, {CAP}, {STAGES}, {SEGMENTS}>",
		Params: params(typeX, numbers("N", "K", "HELD", "CAP", "STAGES", "SEGMENTS")),
		Args:   args("out", "{X}*", "x", "const {X}*", "w", "const {X}*", "starts", "const int*", "list", "const int*", "rows", "long long", "cut", uncut),
		Unit:   Block, Block: gemmThreads, Arch: hopper},
}
