package prove

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// block is a block of the plan with its steps prepared.
type block struct {
	*plan.Block
	queues  map[int][]*site
	locals  map[int][]*loc // its own buffers, by device
	members map[int]int    // by channel
	layers  []int          // that it runs for, -1 for none
	apart   map[int]bool   // channels that were checked
	buffers map[bufferKey]*plan.Buffer
}

type bufferKey struct {
	device int
	name   string
}

type residentKey struct {
	kind   plan.RefKind
	device int
	name   string
}

// site is a step of a queue, or of a step's body.
type site struct {
	block      *block
	program    string
	device     int
	at, inner  int // in the queue; in the body, -1 for the step itself
	step       *plan.Step
	op         string
	spec       *spec
	args       []operand
	out        result
	collective bool
	channel    int
	alike      int // equal for members that compute the same from the same
	group      int // token group of the first operand's rows
	body       []*site

	along int   // axis that the attributes count along
	made  typed // what the op makes
}

// operand is where a step finds an operand.
type operand struct {
	ref     plan.Ref
	loc     *loc   // of a buffer or const
	byLayer []*loc // of a weight or cache, -1 first
	t       typed
	shape   tensor.Shape // divided
	layout  layout
	split   int // of a cache: entries of a key, divided
}

// result is where a step puts its result.
type result struct {
	loc    *loc
	dtype  tensor.DType
	shape  tensor.Shape
	layout layout
}

// at returns the operand's loc in a layer, or nil.
func (o *operand) at(layer int) *loc {
	if o.byLayer == nil {
		return o.loc
	}
	if layer+1 < len(o.byLayer) {
		return o.byLayer[layer+1]
	}
	return nil
}

func (o *operand) newCache() *cache {
	return newCache(o.shape[1].N, o.split, o.shape[2].N-o.split)
}

// in names the step for messages.
func (s *site) in(layer int) string {
	text := fmt.Sprintf("%s: device %d: step %d (%s)", s.block.Name, s.device, s.at, s.op)
	if s.inner >= 0 {
		text = fmt.Sprintf("%s: device %d: step %d, body %d (%s)", s.block.Name, s.device, s.at, s.inner, s.op)
	}
	if layer >= 0 {
		text += fmt.Sprintf(" in layer %d", layer)
	}
	return text
}

// viewKey, madeKey and the like name what has axes in the shrinker.
type (
	viewKey struct {
		s   *plan.Step
		arg int
	}
	madeKey  struct{ s *plan.Step }
	cacheKey struct{ c *plan.Cache }
)

// prepare resolves the steps of the program and says what they demand of the
// axes.
func (m *machine) prepare() error {
	if err := m.prepareTurns(); err != nil {
		return err
	}
	for i := range m.prog.Buffers {
		l, err := m.buffer(&m.prog.Buffers[i])
		if err != nil {
			return err
		}
		m.common = append(m.common, l)
	}
	for i := range m.prog.Blocks {
		if b := m.blocks[m.prog.Blocks[i].Name]; len(b.layers) > 0 {
			if err := m.prepareBlock(b); err != nil {
				return err
			}
		}
	}
	for i := range m.prog.Outputs {
		o := &m.prog.Outputs[i]
		r, err := m.operand(nil, plan.Ref{Kind: plan.BufferRef, Name: o.Buffer, Device: o.Device, Type: o.Type}, o)
		if err != nil {
			return fmt.Errorf("output %s: %w", o.Name, err)
		}
		m.outputs = append(m.outputs, r)
	}
	return nil
}

// prepareTurns lists what is run.
func (m *machine) prepareTurns() error {
	m.blocks = make(map[string]*block)
	for i := range m.prog.Blocks {
		b := &block{Block: &m.prog.Blocks[i], queues: make(map[int][]*site), locals: make(map[int][]*loc), members: make(map[int]int),
			apart: make(map[int]bool), buffers: make(map[bufferKey]*plan.Buffer)}
		for j := range b.Buffers {
			b.buffers[bufferKey{b.Buffers[j].Device, b.Buffers[j].Name}] = &b.Buffers[j]
		}
		m.blocks[b.Name] = b
	}
	for _, r := range m.prog.Runs {
		b := m.blocks[r.Block]
		if b == nil {
			return fmt.Errorf("program %s runs block %q, which it does not have", m.prog.Name, r.Block)
		}
		first := r.Layers.First
		if r.Layers == plan.NoLayers {
			first = -1
		}
		if last := first + r.Layers.Len() - 1; first < -1 || last >= max(m.logical.Layers, 0) || first < 0 && r.Layers != plan.NoLayers {
			return fmt.Errorf("program %s runs %s for layers %d to %d of %d", m.prog.Name, r.Block, first, last, m.logical.Layers)
		}
		for i := range r.Layers.Len() {
			m.turns = append(m.turns, turn{b, first + i})
			if !slices.Contains(b.layers, first+i) {
				b.layers = append(b.layers, first+i)
			}
		}
	}
	return nil
}

