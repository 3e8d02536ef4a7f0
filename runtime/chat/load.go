package chat

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"moec/runtime/chat/jinja"
	"moec/runtime/tokenizer/strictjson"
)

// maxFile is the largest file that is read, in bytes. Configurations with
// thousands of added tokens have about 1 MB.
const maxFile = 64 << 20

// ErrNone is what Load's error wraps if the directory has no chat template.
var ErrNone = errors.New("no chat template")

// Load reads the chat template of a model directory: chat_template.jinja,
// chat_template.json, or chat_template in tokenizer_config.json, whichever is
// first. The spellings of special tokens come from tokenizer_config.json.
func Load(dir string) (*Template, error) {
	t := &Template{tokens: jinja.NewDict()}
	config, err := read(dir, "tokenizer_config.json")
	if err != nil {
		return nil, err
	}
	if config != nil {
		if err := t.readConfig(filepath.Join(dir, "tokenizer_config.json"), config); err != nil {
			return nil, err
		}
	}
	for _, source := range []struct {
		file string
		use  func(name string, data []byte) error
	}{
		{"chat_template.json", t.readConfig},
		{"chat_template.jinja", t.readSource},
	} {
		data, err := read(dir, source.file)
		if err != nil {
			return nil, err
		}
		if data == nil {
			continue
		}
		if err := source.use(filepath.Join(dir, source.file), data); err != nil {
			return nil, err
		}
	}
	if t.plain == nil {
		return nil, fmt.Errorf("%s: %w: want chat_template.jinja or a chat_template in tokenizer_config.json; take the directory of a chat model or prompt without a chat", dir, ErrNone)
	}
	return t, nil
}

// read returns the contents of a file, or nil if there is none.
func read(dir, file string) ([]byte, error) {
	path := filepath.Join(dir, file)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file; replace it by one", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes, which no such file has; download it again", path, maxFile)
	}
	return data, nil
}

// readSource reads a file that is a template.
func (t *Template) readSource(name string, data []byte) error {
	parsed, err := jinja.Parse(name, string(data))
	t.plain, t.tools = parsed, parsed
	return err
}

// tokenNames holds the special tokens that templates may read.
var tokenNames = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// readConfig reads a JSON file with special tokens and a chat template, each of
// which may be absent.
func (t *Template) readConfig(name string, data []byte) error {
	r, err := strictjson.New(name, data)
	if err != nil {
		return err
	}
	m, err := r.Members()
	if err != nil {
		return err
	}
	for _, token := range tokenNames {
		if err := t.readToken(m, token); err != nil {
			return err
		}
	}
	at, ok := m.Get("chat_template")
	if !ok {
		return nil
	}
	if at.Peek() == strictjson.Array {
		return t.readNamed(name, at)
	}
	source, err := at.String()
	if err != nil {
		return err
	}
	return t.readSource(name+"/chat_template", []byte(source))
}

// readToken reads a special token, which is a text or an object with "content".
func (t *Template) readToken(m *strictjson.Members, name string) error {
	at, ok := m.Get(name)
	if !ok {
		return nil
	}
	if at.Peek() == strictjson.Object {
		inner, err := at.Members()
		if err != nil {
			return err
		}
		if at, err = inner.Need("content"); err != nil {
			return err
		}
	}
	spelling, err := at.String()
	if err != nil {
		return err
	}
	t.tokens.Set(name, jinja.Str(spelling))
	return nil
}

// readNamed reads a list of templates with names. "default" is used, and where
// there are tools, "tool_use" if it is there.
func (t *Template) readNamed(file string, list *strictjson.Reader) error {
	err := list.Array(func(int) error {
		m, err := list.Members()
		if err != nil {
			return err
		}
		name, err := m.String("name", "")
		if err != nil {
			return err
		}
		source, err := m.String("template", "")
		if err != nil || name != "default" && name != "tool_use" {
			return err
		}
		parsed, err := jinja.Parse(file+"/chat_template/"+name, source)
		if name == "default" {
			t.plain = parsed
		} else {
			t.tools = parsed
		}
		return err
	})
	if err != nil {
		return err
	}
	if t.plain == nil {
		return list.Errorf("chat_template: the list has no template named \"default\"")
	}
	if t.tools == nil {
		t.tools = t.plain
	}
	return nil
}
