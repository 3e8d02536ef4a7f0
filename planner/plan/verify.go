package plan

import (
	"errors"
	"fmt"

	"moec/ir"
	"moec/ir/tensor"
)

// Rule is an invariant of plans. IDs are stable names.
type Rule struct {
	ID, Doc string
	// form: a plan that breaks it cannot be followed; the other rules rely
	// on it.
	form  bool
	check func(*verifier)
}

// Rules lists what Verify checks, in order.
func Rules() []Rule {
	return []Rule{
		{"V24", "nothing is on a device that the plan or the machine lacks", true, (*verifier).devices},
		{"V27", "numbers are finite", true, (*verifier).finite},
		{"V01", "names are unique and refer to what exists, in every layer; numbers are in range", true, (*verifier).names},
		{"V11", "everything lies inside its device's arena, aligned, and residents do not overlap", false, (*verifier).arena},
		{"V12", "a device's account adds up and fits its memory", false, (*verifier).budget},
		{"V28", "sizes are bytes: extents times element size", false, (*verifier).bytes},
		{"V20", "buffers hold the largest step, whatever the routing", false, (*verifier).worstCase},
		{"V23", "page tables are bounded, and one sequence of full length has pages", false, (*verifier).pages},
		{"V21", "no step needs access to a peer's memory: what is another device's is read in a collective in which the owner can send it", false, (*verifier).peers},
		{"V05", "the members of a collective agree on op, operands and attributes", false, (*verifier).members},
		{"V07", "a channel number is one collective: one step on each device that takes part", false, (*verifier).channels},
		{"V06", "devices meet two collectives in the same order", false, (*verifier).channelOrder},
		{"V02", "steps depend on each other in no cycle", false, (*verifier).acyclic},
		{"V08", "executing all queues side by side reaches the end, when nobody goes on from a meeting before all members have come", false, (*verifier).deadlock},
		{"V03", "every buffer, cache and output is made exactly once: blocks and layers run once and in order, and give logits", false, (*verifier).results},
		{"V04", "a step reads what was written before it, on the same device or in a collective by its owner", false, (*verifier).written},
		{"V10", "nothing is read after its memory was given to something else", false, (*verifier).lives},
		{"V09", "a device writes nothing that another may be reading: queues and meetings keep them apart, in all layers and from a step of tokens to the next", false, (*verifier).races},
		{"V22", "what a step reads and what it writes are apart, unless it works element by element on one buffer", false, (*verifier).scratch},
		{"V17", "types agree: a step's result is what its op makes of its operands, and lists number what they are used for", false, (*verifier).types},
		{"V25", "the order of sums is recorded and one for the whole plan: a weight is cut into the same leaves wherever it is used, and attention adds the same chunks", false, (*verifier).order},
		{"V13", "every part of every weight is on some device and read, no slice leaves it, its source has its shape, and what is kept is called after its parts", false, (*verifier).coverage},
		{"V14", "every expert has a home that serves all its tokens, copies take turns, and steps name the experts that are there", false, (*verifier).homes},
		{"V15", "partial sums are added whole, each leaf where it belongs, before anything else reads them", false, (*verifier).sums},
		{"V16", "no part enters a sum twice", false, (*verifier).twice},
	}
}

// VerifyError lists the rules that a plan breaks.
type VerifyError struct{ Problems []Problem }

// Problem is one breach of a rule.
type Problem struct {
	Rule string `json:"rule"`
	Text string `json:"text"`
}

