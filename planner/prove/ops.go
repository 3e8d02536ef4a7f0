package prove

import (
	"fmt"
	"math"

	"moec/ir"
	"moec/ir/tensor"
	"moec/ir/tree"
)

// spec is an operation apart from its operands: what a node of a graph and the
// steps made from it have in common.
type spec struct {
	op     string
	attrs  ir.Attrs
	fn     kernel
	salt   uint64      // names the uninterpreted function
	factor int         // by which the extent that numbers among the attributes index was divided
	rows   tensor.Sym  // of the first operand
	spans  []tree.Span // of the result's entries, if they are parts of a sum
	sums   *contraction
	held   *holdings
	total  int // experts of the layer
}

// kernel computes one op.
type kernel func(c *call) error

// call is one application of a spec.
type call struct {
	*spec
	*env
	args []*array
	out  *array // allocated, all zeros
	// undefined is what rows hold that nobody may read.
	undefined func() uint64
}

// env is what calls share during a step.
type env struct {
	fast    bool // sums may be rounded anywhere, so rounding does not count
	seed    uint64
	bounds  tensor.Bounds
	choices *choices
	copies  int // of an expert, at most
	groups  int
	local   bool // token groups have experts of their own
	round   int  // number of the step
	// choose says that choices are made here; elsewhere they are looked up.
	choose bool
	node   int // the layer's topk, when choices are made
}

// attributes that make another function of an uninterpreted op. The others
// only say which elements are combined.
var salted = []string{"eps", "scale", "softcap", "window", "chunk", "k", "groups", "top_groups", "group_score", "style"}

// newSpec prepares an op. The operands' types are those of full size; factor
// is that of the axis which numbers among its attributes count along.
func newSpec(op string, attrs ir.Attrs, args []tensor.Type, factor int, e *env) (*spec, error) {
	s := &spec{op: op, attrs: attrs, fn: kernels[op], factor: factor, total: attrs.Int("total", 0)}
	if s.fn == nil && op != "kv_append" && op != "attention" { // those work on a cache
		return nil, fmt.Errorf("op %q has no meaning in a plan", op)
	}
	s.salt = mixText(e.seed, op)
	relevant := meaning(op, attrs)
	for _, name := range salted {
		if v := relevant.Get(name); v != nil {
			s.salt = mixText(s.salt, fmt.Sprintf("%s %v", name, v))
		}
	}
	if len(args) > 0 && len(args[0].Shape) > 0 {
		s.rows = args[0].Shape[0].Sym
	}
	if attrs.Has("experts") {
		s.held = newHoldings(attrs)
	}
	n := &ir.Node{Attrs: attrs}
	switch op {
	case "matmul", "expert_matmul", "matmul_nodes", "expert_matmul_nodes":
		s.sums = newContraction(attrs, args[0].Shape.Last().N, factor, e)
		if attrs.Has("leaf") {
			s.spans = n.LocalSpans()
		}
	case "combine_nodes":
		s.spans = n.ExpertSpans()
	}
	return s, nil
}

// kernels has a row for each op that a logical graph or a step may have, but
// those that only name what is there, and fused ones, whose body runs.
var kernels = map[string]kernel{
	"add": binary(add), "sub": binary(sub), "mul": binary(mul), "div": binary(func(a, b uint64) uint64 { return mul(a, inverse(b)) }),
	"max": pairwise, "min": pairwise,

	"neg": unary(neg), "abs": absolute,
	"exp": uninterpreted, "log": uninterpreted, "sqrt": uninterpreted, "tanh": uninterpreted, "sigmoid": uninterpreted,
	"relu": uninterpreted, "silu": uninterpreted, "gelu": uninterpreted, "gelu_tanh": uninterpreted, "softplus": uninterpreted,
	"round": round,

	"softmax": softmax, "sum": sum, "rms_norm": rmsNorm, "layer_norm": layerNorm,

	"reshape": same, "copy": same, "transfer": same, "part": same,
	"slice": slice, "concat": concat, "all_gather": concat, "broadcast": broadcast,
	"take_rows": takeRows, "embed": embed, "gather": gather, "own_rows": ownRows,

	"matmul": matmul, "matmul_nodes": matmul,
	"rope": rope,
	"topk": topk, "dispatch": dispatch, "expert_matmul": expertMatmul, "expert_matmul_nodes": expertMatmul, "expert_rows": expertRows,
	"combine": combine, "combine_nodes": combineNodes,
	"all_reduce": allReduce, "send": func(*call) error { return nil },
}

func unary(f func(uint64) uint64) kernel {
	return func(c *call) error {
		for i, x := range c.args[0].data {
			c.out.data[i] = f(x)
		}
		return nil
	}
}

// uninterpreted is an op of which nothing is known but its name.
func uninterpreted(c *call) error {
	for i, x := range c.args[0].data {
		c.out.data[i] = hash(c.salt, x)
	}
	return nil
}

