package plan

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var errFull = errors.New("no space left on device")

// failing are real files of which the operation named fails.
type failing struct {
	disk
	at string
}

type failingFile struct {
	file
	at string
}

func (f failing) target(path string) (string, error) {
	if f.at == "target" {
		return "", errFull
	}
	return f.disk.target(path)
}

func (f failing) create(dir, pattern string) (file, error) {
	if f.at == "create" {
		return nil, errFull
	}
	tmp, err := f.disk.create(dir, pattern)
	return failingFile{tmp, f.at}, err
}

func (f failing) rename(from, to string) error {
	if f.at == "rename" {
		return errFull
	}
	return f.disk.rename(from, to)
}

func (f failingFile) Write(text []byte) (int, error) {
	if f.at == "write" { // half of it
		n, _ := f.file.Write(text[:len(text)/2])
		return n, errFull
	}
	return f.file.Write(text)
}

func (f failingFile) Chmod(mode fs.FileMode) error {
	if f.at == "chmod" {
		return errFull
	}
	return f.file.Chmod(mode)
}

func (f failingFile) Sync() error {
	if f.at == "sync" {
		return errFull
	}
	return f.file.Sync()
}

func (f failingFile) Close() error {
	err := f.file.Close()
	if f.at == "close" {
		return errFull
	}
	return err
}

// listing returns the names in a directory.
func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// TestReplaceIsAtomic fails at each step, over an old file and without one.
func TestReplaceIsAtomic(t *testing.T) {
	for _, at := range []string{"target", "create", "write", "chmod", "sync", "close", "rename"} {
		for _, old := range []string{"", "the old plan"} {
			dir := t.TempDir()
			path := filepath.Join(dir, "m.plan")
			want := ""
			if old != "" {
				want = "m.plan"
				if err := os.WriteFile(path, []byte(old), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := replace(failing{at: at}, path, []byte("the new plan"))
			var file *FileError
			if !errors.As(err, &file) || file.File != path || file.Remedy == "" || !strings.Contains(err.Error(), errFull.Error()) {
				t.Errorf("%s fails: error is %v", at, err)
			}
			if got := listing(t, dir); got != want {
				t.Errorf("%s fails: the directory has %q, want %q", at, got, want)
			}
			if text, _ := os.ReadFile(path); string(text) != old {
				t.Errorf("%s fails: the file has %q, want %q", at, text, old)
			}
		}
	}
}

// TestReplace replaces a file, also through a link, which stays one.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "m.plan"), filepath.Join(dir, "link")
	if err := os.Symlink("m.plan", link); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{path, path, link} {
		text := bytes.Repeat([]byte{byte('a' + i)}, 1<<16)
		if err := replace(disk{}, name, text); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, text) {
			t.Errorf("write %d: the file differs", i)
		}
		if got := listing(t, dir); got != "link m.plan" {
			t.Errorf("write %d: the directory has %q", i, got)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Error("the link was replaced by a file")
	}
}

// TestReplaceRefuses names what is no place for a file.
func TestReplaceRefuses(t *testing.T) {
	dir := t.TempDir()
	shut := filepath.Join(dir, "shut")
	if err := os.Mkdir(shut, 0o500); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, "/dev/full", "/dev/null", filepath.Join(dir, "none", "m.plan"), filepath.Join(shut, "m.plan")} {
		if info, err := os.Stat(path); strings.HasPrefix(path, shut) && os.Getuid() == 0 || strings.HasPrefix(path, "/dev") && (err != nil || info.Mode()&fs.ModeDevice == 0) {
			continue // root may write there, or the system has no such device
		}
		err := replace(disk{}, path, []byte("text"))
		var file *FileError
		if !errors.As(err, &file) || file.Remedy == "" {
			t.Errorf("%s: error is %v", path, err)
		}
	}
	if info, err := os.Stat("/dev/null"); err != nil || info.Mode().IsRegular() {
		t.Error("/dev/null was replaced")
	}
	if got := listing(t, dir); got != "shut" {
		t.Errorf("the directory has %q", got)
	}
}
