// Package plan is the boundary between compiler and runtime: the data that
// wholly determines an execution, and its file format.
//
// A plan holds no code and nothing is decided after it: a backend executes
// steps in the order given, on buffers at the offsets given. The package
// reads, writes, verifies and prints plans; it never makes one and never runs
// one.
package plan

import (
	"moec/ir"
	"moec/ir/placement"
	"moec/ir/tensor"
)

// Version is the version of the file format that this package reads and
// writes.
const Version = 1

// Plan is one compiled model for one machine.
type Plan struct {
	Model     Model
	Machine   Machine
	Numerics  ir.Numerics
	Placement placement.Placement
	Limits    Limits
	// Buckets are the step sizes that programs exist for, ascending; a step
	// runs in the smallest that holds its tokens.
	Buckets  []Bucket
	Weights  []Weight
	Consts   []Const
	Caches   []Cache
	Memory   []Memory // by device
	Programs []Program
	// Kernels says which kernel executes each step, for each backend that has
	// any; a backend without a section runs every op by its definition.
	Kernels []Kernels
}

// Model identifies what was compiled.
type Model struct {
	Name string
	// Hash is the SHA-256 of the bound description: keys, shapes, types and
	// the logical graph, not the weights' values.
	Hash     string
	Bindings []Binding // the sizes and where they came from
	Params   int64     // parameters
	Active   int64     // parameters that one token uses
	Layers   int
	Vocab    int
	Context  int // longest sequence the description allows, 0 if it does not say
}

// Binding is a named size and the value it was given.
type Binding struct{ Name, Value, From string }

// Machine is what the plan was made for.
type Machine struct {
	Name    string
	Devices int
	Memory  int64  // bytes a device has
	Reserve int64  // bytes of those left to the driver
	Hash    string // SHA-256 of the machine description
}

// Limits bound what a step and the resident state may hold.
type Limits struct {
	Tokens    int // tokens of a step
	Rows      int // logits rows of a step
	Sequences int // sequences with state
	Context   int // positions of a sequence
	Page      int // positions of a KV page
	Pages     int // KV pages on each device of a token group
}

// Bucket names the program for steps of up to Tokens tokens.
type Bucket struct {
	Tokens  int
	Program string
}

// Weight is what one device keeps of a weight, or of several joined along an
// axis. With layers, it stands for one buffer a layer: {layer} in Name and in
// keys is the layer's number, and layer number Layers[i] is at
// Offset + i*Stride.
type Weight struct {
	Name   string
	Device int
	Layers Range // empty outside the layers
	DType  tensor.DType
	Shape  []int // of what the device keeps
	Axis   int   // along which parts are joined
	Parts  []Part
	Offset int64
	Stride int64
}

// Part is a slice of a logical weight.
type Part struct {
	Weight  string // logical name, with {layer}
	Source  ir.Source
	Shape   []int   // of the whole logical weight
	Slice   [][]int // [lo, hi) of each axis of Shape
	Experts []int   // the experts kept, for the first axis; nil if it does not number experts
}

// Range is the layers First to Last, or NoLayers.
type Range struct{ First, Last int }

// NoLayers is the range of what does not belong to a layer.
var NoLayers = Range{0, -1}

// Len returns the number of turns: 1 outside the layers.
func (r Range) Len() int { return max(1, r.Last-r.First+1) }

// Has reports whether layer is in r; -1 is in NoLayers.
func (r Range) Has(layer int) bool {
	return layer >= r.First && layer <= r.Last || layer < 0 && r == NoLayers
}

// Bytes returns the size of the weight in one layer.
func (w Weight) Bytes() int64 {
	n := int64(w.DType.Bytes())
	for _, d := range w.Shape {
		n *= int64(d)
	}
	return n
}

// PageBytes returns the size of one page of the cache.
func (c Cache) PageBytes(l Limits) int64 {
	return int64(l.Page) * int64(c.Heads) * int64(c.KeyDim+c.ValDim) * int64(c.DType.Bytes())
}

// Bytes returns the size of the cache in one layer.
func (c Cache) Bytes(l Limits) int64 { return int64(l.Pages) * c.PageBytes(l) }

// Const is a table of numbers that every device keeps.
type Const struct {
	Name   string
	Shape  []int
	Values []float32
	Offset int64 // the same on every device
}

// Cache is the KV state that one device keeps for a layer of a token group.
// A page holds Page positions as [position][head][key, then value].
type Cache struct {
	Name   string // with {layer}
	Device int
	Group  int // token group, 0 when there is one
	Layers Range
	Heads  int // KV heads kept
	First  int // number of the first
	KeyDim int
	ValDim int
	DType  tensor.DType
	Window int
	Offset int64
	Stride int64 // between layers
}

// Memory is a device's account, in bytes: the arena is laid out in this order.
type Memory struct {
	Device  int
	Consts  int64
	Weights int64
	Caches  int64
	Buffers int64 // largest over the programs
	Total   int64
	Budget  int64
}

// Program executes steps of any number of tokens up to its bucket's.
type Program struct {
	Name    string
	Buffers []Buffer // live across blocks: inputs and carried values
	Runs    []Run
	Blocks  []Block
	Outputs []Output
}

// Run executes a block, once for each layer of the range in turn, or once if
// the range is empty.
type Run struct {
	Block  string
	Layers Range
}

// Block is a part of a program that runs on all devices: each has its own
// queue and meets the others only in collectives.
type Block struct {
	Name    string
	Buffers []Buffer
	Queues  []Queue
}

// Queue is what one device does in a block, in order.
type Queue struct {
	Device int
	Steps  []Step
}

// Buffer is a piece of a device's arena, sized for the largest step.
type Buffer struct {
	Name   string // unique among the program's and the block's on its device
	Device int
	Type   tensor.Type
	Offset int64
	Bytes  int64
}

// Step is one operation.
type Step struct {
	Op    string // a row of the op table, or "send" or "copy"
	Out   string // a buffer of this device; "" for send
	Args  []Ref
	Attrs ir.Attrs
	// Body is what a fused step does, step by step, on block buffers.
	Body []Step
}

// Ref names an operand.
type Ref struct {
	Kind   RefKind
	Name   string
	Device int // of the operand: the queue's own, or another's in a collective
	// Type is the operand's type where it differs from its buffer's: the same
	// elements under other extents.
	Type tensor.Type
}

// RefKind says which table a Ref names a row of.
type RefKind string

// The kinds.
const (
	BufferRef RefKind = "buf"
	WeightRef RefKind = "weight" // with {layer}
	ConstRef  RefKind = "const"
	CacheRef  RefKind = "cache" // with {layer}
)

// Output is where a program leaves a result.
type Output struct {
	Name   string
	Group  int
	Device int
	Buffer string
	Type   tensor.Type
}

// Kernels is one backend's choice of kernels.
type Kernels struct {
	Backend string // "cuda"
	Arch    string // "sm_90a"
	Choices []Choice
}

// Choice names the kernel of every step of a block with this op and shape.
type Choice struct {
	Block  string
	Device int
	Step   int // index into the queue
	Kernel string
	Params []int // template arguments, in the kernel table's order
}
