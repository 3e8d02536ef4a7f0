// Package nvcc turns CUDA C++ text into device code by running NVIDIA's
// compiler.
//
// In goes a Request: one source, the headers it includes, an architecture and
// flags. Out comes a Result: the cubin or PTX image and what ptxas reported
// about registers, spills and local memory. Finished images are kept in a
// content-addressed cache on disk that several processes may share.
//
// The package never touches a GPU, never uses a shell, never downloads
// anything and needs no cgo.
package nvcc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// DefaultTimeout bounds one run of nvcc. The largest kernels here compile in
// well under a minute; a run that takes ten is stuck.
const DefaultTimeout = 10 * time.Minute

// Options says how a Compiler works.
type Options struct {
	// Toolchain is the nvcc to run. Without one only images that are already
	// in the cache can be had, whichever nvcc made them.
	Toolchain *Toolchain
	// Missing says why there is no Toolchain, usually the error of Find. It is
	// part of the error for an image that is not cached.
	Missing error
	// CacheDir holds finished images; see DefaultCacheDir.
	CacheDir string
	// Timeout bounds one run of nvcc; zero means DefaultTimeout.
	Timeout time.Duration
	// Warn receives conditions that slow the work but do not stop it, such as
	// a damaged cache entry. It may be called from several goroutines. Nil
	// drops them.
	Warn func(message string)
}

// Result is a compiled image.
type Result struct {
	Image    []byte // a cubin (ELF) or PTX text, by the request's Format
	Report   Report
	Warnings []string // what nvcc printed besides the resource report
	Key      string   // the cache key
	Cached   bool     // whether the image came from the cache
}

// Compiler compiles requests. It is safe for concurrent use.
type Compiler struct {
	tool    *Toolchain
	missing error
	timeout time.Duration
	warn    func(string)
	cache   *cache
	uncache sync.Once // guards the one warning about a cache that cannot be written
}

// New returns a Compiler. It touches no file: a cache directory that cannot be
// used costs a warning at the first compilation, not an error.
func New(opts Options) *Compiler {
	c := &Compiler{
		tool:    opts.Toolchain,
		missing: opts.Missing,
		timeout: opts.Timeout,
		warn:    opts.Warn,
		cache:   &cache{root: opts.CacheDir},
	}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	if c.warn == nil {
		c.warn = func(string) {}
	}
	return c
}

// DefaultCacheDir is the user's cache directory for kernels.
func DefaultCacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no directory for compiled kernels: %w; set HOME or XDG_CACHE_HOME, or name a cache directory", err)
	}
	return filepath.Join(base, "moec", "kernels"), nil
}

// Compile returns the image for a request, from the cache or by running nvcc.
// Cancelling the context kills nvcc and everything it started.
func (c *Compiler) Compile(ctx context.Context, req Request) (Result, error) {
	if err := req.check(); err != nil {
		return Result{}, err
	}
	if c.tool == nil {
		return c.fromCache(req)
	}
	key := req.key(c.tool)
	if res, err := c.cache.load(key); err == nil {
		return res, nil
	}
	// A miss, or an entry that is damaged: which of the two is decided again
	// under the lock, because another process may be repairing it right now.
	unlock, err := c.cache.lock(ctx, key)
	if err != nil {
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		return c.compileUncached(ctx, req, key, err)
	}
	defer unlock()
	res, err := c.cache.load(key)
	if err == nil {
		return res, nil
	}
	if !errors.Is(err, errNoEntry) {
		if err := c.setAside(key, err); err != nil {
			return c.compileUncached(ctx, req, key, err)
		}
	}
	return c.compileLocked(ctx, req, key)
}

// fromCache serves a request without an nvcc.
func (c *Compiler) fromCache(req Request) (Result, error) {
	res, err := c.cache.loadAnyVersion(req.inputsKey())
	if err == nil {
		return res, nil
	}
	why := c.missing
	if why == nil {
		why = errors.New("no nvcc was given")
	}
	return Result{}, fmt.Errorf("kernel %s for %s is not in the cache %s and cannot be compiled: %w", req.Name, req.Arch, c.cache.root, why)
}

