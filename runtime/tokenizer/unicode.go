package tokenizer

import (
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"
)

// unicodeForm is one of Unicode's normalisation forms.
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

// streamSafe is the longest run of combining marks that package norm keeps: it
// breaks longer ones up with U+034F (UAX 15, stream-safe text), which neither
// the standard forms nor the reference tokenizers do.
const streamSafe = 30

// apply returns text in the form.
func (u unicodeForm) apply(text string) string {
	if !u.longRun(text) {
		return u.form.String(text)
	}
	runes := u.decomposed(text)
	if u.compose {
		runes = composed(runes)
	}
	return string(runes)
}

// longRun reports whether text may hold a run of marks that package norm would
// break up. It counts marks after decomposition, as norm does.
func (u unicodeForm) longRun(text string) bool {
	run := 0
	for i := 0; i < len(text); {
		if text[i] < 0x80 {
			run = 0
			i++
			continue
		}
		p := u.decompose.PropertiesString(text[i:])
		switch {
		case p.CCC() != 0:
			run += max(1, len([]rune(string(p.Decomposition()))))
		case p.TrailCCC() != 0:
			run = len([]rune(string(p.Decomposition())))
		default:
			run = 0
		}
		if run > streamSafe-4 {
			return true // near the limit: no character decomposes to more marks
		}
		i += p.Size()
	}
	return false
}

// decomposed returns the decomposition with marks in canonical order.
func (u unicodeForm) decomposed(text string) []rune {
	var runes []rune
	for _, c := range text {
		// Alone, a character is far from the limit on runs.
		runes = append(runes, []rune(u.decompose.String(string(c)))...)
	}
	for i := 0; i < len(runes); {
		end := i + 1
		for end < len(runes) && combining(runes[end]) != 0 {
			end++
		}
		first := i
		if combining(runes[i]) == 0 {
			first++
		}
		slices.SortStableFunc(runes[first:end], func(a, b rune) int {
			return int(combining(a)) - int(combining(b))
		})
		i = end
	}
	return runes
}

// combining returns the canonical combining class.
func combining(c rune) uint8 {
	return norm.NFD.PropertiesString(string(c)).CCC()
}

// composed joins each starter with the marks after it that are not blocked
// (UAX 15, section 1.3).
func composed(runes []rune) []rune {
	starter := -1  // place of the last starter in the output
	blocking := -1 // class of what was last put after the starter; -1 for nothing
	var out []rune
	for _, c := range runes {
		class := int(combining(c))
		if starter >= 0 && blocking < class {
			if pair, ok := composePair(out[starter], c); ok {
				out[starter] = pair
				continue
			}
		}
		if class == 0 {
			starter, blocking = len(out), -1
		} else {
			blocking = class
		}
		out = append(out, c)
	}
	return out
}

// composePair returns the single character that two compose to.
func composePair(a, b rune) (rune, bool) {
	var both strings.Builder
	both.WriteRune(a)
	both.WriteRune(b)
	runes := []rune(norm.NFC.String(both.String()))
	if len(runes) == 1 {
		return runes[0], true
	}
	return 0, false
}
