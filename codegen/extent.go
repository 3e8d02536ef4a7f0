package codegen

import "moec/ir/tensor"

// Extent is a number that a step decides: N times the sum of the symbols'
// values, or N alone without symbols; and Plus more.
type Extent struct {
	N    int
	Syms []tensor.Sym
	Plus int
}

// Of returns the extent in a step.
func (e Extent) Of(b tensor.Bounds) int {
	if len(e.Syms) == 0 {
		return e.N + e.Plus
	}
	sum := 0
	for _, s := range e.Syms {
		sum += b(s)
	}
	return e.N*sum + e.Plus
}

// times returns e multiplied by n.
func (e Extent) times(n int) Extent { return Extent{e.N * n, e.Syms, e.Plus * n} }

// fixed is an extent that every step has.
func fixed(n int) Extent { return Extent{N: n} }

// elems returns the number of elements of a shape, which has one symbol at
// most.
func elems(s tensor.Shape) Extent {
	e := Extent{N: s.Static()}
	if sym := s.Sym(); sym != "" {
		e.Syms = []tensor.Sym{sym}
	}
	return e
}

// extent returns one extent of a shape.
func extent(d tensor.Dim) Extent { return elems(tensor.Shape{d}) }

// rowsOf returns the number of rows along the last axis.
func rowsOf(s tensor.Shape) Extent { return elems(s[:max(0, len(s)-1)]) }
