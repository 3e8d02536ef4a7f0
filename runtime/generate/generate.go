// Package generate turns prompts into text with a loaded plan.
//
// Sequences share steps: one step holds a token of every sequence that is
// being continued, and chunks of prompts up to the plan's limit. What a
// sequence gets never depends on the others.
package generate

import (
	"context"
	"fmt"
	"slices"
	"time"

	"moec/planner/plan"
	"moec/runtime/kv"
	"moec/runtime/sample"
	"moec/runtime/step"
)

// Program executes steps; see runtime.Program.
type Program interface {
	Step(ctx context.Context, s *step.Step) ([][]float32, error)
}

// Request is one sequence to continue.
type Request struct {
	Prompt    []int
	MaxTokens int
	Sampling  sample.Params
	Stop      []int // token ids that end the sequence
	// Text turns tokens into text as they come; nil leaves Event.Text empty.
	Text Text
	// StopStrings end the sequence where they begin in its text.
	StopStrings []string
}

// Text decodes a sequence token by token. What Add returns never ends in the
// middle of a character; Flush returns what was held back.
type Text interface {
	Add(id int) string
	Flush() string
}

// Reason says why a sequence ended.
type Reason string

// The reasons.
const (
	StopToken  Reason = "stop token"
	StopString Reason = "stop string"
	MaxTokens  Reason = "token limit"
	FullCache  Reason = "context full"
)

// Event is something that happened to a sequence.
type Event struct {
	Sequence int    `json:"sequence"`
	Token    int    `json:"token"`
	Text     string `json:"text"`
	Done     Reason `json:"done,omitempty"` // set with the last event, whose Token is -1
}

// Stats counts what was done.
type Stats struct {
	Steps         int           `json:"steps"`
	PromptTokens  int           `json:"prompt_tokens"`
	NewTokens     int           `json:"new_tokens"`
	PromptTime    time.Duration `json:"prompt_ns"`      // of steps with any prompt tokens
	DecodeTime    time.Duration `json:"decode_ns"`      // of the others
	DecodedTokens int           `json:"decoded_tokens"` // in DecodeTime
}

// sequence is a request being worked on.
type sequence struct {
	*Request
	index int // of the request
	group int
	slot  int32
	pages []int32
	done  int   // positions in the cache
	queue []int // tokens not yet in the cache
	made  int
	hold  holder
}

// Engine schedules requests on a program.
type Engine struct {
	program Program
	limits  plan.Limits
	groups  []*group
	all     bool // ask for the logits of every token
	apart   int  // see Apart
}

// Apart is a program that executes given tokens by other kernels than generated
// ones, so that a sequence's bits would depend on its company if a step had both.
type Apart interface {
	Program
	// Apart returns how many generated tokens a step may have at most, or 0 if
	// steps may have tokens of both kinds.
	Apart() int
}

// group is the state of one token group.
type group struct {
	pages  *kv.Pages
	slots  []int32 // free
	active []*sequence
}

// New returns an engine for a plan's program.
func New(program Program, p *plan.Plan) *Engine {
	e := &Engine{program: program, limits: p.Limits}
	if a, ok := program.(Apart); ok {
		e.apart = a.Apart()
	}
	for range Groups(p) {
		g := &group{pages: kv.New(p.Limits.Pages)}
		for s := range p.Limits.Sequences {
			g.slots = append(g.slots, int32(p.Limits.Sequences-1-s))
		}
		e.groups = append(e.groups, g)
	}
	return e
}

// ComputeAll makes every layer work on every token. Else a plan leaves out what
// only the logits of prompt tokens need, which nobody reads: in the last layer
// the experts choose and work for the last token of a prompt alone. Prompts
// then run in smaller chunks.
func (e *Engine) ComputeAll() { e.all = true }

// Groups returns how many token groups a plan has.
func Groups(p *plan.Plan) int {
	n := 1
	for _, o := range p.Programs[0].Outputs {
		n = max(n, o.Group+1)
	}
	return n
}

