package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"moec/ir/textdiff"
)

// helpFile is where the help of a command is kept.
func helpFile(c *cobra.Command) string {
	return strings.ReplaceAll(c.CommandPath(), " ", "_") + ".txt"
}

// TestHelp compares the help of every command with testdata/help, which has a
// file for each and no other.
func TestHelp(t *testing.T) {
	dir := filepath.Join("testdata", "help")
	want := []string{}
	for _, c := range commandsBelow((&app{}).root()) {
		want = append(want, helpFile(c))
		args := append(strings.Fields(shortPath(c)), "--help")
		var out, errs bytes.Buffer
		if code := run(context.Background(), args, strings.NewReader(""), &out, &errs); code != exitOK || errs.Len() > 0 {
			t.Fatalf("moec %s: exit code %d: %s", strings.Join(args, " "), code, &errs)
		}
		compareHelp(t, filepath.Join(dir, helpFile(c)), out.String())
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch known := slices.Contains(want, e.Name()); {
		case !known && *rewrite:
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		case !known:
			t.Errorf("%s is the help of no command", e.Name())
		}
	}
}

// compareHelp compares a help text with its file.
func compareHelp(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Errorf("%v; run with -rewrite if the command is new", err)
		return
	}
	if diff := textdiff.Unified(file, "now", string(want), got); diff != "" {
		t.Errorf("run with -rewrite if it is meant:\n%s", diff)
	}
}

// TestHelpIsComplete checks what the help of every command has, and that no
// row of the table is left over.
func TestHelpIsComplete(t *testing.T) {
	used := make(map[string]bool)
	for _, c := range commandsBelow((&app{}).root()) {
		path := c.CommandPath()
		h, ok := helps[shortPath(c)]
		used[shortPath(c)] = true
		if !ok || len(h.Examples) == 0 {
			t.Errorf("%s has no example in the table", path)
		}
		if s := c.Short; s == "" || unicode.IsUpper(rune(s[0])) || strings.HasSuffix(s, ".") || len(s) > 100 {
			t.Errorf("%s: %q: want a short text of 1 to 100 letters in lower case without a full stop", path, s)
		}
		if !slices.IsSorted(h.Exits) || len(h.Exits) > 0 && h.Exits[0] <= exitUsage {
			t.Errorf("%s: exit codes %v: want those above %d in order", path, h.Exits, exitUsage)
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") || unicode.IsUpper(rune(f.Usage[0])) && !strings.HasPrefix(f.Usage, "Hugging Face") {
				t.Errorf("%s --%s: %q: want a text in lower case without a full stop", path, f.Name, f.Usage)
			}
		})
	}
	for name := range helps {
		if !used[name] {
			t.Errorf("the table has help of %q, which is no command", name)
		}
	}
}

// TestHelpExamples parses the examples of all commands: commands, flags and
// numbers of arguments. Files of the examples directory are there.
func TestHelpExamples(t *testing.T) {
	for name, h := range helps {
		for _, line := range h.Examples {
			for part := range strings.SplitSeq(line, " | ") {
				part, _, _ = strings.Cut(part, " > ")
				words := exampleWords(part)
				if words[0] != "moec" {
					t.Errorf("%q: %q is not moec", name, part)
					continue
				}
				root := (&app{in: strings.NewReader(""), out: io.Discard, err: io.Discard}).root()
				c, args, err := root.Find(words[1:])
				if err == nil {
					err = c.ParseFlags(args)
				}
				if err == nil && c.Args != nil {
					err = c.Args(c, c.Flags().Args())
				}
				if err != nil {
					t.Errorf("%q: %s: %v", name, part, err)
				}
				for _, w := range words {
					if strings.HasPrefix(w, "examples/") {
						if _, err := os.Stat(filepath.Join("..", "..", w)); err != nil {
							t.Errorf("%q: %s: %v", name, part, err)
						}
					}
				}
			}
		}
		if own := "moec " + name; name != "" && !slices.ContainsFunc(h.Examples, func(l string) bool {
			return strings.HasPrefix(l, own) || name == "exit-codes" || strings.Contains(l, "| "+own)
		}) {
			t.Errorf("no example of %q runs it", name)
		}
	}
}

// exampleWords splits a command line at spaces outside quotes.
func exampleWords(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	})
}
