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
	// Place chooses the placement when the logical graph is ready. If it is
	// nil, Search does; without that, everything is put on device 0.
	Place func(logical *ir.Graph) (*placement.Placement, error)
	// Search looks for a placement, or prices that of Place.
	Search *Search
	// Prove also shows that the plan computes what the description says.
	Prove bool
	// To ends the passes early; Off leaves some out; Sink sees the graph
	// after each.
	To   string
	Off  map[string]bool
	Sink trace.Sink

	tokens int // of the largest step where Limits has none; 0: defaultTokens
}

// DefaultSegments is the number of leaves of a contraction that a placement
// may divide; see RATIONALE.md.
const DefaultSegments = 8

// Defaults of plan.Limits.
const (
	defaultTokens = 256 // a prompt chunk: enough rows to reuse weights well
	// acceleratorTokens is the same on GPUs, whose arithmetic needs more rows
	// to keep up with what memory delivers.
	acceleratorTokens = 2048
	defaultSequences  = 8    // sequences at the same time
	defaultContext    = 4096 // positions, if the model allows as many
	defaultPage       = 16   // positions of a KV page, as most servers have it
)

// Result is a compiled description.
type Result struct {
	Plan    *plan.Plan // nil if To ended the passes before it could be made
	Choice  *Choice    // nil without a search
	Proof   *Proof     // nil if it was not asked for
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
func Compile(file string, src []byte, o Options) (r *Result, err error) {
	if o.Search == nil {
		r, err = compile(file, src, o, 0)
	} else {
		r, err = compileChosen(file, src, o)
	}
	if err == nil && o.Prove && r.Plan != nil {
		err = r.timed("proof", r.prove)
	}
	return r, err
}

// compile runs the stages up to the plan once. buffers is what a search leaves
// free on each device.
func compile(file string, src []byte, o Options, buffers int64) (*Result, error) {
	r := &Result{}
	if err := r.timed("description", func() error { return r.build(file, src, o.Env) }); err != nil {
		return nil, err
	}
	g := r.Model.Graph
	model := r.begin(g, o)
	ctx := &passes.Context{Numerics: g.Numerics, To: o.To, Off: o.Off, Sink: o.Sink}
	limits := limitsFor(o.Limits, model, o.tokens)
	err := r.timed("passes", func() error { return r.passes(ctx, g, o, limits, buffers) })
	r.Timings, r.Graph = ctx.Timings, g
	if err != nil || g.Level != ir.Placed {
		return r, err
	}
	err = r.timed("plan", func() error {
		var err error
		r.Plan, err = planner.Make(g, planner.Options{Model: model, Machine: machineFor(o.Machine, g), Placement: *ctx.Placement, Limits: limits})
		if err != nil {
			return err
		}
		return plan.Verify(r.Plan)
	})
	return r, err
}

// begin settles the numerics of a built graph and identifies it.
func (r *Result) begin(g *ir.Graph, o Options) plan.Model {
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
	return model
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
func (r *Result) passes(ctx *passes.Context, g *ir.Graph, o Options, l plan.Limits, buffers int64) error {
	ctx.Choose = func(g *ir.Graph) (err error) {
		r.Logical = g.Clone()
		switch {
		case o.Search != nil:
			ctx.Placement, err = r.place(r.Logical, o, l, buffers)
		case o.Place != nil:
			ctx.Placement, err = o.Place(r.Logical)
		default:
			ctx.Placement, err = onOne(r.Logical)
		}
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
func Limits(l plan.Limits, m plan.Model) plan.Limits { return limitsFor(l, m, defaultTokens) }

// limitsFor is Limits with another default for the tokens of a step, of which
// there are no more than positions.
func limitsFor(l plan.Limits, m plan.Model, tokens int) plan.Limits {
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
	tokens = max(defaultTokens, min(tokens, l.Sequences*l.Context))
	def(&l.Tokens, max(tokens, l.Sequences))
	def(&l.Rows, min(l.Tokens, max(l.Sequences, defaultSequences)))
	def(&l.Pages, l.Sequences*((l.Context+l.Page-1)/l.Page))
	return l
}

// onOne puts everything on device 0.
func onOne(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, "tp1", 1) }
