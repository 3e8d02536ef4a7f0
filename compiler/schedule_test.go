package compiler

import (
	"math/rand/v2"

	"moec/planner/plan"
	"moec/runtime/step"
)

// schedule runs prompts as no scheduler would: in each step random sequences
// go on by a random number of tokens, some rows of logits are wanted, and
// pages lie in any order.
type schedule struct {
	rng    *rand.Rand
	limits plan.Limits
	groups int
	list   []*running
}

// running is a prompt on its way.
type running struct {
	index, group int
	slot         int32
	pages        []int32
	prompt       []int
	done         int
}

// wanted is a row of logits: of a prompt and a position.
type wanted struct{ index, position int }

func newSchedule(rng *rand.Rand, p *plan.Plan, groups int, prompts [][]int) *schedule {
	s := &schedule{rng: rng, limits: p.Limits, groups: groups}
	slots := make([][]int, groups)
	pages := make([][]int, groups)
	for g := range groups {
		slots[g], pages[g] = rng.Perm(p.Limits.Sequences), rng.Perm(p.Limits.Pages)
	}
	for i, prompt := range prompts {
		g := rng.IntN(groups)
		r := &running{index: i, group: g, slot: int32(slots[g][0]), prompt: prompt}
		slots[g] = slots[g][1:]
		need := (len(prompt) + p.Limits.Page - 1) / p.Limits.Page
		for _, page := range pages[g][:need] {
			r.pages = append(r.pages, int32(page))
		}
		pages[g] = pages[g][need:]
		s.list = append(s.list, r)
	}
	return s
}

// next returns a step and the rows it wants of each group, or nil at the end.
func (s *schedule) next() (*step.Step, [][]wanted) {
	st := &step.Step{Groups: make([]step.Group, s.groups)}
	rows := make([][]wanted, s.groups)
	for g := range st.Groups {
		st.Groups[g].Pages = make([][]int32, s.limits.Sequences)
	}
	tokens, room, left := 1+s.rng.IntN(s.limits.Tokens), s.limits.Rows, false
	s.rng.Shuffle(len(s.list), func(i, j int) { s.list[i], s.list[j] = s.list[j], s.list[i] })
	for _, r := range s.list {
		g := &st.Groups[r.group]
		g.Pages[r.slot] = r.pages
		left = left || r.done < len(r.prompt)
		n := min(tokens, len(r.prompt)-r.done)
		if n > 1 && s.rng.IntN(2) == 0 {
			n = 1 + s.rng.IntN(n)
		}
		tokens -= n
		for range n {
			if room > 0 && s.rng.IntN(10) < 8 {
				g.Rows = append(g.Rows, int32(len(g.Tokens)))
				rows[r.group] = append(rows[r.group], wanted{r.index, r.done})
				room--
			}
			g.Tokens = append(g.Tokens, int32(r.prompt[r.done]))
			g.Positions = append(g.Positions, int32(r.done))
			g.Sequences = append(g.Sequences, r.slot)
			r.done++
		}
	}
	if !left {
		return nil, nil
	}
	return st, rows
}
