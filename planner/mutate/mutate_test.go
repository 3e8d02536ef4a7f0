package mutate_test

import (
	"flag"
	"fmt"
	"testing"

	"moec/planner/mutate"
	"moec/planner/plan"
)

var count = flag.Int("mutants", 2000, "mutants that tests make")

func TestScratch(t *testing.T) {
	list := subjects(t, 24)
	total := mutate.Score{}
	for i, s := range list {
		t.Logf("%s: %d devices", s.name, len(s.plan.Memory))
		sc := mutate.Run(s.plan, uint64(i), *count/len(list), []mutate.Oracle{{Name: "verify", Check: plan.Verify}, s.graph(), s.match(), s.judge()})
		if i == 0 {
			total = sc
			continue
		}
		for j, r := range sc.Rows {
			x := &total.Rows[j]
			x.Applied += r.Applied
			x.Verifier += r.Verifier
			x.Others += r.Others
			x.Equal += r.Equal
			x.Escaped += r.Escaped
			for k, v := range r.Rules {
				x.Rules[k] += v
			}
		}
		for _, e := range sc.Equals {
			t.Logf("EQ %s #%d/%d: %s", s.name, i, e.Seed, e.What)
		}
		for _, e := range sc.Escapes {
			e.What = fmt.Sprintf("%s #%d/%d: %s", s.name, i, e.Seed, e.What)
			total.Escapes = append(total.Escapes, e)
		}
	}
	for _, r := range total.Rows {
		t.Logf("%-60s %s applied %d verifier %d others %d equal %d escaped %d %v", r.Mutation.Name, r.Mutation.Rule, r.Applied, r.Verifier, r.Others, r.Equal, r.Escaped, r.Rules)
	}
	for _, e := range total.Escapes {
		t.Logf("ESC %s: %v", e.What, e.Err)
	}
}
