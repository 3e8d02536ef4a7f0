package textdiff

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func lines(list ...string) string { return strings.Join(list, "\n") + "\n" }

func TestUnified(t *testing.T) {
	far := lines("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12")
	for _, c := range []struct{ name, a, b, want string }{
		{"equal", "x\n", "x\n", ""},
		{"both empty", "", "", ""},
		{"from nothing", "", "a\nb\n", lines("--- old", "+++ new", "@@ -0,0 +1,2 @@", "+a", "+b")},
		{"to nothing", "a\n", "", lines("--- old", "+++ new", "@@ -1 +0,0 @@", "-a")},
		{"one line", "a\nb\nc\n", "a\nB\nc\n", lines("--- old", "+++ new", "@@ -1,3 +1,3 @@", " a", "-b", "+B", " c")},
		{"no line end", "a\nb", "a\nb\n", ""},
		{"context is cut", far, strings.Replace(far, "6\n", "", 1),
			lines("--- old", "+++ new", "@@ -3,7 +3,6 @@", " 3", " 4", " 5", "-6", " 7", " 8", " 9")},
		{"two hunks", far, strings.Replace(strings.Replace(far, "1\n", "0\n", 1), "12\n", "13\n", 1),
			lines("--- old", "+++ new", "@@ -1,4 +1,4 @@", "-1", "+0", " 2", " 3", " 4", "@@ -9,4 +9,4 @@", " 9", " 10", " 11", "-12", "+13")},
		{"hunks that touch are one", far, strings.Replace(strings.Replace(far, "3\n", "x\n", 1), "10\n", "y\n", 1),
			lines("--- old", "+++ new", "@@ -1,12 +1,12 @@", " 1", " 2", "-3", "+x", " 4", " 5", " 6", " 7", " 8", " 9", "-10", "+y", " 11", " 12")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Unified("old", "new", c.a, c.b); got != c.want {
				t.Errorf("Unified(%q, %q) =\n%s\nwant\n%s", c.a, c.b, got, c.want)
			}
		})
	}
}

// TestUnifiedApplies checks random diffs with patch(1) where there is one: the
// hunks must turn a into b.
func TestUnifiedApplies(t *testing.T) {
	patch, err := exec.LookPath("patch")
	if err != nil {
		t.Skip("needs the patch program")
	}
	r := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		var b strings.Builder
		for range r.IntN(40) {
			fmt.Fprintf(&b, "%d\n", r.IntN(6))
		}
		return b.String()
	}
	dir := t.TempDir()
	for range 30 {
		a, b := text(), text()
		if a == b || a == "" || b == "" {
			continue
		}
		file := filepath.Join(dir, "a")
		if err := os.WriteFile(file, []byte(a), 0o666); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(patch, "-s", "--no-backup-if-mismatch", file)
		cmd.Stdin = strings.NewReader(Unified("a", "a", a, b))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("patch: %v\n%s\nof %q to %q", err, out, a, b)
		}
		if got, _ := os.ReadFile(file); string(got) != b {
			t.Errorf("patched text is %q, want %q", got, b)
		}
	}
}
