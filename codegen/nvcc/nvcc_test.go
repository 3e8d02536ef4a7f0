package nvcc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fakeDir is the directory of the stand-in for nvcc.
func fakeDir(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("testdata", "fake"))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// fakeTool finds the stand-in on PATH and sets its behaviour.
func fakeTool(t testing.TB, mode string) *Toolchain {
	t.Helper()
	t.Setenv("CUDA_HOME", "")
	t.Setenv("PATH", fakeDir(t)+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("FAKE_NVCC", mode)
	tool, err := Find(context.Background(), Search{})
	if err != nil {
		t.Fatal(err)
	}
	if tool.From != "PATH" || tool.Path != filepath.Join(fakeDir(t), "nvcc") {
		t.Fatalf("found %s from %s, need the stand-in from PATH", tool.Path, tool.From)
	}
	return tool
}

// warnings collects what a Compiler warns about.
type warnings struct {
	mu   sync.Mutex
	list []string
}

func (w *warnings) add(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, s)
}

func (w *warnings) want(t *testing.T, parts ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.list) != len(parts) {
		t.Fatalf("%d warnings %q, need %d", len(w.list), w.list, len(parts))
	}
	for i, part := range parts {
		if !strings.Contains(w.list[i], part) {
			t.Errorf("warning %q does not say %q", w.list[i], part)
		}
	}
}

// countRuns makes the stand-in record its runs and returns their number so far.
func countRuns(t testing.TB) func() int {
	name := filepath.Join(t.TempDir(), "runs")
	t.Setenv("FAKE_NVCC_RUNS", name)
	return func() int {
		data, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Count(string(data), "\n")
	}
}

var request = Request{
	Name:     "k",
	Source:   "#include \"a/b.cuh\"\n__global__ void k() {}\n",
	Includes: []File{{"a/b.cuh", "// nothing\n"}},
	Arch:     "sm_90a",
	Flags:    []string{"-std=c++17"},
}

