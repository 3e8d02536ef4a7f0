package routing

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// SampleTokens is how many tokens a recorder keeps one by one: the first.
const SampleTokens = 1024

// Recorder adds up the choices of a run's tokens and writes a trace.
type Recorder struct {
	shapes  []Shape
	tokens  int64
	skipped int64
	layers  []recorded
	sample  []sampled
}

// recorded is the counts of one layer with experts.
type recorded struct {
	Shape
	layer  int
	counts []int64
	pairs  [][]int64
	next   [][]int64 // nil in the last one
}

type sampled struct {
	id      int32
	experts [][]uint16 // by layer with experts
}

// NewRecorder returns a recorder for a model.
func NewRecorder(shapes []Shape) (*Recorder, error) {
	if err := checkShapes(shapes); err != nil {
		return nil, err
	}
	r := &Recorder{shapes: shapes}
	for l, sh := range shapes {
		if sh.Experts == 0 {
			continue
		}
		if n := len(r.layers); n > 0 {
			r.layers[n-1].next = square(r.layers[n-1].Experts, sh.Experts)
		}
		r.layers = append(r.layers, recorded{Shape: sh, layer: l, counts: make([]int64, sh.Experts), pairs: square(sh.Experts, sh.Experts)})
	}
	if len(r.layers) == 0 {
		return nil, fmt.Errorf("none of the model's %d layers chooses among experts: there is nothing to record", len(shapes))
	}
	return r, nil
}

func square(rows, columns int) [][]int64 {
	all := make([]int64, rows*columns)
	out := make([][]int64, rows)
	for i := range out {
		out[i] = all[i*columns : (i+1)*columns]
	}
	return out
}

// Tokens returns how many tokens were added, and how many of those given were
// left out because a layer did not choose for them.
func (r *Recorder) Tokens() (added, skipped int64) { return r.tokens, r.skipped }

// Add counts the tokens of a step: ids[t] is a token, chosen[l][t*Slots+s] the
// expert of its slot s in layer l, best first; -1 in all slots where the layer
// did not choose for it.
func (r *Recorder) Add(ids []int32, chosen [][]int32) error {
	if len(chosen) != len(r.shapes) {
		return fmt.Errorf("internal error: choices of %d layers, the model has %d", len(chosen), len(r.shapes))
	}
	for i := range r.layers {
		l := &r.layers[i]
		if have, need := len(chosen[l.layer]), len(ids)*l.Slots; have != need {
			return fmt.Errorf("internal error: layer %d: %d choices for %d tokens, need %d", l.layer, have, len(ids), need)
		}
		for _, e := range chosen[l.layer] {
			if e < -1 || int(e) >= l.Experts {
				return fmt.Errorf("internal error: layer %d: expert %d of %d", l.layer, e, l.Experts)
			}
		}
	}
	for t, id := range ids {
		r.token(t, id, chosen)
	}
	return nil
}

// token counts one token.
func (r *Recorder) token(t int, id int32, chosen [][]int32) {
	at := func(i int) []int32 {
		l := &r.layers[i]
		return chosen[l.layer][t*l.Slots : (t+1)*l.Slots]
	}
	for i := range r.layers {
		if at(i)[0] < 0 {
			r.skipped++
			return
		}
	}
	r.tokens++
	for i := range r.layers {
		l := &r.layers[i]
		for _, e := range at(i) {
			l.counts[e]++
			for _, f := range at(i) {
				if e != f {
					l.pairs[e][f]++
				}
			}
			if l.next != nil {
				for _, f := range at(i + 1) {
					l.next[e][f]++
				}
			}
		}
	}
	if len(r.sample) < SampleTokens {
		s := sampled{id: id}
		for i := range r.layers {
			var list []uint16
			for _, e := range at(i) {
				list = append(list, uint16(e))
			}
			s.experts = append(s.experts, list)
		}
		r.sample = append(r.sample, s)
	}
}

// about explains the file to people who open it.
const about = "Experts chosen in a run. counts[e]: tokens that chose e. co_activation[e][f]: tokens that chose both. transitions[l][e][f]: tokens that chose e in layer l of those with experts and f in the next. sample: the first tokens one by one, experts[layer] best first."

// Write writes the trace. The same counts always give the same text.
func (r *Recorder) Write(to io.Writer) error {
	if r.tokens == 0 {
		return fmt.Errorf("no token was routed in all layers with experts: there is nothing to write")
	}
	w := &writer{Writer: bufio.NewWriter(to)}
	first := r.layers[0].Shape
	w.text("{\n \"about\": %s,\n \"experts\": %d,\n \"top_k\": %d,\n \"layers\": %d,\n \"tokens\": %d,\n \"per_layer\": [", compact(about), first.Experts, first.Slots, len(r.layers), r.tokens)
	for i := range r.layers {
		l := &r.layers[i]
		w.text("%s\n {\n", comma(i))
		if l.Shape != first {
			w.text("  \"experts\": %d,\n  \"top_k\": %d,\n", l.Experts, l.Slots)
		}
		w.text("  \"counts\": %s,\n  \"co_activation\": %s}", compact(l.counts), compact(l.pairs))
	}
	w.text("],\n \"transitions\": [")
	for i := range r.layers[:len(r.layers)-1] {
		w.text("%s\n  %s", comma(i), compact(r.layers[i].next))
	}
	w.text("],\n \"sample\": [")
	for i, s := range r.sample {
		w.text("%s\n  {\"id\": %d, \"experts\": %s}", comma(i), s.id, compact(s.experts))
	}
	w.text("]\n}\n")
	return w.Flush()
}

// writer keeps the first error, as bufio does, so that calls need not.
type writer struct{ *bufio.Writer }

func (w *writer) text(format string, args ...any) { fmt.Fprintf(w, format, args...) }

func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

func compact(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("internal error: routing: " + err.Error())
	}
	return text
}
