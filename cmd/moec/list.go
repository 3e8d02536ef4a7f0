package main

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"moec/ir"
	"moec/passes"
	"moec/planner/plan"
)

func opsCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "ops [NAME]", Short: "list the operations of the IR", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			found := false
			for _, o := range ir.Ops() {
				if len(args) > 0 && o.Name != args[0] {
					continue
				}
				found = true
				if err := a.op(o, len(args) > 0); err != nil {
					return err
				}
			}
			if !found {
				return failf(exitUsage, "there is no operation %q; \"moec ops\" lists them", args[0])
			}
			return nil
		}}
}

// op prints one row of the op table.
func (a *app) op(o *ir.OpInfo, long bool) error {
	var names []string
	for _, arg := range o.Args {
		name := arg.Name
		if arg.Many {
			name += "..."
		}
		if arg.Optional {
			name = "[" + name + "]"
		}
		names = append(names, name)
	}
	if a.json {
		attrs := []map[string]any{}
		for _, at := range o.Attrs {
			attrs = append(attrs, map[string]any{"name": at.Name, "kind": at.Kind.String(), "doc": at.Doc, "optional": at.Optional})
		}
		return a.printJSON(map[string]any{"name": o.Name, "doc": o.Doc, "operands": names, "attributes": attrs, "level": o.Level.String()})
	}
	if err := a.printf("%-32s %s\n", o.Name+"("+strings.Join(names, ", ")+")", o.Doc); err != nil || !long {
		return err
	}
	for _, arg := range o.Args {
		if err := a.printf("    operand %-12s %s\n", arg.Name, arg.Doc); err != nil {
			return err
		}
	}
	for _, at := range o.Attrs {
		need := "needed"
		if at.Optional {
			need = "optional"
		}
		if err := a.printf("    attribute %-10s %s, %s: %s\n", at.Name, at.Kind, need, at.Doc); err != nil {
			return err
		}
	}
	return nil
}

func passesCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "passes", Short: "list the passes in the order in which they run, and why in that order", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !a.json {
				return passes.WriteList(a.out)
			}
			for _, p := range passes.List() {
				if err := a.printJSON(p); err != nil {
					return err
				}
			}
			return nil
		}}
}

// version is the release; the build adds the revision.
const version = "0.1.0"

func versionCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "version", Short: "print the version of moec and of its file formats", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			revision := "unknown"
			goVersion := ""
			if info, ok := debug.ReadBuildInfo(); ok {
				goVersion = info.GoVersion
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = s.Value
					}
				}
			}
			if a.json {
				return a.printJSON(map[string]any{"version": version, "revision": revision, "go": goVersion, "plan_format": plan.Version})
			}
			return a.printf("moec %s (%s, %s), plan format %d\n", version, fmt.Sprintf("%.12s", revision), goVersion, plan.Version)
		}}
}
