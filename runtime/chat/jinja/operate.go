package jinja

import (
	"math"
	"math/bits"
	"strings"
)

// operation is an operator on two numbers, one of which may be a float.
type operation struct {
	ints   func(a, b int64) (Value, error)
	floats func(a, b float64) (Value, error)
}

// operations is the table of arithmetic operators.
var operations = map[string]operation{
	"+":  {addInts, func(a, b float64) (Value, error) { return Float(a + b), nil }},
	"-":  {subtractInts, func(a, b float64) (Value, error) { return Float(a - b), nil }},
	"*":  {multiplyInts, func(a, b float64) (Value, error) { return Float(a * b), nil }},
	"/":  {divideInts, divideFloats},
	"//": {floorDivideInts, floorDivideFloats},
	"%":  {moduloInts, moduloFloats},
	"**": {powerInts, powerFloats},
}

var (
	errDivision = errorf(ZeroDivision, "division by zero")
	errTooLarge = errorf(OverflowError, "the result is beyond 64 bits")
)

func addInts(a, b int64) (Value, error) {
	if sum := a + b; (sum > a) == (b > 0) {
		return Int(sum), nil
	}
	return nil, copied(errTooLarge)
}

func subtractInts(a, b int64) (Value, error) {
	if difference := a - b; (difference < a) == (b > 0) {
		return Int(difference), nil
	}
	return nil, copied(errTooLarge)
}

