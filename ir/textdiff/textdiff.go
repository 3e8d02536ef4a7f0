// Package textdiff shows how one text became another, line by line.
//
// In go two texts, out comes a unified diff or nothing. The result depends on
// the texts alone: there is no time limit after which it becomes coarser.
package textdiff

import (
	"fmt"
	"strings"

	"github.com/sergi/go-diff/diffmatchpatch"
)

// Context is the number of unchanged lines shown on either side of a change.
const Context = 3

// line is a line of either text with what happened to it.
type line struct {
	op   diffmatchpatch.Operation
	text string
}

// Unified returns the changes from a to b as a unified diff with the given
// names in its header, or "" when the texts are equal. A missing line end at
// the end of a text is not told from a present one.
func Unified(nameA, nameB, a, b string) string {
	lines := compare(a, b)
	var out strings.Builder
	lineA, lineB, done := 1, 1, 0
	for _, h := range hunks(lines) {
		lineA, lineB = lineA+h.lo-done, lineB+h.lo-done
		if done == 0 && out.Len() == 0 {
			fmt.Fprintf(&out, "--- %s\n+++ %s\n", nameA, nameB)
		}
		countA, countB := sizes(lines[h.lo:h.hi])
		fmt.Fprintf(&out, "@@ -%s +%s @@\n", extent(lineA, countA), extent(lineB, countB))
		for _, l := range lines[h.lo:h.hi] {
			out.WriteString(marks[l.op] + l.text + "\n")
		}
		lineA, lineB, done = lineA+countA, lineB+countB, h.hi
	}
	return out.String()
}

// marks are the first columns of a hunk's lines.
var marks = map[diffmatchpatch.Operation]string{
	diffmatchpatch.DiffEqual: " ", diffmatchpatch.DiffDelete: "-", diffmatchpatch.DiffInsert: "+",
}

// compare returns the lines of both texts in one list.
func compare(a, b string) []line {
	d := diffmatchpatch.New()
	d.DiffTimeout = 0 // the default of 1 s makes the result depend on time
	charsA, charsB, table := d.DiffLinesToRunes(closed(a), closed(b))
	var lines []line
	for _, part := range d.DiffCharsToLines(d.DiffMainRunes(charsA, charsB, false), table) {
		for text := range strings.Lines(part.Text) {
			lines = append(lines, line{part.Type, strings.TrimSuffix(text, "\n")})
		}
	}
	return lines
}

// closed gives a text that is not empty a line end.
func closed(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

type hunk struct{ lo, hi int }

// hunks returns the runs of lines to show: changes with their context, where
// changes whose contexts touch share a hunk.
func hunks(lines []line) []hunk {
	var list []hunk
	for i, l := range lines {
		if l.op == diffmatchpatch.DiffEqual {
			continue
		}
		lo, hi := max(0, i-Context), min(len(lines), i+1+Context)
		if n := len(list); n > 0 && lo <= list[n-1].hi {
			list[n-1].hi = hi
		} else {
			list = append(list, hunk{lo, hi})
		}
	}
	return list
}

// sizes counts the lines of a hunk in either text.
func sizes(lines []line) (a, b int) {
	for _, l := range lines {
		if l.op != diffmatchpatch.DiffInsert {
			a++
		}
		if l.op != diffmatchpatch.DiffDelete {
			b++
		}
	}
	return a, b
}

// extent prints where a hunk lies in one text; an empty one lies after the
// line before it.
func extent(first, count int) string {
	switch count {
	case 0:
		return fmt.Sprintf("%d,0", first-1)
	case 1:
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d,%d", first, count)
}
