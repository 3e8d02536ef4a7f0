// Package machine describes the machines that plans are made for.
//
// Descriptions are data files; every number in them names its source. The
// package reads and checks them. It never looks at the host: a machine that is
// not here can always be planned for, and the same plan comes out anywhere.
package machine

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"moec/ir/tensor"
)

// Machine is a host, or several, with devices of one kind.
type Machine struct {
	Name    string `json:"name"`
	Doc     string `json:"doc"`
	Devices int    `json:"devices"`
	Device  Device `json:"device"`
	// Links join the devices, the nearest first: link i joins runs of Span
	// consecutive devices, the last one all of them.
	Links []Link `json:"links,omitempty"`
	// Measured corrects prices that follow from the figures above, op by op.
	Measured []Curve `json:"measured,omitempty"`
}

// Quantity is a number with its unit and where it comes from.
type Quantity struct {
	Value  int64  `json:"value"`
	Unit   string `json:"unit"`
	Source string `json:"source"`
}

// Device is one of the machine's devices.
type Device struct {
	Kind string `json:"kind"` // "cuda" or "cpu"
	Arch string `json:"arch,omitempty"`
	// Product is what the driver calls the device, for "moec machine detect".
	Product   string   `json:"product,omitempty"`
	Memory    Quantity `json:"memory"`    // bytes
	Reserve   Quantity `json:"reserve"`   // bytes of those that a driver keeps
	Bandwidth Quantity `json:"bandwidth"` // bytes/s that a read stream reaches
	// Rates are the flop/s of matrix products by the element type of the
	// weights. A type without one is widened and runs at the rate of f32.
	Rates  map[string]Quantity `json:"rates"`
	Launch Quantity            `json:"launch"` // ps from one kernel to the next
}

// Rate returns the flop/s of products with weights of an element type.
func (d *Device) Rate(t tensor.DType) int64 {
	if q, ok := d.Rates[t.String()]; ok {
		return q.Value
	}
	return d.Rates["f32"].Value
}

//go:embed known/*.json
var known embed.FS

// Known lists the machines that are built in, by name.
func Known() ([]*Machine, error) {
	files, err := fs.Glob(known, "known/*.json")
	if err != nil {
		return nil, err
	}
	var list []*Machine
	for _, f := range files {
		text, err := known.ReadFile(f)
		if err != nil {
			return nil, err
		}
		m, err := Parse(path.Base(f), text)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b *Machine) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

var sized = regexp.MustCompile(`^([a-z0-9]*[a-z][a-z0-9]*?)x(\d+)$`)

// Lookup finds a machine: a built-in one, one with fewer devices of its kind
// (h200x4 of h200x8), or the description in a file.
func Lookup(name string) (*Machine, error) {
	if strings.ContainsAny(name, "./") {
		return read(name)
	}
	list, err := Known()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range list {
		if m.Name == name {
			return m, nil
		}
		names = append(names, m.Name)
	}
	if parts := sized.FindStringSubmatch(name); parts != nil {
		if m := smallest(list, parts[1], parts[2]); m != nil {
			n, _ := strconv.Atoi(parts[2])
			return m.With(n)
		}
	}
	return nil, &Error{File: name, What: "no machine of this name is known: there are " + strings.Join(names, ", "), Remedy: "name one of them, or a file that describes one"}
}

// With returns the machine with n of its devices, and the links that join them.
func (m *Machine) With(n int) (*Machine, error) {
	if n < 1 || n > m.Devices {
		return nil, &Error{File: m.Name, What: "has too few devices", Need: strconv.Itoa(n), Have: strconv.Itoa(m.Devices), Remedy: "name a larger machine, or use fewer devices"}
	}
	c := *m
	c.Devices = n
	for i := range m.Links {
		if m.span(i) >= n {
			c.Links = slices.Clone(m.Links[:i+1])
			c.Links[i].Span = 0
			break
		}
	}
	for i := range c.Links {
		c.Links[i].Shared = c.Links[i].Shared.within(n)
	}
	if parts := sized.FindStringSubmatch(m.Name); parts != nil {
		c.Name = fmt.Sprintf("%sx%d", parts[1], n)
	}
	return &c, nil
}

// Hash identifies the description.
func (m *Machine) Hash() string {
	text, err := json.Marshal(m)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Error says what is wrong with a description.
type Error struct{ File, What, Need, Have, Remedy string }

// Error implements error on one line.
func (e *Error) Error() string {
	s := "machine " + e.File + ": " + e.What
	if e.Need != "" {
		s += ": need " + e.Need + ", have " + e.Have
	}
	return s + "; " + e.Remedy
}

// maxFile bounds a description; one is about 2 kB.
const maxFile = 1 << 20

func read(file string) (*Machine, error) {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{File: file, What: "there is no such file", Remedy: "name a known machine or a file that describes one"}
	case err != nil:
		return nil, &Error{File: file, What: err.Error(), Remedy: "name a file that can be read"}
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return nil, &Error{File: file, What: "is not a machine description", Remedy: "name a JSON file of at most 1 MB"}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, &Error{File: file, What: err.Error(), Remedy: "name a file that can be read"}
	}
	return Parse(file, text)
}

// smallest returns the smallest machine of a kind that has n devices, or the
// largest of that kind.
func smallest(list []*Machine, kind, n string) *Machine {
	want, _ := strconv.Atoi(n)
	var best *Machine
	for _, m := range list {
		own := sized.FindStringSubmatch(m.Name)
		if own == nil || own[1] != kind {
			continue
		}
		if best == nil || best.Devices < want && m.Devices > best.Devices || m.Devices >= want && m.Devices < best.Devices {
			best = m
		}
	}
	return best
}
