package plan

import (
	"fmt"
	"maps"
	"slices"

	"moec/ir"
	"moec/ir/tensor"
	"moec/ir/tree"
)

// Facts are what rules V14 to V17 need to know of a value beyond its type.
// They are found by following the values through the queues, layer by layer
// until a turn changes nothing.

// fact is what is known of a value. The zero fact is a plain value.
type fact struct {
	// list says what an i32 value numbers: a list that the step brings, or
	// "experts".
	list  string
	total int // experts
	group int // token group of the list, -1 for all tokens

	slots *slots // which rows of slots are defined; nil: all
	part  *part  // a stack of partial sums; nil: none
}

// slots are the experts whose rows are defined, each for the tokens t with
// t mod turn[1] = turn[0].
type slots struct {
	turns map[int][2]int
	total int
}

// part is a stack of partial sums: one for each span of leaves.
type part struct {
	spans  []tree.Span
	turns  [][2]int // of each span
	leaves int      // 0: any single leaf
	expert bool     // leaves are experts
}

var everyToken = [2]int{0, 1}

func (f fact) equal(g fact) bool {
	if f.list != g.list || f.total != g.total || f.group != g.group || (f.slots == nil) != (g.slots == nil) || (f.part == nil) != (g.part == nil) {
		return false
	}
	if f.slots != nil && (f.slots.total != g.slots.total || !maps.Equal(f.slots.turns, g.slots.turns)) {
		return false
	}
	return f.part == nil || f.part.leaves == g.part.leaves && f.part.expert == g.part.expert && slices.Equal(f.part.spans, g.part.spans) && slices.Equal(f.part.turns, g.part.turns)
}

// meet returns the slots that are defined in both.
func (s *slots) meet(t *slots) *slots {
	switch {
	case s == nil:
		return t
	case t == nil:
		return s
	}
	both := &slots{turns: make(map[int][2]int), total: s.total}
	for e, turn := range s.turns {
		switch other, ok := t.turns[e]; {
		case ok && other == turn, ok && other == everyToken:
			both.turns[e] = turn
		case ok && turn == everyToken:
			both.turns[e] = other
		}
	}
	return both
}

// has reports whether the rows of an expert are defined in a turn.
func (s *slots) has(expert int, turn [2]int) bool {
	if s == nil {
		return true
	}
	t, ok := s.turns[expert]
	return ok && (t == turn || t == everyToken)
}

// all reports whether the rows of all experts are.
func (s *slots) all() bool {
	if s == nil {
		return true
	}
	for e := range s.total {
		if !s.has(e, everyToken) {
			return false
		}
	}
	return true
}

// servedBy returns the slots that an op with experts and turns makes.
func servedBy(a ir.Attrs) *slots {
	s := &slots{turns: make(map[int][2]int), total: a.Int("total", 0)}
	turns := a.Sets("turns")
	for i, e := range a.Ints("experts") {
		t := everyToken
		if i < len(turns) && len(turns[i]) == 2 {
			t = [2]int{turns[i][0], turns[i][1]}
		}
		s.turns[e] = t
	}
	return s
}

// tracker follows values through a program.
type tracker struct {
	v        *verifier
	prog     *progIndex
	layer    int
	shared   map[bufKey]fact
	local    map[bufKey]fact
	unread   map[bufKey]string // parts of sums that nobody has added yet, and where they were made
	cuts     map[cutKey]int    // where contractions are cut
	problems *[]Problem
}

// cutKey is a leaf's first feature in a weight.
type cutKey struct {
	block, weight string
	leaves, leaf  int
	team          string // in mode fast, whose shares the leaves are
}

// collect finds the problems of rules V14 to V17 that need facts.
func (v *verifier) collect() []Problem {
	if v.known {
		return v.facts
	}
	v.known = true
	for _, prog := range v.progs {
		t := &tracker{v: v, prog: prog, shared: make(map[bufKey]fact), unread: make(map[bufKey]string), cuts: make(map[cutKey]int), problems: &v.facts}
		t.run()
	}
	return v.facts
}

// report fails the present rule for what was collected about it.
func (v *verifier) report() {
	seen := make(map[string]bool) // turns repeat
	for _, p := range v.collect() {
		if p.Rule == v.rule && !seen[p.Text] {
			seen[p.Text] = true
			v.fail("%s", p.Text)
		}
	}
}

// maxFacts bounds the problems that are collected.
const maxFacts = 1000

func (t *tracker) fail(rule, format string, args ...any) {
	if len(*t.problems) < maxFacts {
		*t.problems = append(*t.problems, Problem{rule, fmt.Sprintf(format, args...)})
	}
}

