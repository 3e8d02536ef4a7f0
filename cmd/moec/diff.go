package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"moec/ir/textdiff"
	"moec/planner/plan"
)

var errDiffers = errors.New("the plans differ")

func planDiff(a *app) *cobra.Command {
	var text bool
	c := &cobra.Command{Use: "diff PLAN PLAN", Short: "compare two plans; exit code 0 if they are the same, 8 if not", Args: cobra.ExactArgs(2),
		Long: `Diff says in what two plans differ: model, machine and limits, which experts
live elsewhere, how parts are split otherwise, how many exchanges there are and
how many bytes a token they move, and memory. --text compares the files line by
line. The exit code is 0 if the plans are the same, and 8 if not.`,
		RunE: func(_ *cobra.Command, args []string) error { return a.diff(args[0], args[1], text) }}
	c.Flags().BoolVar(&text, "text", false, "compare the files line by line")
	return c
}

// diff compares two plan files.
func (a *app) diff(first, second string, text bool) error {
	p, err := plan.Read(first)
	if err != nil {
		return err
	}
	q, err := plan.Read(second)
	if err != nil {
		return err
	}
	d, err := plan.Compare(p, q)
	if err != nil {
		return err
	}
	lines := ""
	if text {
		if lines, err = diffText(first, second, p, q); err != nil {
			return err
		}
	}
	switch {
	case a.json:
		err = a.printJSON(struct {
			*plan.Diff
			Text string `json:"diff,omitempty"`
		}{d, lines})
	case text:
		_, err = a.out.Write([]byte(lines))
	default:
		err = a.printDiff(d)
	}
	if err != nil || d.Same {
		return err
	}
	return coded{errDiffers, exitDiffers}
}

func diffText(first, second string, p, q *plan.Plan) (string, error) {
	x, err := plan.Comparable(p)
	if err != nil {
		return "", err
	}
	y, err := plan.Comparable(q)
	return textdiff.Unified(first, second, x, y), err
}

// printDiff prints a comparison for people.
func (a *app) printDiff(d *plan.Diff) error {
	if d.Same {
		return nil
	}
	for _, f := range d.Facts {
		a.printf("%-24s %s -> %s\n", f.What, f.A, f.B)
	}
	for _, e := range d.Ends {
		a.printf("%s\n", e)
	}
	for _, l := range d.Layers {
		for i, c := range l.Changes {
			name := ""
			if i == 0 {
				name = "layers " + l.Layers.String()
			}
			a.printf("%-14s %s\n", name, c)
		}
	}
	for _, t := range d.Traffic {
		a.printf("%-14s %d -> %d a step, %s -> %s a token\n", t.Op, t.A.Count, t.B.Count, plan.Bytes(t.A.Bytes), plan.Bytes(t.B.Bytes))
	}
	for _, m := range d.Memory {
		a.printf("device %-7d %s -> %s\n", m.Device, accountText(m.A), accountText(m.B))
	}
	if len(d.Facts)+len(d.Ends)+len(d.Layers)+len(d.Traffic)+len(d.Memory) == 0 {
		return a.printf("the plans differ in details only; --text shows them\n")
	}
	return nil
}

// accountText says what a device keeps.
func accountText(m *plan.Memory) string {
	if m == nil {
		return "not used"
	}
	return fmt.Sprintf("%s (weights %s, KV %s, buffers %s)", plan.Bytes(m.Total), plan.Bytes(m.Weights), plan.Bytes(m.Caches), plan.Bytes(m.Buffers+m.Consts))
}
