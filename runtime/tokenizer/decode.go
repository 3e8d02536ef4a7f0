package tokenizer

import (
	"strconv"
	"strings"

	"moec/runtime/tokenizer/strictjson"
)

// stage is one step of decoding. Tokens go in one by one; what can no longer
// change is passed on at once, the rest waits for the next token or the flush.
// So text can be shown while it is produced, and the parts add up to exactly
// what decoding all tokens at once gives.
type stage interface {
	add(token string, emit func(string))
	flush(emit func(string))
}

// decoder makes the stages for one text. Until a stage fuses the tokens into
// one text, stages see tokens; after it (fused) they see parts of that text, cut
// anywhere between characters.
type decoder func(fused bool) (s stage, fuses bool)

// decoderKinds is the table of decoders.
var decoderKinds = kinds[decoder]{
	sort:   "decoder",
	member: "decoders",
	rows: map[string]func(*strictjson.Members) (decoder, error){
		"ByteLevel":    stateless(func() stage { return new(byteLevelStage) }, true),
		"ByteFallback": stateless(func() stage { return new(byteFallbackStage) }, false),
		"Fuse":         readFuse,
		"Replace":      readReplaceDecoder,
		"Strip":        readStripDecoder,
		"Metaspace":    readMetaspaceDecoder,
		"BPEDecoder":   readSuffixDecoder,
	},
}

// stateless is a row for a decoder without parameters. On a fused text, which is
// one token that cannot be judged before its end, the stage waits for the end.
func stateless(fresh func() stage, fuses bool) func(*strictjson.Members) (decoder, error) {
	return func(*strictjson.Members) (decoder, error) {
		return func(fused bool) (stage, bool) {
			if fused {
				return &gatherStage{inner: fresh()}, fuses
			}
			return fresh(), fuses
		}, nil
	}
}

// gatherStage joins a fused text up again for a stage that needs all of it.
type gatherStage struct {
	text  strings.Builder
	inner stage
}

func (s *gatherStage) add(token string, _ func(string)) { s.text.WriteString(token) }

func (s *gatherStage) flush(emit func(string)) {
	s.inner.add(s.text.String(), emit)
	s.inner.flush(emit)
}

// byteLevelStage turns byte spellings back into bytes and those into text.
type byteLevelStage struct{ pending []byte }

func (s *byteLevelStage) add(token string, emit func(string)) {
	s.pending = appendUnspelled(s.pending, token)
	text, rest := settle(s.pending)
	emit(text)
	s.pending = s.pending[:copy(s.pending, rest)]
}

func (s *byteLevelStage) flush(emit func(string)) {
	if len(s.pending) > 0 {
		emit("\uFFFD") // what is pending is the beginning of one character
	}
	s.pending = nil
}

// byteFallbackStage joins runs of tokens like <0xE2> to text. A run that is not
// UTF-8 becomes one U+FFFD for each byte, so a run waits until it ends.
type byteFallbackStage struct{ run []byte }

func (s *byteFallbackStage) add(token string, emit func(string)) {
	if b, ok := byteToken(token); ok {
		s.run = append(s.run, b)
		return
	}
	s.flush(emit)
	emit(token)
}

func (s *byteFallbackStage) flush(emit func(string)) {
	if len(s.run) == 0 {
		return
	}
	if text := string(s.run); validPrefix(text) == len(text) {
		emit(text)
	} else {
		for range s.run {
			emit("\uFFFD")
		}
	}
	s.run = s.run[:0]
}

// byteToken returns the byte that a token like <0xE2> stands for.
func byteToken(token string) (byte, bool) {
	if len(token) != 6 || !strings.HasPrefix(token, "<0x") || token[5] != '>' {
		return 0, false
	}
	b, err := strconv.ParseUint(token[3:5], 16, 8)
	return byte(b), err == nil
}

// tokenStage rewrites each token by itself.
type tokenStage func(token string) string

func (s tokenStage) add(token string, emit func(string)) { emit(s(token)) }
func (s tokenStage) flush(func(string))                  {}

func readFuse(*strictjson.Members) (decoder, error) {
	return func(bool) (stage, bool) {
		return tokenStage(func(token string) string { return token }), true
	}, nil
}

func readReplaceDecoder(m *strictjson.Members) (decoder, error) {
	replace, err := readReplace(m)
	if err != nil {
		return nil, err
	}
	each := tokenStage(func(token string) string {
		text, err := replace.apply(token)
		if err != nil {
			return token // a pattern too slow for this text; decoding has no errors
		}
		return text
	})
	return func(fused bool) (stage, bool) {
		switch {
		case !fused:
			return each, false
		case replace.literal == "":
			return &gatherStage{inner: each}, true
		}
		return &replaceStage{replacement: replace}, true
	}, nil
}

// replaceStage replaces a literal in a fused text. The end of a part that may be
// the beginning of the literal waits for the next part.
type replaceStage struct {
	replacement
	held string
}

func (s *replaceStage) add(token string, emit func(string)) {
	text := s.held + token
	keep := overlap(tailAfter(text, s.literal), s.literal)
	s.held = text[len(text)-keep:]
	emit(strings.ReplaceAll(text[:len(text)-keep], s.literal, s.content))
}