func (m *machine) prepareBlock(b *block) error {
	for i := range b.Buffers {
		l, err := m.buffer(&b.Buffers[i])
		if err != nil {
			return fmt.Errorf("%s: %w", b.Name, err)
		}
		b.locals[l.device] = append(b.locals[l.device], l)
	}
	byChannel := make(map[int][]*site)
	for i := range b.Queues {
		q := &b.Queues[i]
		if q.Device < 0 || q.Device >= len(m.devices) || b.queues[q.Device] != nil {
			return fmt.Errorf("%s: has a second queue for device %d, or there is none of %d", b.Name, q.Device, len(m.devices))
		}
		for at := range q.Steps {
			s := &site{block: b, program: m.prog.Name, device: q.Device, at: at, inner: -1, step: &q.Steps[at], alike: -1}
			if err := m.site(s); err != nil {
				return m.failed(s, b.layers[0], err)
			}
			b.queues[q.Device] = append(b.queues[q.Device], s)
			if s.collective {
				b.members[s.channel]++
				s.alike = alike(byChannel[s.channel], s)
				byChannel[s.channel] = append(byChannel[s.channel], s)
			}
		}
	}
	return nil
}

// alike gives members of a channel that do the same the same number.
func alike(before []*site, s *site) int {
	for _, o := range before {
		if o.op == s.op && reflect.DeepEqual(o.step.Args, s.step.Args) && reflect.DeepEqual(o.step.Attrs, s.step.Attrs) {
			return o.alike
		}
	}
	return len(before)
}

// site resolves one step.
func (m *machine) site(s *site) error {
	s.op = s.step.Op
	info := plan.OpInfo(s.op)
	if info == nil {
		return fmt.Errorf("there is no op %q", s.op)
	}
	s.collective, s.channel = info.Has(ir.Collective), s.step.Attrs.Int("channel", -1)
	for i, a := range s.step.Args {
		o, err := m.operand(s.block, a, viewKey{s.step, i})
		if err != nil {
			return err
		}
		s.args = append(s.args, o)
	}
	if len(s.args) > 0 {
		s.group = rowGroup(s.args[0].t.Type)
	}
	if (s.op == "fused") != (len(s.step.Body) > 0) {
		return fmt.Errorf("has a body of %d steps", len(s.step.Body))
	}
	if s.op == "send" {
		if s.step.Out != "" {
			return fmt.Errorf("has a result %q", s.step.Out)
		}
		return nil
	}
	if s.op == "fused" {
		return m.siteBody(s)
	}
	return m.siteOp(s)
}

// siteBody resolves the steps of a fused one.
func (m *machine) siteBody(s *site) error {
	made := make(map[string]bool)
	for i := range s.step.Body {
		for _, a := range s.step.Body[i].Args {
			own := a.Kind == plan.ConstRef || a.Kind == plan.BufferRef && a.Device == s.device && made[a.Name]
			if !own && !slices.ContainsFunc(s.step.Args, func(o plan.Ref) bool { return o.Kind == a.Kind && o.Name == a.Name && o.Device == a.Device }) {
				return fmt.Errorf("its body reads %s, which is neither an operand nor its own", a.Name)
			}
		}
		made[s.step.Body[i].Out] = true
		b := &site{block: s.block, program: s.program, device: s.device, at: s.at, inner: i, step: &s.step.Body[i], alike: -1}
		if err := m.site(b); err != nil {
			return m.failed(b, s.block.layers[0], err)
		}
		if b.collective || b.body != nil {
			return fmt.Errorf("its body has a %s", b.op)
		}
		s.body = append(s.body, b)
	}
	last := s.body[len(s.body)-1]
	if last.step.Out != s.step.Out {
		return fmt.Errorf("its body ends in %q, not in %q", last.step.Out, s.step.Out)
	}
	s.out = last.out
	return s.overItself(false)
}

