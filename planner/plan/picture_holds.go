package plan

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir/dot"
	"moec/ir/placement"
)

// barWidth is the width of a bar of memory, in points.
const barWidth = 150

// holds is the table of a box: memory, shares of attention, experts.
func (o *overview) holds(b *box) [][]dot.Cell {
	rows := append([][]dot.Cell{{{Text: b.String(), Colour: dot.Accent(b.at), Strong: true}}}, o.memory(b)...)
	for _, t := range o.runs(func(l int) string { return attentionShare(&o.plan.Placement, l, b) }) {
		if t.Text != "" {
			rows = append(rows, []dot.Cell{{Text: t.Text + inLayers(t, o.plan.Model.Layers), Left: true}})
		}
	}
	list := o.runs(func(l int) string { return fmt.Sprint(o.held(b, l)) })
	for i, r := range list {
		held := o.held(b, r.Range.First)
		switch {
		case len(held) == 0:
		case i >= maxShares && len(list) > maxShares+1:
			rows = append(rows, []dot.Cell{{Text: fmt.Sprintf("and others in %d more runs of layers", len(list)-i), Left: true}})
			return rows
		default:
			rows = append(rows, []dot.Cell{{Text: expertsHeld(held) + inLayers(r, o.plan.Model.Layers), Left: true, Strong: true}},
				[]dot.Cell{{Inner: chipsOf(held, b, o.plan.Placement.Segments)}})
		}
	}
	return rows
}

// inLayers says in which layers something is, if it is not in all.
func inLayers(r LayerRun, layers int) string {
	switch {
	case r.Range.Len() == layers:
		return ""
	case r.Range.Len() == 1:
		return " in layer " + r.Range.String()
	}
	return " in layers " + r.Range.String()
}

// runs folds layers of which the same is said.
func (o *overview) runs(text func(layer int) string) []LayerRun {
	var runs []LayerRun
	for l := range o.plan.Placement.Layers {
		t := text(l)
		if n := len(runs); n > 0 && runs[n-1].Text == t {
			runs[n-1].Range.Last = l
			continue
		}
		runs = append(runs, LayerRun{Range{l, l}, t})
	}
	return runs
}

// memory is what is taken of the fullest device of a box, as a bar and in
// numbers.
func (o *overview) memory(b *box) [][]dot.Cell {
	m := b.fullest()
	var bar []dot.Cell
	part := func(bytes int64, c dot.Colour) {
		if w := int(barWidth * bytes / max(1, m.Budget)); w > 0 {
			bar = append(bar, dot.Cell{Width: w, Height: 8, Colour: c})
		}
	}
	part(m.Weights, dot.Accent(b.at))
	part(m.Caches, "#808080")
	part(m.Buffers+m.Consts, "#b0b0b0")
	part(max(0, m.Budget-m.Total), "#eeeeee")
	text := fmt.Sprintf("%s of %s", Bytes(m.Total), Bytes(m.Budget))
	if len(b.devices) > 1 {
		text = "up to " + text + " each"
	}
	rows := [][]dot.Cell{{{Text: text + fmt.Sprintf("\nweights %s, KV %s,\nbuffers %s", Bytes(m.Weights), Bytes(m.Caches), Bytes(m.Buffers+m.Consts)), Left: true}}}
	if len(bar) > 0 {
		rows = append(rows, []dot.Cell{{Inner: [][]dot.Cell{bar}}})
	}
	return rows
}

// attentionShare says which part of the attention of a layer a box has.
func attentionShare(p *placement.Placement, layer int, b *box) string {
	splits := p.Layers[layer].Attention
	var parts []string
	var groups []int
	for g, split := range splits {
		have := 0
		for _, s := range split {
			if b.has(s.Device) {
				have = min(p.Segments, have+s.Hi-s.Lo)
			}
		}
		if have == 0 {
			continue
		}
		text := "attention"
		if have < p.Segments {
			text = fraction(have, p.Segments) + " of attention"
		}
		groups = append(groups, g)
		if !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
	}
	text := strings.Join(parts, ", ")
	if len(splits) > 1 && len(groups) > 0 {
		text += fmt.Sprintf(", token %s %s", plural(len(groups), "group"), dot.Numbers(groups))
	}
	return text
}

