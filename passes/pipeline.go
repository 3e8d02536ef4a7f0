package passes

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"moec/ir"
	"moec/ir/placement"
	"moec/passes/trace"
)

// Pass is one row of the pipeline.
type Pass struct {
	Name     string
	Doc      string // one line, shown by "moec passes"
	Run      func(*Context, *ir.Graph) error
	After    []Order
	Level    ir.Level // what the graph is afterwards
	Required bool     // cannot be switched off
}

// Order says that a pass comes after another, and why. If the other is
// switched off the pass still runs; it then finds less to do.
type Order struct {
	Pass   string `json:"pass"`
	Reason string `json:"reason"`
}

// Pipeline is every pass in the order in which they run.
var Pipeline = [...]Pass{
	{Name: "canonicalise", Doc: "bring each operation into its simplest form", Run: canonicalise},
	{Name: "cse", Doc: "keep one of several nodes that compute the same value", Run: cse,
		After: []Order{{"canonicalise", "equal values must look equal"}}},
	{Name: "dce", Doc: "remove what nobody reads", Run: dce,
		After: []Order{{"canonicalise", "rules leave unread nodes behind"}, {"cse", "merged nodes are unread"}}},
	{Name: "sink rows", Doc: "take the wanted rows as early as possible", Run: sinkRows,
		After: []Order{{"dce", "an unread node would keep its operands whole"}, {"cse", "one list of rows, not one for each reader"}}},
	{Name: "segment", Doc: "give contractions that may be divided a fixed order of summation", Run: segment, Required: true,
		After: []Order{{"canonicalise", "what feeds a contraction must be in its simplest form"}, {"sink rows", "it must see the graph that place divides"}}},
	{Name: "place", Doc: "give each device its part of the graph, with explicit collectives", Run: place, Level: ir.Placed, Required: true,
		After: []Order{{"segment", "shares are runs of segments"}, {"dce", "a dead node would be divided, and its collectives kept"}}},
	{Name: "pack projections", Doc: "join contractions that read the same value", Run: packProjections, Level: ir.Placed,
		After: []Order{{"place", "each device packs the slices that it holds"}, {"cse", "equal inputs must be one node"}}},
	{Name: "fuse gate", Doc: "fuse a contraction with the elementwise ops that follow it", Run: fuseGate, Level: ir.Placed,
		After: []Order{{"pack projections", "gate and up must be one contraction"}, {"place", "no fusion may cross a device"}}},
	{Name: "fuse norm", Doc: "fuse a norm with the one contraction that reads it", Run: fuseNorm, Level: ir.Placed,
		After: []Order{{"pack projections", "q, k and v must be one reader"}, {"fuse gate", "gate and up must be one reader"}}},
	{Name: "fuse residual", Doc: "fuse elementwise ops around an add", Run: fuseResidual, Level: ir.Placed,
		After: []Order{{"fuse gate", "an add that follows a contraction belongs to it"}, {"place", "sums over devices come first"}}},
	{Name: "fuse routing", Doc: "fuse the small ops around the choice of experts", Run: fuseRouting, Level: ir.Placed,
		After: []Order{{"fuse gate", "it extends the fusion of the router's matmul"}, {"fuse residual", "bigger pieces come first"}}},
	{Name: "fuse rounding", Doc: "fuse an op with the rounding of its result", Run: fuseRounding, Level: ir.Placed,
		After: []Order{{"fuse norm", "a norm that one contraction reads belongs to it"}, {"fuse residual", "the rounding of a sum belongs to the add"}, {"fuse routing", "bigger pieces come first"}}},
	{Name: "late cse", Doc: "cse on the placed graph", Run: cse, Level: ir.Placed,
		After: []Order{{"place", "dividing copies weights and slices"}, {"fuse rounding", "it cleans up after every fusion"}}},
	{Name: "late dce", Doc: "dce on the placed graph", Run: dce, Level: ir.Placed,
		After: []Order{{"late cse", "merged nodes are unread"}}},
}

// Context is what passes know besides the graph, and how the driver behaves.
type Context struct {
	Placement *placement.Placement // for "place"
	// Choose, if not nil, is called by "place" with the logical graph, to set
	// Placement.
	Choose   func(*ir.Graph) error
	Numerics ir.Numerics // the zero value keeps the graph's

	To         string          // stop after this pass; "" runs all
	Off        map[string]bool // passes to leave out
	Unverified bool            // do not verify the graph after each pass
	Shuffle    uint64          // if not 0, the seed by which nodes change places before each pass, for tests
	Sink       trace.Sink      // shows the graph after each pass; may be nil

	Timings []Timing       // filled by Run
	Hits    map[string]int // how often each rule applied; counted if not nil
}

