package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"moec/internal/calibrate"
	"moec/ir/machine"
	"moec/planner/plan"
	"moec/runtime"
)

// machineCommand is also called "machines": then it lists or shows.
func machineCommand(a *app) *cobra.Command {
	c := &cobra.Command{Use: "machine [NAME|FILE]", Aliases: []string{"machines"}, Short: "list the machines that plans can be made for, show one, or describe this host",
		Long: `Machines are what plans are made for: devices, their memories and rates, and the
links between them. Those listed are built in; a file of the same form describes
any other. docs/machines.md says what each number means.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.listMachines()
			}
			m, err := machine.Lookup(args[0])
			if err != nil {
				return fail(exitPlacement, err)
			}
			return a.printJSON(m) // for programs: one line
		}}
	c.AddCommand(
		&cobra.Command{Use: "list", Short: "list the machines that are built in", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return a.listMachines() }},
		&cobra.Command{Use: "show NAME|FILE", Short: "print the description of a machine; h200x4 is four devices of h200x8", Args: cobra.ExactArgs(1),
			RunE: func(_ *cobra.Command, args []string) error {
				m, err := machine.Lookup(args[0])
				if err != nil {
					return fail(exitPlacement, err)
				}
				return a.writeMachine(m, "")
			}},
		detectCommand(a))
	return c
}

func (a *app) listMachines() error {
	list, err := machine.Known()
	if err != nil {
		return err
	}
	for _, m := range list {
		if a.json {
			err = a.printJSON(m)
		} else {
			err = a.printf("%-8s %2d x %-9s %s\n", m.Name, m.Devices, plan.Bytes(m.Device.Memory.Value), m.Doc)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeMachine writes a description to a file, or prints it.
func (a *app) writeMachine(m *machine.Machine, file string) error {
	if file == "" && a.json {
		return a.printJSON(m)
	}
	text, err := m.Format()
	if err != nil {
		return err
	}
	if file == "" {
		_, err = a.out.Write(text)
		return err
	}
	if err := replaceFile(file, text); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"machine": file, "name": m.Name, "devices": m.Devices})
	}
	return a.printf("%s\n", file)
}

func detectCommand(a *app) *cobra.Command {
	var file, backend string
	var devices int
	c := &cobra.Command{Use: "detect", Short: "describe this host: its GPUs, or its processor", Args: cobra.NoArgs,
		Long: `Detect describes this host. GPUs of a known product get the figures of the
known machine, and what the driver says; of other GPUs copies are timed and the
rest is estimated. Without GPUs the processor is measured, for about a second.
Every number says where it comes from.`,
		RunE: func(*cobra.Command, []string) error {
			if err := writable(file); err != nil {
				return err
			}
			m, err := calibrate.Detect(backend, devices)
			if err != nil {
				return fail(exitDevices, err)
			}
			return a.writeMachine(m, file)
		}}
	c.Flags().StringVarP(&file, "output", "o", "", "`FILE` to write (default: print it)")
	c.Flags().StringVar(&backend, "backend", "", "what to describe, by the `BACKEND` that would run on it: "+backendNames()+" (default: cuda where there is a GPU)")
	c.Flags().IntVar(&devices, "devices", 1, "devices that share the processor alike")
	return c
}

// calibrateFlags say what to measure.
type calibrateFlags struct {
	machine, backend, file, nvcc string
	quick, figures               bool
}

func calibrateCommand(a *app) *cobra.Command {
	var f calibrateFlags
	c := &cobra.Command{Use: "calibrate --machine NAME|FILE", Short: "measure single ops on this host and correct a machine's prices by them", Args: cobra.NoArgs,
		Long: `Calibrate measures what ops and exchanges take on this host, each alone, and
writes a copy of the machine's description with what it measured. Prices of the
placement search and of "moec plan sim" then follow it. The machine must
describe this host: "moec machine detect" does.`,
		RunE: func(c *cobra.Command, _ []string) error { return a.calibrate(c, &f) }}
	fs := c.Flags()
	fs.StringVar(&f.machine, "machine", "", "machine to measure for, by `NAME|FILE` (needed)")
	fs.StringVar(&f.backend, "backend", "", "`BACKEND` to measure on: "+backendNames()+" (default: that of the machine's devices)")
	fs.StringVarP(&f.file, "output", "o", "", "`FILE` to write (default: print it)")
	fs.BoolVar(&f.quick, "quick", false, "few and small sizes: seconds, but only good for small models")
	fs.BoolVar(&f.figures, "figures", false, "also replace the machine's rate of products and bandwidth of memory by what the backend reaches")
	fs.StringVar(&f.nvcc, "nvcc", "", "with --backend cuda: `PATH` of nvcc or of a CUDA toolkit (default: from CUDA_HOME, then PATH)")
	return c
}

// calibrate measures what the flags say.
func (a *app) calibrate(c *cobra.Command, f *calibrateFlags) error {
	if f.machine == "" {
		return failf(exitUsage, "no machine: give --machine NAME or FILE; \"moec machine detect -o here.json\" describes this host")
	}
	m, err := machine.Lookup(f.machine)
	if err != nil {
		return fail(exitPlacement, err)
	}
	if f.backend == "" {
		f.backend = m.Device.Kind
	}
	backend, err := runtime.Lookup(f.backend)
	if err != nil {
		return fail(exitUsage, err)
	}
	if err := writable(f.file); err != nil {
		return err
	}
	o := calibrate.Options{Machine: m, Backend: backend, Quick: f.quick, Figures: f.figures, Load: runtime.Options{Nvcc: f.nvcc, Warn: a.warn}, Warn: a.warn}
	if !a.json {
		o.Progress = func(m calibrate.Measurement) { fmt.Fprintln(a.err, m) }
	}
	out, err := calibrate.Run(c.Context(), o)
	if err != nil {
		return fail(exitDevices, err)
	}
	return a.writeMachine(out, f.file)
}

// writable checks before anything is measured that the result can be written.
func writable(file string) error {
	if file == "" {
		return nil
	}
	if info, err := os.Stat(filepath.Dir(file)); err != nil || !info.IsDir() {
		return failf(exitUsage, "-o %s: there is no directory %s; name one that exists and can be written to", file, filepath.Dir(file))
	}
	return nil
}
