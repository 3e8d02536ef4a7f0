// Package diag holds source positions and the diagnostics that point at them.
//
// It renders; it never decides whether something is wrong.
package diag

import "fmt"

// Pos is a place in a source file. Line and Col count from 1, Col in runes;
// the zero Pos means that no place is known.
type Pos struct {
	File string
	Line int
	Col  int
}

// String prints "file:line:col", or "-" for the zero Pos.
func (p Pos) String() string {
	if p == (Pos{}) {
		return "-"
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col)
}
