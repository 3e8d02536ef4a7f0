package tokenizer

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"moec/runtime/tokenizer/strictjson"
)

// file is a tokenizer.json in parts, so that a test can spoil one.
type file struct {
	vocab, merges, model, added, normalizer, pre, post, decoder string
}

var soundFile = file{
	vocab:      `"a":0,"b":1,"ab":2,"<unk>":3,"Ġ":4`,
	merges:     `"a b"`,
	model:      `"unk_token":"<unk>"`,
	added:      `{"id":5,"content":"<s>","special":true}`,
	normalizer: `{"type":"NFC"}`,
	pre:        `{"type":"ByteLevel","add_prefix_space":false}`,
	post:       `{"type":"ByteLevel"}`,
	decoder:    `{"type":"ByteLevel"}`,
}

func (f file) String() string {
	return `{"added_tokens":[` + f.added + `],"normalizer":` + f.normalizer + `,"pre_tokenizer":` + f.pre +
		`,"post_processor":` + f.post + `,"decoder":` + f.decoder +
		`,"model":{"type":"BPE",` + f.model + `,"vocab":{` + f.vocab + `},"merges":[` + f.merges + `]}}`
}

func TestSoundFile(t *testing.T) {
	tok, err := Parse("sound.json", []byte(soundFile.String()))
	if err != nil {
		t.Fatal(err)
	}
	ids, err := tok.Encode("ab<s>a b?", false)
	if err != nil || len(ids) != 6 {
		t.Errorf("have %v, %v", ids, err)
	}
	if n := tok.VocabSize(); n != 6 {
		t.Errorf("VocabSize is %d, want 6", n)
	}
	if id, ok := tok.TokenID("<s>"); id != 5 || !ok || !tok.IsSpecial(id) {
		t.Errorf("<s> is token %d, %v, special %v", id, ok, tok.IsSpecial(id))
	}
	if _, ok := tok.TokenID("zzz"); ok {
		t.Errorf("zzz is a token")
	}
}

