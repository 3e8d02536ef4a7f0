package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"moec/ir/dot"
	"moec/ir/tensor"
)

// A panel is what a picture shows of a block, before it is laid out.
type panel struct {
	label string
	lanes map[int]string // titles, by number of the box of devices
	notes map[int]string // below them
	steps []drawnStep
	edges []line
	rows  [][]int // steps that stand beside each other: members of a collective
}

// drawnStep is a box.
type drawnStep struct {
	dot.Box
	first bool // nothing in the lane comes before it
}

// line is an edge between two boxes of a panel.
type line struct {
	from, to int
	style    dot.Style
	// Bytes that cross, of an exchange.
	there, back int64
}

// lane is the title of a lane.
func (p *panel) lane(number int) string {
	s := p.lanes[number]
	if n := p.notes[number]; n != "" {
		s += "\n" + n
	}
	return s
}

// panels lists what is drawn of a plan: every block once. A block that does
// what the one before did, for the wanted rows instead of all tokens, is not
// drawn again.
func panels(p *Plan, size StepSize) []*panel {
	var list []*panel
	for i := range p.Programs {
		prog := &p.Programs[i]
		seen := make(map[string]bool)
		for _, r := range prog.Runs {
			at := slices.IndexFunc(prog.Blocks, func(b Block) bool { return b.Name == r.Block })
			if seen[r.Block] || at < 0 {
				continue
			}
			seen[r.Block] = true
			next := newSketch(p, prog, &prog.Blocks[at], size).panel()
			if n := len(list); n > 0 && list[n-1].key() == next.key() {
				list[n-1].label += "\n" + next.label + ": the same for the rows whose logits are wanted"
				continue
			}
			list = append(list, next)
		}
	}
	if len(list) > 0 {
		list[0].notes = make(map[int]string)
		boxes, _ := boxesOf(p)
		for _, b := range boxes {
			m := b.fullest()
			list[0].notes[b.at] = fmt.Sprintf("%s of %s", Bytes(m.Total), Bytes(m.Budget))
		}
	}
	return list
}

// key is everything that is seen of a panel but its name, with the wanted rows
// taken for tokens.
func (p *panel) key() string {
	var b strings.Builder
	rows := strings.NewReplacer("[S", "[T", ",S", ",T")
	for _, s := range p.steps {
		fmt.Fprintln(&b, s.Device, s.Name, s.Details, s.Experts, rows.Replace(s.Type))
	}
	for _, e := range p.edges {
		fmt.Fprintln(&b, e.from, e.to, e.style, e.there > 0, e.back > 0)
	}
	return b.String()
}

// sketch makes the panel of a block.
type sketch struct {
	plan  *Plan
	prog  *Program
	block *Block
	layer int // one of those it runs for
	flows []channelFlow
	boxOf map[int]*box
	out   panel
	made  map[bufKey]int // the drawn step that a buffer's value is from
	above []map[int]bool // of each drawn step: those that it needs
	meet  map[int][]int  // by channel
	order []int          // of channels
}

func newSketch(p *Plan, prog *Program, b *Block, size StepSize) *sketch {
	s := &sketch{plan: p, prog: prog, block: b, layer: -1, flows: blockFlows(prog, b, size.bounds(p.groups())), made: make(map[bufKey]int), meet: make(map[int][]int)}
	_, s.boxOf = boxesOf(p)
	s.out.lanes = make(map[int]string)
	for _, r := range prog.Runs {
		if r.Block == b.Name && r.Layers != NoLayers {
			s.layer = r.Layers.First
			break
		}
	}
	return s
}

func (s *sketch) panel() *panel {
	s.out.label = blockLabel(s.prog, s.block.Name)
	drawn := drawnOf(s.block, s.boxOf)
	for i := range s.block.Queues {
		q := &s.block.Queues[i]
		b := s.boxOf[q.Device]
		if d, ok := drawn[b]; !ok || d != q.Device {
			continue
		}
		s.out.lanes[b.at] = fmt.Sprintf("device %d", q.Device)
		if len(b.devices) > 1 {
			s.out.lanes[b.at] += ", for " + b.number()
		}
		s.lane(q)
	}
	for _, c := range s.order {
		members := s.meet[c]
		if len(members) > 1 {
			s.out.rows = append(s.out.rows, members)
		}
		for i := 1; i < len(members); i++ {
			s.join(members, i, c)
		}
	}
	return &s.out
}