func TestCompileAndCache(t *testing.T) {
	var warned warnings
	runs := countRuns(t)
	dir := t.TempDir()
	c := New(Options{Toolchain: fakeTool(t, "warns"), CacheDir: dir, Warn: warned.add})
	first, err := c.Compile(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Compile(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	if first.Cached || !second.Cached || runs() != 1 {
		t.Errorf("cached %v then %v after %d runs, need false, true, 1", first.Cached, second.Cached, runs())
	}
	for _, res := range []Result{first, second} {
		if !strings.HasSuffix(string(res.Image), request.Source) {
			t.Errorf("image %q is not of this source", res.Image)
		}
		k, ok := res.Report.Func("k")
		if !ok || !k.Entry || k.Registers != 10 || k.Barriers != 1 || k.Shared != 1024 || k.Local() {
			t.Errorf("report %+v", res.Report)
		}
		if len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "never referenced") {
			t.Errorf("warnings %q", res.Warnings)
		}
	}
	if left := list(t, filepath.Join(dir, "work")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	warned.want(t)
}

func list(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestKeyCoversInputs changes one input at a time; each must give another key.
func TestKeyCoversInputs(t *testing.T) {
	tool := &Toolchain{Version: "13.0.88", Banner: "banner"}
	changes := map[string]func(*Request, *Toolchain){
		"nothing":       func(*Request, *Toolchain) {},
		"source":        func(r *Request, _ *Toolchain) { r.Source += " " },
		"header text":   func(r *Request, _ *Toolchain) { r.Includes = []File{{"a/b.cuh", "// nothing "}} },
		"header name":   func(r *Request, _ *Toolchain) { r.Includes = []File{{"a/c.cuh", "// nothing\n"}} },
		"no header":     func(r *Request, _ *Toolchain) { r.Includes = nil },
		"arch":          func(r *Request, _ *Toolchain) { r.Arch = "sm_90" },
		"format":        func(r *Request, _ *Toolchain) { r.Format = PTX },
		"flags":         func(r *Request, _ *Toolchain) { r.Flags = nil },
		"split flag":    func(r *Request, _ *Toolchain) { r.Flags = []string{"-std=", "c++17"} },
		"nvcc banner":   func(_ *Request, c *Toolchain) { c.Banner = "other" },
		"host compiler": func(_ *Request, c *Toolchain) { c.ccbin = "g++-11" },
	}
	seen := map[string]string{}
	for name, change := range changes {
		r, c := request, *tool
		change(&r, &c)
		if other, ok := seen[r.key(&c)]; ok {
			t.Errorf("%q and %q share a key", name, other)
		}
		seen[r.key(&c)] = name
	}
	same := request
	same.Name = "another name"
	same.Includes = append([]File{}, request.Includes...)
	if same.key(tool) != request.key(tool) {
		t.Error("the name must not change the key")
	}
}

func TestHeaderOrderDoesNotMatter(t *testing.T) {
	a, b := request, request
	a.Includes = []File{{"x.cuh", "1"}, {"y.cuh", "2"}}
	b.Includes = []File{{"y.cuh", "2"}, {"x.cuh", "1"}}
	if a.inputsKey() != b.inputsKey() {
		t.Error("the order of headers changed the key")
	}
}

func TestBadRequests(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Request)
		want   string
	}{
		{"arch", func(r *Request) { r.Arch = "hopper" }, `architecture "hopper", need sm_NN`},
		{"arch that is an option", func(r *Request) { r.Arch = "sm_90 -x" }, "need sm_NN"},
		{"format", func(r *Request) { r.Format = 7 }, "image format 7"},
		{"header outside", func(r *Request) { r.Includes = []File{{"../x", ""}} }, "clean relative path"},
		{"absolute header", func(r *Request) { r.Includes = []File{{"/x", ""}} }, "clean relative path"},
		{"header over source", func(r *Request) { r.Includes = []File{{"kernel.cu", ""}} }, "is taken"},
		{"header twice", func(r *Request) { r.Includes = []File{{"x", ""}, {"x", "2"}} }, "is taken"},
	}
	c := New(Options{Toolchain: &Toolchain{}, CacheDir: t.TempDir()})
	for _, tc := range cases {
		r := request
		tc.change(&r)
		_, err := c.Compile(context.Background(), r)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, need %q", tc.name, err, tc.want)
		}
	}
}

