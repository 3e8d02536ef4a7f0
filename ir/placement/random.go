package placement

import (
	"math/rand/v2"
	"slices"
)

// placing makes random placements.
type placing struct {
	*rand.Rand
	devices, segments int
}

// Random returns a valid placement of a model on that many devices: any token
// groups, stages, splits, and homes of experts. The same source gives the same
// placements.
func Random(rng *rand.Rand, m Summary, devices int) *Placement {
	r := placing{rng, devices, m.Segments}
	p := &Placement{Devices: devices, Strategy: "random", Segments: r.segments}
	groups := 1
	if r.IntN(2) == 0 {
		groups += r.IntN(r.devices)
	}
	stage := r.groups(groups)
	for l := range m.Layers {
		if r.IntN(3) == 0 {
			stage = r.groups(groups)
		}
		p.Layers = append(p.Layers, r.layer(stage, m.Layers[l].Experts))
	}
	p.Embed = r.each(p.Layers[0].Groups)
	p.Head = r.each(p.Layers[len(p.Layers)-1].Groups)
	return p
}

// groups deals some devices out to n token groups.
func (r placing) groups(n int) [][]int {
	devices := r.Perm(r.devices)
	devices = devices[:n+r.IntN(len(devices)-n+1)]
	groups := make([][]int, n)
	for i, d := range devices {
		g := i
		if i >= n {
			g = r.IntN(n)
		}
		groups[g] = append(groups[g], d)
	}
	return groups
}

func (r placing) layer(groups [][]int, experts int) Layer {
	l := Layer{Groups: groups, Attention: r.each(groups), Dense: r.each(groups)}
	style := r.IntN(4)
	uniform := r.homes(style, groups)
	for range experts {
		if style < 3 { // else all experts live the same way
			l.Experts = append(l.Experts, r.homes(style, groups))
		} else {
			l.Experts = append(l.Experts, uniform)
		}
	}
	return l
}

// homes places an expert: on one device, in copies that take turns, or at
// home in every group.
func (r placing) homes(style int, groups [][]int) Expert {
	if style == 0 {
		d := r.IntN(r.devices)
		return Expert{{{Device: d, Lo: 0, Hi: r.segments}}}
	}
	var e Expert
	if style == 1 {
		for _, g := range groups {
			e = append(e, r.split(g, false))
		}
		return e
	}
	devices := r.Perm(r.devices)
	for range 1 + r.IntN(3) {
		n := 1 + r.IntN(len(devices))
		e = append(e, r.split(devices[:n], false))
		if devices = devices[n:]; len(devices) == 0 || r.IntN(2) == 0 {
			break
		}
	}
	return e
}

// each splits a part within each token group.
func (r placing) each(groups [][]int) []Split {
	var list []Split
	for _, g := range groups {
		list = append(list, r.split(g, true))
	}
	return list
}

// split divides segments between some of the devices at random bounds, or
// copies them.
func (r placing) split(devices []int, copies bool) Split {
	var some []int
	for _, i := range r.Perm(len(devices))[:1+r.IntN(len(devices))] {
		some = append(some, devices[i])
	}
	var s Split
	if copies && r.IntN(4) == 0 {
		for _, d := range some {
			s = append(s, Share{Device: d, Lo: 0, Hi: r.segments})
		}
		return s
	}
	some = some[:min(len(some), r.segments)]
	cuts := r.Perm(r.segments - 1)[:len(some)-1]
	slices.Sort(cuts)
	lo := 0
	for i, d := range some {
		hi := r.segments
		if i < len(cuts) {
			hi = cuts[i] + 1
		}
		s = append(s, Share{Device: d, Lo: lo, Hi: hi})
		lo = hi
	}
	return s
}
