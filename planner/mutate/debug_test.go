package mutate_test

import (
	"flag"
	"testing"

	"moec/ir/textdiff"
	"moec/planner/mutate"
	"moec/planner/plan"
)

var at = flag.Int("subject", -1, "")
var number = flag.Uint64("number", 0, "")

func TestDebug(t *testing.T) {
	if *at < 0 {
		t.Skip()
	}
	s := subjects(t, *at+1)[*at]
	q, what := mutate.Mutant(s.plan, uint64(*at), *number)
	t.Log(what)
	a, _ := plan.Comparable(s.plan)
	b, _ := plan.Comparable(q)
	t.Log(textdiff.Unified("a", "b", a, b))
	t.Log(plan.Verify(q))
	t.Log(s.judge().Check(q))
}

func TestHonest(t *testing.T) {
	for i := range uint64(300) {
		s := random(t, 1000+i)
		if err := plan.Verify(s.plan); err != nil {
			t.Error(s.name, err)
		}
		if err := plan.VerifyGraph(s.plan, s.result.Logical); err != nil {
			t.Error(s.name, err)
		}
	}
	for i := range examples {
		s := example(t, i)
		if err := plan.VerifyGraph(s.plan, s.result.Logical); err != nil {
			t.Error(s.name, err)
		}
	}
}
