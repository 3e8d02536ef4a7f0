package plan

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Show writes a plan for people: what it is for, who holds what, and the
// steps of each block, one a line.
func Show(w io.Writer, p *Plan, steps bool) error {
	s := &shower{w: w}
	s.head(p)
	s.placement(p)
	s.memory(p)
	for i := range p.Programs {
		s.program(&p.Programs[i], steps)
	}
	return s.err
}

type shower struct {
	w   io.Writer
	err error
}

func (s *shower) line(format string, args ...any) {
	if s.err == nil {
		_, s.err = fmt.Fprintf(s.w, format+"\n", args...)
	}
}

func (s *shower) head(p *Plan) {
	m := p.Model
	s.line("model      %s, %s parameters, %s a token, %d layers, vocabulary %d", m.Name, Count(m.Params), Count(m.Active), m.Layers, m.Vocab)
	s.line("           hash %.16s", m.Hash)
	for _, b := range m.Bindings {
		from := b.From
		if from != "" {
			from = "  (" + from + ")"
		}
		s.line("           %s = %s%s", b.Name, b.Value, from)
	}
	s.line("machine    %s: %d of %d devices of %s", p.Machine.Name, len(p.Memory), p.Machine.Devices, Bytes(p.Machine.Memory))
	s.line("numerics   %s, %d segments", p.Numerics.Mode, p.Numerics.Segments)
	l := p.Limits
	s.line("limits     %d tokens and %d logits rows a step, %d sequences of %d positions, %d KV pages of %d", l.Tokens, l.Rows, l.Sequences, l.Context, l.Pages, l.Page)
	if n := len(p.Buckets); n > 0 {
		s.line("buckets    %d to %d tokens, %d sizes", p.Buckets[0].Tokens, p.Buckets[n-1].Tokens, n)
	}
}

// placement says, for each run of layers that are placed the same, which
// devices hold what.
func (s *shower) placement(p *Plan) {
	s.line("strategy   %s", p.Placement.Strategy)
	for _, r := range p.LayerRuns() {
		s.line("  layers %-6s %s", r.Range, r.Text)
	}
}

func (s *shower) memory(p *Plan) {
	for _, m := range p.Memory {
		s.line("device %-3d %s of %s: weights %s, KV %s, buffers %s", m.Device, Bytes(m.Total), Bytes(m.Budget), Bytes(m.Weights), Bytes(m.Caches), Bytes(m.Buffers+m.Consts))
	}
}

func (s *shower) program(p *Program, steps bool) {
	var runs []string
	for _, r := range p.Runs {
		text := r.Block
		if r.Layers != NoLayers {
			text += " for layers " + r.Layers.String()
		}
		runs = append(runs, text)
	}
	s.line("program %s: %s", p.Name, strings.Join(runs, ", "))
	if !steps {
		return
	}
	for i := range p.Blocks {
		s.block(p, &p.Blocks[i])
	}
}

func (s *shower) block(p *Program, b *Block) {
	types := make(map[bufKey]string)
	for _, buf := range slices.Concat(p.Buffers, b.Buffers) {
		types[bufKey{buf.Device, buf.Name}] = buf.Type.String()
	}
	for _, q := range b.Queues {
		s.line("%s, device %d", b.Name, q.Device)
		for i := range q.Steps {
			s.step(&q, i, types)
		}
	}
}

func (s *shower) step(q *Queue, at int, types map[bufKey]string) {
	st := &q.Steps[at]
	s.line("  %3d  %s", at, stepText(q.Device, st, types))
	for i := range st.Body {
		s.line("         . %s", stepText(q.Device, &st.Body[i], types))
	}
}

// stepText is one step on one line.
func stepText(device int, st *Step, types map[bufKey]string) string {
	var t strings.Builder
	if st.Out != "" {
		t.WriteString(st.Out)
		if typ := types[bufKey{device, st.Out}]; typ != "" {
			t.WriteString(" " + typ)
		}
		t.WriteString(" = ")
	}
	t.WriteString(st.Op + "(")
	for i, a := range st.Args {
		if i > 0 {
			t.WriteString(", ")
		}
		t.WriteString(a.text(device))
	}
	t.WriteString(")")
	for _, a := range st.Attrs {
		value, err := writeAttr(a.Value)
		if err != nil {
			value = []byte(err.Error())
		}
		fmt.Fprintf(&t, " %s=%s", a.Name, value)
	}
	return t.String()
}

// LayerRun is a run of layers that are placed the same way.
type LayerRun struct {
	Range Range
	Text  string
}

// LayerRuns folds the placement of layers.
func (p *Plan) LayerRuns() []LayerRun {
	var runs []LayerRun
	for i, l := range p.Placement.Layers {
		text := placeText(l.Groups, l.Attention, l.Dense, l.Experts)
		if n := len(runs); n > 0 && runs[n-1].Text == text {
			runs[n-1].Range.Last = i
			continue
		}
		runs = append(runs, LayerRun{Range{i, i}, text})
	}
	return runs
}

// Bytes prints a size in decimal units, as memories are sold.
func Bytes(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}

// Count prints a number of parameters.
func Count(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.1f B", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f M", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.1f k", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}
