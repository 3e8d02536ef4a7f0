// Package calibrate looks at the host: it describes what devices there are, and
// measures what single ops take on a backend.
//
// In goes a machine description, out come curves for it: the price of an op by
// the machine's figures against the time that it took. Ops are measured alone,
// in small plans of one op that go through the same planner and backend as any
// other; a step of a model is never timed.
package calibrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"moec/ir/machine"
	"moec/ir/tensor"
	"moec/runtime"
)

// Options say what to measure.
type Options struct {
	Machine *machine.Machine
	Backend runtime.Backend
	Load    runtime.Options
	Quick   bool // few and small sizes: seconds instead of minutes
	// Figures also replaces the rate of products and the bandwidth of memory
	// by what products reach on the backend.
	Figures bool
	// Progress is told of each measurement, Warn of what is left out and why.
	// Nil for nobody.
	Progress func(Measurement)
	Warn     func(string)
}

// Measurement is one op of one size.
type Measurement struct {
	Op    string `json:"op"`
	Size  string `json:"size"`
	Price int64  `json:"price_ps"` // by the machine's figures, without launch
	Took  int64  `json:"took_ps"`  // median, without launch
}

// String is the measurement on one line.
func (m Measurement) String() string {
	return fmt.Sprintf("%-13s %-40s price %12s, took %12s", m.Op, m.Size, us(m.Price), us(m.Took))
}

// Run measures every op and returns the machine with what each took. Curves of
// the machine are replaced where there are new ones.
func Run(ctx context.Context, o Options) (*machine.Machine, error) {
	names, err := o.Backend.Devices()
	if err != nil {
		return nil, err
	}
	if err := suits(o.Machine, o.Backend.Name, names[0]); err != nil {
		return nil, err
	}
	figures := *o.Machine
	figures.Measured = nil
	c := &calibration{Options: o, figures: &figures, weights: fastest(&figures), devices: min(len(names), figures.Devices)}
	out := *o.Machine
	if o.Figures {
		if out.Device, err = c.device(ctx, fmt.Sprintf("measured with the %s backend on %s: ", o.Backend.Name, names[0])); err != nil {
			return nil, fmt.Errorf("measuring figures: %w", err)
		}
		figures.Device = out.Device
	}
	source := fmt.Sprintf("measured with the %s backend on %s: median times in isolation less the launch, prices that fall averaged", o.Backend.Name, names[0])
	for _, op := range ops {
		list, err := c.op(ctx, op)
		if err != nil {
			return nil, fmt.Errorf("calibrating %s: %w", op.name, err)
		}
		replace(&out, op.name, source, list)
	}
	for _, x := range exchanges {
		list, err := c.exchange(ctx, x)
		if err != nil {
			return nil, fmt.Errorf("calibrating %s: %w", x.name, err)
		}
		replace(&out, x.name, source, list)
	}
	return &out, nil
}

// calibration is what Run carries along.
type calibration struct {
	Options
	figures *machine.Machine // without measurements
	weights tensor.DType
	devices int // that can take part in an exchange
}

// suits refuses to measure one device for the description of another. A backend
// is called after the kind of its devices.
func suits(m *machine.Machine, backend, name string) error {
	d := m.Device
	switch {
	case d.Kind != backend:
		return &machine.Error{File: m.Name, What: "measuring with --backend " + backend, Need: "devices of kind " + backend, Have: d.Kind, Remedy: `describe this host with "moec machine detect", or use another --backend`}
	case d.Product != "" && d.Product != name:
		return &machine.Error{File: m.Name, What: "measuring on this host", Need: d.Product, Have: name, Remedy: `describe this host with "moec machine detect"`}
	}
	return nil
}

// fastest returns the element type of the highest rate, the first of equal
// ones, which is what weights of models for the machine have.
func fastest(m *machine.Machine) tensor.DType {
	return slices.MaxFunc([]tensor.DType{tensor.BF16, tensor.F16, tensor.F32}, func(a, b tensor.DType) int {
		return cmp.Compare(rate(m, a), rate(m, b))
	})
}

// rate is that of a type which the machine names, else 0.
func rate(m *machine.Machine, t tensor.DType) int64 { return m.Device.Rates[t.String()].Value }

// replace puts a curve in the place of the one that the machine has. Without
// measurements the old one stays.
func replace(m *machine.Machine, op, source string, list []Measurement) {
	if len(list) == 0 {
		return
	}
	m.Measured = slices.DeleteFunc(slices.Clone(m.Measured), func(c machine.Curve) bool { return c.Op == op })
	m.Measured = append(m.Measured, machine.Curve{Op: op, Source: source, Points: points(list)})
	slices.SortFunc(m.Measured, func(a, b machine.Curve) int { return strings.Compare(a.Op, b.Op) })
}

// points are the measurements by ascending price. Where a higher price took
// less, both get the mean, and so on with their neighbours (pool adjacent
// violators): the nearest curve, by squares, that never falls.
func points(list []Measurement) []machine.Point {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Measurement) int { return cmp.Compare(a.Price, b.Price) })
	type pool struct{ sum, n, first int64 } // first is the number of its first measurement
	var pools []pool
	for i, m := range list {
		pools = append(pools, pool{m.Took, 1, int64(i)})
		for k := len(pools) - 1; k > 0; k-- {
			a, b := &pools[k-1], pools[k]
			equal := list[b.first].Price == list[b.first-1].Price
			if !equal && b.sum*a.n >= a.sum*b.n {
				break
			}
			a.sum, a.n = a.sum+b.sum, a.n+b.n
			pools = pools[:k]
		}
	}
	var out []machine.Point
	for k, p := range pools {
		end := len(list)
		if k+1 < len(pools) {
			end = int(pools[k+1].first)
		}
		for i := int(p.first); i < end; i++ {
			if i == int(p.first) || list[i].Price > list[i-1].Price {
				out = append(out, machine.Point{Price: list[i].Price, Took: max(1, p.sum/p.n)})
			}
		}
	}
	return out
}

// errSlow ends the sizes of an op: the next ones take longer still.
var errSlow = errors.New("takes too long here")

func (c *calibration) warn(format string, args ...any) {
	if c.Warn != nil {
		c.Warn(fmt.Sprintf(format, args...))
	}
}

// us is a time for people.
func us(ps int64) string { return fmt.Sprintf("%.1f us", float64(ps)/1e6) }

// took makes a measurement of what n ops took, each of which has a price and
// costs beside it. One that is hardly longer than those says nothing.
func (c *calibration) took(op, size string, all, n int64, p price) (Measurement, bool) {
	m := Measurement{op, size, p.op, all/n - p.beside}
	if p.op < 1 || m.Took < p.beside/4 || m.Took < 1 {
		c.warn("%s %s is left out: it takes %s, and by the machine's figures %s of that are not its own", op, size, us(all/n), us(p.beside))
		return m, false
	}
	if c.Progress != nil {
		c.Progress(m)
	}
	return m, true
}
