package nvcc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The cache keeps one directory per key:
//
//	entries/KEY/          source, headers, command, log, image, manifest
//	entries/KEY.damaged/  an entry that failed its check, for a look
//	work/KEY/             the entry while it is made
//	failed/KEY/           what a failed compilation left
//	locks/KEY             held (flock) by the process that makes or repairs it
//
// An entry is made whole in work/ and appears by one rename, so readers need
// no lock. The lock also makes work/KEY private: whatever lies there when it
// is taken was left by a process that died.
type cache struct {
	root  string
	fault func(op, path string) error // tests make a step fail; nil otherwise
}

const (
	manifestFile = "manifest"
	dirMode      = 0o755
	fileMode     = 0o644
)

// errNoEntry is the error of load for a key that is not there, as opposed to
// one that is damaged.
var errNoEntry = errors.New("no such entry")

// writeError marks an error of the file system rather than of nvcc.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

func (c *cache) entryDir(key string) string  { return filepath.Join(c.root, "entries", key) }
func (c *cache) failedDir(key string) string { return filepath.Join(c.root, "failed", key) }

// load returns an entry after checking every byte of it.
func (c *cache) load(key string) (Result, error) {
	dir := c.entryDir(key)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return Result{}, errNoEntry
	}
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return Result{}, fmt.Errorf("entry %s has no readable manifest: %w", dir, err)
	}
	listed, err := parseManifest(string(text), key)
	if err != nil {
		return Result{}, fmt.Errorf("entry %s: %w", dir, err)
	}
	var out built
	for _, l := range listed {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(l.name)))
		if err != nil {
			return Result{}, fmt.Errorf("entry %s: %w", dir, err)
		}
		if have := listFile(l.name, data); have != l {
			return Result{}, fmt.Errorf("entry %s: %s is damaged: %d bytes with hash %.12s, need %d with %.12s", dir, l.name, have.size, have.sum, l.size, l.sum)
		}
		switch l.name {
		case Cubin.file(), PTX.file():
			out.image = data
		case logFile:
			out.log = string(data)
		}
	}
	if out.image == nil {
		return Result{}, fmt.Errorf("entry %s lists no image", dir)
	}
	res := out.result(key)
	res.Cached = true
	return res, nil
}

// loadAnyVersion returns an entry for the inputs by whichever compiler, the
// last name first: of two versions with as many digits that is the newer.
func (c *cache) loadAnyVersion(inputs string) (Result, error) {
	list, err := os.ReadDir(filepath.Join(c.root, "entries"))
	if err != nil {
		return Result{}, err
	}
	for _, e := range slices.Backward(list) {
		if strings.HasPrefix(e.Name(), inputs+".") {
			if res, err := c.load(e.Name()); err == nil {
				return res, nil
			}
		}
	}
	return Result{}, errNoEntry
}

// lockPoll is how often a waiting process looks for the lock. Compiling takes
// a second or more.
const lockPoll = 20 * time.Millisecond

// lock takes the key's lock. It waits as long as the context allows; a process
// that dies gives its lock back.
func (c *cache) lock(ctx context.Context, key string) (unlock func(), err error) {
	name := filepath.Join(c.root, "locks", key)
	if err := c.step("lock", name); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(name), dirMode); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(lockPoll):
		}
	}
}

// moveAside renames a damaged entry and returns its new name. One damaged copy
// per key is kept.
func (c *cache) moveAside(key string) (string, error) {
	from := c.entryDir(key)
	to := from + ".damaged"
	if err := c.step("move aside", from); err != nil {
		return "", err
	}
	return to, replaceDir(from, to)
}

// workDir makes the empty directory in which the holder of the lock builds.
func (c *cache) workDir(key string) (string, error) {
	dir := filepath.Join(c.root, "work", key)
	if err := c.step("make", dir); err != nil {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, dirMode)
}

// publish completes the directory with its manifest and makes it the entry.
// Everything is on the disk before the rename, so a power cut leaves an old
// state or a whole entry.
func (c *cache) publish(key, dir string, out built) error {
	var listed []listing
	for _, name := range out.files {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := c.step("sync", at); err != nil {
			return err
		}
		data, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		if err := syncPath(at); err != nil {
			return err
		}
		listed = append(listed, listFile(name, data))
	}
	manifest := filepath.Join(dir, manifestFile)
	if err := c.step("write", manifest); err != nil {
		return err
	}
	if err := writeFile(manifest, []byte(formatManifest(key, listed))); err != nil {
		return err
	}
	if err := errors.Join(syncPath(manifest), syncPath(dir)); err != nil {
		return err
	}
	to := c.entryDir(key)
	if err := os.MkdirAll(filepath.Dir(to), dirMode); err != nil {
		return err
	}
	if err := c.step("rename", to); err != nil {
		return err
	}
	if err := os.Rename(dir, to); err != nil {
		return err
	}
	return syncPath(filepath.Dir(to))
}

// step lets a test fail the operation that follows.
func (c *cache) step(op, path string) error {
	if c.fault == nil {
		return nil
	}
	return c.fault(op, path)
}

// writeFile writes a new file. It is not synchronised: publish does that for
// the files that matter, after nvcc has succeeded.
func writeFile(name string, data []byte) error {
	return os.WriteFile(name, data, fileMode)
}

// syncPath flushes a file or a directory to the disk.
func syncPath(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// listing is one file in a manifest.
type listing struct {
	name string
	size int
	sum  string // SHA-256 in hex
}

func listFile(name string, data []byte) listing {
	sum := sha256.Sum256(data)
	return listing{name, len(data), hex.EncodeToString(sum[:])}
}

// formatManifest lists an entry's files, one a line, and ends with the hash of
// the lines before, so that damage to the manifest itself shows as well.
func formatManifest(key string, listed []listing) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nkey %s\n", keyFormat, key)
	for _, l := range listed {
		fmt.Fprintf(&b, "file %s %d %s\n", l.sum, l.size, l.name)
	}
	fmt.Fprintf(&b, "end %s\n", listFile("", []byte(b.String())).sum)
	return b.String()
}

// parseManifest is the inverse of formatManifest.
func parseManifest(text, key string) ([]listing, error) {
	at := strings.LastIndex(text, "end ")
	if at < 0 || text[at:] != "end "+listFile("", []byte(text[:at])).sum+"\n" {
		return nil, errors.New("its manifest is damaged")
	}
	lines := strings.Split(text[:at], "\n")
	if len(lines) < 3 || lines[0] != keyFormat || lines[1] != "key "+key {
		return nil, errors.New("its manifest belongs to another entry or version")
	}
	var listed []listing
	for _, line := range lines[2 : len(lines)-1] {
		fields := strings.SplitN(line, " ", 4)
		if len(fields) != 4 || fields[0] != "file" || !filepath.IsLocal(fields[3]) {
			return nil, fmt.Errorf("its manifest has a bad line %q", line)
		}
		size, err := strconv.Atoi(fields[2])
		if err != nil {
			return nil, fmt.Errorf("its manifest has a bad line %q", line)
		}
		listed = append(listed, listing{fields[3], size, fields[1]})
	}
	return listed, nil
}
