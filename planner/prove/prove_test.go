package prove_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"testing"

	"moec/compiler"
	"moec/dsl"
	"moec/dsl/moegen"
	"moec/ir"
	"moec/ir/placement"
	"moec/passes"
	"moec/planner/plan"
	"moec/planner/prove"
)

// sizes are small ones of all families, by the names that descriptions give them.
var sizes = map[string]string{
	"layers": "3", "hidden": "24", "heads": "6", "kv_heads": "3", "head_dim": "4", "ffn": "12", "experts": "6", "vocab": "37", "top_k": "2",
	"expert_ffn": "10", "shared_ffn": "12", "window": "6", "groups": "2", "top_groups": "1", "q_rank": "8", "kv_rank": "8", "nope": "4",
	"turned": "4", "v_dim": "6", "shared": "1", "dense": "1",
}

var sizeLine = regexp.MustCompile(`(?m)^(?:size|count)\??\s+(\w+)`)

// compile compiles an example for a strategy: at small sizes, or at its own.
func compile(t testing.TB, file, strategy string, devices int, small bool, n ir.Numerics) *compiler.Result {
	t.Helper()
	src, err := os.ReadFile("../../examples/" + file + ".moe")
	if err != nil {
		t.Fatal(err)
	}
	o := compiler.Options{Env: dsl.Env{Set: make(map[string]string)}, Numerics: n}
	if small {
		for _, m := range sizeLine.FindAllSubmatch(src, -1) {
			if value, ok := sizes[string(m[1])]; ok {
				o.Env.Set[string(m[1])] = value
			}
		}
		o.Limits = plan.Limits{Tokens: 16, Rows: 12, Sequences: 3, Context: 24, Page: 4}
	}
	return compileWith(t, file, strategy, devices, src, o)
}

func compileWith(t testing.TB, file, strategy string, devices int, src []byte, o compiler.Options) *compiler.Result {
	t.Helper()
	o.Place = func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, strategy, devices) }
	r, err := compiler.Compile(file+".moe", src, o)
	if err != nil {
		t.Fatalf("%s on %s: %v", file, strategy, err)
	}
	return r
}

// shallow is Mixtral in its own widths with two layers: damage of one entry
// leaves little to divide extents by, and 32 layers of full width would take
// minutes and 13 GB.
func shallow(t testing.TB) *compiler.Result {
	t.Helper()
	src, err := os.ReadFile("../../examples/mixtral.moe")
	if err != nil {
		t.Fatal(err)
	}
	return compileWith(t, "mixtral", "tp", 4, src, compiler.Options{Env: dsl.Env{Set: map[string]string{"layers": "2"}}, Numerics: ir.Numerics{Segments: 8}})
}

// random compiles a random program for a random placement.
func random(t testing.TB, seed uint64, mode ir.Mode) *compiler.Result {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0x70726f7665))
	o := compiler.Options{Numerics: ir.Numerics{Mode: mode, Segments: 4}, Limits: plan.Limits{Tokens: 12, Rows: 10, Sequences: 3, Context: 24, Page: 4}}
	o.Place = func(g *ir.Graph) (*placement.Placement, error) {
		return placement.Random(rng, passes.Summarise(g), 1+rng.IntN(4)), nil
	}
	r, err := compiler.Compile("random.moe", []byte(moegen.Program(seed)), o)
	if err != nil {
		t.Fatalf("random program %d: %v", seed, err)
	}
	return r
}

// subjects are the plans that are damaged: description, strategy, devices.
var subjects = map[string]struct {
	file, strategy string
	devices        int
}{
	"tp":     {"mixtral", "tp", 2},
	"ep":     {"mixtral", "ep", 3},
	"pp":     {"mixtral", "pp", 2},
	"dp":     {"mixtral", "dp", 2},
	"adp":    {"mixtral", "adp", 2},
	"sinks":  {"gpt_oss", "tp", 2},
	"latent": {"deepseek_v3", "ep", 2},
}

var known = make(map[string]*compiler.Result)

// subject returns one of subjects, or a random program whose experts have
// copies that take turns; nobody changes it.
func subject(t testing.TB, name string) *compiler.Result {
	t.Helper()
	if known[name] == nil {
		if s, ok := subjects[name]; ok {
			known[name] = compile(t, s.file, s.strategy, s.devices, true, ir.Numerics{Segments: 8})
		}
		for seed := uint64(1); known[name] == nil; seed++ {
			if r := random(t, seed, ir.Invariant); turns(r.Plan) > 1 {
				known[name] = r
			}
		}
	}
	return known[name]
}

