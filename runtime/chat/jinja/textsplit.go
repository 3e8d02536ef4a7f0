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

// splitting is a call of split or rsplit.
type splitting struct {
	s         string
	separator string
	atSpace   bool // at runs of white space instead of a separator
	count     int  // how often at most; any number if negative
}

func splitArguments(a []Value) (sp splitting, err error) {
	sp.s, _ = text(a[0])
	if sp.count, err = wantInt(a[2], "maxsplit"); err != nil {
		return sp, err
	}
	if _, none := a[1].(None); none {
		sp.atSpace = true
		return sp, nil
	}
	sp.separator, err = wantSeparator(a[1])
	return sp, err
}

// partSize is what a part of a text costs in a list.
const partSize = 3 * valueSize

// charge counts the memory for the parts.
func (sp splitting) charge(r *run) error {
	parts := 1
	if sp.atSpace {
		parts += countFunc(sp.s, isSpace)
	} else {
		parts += strings.Count(sp.s, sp.separator)
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
	sp, err := splitArguments(a)
	if err != nil {
		return nil, err
	}
	if err := sp.charge(r); err != nil {
		return nil, err
	}
	if !sp.atSpace {
		if sp.count >= 0 {
			sp.count++ // Go counts parts
		}
		return texts(strings.SplitN(sp.s, sp.separator, sp.count)), nil
	}
	var parts []string
	for s := strings.TrimLeftFunc(sp.s, isSpace); s != ""; s = strings.TrimLeftFunc(s, isSpace) {
		end := strings.IndexFunc(s, isSpace)
		if sp.count >= 0 && len(parts) == sp.count || end < 0 {
			parts = append(parts, s)
			break
		}
		parts = append(parts, s[:end])
		s = s[end:]
	}
	return texts(parts), nil
}

func textSplitRight(r *run, a []Value) (Value, error) {
	sp, err := splitArguments(a)
	if err != nil {
		return nil, err
	}
	if err := sp.charge(r); err != nil {
		return nil, err
	}
	var parts []string // from the right
	s := sp.s
	if sp.atSpace {
		s = strings.TrimRightFunc(s, isSpace)
	}
	for !sp.atSpace || s != "" {
		at := strings.LastIndex(s, sp.separator)
		if sp.atSpace {
			at = strings.LastIndexFunc(s, isSpace)
		}
		if at < 0 || sp.count >= 0 && len(parts) == sp.count {
			parts = append(parts, s)
			break
		}
		if sp.atSpace {
			parts = append(parts, strings.TrimLeftFunc(s[at:], isSpace))
			s = strings.TrimRightFunc(s[:at], isSpace)
			continue
		}
		parts = append(parts, s[at+len(sp.separator):])
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
