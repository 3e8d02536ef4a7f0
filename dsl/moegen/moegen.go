// Package moegen writes random model descriptions, to test with programs that
// nobody thought of.
//
// A seed goes in, the text of a valid .moe file comes out: one to four layers
// of attention and feed-forward parts, dense or of 2 to 64 experts, with odd
// sizes and any mixture of the features that published models have. The same
// seed always gives the same text. The package never reads or builds a
// description.
package moegen

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Program returns the description of a seed.
func Program(seed uint64) string {
	w := &writer{rng: rand.New(rand.NewPCG(seed, 0x6d6f6567656e))}
	w.model = w.draw()
	w.settings()
	w.attention()
	for _, f := range w.model.feeds {
		w.feed(f)
	}
	w.body()
	return w.text.String()
}

// writer writes one description.
type writer struct {
	rng   *rand.Rand
	text  strings.Builder
	model model
}

// line writes a line.
func (w *writer) line(format string, args ...any) {
	fmt.Fprintf(&w.text, format+"\n", args...)
}

// when writes a line if there is a reason to.
func (w *writer) when(ok bool, format string, args ...any) {
	if ok {
		w.line(format, args...)
	}
}

// chance is true that often, in percent.
func (w *writer) chance(percent int) bool { return w.rng.IntN(100) < percent }

// between returns a number from lo to hi.
func (w *writer) between(lo, hi int) int { return lo + w.rng.IntN(hi-lo+1) }

// pick returns one of a list.
func pick[T any](w *writer, list ...T) T { return list[w.rng.IntN(len(list))] }

// model is what a description says, decided before a word of it is written.
type model struct {
	layers, hidden, heads, kvHeads, headDim, valueDim, vocab int

	act        string
	norm       string // a call without its first operand: "rmsnorm(%s, n, 1e-05)"
	normBias   bool
	afterNorms bool // norms of what a block returns
	bareNorms  bool // norms of what a block returns have no weights
	parallel   bool // attention and feed-forward part read the same norm
	hybrid     bool // only every other layer has attention
	twice      bool // two attentions in a layer
	tied       bool
	headBias   bool
	finalNorm  bool

	embedScale, blockScale, logitScale float64 // 1: none
	softcap                            bool    // of logits

	latent    bool
	rope      string // "", "full", "head", "tail": which entries of a head turn
	turned    int
	freqs     string
	style     string
	qkNorm    string // "", "head", "width"
	biased    bool
	outBias   bool
	sinks     bool
	scoreCap  bool
	gated     bool
	fusedQKV  bool
	oneKV     bool // keys are values, too
	window    int  // 0: none
	alternate bool

	feeds []feed
	which string // condition under which a layer has the first of two feeds; "" for both
}

// feed is a feed-forward part: experts, or dense.
type feed struct {
	name           string
	experts, topK  int // experts is 0 for a dense part
	ffn            int
	shape          string // see inner
	activation     string
	biased, normed bool
	layout         string // of the experts' tensors
	router         router
	shared         int // features of the shared expert, 0: there is none
	sharedGate     bool
}

// router says how experts are chosen and weighed.
type router struct {
	score       string // "softmax", "chosen", "sigmoid"
	bias        bool   // of the router
	selection   bool   // a bias that only counts for the choice
	groups, top int    // groups is 0 without groups
	groupScore  string
	renormalise bool
	scale       float64
}

