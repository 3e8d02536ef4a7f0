// Package tensor holds the types of values: element type and shape.
//
// It has no storage and no arithmetic. Every other package may import it.
package tensor

import (
	"fmt"
	"strconv"
	"strings"
)

// DType is an element type.
type DType uint8

// Element types. Arithmetic is done in F32; BF16 and F16 are storage types.
const (
	Invalid DType = iota
	F32
	BF16
	F16
	I32
)

// dtypes has a row for each element type, indexed by DType.
var dtypes = [...]struct {
	name  string
	bytes int
}{
	Invalid: {"invalid", 0},
	F32:     {"f32", 4},
	BF16:    {"bf16", 2},
	F16:     {"f16", 2},
	I32:     {"i32", 4},
}

// String returns the name used in the IR text, plans and descriptions.
func (d DType) String() string {
	if int(d) < len(dtypes) {
		return dtypes[d].name
	}
	return dtypes[Invalid].name
}

// Bytes returns the size of one element.
func (d DType) Bytes() int {
	if int(d) < len(dtypes) {
		return dtypes[d].bytes
	}
	return 0
}

// Float reports whether d is a floating-point type.
func (d DType) Float() bool { return d == F32 || d == BF16 || d == F16 }

// ParseDType is the inverse of DType.String.
func ParseDType(name string) (DType, bool) {
	for d, row := range dtypes {
		if DType(d) != Invalid && row.name == name {
			return DType(d), true
		}
	}
	return Invalid, false
}

// Sym is an extent that only a step knows. A shape has at most one, and it
// comes first unless the value is a stack of partial sums.
type Sym string

// The extents of a step. Where tokens are divided between groups of devices,
// group g has its own T.g and S.g, and T and S are their sums.
const (
	Tokens Sym = "T" // tokens of the step
	Rows   Sym = "S" // rows whose logits are wanted
	Cached Sym = "C" // positions kept in a KV cache; resident, never a buffer
)

// Of returns the symbol of group g: "T.1" for Tokens.Of(1).
func (s Sym) Of(group int) Sym { return Sym(string(s) + "." + strconv.Itoa(group)) }

// Base returns the symbol without its group.
func (s Sym) Base() Sym {
	base, _, _ := strings.Cut(string(s), ".")
	return Sym(base)
}

// Group returns the group of s, or -1 when s counts all groups.
func (s Sym) Group() int {
	_, g, ok := strings.Cut(string(s), ".")
	if !ok {
		return -1
	}
	n, err := strconv.Atoi(g)
	if err != nil {
		return -1
	}
	return n
}

// Dim is one extent: a number, or a symbol when Sym is not empty.
type Dim struct {
	N   int
	Sym Sym
}

// N is the constant extent n.
func N(n int) Dim { return Dim{N: n} }

// S is the symbolic extent s.
func S(s Sym) Dim { return Dim{Sym: s} }

// String prints a dim as in the IR text.
func (d Dim) String() string {
	if d.Sym != "" {
		return string(d.Sym)
	}
	return strconv.Itoa(d.N)
}

// Shape is a list of extents, outermost first, row-major.
type Shape []Dim

// Ints makes a constant shape.
func Ints(n ...int) Shape {
	s := make(Shape, len(n))
	for i, v := range n {
		s[i] = N(v)
	}
	return s
}

