package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"moec/ir/diag"
)

// app is what every command needs.
type app struct {
	in   io.Reader
	out  io.Writer
	err  io.Writer
	json bool
	// decodes is set when a run turns tokens into text; else it prints ids.
	decodes bool
}

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	a := &app{in: in, out: out, err: errw}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	code := codeOf(err)
	var c coded
	if code == exitInternal && !errors.As(err, &c) && isUsage(err) {
		code = exitUsage
	}
	if ctx.Err() != nil {
		code = exitInterrupted
	}
	report(errw, err, a.json)
	return code
}

// usageError marks errors that cobra finds in the command line.
type usageError struct{ error }

func isUsage(err error) bool {
	var u usageError
	return errors.As(err, &u)
}

// command is one row of the command table.
type command struct {
	Name string
	Make func(*app) *cobra.Command
}

// commands is the command table, in the order of "moec help".
var commands = []command{
	{"compile", compileCommand},
	{"plan", planCommand},
	{"explain", explainCommand},
	{"kernels", kernelsCommand},
	{"run", runCommand},
	{"bench", benchCommand},
	{"profile", profileCommand},
	{"logits", logitsCommand},
	{"checkpoint", checkpointCommand},
	{"check", checkCommand},
	{"fmt", fmtCommand},
	{"svg", svgCommand},
	{"ops", opsCommand},
	{"passes", passesCommand},
	{"strategies", strategiesCommand},
	{"searchers", searchersCommand},
	{"workloads", workloadsCommand},
	{"machine", machineCommand},
	{"calibrate", calibrateCommand},
	{"version", versionCommand},
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "moec",
		Short: "compile mixture-of-experts models into parallel plans, and run them",
		Long: `moec turns a description of a mixture-of-experts transformer (.moe) into a plan
for a machine with several devices, says what the plan costs, and runs it.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON object, or one a line, instead of text")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(exitCodesTopic())
	for _, c := range commands {
		root.AddCommand(c.Make(a))
	}
	addHelp(root)
	markUsage(root)
	return root
}

// markUsage makes errors about arguments usage errors, in all commands.
func markUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usageError{fmt.Errorf("%w; see %q", err, c.CommandPath()+" --help")}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		markUsage(sub)
	}
}

// exitCodesTopic is "moec help exit-codes".
func exitCodesTopic() *cobra.Command {
	text := "Exit codes:\n\n"
	for _, c := range exitCodes {
		text += fmt.Sprintf("  %3d  %s\n", c.Code, c.Doc)
	}
	return &cobra.Command{Use: "exit-codes", Short: "the exit codes of moec", Long: text}
}

// printJSON prints one value on one line.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func (a *app) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(a.out, format, args...)
	return err
}

// warn prints what slows the work but does not stop it.
func (a *app) warn(message string) {
	if !a.json {
		fmt.Fprintln(a.err, "moec:", message)
	}
}

// terminal reports whether w is a terminal, on which progress is shown.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// reportJSON prints an error as one object.
func reportJSON(w io.Writer, err error) {
	out := struct {
		Error       string    `json:"error"`
		Code        int       `json:"code"`
		Diagnostics diag.List `json:"diagnostics,omitempty"`
	}{Error: err.Error(), Code: codeOf(err)}
	errors.As(err, &out.Diagnostics)
	if isUsage(err) {
		out.Code = exitUsage
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(out)
}
