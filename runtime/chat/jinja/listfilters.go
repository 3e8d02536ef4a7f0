package jinja

import (
	"slices"
	"strings"
)

// path follows an attribute such as "function.name" or 0 as Jinja's filters do.
func (r *run) path(of Value, attr Value) (Value, error) {
	name, ok := text(attr)
	if !ok {
		return item(of, attr)
	}
	for _, part := range strings.Split(name, ".") {
		if err := r.step(); err != nil {
			return nil, err
		}
		var key Value = Str(part)
		if n, ok := digits(part); ok {
			key = Int(n)
		}
		var err error
		if of, err = item(of, key); err != nil {
			return nil, err
		}
	}
	return of, nil
}

// digits returns the small number that s writes with digits only.
func digits(s string) (n int, ok bool) {
	for _, c := range s {
		if c < '0' || c > '9' || n > 1<<24 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, s != ""
}

// sortKey returns what an item is compared by.
func (r *run) sortKey(of, attr Value, caseSensitive bool) (Value, error) {
	if _, none := attr.(None); !none {
		var err error
		if of, err = r.path(of, attr); err != nil {
			return nil, err
		}
	}
	if s, ok := text(of); ok && !caseSensitive {
		return Str(lower(s)), r.charge(len(s))
	}
	return of, nil
}

// keyed is an item with what it is compared by.
type keyed struct{ key, item Value }

func (r *run) keyed(items []Value, attr Value, caseSensitive bool) ([]keyed, error) {
	out := make([]keyed, len(items))
	for i, item := range items {
		key, err := r.sortKey(item, attr, caseSensitive)
		if err != nil {
			return nil, err
		}
		out[i] = keyed{key, item}
	}
	return out, r.charge(4 * len(items) * valueSize)
}

// sorted sorts by key, stably, also where it sorts backwards.
func (r *run) sorted(list []keyed, backwards bool) error {
	var failed error
	slices.SortStableFunc(list, func(a, b keyed) int {
		if failed != nil {
			return 0
		}
		if backwards {
			a, b = b, a
		}
		n, err := r.order(a.key, b.key)
		failed = err
		return n
	})
	return failed
}

func unkeyed(list []keyed) []Value {
	out := make([]Value, len(list))
	for i, k := range list {
		out[i] = k.item
	}
	return out
}

func filterSort(r *run, a []Value) (Value, error) {
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	attr := a[3]
	if name, ok := text(attr); ok && strings.Contains(name, ",") {
		return nil, errorf(TypeError, "sorting by several attributes is not supported; sort several times")
	}
	list, err := r.keyed(items, attr, truth(a[2]))
	if err != nil {
		return nil, err
	}
	err = r.sorted(list, truth(a[1]))
	return &List{Items: unkeyed(list)}, err
}

func filterDictSort(r *run, a []Value) (Value, error) {
	if u, ok := a[0].(*undefined); ok {
		return nil, u.err()
	}
	d, ok := a[0].(*Dict)
	if !ok {
		return nil, errorf(AttributeFail, "'%s' object has no attribute 'items'", a[0].typeName())
	}
	by, _ := text(a[2])
	place := map[string]int{"key": 0, "value": 1}
	at, ok := place[by]
	if !ok {
		return nil, errorf(FilterError, `You can only sort by either "key" or "value"`)
	}
	list, err := r.keyed(d.pairs(), Int(at), truth(a[1]))
	if err != nil {
		return nil, err
	}
	err = r.sorted(list, truth(a[3]))
	return &List{Items: unkeyed(list)}, err
}

func filterGroupBy(r *run, a []Value) (Value, error) {
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	list, err := r.keyed(items, a[1], true)
	if err != nil {
		return nil, err
	}
	names := make([]Value, 0, len(list)) // of the groups as written
	for i, k := range list {
		if _, ok := k.key.(*undefined); ok {
			if _, none := a[2].(None); !none {
				k.key = a[2]
			}
		}
		names = append(names, k.key)
		list[i].item = &Tuple{Items: []Value{k.item, Int(i)}}
		if list[i].key, err = r.sortKey(k.key, None{}, truth(a[3])); err != nil {
			return nil, err
		}
	}
	if err := r.sorted(list, false); err != nil {
		return nil, err
	}
	return r.groups(list, names)
}

// groups joins neighbours with equal keys. The items are pairs of the value and
// its place in names.
func (r *run) groups(list []keyed, names []Value) (Value, error) {
	out := &List{}
	var group *List
	for i, k := range list {
		same := false
		if i > 0 {
			var err error
			if same, err = r.equal(k.key, list[i-1].key); err != nil {
				return nil, err
			}
		}
		pair := k.item.(*Tuple).Items
		if !same {
			group = &List{}
			name := names[pair[1].(Int)]
			out.Items = append(out.Items, &Tuple{Items: []Value{name, group}, names: []string{"grouper", "list"}})
		}
		group.Items = append(group.Items, pair[0])
	}
	return out, nil
}

func filterUnique(r *run, a []Value) (Value, error) {
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	seen := make(map[any]bool)
	var out []Value
	for _, item := range items {
		key, err := r.sortKey(item, a[2], truth(a[1]))
		if err != nil {
			return nil, err
		}
		hash, err := hashKey(key)
		if err != nil {
			return nil, err
		}
		if !seen[hash] {
			seen[hash] = true
			out = append(out, item)
		}
	}
	return &generator{items: out}, r.charge(4 * len(out) * valueSize)
}

func filterMin(r *run, a []Value) (Value, error) { return r.extreme(a, -1) }
func filterMax(r *run, a []Value) (Value, error) { return r.extreme(a, 1) }

// extreme returns the first of the smallest or largest items.
func (r *run) extreme(a []Value, sign int) (Value, error) {
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return &undefined{Undefinedness, "No aggregated item, sequence was empty."}, nil
	}
	list, err := r.keyed(items, a[2], truth(a[1]))
	if err != nil {
		return nil, err
	}
	best := list[0]
	for _, k := range list[1:] {
		n, err := r.order(k.key, best.key)
		if err != nil {
			return nil, err
		}
		if n*sign > 0 {
			best = k
		}
	}
	return best.item, nil
}

