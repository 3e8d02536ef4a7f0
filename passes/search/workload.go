package search

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"moec/ir/cost"
)

// Workload says what a placement should be fast for: kinds of steps, and how
// many of each there are for one of the others.
type Workload struct {
	Name  string `json:"name"`
	Doc   string `json:"doc,omitempty"`
	Steps []Step `json:"steps"`
	// Prompts is how many prompts the prompt steps work through, one after the
	// other: each takes the same part of their counts. 0 is one prompt.
	Prompts int64 `json:"prompts,omitempty"`
	// FirstToken and PerToken are limits in ps, or 0: on the prompt steps of one
	// prompt together, and on each decode step of the workload. They apply to
	// what ranks: the mean over the sampled batches, or the quantile.
	FirstToken int64 `json:"first_token_ps,omitempty"`
	PerToken   int64 `json:"per_token_ps,omitempty"`
	// Quantile, in parts of a thousand, ranks placements by a quantile over
	// the sampled batches; 0 ranks by the mean.
	Quantile int `json:"quantile,omitempty"`
}

// Step is a kind of step and its number.
type Step struct {
	cost.Load
	Count int64 `json:"count"`
}

// Prompt reports whether the step works on a prompt, not on one token a
// sequence.
func (s Step) Prompt() bool { return s.Tokens > s.Sequences }

// decode is a decode step of a batch with 1,024 positions each, the middle of
// a conversation of 2,048.
func decode(batch int, count int64) Step {
	return Step{cost.Load{Sequences: batch, Tokens: batch, Rows: batch, Context: 1024}, count}
}

// prefill is a prompt, in chunks of at most the tokens of a step. Each chunk is
// priced with half of the prompt as its context.
func prefill(prompt, chunk int, count int64) Step {
	chunk = min(prompt, chunk)
	n := int64((prompt + chunk - 1) / chunk)
	return Step{cost.Load{Sequences: 1, Tokens: chunk, Rows: 1, Context: (prompt + 1) / 2}, n * count}
}

// Preset is a workload that has a name.
type Preset struct {
	Name, Doc string
	prompts   int64 // that the prompt steps work through, if not one
	steps     func(chunk int) []Step
}

// Presets is the table of workloads. The first is the default.
var Presets = [...]Preset{
	{"mixed", "a prompt of 2,048 tokens and, for each, 64 decode steps of 1, of 8 and of 64 sequences", 0, func(chunk int) []Step {
		return []Step{decode(1, 64), decode(8, 64), decode(64, 64), prefill(2048, chunk, 1)}
	}},
	{"latency", "decode steps of one sequence", 0, func(int) []Step { return []Step{decode(1, 1)} }},
	{"throughput", "decode steps of 64 sequences", 0, func(int) []Step { return []Step{decode(64, 1)} }},
	{"prefill", "prompts of 2,048 tokens", 0, func(chunk int) []Step { return []Step{prefill(2048, chunk, 1)} }},
	{"chat", "a prompt of 512 tokens, then 256 decode steps of 8 sequences", 8, func(chunk int) []Step {
		return []Step{decode(8, 256), prefill(512, chunk, 8)}
	}},
}

// WorkloadError says what is wrong with a workload.
type WorkloadError struct{ Name, What, Need, Have, Remedy string }

// Error implements error on one line.
func (e *WorkloadError) Error() string {
	s := "workload " + e.Name + ": " + e.What
	if e.Need != "" {
		s += ": need " + e.Need + ", have " + e.Have
	}
	return s + "; " + e.Remedy
}

// Decode returns the workload of decode steps of one batch.
func Decode(batch int) Workload {
	return Workload{Name: fmt.Sprintf("batch %d", batch), Steps: []Step{decode(batch, 1)}}
}

// Prefill returns the workload of prompts.
func Prefill(prompt, chunk int) Workload {
	return Workload{Name: fmt.Sprintf("prefill %d", prompt), Steps: []Step{prefill(prompt, chunk, 1)}}
}

