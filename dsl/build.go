package dsl

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/diag"
	"moec/ir/tensor"
)

// Config gives the values of a checkpoint's config.json. A path has dots
// between the keys of nested objects. Values are int64, float64, bool, string,
// nil for null, and []any of these.
type Config interface {
	Lookup(path string) (value any, ok bool)
}

// Env is what a description is bound to. The zero Env gives the defaults.
type Env struct {
	Config Config // nil: every setting has its default
	// Tensor tells about a tensor of the checkpoint; nil: there is none, and
	// each weight has the first of its keys.
	Tensor func(name string) (d tensor.DType, shape []int, ok bool)
	// Set overrides settings, by name, with values as in a description.
	Set map[string]string
}

// Model is a description bound to an Env.
type Model struct {
	Graph    *ir.Graph // logical
	Bindings []Binding // in the order of the file
}

// Binding is the value of a setting and where it comes from.
type Binding struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	From  string `json:"from"` // "default", "set", or the key of config.json
}

// What Binding.From says besides keys.
const (
	fromDefault = "default"
	fromSet     = "set"
)

// Limits of a model, far above the largest in use.
const (
	maxExtent = 1 << 30   // as in ir/tensor
	maxTurns  = 4096      // of one loop
	maxNodes  = 1 << 17   // of a graph
	maxSteps  = 1 << 20   // expressions evaluated
	maxWrong  = 1 << 9    // errors, of which only the first are shown
	maxCalls  = 32        // blocks inside blocks
	maxList   = 1 << 12   // entries of a list
	maxFloats = 1 << 16   // entries of a table
	chunkRows = 256       // cache positions that attention sums at a time
	maxExpert = 1 << 12   // as the leaves of a sum in package ir
	maxElems  = 1<<53 - 1 // elements of a weight
)

// Build evaluates f in env. Where there are errors it returns them, sorted by
// position, and no model.
func Build(f *File, env Env) (*Model, diag.List) {
	b := newBuilder(f, env)
	root := b.root()
	b.checkSet()
	b.settings(root)
	b.expectations(root)
	if len(b.list) == 0 {
		root.run(f.statements)
		b.finish()
	}
	if len(b.list) > 0 {
		return nil, f.capped(b.list)
	}
	return &Model{Graph: b.graph, Bindings: b.bindings}, nil
}

// builder is the state of one Build.
type builder struct {
	file     *File
	env      Env
	list     diag.List
	graph    *ir.Graph
	bindings []Binding
	act      tensor.DType

	layer   int // -1 outside the loop over layers
	steps   int
	stopped bool // a limit was hit

	inputs  map[string]*ir.Node
	weights map[string]*weightEntry
	absent  missing
	misfits map[diag.Pos]bool // declarations with a tensor that does not fit
	caches  map[string]bool
	layers  map[int]bool
}

func newBuilder(f *File, env Env) *builder {
	return &builder{
		file: f, env: env, graph: ir.NewGraph(f.Model), layer: -1,
		inputs: map[string]*ir.Node{}, weights: map[string]*weightEntry{}, misfits: map[diag.Pos]bool{},
		caches: map[string]bool{}, layers: map[int]bool{},
	}
}

// errorf reports an error and returns the value that silences what follows.
func (b *builder) errorf(at diag.Pos, width int, format string, args ...any) value {
	b.list.Addf(at, width, format, args...)
	return poison{}
}

// noted is errorf with notes.
func (b *builder) noted(d diag.Diagnostic) value {
	b.list.Add(d)
	return poison{}
}

// stop reports a limit, once, and ends the evaluation.
func (b *builder) stop(at diag.Pos, format string, args ...any) {
	if !b.stopped {
		b.stopped = true
		b.errorf(at, 1, format, args...)
	}
}

// step counts evaluated expressions and nodes.
func (b *builder) step(at diag.Pos) bool {
	b.steps++
	switch {
	case b.steps > maxSteps:
		b.stop(at, "the description takes more than %d steps to evaluate", maxSteps)
	case len(b.graph.Nodes) > maxNodes:
		b.stop(at, "the model has more than %d operations", maxNodes)
	case len(b.list) > maxWrong:
		b.stopped = true
	}
	return !b.stopped
}

// finish checks what only the end of a file shows.
func (b *builder) finish() {
	b.absent.report(b)
	if len(b.list) == 0 && len(b.graph.Outputs) == 0 {
		b.errorf(diag.Pos{File: b.file.Name, Line: 1, Col: 1}, 1, "the model has no output; end the file with: %s", forms["output"])
	}
}

