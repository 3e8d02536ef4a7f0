package tokenizer

import (
	"moec/runtime/tokenizer/strictjson"
)

// maxTokens bounds a vocabulary; the largest published ones have about 260,000
// tokens.
const maxTokens = 1 << 24

// vocabulary maps the spellings of tokens to their numbers and back.
type vocabulary struct {
	ids    map[string]int32
	listed []string // in the file's order; until seal
	tokens []string // by number; from seal on
}

// find returns the number of a token, or none.
func (v *vocabulary) find(token string) int32 {
	if id, ok := v.ids[token]; ok {
		return id
	}
	return none
}

// add gives a token its number.
func (v *vocabulary) add(token string, id int64, r *strictjson.Reader) error {
	if id < 0 || id >= maxTokens {
		return r.Errorf("token %.60q has the number %d, want 0 to %d; export the tokenizer again", token, id, maxTokens-1)
	}
	if _, ok := v.ids[token]; ok {
		return r.Errorf("token %.60q is there twice; export the tokenizer again", token)
	}
	v.ids[token] = int32(id)
	v.listed = append(v.listed, token)
	return nil
}

// readVocabulary reads the model's table of tokens.
func readVocabulary(r *strictjson.Reader) (*vocabulary, error) {
	v := &vocabulary{ids: make(map[string]int32)}
	err := r.Table(func(token string) error {
		id, err := r.Int()
		if err != nil {
			return err
		}
		return v.add(token, id, r)
	})
	return v, err
}

// seal checks that the numbers are 0 to n-1, each once, and fills tokens. The
// argument fault makes an error at the vocabulary's place.
func (v *vocabulary) seal(fault func(format string, args ...any) error) error {
	count := len(v.listed)
	v.tokens = make([]string, count)
	taken := make([]bool, count)
	for _, token := range v.listed {
		id := v.ids[token]
		if int(id) >= count {
			return fault("token %.60q has the number %d, but %d tokens have the numbers 0 to %d and so one is missing; export the tokenizer again", token, id, count, count-1)
		}
		if taken[id] {
			return fault("the tokens %.60q and %.60q both have the number %d; export the tokenizer again", v.tokens[id], token, id)
		}
		taken[id] = true
		v.tokens[id] = token
	}
	v.listed = nil
	return nil
}
