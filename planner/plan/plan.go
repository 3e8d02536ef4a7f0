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
	Model     Model               `json:"model"`
	Machine   Machine             `json:"machine"`
	Numerics  ir.Numerics         `json:"numerics"`
	Placement placement.Placement `json:"placement"`
	Limits    Limits              `json:"limits"`
	// Buckets are the step sizes that programs exist for, ascending; a step
	// runs in the smallest that holds its tokens.
	Buckets  []Bucket  `json:"buckets"`
	Weights  []Weight  `json:"weights"`
	Consts   []Const   `json:"consts,omitempty"`
	Caches   []Cache   `json:"caches"`
	Memory   []Memory  `json:"memory"` // by device
	Programs []Program `json:"programs"`
	// Kernels says which kernel executes each step, for each backend that has
	// any; a backend without a section runs every op by its definition.
	Kernels []Kernels `json:"kernels,omitempty"`
}

// Model identifies what was compiled.
type Model struct {
	Name string `json:"name"`
	// Hash is the SHA-256 of the bound description: keys, shapes, types and
	// the logical graph, not the weights' values.
	Hash     string    `json:"hash"`
	Bindings []Binding `json:"bindings"` // the sizes and where they came from
	Params   int64     `json:"params"`   // parameters
	Active   int64     `json:"active"`   // parameters that one token uses
	Layers   int       `json:"layers"`
	Vocab    int       `json:"vocab"`
	Context  int       `json:"context,omitempty"` // longest sequence the description allows, 0 if it does not say
}

// Binding is a named size and the value it was given.
type Binding struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	From  string `json:"from,omitempty"` // where it was found: a key of config.json, or "" for the default
}

// Machine is what the plan was made for.
type Machine struct {
	Name    string `json:"name"`
	Devices int    `json:"devices"`
	Memory  int64  `json:"memory"`  // bytes a device has
	Reserve int64  `json:"reserve"` // bytes of those left to the driver
	Hash    string `json:"hash"`    // SHA-256 of the machine description
}

// Limits bound what a step and the resident state may hold.
type Limits struct {
	Tokens    int `json:"tokens"`    // tokens of a step
	Rows      int `json:"rows"`      // logits rows of a step
	Sequences int `json:"sequences"` // sequences with state
	Context   int `json:"context"`   // positions of a sequence
	Page      int `json:"page"`      // positions of a KV page
	Pages     int `json:"pages"`     // KV pages on each device of a token group
}

// Bucket names the program for steps of up to Tokens tokens.
type Bucket struct {
	Tokens  int    `json:"tokens"`
	Program string `json:"program"`
}

// Weight is what one device keeps of a weight, or of several joined along an
// axis. With layers, it stands for one buffer a layer: {layer} in Name and in
// keys is the layer's number, and layer number Layers[i] is at
// Offset + i*Stride.
type Weight struct {
	Name   string       `json:"name"`
	Device int          `json:"device"`
	Layers Range        `json:"layers"` // empty outside the layers
	DType  tensor.DType `json:"dtype"`
	Shape  []int        `json:"shape"`          // of what the device keeps
	Axis   int          `json:"axis,omitempty"` // along which parts are joined
	Offset int64        `json:"offset"`
	Stride int64        `json:"stride,omitempty"`
	Parts  []Part       `json:"parts"`
}

// Part is a slice of a logical weight.
type Part struct {
	Weight  string    `json:"weight"` // logical name, with {layer}
	Source  ir.Source `json:"source"`
	Shape   []int     `json:"shape"`             // of the whole logical weight
	Slice   [][]int   `json:"slice"`             // [lo, hi) of each axis of Shape
	Experts []int     `json:"experts,omitempty"` // the experts kept, for the first axis; nil if it does not number experts
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
	Name   string    `json:"name"`
	Shape  []int     `json:"shape"`
	Values []float32 `json:"values"`
	Offset int64     `json:"offset"` // the same on every device
}

// Cache is the KV state that one device keeps for a layer of a token group.
// A page holds Page positions as [position][head][key, then value].
type Cache struct {
	Name   string       `json:"name"` // with {layer}
	Device int          `json:"device"`
	Group  int          `json:"group,omitempty"` // token group, 0 when there is one
	Layers Range        `json:"layers"`
	Heads  int          `json:"heads"`           // KV heads kept
	First  int          `json:"first,omitempty"` // number of the first
	KeyDim int          `json:"key_dim"`
	ValDim int          `json:"val_dim"`
	DType  tensor.DType `json:"dtype"`
	Window int          `json:"window,omitempty"`
	Offset int64        `json:"offset"`
	Stride int64        `json:"stride"` // between layers
}

