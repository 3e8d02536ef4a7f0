package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// selfParam begins the parameters of methods.
var selfParam = need("self")

// textMethods is the table of a text's methods.
var textMethods = map[string]builtin{
	"upper":        plain(upper),
	"lower":        plain(lower),
	"casefold":     plain(func(s string) string { return cases.Fold().String(s) }),
	"capitalize":   plain(capitalize),
	"title":        plain(title),
	"swapcase":     plain(swapCase),
	"strip":        strip(strings.TrimLeftFunc, strings.TrimRightFunc),
	"lstrip":       strip(strings.TrimLeftFunc),
	"rstrip":       strip(strings.TrimRightFunc),
	"startswith":   affix(strings.HasPrefix),
	"endswith":     affix(strings.HasSuffix),
	"removeprefix": cutAffix(strings.TrimPrefix),
	"removesuffix": cutAffix(strings.TrimSuffix),
	"find":         find(strings.Index, false),
	"rfind":        find(strings.LastIndex, false),
	"index":        find(strings.Index, true),
	"rindex":       find(strings.LastIndex, true),
	"count":        takes(selfParam, need("sub")).by(textCount),
	"replace":      takes(selfParam, need("old"), need("new"), option("count", Int(-1))).by(textReplace),
	"split":        takes(selfParam, option("sep", None{}), option("maxsplit", Int(-1))).by(textSplit),
	"rsplit":       takes(selfParam, option("sep", None{}), option("maxsplit", Int(-1))).by(textSplitRight),
	"splitlines":   takes(selfParam, option("keepends", Bool(false))).by(textSplitLines),
	"partition":    takes(selfParam, need("sep")).by(textPartition),
	"rpartition":   takes(selfParam, need("sep")).by(textPartitionRight),
	"join":         takes(selfParam, need("iterable")).by(textJoin),
	"format":       {raw: textFormat},
	"ljust":        pad(func(int, int) int { return 0 }),
	"rjust":        pad(func(missing, _ int) int { return missing }),
	"center":       pad(func(missing, width int) int { return missing/2 + missing&width&1 }),
	"zfill":        takes(selfParam, need("width")).by(textZeroFill),
	"isalpha":      all(unicode.IsLetter),
	"isdigit":      all(unicode.IsDigit),
	"isdecimal":    all(unicode.IsDigit),
	"isnumeric":    all(unicode.IsNumber),
	"isalnum":      all(func(c rune) bool { return unicode.IsLetter(c) || unicode.IsNumber(c) }),
	"isspace":      all(isSpace),
	"isascii":      plainTest(func(s string) bool { return strings.IndexFunc(s, func(c rune) bool { return c >= 0x80 }) < 0 }),
	"islower":      plainTest(func(s string) bool { return cased(s, unicode.IsLower) }),
	"isupper":      plainTest(func(s string) bool { return cased(s, unicode.IsUpper) }),
}

// plain is a method without arguments that gives a text.
func plain(f func(string) string) builtin {
	return takes(selfParam).by(func(r *run, a []Value) (Value, error) {
		s, _ := text(a[0])
		out := f(s)
		return retext(a[0], out), r.charge(len(out))
	})
}

// plainTest is a method without arguments that gives true or false.
func plainTest(f func(string) bool) builtin {
	return takes(selfParam).by(func(_ *run, a []Value) (Value, error) {
		s, _ := text(a[0])
		return Bool(f(s)), nil
	})
}

// all is a method that tells whether there are characters and each is so.
func all(is func(rune) bool) builtin {
	return plainTest(func(s string) bool {
		return s != "" && strings.IndexFunc(s, func(c rune) bool { return !is(c) }) < 0
	})
}

func upper(s string) string { return cases.Upper(language.Und).String(s) }
func lower(s string) string { return cases.Lower(language.Und).String(s) }

func capitalize(s string) string {
	_, size := utf8.DecodeRuneInString(s)
	return strings.Map(unicode.ToTitle, s[:size]) + lower(s[size:])
}

// title raises each letter that follows no letter and lowers the others.
func title(s string) string {
	after := false
	return strings.Map(func(c rune) rune {
		inside := after
		after = unicode.IsLetter(c)
		if inside {
			return unicode.ToLower(c)
		}
		return unicode.ToTitle(c)
	}, s)
}

func swapCase(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsUpper(c) {
			return unicode.ToLower(c)
		}
		return unicode.ToUpper(c)
	}, s)
}

// cased reports whether s has letters with case and all of them are so.
func cased(s string, is func(rune) bool) bool {
	some := false
	for _, c := range s {
		if unicode.IsUpper(c) || unicode.IsLower(c) || unicode.IsTitle(c) {
			if !is(c) {
				return false
			}
			some = true
		}
	}
	return some
}

// strip is a method that takes characters off the ends.
func strip(trims ...func(string, func(rune) bool) string) builtin {
	return takes(selfParam, option("chars", None{})).by(func(r *run, a []Value) (Value, error) {
		s, _ := text(a[0])
		off := isSpace
		if _, ok := a[1].(None); !ok {
			chars, err := wantText(a[1], "strip arg")
			if err != nil {
				return nil, err
			}
			set := make(map[rune]bool)
			for _, c := range chars {
				set[c] = true
			}
			off = func(c rune) bool { return set[c] }
		}
		for _, trim := range trims {
			s = trim(s, off)
		}
		return retext(a[0], s), r.chargeSearch(len(s))
	})
}

