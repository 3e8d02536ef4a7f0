package jinja

func (c *constExpr) eval(*run, *scope) (Value, error) { return c.value, nil }

func (n *nameExpr) eval(r *run, s *scope) (Value, error) {
	if v, ok := s.lookup(n.name); ok {
		return v, r.step()
	}
	return &undefined{Undefinedness, quote(n.name) + " is undefined"}, r.step()
}

func (l *listExpr) eval(r *run, s *scope) (Value, error) {
	items, err := r.evalAll(l.items, s)
	if err != nil {
		return nil, err
	}
	if err := r.charge(len(items) * valueSize); err != nil {
		return nil, err
	}
	if l.tuple {
		return &Tuple{Items: items}, nil
	}
	return &List{Items: items}, nil
}

func (d *dictExpr) eval(r *run, s *scope) (Value, error) {
	out := NewDict()
	for i := range d.keys {
		key, err := d.keys[i].eval(r, s)
		if err != nil {
			return nil, err
		}
		value, err := d.values[i].eval(r, s)
		if err != nil {
			return nil, err
		}
		hash, err := hashKey(key)
		if err != nil {
			return nil, err
		}
		out.put(key, hash, value)
	}
	return out, r.charge(out.Len() * 4 * valueSize)
}

func (a *attrExpr) eval(r *run, s *scope) (Value, error) {
	of, err := a.of.eval(r, s)
	if err != nil {
		return nil, err
	}
	r.line = a.line
	if err := r.step(); err != nil {
		return nil, err
	}
	v, err := attribute(of, a.name)
	return v, r.placed(err, a.line)
}

func (e *itemExpr) eval(r *run, s *scope) (Value, error) {
	of, err := e.of.eval(r, s)
	if err != nil {
		return nil, err
	}
	index, err := e.index.eval(r, s)
	if err != nil {
		return nil, err
	}
	if err := r.step(); err != nil {
		return nil, err
	}
	v, err := item(of, index)
	return v, r.placed(err, e.line)
}

func (e *sliceExpr) eval(r *run, s *scope) (Value, error) {
	of, err := e.of.eval(r, s)
	if err != nil {
		return nil, err
	}
	var parts [3]Value
	for i, part := range []expr{e.start, e.stop, e.step} {
		if parts[i] = (None{}); part == nil {
			continue
		}
		if parts[i], err = part.eval(r, s); err != nil {
			return nil, err
		}
	}
	v, err := r.slice(of, parts)
	return v, r.placed(err, e.line)
}

func (c *callExpr) eval(r *run, s *scope) (Value, error) {
	of, err := c.of.eval(r, s)
	if err != nil {
		return nil, err
	}
	args, err := r.arguments(c.args, s)
	if err != nil {
		return nil, r.placed(err, c.line)
	}
	r.line = c.line
	if err := r.step(); err != nil {
		return nil, err
	}
	v, err := r.call(of, args)
	return v, r.placed(err, c.line)
}

func (f *filterExpr) eval(r *run, s *scope) (Value, error) {
	of, err := f.of.eval(r, s)
	if err != nil {
		return nil, err
	}
	args, err := r.arguments(f.args, s)
	if err != nil {
		return nil, r.placed(err, f.line)
	}
	r.line = f.line
	v, err := r.filter(f.name, of, args)
	return v, r.placed(err, f.line)
}

// filter applies a filter by name.
func (r *run) filter(name string, of Value, args arguments) (Value, error) {
	if err := r.step(); err != nil {
		return nil, err
	}
	row, ok := r.filters[name]
	if !ok {
		return nil, errorf(RuntimeError, "No filter named %s.", quote(name))
	}
	args.positional = append([]Value{of}, args.positional...)
	return row.call(r, name, args)
}

func (t *testExpr) eval(r *run, s *scope) (Value, error) {
	of, err := t.of.eval(r, s)
	if err != nil {
		return nil, err
	}
	args, err := r.arguments(t.args, s)
	if err != nil {
		return nil, r.placed(err, t.line)
	}
	holds, err := r.test(t.name, of, args)
	return Bool(holds), r.placed(err, t.line)
}

// test applies a test by name.
func (r *run) test(name string, of Value, args arguments) (bool, error) {
	if err := r.step(); err != nil {
		return false, err
	}
	row, ok := r.tests[name]
	if !ok {
		return false, errorf(RuntimeError, "No test named %s.", quote(name))
	}
	args.positional = append([]Value{of}, args.positional...)
	v, err := row.call(r, name, args)
	return err == nil && truth(v), err
}

func (u *unaryExpr) eval(r *run, s *scope) (Value, error) {
	of, err := u.of.eval(r, s)
	if err != nil {
		return nil, err
	}
	if u.op == "not" {
		return Bool(!truth(of)), r.step()
	}
	v, err := negate(u.op, of)
	return v, r.placed(err, u.line)
}

func (b *binaryExpr) eval(r *run, s *scope) (Value, error) {
	left, err := b.left.eval(r, s)
	if err != nil {
		return nil, err
	}
	right, err := b.right.eval(r, s)
	if err != nil {
		return nil, err
	}
	if err := r.step(); err != nil {
		return nil, err
	}
	v, err := r.binary(b.op, left, right)
	return v, r.placed(err, b.line)
}

func (c *concatExpr) eval(r *run, s *scope) (Value, error) {
	values, err := r.evalAll(c.parts, s)
	if err != nil {
		return nil, err
	}
	return r.join("", values)
}

func (l *logicExpr) eval(r *run, s *scope) (Value, error) {
	left, err := l.left.eval(r, s)
	if err != nil || truth(left) != l.and {
		return left, err
	}
	return l.right.eval(r, s)
}

func (c *compareExpr) eval(r *run, s *scope) (Value, error) {
	left, err := c.first.eval(r, s)
	if err != nil {
		return nil, err
	}
	for _, next := range c.rest {
		right, err := next.with.eval(r, s)
		if err != nil {
			return nil, err
		}
		holds, err := r.compare(next.op, left, right)
		if err != nil || !holds {
			return Bool(false), r.placed(err, c.line)
		}
		left = right
	}
	return Bool(true), nil
}

func (c *condExpr) eval(r *run, s *scope) (Value, error) {
	test, err := c.test.eval(r, s)
	switch {
	case err != nil:
		return nil, err
	case truth(test):
		return c.then.eval(r, s)
	case c.other != nil:
		return c.other.eval(r, s)
	}
	return &undefined{Undefinedness, "the inline if-expression evaluated to false and no else section was defined."}, nil
}
