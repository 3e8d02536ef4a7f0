package main

import (
	"bytes"
	"context"
	"errors"
	"os"

	"github.com/goccy/go-graphviz"
	"github.com/spf13/cobra"

	"moec/planner/plan"
)

func planCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "plan", Short: "look at plans, compare and check them",
		Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(planShow(a), planDot(a), planSVG(a), planDiff(a), planVerify(a), planPrice(a), planSim(a))
	return c
}

// readPlan reads and verifies a plan file.
func readPlan(path string) (*plan.Plan, error) {
	p, err := plan.Read(path)
	if err != nil {
		return nil, err
	}
	if err := plan.Verify(p); err != nil {
		return nil, failf(exitPlan, "%s: %w; make it again with \"moec compile\"", path, err)
	}
	return p, nil
}

func planShow(a *app) *cobra.Command {
	var steps bool
	c := &cobra.Command{Use: "show PLAN", Short: "print a plan for people", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := readPlan(args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(p)
			}
			return plan.Show(a.out, p, steps)
		}}
	c.Flags().BoolVar(&steps, "steps", false, "also print every step of every block")
	return c
}

// writeOrPrint writes to a file if one is named, else to the output.
func (a *app) writeOrPrint(path string, data []byte) error {
	if path == "" || path == "-" {
		_, err := a.out.Write(data)
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// drawn is what the pictures of plans have in common.
const drawn = ` draws every block of a plan: the steps of each device, the experts that they
work with, and as edges the bytes that cross between devices in a step. With
--overview it draws the devices instead: what each of them holds, the bytes
between them in a step over all layers, and who holds which expert. Of more than
8 devices, several have a colour and a box in common.`

// drawFlags say what is drawn of a plan.
type drawFlags struct {
	out      string
	tokens   int
	overview bool
}

func (f *drawFlags) add(c *cobra.Command) {
	fs := c.Flags()
	fs.StringVarP(&f.out, "output", "o", "", "`FILE` to write (default: print it)")
	fs.IntVar(&f.tokens, "tokens", 1, "tokens of the step that bytes are counted for: one for each sequence up to the plan's sequences, else a prompt")
	fs.BoolVar(&f.overview, "overview", false, "draw devices and what passes between them, not steps")
}

// dot is the picture of a plan file.
func (f *drawFlags) dot(path string) ([]byte, error) {
	p, err := readPlan(path)
	if err != nil {
		return nil, err
	}
	size, err := p.StepOf(f.tokens)
	if err != nil {
		return nil, failf(exitUsage, "--tokens: %w", err)
	}
	if f.overview {
		return plan.Overview(p, size)
	}
	return plan.DOT(p, size)
}

func planDot(a *app) *cobra.Command {
	var f drawFlags
	c := &cobra.Command{Use: "dot PLAN", Short: "draw a plan in the DOT language", Long: "Dot" + drawn, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := f.dot(args[0])
			if err != nil {
				return err
			}
			return a.writeOrPrint(f.out, append(text, '\n'))
		}}
	f.add(c)
	return c
}

func planSVG(a *app) *cobra.Command {
	var f drawFlags
	c := &cobra.Command{Use: "svg PLAN", Short: "draw a plan as SVG; no graphviz needed", Long: "Svg" + drawn, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			text, err := f.dot(args[0])
			if err != nil {
				return err
			}
			svg, err := renderSVG(c.Context(), text)
			if err != nil {
				return err
			}
			return a.writeOrPrint(f.out, svg)
		}}
	f.add(c)
	return c
}

// renderSVG lays out a DOT graph with the graphviz that is built in.
func renderSVG(ctx context.Context, dot []byte) ([]byte, error) {
	gv, err := graphviz.New(ctx)
	if err != nil {
		return nil, err
	}
	defer gv.Close()
	g, err := graphviz.ParseBytes(dot)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	var svg bytes.Buffer
	err = gv.Render(ctx, g, graphviz.SVG, &svg)
	return svg.Bytes(), err
}

func planVerify(a *app) *cobra.Command {
	return &cobra.Command{Use: "verify PLAN", Short: "check a plan against every rule", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := plan.Read(args[0])
			if err != nil {
				return err
			}
			problems := []plan.Problem{}
			verr := plan.Verify(p)
			var list *plan.VerifyError
			if errors.As(verr, &list) {
				problems = list.Problems
			}
			if a.json {
				if err := a.printJSON(map[string]any{"rules": len(plan.Rules()), "problems": problems}); err != nil {
					return err
				}
				return verr
			}
			for _, r := range plan.Rules() {
				state := "holds"
				for _, p := range problems {
					if p.Rule == r.ID {
						state = "BROKEN: " + p.Text
						break
					}
				}
				if err := a.printf("%s  %s: %s\n", r.ID, r.Doc, state); err != nil {
					return err
				}
			}
			return verr
		}}
}