// affix is startswith or endswith, whose argument may be several texts.
func affix(has func(s, part string) bool) builtin {
	return takes(selfParam, need("prefix")).by(func(_ *run, a []Value) (Value, error) {
		s, _ := text(a[0])
		parts := []Value{a[1]}
		if t, ok := a[1].(*Tuple); ok {
			parts = t.Items
		}
		for _, part := range parts {
			p, err := wantText(part, "first arg")
			if err != nil {
				return nil, err
			}
			if has(s, p) {
				return Bool(true), nil
			}
		}
		return Bool(false), nil
	})
}

func cutAffix(cut func(s, part string) string) builtin {
	return takes(selfParam, need("prefix")).by(func(_ *run, a []Value) (Value, error) {
		s, _ := text(a[0])
		part, err := wantText(a[1], "argument")
		return retext(a[0], cut(s, part)), err
	})
}

// find is a method that looks for a text and gives its place in characters.
func find(search func(s, part string) int, must bool) builtin {
	return takes(selfParam, need("sub")).by(func(r *run, a []Value) (Value, error) {
		s, _ := text(a[0])
		part, err := wantText(a[1], "argument")
		if err != nil {
			return nil, err
		}
		at := search(s, part)
		if at < 0 {
			if must {
				return nil, errorf(ValueError, "substring not found")
			}
			return Int(-1), nil
		}
		return Int(runeCount(s[:at])), r.chargeSearch(len(s))
	})
}

func textCount(r *run, a []Value) (Value, error) {
	s, _ := text(a[0])
	part, err := wantText(a[1], "argument")
	if err != nil {
		return nil, err
	}
	return Int(strings.Count(s, part)), r.chargeSearch(len(s))
}

func textReplace(r *run, a []Value) (Value, error) {
	s, _ := text(a[0])
	from, err := wantText(a[1], "replace() argument 1")
	if err != nil {
		return nil, err
	}
	to, err := wantText(a[2], "replace() argument 2")
	if err != nil {
		return nil, err
	}
	count, err := wantInt(a[3], "count")
	if err != nil {
		return nil, err
	}
	out, err := r.replace(s, from, to, count)
	return retext(a[0], out), err
}

// replace replaces the first count matches, or all if count is negative.
func (r *run) replace(s, from, to string, count int) (string, error) {
	matches := strings.Count(s, from)
	if count >= 0 {
		matches = min(matches, count)
	}
	if err := r.chargeTimes(len(to), int64(matches)); err != nil {
		return "", err
	}
	if err := r.charge(len(s)); err != nil {
		return "", err
	}
	return strings.Replace(s, from, to, count), nil
}

func textJoin(r *run, a []Value) (Value, error) {
	separator, _ := text(a[0])
	items, err := r.items(a[1])
	if err != nil {
		return nil, err
	}
	for i, item := range items {
		if _, ok := text(item); !ok {
			return nil, errorf(TypeError, "sequence item %d: expected str instance, %s found", i, item.typeName())
		}
	}
	return r.join(separator, items)
}

func textPartition(r *run, a []Value) (Value, error) {
	s, _ := text(a[0])
	separator, err := wantSeparator(a[1])
	if err != nil {
		return nil, err
	}
	before, after, found := strings.Cut(s, separator)
	if !found {
		separator = ""
	}
	return &Tuple{Items: []Value{Str(before), Str(separator), Str(after)}}, r.chargeSearch(len(s))
}

func textPartitionRight(r *run, a []Value) (Value, error) {
	s, _ := text(a[0])
	separator, err := wantSeparator(a[1])
	if err != nil {
		return nil, err
	}
	at := strings.LastIndex(s, separator)
	if at < 0 {
		return &Tuple{Items: []Value{Str(""), Str(""), Str(s)}}, r.chargeSearch(len(s))
	}
	return &Tuple{Items: []Value{Str(s[:at]), Str(separator), Str(s[at+len(separator):])}}, r.chargeSearch(len(s))
}

func wantSeparator(v Value) (string, error) {
	separator, err := wantText(v, "separator")
	if err == nil && separator == "" {
		err = errorf(ValueError, "empty separator")
	}
	return separator, err
}

// pad is a method that fills a text up to a width; left says how many of the
// missing characters go before it.
func pad(left func(missing, width int) int) builtin {
	return takes(selfParam, need("width"), option("fillchar", Str(" "))).by(func(r *run, a []Value) (Value, error) {
		s, _ := text(a[0])
		width, err := wantInt(a[1], "width")
		if err != nil {
			return nil, err
		}
		fill, err := wantText(a[2], "fillchar")
		if err != nil {
			return nil, err
		}
		if runeCount(fill) != 1 {
			return nil, errorf(TypeError, "The fill character must be exactly one character long")
		}
		missing := width - runeCount(s)
		if missing <= 0 {
			return a[0], nil
		}
		if err := r.chargeTimes(len(fill), int64(missing)); err != nil {
			return nil, err
		}
		before := left(missing, width)
		out := strings.Repeat(fill, before) + s + strings.Repeat(fill, missing-before)
		return retext(a[0], out), r.charge(len(s))
	})
}

func textZeroFill(r *run, a []Value) (Value, error) {
	s, _ := text(a[0])
	width, err := wantInt(a[1], "width")
	if err != nil {
		return nil, err
	}
	missing := int64(width - runeCount(s))
	if missing <= 0 {
		return a[0], nil
	}
	if err := r.chargeTimes(1, missing); err != nil {
		return nil, err
	}
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, s = s[:1], s[1:]
	}
	return retext(a[0], sign+strings.Repeat("0", int(missing))+s), nil
}
