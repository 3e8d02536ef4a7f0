package mutate_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"moec/compiler"
	"moec/dsl"
	"moec/dsl/moegen"
	"moec/ir"
	"moec/ir/arith"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/ir/tensor"
	"moec/passes"
	"moec/planner/mutate"
	"moec/planner/plan"
	"moec/planner/prove"
	"moec/planner/simulate"
	"moec/runtime/host"
	"moec/runtime/step"
	"moec/runtime/weights"
)

// subject is a plan to damage, and what it was made from.
type subject struct {
	name   string
	plan   *plan.Plan
	result *compiler.Result
	files  store
	want   map[plan.Limits][]uint32 // the bits of all logits of the plan as it is
}

// limits are those of the subjects.
var limits = plan.Limits{Tokens: 24, Rows: 20, Sequences: 3, Context: 32, Page: 4}

// roomy is a machine with room for all of them.
var roomy = plan.Machine{Name: "test", Devices: 8, Memory: 1 << 30, Reserve: 1 << 20}

// examples are shipped descriptions at sizes that divide badly, on placements
// that use every kind of collective.
var examples = []struct {
	file, strategy string
	devices        int
	set            map[string]string
}{
	{"mixtral", "tp1", 1, nil},
	{"mixtral", "tp", 2, nil},
	{"mixtral", "ep", 3, nil},
	{"mixtral", "pp", 2, nil},
	{"mixtral", "dp", 2, nil},
	{"mixtral", "adp", 2, nil},
	{"mixtral", "tp2ep2", 4, nil},
	{"mixtral", "adp2tp2", 4, nil},
	{"qwen2_moe", "tp", 2, map[string]string{"experts": "6"}},
	{"gpt_oss", "tp", 2, nil},
	{"deepseek_v3", "ep", 2, map[string]string{"experts": "6"}},
	{"llama", "pp2tp2", 4, nil},
}

// subjects compiles and runs n plans.
func subjects(t testing.TB, n int) []*subject {
	t.Helper()
	var list []*subject
	for i := range n {
		s := compile(t, i)
		s.prepare(t)
		list = append(list, s)
	}
	return list
}

// compiled are the subjects made so far, which no test changes.
var compiled []*subject

// compile makes the i-th plan: examples and random programs on random
// placements in turn.
func compile(t testing.TB, i int) *subject {
	t.Helper()
	for n := len(compiled); n <= i; n++ {
		var s *subject
		if n%2 == 0 && n/2 < len(examples) {
			s = example(t, n/2)
		} else {
			s = random(t, uint64(n))
		}
		if n%5 == 4 {
			s.twice()
		}
		compiled = append(compiled, s)
	}
	return compiled[i]
}

// twice gives steps of few tokens a program of their own, which does the same.
func (s *subject) twice() {
	c := mutate.Clone(s.plan)
	small := c.Programs[0]
	small.Name = "small"
	for i := range s.plan.Buckets {
		if b := &s.plan.Buckets[i]; b.Tokens <= 4 {
			b.Program = small.Name
		}
	}
	s.plan.Programs = append(s.plan.Programs, small)
}

func example(t testing.TB, i int) *subject {
	t.Helper()
	e := examples[i]
	src, err := os.ReadFile("../../examples/" + e.file + ".moe")
	if err != nil {
		t.Fatal(err)
	}
	o := compiler.Options{Env: dsl.Env{Set: settings(src, e.set)}, Limits: limits, Machine: roomy}
	o.Numerics.Segments = 4
	o.Place = func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, e.strategy, e.devices) }
	r, err := compiler.Compile(e.file, src, o)
	if err != nil {
		t.Fatalf("%s on %s: %v", e.file, e.strategy, err)
	}
	return &subject{name: fmt.Sprint(e.file, " ", e.strategy, " on ", e.devices), result: r, plan: r.Plan}
}