// siteOp finds the result of an op and checks that it is of the right type.
func (m *machine) siteOp(s *site) error {
	n := &ir.Node{Op: ir.Op(s.op), Attrs: s.step.Attrs, Device: s.device, Group: -1, Layer: s.block.layers[0]}
	args := s.args
	if s.op == "kv_append" {
		if len(args) != 5 || args[4].ref.Kind != plan.CacheRef {
			return fmt.Errorf("its last operand is not a cache")
		}
		args = args[:4]
		n.Attrs = n.Attrs.With("cache", "")
	}
	if s.op == "attention" && (len(args) < 2 || args[1].ref.Kind != plan.CacheRef) {
		return fmt.Errorf("its second operand is not a cache")
	}
	var types []typed
	for i := range args {
		if args[i].ref.Kind == plan.CacheRef && !(s.op == "attention" && i == 1) {
			return fmt.Errorf("reads cache %s as an array", args[i].ref.Name)
		}
		n.Args = append(n.Args, &ir.Node{Type: args[i].t.Type})
		types = append(types, args[i].t)
	}
	if err := m.inRange(s); err != nil {
		return err
	}
	made, err := m.infer(n, s.op)
	if err != nil {
		return err
	}
	if s.op == "kv_append" {
		return m.siteAppend(s, made, types)
	}
	s.made = m.s.typed(madeKey{s.step}, made)
	if s.along, err = m.s.constrain(s.op, s.step.Attrs, types, s.made); err != nil {
		return err
	}
	buffer := m.find(s.block, s.device, s.step.Out)
	if buffer == nil {
		return fmt.Errorf("device %d has no buffer %q for its result", s.device, s.step.Out)
	}
	if !buffer.Type.Equal(made) {
		return fmt.Errorf("makes %s, %s is %s", made, buffer.Name, buffer.Type)
	}
	m.s.sameAxes(s.made, m.s.typed(buffer, buffer.Type))
	l, err := m.buffer(buffer)
	if err != nil {
		return err
	}
	s.out = result{loc: l, dtype: made.DType, layout: layoutOf(made)}
	return s.overItself(elementwise(s.op))
}

// maxLeaves bounds the leaves of a sum and the experts of a layer, far above
// any model, so that a damaged number does not take all memory.
const maxLeaves = 1 << 12

// inRange checks the numbers that lists are made of.
func (m *machine) inRange(s *site) error {
	for _, name := range []string{"leaf", "leaves", "total"} {
		if n := s.step.Attrs.Int(name, 0); n < 0 || n > maxLeaves {
			return fmt.Errorf("%s is %d, not between 0 and %d", name, n, maxLeaves)
		}
	}
	if g := s.step.Attrs.Int("group", 0); s.op == "own_rows" && (g < 0 || g >= m.p.Groups()) {
		return fmt.Errorf("token group %d of %d", g, m.p.Groups())
	}
	return nil
}

// infer returns what an op makes of its operands.
func (m *machine) infer(n *ir.Node, op string) (tensor.Type, error) {
	if op == "copy" {
		if len(n.Args) != 1 {
			return tensor.Type{}, fmt.Errorf("has %d operands, takes 1", len(n.Args))
		}
		return n.Args[0].Type, nil
	}
	if n.Op == nil || kernels[op] == nil && op != "kv_append" && op != "attention" {
		return tensor.Type{}, fmt.Errorf("op %q is no step", op)
	}
	return ir.Infer(n)
}

// siteAppend checks that what is stored fits the cache.
func (m *machine) siteAppend(s *site, made tensor.Type, types []typed) error {
	kv := &s.args[4]
	if s.step.Out != "" {
		return fmt.Errorf("has a result %q", s.step.Out)
	}
	var err error
	s.made = m.s.typed(madeKey{s.step}, made)
	if s.along, err = m.s.constrain(s.op, nil, types, s.made); err != nil {
		return err
	}
	if made.DType != kv.t.DType || !made.Shape.Equal(kv.t.Shape) || types[0].Shape[2].N != kv.split {
		return fmt.Errorf("stores %s, of which %d are a key's, in cache %s: %s, of which %d are", made, types[0].Shape[2].N, kv.ref.Name, kv.t.Type, kv.split)
	}
	m.s.sameAxes(s.made, kv.t)
	return nil
}

