package generate

import "strings"

// holder keeps back text that may be the beginning of a stop string.
type holder struct {
	text  Text
	stops []string
	kept  string
}

// add returns the text that a token releases, and whether a stop string ended
// the sequence: then the text is what came before it.
func (h *holder) add(token int) (string, bool) {
	if h.text == nil {
		return "", false
	}
	h.kept += h.text.Add(token)
	if at := h.stopAt(); at >= 0 {
		out := h.kept[:at]
		h.kept = ""
		return out, true
	}
	keep := 0
	for _, s := range h.stops {
		for n := min(len(s)-1, len(h.kept)); n > keep; n-- {
			if strings.HasSuffix(h.kept, s[:n]) {
				keep = n
				break
			}
		}
	}
	out := h.kept[:len(h.kept)-keep]
	h.kept = h.kept[len(h.kept)-keep:]
	return out, false
}

// stopAt returns where the first stop string begins, or -1.
func (h *holder) stopAt() int {
	first := -1
	for _, s := range h.stops {
		if i := strings.Index(h.kept, s); s != "" && i >= 0 && (first < 0 || i < first) {
			first = i
		}
	}
	return first
}

// flush returns all text that is left.
func (h *holder) flush() string {
	if h.text == nil {
		return ""
	}
	out := h.kept + h.text.Flush()
	h.kept = ""
	if at := (&holder{stops: h.stops, kept: out}).stopAt(); at >= 0 {
		out = out[:at]
	}
	return out
}
