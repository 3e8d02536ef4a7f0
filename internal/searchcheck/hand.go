package main

import (
	"errors"
	"fmt"

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
	for _, name := range names {
		for _, spec := range []string{"uniform", "power:0.6", "power:1.2"} {
			if err := c.handOn(name, spec); err != nil {
				return err
			}
		}
	}
	return nil
}

// handOn compares at every batch. Speed-ups are over each named strategy that
// fits.
func (c *check) handOn(name, spec string) error {
	for batch := 1; batch <= 256; batch *= 2 {
		p, err := c.problem(name, search.Decode(batch), spec)
		if err != nil {
			return err
		}
		r, err := search.Run(p, search.Options{Budget: 5000})
		var fit *search.FitError
		if errors.As(err, &fit) {
			fmt.Printf("  %-7s %s: %v\n", name, spec, err)
			return nil
		}
		if err != nil {
			return err
		}
		gap, _ := r.Gap()
		fmt.Printf("  %-7s %-9s batch %-3d %8.3f ms, gap %6.3f %%:", name, spec, batch, milliseconds(r.Chosen.Score), percent(gap))
		for _, h := range r.Hand {
			switch {
			case h.Why != "":
				continue
			case h.Score == r.Chosen.Score:
				fmt.Printf(" %s ties", h.Name)
			default:
				fmt.Printf(" %s %.2f", h.Name, float64(h.Score)/float64(r.Chosen.Score))
			}
			if h.Score < r.Chosen.Score {
				c.short("%s costs %d ps, chosen %d", h.Name, h.Score, r.Chosen.Score)
			}
		}
		fmt.Println()
	}
	return nil
}
