package jinja

import "math"

// maxRange is the longest range that Jinja's sandbox makes.
const maxRange = 100_000

// globalTable is the table of the functions that every template sees.
var globalTable = map[string]builtin{
	"range":           {raw: globalRange},
	"dict":            {raw: globalDict},
	"namespace":       {raw: globalNamespace},
	"cycler":          {raw: globalCycler},
	"joiner":          takes(option("sep", Str(", "))).by(globalJoiner),
	"raise_exception": takes(need("message")).by(globalRaise),
	"strftime_now":    takes(need("format")).by(globalNow),
}

func globalRange(_ *run, args arguments) (Value, error) {
	if len(args.names) > 0 || len(args.positional) < 1 || len(args.positional) > 3 {
		return nil, errorf(TypeError, "range expected 1 to 3 arguments without names")
	}
	parts := []int64{0, 0, 1}
	for i, v := range args.positional {
		n, err := wantInt(v, "a range's bound")
		if err != nil {
			return nil, err
		}
		if n > math.MaxInt32 || n < math.MinInt32 {
			return nil, errorf(OverflowError, "a range's bounds must have at most 32 bits")
		}
		parts[i] = int64(n)
	}
	if len(args.positional) == 1 {
		parts[0], parts[1] = 0, parts[0]
	}
	if parts[2] == 0 {
		return nil, errorf(ValueError, "range() arg 3 must not be zero")
	}
	s := &span{parts[0], parts[1], parts[2]}
	if s.len() > maxRange {
		return nil, errorf(OverflowError, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", maxRange)
	}
	return s, nil
}

// globalDict makes a mapping of a mapping or pairs and of named arguments.
func globalDict(r *run, args arguments) (Value, error) {
	out := NewDict()
	if len(args.positional) > 1 {
		return nil, errorf(TypeError, "dict expected at most 1 argument, got %d", len(args.positional))
	}
	if len(args.positional) == 1 {
		if err := r.fill(out, args.positional[0]); err != nil {
			return nil, err
		}
	}
	for i, name := range args.names {
		out.Set(name, args.named[i])
	}
	return out, r.charge(4 * len(args.names) * valueSize)
}

func (r *run) fill(out *Dict, from Value) error {
	if d, ok := from.(*Dict); ok {
		return r.update(out, d)
	}
	pairs, err := r.items(from)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		two, ok := sequence(pair)
		if !ok || len(two) != 2 {
			return errorf(TypeError, "a mapping is made of pairs, not of %s", pair.typeName())
		}
		hash, err := hashKey(two[0])
		if err != nil {
			return err
		}
		out.put(two[0], hash, two[1])
	}
	return r.charge(4 * len(pairs) * valueSize)
}

func globalNamespace(r *run, args arguments) (Value, error) {
	vars, err := globalDict(r, args)
	if err != nil {
		return nil, err
	}
	return &namespace{vars.(*Dict)}, nil
}

func globalRaise(r *run, a []Value) (Value, error) {
	message, err := r.str(a[0])
	if err != nil {
		return nil, err
	}
	return nil, errorf(Raised, "%s", message)
}

func globalNow(r *run, a []Value) (Value, error) {
	format, err := wantText(a[0], "the format")
	if err != nil {
		return nil, err
	}
	return r.strftime(format)
}

func globalJoiner(_ *run, a []Value) (Value, error) {
	used := false
	return &function{"joiner", func(*run, arguments) (Value, error) {
		if !used {
			used = true
			return Str(""), nil
		}
		return a[0], nil
	}}, nil
}

// cycler gives its items in turn.
type cycler struct {
	items []Value
	at    int
}

func (*cycler) typeName() string { return "Cycler" }

func globalCycler(_ *run, args arguments) (Value, error) {
	if len(args.positional) == 0 {
		return nil, errorf(RuntimeError, "at least one item has to be provided")
	}
	return &cycler{items: args.positional}, nil
}

func (c *cycler) attribute(name string) Value {
	switch name {
	case "current":
		return c.items[c.at]
	case "next":
		return &function{name, func(*run, arguments) (Value, error) {
			item := c.items[c.at]
			c.at = (c.at + 1) % len(c.items)
			return item, nil
		}}
	case "reset":
		return &function{name, func(*run, arguments) (Value, error) {
			c.at = 0
			return None{}, nil
		}}
	}
	return nil
}
