package jinja

import "strings"

// attribute returns what "of.name" is. As in Jinja, methods come before the
// entries of a mapping.
func attribute(of Value, name string) (Value, error) {
	switch of := of.(type) {
	case *undefined:
		return nil, of.err()
	case *namespace:
		if v, ok := of.vars.Get(name); ok {
			return v, nil
		}
		return missing(of, Str(name)), nil
	case *Dict:
		if v := method(of, name); v != nil {
			return v, nil
		}
		if v, ok := of.Get(name); ok {
			return v, nil
		}
	default:
		if v := method(of, name); v != nil {
			return v, nil
		}
	}
	if strings.HasPrefix(name, "__") {
		return unsafeAttribute(of, name), nil
	}
	return missing(of, Str(name)), nil
}

// unsafeAttribute is what Jinja's sandbox gives for an attribute that it hides.
func unsafeAttribute(of Value, name string) *undefined {
	return &undefined{SecurityError, "access to attribute " + quote(name) + " of " + quote(of.typeName()) + " object is unsafe."}
}

// method returns the method or built-in attribute of a value, or nil.
func method(of Value, name string) Value {
	switch of := of.(type) {
	case Str, Markup:
		if m, ok := textMethods[name]; ok {
			return m.bind(name, of)
		}
	case *Dict:
		if m, ok := dictMethods[name]; ok {
			return m.bind(name, of)
		}
		if dictChangers[name] {
			return unsafeAttribute(of, name)
		}
	case *List:
		if m, ok := listMethods[name]; ok {
			return m.bind(name, of)
		}
		if listChangers[name] {
			return unsafeAttribute(of, name)
		}
	case *Tuple:
		for i, n := range of.names {
			if n == name {
				return of.Items[i]
			}
		}
		if m, ok := listMethods[name]; ok && name != "copy" {
			return m.bind(name, of)
		}
	case *loop:
		if get, ok := loopAttributes[name]; ok {
			return get(of)
		}
	case *function:
		if name == "name" {
			return Str(of.name)
		}
	case *cycler:
		return of.attribute(name)
	}
	return nil
}

// dictChangers and listChangers hold the methods that would change a value,
// which the sandbox does not let a template call.
var (
	dictChangers = map[string]bool{"clear": true, "pop": true, "popitem": true, "setdefault": true, "update": true}
	listChangers = map[string]bool{"append": true, "clear": true, "pop": true, "reverse": true, "insert": true, "sort": true, "extend": true, "remove": true}
)

// dictMethods is the table of a mapping's methods.
var dictMethods = map[string]builtin{
	"get": takes(selfParam, need("key"), option("default", None{})).by(func(_ *run, a []Value) (Value, error) {
		hash, err := hashKey(a[1])
		if err != nil {
			return nil, err
		}
		d := a[0].(*Dict)
		if at, ok := d.index[hash]; ok {
			return d.values[at], nil
		}
		return a[2], nil
	}),
	"keys":   dictView("dict_keys", func(d *Dict) []Value { return d.keys }),
	"values": dictView("dict_values", func(d *Dict) []Value { return d.values }),
	"items":  dictView("dict_items", (*Dict).pairs),
	"copy": takes(selfParam).by(func(r *run, a []Value) (Value, error) {
		out := NewDict()
		return out, r.update(out, a[0].(*Dict))
	}),
}

func dictView(name string, items func(*Dict) []Value) builtin {
	return takes(selfParam).by(func(r *run, a []Value) (Value, error) {
		list := items(a[0].(*Dict))
		return &view{name, list}, r.charge(len(list) * 4 * valueSize)
	})
}

// update sets the entries of from in to.
func (r *run) update(to, from *Dict) error {
	for i, key := range from.keys {
		hash, err := hashKey(key)
		if err != nil {
			return err
		}
		to.put(key, hash, from.values[i])
	}
	return r.charge(from.Len() * 4 * valueSize)
}

// listMethods is the table of the methods of lists and tuples.
var listMethods = map[string]builtin{
	"index": takes(selfParam, need("value")).by(func(r *run, a []Value) (Value, error) {
		items, _ := sequence(a[0])
		for i, item := range items {
			if same, err := r.equal(item, a[1]); same || err != nil {
				return Int(i), err
			}
		}
		return nil, errorf(ValueError, "%s is not in list", brief(a[1]))
	}),
	"count": takes(selfParam, need("value")).by(func(r *run, a []Value) (Value, error) {
		items, _ := sequence(a[0])
		n := 0
		for _, item := range items {
			same, err := r.equal(item, a[1])
			if err != nil {
				return nil, err
			}
			if same {
				n++
			}
		}
		return Int(n), nil
	}),
	"copy": takes(selfParam).by(func(_ *run, a []Value) (Value, error) { return a[0], nil }),
}