func filterSum(r *run, a []Value) (Value, error) {
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	sum := a[2]
	if _, isText := text(sum); isText {
		return nil, errorf(TypeError, "sum() can't sum strings [use ''.join(seq) instead]")
	}
	for _, item := range items {
		if _, none := a[1].(None); !none {
			if item, err = r.path(item, a[1]); err != nil {
				return nil, err
			}
		}
		if sum, err = r.binary("+", sum, item); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

func filterFirst(r *run, a []Value) (Value, error) {
	if g, ok := a[0].(*generator); ok && len(g.items) > 0 {
		first := g.items[0]
		g.items = g.items[1:]
		return first, nil
	}
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return &undefined{Undefinedness, "No first item, sequence was empty."}, nil
	}
	return items[0], nil
}

func filterLast(r *run, a []Value) (Value, error) {
	if _, ok := a[0].(*generator); ok {
		return nil, errorf(TypeError, "'generator' object is not reversible")
	}
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return &undefined{Undefinedness, "No last item, sequence was empty."}, nil
	}
	return items[len(items)-1], nil
}

func filterList(r *run, a []Value) (Value, error) {
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	return &List{Items: slices.Clone(items)}, r.charge(len(items) * valueSize)
}

func filterReverse(r *run, a []Value) (Value, error) {
	if s, ok := text(a[0]); ok {
		if err := r.charge(5 * len(s)); err != nil {
			return nil, err
		}
		runes := []rune(s)
		slices.Reverse(runes)
		return retext(a[0], string(runes)), nil
	}
	items, err := r.items(a[0])
	if err != nil {
		return nil, errorf(FilterError, "argument must be iterable")
	}
	items = slices.Clone(items)
	slices.Reverse(items)
	if _, ok := a[0].(*generator); ok {
		return &List{Items: items}, r.charge(len(items) * valueSize)
	}
	return &generator{items: items}, r.charge(len(items) * valueSize)
}

func filterItems(_ *run, a []Value) (Value, error) {
	switch v := a[0].(type) {
	case *undefined:
		return &generator{}, nil
	case *Dict:
		return &generator{items: v.pairs()}, nil
	}
	return nil, errorf(TypeError, "Can only get item pairs from a mapping.")
}

func filterBatch(r *run, a []Value) (Value, error) {
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	size, err := wantInt(a[1], "linecount")
	if err != nil {
		return nil, err
	}
	if size < 1 {
		return nil, errorf(ValueError, "linecount is %d, want at least 1", size)
	}
	var out []Value
	for len(items) > 0 {
		n := min(size, len(items))
		row := slices.Clone(items[:n])
		items = items[n:]
		if _, none := a[2].(None); !none {
			if err := r.chargeTimes(valueSize, int64(size-n)); err != nil {
				return nil, err
			}
			for len(row) < size {
				row = append(row, a[2])
			}
		}
		out = append(out, &List{Items: row})
		if err := r.charge(2 * n * valueSize); err != nil {
			return nil, err
		}
	}
	return &generator{items: out}, nil
}

