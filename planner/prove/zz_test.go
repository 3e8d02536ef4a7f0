package prove_test

import (
	"flag"
	"fmt"
	"sort"
	"testing"

	"moec/planner/mutate"
	"moec/planner/plan"
	"moec/planner/prove"
)

var zzn = flag.Int("zzn", 400, "")
var zzp = flag.Int("zzp", 24, "")
var zzs = flag.Uint64("zzs", 1, "")

func TestZZ(t *testing.T) {
	list := zzsubjects(t, *zzp)
	kinds := map[string]int{}
	for i, s := range list {
		judge := s.judge().Check
		n, sawOK, runsSame, escaped, alarm, crash := 0, 0, 0, 0, 0, 0
		for k := uint64(0); k < uint64(*zzn); k++ {
			q, what := mutate.Mutant(s.plan, *zzs+uint64(i), k)
			if q == nil {
				continue
			}
			n++
			_, err := prove.Check(q, s.result.Logical, prove.Options{Seed: 1})
			verr := plan.Verify(q)
			if ierr := prove.Intervals(q, s.result.Logical); s.plan.Numerics.Mode != "fast" {
				if _, ok := ierr.(*prove.Mismatch); ierr != nil && !ok {
					t.Logf("CRASH I %s %d: %s: %v", s.name, k, what, ierr)
				}
				if err == nil && ierr != nil {
					t.Logf("IALARM %s %d: %s: %v", s.name, k, what, ierr)
				}
				if err != nil && ierr == nil {
					t.Logf("IMISS %s %d: %s: %v", s.name, k, what, err)
				}
			}
			if m, ok := err.(*prove.Mismatch); err != nil && !ok {
				crash++
				t.Logf("CRASH %s %d: %s: %v", s.name, k, what, err)
			} else if ok {
				kinds[string(m.Kind)]++
			}
			if err == nil {
				sawOK++
			}
			if err != nil && verr != nil {
				continue
			}
			jerr := func() (e error) {
				defer func() {
					if r := recover(); r != nil {
						e = fmt.Errorf("panic %v", r)
					}
				}()
				return judge(q)
			}()
			if jerr == nil {
				runsSame++
			}
			if err == nil && jerr != nil {
				escaped++
				t.Logf("ESCAPE %s seed %d %d: %s: %v; verify %v", s.name, *zzs+uint64(i), k, what, jerr, verr)
			}
			if err != nil && jerr == nil && verr == nil {
				alarm++
				t.Logf("ALARM %s %d: %s: %v", s.name, k, what, err)
			}
		}
		t.Logf("%s: %d mutants, accepted %d, escapes %d, alarms %d crashes %d", s.name, n, sawOK, escaped, alarm, crash)
	}
	var names []string
	for k := range kinds {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		t.Log(k, kinds[k])
	}
}
