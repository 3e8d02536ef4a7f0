package codegen

import (
	"fmt"
	"slices"

	"moec/codegen/kernels"
	"moec/ir"
	"moec/planner/plan"
)

// Explanation says which kernels execute a plan on an architecture, and why no
// others do.
type Explanation struct {
	Arch     string           `json:"arch"`
	Programs []ProgramKernels `json:"programs"`
	Layouts  []LayoutReason   `json:"layouts,omitempty"`
}

// ProgramKernels are the candidates for a program, those for fewer tokens first.
type ProgramKernels struct {
	Program    string       `json:"program"`
	Candidates []Candidate  `json:"candidates"`
	Steps      []StepKernel `json:"steps"` // what runs where no candidate does
}

// Candidate is a kernel, or a series of kernels, for a whole program.
type Candidate struct {
	Kernel   string         `json:"kernel"`
	From, To int            // tokens of the steps that it executes
	Prompts  bool           `json:"prompts,omitempty"` // and those are of prompts alone
	Why      string         `json:"why,omitempty"`     // it executes none
	Params   []string       `json:"params,omitempty"`
	Space    int64          `json:"space,omitempty"` // bytes
	Launches []SeriesKernel `json:"launches,omitempty"`
}

// SeriesKernel is a kernel of a series, and how often a step launches it.
type SeriesKernel struct {
	Kernel string   `json:"kernel"`
	Params []string `json:"params,omitempty"`
	Count  int      `json:"count"`
}

// StepKernel is a kernel of single steps: of which ops (the table has no other
// for them), how many instantiations the program has, and how often they run.
type StepKernel struct {
	Kernel         string   `json:"kernel"`
	Ops            []string `json:"ops"`
	Instantiations int      `json:"instantiations"`
	Launches       int      `json:"launches"` // of a step of the program, all layers and devices
}

// LayoutReason says why a weight lies as it does.
type LayoutReason struct {
	plan.Layout
	Why string `json:"why"`
}

// Explain says why a plan's section for an architecture is as it is, or, if it
// has none, the one that it would get.
func Explain(p *plan.Plan, arch string) (*Explanation, error) {
	k, err := Choose(p, arch)
	if err != nil {
		return nil, err
	}
	for _, have := range p.Kernels {
		if have.Backend == Backend && have.Arch == arch {
			k = have
		}
	}
	e := &Explanation{Arch: arch}
	for i := range p.Programs {
		prog := &p.Programs[i]
		pk := ProgramKernels{Program: prog.Name, Candidates: candidates(p, prog, k)}
		pk.Steps = stepKernels(prog, k)
		e.Programs = append(e.Programs, pk)
	}
	for _, l := range k.Layouts {
		e.Layouts = append(e.Layouts, LayoutReason{l, "the kernels for whole programs multiply tiles as they lie"})
	}
	return e, nil
}

// candidates says of each kernel for whole programs what it executes, or why not.
func candidates(p *plan.Plan, prog *plan.Program, k plan.Kernels) []Candidate {
	var list []Candidate
	from := 1
	for _, name := range []string{"decode", Prefill} {
		c := Candidate{Kernel: name}
		i := slices.IndexFunc(k.Wholes, func(w plan.Whole) bool { return w.Program == prog.Name && w.Kernel == name })
		if i < 0 {
			c.Why = whyNot(p, prog, k.Arch, name)
			list = append(list, c)
			continue
		}
		w := k.Wholes[i]
		c.From, c.To, c.Params, c.Space = from, w.Tokens, w.Params, w.Space
		if name == Prefill {
			c.Launches = launches(p, prog)
			if c.Prompts = p.Numerics.Mode == ir.Invariant; c.Prompts {
				c.From = 1
			}
		}
		from = w.Tokens + 1
		list = append(list, c)
	}
	return list
}

// whyNot says why a kernel does not execute a program.
func whyNot(p *plan.Plan, prog *plan.Program, arch, kernel string) string {
	if need := kernels.Lookup("decode").Arch; arch != need {
		return fmt.Sprintf("it uses instructions of %s, the code is for %s", need, arch)
	}
	d, err := matchDecoder(p, prog)
	switch {
	case err != nil:
		return err.Error()
	case !tilesFit(p, d):
		return "a step reads weights in rows that it wants in tiles, or layers' weights lie apart"
	case kernel == Prefill && p.Limits.Tokens <= decodeTokens:
		return fmt.Sprintf("steps have at most %d tokens, which decode executes", p.Limits.Tokens)
	}
	if _, err := d.series(); err != nil {
		return err.Error()
	}
	return "the plan leaves it out"
}

// launches counts the kernels of a series.
func launches(p *plan.Plan, prog *plan.Program) []SeriesKernel {
	d, err := matchDecoder(p, prog)
	if err != nil {
		return nil
	}
	s, err := d.series()
	if err != nil {
		return nil
	}
	var list []SeriesKernel
	for _, r := range s.Runs {
		for _, c := range r.Calls {
			i := slices.IndexFunc(list, func(k SeriesKernel) bool { return k.Kernel == c.Kernel && slices.Equal(k.Params, c.use.params) })
			if i < 0 {
				i = len(list)
				list = append(list, SeriesKernel{Kernel: c.Kernel, Params: c.use.params})
			}
			list[i].Count += max(1, r.Layers.Len())
		}
	}
	return list
}

// stepKernels lists the kernels of a program's single steps, the most launched
// first.
func stepKernels(prog *plan.Program, k plan.Kernels) []StepKernel {
	layers := make(map[string]int) // that a block runs for
	for _, r := range prog.Runs {
		layers[r.Block] += max(1, r.Layers.Len())
	}
	byName := make(map[string]*StepKernel)
	seen := make(map[string]bool)
	var list []*StepKernel
	for _, c := range k.Choices {
		if c.Program != prog.Name {
			continue
		}
		s := byName[c.Kernel]
		if s == nil {
			row := kernels.Lookup(c.Kernel)
			s = &StepKernel{Kernel: c.Kernel, Ops: row.Ops}
			byName[c.Kernel] = s
			list = append(list, s)
		}
		s.Launches += layers[c.Block]
		if symbol := kernels.Lookup(c.Kernel).Symbol(c.Params); !seen[symbol] {
			seen[symbol] = true
			s.Instantiations++
		}
	}
	slices.SortStableFunc(list, func(a, b *StepKernel) int { return b.Launches - a.Launches })
	out := make([]StepKernel, len(list))
	for i, s := range list {
		out[i] = *s
	}
	return out
}