// spoiled holds a change to the sound file and what the error must say. The
// names begin with the number of the case in the project's robustness list.
var spoiled = []struct {
	name  string
	spoil func(*file)
	want  string
}{
	{"T01 depth of the text", func(f *file) { f.decoder = strings.Repeat("[", 100000) }, "nested deeper than"},
	{"T01 depth of sequences", func(f *file) {
		f.normalizer = strings.Repeat(`{"type":"Sequence","normalizers":[`, 20) + strings.Repeat(`]}`, 20)
	}, "sequences are nested deeper than 8"},
	{"T02 duplicate number", func(f *file) { f.vocab = `"a":0,"b":1,"ab":1,"<unk>":3,"Ġ":4` }, `tokens "b" and "ab" both have the number 1`},
	{"T02 duplicate token", func(f *file) { f.vocab += `,"\u0061":5` }, `token "a" is there twice`},
	{"T02 gap", func(f *file) { f.vocab += `,"c":9` }, `token "c" has the number 9, but 7 tokens have the numbers 0 to 6`},
	{"T02 gap before the added tokens", func(f *file) { f.added = `{"id":6,"content":"<s>"}` }, `token "<s>" has the number 6, but 6 tokens`},
	{"T02 negative number", func(f *file) { f.vocab += `,"c":-1` }, `token "c" has the number -1`},
	{"T02 number 2^31", func(f *file) { f.vocab += `,"c":2147483648` }, "has the number 2147483648"},
	{"T02 number 2^64", func(f *file) { f.vocab += `,"c":18446744073709551616` }, "want an integer below 2^63"},
	{"T02 number with a point", func(f *file) { f.vocab += `,"c":5.0` }, "want an integer"},
	{"T02 number as text", func(f *file) { f.vocab += `,"c":"5"` }, "want a number, have a string"},
	{"T03 missing left token", func(f *file) { f.merges = `"x b"` }, `merge 0 joins "x" and "b", but token "x" is not in the vocabulary`},
	{"T03 missing right token", func(f *file) { f.merges = `["a","x"]` }, `token "x" is not in the vocabulary`},
	{"T03 missing result", func(f *file) { f.merges = `"a b","b a"` }, `merge 1 joins "b" and "a", but token "ba" is not`},
	{"T03 one part", func(f *file) { f.merges = `"ab"` }, `merge 0 is "ab", want two tokens`},
	{"T03 three parts", func(f *file) { f.merges = `"a b a"` }, "want two tokens with one space"},
	{"T03 one-part array", func(f *file) { f.merges = `["a"]` }, "merge 0 has 1 tokens, want two"},
	{"T03 three-part array", func(f *file) { f.merges = `["a","b","a"]` }, "merge 0 has 3 tokens"},
	{"T03 number", func(f *file) { f.merges = `7` }, "want an array, have a number"},
	{"T04 clash with a token", func(f *file) { f.added = `{"id":1,"content":"<s>"}` }, `tokens "b" and "<s>" both have the number 1`},
	{"T04 other number than in the vocabulary", func(f *file) { f.added = `{"id":5,"content":"ab"}` }, `added token "ab" has the number 5 here and 2 in the vocabulary`},
	{"T04 clash between two", func(f *file) { f.added += `,{"id":5,"content":"</s>"}` }, `tokens "<s>" and "</s>" both have the number 5`},
	{"T04 negative number", func(f *file) { f.added = `{"id":-5,"content":"<s>"}` }, "has the number -5"},
	{"T04 no number", func(f *file) { f.added = `{"content":"<s>"}` }, `"id" is missing`},
	{"T04 long", func(f *file) { f.added = `{"id":5,"content":"` + strings.Repeat("x", 5000) + `"}` }, "has 5000 bytes, at most 1024"},
	{"T05 catastrophic pattern", func(f *file) { f.pre = splitBy(`(a+)+b`) }, "needs too much time"},
	{"T05 catastrophic alternation", func(f *file) { f.pre = splitBy(`(\\s|\\s\\s)*x`) }, "needs too much time"},
	{"T05 look-behind", func(f *file) { f.pre = splitBy(`(?<=a)b`) }, "looks behind"},
	{"T05 negative look-behind", func(f *file) { f.pre = splitBy(`(?<!a)b`) }, "looks behind"},
	{"T05 long pattern", func(f *file) { f.pre = splitBy(strings.Repeat("a", 1<<20)) }, "has more than 4096 bytes"},
	{"T05 invalid pattern", func(f *file) { f.pre = splitBy(`(a`) }, "is not valid"},
	{"T05 empty pattern", func(f *file) { f.pre = `{"type":"Split","pattern":{"String":""},"behavior":"Isolated"}` }, "wants a non-empty String or a Regex"},
	{"T05 no pattern", func(f *file) { f.pre = `{"type":"Split"}` }, `"pattern" is missing`},
	{"T06 model", func(f *file) { f.model = `"type":"Unigram"` }, `the name "type" is there twice`},
	{"T06 pre-tokenizer", func(f *file) { f.pre = `{"type":"Magic"}` }, `pre_tokenizer: the type "Magic" is not known; known are Sequence, BertPreTokenizer, ByteLevel`},
	{"T06 normalizer", func(f *file) { f.normalizer = `{"type":"Precompiled"}` }, `normalizer: the type "Precompiled" is not known`},
	{"T06 post-processor", func(f *file) { f.post = `{"type":"X"}` }, `post_processor: the type "X" is not known`},
	{"T06 decoder", func(f *file) { f.decoder = `{"type":"WordPiece"}` }, `decoder: the type "WordPiece" is not known`},
	{"T06 no type", func(f *file) { f.decoder = `{}` }, `the type "" is not known`},
	{"T06 behaviour", func(f *file) { f.pre = `{"type":"Punctuation","behavior":"Wild"}` }, `the behavior "Wild" is not known`},
	{"T06 in a sequence", func(f *file) { f.pre = `{"type":"Sequence","pretokenizers":[{"type":"Magic"}]}` }, `"Magic" is not known`},
	{"T08 frame outside the vocabulary", func(f *file) {
		f.post = `{"type":"BertProcessing","cls":["a",0],"sep":["x",99]}`
	}, "adds token 99, but there are 6"},
	{"T08 template outside the vocabulary", func(f *file) {
		f.post = `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}},{"Sequence":{"id":"A"}}],"special_tokens":{"x":{"ids":[6]}}}`
	}, "adds token 6, but there are 6"},
	{"template with an unknown token", func(f *file) {
		f.post = `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}]}`
	}, `names "x", which special_tokens does not hold`},
	{"template with the second text", func(f *file) {
		f.post = `{"type":"TemplateProcessing","single":[{"Sequence":{"id":"B"}}]}`
	}, `names the sequence "B"`},
	{"dropout", func(f *file) { f.model = `"dropout":0.1` }, "makes encoding random"},
	{"unknown token not there", func(f *file) { f.model = `"unk_token":"<none>"` }, `unk_token "<none>" is not in the vocabulary`},
	{"flag as text", func(f *file) { f.model = `"fuse_unk":"yes"` }, "fuse_unk: want true or false, have a string"},
	{"replacement of two characters", func(f *file) { f.pre = `{"type":"Metaspace","replacement":"__"}` }, `replacement is "__", want one character`},
	{"unknown prepend_scheme", func(f *file) { f.pre = `{"type":"Metaspace","prepend_scheme":"often"}` }, `prepend_scheme is "often"`},
	{"delimiter of no characters", func(f *file) { f.pre = `{"type":"CharDelimiterSplit","delimiter":""}` }, "want one character"},
	{"negative strip", func(f *file) { f.decoder = `{"type":"Strip","content":" ","start":-1}` }, "want 0 or more"},
	{"text after the value", func(f *file) { f.merges += `]}}{"x":[{` }, "after the value"},
}

