package prove

import (
	"slices"

	"moec/ir/tensor"
	"moec/planner/plan"
)

// step is what one execution works on: ragged runs of tokens of several
// sequences, for each token group.
type step struct {
	groups []group
	slots  int // of sequences in a group
}

// group is the share of one token group; see the plan format, "A step".
type group struct {
	tokens, positions, sequences, rows []uint64
}

// all gives the symbols their numbers in this step.
func (st *step) all(sym tensor.Sym) int {
	n := 0
	for g := range st.groups {
		if of := sym.Group(); of >= 0 && of != g {
			continue
		}
		if sym.Base() == tensor.Rows {
			n += len(st.groups[g].rows)
		} else {
			n += len(st.groups[g].tokens)
		}
	}
	return n
}

// allCached is all, and 0 for what is in a cache, which is no array.
func (st *step) allCached(sym tensor.Sym) int {
	if sym.Base() == tensor.Cached {
		return 0
	}
	return st.all(sym)
}

// list returns a list of a token group, or of all (-1). Of all, sequences have
// numbers of their own and rows count from the first token.
func (st *step) list(name string, of int) []uint64 {
	var out []uint64
	first := 0
	for g, grp := range st.groups {
		part := map[string][]uint64{"tokens": grp.tokens, "positions": grp.positions, "sequences": grp.sequences, "rows": grp.rows}[name]
		switch {
		case of == g:
			return part
		case of < 0:
			for _, x := range part {
				if name == "sequences" {
					x += uint64(g * st.slots)
				}
				if name == "rows" {
					x += uint64(first)
				}
				out = append(out, x)
			}
		}
		first += len(grp.tokens)
	}
	return out
}

// sequence is a sequence on its way.
type sequence struct {
	group, slot  int
	length, done int
}

// script is all steps, and the pages of each slot of each token group.
type script struct {
	steps []*step
	page  int // positions of a page
	pages [][][]int
}

// most is how many tokens a script has at most, so that a model of very many
// experts is still proved in reasonable time.
const most = 96

// newScript plans the steps: prompts of several sequences in each token group,
// in part; what is left of them; and the next token of one sequence. There are
// tokens enough for every expert of a layer to be chosen, if the plan's limits
// allow as many in a few steps.
func newScript(l plan.Limits, groups, perExpert, words int, seed uint64) *script {
	tokens := min(max(12, perExpert+4, 4*groups), most, 4*l.Tokens)
	s := &script{page: pageOf(l.Page)}
	list := s.sequences(l, groups, tokens)
	s.deal(l, list, groups, seed)
	for round := 0; len(s.steps) < 8; round++ {
		st := s.next(l, list, groups, round, words, seed)
		if st == nil {
			return s
		}
		s.steps = append(s.steps, st)
	}
	return s
}

// pageOf divides the positions of a page so that short sequences have several.
func pageOf(page int) int {
	best := page
	for n := page; n >= 2; n-- {
		if page%n == 0 {
			best = n
		}
	}
	return best
}

// sequences decides how many there are and how long.
func (s *script) sequences(l plan.Limits, groups, tokens int) []*sequence {
	slots := min(3, l.Sequences)
	var list []*sequence
	share := max(1, tokens/groups)
	room := l.Pages * s.page
	for g := range groups {
		left := share
		if g%4 == 0 { // some sequences go on after their prompt
			left = max(share, 3)
		}
		for i := range slots {
			n := min(max(1, (left+1)/2), l.Context, room/slots/s.page*s.page)
			if i == slots-1 && left > 0 {
				n = min(left, l.Context, room/slots/s.page*s.page)
			}
			if n > 0 && left > 0 {
				list = append(list, &sequence{group: g, slot: (i + g) % slots, length: n})
				left -= n
			}
		}
	}
	return list
}

// deal gives every slot pages, in no order.
func (s *script) deal(l plan.Limits, list []*sequence, groups int, seed uint64) {
	s.pages = make([][][]int, groups)
	for g := range s.pages {
		s.pages[g] = make([][]int, min(3, l.Sequences))
		free := &deck{seed: mixIn(seed, uint64(g)), limit: min(l.Pages, 64)}
		for _, q := range list {
			if q.group != g {
				continue
			}
			for range (q.length + s.page - 1) / s.page {
				s.pages[g][q.slot] = append(s.pages[g][q.slot], int(free.deal(1)[0]))
			}
		}
	}
}

// next returns the step of a round, or nil when all sequences are done.
func (s *script) next(l plan.Limits, list []*sequence, groups, round, words int, seed uint64) *step {
	st := &step{groups: make([]group, groups), slots: l.Sequences}
	tokens, rows := l.Tokens, l.Rows
	for i := range list {
		q := list[(i+round)%len(list)]
		n := q.length - q.done
		switch {
		case round == 0 && n > 1:
			n = max(1, n*2/3)
		case n > 1 && q == list[0]:
			n-- // the last comes alone
		case n == 1 && q == list[0] && round < 2 && slices.ContainsFunc(list[1:], func(o *sequence) bool { return o.done < o.length }):
			continue
		}
		n = min(n, tokens)
		tokens -= n
		g := &st.groups[q.group]
		for j := range n {
			if rows > 0 && (j == n-1 || j == 0 && round == 0) {
				g.rows = append(g.rows, uint64(len(g.tokens)))
				rows--
			}
			p := q.done + j
			g.tokens = append(g.tokens, mixIn(mixIn(seed, uint64(q.group*l.Sequences+q.slot)), uint64(p))%uint64(max(1, words)))
			g.positions = append(g.positions, uint64(p))
			g.sequences = append(g.sequences, uint64(q.slot))
		}
		q.done += n
	}
	if st.all(tensor.Tokens) == 0 {
		return nil
	}
	return st
}
