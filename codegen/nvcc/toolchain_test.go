package nvcc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// toolkit makes a toolkit directory whose nvcc is the stand-in.
func toolkit(t *testing.T, root string) string {
	t.Helper()
	bin := filepath.Join(root, "bin")
	if err := os.MkdirAll(bin, dirMode); err != nil {
		t.Fatal(err)
	}
	nvcc := filepath.Join(bin, "nvcc")
	if err := os.Symlink(filepath.Join(fakeDir(t), "nvcc"), nvcc); err != nil {
		t.Fatal(err)
	}
	return nvcc
}

func TestFindOrder(t *testing.T) {
	base := t.TempDir()
	project := filepath.Join(base, "project")
	places := map[string]string{
		"flag":       toolkit(t, filepath.Join(base, "flag")),
		"CUDA_HOME":  toolkit(t, filepath.Join(base, "home")),
		"PATH":       toolkit(t, filepath.Join(base, "path")),
		LocalToolkit: toolkit(t, filepath.Join(project, filepath.FromSlash(LocalToolkit))),
		"system":     toolkit(t, filepath.Join(base, "system")),
	}
	deep := filepath.Join(project, "bin", "deep")
	if err := os.MkdirAll(deep, dirMode); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"CUDA_HOME": filepath.Join(base, "home"),
		"PATH":      "relative" + string(os.PathListSeparator) + filepath.Join(base, "path", "bin"),
	}
	s := Search{Flag: filepath.Join(base, "flag"), Local: []string{deep}, System: []string{filepath.Join(base, "system")}}
	s.Getenv = func(name string) string { return env[name] }
	steps := []struct {
		want   string
		remove func()
	}{
		{"flag", func() { s.Flag = "" }},
		{"CUDA_HOME", func() { env["CUDA_HOME"] = filepath.Join(base, "empty") }},
		{"PATH", func() { env["PATH"] = "" }},
		{LocalToolkit, func() { s.Local = nil }},
		{"system", func() { s.System = nil }},
	}
	for _, step := range steps {
		tool, err := Find(context.Background(), s)
		if err != nil {
			t.Fatalf("%s: %v", step.want, err)
		}
		if tool.Path != places[step.want] || tool.Version != "13.0.88" {
			t.Errorf("found %s %s (%s), need %s", tool.Path, tool.Version, tool.From, places[step.want])
		}
		step.remove()
	}
	_, err := Find(context.Background(), s)
	var missing *NotFoundError
	if !errors.As(err, &missing) {
		t.Fatalf("error %v, need a NotFoundError", err)
	}
	for _, want := range []string{"CUDA_HOME=" + filepath.Join(base, "empty") + " (no bin/nvcc there)", "PATH", ".cache/cuda", "make cuda-toolkit"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

func TestFindErrors(t *testing.T) {
	fake := filepath.Join(fakeDir(t), "nvcc")
	cases := []struct{ name, flag, mode, want string }{
		{"flag names nothing", "/nowhere/nvcc", "good", "nvcc not found: looked at /nowhere/nvcc (neither a program nor a toolkit directory)"},
		{"flag names a directory", t.TempDir(), "good", "neither a program nor a toolkit directory"},
		{"broken", fake, "broken", "does not tell its version: exit status 127 (  nvcc: cannot open shared object file)"},
		{"mute", fake, "mute", "no version number of the form V13.0.88"},
	}
	for _, tc := range cases {
		t.Setenv("FAKE_NVCC", tc.mode)
		_, err := Find(context.Background(), Search{Flag: tc.flag})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, need %q", tc.name, err, tc.want)
		}
	}
}