// Timing is the time that a pass took, verification and dumping not counted.
type Timing struct {
	Pass  string
	Took  time.Duration
	Nodes int // afterwards
}

// Run runs the pipeline on g, which it changes in place.
func Run(ctx *Context, g *ir.Graph) error { return runList(Pipeline[:], ctx, g) }

func runList(list []Pass, ctx *Context, g *ir.Graph) error {
	if err := errors.Join(CheckOrder(list), checkNames(list, ctx)); err != nil {
		return err
	}
	if ctx.Numerics.Mode != "" {
		g.Numerics = ctx.Numerics
	}
	ctx.Timings = nil
	if err := ctx.after("input", g); err != nil {
		return err
	}
	for i, p := range list {
		if !ctx.Off[p.Name] {
			if err := ctx.step(p, g, uint64(i)); err != nil {
				return err
			}
		}
		if p.Name == ctx.To {
			break
		}
	}
	return nil
}

// step runs one pass.
func (c *Context) step(p Pass, g *ir.Graph, number uint64) error {
	if c.Shuffle != 0 {
		shuffle(g, rand.New(rand.NewPCG(c.Shuffle, number)))
	}
	start := time.Now()
	if err := p.Run(c, g); err != nil {
		return fmt.Errorf("%s: %w", p.Name, err)
	}
	c.Timings = append(c.Timings, Timing{p.Name, time.Since(start), len(g.Nodes)})
	if g.Level != p.Level {
		return fmt.Errorf("internal error: after %q the graph is %s, want %s", p.Name, g.Level, p.Level)
	}
	return c.after(p.Name, g)
}

// after verifies and shows the graph.
func (c *Context) after(name string, g *ir.Graph) error {
	if c.Sink != nil {
		if err := c.Sink.Phase(name, g); err != nil {
			return err
		}
	}
	if c.Unverified {
		return nil
	}
	if err := ir.Verify(g); err != nil {
		return fmt.Errorf("internal error: after %q: %w", name, err)
	}
	return nil
}

// CheckOrder reports order constraints that a list of passes breaks, and
// constraints on passes that do not exist.
func CheckOrder(list []Pass) error {
	var errs []error
	at := map[string]int{}
	for i, p := range list {
		if _, twice := at[p.Name]; twice {
			errs = append(errs, fmt.Errorf("internal error: two passes are called %q", p.Name))
		}
		at[p.Name] = i
	}
	for i, p := range list {
		for _, o := range p.After {
			if j, ok := at[o.Pass]; !ok {
				errs = append(errs, fmt.Errorf("internal error: %q must come after %q, which does not exist", p.Name, o.Pass))
			} else if j >= i {
				errs = append(errs, fmt.Errorf("internal error: %q must come after %q: %s", p.Name, o.Pass, o.Reason))
			}
		}
	}
	return errors.Join(errs...)
}

// checkNames refuses pass names of the user that are unknown, and switching
// off a pass that plans cannot be made without.
func checkNames(list []Pass, ctx *Context) error {
	var names, off []string
	for name := range ctx.Off {
		off = append(off, name)
	}
	slices.Sort(off)
	if ctx.To != "" {
		off = append(off, ctx.To)
	}
	for _, p := range list {
		names = append(names, p.Name)
		if p.Required && ctx.Off[p.Name] {
			return fmt.Errorf("pass %q cannot be switched off: later stages need its result", p.Name)
		}
	}
	for _, name := range off {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no pass %q: have %q", name, names)
		}
	}
	return nil
}

// shuffle puts the nodes of g into a random order that respects operands.
func shuffle(g *ir.Graph, r *rand.Rand) {
	uses := g.Uses()
	waits := make(map[*ir.Node]int, len(g.Nodes))
	var ready []*ir.Node
	for _, n := range g.Nodes {
		waits[n] = len(n.Args)
		if len(n.Args) == 0 {
			ready = append(ready, n)
		}
	}
	order := make([]*ir.Node, 0, len(g.Nodes))
	for len(ready) > 0 {
		i := r.IntN(len(ready))
		n := ready[i]
		ready[i] = ready[len(ready)-1]
		ready = ready[:len(ready)-1]
		order = append(order, n)
		for _, u := range uses[n] {
			if waits[u]--; waits[u] == 0 {
				ready = append(ready, u)
			}
		}
	}
	g.Nodes = order
}
