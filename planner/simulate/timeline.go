package simulate

import "moec/ir/cost"

// Result is what happens in a step. Its JSON leaves out the spans; WriteTrace
// writes those.
type Result struct {
	Program string      `json:"program"`
	Bucket  int         `json:"bucket"` // tokens that the program's bucket holds
	Load    cost.Load   `json:"load"`
	Time    int64       `json:"time_ps"` // when the last device is done
	Closed  Closed      `json:"lockstep"`
	Devices []Device    `json:"devices"`
	Links   []Lane      `json:"links"`
	Memory  []HighWater `json:"memory"`
	Path    Path        `json:"critical_path"`
}

// Kind says what a span of time goes into.
type Kind string

// The kinds. A step is of the kind that most of its time goes into; a
// collective is always of kind Link.
const (
	Compute Kind = "compute" // arithmetic
	Memory  Kind = "memory"  // traffic to the device's own memory
	Link    Kind = "link"    // an exchange with other devices
	Launch  Kind = "launch"  // getting a kernel started
	Wait    Kind = "wait"    // for other devices
)

// Span is a step of a device, or a time in which it waits for one.
type Span struct {
	Name       string // the op and the weight it reads
	Op         string // the kind of a fused step
	Kind       Kind
	Device     int
	Block      string
	Layer      int // -1 outside the layers
	Step       int // index in the queue
	Start, End int64
	Cost       cost.Cost // adds up to End - Start, but for waits

	turn  int // index of the turn
	cause int // number of the span that ends when this one starts, or -1
}

// Device is what a device does. Busy, Exchange and Wait add up to the time of
// the step, unless exchanges run beside steps.
type Device struct {
	Device int    `json:"device"`
	Spans  []Span `json:"-"` // steps and waits, one after the other, from 0 to the end
	Copies []Span `json:"-"` // exchanges that run beside steps

	Busy     int64 `json:"busy_ps"`     // in steps of its own
	Exchange int64 `json:"exchange_ps"` // in exchanges
	Wait     int64 `json:"wait_ps"`     // for other devices, with nothing else to do
}

// Lane is one direction of a device's port to a link, or a part of a link that
// several devices share.
type Lane struct {
	Name   string     `json:"name"`
	Level  int        `json:"level"`  // number of the link of the machine
	Device int        `json:"device"` // or, of a shared part, the first of those that share it
	Shared bool       `json:"shared,omitempty"`
	Out    bool       `json:"out,omitempty"` // away from the device
	Spans  []Transfer `json:"-"`
	Busy   int64      `json:"busy_ps"`
	Bytes  int64      `json:"bytes"`
}

// Transfer is a time in which a lane is taken.
type Transfer struct {
	From, To   int // devices; From is -1 for several at once
	Op         string
	Block      string
	Layer      int
	Start, End int64
	Bytes      int64

	exchange int // tells exchanges apart
}

// kindOf is what most of a step's time goes into.
func kindOf(st *step, c cost.Cost) Kind {
	switch {
	case st.meet != nil:
		return Link
	case c.Launch >= c.Compute+c.Memory:
		return Launch
	case c.Compute > c.Memory:
		return Compute
	}
	return Memory
}
