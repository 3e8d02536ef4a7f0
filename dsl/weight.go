package dsl

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"moec/ir"
	"moec/ir/diag"
	"moec/ir/tensor"
)

// expertBody is the run of a block that each expert has its own weights of.
type expertBody struct {
	ids     *ir.Node // chosen experts
	total   int
	experts []int // all of them
}

// weightEntry is a weight of the graph's table and the node that gives it.
type weightEntry struct {
	weight *ir.Weight
	node   *ir.Node
}

// weight declares a weight and returns its value, none when its condition does
// not hold.
func (f *frame) weight(s *weightStmt) value {
	if s.Cond != nil {
		ok, known := f.condition(s.Cond)
		if !known {
			return poison{}
		}
		if !ok {
			return nil
		}
	}
	at, n := place(s.Name.Pos), s.Name.Text
	want := f.typeOf(s.Type)
	if !want.ok {
		return poison{}
	}
	if !want.shaped || want.shape.rowed() {
		return f.errorf(at, len(n), "a weight has constant extents; write: %s", forms["weight"])
	}
	elems := int64(1)
	for _, e := range want.shape {
		var ok bool
		if elems, ok = product(elems, int64(e.n)); !ok || elems > maxElems {
			return f.errorf(at, len(n), "weight %s %s has more than %d elements", n, want.shape, int64(maxElems))
		}
	}
	options, ok := f.sources(s, want.shape)
	if !ok {
		return poison{}
	}
	w := f.pick(s, want, options)
	if w == nil {
		return poison{}
	}
	return f.weightValue(s, w, want.shape)
}

// option is one place where a weight may be stored.
type option struct {
	src      ir.Source
	numbered int // how often it says which expert it is for
	at       diag.Pos
}

// sources lists the places of a weight: for each key, under each scope.
func (f *frame) sources(s *weightStmt, shape shape) ([]option, bool) {
	var list []option
	for _, src := range f.usable(s.Sources) {
		key, ok := f.key(unquote(src.Key), place(src.Pos), f.expert != nil)
		if !ok {
			return nil, false
		}
		view, ok := f.view(s, src, shape)
		if !ok {
			return nil, false
		}
		for _, scope := range f.scopes {
			o := option{src: view, at: place(src.Pos)}
			o.src.Key = joinKey(scope, key)
			if slices.ContainsFunc(view.View, func(a ir.Axis) bool { return a.Expert }) {
				o.numbered++
			}
			if o.src.PerExpert() {
				o.numbered++
			}
			list = append(list, o)
		}
	}
	if len(list) > maxAlternatives {
		f.errorf(place(s.Name.Pos), len(s.Name.Text), "weight %s has %d alternatives, at most %d", s.Name.Text, len(list), maxAlternatives)
		return nil, false
	}
	return f.numberedOnce(s, list)
}

// usable leaves out sources that need an expert where there is none, as long
// as others are left: then a block serves as an expert and as a layer of its
// own.
func (f *frame) usable(list []*source) []*source {
	if f.expert != nil {
		return list
	}
	var out []*source
	for _, src := range list {
		if !strings.Contains(src.Key, "{expert}") && (src.Index == nil || !slices.ContainsFunc(src.Index.Items, isExpert)) {
			out = append(out, src)
		}
	}
	if len(out) == 0 {
		return list // and report them
	}
	return out
}

// numberedOnce leaves out combinations of scopes and keys that number the
// experts twice or not at all, where some do it once. A weight whose sources
// do not number them is shared by all experts.
func (f *frame) numberedOnce(s *weightStmt, list []option) ([]option, bool) {
	var once []option
	for _, o := range list {
		if o.numbered == 1 {
			once = append(once, o)
		}
	}
	if len(once) > 0 {
		return once, true
	}
	for _, o := range list {
		if o.numbered > 1 {
			f.errorf(o.at, 1, "%s has {expert} in the key and expert in the index; the experts are numbered once", o.src.Key)
			return nil, false
		}
	}
	return list, true
}

