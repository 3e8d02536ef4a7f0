package codegen

import (
	"fmt"
	"slices"

	"moec/codegen/kernels"
	"moec/planner/plan"
)

// Whole is the record from which a runtime launches one kernel that executes a
// whole program, a block on each multiprocessor. The kernel takes one struct.
type Whole struct {
	Unit    int // index of the image that holds the kernel
	Symbol  string
	Threads int
	Shared  int     // bytes of dynamic shared memory
	Tokens  int     // of a step, at most
	Space   int64   // bytes of memory that it has to itself; zeros at first
	Fields  []Field // of the struct
	Counter int64   // offset in the space of a 32-bit count of experts that worked, over all layers
}

// FieldKind says what a field of the struct is.
type FieldKind uint8

// The kinds. Pointers and numbers have no gaps.
const (
	BufferField      FieldKind = iota // pointer to the program's buffer Name
	WeightField                       // pointer to weight Name outside the layers
	WeightsField                      // pointer to the first layer's weight Name, and the bytes from layer to layer
	CachesField                       // the same of cache Name
	ConstField                        // pointer to constant Name
	PagesField                        // pointer to the page table of token group 0
	SpaceField                        // pointer to the space, Offset bytes in
	ConstantField                     // Bytes
	CountField                        // N as a 32-bit integer
	LongField                         // N as a 64-bit integer
	LayerWeightField                  // pointer to weight Name of the layer whose turn it is
	LayerCacheField                   // the same of cache Name
)

// Field is one field of the struct, or one argument of a launch.
type Field struct {
	Kind   FieldKind
	Name   string
	Offset int64
	Bytes  []byte
	N      Extent
}

// decodeTokens is the most tokens of a step (decode_ring.cuh).
const decodeTokens = 64

// wholes adds to a section the programs that one kernel executes, and the
// layouts that it wants.
func wholes(p *plan.Plan, k *plan.Kernels) {
	if k.Arch != kernels.Lookup("decode").Arch {
		return
	}
	for i := range p.Programs {
		d, err := matchDecoder(p, &p.Programs[i])
		if err != nil || !tilesFit(p, d) {
			continue
		}
		_, space, _ := d.fields()
		k.Wholes = append(k.Wholes, plan.Whole{Program: d.prog.Name, Tokens: decodeTokens, Kernel: "decode", Params: d.params(), Space: space})
		if s, err := d.series(); err == nil && s.Tokens > decodeTokens {
			k.Wholes = append(k.Wholes, plan.Whole{Program: d.prog.Name, Tokens: s.Tokens, Kernel: Prefill, Params: d.params(), Space: s.Space})
		}
		for _, name := range d.tiled() {
			l := plan.Layout{Weight: name, Layout: plan.Tiles}
			if !slices.Contains(k.Layouts, l) {
				k.Layouts = append(k.Layouts, l)
			}
		}
	}
}

// tilesFit reports whether everything that reads the weights in tiles can, and
// every layer's weight is in one row of the plan.
func tilesFit(p *plan.Plan, d *decoder) bool {
	tiled := d.tiled()
	err := sites(p, func(s *site) error {
		for i, a := range s.Args {
			if a.Kind == plan.WeightRef && slices.Contains(tiled, a.Name) && (recipes[s.Op] == nil || i != 1 || !slices.Contains([]string{"matmul", "expert_matmul"}, s.Op)) {
				return fmt.Errorf("%s reads tiles", s.Op)
			}
		}
		return nil
	})
	rows := 0
	for _, w := range p.Weights {
		if w.Layers != plan.NoLayers && w.Layers.Len() == d.layers {
			rows++
		} else if w.Layers != plan.NoLayers {
			return false
		}
	}
	return err == nil && rows > 0
}

// whole adds the record of a whole program.
func (g *generator) whole(p *plan.Plan, k plan.Kernels, w plan.Whole) error {
	i := slices.IndexFunc(p.Programs, func(prog plan.Program) bool { return prog.Name == w.Program })
	if i < 0 || w.Kernel != "decode" && w.Kernel != Prefill {
		return fmt.Errorf("the plan has kernel %s for program %q, this moec has none; compile the plan again", w.Kernel, w.Program)
	}
	d, err := matchDecoder(p, &p.Programs[i])
	if err != nil {
		return fmt.Errorf("program %s: kernel %s cannot execute it: %w; compile the plan again", w.Program, w.Kernel, err)
	}
	if need := kernels.Lookup("decode").Arch; k.Arch != need {
		return fmt.Errorf("program %s: kernel %s is for %s, the section for %s; compile the plan again", w.Program, w.Kernel, need, k.Arch)
	}
	for _, name := range d.tiled() {
		if !slices.Contains(k.Layouts, plan.Layout{Weight: name, Layout: plan.Tiles}) || !tilesFit(p, d) {
			return fmt.Errorf("program %s: kernel %s reads weight %s in tiles, the plan has it in rows; compile the plan again", w.Program, w.Kernel, name)
		}
	}
	if w.Kernel == Prefill {
		g.code.Series[w.Program], err = g.seriesOf(d, w)
		return err
	}
	g.code.Wholes[w.Program], err = g.wholeOf(d, w)
	return err
}

