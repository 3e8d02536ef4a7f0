// Package kernels is the table of CUDA kernels, and their source.
//
// A row says which ops a kernel executes, the file and the template that hold
// it, what the template takes, what a launch takes and how work is divided.
// Which kernel with which arguments runs a step is package codegen's business;
// this package is data.
package kernels

import (
	"embed"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"moec/ir/tensor"
)

//go:embed *.cuh
var files embed.FS

// Kind is what a template parameter is.
type Kind uint8

// The kinds, with the form of an argument in a plan.
const (
	Type    Kind = iota // an element type: "bf16"
	Word                // an element of which only the size counts: "b16", "b32"
	Number              // an integer: "4096"
	Numbers             // a list of integers: "2,1"
	Layout              // how a weight lies: "rows", "tiles"
)

// Param is one template parameter. Its argument takes the place of {Name}.
type Param struct {
	Name string
	Kind Kind
}

// Arg is one argument of a launch: its name and its type in C++.
type Arg struct{ Name, Type string }

// Unit is what computes one item of a kernel's work.
type Unit uint8

// The units.
const (
	Thread Unit = iota
	Warp
	Block
	Whole // all blocks together, one on each multiprocessor: the whole work
)

// warpSize is the same on every architecture so far.
const warpSize = 32

// Kernel is one row of the table.
type Kernel struct {
	Name   string   // in plans and, with the template's arguments, in images
	Ops    []string // that it executes
	File   string   // that defines it
	Call   string   // the template in C++, with its arguments
	Params []Param
	Args   []Arg
	Unit   Unit
	Block  int    // threads
	Shared int    // bytes of dynamic shared memory of a block
	Arch   string // the only architecture that it is for; "" for any
}

// PerBlock returns how many items one block computes.
func (k *Kernel) PerBlock() int {
	switch k.Unit {
	case Thread:
		return k.Block
	case Warp:
		return k.Block / warpSize
	}
	return 1
}

// Table returns the rows.
func Table() []Kernel { return table }

// Lookup returns the row of that name, or nil.
func Lookup(name string) *Kernel {
	for i := range table {
		if table[i].Name == name {
			return &table[i]
		}
	}
	return nil
}

// Files lists the names of the source files.
func Files() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(fmt.Sprintf("internal error: kernel sources: %v", err))
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Text returns a source file.
func Text(file string) string {
	data, err := files.ReadFile(file)
	if err != nil {
		panic(fmt.Sprintf("internal error: kernel source: %v", err))
	}
	return string(data)
}

// words gives the C++ name of every element type, word and layout.
var words = map[string]string{
	tensor.F32.String(): "float", tensor.BF16.String(): "moec::bf16", tensor.F16.String(): "moec::f16",
	tensor.I32.String(): "int", "b16": "moec::b16", "b32": "moec::b32", "rows": "moec::Rows", "tiles": "moec::Tiles",
}

// WordOf names the word that has the size of an element type.
func WordOf(d tensor.DType) string { return "b" + strconv.Itoa(8*d.Bytes()) }

// Check says what is wrong with template arguments.
func (k *Kernel) Check(params []string) error {
	if len(params) != len(k.Params) {
		return fmt.Errorf("kernel %s has %d template arguments, takes %d", k.Name, len(params), len(k.Params))
	}
	for i, p := range k.Params {
		if !p.Kind.holds(params[i]) {
			return fmt.Errorf("kernel %s: %q is no value for %s", k.Name, params[i], p.Name)
		}
	}
	return nil
}

func (k Kind) holds(value string) bool {
	number := func(s string) bool {
		n, err := strconv.Atoi(s)
		return err == nil && strconv.Itoa(n) == s && n >= 0
	}
	switch k {
	case Type:
		_, ok := tensor.ParseDType(value)
		return ok
	case Word:
		return value == "b16" || value == "b32"
	case Number:
		return number(value)
	case Layout:
		return value == "rows" || value == "tiles"
	}
	return value == "" || !slices.ContainsFunc(strings.Split(value, ","), func(s string) bool { return !number(s) })
}

// Symbol names an instantiation in an image.
func (k *Kernel) Symbol(params []string) string {
	s := k.Name
	for _, p := range params {
		s += "_" + strings.ReplaceAll(p, ",", "x")
	}
	return s
}

// expand puts template arguments in the places of their names.
func (k *Kernel) expand(text string, params []string) string {
	for i, p := range k.Params {
		value := params[i]
		if name, ok := words[value]; ok {
			value = name
		}
		text = strings.ReplaceAll(text, "{"+p.Name+"}", value)
	}
	return strings.ReplaceAll(text, "{BLOCK}", strconv.Itoa(k.Block))
}

// Instantiate writes the C++ of one instantiation: a function that can be
// launched by its symbol and does nothing but call the template. One block on
// a multiprocessor is enough, so that registers are never spilled for the sake
// of more; what is passed as a struct is never copied out of the launch's
// constant memory.
func (k *Kernel) Instantiate(params []string) string {
	var list, names []string
	for _, a := range k.Args {
		ctype := k.expand(a.Type, params)
		if a.Struct() {
			ctype = "const __grid_constant__ " + ctype
		}
		list = append(list, ctype+" "+a.Name)
		names = append(names, a.Name)
	}
	return fmt.Sprintf("extern \"C\" __global__ void __launch_bounds__(%d, 1) %s(\n    %s) {\n  moec::%s(%s);\n}\n",
		k.Block, k.Symbol(params), strings.Join(list, ",\n    "), k.expand(k.Call, params), strings.Join(names, ", "))
}

// Struct reports whether the argument is a struct passed by value.
func (a Arg) Struct() bool {
	return strings.HasPrefix(a.Type, "moec::") && !strings.HasSuffix(a.Type, "*")
}

// Bytes returns the size of an argument that is no struct.
func (a Arg) Bytes() int {
	switch a.Type {
	case "int", "float":
		return 4
	}
	return 8 // pointers, long long and double
}