// view evaluates what part of the stored tensor a weight is.
func (f *frame) view(s *weightStmt, src *source, shape shape) (ir.Source, bool) {
	out := ir.Source{Transposed: src.Transposed}
	stored, ok := f.stored(src, shape)
	if !ok {
		return out, false
	}
	out.Stored = stored
	if src.Index == nil {
		for _, d := range stored {
			out.View = append(out.View, ir.Axis{Hi: d, Step: 1})
		}
	} else if out.View, ok = f.axes(src, stored); !ok {
		return out, false
	}
	return out, f.gives(s, src, out, shape)
}

// stored returns the shape of the stored tensor: as declared after of, or as
// the weight's own extents say where the index takes whole axes.
func (f *frame) stored(src *source, shape shape) ([]int, bool) {
	if src.Stored != nil {
		ext, ok := f.shape(src.Stored)
		if ok && ext.rowed() {
			f.errorf(place(src.Stored.Pos), 1, "stored tensors have constant extents")
			return nil, false
		}
		return ext.ints(), ok
	}
	own := shape.ints()
	if n := len(own); src.Transposed && n >= 2 {
		own[n-1], own[n-2] = own[n-2], own[n-1]
	}
	if src.Index == nil {
		return own, true
	}
	var out []int
	for _, item := range src.Index.Items {
		switch {
		case isExpert(item) && f.expert != nil:
			out = append(out, f.expert.total)
		case item.Full && item.To == nil && item.By == nil && len(own) > 0:
			out = append(out, own[0])
			own = own[1:]
		case isExpert(item):
			f.errorf(place(item.Pos), len(expertName), "expert is only known in a block that route goes through")
			return nil, false
		default:
			f.errorf(place(item.Pos), 1, "the extents of the stored tensor are needed here; write them after the index: of [EXTENT, ...]")
			return nil, false
		}
	}
	if len(own) > 0 {
		f.errorf(place(src.Index.Pos), 1, "the index has %s, the weight %s and no part of it is left out; write the stored extents after it: of [EXTENT, ...]",
			countAxes(len(src.Index.Items)), countAxes(len(shape)))
		return nil, false
	}
	return out, true
}

func countAxes(n int) string {
	if n == 1 {
		return "1 axis"
	}
	return strconv.Itoa(n) + " axes"
}

// isExpert reports whether an index entry is the word expert.
func isExpert(item *indexItem) bool {
	if item.Lo == nil || item.Range {
		return false
	}
	n, ok := item.Lo.tree.(nameNode)
	return ok && n.name == expertName
}

// axes evaluates the index of a stored tensor.
func (f *frame) axes(src *source, stored []int) ([]ir.Axis, bool) {
	items := src.Index.Items
	if len(items) != len(stored) {
		f.errorf(place(src.Index.Pos), 1, "the index has %s, the stored tensor %s has %d", countAxes(len(items)), intsText(stored), len(stored))
		return nil, false
	}
	var out []ir.Axis
	for i, item := range items {
		if isExpert(item) {
			if f.expert == nil {
				f.errorf(place(item.Pos), len(expertName), "expert is only known in a block that route goes through")
				return nil, false
			}
			if stored[i] != f.expert.total {
				f.errorf(place(item.Pos), len(expertName), "axis %d of the stored tensor %s has %d entries for %d experts", i, intsText(stored), stored[i], f.expert.total)
				return nil, false
			}
			out = append(out, ir.Axis{Expert: true})
			continue
		}
		lo, hi, step, ok := f.span(partOf(item), stored[i], func() string { return fmt.Sprintf("axis %d of the stored tensor %s", i, intsText(stored)) })
		if !ok {
			return nil, false
		}
		out = append(out, ir.Axis{Lo: lo, Hi: hi, Step: step})
	}
	return out, true
}

// span evaluates a part lo:hi:step, or one entry, of an axis.
func (f *frame) span(p indexPart, n int, what func() string) (lo, hi, step int, ok bool) {
	bound := func(x node, def int64) int64 {
		if x == nil || !ok {
			return def
		}
		var v int64
		v, ok = f.wholeNumber(x, "a bound")
		return v
	}
	ok = true
	first, end, by := bound(p.lo, 0), bound(p.hi, int64(n)), bound(p.step, 1)
	if p.one != nil {
		first = bound(p.one, 0)
		end = first + 1
	}
	if !ok {
		return 0, 0, 0, false
	}
	if first < 0 || end > int64(n) || first >= end || by < 1 || by > int64(n) {
		f.errorf(p.at, 1, "%s is not a part of %s, whose entries are 0 to %d", partText(p, first, end, by), what(), n-1)
		return 0, 0, 0, false
	}
	return int(first), int(end), int(by), true
}

