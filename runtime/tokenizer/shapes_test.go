package tokenizer

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
)

// shape is a file of testdata/shapes.
type shape struct {
	Tokenizer json.RawMessage // absent where the tokenizer is a file of its own
	Cases     []encodedCase
	Decodes   []struct {
		IDs         []int `json:"ids"`
		Decoded     string
		DecodedSkip string `json:"decoded_skip"`
	}
}

// readShapes returns all shapes with their tokenizers by name.
func readShapes(t testing.TB, visit func(name string, tok *Tokenizer, s shape)) {
	t.Helper()
	files, err := filepath.Glob("testdata/shapes/*.json.gz")
	if err != nil || len(files) < 20 {
		t.Fatalf("have %d shapes, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json.gz")
		s, err := readShape(name)
		if err != nil {
			t.Fatal(err)
		}
		tok, err := shapeTokenizer(name, s)
		if err != nil {
			t.Fatal(err)
		}
		visit(name, tok, s)
	}
}

func readShape(name string) (s shape, err error) {
	data, err := unzip("testdata/shapes/" + name + ".json.gz")
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	return s, err
}

func readShapeTokenizer(name string) (*Tokenizer, error) {
	s, err := readShape(name)
	if err != nil {
		return nil, err
	}
	return shapeTokenizer(name, s)
}

func shapeTokenizer(name string, s shape) (*Tokenizer, error) {
	if s.Tokenizer != nil {
		return Parse(name, s.Tokenizer)
	}
	for _, ref := range references {
		if strings.ReplaceAll(ref.tokenizer, "/", "_") == name+".json.gz" {
			return ref.load()
		}
	}
	return nil, nil
}

func TestShapes(t *testing.T) {
	readShapes(t, func(name string, tok *Tokenizer, s shape) {
		t.Run(name, func(t *testing.T) {
			for i, c := range s.Cases {
				checkEncoding(t, tok, i, c)
			}
			for i, d := range s.Decodes {
				if got := tok.Decode(d.IDs, false); got != d.Decoded {
					t.Errorf("decode %d %v: have %q, want %q", i, d.IDs, got, d.Decoded)
				}
				if got := tok.Decode(d.IDs, true); got != d.DecodedSkip {
					t.Errorf("decode %d %v, skipping: have %q, want %q", i, d.IDs, got, d.DecodedSkip)
				}
			}
		})
	})
}
