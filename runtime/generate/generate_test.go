package generate

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"moec/planner/plan"
	"moec/runtime/sample"
	"moec/runtime/step"
)

const vocab = 50

// fake is a program whose next token is a function of the whole sequence, as
// far as it was stored page by page: it finds out whether steps are fed in
// order and pages are kept apart.
type fake struct {
	t       *testing.T
	limit   plan.Limits
	cache   map[string]int32 // group, page, offset to token
	steps   int
	most    int     // tokens of the largest step
	rows    int     // of all steps
	count   int     // tokens of all steps
	prompts []int32 // their lengths, by sequence slot, for those who look
}

func (f *fake) Step(_ context.Context, s *step.Step) ([][]float32, error) {
	l := f.limit
	if err := s.Check(step.Limits{Tokens: l.Tokens, Rows: l.Rows, Sequences: l.Sequences, Context: l.Context, Page: l.Page, Pages: l.Pages, Vocab: vocab}); err != nil {
		f.t.Fatal(err)
	}
	f.steps++
	total := 0
	out := make([][]float32, len(s.Groups))
	for i, g := range s.Groups {
		total += len(g.Tokens)
		f.rows += len(g.Rows)
		f.count += len(g.Tokens)
		at := func(seq int32, pos int) string {
			return fmt.Sprint(i, g.Pages[seq][pos/l.Page], pos%l.Page)
		}
		for k, tok := range g.Tokens {
			f.cache[at(g.Sequences[k], int(g.Positions[k]))] = tok
		}
		for _, r := range g.Rows {
			h := uint32(17)
			for pos := range int(g.Positions[r]) + 1 {
				h = h*31 + uint32(f.cache[at(g.Sequences[r], pos)])
			}
			row := make([]float32, vocab)
			row[h%vocab] = 3
			row[(h/7)%vocab] += 2
			out[i] = append(out[i], row...)
		}
	}
	f.most = max(f.most, total)
	return out, nil
}

func testPlan(groups int) *plan.Plan {
	p := &plan.Plan{Limits: plan.Limits{Tokens: 8, Rows: 4, Sequences: 3, Context: 32, Page: 4, Pages: 12}}
	p.Programs = []plan.Program{{}}
	for g := range groups {
		p.Programs[0].Outputs = append(p.Programs[0].Outputs, plan.Output{Name: "logits", Group: g})
	}
	return p
}

// runAll returns the tokens and text of each request.
func runAll(t *testing.T, groups int, requests []Request) ([][]int, []string, []Reason, Stats, *fake) {
	t.Helper()
	p := testPlan(groups)
	f := &fake{t: t, limit: p.Limits, cache: map[string]int32{}}
	tokens, texts, done := make([][]int, len(requests)), make([]string, len(requests)), make([]Reason, len(requests))
	stats, err := New(f, p).Run(context.Background(), requests, func(e Event) {
		texts[e.Sequence] += e.Text
		if e.Done != "" {
			done[e.Sequence] = e.Done
			return
		}
		tokens[e.Sequence] = append(tokens[e.Sequence], e.Token)
	})
	if err != nil {
		t.Fatal(err)
	}
	return tokens, texts, done, stats, f
}

func prompt(n, seed int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = (seed*13 + i*7) % vocab
	}
	return p
}

// TestCompanyChangesNothing runs more sequences than there are slots, of all
// lengths, and each alone.
func TestCompanyChangesNothing(t *testing.T) {
	var all []Request
	for i, n := range []int{1, 19, 4, 7, 2, 11, 3, 25} {
		all = append(all, Request{Prompt: prompt(n, i), MaxTokens: 3 + i, Sampling: sample.Params{Temperature: 1, Seed: 5}})
	}
	for _, groups := range []int{1, 2, 3} {
		together, _, _, stats, f := runAll(t, groups, all)
		if f.most > 8 || stats.NewTokens == 0 {
			t.Errorf("%d groups: a step had %d tokens", groups, f.most)
		}
		for i := range all {
			alone := make([]Request, i+1)
			copy(alone, all[:i+1])
			for j := range i { // others with nothing to do keep the number of the sequence
				alone[j].MaxTokens = 0
			}
			tokens, _, done, _, _ := runAll(t, groups, alone)
			if fmt.Sprint(tokens[i]) != fmt.Sprint(together[i]) {
				t.Errorf("%d groups: sequence %d: alone %v, together %v", groups, i, tokens[i], together[i])
			}
			if len(tokens[i]) != all[i].MaxTokens && done[i] != FullCache {
				t.Errorf("sequence %d has %d tokens, want %d (%s)", i, len(tokens[i]), all[i].MaxTokens, done[i])
			}
		}
	}
}

// apart is a fake that must not be given tokens of prompts beside others, nor
// more than two of the latter.
type apart struct{ *fake }

func (apart) Apart() int { return 2 }