// frame is the run of a block's body, or of the top level.
type frame struct {
	*builder
	outer  *frame    // the top level; nil for itself
	block  blockName // the block, empty at the top level
	path   string    // of names of weights: "attention", "moe.swiglu"
	scopes []string  // alternatives for what comes before keys
	vars   map[string]value
	depth  int
	expert *expertBody         // set inside the body that each expert has its own of
	calls  map[string][]string // scopes under which a block was called
	result value
	done   bool
}

// blockName is a block and the type of its result.
type blockName struct {
	name   string
	result *typeRef
}

func (b *builder) root() *frame {
	return &frame{builder: b, scopes: []string{""}, vars: map[string]value{}, calls: map[string][]string{}}
}

// lookup finds a name. A block sees the values of the top level that are
// known when compiling.
func (f *frame) lookup(name string) (value, bool) {
	if v, ok := f.vars[name]; ok {
		return v, true
	}
	if f.outer == nil {
		return nil, false
	}
	v, ok := f.outer.vars[name]
	return v, ok
}

// run executes statements until one returns.
func (f *frame) run(list []*statement) {
	for _, st := range list {
		if f.done || f.stopped {
			return
		}
		f.statement(st)
	}
}

func (f *frame) statement(st *statement) {
	switch {
	case st.Require != nil:
		f.require(st.Require)
	case st.Weight != nil:
		f.vars[st.Weight.Name.Text] = f.weight(st.Weight)
	case st.Return != nil:
		f.result = f.returned(st.Return)
		f.done = true
	case st.If != nil:
		f.branch(st)
	case st.For != nil:
		f.loop(st)
	case st.Output != nil:
		f.output(st.Output)
	case st.Bind != nil:
		f.bind(st.Bind)
	}
}

func (f *frame) require(r *requireStmt) {
	if ok, known := f.condition(r.Cond); known && !ok {
		d := diag.Diagnostic{Pos: place(r.Pos), Width: len("require"), Message: fmt.Sprintf("%s: %s is not true", unquote(r.Reason), textOf(r.Cond.tree))}
		f.noted(f.boundFrom(d, r.Cond.tree))
	}
}

// boundFrom adds notes that say what settings an expression names and where
// their values are from.
func (f *frame) boundFrom(d diag.Diagnostic, n node) diag.Diagnostic {
	eachNode(n, func(n node) {
		name, ok := n.(nameNode)
		if !ok {
			return
		}
		for _, b := range f.bindings {
			if b.Name == name.name {
				d = d.Noted(diag.Pos{}, "%s is %s, from %s", b.Name, b.Value, sourceText(b.From))
			}
		}
	})
	return d
}

// sourceText names where a setting's value is from.
func sourceText(from string) string {
	switch from {
	case fromDefault:
		return "the description's default"
	case fromSet:
		return "what was set"
	}
	return "config.json: " + from
}

// condition evaluates an expression that must be true or false.
func (f *frame) condition(e *expr) (result, known bool) {
	v := f.eval(e.tree)
	switch v := v.(type) {
	case bool:
		return v, true
	case poison:
		return false, false
	}
	f.errorf(e.tree.pos(), 1, "a condition is true or false when compiling; %s is %s", textOf(e.tree), kindOf(v))
	return false, false
}

func (f *frame) branch(st *statement) {
	ok, known := f.condition(st.If.Cond)
	switch {
	case !known:
		// Whichever branch names are declared in, they are not known.
		names := names{}
		declared(st.body, names)
		declared(st.orElse, names)
		for name := range names {
			f.vars[name] = poison{}
		}
	case ok:
		f.run(st.body)
	default:
		f.run(st.orElse)
	}
}

// loop unrolls a loop. A loop of the top level is one over layers.
func (f *frame) loop(st *statement) {
	first, end, ok := f.bounds(st.For)
	if !ok {
		return
	}
	inner := f.scopes
	layers := f.outer == nil && f.layer < 0
	defer func() {
		f.scopes = inner
		if layers {
			f.layer = -1
		}
	}()
	for i := first; i < end && !f.stopped && !f.done; i++ {
		f.vars[st.For.Name.Text] = i
		if layers && !f.enterLayer(st.For, i) {
			return
		}
		errors := len(f.list)
		if f.scopes, ok = f.under(inner, st.For.At, false); !ok {
			return
		}
		f.run(st.body)
		if len(f.list) > errors {
			return // further turns would repeat them
		}
	}
}

