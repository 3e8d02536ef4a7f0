package tokenizer

import (
	"strings"
	"testing"
)

// prose is a text of about 100 KB with words, numbers, code and several scripts.
var prose = strings.Repeat("The quick brown fox, 1234 times; it's l'été à Paris — 東京の天気は晴れ。\n\tfor i := 0; i < n; i++ { sum += a[i] }\n", 900)

func BenchmarkLoad(b *testing.B) {
	for _, ref := range references {
		data, err := unzip("testdata/" + ref.tokenizer)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(strings.ReplaceAll(ref.name, " ", "-"), func(b *testing.B) {
			for b.Loop() {
				if _, err := Parse(ref.name, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, ref := range references {
		tok, err := ref.load()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(strings.ReplaceAll(ref.name, " ", "-"), func(b *testing.B) {
			b.SetBytes(int64(len(prose)))
			for b.Loop() {
				if _, err := tok.Encode(prose, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	for _, s := range []struct {
		name string
		scan matcher
	}{{"gpt2", scanGPT2}, {"qwen", knownPatterns[patternQwen35]}} {
		b.Run(s.name, func(b *testing.B) {
			b.SetBytes(int64(len(prose)))
			var out []span
			for b.Loop() {
				out, _ = s.scan(prose, out[:0])
			}
		})
	}
}
