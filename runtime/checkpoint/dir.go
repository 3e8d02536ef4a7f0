package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxEntries bounds the entries of a directory; the largest published
// checkpoints have about 200.
const maxEntries = 1 << 16

// directory is a checkpoint's directory. Names are resolved below root only,
// whatever links are in the way.
type directory struct {
	path string   // as given by the user, for messages
	root *os.Root // the directory, or the cache of which it is a snapshot
	sub  string   // path of the directory below root
}

// openDirectory opens a directory.
//
// In Hugging Face's download cache a model is a folder with "blobs", which has
// the files under their hashes, and "snapshots/REVISION", whose entries are
// links to them. There, and only there, links may leave the directory.
func openDirectory(dir string) (*directory, error) {
	info, err := os.Stat(dir)
	switch {
	case dir == "":
		return nil, &Error{File: `""`, What: "names no directory", Remedy: "give the directory of a checkpoint"}
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{File: dir, What: "there is no such directory", Remedy: "give the directory of a checkpoint", Err: err}
	case err != nil:
		return nil, &Error{File: dir, What: "cannot be read: " + reason(err), Remedy: remedyDisk, Err: err}
	case !info.IsDir():
		return nil, &Error{File: dir, What: "is not a directory", Remedy: "give the directory that holds the checkpoint's files"}
	}
	real, err := filepath.Abs(dir)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	d := &directory{path: dir, sub: "."}
	base := real
	if snapshots, revision := filepath.Split(real); err == nil && filepath.Base(snapshots) == "snapshots" {
		model := filepath.Dir(filepath.Clean(snapshots))
		if blobs, err := os.Lstat(filepath.Join(model, "blobs")); err == nil && blobs.IsDir() {
			base, d.sub = model, path.Join("snapshots", revision)
		}
	}
	if err == nil {
		d.root, err = os.OpenRoot(base)
	}
	if err != nil {
		return nil, &Error{File: dir, What: "cannot be opened: " + reason(err), Remedy: remedyDisk, Err: err}
	}
	return d, nil
}

func (d *directory) close() error { return d.root.Close() }

// full returns the path of a file as the user would write it.
func (d *directory) full(name string) string { return filepath.Join(d.path, name) }

// reason returns what the system says, without the operation and path that
// the errors of package os repeat.
func reason(err error) string {
	if e := (*fs.PathError)(nil); errors.As(err, &e) {
		return e.Err.Error()
	}
	return err.Error()
}

// stat looks up a file without opening it: opening a pipe would wait for its
// other end, and opening a device may do anything.
func (d *directory) stat(name string) (fs.FileInfo, error) {
	info, err := d.root.Stat(path.Join(d.sub, name))
	if err == nil && info.Mode().IsRegular() {
		return info, nil
	}
	e := &Error{File: d.full(name), Remedy: "put the file itself there", Err: err}
	target, linkErr := d.root.Readlink(path.Join(d.sub, name))
	switch {
	case err == nil:
		e.What = "is " + special(info.Mode()) + ", not a file"
	case linkErr == nil && errors.Is(err, fs.ErrNotExist):
		e.What, e.Have, e.Remedy = "is a link to a file that does not exist", plain(target), remedyAgain
	case linkErr == nil && errors.Is(err, syscall.ELOOP):
		e.What, e.Have = "is a link that leads in a circle", plain(target)
	case linkErr == nil:
		e.What, e.Have = "is a link that does not stay in the directory", plain(target)
		e.Remedy = "put the file itself there, or give the directory that the link leads to"
	case errors.Is(err, fs.ErrNotExist):
		e.What, e.Remedy = whatMissing, remedyAgain
	default:
		e.What, e.Remedy = "cannot be read: "+reason(err), remedyDisk
	}
	return nil, e
}

// special says what a file that is no regular file is.
func special(m fs.FileMode) string {
	for _, row := range []struct {
		bit  fs.FileMode
		name string
	}{{fs.ModeDir, "a directory"}, {fs.ModeNamedPipe, "a pipe"}, {fs.ModeSocket, "a socket"}, {fs.ModeDevice, "a device"}} {
		if m&row.bit != 0 {
			return row.name
		}
	}
	return "something special"
}

const whatMissing = "there is no such file"

// missing reports whether err says that a file is not there, not even as a
// broken link.
func missing(err error) bool {
	e, ok := err.(*Error)
	return ok && e.What == whatMissing
}

// open opens a file for reading.
func (d *directory) open(name string) (*os.File, fs.FileInfo, error) {
	if _, err := d.stat(name); err != nil {
		return nil, nil, err
	}
	// Without waiting, in case a pipe took the file's place just now.
	f, err := d.root.OpenFile(path.Join(d.sub, name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, &Error{File: d.full(name), What: "cannot be opened: " + reason(err), Remedy: remedyDisk, Err: err}
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("is %s, not a file", special(info.Mode()))
	}
	if err != nil {
		f.Close()
		return nil, nil, &Error{File: d.full(name), What: reason(err), Remedy: remedyDisk, Err: err}
	}
	return f, info, nil
}

// readFile reads a file of at most limit bytes.
func (d *directory) readFile(name string, limit int64) ([]byte, error) {
	f, info, err := d.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, &Error{File: d.full(name), What: "is too large", Need: "at most " + bytesOf(limit), Have: bytesOf(info.Size()), Remedy: remedyAgain}
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, changed(d.full(name), "it became shorter")
	} else if err != nil {
		return nil, &Error{File: d.full(name), What: "cannot be read: " + reason(err), Remedy: remedyDisk, Err: err}
	}
	if lfs := disguises[0]; strings.HasPrefix(string(data[:min(len(data), sniffed)]), lfs.prefix) {
		return nil, &Error{File: d.full(name), What: lfs.what, Remedy: lfs.remedy}
	}
	return data, nil
}

// readJSON reads one of the small JSON files.
func (d *directory) readJSON(name string) (Value, error) {
	text, err := d.readFile(name, maxJSON)
	if err != nil {
		return Value{}, err
	}
	return ParseJSON(d.full(name), text)
}

// changed says that a file is not the one that was there at first.
func changed(file, how string) *Error {
	return &Error{File: file, What: "changed while loading: " + how, Remedy: "let whatever writes it finish, then load again"}
}

// list returns the names in the directory, sorted.
func (d *directory) list() ([]string, error) {
	f, err := d.root.Open(d.sub)
	if err != nil {
		return nil, &Error{File: d.path, What: "cannot be read: " + reason(err), Remedy: remedyDisk, Err: err}
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries)
	if err != nil && err != io.EOF {
		return nil, &Error{File: d.path, What: "cannot be read: " + reason(err), Remedy: remedyDisk, Err: err}
	}
	if len(names) == maxEntries {
		return nil, &Error{File: d.path, What: "has too many entries for a checkpoint", Need: "fewer than " + digits(maxEntries), Remedy: "give the directory of one checkpoint"}
	}
	slices.Sort(names)
	return names, nil
}

// unfinished returns what to do about absent files: where partial downloads
// lie about, finishing the download.
func (d *directory) unfinished() string {
	for _, dir := range []string{d.sub, path.Join(d.sub, ".cache/huggingface/download"), "blobs"} {
		f, err := d.root.OpenFile(dir, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		names, _ := f.Readdirnames(maxEntries)
		f.Close()
		for _, n := range names {
			if strings.HasSuffix(n, ".incomplete") {
				return "a download was not finished (" + path.Join(dir, plain(n)) + "); start it again"
			}
		}
	}
	return remedyAgain
}
