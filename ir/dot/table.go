package dot

import (
	"fmt"
	"html"
	"strings"
	"unicode/utf8"
)

// Cell is a cell of a table.
type Cell struct {
	Text   string
	Colour Colour
	Span   int      // columns, 1 if it is 0
	Width  int      // in points, as the text needs it if it is 0
	Height int      // in points, the same
	Strong bool     // in bold
	Left   bool     // text stands at the left, not in the middle
	Inner  [][]Cell // rows inside, instead of a text
}

// Table adds a table to a panel, in a frame.
func (o *Panel) Table(rows [][]Cell) *Node { return o.node(framed(rows, "white")) }

// Table adds a table outside all panels, in a device's colour.
func (p *Picture) Table(rows [][]Cell, device int) *Node { return p.node(framed(rows, laneOf(device))) }

func framed(rows [][]Cell, fill string) string {
	var b strings.Builder
	writeTable(&b, `BORDER="1" COLOR="#707070" STYLE="rounded" CELLBORDER="0" CELLSPACING="3" CELLPADDING="2" BGCOLOR="`+fill+`"`, rows)
	return b.String()
}

func writeTable(b *strings.Builder, attributes string, rows [][]Cell) {
	fmt.Fprintf(b, `<TABLE %s>`, attributes)
	for _, row := range rows {
		b.WriteString(`<TR>`)
		for _, c := range row {
			c.write(b)
		}
		b.WriteString(`</TR>`)
	}
	b.WriteString(`</TABLE>`)
}

func (c *Cell) write(b *strings.Builder) {
	b.WriteString(`<TD`)
	if c.Span > 1 {
		fmt.Fprintf(b, ` COLSPAN="%d"`, c.Span)
	}
	if c.Colour != "" {
		fmt.Fprintf(b, ` BGCOLOR="%s"`, c.Colour)
	}
	if c.Inner != nil {
		b.WriteString(` CELLPADDING="0">`)
		writeTable(b, `BORDER="0" CELLBORDER="0" CELLSPACING="1" CELLPADDING="1"`, c.Inner)
		b.WriteString(`</TD>`)
		return
	}
	width := c.Width
	if width == 0 && c.Text != "" {
		width = 6 + 64*longest(c.Text)/10 // for a wide font, as in boxes
	}
	if width > 0 {
		fmt.Fprintf(b, ` WIDTH="%d"`, width)
	}
	if c.Height > 0 {
		fmt.Fprintf(b, ` HEIGHT="%d"`, c.Height)
	}
	text, end := html.EscapeString(c.Text), `<BR/>`
	if c.Left {
		b.WriteString(` ALIGN="LEFT" BALIGN="LEFT"`)
		end = `<BR ALIGN="LEFT"/>`
		if strings.Contains(text, "\n") {
			text += "\n"
		}
	}
	text = strings.ReplaceAll(text, "\n", end)
	if c.Strong {
		text = `<B>` + text + `</B>`
	}
	b.WriteString(`>` + text + `</TD>`)
}

// longest counts the letters of the longest line.
func longest(text string) int {
	most := 0
	for l := range strings.SplitSeq(text, "\n") {
		most = max(most, utf8.RuneCountInString(l))
	}
	return most
}

// Colour fills a cell; "" leaves it white.
type Colour string

// Accent is the colour of what is a device's.
func Accent(device int) Colour { return Colour(accentOf(device)) }

// Shade is a share, in percent, of the colour of what passes between devices.
func Shade(percent int) Colour {
	if percent <= 0 {
		return ""
	}
	mix := func(full int) int { return 255 - (255-full)*min(100, percent)/100 }
	return Colour(fmt.Sprintf("#%02x%02x%02x", mix(0xf0), mix(0xb8), mix(0x30))) // lighter than joint, for black text
}
