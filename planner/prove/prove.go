// Package prove shows that a plan computes what its program says, exactly.
//
// A plan and the logical graph that it was made from go in. Both are
// interpreted over the numbers modulo a prime, and all outputs must be equal.
// In a field sums may be added in any order, and nothing is nearly equal: a
// reduction that is left out, an expert in another's place, a wrong offset or
// another eps give other numbers, whatever their size. Functions that are not
// sums and products, and rounding, are hashes of their operands and of every
// attribute that counts: nothing is known of them but that equal operands give
// equal results.
//
// The package never changes a plan, never runs a kernel, and knows nothing of
// the order in which sums are added.
package prove

import (
	"errors"
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// Options say how to check.
type Options struct {
	// Seed chooses the hashes, the words and the experts that are chosen.
	Seed uint64
	// Full checks the plan at its own sizes instead of dividing extents.
	Full bool
}

// Report says what was done to accept a plan.
type Report struct {
	Steps    int64    // of the plan's queues that were executed, those of bodies too
	Elements int64    // of the results of those
	Shrunk   []Factor // the extents that were divided
	// Unrounded says that rounding was left out of both sides, as fast numerics
	// allow placements to do.
	Unrounded bool
}

// Factor is an extent and what it was divided by.
type Factor struct {
	Axis   string // a weight that has it
	Extent int
	By     int
}

// Check interprets a plan and its logical graph and compares every output. It
// returns a *Mismatch where they part, or where the plan cannot be followed.
//
// Unless o.Full is set, this is done on a divided copy of the plan: nothing is
// planned again; each extent that can be is divided by the largest factor that
// leaves every shape, slice, segment and part of a weight along it whole. Axes
// are divided together where an operation of the plan or of the graph says
// that they are the same. What an operation does to one entry of such an axis
// it does to all, so a divided entry stands for a run of entries that are
// treated alike; whoever does not treat them alike says so by a number (the
// end of a slice, the start of a part) that makes the factor smaller. What is
// not divided: steps, their order, devices, layers, experts, slots, heads,
// segments, and bytes. Which buffers overlap is decided with all bytes of full
// size, in the largest step.
func Check(p *plan.Plan, logical *ir.Graph, o Options) (r Report, err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("internal error: %v", x)
		}
	}()
	c, err := newChecker(p, logical, o)
	if err != nil {
		return r, err
	}
	r.Unrounded = c.fast()
	r.Shrunk = c.shrunk()
	for i := range c.programs() {
		m, err := c.check(i, nil)
		r.Steps, r.Elements = r.Steps+m.steps, r.Elements+m.elements
		if err != nil {
			return r, c.explain(i, err)
		}
	}
	return r, nil
}

// checker holds both sides.
type checker struct {
	p       *plan.Plan
	logical *logical
	o       Options
	s       *shrinker
	env     *env
	need    tokens
	along   map[*ir.Node]int
	list    []*machine
}

// logical is the graph and what is looked up in it.
type logical struct {
	*ir.Graph
	weights map[string]*ir.Weight
	appends map[string][]*ir.Node // by cache
	consts  []*ir.Node            // different ones
}

func newLogical(g *ir.Graph) *logical {
	l := &logical{Graph: g, weights: make(map[string]*ir.Weight, len(g.Weights)), appends: make(map[string][]*ir.Node)}
	for _, w := range g.Weights {
		l.weights[w.Name] = w
	}
	for _, n := range g.Nodes {
		switch n.Op.Name {
		case "kv_append":
			name := n.Attrs.Text("cache")
			l.appends[name] = append(l.appends[name], n)
		case "const":
			l.consts = append(l.consts, n)
		}
	}
	return l
}

// newChecker prepares every program of the plan.
func newChecker(p *plan.Plan, g *ir.Graph, o Options) (*checker, error) {
	if g.Level != ir.Logical {
		return nil, fmt.Errorf("internal error: the graph is %s, not logical", g.Level)
	}
	if err := possible(p); err != nil {
		return nil, formed(err)
	}
	c := &checker{p: p, logical: newLogical(g), o: o}
	c.env = &env{fast: c.fast(), seed: mix(o.Seed), choices: newChoices(), groups: p.Groups()}
	c.env.copies, c.env.local = experts(p)
	c.need = tokensFor(topkWidth(g)*c.env.copies, c.env.groups, c.env.local)
	c.s = newShrinker(o.Full, c.need.all)
	var err error
	if c.along, err = c.s.constrainGraph(g); err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	for i := range p.Programs {
		m, err := c.machine(&p.Programs[i])
		if err != nil {
			return nil, formed(err)
		}
		c.list = append(c.list, m)
	}
	for _, m := range c.list {
		if err := m.finish(); err != nil {
			return nil, formed(err)
		}
	}
	if len(c.list) == 0 {
		return nil, formed(errors.New("the plan has no program"))
	}
	return c, nil
}