func (f *frame) bounds(s *forStmt) (first, end int64, ok bool) {
	first, ok = f.wholeNumber(s.First.tree, "the number of turns")
	if s.End == nil {
		first, end = 0, first
	} else if ok {
		end, ok = f.wholeNumber(s.End.tree, "the end of the loop")
	}
	if !ok {
		return 0, 0, false
	}
	if first < 0 || end < first || end-first > maxTurns {
		f.errorf(s.First.tree.pos(), 1, "a loop from %d to %d; loops count up from 0 or more and have at most %d turns", first, end, maxTurns)
		return 0, 0, false
	}
	return first, end, true
}

func (f *frame) enterLayer(s *forStmt, i int64) bool {
	if i >= maxTurns || f.layers[int(i)] {
		f.errorf(place(s.Pos), 3, "layer %d is built twice or is above %d; loops at the top level count layers", i, maxTurns-1)
		return false
	}
	f.layers[int(i)] = true
	f.layer = int(i)
	f.graph.Layers = max(f.graph.Layers, f.layer+1)
	f.vars[s.Name.Text] = layerNumber(i)
	return true
}

// wholeNumber evaluates an expression to a whole number.
func (f *frame) wholeNumber(n node, what string) (int64, bool) {
	v := f.eval(n)
	if i, ok := whole(v); ok {
		return i, true
	}
	if _, bad := v.(poison); !bad {
		f.errorf(n.pos(), 1, "%s is a whole number; %s is %s", what, textOf(n), kindOf(v))
	}
	return 0, false
}

// bind gives a name to a value.
func (f *frame) bind(s *bindStmt) {
	n := s.Name
	f.vars[n.Text] = f.named(f.eval(s.Value.tree), naming{n.Text, s.Type, place(n.Pos), len(n.Text), origin{"value " + n.Text, place(n.Pos)}})
}

// naming is what gives a name to a value: a statement, or a parameter.
type naming struct {
	name  string
	typ   *typeRef // nil: any
	at    diag.Pos // what to blame when the type does not fit
	width int
	from  origin // of the value from here on
}

// named checks a value against the type written after its name and rounds it
// as a value with a name.
func (f *frame) named(v value, n naming) value {
	x, isTensor := v.(*tensorValue)
	if !isTensor {
		return f.plainTyped(v, n)
	}
	want := f.typeOf(n.typ)
	if !want.ok {
		return poison{}
	}
	if want.kind != "" {
		return f.mistyped(n, "a "+want.kind, x.String(), x)
	}
	if want.shaped && !sameShape(x.shape, want.shape) {
		return f.mistyped(n, want.shape.String(), x.shape.String(), x)
	}
	y := *f.rounded(x, want.dtype, n.at)
	if want.shaped {
		y.shape = want.shape // in the author's words
	}
	y.loose = false
	y.origin = n.from
	if y.node.Name == "" && !y.weight {
		y.node.Name = n.name
	}
	return &y
}

// plainTyped checks a value that is known when compiling against its type.
func (f *frame) plainTyped(v value, n naming) value {
	if _, bad := v.(poison); bad || n.typ == nil {
		return v
	}
	kind := n.typ.Kind
	if kind == "" {
		if v == nil {
			return v // none stands for a tensor that is not there
		}
		return f.mistyped(n, "a tensor", show(v))
	}
	if !kinds[kind].holds(v) {
		return f.mistyped(n, "a "+kind+", "+kinds[kind].want+",", show(v))
	}
	return v
}

// mistyped reports a value that is not of the declared type.
func (f *frame) mistyped(n naming, want, have string, values ...*tensorValue) value {
	d := diag.Diagnostic{Pos: n.at, Width: n.width, Message: fmt.Sprintf("%s is declared as %s and is %s", n.name, want, have)}
	if n.from.at != n.at {
		d = d.Noted(n.from.at, "%s", n.from.what)
	}
	return f.noted(f.about(d, values...))
}

func sameShape(a, b shape) bool { return slices.EqualFunc(a, b, extent.same) }

// wanted is a type as written.
type wanted struct {
	ok     bool
	kind   string // of a value known when compiling
	dtype  tensor.DType
	shaped bool
	shape  shape
}

