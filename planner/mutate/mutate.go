// Package mutate damages plans, to measure what a verifier sees.
//
// A plan that is right goes in and plans that differ from it in one place come
// out: a send dropped, a buffer moved over another, an expert without a home.
// Oracles are asked what they think of each, and a score says which rule saw
// what, what nobody saw, and what was accepted although it computes something
// else. The package never changes the plan it is given, and knows no
// verifier: whoever calls it brings the oracles.
package mutate

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"

	"moec/planner/plan"
)

// Meaning is the rule of mutations that leave a sound plan for another
// computation: another eps, another value of the same type. Rules of plans
// cannot see them; an oracle that knows the model does.
const Meaning = "meaning"

// Mutation is a kind of damage that may be done to any plan.
type Mutation struct {
	Name  string
	Rule  string // who should see it: a rule of plans, or Meaning
	apply func(*editor) (string, bool)
}

// Apply damages p and says how, or reports that p has nothing to damage so.
func (m Mutation) Apply(rng *rand.Rand, p *plan.Plan) (string, bool) {
	return m.apply(&editor{p, rng})
}

// Mutations lists all kinds.
func Mutations() []Mutation {
	return slices.Concat(nameMutations, memoryMutations, channelMutations, flowMutations, typeMutations, shardMutations, sumMutations, valueMutations, kernelMutations)
}

// Oracle is somebody who accepts or refuses plans.
type Oracle struct {
	Name string
	// Judge marks an oracle that runs the plan. It is asked about what all
	// others accept, and what it refuses has escaped.
	Judge bool
	Check func(*plan.Plan) error
}

// Row counts what became of the mutants of one kind.
type Row struct {
	Mutation Mutation
	Applied  int
	Verifier int            // refused by the first oracle
	Expected int            // of those, by the rule that should
	Others   int            // refused by another that is no judge
	Equal    int            // accepted by all, judges included: computes the same
	Survived int            // accepted by all, and there was no judge
	Escaped  int            // refused by a judge alone, or an oracle crashed
	Rules    map[string]int // of the refusals by the first oracle, every rule broken
}

// Escape is a mutant that was accepted by all who check plans.
type Escape struct {
	What   string
	Number uint64 // of the mutant in its run
	Err    error
}

// Score is the outcome of a run.
type Score struct {
	Rows    []Row    // by mutation, in the table's order
	Escapes []Escape // what should have been refused
	Equals  []Escape // what computes the same, for looking at
}

// Run applies n mutations to p, one at a time and all kinds in turn, and asks
// the oracles in order; the first is the verifier. Mutants that are equal to p
// do not count. The same arguments give the same score.
func Run(p *plan.Plan, seed uint64, n int, oracles []Oracle) Score {
	return RunKinds(Mutations(), p, seed, n, oracles)
}

// RunKinds is Run with some kinds of mutations only.
func RunKinds(kinds []Mutation, p *plan.Plan, seed uint64, n int, oracles []Oracle) Score {
	s := Score{Rows: make([]Row, len(kinds))}
	for i, m := range kinds {
		s.Rows[i] = Row{Mutation: m, Rules: make(map[string]int)}
	}
	d := newDamager(p, kinds, seed)
	tries := uint64(20 * n) // some kinds fit no place of a plan
	for i, applied := uint64(0), 0; applied < n && i < tries; i++ {
		kind, q, what := d.mutant(i)
		if q != nil {
			applied++
			s.ask(&s.Rows[kind], Escape{What: what, Number: i}, q, oracles)
		}
	}
	return s
}

// Mutant returns the i-th mutant of a run and what was done to it, or nil if
// its kind does not fit p or leaves p as it is. Half of the mutants have their
// memory laid out again, so that rules about sizes do not hide what others
// would see.
func Mutant(p *plan.Plan, seed, i uint64) (q *plan.Plan, what string) {
	_, q, what = newDamager(p, Mutations(), seed).mutant(i)
	return q, what
}

// damager makes the mutants of a run.
type damager struct {
	plan, laid *plan.Plan // as it is, and laid out again
	kinds      []Mutation
	seed       uint64
}

func newDamager(p *plan.Plan, kinds []Mutation, seed uint64) *damager {
	d := &damager{p, Clone(p), kinds, seed}
	relay(d.laid)
	return d
}

func (d *damager) mutant(i uint64) (kind int, q *plan.Plan, what string) {
	// Runs of few mutants begin at different kinds.
	kind = int((i + d.seed*37) % uint64(len(d.kinds)))
	m := d.kinds[kind]
	rng := rand.New(rand.NewPCG(d.seed, i))
	q = Clone(d.plan)
	what, ok := m.Apply(rng, q)
	if !ok || reflect.DeepEqual(q, d.plan) {
		return kind, nil, ""
	}
	what = m.Name + ": " + what
	if memoryRules[m.Rule] || rng.IntN(2) == 0 {
		return kind, q, what
	}
	relay(q)
	if reflect.DeepEqual(q, d.laid) {
		return kind, nil, ""
	}
	return kind, q, what + ", laid out again"
}

// memoryRules are about what relay would put right.
var memoryRules = map[string]bool{"V09": true, "V10": true, "V11": true, "V12": true, "V22": true, "V28": true}

// ask asks the oracles about a mutant.
func (s *Score) ask(r *Row, e Escape, q *plan.Plan, oracles []Oracle) {
	r.Applied++
	judged := false
	for j, o := range oracles {
		err, crashed := opinion(o, q)
		judged = judged || o.Judge
		switch {
		case err == nil:
			continue
		case crashed || o.Judge:
			r.Escaped++
			e.Err = fmt.Errorf("%s: %w", o.Name, err)
			s.Escapes = append(s.Escapes, e)
		case j == 0:
			r.refused(err)
		default:
			r.Others++
		}
		return
	}
	if judged {
		r.Equal++
		s.Equals = append(s.Equals, e)
	} else {
		r.Survived++
	}
}

// opinion returns what an oracle says, and whether it crashed.
func opinion(o Oracle, p *plan.Plan) (err error, crashed bool) {
	defer func() {
		if r := recover(); r != nil {
			err, crashed = fmt.Errorf("crashed: %v", r), true
		}
	}()
	return o.Check(p), false
}

var ruleName = regexp.MustCompile(`^V\d\d`)

// rulesOf lists the rules that an error names.
func rulesOf(err error) []string {
	var rules []string
	if v, ok := err.(*plan.VerifyError); ok {
		for _, p := range v.Problems {
			rules = append(rules, p.Rule)
		}
	} else if id := ruleName.FindString(err.Error()); id != "" {
		rules = append(rules, id)
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}
