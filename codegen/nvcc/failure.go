package nvcc

import (
	"fmt"
	"strings"
)

// shownLines is how much of a log an error message quotes.
const shownLines = 8

// CompileError is the error of a run of nvcc that gave no image.
type CompileError struct {
	Name, Arch string // of the request
	Version    string // of nvcc
	Cause      error  // how the run ended
	Log        string // all that nvcc printed
	Kept       string // directory with the source, the headers, the command and the log
}

func (e *CompileError) Unwrap() error { return e.Cause }

func (e *CompileError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "nvcc %s could not compile kernel %s for %s: %v", e.Version, e.Name, e.Arch, e.Cause)
	if log := firstLines(e.Log, shownLines); log != "" {
		b.WriteString("\n" + log)
	}
	for _, h := range hints {
		if strings.Contains(e.Log, h.text) {
			b.WriteString("\nhint: " + h.hint)
			break
		}
	}
	if e.Kept != "" {
		fmt.Fprintf(&b, "\nsource, command and log are in %s", e.Kept)
	}
	return b.String()
}

// hints explains messages that tell a user too little.
var hints = []struct{ text, hint string }{
	{"Unsupported gpu architecture", "this nvcc does not know the architecture; CUDA 13 starts at sm_75, CUDA 12 still has sm_70"},
	{"unsupported GNU version", "this nvcc refuses the installed g++; set NVCC_CCBIN to an older one"},
	{"No space left on device", "make room on the file system of the directory below"},
	{"gcc: No such file", "nvcc needs a C++ compiler on PATH: install g++"},
	{"cc1plus", "nvcc needs a C++ compiler on PATH: install g++"},
	{"Failed to preprocess host compiler properties", "nvcc needs a C++ compiler on PATH: install g++, or set NVCC_CCBIN"},
}

// firstLines quotes at most n lines, indented. When there are more it starts
// at the first error, which may follow pages of warnings.
func firstLines(text string, n int) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \r\n")
		if line != "" && !strings.HasPrefix(line, infoPrefix) {
			lines = append(lines, "  "+line)
		}
	}
	if len(lines) > n {
		for i, line := range lines {
			if strings.Contains(line, "error") || strings.Contains(line, "fatal") {
				lines = lines[i:]
				break
			}
		}
	}
	if more := len(lines) - n; more > 0 {
		lines = append(lines[:n], fmt.Sprintf("  (%d more lines)", more))
	}
	return strings.Join(lines, "\n")
}
