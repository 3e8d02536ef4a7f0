package main

import (
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moec/ir/machine"
	"moec/planner/plan"
	"moec/planner/simulate"
	"moec/runtime/cuda"
)

// tinyPlan is the trained example for two devices.
func tinyPlan(t *testing.T) *plan.Plan {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tiny.plan")
	if code := run(context.Background(), []string{"compile", "../../examples/mixtral.moe", "--checkpoint", "../../examples/tiny-mixtral", "--gpus", "2", "--strategy", "tp2", "--no-proof", "-o", path}, nil, io.Discard, io.Discard); code != exitOK {
		t.Fatal(code)
	}
	p, err := plan.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestProfileReport makes a profile of kernels that take exactly what they
// must, of some that take twice as long, and of others that have no floor.
func TestProfileReport(t *testing.T) {
	p := tinyPlan(t)
	m, err := machine.Lookup(p.Machine.Name)
	if err != nil {
		t.Fatal(err)
	}
	const stream = 5e9
	f := &profileFlags{sequences: 4, tokens: 2, context: 10, trace: filepath.Join(t.TempDir(), "step.json")}
	if err := f.choose(p); err != nil {
		t.Fatal(err)
	}
	floors, whole, err := f.floors(p, m, stream)
	if err != nil || len(floors) == 0 {
		t.Fatal(len(floors), err)
	}
	var took []cuda.Took
	var sum int64
	for device := range 2 {
		at := time.Duration(0)
		for k, span := range floors {
			if k.device != device {
				continue
			}
			n := time.Duration(span.Cost.Total() / 1000)
			if span.Op == "attention" {
				n *= 2
			}
			sum += span.Cost.Total()
			took = append(took, cuda.Took{Device: device, Block: k.block, Layer: k.layer, Step: k.step, Op: span.Op, Start: at, End: at + n})
			at += n + 100
			took = append(took, cuda.Took{Device: device, Block: k.block, Layer: k.layer, Step: 1000, Op: "round", Start: at, End: at + 50})
			at += 50
		}
	}
	if sum != whole.Total() {
		t.Errorf("a whole step has %d ps, its parts %d", whole.Total(), sum)
	}
	r, err := f.report(p, m, took, stream)
	if err != nil {
		t.Fatal(err)
	}
	names := make(map[string]profileRow)
	for _, row := range r.Rows {
		names[row.Name] = row
		want := 100.0
		switch {
		case row.Name == "round":
			want = 0
		case strings.HasPrefix(row.Name, "attention"):
			want = 50
		}
		if math.Abs(row.Percent-want) > 5 { // nanoseconds are not exact
			t.Errorf("%+v: want %.0f %%", row, want)
		}
	}
	if row := names["round"]; row.Count != len(took)/2 || math.Abs(row.Total-0.05*float64(row.Count)) > 1e-6 {
		t.Errorf("%+v of %d kernels", row, len(took))
	}
	if want := 0.1 * float64(len(took)/2); math.Abs(r.Between-want) > 1e-6 || r.Kernels != len(took) || r.Devices != 2 {
		t.Errorf("%.3f us between %d kernels, want %.3f", r.Between, r.Kernels, want)
	}
	checkTrace(t, f, p, m, r)
	checkCovers(t, f, p, m, floors)
	f.experts = p.Model.Layers // one of each layer
	if _, few, err := f.floors(p, m, stream); err != nil || few.Total() >= whole.Total() {
		t.Errorf("with few experts %d ps, with all %d, %v", few.Total(), whole.Total(), err)
	}
	f.experts = 0
	one, err := f.report(p, m, []cuda.Took{{Layer: -1, Step: -1, Op: cuda.WholeStep, End: time.Millisecond}}, stream)
	if err != nil || len(one.Rows) != 1 || one.Rows[0].Floor != float64(whole.Total())/1e6 || one.Time != 1000 {
		t.Errorf("a whole step: %+v, %v", one, err)
	}
}

// checkCovers gives a kernel the floor of all steps that it executes.
func checkCovers(t *testing.T, f *profileFlags, p *plan.Plan, m *machine.Machine, floors map[stepOf]simulate.Span) {
	t.Helper()
	for k, span := range floors {
		next := k
		next.step++
		want := span.Cost.Add(floors[next].Cost).Total()
		r, err := f.report(p, m, []cuda.Took{{Device: k.device, Block: k.block, Layer: k.layer, Step: k.step, Covers: 2, Op: "two", End: time.Millisecond}}, 5e9)
		if err != nil || len(r.Rows) != 1 || r.Rows[0].Name != "two" || math.Abs(r.Rows[0].Floor-float64(want)/1e6) > 1e-6 {
			t.Errorf("steps %d and %d of %s: %+v, %v; want a floor of %d ps", k.step, next.step, k.block, r.Rows, err, want)
		}
	}
}

func checkTrace(t *testing.T, f *profileFlags, p *plan.Plan, m *machine.Machine, r *profileReport) {
	t.Helper()
	if err := f.write(p, m, r); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(f.trace)
	if err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]int{`"name":"device 0"`: 1, `"name":"device 1, measured"`: 1, `"name":"round"`: r.Kernels / 2, `"cat":"launch"`: r.Kernels / 2} {
		if n := strings.Count(string(text), what); n < want {
			t.Errorf("the trace has %d of %s, want %d", n, what, want)
		}
	}
	if r.spans[1].Spans[0].Kind == simulate.Wait {
		t.Error("a kernel is a wait")
	}
	a := &app{out: io.Discard}
	if err := r.print(a); err != nil {
		t.Error(err)
	}
}
