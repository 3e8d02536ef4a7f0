package mutate_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"moec/codegen"
	"moec/ir/tensor"
	"moec/planner/mutate"
	"moec/planner/plan"
)

var (
	count    = flag.Int("mutants", 2000, "mutants that tests make")
	first    = flag.Uint64("seed", 1, "seed of the first run")
	programs = flag.Int("programs", 24, "plans that are damaged: the examples and random ones")
	listed   = flag.Bool("equal", false, "list the mutants that compute the same")
)

// TestHonest checks that nothing is refused that was not damaged.
func TestHonest(t *testing.T) {
	for i := range max(40, *programs) {
		s := compile(t, i)
		if err := plan.Verify(s.plan); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if err := plan.VerifyGraph(s.plan, s.result.Logical); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}

// TestMutants damages plans and asks everybody who checks plans when they are
// made or loaded. What they accept is run: it must compute the same.
func TestMutants(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // plans are made to be thrown away
	list := subjects(t, *programs)
	scores := make([]mutate.Score, len(list))
	t.Run("plans", func(t *testing.T) {
		for i, s := range list {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				n := (*count + i) / len(list)
				scores[i] = mutate.Run(s.plan, *first+uint64(i), n, s.oracles())
				for _, e := range scores[i].Escapes {
					t.Errorf("%s: accepted, but %v\nagain: go test ./planner/mutate -run TestOne -v -args -program %d -seed %d -number %d", e.What, e.Err, i, *first+uint64(i), e.Number)
				}
				for _, e := range scores[i].Equals {
					if *listed {
						t.Logf("-program %d -seed %d -number %d: %s: computes the same", i, *first+uint64(i), e.Number, e.What)
					}
				}
			})
		}
	})
	var sum mutate.Score
	for _, s := range scores {
		sum.Add(s)
	}
	total := sum.Total()
	t.Logf("by rule\n%s", mutate.Table(append(sum.ByRule(), total)))
	t.Logf("by mutation\n%s", mutate.Table(sum.Rows))
	if total.Share() < 0.99 || total.Applied < *count*9/10 {
		t.Errorf("%d of %d mutants that compute something else were refused, want 99 %%", total.Killed(), total.Applied-total.Equal)
	}
	for _, r := range plan.Rules() {
		if total.Rules[r.ID] == 0 {
			t.Errorf("rule %s (%s) refused no mutant", r.ID, r.Doc)
		}
	}
}

// TestMutations checks the table: names are unique, every rule has mutations,
// and each mutation fits some plan.
func TestMutations(t *testing.T) {
	names, rules := make(map[string]bool), make(map[string]int)
	kinds := mutate.Mutations()
	for _, m := range kinds {
		if names[m.Name] {
			t.Errorf("two mutations are called %q", m.Name)
		}
		names[m.Name] = true
		rules[m.Rule]++
	}
	for _, r := range plan.Rules() {
		if rules[r.ID] == 0 {
			t.Errorf("no mutation is for rule %s", r.ID)
		}
	}
	t.Logf("%d mutations of plans, %d of files", len(kinds), len(mutate.FileMutations()))
	fit := make(map[string]bool)
	for i := range 40 {
		s := compile(t, i)
		if i == 0 {
			s = withKernels(t, s)
		}
		for j, m := range kinds {
			for k := range uint64(20) {
				if fit[m.Name] {
					break
				}
				p := mutate.Clone(s.plan)
				_, ok := m.Apply(rand.New(rand.NewPCG(uint64(j), k)), p)
				fit[m.Name] = ok && !reflect.DeepEqual(p, s.plan)
			}
		}
	}
	for _, m := range kinds {
		if !fit[m.Name] {
			t.Errorf("%q fits no plan", m.Name)
		}
	}
}

// withKernels gives a plan its kernels for a GPU.
func withKernels(t testing.TB, s *subject) *subject {
	t.Helper()
	k, err := codegen.Choose(s.plan, "sm_90a")
	if err != nil {
		t.Fatal(err)
	}
	p := mutate.Clone(s.plan)
	p.Kernels = []plan.Kernels{k}
	return &subject{name: s.name, plan: p, result: s.result}
}

