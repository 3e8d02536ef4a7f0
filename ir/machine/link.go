package machine

import (
	"math"
	"math/bits"
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
	Peer bool `json:"peer,omitempty"`
	// Latency is what a small exchange takes, both ways of waiting included, in
	// ps. The launch that does it is priced apart, and so is device memory.
	Latency   Quantity `json:"latency"`
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
// Measurements were made alone: with company they are the least.
func (l *Link) Time(bytes int64, users int) int64 {
	rate := l.Bandwidth.Value
	if l.Shared != nil {
		rate = min(rate, max(1, l.Shared.Bandwidth.Value/int64(max(1, users))))
	}
	straight := l.Latency.Value + min(PS(bytes, rate), forever)
	if len(l.Sizes) == 0 {
		return straight
	}
	measured := l.measured(bytes, rate)
	if rate < l.Bandwidth.Value {
		return max(measured, straight)
	}
	return measured
}

// measured is the time by the sizes measured: on straight lines between them,
// and at a rate beyond the last.
func (l *Link) measured(bytes, rate int64) int64 {
	before := Size{Time: l.Latency}
	for _, s := range l.Sizes {
		if bytes < s.Bytes {
			return between(bytes, before.Bytes, s.Bytes, before.Time.Value, s.Time.Value)
		}
		before = s
	}
	return before.Time.Value + min(PS(bytes-before.Bytes, rate), forever)
}

// Run returns which run of devices shares a part of the link with device d.
func (s *Shared) Run(d int) int { return d / s.Devices }

// within is the part as a machine with n devices has it.
func (s *Shared) within(n int) *Shared {
	if s == nil || s.Devices <= n {
		return s
	}
	c := *s
	c.Devices = n
	return &c
}

// between returns the value at x on the straight line from (x0, y0) to (x1, y1).
func between(x, x0, x1, y0, y1 int64) int64 {
	if y1 >= y0 {
		return y0 + Scale(y1-y0, x-x0, x1-x0)
	}
	return y0 - Scale(y0-y1, x-x0, x1-x0)
}

// forever is what takes too long to say: small enough that a few of them can be
// added.
const forever = 1 << 62

// Scale returns a*b/c, and 1<<62 where that does not fit; a, b >= 0, c > 0.
func Scale(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	if hi >= uint64(c) {
		return forever
	}
	q, _ := bits.Div64(hi, lo, uint64(c))
	if q > math.MaxInt64 {
		return forever
	}
	return int64(q)
}

// PS returns how many picoseconds an amount takes at a rate for each second.
func PS(amount, rate int64) int64 { return Scale(amount, 1e12, rate) }