// partText prints a part as it may be written.
func partText(p indexPart, lo, hi, step int64) string {
	switch {
	case p.one != nil:
		return fmt.Sprint(lo)
	case step == 1:
		return fmt.Sprintf("%d:%d", lo, hi)
	}
	return fmt.Sprintf("%d:%d:%d", lo, hi, step)
}

// intsText prints extents as in a description.
func intsText(list []int) string {
	words := make([]string, len(list))
	for i, n := range list {
		words[i] = strconv.Itoa(n)
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// gives checks that a view has the extents of the weight, apart from extents
// of 1.
func (f *frame) gives(s *weightStmt, src *source, v ir.Source, want shape) bool {
	var have []int
	for _, a := range v.View {
		if !a.Expert {
			have = append(have, (a.Hi-a.Lo+a.Step-1)/a.Step)
		}
	}
	if n := len(have); v.Transposed && n >= 2 {
		have[n-2], have[n-1] = have[n-1], have[n-2]
	}
	one := func(d int) bool { return d == 1 }
	if slices.Equal(slices.DeleteFunc(slices.Clone(have), one), slices.DeleteFunc(want.ints(), one)) {
		return true
	}
	d := diag.Diagnostic{Pos: place(src.Pos), Width: len(src.Key),
		Message: fmt.Sprintf("weight %s is declared as %s, this part of the stored tensor %s is %s", s.Name.Text, want, intsText(v.Stored), intsText(have))}
	if n := len(have); n == 2 && len(want) == 2 && have[0] == want[1].n && have[1] == want[0].n {
		d = d.Noted(diag.Pos{}, "it fits the other way round; write transposed at the end")
	}
	f.noted(d)
	return false
}

// pick chooses the first place that the checkpoint has, or the first when
// there is no checkpoint.
func (f *frame) pick(s *weightStmt, want wanted, options []option) *ir.Weight {
	w := &ir.Weight{Layer: f.layer, DType: want.dtype, Shape: want.shape.ints(), Source: options[0].src}
	if options[0].numbered == 1 {
		w.Experts = f.expert.total
		w.Shape = append([]int{w.Experts}, w.Shape...)
		if len(w.Shape) == 1 {
			w.Shape = append(w.Shape, 1)
		}
	}
	if f.env.Tensor == nil {
		return w
	}
	for _, o := range options {
		d, shape, ok := f.env.Tensor(o.src.KeyFor(f.layer, 0))
		if !ok {
			continue
		}
		w.Source, w.DType = o.src, d
		if !f.matches(s, o, w, shape) {
			return nil
		}
		return w
	}
	f.absent.add(place(s.Name.Pos), s.Name.Text, options, f.layer)
	return w
}

// matches compares what the checkpoint stores with what the description wants,
// for each expert's tensor.
func (f *frame) matches(s *weightStmt, o option, w *ir.Weight, have []int) bool {
	at := place(s.Name.Pos)
	key := o.src.KeyFor(f.layer, 0)
	d := w.DType
	for e := 0; ; {
		if problem := mismatch(d, have, w.DType, o.src.Stored); problem != "" {
			f.misfit(diag.Diagnostic{Pos: at, Width: len(s.Name.Text), Message: fmt.Sprintf("the checkpoint's %s %s", key, problem)})
			return false
		}
		if e++; !o.src.PerExpert() || e == w.Experts {
			break
		}
		key = o.src.KeyFor(f.layer, e)
		var ok bool
		if d, have, ok = f.env.Tensor(key); !ok {
			f.absent.add(at, s.Name.Text, []option{{src: ir.Source{Key: key}}}, f.layer)
			return true
		}
	}
	if o.src.PerExpert() {
		key = o.src.KeyFor(f.layer, w.Experts)
		if _, _, more := f.env.Tensor(key); more {
			f.misfit(diag.Diagnostic{Pos: at, Width: len(s.Name.Text),
				Message: fmt.Sprintf("the checkpoint has %s, but the description has %d experts, numbered from 0", key, w.Experts)})
			return false
		}
	}
	return true
}

// mismatch says how a stored tensor differs from what is needed.
func mismatch(d tensor.DType, have []int, wantType tensor.DType, want []int) string {
	switch {
	case d == tensor.Invalid:
		return "is stored in a type that is not read, want bf16, f16 or f32"
	case !d.Float():
		return "is stored as " + d.String() + ", want bf16, f16 or f32"
	case !slices.Equal(have, want):
		return fmt.Sprintf("is %s, the description needs %s", intsText(have), intsText(want))
	case d != wantType:
		return fmt.Sprintf("is stored as %s and the same weight of expert 0 as %s", d, wantType)
	}
	return ""
}

// misfit reports a tensor that does not fit, the first for each declaration.
func (f *frame) misfit(d diag.Diagnostic) {
	if !f.misfits[d.Pos] {
		f.misfits[d.Pos] = true
		f.noted(d)
	}
}

// weightValue enters a weight in the table and returns it.
func (f *frame) weightValue(s *weightStmt, w *ir.Weight, shape shape) value {
	at := place(s.Name.Pos)
	name := f.joinPath(s.Name.Text)
	if f.layer >= 0 {
		name = fmt.Sprintf("layers.%d.%s", f.layer, name)
	}
	entry := f.entry(name, w)
	if entry.node == nil {
		f.graph.Weights = append(f.graph.Weights, w)
		entry.node = f.add("weight", ir.MakeAttrs(attr("name", w.Name), attr("dtype", w.DType), attr("shape", w.Shape)), at)
		if entry.node == nil {
			return poison{}
		}
		entry.node.Name = s.Name.Text
	}
	x := &tensorValue{node: entry.node, shape: shape, weight: true, origin: origin{"weight " + s.Name.Text, at}}
	if w.Experts > 0 {
		x.expert = f.expert
	}
	return x
}

// entry finds a weight that is the same, or makes an entry under a free name.
func (f *frame) entry(name string, w *ir.Weight) *weightEntry {
	for i := 1; ; i++ {
		w.Name = name
		if i > 1 {
			w.Name = name + "_" + strconv.Itoa(i)
		}
		e, taken := f.weights[w.Name]
		if !taken {
			e = &weightEntry{weight: w}
			f.weights[w.Name] = e
			return e
		}
		if sameWeight(e.weight, w) {
			return e
		}
	}
}

func sameWeight(a, b *ir.Weight) bool {
	return a.Layer == b.Layer && a.DType == b.DType && a.Experts == b.Experts && slices.Equal(a.Shape, b.Shape) &&
		a.Source.Key == b.Source.Key && a.Source.Transposed == b.Source.Transposed &&
		slices.Equal(a.Source.Stored, b.Source.Stored) && slices.Equal(a.Source.View, b.Source.View)
}

// numbered returns the name of a call among those of the same block in a
// frame: name for the first, name_2 for the first under other keys.
func (f *frame) numbered(name string, scopes []string) string {
	under := strings.Join(scopes, "|")
	list := f.calls[name]
	i := slices.Index(list, under)
	if i < 0 {
		i = len(list)
		f.calls[name] = append(list, under)
	}
	if i == 0 {
		return name
	}
	return name + "_" + strconv.Itoa(i+1)
}

// missing collects weights that the checkpoint lacks, by declaration.
type missing struct {
	order []diag.Pos
	at    map[diag.Pos]*lack
}

type lack struct {
	weight string
	keys   []string
	more   int
}

func (m *missing) add(at diag.Pos, weight string, options []option, layer int) {
	if m.at == nil {
		m.at = map[diag.Pos]*lack{}
	}
	if l := m.at[at]; l != nil {
		l.more++
		return
	}
	l := &lack{weight: weight}
	for _, o := range options {
		l.keys = append(l.keys, o.src.KeyFor(layer, 0))
	}
	m.at[at] = l
	m.order = append(m.order, at)
}

// report lists what is missing, a diagnostic for each declaration.
func (m *missing) report(b *builder) {
	for _, at := range m.order {
		l := m.at[at]
		text := "the checkpoint has no " + strings.Join(l.keys, " and no ")
		if l.more > 0 {
			text += fmt.Sprintf(", nor %d more of this weight", l.more)
		}
		b.errorf(at, len(l.weight), "%s", text)
	}
}