// TestKernels damages the choice of kernels: the generator of code refuses
// what is not its own.
func TestKernels(t *testing.T) {
	var sum mutate.Score
	for i := range 4 {
		s := withKernels(t, compile(t, 2*i))
		generate := func(p *plan.Plan) error {
			if len(p.Kernels) == 0 {
				return nil
			}
			_, err := codegen.Generate(p, p.Kernels[0])
			return err
		}
		if err := generate(s.plan); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		kinds := slices.DeleteFunc(mutate.Mutations(), func(m mutate.Mutation) bool { return !strings.Contains(m.Name, "kernel") })
		sum.Add(mutate.RunKinds(kinds, s.plan, uint64(i), 40, []mutate.Oracle{{Name: "verify", Check: plan.Verify}, {Name: "generate", Check: generate}}))
	}
	for _, r := range sum.Rows {
		if r.Survived > 0 || r.Escaped > 0 || r.Applied == 0 {
			t.Errorf("%q: %d of %d are accepted", r.Mutation.Name, r.Survived+r.Escaped, r.Applied)
		}
	}
	t.Logf("\n%s", mutate.Table(sum.Rows))
}

// TestFiles damages files.
func TestFiles(t *testing.T) {
	s := compile(t, 2)
	text, err := plan.Encode(s.plan)
	if err != nil {
		t.Fatal(err)
	}
	s.prepare(t)
	score := mutate.RunFiles(text, *first, 220, s.oracles())
	for _, e := range score.Escapes {
		t.Errorf("mutant %d: %s: %v", e.Number, e.What, e.Err)
	}
	total := score.Total()
	if total.Applied < 200 {
		t.Errorf("only %d files were damaged", total.Applied)
	}
	t.Logf("\n%s", mutate.Table(score.Rows))
}

// TestRunIsRepeatable checks that a seed stands for its mutants.
func TestRunIsRepeatable(t *testing.T) {
	p := compile(t, 2).plan
	before := mutate.Clone(p)
	oracles := []mutate.Oracle{{Name: "verify", Check: plan.Verify}}
	a, b := mutate.Run(p, 3, 80, oracles), mutate.Run(p, 3, 80, oracles)
	text := func(s mutate.Score) string { return mutate.Table(s.Rows) }
	if text(a) != text(b) {
		t.Error("the same seed gives another score")
	}
	if !reflect.DeepEqual(p, before) {
		t.Error("the plan was changed")
	}
	if c := mutate.Run(p, 4, 80, oracles); text(a) == text(c) {
		t.Error("another seed gives the same score")
	}
}

// TestRunSeesBlindness checks that a verifier that sees nothing, or crashes,
// does not score.
func TestRunSeesBlindness(t *testing.T) {
	s := compile(t, 2)
	s.prepare(t)
	blind := mutate.Oracle{Name: "blind", Check: func(*plan.Plan) error { return nil }}
	sc := mutate.Run(s.plan, 1, 60, []mutate.Oracle{blind})
	total := sc.Total()
	if total.Survived != 60 || total.Killed() != 0 || total.Share() != 0 {
		t.Errorf("of 60 mutants %d survive a blind verifier, %d are killed", total.Survived, total.Killed())
	}
	crash := mutate.Oracle{Name: "crash", Check: func(*plan.Plan) error { panic("out of order") }}
	sc = mutate.Run(s.plan, 1, 60, []mutate.Oracle{crash})
	total = sc.Total()
	if total.Escaped != 60 || len(sc.Escapes) != 60 {
		t.Errorf("%d of 60 crashes count as escapes", total.Escaped)
	}
	kinds := slices.DeleteFunc(mutate.Mutations(), func(m mutate.Mutation) bool { return m.Rule != mutate.Meaning })
	sc = mutate.RunKinds(kinds, s.plan, 1, 60, []mutate.Oracle{{Name: "verify", Check: plan.Verify}, s.judge()})
	if total = sc.Total(); total.Escaped == 0 {
		t.Error("nothing escapes a verifier that does not know the model: the judge sees nothing")
	}
}

