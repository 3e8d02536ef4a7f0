package dsl

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"moec/ir"
	"moec/ir/diag"
	"moec/ir/tensor"
)

// value is what an expression gives: int64, layerNumber, float64, bool,
// string, nil for none, []value, tensor.DType, *table, *tensorValue, or poison
// where an error has been reported already.
type value any

// layerNumber is the variable of the loop over layers. It counts as int64,
// and in a key "{layer}" it stays a pattern, so that layers can be told to be
// alike.
type layerNumber int64

// poison stands for the value of something wrong. It silences what follows.
type poison struct{}

// table is a list of f32 numbers computed by the compiler, with a factor that
// goes with it: the frequencies of a rotary embedding.
type table struct {
	values []float32
	factor float64
	node   *ir.Node // once it is part of the graph
}

// maxInt bounds whole numbers, so that they are exact as reals too.
const maxInt = 1 << 53

// extent is the size of one axis and the way its author wrote it.
type extent struct {
	n    int
	sym  tensor.Sym // not empty for the tokens of a step
	text string     // "heads*head_dim"; "" when only the number is known
}

func (e extent) same(f extent) bool { return e.n == f.n && e.sym == f.sym }

// isOne reports whether the axis can be repeated to match another.
func (e extent) isOne() bool { return e.sym == "" && e.n == 1 }

// String prints "hidden = 4096", "tokens" or "4096".
func (e extent) String() string {
	switch {
	case e.sym != "":
		return tokensName
	case e.text == "" || e.text == strconv.Itoa(e.n):
		return strconv.Itoa(e.n)
	}
	return e.text + " = " + strconv.Itoa(e.n)
}

// shape is a list of extents as the author sees them: without the axes for
// experts and slots that lowering adds.
type shape []extent

func (s shape) String() string {
	parts := make([]string, len(s))
	for i, e := range s {
		parts[i] = e.String()
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func (s shape) last() extent {
	if len(s) == 0 {
		return extent{n: 1}
	}
	return s[len(s)-1]
}

func (s shape) with(axis int, e extent) shape {
	t := append(shape(nil), s...)
	t[axis] = e
	return t
}

// ints returns constant extents.
func (s shape) ints() []int {
	out := make([]int, len(s))
	for i, e := range s {
		out[i] = e.n
	}
	return out
}

// rowed reports whether the first axis is the tokens of a step.
func (s shape) rowed() bool { return len(s) > 0 && s[0].sym != "" }

// tensorValue is a value of the running model.
type tensorValue struct {
	node  *ir.Node
	shape shape
	// slots: inside an expert body, the graph has an axis for a token's slots
	// after the tokens.
	slots bool
	// expert is set for a weight that each expert has its own of; the graph's
	// value then has the experts as its first axis.
	expert *expertBody
	weight bool // a weight or made of weights alone: never rounded
	loose  bool // f32 that nothing has named or rounded yet
	among  int  // for choices: how many there were to choose from
	origin origin
}

// origin says where a value comes from, for messages.
type origin struct {
	what string // "weight wq"
	at   diag.Pos
}

// dtype returns the element type in the graph.
func (t *tensorValue) dtype() tensor.DType { return t.node.Type.DType }

// String prints "bf16 [tokens, hidden = 4096]".
func (t *tensorValue) String() string { return t.dtype().String() + " " + t.shape.String() }

// axis converts an axis of the shape to one of the graph's value.
func (t *tensorValue) axis(i int) int {
	if t.expert != nil || t.slots && i > 0 {
		return i + 1
	}
	return i
}

// derived returns a value of the graph that was computed from t.
func (t *tensorValue) derived(n *ir.Node, s shape) *tensorValue {
	return &tensorValue{node: n, shape: s, slots: t.slots, weight: t.weight, loose: n.Type.DType == tensor.F32}
}

// whole returns v as a whole number.
func whole(v value) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case layerNumber:
		return int64(v), true
	}
	return 0, false
}

// number returns v as a real number.
func number(v value) (float64, bool) {
	if n, ok := whole(v); ok {
		return float64(n), true
	}
	x, ok := v.(float64)
	return x, ok
}

// kindOf names the kind of a value.
func kindOf(v value) string {
	switch v := v.(type) {
	case int64, layerNumber:
		return "a whole number"
	case float64:
		return "a real number"
	case bool:
		return "true or false"
	case string:
		return "a text"
	case nil:
		return "none"
	case []value:
		return "a list"
	case tensor.DType:
		return "an element type"
	case *table:
		return "a table of frequencies"
	case *tensorValue:
		if v.weight {
			return "a weight"
		}
		return "a tensor"
	}
	return "nothing"
}

// show prints a value that is known when compiling.
func show(v value) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case string:
		return strconv.Quote(shorten(v))
	case float64:
		return showReal(v)
	case []value:
		return showList(v)
	case *table:
		return fmt.Sprintf("%d frequencies", len(v.values))
	case *tensorValue:
		return v.String()
	}
	return fmt.Sprint(v)
}

// showReal prints a real so that it cannot be taken for a whole number.
func showReal(x float64) string {
	s := strconv.FormatFloat(x, 'g', -1, 64)
	if !strings.ContainsAny(s, ".eIN") {
		s += ".0"
	}
	return s
}

func showList(list []value) string {
	const shown = 6
	var parts []string
	for i, v := range list {
		if i == shown {
			parts = append(parts, fmt.Sprintf("... %d in all", len(list)))
			break
		}
		parts = append(parts, show(v))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// equal compares values that are known when compiling; a whole number equals
// the real of the same size.
func equal(a, b value) bool {
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x == y
	}
	if la, ok := a.([]value); ok {
		lb, ok := b.([]value)
		return ok && slices.EqualFunc(la, lb, equal)
	}
	return plain(a) && plain(b) && a == b
}

// plain reports whether a value can be compared with ==.
func plain(v value) bool {
	switch v.(type) {
	case nil, bool, string, tensor.DType:
		return true
	}
	return false
}

// finite reports whether x is a number that fits everywhere.
func finite(x float64) bool { return !math.IsInf(x, 0) && !math.IsNaN(x) }
