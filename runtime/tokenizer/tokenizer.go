// Package tokenizer turns text into token numbers and back.
//
// In goes a tokenizer.json as Hugging Face's tokenizers library writes it, with
// a byte-pair-encoding model; out come the same numbers and the same text as
// that library gives. A Tokenizer never changes after loading and may be used
// by many goroutines at once. The package never runs anything a file asks for:
// every part is looked up by name in a table, regular expressions have a length
// and a time limit, and a file that cannot be used is refused with its name,
// the place, what is wrong and what helps.
//
// Encoding goes through the stages that the file lists: added tokens are cut
// out of the text, the rest is normalised, cut into words (pre-tokenised),
// merged into tokens by the model, and framed by the post-processor.
package tokenizer

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxText is the longest text that Encode takes, in bytes. Positions are kept
// in 32 bits and byte-level spelling can double a text.
const maxText = 1 << 29

// Tokenizer is one loaded tokenizer.json.
type Tokenizer struct {
	name      string
	vocab     *vocabulary
	added     *addedTokens
	normalize []normalizer
	cut       []preTokenizer
	model     *bpe
	frame     []postProcessor
	decoders  []decoder
}

// piece is a part of the text on its way to the model.
type piece struct {
	text  string
	start bool // the piece begins where the whole text begins
}

// Encode returns the token numbers of text. With addSpecial they are framed as
// the file's post-processor says, usually with a beginning-of-text token.
// Tokens written in the text, special ones too, become their numbers.
func (t *Tokenizer) Encode(text string, addSpecial bool) ([]int, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("the text has %d bytes, at most %d can be tokenised at once; split it", len(text), maxText)
	}
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("the text is not UTF-8 at byte %d; convert it", validPrefix(text))
	}
	work := &encoding{t: t, ids: make([]int, 0, len(text)/3+4)}
	var err error
	t.added.literal.scan(text, func(id int, begin, end int) bool {
		err = work.segment(id, piece{text[begin:end], begin == 0})
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	if !addSpecial {
		return work.ids, nil
	}
	ids := work.ids
	for _, frame := range t.frame {
		ids = frame(ids)
	}
	return ids, nil
}

// encoding is the state of one call of Encode.
type encoding struct {
	t     *Tokenizer
	ids   []int
	merge merger
}

// segment encodes one part of the text: an added token, or the text between
// two of them when id is negative.
func (e *encoding) segment(id int, p piece) error {
	if id >= 0 {
		e.ids = append(e.ids, id)
		return nil
	}
	for _, normalize := range e.t.normalize {
		var err error
		if p.text, err = normalize(p.text); err != nil {
			return fmt.Errorf("%s: normalizer: %w", e.t.name, err)
		}
	}
	var err error
	e.t.added.normalized.scan(p.text, func(id int, begin, end int) bool {
		if id >= 0 {
			e.ids = append(e.ids, id)
			return true
		}
		err = e.words(piece{p.text[begin:end], p.start && begin == 0})
		return err == nil
	})
	return err
}

// words cuts a piece into words and merges each.
func (e *encoding) words(p piece) error {
	pieces := []piece{p}
	for _, cut := range e.t.cut {
		var err error
		if pieces, err = cut(pieces); err != nil {
			return fmt.Errorf("%s: pre_tokenizer: %w", e.t.name, err)
		}
	}
	for _, word := range pieces {
		e.ids = e.t.model.encode(e.ids, word.text, &e.merge)
	}
	return nil
}

// Decode returns the text of the token numbers. With skipSpecial, special
// tokens are left out. Numbers that name no token are left out always.
func (t *Tokenizer) Decode(ids []int, skipSpecial bool) string {
	s := t.NewStream(skipSpecial)
	var out strings.Builder
	for _, id := range ids {
		out.WriteString(s.Add(id))
	}
	out.WriteString(s.Flush())
	return out.String()
}

// VocabSize returns the number of tokens, added ones included. Every number
// from 0 up to it, exclusive, names a token.
func (t *Tokenizer) VocabSize() int { return len(t.vocab.tokens) }

// TokenID returns the number of the token that is spelled like this in the file.
func (t *Tokenizer) TokenID(token string) (int, bool) {
	id, ok := t.vocab.ids[token]
	return int(id), ok
}

// Token returns the spelling of a token as it is in the file.
func (t *Tokenizer) Token(id int) (string, bool) {
	if id < 0 || id >= len(t.vocab.tokens) {
		return "", false
	}
	return t.vocab.tokens[id], true
}

// IsSpecial reports whether Decode leaves the token out when it skips special
// tokens.
func (t *Tokenizer) IsSpecial(id int) bool { return t.added.special[id] }

// CheckID returns an error unless id names a token. The argument what says
// where the number is from, such as "generation_config.json: eos_token_id".
func (t *Tokenizer) CheckID(what string, id int) error {
	if id < 0 || id >= t.VocabSize() {
		return fmt.Errorf("%s: token %d, but %s has the tokens 0 to %d; take both files from one model", what, id, t.name, t.VocabSize()-1)
	}
	return nil
}

// CheckModel returns an error if the tokenizer has more tokens than a model
// with modelVocab rows of embeddings. Fewer are usual: models pad.
func (t *Tokenizer) CheckModel(modelVocab int) error {
	if t.VocabSize() > modelVocab {
		return fmt.Errorf("%s: %d tokens, but the model's vocab_size is %d; take both files from one model", t.name, t.VocabSize(), modelVocab)
	}
	return nil
}

// validPrefix returns how many bytes of s come before the first that is not UTF-8.
func validPrefix(s string) int {
	for i, c := range s {
		if c != utf8.RuneError {
			continue
		}
		if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
			return i
		}
	}
	return len(s)
}
