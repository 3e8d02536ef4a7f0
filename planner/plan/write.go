package plan

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write writes the plan so that path holds the old file or the whole new one,
// never a part.
func Write(path string, p *Plan) error {
	text, err := Encode(p)
	if err != nil {
		return err
	}
	return replace(disk{}, path, text)
}

// files is what replace needs of a file system.
type files interface {
	// target follows links to the file that is to be replaced.
	target(path string) (string, error)
	create(dir, pattern string) (file, error)
	rename(from, to string) error
	remove(path string) error
}

// file is what replace needs of an *os.File.
type file interface {
	Name() string
	Write(text []byte) (int, error)
	Chmod(mode fs.FileMode) error
	Sync() error
	Close() error
}

// errNotRegular is why a device, a pipe or a directory is not replaced.
var errNotRegular = errors.New("is not a regular file")

// disk is the operating system's files.
type disk struct{}

func (disk) target(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil
	}
	if err != nil {
		return "", err
	}
	info, err := os.Stat(real)
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	return real, err
}

func (disk) create(dir, pattern string) (file, error) { return os.CreateTemp(dir, pattern) }
func (disk) rename(from, to string) error             { return os.Rename(from, to) }
func (disk) remove(path string) error                 { return os.Remove(path) }

// replace writes text to a new file beside path, makes sure that it is on the
// disk, and gives it the name. Whatever fails, path is as it was and the new
// file is gone.
func replace(d files, path string, text []byte) error {
	to, err := d.target(path)
	if err != nil {
		return &FileError{File: path, What: err.Error(), Remedy: "name a file that does not exist, or a plan to replace"}
	}
	tmp, err := d.create(filepath.Dir(to), "."+filepath.Base(to)+".*")
	if err != nil {
		return &FileError{File: path, What: err.Error(), Remedy: "name a directory that exists and can be written to"}
	}
	err = fill(tmp, text)
	if err == nil {
		err = d.rename(tmp.Name(), to)
	}
	if err == nil {
		return nil
	}
	remedy := "nothing was written"
	if d.remove(tmp.Name()) != nil {
		remedy += "; remove " + tmp.Name()
	}
	return &FileError{File: path, What: err.Error(), Remedy: remedy}
}

// fill writes and closes a file.
func fill(f file, text []byte) error {
	_, err := f.Write(text)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
