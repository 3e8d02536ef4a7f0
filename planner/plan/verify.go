package plan

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"moec/ir/tensor"
)

// Rule is an invariant of plans. IDs are stable names.
type Rule struct {
	ID, Doc string
	check   func(*verifier)
}

// Rules lists what Verify checks, in order. Rules after V01 rely on it.
func Rules() []Rule {
	return []Rule{
		{"V01", "names are unique and refer to what exists; devices and layers are in range", (*verifier).names},
		{"V24", "no step is on a device that the machine lacks", (*verifier).devices},
		{"V11", "everything lies inside its device's arena, aligned, and residents do not overlap", (*verifier).arena},
		{"V12", "a device's account adds up and fits its memory", (*verifier).budget},
		{"V28", "sizes are bytes: extents times element size", (*verifier).bytes},
		{"V20", "a buffer holds the largest step, whatever the routing", (*verifier).worstCase},
		{"V27", "numbers are finite", (*verifier).finite},
		{"V05", "the members of a collective agree on operands and op; a contributor takes part", (*verifier).members},
		{"V07", "a channel number is one collective: one step on each device that takes part", (*verifier).channels},
		{"V06", "devices meet two collectives in the same order", (*verifier).channelOrder},
		{"V02", "steps depend on each other in no cycle", (*verifier).acyclic},
		{"V08", "executing all queues side by side reaches the end", (*verifier).deadlock},
		{"V03", "every result is made exactly once, and every output is made", (*verifier).results},
		{"V04", "a step reads what was written before it on the same device, or in a collective by its owner", (*verifier).written},
		{"V10", "nothing is read after its memory was given to something else", (*verifier).lives},
		{"V09", "no device writes what another reads in the same collective", (*verifier).races},
		{"V22", "what a collective reads and writes on a device is apart", (*verifier).scratch},
		{"V17", "types agree: a step's result is what its op makes of its operands", (*verifier).types},
		{"V13", "every part of every weight is on some device, and no slice leaves it", (*verifier).coverage},
		{"V14", "every expert of every layer has a home, and copies take turns", (*verifier).homes},
		{"V15", "partial sums are added exactly once, all of them, before anything else reads them", (*verifier).sums},
		{"V16", "no part enters a sum twice", (*verifier).twice},
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

// maxProblems bounds the list of problems.
const maxProblems = 20

// Verify checks all rules and returns a *VerifyError if any is broken.
func Verify(p *Plan) error {
	v := &verifier{p: p}
	v.index()
	for _, r := range Rules() {
		v.rule = r.ID
		r.check(v)
		if r.ID == "V01" && len(v.problems) > 0 {
			break
		}
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
	progs    []*progIndex
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
}

type bufKey struct {
	device int
	name   string
}

func (v *verifier) fail(format string, args ...any) {
	if len(v.problems) < maxProblems {
		v.problems = append(v.problems, Problem{v.rule, fmt.Sprintf(format, args...)})
	}
}

func (v *verifier) index() {
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

func (v *verifier) names() {
	p := v.p
	if len(p.Programs) == 0 || len(p.Memory) == 0 || len(p.Memory) > maxDevices {
		v.fail("%d programs and %d devices", len(p.Programs), len(p.Memory))
		return
	}
	for name, n := range map[string]int{"tokens": p.Limits.Tokens, "rows": p.Limits.Rows, "sequences": p.Limits.Sequences, "context": p.Limits.Context, "page": p.Limits.Page, "pages": p.Limits.Pages} {
		if n < 1 || n > maxLimit {
			v.fail("limit of %s is %d, not between 1 and %d", name, n, maxLimit)
		}
	}
	v.bucketNames()
	v.residentNames()
	for _, prog := range v.progs {
		v.programNames(prog)
	}
}

// maxDevices and maxLimit bound what a plan may ask for, far above any
// machine, so that sizes computed from it do not overflow.
const (
	maxDevices = 1 << 12
	maxLimit   = 1 << 30
)

func (v *verifier) bucketNames() {
	last := 0
	for _, b := range v.p.Buckets {
		if b.Tokens <= last || !slices.ContainsFunc(v.p.Programs, func(p Program) bool { return p.Name == b.Program }) {
			v.fail("bucket of %d tokens after %d names program %q", b.Tokens, last, b.Program)
		}
		last = b.Tokens
	}
	if last != v.p.Limits.Tokens {
		v.fail("buckets end at %d tokens, steps have up to %d", last, v.p.Limits.Tokens)
	}
}

func (v *verifier) residentNames() {
	seen := make(map[string]bool)
	once := func(kind, name string, device int, r Range) {
		if device < 0 || device >= len(v.p.Memory) || r.Last >= v.p.Model.Layers || r != NoLayers && r.First < 0 {
			v.fail("%s %s is on device %d of %d for layers %q of %d", kind, name, device, len(v.p.Memory), r, v.p.Model.Layers)
			return
		}
		for i := range r.Len() {
			key := fmt.Sprintf("%s %s %d %d", kind, name, device, r.First+i)
			if seen[key] {
				v.fail("%s %s of device %d is given twice for layer %d", kind, name, device, r.First+i)
			}
			seen[key] = true
		}
	}
	for _, w := range v.p.Weights {
		once("weight", w.Name, w.Device, w.Layers)
	}
	for _, c := range v.p.Caches {
		once("cache", c.Name, c.Device, c.Layers)
	}
	for _, c := range v.p.Consts {
		once("const", c.Name, 0, NoLayers)
	}
	for i, m := range v.p.Memory {
		if m.Device != i {
			v.fail("memory account %d is of device %d", i, m.Device)
		}
	}
}

func (v *verifier) programNames(prog *progIndex) {
	if len(prog.blocks) != len(prog.Blocks) || len(prog.shared) != len(prog.Buffers) {
		v.fail("program %s has blocks or buffers of the same name", prog.Name)
	}
	for _, r := range prog.Runs {
		block := prog.blocks[r.Block]
		if block == nil || r.Layers.Last >= v.p.Model.Layers {
			v.fail("run of block %q for layers %q: no such block or layer", r.Block, r.Layers)
			continue
		}
		v.refs(block, r.Layers)
	}
	for _, block := range prog.blocks {
		for key := range block.local {
			if prog.shared[key] != nil {
				v.fail("%s: buffer %s of device %d is also the program's", block.Name, key.name, key.device)
			}
		}
		if len(block.local) != len(block.Buffers) {
			v.fail("%s has buffers of the same name", block.Name)
		}
	}
	for _, o := range prog.Outputs {
		if prog.shared[bufKey{o.Device, o.Buffer}] == nil {
			v.fail("output %s is in buffer %q of device %d, which does not exist", o.Name, o.Buffer, o.Device)
		}
	}
}

// refs checks the names in the steps of a block for all layers of a run.
func (v *verifier) refs(b *blockIndex, layers Range) {
	b.steps(func(q *Queue, at int, s *Step) {
		if OpInfo(s.Op) == nil {
			v.fail("%s: no such op", where(b, q, at, s))
			return
		}
		if s.Out != "" && b.buffer(q.Device, s.Out) == nil {
			v.fail("%s: result goes to %q, which does not exist", where(b, q, at, s), s.Out)
		}
		for _, a := range s.Args {
			if !v.exists(b, a, layers) {
				v.fail("%s: no %s %q on device %d for layers %q", where(b, q, at, s), a.Kind, a.Name, a.Device, layers)
			}
		}
	})
}

func (v *verifier) exists(b *blockIndex, a Ref, layers Range) bool {
	has := func(r Range) bool { return r == NoLayers || layers != NoLayers && r.Has(layers.First) }
	switch a.Kind {
	case BufferRef:
		return b.buffer(a.Device, a.Name) != nil
	case ConstRef:
		return slices.ContainsFunc(v.p.Consts, func(c Const) bool { return c.Name == a.Name })
	case WeightRef:
		for i := range layers.Len() {
			one := Range{layers.First + i, layers.First + i}
			if !slices.ContainsFunc(v.p.Weights, func(w Weight) bool {
				return w.Name == a.Name && w.Device == a.Device && (w.Layers == NoLayers || layers != NoLayers && w.Layers.Has(one.First))
			}) {
				return false
			}
		}
		return true
	case CacheRef:
		return slices.ContainsFunc(v.p.Caches, func(c Cache) bool { return c.Name == a.Name && c.Device == a.Device && has(c.Layers) })
	}
	return false
}

func (v *verifier) devices() {
	n := v.p.Machine.Devices
	if len(v.p.Memory) > n {
		v.fail("the plan uses %d devices, machine %s has %d", len(v.p.Memory), v.p.Machine.Name, n)
	}
	v.blocks(func(b *blockIndex) {
		for _, q := range b.Queues {
			if q.Device < 0 || q.Device >= len(v.p.Memory) {
				v.fail("%s: a queue is on device %d of %d", b.Name, q.Device, len(v.p.Memory))
			}
		}
	})
}

func (v *verifier) finite() {
	bad := func(f float64) bool { return math.IsNaN(f) || math.IsInf(f, 0) }
	for _, c := range v.p.Consts {
		for _, x := range c.Values {
			if bad(float64(x)) {
				v.fail("const %s holds %v", c.Name, x)
			}
		}
	}
	v.blocks(func(b *blockIndex) {
		b.steps(func(q *Queue, at int, s *Step) {
			for _, a := range s.Attrs {
				if f, ok := a.Value.(float64); ok && bad(f) {
					v.fail("%s: %s is %v", where(b, q, at, s), a.Name, f)
				}
			}
		})
	})
}
