package generate

import (
	"context"
	"slices"
	"time"

	"moec/runtime/sample"
	"moec/runtime/step"
)

// Ahead is a program that can choose tokens itself, so that steps follow each
// other without waiting for the host.
type Ahead interface {
	Program
	// Continue executes up to n steps. The first is s, which asks for the logits
	// of every token; each other one has the tokens that the one before chose, as
	// draws say, of the same sequences a position further. take gets the tokens of
	// each step in order and says whether more are wanted; a few that are on their
	// way by then still come. It reports false, and has done nothing, if the
	// program cannot do this for such a step.
	//
	// The tokens are those that draws choose from the logits of Step.
	Continue(ctx context.Context, s *step.Step, draws []sample.Draw, n int, take func(tokens []int32) (more bool)) (bool, error)
}

// decodes returns how many steps all sequences go on for if none stops early, 0
// if some still have prompts or the steps are in several groups.
func (e *Engine) decodes() int {
	if len(e.groups) != 1 || len(e.groups[0].active) == 0 || len(e.groups[0].active) > min(e.limits.Tokens, e.limits.Rows) {
		return 0
	}
	if e.apart > 0 && len(e.groups[0].active) > e.apart {
		return 0
	}
	n := e.limits.Context
	for _, s := range e.groups[0].active {
		if s.made == 0 || len(s.queue) != 1 {
			return 0
		}
		n = min(n, s.MaxTokens-s.made, e.limits.Context-s.done)
	}
	return n
}

// goOn lets the program continue all sequences for n steps, or a few more than
// until the first of them stops. Tokens of a sequence that has stopped are
// dropped: what they left in its pages is overwritten by whoever gets those.
func (e *Engine) goOn(ctx context.Context, program Ahead, s *ragged, list []*sequence, n int, stats *Stats, emit func(Event)) (bool, error) {
	draws := make([]sample.Draw, len(list))
	order := make([]int, len(list))
	for i, q := range list {
		draws[i], order[i] = sample.Draw{Params: q.Sampling, Sequence: q.index}, i
	}
	slices.SortFunc(order, func(a, b int) int { return list[a].index - list[b].index })
	going, begin, taken := true, time.Now(), 0
	ok, err := program.Continue(ctx, &s.Step, draws, n, func(tokens []int32) bool {
		e.account(stats, s, 0, time.Since(begin))
		begin = time.Now()
		for _, i := range order {
			q := list[i]
			if q.made < 0 {
				continue
			}
			if taken > 0 { // the first step is counted where it was made
				q.done++
				q.queue = nil
			}
			e.take(q, int(tokens[i]), stats, emit)
			going = going && q.made >= 0
		}
		taken++
		return going
	})
	if ok {
		e.groups[0].active = e.retire(e.groups[0])
	}
	return ok, err
}
