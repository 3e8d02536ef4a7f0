package plan

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"moec/ir"
	"moec/ir/placement"
	"moec/ir/tensor"
)

// Limits of what a plan may ask for, far above any machine and model, so that
// nothing computed from a plan overflows or takes for ever.
const (
	maxDevices = 1 << 12
	maxLayers  = 1 << 12
	maxLeaves  = 1 << 12 // of a sum, and experts of a layer
	maxRank    = 8
	maxNumber  = 1 << 30 // extents, limits, attributes
	maxBytes   = 1 << 50 // of a device, or of one thing on it
)

// devices is rule V24.
func (v *verifier) devices() {
	p := v.p
	n := len(p.Memory)
	if n < 1 || n > maxDevices || n > p.Machine.Devices {
		v.fail("the plan uses %d devices, machine %s has %d", n, p.Machine.Name, p.Machine.Devices)
	}
	on := func(what string, device int) {
		if device < 0 || device >= n {
			v.fail("%s is on device %d of %d", what, device, n)
		}
	}
	for i, m := range p.Memory {
		if m.Device != i {
			v.fail("memory account %d is of device %d", i, m.Device)
		}
	}
	for _, w := range p.Weights {
		on("weight "+w.Name, w.Device)
	}
	for _, c := range p.Caches {
		on("cache "+c.Name, c.Device)
	}
	v.buffers(func(block string, b *Buffer) { on(block+": buffer "+b.Name, b.Device) })
	for _, prog := range v.progs {
		for _, o := range prog.Outputs {
			on("output "+o.Name, o.Device)
		}
	}
	v.blocks(func(b *blockIndex) {
		for i := range b.Queues {
			on(b.Name+": a queue", b.Queues[i].Device)
		}
		b.steps(func(q *Queue, at int, s *Step) {
			for _, a := range s.Args {
				if a.Device < 0 || a.Device >= n {
					v.fail("%s: reads %s of device %d of %d", where(b, q, at, s), a.Name, a.Device, n)
				}
			}
		})
	})
	v.placementDevices(on)
}

// placementDevices looks at the record of the placement.
func (v *verifier) placementDevices(on func(string, int)) {
	for i := range v.p.Placement.Layers {
		l := &v.p.Placement.Layers[i]
		for _, g := range l.Groups {
			for _, d := range g {
				on("the placement of a layer", d)
			}
		}
		parts := [][]placement.Split{l.Attention, l.Dense}
		for _, e := range l.Experts {
			parts = append(parts, e)
		}
		for _, s := range slices.Concat(parts...) {
			for _, share := range s {
				on("a share of the placement", share.Device)
			}
		}
	}
}

// finite is rule V27.
func (v *verifier) finite() {
	bad := func(f float64) bool { return math.IsNaN(f) || math.IsInf(f, 0) }
	for _, c := range v.p.Consts {
		for _, x := range c.Values {
			if bad(float64(x)) {
				v.fail("const %s holds %v", c.Name, x)
			}
		}
	}
	v.blocks(func(b *blockIndex) {
		b.steps(func(q *Queue, at int, s *Step) {
			for _, a := range s.Attrs {
				if f, ok := a.Value.(float64); ok && bad(f) {
					v.fail("%s: %s is %v", where(b, q, at, s), a.Name, f)
				}
			}
		})
	})
}

