package main

import (
	"errors"
	"fmt"
	"io"

	"moec/ir/machine"
	"moec/passes/search"
)

func (c *check) hand() error {
	known, err := machine.Known()
	if err != nil {
		return err
	}
	var names []string
	for _, m := range known {
		if m.Devices <= 8 {
			names = append(names, m.Name)
		}
		if m.Devices == 8 {
			four, _ := m.With(4)
			names = append(names, four.Name)
		}
	}
	skews := []string{"uniform", "power:0.6", "power:1.2"}
	return inOrder(len(names)*len(skews), func(i int, out io.Writer) error {
		return c.handOn(out, names[i/len(skews)], skews[i%len(skews)])
	})
}

// handOn compares at every batch. Speed-ups are over each named strategy that
// fits.
func (c *check) handOn(out io.Writer, name, spec string) error {
	for batch := 1; batch <= 256; batch *= 2 {
		p, err := c.problem(name, search.Decode(batch), spec)
		if err != nil {
			return err
		}
		r, err := search.Run(p, search.Options{Budget: 5000})
		var fit *search.FitError
		if errors.As(err, &fit) {
			fmt.Fprintf(out, "  %-7s %s: %v\n", name, spec, err)
			return nil
		}
		if err != nil {
			return err
		}
		gap, _ := r.Gap()
		fmt.Fprintf(out, "  %-7s %-9s batch %-3d %8.3f ms, gap %6.3f %%:", name, spec, batch, milliseconds(r.Chosen.Score), percent(gap))
		for _, h := range r.Hand {
			switch {
			case h.Why != "":
				continue
			case h.Score == r.Chosen.Score:
				fmt.Fprintf(out, " %s ties", h.Name)
			default:
				fmt.Fprintf(out, " %s %.2f", h.Name, float64(h.Score)/float64(r.Chosen.Score))
			}
			if h.Score < r.Chosen.Score {
				c.short(out, "%s costs %d ps, chosen %d", h.Name, h.Score, r.Chosen.Score)
			}
		}
		fmt.Fprintln(out)
	}
	return nil
}
