package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// Stream decodes tokens as they come. What Add and Flush return, put together,
// is what Decode gives for all tokens; each part consists of whole characters.
// A Stream belongs to one text and one goroutine.
type Stream struct {
	t           *Tokenizer
	skipSpecial bool
	stages      []stage
	emit        []func(string) // emit[i] takes what stage i-1 passes on
	out         strings.Builder
}

// NewStream returns a Stream at the beginning of a text. With skipSpecial,
// special tokens are left out.
func (t *Tokenizer) NewStream(skipSpecial bool) *Stream {
	s := &Stream{t: t, skipSpecial: skipSpecial}
	fused := false
	for _, d := range t.decoders {
		next, fuses := d(fused)
		s.stages = append(s.stages, next)
		fused = fused || fuses
	}
	if len(t.decoders) == 0 {
		s.stages = append(s.stages, new(spacedStage))
	}
	for i := range s.stages {
		s.emit = append(s.emit, func(token string) { s.stages[i].add(token, s.emit[i+1]) })
	}
	s.emit = append(s.emit, func(text string) { s.out.WriteString(text) })
	return s
}

// Add takes the next token and returns the text that is now settled, which may
// be empty. A number that names no token is left out.
func (s *Stream) Add(id int) string {
	token, ok := s.t.Token(id)
	if !ok || s.skipSpecial && s.t.IsSpecial(id) {
		return ""
	}
	if changed, ok := s.t.added.spelled[id]; ok {
		token = changed
	}
	s.emit[0](token)
	return s.taken()
}

// Flush ends the text and returns what was held back. After it the Stream is
// spent.
func (s *Stream) Flush() string {
	for i, stage := range s.stages {
		stage.flush(s.emit[i+1])
	}
	return s.taken()
}

func (s *Stream) taken() string {
	text := s.out.String()
	s.out.Reset()
	return text
}

// settle decodes UTF-8 up to an incomplete character at the end, which it
// returns as rest. Each longest beginning of a character that is then broken off
// becomes one U+FFFD, and so does each byte that begins none (Unicode 15,
// section 3.9, "substitution of maximal subparts").
func settle(data []byte) (text string, rest []byte) {
	var out strings.Builder
	for len(data) > 0 {
		if !utf8.FullRune(data) {
			break
		}
		c, size := utf8.DecodeRune(data)
		if c == utf8.RuneError && size == 1 {
			size = brokenSize(data)
		}
		out.WriteRune(c)
		data = data[size:]
	}
	return out.String(), data
}

// brokenSize returns how many bytes of the ill-formed data make one U+FFFD.
func brokenSize(data []byte) int {
	for n := min(len(data), utf8.UTFMax-1); n > 1; n-- {
		if !utf8.FullRune(data[:n]) {
			return n
		}
	}
	return 1
}
