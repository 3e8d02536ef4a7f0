package main

import (
	"io"

	"github.com/spf13/cobra"

	"moec/ir"
	"moec/ir/dot"
)

// picture is a trace.Sink that draws the graph after one pass.
type picture struct {
	w    io.Writer
	pass string
}

// Phase implements trace.Sink.
func (p *picture) Phase(name string, g *ir.Graph) error {
	if name != p.pass {
		return nil
	}
	text, err := dot.Graph(g, true)
	if err != nil {
		return err
	}
	_, err = p.w.Write(append(text, '\n'))
	return err
}

// maxDOT bounds the text of a graph; Mixtral on four devices has 40 kB.
const maxDOT = 64 << 20

func svgCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "svg", Short: "lay out a DOT graph from the input as SVG; no graphviz needed", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			text, err := io.ReadAll(io.LimitReader(a.in, maxDOT))
			if err != nil {
				return err
			}
			svg, err := renderSVG(c.Context(), text)
			if err != nil {
				return failf(exitUsage, "the input is not a DOT graph: %w", err)
			}
			_, err = a.out.Write(svg)
			return err
		}}
}
