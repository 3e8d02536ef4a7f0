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
	notes map[int]string // by device, beside its number
	steps []drawnStep
	edges []line
	rows  [][]int // steps that stand beside each other: members of a collective
}

// drawnStep is a box.
type drawnStep struct {
	dot.Box
	first bool // nothing in the lane comes before it
	send  bool // gives to a collective without having its result
}

// line is an edge between two boxes of a panel.
type line struct {
	from, to int
	style    dot.Style
	label    string
}

// lane is the title of a device's lane.
func (p *panel) lane(device int) string {
	s := fmt.Sprintf("device %d", device)
	if n := p.notes[device]; n != "" {
		s += "\n" + n
	}
	return s
}

// panels lists what is drawn of a plan: every block once. A block that does
// what the one before did, for the wanted rows instead of all tokens, is not
// drawn again.
func panels(p *Plan) []*panel {
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
			next := newSketch(p, prog, &prog.Blocks[at]).panel()
			if n := len(list); n > 0 && list[n-1].key() == next.key() {
				list[n-1].label += "\n" + next.label + ": the same for the rows whose logits are wanted"
				continue
			}
			list = append(list, next)
		}
	}
	if len(list) > 0 {
		list[0].notes = make(map[int]string)
		for _, m := range p.Memory {
			list[0].notes[m.Device] = fmt.Sprintf("%s of %s", Bytes(m.Total), Bytes(m.Budget))
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
		fmt.Fprintln(&b, e.from, e.to, e.style)
	}
	return b.String()
}

// sketch makes the panel of a block.
type sketch struct {
	plan  *Plan
	prog  *Program
	block *Block
	layer int // one of those it runs for
	out   panel
	made  map[bufKey]int // the drawn step that a buffer's value is from
	above []map[int]bool // of each drawn step: those that it needs
	meet  map[int][]int  // by channel
	order []int          // of channels
}

func newSketch(p *Plan, prog *Program, b *Block) *sketch {
	s := &sketch{plan: p, prog: prog, block: b, layer: -1, made: make(map[bufKey]int), meet: make(map[int][]int)}
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
	for i := range s.block.Queues {
		s.lane(&s.block.Queues[i])
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

// join draws what passes between two members of a collective that stand beside
// each other: to both, or towards the nearest one that has the result.
func (s *sketch) join(list []int, i, channel int) {
	a, b := list[i-1], list[i]
	gives, gets := s.gives(s.out.steps[a].Device, channel), s.gives(s.out.steps[b].Device, channel)
	label := gives
	switch {
	case gives == "":
		label = gets
	case gets != "" && gets != gives:
		label = gives + " / " + gets
	}
	has := func(at int) bool { return !s.out.steps[at].send }
	left, right := slices.IndexFunc(reversed(list[:i]), has), slices.IndexFunc(list[i:], has)
	switch {
	case left == 0 && right == 0:
		s.out.edges = append(s.out.edges, line{a, b, dot.Exchange, label})
	case left >= 0 && (right < 0 || left <= right):
		s.out.edges = append(s.out.edges, line{b, a, dot.Sends, gets})
	default:
		s.out.edges = append(s.out.edges, line{a, b, dot.Sends, gives})
	}
}

func reversed(list []int) []int {
	list = slices.Clone(list)
	slices.Reverse(list)
	return list
}

// gives says how much a device contributes to a collective.
func (s *sketch) gives(device, channel int) string {
	var sizes []string
	for _, q := range s.block.Queues {
		if q.Device != device {
			continue
		}
		for i := range q.Steps {
			st := &q.Steps[i]
			for _, a := range st.Args {
				if st.collective() && st.channel() == channel && a.Device == device {
					sizes = append(sizes, perRow(s.typeOf(device, a.Name)))
				}
			}
		}
	}
	return strings.Join(sizes, " + ")
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

// perRow is the size of a value for each token or wanted row.
func perRow(t tensor.Type) string {
	size := Bytes(int64(t.Shape.Static() * t.DType.Bytes()))
	switch t.Shape.Sym().Base() {
	case tensor.Tokens:
		return size + " a token"
	case tensor.Rows:
		return size + " a row"
	}
	return size
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
	d := drawnStep{Box: dot.Box{Name: plainName(st, body), Details: dot.Pack(weights), Experts: expertsOf(st), Device: device, Joint: st.collective()}, send: st.Op == "send"}
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