// Memory is a device's account, in bytes: the arena is laid out in this order.
type Memory struct {
	Device  int   `json:"device"`
	Consts  int64 `json:"consts,omitempty"`
	Weights int64 `json:"weights"`
	Caches  int64 `json:"caches"`
	Buffers int64 `json:"buffers"` // largest over the programs
	Total   int64 `json:"total"`
	Budget  int64 `json:"budget"`
}

// Program executes steps of any number of tokens up to its bucket's.
type Program struct {
	Name    string   `json:"name"`
	Buffers []Buffer `json:"buffers"` // live across blocks: inputs and carried values
	Runs    []Run    `json:"runs"`
	Blocks  []Block  `json:"blocks"`
	Outputs []Output `json:"outputs"`
}

// Run executes a block, once for each layer of the range in turn, or once if
// the range is empty.
type Run struct {
	Block  string `json:"block"`
	Layers Range  `json:"layers"`
}

// Block is a part of a program that runs on all devices: each has its own
// queue and meets the others only in collectives.
type Block struct {
	Name    string   `json:"name"`
	Buffers []Buffer `json:"buffers,omitempty"`
	Queues  []Queue  `json:"queues"`
}

// Queue is what one device does in a block, in order.
type Queue struct {
	Device int    `json:"device"`
	Steps  []Step `json:"steps"`
}

// Buffer is a piece of a device's arena, sized for the largest step.
type Buffer struct {
	Name   string      `json:"name"` // unique among the program's and the block's on its device
	Device int         `json:"device"`
	Type   tensor.Type `json:"type"`
	Offset int64       `json:"offset"`
	Bytes  int64       `json:"bytes"`
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
	Name   string      `json:"name"`
	Group  int         `json:"group,omitempty"`
	Device int         `json:"device"`
	Buffer string      `json:"buffer"`
	Type   tensor.Type `json:"type"`
}

// Kernels is one backend's choice of kernels.
type Kernels struct {
	Backend string   `json:"backend"` // "cuda"
	Arch    string   `json:"arch"`    // "sm_90a"
	Choices []Choice `json:"choices"`
	// Wholes are programs that one kernel, or a series of few, executes as a
	// whole, in steps of up to so many tokens: the one with the fewest that
	// suffice, but for prompts, where bits must not depend on company, the one
	// with the most. The others, and larger steps, run step by step.
	Wholes []Whole `json:"wholes,omitempty"`
	// Layouts are of weights that do not lie row by row.
	Layouts []Layout `json:"layouts,omitempty"`
}

// Whole names the kernel, or the series of kernels, that executes all steps of a
// program on a device.
// Nothing but its outputs and caches is written.
type Whole struct {
	Program string   `json:"program"`
	Device  int      `json:"device"`
	Tokens  int      `json:"tokens"` // of a step, at most
	Kernel  string   `json:"kernel"`
	Params  []string `json:"params"`
	Space   int64    `json:"space"` // bytes that it needs besides the device's arena
}

// Layout says how a weight lies in memory: in "tiles" of 64 rows and 64
// columns of its last two axes.
type Layout struct {
	Weight string `json:"weight"` // with {layer}
	Device int    `json:"device"`
	Layout string `json:"layout"`
}

// Tiles is the layout in tiles.
const Tiles = "tiles"

// Choice names the kernel of a step, in all layers that its block runs for.
type Choice struct {
	Program string `json:"program"`
	Block   string `json:"block"`
	Device  int    `json:"device"`
	Step    int    `json:"step"`           // index into the queue
	Body    int    `json:"body,omitempty"` // in a fused step: 1 + index into its body; 0 for the step itself
	Kernel  string `json:"kernel"`
	// Params are the template arguments, in the kernel table's order: element
	// types by name, numbers in decimal, lists joined by commas.
	Params []string `json:"params"`
}

// Turn returns which turn of the range layer is, counted from 0.
func (r Range) Turn(layer int) (int, bool) {
	if r == NoLayers || layer < r.First || layer > r.Last {
		return 0, false
	}
	return layer - r.First, true
}

// Extents returns the shape of the slice.
func (p Part) Extents() []int {
	ext := make([]int, len(p.Slice))
	for i, s := range p.Slice {
		ext[i] = s[1] - s[0]
	}
	if p.Experts != nil {
		ext[0] = len(p.Experts)
	}
	return ext
}