func filterSlice(r *run, a []Value) (Value, error) {
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	count, err := wantInt(a[1], "slices")
	if err != nil {
		return nil, err
	}
	if count < 1 {
		return nil, errorf(ZeroDivision, "slices is %d, want at least 1", count)
	}
	if err := r.chargeTimes(4*valueSize, int64(count)); err != nil {
		return nil, err
	}
	each, more := len(items)/count, len(items)%count
	var out []Value
	for i := range count {
		n := each
		if i < more {
			n++
		}
		row := slices.Clone(items[:n])
		items = items[n:]
		if _, none := a[2].(None); !none && i >= more {
			row = append(row, a[2])
		}
		out = append(out, &List{Items: row})
	}
	return &generator{items: out}, nil
}

// lazily makes a filter give its errors when its result is used, as generators
// do in Python. Limits hold at once.
func lazily(b builtin) builtin {
	fixed, raw := b.fixed, b.raw
	if fixed != nil {
		b.fixed = func(r *run, a []Value) (Value, error) { return r.deferred(fixed(r, a)) }
	} else {
		b.raw = func(r *run, args arguments) (Value, error) { return r.deferred(raw(r, args)) }
	}
	return b
}

func (r *run) deferred(v Value, err error) (Value, error) {
	fault, ok := r.placed(err, 0).(*Error)
	if !ok || fault.Kind == LimitError {
		return v, err
	}
	return &generator{failed: fault}, nil
}

// filterMap applies a filter to each item or takes an attribute of each.
func filterMap(r *run, args arguments) (Value, error) {
	if !truth(args.positional[0]) {
		return &generator{}, nil // whatever it is
	}
	items, err := r.items(args.positional[0])
	if err != nil {
		return nil, err
	}
	apply, err := r.mapping(args)
	if err != nil {
		return nil, err
	}
	out := make([]Value, len(items))
	for i, item := range items {
		if out[i], err = apply(item); err != nil {
			return nil, err
		}
	}
	return &generator{items: out}, r.charge(len(out) * valueSize)
}

func (r *run) mapping(args arguments) (func(Value) (Value, error), error) {
	rest := args.positional[1:]
	if len(rest) > 0 {
		name, err := wantText(rest[0], "the filter's name")
		if err != nil {
			return nil, err
		}
		return func(v Value) (Value, error) {
			return r.filter(name, v, arguments{rest[1:], args.names, args.named})
		}, nil
	}
	attr, ok := args.take("attribute")
	if !ok {
		return nil, errorf(FilterError, "map requires a filter argument")
	}
	fallback, hasFallback := args.take("default")
	return func(v Value) (Value, error) {
		out, err := r.path(v, attr)
		if _, missing := out.(*undefined); missing && hasFallback {
			return fallback, err
		}
		return out, err
	}, nil
}

// choose is select and its relatives.
type choose struct {
	keep      bool // keep the items for which the test holds, or the others
	attribute bool // test an attribute, named first
}

func (c choose) filter(r *run, args arguments) (Value, error) {
	if !truth(args.positional[0]) {
		return &generator{}, nil // whatever it is
	}
	items, err := r.items(args.positional[0])
	if err != nil {
		return nil, err
	}
	rest := args.positional[1:]
	var attr Value
	if c.attribute {
		if len(rest) == 0 {
			return nil, errorf(FilterError, "Missing parameter for attribute name")
		}
		attr, rest = rest[0], rest[1:]
	}
	var out []Value
	for _, item := range items {
		of := item
		if c.attribute {
			if of, err = r.path(item, attr); err != nil {
				return nil, err
			}
		}
		holds, err := r.holds(of, rest, args)
		if err != nil {
			return nil, err
		}
		if holds == c.keep {
			out = append(out, item)
		}
	}
	return &generator{items: out}, r.charge(len(out) * valueSize)
}

// holds applies the test that rest begins with, or asks for truth.
func (r *run) holds(v Value, rest []Value, args arguments) (bool, error) {
	if len(rest) == 0 {
		return truth(v), r.step()
	}
	name, err := wantText(rest[0], "the test's name")
	if err != nil {
		return false, err
	}
	return r.test(name, v, arguments{rest[1:], args.names, args.named})
}