// turns returns how many copies take turns with an expert at most.
func turns(p *plan.Plan) int {
	most := 1
	for _, b := range p.Programs[0].Blocks {
		for _, q := range b.Queues {
			for _, s := range q.Steps {
				for _, turn := range s.Attrs.Sets("turns") {
					most = max(most, turn[1])
				}
			}
		}
	}
	return most
}

// TestExamples proves every shipped description at small sizes, on every kind
// of placement, divided and at its own size, under both numerics.
func TestExamples(t *testing.T) {
	for _, file := range []string{"deepseek_v2", "deepseek_v3", "gpt_oss", "granitemoe", "llama", "mistral", "mixtral", "olmoe", "phimoe", "qwen2_moe", "qwen3_moe"} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			for i, s := range []struct {
				strategy string
				devices  int
			}{{"tp", 1}, {"tp", 2}, {"ep", 3}, {"pp", 3}, {"dp", 2}, {"adp", 3}, {"pp2tp2", 4}, {"tp2ep2", 4}, {"adp2tp2", 4}} {
				dense := file == "llama" || file == "mistral"
				if !dense || !slices.Contains([]string{"ep", "adp", "tp2ep2", "adp2tp2"}, s.strategy) {
					proveExample(t, file, s.strategy, s.devices, i)
				}
			}
		})
	}
}

// proveExample proves the i-th placement of an example; every third as it is,
// every other under fast numerics too.
func proveExample(t *testing.T, file, strategy string, devices, i int) {
	t.Helper()
	for _, mode := range []ir.Mode{ir.Invariant, ir.Fast} {
		if mode == ir.Fast && i%2 == 0 {
			continue
		}
		name := fmt.Sprintf("%s on %d %s", strategy, devices, mode)
		r := compile(t, file, strategy, devices, true, ir.Numerics{Mode: mode, Segments: 8})
		report, err := prove.Check(r.Plan, r.Logical, prove.Options{Seed: uint64(i), Full: i%3 == 0})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := prove.Intervals(r.Plan, r.Logical); err != nil {
			t.Errorf("%s: intervals: %v", name, err)
		}
		if report.Steps == 0 || report.Elements == 0 || report.Unrounded != (mode == ir.Fast) || (len(report.Shrunk) == 0) != (i%3 == 0) {
			t.Errorf("%s: report %+v", name, report)
		}
	}
}

// TestRealSizes proves Mixtral 8x7B at its own sizes on four devices.
func TestRealSizes(t *testing.T) {
	for _, s := range []string{"tp", "ep", "pp", "adp"} {
		r := compile(t, "mixtral", s, 4, false, ir.Numerics{Segments: 8})
		report, err := prove.Check(r.Plan, r.Logical, prove.Options{Seed: 1})
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if err := prove.Intervals(r.Plan, r.Logical); err != nil {
			t.Errorf("%s: intervals: %v", s, err)
		}
		t.Logf("%s: %d steps, %d elements, divided %v", s, report.Steps, report.Elements, report.Shrunk)
	}
}

// TestSeeds proves a plan with many seeds: nothing may hang on the hashes.
func TestSeeds(t *testing.T) {
	r := subject(t, "adp")
	for seed := range uint64(20) {
		if _, err := prove.Check(r.Plan, r.Logical, prove.Options{Seed: seed}); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// TestOtherModels gives plans with the graphs of other settings: every one is
// refused.
func TestOtherModels(t *testing.T) {
	r := subject(t, "tp")
	src, err := os.ReadFile("../../examples/mixtral.moe")
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"eps": "1e-6", "theta": "1e4", "top_k": "1", "window": "7", "tied": "true", "hidden": "48", "act": "f16", "layers": "2"} {
		set := maps.Clone(sizes)
		for k := range set {
			if !regexp.MustCompile(`(?m)^(?:size|count)\??\s+` + k + `\b`).Match(src) {
				delete(set, k)
			}
		}
		set[name] = value
		o := compiler.Options{Env: dsl.Env{Set: set}, Numerics: ir.Numerics{Segments: 8}}
		other, err := compiler.Compile("mixtral.moe", src, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := prove.Check(r.Plan, other.Logical, prove.Options{}); err == nil {
			t.Errorf("with %s = %s: no difference is seen", name, value)
		} else {
			t.Logf("%s = %s: %v", name, value, err)
		}
	}
}
