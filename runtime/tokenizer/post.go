package tokenizer

import (
	"slices"

	"moec/runtime/tokenizer/strictjson"
)

// postProcessor frames the tokens of a text with special ones.
type postProcessor func(ids []int) []int

// postProcessorKinds is the table of post-processors.
var postProcessorKinds = kinds[postProcessor]{
	sort:   "post_processor",
	member: "processors",
	rows: map[string]func(*strictjson.Members) (postProcessor, error){
		// ByteLevel trims offsets, which are not kept here.
		"ByteLevel":          func(*strictjson.Members) (postProcessor, error) { return slices.Clip, nil },
		"TemplateProcessing": readTemplate,
		"BertProcessing":     readClsSep,
		"RobertaProcessing":  readClsSep,
	},
}

// template is a list of tokens around the text.
type template []templatePart

// templatePart is special tokens, or the text if text is set.
type templatePart struct {
	text bool
	ids  []int
}

func (t template) apply(ids []int) []int {
	var out []int
	for _, part := range t {
		if part.text {
			out = append(out, ids...)
		} else {
			out = append(out, part.ids...)
		}
	}
	return out
}

// readTemplate reads the template for single texts; that for pairs is not used.
func readTemplate(m *strictjson.Members) (postProcessor, error) {
	special := make(map[string][]int)
	if table, ok := m.Get("special_tokens"); ok {
		err := table.Object(func(name string) error {
			ids, err := readSpecial(table)
			special[name] = ids
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	list, err := m.Need("single")
	if err != nil {
		return nil, err
	}
	var t template
	err = list.Array(func(int) error {
		part, err := readTemplatePart(list, special)
		t = append(t, part)
		return err
	})
	return t.apply, err
}

func readSpecial(r *strictjson.Reader) ([]int, error) {
	m, err := r.Members()
	if err != nil {
		return nil, err
	}
	list, err := m.Need("ids")
	if err != nil {
		return nil, err
	}
	var ids []int
	err = list.Array(func(int) error {
		id, err := list.Int()
		if err == nil && (id < 0 || id >= maxTokens) {
			return list.Errorf("special token %d, want 0 to %d", id, maxTokens-1)
		}
		ids = append(ids, int(id))
		return err
	})
	return ids, err
}

func readTemplatePart(r *strictjson.Reader, special map[string][]int) (templatePart, error) {
	m, err := r.Members()
	if err != nil {
		return templatePart{}, err
	}
	name, isText := "SpecialToken", false
	if _, ok := m.Get("Sequence"); ok {
		name, isText = "Sequence", true
	}
	at, err := m.Need(name)
	if err != nil {
		return templatePart{}, err
	}
	inner, err := at.Members()
	if err != nil {
		return templatePart{}, err
	}
	id, err := inner.String("id", "")
	if err != nil {
		return templatePart{}, err
	}
	if isText {
		if id != "A" {
			return templatePart{}, m.Errorf("the template for single texts names the sequence %.60q, want A", id)
		}
		return templatePart{text: true}, nil
	}
	ids, ok := special[id]
	if !ok {
		return templatePart{}, m.Errorf("the template names %.60q, which special_tokens does not hold; export the tokenizer again", id)
	}
	return templatePart{ids: ids}, nil
}

// readClsSep reads the two processors that put the token cls before the text
// and sep after it, each given as [spelling, number].
func readClsSep(m *strictjson.Members) (postProcessor, error) {
	cls, err := readSpelledToken(m, "cls")
	if err != nil {
		return nil, err
	}
	sep, err := readSpelledToken(m, "sep")
	t := template{{ids: []int{cls}}, {text: true}, {ids: []int{sep}}}
	return t.apply, err
}

func readSpelledToken(m *strictjson.Members, name string) (int, error) {
	at, err := m.Need(name)
	if err != nil {
		return 0, err
	}
	var id int64
	err = at.Array(func(index int) error {
		var err error
		switch index {
		case 0:
			_, err = at.String()
		case 1:
			id, err = at.Int()
		default:
			err = at.Errorf("%s: want a token and its number, have more", name)
		}
		return err
	})
	return int(id), err
}

// checkFrame returns the first number outside the vocabulary that the
// post-processors put around a text.
func checkFrame(frame []postProcessor, vocab int) (int, bool) {
	var ids []int
	for _, f := range frame {
		ids = f(ids)
	}
	for _, id := range ids {
		if id < 0 || id >= vocab {
			return id, false
		}
	}
	return 0, true
}
