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

func planDot(a *app) *cobra.Command {
	var out string
	c := &cobra.Command{Use: "dot PLAN", Short: "draw a plan in the DOT language", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := readPlan(args[0])
			if err != nil {
				return err
			}
			text, err := plan.DOT(p)
			if err != nil {
				return err
			}
			return a.writeOrPrint(out, append(text, '\n'))
		}}
	c.Flags().StringVarP(&out, "output", "o", "", "file to write; standard output if empty")
	return c
}

func planSVG(a *app) *cobra.Command {
	var out string
	c := &cobra.Command{Use: "svg PLAN", Short: "draw a plan as SVG; no graphviz needed", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := readPlan(args[0])
			if err != nil {
				return err
			}
			text, err := plan.DOT(p)
			if err != nil {
				return err
			}
			svg, err := renderSVG(c.Context(), text)
			if err != nil {
				return err
			}
			return a.writeOrPrint(out, svg)
		}}
	c.Flags().StringVarP(&out, "output", "o", "", "file to write; standard output if empty")
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
