package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"moec/ir/machine"
	"moec/runtime/cuda"
	"moec/runtime/sample"
	"moec/runtime/step"
)

// timed is a program whose steps take a millisecond for each token, and in which
// two experts work in each layer.
type timed struct {
	vocab, layers int
	steps         int // executed
	last          time.Duration
	continued     []time.Duration
}

func (p *timed) Step(_ context.Context, s *step.Step) ([][]float32, error) {
	p.steps++
	p.last, p.continued = time.Duration(len(s.Groups[0].Tokens))*time.Millisecond, nil
	return [][]float32{make([]float32, p.vocab*len(s.Groups[0].Rows))}, nil
}

func (p *timed) Continue(_ context.Context, s *step.Step, _ []sample.Draw, n int, take func([]int32) bool) (bool, error) {
	p.continued = nil
	for range n {
		p.steps++
		p.continued = append(p.continued, time.Duration(len(s.Groups[0].Tokens))*time.Millisecond)
		take(make([]int32, len(s.Groups[0].Tokens)))
	}
	return true, nil
}

func (p *timed) Measure() (cuda.Measure, error) {
	return cuda.Measure{Last: p.last, Steps: p.continued, Experts: 2 * p.layers * p.steps, Launches: 3}, nil
}
func (p *timed) ReadStream(context.Context) (float64, error) { return 1e12, nil }
func (p *timed) Close() error                                { return nil }

// TestBench measures a program that nobody needs a GPU for: times as they were,
// bytes of as many experts as worked, and what the simulator says of the same
// steps.
func TestBench(t *testing.T) {
	p := tinyPlan(t)
	m, err := machine.Lookup(p.Machine.Name)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	f := &benchFlags{batches: []int{1, 2}, prefill: []int{7, p.Limits.Tokens + 5}, prompt: 3, steps: 10}
	b := &bench{app: &app{out: &out, err: &out, json: true}, program: &timed{vocab: p.Model.Vocab, layers: p.Model.Layers}, plan: p, machine: m, flags: f}
	if err := b.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d lines: %s", len(lines), out.String())
	}
	for i, batch := range f.batches {
		var row benchRow
		if err := json.Unmarshal([]byte(lines[i]), &row); err != nil {
			t.Fatal(err)
		}
		same := &profileFlags{sequences: batch, tokens: 1, context: f.prompt + benchWarmup + f.steps/2 - 1, experts: 2 * p.Model.Layers}
		if err := same.choose(p); err != nil {
			t.Fatal(err)
		}
		r, err := same.simulate(p, m)
		if err != nil {
			t.Fatal(err)
		}
		if row.Batch != batch || row.Device.Median != float64(batch) || row.Experts != 2 || row.Launches != 3 || row.Predicted != float64(r.Time)/1e9 || row.Bytes <= 0 {
			t.Errorf("%+v; want a prediction of %d ps", row, r.Time)
		}
	}
	for i, n := range f.prefill {
		var row prefillRow
		if err := json.Unmarshal([]byte(lines[2+i]), &row); err != nil {
			t.Fatal(err)
		}
		if row.Prompt != n || row.Chunks != 1+i || math.Abs(row.Device.Median-float64(n)) > 1e-9 || row.Launches != 3*(1+i) || row.Predicted <= 0 {
			t.Errorf("%+v of %d tokens", row, n)
		}
	}
	out.Reset()
	b.json = false
	if err := b.run(context.Background()); err != nil || !strings.Contains(out.String(), "predicted") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestComparison ranks three strategies at two points; the second is the search's
// own choice under another name.
func TestComparison(t *testing.T) {
	c := &comparison{}
	for _, x := range []struct {
		name            string
		times, priced   [2]float64
		tokens, missing string
	}{{chosenBySearch, [2]float64{2, 9}, [2]float64{1, 5}, "a", ""}, {"tp", [2]float64{2, 6}, [2]float64{1, 6}, "a", ""}, {"dp", [2]float64{}, [2]float64{}, "", "does not fit"}, {"ep", [2]float64{3, 8}, [2]float64{4, 7}, "b", ""}} {
		next := contender{Strategy: x.name, Why: x.missing}
		if x.missing == "" {
			next.Batches = []benchRow{{Batch: 4, Device: quantiles{Median: x.times[0]}, Predicted: x.priced[0], Tokens: x.tokens}}
			next.Prefill = []prefillRow{{Prompt: 70, Device: quantiles{Median: x.times[1]}, Predicted: x.priced[1]}}
		}
		c.Contenders = append(c.Contenders, next)
	}
	c.compare()
	// Batch: the pair of equals counts for neither, the others are ranked alike.
	// Prefill: searched and tp, searched and ep are ranked in opposite ways.
	want := []comparedPoint{{Name: "batch 4", Tau: 2. / 3, Regret: 0}, {Name: "prefill 70", Tau: -1. / 3, Regret: 0.5, Same: true}}
	for i, w := range want {
		if p := c.Points[i]; p.Name != w.Name || math.Abs(p.Tau-w.Tau) > 1e-9 || math.Abs(p.Regret-w.Regret) > 1e-9 || p.Same != w.Same || len(p.Times) != 3 {
			t.Errorf("%+v, want %+v", p, w)
		}
	}
	c.Contenders, c.Points = append([]contender{{Strategy: chosenBySearch, Why: "has groups"}}, c.Contenders[1:]...), nil
	if c.compare(); c.Points[0].Regret != -1 || len(c.Points[0].Times) != 2 {
		t.Errorf("without the search's: %+v", c.Points[0])
	}
	var out bytes.Buffer
	if err := c.print(&app{out: &out}); err != nil || !strings.Contains(out.String(), "differ") || strings.Contains(out.String(), "dp") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
