package plan_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"moec/planner/plan"
	"moec/runtime/host"
	"moec/runtime/step"
	"moec/runtime/weights"
)

var mutantCount = flag.Int("mutants", 300, "random mutants that tests try")

// result is what a plan computed.
type result struct {
	bits []uint32
	err  error
	skip bool // the steps do not fit the plan's limits
}

// execute runs a prompt and a token of two sequences on the CPU, with dead
// memory poisoned.
func execute(p *plan.Plan) (r result) {
	done := make(chan result, 1)
	go func() {
		defer func() {
			if e := recover(); e != nil {
				done <- result{err: fmt.Errorf("panic: %v", e)}
			}
		}()
		done <- steps(p)
	}()
	select {
	case r := <-done:
		return r
	case <-time.After(20 * time.Second):
		return result{err: fmt.Errorf("no end after 20 s")}
	}
}

func steps(p *plan.Plan) (r result) {
	list := []*step.Step{prompt(p), nextTokens(p)}
	l := p.Limits
	for _, s := range list {
		if s.Check(step.Limits{Tokens: l.Tokens, Rows: l.Rows, Sequences: l.Sequences, Context: l.Context, Page: l.Page, Pages: l.Pages, Vocab: p.Model.Vocab}) != nil {
			return result{skip: true}
		}
	}
	program, err := host.Load(context.Background(), p, weights.Random{Seed: 5}, host.Options{Poison: true})
	if err != nil {
		return result{err: err}
	}
	defer program.Close()
	for _, s := range list {
		logits, err := program.Step(context.Background(), s)
		if err != nil {
			return result{err: err}
		}
		for _, f := range slices.Concat(logits...) {
			if f != f {
				return result{err: fmt.Errorf("dead memory was read: the logits have a NaN")}
			}
			r.bits = append(r.bits, math.Float32bits(f))
		}
	}
	return r
}

// prompt is 7 tokens of sequence 2 and 4 of sequence 0, each in its group.
func prompt(p *plan.Plan) *step.Step {
	s := &step.Step{Groups: make([]step.Group, p.Groups())}
	add(p, s, 0, 2, []int32{3, 1, 4, 1, 5, 9, 2}, 0)
	add(p, s, len(s.Groups)-1, 0, []int32{2, 7, 1, 8}, 0)
	return s
}

func nextTokens(p *plan.Plan) *step.Step {
	s := &step.Step{Groups: make([]step.Group, p.Groups())}
	add(p, s, len(s.Groups)-1, 0, []int32{28}, 4)
	add(p, s, 0, 2, []int32{6}, 7)
	return s
}

// add appends tokens of a sequence from a position, with logits for the last
// two.
func add(p *plan.Plan, s *step.Step, group, sequence int, tokens []int32, first int) {
	g := &s.Groups[group]
	if g.Pages == nil {
		g.Pages = make([][]int32, p.Limits.Sequences)
	}
	for len(g.Pages) <= sequence {
		g.Pages = append(g.Pages, nil)
	}
	for i := range 4 {
		g.Pages[sequence] = append(g.Pages[sequence], int32(4*sequence+3-i))
	}
	for i, t := range tokens {
		g.Tokens = append(g.Tokens, t)
		g.Positions = append(g.Positions, int32(first+i))
		g.Sequences = append(g.Sequences, int32(sequence))
		if i >= len(tokens)-2 {
			g.Rows = append(g.Rows, int32(len(g.Tokens)-1))
		}
	}
}

// TestSamplesRun checks that the honest plans give logits, the same each time,
// and that a model on two devices gives those of one.
func TestSamplesRun(t *testing.T) {
	got := make(map[string][]uint32)
	for _, s := range samples {
		p := s.plan(t)
		a, b := execute(p), execute(p)
		if a.err != nil || a.skip || len(a.bits) == 0 || !slices.Equal(a.bits, b.bits) {
			t.Errorf("%s: %v", s.name, a.err)
		}
		got[s.name] = a.bits
	}
	if !slices.Equal(got["one"], got["tensor"]) {
		t.Error("the model of sample one gives other bits on two devices")
	}
	if slices.Equal(got["one"], got["pipeline"]) {
		t.Error("models with other weights give the same bits: the comparison sees nothing")
	}
}

// changer makes a random change to a plan. What it changes is either where
// values are and when they are made, or what is computed.
type changer struct {
	name string
	same bool // a plan that is still right computes the same
	do   func(c *chance)
}

// chance is a plan that is being changed at random.
type chance struct {
	*plan.Plan
	rng *rand.Rand
}

func (c *chance) block() *plan.Block {
	list := c.Programs[0].Blocks
	return &list[c.rng.IntN(len(list))]
}

func (c *chance) queue() (*plan.Block, *plan.Queue) {
	b := c.block()
	return b, &b.Queues[c.rng.IntN(len(b.Queues))]
}

func (c *chance) step() (*plan.Block, *plan.Queue, *plan.Step) {
	b, q := c.queue()
	s := &q.Steps[c.rng.IntN(len(q.Steps))]
	if len(s.Body) > 0 && c.rng.IntN(2) == 0 {
		s = &s.Body[c.rng.IntN(len(s.Body))]
	}
	return b, q, s
}

