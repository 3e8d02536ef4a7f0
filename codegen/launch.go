package codegen

import (
	"encoding/binary"
	"fmt"
	"math"

	"moec/codegen/kernels"
	"moec/ir/tensor"
)

// Launch is the record from which a runtime launches the kernel of a step.
type Launch struct {
	Unit     int    // index of the image that holds the kernel
	Symbol   string // its name there
	Threads  int    // of a block
	PerBlock int    // items that one block computes
	Items    Extent // of work; none: nothing to launch
	Args     []Arg  // in the kernel's order
}

// Blocks returns the size of the grid in a step.
func (l *Launch) Blocks(b tensor.Bounds) int {
	return (l.Items.Of(b) + l.PerBlock - 1) / l.PerBlock
}

// ArgKind says where an argument's value comes from.
type ArgKind uint8

// The kinds. Structs of several values have no gaps.
const (
	Result   ArgKind = iota // pointer to the step's result
	Operand                 // pointer to operand Index
	Operands                // struct of pointers to all operands
	Count                   // N[0] as a 64-bit integer
	Counts                  // N as 32-bit integers: one, or a struct of several
	Constant                // Bytes
	Pages                   // pointer to the page table of token group Index
)

// Arg is one argument of a launch.
type Arg struct {
	Kind  ArgKind
	Index int
	N     []Extent
	Bytes []byte
}

// operandList stands for one argument for each of several operands.
func result() Arg            { return Arg{Kind: Result} }
func operand(i int) Arg      { return Arg{Kind: Operand, Index: i} }
func operands() Arg          { return Arg{Kind: Operands} }
func count(e Extent) Arg     { return Arg{Kind: Count, N: []Extent{e}} }
func counts(e ...Extent) Arg { return Arg{Kind: Counts, N: e} }
func pages(group int) Arg    { return Arg{Kind: Pages, Index: group} }

// null is a pointer to nothing.
func null() Arg { return Arg{Kind: Constant, Bytes: make([]byte, 8)} }

func integer(n int) Arg { return integers(n) }

// integers is an int, or a struct of several.
func integers(list ...int) Arg {
	var b []byte
	for _, n := range list {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return Arg{Kind: Constant, Bytes: b}
}

// shorts is a struct of 16-bit integers.
func shorts(list ...int) Arg {
	var b []byte
	for _, n := range list {
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
	}
	return Arg{Kind: Constant, Bytes: b}
}

func float(x float64) Arg {
	return Arg{Kind: Constant, Bytes: binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(x)))}
}

func double(x float64) Arg {
	return Arg{Kind: Constant, Bytes: binary.LittleEndian.AppendUint64(nil, math.Float64bits(x))}
}

// join is a struct of the constants' bytes, one after the other.
func join(parts ...Arg) Arg {
	var b []byte
	for _, p := range parts {
		b = append(b, p.Bytes...)
	}
	return Arg{Kind: Constant, Bytes: b}
}

// bytes returns the size of the argument, -1 if it depends on the operands.
func (a Arg) bytes() int {
	switch a.Kind {
	case Operands:
		return -1
	case Counts:
		return 4 * len(a.N)
	case Constant:
		return len(a.Bytes)
	}
	return 8
}

// checkArgs compares arguments with the kernel's row of the table.
func checkArgs(k *kernels.Kernel, args []Arg) error {
	if len(args) != len(k.Args) {
		return fmt.Errorf("internal error: kernel %s takes %d arguments, has %d", k.Name, len(k.Args), len(args))
	}
	for i, a := range k.Args {
		if !a.Struct() && args[i].bytes() != a.Bytes() {
			return fmt.Errorf("internal error: kernel %s takes %d bytes as %s, has %d", k.Name, a.Bytes(), a.Name, args[i].bytes())
		}
	}
	return nil
}
