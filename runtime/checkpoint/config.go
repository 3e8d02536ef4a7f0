package checkpoint

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Bounds of config.json and the other small JSON files. The largest published
// ones list every id of a vocabulary twice and stay below these.
const (
	maxJSON   = 16 << 20 // bytes
	maxDepth  = 64       // nested objects and arrays
	maxValues = 1 << 18  // values in one file; each costs 72 bytes
	maxKey    = 64 << 10 // bytes of a key
)

// Kind is the kind of a Value.
type Kind uint8

// The kinds of values. Null is a value: an absent key has none.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

// kindNames has the name of each kind.
var kindNames = [...]string{"null", "true or false", "a number", "a string", "an array", "an object"}

// String returns the name used in errors.
func (k Kind) String() string { return kindNames[k] }

// Value is a value of a JSON file. The zero Value is null.
type Value struct {
	kind  Kind
	text  string   // a string's characters, a number as written, true or false
	keys  []string // of an object, in the file's order
	items []Value  // of an object or array
}

// Kind returns what v is.
func (v Value) Kind() Kind { return v.kind }

// IsNull reports whether v is null.
func (v Value) IsNull() bool { return v.kind == Null }

// Bool returns a truth value; ok is false for any other kind.
func (v Value) Bool() (value, ok bool) { return v.text == "true", v.kind == Bool }

// Text returns a string; ok is false for any other kind.
func (v Value) Text() (value string, ok bool) {
	if v.kind != String {
		return "", false
	}
	return v.text, true
}

// Literal returns a number as the file writes it, which tells 1 from 1.0 and
// loses no digit; ok is false for any other kind.
func (v Value) Literal() (number string, ok bool) {
	if v.kind != Number {
		return "", false
	}
	return v.text, true
}

// Int returns a number that is written as an integer and fits an int64. 4096.0
// is none; see Literal.
func (v Value) Int() (value int64, ok bool) {
	if v.kind != Number {
		return 0, false
	}
	n, err := strconv.ParseInt(v.text, 10, 64)
	return n, err == nil
}

// Float returns the float64 nearest to a number; ok is false if it is none or
// beyond the range of float64.
func (v Value) Float() (value float64, ok bool) {
	if v.kind != Number {
		return 0, false
	}
	x, err := strconv.ParseFloat(v.text, 64)
	return x, err == nil
}

// Len returns the number of items of an array or members of an object.
func (v Value) Len() int { return len(v.items) }

// Item returns the i-th item of an array or member of an object.
func (v Value) Item(i int) Value { return v.items[i] }

// Keys returns the keys of an object in the file's order.
func (v Value) Keys() []string { return slices.Clone(v.keys) }

// Get returns the member of an object that has the key.
func (v Value) Get(key string) (Value, bool) {
	if i := slices.Index(v.keys, key); i >= 0 {
		return v.items[i], true
	}
	return Value{}, false
}

// Lookup follows a path of keys separated by dots, such as
// "rope_parameters.rope_theta". A number is an index where the value is an
// array. A null on the way, or a value that has no parts, ends the path: then
// ok is false, as for an absent key.
func (v Value) Lookup(path string) (value Value, ok bool) {
	for part := range strings.SplitSeq(path, ".") {
		if v.kind == Array {
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(v.items) || strconv.Itoa(i) != part {
				return Value{}, false
			}
			v = v.items[i]
		} else if v, ok = v.Get(part); !ok {
			return Value{}, false
		}
	}
	return v, true
}

// String writes v as JSON on one line, with numbers as the file writes them.
func (v Value) String() string { return string(v.append(nil)) }

func (v Value) append(b []byte) []byte {
	switch v.kind {
	case Null:
		return append(b, "null"...)
	case String:
		return quote(b, v.text)
	case Array, Object:
		brackets := "[]"
		if v.kind == Object {
			brackets = "{}"
		}
		b = append(b, brackets[0])
		for i, item := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			if v.kind == Object {
				b = append(quote(b, v.keys[i]), ':')
			}
			b = item.append(b)
		}
		return append(b, brackets[1])
	}
	return append(b, v.text...)
}

