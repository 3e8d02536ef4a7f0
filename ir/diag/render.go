package diag

import (
	"fmt"
	"io"
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// Columns of an excerpt: lines that are longer are cut around the caret.
const (
	maxColumns = 100
	leftOfMark = 60
)

// Render writes the diagnostics with the source lines that they point at.
func (l List) Render(w io.Writer) error {
	var text strings.Builder
	for i, d := range l {
		if i > 0 {
			text.WriteByte('\n')
		}
		d.render(&text)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func (d Diagnostic) render(out *strings.Builder) {
	out.WriteString(d.Error() + "\n")
	if d.Line != "" {
		d.excerpt(out)
	}
	for _, n := range d.Notes {
		if n.Pos == (Pos{}) {
			fmt.Fprintf(out, "  note: %s\n", n.Message)
			continue
		}
		fmt.Fprintf(out, "  %s: %s\n", n.Pos, n.Message)
	}
}

// excerpt writes the source line and a second one with the caret.
func (d Diagnostic) excerpt(out *strings.Builder) {
	runes := []rune(d.Line)
	from := min(max(d.Pos.Col-1, 0), len(runes))
	to := min(from+max(d.Width, 1), len(runes))
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
	number := fmt.Sprint(d.Pos.Line)
	fmt.Fprintf(out, "  %s | %s\n  %s | %s\n", number, text.String(), strings.Repeat(" ", len(number)), mark.String())
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
