// Package step holds what a program is given for one step: which tokens, of
// which sequences, at which positions, and where their KV pages are.
//
// It is plain data, filled by whoever schedules sequences and read by every
// backend.
package step

import (
	"fmt"

	"moec/ir/tensor"
)

// Step is one step for all token groups.
type Step struct {
	Groups []Group
	// Prompt says that all tokens are given, none generated. A backend may have
	// other kernels for such steps. Where it has not, nobody needs to say so.
	Prompt bool
}

// Group is the share of one token group. Tokens, Positions and Sequences have
// an entry for each token. The tokens of one sequence are consecutive and at
// ascending positions.
type Group struct {
	Tokens    []int32
	Positions []int32
	Sequences []int32 // slots of sequences with state, from 0
	Rows      []int32 // indices into Tokens of those whose logits are wanted, ascending
	// Pages lists, for each sequence slot, the KV pages of its positions in
	// order.
	Pages [][]int32
}

// Bounds gives every symbol its value in this step. Cached has none.
func (s *Step) Bounds() tensor.Bounds {
	tokens, rows := 0, 0
	for _, g := range s.Groups {
		tokens += len(g.Tokens)
		rows += len(g.Rows)
	}
	return func(sym tensor.Sym) int {
		g := sym.Group()
		switch {
		case sym.Base() == tensor.Tokens && g < 0:
			return tokens
		case sym.Base() == tensor.Rows && g < 0:
			return rows
		case g >= len(s.Groups):
			return 0
		case sym.Base() == tensor.Tokens:
			return len(s.Groups[g].Tokens)
		case sym.Base() == tensor.Rows:
			return len(s.Groups[g].Rows)
		}
		return 0
	}
}

// Limits are the sizes that a step must respect; see plan.Limits.
type Limits struct {
	Tokens, Rows, Sequences, Context, Page, Pages, Vocab int
}

// Check says what is wrong with a step, so that backends need not look.
func (s *Step) Check(l Limits) error {
	tokens, rows := 0, 0
	for i := range s.Groups {
		if err := s.Groups[i].check(l); err != nil {
			return fmt.Errorf("token group %d: %w", i, err)
		}
		tokens += len(s.Groups[i].Tokens)
		rows += len(s.Groups[i].Rows)
	}
	if tokens > l.Tokens || rows > l.Rows {
		return fmt.Errorf("step has %d tokens and %d rows, the plan allows %d and %d", tokens, rows, l.Tokens, l.Rows)
	}
	return nil
}

func (g *Group) check(l Limits) error {
	n := len(g.Tokens)
	if len(g.Positions) != n || len(g.Sequences) != n {
		return fmt.Errorf("%d tokens, %d positions and %d sequences", n, len(g.Positions), len(g.Sequences))
	}
	for i, s := range g.Sequences {
		pos := int(g.Positions[i])
		switch {
		case int(s) < 0 || int(s) >= l.Sequences || int(s) >= len(g.Pages):
			return fmt.Errorf("token %d is of sequence slot %d, the plan has %d", i, s, l.Sequences)
		case pos < 0 || pos >= l.Context:
			return fmt.Errorf("token %d is at position %d, the plan allows %d", i, pos, l.Context)
		case pos/l.Page >= len(g.Pages[s]):
			return fmt.Errorf("position %d of sequence slot %d has no KV page", pos, s)
		case l.Vocab > 0 && (int(g.Tokens[i]) < 0 || int(g.Tokens[i]) >= l.Vocab):
			return fmt.Errorf("token id %d is outside the vocabulary of %d", g.Tokens[i], l.Vocab)
		}
	}
	for i, r := range g.Rows {
		switch {
		case int(r) < 0 || int(r) >= n:
			return fmt.Errorf("row %d of %d tokens", r, n)
		case i > 0 && r <= g.Rows[i-1]:
			return fmt.Errorf("row %d comes after row %d; rows must ascend", r, g.Rows[i-1])
		}
	}
	for _, list := range g.Pages {
		for _, p := range list {
			if int(p) < 0 || int(p) >= l.Pages {
				return fmt.Errorf("KV page %d, the plan has %d", p, l.Pages)
			}
		}
	}
	return nil
}
