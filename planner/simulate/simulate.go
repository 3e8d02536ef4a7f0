// Package simulate says how long a plan's steps take on a machine, and where
// the time goes.
//
// In go a verified plan, a machine description, a kind of step and, if there
// is one, who chose which expert. Out come the time of the step, what every
// device and link does when, the memory in use and the critical path. Prices
// are those of package cost, which the search uses too; everything is in whole
// picoseconds, so the same input gives the same output anywhere. The package
// never runs a plan and never changes one.
//
// There are two ways to put prices together. Lockstep is the closed form of
// the search: after each block everybody waits for the last. Step follows
// events: devices wait for each other in collectives only, and transfers may
// get into each other's way. docs/simulator.md says what is left out.
package simulate

import (
	"fmt"

	"moec/ir/cost"
	"moec/ir/machine"
	"moec/planner/plan"
)

// Simulator is a plan whose steps are ready to be priced on a machine. It may
// be used by several goroutines.
type Simulator struct {
	plan     *plan.Plan
	machine  *machine.Machine
	groups   int
	programs []*program // as in the plan
}

// New prepares a plan for a machine that has at least as many devices. It
// refuses a plan that it cannot follow to the end; whether the plan is right
// in other ways is for plan.Verify to say.
func New(p *plan.Plan, m *machine.Machine) (*Simulator, error) {
	if n := len(p.Memory); n < 1 || n > m.Devices {
		return nil, &Error{What: "devices of machine " + m.Name, Need: fmt.Sprint(n), Have: fmt.Sprint(m.Devices), Remedy: "name a machine with as many devices as the plan uses"}
	}
	s := &Simulator{plan: p, machine: m, groups: p.Groups()}
	for i := range p.Programs {
		prog, err := newProgram(p, &p.Programs[i])
		if err != nil {
			return nil, fmt.Errorf("program %s: %w", p.Programs[i].Name, err)
		}
		s.programs = append(s.programs, prog)
	}
	if len(s.programs) == 0 {
		return nil, &Error{What: "the plan has no program", Remedy: `check it with "moec plan verify"`}
	}
	return s, nil
}

// Error says what keeps a plan from being simulated.
type Error struct{ What, Need, Have, Remedy string }

// Error implements error on one line.
func (e *Error) Error() string {
	s := e.What
	if e.Need != "" {
		s += ": need " + e.Need + ", have " + e.Have
	}
	return s + "; " + e.Remedy
}

// program returns the program for steps of that many tokens, and its bucket:
// the smallest that holds them, or the largest.
func (s *Simulator) program(tokens int) (*program, plan.Bucket) {
	var b plan.Bucket
	for _, b = range s.plan.Buckets {
		if b.Tokens >= tokens {
			break
		}
	}
	for _, p := range s.programs {
		if p.name == b.Program {
			return p, b
		}
	}
	return s.programs[0], b
}

// checkLoad checks that a load is a kind of step.
func checkLoad(l cost.Load) error {
	if l.Sequences < 1 || l.Tokens < 1 || l.Tokens%l.Sequences != 0 || l.Rows < 0 || l.Rows > l.Tokens || l.Context < 0 {
		return &Error{What: "the load", Need: "sequences, tokens in a multiple of them, rows up to the tokens and a context of 0 or more",
			Have: fmt.Sprintf("%d sequences, %d tokens, %d rows, context %d", l.Sequences, l.Tokens, l.Rows, l.Context), Remedy: "give the same number of tokens to each sequence"}
	}
	return nil
}

// checkLimits checks that the plan allows the load.
func (s *Simulator) checkLimits(l cost.Load) error {
	limits := s.plan.Limits
	for _, c := range []struct {
		name       string
		have, need int
	}{{"tokens", limits.Tokens, l.Tokens}, {"sequences", limits.Sequences, l.Sequences}, {"rows", limits.Rows, l.Rows}, {"context", limits.Context, l.Context}} {
		if c.need > c.have {
			return &Error{What: c.name + " of a step of the plan", Need: fmt.Sprint(c.need), Have: fmt.Sprint(c.have), Remedy: "ask for less, or compile with a larger limit"}
		}
	}
	return nil
}