func (t *tracker) run() {
	for key := range t.prog.shared {
		if list, group, ok := inputOf(key.name); ok {
			t.shared[key] = fact{list: list, group: group}
		}
	}
	for _, r := range t.prog.Runs {
		b := t.prog.blocks[r.Block]
		changed := make(map[int]bool) // layers whose residents differ from the one before
		t.v.turns(b, r.Layers, func(layer int) { changed[layer] = true })
		first, count := r.Layers.layersOf()
		settled := false
		for i := range count {
			t.layer = first + i
			if settled && !changed[t.layer] {
				continue
			}
			before := maps.Clone(t.shared)
			t.turn(b)
			settled = maps.EqualFunc(before, t.shared, fact.equal)
		}
	}
	for _, b := range t.prog.Buffers {
		key := bufKey{b.Device, b.Name}
		where, ok := t.unread[key]
		if !ok {
			continue
		}
		t.fail("V15", "%s: nobody adds %s of device %d, a part of a sum", where, key.name, key.device)
	}
	for _, o := range t.prog.Outputs {
		if f := t.shared[bufKey{o.Device, o.Buffer}]; f.part != nil {
			t.fail("V15", "%s: output %s is a part of a sum", t.prog.Name, o.Name)
		} else if !f.slots.all() {
			t.fail("V14", "%s: output %s has undefined slots", t.prog.Name, o.Name)
		}
	}
}

// turn follows one turn of a block.
func (t *tracker) turn(b *blockIndex) {
	t.local = make(map[bufKey]fact)
	walker{b, func(q *Queue, at int) { t.step(b, meeting{q, at, &q.Steps[at]}) }, func(list []meeting) {
		var results []fact
		for _, m := range list {
			results = append(results, t.result(b, m))
		}
		for i, m := range list {
			t.set(b, m, results[i])
		}
	}}.walk()
	for _, buf := range b.Buffers {
		key := bufKey{buf.Device, buf.Name}
		if where, ok := t.unread[key]; ok {
			t.fail("V15", "%s: nobody adds %s of device %d, a part of a sum", where, key.name, key.device)
			delete(t.unread, key)
		}
	}
}

func (t *tracker) step(b *blockIndex, m meeting) {
	for i := range m.s.Body {
		inner := meeting{m.q, m.at, &m.s.Body[i]}
		t.set(b, inner, t.result(b, inner))
	}
	if len(m.s.Body) == 0 {
		t.set(b, m, t.result(b, m))
	}
}

func (t *tracker) set(b *blockIndex, m meeting, f fact) {
	if m.s.Out == "" {
		return
	}
	key := bufKey{m.q.Device, m.s.Out}
	if f.part != nil {
		t.unread[key] = b.Name
	}
	if b.local[key] != nil {
		t.local[key] = f
	} else {
		t.shared[key] = f
	}
}

func (t *tracker) of(b *blockIndex, a Ref) fact {
	if a.Kind != BufferRef {
		return fact{}
	}
	key := bufKey{a.Device, a.Name}
	if b.local[key] != nil {
		return t.local[key]
	}
	return t.shared[key]
}

// rule says how facts pass through an op.
type factRule func(t *tracker, c *factCall) fact

// factCall is a step whose facts are wanted.
type factCall struct {
	b     *blockIndex
	m     meeting
	args  []fact
	types []tensor.Type
}

func (c *factCall) where() string { return where(c.b, c.m.q, c.m.at, c.m.s) }

// factRules has the ops that do more than pass on what their operands have in
// common.
var factRules = map[string]factRule{
	"all_reduce":          (*tracker).allReduce,
	"all_gather":          (*tracker).joined,
	"concat":              (*tracker).joined,
	"own_rows":            (*tracker).ownRows,
	"part":                (*tracker).onePart,
	"matmul_nodes":        (*tracker).matmulNodes,
	"expert_matmul":       (*tracker).expertMatmul,
	"expert_matmul_nodes": (*tracker).expertMatmul,
	"expert_rows":         (*tracker).expertRows,
	"combine":             (*tracker).combine,
	"combine_nodes":       (*tracker).combine,
	"dispatch":            (*tracker).dispatch,
	"gather":              (*tracker).gather,
	"topk":                (*tracker).topk,
	"embed":               (*tracker).embed,
	"take_rows":           (*tracker).takeRows,
	"rope":                (*tracker).rope,
	"kv_append":           (*tracker).tokensOf,
	"attention":           (*tracker).tokensOf,
}

