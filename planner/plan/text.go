package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"moec/ir"
	"moec/ir/tensor"
)

// String prints "0-31", "7", or "" for NoLayers.
func (r Range) String() string {
	switch {
	case r == NoLayers:
		return ""
	case r.First == r.Last:
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// MarshalText implements encoding.TextMarshaler.
func (r Range) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Range) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = NoLayers
		return nil
	}
	first, last, both := strings.Cut(string(text), "-")
	if !both {
		last = first
	}
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(last)
	if errA != nil || errB != nil || a < 0 || b < a {
		return fmt.Errorf("layers %q are not a number or first-last", text)
	}
	*r = Range{a, b}
	return nil
}

// String prints an operand: a buffer by its name, others as kind:name; then
// @device if it is another device's, and " as type" if it is read under
// another type than its buffer's.
func (r Ref) text(device int) string {
	s := r.Name
	if r.Kind != BufferRef {
		s = string(r.Kind) + ":" + s
	}
	if r.Device != device {
		s += "@" + strconv.Itoa(r.Device)
	}
	if r.Type.DType != tensor.Invalid {
		s += " as " + r.Type.String()
	}
	return s
}

// parseRef is the inverse of Ref.text.
func parseRef(s string, device int) (Ref, error) {
	r := Ref{Kind: BufferRef, Device: device}
	s, typ, has := strings.Cut(s, " as ")
	if has {
		t, err := tensor.ParseType(typ)
		if err != nil {
			return r, err
		}
		r.Type = t
	}
	if kind, name, ok := strings.Cut(s, ":"); ok {
		switch r.Kind = RefKind(kind); r.Kind {
		case WeightRef, ConstRef, CacheRef:
			s = name
		default:
			return r, fmt.Errorf("operand %q is of no known kind: want weight, const or cache before the colon", s)
		}
	}
	if name, dev, ok := strings.Cut(s, "@"); ok {
		d, err := strconv.Atoi(dev)
		if err != nil || d < 0 {
			return r, fmt.Errorf("operand %q names no device after @", s)
		}
		s, r.Device = name, d
	}
	r.Name = s
	return r, nil
}

// own are the ops that exist in plans only, with their attributes.
var own = []*ir.OpInfo{
	{Name: "send", Doc: "lets other devices read this device's operand in the collective of that channel",
		Args: []ir.Arg{{Name: "x"}}, Attrs: []ir.AttrInfo{{Name: "channel", Kind: ir.Int}}, Traits: ir.Collective},
	{Name: "copy", Doc: "copies a buffer", Args: []ir.Arg{{Name: "x"}}, Traits: ir.Moves},
}

// OpInfo returns the row of an op that a step may have, or nil.
func OpInfo(name string) *ir.OpInfo {
	for _, o := range own {
		if o.Name == name {
			return o
		}
	}
	return ir.Op(name)
}

// stepJSON is a Step as it is written. Device is the queue's.
type stepJSON struct {
	Op    string                     `json:"op"`
	Out   string                     `json:"out,omitempty"`
	Args  []string                   `json:"args"`
	Attrs map[string]json.RawMessage `json:"attrs,omitempty"`
	Body  []stepJSON                 `json:"body,omitempty"`
}

type queueJSON struct {
	Device int        `json:"device"`
	Steps  []stepJSON `json:"steps"`
}

// MarshalJSON implements json.Marshaler.
func (q Queue) MarshalJSON() ([]byte, error) {
	steps, err := writeSteps(q.Steps, q.Device)
	if err != nil {
		return nil, err
	}
	return marshal(queueJSON{q.Device, steps})
}

func writeSteps(list []Step, device int) ([]stepJSON, error) {
	out := []stepJSON{}
	for _, s := range list {
		j := stepJSON{Op: s.Op, Out: s.Out, Args: []string{}}
		for _, a := range s.Args {
			j.Args = append(j.Args, a.text(device))
		}
		for _, at := range s.Attrs {
			raw, err := writeAttr(at.Value)
			if err != nil {
				return nil, fmt.Errorf("step %s: attribute %s: %w", s.Op, at.Name, err)
			}
			if j.Attrs == nil {
				j.Attrs = make(map[string]json.RawMessage)
			}
			j.Attrs[at.Name] = raw
		}
		var err error
		if len(s.Body) > 0 {
			if j.Body, err = writeSteps(s.Body, device); err != nil {
				return nil, err
			}
		}
		out = append(out, j)
	}
	return out, nil
}

func writeAttr(value any) (json.RawMessage, error) {
	if d, ok := value.(tensor.DType); ok {
		value = d.String()
	}
	if f, ok := value.(float64); ok && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return nil, fmt.Errorf("%v is not a finite number", f)
	}
	return marshal(value)
}

// UnmarshalJSON implements json.Unmarshaler.
func (q *Queue) UnmarshalJSON(data []byte) error {
	var j queueJSON
	if err := strict(data, &j); err != nil {
		return err
	}
	q.Device = j.Device
	var err error
	q.Steps, err = readSteps(j.Steps, j.Device)
	return err
}

func readSteps(list []stepJSON, device int) ([]Step, error) {
	var out []Step
	for _, j := range list {
		s := Step{Op: j.Op, Out: j.Out}
		info := OpInfo(j.Op)
		if info == nil {
			return nil, fmt.Errorf("step has op %q, which this moec does not know", j.Op)
		}
		for _, a := range j.Args {
			r, err := parseRef(a, device)
			if err != nil {
				return nil, err
			}
			s.Args = append(s.Args, r)
		}
		attrs, err := readAttrs(info, j.Attrs)
		if err != nil {
			return nil, fmt.Errorf("step %s: %w", j.Op, err)
		}
		s.Attrs = attrs
		if len(j.Body) > 0 {
			if s.Body, err = readSteps(j.Body, device); err != nil {
				return nil, err
			}
		}
		out = append(out, s)
	}
	return out, nil
}

func readAttrs(info *ir.OpInfo, raw map[string]json.RawMessage) (ir.Attrs, error) {
	var list []ir.Attr
	for _, a := range info.Attrs {
		text, ok := raw[a.Name]
		if !ok {
			continue
		}
		value, err := readAttr(a.Kind, text)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", a.Name, err)
		}
		list = append(list, ir.Attr{Name: a.Name, Value: value})
	}
	if len(list) != len(raw) {
		return nil, fmt.Errorf("has an attribute that the op does not take")
	}
	return ir.MakeAttrs(list...), nil
}

func readAttr(kind ir.AttrKind, text []byte) (any, error) {
	switch kind {
	case ir.Int:
		return decode[int](text)
	case ir.Float:
		return decode[float64](text)
	case ir.Text:
		return decode[string](text)
	case ir.Ints:
		return decode[[]int](text)
	case ir.Sets:
		return decode[[][]int](text)
	case ir.Floats:
		return decode[[]float32](text)
	case ir.DTypes:
		name, err := decode[string](text)
		if err != nil {
			return nil, err
		}
		d, ok := tensor.ParseDType(name.(string))
		if !ok {
			return nil, fmt.Errorf("%q is not an element type", name)
		}
		return d, nil
	}
	return nil, fmt.Errorf("kind %s is not written to plans", kind)
}

func decode[T any](text []byte) (any, error) {
	var v T
	if err := strict(text, &v); err != nil {
		return nil, err
	}
	return v, nil
}

// strict decodes one JSON value and refuses fields that v lacks.
func strict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// marshal is json.Marshal that keeps <, > and & readable.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(out.Bytes(), "\n"), nil
}
