package search

import (
	"maps"
	"slices"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/placement"
	"moec/passes"
)

// script is what the devices do in a part whatever experts they have: how far
// their clocks are when the experts begin, and what comes after.
type script struct {
	pre   []int64 // [load][device], in ps
	post  []event
	needs []passes.Need
	key   string // of needs
	held  []passes.Held
	bytes []int64 // [device]: weights but experts, and KV entries
	// wanted is, for each token group (-1 is all), the devices that go on with
	// what the experts give.
	wanted map[int][]int
	// known are the prices of parts that have this script, by the homes of
	// their experts.
	known map[*part]map[string]*partState
}

// event is a kernel on a device, or a meeting of several.
type event struct {
	device  int
	price   []int64 // [load]; of a kernel
	meeting []int   // devices that wait for each other; nil for a kernel
	members []member
}

// member of a collective, and what it then does.
type member struct {
	device int
	price  []int64 // [load]
}

func needsKey(list []passes.Need) string {
	if list == nil {
		return ""
	}
	var k scriptKey
	k.needs(list)
	return string(k.b)
}

// script returns the script of part i of a placement.
func (m *model) script(i int, p *placement.Placement, needs []passes.Need) (*script, error) {
	c := m.parts[i]
	m.scriptKey(i, p, needs)
	if s := c.scripts[string(m.key8)]; s != nil {
		return s, nil
	}
	key := string(m.key8)
	m.counts.Scripts++
	p = m.around(i, p)
	placed, err := m.Outline.Place(c.index, p, needs)
	if err != nil {
		return nil, err
	}
	s := &script{pre: make([]int64, len(m.loads)*m.devices), needs: placed.Needs, bytes: make([]int64, m.devices), known: map[*part]map[string]*partState{}}
	if s.needs == nil {
		s.needs = []passes.Need{}
	}
	s.key = needsKey(s.needs)
	for _, h := range placed.Held {
		if !h.Stack {
			s.held = append(s.held, h)
			s.bytes[h.Device] += h.Bytes
		}
	}
	for d, b := range placed.Cached {
		s.bytes[d] += b * int64(m.Positions)
	}
	before, after := around(placed.Nodes)
	groups := len(p.Layers[max(0, c.layer)].Groups)
	for _, e := range m.events(before, groups) {
		for i := range m.loads {
			e.apply(i, s.pre[i*m.devices:(i+1)*m.devices])
		}
	}
	s.post = m.events(after, groups)
	s.wanted = wanted(placed.Nodes)
	c.scripts[key] = s
	return s, nil
}

// around returns what comes before the experts are served, and after.
func around(nodes []passes.PlacedNode) (before, after []*ir.Node) {
	served := false
	for _, n := range nodes {
		switch {
		case n.Serves:
			served = true
		case served:
			after = append(after, n.Node)
		default:
			before = append(before, n.Node)
		}
	}
	return before, after
}

// wanted finds who goes on with what the experts give, which has two axes; the
// slots before have three.
func wanted(nodes []passes.PlacedNode) map[int][]int {
	combined, added := make(map[int][]int), make(map[int][]int)
	for _, n := range nodes {
		switch {
		case n.Serves && n.Op.Name == "combine":
			combined[n.Group] = append(combined[n.Group], n.Device)
		case n.Serves && n.Op.Name == "all_reduce" && len(n.Type.Shape) == 2:
			added[n.Group] = append(added[n.Group], n.Device)
		}
	}
	maps.Copy(combined, added)
	return combined
}

// events prices nodes under every load.
func (m *model) events(nodes []*ir.Node, groups int) []event {
	pricers := make([]*cost.Pricer, len(m.loads))
	for i := range m.loads {
		pricers[i] = cost.NewPricer(m.Machine, m.loads[i].Load, groups)
	}
	price := func(n *ir.Node) []int64 {
		list := make([]int64, len(pricers))
		for i, p := range pricers {
			list[i] = p.Node(n, nil).Total()
		}
		return list
	}
	var list []event
	for i := 0; i < len(nodes); i++ {
		n := nodes[i]
		if !n.Op.Has(ir.Collective) {
			list = append(list, event{device: n.Device, price: price(n)})
			continue
		}
		e := event{meeting: []int{}}
		channel := n.Attrs.Int("channel", -1)
		for ; i < len(nodes) && nodes[i].Op.Has(ir.Collective) && nodes[i].Attrs.Int("channel", -1) == channel; i++ {
			e.members = append(e.members, member{nodes[i].Device, price(nodes[i])})
			e.join(nodes[i].Device)
			for _, a := range nodes[i].Args {
				e.join(a.Device)
			}
		}
		i--
		list = append(list, e)
	}
	return list
}

func (e *event) join(device int) {
	if !slices.Contains(e.meeting, device) {
		e.meeting = append(e.meeting, device)
	}
}

// apply lets an event happen to the clocks of a load.
func (e *event) apply(load int, clock []int64) {
	if e.meeting == nil {
		clock[e.device] += e.price[load]
		return
	}
	var last int64
	for _, d := range e.meeting {
		last = max(last, clock[d])
	}
	for _, d := range e.meeting {
		clock[d] = last
	}
	for _, w := range e.members {
		clock[w.device] += w.price[load]
	}
}
