package chat

import (
	"moec/runtime/chat/jinja"
	"moec/runtime/tokenizer/strictjson"
)

// ParseValue reads a JSON document. Objects keep their order; repeated names,
// invalid UTF-8 and deep nesting are errors. The name is for those.
func ParseValue(name string, data []byte) (Value, error) {
	r, err := strictjson.New(name, data)
	if err != nil {
		return nil, err
	}
	v, err := readValue(r)
	if err != nil {
		return nil, err
	}
	return v, r.End()
}

// ParseMessages reads a JSON list of messages.
func ParseMessages(name string, data []byte) ([]Message, error) {
	r, err := strictjson.New(name, data)
	if err != nil {
		return nil, err
	}
	var messages []Message
	err = r.Array(func(int) error {
		m, err := readObject(r)
		messages = append(messages, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	return messages, r.End()
}

// readValue reads the next value.
func readValue(r *strictjson.Reader) (Value, error) {
	switch r.Peek() {
	case strictjson.Object:
		return readObject(r)
	case strictjson.Array:
		list := jinja.NewList()
		err := r.Array(func(int) error {
			v, err := readValue(r)
			list.Items = append(list.Items, v)
			return err
		})
		return list, err
	case strictjson.String:
		s, err := r.String()
		return jinja.Str(s), err
	case strictjson.Bool:
		b, err := r.Bool()
		return jinja.Bool(b), err
	case strictjson.Number:
		literal, err := r.Number()
		if err != nil {
			return nil, err
		}
		v, ok := jinja.Number(literal)
		if !ok {
			return nil, r.Errorf("the number %.40s is too long", literal)
		}
		return v, nil
	}
	return jinja.None{}, r.Skip()
}

func readObject(r *strictjson.Reader) (*jinja.Dict, error) {
	d := jinja.NewDict()
	err := r.Object(func(name string) error {
		v, err := readValue(r)
		d.Set(name, v)
		return err
	})
	return d, err
}
