package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"moec/runtime/tokenizer/strictjson"
)

// span is a stretch of a text that ends at end and begins where the one before
// it ends.
type span struct {
	end   int
	match bool // the pattern matched it
	drop  bool // it is not part of the result; set by a behavior
}

// matcher appends the spans of text to out: they cover it without gaps.
type matcher func(text string, out []span) ([]span, error)

// behavior decides what becomes of matches and the stretches between them. It
// may change spans in place.
type behavior func(spans []span) []span

// behaviors is the table of behaviors by their names in the file.
var behaviors = map[string]behavior{
	"Isolated":           isolated,
	"Removed":            removed,
	"MergedWithPrevious": mergedWithPrevious,
	"MergedWithNext":     mergedWithNext,
	"Contiguous":         contiguous,
}

func readBehavior(m *strictjson.Members) (behavior, error) {
	name, err := m.String("behavior", "Isolated")
	if err != nil {
		return nil, err
	}
	b, ok := behaviors[name]
	if !ok {
		return nil, m.Errorf("the behavior %.60q is not known; known are Isolated, Removed, MergedWithPrevious, MergedWithNext and Contiguous", name)
	}
	return b, nil
}

// isolated makes every match and every stretch between a piece.
func isolated(spans []span) []span { return spans }

// removed drops the matches.
func removed(spans []span) []span {
	for i := range spans {
		spans[i].drop = spans[i].match
	}
	return spans
}

// contiguous joins neighbouring matches to one piece.
func contiguous(spans []span) []span {
	out := spans[:0]
	for _, s := range spans {
		if len(out) > 0 && out[len(out)-1].match == s.match {
			out[len(out)-1].end = s.end
		} else {
			out = append(out, s)
		}
	}
	return out
}

// mergedWithPrevious joins a match to the stretch before it. Of several matches
// in a row only the first is joined.
func mergedWithPrevious(spans []span) []span {
	out := spans[:0]
	before := false
	for _, s := range spans {
		if s.match && !before && len(out) > 0 {
			out[len(out)-1].end = s.end
		} else {
			out = append(out, s)
		}
		before = s.match
	}
	return out
}

// mergedWithNext joins a match to the stretch after it. Of several matches in a
// row only the last is joined.
func mergedWithNext(spans []span) []span {
	out := spans[:0]
	for i, s := range spans {
		if s.match && i+1 < len(spans) && !spans[i+1].match {
			continue // the next span begins here
		}
		out = append(out, s)
	}
	return out
}

// literalMatcher matches the text want, which is not empty.
func literalMatcher(want string) matcher {
	return func(text string, out []span) ([]span, error) {
		begin := 0
		for {
			at := strings.Index(text[begin:], want)
			if at < 0 {
				break
			}
			if at > 0 {
				out = append(out, span{end: begin + at})
			}
			begin += at + len(want)
			out = append(out, span{end: begin, match: true})
		}
		if begin < len(text) {
			out = append(out, span{end: len(text)})
		}
		return out, nil
	}
}

// runeMatcher matches each character for which is holds.
func runeMatcher(is func(rune) bool) matcher {
	return func(text string, out []span) ([]span, error) {
		gap := false // characters since the last match wait for their span
		for i, c := range text {
			if !is(c) {
				gap = true
				continue
			}
			if gap {
				out = append(out, span{end: i})
				gap = false
			}
			out = append(out, span{end: i + utf8.RuneLen(c), match: true})
		}
		if gap {
			out = append(out, span{end: len(text)})
		}
		return out, nil
	}
}

// runMatcher makes each run of characters of one class a span; class 0 is a
// match, the others lie between matches.
func runMatcher(class func(rune) int) matcher {
	return func(text string, out []span) ([]span, error) {
		last := 0
		for i, c := range text {
			now := class(c)
			if i > 0 && now != last {
				out = append(out, span{end: i, match: last == 0})
			}
			last = now
		}
		if text != "" {
			out = append(out, span{end: len(text), match: last == 0})
		}
		return out, nil
	}
}

// wordRun is the class of runMatcher for the Whitespace pre-tokenizer, whose
// words are runs of word characters and runs of others that are no space. White
// space is what it matches and removes.
func wordRun(c rune) int {
	switch {
	case isWord(c):
		return 1
	case unicode.IsSpace(c):
		return 0
	}
	return 2
}

// invertMatcher exchanges matches and the stretches between.
func invertMatcher(m matcher) matcher {
	return func(text string, out []span) ([]span, error) {
		begin := len(out)
		out, err := m(text, out)
		for i := range out[begin:] {
			out[begin+i].match = !out[begin+i].match
		}
		return out, err
	}
}
