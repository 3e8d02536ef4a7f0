// Package trace shows a graph as it goes through the passes.
//
// A sink is told of the graph after each pass. It looks and writes; it never
// changes the graph.
package trace

import (
	"fmt"
	"io"

	"moec/ir"
	"moec/ir/textdiff"
)

// Sink is told of the graph after each pass, and first under the name "input".
type Sink interface {
	Phase(name string, g *ir.Graph) error
}

// What a Text sink shows; any other word is the name of the one pass to show.
const (
	Changed = "changed" // what each pass changed, as a diff
	All     = "all"     // the whole graph after each pass
)

// Text writes graphs in the IR text form.
type Text struct {
	w    io.Writer
	show string
	last string
	name string // of the pass that left the graph as in last
}

// NewText returns a sink that writes to w what show asks for: Changed, All or
// the name of a pass.
func NewText(w io.Writer, show string) *Text { return &Text{w: w, show: show} }

// Phase implements Sink.
func (t *Text) Phase(name string, g *ir.Graph) error {
	if t.show != Changed && t.show != All && t.show != name {
		return nil
	}
	now := ir.Print(g)
	out := fmt.Sprintf("# after %s\n%s", name, now)
	if t.last == now {
		out = fmt.Sprintf("# after %s (unchanged)\n", name)
	} else if t.show == Changed {
		out = fmt.Sprintf("# after %s\n%s", name, textdiff.Unified(t.name, name, t.last, now))
		if t.last == "" {
			out = "" // the input is where the changes start
		}
	}
	t.last, t.name = now, name
	_, err := io.WriteString(t.w, out)
	return err
}
