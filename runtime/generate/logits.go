package generate

import (
	"context"
	"fmt"

	"moec/planner/plan"
	"moec/runtime/kv"
	"moec/runtime/step"
)

// Logits returns the logits of every position of each prompt: rows of the
// vocabulary's size, one after the other. Prompts run as one ragged batch, as
// far as the plan has sequences and pages for.
func Logits(ctx context.Context, program Program, p *plan.Plan, prompts [][]int) ([][]float32, error) {
	out := make([][]float32, len(prompts))
	for first := 0; first < len(prompts); {
		b := &batch{limits: p.Limits, groups: Groups(p)}
		for first < len(prompts) && b.admit(first, prompts[first]) {
			first++
		}
		if len(b.list) == 0 {
			return nil, fmt.Errorf("prompt %d has %d tokens, the plan has a context of %d and %d KV pages of %d; compile with a larger --context",
				first, len(prompts[first]), p.Limits.Context, p.Limits.Pages, p.Limits.Page)
		}
		for !b.done() {
			s, rows := b.step()
			logits, err := program.Step(ctx, s)
			if err != nil {
				return nil, err
			}
			for g, list := range rows {
				width := len(logits[g]) / max(1, len(list))
				for i, index := range list {
					out[index] = append(out[index], logits[g][i*width:(i+1)*width]...)
				}
			}
		}
	}
	return out, nil
}

// batch is the prompts that fit the plan at the same time.
type batch struct {
	limits plan.Limits
	groups int
	list   []*entry
	pages  []int // used, by group
	slots  []int
}

// entry is a prompt on its way through.
type entry struct {
	index, group int
	slot         int32
	pages        []int32
	prompt       []int
	done         int
}

func (b *batch) admit(index int, prompt []int) bool {
	if b.pages == nil {
		b.pages, b.slots = make([]int, b.groups), make([]int, b.groups)
	}
	g := len(b.list) % b.groups
	need := kv.For(len(prompt), b.limits.Page)
	if len(prompt) == 0 || len(prompt) > b.limits.Context || b.pages[g]+need > b.limits.Pages || b.slots[g] == b.limits.Sequences {
		return false
	}
	e := &entry{index: index, group: g, slot: int32(b.slots[g]), prompt: prompt}
	for i := range need {
		e.pages = append(e.pages, int32(b.pages[g]+i))
	}
	b.pages[g] += need
	b.slots[g]++
	b.list = append(b.list, e)
	return true
}

func (b *batch) done() bool {
	for _, e := range b.list {
		if e.done < len(e.prompt) {
			return false
		}
	}
	return true
}

// step takes as many tokens as a step has rows, and says whose rows they are.
func (b *batch) step() (*step.Step, [][]int) {
	s := &step.Step{Groups: make([]step.Group, b.groups), Prompt: true}
	rows := make([][]int, b.groups)
	for g := range s.Groups {
		s.Groups[g].Pages = make([][]int32, b.limits.Sequences)
	}
	room := min(b.limits.Tokens, b.limits.Rows)
	for _, e := range b.list {
		g := &s.Groups[e.group]
		g.Pages[e.slot] = e.pages
		for ; room > 0 && e.done < len(e.prompt); room-- {
			g.Rows = append(g.Rows, int32(len(g.Tokens)))
			g.Tokens = append(g.Tokens, int32(e.prompt[e.done]))
			g.Positions = append(g.Positions, int32(e.done))
			g.Sequences = append(g.Sequences, e.slot)
			rows[e.group] = append(rows[e.group], e.index)
			e.done++
		}
	}
	return s, rows
}
