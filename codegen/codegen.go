// Package codegen chooses CUDA kernels for the steps of a plan and writes the
// source that instantiates them.
//
// In goes a plan, out comes its kernels section, and from the two of them the
// text to compile and a launch record for each step. Every kernel for a step
// computes an element in an order that depends on the step alone, so that
// placements change no bits; kernels for whole programs, on one device, have an
// order of their own. It never touches a GPU; package nvcc compiles, package
// runtime/cuda launches.
package codegen

import (
	"fmt"
	"slices"
	"strings"

	"moec/planner/plan"
)

// Backend is the name of the CUDA backend in plans.
const Backend = "cuda"

// Choose returns the kernels section of a plan for an architecture such as
// sm_90a: the kernel of every step.
func Choose(p *plan.Plan, arch string) (plan.Kernels, error) {
	k := plan.Kernels{Backend: Backend, Arch: arch, Choices: []plan.Choice{}}
	wholes(p, &k)
	err := choices(p, &k)
	return k, err
}

// ChooseSingle returns a section with a kernel for each step and none for whole
// programs, whose last bits differ. It gives the bits that the plan gives on any
// number of devices.
func ChooseSingle(p *plan.Plan, arch string) (plan.Kernels, error) {
	k := plan.Kernels{Backend: Backend, Arch: arch, Choices: []plan.Choice{}}
	err := choices(p, &k)
	return k, err
}

// choices adds the kernels of single steps to a section.
func choices(p *plan.Plan, k *plan.Kernels) error {
	err := sites(p, func(s *site) error {
		s.layout = layoutOf(k.Layouts, s)
		u, err := s.use()
		if err != nil {
			return err
		}
		k.Choices = append(k.Choices, plan.Choice{Program: s.at.Program, Block: s.at.Block, Device: s.at.Device, Step: s.at.Step, Body: s.at.Body,
			Kernel: u.kernel.Name, Params: u.params})
		return nil
	})
	return err
}

// layoutOf says how the second operand of a step lies, if it is a weight.
func layoutOf(list []plan.Layout, s *site) string {
	if len(s.Args) < 2 || s.Args[1].Kind != plan.WeightRef {
		return "rows"
	}
	for _, l := range list {
		if l.Weight == s.Args[1].Name && l.Device == s.at.Device {
			return l.Layout
		}
	}
	return "rows"
}

// use returns the kernel for a step.
func (s *site) use() (*use, error) {
	r, ok := recipes[s.Op]
	if !ok {
		return nil, fmt.Errorf("%v: the CUDA backend has no kernel for op %q", s.at, s.Op)
	}
	u, err := r(s)
	if err == nil {
		err = u.kernel.Check(u.params)
	}
	if err == nil {
		err = checkArgs(u.kernel, u.args)
	}
	if err != nil {
		return nil, fmt.Errorf("%v (%s): %w", s.at, s.Op, err)
	}
	return u, nil
}

// Section returns the kernels section of a plan that runs on a device of an
// architecture ("sm_90", as the device says it), or makes one if the plan has
// none for CUDA.
func Section(p *plan.Plan, device string) (plan.Kernels, error) {
	var have []string
	for _, k := range p.Kernels {
		if k.Backend != Backend {
			continue
		}
		if RunsOn(k.Arch, device) {
			return k, nil
		}
		have = append(have, k.Arch)
	}
	if len(have) > 0 {
		return plan.Kernels{}, fmt.Errorf("the plan has kernels for %s, the device is %s; choose some for it with \"moec kernels PLAN --arch %s\"", strings.Join(have, " and "), device, Target(device))
	}
	return Choose(p, Target(device))
}

// featured lists the architectures whose own features need code that is
// compiled for them alone.
var featured = []string{"sm_90", "sm_100", "sm_101", "sm_103", "sm_120"}

// Target returns the architecture to compile for so that a device's own
// features can be used: sm_90a for an sm_90.
func Target(device string) string {
	if slices.Contains(featured, device) {
		return device + "a"
	}
	return device
}

// RunsOn reports whether machine code for arch runs on a device: code runs on
// the same major version and the same or a later minor one; code for an
// architecture's own features on that one alone.
func RunsOn(arch, device string) bool {
	if own, ok := strings.CutSuffix(arch, "a"); ok {
		return own == device
	}
	return len(arch) == len(device) && len(arch) > 0 && arch[:len(arch)-1] == device[:len(device)-1] && arch <= device
}
