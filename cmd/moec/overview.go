package main

import (
	"cmp"
	"fmt"
	"slices"

	"moec/compiler"
	"moec/ir"
	"moec/ir/cost"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/passes"
	"moec/passes/search"
	"moec/planner/plan"
	"moec/planner/simulate"
)

// overview is what "moec compile" says of a plan. With --json it is the output.
type overview struct {
	Plan     string        `json:"plan"`
	Model    plan.Model    `json:"model"`
	Weights  int64         `json:"weight_bytes"` // of the whole model
	Machine  plan.Machine  `json:"machine"`
	Strategy string        `json:"strategy"`
	Numerics ir.Numerics   `json:"numerics"`
	Limits   plan.Limits   `json:"limits"`
	Memory   []plan.Memory `json:"memory"`
	Traffic  traffic       `json:"traffic"`

	Search   searched           `json:"search"`
	Gap      *float64           `json:"gap,omitempty"` // above the bound, of 1
	Bound    int64              `json:"bound_ps,omitempty"`
	Seconds  float64            `json:"search_seconds"`
	Priced   int64              `json:"plans_priced"` // ways to place a layer
	Workload search.Workload    `json:"workload"`
	Routing  string             `json:"routing"`
	Buckets  []shownStep        `json:"buckets"`
	MS       map[string]float64 `json:"predicted_ms"` // of the chosen placement, by bucket
	Chosen   *alternative       `json:"chosen"`
	Others   []*alternative     `json:"alternatives"`
	Best     *contrast          `json:"best_by_hand,omitempty"`
	Unseen   *unseen            `json:"unseen,omitempty"`
	Sim      *simulated         `json:"simulated,omitempty"`
	Verified verified           `json:"verified"`

	Stages []compiler.Stage `json:"stages"`
	Passes []passes.Timing  `json:"passes"`
}

// searched is how the placement was found.
type searched struct {
	Searcher string `json:"searcher"`
	Given    bool   `json:"given,omitempty"`  // a strategy or a file was asked for
	Limit    string `json:"limit,omitempty"`  // what the bound stops at
	Reason   string `json:"reason,omitempty"` // why only named strategies were compared
	Rounds   int    `json:"rounds"`
}

// traffic is the bytes between devices for each token of a decode step.
type traffic struct {
	Invariant int64 `json:"invariant"`
	Fast      int64 `json:"fast"`
}

// shownStep is a column of the table: a kind of work, and the steps it takes.
type shownStep struct {
	Name string      `json:"name"`
	Step search.Step `json:"step"`
}

// alternative is a placement by name, and what it takes.
type alternative struct {
	Name  string    `json:"name"`
	MS    []float64 `json:"ms,omitempty"` // of each bucket
	Score int64     `json:"score_ps,omitempty"`
	Bytes []int64   `json:"bytes,omitempty"`
	Fits  bool      `json:"fits"`
	Why   string    `json:"why,omitempty"` // why it cannot be used

	priced *search.Priced
}

// contrast is where the chosen placement differs from the best one by hand.
type contrast struct {
	Name   string             `json:"name"`
	Score  int64              `json:"score_ps"`
	Where  *search.Comparison `json:"where,omitempty"`
	Ends   []string           `json:"ends,omitempty"` // embedding and head
	Layers []plan.LayerChange `json:"layers,omitempty"`
}

// unseen is what batches that the search has not seen take.
type unseen struct {
	Seed   uint64 `json:"seed"`
	Chosen int64  `json:"chosen_ps"`
	Best   int64  `json:"best_by_hand_ps"`
}

// simulated is what the events of the plan take, with transfers that wait for
// each other, beside the closed form.
type simulated struct {
	Time   int64    `json:"time_ps"`
	Closed int64    `json:"lockstep_ps"`
	Steps  []string `json:"steps"`              // that the plan allows
	Left   []string `json:"left_out,omitempty"` // those it does not
}

// verified says what was checked.
type verified struct {
	Rules     int   `json:"rules"`
	Proof     bool  `json:"proof"`
	Full      bool  `json:"full_size"`
	Steps     int64 `json:"proof_steps,omitempty"`
	Unrounded bool  `json:"unrounded,omitempty"` // rounding was left out of the comparison
}