// formed makes an error of preparation a Mismatch.
func formed(err error) error {
	var m *Mismatch
	if errors.As(err, &m) {
		return m
	}
	return &Mismatch{Kind: Form, Device: -1, Step: -1, Body: -1, Layer: -1, Text: err.Error()}
}

func (c *checker) fast() bool { return c.p.Numerics.Mode == ir.Fast }

// programs returns how many programs there are.
func (c *checker) programs() int { return len(c.list) }

// machine resolves a program.
func (c *checker) machine(prog *plan.Program) (*machine, error) {
	m := &machine{p: c.p, prog: prog, s: c.s, env: c.env, logical: c.logical, limits: c.p.Limits.Bounds(), buffers: make(map[*plan.Buffer]*loc), kept: make(map[keptKey]*array), blamed: make(map[origin]uint64)}
	m.poison(origin{why: neverWritten})
	for i := range c.p.Memory {
		m.devices = append(m.devices, &device{id: i, clock: make([]int, len(c.p.Memory))})
	}
	if err := m.prepareConsts(); err != nil {
		return nil, err
	}
	if err := m.prepareResidents(); err != nil {
		return nil, err
	}
	if err := m.prepare(); err != nil {
		return nil, err
	}
	return m, m.joinOutputs()
}

// joinOutputs joins the axes of outputs with those of the model's.
func (m *machine) joinOutputs() error {
	for i := range m.prog.Outputs {
		o := &m.prog.Outputs[i]
		of := m.logical.output(o.Name)
		if of < 0 {
			return fmt.Errorf("program %s: the model has no output %q", m.prog.Name, o.Name)
		}
		n := m.logical.Outputs[of].Value
		if words := n.Type.Shape.Last().N; o.Name == "logits" && words != m.p.Model.Vocab {
			return fmt.Errorf("the plan's model has %d words, the graph's logits %d", m.p.Model.Vocab, words)
		}
		m.s.sameAxes(m.s.typed(n, n.Type), m.outputs[i].t)
	}
	return nil
}

// output returns the index of an output, or -1.
func (l *logical) output(name string) int {
	return slices.IndexFunc(l.Outputs, func(o ir.Output) bool { return o.Name == name })
}

// finish divides the shapes when all axes are known.
func (m *machine) finish() error {
	for _, b := range m.prog.Blocks {
		for _, d := range m.devices {
			for _, s := range m.blocks[b.Name].queues[d.id] {
				if err := m.finishSite(s); err != nil {
					return err
				}
			}
		}
	}
	for i := range m.outputs {
		m.outputs[i].shape = m.s.shape(m.outputs[i].t)
	}
	m.settleResidents()
	return nil
}

func (m *machine) finishSite(s *site) error {
	var types []tensor.Type
	for i := range s.args {
		a := &s.args[i]
		a.shape = m.s.shape(a.t)
		a.split /= m.s.factor(a.t.last())
		types = append(types, a.t.Type)
	}
	for _, b := range s.body {
		if err := m.finishSite(b); err != nil {
			return err
		}
	}
	if s.op == "send" || s.body != nil {
		return nil
	}
	s.out.shape = m.s.shape(s.made)
	var err error
	if s.spec, err = newSpec(s.op, s.step.Attrs, types, m.s.factor(s.along), m.env); err != nil {
		return m.failed(s, s.block.layers[0], err)
	}
	return nil
}

// shrunk lists the factors, each extent once.
func (c *checker) shrunk() []Factor {
	var list []Factor
	for v := range c.s.up {
		f := Factor{c.s.names[c.s.root(v)], 0, c.s.factor(v)}
		if w := c.s.extents[v]; f.By > 1 && f.Axis != "" {
			f.Extent = w
			if !slices.ContainsFunc(list, func(o Factor) bool { return o.Extent == f.Extent && o.By == f.By }) {
				list = append(list, f)
			}
		}
	}
	return list
}

// watcher sees both sides as they run.
type watcher interface {
	model(*modelNode, *array)
	plan(d *device, s *site, layer int, args []*array, out *array)
}

// check runs a program and the graph side by side and compares outputs.
func (c *checker) check(i int, w watcher) (*machine, error) {
	m := c.list[i]
	model, err := newModel(c.logical.Graph, c.s, c.along, c.env)
	if err != nil {
		return m, fmt.Errorf("internal error: %w", err)
	}
	if w != nil {
		model.observe, m.observe = w.model, w.plan
	}
	model.context = mostAll
	m.script = newScript(c.p.Limits, c.p.Groups(), c.need, model.vocabulary(), c.env.seed)
	for round, st := range m.script.steps {
		c.env.choose, c.env.round = true, round
		want, err := model.run(st)
		if err != nil {
			return m, fmt.Errorf("internal error: %w", err)
		}
		if err := m.run(st); err != nil {
			return m, err
		}
		if err := m.compare(st, want); err != nil {
			return m, err
		}
	}
	if m.alone != nil {
		return m, m.alone
	}
	return m, nil
}

