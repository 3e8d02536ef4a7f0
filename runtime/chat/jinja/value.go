package jinja

import (
	"math"
	"math/big"
	"strings"
)

// Value is a value of the template language. The types of this package are all
// there are.
type Value interface {
	// typeName returns the name of the Python type, for errors.
	typeName() string
}

type (
	// None is Python's None and JSON's null.
	None struct{}
	// Bool is a truth value.
	Bool bool
	// Int is an integer.
	Int int64
	// Float is a floating-point number.
	Float float64
	// Big is an integer beyond 64 bits. It can be printed and compared for
	// equality, not computed with.
	Big struct{ n *big.Int }
	// Str is a text.
	Str string
	// Markup is a text that counts as escaped HTML: text added to it is escaped.
	Markup string
	// List is a list.
	List struct{ Items []Value }
	// Tuple is a list that cannot be a list: Python prints it with parentheses.
	Tuple struct {
		Items []Value
		names []string // names of the items, if they have any
	}
)

func (None) typeName() string   { return "NoneType" }
func (Bool) typeName() string   { return "bool" }
func (Int) typeName() string    { return "int" }
func (Float) typeName() string  { return "float" }
func (Big) typeName() string    { return "int" }
func (Str) typeName() string    { return "str" }
func (Markup) typeName() string { return "Markup" }
func (*List) typeName() string  { return "list" }
func (*Tuple) typeName() string { return "tuple" }

// Number returns the value of a number as JSON writes it: an integer unless it
// has a point or an exponent.
func Number(literal string) (Value, bool) {
	if strings.ContainsAny(literal, ".eE") {
		f, ok := parseFloat(literal)
		return Float(f), ok
	}
	if len(literal) > maxDigits {
		return nil, false
	}
	n, ok := new(big.Int).SetString(literal, 10)
	if !ok {
		return nil, false
	}
	return integer(n), true
}

// NewList returns a list of the items.
func NewList(items ...Value) *List { return &List{Items: items} }

// Dict is a mapping that keeps the order of insertion.
type Dict struct {
	keys   []Value
	values []Value
	index  map[any]int
}

func (*Dict) typeName() string { return "dict" }

// NewDict returns an empty mapping.
func NewDict() *Dict { return &Dict{index: make(map[any]int)} }

// Len returns the number of entries.
func (d *Dict) Len() int { return len(d.keys) }

// Set maps the text key to v.
func (d *Dict) Set(key string, v Value) { d.put(Str(key), key, v) }

// Get returns what the text key is mapped to.
func (d *Dict) Get(key string) (Value, bool) {
	at, ok := d.index[key]
	if !ok {
		return nil, false
	}
	return d.values[at], true
}

// Keys returns the keys that are texts, in order.
func (d *Dict) Keys() []string {
	var keys []string
	for _, k := range d.keys {
		if s, ok := text(k); ok {
			keys = append(keys, s)
		}
	}
	return keys
}

// put maps key, whose hashKey is hash, to v.
func (d *Dict) put(key Value, hash any, v Value) {
	if at, ok := d.index[hash]; ok {
		d.values[at] = v
		return
	}
	d.index[hash] = len(d.keys)
	d.keys = append(d.keys, key)
	d.values = append(d.values, v)
}

func (d *Dict) pairs() []Value {
	out := make([]Value, len(d.keys))
	for i := range d.keys {
		out[i] = &Tuple{Items: []Value{d.keys[i], d.values[i]}}
	}
	return out
}

// hashKey returns a Go value that is equal for equal keys of a mapping.
func hashKey(v Value) (any, error) {
	switch v := v.(type) {
	case Str:
		return string(v), nil
	case Markup:
		return string(v), nil
	case Bool, Int, Float:
		if n, ok := toInt(v); ok {
			return n, nil
		}
		return v, nil
	case Big:
		return "\x00big" + v.n.String(), nil
	case *Tuple:
		p := printer{limit: maxHash}
		p.repr(v)
		if p.full {
			return nil, errorf(TypeError, "a tuple of more than %d characters cannot be a key", maxHash)
		}
		return "\x00tuple" + p.out.String(), nil
	case *List, *Dict:
		return nil, errorf(TypeError, "unhashable type: '%s'", v.typeName())
	}
	return v, nil // none by its type, functions and the like by identity
}

// maxHash is the longest spelling of a tuple that can be a key.
const maxHash = 4096

type (
	// view is what a mapping's keys, values or items give.
	view struct {
		name  string
		items []Value
	}
	// generator gives its items once. Filters that Jinja evaluates lazily give
	// one. Like Python's it is true even when nothing is left in it, and errors
	// show when it is used.
	generator struct {
		items  []Value
		failed error // what making the items gave; it shows when they are asked for
	}
	// span is Python's range.
	span struct{ start, stop, step int64 }
	// namespace is an object whose attributes templates may set.
	namespace struct{ vars *Dict }
	// undefined is what a missing variable or attribute gives. It can be printed,
	// tested and iterated; all else is an error with its message.
	undefined struct {
		kind    ErrorKind
		message string
	}
	// function is something that can be called.
	function struct {
		name string
		call func(r *run, args arguments) (Value, error)
	}
)

