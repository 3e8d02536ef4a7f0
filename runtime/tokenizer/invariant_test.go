package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// streamed decodes ids token by token and checks that every part is whole.
func streamed(t testing.TB, tok *Tokenizer, ids []int, skip bool) string {
	t.Helper()
	s := tok.NewStream(skip)
	var all strings.Builder
	for _, id := range ids {
		part := s.Add(id)
		if !utf8.ValidString(part) {
			t.Errorf("token %d of %v gives the broken part %q", id, ids, part)
		}
		all.WriteString(part)
	}
	all.WriteString(s.Flush())
	return all.String()
}

// TestStreamsAgree checks the parts against the recorded whole, which Decode,
// being made of a stream itself, cannot show.
func TestStreamsAgree(t *testing.T) {
	for _, ref := range references {
		tok, cases := ref.read(t)
		for _, c := range cases {
			if got := streamed(t, tok, c.IDsSpecial, true); got != c.DecodedSkip {
				t.Fatalf("%s %.60q: have %.200q, want %.200q", ref.name, c.Text, got, c.DecodedSkip)
			}
		}
	}
	readShapes(t, func(name string, tok *Tokenizer, s shape) {
		for _, d := range s.Decodes {
			if got := streamed(t, tok, d.IDs, false); got != d.Decoded {
				t.Errorf("%s %v: have %q, want %q", name, d.IDs, got, d.Decoded)
			}
		}
	})
}

// TestStreamIsPrompt checks that a character is shown with its last token.
func TestStreamIsPrompt(t *testing.T) {
	tok, _ := references[2].read(t)
	ids, err := tok.Encode("a 😀!", false)
	if err != nil {
		t.Fatal(err)
	}
	s := tok.NewStream(false)
	var parts []string
	for _, id := range ids {
		parts = append(parts, s.Add(id))
	}
	if got := strings.Join(parts, ""); got != "a 😀!" {
		t.Errorf("before the flush have %q of %v", parts, ids)
	}
}

// TestByteLevelKeepsText checks that byte-level decoding undoes encoding, up to
// the normalizer.
func TestByteLevelKeepsText(t *testing.T) {
	tok, cases := references[2].read(t)
	for _, c := range cases {
		ids, err := tok.Encode(c.Text, false)
		if err != nil {
			t.Fatal(err)
		}
		if want := norm.NFC.String(c.Text); c.Category != "raw-combining" && tok.Decode(ids, false) != want {
			t.Errorf("%.80q: have %.80q", want, tok.Decode(ids, false))
		}
	}
}

func TestUnknownNumbersAreLeftOut(t *testing.T) {
	tok, _ := references[2].read(t)
	if got := tok.Decode([]int{-1, 1 << 40, 64, tok.VocabSize()}, false); got != tok.Decode([]int{64}, false) {
		t.Errorf("have %q", got)
	}
}

// alphabet holds characters of all the classes that patterns distinguish.
var alphabet = []rune("aAzeE's'tTrvemlLdDſ09²٣ \u00a0\u3000\t\n\r!?.-_\u0301\u0903é中あ🤗\u200d<|>▁Ⅷǅʰ")

func randomText(rng *rand.Rand, n int) string {
	out := make([]rune, rng.IntN(n))
	for i := range out {
		out[i] = alphabet[rng.IntN(len(alphabet))]
		if i > 0 && rng.IntN(3) == 0 {
			out[i] = out[i-1]
		}
	}
	return string(out)
}