// typeOf evaluates a type, which may be nil: then it is the storage type of
// named values, with any extents.
func (f *frame) typeOf(t *typeRef) wanted {
	w := wanted{ok: true, dtype: f.act}
	if t == nil {
		return w
	}
	w.kind = t.Kind
	if t.DType != nil {
		w.dtype, w.ok = f.dtype(*t.DType)
	}
	ext := t.Shape
	if ext == nil {
		ext = t.Of
	}
	if ext != nil && w.ok {
		w.shaped = true
		w.shape, w.ok = f.shape(ext)
	}
	return w
}

// elementTypes are the element types of values.
var elementTypes = map[string]tensor.DType{"f32": tensor.F32, "bf16": tensor.BF16, "f16": tensor.F16}

// dtype evaluates the name of an element type.
func (f *frame) dtype(n name) (tensor.DType, bool) {
	v := f.eval(nameNode{at(place(n.Pos)), n.Text})
	d, ok := v.(tensor.DType)
	if _, bad := v.(poison); !ok && !bad {
		f.errorf(place(n.Pos), len(n.Text), "%s is %s, no element type; extents are written in [ ]", n.Text, kindOf(v))
	}
	return d, ok
}

// shape evaluates extents.
func (f *frame) shape(e *extents) (shape, bool) {
	s := make(shape, len(e.Dims))
	good := true
	for i, d := range e.Dims {
		var ok bool
		if s[i], ok = f.extent(d.tree); !ok {
			good = false
		} else if s[i].sym != "" && i > 0 {
			f.errorf(d.tree.pos(), len(tokensName), "tokens is always the first extent")
			good = false
		}
	}
	return s, good
}

// extent evaluates one extent.
func (f *frame) extent(n node) (extent, bool) {
	if name, ok := n.(nameNode); ok && name.name == tokensName {
		return extent{sym: tensor.Tokens}, true
	}
	i, ok := f.wholeNumber(n, "an extent")
	if !ok {
		return extent{}, false
	}
	if i < 1 || i > maxExtent {
		f.errorf(n.pos(), 1, "extent %s; extents are 1 to %d", extent{n: int(i), text: textOf(n)}, maxExtent)
		return extent{}, false
	}
	return extent{n: int(i), text: textOf(n)}, true
}

// about adds notes that say where values come from.
func (f *frame) about(d diag.Diagnostic, list ...*tensorValue) diag.Diagnostic {
	for _, x := range list {
		if x.origin.at != (diag.Pos{}) {
			d = d.Noted(x.origin.at, "%s is %s", x.origin.what, x)
		}
	}
	return d
}

// returned rounds a result as the type of the block's result says.
func (f *frame) returned(s *returnStmt) value {
	v := f.eval(s.Value.tree)
	x, ok := v.(*tensorValue)
	if !ok {
		if t := f.block.result; t != nil && t.Kind == "" && v != nil && v != (poison{}) {
			return f.errorf(place(s.Pos), len("return"), "block %s is declared to return a tensor, this is %s", f.block.name, kindOf(v))
		}
		return v
	}
	want := f.typeOf(f.block.result)
	if !want.ok {
		return poison{}
	}
	if want.shaped && !sameShape(x.shape, want.shape) {
		d := diag.Diagnostic{Pos: place(s.Pos), Width: len("return"), Message: fmt.Sprintf("block %s is declared to return %s and returns %s", f.block.name, want.shape, x.shape)}
		return f.noted(f.about(d, x))
	}
	y := *f.rounded(x, want.dtype, place(s.Pos))
	y.loose = false
	y.origin = origin{"the result of " + f.block.name, place(s.Pos)}
	return &y
}

// output makes the model's result: the rows that a step asks for.
func (f *frame) output(s *outputStmt) {
	at := place(s.Pos)
	v := f.eval(s.Value.tree)
	x, ok := v.(*tensorValue)
	switch {
	case v == (poison{}):
		return
	case s.Name.Text != outputName:
		f.errorf(place(s.Name.Pos), len(s.Name.Text), "the output of a model is called %s, not %s", outputName, s.Name.Text)
		return
	case len(f.graph.Outputs) > 0:
		f.errorf(at, len("output"), "the output is given twice")
		return
	case !ok || len(x.shape) != 2 || !x.shape.rowed():
		f.errorf(at, len("output"), "the output has a row of scores for each token, [tokens, vocabulary]; this is %s", show(v))
		return
	}
	rows := f.input("rows", at)
	n := f.add("take_rows", nil, at, x.node, rows)
	if n == nil {
		return
	}
	n.Name = s.Name.Text
	f.graph.Outputs = append(f.graph.Outputs, ir.Output{Name: s.Name.Text, Value: n})
}

const outputName = "logits"