// result finds what is known of a step's result. Steps that other rules
// refuse have no facts.
func (t *tracker) result(b *blockIndex, m meeting) fact {
	c := &factCall{b: b, m: m}
	for _, a := range m.s.Args {
		c.args = append(c.args, t.of(b, a))
		typ, err := t.v.typeOf(b, a, t.layer)
		if err != nil {
			return fact{}
		}
		c.types = append(c.types, typ)
	}
	if m.s.Op == "send" || t.v.stepType(b, m.q, m.s, t.layer) != nil {
		return fact{}
	}
	t.readParts(c)
	if rule, ok := factRules[m.s.Op]; ok {
		return rule(t, c)
	}
	return t.passed(c)
}

// readParts checks that parts of sums are only added, rounded or moved.
func (t *tracker) readParts(c *factCall) {
	for i, f := range c.args {
		if f.part == nil {
			continue
		}
		a := c.m.s.Args[i]
		switch c.m.s.Op {
		case "all_reduce", "round", "transfer", "copy":
			delete(t.unread, bufKey{a.Device, a.Name})
		default:
			t.fail("V15", "%s: reads %s, which is part of a sum", c.where(), a.Name)
		}
	}
}

// passed is the rule of most ops: a result has the slots that all operands
// have, and what is moved numbers what it did.
func (t *tracker) passed(c *factCall) fact {
	var f fact
	for _, a := range c.args {
		f.slots = f.slots.meet(a.slots)
	}
	if op := OpInfo(c.m.s.Op); len(c.args) > 0 && (op.Has(ir.Moves) || op.Name == "round") {
		f.part = c.args[0].part
		if op.Has(ir.Moves) {
			f.list, f.total, f.group = c.args[0].list, c.args[0].total, c.args[0].group
		}
	}
	return f
}

func (t *tracker) joined(c *factCall) fact {
	f := t.passed(c)
	rows := c.m.s.Attrs.Int("axis", 0) == 0 && c.types[0].Shape[0].Sym != ""
	for i, a := range c.args {
		if a.list != f.list || a.total != f.total || rows && a.list != "" && a.list != "experts" && a.group != i {
			t.fail("V17", "%s: joins lists of %s and of %s", c.where(), c.args[0].name(), a.name())
		}
	}
	if rows {
		f.group = -1
	}
	return f
}

func (f fact) name() string {
	switch {
	case f.list == "":
		return "nothing that is known"
	case f.list == "experts":
		return fmt.Sprintf("%d experts", f.total)
	case f.group >= 0:
		return fmt.Sprintf("%s of token group %d", f.list, f.group)
	}
	return f.list
}

func (t *tracker) ownRows(c *factCall) fact {
	f := t.passed(c)
	if f.list != "" && f.list != "experts" {
		f.group = c.m.s.Attrs.Int("group", 0)
	}
	return f
}

// index checks that operand i numbers what the op needs.
func (t *tracker) index(c *factCall, i int, list string) {
	want := fact{list: list, group: c.types[0].Shape[0].Sym.Group()}
	if got := c.args[i]; got.list != list || got.group != want.group {
		t.fail("V17", "%s: %s numbers %s, the op needs %s", c.where(), c.m.s.Args[i].Name, got.name(), want.name())
	}
}

// choice checks that operand i numbers experts, of total.
func (t *tracker) choice(c *factCall, i, total int) {
	if got := c.args[i]; got.list != "experts" || got.total != total {
		t.fail("V17", "%s: %s numbers %s, the op needs %d experts", c.where(), c.m.s.Args[i].Name, got.name(), total)
	}
}

func (t *tracker) topk(c *factCall) fact {
	return fact{list: "experts", total: c.types[0].Shape[1].N}
}

func (t *tracker) gather(c *factCall) fact {
	t.choice(c, 1, c.types[0].Shape[1].N)
	return fact{}
}

func (t *tracker) dispatch(c *factCall) fact {
	t.choice(c, 1, c.args[1].total)
	return fact{}
}

func (t *tracker) embed(c *factCall) fact {
	t.index(c, 0, "tokens")
	if rows := c.types[1].Shape[0].N; rows < t.v.p.Model.Vocab {
		t.fail("V17", "%s: the table has %d rows, the vocabulary %d words", c.where(), rows, t.v.p.Model.Vocab)
	}
	return fact{}
}

func (t *tracker) takeRows(c *factCall) fact {
	t.index(c, 1, "rows")
	f := c.args[0]
	return f
}

func (t *tracker) rope(c *factCall) fact {
	t.index(c, 1, "positions")
	return fact{}
}

// tokensOf is kv_append and attention.
func (t *tracker) tokensOf(c *factCall) fact {
	t.index(c, 2, "sequences")
	t.index(c, 3, "positions")
	return fact{}
}
