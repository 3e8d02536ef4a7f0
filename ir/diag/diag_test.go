package diag

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// render returns what a list looks like on a terminal.
func render(t *testing.T, l List) string {
	t.Helper()
	var out strings.Builder
	if err := l.Render(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func at(line, col int) Pos { return Pos{File: "f.moe", Line: line, Col: col} }

// TestRender compares excerpts and carets.
func TestRender(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"plain", "a = bcd + e", "f.moe:1:5: wrong\n  1 | a = bcd + e\n    |     ^~~\n"},
		{"end of line", "a =", "f.moe:1:5: wrong\n  1 | a =\n    |    ^\n"},
		{"tabs", "\ta\t\tbcd", "f.moe:1:5: wrong\n  1 | \ta\t\tbcd\n    | \t \t\t^~~\n"},
		{"wide runes", "寿司 =寿司寿", "f.moe:1:5: wrong\n  1 | 寿司 =寿司寿\n    |       ^~~~~~\n"},
		{"combining marks", "ae\u0301a=bcd", "f.moe:1:5: wrong\n  1 | ae\u0301a=bcd\n    |    ^~~\n"},
		{"control characters", "a\x1b\x07=bcd", "f.moe:1:5: wrong\n  1 | a??=bcd\n    |     ^~~\n"},
		{"carriage return", "a = bcd\r", "f.moe:1:5: wrong\n  1 | a = bcd\n    |     ^~~\n"},
		{"not UTF-8", "a = \xffcd", "f.moe:1:5: wrong\n  1 | a = ?cd\n    |     ^~~\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := List{{Pos: at(1, 5), Width: 3, Message: "wrong"}}
			l.Quote("f.moe", []byte(test.text))
			if got := render(t, l); got != test.want {
				t.Errorf("got\n%q\nwant\n%q", got, test.want)
			}
		})
	}
}

// TestRenderLong checks that long lines are cut around the caret.
func TestRenderLong(t *testing.T) {
	l := List{{Pos: at(1, 500), Message: "wrong"}}
	l.Quote("f.moe", []byte(strings.Repeat("x", 499)+"Y"+strings.Repeat("z", 500)))
	lines := strings.Split(render(t, l), "\n")
	if caret, mark := strings.Index(lines[1], "Y"), strings.Index(lines[2], "^"); caret < 0 || caret != mark || len(lines[1]) > maxColumns+20 {
		t.Errorf("the caret is at %d, the mistake at %d:\n%s\n%s", mark, caret, lines[1], lines[2])
	}
}

// TestNotes checks notes, several diagnostics and what has no place.
func TestNotes(t *testing.T) {
	l := List{
		Diagnostic{Pos: at(2, 1), Message: "first"}.Noted(at(1, 3), "from %s", "here").Noted(Pos{}, "do that"),
		{Message: "nowhere"},
	}
	l.Quote("f.moe", []byte("one\ntwo"))
	want := "f.moe:2:1: first\n  2 | two\n    | ^\n  f.moe:1:3: from here\n  note: do that\n\nnowhere\n"
	if got := render(t, l); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := l.Error(), "f.moe:2:1: first\nnowhere"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
}

// TestQuote checks that lines of other files, and lines that do not exist, are
// not quoted.
func TestQuote(t *testing.T) {
	l := List{{Pos: at(3, 1)}, {Pos: Pos{File: "g.moe", Line: 1, Col: 1}}, {}}
	l.Quote("f.moe", []byte("one\ntwo"))
	for _, d := range l {
		if d.Line != "" {
			t.Errorf("%v quotes %q", d.Pos, d.Line)
		}
	}
}

// TestSort checks the order and that the same is said once.
func TestSort(t *testing.T) {
	l := List{{Pos: at(2, 1), Message: "b"}, {Pos: at(1, 9), Message: "a"}, {Pos: at(2, 1), Message: "b"}, {Pos: at(1, 2), Message: "c"}}
	l.Sort()
	var got []string
	for _, d := range l {
		got = append(got, d.Error())
	}
	if want := "f.moe:1:2: c f.moe:1:9: a f.moe:2:1: b"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestErr checks that an empty list is no error and that a list is found in a
// wrapped error.
func TestErr(t *testing.T) {
	if err := (List{}).Err(); err != nil {
		t.Errorf("an empty list is the error %v", err)
	}
	var l List
	l.Addf(at(1, 1), 2, "%d wrong", 3)
	var found List
	if !errors.As(errors.Join(l.Err()), &found) || found[0].Message != "3 wrong" || found[0].Width != 2 {
		t.Errorf("found %v", found)
	}
}

// TestJSON pins the names of fields, which scripts read.
func TestJSON(t *testing.T) {
	l := List{Diagnostic{Pos: at(1, 2), Width: 3, Message: "m", Line: "text"}.Noted(Pos{}, "n"), {Message: "m"}}
	got, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"pos":{"file":"f.moe","line":1,"col":2},"width":3,"message":"m","notes":[{"message":"n"}],"line":"text"},{"message":"m"}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestNotedCopies checks that adding a note leaves other copies alone.
func TestNotedCopies(t *testing.T) {
	d := Diagnostic{Message: "m"}.Noted(Pos{}, "one")
	a, b := d.Noted(Pos{}, "two"), d.Noted(Pos{}, "three")
	if len(d.Notes) != 1 || a.Notes[1].Message != "two" || b.Notes[1].Message != "three" {
		t.Errorf("%v %v %v", d.Notes, a.Notes, b.Notes)
	}
}
