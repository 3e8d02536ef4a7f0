package tokenizer

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// The patterns of published tokenizers that have a scanner of their own. They
// are compared as text: another spelling of the same pattern goes to the
// regular-expression engine, which is slower and gives the same result.
const (
	patternGPT2   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen35 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// knownPatterns is the table of scanners by pattern.
var knownPatterns = map[string]matcher{
	patternGPT2:   scanGPT2,
	patternLlama3: chatScanner{digits: 3}.scan,
	patternQwen2:  chatScanner{digits: 1}.scan,
	patternQwen35: chatScanner{digits: 1, marks: true}.scan,
}

const (
	// maxPattern is the longest pattern in bytes; published ones have less than 500.
	maxPattern = 4096
	// matchLimit bounds the search for one match. An ordinary pattern takes
	// microseconds, so the limit never decides about a sound one.
	matchLimit = time.Second
	// probeLimit is matchLimit while a pattern is being tried out at loading.
	probeLimit = 250 * time.Millisecond
	// textLimit bounds the search for all matches in one text.
	textLimit = 60 * time.Second
	// maxBacktrack bounds the engine's memory, in places of 8 bytes.
	maxBacktrack = 1 << 22
)

var (
	errPatternSlow   = errors.New("needs too much time to match: it backtracks without end on some texts; rewrite it without nested repetition")
	errPatternLong   = fmt.Errorf("has more than %d bytes; shorten it", maxPattern)
	errPatternBehind = errors.New("looks behind, which is not supported; rewrite it with look-ahead")
	errPatternBack   = errors.New("matches from right to left, which is not supported; remove the option r")
)

// newMatcher returns the matcher of a regular expression.
func newMatcher(pattern string) (matcher, error) {
	if known, ok := knownPatterns[pattern]; ok {
		return known, nil
	}
	return newRegexMatcher(pattern)
}

// newRegexMatcher compiles any pattern for the regular-expression engine.
func newRegexMatcher(pattern string) (matcher, error) {
	if len(pattern) > maxPattern {
		return nil, errPatternLong
	}
	if strings.Contains(pattern, "(?<=") || strings.Contains(pattern, "(?<!") {
		return nil, errPatternBehind
	}
	engine, err := regexp2.Compile(pattern, regexp2.OptionMaxBacktrackingStackSize(maxBacktrack))
	if err != nil {
		return nil, fmt.Errorf("is not valid: %w; correct it", err)
	}
	if engine.RightToLeft() {
		return nil, errPatternBack
	}
	engine.MatchTimeout = probeLimit
	m := regexMatcher(engine)
	for _, text := range probes() {
		if _, err := m(text, nil); err != nil {
			return nil, err
		}
	}
	engine.MatchTimeout = matchLimit
	return m, nil
}

// probes returns the texts on which a pattern is tried out. Runs of one kind of
// character with an end that does not fit are what nested repetition such as
// (a+)+b takes exponential time on.
func probes() []string {
	var texts []string
	for _, unit := range []string{"a", "A", "0", " ", "\n", "!", "é", "中", "a0", "a ", "'s"} {
		for _, end := range []string{"", "!", "a", "\x00"} {
			texts = append(texts, strings.Repeat(unit, 40)+end)
		}
	}
	return texts
}

// regexMatcher matches with the engine, which works on runes.
func regexMatcher(engine *regexp2.Regexp) matcher {
	return func(text string, out []span) ([]span, error) {
		limit := time.Now().Add(textLimit)
		var late error
		at := cursor{text: text}
		err := engine.FindRunesMatches([]rune(text), 0, func(view regexp2.MatchView) bool {
			index, length, _ := view.GroupRange(0)
			if begin := at.to(index); begin > at.spanned {
				out = append(out, span{end: begin})
			}
			at.spanned = at.to(index + length)
			out = append(out, span{end: at.spanned, match: true})
			if time.Now().After(limit) {
				late = errPatternSlow
			}
			return late == nil
		})
		if err != nil || late != nil {
			return nil, errPatternSlow
		}
		if at.spanned < len(text) {
			out = append(out, span{end: len(text)})
		}
		return out, nil
	}
}

// cursor turns rising rune positions into byte positions.
type cursor struct {
	text        string
	runes, byte int
	spanned     int // end of the last span
}

func (c *cursor) to(rune int) int {
	for ; c.runes < rune; c.runes++ {
		_, size := utf8.DecodeRuneInString(c.text[c.byte:])
		c.byte += size
	}
	return c.byte
}
