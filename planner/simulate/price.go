package simulate

import (
	"fmt"

	"moec/ir/cost"
	"moec/ir/routing"
)

// Batch returns who of a step's tokens chose which experts in a layer (-1:
// outside the layers). A nil Batch, or one that returns nil, spreads slots
// evenly over experts.
type Batch func(layer int) *routing.Batch

// priceList has the prices of the steps of a program under a load.
type priceList struct {
	sim   *Simulator
	batch Batch
	p     *cost.Pricer
	base  [][]cost.Cost // by variant, then step
}

// maxPrice bounds the price of one step, so that sums do not overflow: 10
// hours in ps.
const maxPrice = 1 << 55

func (s *Simulator) prices(prog *program, l cost.Load, batch Batch) (*priceList, error) {
	list := &priceList{sim: s, batch: batch, p: cost.NewPricer(s.machine, l, s.groups), base: make([][]cost.Cost, len(prog.variants))}
	for i, v := range prog.variants {
		list.base[i] = make([]cost.Cost, len(v.steps))
		for j, st := range v.steps {
			if st.sends {
				continue
			}
			if err := list.set(list.base[i], j, st, nil); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// set prices one step.
func (l *priceList) set(prices []cost.Cost, i int, st *step, slots cost.Slots) error {
	c := l.p.Node(st.node, slots)
	if min(c.Compute, c.Memory, c.Link, c.Launch) < 0 || max(c.Compute, c.Memory, c.Link, c.Launch) > maxPrice {
		return &Error{What: fmt.Sprintf("step %d (%s) of device %d takes too long to be counted", st.at, st.op, st.device), Remedy: "ask for less, or correct the machine description"}
	}
	prices[i] = c
	return nil
}

// of returns the prices of a turn's steps. Turns of a block have the same list
// unless it matters who chose what.
func (l *priceList) of(t turn) ([]cost.Cost, error) {
	base := l.base[t.number]
	if l.batch == nil || !t.routed {
		return base, nil
	}
	b := l.batch(t.layer)
	if b == nil {
		return base, nil
	}
	if b.Tokens != l.p.Load.Tokens {
		return nil, &Error{What: fmt.Sprintf("tokens of the batch of layer %d", t.layer), Need: fmt.Sprint(l.p.Load.Tokens), Have: fmt.Sprint(b.Tokens), Remedy: "draw batches of as many tokens as the step has"}
	}
	prices := make([]cost.Cost, len(base))
	copy(prices, base)
	c := &counter{batch: b, tables: make(map[span][]int)}
	for i, st := range t.steps {
		if !st.routed {
			continue
		}
		if err := l.set(prices, i, st, l.slots(c, st.group)); err != nil {
			return nil, err
		}
	}
	return prices, nil
}

// slots counts slots among the first rows of a token group.
func (l *priceList) slots(c *counter, group int) cost.Slots {
	lo := 0
	if group >= 0 {
		lo, _ = l.p.Load.TokensOf(group, l.sim.groups)
	}
	return func(expert, turn, turns, rows int) int { return c.count(expert, turn, span{lo, lo + rows, turns}) }
}

// counter counts slots of a batch, each of its tokens once for each span.
type counter struct {
	batch  *routing.Batch
	tables map[span][]int // [turn][expert]
}

// span is a run of tokens whose experts take turns.
type span struct{ lo, hi, turns int }

func (c *counter) count(expert, turn int, s span) int {
	if turn >= max(1, s.hi-s.lo) || expert >= c.batch.Experts {
		return 0
	}
	t := c.tables[s]
	if t == nil {
		t = make([]int, min(s.turns, max(1, s.hi-s.lo))*c.batch.Experts)
		for tok := s.lo; tok < min(s.hi, c.batch.Tokens); tok++ {
			row := (tok - s.lo) % s.turns * c.batch.Experts
			for _, e := range c.batch.Chosen[tok*c.batch.Slots : (tok+1)*c.batch.Slots] {
				if int(e) < c.batch.Experts {
					t[row+int(e)]++
				}
			}
		}
		c.tables[s] = t
	}
	return t[turn*c.batch.Experts+expert]
}
