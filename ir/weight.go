package ir

import (
	"fmt"
	"strconv"
	"strings"

	"moec/ir/tensor"
)

// Weight is a parameter of the model: what the operations see, and where a
// checkpoint keeps it.
type Weight struct {
	Name    string       // unique: "layers.3.attention.wq"
	Layer   int          // -1 outside the layers
	DType   tensor.DType // as stored, and as kept in device memory
	Shape   []int        // as operations see it; the expert extent comes first
	Experts int          // extent of the first axis if it numbers experts, else 0
	Source  Source
}

// Source says which part of which checkpoint tensor a weight is.
//
// Key may contain {layer} and {expert}. A key with {expert} names one tensor
// for each expert; otherwise, if the weight has experts, View has one axis
// with Expert set and the tensor holds all of them.
type Source struct {
	Key string `json:"key"`
	// Stored is the shape of the checkpoint tensor.
	Stored []int `json:"stored"`
	// View has an entry for each axis of Stored.
	View []Axis `json:"view"`
	// Transposed says that the two innermost axes of the view are stored the
	// other way round.
	Transposed bool `json:"transposed,omitempty"`
}

// Axis selects from one axis of a stored tensor: the row of an expert, or
// the entries Lo, Lo+Step, ... below Hi.
type Axis struct {
	Expert       bool
	Lo, Hi, Step int
}

// text is "expert", "0:64" or "1:64:2".
func (a Axis) text() string {
	switch {
	case a.Expert:
		return "expert"
	case a.Step == 1:
		return fmt.Sprintf("%d:%d", a.Lo, a.Hi)
	}
	return fmt.Sprintf("%d:%d:%d", a.Lo, a.Hi, a.Step)
}

// MarshalText implements encoding.TextMarshaler.
func (a Axis) MarshalText() ([]byte, error) { return []byte(a.text()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Axis) UnmarshalText(text []byte) error {
	if string(text) == "expert" {
		*a = Axis{Expert: true}
		return nil
	}
	parts := strings.Split(string(text), ":")
	n := []int{0, 0, 1}
	if len(parts) < 2 || len(parts) > 3 {
		return fmt.Errorf("axis %q is neither expert nor lo:hi nor lo:hi:step", text)
	}
	for i, p := range parts {
		v, err := strconv.Atoi(p)
		if err != nil || v < 0 {
			return fmt.Errorf("axis %q: %q is not a number from 0", text, p)
		}
		n[i] = v
	}
	*a = Axis{Lo: n[0], Hi: n[1], Step: n[2]}
	return nil
}

// KeyFor returns the checkpoint key for a layer and an expert.
func (s Source) KeyFor(layer, expert int) string {
	key := strings.ReplaceAll(s.Key, "{layer}", strconv.Itoa(layer))
	return strings.ReplaceAll(key, "{expert}", strconv.Itoa(expert))
}

// PerExpert reports whether each expert has a tensor of its own.
func (s Source) PerExpert() bool { return strings.Contains(s.Key, "{expert}") }

// Bytes returns the size of the weight.
func (w *Weight) Bytes() int64 {
	n := int64(w.DType.Bytes())
	for _, d := range w.Shape {
		n *= int64(d)
	}
	return n
}
