package moegen

import (
	"fmt"
	"strings"
)

// settings writes the head of the file.
func (w *writer) settings() {
	m := w.model
	w.line("model random")
	for _, s := range []struct {
		name  string
		value int
	}{{"layers", m.layers}, {"hidden", m.hidden}, {"heads", m.heads}, {"kv_heads", m.kvHeads}, {"head_dim", m.headDim}, {"v_dim", m.valueDim}, {"vocab", m.vocab}} {
		w.line("size %s = %d from %s", s.name, s.value, s.name)
	}
	w.line("real eps = 1e-5 from eps")
	w.line("type act = %s from dtype", m.act)
	w.line("")
	w.when(m.rope != "" || m.latent, "freqs = %s\n", m.freqs)
}

// normed returns a call of the model's norm.
func (w *writer) normed(x, weight string) string {
	if w.model.normBias {
		return fmt.Sprintf("layernorm(%s, %s, %s_bias, eps = eps)", x, weight, weight)
	}
	return fmt.Sprintf("%s(%s, %s, eps = eps)", w.model.norm, x, weight)
}

// normWeights declares the weights of a norm.
func (w *writer) normWeights(indent, name, size, key string) {
	w.line("%sweight %s: [%s] = %q", indent, name, size, key+"_norm.weight")
	w.when(w.model.normBias, "%sweight %s_bias: [%s] = %q", indent, name, size, key+"_norm.bias")
}

// turn returns x, [tokens, heads, head_dim], with its positions.
func (w *writer) turn(x string) string {
	rope := func(x string) string { return fmt.Sprintf("rope(%s, freqs, %q)", x, w.model.style) }
	switch at := w.model.turned; w.model.rope {
	case "full":
		return rope(x)
	case "head": // rope itself leaves the rest of a head alone
		return rope(x)
	case "tail":
		return fmt.Sprintf("concat(%s[:, :, :head_dim - %d], %s)", x, at, rope(fmt.Sprintf("%s[:, :, head_dim - %d:]", x, at)))
	}
	return x
}

// attention writes the attention block.
func (w *writer) attention() {
	m := w.model
	params := ""
	if m.alternate {
		params = ", slides: flag"
	}
	w.line("block attention(x: [tokens, hidden]%s) -> [tokens, hidden] {", params)
	if m.latent {
		w.latent()
	} else {
		w.projections()
	}
	w.line("  weight wo: [hidden, heads*v_dim] = \"o.weight\"")
	w.when(m.outBias, "  weight bo: [hidden] = \"o.bias\"")
	w.when(m.sinks, "  weight sinks: [heads] = \"sinks\"")
	call := "attend(q, k, v, scale = head_dim^-0.5"
	switch {
	case m.alternate:
		call += fmt.Sprintf(", window = %d if slides else none", m.window)
	case m.window > 0:
		call += fmt.Sprintf(", window = %d", m.window)
	}
	if m.scoreCap {
		call += ", softcap = 20.0"
	}
	if m.sinks {
		call += ", sinks = sinks"
	}
	w.line("  y = join(%s))", call)
	if m.gated {
		w.line("  weight wg: [heads*v_dim, hidden] = \"g.weight\"")
		w.line("  y = y * sigmoid(linear(x, wg))")
	}
	w.when(m.outBias, "  return linear(y, wo, bo)\n}\n")
	w.when(!m.outBias, "  return linear(y, wo)\n}\n")
}

