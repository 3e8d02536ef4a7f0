package mutate_test

import (
	"math/rand/v2"
	"os"
	"testing"

	"moec/compiler"
	"moec/dsl"
	"moec/ir"
	"moec/ir/placement"
	"moec/passes"
	"moec/planner/mutate"
	"moec/planner/plan"
)

func tiny(t testing.TB, strategy string, devices int) *compiler.Result {
	src, err := os.ReadFile("../../examples/mixtral.moe")
	if err != nil {
		t.Fatal(err)
	}
	o := compiler.Options{Env: dsl.Env{Set: map[string]string{"layers": "3", "hidden": "24", "heads": "6", "kv_heads": "3", "head_dim": "4", "ffn": "20", "experts": "5", "vocab": "37"}},
		Limits: plan.Limits{Tokens: 16, Rows: 16, Sequences: 4, Context: 32, Page: 8}}
	o.Place = func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, strategy, devices) }
	r, err := compiler.Compile("mixtral.moe", src, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestScratch(t *testing.T) {
	_ = rand.New
	for _, c := range []struct {
		s string
		n int
	}{{"tp", 2}, {"ep", 3}, {"pp", 2}, {"adp", 2}} {
		p := tiny(t, c.s, c.n).Plan
		s := mutate.Run(p, 1, 3000, []mutate.Oracle{{Name: "verify", Check: plan.Verify}})
		for _, r := range s.Rows {
			t.Logf("%s %-60s %s applied %d verifier %d survived %d %v", c.s, r.Mutation.Name, r.Mutation.Rule, r.Applied, r.Verifier, r.Survived, r.Rules)
		}
		for _, e := range s.Escapes {
			t.Errorf("%v", e)
		}
	}
}