// item returns what "of[index]" is.
func item(of, index Value) (Value, error) {
	switch of := of.(type) {
	case *undefined:
		return nil, of.err()
	case *Dict:
		if hash, err := hashKey(index); err == nil {
			if at, ok := of.index[hash]; ok {
				return of.values[at], nil
			}
		}
	default:
		if v := element(of, index); v != nil {
			return v, nil
		}
	}
	if name, ok := text(index); ok {
		return attribute(of, name)
	}
	return missing(of, index), nil
}

// element returns the element of a sequence, or nil.
func element(of, index Value) Value {
	if !isInteger(index) {
		return nil
	}
	n, _ := toInt(index)
	at := int(n)
	if s, ok := text(of); ok {
		return character(of, s, at)
	}
	items, ok := sequence(of)
	if s, isSpan := of.(*span); isSpan {
		if at < 0 {
			at += s.len()
		}
		if at < 0 || at >= s.len() {
			return nil
		}
		return Int(s.start + int64(at)*s.step)
	}
	if at < 0 {
		at += len(items)
	}
	if !ok || at < 0 || at >= len(items) {
		return nil
	}
	return items[at]
}

// character returns the character at a place of a text, counted from the end if
// at is negative, or nil.
func character(of Value, s string, at int) Value {
	if at < 0 {
		at += runeCount(s)
	}
	if at < 0 {
		return nil
	}
	for _, c := range s {
		if at == 0 {
			return retext(of, string(c))
		}
		at--
	}
	return nil
}

// slice returns what "of[start:stop:step]" is; parts that are None are absent.
func (r *run) slice(of Value, parts [3]Value) (Value, error) {
	if u, ok := of.(*undefined); ok {
		return nil, u.err()
	}
	if s, ok := text(of); ok {
		return r.sliceText(of, s, parts)
	}
	items, ok := sequence(of)
	if s, isSpan := of.(*span); isSpan {
		items, ok = s.items(), true
	}
	if !ok {
		return nil, errorf(TypeError, "'%s' object is not subscriptable", of.typeName())
	}
	b, err := sliceBounds(len(items), parts)
	if err != nil {
		return nil, err
	}
	var out []Value
	if b.step == 1 {
		out = items[b.start:b.stop:b.stop]
	} else {
		if err := r.charge(b.count * valueSize); err != nil {
			return nil, err
		}
		out = make([]Value, b.count)
		for i := range out {
			out[i] = items[b.start+i*b.step]
		}
	}
	if _, ok := of.(*Tuple); ok {
		return &Tuple{Items: out}, nil
	}
	return &List{Items: out}, nil
}

func (r *run) sliceText(of Value, s string, parts [3]Value) (Value, error) {
	b, err := sliceBounds(runeCount(s), parts)
	if err != nil {
		return nil, err
	}
	if err := r.chargeSearch(len(s)); err != nil {
		return nil, err
	}
	if b.step == 1 {
		begin := bytesOf(s, b.start)
		return retext(of, s[begin:begin+bytesOf(s[begin:], b.count)]), nil
	}
	if err := r.charge(4 * (len(s) + b.count)); err != nil {
		return nil, err
	}
	runes := []rune(s)
	out := make([]rune, b.count)
	for i := range out {
		out[i] = runes[b.start+i*b.step]
	}
	return retext(of, string(out)), nil
}

// bytesOf returns the length in bytes of the first n characters of s.
func bytesOf(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

// bounds is a slice of a sequence: count elements from start on, step apart. For
// a step of 1, stop is where it ends.
type bounds struct{ start, stop, step, count int }

// sliceBounds applies a slice to a sequence of n elements.
func sliceBounds(n int, parts [3]Value) (bounds, error) {
	var given [3]int
	var has [3]bool
	for i, part := range parts {
		if _, ok := part.(None); ok {
			continue
		}
		if !isInteger(part) {
			return bounds{}, errorf(TypeError, "slice indices must be integers or None")
		}
		v, _ := toInt(part)
		given[i], has[i] = int(max(min(v, 1<<40), -1<<40)), true
	}
	b := bounds{start: 0, stop: n, step: 1}
	low, high := 0, n // for places that are given
	if has[2] {
		b.step = given[2]
	}
	if b.step == 0 {
		return bounds{}, errorf(ValueError, "slice step cannot be zero")
	}
	if b.step < 0 {
		low, high = -1, n-1
		b.start, b.stop = n-1, -1
	}
	for i, to := range []*int{&b.start, &b.stop} {
		if has[i] {
			at := given[i]
			if at < 0 {
				at += n
			}
			*to = min(max(at, low), high)
		}
	}
	b.count = (&span{int64(b.start), int64(b.stop), int64(b.step)}).len()
	if b.step == 1 {
		b.stop = max(b.start, b.stop)
	}
	return b, nil
}