// names is rule V01.
func (v *verifier) names() {
	p := v.p
	for _, l := range []struct {
		name string
		n    int
	}{
		{"tokens", p.Limits.Tokens}, {"rows", p.Limits.Rows}, {"sequences", p.Limits.Sequences}, {"context", p.Limits.Context},
		{"page", p.Limits.Page}, {"pages", p.Limits.Pages}, {"segments of a sum", p.Numerics.Segments}, {"words of the vocabulary", p.Model.Vocab},
	} {
		if l.n < 1 || l.n > maxNumber {
			v.fail("limit of %s is %d, not between 1 and %d", l.name, l.n, maxNumber)
		}
	}
	if p.Model.Layers < 0 || p.Model.Layers > maxLayers {
		v.fail("model has %d layers, not between 0 and %d", p.Model.Layers, maxLayers)
	}
	if p.Numerics.Mode != ir.Invariant && p.Numerics.Mode != ir.Fast {
		v.fail("numerics are %q, want %s or %s", p.Numerics.Mode, ir.Invariant, ir.Fast)
	}
	for _, m := range p.Memory {
		for _, n := range []int64{m.Consts, m.Weights, m.Caches, m.Buffers, m.Total, m.Budget} {
			if n < 0 || n > maxBytes {
				v.fail("account of device %d has %d bytes, not between 0 and %d", m.Device, n, int64(maxBytes))
			}
		}
	}
	v.bucketNames()
	v.residentNames()
	if len(p.Programs) == 0 {
		v.fail("there is no program")
	}
	programs := make(map[string]bool)
	for _, prog := range v.progs {
		if !goodName(prog.Name) || programs[prog.Name] {
			v.fail("program %q has no proper name, or one that is taken", prog.Name)
		}
		programs[prog.Name] = true
		v.programNames(prog)
	}
	v.kernelNames()
}

// goodName reports whether a name can stand in an operand's text.
func goodName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == '@' || r == ':' || r > '~' })
}

func (v *verifier) bucketNames() {
	last := 0
	for _, b := range v.p.Buckets {
		if b.Tokens <= last || !slices.ContainsFunc(v.p.Programs, func(p Program) bool { return p.Name == b.Program }) {
			v.fail("bucket of %d tokens after %d names program %q", b.Tokens, last, b.Program)
		}
		last = b.Tokens
	}
	if last != v.p.Limits.Tokens {
		v.fail("buckets end at %d tokens, steps have up to %d", last, v.p.Limits.Tokens)
	}
}

// goodShape reports whether a constant shape has a size that can be computed.
func goodShape(shape []int) bool {
	n := int64(8)
	for _, d := range shape {
		if d < 1 || d > maxNumber || n > maxBytes/int64(d) {
			return false
		}
		n *= int64(d)
	}
	return len(shape) <= maxRank
}

// goodType reports whether a buffer of this type has a size that can be
// computed: at most one symbol, of the plan's groups, first or below a stack
// of partial sums.
func (v *verifier) goodType(t tensor.Type) bool {
	symbols := 0
	for i, d := range t.Shape {
		if d.Sym == "" {
			continue
		}
		if symbols++; symbols > 1 || i > 1 || d.Sym.Base() == tensor.Cached || d.Sym.Group() >= v.groups {
			return false
		}
	}
	return t.DType != tensor.Invalid && goodShape(t.Shape.Extents(v.bounds()))
}