// fraction prints a/b in lowest terms.
func fraction(a, b int) string {
	x, y := a, b
	for y > 0 {
		x, y = y, x%y
	}
	return fmt.Sprintf("%d/%d", a/max(1, x), b/max(1, x))
}

// heldExpert is what a box has of an expert: whole copies, of so many, and
// segments of copies that others have the rest of.
type heldExpert struct {
	expert, copies, of, segments int
}

// held lists the experts of a layer that a box has a part of.
func (o *overview) held(b *box, layer int) []heldExpert {
	var list []heldExpert
	p := &o.plan.Placement
	for e, expert := range p.Layers[layer].Experts {
		h := heldExpert{expert: e, of: len(expert)}
		for _, copied := range expert {
			have := 0
			for _, s := range copied {
				if b.has(s.Device) {
					have += s.Hi - s.Lo
				}
			}
			if have == p.Segments {
				h.copies++
			} else {
				h.segments += have
			}
		}
		if h.copies+h.segments > 0 {
			list = append(list, h)
		}
	}
	return list
}

// expertsHeld counts experts.
func expertsHeld(held []heldExpert) string {
	var parts, copies int
	for _, h := range held {
		if h.copies == 0 {
			parts++
		}
		if h.of > 1 {
			copies++
		}
	}
	text := count(len(held), "expert")
	if parts == len(held) {
		text = "part of " + text
	} else if parts > 0 {
		text += fmt.Sprintf(", %d in part", parts)
	}
	if copies > 0 {
		text += fmt.Sprintf(", %d with copies", copies)
	}
	return text
}

func count(n int, what string) string { return fmt.Sprintf("%d %s", n, plural(n, what)) }

func plural(n int, what string) string {
	if n == 1 {
		return what
	}
	return what + "s"
}

// mark says how a box has an expert, "" for the whole of the only copy.
func (h heldExpert) mark(segments int) string {
	var parts []string
	if h.copies > 0 && h.of > 1 {
		parts = append(parts, fmt.Sprintf("%d of %d copies", h.copies, h.of))
	}
	if h.segments > 0 {
		parts = append(parts, fraction(h.segments, segments))
	}
	return strings.Join(parts, ", ")
}

// maxHeld is how many cells a box has for the experts of a layer, chipRow how
// many of them stand beside each other, and homeRow how many homes do.
const (
	maxHeld = 16
	chipRow = 4
	homeRow = 16
)

// chipsOf draws the experts that a box has: a cell for each, or for runs of
// them.
func chipsOf(held []heldExpert, b *box, segments int) [][]dot.Cell {
	type run struct {
		first, last int
		mark        string
	}
	var list []run
	merge := len(held) > maxHeld || slices.ContainsFunc(held, func(h heldExpert) bool { return h.segments > 0 })
	for _, h := range held {
		mark := h.mark(segments)
		if n := len(list); merge && n > 0 && list[n-1].last == h.expert-1 && list[n-1].mark == mark {
			list[n-1].last = h.expert
			continue
		}
		list = append(list, run{h.expert, h.expert, mark})
	}
	left := 0
	if len(list) > maxHeld {
		left = len(list) - maxHeld + 1
		list = list[:maxHeld-1]
	}
	var cells []dot.Cell
	for _, r := range list {
		text := Range{r.first, r.last}.String()
		if r.mark != "" {
			text += "\n" + r.mark
		}
		cells = append(cells, dot.Cell{Text: text, Colour: dot.Accent(b.at)})
	}
	if left > 0 {
		cells = append(cells, dot.Cell{Text: fmt.Sprintf("and %d\nmore", left)})
	}
	return slices.Collect(slices.Chunk(cells, chipRow))
}