// buffers lists the buffers of a device that a block sees.
func (c *chance) buffers(b *plan.Block, device int) []*plan.Buffer {
	var list []*plan.Buffer
	for _, bufs := range [][]plan.Buffer{b.Buffers, c.Programs[0].Buffers} {
		for i := range bufs {
			if bufs[i].Device == device {
				list = append(list, &bufs[i])
			}
		}
	}
	return list
}

func (c *chance) pick(list []*plan.Buffer) *plan.Buffer { return list[c.rng.IntN(len(list))] }

func (c *chance) find(b *plan.Block, device int, name string) *plan.Buffer {
	for _, buf := range c.buffers(b, device) {
		if buf.Name == name {
			return buf
		}
	}
	return nil
}

// alike picks a buffer of the same type on the same device.
func (c *chance) alike(b *plan.Block, device int, name string) string {
	old := c.find(b, device, name)
	var list []*plan.Buffer
	for _, buf := range c.buffers(b, device) {
		if old != nil && buf.Type.Equal(old.Type) {
			list = append(list, buf)
		}
	}
	if len(list) == 0 {
		return name
	}
	return c.pick(list).Name
}

var changers = []changer{
	{"a buffer at another's place", true, func(c *chance) {
		b, q := c.queue()
		list := c.buffers(b, q.Device)
		c.pick(list).Offset = c.pick(list).Offset
	}},
	{"a buffer moved", true, func(c *chance) {
		b, q := c.queue()
		buf := c.pick(c.buffers(b, q.Device))
		buf.Offset += 256 * (c.rng.Int64N(9) - 4)
	}},
	{"a resident moved", true, func(c *chance) {
		w, v := &c.Weights[c.rng.IntN(len(c.Weights))], &c.Weights[c.rng.IntN(len(c.Weights))]
		w.Offset, v.Offset = v.Offset, w.Offset
	}},
	{"two steps exchanged", true, func(c *chance) {
		_, q := c.queue()
		if i := c.rng.IntN(len(q.Steps)); i > 0 {
			q.Steps[i-1], q.Steps[i] = q.Steps[i], q.Steps[i-1]
		}
	}},
	{"a step moved", true, func(c *chance) {
		_, q := c.queue()
		i, j := c.rng.IntN(len(q.Steps)), c.rng.IntN(len(q.Steps))
		s := q.Steps[i]
		q.Steps = slices.Insert(slices.Delete(q.Steps, i, i+1), j, s)
	}},
	{"a result elsewhere", true, func(c *chance) {
		b, q, s := c.step()
		s.Out = c.alike(b, q.Device, s.Out)
	}},
	{"an operand from elsewhere", false, func(c *chance) {
		b, _, s := c.step()
		if len(s.Args) > 0 {
			a := &s.Args[c.rng.IntN(len(s.Args))]
			a.Name = c.alike(b, a.Device, a.Name)
		}
	}},
	{"an operand from elsewhere on every member", false, func(c *chance) {
		b, _, s := c.step()
		if !s.Attrs.Has("channel") || len(s.Args) == 0 {
			return
		}
		i := c.rng.IntN(len(s.Args))
		name := c.alike(b, s.Args[i].Device, s.Args[i].Name)
		old := s.Args[i]
		each(b, func(m *plan.Step) {
			for j := range m.Args {
				if m.Attrs.Int("channel", -1) == s.Attrs.Int("channel", -2) && m.Args[j].Name == old.Name && m.Args[j].Device == old.Device {
					m.Args[j].Name = name
				}
			}
		})
	}},
	{"operands exchanged", false, func(c *chance) {
		if _, _, s := c.step(); len(s.Args) > 1 {
			i, j := c.rng.IntN(len(s.Args)), c.rng.IntN(len(s.Args))
			s.Args[i], s.Args[j] = s.Args[j], s.Args[i]
		}
	}},
	{"an operand less", false, func(c *chance) {
		if _, _, s := c.step(); len(s.Args) > 1 {
			s.Args = s.Args[:len(s.Args)-1]
		}
	}},
	{"a step less", false, func(c *chance) {
		_, q := c.queue()
		i := c.rng.IntN(len(q.Steps))
		q.Steps = slices.Delete(q.Steps, i, i+1)
	}},
	{"a step more", false, func(c *chance) {
		_, q := c.queue()
		i := c.rng.IntN(len(q.Steps))
		q.Steps = slices.Insert(q.Steps, i, q.Steps[i])
	}},
	{"another number", false, func(c *chance) { c.number() }},
	{"another number on every device", false, func(c *chance) { c.numberAll() }},
	{"other layers", false, func(c *chance) {
		r := &c.Programs[0].Runs[c.rng.IntN(len(c.Programs[0].Runs))]
		r.Layers.First += c.rng.IntN(3) - 1
		r.Layers.Last += c.rng.IntN(3) - 1
	}},
	{"other experts", false, func(c *chance) {
		w := &c.Weights[c.rng.IntN(len(c.Weights))]
		if p := &w.Parts[c.rng.IntN(len(w.Parts))]; len(p.Experts) > 0 {
			p.Experts[c.rng.IntN(len(p.Experts))] = c.rng.IntN(nExperts)
		}
	}},
	{"another slice", false, func(c *chance) {
		w := &c.Weights[c.rng.IntN(len(c.Weights))]
		p := &w.Parts[c.rng.IntN(len(w.Parts))]
		s := p.Slice[c.rng.IntN(len(p.Slice))]
		s[0], s[1] = s[0]+8*(c.rng.IntN(3)-1), s[1]+8*(c.rng.IntN(3)-1)
	}},
	{"a cache of other sizes", false, func(c *chance) {
		k := &c.Caches[c.rng.IntN(len(c.Caches))]
		f := []*int{&k.Heads, &k.First, &k.KeyDim, &k.ValDim, &k.Window, &k.Group, &k.Layers.Last}[c.rng.IntN(7)]
		*f += c.rng.IntN(3) - 1
	}},
	{"other limits", false, func(c *chance) {
		l := &c.Limits
		f := []*int{&l.Tokens, &l.Rows, &l.Sequences, &l.Context, &l.Page, &l.Pages, &c.Model.Vocab, &c.Model.Layers}[c.rng.IntN(8)]
		*f = max(0, *f+[]int{-8, -1, 1, 8}[c.rng.IntN(4)])
	}},
}