// overItself refuses a result that takes bytes of an operand, unless the op
// works element by element on one buffer.
func (s *site) overItself(inPlace bool) error {
	if s.collective {
		return nil // checked for all members
	}
	for i := range s.args {
		in := s.args[i].loc
		if in == nil || in.device != s.out.loc.device || in.lo >= s.out.loc.hi || s.out.loc.lo >= in.hi {
			continue
		}
		if inPlace && in == s.out.loc && s.args[i].t.Shape.Equal(s.made.Shape) {
			continue
		}
		return &raceError{fmt.Sprintf("writes its result over its operand %s: bytes %d to %d of device %d", in.name, max(in.lo, s.out.loc.lo), min(in.hi, s.out.loc.hi), s.device)}
	}
	return nil
}

// find returns a buffer of a block or of its program, or nil.
func (m *machine) find(b *block, device int, name string) *plan.Buffer {
	if b != nil {
		if buf := b.buffers[bufferKey{device, name}]; buf != nil {
			return buf
		}
	}
	for i := range m.prog.Buffers {
		if buf := &m.prog.Buffers[i]; buf.Device == device && buf.Name == name {
			return buf
		}
	}
	return nil
}

// operand finds an operand; key names its view, if it is seen under other
// extents than its own.
func (m *machine) operand(b *block, a plan.Ref, key any) (operand, error) {
	o := operand{ref: a}
	var err error
	switch a.Kind {
	case plan.BufferRef:
		buf := m.find(b, a.Device, a.Name)
		if buf == nil {
			return o, fmt.Errorf("device %d has no buffer %q", a.Device, a.Name)
		}
		o.t = m.s.typed(buf, buf.Type)
		o.loc, err = m.buffer(buf)
	case plan.ConstRef:
		c := m.constant(a.Name)
		if c == nil {
			return o, fmt.Errorf("there is no const %q", a.Name)
		}
		o.t = m.s.typed(c, tensor.Type{DType: tensor.F32, Shape: tensor.Ints(c.Shape...)})
		if o.loc = m.tables[tableKey{a.Device, c}]; o.loc == nil {
			err = fmt.Errorf("const %s is on device %d of %d", a.Name, a.Device, len(m.devices))
		}
	case plan.WeightRef, plan.CacheRef:
		err = m.resident(b, &o)
	default:
		return o, fmt.Errorf("operand %q is of no kind: %q", a.Name, a.Kind)
	}
	if err != nil {
		return o, err
	}
	if a.Type.DType != tensor.Invalid {
		view := m.s.typed(key, a.Type)
		if a.Type.DType != o.t.DType {
			return o, fmt.Errorf("%s is %s, read as %s", a.Name, o.t.Type, a.Type)
		}
		if err := m.s.reshaped(view, o.t); err != nil {
			return o, fmt.Errorf("%s: %w", a.Name, err)
		}
		o.t = view
	}
	o.layout = layoutOf(o.t.Type)
	return o, nil
}

func (m *machine) constant(name string) *plan.Const {
	for i := range m.p.Consts {
		if m.p.Consts[i].Name == name {
			return &m.p.Consts[i]
		}
	}
	return nil
}

// resident finds a weight or cache for each layer that the block runs for.
func (m *machine) resident(b *block, o *operand) error {
	key := residentKey{o.ref.Kind, o.ref.Device, o.ref.Name}
	rows := m.rows[key]
	first := true
	for _, layer := range b.layers {
		i := slices.IndexFunc(rows, func(r row) bool { return r.layers.Has(layer) || r.layers == plan.NoLayers })
		if i < 0 {
			return fmt.Errorf("no %s %q for layer %d on device %d", o.ref.Kind, o.ref.Name, layer, o.ref.Device)
		}
		r := rows[i]
		switch {
		case first:
			o.t, o.split, first = r.t, r.split, false
		case r.t.DType != o.t.DType || !r.t.Shape.Equal(o.t.Shape) || r.split != o.split:
			return fmt.Errorf("%s %q is %s in layer %d, %s in others", o.ref.Kind, o.ref.Name, r.t.Type, layer, o.t.Type)
		default:
			m.s.sameAxes(r.t, o.t)
		}
		turn, _ := r.layers.Turn(layer)
		for len(o.byLayer) <= layer+1 {
			o.byLayer = append(o.byLayer, nil)
		}
		o.byLayer[layer+1] = r.locs[turn]
	}
	return nil
}