// blockLabel says which layers a block runs for.
func blockLabel(prog *Program, block string) string {
	var layers []string
	count := 0
	for _, r := range prog.Runs {
		if r.Block == block && r.Layers != NoLayers {
			layers = append(layers, r.Layers.String())
			count += r.Layers.Len()
		}
	}
	switch {
	case count == 0:
		return block
	case count == 1:
		return "layer " + layers[0]
	}
	return fmt.Sprintf("layers %s: %d with the same plan, drawn once", strings.Join(layers, ", "), count)
}

// lane draws the steps of a device and what they read.
func (s *sketch) lane(q *Queue) {
	last := -1
	for i := range q.Steps {
		st := &q.Steps[i]
		from := s.sources(q.Device, st)
		at := slices.Max(append(from, -1))
		if shown(st) || len(s.apart(from)) > 1 {
			at = len(s.out.steps)
			s.out.steps = append(s.out.steps, s.step(q.Device, st))
			s.out.steps[at].first = len(from) == 0 && last < 0
			s.above = append(s.above, s.allAbove(from))
			for _, f := range s.apart(from) { // a longer way says the others already
				s.out.edges = append(s.out.edges, line{from: f, to: at})
			}
			if len(from) == 0 && last >= 0 {
				s.out.edges = append(s.out.edges, line{from: last, to: at, style: dot.Follows})
			}
			last = at
			if st.collective() {
				c := st.channel()
				if s.meet[c] == nil {
					s.order = append(s.order, c)
				}
				s.meet[c] = append(s.meet[c], at)
			}
		}
		if st.Out != "" && at >= 0 {
			s.made[bufKey{q.Device, st.Out}] = at
		}
	}
}

// shown reports whether a step gets a box.
func shown(s *Step) bool {
	has := func(op string) bool {
		return s.Op == op || slices.ContainsFunc(s.Body, func(b Step) bool { return b.Op == op })
	}
	reads := slices.ContainsFunc(s.Args, func(a Ref) bool { return a.Kind == WeightRef })
	return reads || s.collective() || has("attention") || has("topk") || has("combine") || has("combine_nodes")
}

// sources lists the boxes of a device that a step's operands are from.
func (s *sketch) sources(device int, st *Step) []int {
	var list []int
	for _, a := range st.Args {
		at, ok := s.made[bufKey{a.Device, a.Name}]
		if ok && a.Kind == BufferRef && a.Device == device && !slices.Contains(list, at) {
			list = append(list, at)
		}
	}
	return list
}

// allAbove lists what the boxes need, and themselves.
func (s *sketch) allAbove(from []int) map[int]bool {
	all := make(map[int]bool)
	for _, f := range from {
		all[f] = true
		maps.Copy(all, s.above[f])
	}
	return all
}

// apart returns the boxes that no other of the list needs. A step with several
// brings branches together.
func (s *sketch) apart(from []int) []int {
	return slices.DeleteFunc(slices.Clone(from), func(f int) bool {
		return slices.ContainsFunc(from, func(o int) bool { return s.above[o][f] })
	})
}

// join draws what passes between the members before list[i] and the others, in
// the middle between two that stand beside each other.
func (s *sketch) join(list []int, i, channel int) {
	left := make(map[int]bool)
	for _, at := range list[:i] {
		left[s.out.steps[at].Device] = true
	}
	e := line{from: list[i-1], to: list[i], style: dot.Exchange}
	for _, f := range s.flows {
		switch {
		case f.channel != channel || left[s.boxOf[f.From].at] == left[s.boxOf[f.To].at]:
		case left[s.boxOf[f.From].at]:
			e.there += f.Bytes
		default:
			e.back += f.Bytes
		}
	}
	if e.there > 0 || e.back > 0 {
		s.out.edges = append(s.out.edges, e)
	}
}