// String prints "[T,4096]".
func (s Shape) String() string {
	parts := make([]string, len(s))
	for i, d := range s {
		parts[i] = d.String()
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// Equal reports whether both shapes have the same extents.
func (s Shape) Equal(t Shape) bool {
	if len(s) != len(t) {
		return false
	}
	for i := range s {
		if s[i] != t[i] {
			return false
		}
	}
	return true
}

// Last returns the innermost extent, or 1 for a scalar.
func (s Shape) Last() Dim {
	if len(s) == 0 {
		return N(1)
	}
	return s[len(s)-1]
}

// With returns a copy of s whose extent at axis is d.
func (s Shape) With(axis int, d Dim) Shape {
	t := append(Shape(nil), s...)
	t[axis] = d
	return t
}

// Sym returns the symbol of s, or "" when every extent is a number.
func (s Shape) Sym() Sym {
	for _, d := range s {
		if d.Sym != "" {
			return d.Sym
		}
	}
	return ""
}

// Static returns the product of the constant extents: the number of elements
// for each unit of the symbol, or of the whole value when there is none.
func (s Shape) Static() int {
	n := 1
	for _, d := range s {
		if d.Sym == "" {
			n *= d.N
		}
	}
	return n
}

// Bounds gives a number to every symbol.
type Bounds func(Sym) int

// Elems returns the number of elements under the bounds.
func (s Shape) Elems(b Bounds) int {
	n := 1
	for _, d := range s {
		n *= d.Of(b)
	}
	return n
}

// Of returns the extent under the bounds.
func (d Dim) Of(b Bounds) int {
	if d.Sym != "" {
		return b(d.Sym)
	}
	return d.N
}

// Extents returns all extents under the bounds.
func (s Shape) Extents(b Bounds) []int {
	out := make([]int, len(s))
	for i, d := range s {
		out[i] = d.Of(b)
	}
	return out
}

// Type is the type of a value.
type Type struct {
	DType DType
	Shape Shape
}

// Of makes a type.
func Of(d DType, dims ...Dim) Type { return Type{d, Shape(dims)} }

// String prints "bf16[T,4096]".
func (t Type) String() string { return t.DType.String() + t.Shape.String() }

// Equal reports whether both types are the same.
func (t Type) Equal(u Type) bool { return t.DType == u.DType && t.Shape.Equal(u.Shape) }

// Bytes returns the size of a value under the bounds.
func (t Type) Bytes(b Bounds) int64 { return int64(t.Shape.Elems(b)) * int64(t.DType.Bytes()) }

// ParseType is the inverse of Type.String.
func ParseType(text string) (Type, error) {
	name, rest, ok := strings.Cut(text, "[")
	if !ok || !strings.HasSuffix(rest, "]") {
		return Type{}, fmt.Errorf("type %q is not of the form dtype[extent,...]", text)
	}
	d, ok := ParseDType(name)
	if !ok {
		return Type{}, fmt.Errorf("type %q has no known element type: want f32, bf16, f16 or i32", text)
	}
	t := Type{DType: d, Shape: Shape{}}
	rest = strings.TrimSuffix(rest, "]")
	if rest == "" {
		return t, nil
	}
	for _, part := range strings.Split(rest, ",") {
		dim, err := parseDim(strings.TrimSpace(part))
		if err != nil {
			return Type{}, fmt.Errorf("type %q: %w", text, err)
		}
		t.Shape = append(t.Shape, dim)
	}
	return t, nil
}

// maxExtent bounds an extent so that products of four stay far from overflow
// of the checks that follow; the widest extents in use are vocabularies.
const maxExtent = 1 << 30

func parseDim(part string) (Dim, error) {
	if n, err := strconv.Atoi(part); err == nil {
		if n < 0 || n > maxExtent || strconv.Itoa(n) != part {
			return Dim{}, fmt.Errorf("extent %s is not a plain number between 0 and %d", part, maxExtent)
		}
		return N(n), nil
	}
	s := Sym(part)
	switch s.Base() {
	case Tokens, Rows, Cached:
		if s == s.Base() || s == s.Base().Of(s.Group()) && s.Group() >= 0 {
			return S(s), nil
		}
	}
	return Dim{}, fmt.Errorf("extent %q is neither a number nor a symbol (T, S, C or T.group)", part)
}

// MarshalText implements encoding.TextMarshaler.
func (d DType) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *DType) UnmarshalText(text []byte) error {
	v, ok := ParseDType(string(text))
	if !ok {
		return fmt.Errorf("%q is not an element type", text)
	}
	*d = v
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Type) UnmarshalText(text []byte) error {
	v, err := ParseType(string(text))
	if err != nil {
		return err
	}
	*t = v
	return nil
}