func (a apart) Step(ctx context.Context, s *step.Step) ([][]float32, error) {
	total := 0
	for _, g := range s.Groups {
		total += len(g.Tokens)
		for k, pos := range g.Positions {
			if given := pos < a.prompts[g.Sequences[k]]; given != s.Prompt {
				a.t.Errorf("a token at %d, given %t, in a step of given tokens %t", pos, given, s.Prompt)
			}
		}
	}
	if !s.Prompt && total > a.Apart() {
		a.t.Errorf("%d generated tokens in a step", total)
	}
	return a.fake.Step(ctx, s)
}

// TestApart runs more sequences than a step of generated tokens may have: each
// gets the tokens that it gets when steps are mixed, and all go on in turn.
func TestApart(t *testing.T) {
	var all []Request
	for i, n := range []int{9, 4, 7} {
		all = append(all, Request{Prompt: prompt(n, i), MaxTokens: 6})
	}
	want, _, _, _, _ := runAll(t, 1, all)
	p := testPlan(1)
	f := &fake{t: t, limit: p.Limits, cache: map[string]int32{}, prompts: []int32{9, 4, 7}}
	have := make([][]int, len(all))
	ahead := 0
	if _, err := New(apart{f}, p).Run(context.Background(), all, func(e Event) {
		if e.Done != "" {
			return
		}
		have[e.Sequence] = append(have[e.Sequence], e.Token)
		for _, list := range have {
			ahead = max(ahead, len(have[e.Sequence])-len(list))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(have) != fmt.Sprint(want) {
		t.Errorf("tokens %v, want %v", have, want)
	}
	if ahead > 3 {
		t.Errorf("a sequence is %d tokens ahead of another", ahead)
	}
}

// TestComputeAll asks for the logits of every token, and gets the same tokens.
func TestComputeAll(t *testing.T) {
	var all []Request
	for i, n := range []int{1, 19, 4, 7} {
		all = append(all, Request{Prompt: prompt(n, i), MaxTokens: 3 + i})
	}
	for _, groups := range []int{1, 2} {
		want, _, _, _, few := runAll(t, groups, all)
		p := testPlan(groups)
		f := &fake{t: t, limit: p.Limits, cache: map[string]int32{}}
		have := make([][]int, len(all))
		e := New(f, p)
		e.ComputeAll()
		stats, err := e.Run(context.Background(), all, func(e Event) {
			if e.Done == "" {
				have[e.Sequence] = append(have[e.Sequence], e.Token)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(have) != fmt.Sprint(want) {
			t.Errorf("%d groups: tokens %v, want %v", groups, have, want)
		}
		if f.rows != f.count || f.count != few.count || few.rows >= few.count || stats.PromptTokens != 31 {
			t.Errorf("%d groups: %d of %d tokens have logits, before %d of %d; %d prompt tokens", groups, f.rows, f.count, few.rows, few.count, stats.PromptTokens)
		}
	}
}

// letters decodes token n as the n-th letter.
type letters struct{}

func (letters) Add(id int) string { return string(rune('a' + id%26)) }
func (letters) Flush() string     { return "" }

func TestStops(t *testing.T) {
	base := Request{Prompt: prompt(5, 1), MaxTokens: 12, Text: letters{}}
	tokens, texts, done, _, _ := runAll(t, 1, []Request{base})
	if done[0] != MaxTokens || len(texts[0]) != 12 {
		t.Fatalf("%q ended by %s", texts[0], done[0])
	}
	full := texts[0]

	stop := base
	stop.Stop = []int{tokens[0][4]}
	cut, _, done, _, _ := runAll(t, 1, []Request{stop})
	if n := len(cut[0]); done[0] != StopToken || n > 4 {
		t.Errorf("stop token: %d tokens, ended by %s", n, done[0])
	}

	text := base
	text.StopStrings = []string{"no such text", full[6:9]}
	_, texts, done, _, _ = runAll(t, 1, []Request{text})
	if want := full[:strings.Index(full, full[6:9])]; texts[0] != want || done[0] != StopString {
		t.Errorf("stop string %q of %q: got %q, ended by %s, want %q", full[6:9], full, texts[0], done[0], want)
	}

	near := base
	near.StopStrings = []string{full[10:] + "?"}
	_, texts, done, _, _ = runAll(t, 1, []Request{near})
	if texts[0] != full || done[0] != MaxTokens {
		t.Errorf("text %q that only begins a stop string was not given back: %q", full, texts[0])
	}
}

func TestRefusals(t *testing.T) {
	for name, r := range map[string]Request{
		"empty":    {MaxTokens: 1},
		"long":     {Prompt: prompt(32, 0), MaxTokens: 1},
		"sampling": {Prompt: prompt(2, 0), MaxTokens: 1, Sampling: sample.Params{Temperature: -1}},
	} {
		p := testPlan(1)
		if _, err := New(&fake{t: t, limit: p.Limits}, p).Run(context.Background(), []Request{r}, func(Event) {}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
