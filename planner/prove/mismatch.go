package prove

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says what is wrong with a plan.
type Kind string

// The kinds.
const (
	Form     Kind = "form"     // it cannot be followed: something is not there or does not fit
	Deadlock Kind = "deadlock" // devices wait for ever
	Race     Kind = "race"     // nothing orders a write and another access of the same bytes
	Fault    Kind = "fault"    // a step has an operand that it cannot work on
	Value    Kind = "value"    // it computes something else
)

// Mismatch is where a plan and its program part.
type Mismatch struct {
	Kind   Kind
	Output string // that differs, "" if it did not come to that
	Group  int    // token group of the output
	// The first step that makes what the model does not have; if none is found
	// Step is -1, and so is what else is not known.
	Device  int
	Program string
	Block   string
	Step    int // in the queue
	Body    int // in the body of a fused step, -1 for the step itself
	Op      string
	Layer   int // -1 outside the layers
	Text    string
}

// Error implements error: the step, what is wrong with it, and what comes of
// it.
func (m *Mismatch) Error() string {
	var text strings.Builder
	switch {
	case m.Step >= 0:
		fmt.Fprintf(&text, "program %s: %s: device %d: step %d", m.Program, m.Block, m.Device, m.Step)
		if m.Body >= 0 {
			fmt.Fprintf(&text, ", body %d", m.Body)
		}
		fmt.Fprintf(&text, " (%s)", m.Op)
		if m.Layer >= 0 {
			fmt.Fprintf(&text, " in layer %d", m.Layer)
		}
		text.WriteString(": " + m.Text)
		if m.Output != "" {
			fmt.Fprintf(&text, "; so output %s of token group %d differs", m.Output, m.Group)
		}
	case m.Output != "":
		fmt.Fprintf(&text, "program %s: output %s of token group %d on device %d: %s", m.Program, m.Output, m.Group, m.Device, m.Text)
	default:
		text.WriteString(m.Text)
	}
	return text.String()
}

// mismatch is one at a step.
func (m *machine) mismatch(k Kind, s *site, layer int) *Mismatch {
	return &Mismatch{Kind: k, Device: s.device, Program: s.program, Block: s.block.Name, Step: s.at, Body: s.inner, Op: s.op, Layer: layer}
}

// failed says at which step an error came up.
func (m *machine) failed(s *site, layer int, err error) error {
	var known *Mismatch
	if errors.As(err, &known) {
		return known
	}
	kind := Fault
	var race *raceError
	switch {
	case errors.As(err, &race):
		kind = Race
	case m.now == nil: // nothing runs yet
		kind = Form
	}
	x := m.mismatch(kind, s, layer)
	x.Text = err.Error()
	if bad := undefinedError(0); errors.As(err, &bad) {
		x.Text += ": " + m.reason(uint64(bad)).String()
	}
	return x
}