// setAside moves a damaged entry out of the way and says so, once: the process
// that moves it is the only one that saw it under the lock.
func (c *Compiler) setAside(key string, damage error) error {
	to, err := c.cache.moveAside(key)
	if err != nil {
		return err
	}
	c.warn(fmt.Sprintf("kernel cache: %v; moved it to %s and compile it again", damage, to))
	return nil
}

// compileLocked builds in the cache's work directory and publishes the entry.
// The caller holds the key's lock.
func (c *Compiler) compileLocked(ctx context.Context, req Request, key string) (Result, error) {
	dir, err := c.cache.workDir(key)
	if err != nil {
		return c.compileUncached(ctx, req, key, err)
	}
	out, err := c.build(ctx, req, dir)
	if unwritable := (*writeError)(nil); errors.As(err, &unwritable) {
		os.RemoveAll(dir)
		return c.compileUncached(ctx, req, key, unwritable)
	}
	if err != nil {
		return Result{}, c.keepFailure(err, dir, c.cache.failedDir(key))
	}
	res := out.result(key)
	if err := c.cache.publish(key, dir, out); err != nil {
		// The image is good; only keeping it failed, on a full disk for one.
		os.RemoveAll(dir)
		c.warnUncached(err)
	}
	return res, nil
}

// compileUncached builds in a temporary directory, for a cache that cannot be
// written.
func (c *Compiler) compileUncached(ctx context.Context, req Request, key string, why error) (Result, error) {
	c.warnUncached(why)
	dir, err := os.MkdirTemp("", "moec-nvcc-")
	if err != nil {
		return Result{}, fmt.Errorf("no place to compile kernel %s: the cache cannot be written (%v) and neither can the temporary directory: %w", req.Name, why, err)
	}
	out, err := c.build(ctx, req, dir)
	if err != nil {
		return Result{}, c.keepFailure(err, dir, dir)
	}
	res := out.result(key)
	os.RemoveAll(dir)
	return res, nil
}

func (c *Compiler) warnUncached(why error) {
	c.uncache.Do(func() {
		c.warn(fmt.Sprintf("kernel cache %s cannot be written (%v): kernels are compiled but not kept", c.cache.root, why))
	})
}

// keepFailure keeps the directory of a failed compilation where the user can
// look at it, and removes it when the user only interrupted the work.
func (c *Compiler) keepFailure(err error, dir, keep string) error {
	var failed *CompileError
	if !errors.As(err, &failed) {
		os.RemoveAll(dir)
		return err
	}
	os.RemoveAll(filepath.Join(dir, scratchDir))
	failed.Kept = dir
	if keep != dir && replaceDir(dir, keep) == nil {
		failed.Kept = keep
	}
	return err
}

// replaceDir renames a directory over whatever was there.
func replaceDir(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), dirMode); err != nil {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

// built is what one run of nvcc left.
type built struct {
	image []byte
	log   string
	files []string // names in the directory that belong to the entry
}

func (b built) result(key string) Result {
	report, warnings := ParseLog(b.log)
	return Result{Image: b.image, Report: report, Warnings: warnings, Key: key}
}

// build writes the sources into dir and runs nvcc there. Its error is a
// *writeError, a *CompileError or the context's cause.
func (c *Compiler) build(ctx context.Context, req Request, dir string) (built, error) {
	args := req.args()
	files, err := req.write(dir, commandText(c.tool, args))
	if err != nil {
		return built{}, &writeError{err}
	}
	run := nvccRun{tool: c.tool, dir: dir, args: args, timeout: c.timeout}
	log, runErr := run.do(ctx)
	if ctx.Err() != nil {
		return built{}, context.Cause(ctx)
	}
	logErr := writeFile(filepath.Join(dir, logFile), []byte(log))
	var image []byte
	if runErr == nil {
		image, runErr = readImage(filepath.Join(dir, req.Format.file()), req.Format)
	}
	if runErr != nil {
		return built{}, &CompileError{Name: req.Name, Arch: req.Arch, Version: c.tool.Version, Log: log, Cause: runErr}
	}
	if logErr != nil {
		return built{}, &writeError{logErr}
	}
	return built{image: image, log: log, files: append(files, logFile, req.Format.file())}, nil
}

// commandText is the command as a person would type it in the directory.
func commandText(tool *Toolchain, args []string) string {
	return tool.Path + " " + strings.Join(args, " ") + "\n\n" + tool.Banner + "\n"
}
