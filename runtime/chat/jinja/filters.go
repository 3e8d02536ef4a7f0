package jinja

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
)

// filterTable is the table of filters.
var filterTable = map[string]builtin{
	"abs":         takes(valueParam).by(filterAbs),
	"attr":        takes(valueParam, need("name")).by(filterAttr),
	"capitalize":  asText(capitalize),
	"center":      takes(valueParam, option("width", Int(80))).by(filterCenter),
	"count":       takes(valueParam).by(filterLength),
	"d":           takes(valueParam, option("default_value", Str("")), option("boolean", Bool(false))).by(filterDefault),
	"default":     takes(valueParam, option("default_value", Str("")), option("boolean", Bool(false))).by(filterDefault),
	"e":           takes(valueParam).by(filterEscape),
	"escape":      takes(valueParam).by(filterEscape),
	"float":       takes(valueParam, option("default", Float(0))).by(filterFloat),
	"forceescape": takes(valueParam).by(filterForceEscape),
	"format":      {raw: filterFormat},
	"indent":      takes(valueParam, option("width", Int(4)), option("first", Bool(false)), option("blank", Bool(false))).by(filterIndent),
	"int":         takes(valueParam, option("default", Int(0)), option("base", Int(10))).by(filterInt),
	"join":        takes(valueParam, option("d", Str("")), option("attribute", None{})).by(filterJoin),
	"length":      takes(valueParam).by(filterLength),
	"lower":       asText(lower),
	"replace":     takes(valueParam, need("old"), need("new"), option("count", None{})).by(filterReplace),
	"round":       takes(valueParam, option("precision", Int(0)), option("method", Str("common"))).by(filterRound),
	"safe":        takes(valueParam).by(filterSafe),
	"string":      takes(valueParam).by(filterString),
	"title":       asText(filterTitle),
	"tojson":      takes(valueParam, option("ensure_ascii", Bool(false)), option("indent", None{}), option("separators", None{}), option("sort_keys", Bool(false))).by(filterToJSON),
	"trim":        takes(valueParam, option("chars", None{})).by(filterTrim),
	"truncate":    takes(valueParam, option("length", Int(255)), option("killwords", Bool(false)), option("end", Str("...")), option("leeway", Int(5))).by(filterTruncate),
	"upper":       asText(upper),
	"wordcount":   takes(valueParam).by(filterWordCount),

	"batch":      lazily(takes(valueParam, need("linecount"), option("fill_with", None{})).by(filterBatch)),
	"dictsort":   takes(valueParam, option("case_sensitive", Bool(false)), option("by", Str("key")), option("reverse", Bool(false))).by(filterDictSort),
	"first":      takes(valueParam).by(filterFirst),
	"groupby":    takes(valueParam, need("attribute"), option("default", None{}), option("case_sensitive", Bool(false))).by(filterGroupBy),
	"items":      lazily(takes(valueParam).by(filterItems)),
	"last":       takes(valueParam).by(filterLast),
	"list":       takes(valueParam).by(filterList),
	"map":        lazily(builtin{raw: filterMap}),
	"max":        takes(valueParam, option("case_sensitive", Bool(false)), option("attribute", None{})).by(filterMax),
	"min":        takes(valueParam, option("case_sensitive", Bool(false)), option("attribute", None{})).by(filterMin),
	"reject":     lazily(builtin{raw: choose{keep: false}.filter}),
	"rejectattr": lazily(builtin{raw: choose{keep: false, attribute: true}.filter}),
	"reverse":    takes(valueParam).by(filterReverse),
	"select":     lazily(builtin{raw: choose{keep: true}.filter}),
	"selectattr": lazily(builtin{raw: choose{keep: true, attribute: true}.filter}),
	"slice":      lazily(takes(valueParam, need("slices"), option("fill_with", None{})).by(filterSlice)),
	"sort":       takes(valueParam, option("reverse", Bool(false)), option("case_sensitive", Bool(false)), option("attribute", None{})).by(filterSort),
	"sum":        takes(valueParam, option("attribute", None{}), option("start", Int(0))).by(filterSum),
	"unique":     lazily(takes(valueParam, option("case_sensitive", Bool(false)), option("attribute", None{})).by(filterUnique)),
}

