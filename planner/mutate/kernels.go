package mutate

import (
	"fmt"
	"slices"

	"moec/planner/plan"
)

// kernelMutations damage the choice of kernels for a backend. What is launched
// and with how much of a device is computed from the choice, so it cannot be
// damaged apart from it.
var kernelMutations = []Mutation{
	{"a step has no kernel", "V19", func(e *editor) (string, bool) {
		k, i, ok := e.choice()
		if !ok {
			return "", false
		}
		what := fmt.Sprint(k.Choices[i])
		k.Choices = slices.Delete(k.Choices, i, i+1)
		return what, true
	}},
	{"a step has another step's kernel", "V19", func(e *editor) (string, bool) {
		k, i, ok := e.choice()
		if !ok {
			return "", false
		}
		o, _ := pick(e, k.Choices)
		k.Choices[i].Kernel, k.Choices[i].Params = o.Kernel, slices.Clone(o.Params)
		return fmt.Sprint(k.Choices[i]), true
	}},
	{"two steps exchange their kernels", "V19", func(e *editor) (string, bool) {
		k, _, ok := e.choice()
		if !ok {
			return "", false
		}
		a, b, ok := two(e, pointers(k.Choices))
		if !ok {
			return "", false
		}
		a.Kernel, b.Kernel, a.Params, b.Params = b.Kernel, a.Kernel, b.Params, a.Params
		return fmt.Sprint(*a, *b), true
	}},
	{"a kernel is for other sizes", "V19", func(e *editor) (string, bool) {
		k, i, ok := e.choice()
		if !ok || len(k.Choices[i].Params) == 0 {
			return "", false
		}
		p := &k.Choices[i].Params[e.rng.IntN(len(k.Choices[i].Params))]
		*p = some(e, *p+"0", "1", "f32", "bf16", "")
		return fmt.Sprint(k.Choices[i]), true
	}},
	{"a kernel takes another number of parameters", "V19", func(e *editor) (string, bool) {
		k, i, ok := e.choice()
		if !ok {
			return "", false
		}
		c := &k.Choices[i]
		if n := len(c.Params); n > 0 && e.rng.IntN(2) == 0 {
			c.Params = c.Params[:n-1]
		} else {
			c.Params = append(c.Params, "1")
		}
		return fmt.Sprint(*c), true
	}},
	{"a step has two kernels", "V01", func(e *editor) (string, bool) {
		k, i, ok := e.choice()
		if !ok {
			return "", false
		}
		c := k.Choices[i]
		c.Params = slices.Clone(c.Params)
		k.Choices = append(k.Choices, c)
		return fmt.Sprint(c), true
	}},
	{"a kernel is for another step", "V19", func(e *editor) (string, bool) {
		k, i, ok := e.choice()
		if !ok {
			return "", false
		}
		c := &k.Choices[i]
		*some(e, &c.Step, &c.Body, &c.Device) += some(e, -1, 1)
		return fmt.Sprint(*c), true
	}},
	{"a kernel has no name", "V01", func(e *editor) (string, bool) {
		k, i, ok := e.choice()
		if !ok {
			return "", false
		}
		k.Choices[i].Kernel = some(e, "", "nothing")
		return fmt.Sprint(k.Choices[i]), true
	}},
}

// choice returns a kernel that the plan chose, if it has any.
func (e *editor) choice() (*plan.Kernels, int, bool) {
	if len(e.Kernels) == 0 || len(e.Kernels[0].Choices) == 0 {
		return nil, 0, false
	}
	k := &e.Kernels[0]
	return k, e.rng.IntN(len(k.Choices)), true
}
