package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"moec/runtime/tokenizer/strictjson"
)

// maxAddedToken is the longest added token in bytes; looking for them takes
// time proportional to it in the worst case. Real ones stay below 100.
const maxAddedToken = 1024

// addedToken is an entry of the file's added_tokens: a text that always becomes
// one token, whatever the model would make of it.
type addedToken struct {
	content    string
	id         int
	singleWord bool // only where no word character touches it
	lstrip     bool // takes the white space before it along
	rstrip     bool // takes the white space after it along
	normalized bool // looked for in the normalised text, in normalised form
	special    bool
}

// addedTokens finds added tokens in text.
type addedTokens struct {
	literal    *finder        // in the text as given
	normalized *finder        // in the normalised text
	special    map[int]bool   // left out when special tokens are skipped
	spelled    map[int]string // what a token decodes to if not its content
}

// readAddedTokens reads the list and enters new tokens into the vocabulary of
// the model, which does not use them itself.
func readAddedTokens(r *strictjson.Reader, model *bpe) ([]addedToken, error) {
	v := model.vocab
	model.outside = make(map[int32]bool)
	var tokens []addedToken
	err := r.Array(func(int) error {
		m, err := r.Members()
		if err != nil {
			return err
		}
		token, err := readAddedToken(m)
		if err != nil || token.content == "" {
			return err // the reference ignores empty ones, too
		}
		tokens = append(tokens, token)
		have, known := v.ids[token.content]
		switch {
		case !known:
			model.outside[int32(token.id)] = true
			return v.add(token.content, int64(token.id), r)
		case int(have) != token.id:
			return m.Errorf("added token %.60q has the number %d here and %d in the vocabulary; export the tokenizer again", token.content, token.id, have)
		}
		return nil
	})
	return tokens, err
}

func readAddedToken(m *strictjson.Members) (addedToken, error) {
	content, err := m.Need("content")
	if err != nil {
		return addedToken{}, err
	}
	number, err := m.Need("id")
	if err != nil {
		return addedToken{}, err
	}
	var token addedToken
	if token.content, err = content.String(); err != nil {
		return token, err
	}
	if len(token.content) > maxAddedToken {
		return token, m.Errorf("added token %.60q has %d bytes, at most %d are read", token.content, len(token.content), maxAddedToken)
	}
	id, err := number.Int()
	if err != nil {
		return token, err
	}
	if id < 0 || id >= maxTokens {
		return token, m.Errorf("added token %.60q has the number %d, want 0 to %d", token.content, id, maxTokens-1)
	}
	token.id = int(id)
	if token.special, err = m.Bool("special", false); err != nil {
		return token, err
	}
	for _, flag := range []struct {
		name string
		to   *bool
	}{{"single_word", &token.singleWord}, {"lstrip", &token.lstrip}, {"rstrip", &token.rstrip}} {
		if *flag.to, err = m.Bool(flag.name, false); err != nil {
			return token, err
		}
	}
	token.normalized, err = m.Bool("normalized", !token.special)
	return token, err
}

// newAddedTokens builds the two finders.
func newAddedTokens(tokens []addedToken, normalize []normalizer) (*addedTokens, error) {
	a := &addedTokens{literal: newFinder(), normalized: newFinder(), special: make(map[int]bool), spelled: make(map[int]string)}
	for _, token := range tokens {
		if !token.normalized {
			a.literal.add(token.content, token)
			a.special[token.id] = token.special
			continue
		}
		form := token.content
		for _, n := range normalize {
			var err error
			if form, err = n(form); err != nil {
				return nil, err
			}
		}
		a.normalized.add(form, token)
		// As in the reference, a token that the normalizer changes decodes to the
		// changed text, and as that is no special token's it is never left out.
		a.spelled[token.id] = form
		a.special[token.id] = token.special && form == token.content
	}
	return a, nil
}

// finder looks for a set of texts, leftmost first and there the longest. It is a
// tree of bytes.
type finder struct {
	nodes []finderNode // the first is the root
	first [256]bool    // bytes that a token begins with
	lone  int          // the only such byte, or none
}

type finderNode struct {
	next  map[byte]int32
	token *addedToken // the token that ends here
}

func newFinder() *finder {
	return &finder{nodes: make([]finderNode, 1), lone: none}
}

// add enters a text, which stands for the token.
func (f *finder) add(text string, token addedToken) {
	if text == "" {
		return
	}
	if !f.first[text[0]] {
		f.first[text[0]] = true
		if len(f.nodes) == 1 {
			f.lone = int(text[0])
		} else {
			f.lone = none
		}
	}
	at := int32(0)
	for i := range len(text) {
		next, ok := f.nodes[at].next[text[i]]
		if !ok {
			next = int32(len(f.nodes))
			f.nodes = append(f.nodes, finderNode{})
			if f.nodes[at].next == nil {
				f.nodes[at].next = make(map[byte]int32)
			}
			f.nodes[at].next[text[i]] = next
		}
		at = next
	}
	f.nodes[at].token = &token
}

// match returns the longest token that begins at i, and its end.
func (f *finder) match(text string, i int) (*addedToken, int) {
	var found *addedToken
	end, at := i, int32(0)
	for ; i < len(text); i++ {
		next, ok := f.nodes[at].next[text[i]]
		if !ok {
			break
		}
		at = next
		if token := f.nodes[at].token; token != nil {
			found, end = token, i+1
		}
	}
	return found, end
}

// candidate returns the first place from i on where a token may begin.
func (f *finder) candidate(text string, i int) int {
	if f.lone != none {
		if at := strings.IndexByte(text[i:], byte(f.lone)); at >= 0 {
			return i + at
		}
		return len(text)
	}
	for i < len(text) && !f.first[text[i]] {
		i++
	}
	return i
}

// scan calls yield for each added token and each non-empty stretch between
// them, in order, until yield returns false. A stretch has the id none.
func (f *finder) scan(text string, yield func(id int, begin, end int) bool) {
	if len(f.nodes) == 1 {
		if text != "" {
			yield(none, 0, len(text))
		}
		return
	}
	done := 0 // up to here everything has been yielded
	for i := f.candidate(text, 0); i < len(text); i = f.candidate(text, i) {
		token, end := f.match(text, i)
		if token == nil {
			i++
			continue
		}
		begin, stop := i, end
		i = end
		if token.singleWord && !alone(text, begin, end) {
			continue
		}
		if token.lstrip {
			begin = max(done, len(strings.TrimRightFunc(text[:begin], unicode.IsSpace)))
		}
		if token.rstrip {
			stop = len(text) - len(strings.TrimLeftFunc(text[end:], unicode.IsSpace))
		}
		if done < begin && !yield(none, done, begin) || !yield(token.id, begin, stop) {
			return
		}
		done = stop
	}
	if done < len(text) {
		yield(none, done, len(text))
	}
}

// alone reports whether no word character touches text[begin:end].
func alone(text string, begin, end int) bool {
	before, _ := utf8.DecodeLastRuneInString(text[:begin])
	after, _ := utf8.DecodeRuneInString(text[end:])
	return (begin == 0 || !isWord(before)) && (end == len(text) || !isWord(after))
}

// isWord reports whether c is a word character as Unicode's recommendation for
// regular expressions has it (UTS 18, annex C).
func isWord(c rune) bool {
	return unicode.In(c, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc,
		unicode.Other_Alphabetic, unicode.Join_Control)
}