// projections writes the usual queries, keys and values.
func (w *writer) projections() {
	m := w.model
	widths := map[string]string{"q": "heads*head_dim", "k": "kv_heads*head_dim", "v": "kv_heads*v_dim"}
	from := "0"
	for _, p := range []string{"q", "k", "v"} {
		width := widths[p]
		source := fmt.Sprintf("%q", p+".weight")
		if m.fusedQKV {
			to := from + " + " + width
			source = fmt.Sprintf("\"qkv.weight\"[%s:%s, :] of [(heads + kv_heads)*head_dim + kv_heads*v_dim, hidden]", from, to)
			from = to
		}
		w.line("  weight w%s: [%s, hidden] = %s", p, width, source)
		call := fmt.Sprintf("linear(x, w%s)", p)
		if m.biased {
			w.line("  weight b%s: [%s] = %q", p, width, p+".bias")
			call = fmt.Sprintf("linear(x, w%s, b%s)", p, p)
		}
		heads := "kv_heads"
		if p == "q" {
			heads = "heads"
		}
		if p == "v" {
			w.when(m.oneKV, "  v = k")
			w.when(!m.oneKV, "  v = split(%s, kv_heads)", call)
			continue
		}
		switch m.qkNorm {
		case "head":
			w.normWeights("  ", p+"n", "head_dim", p)
			call = w.normed(fmt.Sprintf("split(%s, %s)", call, heads), p+"n")
		case "width":
			w.normWeights("  ", p+"n", width, p)
			call = fmt.Sprintf("split(%s, %s)", w.normed(call, p+"n"), heads)
		default:
			call = fmt.Sprintf("split(%s, %s)", call, heads)
		}
		w.line("  %s = %s", p, call)
		w.line("  %s = %s", p, w.turn(p))
	}
}

// latent writes keys and values made of a narrow vector, and a turned part of
// keys that all heads share.
func (w *writer) latent() {
	m := w.model
	rank := w.between(2, 11)
	if w.chance(60) {
		w.line("  weight wqa: [%d, hidden] = \"qa.weight\"", rank+1)
		w.line("  weight wqb: [heads*(head_dim + %d), %d] = \"qb.weight\"", m.turned, rank+1)
		w.normWeights("  ", "qn", fmt.Sprint(rank+1), "q")
		w.line("  q = split(linear(%s, wqb), heads)", w.normed("linear(x, wqa)", "qn"))
	} else {
		w.line("  weight wq: [heads*(head_dim + %d), hidden] = \"q.weight\"", m.turned)
		w.line("  q = split(linear(x, wq), heads)")
	}
	w.line("  q = concat(q[:, :, :head_dim], rope(q[:, :, head_dim:], freqs, %q))", m.style)
	w.line("  weight wa: [%d, hidden] = \"kva.weight\"", rank+m.turned)
	w.normWeights("  ", "kn", fmt.Sprint(rank), "kv")
	w.line("  weight wb: [heads*(head_dim + v_dim), %d] = \"kvb.weight\"", rank)
	w.line("  low = linear(x, wa)")
	w.line("  kv = split(linear(%s, wb), heads)", w.normed(fmt.Sprintf("low[:, :%d]", rank), "kn"))
	w.line("  position = rope(split(low[:, %d:], 1), freqs, %q)", rank, m.style)
	w.line("  k = concat(kv[:, :, :head_dim], broadcast(position, 1, heads))")
	w.line("  v = kv[:, :, head_dim:]")
}

// feed writes a feed-forward part.
func (w *writer) feed(f feed) {
	w.expertFFN(f)
	w.line("block %s(x: [tokens, hidden]) -> [tokens, hidden] {", f.name)
	if f.experts == 0 {
		w.line("  return %s_ffn(x, %d)\n}\n", f.name, f.ffn)
		return
	}
	w.routing(f)
	scope := `"experts.{expert}"`
	if f.layout != "each" {
		scope = `"experts"`
	}
	w.line("  y = route(x, chosen, w) through %s_ffn(%d) at %s", f.name, f.ffn, scope)
	if f.shared > 0 {
		w.line("  shared = %s_ffn(x, %d) at \"shared\"", f.name, f.shared)
		if f.sharedGate {
			w.line("  weight shared_gate: [1, hidden] = \"shared_gate.weight\"")
			w.line("  shared = sigmoid(linear(x, shared_gate)) * shared")
		}
		w.line("  return y + shared\n}\n")
		return
	}
	w.line("  return y\n}\n")
}

