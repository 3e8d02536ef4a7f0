package tokenizer

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// unicodeForm is one of Unicode's normalisation forms.
//
// Package norm decides whether text has the form already, which is the usual
// case. Text that does not is normalised here, since norm differs from the
// standard in two ways: it breaks up runs of more than 30 marks with U+034F
// (UAX 15, stream-safe text), and it joins letter and accent across a vowel
// sign that blocks them, as in U+006F U+09BE U+0301.
type unicodeForm struct {
	form      norm.Form
	decompose norm.Form // the form's decomposition only
	compose   bool
}

var (
	nfc  = unicodeForm{norm.NFC, norm.NFD, true}
	nfd  = unicodeForm{norm.NFD, norm.NFD, false}
	nfkc = unicodeForm{norm.NFKC, norm.NFKD, true}
	nfkd = unicodeForm{norm.NFKD, norm.NFKD, false}
)

// apply returns text in the form.
func (u unicodeForm) apply(text string) string {
	if u.form.IsNormalString(text) {
		return text
	}
	return u.rewrite(text)
}

// rewrite is apply for text that does not have the form.
func (u unicodeForm) rewrite(text string) string {
	marks := u.decomposed(text)
	if u.compose {
		marks = composed(marks)
	}
	out := make([]rune, len(marks))
	for i, m := range marks {
		out[i] = m.char
	}
	return string(out)
}

// marked is a character with its canonical combining class, 0 for a starter.
type marked struct {
	char  rune
	class uint8
}

// decomposed returns the decomposition with marks in canonical order.
func (u unicodeForm) decomposed(text string) []marked {
	out := make([]marked, 0, len(text))
	for i, c := range text {
		if c < utf8.RuneSelf {
			out = append(out, marked{c, 0})
			continue
		}
		// Alone, a character is far from norm's limit on runs of marks.
		for _, part := range u.decompose.String(text[i : i+utf8.RuneLen(c)]) {
			out = append(out, marked{part, norm.NFD.PropertiesString(string(part)).CCC()})
		}
	}
	for begin := 0; begin < len(out); begin++ {
		end := begin
		for end < len(out) && out[end].class != 0 {
			end++
		}
		slices.SortStableFunc(out[begin:end], func(a, b marked) int { return int(a.class) - int(b.class) })
		begin = end
	}
	return out
}

// composed joins each starter with the marks after it that are not blocked
// (Unicode 15, section 3.11, D115 and D117).
func composed(decomposed []marked) []marked {
	var out []marked
	starter := -1  // place of the last starter in out
	blocking := -1 // class of what was last put after the starter; -1 for nothing
	for _, m := range decomposed {
		if starter >= 0 && blocking < int(m.class) {
			if pair, ok := composePair(out[starter].char, m.char); ok {
				out[starter].char = pair
				continue
			}
		}
		if m.class == 0 {
			starter, blocking = len(out), -1
		} else {
			blocking = int(m.class)
		}
		out = append(out, m)
	}
	return out
}

// composePair returns the single character that two compose to.
func composePair(a, b rune) (rune, bool) {
	if b < 0x300 {
		return 0, false // no character below composes with the one before it
	}
	both := norm.NFC.String(string([]rune{a, b}))
	c, size := utf8.DecodeRuneInString(both)
	return c, size == len(both)
}
