package ir

import (
	"fmt"
	"math"
	"slices"
)

// Equal reports whether two graphs are the same in every field, and if not,
// says what the first difference is. Empty and absent lists are the same, and
// so are all NaNs.
func Equal(a, b *Graph) (string, bool) {
	why := compareGraphs(a, b)
	return why, why == ""
}

// differ says that what is x in one graph and y in the other.
func differ[T comparable](what string, x, y T) string {
	if x == y {
		return ""
	}
	return fmt.Sprintf("%s is %v in one and %v in the other", what, x, y)
}

// firstOf returns the first difference.
func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

func compareGraphs(a, b *Graph) string {
	why := firstOf(
		differ("name", a.Name, b.Name),
		differ("level", a.Level, b.Level),
		differ("devices", a.Devices, b.Devices),
		differ("groups", a.Groups, b.Groups),
		differ("layers", a.Layers, b.Layers),
		differ("numerics", a.Numerics, b.Numerics),
		differ("number of weights", len(a.Weights), len(b.Weights)),
		differ("number of caches", len(a.Caches), len(b.Caches)),
		differ("number of nodes", len(a.Nodes), len(b.Nodes)),
		differ("number of outputs", len(a.Outputs), len(b.Outputs)),
		differ("next ID", a.nextID, b.nextID))
	for i := 0; why == "" && i < len(a.Weights); i++ {
		why = compareWeights(a.Weights[i], b.Weights[i])
	}
	for i := 0; why == "" && i < len(a.Caches); i++ {
		why = differ(fmt.Sprintf("cache %q", a.Caches[i].Name), *a.Caches[i], *b.Caches[i])
	}
	for i := 0; why == "" && i < len(a.Nodes); i++ {
		why = compareNodes(a.Nodes[i], b.Nodes[i])
	}
	for i := 0; why == "" && i < len(a.Outputs); i++ {
		x, y := a.Outputs[i], b.Outputs[i]
		what := fmt.Sprintf("output %d", i)
		why = firstOf(differ(what+" name", x.Name, y.Name), differ(what+" group", x.Group, y.Group),
			differ(what+" value", label(x.Value), label(y.Value)))
	}
	return why
}

func compareWeights(a, b *Weight) string {
	what := fmt.Sprintf("weight %q ", a.Name)
	return firstOf(
		differ(what+"name", a.Name, b.Name),
		differ(what+"layer", a.Layer, b.Layer),
		differ(what+"type", a.DType, b.DType),
		differ(what+"shape", fmt.Sprint(a.Shape), fmt.Sprint(b.Shape)),
		differ(what+"experts", a.Experts, b.Experts),
		differ(what+"key", a.Source.Key, b.Source.Key),
		differ(what+"stored shape", fmt.Sprint(a.Source.Stored), fmt.Sprint(b.Source.Stored)),
		differ(what+"view", fmt.Sprint(a.Source.View), fmt.Sprint(b.Source.View)),
		differ(what+"transposition", a.Source.Transposed, b.Source.Transposed))
}

// label names a value in messages.
func label(n *Node) string {
	if n == nil {
		return "nothing"
	}
	return fmt.Sprintf("%%%d", n.id)
}

func compareNodes(a, b *Node) string {
	what := label(a) + " "
	why := firstOf(
		differ("node", label(a), label(b)),
		differ(what+"op", a.Op, b.Op))
	if why != "" && a.Op != b.Op && a.Op != nil && b.Op != nil {
		return differ(what+"op", a.Op.Name, b.Op.Name)
	}
	if why != "" {
		return why
	}
	why = firstOf(
		differ(what+"number of operands", len(a.Args), len(b.Args)),
		differ(what+"type", a.Type.String(), b.Type.String()),
		differ(what+"layer", a.Layer, b.Layer),
		differ(what+"device", a.Device, b.Device),
		differ(what+"group", a.Group, b.Group),
		differ(what+"block", a.Block, b.Block),
		differ(what+"name", a.Name, b.Name),
		differ(what+"position", a.Pos, b.Pos),
		differ(what+"number of attributes", len(a.Attrs), len(b.Attrs)))
	for i := 0; why == "" && i < len(a.Args); i++ {
		why = differ(fmt.Sprintf("%soperand %d", what, i), label(a.Args[i]), label(b.Args[i]))
	}
	for i := 0; why == "" && i < len(a.Attrs); i++ {
		x, y := a.Attrs[i], b.Attrs[i]
		why = differ(what+"attribute", x.Name, y.Name)
		if why == "" && !sameValue(x.Value, y.Value) {
			why = what + "attribute " + x.Name + compareValues(x.Value, y.Value)
		}
	}
	return why
}

// compareValues says how two attribute values differ.
func compareValues(x, y any) string {
	a, okA := x.(*Graph)
	b, okB := y.(*Graph)
	if okA && okB && a != nil && b != nil {
		return ": " + compareGraphs(a, b)
	}
	return fmt.Sprintf(" is %v in one and %v in the other", x, y)
}

// sameValue compares attribute values, floats by their bits.
func sameValue(x, y any) bool {
	switch a := x.(type) {
	case float64:
		b, ok := y.(float64)
		return ok && (math.Float64bits(a) == math.Float64bits(b) || a != a && b != b)
	case []int:
		b, ok := y.([]int)
		return ok && slices.Equal(a, b)
	case [][]int:
		b, ok := y.([][]int)
		return ok && slices.EqualFunc(a, b, slices.Equal[[]int])
	case []float32:
		b, ok := y.([]float32)
		return ok && slices.EqualFunc(a, b, func(u, v float32) bool {
			return math.Float32bits(u) == math.Float32bits(v) || u != u && v != v
		})
	case *Graph:
		b, ok := y.(*Graph)
		if !ok || a == nil || b == nil {
			return ok && a == b
		}
		return compareGraphs(a, b) == ""
	}
	return x == y
}
