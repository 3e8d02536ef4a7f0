package search

import (
	"fmt"
	"moec/ir"
	"moec/ir/routing"
	"testing"
	"time"
)

func TestExactTab(t *testing.T) {
	for _, mach := range []string{"h200x4", "v100x4", "l40sx4"} {
		set := map[string]string{}
		if mach == "v100x4" {
			set["act"] = "f16"
		}
		o := outline(t, "mixtral", ir.Invariant, 8, set)
		stats := routing.Uniform(shapes(o))
		mixed, _ := ParseWorkload("", 2048)
		for _, w := range []Workload{Decode(1), Decode(8), Decode(64), Prefill(2048, 2048), mixed} {
			t0 := time.Now()
			p := &Problem{Outline: o, Machine: machineOf(t, mach), Stats: stats, Positions: 8 * 4096, Workload: w}
			r, err := Run(p, Options{})
			if err != nil {
				t.Fatal(err)
			}
			g, _ := r.Gap()
			fmt.Printf("%s %s: best %.4f bound %.4f gap %d ppm hand %s %.4f  %v %v %s\n", mach, w.Name, float64(r.Chosen.Score)/1e9, float64(r.Bound)/1e9, g, r.Best().Name, float64(r.Best().Score)/1e9, time.Since(t0), r.Counts, r.Limit)
			m, _ := newModel(p)
			hand := m.hand()
			best, _ := bestOf(m, hand)
			hand = append(hand, m.copied(hand)...)
			worst := int64(0)
			var all []int64
			t0 = time.Now()
			for seed := range uint64(10) {
				s, err := m.walks(starts(m, best, hand), placements(hand), DefaultBudget, seed)
				if err != nil {
					t.Fatal(err)
				}
				d := (s.score/scoreUnits - r.Chosen.Score) * 1e6 / r.Chosen.Score
				worst = max(worst, d)
				all = append(all, d)
			}
			fmt.Println("    mcmc ppm over", all, time.Since(t0)/10)
		}
	}
}
