package nvcc

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Format is the kind of image wanted.
type Format int

const (
	Cubin Format = iota // machine code for exactly one architecture
	PTX                 // portable assembly that a driver compiles when it loads it
)

// formats holds, for each Format, its name, the nvcc option that asks for it
// and the file nvcc writes.
var formats = []struct{ name, option, file string }{
	Cubin: {"cubin", "-cubin", "kernel.cubin"},
	PTX:   {"ptx", "-ptx", "kernel.ptx"},
}

func (f Format) String() string { return formats[f].name }

func (f Format) file() string { return formats[f].file }

// Names inside the directory that nvcc runs in. The source's name is fixed so
// that neither __FILE__ nor line tables depend on what a kernel is called.
const (
	sourceFile  = "kernel.cu"
	commandFile = "command.txt"
	logFile     = "log.txt"
	scratchDir  = "scratch" // nvcc's own temporary files
)

// reserved are the names that a header must not have.
var reserved = []string{sourceFile, commandFile, logFile, manifestFile, scratchDir, formats[Cubin].file, formats[PTX].file}

// File is one header.
type File struct {
	Name string // slash-separated path as the source includes it
	Text string
}

// Request is one compilation. Everything that the image depends on is in it:
// nvcc sees no other directory than its own, the request's headers and the
// ones that come with the compilers.
type Request struct {
	Name     string // for messages; the image does not depend on it
	Source   string // CUDA C++
	Includes []File
	Arch     string // sm_NN with an optional a or f, e.g. "sm_90a"
	Format   Format
	Flags    []string // further options, e.g. "-std=c++17"
}

// archPattern accepts today's names and those to come: a = only this
// architecture's own features, f = its family's.
var archPattern = regexp.MustCompile(`^sm_([0-9]{2,3})[af]?$`)

// check refuses requests that nvcc would misunderstand.
func (r *Request) check() error {
	if !archPattern.MatchString(r.Arch) {
		return fmt.Errorf("kernel %s: architecture %q, need sm_NN such as sm_80 or sm_90a", r.Name, r.Arch)
	}
	if r.Format < 0 || int(r.Format) >= len(formats) {
		return fmt.Errorf("kernel %s: image format %d, have cubin (%d) and ptx (%d)", r.Name, r.Format, Cubin, PTX)
	}
	seen := map[string]bool{}
	for _, f := range r.Includes {
		if !filepath.IsLocal(filepath.FromSlash(f.Name)) || path.Clean(f.Name) != f.Name {
			return fmt.Errorf("kernel %s: header name %q, need a clean relative path", r.Name, f.Name)
		}
		if slices.Contains(reserved, strings.SplitN(f.Name, "/", 2)[0]) || seen[f.Name] {
			return fmt.Errorf("kernel %s: header name %q is taken", r.Name, f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// args are the options of nvcc; the last one is the source.
func (r *Request) args() []string {
	arch := r.Arch
	if r.Format == PTX {
		// PTX is compiled for a virtual architecture, which has the same number.
		arch = "compute_" + strings.TrimPrefix(r.Arch, "sm_")
	}
	args := []string{formats[r.Format].option, "-arch=" + arch, "-I.", "-Xptxas", "-v"}
	args = append(args, r.Flags...)
	return append(args, "-o", r.Format.file(), sourceFile)
}

// write puts the source, the headers and the command line into dir and returns
// the files' names.
func (r *Request) write(dir, command string) ([]string, error) {
	files := append([]File{{sourceFile, r.Source}, {commandFile, command}}, r.Includes...)
	var names []string
	for _, f := range files {
		at := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(at), dirMode); err != nil {
			return nil, err
		}
		if err := writeFile(at, []byte(f.Text)); err != nil {
			return nil, err
		}
		names = append(names, f.Name)
	}
	return names, nil
}

// keyFormat is part of every key: a change in how this package calls nvcc or
// lays out an entry changes it, so that older entries are never read.
const keyFormat = "moec nvcc entry 1"

// inputsKey covers everything but the compiler.
func (r *Request) inputsKey() string {
	h := sha256.New()
	feed(h, keyFormat, r.Arch, r.Format.String(), r.Source)
	includes := slices.SortedFunc(slices.Values(r.Includes), func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	feedCount(h, len(includes))
	for _, f := range includes {
		feed(h, f.Name, f.Text)
	}
	feedCount(h, len(r.Flags))
	feed(h, r.Flags...)
	return hex.EncodeToString(h.Sum(nil))
}

// key is the name of the request's entry: the hash of its inputs, then the
// compiler's version and hash. With the compiler last, entries of any compiler
// can be found when there is none.
func (r *Request) key(tool *Toolchain) string {
	return r.inputsKey() + "." + tool.id()
}

// feed adds strings to a hash so that no two lists give the same bytes.
func feed(h hash.Hash, parts ...string) {
	for _, p := range parts {
		feedCount(h, len(p))
		h.Write([]byte(p))
	}
}

func feedCount(h hash.Hash, n int) {
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
}
