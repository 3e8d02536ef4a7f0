package strictjson

import (
	"fmt"
	"strings"
	"testing"
)

// show reads a value and writes it back in a fixed form, so that tests compare
// text.
func show(r *Reader, out *strings.Builder) error {
	switch r.Peek() {
	case Object:
		out.WriteByte('{')
		err := r.Object(func(name string) error {
			fmt.Fprintf(out, "%q:", name)
			return show(r, out)
		})
		out.WriteByte('}')
		return err
	case Array:
		out.WriteByte('[')
		err := r.Array(func(int) error { return show(r, out) })
		out.WriteByte(']')
		return err
	case String:
		s, err := r.String()
		fmt.Fprintf(out, "%q,", s)
		return err
	case Number:
		s, err := r.Number()
		fmt.Fprintf(out, "%s,", s)
		return err
	case Bool:
		b, err := r.Bool()
		fmt.Fprintf(out, "%v,", b)
		return err
	}
	if r.Null() {
		out.WriteString("null,")
		return nil
	}
	return r.Skip()
}

func readAll(text string) (string, error) {
	r, err := New("doc", []byte(text))
	if err != nil {
		return "", err
	}
	var out strings.Builder
	if err := show(r, &out); err != nil {
		return "", err
	}
	return out.String(), r.End()
}

func TestReadsValues(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{` {"b":1,"a":[true,false,null]} `, `{"b":1,"a":[true,false,null,]}`},
		{`[]`, `[]`},
		{`{}`, `{}`},
		{`"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é"`, `"a\"\\/\b\f\n\r\té😀é",`},
		{`[-0,0.5,-1.25e+10,1E2,12345678901234567890]`, `[-0,0.5,-1.25e+10,1E2,12345678901234567890,]`},
		{"\n\t[ 1 , 2 ]\r\n", `[1,2,]`},
	} {
		if got, err := readAll(c.text); err != nil || got != c.want {
			t.Errorf("%s: have %s, %v; want %s", c.text, got, err, c.want)
		}
	}
}

func TestRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", ``, "doc:1:1: want a value, have the end of the text"},
		{"byte order mark", "\uFEFF{}", "byte order mark"},
		{"not UTF-8", "{\n \"a\": \"\xff\"}", "doc:2:8: the byte 0xff is not UTF-8"},
		{"text after the value", `{}{}`, "doc:1:3: there is text after the value"},
		{"open object", `{`, "want a string, have the end of the text"},
		{"duplicate name", `{"a":1,"\u0061":2}`, `doc:1:8: the name "a" is there twice`},
		{"no colon", `{"a" 1}`, "want a colon"},
		{"trailing comma", `[1,]`, "want a value, have ']'"},
		{"missing comma", `[1 2]`, "want a comma or ']', have '2'"},
		{"lone high surrogate", `"\ud800"`, "lone surrogate"},
		{"lone low surrogate", `"\udc00x"`, "lone surrogate"},
		{"bad escape", `"\x"`, "unknown escape"},
		{"short escape", `"\u12"`, "four hexadecimal digits"},
		{"open string", `"abc`, "no closing quote"},
		{"open string after an escape", `"a\n`, "no closing quote"},
		{"control character", "\"a\nb\"", "control character"},
		{"leading zero", `01`, "leading zero"},
		{"lone minus", `-`, "wants digits"},
		{"no digits after the point", `1.`, "after its point"},
		{"no digits in the exponent", `1e+`, "exponent"},
		{"almost true", `tru`, "want true or another"},
		{"almost null", `nul`, "want null or another"},
		{"deep", strings.Repeat("[", 100000), "nested deeper than 128 levels"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := readAll(c.text)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("have %v; want an error with %q", err, c.want)
			}
		})
	}
}

func TestMembers(t *testing.T) {
	r, err := New("doc", []byte("{\"n\": 3,\n \"s\": \"x\", \"b\": true, \"z\": null, \"big\": 99999999999999999999}"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Members()
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(m.Names()); got != "[n s b z big]" {
		t.Errorf("names %s", got)
	}
	if n, err := m.Int("n", 0); n != 3 || err != nil {
		t.Errorf("n = %d, %v", n, err)
	}
	if s, err := m.String("z", "fallback"); s != "fallback" || err != nil {
		t.Errorf("z = %q, %v", s, err)
	}
	if b, err := m.Bool("b", false); !b || err != nil {
		t.Errorf("b = %v, %v", b, err)
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{second(m.Bool("s", false)), "doc:2:7: s: want true or false, have a string"},
		{second(m.Int("big", 0)), "big: want an integer below 2^63"},
		{second(m.Need("z")), `doc:1:1: "z" is missing`},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("have %v; want %q", c.err, c.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzReader(f *testing.F) {
	f.Add([]byte(`{"a":[1,-2.5e3,"\u00e9\ud83d\ude00",true,null,{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := New("doc", data)
		if err != nil {
			return
		}
		skipped := *r
		var out strings.Builder
		if (show(r, &out) == nil) != (skipped.Skip() == nil) {
			t.Errorf("reading and skipping %q disagree", data)
		}
	})
}
