package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"moec/runtime/checkpoint"
	"moec/runtime/generate"
	"moec/runtime/sample"
	"moec/runtime/tokenizer"
)

// promptFlags say what to continue and how.
type promptFlags struct {
	prompts     []string
	ids         []string
	tokens      int
	maxTokens   int
	temperature float64
	topK        int
	topP        float64
	seed        uint64
	stop        []string
	ignoreStop  bool
	chat        bool
	system      string
}

func (f *promptFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.StringArrayVarP(&f.prompts, "prompt", "p", nil, "`TEXT` to continue; several run as one batch")
	fs.StringArrayVar(&f.ids, "prompt-ids", nil, "token `IDS` to continue, with commas between; several run as one batch")
	fs.IntVar(&f.tokens, "prompt-tokens", 0, "continue this many made-up tokens")
	fs.IntVarP(&f.maxTokens, "max-tokens", "n", 128, "tokens to make for each prompt")
	fs.Float64Var(&f.temperature, "temperature", 0, "0 takes the most probable token, 1 draws by the model's probabilities (default: what the checkpoint's generation_config.json says, else 0)")
	fs.IntVar(&f.topK, "top-k", 0, "draw from the k most probable tokens, 0 from all (default: what the checkpoint says, else 0)")
	fs.Float64Var(&f.topP, "top-p", 1, "draw from the fewest tokens that reach this probability, unless the checkpoint says otherwise")
	fs.Uint64Var(&f.seed, "seed", 0, "seed of the random numbers, which also depend on prompt and position")
	fs.StringArrayVar(&f.stop, "stop", nil, "end where this `TEXT` begins; may be given several times")
	fs.BoolVar(&f.ignoreStop, "ignore-eos", false, "go on past the model's stop tokens")
	fs.BoolVar(&f.chat, "chat", false, "put each prompt into the model's chat template, as a user's message")
	fs.StringVar(&f.system, "system", "", "with --chat: a system message `TEXT` before it")
}

// model is what a checkpoint directory brings besides weights.
type model struct {
	dir       string
	tokens    *tokenizer.Tokenizer // nil without tokenizer.json
	generates checkpoint.Generation
}

// requests makes one request for each prompt.
func (f *promptFlags) requests(c *cobra.Command, m *model, vocab int) ([]generate.Request, error) {
	var list [][]int
	for _, text := range f.prompts {
		ids, err := f.encode(m, text)
		if err != nil {
			return nil, err
		}
		list = append(list, ids)
	}
	for _, text := range f.ids {
		ids, err := parseIDs(text, vocab)
		if err != nil {
			return nil, err
		}
		list = append(list, ids)
	}
	if f.tokens > 0 {
		list = append(list, madeUp(f.tokens, vocab))
	}
	if len(list) == 0 {
		return nil, failf(exitUsage, "no prompt: give --prompt, --prompt-ids or --prompt-tokens")
	}
	params := f.sampling(c, m)
	if err := params.Check(); err != nil {
		return nil, fail(exitUsage, err)
	}
	var out []generate.Request
	for _, ids := range list {
		r := generate.Request{Prompt: ids, MaxTokens: f.maxTokens, Sampling: params, StopStrings: f.stop}
		if m.tokens != nil {
			r.Text = m.tokens.NewStream(true)
		}
		if !f.ignoreStop {
			r.Stop = m.generates.EOS
		}
		out = append(out, r)
	}
	return out, nil
}

// sampling takes what the command line says, else what the model's
// generation_config.json says if that draws tokens.
func (f *promptFlags) sampling(c *cobra.Command, m *model) sample.Params {
	p := sample.Params{Temperature: f.temperature, TopK: f.topK, TopP: f.topP, Seed: f.seed}
	g := m.generates
	if c.Flags().Changed("temperature") || !g.DoSample {
		return p
	}
	if p.Temperature = 1; g.Temperature > 0 {
		p.Temperature = g.Temperature
	}
	if !c.Flags().Changed("top-k") && g.TopK > 0 {
		p.TopK = g.TopK
	}
	if !c.Flags().Changed("top-p") && g.TopP > 0 {
		p.TopP = g.TopP
	}
	return p
}

func (f *promptFlags) encode(m *model, text string) ([]int, error) {
	if m.tokens == nil {
		return nil, failf(exitCheckpoint, "a text prompt needs a tokenizer: %s has no tokenizer.json; give --prompt-ids instead", m.where())
	}
	special := true
	if f.chat {
		rendered, err := f.render(m, text)
		if err != nil {
			return nil, err
		}
		text, special = rendered, false // the template writes its own
	}
	ids, err := m.tokens.Encode(text, special)
	if err != nil {
		return nil, fail(exitUsage, err)
	}
	if len(ids) == 0 {
		return nil, failf(exitUsage, "prompt %q has no tokens; give at least one character", text)
	}
	return ids, nil
}

func (m *model) where() string {
	if m.dir == "" {
		return "a run without a checkpoint"
	}
	return m.dir
}

func parseIDs(text string, vocab int) ([]int, error) {
	var ids []int
	for _, part := range strings.Split(text, ",") {
		id, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return nil, failf(exitUsage, "prompt ids %q: %q is not a number", text, part)
		}
		if id < 0 || id >= vocab {
			return nil, failf(exitUsage, "token id %d is outside the vocabulary of %d", id, vocab)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// madeUp returns n token ids that are spread over the vocabulary.
func madeUp(n, vocab int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = int(uint64(i+1) * 0x9e3779b97f4a7c15 >> 33 % uint64(vocab))
	}
	return ids
}

// speed prints tokens for each second.
func speed(tokens int, seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", float64(tokens)/seconds)
}
