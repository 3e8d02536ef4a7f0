package simulate

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/planner/plan"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// drawn is a result with all that pictures show.
func drawn(t *testing.T) *Result {
	p := compiled(t, small(3), ir.Invariant, named("tp2ep2", 4)).Plan
	l := cost.Load{Sequences: 8, Tokens: 8, Rows: 8, Context: 100}
	m := towers()
	m.Links[0].Sizes = nil
	return simulator(t, p, m).must(t, l, Options{Overlap: true, Contention: true, Batch: skewed(p, 8)})
}

// byHand is a result that depends on no prices: two devices exchange beside
// steps, then one waits for the other.
func byHand() *Result {
	step := func(name string, kind Kind, device, turn int, start, end int64) Span {
		blocks := []string{"begin", "layer0", "layer0"}
		s := Span{Name: name, Op: name, Kind: kind, Device: device, Block: blocks[turn], Layer: turn - 1, Start: start, End: end, turn: turn}
		switch took := end - start; kind {
		case Link:
			s.Cost = cost.Cost{Link: took}
		case Compute:
			s.Cost = cost.Cost{Compute: took - 1, Launch: 1}
		case Memory:
			s.Cost = cost.Cost{Memory: took - 1, Launch: 1}
		case Launch:
			s.Cost = cost.Cost{Launch: took}
		}
		return s
	}
	first := []Span{step("embed w<1>", Memory, 0, 0, 0, 1234567), step("matmul wq", Compute, 0, 1, 1234567, 5000001), step("wait for all_gather", Wait, 0, 1, 5000001, 6000000),
		step("matmul wo", Compute, 0, 2, 6000000, 9000000), step("add", Launch, 0, 2, 9000000, 9100000)}
	second := []Span{step("embed w<1>", Memory, 1, 0, 0, 2000000), step("wait for all_gather", Wait, 1, 1, 2000000, 7000000), step("matmul wo", Compute, 1, 2, 7000000, 7000900), step("wait for the end", Wait, 1, 2, 7000900, 9100000)}
	gather := step("all_gather", Link, 0, 1, 2000000, 6000000)
	late := step("all_gather", Link, 1, 1, 2000000, 7000000)
	return &Result{Program: "all", Load: cost.Load{Sequences: 2, Tokens: 2, Rows: 2, Context: 10}, Time: 9100000,
		Closed:  Closed{Time: 9500000, Turns: []Turn{{"begin", -1, 2000000}, {"layer0", 0, 5000000}, {"layer0", 1, 2500000}}},
		Devices: []Device{{Device: 0, Spans: first, Copies: []Span{gather}}, {Device: 1, Spans: second, Copies: []Span{late}}},
		Links: []Lane{
			{Name: "wire into device 0", Spans: []Transfer{{From: 1, To: 0, Op: "all_gather", Block: "layer0", Start: 2500000, End: 5500000, Bytes: 300}}},
			{Name: "wire into device 1", Device: 1, Spans: []Transfer{{From: -1, To: 1, Op: "all_gather", Block: "layer0", Start: 2500000, End: 6500000, Bytes: 400}}},
			{Name: "switch out of devices from 0", Shared: true, Out: true, Spans: []Transfer{{From: 0, To: 1, Op: "all_gather", Block: "layer0", Start: 2500000, End: 3000000, Bytes: 300}}},
		},
		Path: Path{Spans: []Span{second[0], gather, first[3], first[4]}}}
}

// TestGoldens compares the exports with files; run with -rewrite to accept
// what comes out.
func TestGoldens(t *testing.T) {
	r := byHand()
	for name, write := range map[string]func(io.Writer) error{"step.svg": r.WriteSVG, "step.trace.json": r.WriteTrace} {
		var out bytes.Buffer
		if err := write(&out); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", name)
		if *rewrite {
			if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s differs; look at it and run with -rewrite", path)
		}
	}
}

