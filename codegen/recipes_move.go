package codegen

import (
	"moec/codegen/kernels"
	"moec/ir/tensor"
)

// word is the element of which only the size counts.
func word(t tensor.Type) string { return kernels.WordOf(t.DType) }

// copyAll also is part, and transfer: the operand may be another device's.
func copyAll(s *site) (*use, error) {
	n := elems(s.out.Shape)
	return useOf("copy", word(s.out)).over(n, result(), operand(0), count(n), count(fixed(0)))
}

// ownRows takes the rows of one token group after those of the groups before.
func ownRows(s *site) (*use, error) {
	n := elems(s.out.Shape)
	first := Extent{N: elems(s.out.Shape[1:]).N}
	for g := range s.Attrs.Int("group", 0) {
		first.Syms = append(first.Syms, s.args[0].Shape[0].Sym.Base().Of(g))
	}
	if len(first.Syms) == 0 {
		first = fixed(0)
	}
	return useOf("copy", word(s.out)).over(n, result(), operand(0), count(n), count(first))
}

// stridden is a use of the kernel for slice, broadcast and dispatch.
func stridden(s *site, axis int, from Extent, lo, step int) (*use, error) {
	n := elems(s.out.Shape)
	return useOf("strided", word(s.out)).over(n, result(), operand(0), count(n), counts(from), counts(extent(s.out.Shape[axis])),
		counts(elems(s.out.Shape[axis+1:])), integer(lo), integer(step))
}

func slice(s *site) (*use, error) {
	axis := s.Attrs.Int("axis", 0)
	return stridden(s, axis, extent(s.args[0].Shape[axis]), s.Attrs.Int("lo", 0), s.Attrs.Int("step", 1))
}

func repeat(s *site) (*use, error) { return stridden(s, s.Attrs.Int("axis", 0), fixed(1), 0, 0) }

func dispatch(s *site) (*use, error) { return stridden(s, 1, fixed(1), 0, 0) }

// concat also is all_gather: operands may be other devices'.
func concat(s *site) (*use, error) {
	axis, n := s.Attrs.Int("axis", 0), elems(s.out.Shape)
	ext := make([]Extent, len(s.args))
	for i, a := range s.args {
		ext[i] = extent(a.Shape[axis])
	}
	return useOf("concat", word(s.out), len(s.args)).over(n, result(), operands(), counts(ext...), count(n),
		counts(extent(s.out.Shape[axis])), counts(elems(s.out.Shape[axis+1:])))
}

func takeRows(s *site) (*use, error) {
	n := elems(s.out.Shape)
	return useOf("take_rows", word(s.out)).over(n, result(), operand(0), operand(1), count(n), counts(elems(s.out.Shape[1:])))
}

func embed(s *site) (*use, error) {
	n := elems(s.out.Shape)
	return useOf("take_rows", word(s.out)).over(n, result(), operand(1), operand(0), count(n), counts(elems(s.out.Shape[1:])))
}

func gather(s *site) (*use, error) {
	n := elems(s.out.Shape)
	return useOf("gather", word(s.out)).over(n, result(), operand(0), operand(1), count(n), counts(extent(s.args[0].Shape[1])), counts(extent(s.args[1].Shape[1])))
}
