package plan

import (
	"cmp"
	"fmt"
	"slices"

	"moec/ir/tensor"
)

// StepSize is a kind of step that a picture counts bytes for.
type StepSize struct {
	Sequences, Tokens, Rows int // rows of logits that are wanted
}

// StepOf returns the step of so many tokens: a decode step, with a token and
// its logits for each sequence, if the plan has room for as many sequences;
// else a prompt, whose last logits are wanted.
func (p *Plan) StepOf(tokens int) (StepSize, error) {
	switch {
	case tokens < 1:
		return StepSize{}, fmt.Errorf("%d tokens: need 1 or more", tokens)
	case tokens > p.Limits.Tokens:
		return StepSize{}, fmt.Errorf("%d tokens: a step of the plan has up to %d; ask for less, or compile with more --tokens", tokens, p.Limits.Tokens)
	case tokens <= min(p.Limits.Sequences, p.Limits.Rows):
		return StepSize{tokens, tokens, tokens}, nil
	}
	return StepSize{1, tokens, 1}, nil
}

// String says what kind of step it is.
func (s StepSize) String() string {
	switch {
	case s.Tokens == 1:
		return "a decode step of 1 token"
	case s.Tokens == s.Sequences:
		return fmt.Sprintf("a decode step of %d tokens", s.Tokens)
	}
	return fmt.Sprintf("a prompt of %d tokens", s.Tokens)
}

// bounds gives every symbol its value; sequences are dealt out to token groups
// in turn.
func (s StepSize) bounds(groups int) tensor.Bounds {
	return func(sym tensor.Sym) int {
		n := s.Tokens
		if sym.Base() == tensor.Rows {
			n = s.Rows
		}
		g := sym.Group()
		if g < 0 {
			return n
		}
		return n / s.Sequences * ((s.Sequences - g + groups - 1) / groups)
	}
}

// Flow is what one device receives from another in a step, in all exchanges of
// a kind.
type Flow struct {
	Op       string // "all_reduce", "all_gather" or "transfer"
	From, To int    // devices
	Bytes    int64
}

// Flows lists what crosses between devices in a step, by op, From and To.
// Bytes are those of the operands that each member of an exchange reads of
// other devices.
func (p *Plan) Flows(s StepSize) []Flow {
	prog := p.programFor(s.Tokens)
	if prog == nil {
		return nil
	}
	bounds, sum := s.bounds(p.groups()), make(map[Flow]int64)
	for _, r := range prog.Runs {
		i := slices.IndexFunc(prog.Blocks, func(b Block) bool { return b.Name == r.Block })
		if i < 0 {
			continue
		}
		for _, f := range blockFlows(prog, &prog.Blocks[i], bounds) {
			sum[Flow{Op: f.Op, From: f.From, To: f.To}] += f.Bytes * int64(r.Layers.Len())
		}
	}
	var list []Flow
	for f, bytes := range sum {
		f.Bytes = bytes
		list = append(list, f)
	}
	slices.SortFunc(list, func(a, b Flow) int {
		return cmp.Or(slices.Index(exchangeOps, a.Op)-slices.Index(exchangeOps, b.Op), a.From-b.From, a.To-b.To)
	})
	return list
}

// programFor returns the program that runs steps of so many tokens, nil if
// there is none.
func (p *Plan) programFor(tokens int) *Program {
	for _, b := range p.Buckets {
		if b.Tokens < tokens {
			continue
		}
		if i := slices.IndexFunc(p.Programs, func(g Program) bool { return g.Name == b.Program }); i >= 0 {
			return &p.Programs[i]
		}
	}
	return nil
}

// channelFlow is a flow of one channel of a block.
type channelFlow struct {
	channel int
	Flow
}

// blockFlows lists what crosses in one turn of a block, operand by operand.
func blockFlows(prog *Program, b *Block, bounds tensor.Bounds) []channelFlow {
	types := make(map[bufKey]tensor.Type)
	for _, buf := range slices.Concat(prog.Buffers, b.Buffers) {
		types[bufKey{buf.Device, buf.Name}] = buf.Type
	}
	var list []channelFlow
	for _, q := range b.Queues {
		for i := range q.Steps {
			st := &q.Steps[i]
			if !st.collective() || st.Op == "send" {
				continue
			}
			for _, a := range st.Args {
				t := a.Type
				if t.DType == tensor.Invalid {
					t = types[bufKey{a.Device, a.Name}]
				}
				if n := t.Bytes(bounds); a.Device != q.Device && n > 0 {
					list = append(list, channelFlow{st.channel(), Flow{st.Op, a.Device, q.Device, n}})
				}
			}
		}
	}
	return list
}