// each calls f with every step of a block.
func each(b *plan.Block, f func(*plan.Step)) {
	for i := range b.Queues {
		for j := range b.Queues[i].Steps {
			f(&b.Queues[i].Steps[j])
		}
	}
}

// number changes one attribute of a step.
func (c *chance) number() {
	_, _, s := c.step()
	if len(s.Attrs) == 0 {
		return
	}
	i := c.rng.IntN(len(s.Attrs))
	s.Attrs = s.Attrs.With(s.Attrs[i].Name, c.other(s.Attrs[i].Value))
}

// numberAll changes an attribute of all steps with the same op and channel.
func (c *chance) numberAll() {
	b, _, s := c.step()
	if len(s.Attrs) == 0 {
		return
	}
	at := s.Attrs[c.rng.IntN(len(s.Attrs))]
	value := c.other(at.Value)
	op, channel := s.Op, s.Attrs.Int("channel", -1)
	each(b, func(m *plan.Step) {
		if m.Op == op && m.Attrs.Int("channel", -1) == channel {
			m.Attrs = m.Attrs.With(at.Name, value)
		}
	})
}

// other returns a value near v.
func (c *chance) other(v any) any {
	by := c.rng.IntN(3) - 1
	switch v := v.(type) {
	case int:
		return max(0, v+by)
	case []int:
		w := slices.Clone(v)
		if len(w) > 0 {
			w[c.rng.IntN(len(w))] += by
		}
		return w
	case [][]int:
		w := slices.Clone(v)
		i, j := c.rng.IntN(len(w)), c.rng.IntN(len(w))
		w[i], w[j] = w[j], slices.Clone(w[i])
		if len(w[j]) > 0 && c.rng.IntN(2) == 0 {
			w[j][c.rng.IntN(len(w[j]))] += by
		}
		return w
	}
	return v
}

// TestEscapes makes random mutants. Whatever the verifier accepts must run to
// its end without reading dead memory; and if only places and order were
// changed, compute the same.
func TestEscapes(t *testing.T) {
	files := encoded(t)
	want := make(map[string]result)
	for _, s := range samples {
		want[s.name] = execute(decode(t, s.name, files[s.name]))
	}
	changed, accepted, same, escaped := 0, 0, 0, 0
	for i := range *mutantCount {
		rng := rand.New(rand.NewPCG(uint64(i), 9))
		s := samples[i%len(samples)]
		change := changers[rng.IntN(len(changers))]
		c := &chance{decode(t, s.name, files[s.name]), rng}
		change.do(c)
		if text, err := plan.Encode(c.Plan); err == nil && bytes.Equal(text, files[s.name]) {
			continue
		}
		changed++
		if plan.Verify(c.Plan) != nil {
			continue
		}
		accepted++
		got := execute(c.Plan)
		equal := slices.Equal(got.bits, want[s.name].bits)
		if equal {
			same++
		}
		if !got.skip && (got.err != nil || change.same && !equal) {
			escaped++
			t.Errorf("mutant %d of %q, %s, is accepted: %v, same results: %t", i, s.name, change.name, got.err, equal)
		}
		if escaped > 10 {
			break
		}
	}
	t.Logf("%d mutants, %d accepted, %d of them compute the same, %d escaped", changed, accepted, same, escaped)
	if accepted < changed/50 {
		t.Errorf("only %d mutants were accepted: the test tries too little", accepted)
	}
}

func decode(t testing.TB, name string, text []byte) *plan.Plan {
	t.Helper()
	p, err := plan.Decode(name, text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return p
}
