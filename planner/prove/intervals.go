package prove

import (
	"fmt"

	"moec/ir"
	"moec/planner/plan"
)

// Intervals follows what every buffer of a plan holds at full size: which
// values of the model, which of their entries, which leaves of a sum, the slots
// of which experts. At each step operands must fit each other and some op of
// the model, and at the end every output must be whole. What a buffer holds is
// found from what was computed on what, not from names. It returns a *Mismatch
// for a plan that it cannot follow so.
//
// It is independent of Check in that nothing is divided and no number is made:
// what Check cannot see because it divides, this does. Of the
// state that one step leaves for the next it sees only whether it is there.
//
// Plans of fast numerics round, add biases and apply factors to parts of sums,
// which have no counterpart in the model: Intervals accepts all of them unseen.
// Check does not.
func Intervals(p *plan.Plan, logical *ir.Graph) (err error) {
	defer func() {
		if x := recover(); x != nil {
			err = fmt.Errorf("internal error: %v", x)
		}
	}()
	if p.Numerics.Mode == ir.Fast {
		return nil
	}
	c, err := newChecker(p, logical, Options{Full: true})
	if err != nil {
		return err
	}
	t, err := newTable(logical)
	if err != nil {
		return fmt.Errorf("internal error: the model's %w", err)
	}
	for _, m := range c.list {
		m.follow = &follower{t, m}
		if err := m.followSteps(c.need); err != nil {
			return err
		}
	}
	return nil
}

// followSteps follows two steps: what the first does to residents shows in the
// second.
func (m *machine) followSteps(need tokens) error {
	m.script = newScript(m.p.Limits, m.p.Groups(), need, 1, 0)
	for range 2 {
		if err := m.run(m.script.steps[0]); err != nil {
			return err
		}
		for _, o := range m.logical.Outputs {
			for g := range m.p.Groups() {
				if err := m.followOutput(o.Name, g); err != nil {
					return err
				}
			}
		}
	}
	if m.alone != nil {
		return m.alone
	}
	return nil
}

func (m *machine) followOutput(name string, g int) error {
	at, err := m.outputOf(name, g)
	if err != nil {
		return err
	}
	from := &m.outputs[at]
	a, err := m.read(from.loc, from, nil)
	if err != nil {
		return err
	}
	return m.follow.output(&m.prog.Outputs[at], from, a)
}
