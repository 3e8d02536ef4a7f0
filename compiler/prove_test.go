package compiler

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"moec/ir"
	"moec/ir/placement"
	"moec/planner/prove"
)

var proofs = flag.Int("proofs", 150, "random programs to run and to prove")

// TestRandomProofs runs random programs on random placements as
// TestRandomPrograms does, one in five under fast numerics, and proves the
// plan of each. Seeds follow each other from -seed.
func TestRandomProofs(t *testing.T) {
	begin, failed, spent := time.Now(), 0, time.Duration(0)
	for i := range uint64(*proofs) {
		seed := *first + i
		c := &randomCase{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x70726f6f66)), mode: ir.Invariant}
		if seed%5 == 4 {
			c.mode, c.tolerance = ir.Fast, 1e-3
		}
		took, err := c.prove()
		if spent += took; err != nil {
			t.Errorf("seed %d: %v\n%s\nagain: go test ./compiler -run TestRandomProofs -args -seed %d -proofs 1", seed, err, c, seed)
			if failed++; failed == 5 {
				t.Fatalf("stopped after %d failures", failed)
			}
		}
	}
	t.Logf("%d random programs from seed %d in %.1f s, %.1f s of them for proofs", *proofs, *first, time.Since(begin).Seconds(), spent.Seconds())
}

// prove runs a case, and proves the plan, whose placement is drawn by then.
func (c *randomCase) prove() (time.Duration, error) {
	if err := c.run(); err != nil {
		return 0, err
	}
	c.options.Place = func(*ir.Graph) (*placement.Placement, error) { return c.placement, nil }
	r, err := Compile("random.moe", []byte(c.source), c.options)
	if err != nil {
		return 0, fmt.Errorf("compile again: %w", explain(err))
	}
	begin := time.Now()
	if _, err := prove.Check(r.Plan, r.Logical, prove.Options{Seed: c.seed}); err != nil {
		return 0, fmt.Errorf("prove: %w", err)
	}
	if err := prove.Intervals(r.Plan, r.Logical); err != nil {
		return 0, fmt.Errorf("intervals: %w", err)
	}
	return time.Since(begin), nil
}
