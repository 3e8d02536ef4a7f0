package prove

import (
	"moec/ir/tensor"
	"moec/planner/plan"
)

// step is what one execution works on: ragged runs of tokens of several
// sequences, for each token group.
type step struct{ groups []group }

// group is the share of one token group; see the plan format, "A step".
type group struct {
	tokens, positions, sequences, rows []uint64
}

// all gives the symbols their numbers in this step.
func (st *step) all(sym tensor.Sym) int {
	of, rows, n := sym.Group(), sym.Base() == tensor.Rows, 0
	for g := range st.groups {
		switch {
		case of >= 0 && of != g:
		case rows:
			n += len(st.groups[g].rows)
		default:
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
					x += uint64(g * slots)
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
	words int // different ones
	given int // so far
}

// How many tokens a script has at most, for experts that all token groups share
// and in all: a model of very many experts is still proved in reasonable time.
const (
	most    = 96
	mostAll = 1024
)

// slots is how many sequences a token group has.
const slots = 3

// newScript plans three steps or more: prompts of several sequences in each token
// group, in part; what is left of them; and the next token of one sequence.
// There are tokens enough for every expert of a layer to be chosen, by each of
// its copies. Limits bound memory, not
// meaning: what a step of the plan does it does for any number of tokens, rows
// and pages, so the script may have more of them than a step of the plan, and
// what bytes are taken is decided for the largest step.
func newScript(l plan.Limits, groups int, need tokens, words int, seed uint64) *script {
	s := &script{page: pageOf(l.Page), words: max(1, words)}
	list := s.sequences(groups, need.all)
	s.deal(list, groups, seed)
	// In the first layer rows of equal words choose equal experts, so few words
	// need several steps.
	rounds := min(8, 3+need.choices/s.words)
	for round := range rounds {
		if st := s.next(list, groups, rounds-1-round); st.all(tensor.Tokens) > 0 {
			s.steps = append(s.steps, st)
		}
	}
	return s
}

// tokens is how many there should be.
type tokens struct {
	choices int // that let every copy of an expert be chosen
	all     int // in all steps together
}

// tokensFor returns how many tokens a script needs.
func tokensFor(choices, groups int, local bool) tokens {
	n := min(most, max(12, choices+choices/2+6))
	if local {
		return tokens{choices, min(mostAll, n*groups)}
	}
	return tokens{choices, max(n, min(most, 4*groups))}
}

// pageOf divides the positions of a page so that short sequences have several.
func pageOf(page int) int {
	for n := 2; n < page; n++ {
		if page%n == 0 {
			return n
		}
	}
	return page
}

// sequences decides how long they are. Those of every fourth group go on after
// their prompt even where there are very many groups.
func (s *script) sequences(groups, tokens int) []*sequence {
	var list []*sequence
	for g := range groups {
		left := max(1, tokens/groups)
		if g%4 == 0 {
			left = max(left, slots)
		}
		for i := 0; i < slots && left > 0; i++ {
			n := (left + 1) / 2
			if i == slots-1 {
				n = left
			}
			list = append(list, &sequence{group: g, slot: (i + g) % slots, length: n})
			left -= n
		}
	}
	return list
}

// deal gives every slot pages, in no order.
func (s *script) deal(list []*sequence, groups int, seed uint64) {
	s.pages = make([][][]int, groups)
	for g := range s.pages {
		s.pages[g] = make([][]int, slots)
		need := 0
		for _, q := range list {
			if q.group == g {
				need += (q.length + s.page - 1) / s.page
			}
		}
		free := newDeck(mixIn(seed, uint64(g)), need+1).deal(need, 1, numbered{})
		for _, q := range list {
			for range (q.length + s.page - 1) / s.page {
				if q.group == g {
					s.pages[g][q.slot] = append(s.pages[g][q.slot], int(free[0]))
					free = free[1:]
				}
			}
		}
	}
}

// next returns the step after which so many are left: the last one is one token
// of the first sequence alone.
func (s *script) next(list []*sequence, groups, left int) *step {
	st := &step{groups: make([]group, groups)}
	for i := range list {
		q := list[(i+left)%len(list)]
		n := q.length - q.done
		switch {
		case left > 0 && q == list[0]:
			n = (n - 1 + left - 1) / left
		case left > 0:
			n = (n + left - 1) / left
		}
		g := &st.groups[q.group]
		for j := range n {
			if j != 1 || q.done > 0 { // some logits are not wanted
				g.rows = append(g.rows, uint64(len(g.tokens)))
			}
			g.tokens = append(g.tokens, uint64(s.given%s.words))
			g.positions = append(g.positions, uint64(q.done+j))
			g.sequences = append(g.sequences, uint64(q.slot))
			s.given++
		}
		q.done += n
	}
	return st
}
