package jinja

import (
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
)

// frozen is the time at which testdata/cases.json was made.
var frozen = time.Date(2025, time.March, 9, 8, 5, 0, 0, time.UTC)

// referenceCases is testdata/cases.json: templates with what Jinja2 gives for
// them; testdata/make_cases.py makes it.
type referenceCases struct {
	Variables json.RawMessage
	Cases     []struct {
		Template string
		Text     *string
		Error    string
	}
}

func readCases(t testing.TB) (referenceCases, *Dict) {
	t.Helper()
	data, err := os.ReadFile("testdata/cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var c referenceCases
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return c, decode(t, string(c.Variables)).(*Dict)
}

// decode reads JSON with its members in order, for tests only.
func decode(t testing.TB, text string) Value {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	v, err := decodeNext(d)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func decodeNext(d *json.Decoder) (Value, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case bool:
		return Bool(token), nil
	case string:
		return Str(token), nil
	case json.Number:
		v, _ := Number(token.String())
		return v, nil
	case json.Delim:
		return decodeMembers(d, token == '{')
	}
	return None{}, nil
}

func decodeMembers(d *json.Decoder, object bool) (Value, error) {
	list, dict := NewList(), NewDict()
	for d.More() {
		name := ""
		if object {
			token, err := d.Token()
			if err != nil {
				return nil, err
			}
			name = token.(string)
		}
		v, err := decodeNext(d)
		if err != nil {
			return nil, err
		}
		list.Items = append(list.Items, v)
		dict.Set(name, v)
	}
	_, err := d.Token()
	if object {
		return dict, err
	}
	return list, err
}

// stricter maps errors that Jinja raises late, or not by itself, to SyntaxError:
// here unknown names, break outside a loop and other templates are found when a
// template is parsed.
var stricter = map[string]bool{
	"TemplateAssertionError": true, "SyntaxError": true,
	"{% if t %}{{ 'x'|alsonosuch }}{% endif %}": true,
	"{% include 'x' %}":                         true,
	"{% import 'x' as y %}":                     true,
	"{% from 'x' import y %}":                   true,
	"{% extends 'x' %}":                         true,
}

func TestReferenceCases(t *testing.T) {
	reference, variables := readCases(t)
	if len(reference.Cases) < 250 {
		t.Fatalf("have %d cases", len(reference.Cases))
	}
	for _, c := range reference.Cases {
		text, err := renderSource(c.Template, variables, Limits{})
		if c.Text != nil {
			if err != nil || text != *c.Text {
				t.Errorf("%s\nhave %q, %v\nwant %q", c.Template, text, err, *c.Text)
			}
			continue
		}
		want := c.Error
		if stricter[c.Error] || stricter[c.Template] {
			want = string(SyntaxError)
		}
		var fault *Error
		if !errors.As(err, &fault) || string(fault.Kind) != want {
			t.Errorf("%s\nhave %q, %v\nwant %s", c.Template, text, err, want)
		}
	}
}

func renderSource(source string, variables *Dict, limits Limits) (string, error) {
	tmpl, err := Parse("test", source)
	if err != nil {
		return "", err
	}
	return tmpl.Render(Context{Variables: variables, Now: frozen, Limits: limits})
}

func TestBigNumbers(t *testing.T) {
	v, ok := Number("12345678901234567890")
	if n, isBig := v.(Big); !ok || !isBig || n.n.Cmp(new(big.Int).SetUint64(12345678901234567890)) != 0 {
		t.Errorf("have %#v, %v", v, ok)
	}
}
