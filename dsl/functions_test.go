package dsl

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestReference checks that docs/language.md has the line of every function,
// and shows every word of the language.
func TestReference(t *testing.T) {
	data, err := os.ReadFile("../docs/language.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, group := range [][]function{tensorFunctions, attentionFunctions, expertFunctions, numberFunctions} {
		for _, f := range group {
			if line := fmt.Sprintf("| `%s(%s)` | %s |", f.name, signature(f.params), f.doc); !strings.Contains(text, line) {
				t.Errorf("docs/language.md lacks\n%s", line)
			}
		}
	}
	for word := range strings.SplitSeq(keywords, "|") {
		if !strings.Contains(text, word) {
			t.Errorf("docs/language.md lacks the word %s", word)
		}
	}
	for name := range activationNames {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("docs/language.md lacks the activation %s", name)
		}
	}
	for name := range kinds {
		if !strings.Contains(text, "| `"+name+"` |") {
			t.Errorf("docs/language.md lacks the kind %s", name)
		}
	}
}

// TestDidYouMean checks which names are suggested.
func TestDidYouMean(t *testing.T) {
	names := []string{"hidden", "heads", "head_dim", "ffn", "x"}
	tests := map[string]string{
		"hiden": "hidden", "hidden_": "hidden", "haeds": "heads", "hed_dim": "head_dim", "fnf": "ffn",
		"y": "", "layers": "", "q": "", strings.Repeat("h", 1000): "",
	}
	for word, want := range tests {
		if want != "" {
			want = "; did you mean " + want + "?"
		}
		if got := didYouMean(word, names); got != want {
			t.Errorf("didYouMean(%.20q) = %q, want %q", word, got, want)
		}
	}
}