// TestSameBytes simulates with one and with two processors, and twice with the
// same simulator.
func TestSameBytes(t *testing.T) {
	p := compiled(t, small(2), ir.Invariant, random(3)).Plan
	text := func(s *Simulator, o Options) []byte {
		r := s.must(t, loads[1], o)
		var out bytes.Buffer
		if err := errors.Join(json.NewEncoder(&out).Encode(r), r.WriteTrace(&out), r.WriteSVG(&out)); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	for _, o := range modes {
		var want []byte
		for _, procs := range []int{1, 2} {
			old := runtime.GOMAXPROCS(procs)
			s := simulator(t, p, towers())
			for range 2 {
				got := text(s, o)
				if want == nil {
					want = got
				}
				if !bytes.Equal(got, want) {
					t.Errorf("overlap %t, contention %t: other bytes with %d processors", o.Overlap, o.Contention, procs)
				}
			}
			runtime.GOMAXPROCS(old)
		}
	}
}

// TestTraceIsExact reads a trace back: threads have names, their spans do not
// overlap, and times are the picoseconds of the result.
func TestTraceIsExact(t *testing.T) {
	r := drawn(t)
	var out bytes.Buffer
	if err := r.WriteTrace(&out); err != nil {
		t.Fatal(err)
	}
	var trace struct {
		TraceEvents []struct {
			Name     string
			Ph       string
			PID, TID int
			TS, Dur  json.Number
			Args     map[string]any
		}
	}
	if err := json.Unmarshal(out.Bytes(), &trace); err != nil {
		t.Fatal(err)
	}
	type thread struct{ pid, tid int }
	names, ends := make(map[thread]string), make(map[thread]int64)
	processes := make(map[int]bool)
	for _, e := range trace.TraceEvents {
		at := thread{e.PID, e.TID}
		switch {
		case e.Ph == "M" && e.Name == "process_name":
			processes[e.PID] = true
		case e.Ph == "M" && e.Name == "thread_name":
			if names[at] != "" {
				t.Errorf("thread %v is named twice", at)
			}
			names[at] = e.Args["name"].(string)
		case e.Ph == "X":
			start, dur := picoseconds(t, e.TS), picoseconds(t, e.Dur)
			if names[at] == "" || !processes[e.PID] || start < ends[at] || dur <= 0 {
				t.Errorf("%+v in thread %q, which is taken until %d ps", e, names[at], ends[at])
			}
			ends[at] = start + dur
		}
	}
	for d := range r.Devices {
		if ends[thread{d, 0}] != r.Time {
			t.Errorf("device %d ends at %d ps, not at %d", d, ends[thread{d, 0}], r.Time)
		}
	}
	if len(processes) != len(r.Devices)+2 {
		t.Errorf("%d processes for %d devices, shared parts of links and the critical path", len(processes), len(r.Devices))
	}
}

func picoseconds(t *testing.T, micros json.Number) int64 {
	t.Helper()
	v, ok := new(big.Rat).SetString(string(micros))
	if !ok {
		t.Fatalf("%q is not a number", micros)
	}
	v.Mul(v, big.NewRat(1e6, 1))
	if !v.IsInt() {
		t.Fatalf("%q us are no whole picoseconds", micros)
	}
	return v.Num().Int64()
}

// TestSVGIsXML reads a picture of many layers, which is not much larger than
// one of few.
func TestSVGIsXML(t *testing.T) {
	size := func(layers int) int {
		p := compiled(t, small(layers), ir.Invariant, named("ep", 3)).Plan
		var out bytes.Buffer
		if err := simulator(t, p, slow(3)).must(t, loads[1], Options{Contention: true}).WriteSVG(&out); err != nil {
			t.Fatal(err)
		}
		n := out.Len()
		for d := xml.NewDecoder(&out); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	if few, many := size(2), size(32); many > 5*few || many > 500e3 {
		t.Errorf("the picture of 32 layers has %d bytes, that of 2 has %d", many, few)
	}
}

func TestDuration(t *testing.T) {
	for ps, want := range map[int64]string{0: "0 ps", 999: "999 ps", 1000: "1.000 ns", 12345: "12.35 ns", 123456: "123.5 ns", 1999: "1.999 ns", 7e6: "7.000 us", 45678e6: "45.68 ms", 3e15: "3000 s", -12345: "-12.35 ns"} {
		if got := Duration(ps); got != want {
			t.Errorf("%d ps are %s, want %s", ps, got, want)
		}
	}
}

// TestPrompt cuts prompts into chunks.
func TestPrompt(t *testing.T) {
	p := &plan.Plan{Limits: plan.Limits{Tokens: 100}}
	got := Prompt(p, 250)
	want := Workload{
		{cost.Load{Sequences: 1, Tokens: 100, Context: 50}, 1},
		{cost.Load{Sequences: 1, Tokens: 100, Context: 150}, 1},
		{cost.Load{Sequences: 1, Tokens: 50, Rows: 1, Context: 225}, 1},
	}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("chunk %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

// TestRun adds up a workload.
func TestRun(t *testing.T) {
	p := compiled(t, small(2), ir.Invariant, named("ep", 2)).Plan
	s := simulator(t, p, slow(2))
	w := append(Prompt(p, 600), Decode(4, 100, 10))
	total, err := s.Run(w, Options{}, func(tokens int) Batch { return skewed(p, tokens) })
	if err != nil {
		t.Fatal(err)
	}
	var time, closed int64
	for i, part := range w {
		time += part.Count * total.Steps[i].Time
		closed += part.Count * total.Steps[i].Closed.Time
	}
	if a, b := total.Steps[0], total.Steps[2]; a.Bucket != 512 || b.Bucket != 4 || a.Program != b.Program {
		t.Errorf("buckets of %d and %d tokens", a.Bucket, b.Bucket)
	}
	if len(w) != 3 || total.Time != time || total.Closed != closed || total.Steps[0].Time == total.Steps[2].Time {
		t.Errorf("%d ps, lockstep %d; want %d and %d", total.Time, total.Closed, time, closed)
	}
	if _, err := s.Run(Workload{Decode(100, 1, 1)}, Options{}, nil); err == nil {
		t.Error("more sequences than the plan has are accepted")
	}
	if shapes := Shapes(p); len(shapes) != 2 || shapes[1].Experts != 10 || shapes[1].Slots != 2 {
		t.Errorf("layers choose %+v", shapes)
	}
}

// BenchmarkLockstep prices a decode step of a plan for eight devices.
func BenchmarkLockstep(b *testing.B) {
	s, err := New(compiled(b, map[string]string{}, ir.Invariant, named("tp2ep4", 8)).Plan, mustLookup(b, "h200x8"))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Lockstep(loads[1], nil); err != nil {
			b.Fatal(err)
		}
	}
}

func mustLookup(t testing.TB, name string) *machine.Machine {
	m, err := machine.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestTraceBeside adds processes after those that are there, and changes none.
func TestTraceBeside(t *testing.T) {
	r := drawn(t)
	var alone, beside bytes.Buffer
	spans := []Span{{Name: "matmul wq", Kind: Memory, Layer: -1, Start: 5, End: 1_000_007}}
	if err := errors.Join(r.WriteTrace(&alone), r.WriteTraceBeside(&beside, []Measured{{Name: "GPU 0", Spans: spans}, {Name: "GPU 1"}})); err != nil {
		t.Fatal(err)
	}
	before, ok := strings.CutSuffix(alone.String(), "\n]}\n")
	added, found := strings.CutPrefix(beside.String(), before)
	if !ok || !found || strings.Count(added, `"process_name"`) != 2 || !strings.Contains(added, `"GPU 1"`) || !strings.Contains(added, `"ts":0.000005,"dur":1.000002`) || !json.Valid(beside.Bytes()) {
		t.Errorf("added %s", added)
	}
}