// small are sizes of all families, by the names that descriptions give them.
var small = map[string]string{
	"layers": "3", "hidden": "24", "heads": "6", "kv_heads": "3", "head_dim": "4", "ffn": "12", "experts": "5", "vocab": "37", "top_k": "2",
	"expert_ffn": "10", "shared_ffn": "12", "window": "6", "groups": "2", "top_groups": "1", "q_rank": "8", "kv_rank": "8", "nope": "4",
	"turned": "4", "v_dim": "6", "shared": "1", "dense": "1",
}

var sizeLine = regexp.MustCompile(`(?m)^(?:size|count)\??\s+(\w+)`)

// settings are the small sizes that a description has, and others.
func settings(src []byte, more map[string]string) map[string]string {
	set := maps.Clone(more)
	if set == nil {
		set = make(map[string]string)
	}
	for _, m := range sizeLine.FindAllSubmatch(src, -1) {
		name := string(m[1])
		if value, ok := small[name]; ok && set[name] == "" {
			set[name] = value
		}
	}
	return set
}

func random(t testing.TB, seed uint64) *subject {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0x6d7574))
	var placed *placement.Placement
	o := compiler.Options{Limits: limits, Machine: roomy}
	o.Numerics.Segments = []int{8, 4, 3}[rng.IntN(3)]
	if rng.IntN(5) == 0 {
		o.Numerics.Mode = ir.Fast
	}
	o.Place = func(g *ir.Graph) (*placement.Placement, error) {
		placed = placement.Random(rng, passes.Summarise(g), 1+rng.IntN(4))
		return placed, nil
	}
	r, err := compiler.Compile("random.moe", []byte(moegen.Program(seed)), o)
	if err != nil {
		t.Fatalf("random program %d: %v", seed, err)
	}
	return &subject{name: fmt.Sprint("random ", seed), result: r, plan: r.Plan}
}

// prepare makes a checkpoint and runs the plan as it is.
func (s *subject) prepare(t testing.TB) {
	t.Helper()
	if s.want != nil {
		return
	}
	s.files = newStore(s.result.Model.Graph.Weights)
	s.want = make(map[plan.Limits][]uint32)
	got, err := s.expect(s.plan.Limits)
	if err != nil || len(got) == 0 || slices.ContainsFunc(got, noNumber) {
		t.Fatalf("%s: %d logits, some of them no numbers: %v", s.name, len(got), err)
	}
}

// expect returns what the plan gives for steps within the limits of a mutant.
func (s *subject) expect(l plan.Limits) ([]uint32, error) {
	if s.want[l] == nil {
		got, err := s.run(s.plan, l)
		if err != nil {
			return nil, err
		}
		s.want[l] = got
	}
	return s.want[l], nil
}

// schedule is four steps of sequences in all groups: prompts, then parts of
// prompts with continued ones, on pages in no order. The tokens fit both the
// plan and the limits given.
func schedule(p *plan.Plan, within plan.Limits) []*step.Step {
	rng := rand.New(rand.NewPCG(5, 5))
	least := func(a, b int) int { return max(1, min(a, b)) }
	l := p.Limits
	within.Tokens, within.Rows, within.Sequences = least(l.Tokens, within.Tokens), least(l.Rows, within.Rows), least(l.Sequences, within.Sequences)
	within.Context = least(l.Context, within.Context)
	groups := p.Groups()
	type running struct {
		group, slot, done int
		pages             []int32
	}
	var list []*running
	for i := range max(2, groups) {
		if i/groups < within.Sequences {
			list = append(list, &running{group: i % groups, slot: (i + 1) % within.Sequences})
		}
	}
	used := make([]int32, groups)
	var steps []*step.Step
	for n := range 4 {
		st := &step.Step{Groups: make([]step.Group, groups)}
		for g := range st.Groups {
			st.Groups[g].Pages = make([][]int32, l.Sequences)
		}
		room, rows := min(11, within.Tokens), within.Rows
		for i, r := range list {
			count := min([]int{5, 1, 3, 2}[(n+i)%4], room/(len(list)-i), within.Context-r.done)
			room -= count
			g := &st.Groups[r.group]
			for range count {
				if r.done%l.Page == 0 && int(used[r.group]) < l.Pages {
					r.pages = append(r.pages, int32(l.Pages-1)-used[r.group])
					used[r.group]++
				}
				if rng.IntN(4) > 0 && rows > 0 {
					g.Rows = append(g.Rows, int32(len(g.Tokens)))
					rows--
				}
				g.Tokens = append(g.Tokens, int32(rng.IntN(p.Model.Vocab)))
				g.Positions = append(g.Positions, int32(r.done))
				g.Sequences = append(g.Sequences, int32(r.slot))
				r.done++
			}
			g.Pages[r.slot] = slices.Clone(r.pages)
		}
		steps = append(steps, st)
	}
	return steps
}