// absolute is an unknown function of x that is the same at -x.
func absolute(c *call) error {
	for i, x := range c.args[0].data {
		c.out.data[i] = hash(c.salt, min(x, neg(x)))
	}
	return nil
}

// round is an unknown function of x and the type, and x itself where x has the
// type already, or every number has it.
func round(c *call) error {
	d := c.attrs.DType("dtype")
	if c.fast || d == tensor.F32 || d == c.args[0].dtype {
		copy(c.out.data, c.args[0].data)
		return nil
	}
	salt := mixText(c.salt, d.String())
	for i, x := range c.args[0].data {
		c.out.data[i] = hash(salt, x)
	}
	return nil
}

// pairwise is max or min: unknown functions that do not care for order.
func pairwise(c *call) error {
	return binary(func(a, b uint64) uint64 {
		switch {
		case isPoison(a) || isPoison(b):
			return either(a, b)
		case a == b:
			return a
		case a > b:
			a, b = b, a
		}
		return hash(mixIn(c.salt, a), b)
	})(c)
}

// binary applies f to pairs of elements. Extents are aligned at the last axes;
// an operand whose extent is 1, or that lacks the axis, is repeated.
func binary(f func(a, b uint64) uint64) kernel {
	return func(c *call) error {
		a, b, out := c.args[0], c.args[1], c.out.data
		if len(a.data) == len(out) && len(b.data) == len(out) {
			for i := range out {
				out[i] = f(a.data[i], b.data[i])
			}
			return nil
		}
		stepA, stepB := strides(c.out.dims, a.dims), strides(c.out.dims, b.dims)
		index := make([]int, len(c.out.dims))
		at, bt := 0, 0
		for i := range out {
			out[i] = f(a.data[at], b.data[bt])
			for axis := len(index) - 1; axis >= 0; axis-- {
				n := c.out.dims[axis]
				index[axis]++
				at, bt = at+stepA[axis], bt+stepB[axis]
				if index[axis] < n {
					break
				}
				at, bt = at-n*stepA[axis], bt-n*stepB[axis]
				index[axis] = 0
			}
		}
		return nil
	}
}

// strides returns how far apart neighbours along each axis of out are in v: 0
// where v is repeated.
func strides(out, v []int) []int {
	list := make([]int, len(out))
	shift, step := len(out)-len(v), 1
	for axis := len(v) - 1; axis >= 0; axis-- {
		if v[axis] != 1 {
			list[shift+axis] = step
			step *= v[axis]
		}
	}
	return list
}

// softmax is E(x) over the sum of the row's E, with E an unknown function.
func softmax(c *call) error {
	for r := range c.out.rows() {
		dst, total := c.out.row(r), uint64(0)
		for i, x := range c.args[0].row(r) {
			dst[i] = hash(c.salt, x)
			total = add(total, dst[i])
		}
		total = inverse(total)
		for i := range dst {
			dst[i] = mul(dst[i], total)
		}
	}
	return nil
}

func sum(c *call) error {
	for r := range c.out.data {
		c.out.data[r] = total(c.args[0].row(r))
	}
	return nil
}

func total(list []uint64) uint64 {
	t := uint64(0)
	for _, x := range list {
		t = add(t, x)
	}
	return t
}

// optional returns operand i, or nil.
func (c *call) optional(i int) []uint64 {
	if i < len(c.args) {
		return c.args[i].data
	}
	return nil
}

// rmsNorm is x times an unknown function of the sum of squares, times w.
func rmsNorm(c *call) error {
	w := c.optional(1)
	for r := range c.out.rows() {
		x := c.args[0].row(r)
		scaleRow(c.out.row(r), x, hash(c.salt, dot(x, x)), w)
	}
	return nil
}

// layerNorm is like rmsNorm of x less its mean, plus b.
func layerNorm(c *call) error {
	w, b := c.optional(1), c.optional(2)
	for r := range c.out.rows() {
		dst, x := c.out.row(r), c.args[0].row(r)
		mean := mul(total(x), inverse(uint64(len(x))))
		for i := range x {
			dst[i] = sub(x[i], mean)
		}
		scaleRow(dst, dst, hash(c.salt, dot(dst, dst)), w)
		for i := range b {
			dst[i] = add(dst[i], b[i])
		}
	}
	return nil
}

func scaleRow(dst, x []uint64, by uint64, w []uint64) {
	for i := range dst {
		dst[i] = mul(x[i], by)
		if w != nil {
			dst[i] = mul(dst[i], w[i])
		}
	}
}

// constant returns the number that stands for a real one. The signs of numbers
// and what is 0 or 1 are kept, nothing else.
func constant(seed uint64, v float32) uint64 {
	var x uint64
	switch abs := float32(math.Abs(float64(v))); abs {
	case 0, 1:
		x = uint64(abs)
	default:
		x = number(mixIn(mixText(seed, "const"), uint64(math.Float32bits(abs))))
	}
	if v < 0 {
		return neg(x)
	}
	return x
}