// experts returns how many devices take turns with an expert at most, as far as
// they are told apart, and whether experts work on the rows of one token group.
func experts(p *plan.Plan) (copies int, local bool) {
	copies = 1
	for _, g := range p.Programs {
		for _, b := range g.Blocks {
			of := make(map[string]tensor.Type)
			for _, k := range b.Buffers {
				of[k.Name] = k.Type
			}
			for _, q := range b.Queues {
				for _, s := range q.Steps {
					for _, x := range append([]plan.Step{s}, s.Body...) {
						for _, turn := range x.Attrs.Sets("turns") {
							if len(turn) == 2 {
								copies = max(copies, min(turn[1], mostCopies))
							}
						}
					}
					local = local || s.Op == "dispatch" && of[s.Out].Shape.Sym().Group() >= 0
				}
			}
		}
	}
	return copies, local
}

// Bounds of a limit and of a device's memory, far above any machine.
const (
	maxNumber = 1 << 30
	maxBytes  = 1 << 50
)

// possible checks that there are steps to run, and a program for each.
func possible(p *plan.Plan) error {
	l := p.Limits
	for _, n := range []int{l.Tokens, l.Rows, l.Sequences, l.Context, l.Page, l.Pages} {
		if n < 1 || n > maxNumber {
			return fmt.Errorf("limits %+v are not all between 1 and %d", l, maxNumber)
		}
	}
	if need := (l.Context-1)/l.Page + 1; l.Pages < need || need > maxNumber/l.Sequences {
		return fmt.Errorf("a sequence of %d positions needs %d pages of %d; there are %d, and page lists for %d sequences", l.Context, need, l.Page, l.Pages, l.Sequences)
	}
	for i, a := range p.Memory {
		if a.Device != i {
			return fmt.Errorf("memory account %d is of device %d", i, a.Device)
		}
		if a.Total < 0 || a.Total > maxBytes {
			return fmt.Errorf("device %d has %d bytes, not between 0 and %d", a.Device, a.Total, int64(maxBytes))
		}
	}
	for _, k := range p.Caches {
		if k.Group < 0 || k.Group >= p.Groups() {
			return fmt.Errorf("cache %s of device %d is of token group %d of %d", k.Name, k.Device, k.Group, p.Groups())
		}
	}
	last := 0
	for _, b := range p.Buckets {
		if b.Tokens <= last || !slices.ContainsFunc(p.Programs, func(g plan.Program) bool { return g.Name == b.Program }) {
			return fmt.Errorf("bucket of %d tokens after one of %d has program %q", b.Tokens, last, b.Program)
		}
		last = b.Tokens
	}
	if last != l.Tokens {
		return fmt.Errorf("the largest bucket has %d tokens, a step may have %d", last, l.Tokens)
	}
	return nil
}

// compare compares the outputs of a step.
func (m *machine) compare(st *step, want []*array) error {
	for i, of := range m.logical.Outputs {
		first := 0
		for g := range st.groups {
			at, err := m.outputOf(of.Name, g)
			if err != nil {
				return err
			}
			rows := len(st.groups[g].rows)
			part := want[i].data[first*want[i].last() : (first+rows)*want[i].last()]
			if err := m.compareOutput(&m.prog.Outputs[at], &m.outputs[at], part, rows); err != nil {
				return err
			}
			first += rows
		}
	}
	return nil
}

// outputOf returns which of the program's outputs is one of the model's for a
// token group.
func (m *machine) outputOf(name string, g int) (int, error) {
	at := slices.IndexFunc(m.prog.Outputs, func(o plan.Output) bool { return o.Name == name && o.Group == g })
	if at < 0 {
		return at, formed(fmt.Errorf("program %s: output %s of token group %d is not given", m.prog.Name, name, g))
	}
	return at, nil
}

func (m *machine) compareOutput(o *plan.Output, from *operand, want []uint64, rows int) error {
	got, err := m.read(from.loc, from, from.shape.Extents(m.now.all))
	if err != nil {
		return err
	}
	bad := &Mismatch{Kind: Value, Output: o.Name, Group: o.Group, Device: o.Device, Program: m.prog.Name, Step: -1, Body: -1, Layer: -1}
	if len(got.data) != len(want) {
		bad.Text = fmt.Sprintf("has %d entries for %d rows, the model's has %d", len(got.data), rows, len(want))
		return bad
	}
	for i, w := range want {
		if got.data[i] == w {
			continue
		}
		row := i / (len(want) / rows)
		bad.Text = fmt.Sprintf("row %d differs from the model's", row)
		if isPoison(got.data[i]) {
			bad.Text = fmt.Sprintf("row %d is undefined: %s", row, m.reason(got.data[i]))
		}
		return bad
	}
	return nil
}