func (v *view) typeName() string    { return v.name }
func (*generator) typeName() string { return "generator" }
func (*span) typeName() string      { return "range" }
func (*namespace) typeName() string { return "Namespace" }
func (*undefined) typeName() string { return "Undefined" }
func (*function) typeName() string  { return "function" }

func (u *undefined) err() error { return errorf(u.kind, "%s", u.message) }

// missing returns the undefined value of an attribute or element that obj lacks.
func missing(obj, name Value) *undefined {
	kind := obj.typeName() + " object"
	if _, ok := obj.(None); ok {
		kind = "None"
	}
	if s, ok := text(name); ok {
		return &undefined{Undefinedness, "'" + kind + "' has no attribute " + quote(s)}
	}
	return &undefined{Undefinedness, kind + " has no element " + brief(name)}
}

// text returns the text that v is.
func text(v Value) (string, bool) {
	switch v := v.(type) {
	case Str:
		return string(v), true
	case Markup:
		return string(v), true
	}
	return "", false
}

// toInt returns the integer that v is; true and false count as 1 and 0.
func toInt(v Value) (int64, bool) {
	switch v := v.(type) {
	case Int:
		return int64(v), true
	case Bool:
		if v {
			return 1, true
		}
		return 0, true
	case Float:
		if f := float64(v); f == math.Trunc(f) && math.Abs(f) < 1<<62 {
			return int64(f), true
		}
	}
	return 0, false
}

// number returns the number that v is and whether it is an integer.
func number(v Value) (f float64, whole bool) {
	switch v := v.(type) {
	case Float:
		return float64(v), false
	case Int:
		return float64(v), true
	case Bool:
		n, _ := toInt(v)
		return float64(n), true
	}
	return math.NaN(), false
}

// isNumber reports whether arithmetic is defined for v.
func isNumber(v Value) bool {
	switch v.(type) {
	case Bool, Int, Float:
		return true
	}
	return false
}

// isInteger reports whether v may be an index.
func isInteger(v Value) bool {
	switch v.(type) {
	case Bool, Int:
		return true
	}
	return false
}

// truth reports whether v counts as true.
func truth(v Value) bool {
	switch v := v.(type) {
	case None, *undefined:
		return false
	case Bool:
		return bool(v)
	case Int:
		return v != 0
	case Float:
		return v != 0
	case Str:
		return v != ""
	case Markup:
		return v != ""
	}
	if n, ok := length(v); ok {
		return n > 0
	}
	return true
}

// length returns Python's len(v), if v has one.
func length(v Value) (int, bool) {
	switch v := v.(type) {
	case Str:
		return runeCount(string(v)), true
	case Markup:
		return runeCount(string(v)), true
	case *List:
		return len(v.Items), true
	case *Tuple:
		return len(v.Items), true
	case *Dict:
		return v.Len(), true
	case *view:
		return len(v.items), true
	case *span:
		return v.len(), true
	case *loop:
		return len(v.items), true
	case *undefined:
		return 0, true
	}
	return 0, false
}

func runeCount(s string) int { return strings.Count(s, "") - 1 }

func (s *span) len() int {
	switch {
	case s.step > 0 && s.start < s.stop:
		return int((s.stop-s.start-1)/s.step) + 1
	case s.step < 0 && s.start > s.stop:
		return int((s.start-s.stop-1)/-s.step) + 1
	}
	return 0
}

func (s *span) items() []Value {
	out := make([]Value, s.len())
	for i := range out {
		out[i] = Int(s.start + int64(i)*s.step)
	}
	return out
}

// items returns what iterating over v gives. A generator is empty afterwards.
func (r *run) items(v Value) ([]Value, error) {
	switch v := v.(type) {
	case *List:
		return v.Items, nil
	case *Tuple:
		return v.Items, nil
	case *Dict:
		return v.keys, nil
	case *view:
		return v.items, nil
	case *generator:
		items := v.items
		v.items = nil
		return items, v.failed
	case *span:
		return v.items(), r.charge(v.len() * valueSize)
	case *undefined:
		return nil, nil
	case Str, Markup:
		s, _ := text(v)
		if err := r.charge(len(s) * valueSize); err != nil {
			return nil, err
		}
		out := make([]Value, 0, len(s))
		for _, c := range s {
			out = append(out, Str(c))
		}
		return out, nil
	}
	return nil, errorf(TypeError, "'%s' object is not iterable", v.typeName())
}

// sequence returns the items of a list or tuple.
func sequence(v Value) ([]Value, bool) {
	switch v := v.(type) {
	case *List:
		return v.Items, true
	case *Tuple:
		return v.Items, true
	}
	return nil, false
}