func (v *verifier) residentNames() {
	type key struct {
		kind, name string
		device     int
	}
	seen := make(map[key]map[int]bool) // to layers
	once := func(kind, name string, device int, r Range) {
		if !goodName(name) || r != NoLayers && (r.First < 0 || r.Last < r.First || r.Last >= v.p.Model.Layers) {
			v.fail("%s %q of device %d has no proper name, or is for layers %d to %d of %d", kind, name, device, r.First, r.Last, v.p.Model.Layers)
			return
		}
		k := key{kind, name, device}
		if seen[k] == nil {
			seen[k] = make(map[int]bool)
		}
		first, count := r.layersOf()
		if seen[k][-1] || first < 0 && len(seen[k]) > 0 {
			v.fail("%s %s of device %d is given twice", kind, name, device)
		}
		for i := range count {
			if seen[k][first+i] {
				v.fail("%s %s of device %d is given twice for layer %d", kind, name, device, first+i)
			}
			seen[k][first+i] = true
		}
	}
	for _, w := range v.p.Weights {
		once("weight", w.Name, w.Device, w.Layers)
		if !goodShape(w.Shape) || len(w.Shape) == 0 || !w.DType.Float() {
			v.fail("weight %s of device %d is %s of shape %v", w.Name, w.Device, w.DType, w.Shape)
		}
	}
	for _, c := range v.p.Caches {
		once("cache", c.Name, c.Device, c.Layers)
		if !goodShape([]int{v.p.Limits.Pages, v.p.Limits.Page, c.Heads, c.KeyDim, 2}) || !goodShape([]int{v.p.Limits.Pages, v.p.Limits.Page, c.Heads, c.ValDim, 2}) ||
			!c.DType.Float() || c.Window < 0 || c.First < 0 || c.First > maxNumber {
			v.fail("cache %s of device %d: %d heads of %d + %d %s from %d, window %d", c.Name, c.Device, c.Heads, c.KeyDim, c.ValDim, c.DType, c.First, c.Window)
		}
		if c.Group < 0 || c.Group >= v.groups {
			v.fail("cache %s of device %d is of token group %d of %d", c.Name, c.Device, c.Group, v.groups)
		}
	}
	for _, c := range v.p.Consts {
		once("const", c.Name, 0, NoLayers)
		if !goodShape(c.Shape) {
			v.fail("const %s has shape %v", c.Name, c.Shape)
		}
	}
}

func (v *verifier) programNames(prog *progIndex) {
	if len(prog.blocks) != len(prog.Blocks) || len(prog.shared) != len(prog.Buffers) {
		v.fail("program %s has blocks or buffers of the same name", prog.Name)
	}
	if len(prog.Runs) > 2*maxLayers {
		v.fail("program %s has %d runs", prog.Name, len(prog.Runs))
		return
	}
	run := make(map[string]bool)
	for _, r := range prog.Runs {
		block := prog.blocks[r.Block]
		if block == nil || r.Layers != NoLayers && (r.Layers.First < 0 || r.Layers.Last < r.Layers.First || r.Layers.Last >= v.p.Model.Layers) {
			v.fail("run of block %q for layers %d to %d: no such block or layer", r.Block, r.Layers.First, r.Layers.Last)
			continue
		}
		run[r.Block] = true
		v.refs(block, r.Layers)
	}
	for i := range prog.Buffers {
		v.bufferName(prog.Name, &prog.Buffers[i])
	}
	for i := range prog.Blocks {
		v.blockNames(prog.blocks[prog.Blocks[i].Name], run)
	}
	v.outputNames(prog)
}

func (v *verifier) bufferName(block string, b *Buffer) {
	if !goodName(b.Name) || !v.goodType(b.Type) {
		v.fail("%s: buffer %q of device %d, %s, has no proper name or type", block, b.Name, b.Device, b.Type)
	}
}

// blockNames checks what a block has by itself.
func (v *verifier) blockNames(block *blockIndex, run map[string]bool) {
	if !goodName(block.Name) || !run[block.Name] {
		v.fail("block %q has no proper name, or nothing runs it", block.Name)
	}
	if len(block.local) != len(block.Buffers) {
		v.fail("%s has buffers of the same name", block.Name)
	}
	for i := range block.Buffers {
		b := &block.Buffers[i]
		v.bufferName(block.Name, b)
		if block.prog.shared[bufKey{b.Device, b.Name}] != nil {
			v.fail("%s: buffer %s of device %d is also the program's", block.Name, b.Name, b.Device)
		}
	}
	queues := make(map[int]bool)
	for i := range block.Queues {
		if queues[block.Queues[i].Device] {
			v.fail("%s: device %d has two queues", block.Name, block.Queues[i].Device)
		}
		queues[block.Queues[i].Device] = true
	}
	for i := range block.Queues {
		q := &block.Queues[i]
		for at := range q.Steps {
			v.stepForm(block, q, at)
		}
	}
}

// noSteps are ops that a plan expresses otherwise.
var noSteps = []string{"input", "const", "weight", "param", "reshape", "pack"}

