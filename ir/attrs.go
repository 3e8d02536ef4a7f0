package ir

import (
	"slices"

	"moec/ir/tensor"
)

// AttrKind is the kind of an attribute's value.
type AttrKind uint8

// The kinds, each with the Go type of its values.
const (
	Int    AttrKind = iota // int
	Float                  // float64
	Text                   // string
	Ints                   // []int
	Sets                   // [][]int
	Floats                 // []float32
	DTypes                 // tensor.DType
	Body                   // *Graph: the unfused operations of a fused one
)

// String names the kind as in "moec ops".
func (k AttrKind) String() string {
	return [...]string{"int", "float", "text", "ints", "sets", "floats", "dtype", "body"}[k]
}

// Attr is one attribute of a node.
type Attr struct {
	Name  string
	Value any // of the Go type of its kind
}

// Attrs is a list of attributes sorted by name.
type Attrs []Attr

// MakeAttrs builds a list from pairs in any order.
func MakeAttrs(list ...Attr) Attrs {
	slices.SortFunc(list, func(a, b Attr) int {
		if a.Name < b.Name {
			return -1
		}
		if a.Name > b.Name {
			return 1
		}
		return 0
	})
	return list
}

// Get returns the value of an attribute, or nil.
func (a Attrs) Get(name string) any {
	for _, at := range a {
		if at.Name == name {
			return at.Value
		}
	}
	return nil
}

// Has reports whether the attribute is given.
func (a Attrs) Has(name string) bool { return a.Get(name) != nil }

// With returns a copy of a with the attribute set.
func (a Attrs) With(name string, value any) Attrs {
	return MakeAttrs(append(a.Without(name), Attr{name, value})...)
}

// Without returns a copy of a that lacks the attribute.
func (a Attrs) Without(name string) Attrs {
	out := make(Attrs, 0, len(a)+1)
	for _, at := range a {
		if at.Name != name {
			out = append(out, at)
		}
	}
	return out
}

// Int returns an integer attribute, or def when it is not given.
func (a Attrs) Int(name string, def int) int {
	if v, ok := a.Get(name).(int); ok {
		return v
	}
	return def
}

// Float returns a real attribute, or def when it is not given.
func (a Attrs) Float(name string, def float64) float64 {
	if v, ok := a.Get(name).(float64); ok {
		return v
	}
	return def
}

// Text returns a text attribute, or "" when it is not given.
func (a Attrs) Text(name string) string { v, _ := a.Get(name).(string); return v }

// Ints returns a list attribute, or nil when it is not given.
func (a Attrs) Ints(name string) []int { v, _ := a.Get(name).([]int); return v }

// Sets returns a list of lists, or nil when it is not given.
func (a Attrs) Sets(name string) [][]int { v, _ := a.Get(name).([][]int); return v }

// Floats returns a table of constants, or nil when it is not given.
func (a Attrs) Floats(name string) []float32 { v, _ := a.Get(name).([]float32); return v }

// DType returns an element type, or tensor.Invalid when it is not given.
func (a Attrs) DType(name string) tensor.DType { v, _ := a.Get(name).(tensor.DType); return v }

// Body returns the unfused operations, or nil when the op is not fused.
func (a Attrs) Body() *Graph { v, _ := a.Get("body").(*Graph); return v }

// kindOf returns the kind of a Go value, and whether it is one.
func kindOf(value any) (AttrKind, bool) {
	switch value.(type) {
	case int:
		return Int, true
	case float64:
		return Float, true
	case string:
		return Text, true
	case []int:
		return Ints, true
	case [][]int:
		return Sets, true
	case []float32:
		return Floats, true
	case tensor.DType:
		return DTypes, true
	case *Graph:
		return Body, true
	}
	return 0, false
}
