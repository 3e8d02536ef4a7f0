package diag

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// Source returns the text of a file, or nil when it is not at hand.
type Source func(file string) []byte

// OneFile is the Source of a single text.
func OneFile(name string, text []byte) Source {
	return func(file string) []byte {
		if file == name {
			return text
		}
		return nil
	}
}

// Columns of an excerpt: lines that are longer are cut around the caret.
const (
	maxColumns = 100
	leftOfMark = 60
)

// Render writes the diagnostics with the source lines that they point at.
func (l List) Render(w io.Writer, src Source) error {
	r := renderer{src: src, lines: map[string][]string{}}
	for i, d := range l {
		if i > 0 {
			r.text.WriteByte('\n')
		}
		r.diagnostic(d)
	}
	_, err := io.WriteString(w, r.text.String())
	return err
}

// renderer keeps the files that were split into lines.
type renderer struct {
	src   Source
	lines map[string][]string
	text  strings.Builder
}

func (r *renderer) diagnostic(d Diagnostic) {
	r.text.WriteString(d.Error() + "\n")
	r.excerpt(d.Pos, d.Width)
	for _, n := range d.Notes {
		if n.Pos == (Pos{}) {
			fmt.Fprintf(&r.text, "  note: %s\n", n.Message)
			continue
		}
		fmt.Fprintf(&r.text, "  %s: %s\n", n.Pos, n.Message)
	}
}

// line returns a source line and whether it is known.
func (r *renderer) line(p Pos) (string, bool) {
	lines, ok := r.lines[p.File]
	if !ok && r.src != nil {
		if text := r.src(p.File); text != nil {
			lines = strings.Split(string(text), "\n")
		}
		r.lines[p.File] = lines
	}
	if p.Line < 1 || p.Line > len(lines) {
		return "", false
	}
	return strings.TrimSuffix(lines[p.Line-1], "\r"), true
}

// excerpt writes a source line and a second one with the caret.
func (r *renderer) excerpt(p Pos, count int) {
	line, ok := r.line(p)
	if !ok {
		return
	}
	runes := []rune(line)
	from := min(max(p.Col-1, 0), len(runes))
	to := min(from+max(count, 1), len(runes))
	lo, hi := window(runes, from)
	var text, mark strings.Builder
	if lo > 0 {
		text.WriteString("...")
		mark.WriteString("   ")
	}
	for _, c := range runes[lo:from] {
		text.WriteString(shown(c))
		mark.WriteString(blank(c))
	}
	mark.WriteByte('^')
	columns := 0
	for i, c := range runes[from:hi] {
		text.WriteString(shown(c))
		if from+i < to {
			columns += columnsOf(c)
		}
	}
	mark.WriteString(strings.Repeat("~", max(columns-1, 0)))
	if hi < len(runes) {
		text.WriteString("...")
	}
	number := fmt.Sprint(p.Line)
	fmt.Fprintf(&r.text, "  %s | %s\n  %s | %s\n", number, text.String(), strings.Repeat(" ", len(number)), mark.String())
}

// window returns the runes of a line that are shown.
func window(runes []rune, from int) (lo, hi int) {
	if from > leftOfMark {
		lo = from - leftOfMark
	}
	columns := 0
	for hi = lo; hi < len(runes) && columns < maxColumns; hi++ {
		columns += columnsOf(runes[hi])
	}
	return lo, hi
}

// shown makes a rune safe for a terminal.
func shown(c rune) string {
	if c != '\t' && !unicode.IsPrint(c) {
		return "?"
	}
	return string(c)
}

// blank is what keeps the caret below its rune.
func blank(c rune) string {
	if c == '\t' {
		return "\t"
	}
	return strings.Repeat(" ", columnsOf(c))
}

// columnsOf returns how many terminal columns a rune takes.
func columnsOf(c rune) int {
	if unicode.In(c, unicode.Mn, unicode.Me) {
		return 0
	}
	switch width.LookupRune(c).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}