// valueParam begins the parameters of filters and tests.
var valueParam = need("value")

// asText is a filter that prints its value and changes the text.
func asText(f func(string) string) builtin {
	return takes(valueParam).by(func(r *run, a []Value) (Value, error) {
		s, err := r.str(a[0])
		if err != nil {
			return nil, err
		}
		out := f(s)
		return retext(a[0], out), r.charge(len(out))
	})
}

func filterAbs(_ *run, a []Value) (Value, error) {
	switch v := a[0].(type) {
	case Float:
		return Float(math.Abs(float64(v))), nil
	}
	n, ok := toInt(a[0])
	if !ok {
		return nil, errorf(TypeError, "bad operand type for abs(): '%s'", a[0].typeName())
	}
	if n < 0 {
		return subtractInts(0, n)
	}
	return Int(n), nil
}

// filterAttr looks for attributes only, not for entries.
func filterAttr(_ *run, a []Value) (Value, error) {
	name, err := wantText(a[1], "attribute name")
	if err != nil {
		return nil, err
	}
	switch of := a[0].(type) {
	case *undefined:
		return nil, of.err()
	case *namespace:
		return attribute(of, name)
	}
	if v := method(a[0], name); v != nil {
		return v, nil
	}
	return missing(a[0], a[1]), nil
}

func filterCenter(r *run, a []Value) (Value, error) {
	s, err := r.str(a[0])
	if err != nil {
		return nil, err
	}
	return textMethods["center"].fixed(r, []Value{retext(a[0], s), a[1], Str(" ")})
}

func filterDefault(_ *run, a []Value) (Value, error) {
	_, missing := a[0].(*undefined)
	if missing || truth(a[2]) && !truth(a[0]) {
		return a[1], nil
	}
	return a[0], nil
}

func filterEscape(r *run, a []Value) (Value, error) { return r.escape(a[0]) }

func filterForceEscape(r *run, a []Value) (Value, error) {
	s, err := r.str(a[0])
	if err != nil {
		return nil, err
	}
	return r.escape(Str(s))
}

func filterSafe(r *run, a []Value) (Value, error) {
	s, err := r.str(a[0])
	return Markup(s), err
}

func filterString(r *run, a []Value) (Value, error) {
	if _, ok := text(a[0]); ok {
		return a[0], nil
	}
	s, err := r.str(a[0])
	return Str(s), err
}

func filterLength(_ *run, a []Value) (Value, error) {
	n, ok := length(a[0])
	if !ok {
		return nil, errorf(TypeError, "object of type '%s' has no len()", a[0].typeName())
	}
	return Int(n), nil
}

func filterInt(_ *run, a []Value) (Value, error) {
	base, err := wantInt(a[2], "base")
	if err != nil {
		return nil, err
	}
	switch v := a[0].(type) {
	case *undefined:
		return nil, v.err()
	case Int, Big:
		return v, nil
	case Bool:
		n, _ := toInt(v)
		return Int(n), nil
	case Float:
		return truncated(float64(v), a[1]), nil
	}
	s, ok := text(a[0])
	if !ok {
		return a[1], nil
	}
	s = strings.TrimFunc(s, isSpace)
	if len(s) <= maxDigits && !strings.HasPrefix(s, "_") && !strings.HasSuffix(s, "_") {
		digits := strings.ReplaceAll(s, "_", "")
		if base == 16 || base == 8 || base == 2 {
			digits = withoutPrefix(digits, base)
		}
		if n, ok := new(big.Int).SetString(digits, boundedBase(base)); ok {
			return integer(n), nil
		}
	}
	f, ok := parseFloat(s)
	if !ok {
		return a[1], nil
	}
	return truncated(f, a[1]), nil
}

