package codegen

import (
	"fmt"

	"moec/ir/tensor"
	"moec/planner/plan"
)

// At is the place of a step in a plan: Body is 1 + the index into the body of
// a fused step, or 0.
type At struct {
	Program, Block string
	Device         int
	Step, Body     int
}

func (a At) String() string {
	s := fmt.Sprintf("%s: %s: device %d: step %d", a.Program, a.Block, a.Device, a.Step)
	if a.Body > 0 {
		s += fmt.Sprintf(", operation %d of its body", a.Body-1)
	}
	return s
}

// site is a step with the types of what it reads and writes.
type site struct {
	*plan.Step
	at     At
	args   []tensor.Type
	out    tensor.Type
	cache  *plan.Cache // the cache operand, if there is one
	layout string      // of the second operand, if it is a weight: "rows" or "tiles"
	limits plan.Limits
}

// tableWidth is how many pages a sequence can have: the extent of a row of
// the page table.
func (s *site) tableWidth() int { return TableWidth(s.limits) }

// TableWidth returns how many pages a sequence can have. A token group's page
// table has a row of that many 32-bit page numbers for each sequence slot.
func TableWidth(l plan.Limits) int { return (l.Context + l.Page - 1) / l.Page }

// group returns the token group of the operand's rows.
func (s *site) group(i int) int { return max(0, s.args[i].Shape[0].Sym.Group()) }

// sites calls visit with every step of a plan that a kernel has to execute,
// the bodies of fused steps in their stead.
func sites(p *plan.Plan, visit func(*site) error) error {
	for i := range p.Programs {
		if err := sitesOf(p, &p.Programs[i], visit); err != nil {
			return err
		}
	}
	return nil
}

// sitesOf is sites of one program.
func sitesOf(p *plan.Plan, prog *plan.Program, visit func(*site) error) error {
	seen := make(map[string]bool)
	for _, run := range prog.Runs {
		if seen[run.Block] {
			continue
		}
		seen[run.Block] = true
		r := &resolver{plan: p, prog: prog, layer: -1}
		if run.Layers != plan.NoLayers {
			r.layer = run.Layers.First
		}
		if err := r.block(run.Block, visit); err != nil {
			return err
		}
	}
	return nil
}

// resolver finds the types of operands in the first layer that a block runs
// for; they are the same in the others.
type resolver struct {
	plan  *plan.Plan
	prog  *plan.Program
	local []plan.Buffer
	layer int
}

func (r *resolver) block(name string, visit func(*site) error) error {
	for i := range r.prog.Blocks {
		b := &r.prog.Blocks[i]
		if b.Name != name {
			continue
		}
		r.local = b.Buffers
		for qi := range b.Queues {
			q := &b.Queues[qi]
			for si := range q.Steps {
				at := At{r.prog.Name, name, q.Device, si, 0}
				if err := r.step(&q.Steps[si], at, visit); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return fmt.Errorf("internal error: program %s has no block %q", r.prog.Name, name)
}

func (r *resolver) step(s *plan.Step, at At, visit func(*site) error) error {
	for i := range s.Body {
		at.Body = i + 1
		if err := r.step(&s.Body[i], at, visit); err != nil {
			return err
		}
	}
	if len(s.Body) > 0 || s.Op == "send" {
		return nil
	}
	site := &site{Step: s, at: at, layout: "rows", limits: r.plan.Limits}
	for _, a := range s.Args {
		t, err := r.typeOf(site, a)
		if err != nil {
			return fmt.Errorf("%v (%s): %w", at, s.Op, err)
		}
		site.args = append(site.args, t)
	}
	if s.Out != "" {
		t, err := r.typeOf(site, plan.Ref{Kind: plan.BufferRef, Name: s.Out, Device: at.Device})
		if err != nil {
			return fmt.Errorf("%v (%s): %w", at, s.Op, err)
		}
		site.out = t
	}
	return visit(site)
}

// typeOf returns the type of an operand, and notes a cache.
func (r *resolver) typeOf(s *site, a plan.Ref) (tensor.Type, error) {
	t, err := r.stored(s, a)
	if a.Type.DType != tensor.Invalid {
		t = a.Type
	}
	return t, err
}

func (r *resolver) stored(s *site, a plan.Ref) (tensor.Type, error) {
	p := r.plan
	switch a.Kind {
	case plan.BufferRef:
		for _, list := range [][]plan.Buffer{r.local, r.prog.Buffers} {
			for _, b := range list {
				if b.Name == a.Name && b.Device == a.Device {
					return b.Type, nil
				}
			}
		}
	case plan.ConstRef:
		for _, c := range p.Consts {
			if c.Name == a.Name {
				return tensor.Type{DType: tensor.F32, Shape: tensor.Ints(c.Shape...)}, nil
			}
		}
	case plan.WeightRef:
		for _, w := range p.Weights {
			if w.Name == a.Name && w.Device == a.Device && (w.Layers == plan.NoLayers || w.Layers.Has(r.layer)) {
				return tensor.Type{DType: w.DType, Shape: tensor.Ints(w.Shape...)}, nil
			}
		}
	case plan.CacheRef:
		for i := range p.Caches {
			if c := &p.Caches[i]; c.Name == a.Name && c.Device == a.Device && (c.Layers == plan.NoLayers || c.Layers.Has(r.layer)) {
				s.cache = c
				return tensor.Of(c.DType, tensor.S(tensor.Cached), tensor.N(c.Heads), tensor.N(c.KeyDim+c.ValDim)), nil
			}
		}
	}
	return tensor.Type{}, fmt.Errorf("no %s %q for layer %d on device %d", a.Kind, a.Name, r.layer, a.Device)
}
