package plan

import (
	"fmt"
	"maps"

	"moec/ir/dot"
)

// DOT draws a plan and the bytes of a step: a panel for each block and in it a lane for each device,
// with its steps as boxes from top to bottom and experts by number. The
// members of a collective are beside each other, joined by edges as wide as what
// crosses there. Steps that only move, round or scale what another made
// are left out. A block that runs for several layers is drawn once and says
// so.
func DOT(p *Plan, size StepSize) ([]byte, error) {
	pic := dot.NewPicture(title(p) + "\nBetween devices: what crosses, from one side of an edge to the other,\neach time a block runs in " + size.String())
	last := make(map[int]*dot.Node) // by device: where the block before ended
	for _, panel := range panels(p, size) {
		last = panel.draw(pic, last)
	}
	return pic.DOT()
}

// title says what the plan is for.
func title(p *Plan) string {
	strategy := ""
	if p.Placement.Strategy != "" {
		strategy = p.Placement.Strategy + ", "
	}
	return fmt.Sprintf("%s on %s of %s\n%s parameters, %d layers, %s%s numerics", p.Model.Name, count(len(p.Memory), "device"), p.Machine.Name, Count(p.Model.Params), p.Model.Layers, strategy, p.Numerics.Mode)
}

// draw adds a block, below the one before, and returns where each device's
// lane ends.
func (p *panel) draw(pic *dot.Picture, last map[int]*dot.Node) map[int]*dot.Node {
	outer := pic.Panel(p.label, dot.Plain)
	lanes := make(map[int]*dot.Panel)
	end := maps.Clone(last)
	nodes := make([]*dot.Node, len(p.steps))
	for i, s := range p.steps {
		if lanes[s.Device] == nil {
			lanes[s.Device] = outer.Panel(p.lane(s.Device), s.Device)
		}
		nodes[i] = lanes[s.Device].Box(s.Box)
		if before := last[s.Device]; before != nil && s.first {
			pic.Edge(before, nodes[i], dot.Carries, "")
		}
		end[s.Device] = nodes[i]
	}
	for _, e := range p.edges {
		if e.style == dot.Exchange {
			pic.Traffic(nodes[e.from], nodes[e.to], e.there, e.back, bothWays(e.there, e.back))
			continue
		}
		pic.Edge(nodes[e.from], nodes[e.to], e.style, "")
	}
	for _, row := range p.rows {
		var list []*dot.Node
		for _, at := range row {
			list = append(list, nodes[at])
		}
		pic.Row(list...)
	}
	return end
}
