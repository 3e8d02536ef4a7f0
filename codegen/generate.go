package codegen

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"moec/codegen/kernels"
	"moec/codegen/nvcc"
	"moec/planner/plan"
)

// Code is what a kernels section means: the sources to compile, one for each
// kernel file, and how to launch each step.
type Code struct {
	Arch     string
	Units    []Unit
	Launches map[At]*Launch
	Wholes   map[string]*Whole  // by program
	Series   map[string]*Series // by program
	Loading  int                // index of the unit that puts weights in their places
	Sampling int                // index of the unit that chooses tokens
}

// Unit is one source and the instantiations in it.
type Unit struct {
	File    string // of the kernels
	Symbols []string
	Source  string
}

// Generate writes the code of a plan with a kernels section.
func Generate(p *plan.Plan, k plan.Kernels) (*Code, error) {
	chosen := make(map[At]plan.Choice, len(k.Choices))
	for _, c := range k.Choices {
		chosen[At{c.Program, c.Block, c.Device, c.Step, c.Body}] = c
	}
	g := &generator{code: &Code{Arch: k.Arch, Launches: make(map[At]*Launch, len(chosen)), Wholes: make(map[string]*Whole), Series: make(map[string]*Series)}, made: make(map[string]map[string]string)}
	uses := make(map[At]*use)
	g.loading(p)
	g.add(useOf("choose"))
	for _, w := range k.Wholes {
		if err := g.whole(p, k, w); err != nil {
			return nil, err
		}
	}
	err := sites(p, func(s *site) error {
		s.layout = layoutOf(k.Layouts, s)
		u, err := s.use()
		if err != nil {
			return err
		}
		c, ok := chosen[s.at]
		if !ok || c.Kernel != u.kernel.Name || !slices.Equal(c.Params, u.params) {
			return fmt.Errorf("%v (%s): the plan names kernel %s, this moec runs %s<%s>; compile the plan again", s.at, s.Op, describe(c), u.kernel.Name, strings.Join(u.params, " "))
		}
		uses[s.at] = u
		g.add(u)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(uses) != len(k.Choices) {
		return nil, fmt.Errorf("the plan names kernels for %d steps, it has %d that need one; compile the plan again", len(k.Choices), len(uses))
	}
	g.units()
	for at, u := range uses {
		g.code.Launches[at] = g.launch(u)
	}
	g.code.Loading, g.code.Sampling = g.unit("load.cuh"), g.unit("sample.cuh")
	for _, w := range g.code.Wholes {
		w.Unit = g.unit("decode.cuh")
	}
	for _, s := range g.code.Series {
		for _, r := range s.Runs {
			for _, c := range r.Calls {
				c.Unit = g.unit(c.use.kernel.File)
			}
		}
	}
	return g.code, nil
}

func describe(c plan.Choice) string {
	if c.Kernel == "" {
		return "none"
	}
	return c.Kernel + "<" + strings.Join(c.Params, " ") + ">"
}

// generator collects instantiations.
type generator struct {
	code *Code
	made map[string]map[string]string // file to symbol to text
}

func (g *generator) add(u *use) {
	file := u.kernel.File
	if g.made[file] == nil {
		g.made[file] = make(map[string]string)
	}
	g.made[file][u.kernel.Symbol(u.params)] = u.kernel.Instantiate(u.params)
}

// units writes the sources, sorted so that they depend on the set of
// instantiations alone.
func (g *generator) units() {
	for file, made := range g.made {
		u := Unit{File: file}
		for symbol := range made {
			u.Symbols = append(u.Symbols, symbol)
		}
		slices.Sort(u.Symbols)
		var out strings.Builder
		fmt.Fprintf(&out, "#include %q\n", file)
		for _, symbol := range u.Symbols {
			out.WriteString("\n" + made[symbol])
		}
		u.Source = out.String()
		g.code.Units = append(g.code.Units, u)
	}
	slices.SortFunc(g.code.Units, func(a, b Unit) int { return strings.Compare(a.File, b.File) })
}

// loading adds what puts weights of the plan's types in their places.
func (g *generator) loading(p *plan.Plan) {
	g.add(useOf("read_all"))
	for _, w := range p.Weights {
		g.add(useOf("make_up", w.DType, "rows"))
		if w.DType.Bytes() == 2 {
			g.add(useOf("make_up", w.DType, plan.Tiles))
			g.add(useOf("lay_tiles", w.DType))
		}
	}
}

// SymbolOf names an instantiation of a kernel in an image, for those that no
// step names.
func SymbolOf(kernel string, params ...any) string {
	u := useOf(kernel, params...)
	return u.kernel.Symbol(u.params)
}

// unit returns the index of the source that a file's instantiations are in.
func (g *generator) unit(file string) int {
	return slices.IndexFunc(g.code.Units, func(u Unit) bool { return u.File == file })
}

func (g *generator) launch(u *use) *Launch {
	return &Launch{
		Unit:     g.unit(u.kernel.File),
		Symbol:   u.kernel.Symbol(u.params),
		Threads:  u.kernel.Block,
		PerBlock: u.kernel.PerBlock(),
		Items:    u.items,
		Args:     u.args,
	}
}

// flags are nvcc's options for every kernel. Products are rounded before they
// are added except where a kernel says fmaf, so that elementwise ops have the
// bits of their definition.
var flags = []string{"-std=c++17", "-fmad=false"}

// Requests returns the compilations that make the code's images, in the order
// of its units.
func (c *Code) Requests() []nvcc.Request {
	list := make([]nvcc.Request, len(c.Units))
	for i, u := range c.Units {
		list[i] = nvcc.Request{Name: strings.TrimSuffix(u.File, ".cuh"), Source: u.Source, Includes: headers(u.File), Arch: c.Arch, Flags: flags}
	}
	return list
}

// Compile makes the images of the code, in the order of its units.
func (c *Code) Compile(ctx context.Context, compiler *nvcc.Compiler, workers int, report func(nvcc.Progress)) ([]nvcc.Result, error) {
	return compiler.CompileAll(ctx, c.Requests(), workers, report)
}

// headers returns a kernel file and those that it includes.
func headers(file string) []nvcc.File {
	var list []nvcc.File
	var add func(string)
	add = func(name string) {
		if slices.ContainsFunc(list, func(f nvcc.File) bool { return f.Name == name }) {
			return
		}
		text := kernels.Text(name)
		list = append(list, nvcc.File{Name: name, Text: text})
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(line, `#include "`); ok {
				add(strings.TrimSuffix(strings.TrimSpace(rest), `"`))
			}
		}
	}
	add(file)
	return list
}
