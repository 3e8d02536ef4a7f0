package chat

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"moec/runtime/chat/jinja"
	"moec/runtime/tokenizer"
)

// frozen is the time at which the recorded chats were rendered.
var frozen = time.Date(2025, time.March, 9, 8, 5, 0, 0, time.UTC)

// folder is a directory of recorded chats and the tokenizer of their ids.
type folder struct {
	name, tokenizer string
	count           int // of recorded chats
}

var folders = []folder{
	{"mixtral", "mixtral/tokenizer.json.gz", 120},
	{"qwen", "qwen/tokenizer.json.gz", 40},
}

// recorded is a chat with what the reference made of it; testdata/README.md says
// how.
type recorded struct {
	template, name string
	conversation   Conversation
	text           string
	ids            []int
	failure        string // the kind of error, or ""
	message        string // the error's text
}

func unzip(t testing.TB, path string) []byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(plain)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// chats reads the recorded chats with the package's own reader, which keeps the
// order of members.
func (f folder) chats(t testing.TB, file string) []recorded {
	t.Helper()
	all, err := ParseMessages(file, unzip(t, filepath.Join("testdata", f.name, file)))
	if err != nil {
		t.Fatal(err)
	}
	var out []recorded
	for _, m := range all {
		out = append(out, record(t, m))
	}
	return out
}

func record(t testing.TB, m Message) recorded {
	t.Helper()
	r := recorded{
		template: textOf(m, "template"), name: textOf(m, "name"), text: textOf(m, "text"),
		failure: textOf(m, "error_kind"), message: textOf(m, "error"),
	}
	for _, v := range listOf(m, "messages") {
		r.conversation.Messages = append(r.conversation.Messages, v.(Message))
	}
	r.conversation.Tools = listOf(m, "tools")
	r.conversation.Now = frozen
	if v, ok := m.Get("add_generation_prompt"); ok {
		r.conversation.AddGenerationPrompt = v == jinja.Bool(true)
	}
	r.conversation.Variables = make(map[string]Value)
	if v, ok := m.Get("variables"); ok {
		for _, name := range v.(*jinja.Dict).Keys() {
			r.conversation.Variables[name], _ = v.(*jinja.Dict).Get(name)
		}
	}
	for _, id := range listOf(m, "ids") {
		r.ids = append(r.ids, int(id.(jinja.Int)))
	}
	return r
}

func textOf(m Message, name string) string {
	v, _ := m.Get(name)
	s, _ := v.(jinja.Str)
	return string(s)
}

func listOf(m Message, name string) []Value {
	v, _ := m.Get(name)
	if list, ok := v.(*jinja.List); ok {
		return list.Items
	}
	return nil
}

func parseFile(t testing.TB, path string) *Template {
	t.Helper()
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tmpl, err := Parse(filepath.Base(path), string(source))
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

// loadTokenizer reads one of the tokenizer's own test files, once.
func loadTokenizer(t testing.TB, path string) *tokenizer.Tokenizer {
	t.Helper()
	once, _ := tokenizers.LoadOrStore(path, sync.OnceValues(func() (*tokenizer.Tokenizer, error) {
		return tokenizer.Parse(path, unzip(t, filepath.Join("../tokenizer/testdata", path)))
	}))
	tok, err := once.(func() (*tokenizer.Tokenizer, error))()
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

var tokenizers sync.Map

func TestRecordedChats(t *testing.T) {
	for _, f := range folders {
		t.Run(f.name, func(t *testing.T) {
			tok := loadTokenizer(t, f.tokenizer)
			chats := f.chats(t, "chat.json.gz")
			if len(chats) != f.count {
				t.Fatalf("have %d chats, want %d", len(chats), f.count)
			}
			for _, c := range chats {
				checkChat(t, parseFile(t, filepath.Join("testdata", f.name, c.template)), tok, c)
			}
		})
	}
}

func checkChat(t *testing.T, tmpl *Template, tok *tokenizer.Tokenizer, c recorded) {
	t.Helper()
	text, err := tmpl.Render(c.conversation)
	if c.failure != "" {
		var fault *jinja.Error
		if !errors.As(err, &fault) || string(fault.Kind) != c.failure {
			t.Errorf("%s, %s: have %q, %v; want a %s", c.template, c.name, text, err, c.failure)
		} else if fault.Kind == jinja.Raised && fault.Message != c.message {
			t.Errorf("%s, %s: raised %q, want %q", c.template, c.name, fault.Message, c.message)
		}
		return
	}
	if err != nil || text != c.text {
		t.Errorf("%s, %s: have %q, %v; want %q", c.template, c.name, text, err, c.text)
		return
	}
	if ids, err := tok.Encode(text, false); err != nil || !slices.Equal(ids, c.ids) {
		t.Errorf("%s, %s: have ids %v, %v; want %v", c.template, c.name, ids, err, c.ids)
	}
}

// TestMistralCommonIDs compares with the ids that mistral-common, which has no
// template, makes of conversations.
func TestMistralCommonIDs(t *testing.T) {
	tok := loadTokenizer(t, "mixtral/tokenizer_metaspace.json.gz")
	tmpl := parseFile(t, "testdata/mixtral/chat_template_mistral_common_v1.jinja")
	chats := folders[0].chats(t, "chat_mistral_common.json.gz")
	if len(chats) != 9 {
		t.Fatalf("have %d chats, want 9", len(chats))
	}
	for _, c := range chats {
		if c.name == "special tokens, markup, quotes, backslashes" {
			continue // there they stay text, here they become tokens
		}
		c.conversation.BOS, c.conversation.EOS = "<s>", "</s>"
		text, err := tmpl.Render(c.conversation)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if ids, err := tok.Encode(text, false); err != nil || !slices.Equal(ids, c.ids) {
			t.Errorf("%s: %q gives %v, %v; want %v", c.name, text, ids, err, c.ids)
		}
	}
}
