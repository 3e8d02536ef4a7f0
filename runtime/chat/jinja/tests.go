package jinja

// testTable is the table of tests, which stand after "is".
var testTable = map[string]builtin{
	"defined":     is(func(v Value) bool { return !isUndefined(v) }),
	"undefined":   is(isUndefined),
	"none":        is(func(v Value) bool { return v == None{} }),
	"boolean":     is(func(v Value) bool { _, ok := v.(Bool); return ok }),
	"true":        is(func(v Value) bool { return v == Bool(true) }),
	"false":       is(func(v Value) bool { return v == Bool(false) }),
	"integer":     is(func(v Value) bool { return v.typeName() == "int" }),
	"float":       is(func(v Value) bool { _, ok := v.(Float); return ok }),
	"number":      is(func(v Value) bool { return isNumber(v) || v.typeName() == "int" }),
	"string":      is(func(v Value) bool { _, ok := text(v); return ok }),
	"mapping":     is(func(v Value) bool { _, ok := v.(*Dict); return ok }),
	"sequence":    is(isSequence),
	"iterable":    is(isIterable),
	"callable":    is(isCallable),
	"escaped":     is(func(v Value) bool { _, ok := v.(Markup); return ok }),
	"lower":       asTextTest("islower"),
	"upper":       asTextTest("isupper"),
	"odd":         remainder(1),
	"even":        remainder(0),
	"divisibleby": takes(valueParam, need("num")).by(func(r *run, a []Value) (Value, error) { return r.remains(a[0], a[1], 0) }),
	"filter":      takes(valueParam).by(func(r *run, a []Value) (Value, error) { return named(r.filters, a[0]) }),
	"test":        takes(valueParam).by(func(r *run, a []Value) (Value, error) { return named(r.tests, a[0]) }),
	"sameas":      takes(valueParam, need("other")).by(func(_ *run, a []Value) (Value, error) { return Bool(a[0] == a[1]), nil }),
	"in":          compares("in"),
	"==":          compares("=="),
	"eq":          compares("=="),
	"equalto":     compares("=="),
	"!=":          compares("!="),
	"ne":          compares("!="),
	">":           compares(">"),
	"gt":          compares(">"),
	"greaterthan": compares(">"),
	">=":          compares(">="),
	"ge":          compares(">="),
	"<":           compares("<"),
	"lt":          compares("<"),
	"lessthan":    compares("<"),
	"<=":          compares("<="),
	"le":          compares("<="),
}

// is is a test without arguments.
func is(holds func(Value) bool) builtin {
	return takes(valueParam).by(func(_ *run, a []Value) (Value, error) { return Bool(holds(a[0])), nil })
}

// compares is a test that compares with its argument.
func compares(op string) builtin {
	return takes(valueParam, need("other")).by(func(r *run, a []Value) (Value, error) {
		holds, err := r.compare(op, a[0], a[1])
		return Bool(holds), err
	})
}

// asTextTest is a test that prints its value and asks a method of the text.
func asTextTest(method string) builtin {
	return takes(valueParam).by(func(r *run, a []Value) (Value, error) {
		s, err := r.str(a[0])
		if err != nil {
			return nil, err
		}
		return textMethods[method].fixed(r, []Value{Str(s)})
	})
}

// remainder is a test for what division by two leaves.
func remainder(left Int) builtin {
	return takes(valueParam).by(func(r *run, a []Value) (Value, error) { return r.remains(a[0], Int(2), left) })
}

// remains reports whether division of v by another number leaves the rest.
func (r *run) remains(v, by Value, rest Int) (Value, error) {
	left, err := r.binary("%", v, by)
	if err != nil {
		return nil, err
	}
	same, err := r.equal(left, rest)
	return Bool(same), err
}

func named(table map[string]builtin, name Value) (Value, error) {
	s, _ := text(name)
	_, ok := table[s]
	return Bool(ok), nil
}

func isUndefined(v Value) bool {
	_, ok := v.(*undefined)
	return ok
}

// isSequence holds for what has a length and elements, a mapping, too.
func isSequence(v Value) bool {
	switch v.(type) {
	case Str, Markup, *List, *Tuple, *Dict, *span, *undefined:
		return true
	}
	return false
}

func isIterable(v Value) bool {
	switch v.(type) {
	case *view, *generator, *loop:
		return true
	}
	return isSequence(v)
}

func isCallable(v Value) bool {
	switch v.(type) {
	case *function, *loop, *undefined:
		return true
	}
	return false
}