// stepForm checks a step and its body by themselves.
func (v *verifier) stepForm(b *blockIndex, q *Queue, at int) {
	s := &q.Steps[at]
	for i := range s.Body {
		inner := &s.Body[i]
		if inner.Body != nil || inner.Op == "fused" || inner.Op == "kv_append" || inner.collective() {
			v.fail("%s: has no place in the body of a fused step", where(b, q, at, inner))
		}
		v.opForm(b, q, at, inner)
	}
	if (s.Op == "fused") != (len(s.Body) > 0) {
		v.fail("%s: has a body of %d steps", where(b, q, at, s), len(s.Body))
	}
	v.opForm(b, q, at, s)
}

func (v *verifier) opForm(b *blockIndex, q *Queue, at int, s *Step) {
	info := OpInfo(s.Op)
	if info == nil || slices.Contains(noSteps, s.Op) {
		v.fail("%s: no such op", where(b, q, at, s))
		return
	}
	small := func(name string, n, limit int) {
		if n < 0 || n > limit {
			v.fail("%s: %s is %d, not between 0 and %d", where(b, q, at, s), name, n, limit)
		}
	}
	for _, a := range s.Attrs {
		if !takes(info, a) {
			v.fail("%s: takes no attribute %s of %v", where(b, q, at, s), a.Name, a.Value)
		}
		limit := maxNumber
		if a.Name == "leaves" || a.Name == "total" || a.Name == "experts" || a.Name == "leaf" || a.Name == "spans" {
			limit = maxLeaves
		}
		switch n := a.Value.(type) {
		case int:
			small(a.Name, n, limit)
		case []int:
			small("length of "+a.Name, len(n), maxLeaves+1)
			for _, n := range n {
				small(a.Name, n, limit)
			}
		case [][]int:
			small("length of "+a.Name, len(n), maxLeaves)
			for _, n := range slices.Concat(n...) {
				small(a.Name, n, limit)
			}
		}
	}
	if s.collective() && s.Attrs.Int("channel", -1) < 0 {
		v.fail("%s: has no channel", where(b, q, at, s))
	}
	for _, a := range s.Args {
		if a.Type.DType != tensor.Invalid && !v.goodType(a.Type) {
			v.fail("%s: reads %s as %s", where(b, q, at, s), a.Name, a.Type)
		}
	}
}

// takes reports whether an op has an attribute of that name and kind.
func takes(info *ir.OpInfo, a ir.Attr) bool {
	i := slices.IndexFunc(info.Attrs, func(o ir.AttrInfo) bool { return o.Name == a.Name })
	if i < 0 {
		return false
	}
	switch a.Value.(type) {
	case int:
		return info.Attrs[i].Kind == ir.Int
	case float64:
		return info.Attrs[i].Kind == ir.Float
	case string:
		return info.Attrs[i].Kind == ir.Text
	case []int:
		return info.Attrs[i].Kind == ir.Ints
	case [][]int:
		return info.Attrs[i].Kind == ir.Sets
	case []float32:
		return info.Attrs[i].Kind == ir.Floats
	case tensor.DType:
		return info.Attrs[i].Kind == ir.DTypes
	}
	return false
}

func (v *verifier) outputNames(prog *progIndex) {
	for _, o := range prog.Outputs {
		if prog.shared[bufKey{o.Device, o.Buffer}] == nil || !v.goodType(o.Type) || o.Group < 0 || o.Group >= v.groups {
			v.fail("output %q of group %d is in buffer %q of device %d as %s: no such group, buffer or type", o.Name, o.Group, o.Buffer, o.Device, o.Type)
		}
	}
}

// refs checks the names in the steps of a block for all layers of a run.
func (v *verifier) refs(b *blockIndex, layers Range) {
	b.steps(func(q *Queue, at int, s *Step) {
		if s.Out != "" && b.buffer(q.Device, s.Out) == nil {
			v.fail("%s: result goes to %q, which does not exist", where(b, q, at, s), s.Out)
		}
		for _, a := range s.Args {
			if !v.exists(b, a, layers) {
				v.fail("%s: no %s %q on device %d for all of layers %q", where(b, q, at, s), a.Kind, a.Name, a.Device, layers)
			}
		}
	})
}

