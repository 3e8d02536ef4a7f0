package eval

import (
	"fmt"

	"moec/ir/tensor"
)

// Span is a run of tokens of one sequence.
type Span struct {
	Sequence int32
	First    int // position of the first token
	Tokens   []int32
	// Skip is how many tokens come before the first whose logits are wanted:
	// 0 for all logits, len(Tokens)-1 for the last token's, len(Tokens) for none.
	Skip int
	// Group is the token group that the sequence belongs to.
	Group int
}

// Step is what one execution of a graph works on. Its tokens are those of the
// first token group, then those of the next, each span by span.
type Step struct {
	Groups int // token groups, as in the graph; 0 stands for 1
	Spans  []Span
}

// check reports what is wrong with a step.
func (s *Step) check(groups int) error {
	if max(1, s.Groups) != groups && groups > 1 {
		return fmt.Errorf("step has %d token groups, the graph %d", s.Groups, groups)
	}
	for i, p := range s.Spans {
		if p.Group < 0 || p.Group >= max(1, s.Groups) {
			return fmt.Errorf("span %d is for token group %d of %d", i, p.Group, s.Groups)
		}
		if p.First < 0 || p.Skip < 0 || p.Skip > len(p.Tokens) {
			return fmt.Errorf("span %d starts at position %d and skips the logits of %d tokens of %d", i, p.First, p.Skip, len(p.Tokens))
		}
	}
	return nil
}

// spans calls visit for the spans of a group in the step's order; group -1
// stands for all.
func (s *Step) spans(group int, visit func(Span)) {
	for g := range max(1, s.Groups) {
		if group >= 0 && g != group {
			continue
		}
		for _, p := range s.Spans {
			if p.Group == g {
				visit(p)
			}
		}
	}
}

// lists are what an input node can name.
var lists = map[string]func(at int, p Span, out []int32) []int32{
	"tokens": func(_ int, p Span, out []int32) []int32 { return append(out, p.Tokens...) },
	"positions": func(_ int, p Span, out []int32) []int32 {
		for i := range p.Tokens {
			out = append(out, int32(p.First+i))
		}
		return out
	},
	"sequences": func(_ int, p Span, out []int32) []int32 {
		for range p.Tokens {
			out = append(out, p.Sequence)
		}
		return out
	},
	"rows": func(at int, p Span, out []int32) []int32 {
		for i := p.Skip; i < len(p.Tokens); i++ {
			out = append(out, int32(at+i))
		}
		return out
	},
}

// List returns one of the lists that a step brings: tokens, positions,
// sequences, or rows, of a token group or of all (-1). Rows count from the
// group's first token.
func (s *Step) List(name string, group int) []int32 {
	out, at := []int32{}, 0
	s.spans(group, func(p Span) {
		out = lists[name](at, p, out)
		at += len(p.Tokens)
	})
	return out
}

// Bound gives the symbols of shapes their extents in this step. A cache has
// extent 0: it is not a buffer.
func (s *Step) Bound(sym tensor.Sym) int {
	n := 0
	s.spans(sym.Group(), func(p Span) {
		switch sym.Base() {
		case tensor.Tokens:
			n += len(p.Tokens)
		case tensor.Rows:
			n += len(p.Tokens) - p.Skip
		}
	})
	return n
}
