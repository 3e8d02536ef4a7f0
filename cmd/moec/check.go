package main

import (
	"bytes"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"moec/compiler"
	"moec/dsl"
	"moec/ir/diag"
	"moec/passes"
	"moec/planner/plan"
	"moec/runtime/checkpoint"
)

func isDiagnostics(err error) bool {
	var list diag.List
	return errors.As(err, &list)
}

func checkCommand(a *app) *cobra.Command {
	var f compileFlags
	c := &cobra.Command{Use: "check FILE.moe...", Short: "look for errors in descriptions", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var all diag.List
			for _, path := range args {
				list, err := a.checkFile(path, &f)
				if err != nil {
					return err
				}
				all = append(all, list...)
			}
			return fail(exitDescription, all.Err())
		}}
	c.Flags().StringVar(&f.checkpoint, "checkpoint", "", "also compare with this Hugging Face directory `DIR`")
	c.Flags().StringArrayVar(&f.set, "set", nil, "`NAME=VALUE`: give a setting of the description another value; may be given several times")
	return c
}

// checkFile builds a description and says what it describes.
func (a *app) checkFile(path string, f *compileFlags) (diag.List, error) {
	src, err := readSource(path)
	if err != nil {
		return nil, err
	}
	env, done, err := f.env()
	if err != nil {
		return nil, err
	}
	defer done()
	file, list := dsl.Parse(path, src)
	if len(list) > 0 {
		return list, nil
	}
	m, list := dsl.Build(file, env)
	if len(list) > 0 {
		return list, nil
	}
	d := compiler.Describe(m.Graph)
	if a.json {
		return nil, a.printJSON(map[string]any{"file": path, "model": d, "bindings": m.Bindings})
	}
	return nil, a.printf("%s: %s, %s parameters, %s a token, %d layers\n", path, d.Name, plan.Count(d.Params), plan.Count(d.Active), d.Layers)
}

func fmtCommand(a *app) *cobra.Command {
	var list, stdout bool
	c := &cobra.Command{Use: "fmt FILE.moe...", Short: "lay descriptions out in the one style", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			for _, path := range args {
				if err := a.format(path, list, stdout); err != nil {
					return err
				}
			}
			return nil
		}}
	c.Flags().BoolVarP(&list, "list", "l", false, "list files whose layout differs, and leave them as they are")
	c.Flags().BoolVar(&stdout, "stdout", false, "print what the files would be, and leave them as they are")
	return c
}

func (a *app) format(path string, list, stdout bool) error {
	src, err := readSource(path)
	if err != nil {
		return err
	}
	text, problems := dsl.Format(path, src)
	if len(problems) > 0 {
		return fail(exitDescription, problems.Err())
	}
	switch {
	case stdout:
		_, err = a.out.Write(text)
		return err
	case bytes.Equal(src, text):
		return nil
	case a.json:
		err = a.printJSON(map[string]any{"file": path, "changed": true})
	default:
		err = a.printf("%s\n", path)
	}
	if err != nil || list {
		return err
	}
	return replaceFile(path, text)
}

// replaceFile writes a file so that it holds the old text or the new one.
func replaceFile(path string, text []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, text, 0o644); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, path)
}

func checkpointCommand(a *app) *cobra.Command {
	var examine int64
	c := &cobra.Command{Use: "checkpoint DIR", Short: "say what is in a Hugging Face directory, and whether it is sound", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r := checkpoint.Check(c.Context(), args[0], examine)
			if a.json {
				if err := a.printJSON(r); err != nil {
					return err
				}
			} else if err := a.printf("%s", r); err != nil {
				return err
			}
			if r.Sound() {
				return nil
			}
			return fail(exitCheckpoint, r.Problems)
		}}
	c.Flags().Int64Var(&examine, "examine", checkpoint.DefaultExamined, "read the values of tensors of up to this many `BYTES` in all, and warn of those that are not finite")
	c.Flags().Lookup("examine").DefValue = plan.Bytes(checkpoint.DefaultExamined)
	return c
}

func strategiesCommand(a *app) *cobra.Command {
	return &cobra.Command{Use: "strategies", Short: "list the words for ways to place a model", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			for _, s := range passes.Strategies {
				if a.json {
					if err := a.printJSON(map[string]string{"name": s.Name, "doc": s.Doc}); err != nil {
						return err
					}
					continue
				}
				if err := a.printf("%-5s %s\n", s.Name, s.Doc); err != nil {
					return err
				}
			}
			if a.json {
				return nil
			}
			return a.printf("Each may have a degree, and degrees multiply: tp4, tp2ep2, pp2tp2. One may be left open.\n")
		}}
}
