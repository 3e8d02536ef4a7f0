package simulate

import (
	"fmt"
	"html"
	"io"
	"strings"

	"moec/ir/machine"
)

// The drawing, in pixels.
const (
	drawnWidth = 1200 // of the time axis
	leftMargin = 200  // for the names of lanes
	laneHeight = 22
	linkHeight = 12
	textWidth  = 7 // of a letter of 11 px, wide ones included
)

// colours has one for each kind, in the order of the legend: apart from each
// other for everybody, and with black letters readable on them.
var colours = []struct {
	kind   Kind
	colour string
}{{Compute, "#66aadd"}, {Memory, "#99ddaa"}, {Link, "#ee8877"}, {Launch, "#ddcc77"}, {Wait, "#dddddd"}}

func colour(k Kind) string {
	for _, c := range colours {
		if c.kind == k {
			return c.colour
		}
	}
	return "#ffffff"
}

// WriteSVG draws a result: the whole step, then one turn of each block with
// the names of its steps. Spans of the critical path have a dark border.
func (r *Result) WriteSVG(w io.Writer) error {
	d := &drawing{onPath: make(map[pathKey]bool)}
	for _, s := range r.Path.Spans {
		d.onPath[pathKey{s.Device, s.Start, s.Kind == Link}] = true
	}
	d.y = 24
	d.text(8, d.y, fmt.Sprintf("a step of %d tokens of %d sequences, context %d: %s; lockstep says %s", r.Load.Tokens, r.Load.Sequences, r.Load.Context, Duration(r.Time), Duration(r.Closed.Time)))
	d.legend()
	d.overview(r)
	for _, t := range r.drawnTurns() {
		d.turn(r, t)
	}
	_, err := fmt.Fprintf(w, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n%s</svg>\n",
		leftMargin+drawnWidth+20, d.y+20, d.out.String())
	return err
}

// drawing is an SVG in the making, from top to bottom.
type drawing struct {
	out    strings.Builder
	y      int
	onPath map[pathKey]bool
	// The time axis.
	from, to int64
}

type pathKey struct {
	device   int
	start    int64
	exchange bool
}

func (d *drawing) text(x, y int, s string) {
	fmt.Fprintf(&d.out, "<text x=\"%d\" y=\"%d\">%s</text>\n", x, y, html.EscapeString(s))
}

func (d *drawing) legend() {
	d.y += 12
	x := 8
	for _, c := range colours {
		fmt.Fprintf(&d.out, "<rect x=\"%d\" y=\"%d\" width=\"14\" height=\"12\" fill=\"%s\"/>\n", x, d.y, c.colour)
		d.text(x+18, d.y+10, string(c.kind))
		x += 90
	}
	d.y += 24
}

// x returns where a time is, in hundredths of a pixel.
func (d *drawing) x(t int64) int64 {
	return leftMargin*100 + machine.Scale(t-d.from, drawnWidth*100, max(1, d.to-d.from))
}

// pixels prints hundredths of a pixel.
func pixels(h int64) string { return fmt.Sprintf("%d.%02d", h/100, h%100) }

// axis begins a section and draws its scale.
func (d *drawing) axis(title string, from, to int64) {
	d.from, d.to = from, to
	d.y += 26
	d.text(8, d.y, title)
	d.y += 8
	for i := range int64(11) {
		t := from + (to-from)/10*i
		if i == 10 {
			t = to
		}
		fmt.Fprintf(&d.out, "<text x=\"%s\" y=\"%d\" font-size=\"9\" fill=\"#555555\" text-anchor=\"middle\">%s</text>\n", pixels(d.x(t)), d.y+8, Duration(t-from))
	}
	d.y += 14
}