// TestScannersAgree compares the hand-written scanners with the engine running
// the same patterns.
func TestScannersAgree(t *testing.T) {
	_, cases := references[2].read(t)
	var texts []string
	for _, c := range cases {
		if len(c.Text) < 2000 {
			texts = append(texts, c.Text)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		texts = append(texts, randomText(rng, 24))
	}
	for pattern, scan := range knownPatterns {
		engine, err := newRegexMatcher(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range texts {
			want, err := engine(text, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := scan(text, nil); !slices.Equal(got, want) {
				t.Fatalf("%.30s on %q: have %v, want %v", pattern, text, got, want)
			}
		}
	}
}

// naiveMerge is byte-pair encoding by its definition.
func naiveMerge(m *bpe, tokens []int32) []int32 {
	for {
		best, at := joined{rank: 1 << 30}, -1
		for i := range len(tokens) - 1 {
			if pair, ok := m.merges[pairKey(tokens[i], tokens[i+1])]; ok && pair.rank < best.rank {
				best, at = pair, i
			}
		}
		if at < 0 {
			return tokens
		}
		tokens[at] = best.token
		tokens = slices.Delete(tokens, at+1, at+2)
	}
}

func TestHeapMergeIsThePlainOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, ref := range references {
		tok, _ := ref.read(t)
		var work merger
		for range 300 {
			word := randomText(rng, 60)
			tok.model.spell(word, &work)
			var plain []int32
			for _, s := range work.symbols {
				plain = append(plain, s.token)
			}
			plain = naiveMerge(tok.model, plain)
			var got []int32
			for _, id := range tok.model.encode(nil, word, &work) {
				got = append(got, int32(id))
			}
			if !slices.Equal(got, plain) {
				t.Fatalf("%s %q: have %v, want %v", ref.name, word, got, plain)
			}
		}
	}
}

// TestLongWord would not end within the test's time if merging were quadratic:
// for Mixtral's tokenizer the whole text is one word.
func TestLongWord(t *testing.T) {
	for _, ref := range references {
		tok, _ := ref.read(t)
		for _, unit := range []string{"a", "ab ", "é", " ", "\n", "<"} {
			text := strings.Repeat(unit, 150000/len(unit))
			if ids, err := tok.Encode(text, false); err != nil || len(ids) == 0 {
				t.Errorf("%s %q: %d tokens, %v", ref.name, unit, len(ids), err)
			}
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	tok, cases := references[2].read(t)
	var wait sync.WaitGroup
	for worker := range 4 {
		wait.Go(func() {
			for i := worker; i < len(cases); i += 7 {
				checkEncoding(t, tok, i, cases[i])
			}
		})
	}
	wait.Wait()
}

// TestUnicodeForms checks own normalisation against package norm on texts on
// which that follows the standard.
func TestUnicodeForms(t *testing.T) {
	marks := []rune("\u0300\u0301\u0315\u0323\u05ae\u0345\u3099")
	letters := []rune("aeEIoqzÅﬁ각ᄀ\u1161\u11a8한가\u0915\u093c①\u212b\u1e9b")
	rng := rand.New(rand.NewPCG(5, 6))
	for _, u := range []unicodeForm{nfc, nfd, nfkc, nfkd} {
		for range 2000 {
			var out []rune
			for range rng.IntN(12) {
				set := marks
				if rng.IntN(2) == 0 {
					set = letters
				}
				out = append(out, set[rng.IntN(len(set))])
			}
			text := string(out)
			if got, want := u.rewrite(text), u.form.String(text); got != want {
				t.Fatalf("form %d of %+q: have %+q, want %+q", u.form, text, got, want)
			}
		}
	}
}

// TestUnicodeFormsOfRareTexts has what package norm gets wrong or what composes
// without a mark.
func TestUnicodeFormsOfRareTexts(t *testing.T) {
	for _, c := range []struct{ text, nfc string }{
		{"o\u09be\u05ae\u0301", "o\u09be\u05ae\u0301"},
		{"\u09c7\u09be", "\u09cb"},
		{"\U00011099\U000110ba", "\U0001109a"},
		{"\u1100\u1161\u11a8", "각"},
		{"\u0958", "\u0915\u093c"}, // excluded from composition
		{"\u0301\u0300", "\u0301\u0300"},
		{"a\u0323\u0301", "\u1ea1\u0301"},
		{"a\u0301\u0323", "\u1ea1\u0301"},
	} {
		if got := nfc.apply(c.text); got != c.nfc {
			t.Errorf("%+q: have %+q, want %+q", c.text, got, c.nfc)
		}
	}
}

func TestLongRunsOfMarksStay(t *testing.T) {
	text := "e" + strings.Repeat("\u0301", 100)
	if got, want := nfc.apply(text), "é"+strings.Repeat("\u0301", 99); got != want {
		t.Errorf("have %+q", got)
	}
	if got := nfd.apply("é" + strings.Repeat("\u0301", 99)); got != text {
		t.Errorf("have %+q", got)
	}
}

func TestSettle(t *testing.T) {
	for _, c := range []struct{ data, text, rest string }{
		{"abc", "abc", ""},
		{"a\xe4\xb8", "a", "\xe4\xb8"},
		{"\xe4\xb8\xad\xf0\x9f", "中", "\xf0\x9f"},
		{"\xff\xfea", "\ufffd\ufffda", ""},
		{"\xe4\xb8a", "\ufffda", ""},                // a broken character is one
		{"\xf0\x9f\x98\xe4\xb8\xad", "\ufffd中", ""}, // up to three bytes of it
		{"\xe0\x80a", "\ufffd\ufffda", ""},          // E0 cannot be followed by 80
		{"\xed\xa0\x80", "\ufffd\ufffd\ufffd", ""},
		{"\xc0\xaf", "\ufffd\ufffd", ""},
	} {
		if text, rest := settle([]byte(c.data)); text != c.text || string(rest) != c.rest {
			t.Errorf("%q: have %q and %q, want %q and %q", c.data, text, rest, c.text, c.rest)
		}
	}
}

func TestFinder(t *testing.T) {
	f := newFinder()
	for i, text := range []string{"<a>", "<a>b", "a>", "<", "xy"} {
		f.add(text, addedToken{content: text, id: i, singleWord: text == "xy"})
	}
	var got []string
	text := "xy<a>b <a>xy<<a xya> xy"
	f.scan(text, func(id int, begin, end int) bool {
		got = append(got, text[begin:end])
		return true
	})
	want := []string{"xy", "<a>b", " ", "<a>", "xy", "<", "<", "a xy", "a>", " ", "xy"}
	if !slices.Equal(got, want) {
		t.Errorf("have %q, want %q", got, want)
	}
}
