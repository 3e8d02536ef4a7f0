package prove_test

import (
	"os"
	"testing"
	"time"

	"moec/compiler"
	"moec/dsl"
	"moec/ir"
	"moec/ir/placement"
	"moec/passes"
	"moec/planner/plan"
	"moec/planner/prove"
)

func compiled(t testing.TB, file, strategy string, devices int, set map[string]string) *compiler.Result {
	t.Helper()
	src, err := os.ReadFile("../../examples/" + file + ".moe")
	if err != nil {
		t.Fatal(err)
	}
	r, err := compiler.Compile(file+".moe", src, compiler.Options{
		Env:   dsl.Env{Set: set},
		Place: func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, strategy, devices) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMixtral(t *testing.T) {
	for _, s := range []string{"tp", "ep", "pp", "dp", "adp", "tp2ep2"} {
		r := compiled(t, "mixtral", s, 4, nil)
		begin := time.Now()
		report, err := prove.Check(r.Plan, r.Logical, prove.Options{Seed: 1})
		t.Logf("%s: %v %d steps %d elements %v, verify", s, time.Since(begin), report.Steps, report.Elements, report.Shrunk)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		begin = time.Now()
		plan.Verify(r.Plan)
		t.Logf("verify %v", time.Since(begin))
	}
}
