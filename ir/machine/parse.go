package machine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"moec/ir/tensor"
)

// Bounds of what a description may say: far beyond any machine, and small
// enough that prices do not overflow.
const (
	maxDevices  = 1 << 12
	maxQuantity = 1 << 60
	maxMessage  = 1 << 50 // bytes
)

// format is where the format is written down.
const format = "docs/machines.md describes the format"

// Parse reads a description and checks every number. The file is only named in
// errors.
func Parse(file string, text []byte) (*Machine, error) {
	m := &Machine{}
	if err := decode(text, m); err != nil {
		err.File = file
		return nil, err
	}
	for _, check := range []func(*Machine) *Error{checkMachine, checkDevice, checkLinks, checkQuantities, checkSizes, checkMeasured} {
		if err := check(m); err != nil {
			err.File = file
			return nil, err
		}
	}
	return m, nil
}

// decode reads one JSON object without unknown fields.
func decode(text []byte, m *Machine) *Error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(m)
	if err == nil {
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return &Error{What: line(text, d.InputOffset()), Need: "one object and nothing after it", Have: "more", Remedy: "delete what follows the object"}
		}
		return nil
	}
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); {
	case unknown:
		return &Error{What: fieldLine(text, name), Need: "only fields of the format", Have: name, Remedy: "correct or delete it; " + format}
	case errors.As(err, &kind):
		return &Error{What: line(text, kind.Offset) + ": " + kind.Field, Need: wanted(kind), Have: "a JSON " + kind.Value, Remedy: format}
	case errors.As(err, &syntax):
		return &Error{What: line(text, syntax.Offset) + ": is not JSON", Need: "an object", Have: syntax.Error(), Remedy: format}
	}
	return &Error{What: "is not JSON", Need: "an object", Have: err.Error(), Remedy: format}
}

// line names a place in a text.
func line(text []byte, offset int64) string {
	return fmt.Sprintf("line %d", 1+bytes.Count(text[:min(int(offset), len(text))], []byte("\n")))
}

// fieldLine names the line of a field, given its quoted name. The decoder does
// not say where it is.
func fieldLine(text []byte, name string) string {
	if place := regexp.MustCompile(regexp.QuoteMeta(name) + `\s*:`).FindIndex(text); place != nil {
		return line(text, int64(place[0]))
	}
	return "a field"
}

// wanted names what a field holds.
func wanted(e *json.UnmarshalTypeError) string {
	switch t := e.Type.String(); {
	case strings.HasPrefix(t, "int"):
		return "a whole number below 2^63"
	case t == "string", t == "bool":
		return "a " + t
	case strings.HasPrefix(t, "[]"):
		return "a list"
	}
	return "an object"
}

func checkMachine(m *Machine) *Error {
	switch {
	case m.Name == "":
		return &Error{What: "name", Need: "a name", Have: "none", Remedy: `name the machine by its kind and number of devices, such as "h200x8"`}
	case m.Devices < 1 || m.Devices > maxDevices:
		return &Error{What: "devices", Need: fmt.Sprintf("1 to %d", maxDevices), Have: strconv.Itoa(m.Devices), Remedy: "say how many devices the machine has"}
	}
	return nil
}

var archName = regexp.MustCompile(`^sm_[0-9]{2,3}a?$`)

func checkDevice(m *Machine) *Error {
	d := &m.Device
	switch {
	case d.Kind != "cuda" && d.Kind != "cpu":
		return &Error{What: "device.kind", Need: `"cuda" or "cpu"`, Have: strconv.Quote(d.Kind), Remedy: "say what the devices are"}
	case d.Arch != "" && !archName.MatchString(d.Arch):
		return &Error{What: "device.arch", Need: "an architecture such as sm_90", Have: strconv.Quote(d.Arch), Remedy: "write it as nvcc does, or leave it out"}
	}
	for _, t := range slices.Sorted(maps.Keys(d.Rates)) {
		if kind, ok := tensor.ParseDType(t); !ok || !kind.Float() {
			return &Error{What: "device.rates", Need: "element types f32, bf16 or f16", Have: strconv.Quote(t), Remedy: "leave out types that weights are not kept in"}
		}
	}
	return nil
}

// checkLinks checks how links join devices.
func checkLinks(m *Machine) *Error {
	if m.Devices > 1 && len(m.Links) == 0 {
		return &Error{What: "links", Need: "at least one link, that joins all devices", Have: "none", Remedy: "describe what the devices are joined by; " + format}
	}
	before := 1
	for i, l := range m.Links {
		name := linkName(i)
		last := i == len(m.Links)-1
		switch s := m.span(i); {
		case l.Span < 0 || l.Span > m.Devices:
			return &Error{What: name + ".span", Need: fmt.Sprintf("1 to %d devices", m.Devices), Have: strconv.Itoa(l.Span), Remedy: "say how many consecutive devices the link joins"}
		case last && s < m.Devices:
			return &Error{What: name + ".span", Need: fmt.Sprintf("all %d devices for the last link", m.Devices), Have: strconv.Itoa(s), Remedy: "leave the span of the last link out, or add a link that joins all"}
		case !last && l.Span == 0:
			return &Error{What: name + ".span", Need: "a number of devices for every link but the last", Have: "none", Remedy: "say how many consecutive devices the link joins"}
		case i > 0 && s <= before:
			return &Error{What: name + ".span", Need: fmt.Sprintf("more than the %d devices of the link before", before), Have: strconv.Itoa(s), Remedy: "list links with the nearest devices first"}
		case l.Span > 0 && l.Span%before != 0:
			return &Error{What: name + ".span", Need: fmt.Sprintf("a multiple of the %d devices of the link before", before), Have: strconv.Itoa(l.Span), Remedy: "a link joins whole runs of the link before it"}
		default:
			before = s
		}
		if s := l.Shared; s != nil && (s.Devices < 1 || s.Devices > m.Devices) {
			return &Error{What: name + ".shared.devices", Need: fmt.Sprintf("1 to %d", m.Devices), Have: strconv.Itoa(s.Devices), Remedy: "say how many consecutive devices share it"}
		}
	}
	return nil
}

