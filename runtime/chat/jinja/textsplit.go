package jinja

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// texts returns a list of texts; its memory is charged already.
func texts(parts []string) Value {
	items := make([]Value, len(parts))
	for i, part := range parts {
		items[i] = Str(part)
	}
	return &List{Items: items}
}

// splitArguments reads the arguments of split and rsplit. Without a separator
// the text is split at white space.
func splitArguments(a []Value) (s, separator string, atSpace bool, count int, err error) {
	s, _ = text(a[0])
	if count, err = wantInt(a[2], "maxsplit"); err != nil {
		return
	}
	if _, ok := a[1].(None); ok {
		return s, "", true, count, nil
	}
	separator, err = wantSeparator(a[1])
	return s, separator, false, count, err
}

// partSize is what a part of a text costs in a list.
const partSize = 3 * valueSize

// chargeParts counts the memory for splitting a text.
func (r *run) chargeParts(s, separator string, atSpace bool) error {
	parts := 1
	if atSpace {
		parts += countFunc(s, isSpace)
	} else {
		parts += strings.Count(s, separator)
	}
	return r.chargeTimes(partSize, int64(parts))
}

func countFunc(s string, is func(rune) bool) int {
	n := 0
	for _, c := range s {
		if is(c) {
			n++
		}
	}
	return n
}

func textSplit(r *run, a []Value) (Value, error) {
	s, separator, atSpace, count, err := splitArguments(a)
	if err != nil {
		return nil, err
	}
	if err := r.chargeParts(s, separator, atSpace); err != nil {
		return nil, err
	}
	if !atSpace {
		if count >= 0 {
			count++
		}
		return texts(strings.SplitN(s, separator, count)), nil
	}
	var parts []string
	for s = strings.TrimLeftFunc(s, isSpace); s != ""; s = strings.TrimLeftFunc(s, isSpace) {
		end := strings.IndexFunc(s, isSpace)
		if count >= 0 && len(parts) == count || end < 0 {
			parts = append(parts, s)
			break
		}
		parts = append(parts, s[:end])
		s = s[end:]
	}
	return texts(parts), nil
}

func textSplitRight(r *run, a []Value) (Value, error) {
	s, separator, atSpace, count, err := splitArguments(a)
	if err != nil {
		return nil, err
	}
	if err := r.chargeParts(s, separator, atSpace); err != nil {
		return nil, err
	}
	var parts []string // from the right
	if atSpace {
		s = strings.TrimRightFunc(s, isSpace)
	}
	for !atSpace || s != "" {
		at, size := strings.LastIndex(s, separator), len(separator)
		if atSpace {
			at = strings.LastIndexFunc(s, isSpace)
		}
		if at < 0 || count >= 0 && len(parts) == count {
			parts = append(parts, s)
			break
		}
		if atSpace {
			parts = append(parts, strings.TrimLeftFunc(s[at:], isSpace))
			s = strings.TrimRightFunc(s[:at], isSpace)
			continue
		}
		parts = append(parts, s[at+size:])
		s = s[:at]
	}
	slices.Reverse(parts)
	return texts(parts), nil
}

func textSplitLines(r *run, a []Value) (Value, error) {
	s, _ := text(a[0])
	if err := r.chargeTimes(partSize, int64(1+countFunc(s, isLineEnd))); err != nil {
		return nil, err
	}
	return texts(lines(s, truth(a[1]))), nil
}

// lines splits a text where Python's splitlines does.
func lines(s string, keepEnds bool) []string {
	var out []string
	for s != "" {
		end := strings.IndexFunc(s, isLineEnd)
		if end < 0 {
			return append(out, s)
		}
		after := end + lineEndSize(s[end:])
		if keepEnds {
			out = append(out, s[:after])
		} else {
			out = append(out, s[:end])
		}
		s = s[after:]
	}
	return out
}

func isLineEnd(c rune) bool {
	switch c {
	case '\n', '\r', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		return true
	}
	return false
}

// lineEndSize returns the length of the line end at the beginning of s.
func lineEndSize(s string) int {
	if strings.HasPrefix(s, "\r\n") {
		return 2
	}
	_, size := utf8.DecodeRuneInString(s)
	return size
}