func (s *replaceStage) flush(emit func(string)) {
	emit(s.held)
	s.held = ""
}

// tailAfter returns what follows the last of the matches of literal that are
// found from left to right without overlap.
func tailAfter(text, literal string) string {
	for {
		_, rest, found := strings.Cut(text, literal)
		if !found {
			return text
		}
		text = rest
	}
}

// overlap returns the length of the longest end of text that begins literal
// without being all of it.
func overlap(text, literal string) int {
	for n := min(len(text), len(literal)-1); n > 0; n-- {
		if strings.HasPrefix(literal, text[len(text)-n:]) {
			return n
		}
	}
	return 0
}

func readStripDecoder(m *strictjson.Members) (decoder, error) {
	content, err := m.String("content", " ")
	if err != nil {
		return nil, err
	}
	if _, ok := oneRune(content); !ok {
		return nil, m.Errorf("Strip: the content is %.60q, want one character", content)
	}
	start, err := m.Int("start", 0)
	if err != nil {
		return nil, err
	}
	stop, err := m.Int("stop", 0)
	if err != nil {
		return nil, err
	}
	if start < 0 || stop < 0 {
		return nil, m.Errorf("Strip: start is %d and stop %d, want 0 or more", start, stop)
	}
	return func(fused bool) (stage, bool) {
		if fused {
			return &stripStage{content: content, start: start, stop: stop}, true
		}
		return tokenStage(func(token string) string {
			token = token[lead(token, content, start):]
			return token[:len(token)-trail(token, content, stop)]
		}), false
	}, nil
}

// lead returns the length of at most n times content at the beginning of text.
func lead(text, content string, n int64) int {
	length := 0
	for ; n > 0 && strings.HasPrefix(text[length:], content); n-- {
		length += len(content)
	}
	return length
}

// trail returns the length of at most n times content at the end of text.
func trail(text, content string, n int64) int {
	length := 0
	for ; n > 0 && strings.HasSuffix(text[:len(text)-length], content); n-- {
		length += len(content)
	}
	return length
}

// stripStage takes characters off both ends of a fused text.
type stripStage struct {
	content     string
	start, stop int64  // how many may still be taken at the beginning; at the end
	held        string // characters that may turn out to be at the end
}

func (s *stripStage) add(token string, emit func(string)) {
	if token == "" {
		return
	}
	n := lead(token, s.content, s.start)
	s.start -= int64(n / len(s.content))
	if token = token[n:]; token == "" {
		return
	}
	s.start = 0
	text := s.held + token
	keep := trail(text, s.content, s.stop)
	s.held = text[len(text)-keep:]
	emit(text[:len(text)-keep])
}

func (s *stripStage) flush(func(string)) { s.held = "" }

func readMetaspaceDecoder(m *strictjson.Members) (decoder, error) {
	meta, err := readMetaspaceOptions(m)
	if err != nil {
		return nil, err
	}
	return func(fused bool) (stage, bool) {
		return &metaspaceStage{meta: meta, first: meta.prepend != "never", fused: fused}, fused
	}, nil
}

// metaspaceStage turns the visible spaces into spaces; those of the first token
// are dropped where one was prepended to the text.
type metaspaceStage struct {
	meta  metaspace
	first bool // the first token is still to come and loses its spaces
	fused bool // all of the text is the first token
}

func (s *metaspaceStage) add(token string, emit func(string)) {
	to := " "
	if s.first {
		to = ""
	}
	s.first = s.first && s.fused
	emit(strings.ReplaceAll(token, s.meta.space, to))
}

func (s *metaspaceStage) flush(func(string)) {}

func readSuffixDecoder(m *strictjson.Members) (decoder, error) {
	suffix, err := m.String("suffix", "</w>")
	if err != nil {
		return nil, err
	}
	if suffix == "" {
		return nil, m.Errorf("BPEDecoder: the suffix is empty, want the mark of a word's end")
	}
	return func(fused bool) (stage, bool) {
		if fused {
			return &gatherStage{inner: &suffixStage{suffix: suffix}}, true
		}
		return &suffixStage{suffix: suffix}, false
	}, nil
}

// suffixStage turns marks of a word's end into spaces, in the last token into
// nothing. So each token waits for the next.
type suffixStage struct {
	suffix string
	held   string
	some   bool // held is a token
}

func (s *suffixStage) add(token string, emit func(string)) {
	if s.some {
		emit(strings.ReplaceAll(s.held, s.suffix, " "))
	}
	s.held, s.some = token, true
}

func (s *suffixStage) flush(emit func(string)) {
	if s.some {
		emit(strings.ReplaceAll(s.held, s.suffix, ""))
	}
	s.some = false
}

// spacedStage puts a space between tokens: what decoding without a decoder does.
type spacedStage struct{ some bool }

func (s *spacedStage) add(token string, emit func(string)) {
	if s.some {
		token = " " + token
	}
	s.some = true
	emit(token)
}

func (s *spacedStage) flush(func(string)) {}