// boundedBase returns base if big.Int takes it, or 10.
func boundedBase(base int) int {
	if base < 2 || base > 36 {
		return 10
	}
	return base
}

// withoutPrefix takes 0x, 0o or 0b off a number of that base.
func withoutPrefix(s string, base int) string {
	prefix := map[int]string{16: "0x", 8: "0o", 2: "0b"}[base]
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, s = s[:1], s[1:]
	}
	if len(s) > 2 && strings.EqualFold(s[:2], prefix) {
		s = s[2:]
	}
	return sign + s
}

// truncated returns f without its fraction, or fallback if it has no value.
func truncated(f float64, fallback Value) Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fallback
	}
	n, _ := big.NewFloat(f).Int(nil)
	return integer(n)
}

// parseFloat reads a number as Python's float does.
func parseFloat(s string) (float64, bool) {
	if strings.ContainsAny(s, "xXpP") {
		return 0, false // hexadecimal, which Go reads and Python does not
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

func filterFloat(_ *run, a []Value) (Value, error) {
	switch v := a[0].(type) {
	case *undefined:
		return nil, v.err()
	case Float, Int, Bool:
		f, _ := number(v)
		return Float(f), nil
	}
	if s, ok := text(a[0]); ok {
		if f, ok := parseFloat(strings.TrimFunc(s, isSpace)); ok {
			return Float(f), nil
		}
	}
	return a[1], nil
}

func filterFormat(r *run, args arguments) (Value, error) {
	s, err := r.str(args.positional[0])
	if err != nil {
		return nil, err
	}
	if len(args.names) == 0 {
		return r.format(s, &Tuple{Items: args.positional[1:]})
	}
	if len(args.positional) > 1 {
		return nil, errorf(FilterError, "can't handle positional and keyword arguments at the same time")
	}
	named := NewDict()
	for i, name := range args.names {
		named.Set(name, args.named[i])
	}
	return r.format(s, named)
}

func filterIndent(r *run, a []Value) (Value, error) {
	switch v := a[0].(type) {
	case *undefined:
		return nil, v.err()
	case *List:
		return nil, errorf(AttributeFail, "'list' object has no attribute 'splitlines'")
	}
	s, err := wantText(a[0], "the text to indent")
	if err != nil {
		return nil, err
	}
	by, ok := text(a[1])
	if !ok {
		width, err := wantInt(a[1], "width")
		if err != nil {
			return nil, err
		}
		width = max(width, 0)
		if err := r.chargeTimes(1, int64(width)); err != nil {
			return nil, err
		}
		by = strings.Repeat(" ", width)
	}
	first, blank := truth(a[2]), truth(a[3])
	if err := r.chargeTimes(len(by)+partSize, int64(1+countFunc(s, isLineEnd))); err != nil {
		return nil, err
	}
	list := lines(s+"\n", false)
	for i, line := range list {
		if i == 0 && first || i > 0 && (blank || line != "") {
			list[i] = by + line
		}
	}
	return retext(a[0], strings.Join(list, "\n")), r.charge(len(s))
}

func filterJoin(r *run, a []Value) (Value, error) {
	items, err := r.items(a[0])
	if err != nil {
		return nil, err
	}
	if _, none := a[2].(None); !none {
		items = append([]Value(nil), items...)
		for i, item := range items {
			if items[i], err = r.path(item, a[2]); err != nil {
				return nil, err
			}
		}
	}
	separator, err := r.str(a[1])
	if err != nil {
		return nil, err
	}
	return r.join(separator, items)
}

func filterReplace(r *run, a []Value) (Value, error) {
	var parts [3]string
	for i := range parts {
		var err error
		if parts[i], err = r.str(a[i]); err != nil {
			return nil, err
		}
	}
	count := -1
	if _, none := a[3].(None); !none {
		var err error
		if count, err = wantInt(a[3], "count"); err != nil {
			return nil, err
		}
	}
	out, err := r.replace(parts[0], parts[1], parts[2], count)
	return Str(out), err
}

func filterRound(_ *run, a []Value) (Value, error) {
	precision, err := wantInt(a[1], "precision")
	if err != nil {
		return nil, err
	}
	method, err := wantText(a[2], "method")
	if err != nil {
		return nil, err
	}
	if !isNumber(a[0]) {
		return nil, errorf(TypeError, "type %s doesn't define __round__ method", a[0].typeName())
	}
	f, whole := number(a[0])
	precision = max(min(precision, 300), -300) // beyond, nothing changes or nothing is left
	switch method {
	case "common":
		if whole && precision >= 0 {
			n, _ := toInt(a[0])
			return Int(n), nil
		}
		rounded := roundHalfEven(f, precision)
		if whole {
			return truncated(rounded, Int(0)), nil
		}
		return Float(rounded), nil
	case "ceil":
		return Float(math.Ceil(f*math.Pow10(precision)) / math.Pow10(precision)), nil
	case "floor":
		return Float(math.Floor(f*math.Pow10(precision)) / math.Pow10(precision)), nil
	}
	return nil, errorf(FilterError, "method must be common, ceil or floor")
}

// roundHalfEven rounds to a number of decimal places by the exact decimal value.
func roundHalfEven(f float64, places int) float64 {
	if places < 0 {
		unit := math.Pow10(-places)
		return math.RoundToEven(f/unit) * unit
	}
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(f, 'f', places, 64), 64)
	if err != nil {
		return f
	}
	return rounded
}

func filterTrim(r *run, a []Value) (Value, error) {
	s, err := r.str(a[0])
	if err != nil {
		return nil, err
	}
	return textMethods["strip"].fixed(r, []Value{retext(a[0], s), a[1]})
}

// filterTitle raises the first letter of each word, where words begin after
// white space, hyphens and opening brackets.
func filterTitle(s string) string {
	inside := false
	return strings.Map(func(c rune) rune {
		if isSpace(c) || strings.ContainsRune("-({[<", c) {
			inside = false
			return c
		}
		if inside {
			return unicode.ToLower(c)
		}
		inside = true
		return unicode.ToUpper(c)
	}, s)
}

func filterTruncate(r *run, a []Value) (Value, error) {
	have, ok := length(a[0])
	if !ok {
		return nil, errorf(TypeError, "object of type '%s' has no len()", a[0].typeName())
	}
	size, err := wantInt(a[1], "length")
	if err != nil {
		return nil, err
	}
	end, err := wantText(a[3], "end")
	if err != nil {
		return nil, err
	}
	leeway, err := wantInt(a[4], "leeway")
	if err != nil {
		return nil, err
	}
	keep := size - runeCount(end)
	if keep < 0 || leeway < 0 {
		return nil, errorf(ValueError, "length %d is too small for the end %s", size, quote(end))
	}
	if have <= size+leeway {
		return a[0], nil
	}
	s, err := wantText(a[0], "the text to truncate")
	if err != nil {
		return nil, err
	}
	cut := s[:bytesOf(s, keep)]
	if at := strings.LastIndexByte(cut, ' '); at >= 0 && !truth(a[2]) {
		cut = cut[:at]
	}
	return retext(a[0], cut+end), r.charge(len(cut) + len(end))
}

func filterWordCount(r *run, a []Value) (Value, error) {
	s, err := r.str(a[0])
	if err != nil {
		return nil, err
	}
	words, inside := 0, false
	for _, c := range s {
		before := inside
		inside = c == '_' || unicode.IsLetter(c) || unicode.IsNumber(c)
		if inside && !before {
			words++
		}
	}
	return Int(words), r.chargeSearch(len(s))
}
