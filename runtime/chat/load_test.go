package chat

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moec/runtime/chat/jinja"
)

// writeFiles makes a directory of files.
func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const tokenConfig = `{"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false}, "unk_token": null, "chat_template": "config {{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ unk_token is defined }}"}`

func TestLoad(t *testing.T) {
	named := `{"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "rag", "template": "{{"}, {"name": "default", "template": "plain"}]}`
	for _, c := range []struct {
		name  string
		files map[string]string
		tools bool
		want  string
	}{
		{"in the configuration", map[string]string{"tokenizer_config.json": tokenConfig}, false, "config <s>hi</s>False"},
		{"file beside it", map[string]string{"tokenizer_config.json": tokenConfig, "chat_template.jinja": "file {{ eos_token }}\n"}, false, "file </s>"},
		{"JSON file", map[string]string{"chat_template.json": `{"chat_template": "json"}`}, false, "json"},
		{"all three", map[string]string{"tokenizer_config.json": tokenConfig, "chat_template.json": `{"chat_template": "json"}`, "chat_template.jinja": "file"}, false, "file"},
		{"alone", map[string]string{"chat_template.jinja": "alone{{ bos_token }}"}, false, "alone"},
		{"named, without tools", map[string]string{"tokenizer_config.json": named}, false, "plain"},
		{"named, with tools", map[string]string{"tokenizer_config.json": named}, true, "tools"},
		{"tools and no template for them", map[string]string{"chat_template.jinja": "{{ tools|length }}{{ tools[0].a }}"}, true, "1x"},
		{"no tools", map[string]string{"chat_template.jinja": "{{ tools }}{{ documents }}{{ add_generation_prompt }}"}, false, "NoneNoneFalse"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmpl, err := Load(writeFiles(t, c.files))
			if err != nil {
				t.Fatal(err)
			}
			conversation := Conversation{Messages: []Message{NewMessage("user", "hi")}}
			if c.tools {
				tool, err := ParseValue("tool", []byte(`{"a": "x"}`))
				if err != nil {
					t.Fatal(err)
				}
				conversation.Tools = []Value{tool}
			}
			if text, err := tmpl.Render(conversation); err != nil || text != c.want {
				t.Errorf("have %q, %v; want %q", text, err, c.want)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing", nil, "no chat template: want chat_template.jinja"},
		{"no template", map[string]string{"tokenizer_config.json": `{"eos_token": "x"}`}, "no chat template"},
		{"broken configuration", map[string]string{"tokenizer_config.json": `{"eos_token": `}, "tokenizer_config.json:1:15: want a value"},
		{"token of another kind", map[string]string{"tokenizer_config.json": `{"eos_token": 5}`}, "tokenizer_config.json:1:15: want a string, have a number"},
		{"template of another kind", map[string]string{"tokenizer_config.json": `{"chat_template": 5}`}, "want a string, have a number"},
		{"no default", map[string]string{"tokenizer_config.json": `{"chat_template": [{"name": "x", "template": "y"}]}`}, `no template named "default"`},
		{"broken template", map[string]string{"chat_template.jinja": "\n{{ x"}, "chat_template.jinja:2: TemplateSyntaxError: a tag has no end"},
		{"broken template in the configuration", map[string]string{"tokenizer_config.json": `{"chat_template": "{% if %}"}`}, "tokenizer_config.json/chat_template:1: TemplateSyntaxError"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := writeFiles(t, c.files)
			_, err := Load(dir)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), dir) {
				t.Errorf("have %v; want an error with %q", err, c.want)
			}
		})
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, ErrNone) {
		t.Errorf("have %v; want ErrNone", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "chat_template.jinja"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("have %v", err)
	}
}

func TestRenderVariables(t *testing.T) {
	dir := writeFiles(t, map[string]string{"tokenizer_config.json": tokenConfig, "chat_template.jinja": "{{ bos_token }} {{ eos_token }} {{ flag }} {{ strftime_now('%Y-%m-%d') }} {{ add_generation_prompt }}"})
	tmpl, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := tmpl.Render(Conversation{
		BOS: "[B]", AddGenerationPrompt: true, Now: time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC),
		Variables: map[string]Value{"flag": jinja.Bool(true), "eos_token": jinja.Str("[E]")},
	})
	if want := "[B] [E] True 2024-02-29 True"; err != nil || text != want {
		t.Errorf("have %q, %v; want %q", text, err, want)
	}
	if token, ok := tmpl.Token("eos_token"); token != "</s>" || !ok {
		t.Errorf("eos_token is %q, %v", token, ok)
	}
	if _, ok := tmpl.Token("pad_token"); ok {
		t.Errorf("there is a pad_token")
	}
	if _, err := tmpl.Render(Conversation{Messages: []Message{nil}}); err == nil {
		t.Errorf("a nil message is rendered")
	}
}

func TestParseMessages(t *testing.T) {
	messages, err := ParseMessages("request", []byte(`[{"role": "user", "z": 1, "a": [1.0, 18446744073709551616, null, true]}]`))
	if err != nil || len(messages) != 1 {
		t.Fatalf("have %v, %v", messages, err)
	}
	tmpl, err := Parse("t", "{{ messages[0]|tojson }}")
	if err != nil {
		t.Fatal(err)
	}
	want := `{"role": "user", "z": 1, "a": [1.0, 18446744073709551616, null, true]}`
	if text, err := tmpl.Render(Conversation{Messages: messages}); err != nil || text != want {
		t.Errorf("have %q, %v; want %q", text, err, want)
	}
	for _, c := range []struct{ text, want string }{
		{`{}`, "request:1:1: want an array"},
		{`["x"]`, "request:1:2: want an object, have a string"},
		{`[{"a":1,"a":2}]`, `the name "a" is there twice`},
		{`[{}] x`, "text after the value"},
		{`[{"a":` + strings.Repeat("9", 2000) + `}]`, "is too long"},
	} {
		if _, err := ParseMessages("request", []byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40s: have %v; want %q", c.text, err, c.want)
		}
	}
}