// routing writes which experts are chosen and what they weigh.
func (w *writer) routing(f feed) {
	r := f.router
	w.line("  weight router: [%d, hidden] = \"router.weight\"", f.experts)
	call := "linear(x, router)"
	if r.bias {
		w.line("  weight router_bias: [%d] = \"router.bias\"", f.experts)
		call = "linear(x, router, router_bias)"
	}
	w.line("  scores = %s", call)
	by := map[string]string{"softmax": "softmax(scores)", "sigmoid": "sigmoid(scores)", "chosen": "scores"}[r.score]
	w.line("  p: f32 = %s", by)
	what := "p"
	if r.selection {
		w.line("  weight correction: f32 [%d] = \"correction\"", f.experts)
		what = "p + correction"
	}
	groups := ""
	if r.groups > 0 {
		groups = fmt.Sprintf(", groups = %d, top_groups = %d, group_score = %q", r.groups, r.top, r.groupScore)
	}
	w.line("  chosen = topk(%s, %d%s)", what, f.topK, groups)
	w.line("  w: f32 = gather(p, chosen)")
	switch {
	case r.score == "chosen":
		w.line("  w: f32 = softmax(w)")
	case r.renormalise:
		w.line("  w: f32 = w / (sum(w) + 1e-20)")
	}
	w.when(r.scale != 1, "  w = w * %g", r.scale)
}

// sources returns where the tensors of a feed-forward part are stored; the
// last of each serves the shared expert or a dense part.
func (f feed) sources() map[string]string {
	src := map[string]string{"gate": `"gate.weight"`, "up": `"up.weight"`, "both": `"both.weight"`, "down": `"down.weight"`}
	stored := fmt.Sprintf("of [%d, 2*width, hidden]", f.experts)
	across := fmt.Sprintf("of [%d, hidden, 2*width] transposed", f.experts)
	stacked := map[string]map[string]string{
		"stacked": {"gate": `"gates"[expert, :, :]`, "up": `"ups"[expert, :, :]`, "both": `"boths"[expert, :, :]`, "down": `"downs"[expert, :, :]`},
		"fused": {"gate": `"gate_up"[expert, :width, :] ` + stored, "up": `"gate_up"[expert, width:, :] ` + stored,
			"both": `"boths"[expert, :, :]`, "down": `"downs"[expert, :, :] transposed`},
		"turned": {"gate": `"gate_up"[expert, :, :width] ` + across, "up": `"gate_up"[expert, :, width:] ` + across,
			"both": `"boths"[expert, :, :] transposed`, "down": `"downs"[expert, :, :]`},
		"woven": {"gate": `"gate_up"[expert, :, 0::2] ` + across, "up": `"gate_up"[expert, :, 1::2] ` + across,
			"both": `"boths"[expert, :, :] transposed`, "down": `"downs"[expert, :, :] transposed`},
	}
	for name, first := range stacked[f.layout] {
		src[name] = first + " | " + src[name]
	}
	return src
}

// expertFFN writes what an expert, the shared expert and a dense part compute.
func (w *writer) expertFFN(f feed) {
	w.line("block %s_ffn(x: [tokens, hidden], width: size) -> [tokens, hidden] {", f.name)
	src := f.sources()
	project := func(name, from, to, size string) {
		w.line("  weight %s: [%s, %s] = %s", name, size, to, src[name])
		if !f.biased {
			w.line("  %s_out = linear(%s, %s)", name, from, name)
			return
		}
		source := fmt.Sprintf("%q", name+".bias")
		if f.layout != "" && f.layout != "each" {
			source = fmt.Sprintf("%q[expert, :] | %s", name+"_biases", source)
		}
		w.line("  weight b_%s: [%s] = %s", name, size, source)
		w.line("  %s_out = linear(%s, %s, b_%s)", name, from, name, name)
	}
	for _, name := range inner[f.shape].weights {
		size := "width"
		if name == "both" {
			size = "2*width"
		}
		project(name, "x", "hidden", size)
	}
	for _, line := range inner[f.shape].lines {
		w.line("  %s", strings.ReplaceAll(line, "act(", f.activation+"("))
	}
	if f.normed {
		w.normWeights("  ", "inner", "width", "inner")
		w.line("  h = %s", w.normed("h", "inner"))
	}
	project("down", "h", "width", "hidden")
	w.line("  return down_out\n}\n")
}