// wholeOf returns the record of a program that kernel decode executes.
func (g *generator) wholeOf(d *decoder, w plan.Whole) (*Whole, error) {
	fields, space, counter := d.fields()
	if !slices.Equal(w.Params, d.params()) || w.Space != space || w.Tokens != decodeTokens {
		return nil, fmt.Errorf("program %s: the plan has kernel decode with %v, %d tokens and %d bytes, this moec with %v, %d and %d; compile the plan again",
			w.Program, w.Params, w.Tokens, w.Space, d.params(), decodeTokens, space)
	}
	k := kernels.Lookup("decode")
	if err := k.Check(w.Params); err != nil {
		return nil, err
	}
	g.add(&use{kernel: k, params: w.Params})
	return &Whole{Symbol: k.Symbol(w.Params), Threads: k.Block, Shared: k.Shared, Tokens: w.Tokens, Space: space, Fields: fields, Counter: counter}, nil
}

// space hands out parts of a kernel's own memory.
type space struct{ bytes int64 }

// spaceAlignment keeps parts in lines of the cache apart.
const spaceAlignment = 256

func (s *space) take(bytes int) Field {
	f := Field{Kind: SpaceField, Offset: s.bytes}
	s.bytes += (int64(bytes) + spaceAlignment - 1) / spaceAlignment * spaceAlignment
	return f
}

// fields are those of struct Decoder in decode_phases.cuh, the bytes of the
// kernel's own memory, and where in it the count of experts is.
func (d *decoder) fields() (list []Field, bytes, counter int64) {
	s := &space{}
	const t, element = decodeTokens, 2
	buffer := func(name string) Field { return Field{Kind: BufferField, Name: name} }
	weights := func(name string) Field { return Field{Kind: WeightsField, Name: d.residents["w:"+name]} }
	weight := func(name string) Field { return Field{Kind: WeightField, Name: d.residents["w:"+name]} }
	for _, name := range []string{"tokens", "positions", "sequences", "rows"} {
		list = append(list, buffer(name))
	}
	list = append(list, Field{Kind: PagesField}, Field{Kind: ConstField, Name: d.residents["c:freqs"]})
	for _, name := range []string{"norm", "qkv", "out", "norm2", "router", "gate_up", "down"} {
		list = append(list, weights(name))
	}
	list = append(list, Field{Kind: CachesField, Name: d.residents["k:cache"]}, weight("embedding"), weight("last_norm"), weight("head"), buffer(d.buffers["logits"]))
	row := d.hidden * element
	outParts := min(2, d.outSegments)
	chunks := TableWidth(d.plan.Limits)*d.plan.Limits.Page/d.chunk + 1
	counters := 2 + t*d.kvHeads
	list = append(list, s.take(4*(counters+1)), s.take(t*d.dim/2*8), s.take(4*t), // state, turns, places
		s.take(t*row), s.take(t*row), s.take(t*d.heads*d.dim*element), s.take(t*d.heads*d.dim*element), s.take(t*row), // x, normed, query, attended, middle
		s.take(t*d.top*d.ffn*element), s.take(t*d.top*row), // gated, expert_out
		s.take(outParts*t*d.hidden*4), s.take(t*d.heads*chunks*(d.dim+2)*4), // joining, parts
		s.take(4*t*d.top), s.take(4*t*d.top)) // chosen, shares
	list = append(list, Field{Kind: ConstantField, Bytes: double(d.eps).Bytes}, Field{Kind: ConstantField, Bytes: float(d.scale).Bytes},
		Field{Kind: CountField, N: elems(d.steps["q"].out.Shape[:1])}, Field{Kind: CountField, N: elems(d.steps["e"].out.Shape[:1])},
		Field{Kind: ConstantField, Bytes: integer(TableWidth(d.plan.Limits)).Bytes})
	return list, s.bytes, int64(4 * counters)
}
