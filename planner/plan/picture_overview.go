package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"moec/ir/dot"
)

// Limits of the overview, so that it stays on a page.
const (
	maxShares = 3  // lines for layers that a device has other shares of
	maxRuns   = 8  // lines for layers with other homes of experts
	maxCells  = 64 // homes of a line
	maxCopies = 3  // copies of a home
)

// Overview draws the devices of a plan with what they hold, and what passes
// between them in a step, over all layers. Below stands which device holds
// which expert. Many devices are drawn as boxes of several.
func Overview(p *Plan, size StepSize) ([]byte, error) {
	o := &overview{plan: p, size: size, flows: p.Flows(size)}
	o.boxes, o.boxOf = boxesOf(p)
	o.pic = dot.NewPicture(title(p) + "\n" + o.caption())
	o.devices()
	o.traffic()
	o.rows()
	o.stack()
	return o.pic.DOT()
}

// overview is an overview in the making.
type overview struct {
	plan  *Plan
	size  StepSize
	flows []Flow
	pic   *dot.Picture
	boxes []*box
	boxOf map[int]*box
}

// plainOp is what people call an exchange.
func plainOp(op string) string { return cmp.Or(plainNames[op], op) }

// caption says what is counted, and sums it up.
func (o *overview) caption() string {
	var all int64
	byOp := make(map[string]int64)
	for _, f := range o.flows {
		all += f.Bytes
		byOp[f.Op] += f.Bytes
	}
	if len(o.plan.Memory) == 1 {
		return "Nothing passes between devices"
	}
	text := fmt.Sprintf("Between devices in %s: %s", o.size, Bytes(all))
	if len(byOp) == 1 {
		return text + " of " + plainOp(o.flows[0].Op)
	}
	var parts []string
	for _, op := range exchangeOps {
		if byOp[op] > 0 {
			parts = append(parts, plainOp(op)+" "+Bytes(byOp[op]))
		}
	}
	if len(parts) > 0 {
		text += "\n" + strings.Join(parts, ", ")
	}
	return text
}

// devices draws the boxes.
func (o *overview) devices() {
	for _, b := range o.boxes {
		b.node = o.pic.Table(o.holds(b), b.at)
	}
}

// rows places the boxes in rows, in order, one row below the other.
func (o *overview) rows() {
	for row := range slices.Chunk(o.boxes, o.perRow()) {
		nodes := []*dot.Node{row[0].node}
		for i, b := range row[1:] {
			o.pic.Edge(row[i].node, b.node, dot.Follows, "")
			nodes = append(nodes, b.node)
		}
		o.pic.Row(nodes...)
	}
	for _, b := range o.boxes[min(len(o.boxes), o.perRow()):] {
		o.pic.Edge(o.boxes[b.at-o.perRow()].node, b.node, dot.Follows, "")
	}
}

// perRow is how many boxes stand beside each other, in one row or two.
func (o *overview) perRow() int {
	if len(o.boxes) <= 2 {
		return 2
	}
	return (len(o.boxes) + 1) / 2
}

// traffic draws what passes between boxes. Exchanges in which each box has one
// or two partners are edges between them; in others they meet at a box of the
// exchange.
func (o *overview) traffic() {
	var sparse []string
	var hubs []*dot.Node
	for _, op := range exchangeOps {
		switch n := o.partners(op); {
		case n == 0:
		case n <= 2:
			sparse = append(sparse, op)
		default:
			hubs = append(hubs, o.hub(op))
		}
	}
	if len(hubs) > 0 {
		o.pic.Row(hubs...)
	}
	for i, a := range o.boxes {
		for _, b := range o.boxes[i+1:] {
			o.join(a, b, sparse)
		}
	}
}

// partners returns the most boxes that a box exchanges something with.
func (o *overview) partners(op string) int {
	met := make(map[[2]int]bool)
	most := 0
	of := make([]int, len(o.boxes))
	for _, f := range o.flows {
		a, b := o.boxOf[f.From].at, o.boxOf[f.To].at
		if f.Op != op || a == b || met[[2]int{a, b}] {
			continue
		}
		if !met[[2]int{b, a}] {
			of[a]++
			of[b]++
			most = max(most, of[a], of[b])
		}
		met[[2]int{a, b}] = true
	}
	return most
}

