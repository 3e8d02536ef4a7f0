package checkpoint

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sample = `{
  "architectures": ["MixtralForCausalLM", "Other"],
  "hidden_size": 4096, "eps": 1e-05, "theta": 1000000.0, "big": 12345678901234567890123, "neg": -0,
  "head_dim": null, "tied": false, "use_cache": true, "name": "silu\u00e9",
  "rope_parameters": {"rope_theta": 500000.0, "type": null, "list": [1, [2, {"x": 3}]]},
  "empty": {}, "none": [], "": 1
}`

func TestLookup(t *testing.T) {
	c, err := ParseConfig("config.json", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		path string
		want string // as JSON, or "absent"
	}{
		{"hidden_size", "4096"},
		{"eps", "1e-05"},
		{"theta", "1000000.0"},
		{"big", "12345678901234567890123"},
		{"head_dim", "null"},
		{"head_dim.x", "absent"},
		{"Hidden_size", "absent"},
		{"none_such", "absent"},
		{"tied", "false"},
		{"name", `"silué"`},
		{"rope_parameters.rope_theta", "500000.0"},
		{"rope_parameters.type", "null"},
		{"rope_parameters.no", "absent"},
		{"rope_parameters.list.1.1.x", "3"},
		{"rope_parameters.list.2", "absent"},
		{"rope_parameters.list.01", "absent"},
		{"rope_parameters.list.-1", "absent"},
		{"rope_parameters.list.x", "absent"},
		{"rope_parameters", `{"rope_theta":500000.0,"type":null,"list":[1,[2,{"x":3}]]}`},
		{"hidden_size.x", "absent"},
		{"architectures.1", `"Other"`},
		{"empty", "{}"},
		{"none", "[]"},
		{"", "1"},
		{"empty.", "absent"},
	} {
		got := "absent"
		if v, ok := c.Lookup(row.path); ok {
			got = v.String()
		} else if !v.IsNull() {
			t.Errorf("%q is absent, and yet %v", row.path, v)
		}
		if got != row.want {
			t.Errorf("%q is %s, want %s", row.path, got, row.want)
		}
	}
	wantKeys := []string{"architectures", "hidden_size", "eps", "theta", "big", "neg", "head_dim", "tied", "use_cache", "name", "rope_parameters", "empty", "none", ""}
	if diff := cmp.Diff(wantKeys, c.Keys()); diff != "" {
		t.Error(diff)
	}
	if got := c.Architectures(); !slices.Equal(got, []string{"MixtralForCausalLM", "Other"}) {
		t.Errorf("architectures are %q", got)
	}
}

