// Package diag holds source positions and the diagnostics that point at them.
//
// In go what is wrong and the source text; out comes text with an excerpt and
// a caret, or JSON. It renders; it never decides whether something is wrong,
// and reads no files.
package diag

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Pos is a place in a source file. Line and Col count from 1, Col in runes;
// the zero Pos means that no place is known.
type Pos struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Col  int    `json:"col,omitempty"`
}

// String prints "file:line:col", or "-" for the zero Pos.
func (p Pos) String() string {
	if p == (Pos{}) {
		return "-"
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}

// Compare orders positions by file, line and column.
func (p Pos) Compare(q Pos) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Col, q.Col))
}

// Note says where something that a diagnostic mentions comes from, or what to
// do about it; then its Pos is zero.
type Note struct {
	Pos     Pos    `json:"pos,omitzero"`
	Message string `json:"message"`
}

// Diagnostic is one thing that is wrong in a source file.
type Diagnostic struct {
	Pos Pos `json:"pos,omitzero"`
	// Width is how many runes from Pos on are meant; 0 and 1 mean one.
	Width   int    `json:"width,omitempty"`
	Message string `json:"message"`
	Notes   []Note `json:"notes,omitempty"`
	// Line is the source line that Pos is on, see Quote.
	Line string `json:"line,omitempty"`
}

// Error implements error: position and message on one line.
func (d Diagnostic) Error() string {
	if d.Pos == (Pos{}) {
		return d.Message
	}
	return d.Pos.String() + ": " + d.Message
}

// Noted returns d with one more note.
func (d Diagnostic) Noted(at Pos, format string, args ...any) Diagnostic {
	d.Notes = append(slices.Clip(d.Notes), Note{Pos: at, Message: fmt.Sprintf(format, args...)})
	return d
}

// List is several diagnostics.
type List []Diagnostic

// Add appends a diagnostic.
func (l *List) Add(d Diagnostic) { *l = append(*l, d) }

// Addf appends a diagnostic without notes.
func (l *List) Addf(at Pos, width int, format string, args ...any) {
	l.Add(Diagnostic{Pos: at, Width: width, Message: fmt.Sprintf(format, args...)})
}

// Quote gives each diagnostic about a file the source line that it is about.
func (l List) Quote(file string, text []byte) {
	lines := strings.Split(string(text), "\n")
	for i := range l {
		if n := l[i].Pos.Line; l[i].Pos.File == file && n >= 1 && n <= len(lines) {
			l[i].Line = strings.ToValidUTF8(strings.TrimSuffix(lines[n-1], "\r"), "?")
		}
	}
}

// Err returns the list as an error, or nil when it is empty.
func (l List) Err() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// Error implements error: one line for each diagnostic, without excerpts.
func (l List) Error() string {
	lines := make([]string, len(l))
	for i, d := range l {
		lines[i] = d.Error()
	}
	return strings.Join(lines, "\n")
}

// Sort orders the list by position and drops diagnostics that say the same
// about the same place.
func (l *List) Sort() {
	slices.SortStableFunc(*l, func(a, b Diagnostic) int { return a.Pos.Compare(b.Pos) })
	*l = slices.CompactFunc(*l, func(a, b Diagnostic) bool { return a.Pos == b.Pos && a.Message == b.Message })
}