// quote appends s as a JSON string.
func quote(b []byte, s string) []byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic("internal error: a string has no JSON form: " + err.Error())
	}
	return append(b, text...)
}

// ParseJSON reads the text of a JSON file strictly: UTF-8, no key twice in an
// object, no NaN or Infinity, nothing after the value, bounded depth and size.
func ParseJSON(file string, text []byte) (Value, error) {
	s := newScanner(file, bytes.NewReader(text))
	s.remedy = remedyJSON
	if len(text) > maxJSON {
		return Value{}, &Error{File: file, What: "is too large", Need: "at most " + bytesOf(maxJSON), Have: bytesOf(len(text)), Remedy: remedyJSON}
	}
	if d, ok := disguised(text[:min(len(text), sniffed)]); ok && d.what != jsonDisguise {
		return Value{}, &Error{File: file, What: d.what, Remedy: d.remedy}
	}
	t := tree{scanner: s, left: maxValues}
	v, err := t.value(0)
	if err != nil {
		return Value{}, err
	}
	return v, s.end()
}

// tree reads values whole.
type tree struct {
	*scanner
	left int // how many more values may be read
}

// value reads the next value at the given depth of nesting.
func (t *tree) value(depth int) (Value, error) {
	c, _ := t.token()
	if t.left--; t.left < 0 {
		return Value{}, t.fail("there are more than %s values", digits(maxValues))
	}
	if (c == '{' || c == '[') && depth == maxDepth {
		return Value{}, t.fail("values are nested more than %d deep", maxDepth)
	}
	var v Value
	var err error
	switch c {
	case '{':
		return t.members(depth)
	case '[':
		v.kind = Array
		err = t.array(func() error {
			item, err := t.value(depth + 1)
			v.items = append(v.items, item)
			return err
		})
	case '"':
		v.kind = String
		v.text, err = t.text(maxJSON)
	case 't':
		v.kind, v.text = Bool, "true"
		err = t.word("true")
	case 'f':
		v.kind, v.text = Bool, "false"
		err = t.word("false")
	case 'n':
		err = t.word("null")
	default:
		if c != '-' && !isDigit(c) {
			return v, t.fail("want a value, have %s", t.found())
		}
		v.kind = Number
		v.text, err = t.number()
	}
	return v, err
}

// members reads an object.
func (t *tree) members(depth int) (Value, error) {
	v := Value{kind: Object}
	seen := make(map[string]bool)
	err := t.object(maxKey, func(key string) error {
		if seen[key] {
			return t.fail("key %q is there twice", key)
		}
		seen[key] = true
		item, err := t.value(depth + 1)
		v.keys, v.items = append(v.keys, key), append(v.items, item)
		return err
	})
	return v, err
}

// Config is the content of config.json. What its keys mean is for others to
// decide.
type Config struct {
	file string
	root Value
}

// ParseConfig reads the text of a config.json; file is for errors.
func ParseConfig(file string, text []byte) (*Config, error) {
	root, err := ParseJSON(file, text)
	if err != nil {
		return nil, err
	}
	if root.kind != Object {
		return nil, &Error{File: file, What: "does not hold a configuration", Need: Object.String(), Have: root.kind.String(), Remedy: remedyJSON}
	}
	return &Config{file: file, root: root}, nil
}

// File returns the path of the file, for errors about its content.
func (c *Config) File() string { return c.file }

// Root returns the whole configuration, an object.
func (c *Config) Root() Value { return c.root }

// Keys returns the keys at the top, in the file's order.
func (c *Config) Keys() []string { return c.root.Keys() }

// Lookup follows a path of keys separated by dots; see Value.Lookup.
func (c *Config) Lookup(path string) (Value, bool) { return c.root.Lookup(path) }

// Architectures returns the names listed under "architectures".
func (c *Config) Architectures() []string {
	var names []string
	list, _ := c.root.Get("architectures")
	for _, item := range list.items {
		if name, ok := item.Text(); ok {
			names = append(names, name)
		}
	}
	return names
}
