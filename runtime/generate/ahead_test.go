package generate

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"moec/runtime/sample"
	"moec/runtime/step"
)

// fakeAhead continues by itself, with as many steps ahead as depth says.
type fakeAhead struct {
	*fake
	depth     int
	cannot    bool
	fails     error
	continued int // steps
	dropped   int // steps that were queued when no more were wanted
}

func (f *fakeAhead) Continue(ctx context.Context, s *step.Step, draws []sample.Draw, n int, take func([]int32) bool) (bool, error) {
	if f.cannot {
		return false, nil
	}
	if f.fails != nil {
		return true, f.fails
	}
	grp := s.Groups[0]
	if len(grp.Rows) != len(grp.Tokens) || len(draws) != len(grp.Tokens) || n < 2 {
		f.t.Fatalf("%d tokens, %d rows and %d draws for %d steps", len(grp.Tokens), len(grp.Rows), len(draws), n)
	}
	var queued [][]int32
	more := true
	for taken := 0; more || taken < len(queued); taken++ {
		for more && len(queued) < min(n, taken+f.depth) {
			logits, err := f.Step(ctx, s)
			if err != nil {
				return true, err
			}
			next := step.Group{Sequences: grp.Sequences, Rows: grp.Rows, Pages: grp.Pages}
			for i, d := range draws {
				next.Positions = append(next.Positions, grp.Positions[i]+1)
				next.Tokens = append(next.Tokens, int32(d.Next(logits[0][i*vocab:(i+1)*vocab], d.Sequence, int(next.Positions[i]))))
			}
			grp = next
			s = &step.Step{Groups: []step.Group{grp}}
			queued = append(queued, next.Tokens)
		}
		if taken == len(queued) {
			break
		}
		if !more {
			f.dropped++
		}
		f.continued++
		more = take(queued[taken]) && more
	}
	return true, nil
}

// events runs requests on a program.
func events(t *testing.T, program Program, requests []Request) ([]Event, Stats) {
	t.Helper()
	var list []Event
	stats, err := New(program, testPlan(1)).Run(context.Background(), requests, func(e Event) { list = append(list, e) })
	if err != nil {
		t.Fatal(err)
	}
	return list, stats
}

// request ends as ends says, if it comes to that: a stop token, a stop string
// or neither.
func request(i, prompts, most int, ends string) Request {
	r := Request{Prompt: prompt(prompts, i), MaxTokens: most, Text: letters{}, Sampling: sample.Params{Temperature: float64(i % 3), TopK: i % 4, Seed: 9}}
	switch ends {
	case "token":
		r.Stop = []int{3, 17, 30, 44}
	case "string":
		r.StopStrings = []string{"ab", "q", "xz"}
	}
	return r
}

// TestAhead compares what a program that continues by itself gives with what
// steps give: the same events in the same order, for stops of every kind in the
// middle of queued steps, and for more sequences than there is room for.
func TestAhead(t *testing.T) {
	for _, c := range []struct {
		name     string
		requests []Request
		waits    bool // then sequences that wait begin a little later
	}{
		{"one", []Request{request(0, 3, 20, "")}, false},
		{"ends apart", []Request{request(0, 3, 9, ""), request(1, 5, 2, ""), request(2, 1, 17, "")}, false},
		{"stop tokens", []Request{request(3, 3, 20, "token"), request(1, 5, 20, "token"), request(4, 4, 20, "token")}, false},
		{"stop strings", []Request{request(2, 3, 20, "string"), request(1, 5, 24, ""), request(4, 4, 20, "string")}, false},
		{"context", []Request{request(1, 12, 100, ""), request(2, 2, 11, "token")}, false},
		{"waiting", []Request{request(0, 3, 20, "token"), request(1, 5, 24, ""), request(2, 9, 3, "string"), request(3, 1, 12, ""), request(4, 2, 6, ""), request(5, 2, 20, "token")}, true},
	} {
		want, stats := events(t, &fake{t: t, limit: testPlan(1).Limits, cache: map[string]int32{}}, c.requests)
		for _, depth := range []int{1, 2, 4, 7} {
			f := &fakeAhead{fake: &fake{t: t, limit: testPlan(1).Limits, cache: map[string]int32{}}, depth: depth}
			got, mine := events(t, f, c.requests)
			if c.waits {
				got, want = bySequence(got), bySequence(want)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %d ahead:\n have %v\n want %v", c.name, depth, got, want)
			}
			if mine.NewTokens != stats.NewTokens || mine.PromptTokens != stats.PromptTokens || mine.Steps < stats.Steps && !c.waits {
				t.Errorf("%s, %d ahead: %+v, want %+v", c.name, depth, mine, stats)
			}
			if f.continued == 0 {
				t.Errorf("%s: no step was continued", c.name)
			}
		}
	}
}

func bySequence(list []Event) []Event {
	var out []Event
	for i := range list {
		for _, e := range list {
			if e.Sequence == i {
				out = append(out, e)
			}
		}
	}
	return out
}

// TestAheadDrops makes sure that the tests above stop in the middle of queued
// steps.
func TestAheadDrops(t *testing.T) {
	f := &fakeAhead{fake: &fake{t: t, limit: testPlan(1).Limits, cache: map[string]int32{}}, depth: 4}
	events(t, f, []Request{request(3, 3, 20, "token"), request(1, 5, 20, "token"), request(4, 4, 20, "token")})
	if f.dropped == 0 {
		t.Error("no sequence stopped before the steps that were queued")
	}
}

// TestAheadNot takes step by step what a program cannot continue, and what
// needs the logits.
func TestAheadNot(t *testing.T) {
	requests := []Request{request(0, 3, 9, ""), request(1, 5, 12, "")}
	want, _ := events(t, &fake{t: t, limit: testPlan(1).Limits, cache: map[string]int32{}}, requests)
	f := &fakeAhead{fake: &fake{t: t, limit: testPlan(1).Limits, cache: map[string]int32{}}, cannot: true}
	if got, _ := events(t, f, requests); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("have %v, want %v", got, want)
	}
	f.cannot, f.fails = false, errors.New("lost")
	if _, err := New(f, testPlan(1)).Run(context.Background(), requests, func(Event) {}); err != f.fails {
		t.Errorf("error %v, want %v", err, f.fails)
	}
}
