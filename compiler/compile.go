package compiler

import (
	"strconv"
	"time"

	"moec/dsl"
	"moec/ir"
	"moec/ir/placement"
	"moec/passes"
	"moec/passes/trace"
	"moec/planner"
	"moec/planner/plan"
)

// Options say what to compile for. The zero Options compile the defaults of a
// description for one device without limits worth mentioning.
type Options struct {
	Env      dsl.Env
	Numerics ir.Numerics // the zero value: invariant, DefaultSegments
	Limits   plan.Limits // zero fields get defaults
	Machine  plan.Machine
	// Place chooses the placement when the logical graph is ready. Nil puts
	// everything on device 0.
	Place func(logical *ir.Graph) (*placement.Placement, error)
	// To ends the passes early; Off leaves some out; Sink sees the graph
	// after each.
	To   string
	Off  map[string]bool
	Sink trace.Sink
}

// DefaultSegments is the number of leaves of a contraction that a placement
// may divide; see RATIONALE.md.
const DefaultSegments = 8

// Defaults of plan.Limits.
const (
	defaultTokens    = 256  // a prompt chunk: enough rows to reuse weights well
	defaultSequences = 8    // sequences at the same time
	defaultContext   = 4096 // positions, if the model allows as many
	defaultPage      = 16   // positions of a KV page, as most servers have it
)

// Result is a compiled description.
type Result struct {
	Plan    *plan.Plan // nil if To ended the passes before it could be made
	Model   *dsl.Model
	Logical *ir.Graph // after the passes on the logical graph, before "place"
	Graph   *ir.Graph // as the passes left it
	Timings []passes.Timing
	Stages  []Stage
}

// Stage is the time that a stage took.
type Stage struct {
	Name string        `json:"name"`
	Took time.Duration `json:"ns"`
}

// Compile runs all stages. Mistakes in the description come back as a
// diag.List.
func Compile(file string, src []byte, o Options) (*Result, error) {
	r := &Result{}
	if err := r.timed("description", func() error { return r.build(file, src, o.Env) }); err != nil {
		return nil, err
	}
	g := r.Model.Graph
	g.Numerics = o.Numerics
	if g.Numerics.Mode == "" {
		g.Numerics.Mode = ir.Invariant
	}
	if g.Numerics.Segments == 0 {
		g.Numerics.Segments = DefaultSegments
	}
	model := Describe(g)
	for _, b := range r.Model.Bindings {
		model.Bindings = append(model.Bindings, plan.Binding{Name: b.Name, Value: b.Value, From: b.From})
		if n, err := strconv.Atoi(b.Value); err == nil && b.Name == "context" {
			model.Context = n
		}
	}
	ctx := &passes.Context{Numerics: g.Numerics, To: o.To, Off: o.Off, Sink: o.Sink}
	err := r.timed("passes", func() error { return r.passes(ctx, g, o) })
	r.Timings, r.Graph = ctx.Timings, g
	if err != nil || g.Level != ir.Placed {
		return r, err
	}
	err = r.timed("plan", func() error {
		var err error
		r.Plan, err = planner.Make(g, planner.Options{Model: model, Machine: machineFor(o.Machine, g), Placement: *ctx.Placement, Limits: Limits(o.Limits, model)})
		if err != nil {
			return err
		}
		return plan.Verify(r.Plan)
	})
	return r, err
}

func (r *Result) timed(name string, f func() error) error {
	begin := time.Now()
	err := f()
	r.Stages = append(r.Stages, Stage{name, time.Since(begin)})
	return err
}

func (r *Result) build(file string, src []byte, env dsl.Env) error {
	f, list := dsl.Parse(file, src)
	if len(list) > 0 {
		return list
	}
	m, list := dsl.Build(f, env)
	if len(list) > 0 {
		return list
	}
	r.Model = m
	return nil
}

// passes runs the logical passes, chooses the placement for what they leave,
// and runs the others.
func (r *Result) passes(ctx *passes.Context, g *ir.Graph, o Options) error {
	ctx.Choose = func(g *ir.Graph) error {
		r.Logical = g.Clone()
		choose := o.Place
		if choose == nil {
			choose = onOne
		}
		p, err := choose(g)
		ctx.Placement = p
		return err
	}
	return passes.Run(ctx, g)
}

// machineFor describes a machine without limits where none is given.
func machineFor(m plan.Machine, g *ir.Graph) plan.Machine {
	if m.Devices == 0 {
		return plan.Machine{Name: "any", Devices: g.Devices, Memory: 1 << 50}
	}
	return m
}

// Limits fills in what is not given.
func Limits(l plan.Limits, m plan.Model) plan.Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	context := defaultContext
	if m.Context > 0 {
		context = min(context, m.Context)
	}
	def(&l.Sequences, defaultSequences)
	def(&l.Context, context)
	def(&l.Page, defaultPage)
	def(&l.Tokens, max(defaultTokens, l.Sequences))
	def(&l.Rows, min(l.Tokens, max(l.Sequences, defaultSequences)))
	def(&l.Pages, l.Sequences*((l.Context+l.Page-1)/l.Page))
	return l
}

// onOne puts everything on device 0.
func onOne(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, "tp1", 1) }