// join draws what passes between two boxes in exchanges of some kinds.
func (o *overview) join(a, b *box, ops []string) {
	var there, back int64
	var lines []string
	for _, op := range ops {
		var out, in int64
		for _, f := range o.flows {
			switch from, to := o.boxOf[f.From], o.boxOf[f.To]; {
			case f.Op != op:
			case from == a && to == b:
				out += f.Bytes
			case from == b && to == a:
				in += f.Bytes
			}
		}
		there += out
		back += in
		switch {
		case out+in == 0:
		case Bytes(out) == Bytes(in) || out == 0 || in == 0:
			lines = append(lines, plainOp(op)+" "+bothWays(out, in))
		default:
			lines = append(lines, fmt.Sprintf("%s %s from %s, %s from %s", plainOp(op), Bytes(out), a.number(), Bytes(in), b.number()))
		}
	}
	if there+back > 0 {
		o.pic.Traffic(a.node, b.node, there, back, strings.Join(lines, "\n"))
	}
}

// hub draws an exchange of a kind and joins the boxes to it: those of the first
// row above it, the others below.
func (o *overview) hub(op string) *dot.Node {
	var sum, inside int64
	out, in := make([]int64, len(o.boxes)), make([]int64, len(o.boxes))
	for _, f := range o.flows {
		from, to := o.boxOf[f.From].at, o.boxOf[f.To].at
		switch {
		case f.Op != op:
			continue
		case from == to:
			inside += f.Bytes
		default:
			out[from] += f.Bytes
			in[to] += f.Bytes
		}
		sum += f.Bytes
	}
	details := []string{Bytes(sum) + " in all"}
	if inside > 0 {
		details = append(details, Bytes(inside)+" inside boxes")
	}
	hub := o.pic.Box(dot.Box{Name: plainOp(op), Details: details, Device: dot.Plain, Joint: true})
	for i, b := range o.boxes {
		switch {
		case out[i]+in[i] == 0:
		case i < o.perRow():
			o.pic.Traffic(b.node, hub, out[i], in[i], outIn(out[i], in[i]))
		default:
			o.pic.Traffic(hub, b.node, in[i], out[i], outIn(out[i], in[i]))
		}
	}
	return hub
}

// outIn prints what a box sends and gets.
func outIn(out, in int64) string {
	switch {
	case out == in:
		return "out, in\n" + Bytes(out)
	case in == 0:
		return "out\n" + Bytes(out)
	case out == 0:
		return "in\n" + Bytes(in)
	}
	return fmt.Sprintf("out %s\nin %s", Bytes(out), Bytes(in))
}

// matrix is a table of what each box sends to each.
func (o *overview) matrix() [][]dot.Cell {
	n := len(o.boxes)
	bytes := make([]int64, n*n)
	for _, f := range o.flows {
		bytes[o.boxOf[f.From].at*n+o.boxOf[f.To].at] += f.Bytes
	}
	most := max(1, slices.Max(bytes))
	rows := [][]dot.Cell{{{Text: "from \\ to", Strong: true}}}
	for i, b := range o.boxes {
		name := dot.Cell{Text: b.number(), Colour: dot.Accent(i), Strong: true, Width: 48}
		rows[0] = append(rows[0], name)
		row := []dot.Cell{name}
		for _, v := range bytes[i*n:][:n] {
			c := dot.Cell{Text: "-"}
			if v > 0 {
				c = dot.Cell{Text: Bytes(v), Colour: dot.Shade(int(10 + 90*v/most))}
			}
			row = append(row, c)
		}
		rows = append(rows, row)
	}
	return rows
}

// stack places tables below the devices.
func (o *overview) stack() {
	var above []*dot.Node
	for _, b := range o.boxes[(len(o.boxes)-1)/o.perRow()*o.perRow():] {
		above = append(above, b.node)
	}
	table := func(title string, rows [][]dot.Cell) {
		t := o.pic.Panel(title, dot.Plain).Table(rows)
		for _, a := range above {
			o.pic.Edge(a, t, dot.Follows, "")
		}
		above = []*dot.Node{t}
	}
	if len(o.boxes) > 2 && len(o.flows) > 0 {
		table("what passes from each to each, in all", o.matrix())
	}
	if rows := o.homes(); rows != nil {
		table("who holds which expert", rows)
	}
}
