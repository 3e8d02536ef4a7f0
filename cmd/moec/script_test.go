package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts' commands print into the scripts")

// TestMain lets scripts run moec as a command.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"moec": func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the scripts of testdata/script. $EXAMPLES, $FAMILIES and
// $TINY are the descriptions, the tiny checkpoints and the trained example.
// "jsonlines FILE KEY..." checks that every line of a file is a JSON object with
// these keys, "nothing DIR FILE..." that no other files were left there.
func TestScripts(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *rewrite,
		RequireExplicitExec: false,
		Setup: func(e *testscript.Env) error {
			e.Setenv("EXAMPLES", filepath.Join(root, "examples"))
			e.Setenv("FAMILIES", filepath.Join(root, "testdata", "families"))
			e.Setenv("TINY", filepath.Join(root, "examples", "tiny-mixtral"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"jsonlines": jsonLines,
			"nothing":   nothing,
			"copydir":   copyDir,
			"cut":       cut,
		},
	})
}

// jsonLines checks that every line is a JSON object.
func jsonLines(ts *testscript.TestScript, _ bool, args []string) {
	lines := strings.Split(strings.TrimSpace(ts.ReadFile(args[0])), "\n")
	for _, line := range lines {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			ts.Fatalf("%q is not a JSON object: %v", line, err)
		}
		for _, key := range args[1:] {
			if _, ok := v[key]; !ok {
				ts.Fatalf("%q has no %q", line, key)
			}
		}
	}
}

// nothing checks that a directory has no files but those named.
func nothing(ts *testscript.TestScript, _ bool, args []string) {
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, e := range entries {
		known := strings.HasPrefix(e.Name(), ".tmp")
		for _, a := range args[1:] {
			known = known || e.Name() == a
		}
		if !known {
			ts.Fatalf("%s was left in %s", e.Name(), args[0])
		}
	}
}

// copyDir copies the files of a directory.
func copyDir(ts *testscript.TestScript, _ bool, args []string) {
	entries, err := os.ReadDir(args[0])
	ts.Check(err)
	ts.Check(os.MkdirAll(ts.MkAbs(args[1]), 0o755))
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(args[0], e.Name()))
		ts.Check(err)
		ts.Check(os.WriteFile(filepath.Join(ts.MkAbs(args[1]), e.Name()), data, 0o644))
	}
}

// cut shortens a file to half of its bytes.
func cut(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	info, err := os.Stat(path)
	ts.Check(err)
	ts.Check(os.Truncate(path, info.Size()/2))
}

// TestExitCodes runs a command line for each documented code.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	tiny, mixtral := "../../examples/tiny-mixtral", "../../examples/mixtral.moe"
	one, two := filepath.Join(dir, "one.plan"), filepath.Join(dir, "two.plan")
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		code int
		ctx  context.Context
		args []string
	}{
		{exitOK, nil, []string{"compile", mixtral, "--checkpoint", tiny, "-o", one}},
		{exitOK, nil, []string{"compile", mixtral, "--checkpoint", tiny, "--gpus", "2", "--strategy", "ep", "-o", two}},
		{exitUsage, nil, []string{"compile"}},
		{exitUsage, nil, []string{"compile", mixtral, "--nope"}},
		{exitUsage, nil, []string{"run", one, "--checkpoint", tiny}},
		{exitDescription, nil, []string{"check", "../../README.md"}},
		{exitDescription, nil, []string{"compile", mixtral, "--set", "top_k=99", "-o", filepath.Join(dir, "x")}},
		{exitCheckpoint, nil, []string{"checkpoint", dir}},
		{exitCheckpoint, nil, []string{"run", one, "--checkpoint", dir, "--prompt", "x"}},
		{exitPlan, nil, []string{"plan", "show", filepath.Join(dir, "none.plan")}},
		{exitPlan, nil, []string{"run", one, "--checkpoint", "../../testdata/families/mixtral", "--prompt-ids", "1"}},
		{exitPlacement, nil, []string{"compile", mixtral, "--strategy", "zz", "-o", filepath.Join(dir, "x")}},
		{exitPlacement, nil, []string{"compile", mixtral, "--machine", "l4x8", "--gpus", "1", "-o", filepath.Join(dir, "x")}},
		{exitDevices, nil, []string{"run", one, "--checkpoint", tiny, "--prompt", "x", "--devices", "cuda"}},
		{exitDiffers, nil, []string{"plan", "diff", one, two}},
		{exitInterrupted, cancelled, []string{"run", one, "--checkpoint", tiny, "--prompt", "x"}},
	} {
		ctx := c.ctx
		if ctx == nil {
			ctx = context.Background()
		}
		var out, errw strings.Builder
		if code := run(ctx, c.args, strings.NewReader(""), &out, &errw); code != c.code {
			t.Errorf("moec %s exits with %d, want %d: %s", strings.Join(c.args, " "), code, c.code, errw.String())
		}
		if strings.Contains(errw.String(), "panic") || strings.Contains(errw.String(), "goroutine ") {
			t.Errorf("moec %s: %s", strings.Join(c.args, " "), errw.String())
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
		t.Error("a command that failed left a plan")
	}
}
