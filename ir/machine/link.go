package machine

import (
	"fmt"
	"math/bits"
	"strconv"
)

// Link joins runs of consecutive devices: those of a board, a switch, a host,
// or hosts by a network.
type Link struct {
	Kind string `json:"kind"`
	// Span is how many consecutive devices the link joins; 0 is all. A link
	// that is not the last has one.
	Span int `json:"span,omitempty"`
	// Peer says that a device reads another's memory itself. Without, bytes
	// go through the host's memory; the figures below include that.
	Peer      bool     `json:"peer,omitempty"`
	Latency   Quantity `json:"latency"`         // ps of a small exchange, both ways of waiting included
	Bandwidth Quantity `json:"bandwidth"`       // bytes/s, each way, of one device
	Sizes     []Size   `json:"sizes,omitempty"` // measured, ascending; they replace latency and bandwidth up to the last
	// Shared is a narrower part that several devices use: the uplink of a
	// switch, or a socket's path to memory.
	Shared *Shared `json:"shared,omitempty"`
}

// Size says how long a message of so many bytes takes, latency included.
type Size struct {
	Bytes int64    `json:"bytes"`
	Time  Quantity `json:"time"` // ps
}

// Shared is a part of a link that runs of consecutive devices share.
type Shared struct {
	Kind      string   `json:"kind"`      // "PCIe switch", "socket"
	Devices   int      `json:"devices"`   // in a run
	Bandwidth Quantity `json:"bandwidth"` // bytes/s each way, of all of them together
}

// span is the number of consecutive devices that link i joins.
func (m *Machine) span(i int) int {
	if s := m.Links[i].Span; s > 0 {
		return s
	}
	return m.Devices
}

// Between returns the number of the link that joins two devices.
func (m *Machine) Between(a, b int) int {
	for i := range m.Links {
		if s := m.span(i); a/s == b/s {
			return i
		}
	}
	return len(m.Links) - 1
}

// Time returns how long, in ps, a device needs to receive that many bytes over
// the link while users devices of its run, itself included, do the same.
func (l *Link) Time(bytes int64, users int) int64 {
	rate := l.Bandwidth.Value
	if l.Shared != nil {
		rate = min(rate, l.Shared.Bandwidth.Value/int64(max(1, users)))
	}
	straight := l.Latency.Value + PS(bytes, rate)
	n := len(l.Sizes)
	if n == 0 {
		return straight
	}
	if last := l.Sizes[n-1]; bytes >= last.Bytes {
		return max(last.Time.Value, straight-PS(last.Bytes, rate)-l.Latency.Value+last.Time.Value)
	}
	before := Size{Time: Quantity{Value: l.Latency.Value}}
	for _, s := range l.Sizes {
		if bytes < s.Bytes {
			measured := between(bytes, before.Bytes, s.Bytes, before.Time.Value, s.Time.Value)
			if rate < l.Bandwidth.Value { // the measurement was made alone
				return max(measured, straight)
			}
			return measured
		}
		before = s
	}
	return straight
}

// Run returns which run of devices shares a part of the link with device d.
func (s *Shared) Run(d int) int { return d / s.Devices }

// between returns the value at x on the straight line from (x0, y0) to (x1, y1).
func between(x, x0, x1, y0, y1 int64) int64 {
	if y1 >= y0 {
		return y0 + Scale(y1-y0, x-x0, x1-x0)
	}
	return y0 - Scale(y0-y1, x-x0, x1-x0)
}

// Scale returns a*b/c without overflow; a, b >= 0, c > 0 and b <= c or the
// result fits.
func Scale(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return 1 << 62
	}
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(q)
}

// PS returns how many picoseconds an amount takes at a rate for each second.
func PS(amount, rate int64) int64 { return Scale(amount, 1e12, rate) }

// Correct returns what a price by the machine's figures becomes by the
// measurements of an op.
func (m *Machine) Correct(op string, price int64) int64 {
	for i := range m.Measured {
		if m.Measured[i].Op == op {
			return m.Measured[i].at(price)
		}
	}
	return price
}