func TestValues(t *testing.T) {
	root, err := ParseJSON("f", []byte(`[4096, 4096.0, 1e400, 9223372036854775808, "7", true, null, -3, 0.1]`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range root.Len() {
		v := root.Item(i)
		n, isInt := v.Int()
		x, isFloat := v.Float()
		b, isBool := v.Bool()
		s, isText := v.Text()
		l, isNumber := v.Literal()
		got = append(got, strings.TrimSpace(fmt.Sprintln(v.Kind(), n, isInt, x, isFloat, b, isBool, s, isText, l, isNumber)))
	}
	want := []string{
		"a number 4096 true 4096 true false false  false 4096 true",
		"a number 0 false 4096 true false false  false 4096.0 true",
		"a number 0 false +Inf false false false  false 1e400 true",
		"a number 9223372036854775807 false 9.223372036854776e+18 true false false  false 9223372036854775808 true",
		"a string 0 false 0 false false false 7 true  false",
		"true or false 0 false 0 false true true  false  false",
		"null 0 false 0 false false false  false  false",
		"a number -3 true -3 true false false  false -3 true",
		"a number 0 false 0.1 true false false  false 0.1 true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseJSONRefuses(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"nothing", "", "f:1:1: want a value, have the end of the text"},
		{"spaces only", " \n ", "f:2:2: want a value, have the end of the text"},
		{"key twice", "{\n  \"a\": 1,\n  \"\\u0061\": 2\n}", `f:3:3: key "a" is there twice`},
		{"key twice inside", `{"x":{"a":1,"a":1}}`, `f:1:13: key "a" is there twice`},
		{"NaN", `{"a": NaN}`, "f:1:7: want a value, have NaN or Infinity"},
		{"Infinity", `{"a": Infinity}`, "want a value, have NaN or Infinity"},
		{"minus Infinity", `{"a": -Infinity}`, "a number has digits"},
		{"comment", "{ // x\n}", "want a string, have '/'"},
		{"trailing comma", `[1,]`, "want a value, have ']'"},
		{"single quotes", `{'a':1}`, `want a string, have '\''`},
		{"two values", `1 2`, "f:1:3: there is text after the value: a number"},
		{"cut word", `tru`, "have a word that is not true"},
		{"long word", `nulls`, "text after the value"},
		{"byte order mark", "\xef\xbb\xbf{}", "have a byte order mark"},
		{"not UTF-8", "{\"a\": \"\xff\"}", "f:1:8: text is not UTF-8 at the byte 0xff"},
		{"lone surrogate", `"\ud83d"`, `half a surrogate pair, \ud83d`},
		{"half a pair, then another escape", `"\ud83d\u0041"`, `half a surrogate pair, \ud83d`},
		{"tab in a string", "\"a\tb\"", "control character 0x09 unescaped"},
		{"plus", `+1`, "want a value, have '+'"},
		{"point first", `.5`, "want a value, have '.'"},
		{"leading zero", `-01`, "no leading zero"},
		{"depth", strings.Repeat("[", 100_000), "f:1:65: values are nested more than 64 deep"},
		{"depth of objects", strings.Repeat(`{"a":`, 100_000), "values are nested more than 64 deep"},
		{"values", "[" + strings.Repeat("0,", maxValues) + "0]", "there are more than 262,144 values"},
		{"size", strings.Repeat(" ", maxJSON+1), "is too large: need at most 16,777,216 bytes, have 16,777,217 bytes"},
		{"long number", strings.Repeat("9", 400), "number is longer than 64 bytes"},
		{"long key", `{"` + strings.Repeat("k", maxKey+1) + `":1}`, "string is longer than 65,536 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseJSON("f", []byte(c.text))
			wantError(t, err, c.want)
		})
	}
	if _, err := ParseJSON("f", []byte(strings.Repeat("[", maxDepth)+strings.Repeat("]", maxDepth))); err != nil {
		t.Errorf("greatest depth: %v", err)
	}
}

// TestJSONMemory checks what the most expensive text costs.
func TestJSONMemory(t *testing.T) {
	text := []byte("[" + strings.Repeat("[],", maxJSON/3-1) + "[]]")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := ParseJSON("f", text)
	runtime.ReadMemStats(&after)
	wantError(t, err, "more than 262,144 values")
	if got := after.TotalAlloc - before.TotalAlloc; got > 128<<20 {
		t.Errorf("%d bytes allocated", got)
	}
}

func TestGeneration(t *testing.T) {
	id := func(n int) *int { return &n }
	all := `{"eos_token_id":[2,3],"bos_token_id":1,"pad_token_id":0,"do_sample":true,"temperature":0.7,"top_k":50,"top_p":0.9,
		"min_p":0.05,"repetition_penalty":1.1,"max_length":4096,"max_new_tokens":20,"transformers_version":"5.0.0","other":{"x":[null]}}`
	whole := Generation{
		EOS: []int{2, 3}, BOS: id(1), Pad: id(0), DoSample: true, Temperature: 0.7, TopK: 50, TopP: 0.9,
		MinP: 0.05, RepetitionPenalty: 1.1, MaxLength: 4096, MaxNewTokens: 20,
	}
	for _, c := range []struct {
		name, config, text string
		want               Generation
		warns              int
	}{
		{"all", "{}", all, whole, 0},
		{"no file", "{}", "-", Generation{}, 0},
		{"one id", "{}", `{"eos_token_id":2}`, Generation{EOS: []int{2}}, 0},
		{"ids of config.json", `{"eos_token_id":[7],"bos_token_id":6,"pad_token_id":null}`, "-", Generation{EOS: []int{7}, BOS: id(6)}, 0},
		{"its own ids come first", `{"eos_token_id":7,"bos_token_id":6}`, `{"eos_token_id":2}`, Generation{EOS: []int{2}, BOS: id(6)}, 0},
		{"nulls", "{}", `{"eos_token_id":null,"temperature":null,"top_k":null,"do_sample":null}`, Generation{}, 0},
		{"no padding", `{"pad_token_id":-1}`, "-", Generation{}, 0},
		{"beyond their ranges", "{}", `{"temperature":-1,"top_k":-1,"top_p":1.5,"min_p":2,"max_length":0,"repetition_penalty":0,"max_new_tokens":-5}`, Generation{}, 7},
		{"at their ends", "{}", `{"temperature":1e-9,"top_k":0,"top_p":1.0,"min_p":0.0,"max_length":1}`, Generation{Temperature: 1e-9, TopP: 1, MaxLength: 1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			ckpt, err := Open(single(t).with("config.json", c.config).with(generationName, c.text).write(t))
			if err != nil {
				t.Fatal(err)
			}
			defer ckpt.Close()
			if diff := cmp.Diff(c.want, ckpt.Generation()); diff != "" {
				t.Error(diff)
			}
			if w := ckpt.Warnings(); len(w) != c.warns {
				t.Errorf("warnings are %q", w)
			}
		})
	}
	for _, c := range []struct{ text, want string }{
		{`{"eos_token_id":"2"}`, `key eos_token_id: need a token's id or a list of them, have "2"`},
		{`{"eos_token_id":[1,-1]}`, "have [1,-1]"},
		{`{"eos_token_id":2147483648}`, "have 2147483648"},
		{`{"eos_token_id":2.0}`, "have 2.0"},
		{`{"eos_token_id":{}}`, "have {}"},
		{`{"bos_token_id":-2}`, "key bos_token_id: need a token's id, have -2"},
		{`{"pad_token_id":true}`, "need a token's id, have true"},
		{`{"top_k":1.5}`, "key top_k: need an integer, have 1.5"},
		{`{"top_p":[]}`, "key top_p: need a number, have []"},
		{`{"temperature":1e999}`, "key temperature: need a number, have 1e999"},
		{`{"do_sample":"` + strings.Repeat("x", 100) + `"}`, "need true or false, have a string"},
		{`[]`, "does not hold settings: need an object, have an array"},
		{`{"a":NaN}`, "generation_config.json:1:6: want a value, have NaN"},
	} {
		_, err := Open(single(t).with(generationName, c.text).write(t))
		wantError(t, err, generationName+":", c.want)
	}
}

// FuzzJSON looks for panics and for values that do not survive printing.
func FuzzJSON(f *testing.F) {
	f.Add(sample)
	f.Add(`[1,-2.5e+7,"\ud83d\ude00\n",{"a":{}}]`)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseJSON("f", []byte(text))
		if err != nil {
			wantError(t, err)
			return
		}
		again, err := ParseJSON("f", []byte(v.String()))
		if err != nil || again.String() != v.String() {
			t.Errorf("%q was read as %v, and that as %v: %v", text, v, again, err)
		}
	})
}
