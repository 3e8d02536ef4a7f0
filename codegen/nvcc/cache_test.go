package nvcc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestMain lets the test binary stand for another moec process that compiles
// the same kernel.
func TestMain(m *testing.M) {
	if dir := os.Getenv("NVCC_TEST_COMPILE_INTO"); dir != "" {
		os.Exit(compileOnce(dir))
	}
	os.Exit(m.Run())
}

func compileOnce(dir string) int {
	tool, err := Find(context.Background(), Search{})
	if err == nil {
		_, err = New(Options{Toolchain: tool, CacheDir: dir, Warn: func(s string) { fmt.Println(s) }}).Compile(context.Background(), request)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// filled returns a cache directory with the request's entry in it, and the
// entry's directory.
func filled(t testing.TB, tool *Toolchain) (root, entry string) {
	t.Helper()
	root = t.TempDir()
	res, err := New(Options{Toolchain: tool, CacheDir: root}).Compile(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	return root, filepath.Join(root, "entries", res.Key)
}

// TestDamagedEntry damages an entry in every way; each time the next call must
// notice, warn once, keep the damaged copy, and give the right image.
func TestDamagedEntry(t *testing.T) {
	tool := fakeTool(t, "good")
	edit := func(name string, change func([]byte) []byte) func(string) error {
		return func(dir string) error {
			at := filepath.Join(dir, name)
			data, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			return os.WriteFile(at, change(data), fileMode)
		}
	}
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
	}
	half := func(b []byte) []byte { return b[:len(b)/2] }
	drop := func(name string) func(string) error {
		return func(dir string) error { return os.Remove(filepath.Join(dir, name)) }
	}
	cases := map[string]func(string) error{
		"image truncated":    edit("kernel.cubin", half),
		"image empty":        edit("kernel.cubin", func([]byte) []byte { return nil }),
		"image first bit":    edit("kernel.cubin", flip(0)),
		"image last bit":     edit("kernel.cubin", flip(-1)),
		"image longer":       edit("kernel.cubin", func(b []byte) []byte { return append(b, 0) }),
		"image missing":      drop("kernel.cubin"),
		"log changed":        edit("log.txt", flip(20)),
		"header changed":     edit("a/b.cuh", flip(0)),
		"manifest missing":   drop("manifest"),
		"manifest truncated": edit("manifest", half),
		"manifest empty":     edit("manifest", func([]byte) []byte { return nil }),
		"manifest bit":       edit("manifest", flip(60)),
		"manifest end":       edit("manifest", flip(-2)),
		"manifest of other":  edit("manifest", func([]byte) []byte { return []byte(formatManifest("other", nil)) }),
		"manifest lists none": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "manifest"), []byte(formatManifest(filepath.Base(dir), nil)), fileMode)
		},
		"directory of nothing": func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, dirMode)) },
		"file instead":         func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, fileMode)) },
	}
	for name, damage := range cases {
		t.Run(name, func(t *testing.T) {
			root, entry := filled(t, tool)
			if err := damage(entry); err != nil {
				t.Fatal(err)
			}
			var warned warnings
			c := New(Options{Toolchain: tool, CacheDir: root, Warn: warned.add})
			for i := range 2 {
				res, err := c.Compile(context.Background(), request)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasSuffix(string(res.Image), request.Source) || res.Cached != (i == 1) {
					t.Errorf("call %d: cached %v, image %q", i, res.Cached, res.Image)
				}
			}
			warned.want(t, "moved it to "+entry+".damaged")
			if _, err := os.Stat(entry + ".damaged"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestManyProcesses lets eight processes and eight goroutines ask for one
// kernel: nvcc must run once.
func TestManyProcesses(t *testing.T) {
	tool := fakeTool(t, "slow")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, prepared := range []string{"empty cache", "damaged entry"} {
		t.Run(prepared, func(t *testing.T) {
			root := t.TempDir()
			wantWarnings := 0
			if prepared == "damaged entry" {
				var entry string
				root, entry = filled(t, tool)
				if err := os.Truncate(filepath.Join(entry, "kernel.cubin"), 3); err != nil {
					t.Fatal(err)
				}
				wantWarnings = 1
			}
			runs := countRuns(t)
			c := New(Options{Toolchain: tool, CacheDir: root, Warn: func(s string) { t.Error("unexpected in this process: ", s) }})
			if wantWarnings > 0 {
				c.warn = func(string) {}
			}
			var all sync.WaitGroup
			outputs := make([]string, 8)
			for i := range outputs {
				all.Go(func() {
					cmd := exec.Command(exe)
					cmd.Env = append(os.Environ(), "NVCC_TEST_COMPILE_INTO="+root)
					out, err := cmd.CombinedOutput()
					outputs[i] = string(out)
					if err != nil {
						t.Errorf("process %d: %v\n%s", i, err, out)
					}
				})
				all.Go(func() {
					if _, err := c.Compile(context.Background(), request); err != nil {
						t.Errorf("goroutine %d: %v", i, err)
					}
				})
			}
			all.Wait()
			if n := runs(); n != 1 {
				t.Errorf("nvcc ran %d times, need 1", n)
			}
			if n := strings.Count(strings.Join(outputs, ""), "moved it to"); n > wantWarnings {
				t.Errorf("%d warnings in other processes, need at most %d", n, wantWarnings)
			}
		})
	}
}

// TestKilledProcess kills a process in the middle of a compilation; the next
// one must not wait for its lock, and must clear what it left.
func TestKilledProcess(t *testing.T) {
	tool := fakeTool(t, "hangs")
	root := t.TempDir()
	t.Setenv("FAKE_NVCC_PID", filepath.Join(root, "pid"))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "NVCC_TEST_COMPILE_INTO="+root)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitFile(t, filepath.Join(root, "pid"))
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if left := list(t, filepath.Join(root, "work")); len(left) != 1 {
		t.Errorf("the killed process left %v: this test needs one directory", left)
	}
	t.Setenv("FAKE_NVCC", "good")
	if _, err := New(Options{Toolchain: tool, CacheDir: root}).Compile(context.Background(), request); err != nil {
		t.Fatal(err)
	}
	if left := list(t, filepath.Join(root, "work")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	killSleeper(t, filepath.Join(root, "pid"))
}

// TestEveryFault makes one step of the cache after the other fail, as a full
// disk does: the image must come all the same, with one warning, and a later
// call on a sound disk must find a sound cache.
func TestEveryFault(t *testing.T) {
	tool := fakeTool(t, "good")
	for fail := 0; ; fail++ {
		root := t.TempDir()
		var warned warnings
		c := New(Options{Toolchain: tool, CacheDir: root, Warn: warned.add})
		step, name := 0, ""
		c.cache.fault = func(op, path string) error {
			step++
			if step-1 == fail {
				name = op + " " + path
				return &os.PathError{Op: op, Path: path, Err: syscall.ENOSPC}
			}
			return nil
		}
		res, err := c.Compile(context.Background(), request)
		if err != nil || !strings.HasSuffix(string(res.Image), request.Source) {
			t.Fatalf("step %d (%s): image %q, error %v", fail, name, res.Image, err)
		}
		if name == "" {
			if fail < 6 {
				t.Errorf("only %d steps can fail: the hook is not where it should be", fail)
			}
			warned.want(t)
			return
		}
		warned.want(t, "no space left on device): kernels are compiled but not kept")
		if left := append(list(t, filepath.Join(root, "work")), list(t, filepath.Join(root, "entries"))...); len(left) != 0 {
			t.Errorf("step %d (%s): left behind %v", fail, name, left)
		}
		c.cache.fault = nil
		for _, cached := range []bool{false, true} {
			if res, err := c.Compile(context.Background(), request); err != nil || res.Cached != cached {
				t.Errorf("step %d (%s): afterwards cached %v, error %v", fail, name, res.Cached, err)
			}
		}
		warned.want(t, "compiled but not kept")
	}
}

// TestUnwritableCache uses a cache below a file, which not even root can
// write, and a read-only one that holds the entry.
func TestUnwritableCache(t *testing.T) {
	tool := fakeTool(t, "good")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, fileMode); err != nil {
		t.Fatal(err)
	}
	var warned warnings
	c := New(Options{Toolchain: tool, CacheDir: filepath.Join(file, "cache"), Warn: warned.add})
	for range 2 {
		if res, err := c.Compile(context.Background(), request); err != nil || res.Cached {
			t.Fatalf("cached %v, error %v", res.Cached, err)
		}
	}
	warned.want(t, "compiled but not kept")

	root, entry := filled(t, tool)
	if err := os.RemoveAll(filepath.Join(root, "locks")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{entry, filepath.Join(root, "entries"), root} {
		if err := os.Chmod(dir, 0o555); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(dir, dirMode)
	}
	c = New(Options{Toolchain: tool, CacheDir: root, Warn: func(s string) { t.Error(s) }})
	if res, err := c.Compile(context.Background(), request); err != nil || !res.Cached {
		t.Errorf("read-only cache: cached %v, error %v", res.Cached, err)
	}
	if left := list(t, root); len(left) != 2 { // entries, work
		t.Errorf("reading wrote into the cache: %v", left)
	}
}

// TestFailureInUnwritableCache checks that the sources are kept even then.
func TestFailureInUnwritableCache(t *testing.T) {
	tool := fakeTool(t, "fails")
	t.Setenv("TMPDIR", t.TempDir())
	c := New(Options{Toolchain: tool, CacheDir: "/dev/null/cache"})
	_, err := c.Compile(context.Background(), request)
	var failed *CompileError
	if !errors.As(err, &failed) {
		t.Fatalf("error %v, need a CompileError", err)
	}
	if _, err := os.Stat(filepath.Join(failed.Kept, "kernel.cu")); err != nil {
		t.Error(err)
	}
}

// TestWithoutNvcc serves cached images of any compiler and explains the rest.
func TestWithoutNvcc(t *testing.T) {
	root, _ := filled(t, fakeTool(t, "good"))
	c := New(Options{CacheDir: root, Missing: &NotFoundError{Looked: []string{"PATH"}}})
	res, err := c.Compile(context.Background(), request)
	if err != nil || !res.Cached {
		t.Errorf("cached %v, error %v", res.Cached, err)
	}
	other := request
	other.Source = "another"
	_, err = c.Compile(context.Background(), other)
	if err == nil || !strings.Contains(err.Error(), "kernel k for sm_90a is not in the cache "+root) || !strings.Contains(err.Error(), "make cuda-toolkit") {
		t.Errorf("error %v, need the kernel, the cache and the remedy", err)
	}
}
