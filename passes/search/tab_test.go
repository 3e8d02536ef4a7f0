package search

import (
	"fmt"
	"moec/ir"
	"moec/ir/routing"
	"moec/passes"
	"testing"
	"time"
)

func TestTab(t *testing.T) {
	o := outline(t, "mixtral", ir.Invariant, 8, nil)
	stats := routing.Uniform(shapes(o))
	for _, mach := range []string{"h200x4", "v100x4", "l40sx4"} {
		for _, w := range []Workload{Decode(1), Decode(8), Decode(64), Prefill(2048, 2048)} {
			t0 := time.Now()
			m, err := newModel(&Problem{Outline: o, Machine: machineOf(t, mach), Stats: stats, Positions: 8 * 4096, Workload: w})
			if err != nil {
				t.Fatal(err)
			}
			fmt.Printf("%s %s:", mach, w.Name)
			for _, s := range []string{"tp4", "ep4", "tp2ep2", "adp4", "adp2tp2", "dp2tp2", "dp4", "pp4", "pp2tp2", "pp2ep2"} {
				p, err := passes.NamedFor(o.Summary, s, 4)
				if err != nil {
					t.Fatal(err)
				}
				st, err := m.place(p)
				if err != nil {
					t.Fatal(err)
				}
				fit := ""
				if !m.fits(st.bytes) {
					fit = "!"
				}
				fmt.Printf(" %s %.3f%s", s, float64(st.score)/scoreUnits/1e9/float64(w.Steps[0].Count), fit)
			}
			fmt.Println(" ", time.Since(t0))
		}
	}
}
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
			m, err := newModel(&Problem{Outline: o, Machine: machineOf(t, mach), Stats: stats, Positions: 8 * 4096, Workload: w})
			if err != nil {
				t.Fatal(err)
			}
			best := int64(never)
			name := ""
			for _, h := range m.hand() {
				if h.Why == "" && h.priced.score < best {
					best = h.priced.score
					name = h.Name
				}
			}
			r, err := m.exact(best)
			if err != nil {
				t.Fatal(err)
			}
			got := int64(0)
			if r.best != nil {
				got = r.best.score
			}
			fmt.Printf("%s %s: best %.4f bound %.4f gap %.4f%% hand %s %.4f  %v %v %s\n", mach, w.Name, float64(got)/scoreUnits/1e9, float64(r.bound)/scoreUnits/1e9, 100*float64(got-r.bound)/float64(r.bound+1), name, float64(best)/scoreUnits/1e9, time.Since(t0), m.counts, r.limit)
		}
	}
}