// TestCloneIsDeep changes every list of a clone.
func TestCloneIsDeep(t *testing.T) {
	for i := range 14 {
		s := compile(t, i)
		if i == 0 {
			s = withKernels(t, s)
		}
		c := mutate.Clone(s.plan)
		if !reflect.DeepEqual(c, s.plan) {
			t.Fatalf("%s: a clone differs", s.name)
		}
		shared(t, s.name, reflect.ValueOf(c).Elem(), reflect.ValueOf(s.plan).Elem())
	}
}

// shared fails for slices of the same memory.
func shared(t *testing.T, at string, a, b reflect.Value) {
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			shared(t, at+"."+a.Type().Field(i).Name, a.Field(i), b.Field(i))
		}
	case reflect.Interface:
		if !a.IsNil() {
			shared(t, at, a.Elem(), b.Elem())
		}
	case reflect.Slice:
		if a.Len() > 0 && a.Pointer() == b.Pointer() {
			t.Errorf("%s is shared", at)
			return
		}
		for i := range a.Len() {
			shared(t, fmt.Sprint(at, "[", i, "]"), a.Index(i), b.Index(i))
		}
	}
}

// TestGraph checks what a plan is compared with its graph for: each change is
// refused by its rule, with a message that says what is wrong.
func TestGraph(t *testing.T) {
	step := func(p *plan.Plan, op string) *plan.Step {
		for i := range p.Programs[0].Blocks {
			for j := range p.Programs[0].Blocks[i].Queues {
				for k := range p.Programs[0].Blocks[i].Queues[j].Steps {
					s := &p.Programs[0].Blocks[i].Queues[j].Steps[k]
					for l := range s.Body {
						if s.Body[l].Op == op {
							return &s.Body[l]
						}
					}
					if s.Op == op {
						return s
					}
				}
			}
		}
		t.Fatalf("no %s", op)
		return nil
	}
	weight := func(p *plan.Plan, suffix string) *plan.Weight {
		for i := range p.Weights {
			if strings.HasSuffix(p.Weights[i].Name, suffix) {
				return &p.Weights[i]
			}
		}
		t.Fatalf("no weight %s", suffix)
		return nil
	}
	for _, c := range []struct {
		rule, text string
		change     func(p *plan.Plan)
	}{
		{"V26", "layers", func(p *plan.Plan) { p.Model.Layers++ }},
		{"V26", "words", func(p *plan.Plan) { p.Model.Vocab++ }},
		{"V26", "segments", func(p *plan.Plan) { p.Numerics.Segments++ }},
		{"V13", "lm_head", func(p *plan.Plan) { weight(p, "unembed").Parts[0].Source.Key = "lm_head.bias" }},
		{"V13", "no other", func(p *plan.Plan) { weight(p, "unembed").Parts[0].Weight = "other" }},
		{"V13", "f16", func(p *plan.Plan) { weight(p, "unembed").DType = tensor.F16 }},
		{"V17", "eps 0.1", func(p *plan.Plan) { s := step(p, "rms_norm"); s.Attrs = s.Attrs.With("eps", 0.1) }},
		{"V17", "scale 3", func(p *plan.Plan) { s := step(p, "attention"); s.Attrs = s.Attrs.With("scale", 3.0) }},
		{"V25", "makes sub(", func(p *plan.Plan) { step(p, "add").Op = "sub" }},
		{"V25", "the model [256]", func(p *plan.Plan) { s := step(p, "attention"); s.Attrs = s.Attrs.With("chunk", 8) }},
		{"V25", "the model at [[0 4 12 16 24]]", func(p *plan.Plan) { s := step(p, "matmul_nodes"); s.Attrs = s.Attrs.With("leaf", 1) }},
	} {
		s := compile(t, 2)
		p := mutate.Clone(s.plan)
		c.change(p)
		err, ok := plan.VerifyGraph(p, s.result.Logical).(*plan.VerifyError)
		if !ok {
			t.Errorf("%s: %q is accepted", c.rule, c.text)
			continue
		}
		if i := slices.IndexFunc(err.Problems, func(p plan.Problem) bool { return p.Rule == c.rule && strings.Contains(p.Text, c.text) }); i < 0 {
			t.Errorf("%s: want %q, have %v", c.rule, c.text, err.Problems)
		}
	}
}
