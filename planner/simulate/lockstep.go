package simulate

import (
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/planner/plan"
)

// Closed is what the closed form says of a step.
type Closed struct {
	Time  int64     `json:"time_ps"`
	Cost  cost.Cost `json:"cost"` // of the device that ends each turn; adds up to Time
	Turns []Turn    `json:"turns"`
}

// Turn is the time of one turn of a block.
type Turn struct {
	Block string `json:"block"`
	Layer int    `json:"layer"` // -1 outside the layers
	Time  int64  `json:"time_ps"`
}

// Lockstep is New and Simulator.Lockstep at once.
func Lockstep(p *plan.Plan, m *machine.Machine, l cost.Load, batch Batch) (cost.Cost, int64, error) {
	s, err := New(p, m)
	if err != nil {
		return cost.Cost{}, 0, err
	}
	c, err := s.Lockstep(l, batch)
	return c.Cost, c.Time, err
}

// Lockstep returns the closed form that the search minimises: in each turn of
// a block all devices start together, work through their queues and wait for
// each other in collectives, and the turn takes as long as the last of them.
// Members of a collective leave it after what they do themselves; who only
// sends goes on at once. The limits of the plan are not asked: any load has a
// price.
func (s *Simulator) Lockstep(l cost.Load, batch Batch) (Closed, error) {
	if err := checkLoad(l); err != nil {
		return Closed{}, err
	}
	prog, _ := s.program(l.Tokens)
	list, err := s.prices(prog, l, batch)
	if err != nil {
		return Closed{}, err
	}
	c := Closed{Turns: make([]Turn, 0, len(prog.turns))}
	clock := make([]cost.Cost, len(s.plan.Memory))
	same := make([]*cost.Cost, len(prog.variants)) // of turns with the prices of all layers
	for _, t := range prog.turns {
		prices, err := list.of(t)
		if err != nil {
			return Closed{}, err
		}
		known := len(prices) == 0 || &prices[0] == &list.base[t.number][0]
		last := same[t.number]
		if last == nil || !known {
			end := t.lockstep(prices, clock)
			last = &end
			if known {
				same[t.number] = last
			}
		}
		c.Cost = c.Cost.Add(*last)
		c.Turns = append(c.Turns, Turn{t.block.Name, t.layer, last.Total()})
	}
	c.Time = c.Cost.Total()
	return c, nil
}

// lockstep returns the clock of the device that ends a turn last, the first of
// equal ones.
func (v *variant) lockstep(prices, clock []cost.Cost) cost.Cost {
	clear(clock)
	for _, u := range v.order {
		if u.step != nil {
			clock[u.step.device] = clock[u.step.device].Add(prices[u.step.index])
			continue
		}
		var last int64
		for _, st := range u.meet.steps {
			last = max(last, clock[st.device].Total())
		}
		for _, st := range u.meet.steps {
			c := &clock[st.device]
			c.Link += last - c.Total()
			*c = c.Add(prices[st.index])
		}
	}
	end := clock[0]
	for _, c := range clock[1:] {
		if c.Total() > end.Total() {
			end = c
		}
	}
	return end
}