func (d *drawing) name(s string, height int) {
	fmt.Fprintf(&d.out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", leftMargin-8, d.y+height/2+4, html.EscapeString(s))
}

// bar is a time of a lane, as it is drawn.
type bar struct {
	from, to int64
	colour   string
	label    string
	note     string
	path     bool
}

func (d *drawing) bar(b bar, height int) {
	x, end := d.x(max(b.from, d.from)), d.x(min(b.to, d.to))
	if end <= x {
		return
	}
	stroke := ""
	switch {
	case b.path:
		stroke = ` stroke="#222222"`
	case b.label != "" && end-x > 400: // wide enough to be told apart
		stroke = ` stroke="#ffffff"`
	}
	fmt.Fprintf(&d.out, "<rect x=\"%s\" y=\"%d\" width=\"%s\" height=\"%d\" fill=\"%s\"%s>", pixels(x), d.y, pixels(end-x), height-3, b.colour, stroke)
	if b.note != "" {
		fmt.Fprintf(&d.out, "<title>%s</title>", html.EscapeString(b.note))
	}
	d.out.WriteString("</rect>\n")
	if room := int(end-x) / 100 / textWidth; b.label != "" && room >= 3 {
		label := b.label
		if len(label) > room {
			label = label[:room-1] + "…"
		}
		fmt.Fprintf(&d.out, "<text x=\"%s\" y=\"%d\" pointer-events=\"none\">%s</text>\n", pixels(x+200), d.y+14, html.EscapeString(label))
	}
}

// overview draws the whole step. A column of a pixel has the colour of what
// takes most of it.
func (d *drawing) overview(r *Result) {
	d.axis("the whole step", 0, r.Time)
	for i := range r.Devices {
		dev := &r.Devices[i]
		d.name(fmt.Sprintf("device %d", dev.Device), laneHeight)
		d.columns(dev.Spans)
		d.y += laneHeight
		if len(dev.Copies) > 0 {
			d.name("exchanges", laneHeight)
			d.columns(dev.Copies)
			d.y += laneHeight
		}
	}
	for i := range r.Links {
		l := &r.Links[i]
		d.name(l.Name, linkHeight)
		d.columnsOf(linkSpans(l.Spans), linkHeight)
		d.y += linkHeight
	}
}

func linkSpans(list []Transfer) []Span {
	spans := make([]Span, len(list))
	for i, t := range list {
		spans[i] = Span{Kind: Link, Start: t.Start, End: t.End}
	}
	return spans
}

// crowded reports whether a lane has more transfers in the axis' time than can
// be told apart.
func (d *drawing) crowded(list []Transfer) bool {
	n := 0
	for _, t := range list {
		if t.End > d.from && t.Start < d.to {
			n++
		}
	}
	return n > drawnWidth/8
}

func (d *drawing) columns(spans []Span) { d.columnsOf(spans, laneHeight) }

// columnsOf draws spans, which are in order, a pixel at a time.
func (d *drawing) columnsOf(spans []Span, height int) {
	at := func(i int64) int64 { return d.from + machine.Scale(d.to-d.from, i, drawnWidth) }
	var last bar
	next := 0
	for i := range int64(drawnWidth) {
		from, to := at(i), at(i+1)
		for next < len(spans) && spans[next].End <= from {
			next++
		}
		var took [8]int64
		for j := next; j < len(spans) && spans[j].Start < to; j++ {
			for k, c := range colours {
				if c.kind == spans[j].Kind {
					took[k] += min(to, spans[j].End) - max(from, spans[j].Start)
				}
			}
		}
		best, free := "", to-from
		for k, c := range colours {
			free -= took[k]
			if took[k] > 0 && (best == "" || took[k] > took[kindAt(best)]) {
				best = c.colour
			}
		}
		if best != "" && free > took[kindAt(best)] {
			best = ""
		}
		if best != last.colour {
			if last.colour != "" {
				d.bar(last, height)
			}
			last = bar{from: from, colour: best}
		}
		last.to = to
	}
	if last.colour != "" {
		d.bar(last, height)
	}
}

func kindAt(colour string) int {
	for i, c := range colours {
		if c.colour == colour {
			return i
		}
	}
	return 0
}

// drawnTurns lists a turn of each block, the middle one of those it has.
func (r *Result) drawnTurns() []int {
	turns := make(map[string][]int)
	var order []string
	for i, t := range r.Closed.Turns {
		if turns[t.Block] == nil {
			order = append(order, t.Block)
		}
		turns[t.Block] = append(turns[t.Block], i)
	}
	var list []int
	for _, b := range order {
		list = append(list, turns[b][len(turns[b])/2])
	}
	return list
}

// turn draws a turn of a block, from the first device that begins it to the
// last that ends it.
func (d *drawing) turn(r *Result, turn int) {
	from, to := int64(-1), int64(-1)
	for i := range r.Devices {
		for _, list := range [][]Span{r.Devices[i].Spans, r.Devices[i].Copies} {
			for _, s := range list {
				if s.turn == turn && s.Kind != Wait {
					if from < 0 || s.Start < from {
						from = s.Start
					}
					to = max(to, s.End)
				}
			}
		}
	}
	if from < 0 {
		return
	}
	title := r.Closed.Turns[turn].Block
	if l := r.Closed.Turns[turn].Layer; l >= 0 {
		title += fmt.Sprintf(" at layer %d", l)
	}
	d.axis(title+": "+Duration(to-from), from, to)
	for i := range r.Devices {
		dev := &r.Devices[i]
		d.name(fmt.Sprintf("device %d", dev.Device), laneHeight)
		d.lane(dev.Spans)
		if len(dev.Copies) > 0 {
			d.name("exchanges", laneHeight)
			d.lane(dev.Copies)
		}
	}
	for i := range r.Links {
		l := &r.Links[i]
		d.name(l.Name, linkHeight)
		if d.crowded(l.Spans) {
			d.columnsOf(linkSpans(l.Spans), linkHeight)
			d.y += linkHeight
			continue
		}
		for _, t := range l.Spans {
			if t.End > from && t.Start < to {
				d.bar(bar{from: t.Start, to: t.End, colour: colour(Link), note: fmt.Sprintf("%s, %d bytes, %s", t.Op, t.Bytes, Duration(t.End-t.Start))}, linkHeight)
			}
		}
		d.y += linkHeight
	}
}

// lane draws the spans of a device that are in the axis' time.
func (d *drawing) lane(spans []Span) {
	for _, s := range spans {
		if s.End <= d.from || s.Start >= d.to {
			continue
		}
		b := bar{from: s.Start, to: s.End, colour: colour(s.Kind), note: fmt.Sprintf("%s (%s), %s", s.Name, s.Kind, Duration(s.End-s.Start))}
		if s.Kind != Wait {
			b.label, b.path = s.Name, d.onPath[pathKey{s.Device, s.Start, s.Kind == Link}]
		}
		d.bar(b, laneHeight)
	}
	d.y += laneHeight
}
