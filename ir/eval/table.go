package eval

import "moec/ir/arith"

// table has a row for each op, in the order of the op table.
func table() map[string]Func {
	return map[string]Func{
		"input":  input,
		"const":  constant,
		"weight": weight,
		"param":  param,

		"add": binary(func(a, b float32) float32 { return a + b }),
		"sub": binary(func(a, b float32) float32 { return a - b }),
		"mul": binary(func(a, b float32) float32 { return float32(a * b) }),
		"div": binary(func(a, b float32) float32 { return a / b }),
		"max": binary(func(a, b float32) float32 { return max(a, b) }),
		"min": binary(func(a, b float32) float32 { return min(a, b) }),

		"neg":       unary(arith.Neg),
		"abs":       unary(arith.Abs),
		"exp":       unary(arith.Exp),
		"log":       unary(arith.Log),
		"sqrt":      unary(arith.Sqrt),
		"tanh":      unary(arith.Tanh),
		"sigmoid":   unary(arith.Sigmoid),
		"relu":      unary(arith.Relu),
		"silu":      unary(arith.Silu),
		"gelu":      unary(arith.Gelu),
		"gelu_tanh": unary(arith.GeluTanh),
		"softplus":  unary(arith.Softplus),
		"round":     round,

		"softmax":    softmax,
		"sum":        sum,
		"rms_norm":   rmsNorm,
		"layer_norm": layerNorm,

		"reshape":   reshape,
		"part":      asPart,
		"slice":     slice,
		"concat":    concat,
		"broadcast": broadcast,
		"take_rows": takeRows,
		"embed":     embed,
		"gather":    gather,

		"matmul":       matmul,
		"matmul_nodes": matmul,

		"rope":      rope,
		"kv_append": kvAppend,
		"attention": attention,

		"topk":                topk,
		"dispatch":            dispatch,
		"expert_matmul":       expertMatmul,
		"expert_matmul_nodes": expertMatmul,
		"expert_rows":         expertRows,
		"combine":             combine,
		"combine_nodes":       combineNodes,

		"all_reduce": allReduce,
		"all_gather": concat,
		"transfer":   reshape,
		"own_rows":   ownRows,

		"pack":  concat,
		"fused": fused,
	}
}
