package tokenizer

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
)

// reference is a tokenizer with strings that the reference library encoded and
// decoded; testdata/README.md says how they were made.
type reference struct {
	name, tokenizer, cases string
	load                   func() (*Tokenizer, error)
}

var references = []reference{
	newReference("mixtral", "mixtral/tokenizer.json.gz", "mixtral/cases.json.gz"),
	newReference("mixtral metaspace", "mixtral/tokenizer_metaspace.json.gz", "mixtral/cases_metaspace.json.gz"),
	newReference("qwen", "qwen/tokenizer.json.gz", "qwen/cases.json.gz"),
}

func newReference(name, tokenizer, cases string) reference {
	return reference{name, tokenizer, cases, sync.OnceValues(func() (*Tokenizer, error) {
		data, err := unzip("testdata/" + tokenizer)
		if err != nil {
			return nil, err
		}
		return Parse(tokenizer, data)
	})}
}

func unzip(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	plain, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(plain)
}

// encodedCase is one string with what the reference makes of it.
type encodedCase struct {
	Category       string
	Text           string
	IDs            []int  `json:"ids"`
	IDsSpecial     []int  `json:"ids_special"`
	Decoded        string // of IDs
	DecodedSpecial string `json:"decoded_special"` // of IDsSpecial
	DecodedSkip    string `json:"decoded_skip"`    // of IDsSpecial without special tokens
}

func (ref reference) read(t testing.TB) (*Tokenizer, []encodedCase) {
	t.Helper()
	tok, err := ref.load()
	if err != nil {
		t.Fatal(err)
	}
	data, err := unzip("testdata/" + ref.cases)
	if err != nil {
		t.Fatal(err)
	}
	var cases []encodedCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	return tok, cases
}

func TestReferenceCases(t *testing.T) {
	for _, ref := range references {
		t.Run(ref.name, func(t *testing.T) {
			tok, cases := ref.read(t)
			if len(cases) != 545 {
				t.Fatalf("have %d cases, want 545", len(cases))
			}
			for i, c := range cases {
				checkEncoding(t, tok, i, c)
			}
		})
	}
}

func checkEncoding(t *testing.T, tok *Tokenizer, i int, c encodedCase) {
	t.Helper()
	for _, e := range []struct {
		what       string
		addSpecial bool
		want       []int
	}{{"ids", false, c.IDs}, {"ids_special", true, c.IDsSpecial}} {
		got, err := tok.Encode(c.Text, e.addSpecial)
		if err != nil || !slices.Equal(got, e.want) {
			t.Errorf("case %d (%s) %.80q: %s: have %v, %v; want %v", i, c.Category, c.Text, e.what, clip(got), err, clip(e.want))
		}
	}
	for _, d := range []struct {
		what string
		ids  []int
		skip bool
		want string
	}{
		{"decoded", c.IDs, false, c.Decoded},
		{"decoded_special", c.IDsSpecial, false, c.DecodedSpecial},
		{"decoded_skip", c.IDsSpecial, true, c.DecodedSkip},
	} {
		if got := tok.Decode(d.ids, d.skip); got != d.want {
			t.Errorf("case %d (%s): %s: have %.200q, want %.200q", i, c.Category, d.what, got, d.want)
		}
	}
}

func clip(ids []int) []int { return ids[:min(len(ids), 40)] }
