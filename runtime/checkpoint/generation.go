package checkpoint

import (
	"fmt"
	"math"
	"strings"
)

// Generation holds the settings of generation_config.json. Zero and nil mean
// that the file says nothing, or null, or what is the same: a top_k of 0.
type Generation struct {
	EOS []int `json:"eos_token_id,omitempty"` // any of them ends the text
	BOS *int  `json:"bos_token_id,omitempty"`
	Pad *int  `json:"pad_token_id,omitempty"`

	DoSample          bool    `json:"do_sample,omitempty"`
	Temperature       float64 `json:"temperature,omitempty"`
	TopK              int     `json:"top_k,omitempty"`
	TopP              float64 `json:"top_p,omitempty"`
	MinP              float64 `json:"min_p,omitempty"`
	RepetitionPenalty float64 `json:"repetition_penalty,omitempty"`
	MaxLength         int     `json:"max_length,omitempty"`     // prompt included
	MaxNewTokens      int     `json:"max_new_tokens,omitempty"` // prompt not included
}

// maxToken bounds ids of tokens, which are 32-bit numbers.
const maxToken = math.MaxInt32

// loadGeneration reads generation_config.json, if there is one. Ids of tokens
// that it does not give come from config.json, where older checkpoints have
// them. A wrong type or id is an error; a setting beyond its range is dropped
// with a warning, for a user may set it anyhow.
func (c *Checkpoint) loadGeneration() error {
	g := &c.generation
	file := c.dir.full(generationName)
	v, err := c.dir.readJSON(generationName)
	switch {
	case err != nil && missing(err):
		v, file = Value{kind: Object}, ""
	case err != nil:
		return err
	case v.kind != Object:
		return &Error{File: file, What: "does not hold settings", Need: Object.String(), Have: v.kind.String(), Remedy: remedyJSON}
	}
	s := settings{c: c, file: file, root: v}
	positive := func(x float64) bool { return x > 0 }
	g.DoSample = s.bool("do_sample")
	g.Temperature = s.float("temperature", "above 0", positive)
	g.TopK = s.int("top_k", 0, maxToken)
	g.TopP = s.float("top_p", "above 0, at most 1", func(x float64) bool { return 0 < x && x <= 1 })
	g.MinP = s.float("min_p", "from 0 to 1", func(x float64) bool { return 0 <= x && x <= 1 })
	g.RepetitionPenalty = s.float("repetition_penalty", "above 0", positive)
	g.MaxLength = s.int("max_length", 1, math.MaxInt)
	g.MaxNewTokens = s.int("max_new_tokens", 1, math.MaxInt)
	s.ids(g)
	if s.problems == nil {
		config := settings{c: c, file: c.config.file, root: c.config.root}
		config.ids(g)
		s.problems = config.problems
	}
	return s.problems.err()
}

// settings reads members of an object that may be absent or null.
type settings struct {
	c        *Checkpoint
	file     string
	root     Value
	problems Problems
}

// get returns a member that is there and not null.
func (s *settings) get(key string) (Value, bool) {
	v, ok := s.root.Get(key)
	return v, ok && v.kind != Null
}

func (s *settings) wrong(key, need string, v Value) {
	have := v.String()
	if len(have) > 40 {
		have = v.kind.String()
	}
	s.problems = append(s.problems, &Error{File: s.file, What: "key " + key, Need: need, Have: have, Remedy: remedyJSON})
}

// ids fills in ids of tokens that g lacks.
func (s *settings) ids(g *Generation) {
	if g.BOS == nil {
		g.BOS = s.id("bos_token_id")
	}
	if g.Pad == nil {
		g.Pad = s.id("pad_token_id")
	}
	v, ok := s.get("eos_token_id")
	if !ok || g.EOS != nil {
		return
	}
	list := v.items
	if v.kind != Array {
		list = []Value{v}
	}
	for _, item := range list {
		id, ok := item.Int()
		if !ok || id < 0 || id > maxToken {
			s.wrong("eos_token_id", "a token's id or a list of them", v)
			return
		}
		g.EOS = append(g.EOS, int(id))
	}
}

// id returns the id of a token. Some writers mean "none" by -1.
func (s *settings) id(key string) *int {
	v, ok := s.get(key)
	if !ok {
		return nil
	}
	n, ok := v.Int()
	if id := int(n); ok && 0 <= n && n <= maxToken {
		return &id
	}
	if n != -1 {
		s.wrong(key, "a token's id", v)
	}
	return nil
}

func (s *settings) bool(key string) bool {
	v, there := s.get(key)
	b, ok := v.Bool()
	if there && !ok {
		s.wrong(key, Bool.String(), v)
	}
	return b
}

// int returns an integer between lo and hi, or 0.
func (s *settings) int(key string, lo, hi int64) int {
	v, there := s.get(key)
	n, ok := v.Int()
	switch {
	case !there:
	case !ok:
		s.wrong(key, "an integer", v)
	case n < lo || n > hi:
		s.drop(key, fmt.Sprintf("at least %d", lo), v)
	default:
		return int(n)
	}
	return 0
}

// float returns a number that is fit, or 0. Need says what is fit.
func (s *settings) float(key, need string, fit func(float64) bool) float64 {
	v, there := s.get(key)
	x, ok := v.Float()
	switch {
	case !there:
	case !ok:
		s.wrong(key, Number.String(), v)
	case !fit(x):
		s.drop(key, need, v)
	default:
		return x
	}
	return 0
}

// drop warns of a setting beyond its range.
func (s *settings) drop(key, need string, v Value) {
	s.c.warn("%s: %s is ignored: need a value %s, have %s", generationName, key, need, v)
}

// Names of the files that may hold a chat template.
const (
	templateName     = "chat_template.jinja"
	templateJSONName = "chat_template.json"
	tokenizerConfig  = "tokenizer_config.json"
	tokenizerName    = "tokenizer.json"

	// maxTemplate bounds a chat template, in bytes; published ones reach 20,000.
	maxTemplate = 1 << 20
)

// ChatTemplate returns the source of the checkpoint's chat template, or "" if
// it has none. It is looked for where Hugging Face's libraries put it, the
// newest place first; of several templates the default one counts.
func (c *Checkpoint) ChatTemplate() (string, error) {
	text, err := c.dir.readFile(templateName, maxTemplate)
	if err == nil || !missing(err) {
		return string(text), err
	}
	for _, name := range []string{templateJSONName, tokenizerConfig} {
		root, err := c.dir.readJSON(name)
		if err != nil && !missing(err) {
			return "", err
		}
		if v, ok := root.Get("chat_template"); ok && v.kind != Null {
			return c.template(name, v)
		}
	}
	return "", nil
}

// template takes the source from a string or a list of named strings.
func (c *Checkpoint) template(file string, v Value) (string, error) {
	if v.kind == Array {
		var names []string
		for _, item := range v.items {
			name, _ := item.Get("name")
			if name.text == "default" {
				source, _ := item.Get("template")
				return c.template(file, source)
			}
			names = append(names, name.text)
		}
		return "", &Error{File: c.dir.full(file), What: "none of its chat templates is the default", Have: listing(names), Remedy: "name one of them default"}
	}
	source, ok := v.Text()
	if !ok || len(source) > maxTemplate || strings.ContainsRune(source, 0) {
		return "", &Error{File: c.dir.full(file), What: "chat_template", Need: "a text of at most " + bytesOf(maxTemplate), Have: v.kind.String(), Remedy: remedyJSON}
	}
	return source, nil
}
