package tokenizer

import (
	"strings"
	"unicode"

	"moec/runtime/tokenizer/strictjson"
)

// preTokenizer cuts pieces into smaller ones, in order. It never returns an
// empty piece.
type preTokenizer func(pieces []piece) ([]piece, error)

// preTokenizerKinds is the table of pre-tokenizers.
var preTokenizerKinds = kinds[preTokenizer]{
	sort:   "pre_tokenizer",
	member: "pretokenizers",
	rows: map[string]func(*strictjson.Members) (preTokenizer, error){
		"ByteLevel":          readByteLevel,
		"Split":              readSplit,
		"Metaspace":          readMetaspace,
		"Digits":             readDigits,
		"Punctuation":        readPunctuation,
		"CharDelimiterSplit": readCharDelimiter,
		"Whitespace":         fixedSplit(runMatcher(wordRun), removed),
		"WhitespaceSplit":    fixedSplit(runeMatcher(unicode.IsSpace), removed),
		"BertPreTokenizer":   readBert,
	},
}

// edit rewrites each piece before it is cut.
func edit(pieces []piece, change func(piece) string) []piece {
	out := make([]piece, 0, len(pieces))
	for _, p := range pieces {
		if text := change(p); text != "" {
			out = append(out, piece{text, p.start})
		}
	}
	return out
}

// cutWith returns the pre-tokenizer that cuts at the matches of m.
func cutWith(m matcher, b behavior) preTokenizer {
	return func(pieces []piece) ([]piece, error) {
		var out []piece
		var spans []span
		for _, p := range pieces {
			var err error
			if spans, err = m(p.text, spans[:0]); err != nil {
				return nil, err
			}
			begin := 0
			for _, s := range b(spans) {
				if !s.drop && s.end > begin {
					out = append(out, piece{p.text[begin:s.end], p.start && begin == 0})
				}
				begin = s.end
			}
		}
		return out, nil
	}
}

// fixedSplit is a row for a split without parameters.
func fixedSplit(m matcher, b behavior) func(*strictjson.Members) (preTokenizer, error) {
	return func(*strictjson.Members) (preTokenizer, error) { return cutWith(m, b), nil }
}

func readSplit(m *strictjson.Members) (preTokenizer, error) {
	_, pattern, err := readPattern(m)
	if err != nil {
		return nil, err
	}
	b, err := readBehavior(m)
	if err != nil {
		return nil, err
	}
	inverted, err := m.Bool("invert", false)
	if err != nil {
		return nil, err
	}
	if inverted {
		pattern = invertMatcher(pattern)
	}
	return cutWith(pattern, b), nil
}

// readByteLevel reads GPT-2's own pre-tokenizer: cut by its pattern, then spell
// every byte as one character.
func readByteLevel(m *strictjson.Members) (preTokenizer, error) {
	prefixSpace, err := m.Bool("add_prefix_space", true)
	if err != nil {
		return nil, err
	}
	useRegex, err := m.Bool("use_regex", true)
	if err != nil {
		return nil, err
	}
	cut := cutWith(scanGPT2, isolated)
	return func(pieces []piece) ([]piece, error) {
		if prefixSpace {
			pieces = edit(pieces, func(p piece) string {
				if strings.HasPrefix(p.text, " ") {
					return p.text
				}
				return " " + p.text
			})
		}
		if useRegex {
			var err error
			if pieces, err = cut(pieces); err != nil {
				return nil, err
			}
		}
		return spellPieces(pieces), nil
	}, nil
}

// spellPieces spells all pieces into one string, which they then share.
func spellPieces(pieces []piece) []piece {
	out := make([]piece, len(pieces))
	ends := make([]int, len(pieces))
	var spelled []byte
	for i, p := range pieces {
		spelled = appendSpelled(spelled, p.text)
		ends[i] = len(spelled)
	}
	all, begin := string(spelled), 0
	for i, p := range pieces {
		out[i] = piece{all[begin:ends[i]], p.start}
		begin = ends[i]
	}
	return out
}

// readMetaspace reads SentencePiece's way with spaces: they become a visible
// character, and one is put before the text.
func readMetaspace(m *strictjson.Members) (preTokenizer, error) {
	meta, err := readMetaspaceOptions(m)
	if err != nil {
		return nil, err
	}
	split, err := m.Bool("split", true)
	if err != nil {
		return nil, err
	}
	cut := cutWith(literalMatcher(meta.space), mergedWithNext)
	return func(pieces []piece) ([]piece, error) {
		pieces = edit(pieces, func(p piece) string {
			text := strings.ReplaceAll(p.text, " ", meta.space)
			wanted := meta.prepend == "always" || meta.prepend == "first" && p.start
			if wanted && !strings.HasPrefix(text, meta.space) {
				text = meta.space + text
			}
			return text
		})
		if !split {
			return pieces, nil
		}
		return cut(pieces)
	}, nil
}

// metaspace is what the pre-tokenizer and the decoder of that name share.
type metaspace struct {
	space   string // what stands for a space, one character
	prepend string // where one is put before the text: always, first or never
}

func readMetaspaceOptions(m *strictjson.Members) (metaspace, error) {
	space, err := m.String("replacement", "▁")
	if err != nil {
		return metaspace{}, err
	}
	if _, ok := oneRune(space); !ok {
		return metaspace{}, m.Errorf("Metaspace: the replacement is %.60q, want one character", space)
	}
	// Files from before prepend_scheme have add_prefix_space in its place.
	prefixSpace, err := m.Bool("add_prefix_space", true)
	if err != nil {
		return metaspace{}, err
	}
	fallback := "always"
	if !prefixSpace {
		fallback = "never"
	}
	prepend, err := m.String("prepend_scheme", fallback)
	if err != nil {
		return metaspace{}, err
	}
	if prepend != "always" && prepend != "first" && prepend != "never" {
		return metaspace{}, m.Errorf("Metaspace: the prepend_scheme is %.60q, want always, first or never", prepend)
	}
	return metaspace{space, prepend}, nil
}

func readDigits(m *strictjson.Members) (preTokenizer, error) {
	individual, err := m.Bool("individual_digits", false)
	b := behavior(contiguous)
	if individual {
		b = isolated
	}
	return cutWith(runeMatcher(unicode.IsNumber), b), err
}

func readPunctuation(m *strictjson.Members) (preTokenizer, error) {
	b, err := readBehavior(m)
	return cutWith(runeMatcher(isPunctuation), b), err
}

func readCharDelimiter(m *strictjson.Members) (preTokenizer, error) {
	delimiter, err := m.String("delimiter", "")
	if err != nil {
		return nil, err
	}
	if _, ok := oneRune(delimiter); !ok {
		return nil, m.Errorf("CharDelimiterSplit: the delimiter is %.60q, want one character", delimiter)
	}
	return cutWith(literalMatcher(delimiter), removed), nil
}

func readBert(*strictjson.Members) (preTokenizer, error) {
	words := cutWith(runeMatcher(unicode.IsSpace), removed)
	marks := cutWith(runeMatcher(isPunctuation), isolated)
	return func(pieces []piece) ([]piece, error) {
		pieces, err := words(pieces)
		if err != nil {
			return nil, err
		}
		return marks(pieces)
	}, nil
}

// isPunctuation holds for Unicode's punctuation and for ASCII's symbols.
func isPunctuation(c rune) bool {
	return unicode.IsPunct(c) || c < 0x80 && unicode.IsSymbol(c)
}