func linkName(i int) string { return "links[" + strconv.Itoa(i) + "]" }

// checkSizes checks the measured messages of links.
func checkSizes(m *Machine) *Error {
	for i := range m.Links {
		var bytes int64
		took := m.Links[i].Latency.Value
		for j, z := range m.Links[i].Sizes {
			name := fmt.Sprintf("%s.sizes[%d]", linkName(i), j)
			switch {
			case z.Bytes <= bytes || z.Bytes > maxMessage:
				return &Error{What: name + ".bytes", Need: fmt.Sprintf("more than %d, at most 2^50", bytes), Have: strconv.FormatInt(z.Bytes, 10), Remedy: "list sizes in ascending order"}
			case z.Time.Value < took:
				return &Error{What: name + ".time", Need: fmt.Sprintf("at least the %d ps of less", took), Have: strconv.FormatInt(z.Time.Value, 10), Remedy: "measure again, or give both the mean: a longer message takes no less time"}
			}
			bytes, took = z.Bytes, z.Time.Value
		}
	}
	return nil
}

// checkMeasured checks curves.
func checkMeasured(m *Machine) *Error {
	seen := make(map[string]bool)
	for i, c := range m.Measured {
		name := fmt.Sprintf("measured[%d]", i)
		switch {
		case c.Op == "" || len(c.Points) == 0:
			return &Error{What: name, Need: "an op and points", Have: fmt.Sprintf("op %q, %d points", c.Op, len(c.Points)), Remedy: `"moec calibrate" measures them`}
		case c.Source == "":
			return &Error{What: name + ".source", Need: "where the points come from", Have: "nothing", Remedy: "say what measured them, and on what"}
		case seen[c.Op]:
			return &Error{What: name + ".op", Need: "one curve for each op", Have: "a second one for " + c.Op, Remedy: "join their points"}
		}
		seen[c.Op] = true
		var before Point
		for j, p := range c.Points {
			switch {
			case p.Price <= before.Price || p.Price > maxQuantity:
				return &Error{What: fmt.Sprintf("%s.points[%d].price_ps", name, j), Need: fmt.Sprintf("more than %d", before.Price), Have: strconv.FormatInt(p.Price, 10), Remedy: "list points by ascending price"}
			case p.Took < max(1, before.Took) || p.Took > maxQuantity:
				return &Error{What: fmt.Sprintf("%s.points[%d].took_ps", name, j), Need: fmt.Sprintf("at least %d", max(1, before.Took)), Have: strconv.FormatInt(p.Took, 10), Remedy: "a higher price takes no less time: measure again, or give both the mean"}
			}
			before = p
		}
	}
	return nil
}

// quantity is a number of a description and what it must be.
type quantity struct {
	Quantity
	name, unit string
	least      int64
}

// checkQuantities checks that every number has its unit and source.
func checkQuantities(m *Machine) *Error {
	for _, q := range m.quantities() {
		e := Error{What: q.name}
		switch {
		case q.Unit != q.unit:
			e.Need, e.Have, e.Remedy = fmt.Sprintf("unit %q", q.unit), strconv.Quote(q.Unit), "give the number in this unit, and name the unit"
		case q.Value < q.least || q.Value > maxQuantity:
			e.Need, e.Have, e.Remedy = fmt.Sprintf("%d to 2^60 %s", q.least, q.unit), strconv.FormatInt(q.Value, 10), "correct the number"
		case q.Source == "":
			e.Need, e.Have, e.Remedy = "a source", "none", "say where the number comes from: a measurement, a data sheet, an estimate"
		default:
			continue
		}
		return &e
	}
	if d := m.Device; d.Reserve.Value >= d.Memory.Value {
		return &Error{What: "device.reserve", Need: fmt.Sprintf("less than device.memory, %d bytes", d.Memory.Value), Have: strconv.FormatInt(d.Reserve.Value, 10), Remedy: "leave room for plans"}
	}
	return nil
}

func (m *Machine) quantities() []quantity {
	d := m.Device
	list := []quantity{{d.Memory, "device.memory", "bytes", 1}, {d.Reserve, "device.reserve", "bytes", 0}, {d.Bandwidth, "device.bandwidth", "bytes/s", 1},
		{d.Rates["f32"], "device.rates.f32", "flop/s", 1}}
	for _, t := range slices.Sorted(maps.Keys(d.Rates)) {
		list = append(list, quantity{d.Rates[t], "device.rates." + t, "flop/s", 1})
	}
	list = append(list, quantity{d.Launch, "device.launch", "ps", 0})
	for i, l := range m.Links {
		name := linkName(i)
		list = append(list, quantity{l.Latency, name + ".latency", "ps", 0}, quantity{l.Bandwidth, name + ".bandwidth", "bytes/s", 1})
		for j, s := range l.Sizes {
			list = append(list, quantity{s.Time, fmt.Sprintf("%s.sizes[%d].time", name, j), "ps", 0})
		}
		if l.Shared != nil {
			list = append(list, quantity{l.Shared.Bandwidth, name + ".shared.bandwidth", "bytes/s", 1})
		}
	}
	return list
}