// Run continues all requests and reports tokens as they come.
func (e *Engine) Run(ctx context.Context, requests []Request, emit func(Event)) (Stats, error) {
	var stats Stats
	waiting, err := e.accept(requests)
	if err != nil {
		return stats, err
	}
	for {
		waiting = e.admit(waiting)
		n := e.decodes()
		s, rows := e.step()
		if rows == nil {
			return stats, nil
		}
		if ahead, ok := e.program.(Ahead); ok && n > 1 {
			if ok, err := e.goOn(ctx, ahead, s, rows[0], n, &stats, emit); ok || err != nil {
				if err != nil {
					return stats, err
				}
				continue
			}
		}
		prompt := s.promptTokens
		begin := time.Now()
		logits, err := e.program.Step(ctx, &s.Step)
		if err != nil {
			return stats, err
		}
		e.account(&stats, s, prompt, time.Since(begin))
		e.advance(rows, logits, &stats, emit)
	}
}

// account adds a step to the statistics.
func (e *Engine) account(stats *Stats, s *ragged, prompt int, d time.Duration) {
	stats.Steps++
	stats.PromptTokens += prompt
	if prompt > 0 {
		stats.PromptTime += d
		return
	}
	stats.DecodeTime += d
	for _, g := range s.Groups {
		stats.DecodedTokens += len(g.Tokens)
	}
}

// accept checks requests and gives each its group, in turn.
func (e *Engine) accept(requests []Request) ([]*sequence, error) {
	var list []*sequence
	for i := range requests {
		r := &requests[i]
		switch {
		case len(r.Prompt) == 0:
			return nil, fmt.Errorf("prompt %d is empty: it needs at least one token", i)
		case len(r.Prompt) >= e.limits.Context:
			return nil, fmt.Errorf("prompt %d has %d tokens, the plan has a context of %d; compile with a larger --context", i, len(r.Prompt), e.limits.Context)
		}
		if need := kv.For(min(len(r.Prompt)+r.MaxTokens, e.limits.Context), e.limits.Page); need > e.limits.Pages {
			return nil, fmt.Errorf("prompt %d may need %d KV pages, the plan has %d; compile with a larger --context or --sequences", i, need, e.limits.Pages)
		}
		if err := r.Sampling.Check(); err != nil {
			return nil, err
		}
		if r.MaxTokens < 1 {
			continue
		}
		list = append(list, &sequence{Request: r, index: i, group: i % len(e.groups), queue: r.Prompt, hold: holder{text: r.Text, stops: r.StopStrings}})
	}
	return list, nil
}

// admit starts waiting sequences while their group has a slot and pages for
// all that they may grow to.
func (e *Engine) admit(waiting []*sequence) []*sequence {
	var left []*sequence
	for _, s := range waiting {
		g := e.groups[s.group]
		need := kv.For(min(len(s.Prompt)+s.MaxTokens, e.limits.Context), e.limits.Page)
		if len(g.slots) == 0 || need > g.pages.Free() {
			left = append(left, s)
			continue
		}
		s.pages, _ = g.pages.Take(need)
		s.slot = g.slots[len(g.slots)-1]
		g.slots = g.slots[:len(g.slots)-1]
		g.active = append(g.active, s)
	}
	return left
}

// ragged is a step in the making.
type ragged struct {
	step.Step
	promptTokens, tokens int
	room, wanted         int // tokens and rows that may be added
}

// step fills a step: first a token of every sequence that is being continued,
// then prompts in order; or, if those must be apart, prompts alone as long as
// there are any. It returns, for each row of logits that each group asks for, the
// sequence that continues with it, nil if none does; and no groups when there is
// nothing to do.
func (e *Engine) step() (*ragged, [][]*sequence) {
	r := &ragged{Step: step.Step{Groups: make([]step.Group, len(e.groups))}, room: e.limits.Tokens, wanted: e.limits.Rows}
	rows := make([][]*sequence, len(e.groups))
	if e.apart == 0 {
		e.fill(r, rows, false)
		e.fill(r, rows, true)
	} else if e.fill(r, rows, true); r.tokens > 0 {
		r.Prompt = true
	} else {
		r.room = min(r.room, e.apart)
		e.fill(r, rows, false)
		e.rotate(rows)
	}
	if r.tokens == 0 {
		return r, nil
	}
	for i, g := range e.groups {
		r.Groups[i].Pages = make([][]int32, e.limits.Sequences)
		for _, s := range g.active {
			r.Groups[i].Pages[s.slot] = s.pages
		}
	}
	return r, rows
}