// row is a row of the plan's weights or caches.
type row struct {
	layers plan.Range
	t      typed
	split  int // entries of a key
	locs   []*loc
}

// prepareResidents gives every weight and cache its locs, and joins the axes
// of weights with those of the model's.
func (m *machine) prepareResidents() error {
	m.rows = make(map[residentKey][]row)
	for i := range m.p.Weights {
		w := &m.p.Weights[i]
		if err := m.layersThere("weight "+w.Name, w.Layers); err != nil {
			return err
		}
		r := row{layers: w.Layers, t: m.s.typed(w, tensor.Type{DType: w.DType, Shape: tensor.Ints(w.Shape...)})}
		if err := m.joinParts(w, r.t); err != nil {
			return fmt.Errorf("weight %s of device %d: %w", w.Name, w.Device, err)
		}
		kept := fmt.Sprint(w.DType, w.Shape, w.Axis)
		for _, p := range w.Parts {
			kept += fmt.Sprint(p.Weight, p.Slice, p.Experts)
		}
		for turn := range w.Layers.Len() {
			layer := layerOf(w.Layers, turn)
			l, err := m.loc(w.Device, w.Offset+int64(turn)*w.Stride, w.Bytes(), w.DType, "weight "+named(w.Name, layer))
			if err != nil {
				return err
			}
			l.load = func() (*array, error) {
				if m.follow != nil {
					return m.follow.weight(w, layer), nil
				}
				return m.shared(keptKey{kept, layer}, w, r.t)
			}
			r.locs = append(r.locs, l)
			m.loaded = append(m.loaded, l)
		}
		key := residentKey{plan.WeightRef, w.Device, w.Name}
		m.rows[key] = append(m.rows[key], r)
	}
	for i := range m.p.Caches {
		if err := m.prepareCache(&m.p.Caches[i]); err != nil {
			return err
		}
	}
	return nil
}

// layersThere checks that the model has the layers of a range.
func (m *machine) layersThere(name string, r plan.Range) error {
	if r != plan.NoLayers && (r.First < 0 || r.First > r.Last || r.Last >= m.logical.Layers) {
		return fmt.Errorf("%s is for layers %d to %d of %d", name, r.First, r.Last, m.logical.Layers)
	}
	return nil
}

func (m *machine) prepareCache(c *plan.Cache) error {
	if err := m.layersThere("cache "+c.Name, c.Layers); err != nil {
		return err
	}
	t := tensor.Of(c.DType, tensor.S(tensor.Cached), tensor.N(c.Heads), tensor.N(c.KeyDim+c.ValDim))
	r := row{layers: c.Layers, t: m.s.typed(cacheKey{c}, t), split: c.KeyDim}
	m.s.need(r.t.axis(1), 1)
	m.s.need(r.t.last(), c.KeyDim)
	for turn := range c.Layers.Len() {
		layer := layerOf(c.Layers, turn)
		l, err := m.loc(c.Device, c.Offset+int64(turn)*c.Stride, c.Bytes(m.p.Limits), c.DType, "cache "+named(c.Name, layer))
		if err != nil {
			return err
		}
		r.locs = append(r.locs, l)
		for _, n := range m.logical.appends[named(c.Name, layer)] {
			m.s.join(m.s.typed(n, n.Type).last(), r.t.last())
		}
	}
	key := residentKey{plan.CacheRef, c.Device, c.Name}
	m.rows[key] = append(m.rows[key], r)
	return nil
}

// layerOf returns the layer of a range's turn, -1 outside the layers.
func layerOf(r plan.Range, turn int) int {
	if r == plan.NoLayers {
		return -1
	}
	return r.First + turn
}

// named puts a layer's number into a name.
func named(name string, layer int) string {
	return strings.ReplaceAll(name, "{layer}", strconv.Itoa(layer))
}
