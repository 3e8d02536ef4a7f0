package calibrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner"
	"moec/planner/plan"
)

// exchange is a row of the table of collectives that are measured.
type exchange struct {
	name string
	// meet lets devices exchange the rows that each has, and returns what the
	// first of those that get something gets.
	meet func(b *builder, channel int, own []*ir.Node) *ir.Node
}

var exchanges = []exchange{
	{"all_reduce", func(b *builder, channel int, own []*ir.Node) *ir.Node {
		spans := make([][]int, len(own))
		for i := range spans {
			spans[i] = []int{i, i + 1}
		}
		return b.together("all_reduce", own, ir.Attr{Name: "spans", Value: spans}, ir.Attr{Name: "leaves", Value: len(own)}, ir.Attr{Name: "channel", Value: channel})
	}},
	{"all_gather", func(b *builder, channel int, own []*ir.Node) *ir.Node {
		return b.together("all_gather", own, ir.Attr{Name: "axis", Value: 1}, ir.Attr{Name: "channel", Value: channel})
	}},
	{"transfer", func(b *builder, channel int, own []*ir.Node) *ir.Node {
		return b.add(1, "transfer", own[:1], ir.Attr{Name: "channel", Value: channel})
	}},
}

// exchanged is the width of the rows that are exchanged, in elements.
const exchanged = 4096

// exchange measures a collective of two devices, and of all that there are.
func (c *calibration) exchange(ctx context.Context, x exchange) ([]Measurement, error) {
	if c.devices < 2 {
		return nil, nil
	}
	tokens := []int{1, 8, 64, 512, 4096}
	if c.Quick {
		tokens = []int{1, 16, 64}
	}
	var done []Measurement
	for _, devices := range slices.Compact([]int{2, c.devices}) {
		if devices > 2 && x.name == "transfer" {
			break // the same
		}
		for _, t := range tokens {
			m, ok, err := c.meeting(ctx, x, devices, t)
			if errors.Is(err, errSlow) {
				break
			}
			if err != nil {
				return nil, err
			}
			if ok {
				done = append(done, m)
			}
		}
	}
	slices.SortStableFunc(done, func(a, b Measurement) int { return cmp.Compare(a.Price, b.Price) })
	return done, nil
}

// meetings are how many exchanges are measured at once.
const meetings = 8

// meeting measures a collective of some devices and tokens.
func (c *calibration) meeting(ctx context.Context, x exchange, devices, tokens int) (m Measurement, ok bool, err error) {
	s := prompt(tokens, nil, 0)
	var two [2]*job
	var p price
	for i, n := range []int{1 + meetings, 1} {
		b := newBuilder(x.name, devices)
		made, err := b.plan(x, n, limits(&s))
		if err != nil {
			return m, false, errors.Join(err, two[0].close())
		}
		p, _ = c.price(b.Graph, s.load, x.name)
		if two[i], err = c.load(ctx, made, &s); err != nil {
			return m, false, errors.Join(err, two[0].close())
		}
	}
	ps, err := c.time(ctx, two[0], two[1])
	if err = errors.Join(err, two[0].close(), two[1].close()); err != nil {
		return m, false, err
	}
	m, ok = c.took(x.name, fmt.Sprintf("%d devices, %d bytes each", devices, 4*exchanged*tokens), ps, meetings, p)
	return m, ok, nil
}

// builder makes placed graphs in which devices exchange rows.
type builder struct {
	*ir.Graph
	err error
}

func newBuilder(name string, devices int) *builder {
	g := ir.NewGraph(name)
	g.Level, g.Devices, g.Groups, g.Numerics = ir.Placed, devices, 1, ir.Numerics{Mode: ir.Invariant, Segments: devices}
	return &builder{Graph: g}
}

// add adds a node on a device.
func (b *builder) add(device int, name string, args []*ir.Node, attrs ...ir.Attr) *ir.Node {
	if b.err != nil {
		return nil
	}
	n, err := b.Add(ir.Op(name), args, ir.MakeAttrs(attrs...), &ir.Node{Layer: -1, Device: device, Group: -1})
	b.err = err
	return n
}

// together adds a collective on all devices that have something.
func (b *builder) together(name string, args []*ir.Node, attrs ...ir.Attr) *ir.Node {
	var first *ir.Node
	for _, a := range args {
		if n := b.add(a.Device, name, args, attrs...); first == nil {
			first = n
		}
	}
	return first
}

// plan lets devices meet n times. Only the result of the last meeting is read.
func (b *builder) plan(x exchange, n int, l plan.Limits) (*plan.Plan, error) {
	const vocab = 64
	shape := []int{vocab, exchanged}
	b.Weights = append(b.Weights, &ir.Weight{Name: "table", Layer: -1, DType: tensor.F32, Shape: shape, Source: ir.Source{Key: "table", Stored: shape, View: []ir.Axis{{Hi: vocab, Step: 1}, {Hi: exchanged, Step: 1}}}})
	own := make([]*ir.Node, b.Devices)
	for d := range own {
		input := func(name string) *ir.Node { return b.add(d, "input", nil, ir.Attr{Name: "name", Value: name}) }
		ids := b.add(d, "take_rows", []*ir.Node{input("tokens"), input("rows")})
		table := b.add(d, "weight", nil, ir.Attr{Name: "name", Value: "table"}, ir.Attr{Name: "dtype", Value: tensor.F32}, ir.Attr{Name: "shape", Value: shape})
		own[d] = b.add(d, "embed", []*ir.Node{ids, table})
		if x.name == "all_reduce" {
			own[d] = b.add(d, "part", []*ir.Node{own[d]})
		}
	}
	var last *ir.Node
	for i := range n {
		if b.err == nil {
			last = x.meet(b, i, own)
		}
	}
	if b.err != nil {
		return nil, fmt.Errorf("internal error: %w", b.err)
	}
	out := b.add(last.Device, "slice", []*ir.Node{last}, ir.Attr{Name: "axis", Value: 1}, ir.Attr{Name: "lo", Value: 0}, ir.Attr{Name: "hi", Value: vocab})
	if b.err != nil {
		return nil, fmt.Errorf("internal error: %w", b.err)
	}
	b.Outputs = []ir.Output{{Name: "logits", Value: out}}
	model := plan.Model{Name: b.Name, Vocab: vocab, Params: vocab * exchanged, Active: vocab * exchanged}
	p, err := planner.Make(b.Graph, planner.Options{Model: model, Machine: plan.Machine{Name: "any", Devices: b.Devices, Memory: 1 << 50}, Limits: l})
	if err != nil {
		return nil, err
	}
	return p, plan.Verify(p)
}