// fill adds tokens of prompts, or of sequences that are being continued, as far
// as there is room.
func (e *Engine) fill(r *ragged, rows [][]*sequence, prompts bool) {
	for i, g := range e.groups {
		for _, s := range g.active {
			if prompts != (len(s.queue) > 1 || s.made == 0) || r.room == 0 || r.wanted == 0 {
				continue
			}
			n := min(len(s.queue), r.room)
			if e.all {
				n = min(n, r.wanted)
			}
			r.add(i, s, n)
			if prompts {
				r.promptTokens += n
			}
			r.room -= n
			r.tokens += n
			asked := r.ask(i, s, n, e.all)
			rows[i] = append(rows[i], asked...)
			r.wanted -= len(asked)
			s.queue = s.queue[n:]
			s.done += n
		}
	}
}

// rotate puts sequences that were left out of a step before those in it.
func (e *Engine) rotate(rows [][]*sequence) {
	for i, g := range e.groups {
		if len(rows[i]) < len(g.active) {
			left := slices.DeleteFunc(slices.Clone(g.active), func(s *sequence) bool { return slices.Contains(rows[i], s) })
			g.active = append(left, rows[i]...)
		}
	}
}

// add puts the next n tokens of a sequence into a group.
func (r *ragged) add(i int, s *sequence, n int) {
	g := &r.Groups[i]
	for k := range n {
		g.Tokens = append(g.Tokens, int32(s.queue[k]))
		g.Positions = append(g.Positions, int32(s.done+k))
		g.Sequences = append(g.Sequences, s.slot)
	}
}

// ask asks for the logits of the token that ends the queue of a sequence, if
// it is among the n added last, or of all n. It returns, for each of these,
// the sequence if it continues there.
func (r *ragged) ask(i int, s *sequence, n int, all bool) []*sequence {
	var list []*sequence
	g := &r.Groups[i]
	for k := range n {
		switch {
		case k == len(s.queue)-1:
			list = append(list, s)
		case all:
			list = append(list, nil)
		default:
			continue
		}
		g.Rows = append(g.Rows, int32(len(g.Tokens)-n+k))
	}
	return list
}

// advance chooses the next token of every sequence that got logits, in the
// order of requests, whatever their groups.
func (e *Engine) advance(rows [][]*sequence, logits [][]float32, stats *Stats, emit func(Event)) {
	type wanted struct {
		*sequence
		logits []float32
	}
	var all []wanted
	for i, list := range rows {
		for r, s := range list {
			if s == nil {
				continue
			}
			vocab := len(logits[i]) / len(list)
			all = append(all, wanted{s, logits[i][r*vocab : (r+1)*vocab]})
		}
	}
	slices.SortFunc(all, func(a, b wanted) int { return a.index - b.index })
	for _, w := range all {
		e.take(w.sequence, w.Sampling.Next(w.logits, w.index, w.done), stats, emit)
	}
	for _, g := range e.groups {
		g.active = e.retire(g)
	}
}

// take gives a sequence its next token.
func (e *Engine) take(s *sequence, token int, stats *Stats, emit func(Event)) {
	for _, id := range s.Stop {
		if id == token {
			e.finish(s, StopToken, emit)
			return
		}
	}
	s.made++
	stats.NewTokens++
	text, stopped := s.hold.add(token)
	emit(Event{Sequence: s.index, Token: token, Text: text})
	switch {
	case stopped:
		e.finish(s, StopString, emit)
	case s.made >= s.MaxTokens:
		e.finish(s, MaxTokens, emit)
	case s.done >= e.limits.Context:
		e.finish(s, FullCache, emit)
	default:
		s.queue = []int{token}
	}
}

// finish reports the end of a sequence; retire takes its pages back.
func (e *Engine) finish(s *sequence, why Reason, emit func(Event)) {
	text := ""
	if why != StopString {
		text = s.hold.flush()
	}
	emit(Event{Sequence: s.index, Token: -1, Text: text, Done: why})
	s.queue = nil
	s.made = -1
}

// retire returns the sequences that go on.
func (e *Engine) retire(g *group) []*sequence {
	var active []*sequence
	for _, s := range g.active {
		if s.made >= 0 {
			active = append(active, s)
			continue
		}
		g.pages.Give(s.pages)
		g.slots = append(g.slots, s.slot)
	}
	return active
}