// splitBy returns a Split by a regular expression, given as it is in JSON.
func splitBy(pattern string) string {
	return `{"type":"Split","pattern":{"Regex":"` + pattern + `"},"behavior":"Isolated"}`
}

func TestMalformed(t *testing.T) {
	for _, c := range spoiled {
		t.Run(c.name, func(t *testing.T) {
			f := soundFile
			c.spoil(&f)
			begin := time.Now()
			_, err := Parse("bad.json", []byte(f.String()))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("have %v; want an error with %q", err, c.want)
			}
			if !strings.HasPrefix(err.Error(), "bad.json:") {
				t.Errorf("%v does not begin with the file and the place", err)
			}
			if len(err.Error()) > 600 {
				t.Errorf("the message has %d bytes: %.200s", len(err.Error()), err)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("refusing it took %v", took)
			}
		})
	}
}

func TestMalformedDocuments(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "doc:1:1: want an object, have the end of the text"},
		{"null", "null", "want an object, have null"},
		{"list", "[]", "want an object, have an array"},
		{"no model", "{}", `"model" is missing`},
		{"no vocabulary", `{"model":{"type":"BPE","merges":[]}}`, `"vocab" is missing`},
		{"no merges", `{"model":{"type":"BPE","vocab":{}}}`, `"merges" is missing`},
		{"other model", `{"model":{"type":"Unigram","vocab":[]}}`, `type is "Unigram", only BPE is known`},
		{"Git LFS pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"},
		{"page of a web site", "<!DOCTYPE html><html></html>", "want an object, have no JSON value"},
		{"not UTF-8", "{\"model\":\"\xff\"}", "is not UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("doc", []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("have %v; want an error with %q", err, c.want)
			}
		})
	}
}

// TestTruncated cuts a file off at every byte; none of the parts may load.
func TestTruncated(t *testing.T) {
	whole := soundFile.String()
	for i := range len(whole) {
		_, err := Parse("cut", []byte(whole[:i]))
		var fault *strictjson.Error
		if !errors.As(err, &fault) {
			t.Fatalf("cut at byte %d: have %v", i, err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "tokenizer.json") {
		t.Errorf("a directory without the file: have %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err == nil {
		if _, err := Load(pipe); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("a pipe: have %v", err)
		}
	}
	large := filepath.Join(dir, "large.json")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxFile+1); err != nil {
		t.Skip(err)
	}
	if _, err := Load(large); err == nil || !strings.Contains(err.Error(), "at most 268435456 are read") {
		t.Errorf("T01 a large file: have %v", err)
	}
}

func TestLoadDirectory(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokenizer.json")
	if err := os.WriteFile(path, []byte(soundFile.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, path} {
		if _, err := Load(p); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestChecks(t *testing.T) {
	tok, err := Parse("tok.json", []byte(soundFile.String()))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []int{-1, 6, 1 << 31} { // T08
		err := tok.CheckID("generation_config.json: eos_token_id", id)
		if err == nil || !strings.Contains(err.Error(), "tok.json has the tokens 0 to 5") {
			t.Errorf("token %d: have %v", id, err)
		}
	}
	if err := tok.CheckID("x", 5); err != nil {
		t.Error(err)
	}
	if err := tok.CheckModel(5); err == nil || !strings.Contains(err.Error(), "6 tokens, but the model's vocab_size is 5") {
		t.Errorf("have %v", err)
	}
	if err := tok.CheckModel(6); err != nil {
		t.Error(err)
	}
}

func TestEncodeRefuses(t *testing.T) {
	tok, err := Parse("tok.json", []byte(soundFile.String()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tok.Encode("ab\uFFFD\xff", false); err == nil || !strings.Contains(err.Error(), "not UTF-8 at byte 5") {
		t.Errorf("have %v", err)
	}
	f := soundFile
	f.pre = splitBy(`(?:\\s*z)+y|x(x+x+)+y`) // slow only on texts that the trial at loading lacks
	slow, err := Parse("slow.json", []byte(f.String()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = slow.Encode(strings.Repeat("x", 60), false)
	if err == nil || !strings.Contains(err.Error(), "slow.json: pre_tokenizer: ") {
		t.Errorf("have %v", err)
	}
}
