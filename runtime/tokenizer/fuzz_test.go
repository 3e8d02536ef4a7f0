package tokenizer

import (
	"sync"
	"testing"
)

// FuzzParse checks that a file is refused or gives a tokenizer that works.
func FuzzParse(f *testing.F) {
	f.Add([]byte(soundFile.String()), "ab <s>")
	for _, c := range spoiled {
		spoilt := soundFile
		if c.spoil(&spoilt); len(spoilt.String()) < 1000 {
			f.Add([]byte(spoilt.String()), "a")
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, text string) {
		if len(data) > 4096 || len(text) > 256 {
			return
		}
		tok, err := Parse("fuzz", data)
		if err != nil {
			return
		}
		checkRoundTrip(t, tok, text)
	})
}

// checkRoundTrip checks what holds for every tokenizer and every text.
func checkRoundTrip(t *testing.T, tok *Tokenizer, text string) string {
	ids, err := tok.Encode(text, true)
	if err != nil {
		return ""
	}
	for _, id := range ids {
		if _, ok := tok.Token(id); !ok {
			t.Fatalf("%q gives token %d of %d", text, id, tok.VocabSize())
		}
	}
	whole := tok.Decode(ids, false)
	if got := streamed(t, tok, ids, false); got != whole {
		t.Errorf("streamed %q, decoded %q", got, whole)
	}
	return whole
}

var fuzzShapes = sync.OnceValue(func() map[string]*Tokenizer {
	all := make(map[string]*Tokenizer)
	for _, name := range []string{"gpt2", "llama3", "qwen2", "o200k", "flags", "gemma", "half_fallback", "suffix", "metaspace_first", "removed"} {
		if tok, err := readShapeTokenizer(name); err == nil {
			all[name] = tok
		}
	}
	return all
})

// exact names the shapes whose decoding undoes encoding.
var exact = map[string]bool{"gpt2": true, "llama3": true, "o200k": true}

// FuzzEncode checks encoding and decoding with tokenizers of several shapes.
func FuzzEncode(f *testing.F) {
	for _, text := range []string{"", "Hello, world's 123!\n", " <mask> x<|end|>", "é中🤗\u0301", "▁a  b", "foo_ foo"} {
		f.Add(text)
	}
	if len(fuzzShapes()) != 10 {
		f.Fatalf("have %d shapes, want 10", len(fuzzShapes()))
	}
	f.Fuzz(func(t *testing.T, text string) {
		for name, tok := range fuzzShapes() {
			whole := checkRoundTrip(t, tok, text)
			plain, err := tok.Encode(text, false)
			if err == nil && exact[name] && tok.Decode(plain, false) != text {
				t.Errorf("%s: %q comes back as %q", name, text, whole)
			}
		}
	})
}