// shownBatches and shownPrompt are what every table shows.
var shownBatches = []int{1, 8, 32, 64}

const shownPrompt = 2048

// shown lists the columns: those of every table, then what else the workload
// has.
func shown(w search.Workload, chunk int) []shownStep {
	var list []shownStep
	add := func(name string, s search.Step) {
		if !slices.ContainsFunc(list, func(o shownStep) bool { return o.Step.Load == s.Load }) {
			list = append(list, shownStep{name, s})
		}
	}
	for _, n := range shownBatches {
		add(fmt.Sprintf("batch %d", n), search.Decode(n).Steps[0])
	}
	add(fmt.Sprintf("prefill %d", shownPrompt), search.Prefill(shownPrompt, chunk).Steps[0])
	for _, s := range w.Steps {
		s.Count = 1
		add(stepName(s), s)
	}
	return list
}

// stepName names a step of a workload.
func stepName(s search.Step) string {
	switch {
	case !s.Prompt() && s.Context == search.Decode(1).Steps[0].Context:
		return fmt.Sprintf("batch %d", s.Sequences)
	case !s.Prompt():
		return fmt.Sprintf("batch %d at %d", s.Sequences, s.Context)
	case s.Sequences == 1 && s.Context == (s.Tokens+1)/2: // a prompt in one piece
		return fmt.Sprintf("prefill %d", s.Tokens)
	}
	return fmt.Sprintf("%d tokens of %d at %d", s.Tokens, s.Sequences, s.Context)
}

// overview works out what there is to say.
func (r *compiled) overview(file string) (*overview, error) {
	p, c := r.Plan, r.Choice
	out := &overview{Plan: file, Model: p.Model, Machine: p.Machine, Strategy: p.Placement.Strategy, Numerics: p.Numerics, Limits: p.Limits, Memory: p.Memory,
		Stages: r.Stages, Passes: r.Timings, Verified: verified{Rules: len(plan.Rules())}}
	for _, w := range usedWeights(r.Logical) {
		out.Weights += w.Bytes()
	}
	if r.Proof != nil {
		out.Verified = verified{len(plan.Rules()), true, r.Proof.Full, r.Proof.Steps, r.Proof.Unrounded}
	}
	var err error
	if len(p.Memory) > 1 {
		if out.Traffic.Invariant, out.Traffic.Fast, err = passes.Saving(r.Logical, &p.Placement); err != nil {
			return nil, err
		}
	}
	if c == nil { // what was given fits, and no strategy does
		return out, nil
	}
	out.Search = searched{c.Found.Searcher, c.Given != nil, c.Found.Limit, c.Reason, c.Rounds}
	out.Bound, out.Seconds, out.Priced = c.Found.Bound, c.Took.Seconds(), c.Found.Counts.Layers
	if gap, ok := c.Gap(); ok {
		share := float64(gap) / 1e6
		out.Gap = &share
	}
	out.Workload, out.Routing = c.Problem.Workload, "even"
	if c.Problem.Stats != nil {
		out.Routing = c.Problem.Stats.Name
	}
	if err := r.compare(out); err != nil {
		return nil, err
	}
	return out, r.simulate(out)
}

// usedWeights lists the weights that a graph reads, each once.
func usedWeights(g *ir.Graph) []*ir.Weight {
	var list []*ir.Weight
	seen := make(map[string]bool)
	for _, n := range g.Nodes {
		if name := n.Attrs.Text("name"); n.Op.Name == "weight" && !seen[name] {
			seen[name] = true
			list = append(list, g.Weight(name))
		}
	}
	return list
}

