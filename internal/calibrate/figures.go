package calibrate

import (
	"context"
	"errors"
	"maps"
	"slices"

	"moec/ir/machine"
)

// device returns the machine's device with the bandwidth and the rate that
// products reach here: those of the longest of one token, which waits for its
// weights, and of the longest that is bound by arithmetic. A curve has one time
// for each price, whatever the price is made of; so it can only say something
// where memory and arithmetic are priced alike well.
func (c *calibration) device(ctx context.Context, source string) (machine.Device, error) {
	d := c.figures.Device
	list, err := c.candidates(ops[0])
	if err != nil {
		return d, err
	}
	waits := func(s candidate) bool { return s.load.Tokens == 1 && s.compute == 0 }
	works := func(s candidate) bool { return s.compute > 0 }
	if m, ok, err := c.longest(ctx, list, waits); err != nil {
		return d, err
	} else if ok {
		d.Bandwidth = amount(scaled(d.Bandwidth, m), "bytes/s", source+"what a product reads in a second, "+m.Size)
	}
	m, ok, err := c.longest(ctx, list, works)
	if err != nil || !ok {
		return d, err
	}
	old := d.Rates[c.weights.String()]
	d.Rates = rates(d.Rates, c.weights.String(), amount(scaled(old, m), "flop/s", source+"a product, "+m.Size))
	return d, nil
}

// rates are those of a device of which one was measured: types that were equal
// to it stay equal, and none is assumed to be faster.
func rates(old map[string]machine.Quantity, measured string, rate machine.Quantity) map[string]machine.Quantity {
	list := maps.Clone(old)
	for t, q := range old {
		switch {
		case t == measured:
			list[t] = rate
		case q.Value == old[measured].Value:
			list[t] = machine.Quantity{Value: rate.Value, Unit: q.Unit, Source: "as that of " + measured + ", which it was equal to"}
		case q.Value > rate.Value:
			list[t] = machine.Quantity{Value: rate.Value, Unit: q.Unit, Source: "estimate: no higher than that of " + measured + ", which was measured"}
		}
	}
	return list
}

// scaled is a figure by which something had a price, corrected by what it took.
func scaled(q machine.Quantity, m Measurement) float64 {
	return max(1, float64(q.Value)*float64(m.Price)/float64(m.Took))
}

// longest measures the size with the highest price that does not take too long.
func (c *calibration) longest(ctx context.Context, list []candidate, of func(candidate) bool) (Measurement, bool, error) {
	for _, s := range slices.Backward(list) {
		if !of(s) {
			continue
		}
		all, n, err := c.difference(ctx, ops[0], s)
		if errors.Is(err, errSlow) {
			continue
		}
		if err != nil {
			return Measurement{}, false, err
		}
		if m, ok := c.took(ops[0].name, s.String(), all, n, s.price); ok {
			return m, true, nil
		}
	}
	c.warn("no product was measured for the machine's figures")
	return Measurement{}, false, nil
}