// exists reports whether an operand exists in every layer.
func (v *verifier) exists(b *blockIndex, a Ref, layers Range) bool {
	first, count := layers.layersOf()
	switch a.Kind {
	case BufferRef:
		return b.buffer(a.Device, a.Name) != nil
	case ConstRef:
		return v.consts[a.Name] != nil
	case WeightRef:
		for i := range count {
			if v.weight(a.Device, a.Name, first+i) == nil {
				return false
			}
		}
		return true
	case CacheRef:
		for i := range count {
			if v.cache(a.Device, a.Name, first+i) == nil {
				return false
			}
		}
		return true
	}
	return false
}

// kernelNames checks that kernels are chosen for steps that exist, one each.
func (v *verifier) kernelNames() {
	for _, k := range v.p.Kernels {
		type place struct {
			program, block     string
			device, step, body int
		}
		seen := make(map[place]bool)
		for _, c := range k.Choices {
			at := place{c.Program, c.Block, c.Device, c.Step, c.Body}
			if s := v.chosen(c); s == nil || c.Kernel == "" || seen[at] {
				v.fail("kernel %q of %s is for step %d (body %d) of device %d in block %q, which does not exist or has one", c.Kernel, k.Backend, c.Step, c.Body, c.Device, c.Block)
			}
			seen[at] = true
		}
		v.wholeNames(k)
	}
}

// wholeNames checks that whole programs and layouts are of what exists, each
// once, and that tiles divide their weights.
func (v *verifier) wholeNames(k Kernels) {
	wholes, layouts := make(map[[3]string]bool), make(map[[2]string]bool)
	for _, w := range k.Wholes {
		at := [3]string{w.Program, strconv.Itoa(w.Device), strconv.Itoa(w.Tokens)}
		exists := slices.ContainsFunc(v.p.Programs, func(p Program) bool { return p.Name == w.Program })
		if !exists || w.Kernel == "" || w.Device < 0 || w.Device >= len(v.p.Memory) || w.Tokens < 1 || w.Space < 0 || wholes[at] {
			v.fail("kernel %q of %s is for program %q on device %d, which does not exist or has one, or its numbers are out of range", w.Kernel, k.Backend, w.Program, w.Device)
		}
		wholes[at] = true
	}
	for _, l := range k.Layouts {
		at := [2]string{l.Weight, strconv.Itoa(l.Device)}
		i := slices.IndexFunc(v.p.Weights, func(w Weight) bool { return w.Name == l.Weight && w.Device == l.Device })
		if i < 0 || l.Layout != Tiles || layouts[at] || !tiled(v.p.Weights[i]) {
			v.fail("layout %q of %s is for weight %q on device %d, which does not exist, has one, or cannot lie so", l.Layout, k.Backend, l.Weight, l.Device)
		}
		layouts[at] = true
	}
}

// TileSide is the rows and columns of a tile.
const TileSide = 64

// tiled reports whether tiles divide a weight, whose elements have two bytes.
func tiled(w Weight) bool {
	shape, n := w.Shape, len(w.Shape)
	return n >= 2 && w.DType.Bytes() == 2 && shape[n-1]%TileSide == 0 && shape[n-2]%TileSide == 0
}

// chosen finds the step that a choice is for.
func (v *verifier) chosen(c Choice) *Step {
	for _, prog := range v.progs {
		b := prog.blocks[c.Block]
		if prog.Name != c.Program || b == nil {
			continue
		}
		for i := range b.Queues {
			q := &b.Queues[i]
			if q.Device != c.Device || c.Step < 0 || c.Step >= len(q.Steps) || c.Body < 0 || c.Body > len(q.Steps[c.Step].Body) {
				continue
			}
			return &q.Steps[c.Step]
		}
	}
	return nil
}