// compare prices the table, and the best placement by hand in detail.
func (r *compiled) compare(out *overview) error {
	c := r.Choice
	used := c.Used()
	out.Chosen = &alternative{Name: used.Name, Score: used.Score, Bytes: used.Bytes, Fits: used.Fits, Why: used.Why, priced: used}
	for _, h := range byScore(c.Found.Hand) {
		out.Others = append(out.Others, &alternative{Name: h.Name, Score: h.Score, Bytes: h.Bytes, Fits: h.Fits, Why: h.Why, priced: h})
	}
	out.Buckets = shown(c.Problem.Workload, r.Plan.Limits.Tokens)
	if err := r.table(out); err != nil {
		return err
	}
	best := c.Found.Best()
	if c.Problem.Outline == nil || best == nil {
		return nil
	}
	out.Best = &contrast{Name: best.Name, Score: best.Score}
	other := *c.Problem
	other.Seed++
	priced, err := search.Price(&other, used.Placement, best.Placement)
	if err != nil {
		return err
	}
	out.Unseen = &unseen{other.Seed, priced[0].Score, priced[1].Score}
	if samePlacement(used.Placement, best.Placement) {
		return nil
	}
	out.Best.Ends = plan.EndChanges(best.Placement, used.Placement)
	out.Best.Layers = plan.LayerChanges(best.Placement, used.Placement)
	out.Best.Where, err = search.Compare(c.Problem, used.Placement, best.Placement)
	return err
}

// samePlacement compares all but the names.
func samePlacement(a, b *placement.Placement) bool {
	x, y := *a, *b
	x.Strategy, y.Strategy = "", ""
	return string(x.Format()) == string(y.Format())
}

// maxShown is how many named strategies the table has.
const maxShown = 6

// table prices the columns for the chosen placement and the best strategies.
func (r *compiled) table(out *overview) error {
	rows := []*alternative{out.Chosen}
	for _, o := range out.Others {
		if o.Why == "" && len(rows) <= maxShown {
			rows = append(rows, o)
		}
	}
	p := *r.Choice.Problem
	p.Workload = search.Workload{Name: "shown"}
	for _, b := range out.Buckets {
		p.Workload.Steps = append(p.Workload.Steps, b.Step)
	}
	for _, row := range rows {
		priced, err := compiler.Price(r.Logical, &p, row.priced.Placement)
		if err != nil {
			return err
		}
		for k, t := range priced.Steps {
			row.MS = append(row.MS, milliseconds(t*out.Buckets[k].Step.Count))
		}
	}
	out.MS = make(map[string]float64)
	for k, b := range out.Buckets {
		out.MS[b.Name] = out.Chosen.MS[k]
	}
	return nil
}

func milliseconds(ps int64) float64 { return float64(ps) / 1e9 }

// byScore sorts strategies that can be used before the others, the cheapest
// first.
func byScore(list []*search.Priced) []*search.Priced {
	list = slices.Clone(list)
	rank := func(p *search.Priced) int {
		if p.Why == "" {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(list, func(a, b *search.Priced) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Score, b.Score))
	})
	return list
}

// simulate follows the events of those steps of the workload that the plan
// allows.
func (r *compiled) simulate(out *overview) error {
	s, err := simulate.New(r.Plan, r.machine)
	if err != nil {
		return err
	}
	sim := &simulated{}
	for _, step := range r.Choice.Problem.Workload.Steps {
		name := stepName(step)
		if l := r.Plan.Limits; step.Sequences > l.Sequences || step.Tokens > l.Tokens || step.Context > l.Context || step.Rows > l.Rows {
			sim.Left = append(sim.Left, name)
			continue
		}
		result, err := s.Step(step.Load, simulate.Options{Contention: true, Batch: r.batch(step.Load)})
		if err != nil {
			return err
		}
		sim.Steps = append(sim.Steps, name)
		sim.Time += result.Time * step.Count
		sim.Closed += result.Closed.Time * step.Count
	}
	out.Sim = sim
	return nil
}

// batch draws the first batch of a load that the search priced; nil if there
// are no statistics.
func (r *compiled) batch(l cost.Load) simulate.Batch {
	p := r.Choice.Problem
	if p.Stats == nil {
		return nil
	}
	drawn := make(map[int]*routing.Batch)
	return func(layer int) *routing.Batch {
		if layer < 0 || layer >= len(p.Stats.Layers) || p.Stats.Layers[layer].Experts == 0 {
			return nil
		}
		k := p.Stats.Class(layer)
		if drawn[k] == nil {
			drawn[k] = p.Stats.Draw(p.Seed, layer, l.Tokens, 0)
		}
		return drawn[k]
	}
}