// draw decides everything.
func (w *writer) draw() model {
	m := model{layers: w.between(1, 4), hidden: w.between(5, 33), kvHeads: w.between(1, 4), vocab: w.between(5, 50)}
	m.heads = m.kvHeads * pick(w, 1, 1, 2, 3, 4)
	m.headDim = w.between(2, 9)
	m.valueDim = m.headDim
	if w.chance(20) {
		m.valueDim = w.between(1, 9)
	}
	m.act = pick(w, "f32", "f32", "bf16", "bf16", "f16")
	m.norm = pick(w, "rmsnorm", "rmsnorm", "layernorm")
	m.normBias = m.norm == "layernorm" && w.chance(50)
	m.afterNorms, m.bareNorms, m.parallel = w.chance(15), w.chance(50), w.chance(15)
	m.hybrid, m.twice = w.chance(6), w.chance(6)
	m.tied, m.headBias, m.finalNorm = w.chance(30), w.chance(15), w.chance(90)
	m.embedScale = pick(w, 1, 1, 1, 12.0, 0.5)
	m.blockScale = pick(w, 1, 1, 1, 0.22)
	m.logitScale = pick(w, 1, 1, 1, 8.0)
	m.softcap = w.chance(10)
	w.drawAttention(&m)
	m.feeds = []feed{w.drawFeed("moe", w.chance(85))}
	if m.layers > 1 && w.chance(50) {
		m.feeds = append(m.feeds, w.drawFeed("other", w.chance(35)))
		m.which = pick(w, "", "layer < 1", "layer % 2 == 0", fmt.Sprintf("layer in [%d]", w.between(0, m.layers-1)), "(layer + 1) % 2 == 0")
	}
	return m
}

func (w *writer) drawAttention(m *model) {
	m.latent = w.chance(20)
	m.rope = pick(w, "", "full", "full", "full", "head", "tail")
	m.turned = 2 * w.between(1, m.headDim/2)
	if m.rope == "full" && !m.latent {
		m.headDim = m.turned
		if w.chance(50) {
			m.valueDim = m.headDim
		}
	}
	if m.turned == m.headDim && m.rope != "" {
		m.rope = "full"
	}
	m.freqs = pick(w, "rope_freqs(%g, %d)", "rope_freqs(%g, %d)", "rope_freqs(%g, %d, factor = 4.0)",
		"rope_freqs_llama3(%g, %d, 8.0, 1.0, 4.0, 64.0)", "rope_freqs_yarn(%g, %d, 4.0, 16.0)")
	m.freqs = fmt.Sprintf(m.freqs, pick(w, 1e4, 1e6, 100.0), m.turned)
	m.style = pick(w, "half", "interleaved")
	m.qkNorm = pick(w, "", "", "head", "width")
	m.biased, m.outBias, m.sinks = w.chance(25), w.chance(25), w.chance(20)
	m.scoreCap, m.gated, m.fusedQKV = w.chance(10), w.chance(15), w.chance(15)
	m.oneKV = m.valueDim == m.headDim && w.chance(8)
	if w.chance(35) {
		m.window, m.alternate = w.between(1, 7), w.chance(50)
	}
}

func (w *writer) drawFeed(name string, routed bool) feed {
	f := feed{name: name, ffn: w.between(1, 30), shape: pick(w, "gated", "gated", "gated", "clamped", "plain", "squared", "halves", "pairs")}
	f.activation = pick(w, "silu", "silu", "gelu", "gelu_tanh", "relu", "sigmoid", "tanh", "softplus")
	f.biased, f.normed = w.chance(20), w.chance(8)
	if !routed {
		return f
	}
	f.experts = pick(w, w.between(2, 8), w.between(2, 8), w.between(2, 16), w.between(2, 64))
	f.topK = w.between(1, min(4, f.experts))
	f.layout = pick(w, "each", "each", "stacked", "fused", "turned", "woven")
	if w.chance(35) {
		f.shared, f.sharedGate = w.between(1, 30), w.chance(50)
	}
	r := router{score: pick(w, "softmax", "softmax", "chosen", "sigmoid"), bias: w.chance(15), renormalise: w.chance(50), scale: pick(w, 1, 1, 2.5)}
	r.selection = r.score == "sigmoid" && w.chance(70)
	if w.chance(30) {
		r.groups = w.divisor(f.experts)
		r.top = w.between(1, r.groups)
		r.groupScore = "max"
		if f.experts/r.groups >= 2 && w.chance(50) {
			r.groupScore = "top2sum"
		}
		f.topK = min(f.topK, f.experts/r.groups*r.top)
	}
	f.router = r
	return f
}

// divisor returns a divisor of n.
func (w *writer) divisor(n int) int {
	var list []int
	for d := 1; d <= n; d++ {
		if n%d == 0 {
			list = append(list, d)
		}
	}
	return pick(w, list...)
}
