//go:build unix

package checkpoint

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// within fails the test if do takes long: a pipe that nobody writes to would
// hold it for ever.
func within(t *testing.T, do func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		t.Fatal("waits for a file that is none")
		return nil
	}
}

// TestSpecialFiles puts something that is no file in the place of each file.
func TestSpecialFiles(t *testing.T) {
	special := []struct {
		name string
		make func(path string) error
		want string
	}{
		{"pipe", func(path string) error { return syscall.Mkfifo(path, 0o644) }, "is a pipe, not a file"},
		{"directory", func(path string) error { return os.Mkdir(path, 0o755) }, "is a directory, not a file"},
		{"socket", func(path string) error {
			dir, err := os.MkdirTemp("", "s") // names of sockets are at most 107 bytes long
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			short := filepath.Join(dir, "s")
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short})
			if err != nil {
				return err
			}
			l.SetUnlinkOnClose(false)
			return errors.Join(l.Close(), os.Rename(short, path))
		}, "is a socket, not a file"},
		{"link to a device", func(path string) error { return os.Symlink("/dev/zero", path) }, "is a link that does not stay in the directory: have /dev/zero"},
		{"link to a pipe", func(path string) error {
			if err := syscall.Mkfifo(filepath.Join(filepath.Dir(path), "pipe"), 0o644); err != nil {
				return err
			}
			return os.Symlink("pipe", path)
		}, "is a pipe, not a file"},
		{"D06 link outside", func(path string) error { return os.Symlink("/etc/passwd", path) }, "have /etc/passwd; put the file itself there"},
		{"D06 relative link outside", func(path string) error { return os.Symlink("../../../../../etc/passwd", path) }, "does not stay in the directory"},
		{"broken link", func(path string) error { return os.Symlink("none", path) }, "is a link to a file that does not exist: have none; download it again"},
		{"link to itself", func(path string) error { return os.Symlink(filepath.Base(path), path) }, "is a link that leads in a circle"},
	}
	for _, s := range special {
		for _, file := range []string{"config.json", generationName, indexName, shard2} {
			t.Run(s.name+" as "+file, func(t *testing.T) {
				dir := sharded(t).with(file, "-").write(t)
				if err := s.make(filepath.Join(dir, file)); err != nil {
					t.Fatal(err)
				}
				wantError(t, within(t, func() error {
					_, err := Open(dir)
					return err
				}), file+": is a", s.want)
			})
		}
	}
}

// TestLinkInside follows links that stay in the directory.
func TestLinkInside(t *testing.T) {
	dir := single(t).with(singleName, "-").with("real.safetensors", safetensors(t, "a")).write(t)
	if err := os.Symlink("real.safetensors", filepath.Join(dir, singleName)); err != nil {
		t.Fatal(err)
	}
	ckpt, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	if err := ckpt.ReadAt("a", make([]byte, 4), 0); err != nil {
		t.Error(err)
	}
}

// cached lays files out as the download cache does and returns the model's
// folder and the snapshot's directory.
func cached(t *testing.T, f files) (model, snapshot string) {
	t.Helper()
	model = filepath.Join(t.TempDir(), "models--org--name")
	snapshot = filepath.Join(model, "snapshots", "0123abcd")
	for _, dir := range []string{snapshot, filepath.Join(model, "blobs")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range f {
		if err := os.WriteFile(filepath.Join(model, "blobs", "hash-"+name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("../../blobs/hash-"+name, filepath.Join(snapshot, name)); err != nil {
			t.Fatal(err)
		}
	}
	return model, snapshot
}

// TestCache opens snapshots of the download cache, whose files are links out
// of their directory.
func TestCache(t *testing.T) {
	model, snapshot := cached(t, sharded(t))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(snapshot, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{snapshot, link, snapshot + "/"} {
		ckpt, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := ckpt.ReadAt("c", make([]byte, 4), 0); err != nil || len(ckpt.Names()) != 3 {
			t.Errorf("%s: names %q, error %v", dir, ckpt.Names(), err)
		}
		ckpt.Close()
	}
	_, err := Open(model)
	wantError(t, err, "this is a folder of the download cache; give "+snapshot)

	blob := filepath.Join(model, "blobs", "hash-"+shard2)
	if err := os.Rename(blob, blob+".incomplete"); err != nil {
		t.Fatal(err)
	}
	_, err = Open(snapshot)
	wantError(t, err, shard2+": is a link to a file that does not exist")
	if err := os.Remove(filepath.Join(snapshot, shard2)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(snapshot)
	wantError(t, err, "a download was not finished (blobs/hash-"+shard2+".incomplete)")

	// A link out of the cache is refused there, too.
	if err := os.Symlink("/etc/passwd", filepath.Join(snapshot, shard2)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(snapshot)
	wantError(t, err, shard2+": is a link that does not stay in the directory")
	// Without blobs, a directory called snapshots is nothing special.
	if err := os.Rename(filepath.Join(model, "blobs"), filepath.Join(model, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	_, err = Open(snapshot)
	wantError(t, err, "config.json: is a link")
}

// TestNoBlobBeyondCache checks that a name cannot leave a snapshot by itself.
func TestNoBlobBeyondCache(t *testing.T) {
	_, snapshot := cached(t, sharded(t))
	ckpt, err := Open(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	defer ckpt.Close()
	for _, name := range []string{"../../../secret", "/etc/passwd"} {
		if _, err := ckpt.ReadFile(name, 1<<20); err == nil || strings.Contains(err.Error(), "too large") {
			t.Errorf("ReadFile(%q): error is %v", name, err)
		}
	}
}