func (s *sketch) typeOf(device int, name string) tensor.Type {
	for _, list := range [][]Buffer{s.block.Buffers, s.prog.Buffers} {
		for _, b := range list {
			if b.Name == name && b.Device == device {
				return b.Type
			}
		}
	}
	return tensor.Type{}
}

// bothWays prints what passes between two boxes.
func bothWays(there, back int64) string {
	switch {
	case Bytes(there) == Bytes(back):
		return Bytes(there) + " each way"
	case back == 0:
		return Bytes(there)
	case there == 0:
		return Bytes(back)
	}
	return fmt.Sprintf("→ %s\n← %s", Bytes(there), Bytes(back))
}

// received prints what a device gets in a collective.
func (s *sketch) received(device, channel int) string {
	var sum int64
	for _, f := range s.flows {
		if f.channel == channel && f.To == device {
			sum += f.Bytes
		}
	}
	return "gets " + Bytes(sum)
}

// step describes a box.
func (s *sketch) step(device int, st *Step) drawnStep {
	var body, weights []string
	for i := range st.Body {
		body = append(body, st.Body[i].Op)
	}
	for _, a := range st.Args {
		if a.Kind == WeightRef {
			weights = append(weights, s.held(a)...)
		}
	}
	d := drawnStep{Box: dot.Box{Name: plainName(st, body), Details: dot.Pack(weights), Experts: expertsOf(st), Device: s.boxOf[device].at, Joint: st.collective()}}
	if st.collective() && st.Op != "send" {
		d.Details = append(d.Details, s.received(device, st.channel()))
	}
	if n, ok := attentionOf(st); ok {
		if heads := s.typeOf(device, n.Out).Shape; len(heads) > 1 {
			first := n.Attrs.Int("q_first", 0)
			d.Details = append(d.Details, fmt.Sprintf("heads %d-%d", first, first+heads[1].N-1))
		}
	}
	if t := s.typeOf(device, st.Out); t.DType != tensor.Invalid {
		d.Type = t.String()
	}
	return d
}

// plainNames are what a picture calls ops.
var plainNames = map[string]string{
	"rms_norm": "norm", "layer_norm": "norm", "topk": "choose", "combine_nodes": "combine own", "matmul_nodes": "matmul (part)",
	"expert_matmul": "experts", "expert_matmul_nodes": "experts (part)", "all_reduce": "all-reduce", "all_gather": "all-gather",
}

// plainName says what a step does, a fused one by the ops of its body.
func plainName(s *Step, body []string) string {
	names := dot.Summary(s.Op, body)
	for i, n := range names {
		if plain, ok := plainNames[n]; ok {
			names[i] = plain
		}
	}
	name := strings.Join(names, ", ")
	if s.Op == "topk" {
		name += fmt.Sprintf(" %d experts", s.Attrs.Int("k", 0))
	}
	return name
}

func attentionOf(st *Step) (*Step, bool) {
	if st.Op == "attention" {
		return st, true
	}
	for i := range st.Body {
		if st.Body[i].Op == "attention" {
			return &st.Body[i], true
		}
	}
	return nil, false
}

// held lists the parts of a weight that a device keeps: "wq[0:1024]" if it
// keeps some rows.
func (s *sketch) held(a Ref) []string {
	var list []string
	for _, w := range s.plan.Weights {
		if w.Name != a.Name || w.Device != a.Device || w.Layers != NoLayers && !w.Layers.Has(s.layer) {
			continue
		}
		for _, p := range w.Parts {
			list = append(list, p.Weight[strings.LastIndex(p.Weight, ".")+1:]+dot.Slice(p.Slice, p.Shape, p.Experts != nil))
		}
		break
	}
	return list
}

func expertsOf(s *Step) []int {
	if e := s.Attrs.Ints("experts"); e != nil {
		return e
	}
	for i := range s.Body {
		if e := s.Body[i].Attrs.Ints("experts"); e != nil {
			return e
		}
	}
	return nil
}
