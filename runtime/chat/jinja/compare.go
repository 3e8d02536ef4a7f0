package jinja

import (
	"cmp"
	"math"
	"strings"
)

// deepest is how deep values may nest for comparing, printing and JSON.
const deepest = 500

// comparing is one comparison; it counts how deep it is.
type comparing struct {
	r     *run
	depth int
}

// equal is Python's ==.
func (r *run) equal(a, b Value) (bool, error) {
	c := comparing{r: r}
	return c.equal(a, b)
}

// order is Python's comparison for < and the like: below zero, zero or above.
func (r *run) order(a, b Value) (int, error) {
	c := comparing{r: r}
	return c.order(a, b)
}

func (c *comparing) enter() error {
	if c.depth++; c.depth > deepest {
		return errorf(LimitError, "values nested deeper than %d cannot be compared", deepest)
	}
	return c.r.step()
}

func (c *comparing) equal(a, b Value) (bool, error) {
	if err := c.enter(); err != nil {
		return false, err
	}
	defer func() { c.depth-- }()
	if isNumber(a) && isNumber(b) {
		return compareNumbers(a, b) == 0 && !isNaN(a) && !isNaN(b), nil
	}
	if s, ok := text(a); ok {
		t, ok := text(b)
		return ok && s == t, nil
	}
	switch a := a.(type) {
	case Big:
		b, ok := b.(Big)
		return ok && a.n.Cmp(b.n) == 0, nil
	case *undefined:
		_, ok := b.(*undefined)
		return ok, nil
	case *Dict:
		if b, ok := b.(*Dict); ok {
			return c.equalDicts(a, b)
		}
	case *span:
		b, ok := b.(*span)
		return ok && *a == *b, nil
	}
	x, xok := sequence(a)
	y, yok := sequence(b)
	if xok && yok && a.typeName() == b.typeName() {
		return c.equalItems(x, y)
	}
	return a == b, nil
}

func (c *comparing) equalItems(a, b []Value) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if same, err := c.equal(a[i], b[i]); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (c *comparing) equalDicts(a, b *Dict) (bool, error) {
	if a.Len() != b.Len() {
		return false, nil
	}
	for i, key := range a.keys {
		hash, err := hashKey(key)
		if err != nil {
			return false, err
		}
		j, ok := b.index[hash]
		if !ok {
			return false, nil
		}
		if same, err := c.equal(a.values[i], b.values[j]); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (c *comparing) order(a, b Value) (int, error) {
	if err := c.enter(); err != nil {
		return 0, err
	}
	defer func() { c.depth-- }()
	for _, v := range []Value{a, b} {
		if u, ok := v.(*undefined); ok {
			return 0, u.err()
		}
	}
	if isNumber(a) && isNumber(b) {
		return compareNumbers(a, b), nil
	}
	if s, ok := text(a); ok {
		if t, ok := text(b); ok {
			return strings.Compare(s, t), nil // code points order as UTF-8 does
		}
	}
	x, xok := sequence(a)
	y, yok := sequence(b)
	if !xok || !yok || a.typeName() != b.typeName() {
		return 0, errorf(TypeError, "'<' not supported between instances of '%s' and '%s'", a.typeName(), b.typeName())
	}
	for i := range min(len(x), len(y)) {
		if same, err := c.equal(x[i], y[i]); err != nil {
			return 0, err
		} else if !same {
			return c.order(x[i], y[i])
		}
	}
	return len(x) - len(y), nil
}

// compareNumbers returns the order of two numbers; integers are compared
// exactly.
func compareNumbers(a, b Value) int {
	m, mok := toInt(a)
	n, nok := toInt(b)
	if mok && nok {
		return cmp.Compare(m, n)
	}
	x, _ := number(a)
	y, _ := number(b)
	return cmp.Compare(x, y)
}

func isNaN(v Value) bool {
	f, ok := v.(Float)
	return ok && math.IsNaN(float64(f))
}
