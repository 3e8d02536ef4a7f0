package passes

import (
	"fmt"
	"io"
	"strings"

	"moec/ir"
)

// Listed is a row of the pass list, in the form that "moec passes --json"
// shows.
type Listed struct {
	Name     string    `json:"name"`
	Doc      string    `json:"doc"`
	Level    string    `json:"level"`    // what the graph is afterwards
	Required bool      `json:"required"` // cannot be switched off
	After    []Order   `json:"after,omitempty"`
	Parts    []PartDoc `json:"parts,omitempty"`
}

// PartDoc is a rewrite rule or a kind of fused op that a pass makes.
type PartDoc struct {
	Name string `json:"name"`
	Doc  string `json:"doc"`
}

// List returns the pipeline for people.
func List() []Listed {
	list := make([]Listed, 0, len(Pipeline))
	for _, p := range Pipeline {
		list = append(list, Listed{p.Name, p.Doc, p.Level.String(), p.Required, p.After, parts(p)})
	}
	return list
}

// parts returns the rules or the kinds of fused ops of a pass.
func parts(p Pass) []PartDoc {
	var list []PartDoc
	if p.Name == "canonicalise" {
		for _, r := range Rules {
			list = append(list, PartDoc{r.Name, r.Doc})
		}
	}
	for _, f := range Fusions {
		if f.Pass == p.Name {
			list = append(list, PartDoc{f.Kind, f.Doc})
		}
	}
	return list
}

// WriteList writes the pipeline as text.
func WriteList(w io.Writer) error {
	var b strings.Builder
	for _, p := range List() {
		mark := ""
		if p.Required {
			mark = " (always on)"
		}
		if p.Level == ir.Placed.String() {
			mark += " [placed]"
		}
		fmt.Fprintf(&b, "%s%s\n    %s\n", p.Name, mark, p.Doc)
		for _, o := range p.After {
			fmt.Fprintf(&b, "    after %s: %s\n", o.Pass, o.Reason)
		}
		for _, d := range p.Parts {
			fmt.Fprintf(&b, "      %-16s %s\n", d.Name, d.Doc)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
