package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"moec/runtime/tokenizer/strictjson"
)

// normalizer rewrites text before it is cut into words.
type normalizer func(text string) (string, error)

// normalizerKinds is the table of normalizers.
var normalizerKinds = kinds[normalizer]{
	sort:   "normalizer",
	member: "normalizers",
	rows: map[string]func(*strictjson.Members) (normalizer, error){
		"NFC":          plainNormalizer(nfc.apply),
		"NFD":          plainNormalizer(nfd.apply),
		"NFKC":         plainNormalizer(nfkc.apply),
		"NFKD":         plainNormalizer(nfkd.apply),
		"Lowercase":    plainNormalizer(lowercase),
		"StripAccents": plainNormalizer(stripAccents),
		"ByteLevel":    plainNormalizer(func(text string) string { return string(appendSpelled(nil, text)) }),
		"Prepend":      readPrepend,
		"Replace":      readReplaceNormalizer,
		"Strip":        readStripNormalizer,
	},
}

// plainNormalizer is a row for a normalizer without parameters.
func plainNormalizer(apply func(string) string) func(*strictjson.Members) (normalizer, error) {
	return func(*strictjson.Members) (normalizer, error) {
		return func(text string) (string, error) { return apply(text), nil }, nil
	}
}

// lowercase lowers each character by itself. U+0130 is the one character whose
// lower case is two.
func lowercase(text string) string {
	return strings.Map(unicode.ToLower, strings.ReplaceAll(text, "\u0130", "i\u0307"))
}

func stripAccents(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.Is(unicode.M, c) {
			return -1
		}
		return c
	}, text)
}

func readPrepend(m *strictjson.Members) (normalizer, error) {
	prefix, err := m.String("prepend", "")
	if err != nil {
		return nil, err
	}
	return func(text string) (string, error) {
		if text == "" {
			return "", nil
		}
		return prefix + text, nil
	}, nil
}

func readReplaceNormalizer(m *strictjson.Members) (normalizer, error) {
	replace, err := readReplace(m)
	return replace.apply, err
}

func readStripNormalizer(m *strictjson.Members) (normalizer, error) {
	left, err := m.Bool("strip_left", true)
	if err != nil {
		return nil, err
	}
	right, err := m.Bool("strip_right", true)
	return func(text string) (string, error) {
		if left {
			text = strings.TrimLeftFunc(text, unicode.IsSpace)
		}
		if right {
			text = strings.TrimRightFunc(text, unicode.IsSpace)
		}
		return text, nil
	}, err
}

// replacement is the Replace component, which is a normalizer and a decoder.
type replacement struct {
	literal string  // what is replaced, or "" for the pattern
	pattern matcher // what is replaced when literal is empty
	content string
}

func readReplace(m *strictjson.Members) (replacement, error) {
	literal, pattern, err := readPattern(m)
	if err != nil {
		return replacement{}, err
	}
	content, err := m.String("content", "")
	return replacement{literal, pattern, content}, err
}

// apply returns text with every match replaced.
func (r replacement) apply(text string) (string, error) {
	if r.literal != "" {
		return strings.ReplaceAll(text, r.literal, r.content), nil
	}
	spans, err := r.pattern(text, nil)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	begin := 0
	for _, s := range spans {
		if s.match {
			out.WriteString(r.content)
		} else {
			out.WriteString(text[begin:s.end])
		}
		begin = s.end
	}
	return out.String(), nil
}

// readPattern reads the member "pattern", which is {"String": s} or
// {"Regex": s}. The literal is "" for a regular expression.
func readPattern(m *strictjson.Members) (literal string, pattern matcher, err error) {
	at, err := m.Need("pattern")
	if err != nil {
		return "", nil, err
	}
	p, err := at.Members()
	if err != nil {
		return "", nil, err
	}
	if expression, ok := p.Get("Regex"); ok {
		text, err := expression.String()
		if err != nil {
			return "", nil, err
		}
		pattern, err = newMatcher(text)
		if err != nil {
			return "", nil, expression.Errorf("the regular expression %.60q %v", text, err)
		}
		return "", pattern, nil
	}
	if literal, err = p.String("String", ""); err != nil {
		return "", nil, err
	}
	if literal == "" {
		return "", nil, p.Errorf("the pattern wants a non-empty String or a Regex")
	}
	return literal, literalMatcher(literal), nil
}

// oneRune returns the character that s is.
func oneRune(s string) (rune, bool) {
	c, size := utf8.DecodeRuneInString(s)
	return c, size > 0 && size == len(s)
}
