package compiler

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"moec/dsl"
	"moec/ir"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/passes"
	"moec/passes/search"
	"moec/planner/plan"
)

func lookup(t *testing.T, name string) *machine.Machine {
	t.Helper()
	m, err := machine.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// onMachine are the options to compile for a machine by a search.
func onMachine(m *machine.Machine, set map[string]string) Options {
	return Options{Env: dsl.Env{Set: set}, Search: &Search{Machine: m, Options: search.Options{Budget: 300}},
		Machine: plan.Machine{Name: m.Name, Devices: m.Devices, Memory: m.Device.Memory.Value, Reserve: m.Device.Reserve.Value, Hash: m.Hash()}}
}

func compileExample(t *testing.T, example string, o Options) (*Result, error) {
	t.Helper()
	file := "../examples/" + example + ".moe"
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return Compile(file, src, o)
}

// fewLayers is Mixtral with the sizes of its layers, and fewer of them.
var fewLayers = map[string]string{"layers": "3"}

// TestChoose checks the choice on several machines: that nothing that fits is
// cheaper, that it is the same every time, and that what is left out says why.
func TestChoose(t *testing.T) {
	for _, name := range []string{"h200x1", "h200x4", "h100x3", "l40sx4", "host"} {
		o := onMachine(lookup(t, name), fewLayers)
		r, err := compileExample(t, "mixtral", o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c := r.Choice
		if c.Given != nil || c.Reason != "" || c.Rounds != 1 || !c.Found.Chosen.Fits || !reflect.DeepEqual(*c.Found.Chosen.Placement, r.Plan.Placement) {
			t.Errorf("%s: %+v", name, c)
		}
		for _, h := range c.Found.Hand {
			if h.Why == "" && h.Score < c.Found.Chosen.Score || h.Why != "" && h.Fits {
				t.Errorf("%s: %s costs %d, chosen %d; %q", name, h.Name, h.Score, c.Found.Chosen.Score, h.Why)
			}
		}
		again, err := compileExample(t, "mixtral", o)
		if err != nil || !reflect.DeepEqual(r.Plan, again.Plan) {
			t.Errorf("%s: a second time gives another plan: %v", name, err)
		}
	}
}

// TestStepsAreAsLargeAsDevicesLike checks the default number of tokens.
func TestStepsAreAsLargeAsDevicesLike(t *testing.T) {
	gpu, cpu := lookup(t, "h200x1"), lookup(t, "host")
	for _, c := range []struct {
		name   string
		m      *machine.Machine
		limits plan.Limits
		want   int
	}{
		{"GPUs", gpu, plan.Limits{}, 2048},
		{"processors", cpu, plan.Limits{}, 256},
		{"few positions", gpu, plan.Limits{Sequences: 2, Context: 300}, 600},
		{"as asked", gpu, plan.Limits{Tokens: 77}, 77},
	} {
		o := onMachine(c.m, small)
		o.Limits = c.limits
		r, err := compileExample(t, "mixtral", o)
		if err != nil {
			t.Fatal(err)
		}
		prompt := r.Choice.Problem.Workload.Steps[3]
		if r.Plan.Limits.Tokens != c.want || prompt.Tokens != min(2048, c.want) {
			t.Errorf("%s: steps of %d tokens, prompts in chunks of %d, want %d", c.name, r.Plan.Limits.Tokens, prompt.Tokens, c.want)
		}
	}
}

// withMemory is a machine whose devices have so much for a plan.
func withMemory(m *machine.Machine, bytes int64) *machine.Machine {
	c := *m
	c.Device.Memory.Value = bytes + c.Device.Reserve.Value
	return &c
}

// TestBuffersCount searches on devices that have room for what the search
// counts, and not for the buffers of a step. It first searches again, then
// takes smaller steps, then says what is missing.
func TestBuffersCount(t *testing.T) {
	m := lookup(t, "h200x2")
	free, err := compileExample(t, "mixtral", onMachine(m, fewLayers))
	if err != nil {
		t.Fatal(err)
	}
	most := free.Plan.Memory[0].Total
	for _, c := range []struct {
		name  string
		less  int64 // bytes
		check func(*Result, error) bool
	}{
		{"enough", 0, func(r *Result, err error) bool { return err == nil && r.Choice.Rounds == 1 }},
		{"a byte too little", 1, func(r *Result, err error) bool {
			return err == nil && (r.Choice.Rounds > 1 || r.Plan.Limits.Tokens == defaultTokens)
		}},
		{"much too little", most / 2, func(r *Result, err error) bool {
			var fit *search.FitError
			return errors.As(err, &fit) && fit.Need > fit.Have && strings.Contains(err.Error(), "use more devices")
		}},
	} {
		r, err := compileExample(t, "mixtral", onMachine(withMemory(m, most-c.less), fewLayers))
		if !c.check(r, err) {
			t.Errorf("%s: %v", c.name, err)
			if r != nil && r.Choice != nil {
				t.Errorf("  %d rounds, %d tokens", r.Choice.Rounds, r.Plan.Limits.Tokens)
			}
		}
	}
}

// TestGivenIsPriced compiles for a strategy that is given: it is used, priced,
// and compared.
func TestGivenIsPriced(t *testing.T) {
	o := onMachine(lookup(t, "h200x4"), fewLayers)
	o.Place = named("dp4", 4)
	r, err := compileExample(t, "mixtral", o)
	if err != nil {
		t.Fatal(err)
	}
	c := r.Choice
	if r.Plan.Placement.Strategy != "dp4" || c.Given == nil || c.Used() != c.Given || c.Given.Score <= c.Found.Chosen.Score {
		t.Errorf("plan %s, given %+v, found %+v", r.Plan.Placement.Strategy, c.Given, c.Found.Chosen)
	}
	for _, h := range c.Found.Hand {
		if h.Name == "dp4" && h.Score != c.Given.Score {
			t.Errorf("dp4 costs %d as given, %d by hand", c.Given.Score, h.Score)
		}
	}
	o.Place = func(*ir.Graph) (*placement.Placement, error) { return nil, errors.New("no such thing") }
	if _, err := compileExample(t, "mixtral", o); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("a placement that cannot be made: %v", err)
	}
}

// TestCompareWhole compares strategies for a graph as one piece, as is done
// where it cannot be taken apart.
func TestCompareWhole(t *testing.T) {
	r, err := compileExample(t, "mixtral", Options{Env: dsl.Env{Set: small}})
	if err != nil {
		t.Fatal(err)
	}
	p := &search.Problem{Machine: lookup(t, "h200x4"), Positions: 100, Workload: search.Decode(8)}
	found, err := compareWhole(r.Logical, p)
	if err != nil || found.Chosen == nil || found.Searcher != "hand" {
		t.Fatalf("%+v, %v", found, err)
	}
	possible := 0
	for _, h := range found.Hand {
		if h.Why != "" {
			continue
		}
		possible++
		if h.Score < found.Chosen.Score || len(h.Steps) != 1 || len(h.Bytes) != 4 {
			t.Errorf("%+v, chosen %d", h, found.Chosen.Score)
		}
		again, err := Price(r.Logical, p, h.Placement)
		if err != nil || again.Score != h.Score {
			t.Errorf("%s costs %d, then %+v, %v", h.Name, h.Score, again, err)
		}
	}
	if possible < 4 {
		t.Errorf("%d strategies can be used", possible)
	}
	p.Workload.PerToken = found.Chosen.Score
	if again, err := compareWhole(r.Logical, p); err != nil || again.Chosen.Name != found.Chosen.Name || len(again.Chosen.Times) != 1 {
		t.Errorf("a limit that one keeps: %+v, %v", again, err)
	}
	p.Workload.PerToken--
	var missed *search.FitError
	if _, err := compareWhole(r.Logical, p); !errors.As(err, &missed) || len(missed.Missed) != 1 || missed.Missed[0].Reached != found.Chosen.Score {
		t.Errorf("a ps less: %v", err)
	}
	p.Machine = withMemory(p.Machine, 1000)
	var fit *search.FitError
	if _, err := compareWhole(r.Logical, p); !errors.As(err, &fit) || fit.Need <= fit.Have {
		t.Errorf("a thousand bytes: %v", err)
	}
}

// TestLimitsOfChoices compiles within limits: for what the search finds, for
// what is given, and where nothing keeps them. Limits that are missed are no
// reason to take smaller steps.
func TestLimitsOfChoices(t *testing.T) {
	o := onMachine(lookup(t, "h200x4"), map[string]string{"layers": "2"})
	o.Search.Options.Searcher = "hand"
	given := func(name string) func(*ir.Graph) (*placement.Placement, error) {
		return func(g *ir.Graph) (*placement.Placement, error) { return passes.Named(g, name, 4) }
	}
	const ms = 1e9
	for _, c := range []struct {
		name         string
		first, token int64
		place        func(*ir.Graph) (*placement.Placement, error)
		used, wants  string
	}{
		{"none", 0, 0, nil, "tp4", ""},
		{"only ep4 keeps it", 1.1 * ms, 0, nil, "ep4", ""},
		{"both", 1.4 * ms, 0.48 * ms, nil, "tp4", ""},
		{"nothing keeps it", 1 * ms, 0, nil, "", "nothing keeps the limit of 1 ms to the first token on h200x4"},
		{"given", 0, 0.48 * ms, given("ep4"), "ep4", ""},
		{"given, and breaks it", 1.1 * ms, 0, given("tp4"), "", `strategy "tp4" breaks the limit of 1.1 ms to the first token: takes 1.189 ms`},
		{"no prompts", 1 * ms, 0, nil, "", "need a workload with prompt steps"},
	} {
		o.Search.FirstToken, o.Search.PerToken, o.Place, o.Search.Workload = c.first, c.token, c.place, ""
		if c.name == "no prompts" {
			o.Search.Workload = "latency"
		}
		r, err := compileExample(t, "mixtral", o)
		if c.wants != "" {
			if err == nil || !strings.Contains(err.Error(), c.wants) || tooLarge(err) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if used := r.Choice.Used(); used.Name != c.used || !used.Fits || r.Plan.Placement.Strategy != c.used || r.Plan.Limits.Tokens != acceleratorTokens {
			t.Errorf("%s: %+v", c.name, used)
		}
	}
}

// TestGivenAloneKeepsLimits gives a placement that is the only one known to
// keep the limits.
func TestGivenAloneKeepsLimits(t *testing.T) {
	o := onMachine(lookup(t, "h200x4"), map[string]string{"layers": "2"})
	o.Search.Options.Searcher = "exact"
	o.Search.PerToken = 4.54e8
	r, err := compileExample(t, "mixtral", o)
	if err != nil {
		t.Fatal(err)
	}
	found := r.Plan.Placement
	o.Search.Options.Searcher = "hand"
	if _, err := compileExample(t, "mixtral", o); err == nil {
		t.Error("a named strategy keeps the limit")
	}
	o.Place = func(*ir.Graph) (*placement.Placement, error) { return &found, nil }
	r, err = compileExample(t, "mixtral", o)
	if err != nil || r.Choice.Found.Chosen != r.Choice.Given || r.Choice.Found.Best() != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestAskedWrongly asks for searches that there are not.
func TestAskedWrongly(t *testing.T) {
	m := lookup(t, "h200x2")
	for _, c := range []struct {
		s    Search
		want string
	}{
		{Search{Options: search.Options{Searcher: "best"}}, `no searcher "best": have auto, exact, mcmc, hand`},
		{Search{Options: search.Options{Budget: -1}}, "need 1 change or more"},
		{Search{Quantile: 1001}, "need 0 to 1000"},
		{Search{Quantile: 900, Options: search.Options{Searcher: "exact"}}, "exact proves means"},
		{Search{Workload: "fast"}, "name one of mixed"},
		{Search{Routing: "power:x"}, "power"},
	} {
		o := onMachine(m, small)
		c.s.Machine = m
		o.Search = &c.s
		_, err := compileExample(t, "mixtral", o)
		var ask *AskError
		if !errors.As(err, &ask) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.s, err, c.want)
		}
	}
}

// TestProved proves a plan at the end, and does not take it for another
// model's.
func TestProved(t *testing.T) {
	o := onMachine(lookup(t, "h200x2"), small)
	o.Prove = true
	r, err := compileExample(t, "mixtral", o)
	if err != nil || r.Proof == nil || r.Proof.Steps == 0 || !r.Proof.Full {
		t.Fatalf("%+v, %v", r.Proof, err)
	}
	other, err := compileExample(t, "mixtral", onMachine(lookup(t, "h200x2"), with("eps", "0.1")))
	if err != nil {
		t.Fatal(err)
	}
	r.Logical = other.Logical
	var wrong *ProofError
	if err := r.prove(); !errors.As(err, &wrong) {
		t.Errorf("the plan of another model: %v", err)
	}
}

// TestLogical reads a description again as a plan has it.
func TestLogical(t *testing.T) {
	src, err := os.ReadFile("../examples/mixtral.moe")
	if err != nil {
		t.Fatal(err)
	}
	r, err := compileExample(t, "mixtral", onMachine(lookup(t, "h200x2"), small))
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{}
	for _, b := range r.Plan.Model.Bindings {
		set[b.Name] = b.Value
	}
	g, model, limits, err := Logical("again.moe", src, Options{Env: dsl.Env{Set: set}}, "cuda")
	if err != nil || model.Hash != r.Plan.Model.Hash || limits != r.Plan.Limits || g.Level != ir.Logical {
		t.Errorf("%+v, %+v, %v", model, limits, err)
	}
	if !reflect.DeepEqual(passes.Summarise(g), passes.Summarise(r.Logical)) {
		t.Error("another model comes out")
	}
}