// run executes the steps on the CPU, with dead memory poisoned.
func (s *subject) run(p *plan.Plan, within plan.Limits) (bits []uint32, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	type outcome struct {
		bits []uint32
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if r := recover(); r != nil {
				o.err = fmt.Errorf("panic: %v", r)
			}
			done <- o
		}()
		o.bits, o.err = s.execute(ctx, p, schedule(p, within))
	}()
	select {
	case o := <-done:
		return o.bits, o.err
	case <-ctx.Done():
		return nil, fmt.Errorf("no end after 20 s")
	}
}

func (s *subject) execute(ctx context.Context, p *plan.Plan, steps []*step.Step) (bits []uint32, err error) {
	program, err := host.Load(ctx, p, weights.Checkpoint{Tensors: s.files}, host.Options{Poison: true})
	if err != nil {
		return nil, err
	}
	defer program.Close()
	for _, st := range steps {
		logits, err := program.Step(ctx, st)
		if err != nil {
			return nil, err
		}
		for _, x := range slices.Concat(logits...) { // NaN if dead memory was read
			bits = append(bits, math.Float32bits(x))
		}
	}
	return bits, nil
}

// noNumber reports whether bits are infinite or NaN.
func noNumber(bits uint32) bool { return bits&0x7f800000 == 0x7f800000 }

// judge runs mutants and compares bits. Fast numerics promise none: a mutant
// of such a plan, which computes the same but for sums and roundings, must end
// with numbers.
func (s *subject) judge() mutate.Oracle {
	return mutate.Oracle{Name: "run on the CPU", Judge: true, Check: func(p *plan.Plan) error {
		want, err := s.expect(p.Limits)
		if err != nil {
			return err
		}
		for i := range p.Programs {
			if err := s.compare(p, i, want); err != nil {
				return err
			}
		}
		return nil
	}}
}

// compare runs a program of a mutant.
func (s *subject) compare(p *plan.Plan, program int, want []uint32) error {
	one := *p
	one.Programs = p.Programs[program : program+1]
	got, err := s.run(&one, s.plan.Limits)
	if err != nil {
		return err
	}
	differ := 0
	for i := range got {
		if i >= len(want) || got[i] != want[i] {
			differ++
		}
	}
	if p.Numerics.Mode == ir.Fast && !slices.ContainsFunc(got, noNumber) {
		differ = 0 // sums and roundings are a placement's own
	}
	if differ > 0 || len(got) != len(want) {
		return otherLogits{differ, len(want)}
	}
	return nil
}

// otherLogits says that a mutant runs to its end and computes something else.
type otherLogits struct{ differ, of int }

func (e otherLogits) Error() string { return fmt.Sprintf("%d of %d logits differ", e.differ, e.of) }

// store is a checkpoint that has a tensor for everything that weights of a
// model are read from.
type store map[string]stored

type stored struct {
	dtype tensor.DType
	shape []int
	fan   int
}

func newStore(list []*ir.Weight) store {
	s := make(store)
	for _, w := range list {
		for e := range max(1, w.Experts) {
			key := w.Source.KeyFor(w.Layer, e)
			fan := w.Shape[len(w.Shape)-1]
			if len(w.Shape) == 1 || w.Experts > 0 && len(w.Shape) == 2 {
				fan = 0
			}
			s[key] = stored{w.DType, w.Source.Stored, fan}
		}
	}
	return s
}

