package jinja

// loop is the variable "loop" of a for loop.
type loop struct {
	items   []Value
	index   int
	depth   int
	again   func(r *run, over Value, depth int) (Value, error) // of a recursive loop
	changed []Value                                            // what loop.changed was called with last
	called  bool                                               // loop.changed was called
}

func (*loop) typeName() string { return "LoopContext" }

func (f *forStmt) exec(r *run, s *scope) error {
	r.line = f.line
	over, err := f.over.eval(r, s)
	if err != nil {
		return err
	}
	return f.each(r, s, over, 0)
}

// each runs the loop over a value.
func (f *forStmt) each(r *run, s *scope, over Value, depth int) error {
	items, err := r.items(over)
	if err != nil {
		return r.placed(err, f.line)
	}
	if f.filter != nil {
		if items, err = f.chosen(r, s, items); err != nil {
			return err
		}
	}
	l := &loop{items: items, depth: depth}
	if f.recursive {
		l.again = func(r *run, over Value, depth int) (Value, error) {
			return r.nested(func() (Value, error) {
				return r.capture(block{&again{f, over, depth}}, s)
			})
		}
	}
	for l.index = range items {
		if err := r.step(); err != nil {
			return r.placed(err, f.line)
		}
		inner := s.inner()
		inner.vars["loop"] = l
		if err := r.assign(f.target, items[l.index], inner, inner); err != nil {
			return r.placed(err, f.line)
		}
		switch err := f.body.exec(r, inner); err {
		case nil, errContinue:
		case errBreak:
			return nil
		default:
			return err
		}
	}
	if len(items) == 0 {
		return f.other.exec(r, s.inner())
	}
	return nil
}

// again is a further round of a recursive loop.
type again struct {
	loop  *forStmt
	over  Value
	depth int
}

func (a *again) exec(r *run, s *scope) error { return a.loop.each(r, s, a.over, a.depth) }

// chosen returns the items for which the loop's condition holds.
func (f *forStmt) chosen(r *run, s *scope, items []Value) ([]Value, error) {
	var out []Value
	for _, item := range items {
		inner := s.inner()
		if err := r.assign(f.target, item, inner, inner); err != nil {
			return nil, r.placed(err, f.line)
		}
		v, err := f.filter.eval(r, inner)
		if err != nil {
			return nil, err
		}
		if truth(v) {
			out = append(out, item)
		}
	}
	return out, r.charge(len(out) * valueSize)
}

// loopAttributes is the table of a loop's attributes.
var loopAttributes = map[string]func(*loop) Value{
	"index":     func(l *loop) Value { return Int(l.index + 1) },
	"index0":    func(l *loop) Value { return Int(l.index) },
	"revindex":  func(l *loop) Value { return Int(len(l.items) - l.index) },
	"revindex0": func(l *loop) Value { return Int(len(l.items) - l.index - 1) },
	"first":     func(l *loop) Value { return Bool(l.index == 0) },
	"last":      func(l *loop) Value { return Bool(l.index == len(l.items)-1) },
	"length":    func(l *loop) Value { return Int(len(l.items)) },
	"depth":     func(l *loop) Value { return Int(l.depth + 1) },
	"depth0":    func(l *loop) Value { return Int(l.depth) },
	"previtem":  func(l *loop) Value { return l.neighbour(-1, "there is no previous item") },
	"nextitem":  func(l *loop) Value { return l.neighbour(1, "there is no next item") },
	"cycle":     func(l *loop) Value { return &function{"cycle", l.cycle} },
	"changed":   func(l *loop) Value { return &function{"changed", l.isChanged} },
}

func (l *loop) neighbour(by int, none string) Value {
	if at := l.index + by; at >= 0 && at < len(l.items) {
		return l.items[at]
	}
	return &undefined{Undefinedness, none}
}

func (l *loop) cycle(_ *run, args arguments) (Value, error) {
	if len(args.positional) == 0 {
		return nil, errorf(TypeError, "no items for cycling given")
	}
	return args.positional[l.index%len(args.positional)], nil
}

func (l *loop) isChanged(r *run, args arguments) (Value, error) {
	c := comparing{r: r}
	same, err := c.equalItems(l.changed, args.positional)
	if err != nil {
		return nil, err
	}
	if l.called && same {
		return Bool(false), nil
	}
	l.called, l.changed = true, args.positional
	return Bool(true), nil
}

// call runs the loop again over other items.
func (l *loop) call(r *run, args arguments) (Value, error) {
	if l.again == nil {
		return nil, errorf(TypeError, "The loop must have the 'recursive' marker to be called recursively.")
	}
	if len(args.positional) != 1 || len(args.names) > 0 {
		return nil, errorf(TypeError, "a recursive loop takes one value")
	}
	return l.again(r, args.positional[0], l.depth+1)
}