func TestFailures(t *testing.T) {
	cases := []struct {
		mode string
		want []string
	}{
		{"fails", []string{"nvcc 13.0.88 could not compile kernel k for sm_90a: exit status 2", "  kernel.cu(1): error: expected an expression", "source, command and log are in "}},
		{"chatty", []string{"exit status 1", "identifier \"q\" is undefined"}},
		{"noarch", []string{"hint: this nvcc does not know the architecture"}},
		{"killed", []string{"it was killed (signal: killed), most often for lack of memory"}},
		{"silent", []string{"wrote no cubin"}},
		{"empty", []string{"bad cubin: the file is empty"}},
		{"half", []string{"bad cubin: 30 bytes without the header"}},
		{"text", []string{"without the header of a 64-bit ELF file"}},
	}
	for _, tc := range cases {
		t.Run(tc.mode, func(t *testing.T) {
			dir := t.TempDir()
			c := New(Options{Toolchain: fakeTool(t, tc.mode), CacheDir: dir})
			_, err := c.Compile(context.Background(), request)
			var failed *CompileError
			if !errors.As(err, &failed) {
				t.Fatalf("error %v, need a CompileError", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if lines := strings.Count(err.Error(), "\n"); lines > shownLines+3 {
				t.Errorf("the error has %d lines", lines)
			}
			kept := list(t, failed.Kept)
			for _, name := range []string{"kernel.cu", "a", "command.txt", "log.txt"} {
				if !slices.Contains(kept, name) {
					t.Errorf("%s is not kept, have %v", name, kept)
				}
			}
			if !strings.HasPrefix(failed.Kept, filepath.Join(dir, "failed")) || slices.Contains(kept, scratchDir) {
				t.Errorf("kept %v in %s", kept, failed.Kept)
			}
			if left := append(list(t, filepath.Join(dir, "work")), list(t, filepath.Join(dir, "entries"))...); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestCancelKillsGrandchildren cancels a compilation whose nvcc hangs in a
// program that it started.
func TestCancelKillsGrandchildren(t *testing.T) {
	for _, tc := range []struct {
		name    string
		timeout time.Duration
		cancel  time.Duration
		want    string
	}{
		{"context", time.Hour, 300 * time.Millisecond, "user went away"},
		{"timeout", 300 * time.Millisecond, time.Hour, "did not finish within 300ms"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pidFile := filepath.Join(t.TempDir(), "pid")
			t.Setenv("FAKE_NVCC_PID", pidFile)
			dir := t.TempDir()
			c := New(Options{Toolchain: fakeTool(t, "hangs"), CacheDir: dir, Timeout: tc.timeout})
			ctx, cancel := context.WithTimeoutCause(context.Background(), tc.cancel, errors.New("user went away"))
			defer cancel()
			start := time.Now()
			_, err := c.Compile(ctx, request)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, need %q", err, tc.want)
			}
			if took := time.Since(start); took > drainTime+3*time.Second {
				t.Errorf("took %v", took)
			}
			text, err := os.ReadFile(pidFile)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			waitGone(t, pid)
			if left := list(t, filepath.Join(dir, "work")); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// waitGone waits until a process is gone or a zombie that nobody has reaped.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for range 100 {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	t.Errorf("process %d of the cancelled nvcc is still running", pid)
}

func TestEnvironmentIsPartOfNothing(t *testing.T) {
	got := environment([]string{"A=1", "NVCC_APPEND_FLAGS=-G", "TMPDIR=/x", "NVCC_PREPEND_FLAGS=-g", "NVCC_CCBIN=g++"}, "/s")
	if want := []string{"A=1", "NVCC_CCBIN=g++", "TMPDIR=/s"}; !slices.Equal(got, want) {
		t.Errorf("environment %q, need %q", got, want)
	}
}

func TestCompileAll(t *testing.T) {
	c := New(Options{Toolchain: fakeTool(t, "good"), CacheDir: t.TempDir()})
	var reqs []Request
	for i := range 6 {
		r := request
		r.Name = strconv.Itoa(i)
		r.Source = "kernel " + r.Name
		reqs = append(reqs, r)
	}
	var seen []int
	results, err := c.CompileAll(context.Background(), reqs, 3, func(p Progress) { seen = append(seen, p.Done) })
	if err != nil {
		t.Fatal(err)
	}
	for i, res := range results {
		if !strings.HasSuffix(string(res.Image), reqs[i].Source) {
			t.Errorf("result %d is of another request", i)
		}
	}
	if !slices.Equal(seen, []int{1, 2, 3, 4, 5, 6}) {
		t.Errorf("progress %v", seen)
	}
	reqs[4].Arch = "none"
	if _, err := c.CompileAll(context.Background(), reqs, 2, nil); err == nil || !strings.Contains(err.Error(), "kernel 4") {
		t.Errorf("error %v, need that of kernel 4", err)
	}
	gone, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("interrupted"))
	if _, err := c.CompileAll(gone, reqs[:4], 2, nil); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("error %v, need the interruption", err)
	}
}

// waitFile waits until a file has content.
func waitFile(t *testing.T, name string) {
	t.Helper()
	for range 500 {
		if data, err := os.ReadFile(name); err == nil && len(data) > 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s did not appear", name)
}

// killSleeper ends the process whose number is in a file: the grandchild of a
// killed process, which nobody else ends.
func killSleeper(t *testing.T, pidFile string) {
	t.Helper()
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}
