package jinja

import (
	"errors"
	"strings"
	"time"
)

// Context is what a template is rendered with.
type Context struct {
	Variables *Dict     // what the template may read; may be nil
	Now       time.Time // what strftime_now tells; never the clock itself
	Limits    Limits
}

// Render returns the template's text.
func (t *Template) Render(c Context) (string, error) {
	r := &run{
		name: t.name, limits: c.Limits.filled(), now: c.Now, out: new(strings.Builder),
		filters: filterTable, tests: testTable, line: 1,
	}
	globals := &scope{vars: make(map[string]Value)}
	for name, f := range globalTable {
		globals.vars[name] = f.bind(name)
	}
	if c.Variables != nil {
		for i, key := range c.Variables.Keys() {
			globals.vars[key] = c.Variables.values[i]
		}
	}
	if err := t.body.exec(r, globals.inner()); err != nil {
		return "", r.placed(err, 0)
	}
	return r.out.String(), nil
}

// run is the state of one rendering.
type run struct {
	name   string
	limits Limits
	now    time.Time
	out    *strings.Builder // where the template prints at the moment
	steps  int
	memory int
	depth  int
	// The tables, here because filters such as map look in them themselves.
	filters, tests map[string]builtin

	line int // of what is evaluated, for errors of nodes that do not keep theirs
}

// placed returns err with its place, if it has none.
func (r *run) placed(err error, line int) error {
	var fault *Error
	if errors.As(err, &fault) && fault.Name == "" {
		if line == 0 {
			line = r.line
		}
		fault.Name, fault.Line = r.name, line
	}
	return err
}

// step counts one expression or statement.
func (r *run) step() error {
	if r.steps++; r.steps > r.limits.Steps {
		return errorf(LimitError, "the template takes more than %d steps", r.limits.Steps)
	}
	return nil
}

// valueSize is what a list's place costs in memory.
const valueSize = 16

// charge counts memory that is about to be used for a text or a list.
func (r *run) charge(bytes int) error {
	if bytes < 0 || bytes > r.limits.Memory-r.memory {
		return errorf(LimitError, "the template builds more than %d bytes of texts and lists", r.limits.Memory)
	}
	r.memory += bytes
	return nil
}

// print writes text to the output.
func (r *run) print(s string) error {
	if len(s) > r.limits.Output-r.out.Len() {
		return errorf(LimitError, "the template prints more than %d bytes", r.limits.Output)
	}
	if err := r.charge(len(s)); err != nil {
		return err
	}
	r.out.WriteString(s)
	return nil
}

// capture returns what the block prints.
func (r *run) capture(b block, s *scope) (Value, error) {
	outer := r.out
	r.out = new(strings.Builder)
	err := b.exec(r, s)
	s2 := r.out.String()
	r.out = outer
	return Str(s2), err
}

// nested runs f one level deeper.
func (r *run) nested(f func() (Value, error)) (Value, error) {
	if r.depth++; r.depth > r.limits.Depth {
		return nil, errorf(LimitError, "macros call each other more than %d deep", r.limits.Depth)
	}
	v, err := f()
	r.depth--
	return v, err
}

// scope holds variables. Reading looks outwards, writing stays inside.
type scope struct {
	vars  map[string]Value
	outer *scope
}

func (s *scope) inner() *scope { return &scope{vars: make(map[string]Value), outer: s} }

func (s *scope) lookup(name string) (Value, bool) {
	for ; s != nil; s = s.outer {
		if v, ok := s.vars[name]; ok {
			return v, true
		}
	}
	return nil, false
}

// errBreak and errContinue leave a loop's body; the parser lets them occur only
// inside loops.
var (
	errBreak    = errors.New("internal error: break outside a loop")
	errContinue = errors.New("internal error: continue outside a loop")
)

func (b block) exec(r *run, s *scope) error {
	for _, statement := range b {
		if err := r.step(); err != nil {
			return err
		}
		if err := statement.exec(r, s); err != nil {
			return err
		}
	}
	return nil
}

func (t *textStmt) exec(r *run, _ *scope) error { return r.print(t.text) }

func (p *printStmt) exec(r *run, s *scope) error {
	r.line = p.line
	v, err := p.of.eval(r, s)
	if err != nil {
		return err
	}
	out, err := r.str(v)
	if err != nil {
		return err
	}
	return r.print(out)
}

func (i *ifStmt) exec(r *run, s *scope) error {
	for n, test := range i.tests {
		r.line = i.lines[n]
		v, err := test.eval(r, s)
		if err != nil {
			return err
		}
		if truth(v) {
			return i.then[n].exec(r, s)
		}
	}
	return i.other.exec(r, s)
}

func (st *setStmt) exec(r *run, s *scope) error {
	r.line = st.line
	v, err := st.value.eval(r, s)
	if err != nil {
		return err
	}
	return r.placed(r.assign(st.target, v, s, s), st.line)
}

func (st *setBlockStmt) exec(r *run, s *scope) error {
	v, err := r.filtered(st.body, st.filter, s)
	if err != nil {
		return err
	}
	return r.placed(r.assign(st.target, v, s, s), st.line)
}

// filtered captures a block and passes the text through a filter, if there is one.
func (r *run) filtered(b block, filter expr, s *scope) (Value, error) {
	inner := s.inner()
	v, err := r.capture(b, inner)
	if err != nil || filter == nil {
		return v, err
	}
	inner = s.inner()
	inner.vars[capturedName] = v
	return filter.eval(r, inner)
}

// capturedName is the variable of a block's text; templates cannot name it.
const capturedName = " captured"

func (captured) eval(_ *run, s *scope) (Value, error) { return s.vars[capturedName], nil }

func (f *filterStmt) exec(r *run, s *scope) error {
	v, err := r.filtered(f.body, f.filter, s)
	if err != nil {
		return err
	}
	out, err := r.str(v)
	if err != nil {
		return err
	}
	return r.print(out)
}

func (st *scopeStmt) exec(r *run, s *scope) error { return st.body.exec(r, s.inner()) }

func (w *withStmt) exec(r *run, s *scope) error {
	inner := s.inner()
	for i, to := range w.targets {
		v, err := w.values[i].eval(r, s)
		if err != nil {
			return err
		}
		if err := r.assign(to, v, s, inner); err != nil {
			return r.placed(err, w.line)
		}
	}
	return w.body.exec(r, inner)
}

func (*breakStmt) exec(*run, *scope) error    { return errBreak }
func (*continueStmt) exec(*run, *scope) error { return errContinue }

// assign sets the variables of a target in the scope to. Namespaces are looked
// up in the scope from.
func (r *run) assign(t target, v Value, from, to *scope) error {
	if t.many {
		items, err := r.items(v)
		if err != nil {
			return err
		}
		if len(items) != len(t.parts) {
			return errorf(ValueError, "%d values for %d variables", len(items), len(t.parts))
		}
		for i, part := range t.parts {
			if err := r.assign(part, items[i], from, to); err != nil {
				return err
			}
		}
		return nil
	}
	if t.attr == "" {
		to.vars[t.name] = v
		return nil
	}
	holder, _ := from.lookup(t.name)
	ns, ok := holder.(*namespace)
	if !ok {
		return errorf(RuntimeError, "cannot assign attribute on non-namespace object")
	}
	ns.vars.Set(t.attr, v)
	return nil
}
