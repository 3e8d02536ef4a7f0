package mutate_test

import (
	"flag"
	"testing"

	"moec/ir/textdiff"
	"moec/planner/mutate"
	"moec/planner/plan"
)

var (
	program = flag.Int("program", -1, "show a mutant of this plan: what was done, and what each oracle says")
	number  = flag.Uint64("number", 0, "which mutant of -program, with -seed")
)

// TestOne shows one mutant.
func TestOne(t *testing.T) {
	if *program < 0 {
		t.Skip("no -program is given")
	}
	s := compile(t, *program)
	s.prepare(t)
	q, what := mutate.Mutant(s.plan, *first, *number)
	if q == nil {
		t.Fatal("there is no such mutant")
	}
	before, err := plan.Comparable(s.plan)
	if err != nil {
		t.Fatal(err)
	}
	after, err := plan.Comparable(q)
	if err != nil {
		t.Logf("cannot be written: %v", err)
	}
	t.Logf("%s, %+v, %+v\n%s\n%s", s.name, s.plan.Numerics, s.plan.Limits, what, textdiff.Unified("before", "after", before, after))
	for _, o := range s.oracles() {
		t.Logf("%s: %v", o.Name, o.Check(q))
	}
}
