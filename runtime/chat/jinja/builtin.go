package jinja

import (
	"maps"
	"slices"
	"strings"
)

// builtin is a filter, test, method or global function. It takes either a list
// of parameters or, with raw, any arguments.
type builtin struct {
	params []param
	fixed  func(r *run, a []Value) (Value, error)
	raw    func(r *run, args arguments) (Value, error)
}

// param is a parameter; without a fallback it must be given.
type param struct {
	name     string
	fallback Value
}

func need(name string) param                 { return param{name, nil} }
func option(name string, value Value) param  { return param{name, value} }
func takes(params ...param) (b builtin)      { b.params = params; return b }
func (b builtin) by(f fixedFunction) builtin { b.fixed = f; return b }

type fixedFunction = func(r *run, a []Value) (Value, error)

// call calls the builtin.
func (b builtin) call(r *run, name string, args arguments) (Value, error) {
	if b.raw != nil {
		return b.raw(r, args)
	}
	if len(args.positional) > len(b.params) {
		return nil, errorf(TypeError, "%s() takes at most %d arguments, have %d", name, len(b.params), len(args.positional))
	}
	values := make([]Value, len(b.params))
	copy(values, args.positional)
	for i, p := range b.params {
		named, ok := args.take(p.name)
		switch {
		case ok && i < len(args.positional):
			return nil, errorf(TypeError, "%s() got multiple values for argument %s", name, quote(p.name))
		case ok:
			values[i] = named
		case i < len(args.positional):
		case p.fallback == nil:
			return nil, errorf(TypeError, "%s() missing the argument %s", name, quote(p.name))
		default:
			values[i] = p.fallback
		}
	}
	if len(args.names) > 0 {
		return nil, errorf(TypeError, "%s() got an unexpected keyword argument %s", name, quote(args.names[0]))
	}
	return b.fixed(r, values)
}

// bind returns the builtin as a function, with values put before its arguments.
func (b builtin) bind(name string, before ...Value) *function {
	return &function{name, func(r *run, args arguments) (Value, error) {
		args.positional = append(slices.Clone(before), args.positional...)
		return b.call(r, name, args)
	}}
}

// known lists the names of a table.
func known(table map[string]builtin) string {
	return strings.Join(slices.Sorted(maps.Keys(table)), ", ")
}

// wantText returns the text that v is, or an error that says what it was for.
func wantText(v Value, what string) (string, error) {
	s, ok := text(v)
	if !ok {
		return "", errorf(TypeError, "%s must be str, not %s", what, v.typeName())
	}
	return s, nil
}

// wantInt returns the integer that v is.
func wantInt(v Value, what string) (int, error) {
	if u, ok := v.(*undefined); ok {
		return 0, u.err()
	}
	if !isInteger(v) {
		return 0, errorf(TypeError, "%s must be int, not %s", what, v.typeName())
	}
	n, _ := toInt(v)
	return int(n), nil
}