func (c *Curve) at(price int64) int64 {
	first, last := c.Points[0], c.Points[len(c.Points)-1]
	switch {
	case price <= first.Price:
		return Scale(price, first.Took, first.Price)
	case price >= last.Price:
		return Scale(price, last.Took, last.Price)
	}
	before := first
	for _, p := range c.Points[1:] {
		if price < p.Price {
			return between(price, before.Price, p.Price, before.Took, p.Took)
		}
		before = p
	}
	return last.Took
}

// Least returns by how much, in parts of a million, measurements of an op can
// lower a price at most: what no price by the figures goes below.
func (m *Machine) Least(op string) int64 {
	least := int64(1e6)
	for i := range m.Measured {
		if m.Measured[i].Op == op {
			for j, p := range m.Measured[i].Points {
				if ratio := Scale(p.Took, 1e6, p.Price); j == 0 || ratio < least {
					least = ratio
				}
			}
		}
	}
	return least
}

func (l *Link) quantities(i int) []quantity {
	name := "links[" + strconv.Itoa(i) + "]"
	list := []quantity{{l.Latency, name + ".latency", "ps", 0}, {l.Bandwidth, name + ".bandwidth", "bytes/s", 1}}
	for j, s := range l.Sizes {
		list = append(list, quantity{s.Time, fmt.Sprintf("%s.sizes[%d].time", name, j), "ps", 0})
	}
	if l.Shared != nil {
		list = append(list, quantity{l.Shared.Bandwidth, name + ".shared.bandwidth", "bytes/s", 1})
	}
	return list
}

// checkLinks checks everything about links and measurements but quantities.
func (m *Machine) checkLinks(file string) error {
	fail := func(what, need, have string) error {
		return &Error{File: file, What: what, Need: need, Have: have, Remedy: "see the known machines for the form"}
	}
	if m.Devices > 1 && len(m.Links) == 0 {
		return fail("links", "at least one for several devices", "none")
	}
	span := 1
	for i, l := range m.Links {
		name := "links[" + strconv.Itoa(i) + "]"
		s := m.span(i)
		if last := i == len(m.Links)-1; last && s < m.Devices || !last && l.Span == 0 {
			return fail(name+".span", "a span for all links but the last, which joins all devices", strconv.Itoa(l.Span))
		}
		if i > 0 && (s <= span || s%span != 0) {
			return fail(name+".span", fmt.Sprintf("a multiple of the span before, %d", span), strconv.Itoa(s))
		}
		span = s
		var bytes int64
		for j, z := range l.Sizes {
			if z.Bytes <= bytes || z.Bytes > 1<<50 {
				return fail(fmt.Sprintf("%s.sizes[%d].bytes", name, j), fmt.Sprintf("more than %d", bytes), strconv.FormatInt(z.Bytes, 10))
			}
			bytes = z.Bytes
		}
		if l.Shared != nil && (l.Shared.Devices < 1 || l.Shared.Devices > m.Devices) {
			return fail(name+".shared.devices", fmt.Sprintf("1 to %d", m.Devices), strconv.Itoa(l.Shared.Devices))
		}
	}
	for i, c := range m.Measured {
		name := fmt.Sprintf("measured[%d]", i)
		if c.Op == "" || c.Source == "" || len(c.Points) == 0 {
			return fail(name, "an op, a source and points", fmt.Sprintf("%q, %q, %d points", c.Op, c.Source, len(c.Points)))
		}
		var price int64
		for j, p := range c.Points {
			if p.Price <= price || p.Took < 1 || max(p.Price, p.Took) > 1<<60 {
				return fail(fmt.Sprintf("%s.points[%d]", name, j), fmt.Sprintf("a price above %d and a time above 0", price), fmt.Sprintf("%d, %d", p.Price, p.Took))
			}
			price = p.Price
		}
	}
	return nil
}
