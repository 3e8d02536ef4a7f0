package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// Scanners for the known patterns. Each alternative of a pattern is one step,
// in the pattern's order; every character takes part in some alternative, so
// the matches cover the text.

// class is what the patterns distinguish.
type class byte

const (
	other class = iota // punctuation, symbols, controls
	letter
	mark
	number
	space   // white space but the two below
	newline // \r or \n
)

// asciiClass holds the classes of ASCII.
var asciiClass = classifyASCII()

func classifyASCII() (table [0x80]class) {
	for c := range table {
		table[c] = classify(rune(c))
	}
	return table
}

func classify(c rune) class {
	switch {
	case c == '\r' || c == '\n':
		return newline
	case unicode.IsSpace(c):
		return space
	case unicode.IsLetter(c):
		return letter
	case unicode.IsNumber(c):
		return number
	case unicode.IsMark(c):
		return mark
	}
	return other
}

// classAt returns the class of the character at i and its size, which is 0 at
// the end of the text.
func classAt(text string, i int) (class, int) {
	if i >= len(text) {
		return other, 0
	}
	if c := text[i]; c < 0x80 {
		return asciiClass[c], 1
	}
	c, size := utf8.DecodeRuneInString(text[i:])
	return classify(c), size
}

// run returns the end of the run, from i on, of characters whose classes are in
// the set.
func run(text string, i int, set classSet) int {
	for {
		c, size := classAt(text, i)
		if size == 0 || !set.has(c) {
			return i
		}
		i += size
	}
}

// classSet is a set of classes.
type classSet uint

func setOf(classes ...class) (set classSet) {
	for _, c := range classes {
		set |= 1 << c
	}
	return set
}

func (s classSet) has(c class) bool { return s>>c&1 != 0 }

var spaces = setOf(space, newline)

// scanGPT2 is the scanner of patternGPT2.
func scanGPT2(text string, out []span) ([]span, error) {
	for i := 0; i < len(text); {
		i = nextGPT2(text, i)
		out = append(out, span{end: i, match: true})
	}
	return out, nil
}

// nextGPT2 returns the end of the match that begins at i.
func nextGPT2(text string, i int) int {
	if n := contraction(text[i:], false); n > 0 { // 's|'t|'re|...
		return i + n
	}
	begin := i
	if text[i] == ' ' { // the optional space of the next three
		begin++
	}
	c, size := classAt(text, begin)
	switch {
	case size == 0 || spaces.has(c):
		return spaceRun(text, i)
	case c == letter: // ?\p{L}+
		return run(text, begin, setOf(letter))
	case c == number: // ?\p{N}+
		return run(text, begin, setOf(number))
	default: // ?[^\s\p{L}\p{N}]+
		return run(text, begin, setOf(other, mark))
	}
}

// chatScanner scans the patterns that descend from cl100k: Llama 3's and Qwen's.
type chatScanner struct {
	digits int  // how many digits one match takes
	marks  bool // words hold \p{M}, too
}

func (s chatScanner) scan(text string, out []span) ([]span, error) {
	words, others := setOf(letter), setOf(other, mark)
	if s.marks {
		words, others = setOf(letter, mark), setOf(other)
	}
	for i := 0; i < len(text); {
		i = s.next(text, i, words, others)
		out = append(out, span{end: i, match: true})
	}
	return out, nil
}

// next returns the end of the match that begins at i. The set words holds what
// words consist of, others what belongs neither to words nor numbers nor space.
func (s chatScanner) next(text string, i int, words, others classSet) int {
	if n := contraction(text[i:], true); n > 0 { // (?i:'s|'t|'re|...)
		return i + n
	}
	c, size := classAt(text, i)
	after, _ := classAt(text, i+size)
	switch {
	case words.has(c): // [^\r\n\p{L}\p{N}]?\p{L}+ without its first part
		return run(text, i, words)
	case c != newline && c != number && i+size < len(text) && words.has(after): // and with it
		return run(text, i+size, words)
	case c == number: // \p{N}{1,n}
		return s.number(text, i)
	}
	if text[i] == ' ' && i+1 < len(text) && others.has(after) {
		i++
		c = after
	}
	if others.has(c) { // ?[^\s\p{L}\p{N}]+[\r\n]*
		return run(text, run(text, i, others), setOf(newline))
	}
	if end := lastNewline(text, i); end > i { // \s*[\r\n]+
		return end
	}
	return spaceRun(text, i)
}

// number returns the end of at most s.digits numbers from i on.
func (s chatScanner) number(text string, i int) int {
	for range s.digits {
		c, size := classAt(text, i)
		if size == 0 || c != number {
			break
		}
		i += size
	}
	return i
}

// lastNewline returns the place after the last newline in the white space from
// i on, or i.
func lastNewline(text string, i int) int {
	end := i
	for {
		c, size := classAt(text, i)
		if size == 0 || !spaces.has(c) {
			return end
		}
		i += size
		if c == newline {
			end = i
		}
	}
}

// spaceRun is \s+(?!\S)|\s+ from i on: all white space at the end of the text,
// all but the last character before something else, and a lone one.
func spaceRun(text string, i int) int {
	end := run(text, i, spaces)
	if end == len(text) {
		return end
	}
	_, size := utf8.DecodeLastRuneInString(text[i:end])
	if end-size > i {
		return end - size
	}
	return end
}

// contraction returns the length of one of 's 't 're 've 'm 'll 'd at the
// beginning of text, or 0. Without regard to case, 'ſ counts as 's.
func contraction(text string, anyCase bool) int {
	if len(text) < 2 || text[0] != '\'' {
		return 0
	}
	first, second := text[1], byte(0)
	if len(text) > 2 {
		second = text[2]
	}
	if anyCase {
		if first == "ſ"[0] && second == "ſ"[1] {
			return 3
		}
		first, second = lower(first), lower(second)
	}
	switch first {
	case 's', 't', 'm', 'd':
		return 2
	case 'r', 'v':
		if second == 'e' {
			return 3
		}
	case 'l':
		if second == 'l' {
			return 3
		}
	}
	return 0
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
