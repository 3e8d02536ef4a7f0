package host

import "moec/ir/arith"

// kernels has an entry for every op that a plan's step may have. Ops that
// only describe residents (input, weight, const, pack, param), reshape, which
// is another type for the same memory, and fused, whose body runs, have none.
var kernels = map[string]kernel{
	"add": binary(func(a, b float32) float32 { return a + b }),
	"sub": binary(func(a, b float32) float32 { return a - b }),
	"mul": binary(func(a, b float32) float32 { return a * b }),
	"div": binary(func(a, b float32) float32 { return a / b }),
	"max": binary(func(a, b float32) float32 { return max(a, b) }),
	"min": binary(func(a, b float32) float32 { return min(a, b) }),

	"neg": unary(arith.Neg), "abs": unary(arith.Abs), "exp": unary(arith.Exp), "log": unary(arith.Log), "sqrt": unary(arith.Sqrt),
	"tanh": unary(arith.Tanh), "sigmoid": unary(arith.Sigmoid), "relu": unary(arith.Relu), "silu": unary(arith.Silu),
	"gelu": unary(arith.Gelu), "gelu_tanh": unary(arith.GeluTanh), "softplus": unary(arith.Softplus),
	"round": runRound,

	"softmax":    byRow(func(_ *call, dst, x []float32) { arith.Softmax(dst, x) }),
	"sum":        byRow(func(_ *call, dst, x []float32) { dst[0] = arith.Sum(x) }),
	"rms_norm":   normed(func(dst, x, w, _ []float32, eps float64) { arith.RMSNorm(dst, x, w, eps) }),
	"layer_norm": normed(arith.LayerNorm),
	"rope":       runRope,
	"topk":       runTopK,

	"slice": runSlice, "concat": runConcat, "broadcast": runBroadcast, "take_rows": runTakeRows, "embed": runEmbed,
	"gather": runGather, "dispatch": runDispatch, "own_rows": runOwnRows, "copy": runCopy, "part": runCopy,

	"matmul": runMatmul, "matmul_nodes": runMatmul,
	"kv_append": runAppend, "attention": runAttention,
	"expert_matmul": runExpertMatmul, "expert_matmul_nodes": runExpertMatmul, "expert_rows": runExpertRows,
	"combine": runCombine, "combine_nodes": runCombineNodes,

	"all_reduce": runAllReduce, "all_gather": runConcat, "transfer": runCopy, "send": func(*call) {},
}