// ReadSlice implements weights.Tensors. An element depends on the tensor's
// name and on its index.
func (s store) ReadSlice(name string, begin, end []int64, dst []byte) error {
	t, ok := s[name]
	if !ok || len(begin) != len(t.shape) {
		return fmt.Errorf("no tensor %s of %d axes", name, len(begin))
	}
	h := fnv.New64a()
	h.Write([]byte(name))
	seed := h.Sum64()
	size := t.dtype.Bytes()
	var walk func(axis int, at uint64)
	walk = func(axis int, at uint64) {
		if axis == len(t.shape) {
			if len(dst) >= size {
				t.put(dst, seed, at)
				dst = dst[size:]
			}
			return
		}
		for i := begin[axis]; i < end[axis]; i++ {
			walk(axis+1, at*uint64(t.shape[axis])+uint64(i))
		}
	}
	walk(0, 0)
	return nil
}

// put writes one element: vectors lie around 1, matrices have the scale that
// keeps the variance of what they multiply.
func (t stored) put(dst []byte, seed, at uint64) {
	r := rand.NewPCG(seed, at)
	u := 2*float64(r.Uint64()>>11)/(1<<53) - 1
	x := float32(1 + 0.2*u)
	if t.fan > 0 {
		x = float32(u * math.Sqrt(3/float64(t.fan)))
	}
	switch t.dtype {
	case tensor.BF16:
		binary.LittleEndian.PutUint16(dst, arith.ToBF16(x))
	case tensor.F16:
		binary.LittleEndian.PutUint16(dst, arith.ToF16(x))
	default:
		binary.LittleEndian.PutUint32(dst, math.Float32bits(x))
	}
}

// graph compares a plan with the logical graph.
func (s *subject) graph() mutate.Oracle {
	return mutate.Oracle{Name: "graph", Check: func(p *plan.Plan) error { return plan.VerifyGraph(p, s.result.Logical) }}
}

// oracles are all who check plans, and the judge of what they accept.
func (s *subject) oracles() []mutate.Oracle {
	return []mutate.Oracle{{Name: "verify", Check: plan.Verify}, s.graph(), s.match(), s.proof(), simulator(), s.judge()}
}

// simulator follows a plan's steps through the devices and links of a machine.
func simulator() mutate.Oracle {
	return mutate.Oracle{Name: "simulate", Judge: true, Check: func(p *plan.Plan) error {
		m, err := machine.Lookup("h200x8")
		if err != nil {
			return err
		}
		s, err := simulate.New(p, m)
		if err != nil {
			return err
		}
		r, err := s.Step(cost.Load{Sequences: 1, Tokens: 1, Rows: 1, Context: 1}, simulate.Options{Contention: true})
		if err == nil && r.Time <= 0 {
			err = fmt.Errorf("a step takes %d ps", r.Time)
		}
		return err
	}}
}

// proof interprets a plan and the logical graph exactly.
func (s *subject) proof() mutate.Oracle {
	return mutate.Oracle{Name: "prove", Check: func(p *plan.Plan) error {
		_, err := prove.Check(p, s.result.Logical, prove.Options{Seed: 1})
		return err
	}}
}

// match is rule V26 as it is checked when a plan meets a checkpoint: every
// tensor that the plan reads is there, with the shape and type it expects.
func (s *subject) match() mutate.Oracle {
	hash := s.plan.Model.Hash
	return mutate.Oracle{Name: "model", Check: func(p *plan.Plan) error {
		if err := plan.VerifyModel(p, hash); err != nil {
			return err
		}
		for _, w := range p.Weights {
			for _, part := range w.Parts {
				for i := range w.Layers.Len() {
					if err := s.files.has(w, part, w.Layers.First+i); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}}
}

func (s store) has(w plan.Weight, p plan.Part, layer int) error {
	experts := p.Experts
	if !p.Source.PerExpert() {
		experts = []int{0}
	}
	for _, e := range experts {
		key := p.Source.KeyFor(layer, e)
		if t, ok := s[key]; !ok || t.dtype != w.DType || !slices.Equal(t.shape, p.Source.Stored) {
			return fmt.Errorf("V26: no tensor %s of shape %v", key, p.Source.Stored)
		}
	}
	return nil
}
