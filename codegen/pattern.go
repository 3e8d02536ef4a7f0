package codegen

import (
	"fmt"
	"strings"

	"moec/planner/plan"
)

// line is one step of a pattern: a name for its result, the op, and its
// operands. An operand is the name of an earlier result, or of a buffer that
// carries a value into the block; "in:" names an input of the program; "w:",
// "c:" and "k:" give a weight, constant or cache a name, or want the one that
// has it.
type line struct{ out, op, args string }

// match finds a pattern in the steps of one block after the other. Names keep
// what they stand for; a result takes its name away from an older one.
type match struct {
	buffers   map[string]string // by name in the pattern
	residents map[string]string // by kind and name in the pattern
	steps     map[string]*site  // by name of the result
}

func newMatch() *match {
	return &match{buffers: make(map[string]string), residents: make(map[string]string), steps: make(map[string]*site)}
}

// block matches all steps of a block with a pattern, or says where they part.
func (m *match) block(steps []*site, pattern []line) error {
	for i, l := range pattern {
		if i >= len(steps) {
			return fmt.Errorf("the block ends where %s is wanted", l.op)
		}
		if err := m.step(steps[i], l); err != nil {
			return fmt.Errorf("%v (%s): %w", steps[i].at, steps[i].Op, err)
		}
	}
	if len(steps) > len(pattern) {
		return fmt.Errorf("%v (%s): the block should end", steps[len(pattern)].at, steps[len(pattern)].Op)
	}
	return nil
}

func (m *match) step(s *site, l line) error {
	if s.Op != l.op {
		return fmt.Errorf("%s is wanted", l.op)
	}
	want := strings.Fields(l.args)
	if len(s.Args) != len(want) {
		return fmt.Errorf("%d operands, %d are wanted", len(s.Args), len(want))
	}
	for i, name := range want {
		if !m.operand(s.Args[i], name) {
			return fmt.Errorf("operand %d is %s, %s is wanted", i, s.Args[i].Name, name)
		}
	}
	if l.out != "" {
		m.buffers[l.out] = s.Out
		m.steps[l.out] = s
	}
	return nil
}

// kinds of residents by the letter before their names in a pattern.
var kinds = map[string]plan.RefKind{"w": plan.WeightRef, "c": plan.ConstRef, "k": plan.CacheRef}

func (m *match) operand(a plan.Ref, name string) bool {
	kind, rest, ok := strings.Cut(name, ":")
	switch {
	case !ok:
		return a.Kind == plan.BufferRef && a.Name == m.buffers[name]
	case kind == "in":
		return a.Kind == plan.BufferRef && a.Name == rest
	case a.Kind != kinds[kind]:
		return false
	}
	if have, ok := m.residents[name]; ok {
		return a.Name == have
	}
	m.residents[name] = a.Name
	return true
}