// maxWorkload bounds a workload file, and maxSteps its list.
const (
	maxWorkload = 1 << 20
	maxSteps    = 64
)

// ParseWorkload returns a workload: a preset by name ("" is the default),
// "batch N", "prefill N", or the one in a JSON file. Prompts are worked on in
// chunks of at most that many tokens.
func ParseWorkload(spec string, chunk int) (Workload, error) {
	if spec == "" {
		spec = Presets[0].Name
	}
	var names []string
	for _, p := range Presets {
		if p.Name == spec {
			return Workload{Name: p.Name, Doc: p.Doc, Steps: p.steps(chunk), Prompts: p.prompts}, nil
		}
		names = append(names, p.Name)
	}
	var n int
	if _, err := fmt.Sscanf(spec, "batch%d", &n); err == nil && n > 0 && n <= 1<<16 {
		return Decode(n), nil
	}
	if _, err := fmt.Sscanf(spec, "prefill%d", &n); err == nil && n > 0 && n <= 1<<24 {
		return Prefill(n, chunk), nil
	}
	if !strings.ContainsAny(spec, "./") {
		return Workload{}, &WorkloadError{Name: spec, What: "is unknown", Remedy: "name one of " + strings.Join(names, ", ") + ", batchN, prefillN, or a JSON file"}
	}
	return readWorkload(spec)
}

func readWorkload(file string) (Workload, error) {
	info, err := os.Stat(file)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxWorkload) {
		return Workload{}, &WorkloadError{Name: file, What: "is not a workload", Remedy: "name a JSON file of at most 1 MB"}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return Workload{}, &WorkloadError{Name: file, What: "cannot be read", Remedy: "name a preset or a file that can be"}
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	w := Workload{Name: file}
	if err := d.Decode(&w); err != nil {
		return Workload{}, &WorkloadError{Name: file, What: err.Error(), Remedy: `write {"steps": [{"sequences": 8, "tokens": 8, "rows": 8, "context": 1024, "count": 1}]}`}
	}
	return w, w.Check()
}

// Check reports what is wrong with a workload.
func (w Workload) Check() error {
	bad := func(what, need, have string) error {
		return &WorkloadError{Name: w.Name, What: what, Need: need, Have: have, Remedy: "correct the workload"}
	}
	if len(w.Steps) == 0 || len(w.Steps) > maxSteps {
		return bad("steps", fmt.Sprintf("1 to %d", maxSteps), fmt.Sprint(len(w.Steps)))
	}
	if w.Quantile < 0 || w.Quantile > 1000 {
		return bad("quantile", "0 to 1000 parts of a thousand", fmt.Sprint(w.Quantile))
	}
	for i, s := range w.Steps {
		at := fmt.Sprintf("step %d", i)
		switch {
		case s.Sequences < 1 || s.Sequences > 1<<16:
			return bad(at+", sequences", "1 to 65536", fmt.Sprint(s.Sequences))
		case s.Tokens < s.Sequences || s.Tokens > 1<<24 || s.Tokens%s.Sequences != 0:
			return bad(at+", tokens", fmt.Sprintf("a multiple of %d sequences, at most %d", s.Sequences, 1<<24), fmt.Sprint(s.Tokens))
		case s.Rows < s.Sequences || s.Rows > s.Tokens || s.Rows%s.Sequences != 0:
			return bad(at+", rows", fmt.Sprintf("a multiple of %d sequences, at most %d", s.Sequences, s.Tokens), fmt.Sprint(s.Rows))
		case s.Context < 1 || s.Context > 1<<24:
			return bad(at+", context", "1 to 16777216", fmt.Sprint(s.Context))
		case s.Count < 1 || s.Count > 1<<20:
			return bad(at+", count", "1 to 1048576", fmt.Sprint(s.Count))
		}
	}
	return w.checkLimits(bad)
}

// Loads lists the kinds of steps, each once.
func (w Workload) Loads() []cost.Load {
	var list []cost.Load
	for _, s := range w.Steps {
		if !slices.Contains(list, s.Load) {
			list = append(list, s.Load)
		}
	}
	return list
}
