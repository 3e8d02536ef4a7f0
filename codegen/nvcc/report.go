package nvcc

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// FuncReport is what ptxas says about one function of an image. Sizes are in
// bytes; all but shared and constant memory are per thread.
type FuncReport struct {
	Name        string // as in the image, mangled unless extern "C"
	Arch        string // empty for a device function that is called, not launched
	Entry       bool   // a kernel
	Registers   int
	Barriers    int
	Stack       int // local memory: spills, and arrays that are indexed at run time
	SpillStores int
	SpillLoads  int
	Shared      int // static only
	Constant    int // kernel parameters and literals
}

// Local reports whether the function uses local memory, which lives in device
// memory and ruins a hot kernel.
func (f FuncReport) Local() bool {
	return f.Stack > 0 || f.SpillStores > 0 || f.SpillLoads > 0
}

func (f FuncReport) String() string {
	return fmt.Sprintf("%s: %d registers, %d B stack, %d B spill stores, %d B spill loads, %d B shared", f.Name, f.Registers, f.Stack, f.SpillStores, f.SpillLoads, f.Shared)
}

// Report holds the functions in the order in which ptxas compiled them. An
// image in PTX has none.
type Report []FuncReport

// Func returns the report of a function by its name.
func (r Report) Func(name string) (FuncReport, bool) {
	for _, f := range r {
		if f.Name == name {
			return f, true
		}
	}
	return FuncReport{}, false
}

// infoPrefix starts the lines of -Xptxas -v; other lines that belong to them
// are indented.
const infoPrefix = "ptxas info"

var (
	entryLine    = regexp.MustCompile(`Compiling entry function '([^']+)' for '([^']+)'`)
	functionLine = regexp.MustCompile(`Function properties for (\S+)`)
	usedLine     = regexp.MustCompile(`: Used `)
	stackLine    = regexp.MustCompile(`^\s+[0-9]+ bytes stack frame`)
)

// quantities are the numbers of a report. Compilers before CUDA 12.9 and after
// word some of them differently; each pattern takes all known wordings.
var quantities = []struct {
	pattern *regexp.Regexp
	field   func(*FuncReport) *int
}{
	{regexp.MustCompile(`([0-9]+) registers`), func(f *FuncReport) *int { return &f.Registers }},
	{regexp.MustCompile(`([0-9]+) barriers`), func(f *FuncReport) *int { return &f.Barriers }},
	{regexp.MustCompile(`([0-9]+) bytes stack frame`), func(f *FuncReport) *int { return &f.Stack }},
	{regexp.MustCompile(`([0-9]+) bytes cumulative stack size`), func(f *FuncReport) *int { return &f.Stack }},
	{regexp.MustCompile(`([0-9]+) bytes spill stores`), func(f *FuncReport) *int { return &f.SpillStores }},
	{regexp.MustCompile(`([0-9]+) bytes spill loads`), func(f *FuncReport) *int { return &f.SpillLoads }},
	{regexp.MustCompile(`([0-9]+) bytes lmem`), func(f *FuncReport) *int { return &f.Stack }},
	{regexp.MustCompile(`([0-9]+) bytes smem`), func(f *FuncReport) *int { return &f.Shared }},
	{regexp.MustCompile(`([0-9]+) bytes cmem\[0\]`), func(f *FuncReport) *int { return &f.Constant }},
}

// ParseLog splits what nvcc printed into the resource report and the rest,
// line by line: warnings and notes.
func ParseLog(log string) (Report, []string) {
	var p logParser
	for line := range strings.Lines(log) {
		p.line(strings.TrimRight(line, " \r\n"))
	}
	return p.report, p.rest
}

// logParser is the state between two lines.
type logParser struct {
	report Report
	rest   []string
	entry  int // 1 + index of the function that "Used" lines speak of
	props  int // 1 + index of the function that indented lines speak of
}

func (p *logParser) line(line string) {
	switch {
	case strings.HasPrefix(line, infoPrefix):
		p.info(line)
	case p.props > 0 && stackLine.MatchString(line):
		p.read(p.props, line)
	case strings.TrimSpace(line) != "":
		p.rest = append(p.rest, line)
	}
}

// info reads one line of the report. Lines with other facts (compile times,
// global memory) are dropped.
func (p *logParser) info(line string) {
	if m := entryLine.FindStringSubmatch(line); m != nil {
		p.entry = p.function(m[1])
		p.report[p.entry-1].Entry = true
		p.report[p.entry-1].Arch = m[2]
	} else if m := functionLine.FindStringSubmatch(line); m != nil {
		p.props = p.function(m[1])
	} else if usedLine.MatchString(line) && p.entry > 0 {
		p.read(p.entry, line)
	}
}

// function returns 1 + the index of a function, adding it when it is new.
func (p *logParser) function(name string) int {
	for i := range p.report {
		if p.report[i].Name == name {
			return i + 1
		}
	}
	p.report = append(p.report, FuncReport{Name: name})
	return len(p.report)
}

// read takes the quantities of a line. The largest of several wordings of one
// quantity counts: a cumulative stack includes the callees'.
func (p *logParser) read(function int, line string) {
	f := &p.report[function-1]
	for _, q := range quantities {
		if m := q.pattern.FindStringSubmatch(line); m != nil {
			n, err := strconv.Atoi(m[1])
			if field := q.field(f); err == nil && n > *field {
				*field = n
			}
		}
	}
}