// Error implements error: the first problem, and how many there are.
func (e *VerifyError) Error() string {
	p := e.Problems[0]
	s := p.Rule + ": " + p.Text
	if n := len(e.Problems) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// maxProblems bounds the list of problems of a rule.
const maxProblems = 5

// Verify checks all rules and returns a *VerifyError if any is broken.
func Verify(p *Plan) error {
	v := &verifier{p: p}
	v.index()
	formed := true
	for _, r := range Rules() {
		if !r.form && !formed {
			break
		}
		before := len(v.problems)
		v.rule, v.limit = r.ID, before+maxProblems
		r.check(v)
		formed = formed && (!r.form || len(v.problems) == before)
	}
	if len(v.problems) == 0 {
		return nil
	}
	return &VerifyError{v.problems}
}

// ErrOtherModel says that a plan is for another model.
var ErrOtherModel = errors.New("plan is for another model")

// VerifyModel checks rule V26: the plan was made for the model of this hash.
func VerifyModel(p *Plan, hash string) error {
	if p.Model.Hash != hash {
		return fmt.Errorf("V26: %w: the plan was made for model %.12s, the checkpoint's description has %.12s", ErrOtherModel, p.Model.Hash, hash)
	}
	return nil
}

// verifier holds a plan and what is looked up often.
type verifier struct {
	p        *Plan
	rule     string
	problems []Problem
	limit    int // of problems, for the present rule

	progs   []*progIndex
	weights map[residentKey][]*Weight
	caches  map[residentKey][]*Cache
	consts  map[string]*Const
	groups  int // token groups
	facts   []Problem
	known   bool // facts were collected
}

// residentKey names what may be kept for several layers.
type residentKey struct {
	device int
	name   string
}

// progIndex finds the buffers of a program.
type progIndex struct {
	*Program
	shared map[bufKey]*Buffer
	blocks map[string]*blockIndex
}

type blockIndex struct {
	*Block
	prog  *progIndex
	local map[bufKey]*Buffer
	meets *meetings // set when first asked for
}

type bufKey struct {
	device int
	name   string
}

func (v *verifier) fail(format string, args ...any) {
	if len(v.problems) < v.limit {
		v.problems = append(v.problems, Problem{v.rule, fmt.Sprintf(format, args...)})
	}
}

// index makes the tables. It relies on no rule.
func (v *verifier) index() {
	v.weights, v.caches, v.consts = make(map[residentKey][]*Weight), make(map[residentKey][]*Cache), make(map[string]*Const)
	for i := range v.p.Weights {
		w := &v.p.Weights[i]
		k := residentKey{w.Device, w.Name}
		v.weights[k] = append(v.weights[k], w)
	}
	for i := range v.p.Caches {
		c := &v.p.Caches[i]
		k := residentKey{c.Device, c.Name}
		v.caches[k] = append(v.caches[k], c)
	}
	for i := range v.p.Consts {
		v.consts[v.p.Consts[i].Name] = &v.p.Consts[i]
	}
	v.groups = v.p.Groups()
	for i := range v.p.Programs {
		prog := &progIndex{Program: &v.p.Programs[i], shared: make(map[bufKey]*Buffer), blocks: make(map[string]*blockIndex)}
		for j := range prog.Buffers {
			b := &prog.Buffers[j]
			prog.shared[bufKey{b.Device, b.Name}] = b
		}
		for j := range prog.Blocks {
			block := &blockIndex{Block: &prog.Blocks[j], prog: prog, local: make(map[bufKey]*Buffer)}
			for k := range block.Buffers {
				b := &block.Buffers[k]
				block.local[bufKey{b.Device, b.Name}] = b
			}
			prog.blocks[block.Name] = block
		}
		v.progs = append(v.progs, prog)
	}
}

// weight finds what a device keeps under a name for a layer; -1 is outside
// the layers.
func (v *verifier) weight(device int, name string, layer int) *Weight {
	for _, w := range v.weights[residentKey{device, name}] {
		if w.Layers == NoLayers || w.Layers.Has(layer) {
			return w
		}
	}
	return nil
}

// cache finds the KV state of a device under a name for a layer.
func (v *verifier) cache(device int, name string, layer int) *Cache {
	for _, c := range v.caches[residentKey{device, name}] {
		if c.Layers == NoLayers || c.Layers.Has(layer) {
			return c
		}
	}
	return nil
}

// buffer finds a buffer of a block or of its program.
func (b *blockIndex) buffer(device int, name string) *Buffer {
	if buf, ok := b.local[bufKey{device, name}]; ok {
		return buf
	}
	return b.prog.shared[bufKey{device, name}]
}

// blocks calls f with every block.
func (v *verifier) blocks(f func(*blockIndex)) {
	for _, prog := range v.progs {
		for i := range prog.Blocks {
			f(prog.blocks[prog.Blocks[i].Name])
		}
	}
}

// buffers calls f with every buffer of every program.
func (v *verifier) buffers(f func(block string, b *Buffer)) {
	for _, prog := range v.progs {
		for i := range prog.Buffers {
			f(prog.Name, &prog.Buffers[i])
		}
	}
	v.blocks(func(b *blockIndex) {
		for i := range b.Buffers {
			f(b.Name, &b.Buffers[i])
		}
	})
}

// steps calls f with every step of a block, those of bodies included.
func (b *blockIndex) steps(f func(q *Queue, at int, s *Step)) {
	for i := range b.Queues {
		q := &b.Queues[i]
		for at := range q.Steps {
			f(q, at, &q.Steps[at])
			for j := range q.Steps[at].Body {
				f(q, at, &q.Steps[at].Body[j])
			}
		}
	}
}

// where names a step for messages.
func where(b *blockIndex, q *Queue, at int, s *Step) string {
	return fmt.Sprintf("%s: device %d: step %d (%s)", b.Name, q.Device, at, s.Op)
}

// layersOf returns the layers of a run, or -1 for one outside the layers.
func (r Range) layersOf() (first, count int) {
	if r == NoLayers {
		return -1, 1
	}
	return r.First, r.Len()
}

// bounds are the largest values of the symbols.
func (v *verifier) bounds() tensor.Bounds { return v.p.Limits.Bounds() }

// Bounds gives every symbol its largest value: a token group may get all
// tokens of a step.
func (l Limits) Bounds() tensor.Bounds {
	return func(s tensor.Sym) int {
		switch s.Base() {
		case tensor.Rows:
			return l.Rows
		case tensor.Cached:
			return l.Context
		}
		return l.Tokens
	}
}

// Groups returns how many token groups the plan has: at least 1.
func (p *Plan) Groups() int {
	n := 1
	for i := range p.Programs {
		for _, o := range p.Programs[i].Outputs {
			n = max(n, min(o.Group, maxDevices)+1)
		}
	}
	return n
}

// collective reports whether all members of a channel do the step together.
func (s *Step) collective() bool {
	info := OpInfo(s.Op)
	return info != nil && info.Has(ir.Collective)
}