// inner are the ways from the first projections to what the last one reads;
// act stands for the activation.
var inner = map[string]struct{ weights, lines []string }{
	"gated":   {[]string{"gate", "up"}, []string{"h = act(gate_out) * up_out"}},
	"clamped": {[]string{"gate", "up"}, []string{"h = (clamp(up_out, -2.0, 2.0) + 1) * clamp(gate_out, high = 2.0) * act(1.702 * gate_out)"}},
	"plain":   {[]string{"up"}, []string{"h = act(up_out)"}},
	"squared": {[]string{"up"}, []string{"r = act(up_out)", "h = r * r"}},
	"halves":  {[]string{"both"}, []string{"h = act(both_out[:, :width]) * both_out[:, width:]"}},
	"pairs":   {[]string{"both"}, []string{"h = both_out[:, 0::2] * act(both_out[:, 1::2])"}},
}

// body writes the model itself.
func (w *writer) body() {
	m := w.model
	w.line("weight embedding: [vocab, hidden] = \"embedding.weight\"")
	w.line("x = embed(embedding)%s", times(m.embedScale))
	w.line("for layer in layers at \"layers.{layer}\" {")
	w.normWeights("  ", "n1", "hidden", "first")
	args := ""
	if m.alternate {
		args = ", layer % 2 == 0"
	}
	w.line("  h = %s", w.normed("x", "n1"))
	w.line("  a = attention(h%s) at \"attention\"", args)
	w.when(m.twice, "  a = a - attention(a%s) at \"attention2\"", args)
	w.when(m.hybrid, "  a = a if layer %% 2 == 0 else h")
	switch {
	case m.afterNorms && m.bareNorms:
		w.line("  a = %s(a, eps = eps)", m.norm)
	case m.afterNorms:
		w.normWeights("  ", "n3", "hidden", "third")
		w.line("  a = %s", w.normed("a", "n3"))
	}
	if m.parallel {
		w.call("  ", "h")
		w.line("  x = x + a%s + f", times(m.blockScale))
	} else {
		w.line("  x = x + a%s", times(m.blockScale))
		w.normWeights("  ", "n2", "hidden", "second")
		w.line("  h = %s", w.normed("x", "n2"))
		w.call("  ", "h")
		w.line("  x = x + f%s", times(m.blockScale))
	}
	w.line("}")
	w.head()
}

// call writes the feed-forward part of a layer.
func (w *writer) call(indent, x string) {
	if len(w.model.feeds) == 1 {
		w.line("%sf = moe(%s) at \"feed\"", indent, x)
		return
	}
	if w.model.which == "" {
		w.line("%sf = moe(%s) at \"feed\"", indent, x)
		w.line("%sf = f + other(%s) at \"feed2\"", indent, x)
		return
	}
	w.line("%sif %s {", indent, w.model.which)
	w.line("%s  f = moe(%s) at \"feed\"", indent, x)
	w.line("%s} else {", indent)
	w.line("%s  f = other(%s) at \"feed\"", indent, x)
	w.line("%s}", indent)
}

// head writes how logits are made.
func (w *writer) head() {
	m := w.model
	if m.finalNorm {
		w.normWeights("", "last", "hidden", "last")
		w.line("x = %s", w.normed("x", "last"))
	}
	matrix := "embedding"
	if !m.tied {
		matrix = "unembed"
		w.line("weight unembed: [vocab, hidden] = \"head.weight\"")
	}
	bias := ""
	if m.headBias {
		w.line("weight head_bias: [vocab] = \"head.bias\"")
		bias = ", head_bias"
	}
	logits := fmt.Sprintf("linear(x, %s%s)", matrix, bias)
	if m.logitScale != 1 {
		logits += fmt.Sprintf(" / %g", m.logitScale)
	}
	if m.softcap {
		logits = fmt.Sprintf("30 * tanh(%s / 30)", logits)
	}
	w.line("output logits = %s", logits)
}

// times returns a multiplication, or nothing for 1.
func times(scale float64) string {
	if scale == 1 {
		return ""
	}
	return fmt.Sprintf(" * %g", scale)
}