// homes is a table of which device holds which expert, nil for a model
// without.
func (o *overview) homes() [][]dot.Cell {
	layers := o.plan.Placement.Layers
	runs := o.runs(func(l int) string { return expertsText(layers[l].Experts) })
	runs = slices.DeleteFunc(runs, func(r LayerRun) bool { return r.Text == "" })
	if len(runs) == 0 {
		return nil
	}
	var rows [][]dot.Cell
	for i, r := range runs {
		if i == maxRuns-1 && len(runs) > maxRuns {
			rows = append(rows, []dot.Cell{{Text: fmt.Sprintf("%d more runs of layers; \"moec plan show\" lists them", len(runs)-i), Left: true, Span: 2}})
			break
		}
		name := "layer " + r.Range.String()
		if r.Range.Len() > 1 {
			name = "layers " + r.Range.String()
		}
		rows = append(rows, []dot.Cell{{Text: name, Left: true}, {Inner: o.homesOf(layers[r.Range.First].Experts)}})
	}
	if note := homesNote(layers[runs[0].Range.First].Experts); note != "" && len(homeRuns(layers[runs[0].Range.First].Experts)) <= maxCells {
		rows = append(rows, []dot.Cell{{Text: note, Left: true, Span: 2}})
	}
	return rows
}

// homesNote says what the cells of an expert mean.
func homesNote(experts []placement.Expert) string {
	var parts []string
	if slices.ContainsFunc(experts, func(e placement.Expert) bool {
		return slices.ContainsFunc(e, func(s placement.Split) bool { return len(s) > 1 })
	}) {
		parts = append(parts, "devices beside each other divide an expert")
	}
	if slices.ContainsFunc(experts, func(e placement.Expert) bool { return len(e) > 1 }) {
		parts = append(parts, "devices below each other have copies that take turns")
	}
	return strings.Join(parts, ";\n")
}

// homesOf draws the homes of a layer's experts: a cell for each, or for runs of
// experts with the same home if there are many.
func (o *overview) homesOf(experts []placement.Expert) [][]dot.Cell {
	runs := homeRuns(experts)
	if len(runs) > maxCells {
		return [][]dot.Cell{{{Text: o.spread(experts), Left: true}}}
	}
	var cells []dot.Cell
	for _, r := range runs {
		cells = append(cells, dot.Cell{Inner: append([][]dot.Cell{{{Text: r.String(), Strong: true}}}, o.home(experts[r.First])...)})
	}
	return slices.Collect(slices.Chunk(cells, homeRow))
}

// homeRuns lists what has a cell each: the experts, or runs of those with the
// same home if there are many.
func homeRuns(experts []placement.Expert) []Range {
	var runs []Range
	for e := range experts {
		if n := len(runs); n > 0 && len(experts) > 2*maxHeld && homeText(experts[e]) == homeText(experts[e-1]) {
			runs[n-1].Last = e
			continue
		}
		runs = append(runs, Range{e, e})
	}
	return runs
}

// home draws where the copies of an expert are, each in a row.
func (o *overview) home(e placement.Expert) [][]dot.Cell {
	var rows [][]dot.Cell
	for i, copied := range e {
		if i == maxCopies && len(e) > maxCopies+1 {
			return append(rows, []dot.Cell{{Text: fmt.Sprintf("+%d", len(e)-i)}})
		}
		if len(copied) > dot.Colours {
			first, last := copied[0].Device, copied[len(copied)-1].Device
			rows = append(rows, []dot.Cell{{Text: fmt.Sprintf("%d of %d-%d", len(copied), first, last), Colour: "#eeeeee"}})
			continue
		}
		var row []dot.Cell
		for _, s := range copied {
			row = append(row, dot.Cell{Text: fmt.Sprint(s.Device), Colour: dot.Accent(o.boxOf[s.Device].at)})
		}
		rows = append(rows, []dot.Cell{{Inner: [][]dot.Cell{row}}})
	}
	return rows
}

// spread sums up a layer with too many homes to draw.
func (o *overview) spread(experts []placement.Expert) string {
	copies := 0
	each := make(map[int]int) // experts, or parts of them, by device
	for _, e := range experts {
		if len(e) > 1 {
			copies++
		}
		for _, copied := range e {
			for _, s := range copied {
				each[s.Device]++
			}
		}
	}
	least, most := len(experts), 0
	for _, m := range o.plan.Memory {
		least, most = min(least, each[m.Device]), max(most, each[m.Device])
	}
	text := fmt.Sprintf("%d experts, %d of them with copies; a device has %d to %d", len(experts), copies, least, most)
	if least == most {
		text = fmt.Sprintf("%d experts, %d of them with copies; each device has %d", len(experts), copies, most)
	}
	return text
}
