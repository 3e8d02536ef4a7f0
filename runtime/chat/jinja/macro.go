package jinja

// arguments holds the values of a call.
type arguments struct {
	positional []Value
	names      []string
	named      []Value
}

// take removes and returns a named argument.
func (a *arguments) take(name string) (Value, bool) {
	for i, n := range a.names {
		if n == name {
			v := a.named[i]
			a.names = append(a.names[:i:i], a.names[i+1:]...)
			a.named = append(a.named[:i:i], a.named[i+1:]...)
			return v, true
		}
	}
	return nil, false
}

// arguments evaluates what stands between a call's parentheses.
func (r *run) arguments(c callArgs, s *scope) (arguments, error) {
	a := arguments{names: c.names}
	var err error
	if a.positional, err = r.evalAll(c.positional, s); err != nil {
		return a, err
	}
	if a.named, err = r.evalAll(c.named, s); err != nil {
		return a, err
	}
	if c.rest != nil {
		v, err := c.rest.eval(r, s)
		if err != nil {
			return a, err
		}
		items, err := r.items(v)
		if err != nil {
			return a, err
		}
		a.positional = append(a.positional, items...)
	}
	if c.restNamed == nil {
		return a, nil
	}
	v, err := c.restNamed.eval(r, s)
	if err != nil {
		return a, err
	}
	d, ok := v.(*Dict)
	if !ok {
		return a, errorf(TypeError, "argument after ** must be a mapping, not %s", v.typeName())
	}
	a.names = append([]string(nil), a.names...)
	for i, key := range d.keys {
		name, ok := text(key)
		if !ok {
			return a, errorf(TypeError, "keywords must be strings")
		}
		a.names = append(a.names, name)
		a.named = append(a.named, d.values[i])
	}
	return a, nil
}

func (r *run) evalAll(list []expr, s *scope) ([]Value, error) {
	values := make([]Value, len(list))
	for i, e := range list {
		var err error
		if values[i], err = e.eval(r, s); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (m *macroStmt) exec(r *run, s *scope) error {
	s.vars[m.name] = m.macro.bind(s)
	return nil
}

// bind returns the macro as a function that sees the variables of s.
func (m *macroBody) bind(s *scope) *function {
	return &function{m.name, func(r *run, args arguments) (Value, error) {
		return r.nested(func() (Value, error) {
			inner := s.inner()
			if err := m.enter(r, inner, args); err != nil {
				return nil, err
			}
			return r.capture(m.body, inner)
		})
	}}
}

// enter sets a macro's parameters.
func (m *macroBody) enter(r *run, s *scope, args arguments) error {
	given := min(len(args.positional), len(m.params))
	for i, name := range m.params {
		if i < given {
			s.vars[name] = args.positional[i]
			continue
		}
		if v, ok := args.take(name); ok {
			s.vars[name] = v
			continue
		}
		s.vars[name] = &undefined{Undefinedness, "parameter " + quote(name) + " was not provided"}
		if at := i - (len(m.params) - len(m.defaults)); at >= 0 {
			v, err := m.defaults[at].eval(r, s)
			if err != nil {
				return err
			}
			s.vars[name] = v
		}
	}
	if _, ok := s.vars["caller"]; !ok && m.calls {
		s.vars["caller"] = &undefined{Undefinedness, "No caller defined"}
		if v, ok := args.take("caller"); ok {
			s.vars["caller"] = v
		}
	}
	return m.enterRest(s, args, given)
}

// enterRest sets varargs and kwargs, or refuses arguments without a parameter.
func (m *macroBody) enterRest(s *scope, args arguments, given int) error {
	if m.extra {
		s.vars["varargs"] = &Tuple{Items: args.positional[given:]}
	} else if len(args.positional) > given {
		return errorf(TypeError, "macro %s takes not more than %d argument(s)", quote(m.name), len(m.params))
	}
	if !m.named {
		if len(args.names) > 0 {
			return errorf(TypeError, "macro %s takes no keyword argument %s", quote(m.name), quote(args.names[0]))
		}
		return nil
	}
	rest := NewDict()
	for i, name := range args.names {
		rest.Set(name, args.named[i])
	}
	s.vars["kwargs"] = rest
	return nil
}

func (c *callStmt) exec(r *run, s *scope) error {
	of, err := c.call.of.eval(r, s)
	if err != nil {
		return err
	}
	args, err := r.arguments(c.call.args, s)
	if err != nil {
		return r.placed(err, c.call.line)
	}
	args.names = append(args.names[:len(args.names):len(args.names)], "caller")
	args.named = append(args.named, c.caller.bind(s))
	v, err := r.call(of, args)
	if err != nil {
		return r.placed(err, c.call.line)
	}
	out, err := r.str(v)
	if err != nil {
		return err
	}
	return r.print(out)
}

// call calls a value.
func (r *run) call(of Value, args arguments) (Value, error) {
	switch of := of.(type) {
	case *function:
		return of.call(r, args)
	case *loop:
		return of.call(r, args)
	case *undefined:
		return nil, of.err()
	}
	return nil, errorf(TypeError, "'%s' object is not callable", of.typeName())
}