func multiplyInts(a, b int64) (Value, error) {
	high, low := bits.Mul64(magnitude(a), magnitude(b))
	if high != 0 || low > math.MaxInt64 {
		return nil, copied(errTooLarge)
	}
	return Int(a * b), nil
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

// copied returns an error of its own for each use: its place is added later.
func copied(e *Error) error {
	c := *e
	return &c
}

func divideInts(a, b int64) (Value, error) { return divideFloats(float64(a), float64(b)) }

func divideFloats(a, b float64) (Value, error) {
	if b == 0 {
		return nil, copied(errDivision)
	}
	return Float(a / b), nil
}

func floorDivideInts(a, b int64) (Value, error) {
	switch {
	case b == 0:
		return nil, copied(errDivision)
	case b == -1:
		return subtractInts(0, a)
	case a%b != 0 && (a < 0) != (b < 0):
		return Int(a/b - 1), nil
	}
	return Int(a / b), nil
}

func floorDivideFloats(a, b float64) (Value, error) {
	if b == 0 {
		return nil, copied(errDivision)
	}
	return Float(math.Floor(a / b)), nil
}

// moduloInts gives a result with the sign of b, as Python does.
func moduloInts(a, b int64) (Value, error) {
	switch {
	case b == 0:
		return nil, copied(errDivision)
	case b == -1:
		return Int(0), nil
	case a%b != 0 && (a < 0) != (b < 0):
		return Int(a%b + b), nil
	}
	return Int(a % b), nil
}

func moduloFloats(a, b float64) (Value, error) {
	if b == 0 {
		return nil, copied(errDivision)
	}
	m := math.Mod(a, b)
	if m != 0 && (m < 0) != (b < 0) {
		m += b
	}
	return Float(m), nil
}

func powerInts(a, b int64) (Value, error) {
	switch {
	case b < 0:
		return powerFloats(float64(a), float64(b))
	case b == 0:
		return Int(1), nil
	case -1 <= a && a <= 1: // never overflows, which would end the loop below
		if b%2 == 0 {
			a *= a
		}
		return Int(a), nil
	}
	var result Value = Int(1)
	for ; b > 0; b-- {
		var err error
		if result, err = multiplyInts(int64(result.(Int)), a); err != nil {
			return nil, err
		}
	}
	return result, nil
}

func powerFloats(a, b float64) (Value, error) {
	if a == 0 && b < 0 {
		return nil, copied(errDivision)
	}
	return Float(math.Pow(a, b)), nil
}

// negate applies a sign.
func negate(op string, v Value) (Value, error) {
	if u, ok := v.(*undefined); ok {
		return nil, u.err()
	}
	if f, ok := v.(Float); ok {
		if op == "-" {
			return -f, nil
		}
		return f, nil
	}
	n, ok := toInt(v)
	if !ok {
		return nil, errorf(TypeError, "bad operand type for unary %s: '%s'", op, v.typeName())
	}
	if op == "-" {
		return subtractInts(0, n)
	}
	return Int(n), nil
}

// binary applies an operator to two values.
func (r *run) binary(op string, a, b Value) (Value, error) {
	for _, v := range []Value{a, b} {
		if u, ok := v.(*undefined); ok {
			return nil, u.err()
		}
	}
	if isNumber(a) && isNumber(b) {
		x, xInt := number(a)
		y, yInt := number(b)
		if xInt && yInt {
			m, _ := toInt(a)
			n, _ := toInt(b)
			return operations[op].ints(m, n)
		}
		return operations[op].floats(x, y)
	}
	switch op {
	case "+":
		return r.add(a, b)
	case "*":
		if isInteger(a) {
			a, b = b, a
		}
		if n, ok := toInt(b); ok && isInteger(b) {
			return r.repeat(a, n)
		}
	case "%":
		if format, ok := text(a); ok {
			return r.format(format, b)
		}
	}
	return nil, unsupported(op, a, b)
}

func unsupported(op string, a, b Value) error {
	return errorf(TypeError, "unsupported operand type(s) for %s: '%s' and '%s'", op, a.typeName(), b.typeName())
}

// add joins two texts, lists or tuples.
func (r *run) add(a, b Value) (Value, error) {
	s, aText := text(a)
	t, bText := text(b)
	if aText && bText {
		_, aMarkup := a.(Markup)
		_, bMarkup := b.(Markup)
		if aMarkup || bMarkup {
			return r.addMarkup(a, b)
		}
		return Str(s + t), r.charge(len(s) + len(t))
	}
	if aText {
		return nil, errorf(TypeError, `can only concatenate str (not "%s") to str`, b.typeName())
	}
	x, xok := sequence(a)
	y, yok := sequence(b)
	if !xok || !yok || a.typeName() != b.typeName() {
		return nil, unsupported("+", a, b)
	}
	if err := r.charge((len(x) + len(y)) * valueSize); err != nil {
		return nil, err
	}
	items := append(append(make([]Value, 0, len(x)+len(y)), x...), y...)
	if _, ok := a.(*Tuple); ok {
		return &Tuple{Items: items}, nil
	}
	return &List{Items: items}, nil
}

func (r *run) addMarkup(a, b Value) (Value, error) {
	x, err := r.escape(a)
	if err != nil {
		return nil, err
	}
	y, err := r.escape(b)
	if err != nil {
		return nil, err
	}
	return x + y, r.charge(len(x) + len(y))
}

// repeat returns v n times over.
func (r *run) repeat(v Value, n int64) (Value, error) {
	n = max(n, 0)
	if s, ok := text(v); ok {
		if err := r.chargeTimes(len(s), n); err != nil {
			return nil, err
		}
		return retext(v, strings.Repeat(s, int(n))), nil
	}
	items, ok := sequence(v)
	if !ok {
		return nil, unsupported("*", v, Int(n))
	}
	if err := r.chargeTimes(len(items)*valueSize, n); err != nil {
		return nil, err
	}
	var out []Value
	if len(items) > 0 {
		for range n {
			out = append(out, items...)
		}
	}
	if _, ok := v.(*Tuple); ok {
		return &Tuple{Items: out}, nil
	}
	return &List{Items: out}, nil
}

// chargeTimes is charge for n pieces of a size.
func (r *run) chargeTimes(size int, n int64) error {
	if size > 0 && n > int64(r.limits.Memory/size) {
		return r.charge(r.limits.Memory + 1)
	}
	return r.charge(size * int(n))
}

// retext returns s as the kind of text that v is.
func retext(v Value, s string) Value {
	if _, ok := v.(Markup); ok {
		return Markup(s)
	}
	return Str(s)
}

// join prints the values with a text between them.
func (r *run) join(separator string, values []Value) (Value, error) {
	parts := make([]string, len(values))
	size := 0
	for i, v := range values {
		s, err := r.str(v)
		if err != nil {
			return nil, err
		}
		parts[i] = s
		size += len(s) + len(separator)
	}
	if err := r.charge(size); err != nil {
		return nil, err
	}
	return Str(strings.Join(parts, separator)), nil
}

// compare applies a comparing operator.
func (r *run) compare(op string, a, b Value) (bool, error) {
	switch op {
	case "==":
		return r.equal(a, b)
	case "!=":
		same, err := r.equal(a, b)
		return !same, err
	case "in":
		return r.contains(b, a)
	case "not in":
		in, err := r.contains(b, a)
		return !in, err
	}
	if isNaN(a) || isNaN(b) {
		return false, nil
	}
	n, err := r.order(a, b)
	if err != nil {
		return false, err
	}
	switch op {
	case "<":
		return n < 0, nil
	case "<=":
		return n <= 0, nil
	case ">":
		return n > 0, nil
	}
	return n >= 0, nil
}

// contains reports whether v is in the container.
func (r *run) contains(container, v Value) (bool, error) {
	if s, ok := text(container); ok {
		part, ok := text(v)
		if !ok {
			return false, errorf(TypeError, "'in <string>' requires string as left operand, not %s", v.typeName())
		}
		return strings.Contains(s, part), r.chargeSearch(len(s))
	}
	if d, ok := container.(*Dict); ok {
		hash, err := hashKey(v)
		if err != nil {
			return false, err
		}
		_, in := d.index[hash]
		return in, r.step()
	}
	items, err := r.items(container)
	if err != nil {
		return false, errorf(TypeError, "argument of type '%s' is not iterable", container.typeName())
	}
	for _, item := range items {
		if same, err := r.equal(item, v); same || err != nil {
			return same, err
		}
	}
	return false, nil
}

// chargeSearch counts the steps of looking through a text.
func (r *run) chargeSearch(bytes int) error {
	r.steps += bytes / 64
	return r.step()
}
