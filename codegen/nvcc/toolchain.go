package nvcc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// LocalToolkit is where `make cuda-toolkit` puts the compiler, below the
// directory that holds the Makefile.
const LocalToolkit = ".cache/cuda/nvidia/cu13"

// remedy ends every message about a missing nvcc.
const remedy = `run "make cuda-toolkit" in moec's source directory, or install the CUDA toolkit and set CUDA_HOME`

// Toolchain is one nvcc.
type Toolchain struct {
	Path    string // absolute path of nvcc
	Version string // "13.0.88"
	Banner  string // all of `nvcc --version`, which cache keys cover
	From    string // where it was found: "flag", "CUDA_HOME", "PATH", ...
	ccbin   string // NVCC_CCBIN: another host compiler, which cache keys cover
}

// id names the compiler in cache keys.
func (t *Toolchain) id() string {
	sum := sha256.Sum256([]byte(t.Banner + "\x00" + t.ccbin))
	return t.Version + "-" + hex.EncodeToString(sum[:8])
}

// Search says where to look for nvcc.
type Search struct {
	Flag   string                   // a path to nvcc or to a toolkit, from the command line; wins when set
	Getenv func(name string) string // nil means os.Getenv
	// Local are directories that may hold LocalToolkit, each with its parents.
	Local []string
	// System are toolkit directories of the operating system.
	System []string
}

// DefaultSearch looks where a user expects: the flag, the environment, beside
// the current directory and the executable, and the usual installation.
func DefaultSearch(flag string) Search {
	s := Search{Flag: flag, System: []string{"/usr/local/cuda", "/opt/cuda"}}
	if dir, err := os.Getwd(); err == nil {
		s.Local = append(s.Local, dir)
	}
	if exe, err := os.Executable(); err == nil {
		s.Local = append(s.Local, filepath.Dir(exe))
	}
	return s
}

// NotFoundError is the error of Find when there is no nvcc.
type NotFoundError struct {
	Looked []string // the places, each with what was there
}

func (e *NotFoundError) Error() string {
	return "nvcc not found: looked at " + strings.Join(e.Looked, ", ") + "; " + remedy
}

// candidate is a possible nvcc and the place that named it.
type candidate struct{ from, path string }

// Find returns the first nvcc that exists, after asking it for its version.
func Find(ctx context.Context, s Search) (*Toolchain, error) {
	if s.Getenv == nil {
		s.Getenv = os.Getenv
	}
	found, looked := s.look()
	if found.path == "" {
		return nil, &NotFoundError{Looked: looked}
	}
	abs, err := filepath.Abs(found.path)
	if err != nil {
		return nil, fmt.Errorf("nvcc %s: %w", found.path, err)
	}
	banner, err := askVersion(ctx, abs)
	if err != nil {
		return nil, fmt.Errorf("nvcc %s (from %s) does not tell its version: %w; %s", abs, found.from, err, remedy)
	}
	version, err := parseVersion(banner)
	if err != nil {
		return nil, fmt.Errorf("nvcc %s (from %s): %w; %s", abs, found.from, err, remedy)
	}
	return &Toolchain{Path: abs, Version: version, Banner: banner, From: found.from, ccbin: s.Getenv("NVCC_CCBIN")}, nil
}

// look returns the nvcc to use, or the places that have none. A flag that
// names no nvcc ends the search: the user meant that one.
func (s *Search) look() (candidate, []string) {
	if s.Flag != "" {
		for _, p := range []string{s.Flag, filepath.Join(s.Flag, "bin", "nvcc"), filepath.Join(s.Flag, "nvcc")} {
			if executable(p) {
				return candidate{"flag", p}, nil
			}
		}
		return candidate{}, []string{fmt.Sprintf("%s (neither a program nor a toolkit directory)", s.Flag)}
	}
	var looked []string
	try := func(from, p, absent string) (candidate, bool) {
		if executable(p) {
			return candidate{from, p}, true
		}
		looked = append(looked, absent)
		return candidate{}, false
	}
	if home := s.Getenv("CUDA_HOME"); home == "" {
		looked = append(looked, "CUDA_HOME (not set)")
	} else if c, ok := try("CUDA_HOME", filepath.Join(home, "bin", "nvcc"), "CUDA_HOME="+home+" (no bin/nvcc there)"); ok {
		return c, nil
	}
	for _, dir := range filepath.SplitList(s.Getenv("PATH")) {
		// A relative entry would make the compiler depend on the directory.
		if p := filepath.Join(dir, "nvcc"); filepath.IsAbs(dir) && executable(p) {
			return candidate{"PATH", p}, nil
		}
	}
	looked = append(looked, "PATH")
	if p := s.lookLocal(); p != "" {
		return candidate{LocalToolkit, p}, nil
	}
	looked = append(looked, ".cache/cuda here and above")
	for _, dir := range s.System {
		if c, ok := try(dir, filepath.Join(dir, "bin", "nvcc"), dir); ok {
			return c, nil
		}
	}
	return candidate{}, looked
}

// lookLocal walks up from each local directory.
func (s *Search) lookLocal() string {
	for _, dir := range s.Local {
		for {
			if p := filepath.Join(dir, filepath.FromSlash(LocalToolkit), "bin", "nvcc"); executable(p) {
				return p
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return ""
}

func executable(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// askVersion runs nvcc --version, which takes milliseconds.
func askVersion(ctx context.Context, nvcc string) (string, error) {
	const limit = 20 * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %v", limit))
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, nvcc, "--version")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := runGroup(cmd); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("%w (%s)", err, firstLines(out.String(), 1))
	}
	return strings.TrimSpace(out.String()), nil
}

// versionPattern finds "V13.0.88" in "Cuda compilation tools, release 13.0, V13.0.88".
var versionPattern = regexp.MustCompile(`\bV([0-9]+\.[0-9]+\.[0-9]+)\b`)

func parseVersion(banner string) (string, error) {
	m := versionPattern.FindStringSubmatch(banner)
	if m == nil {
		return "", errors.New("its --version has no version number of the form V13.0.88")
	}
	return m[1], nil
}
