package search

import (
	"fmt"
	"slices"

	"moec/ir/placement"
	"moec/passes"
)

// Names lists the strategies that people would name for n devices, in the
// order that breaks ties: every product of two factors, and tensor parallelism
// inside token groups whose experts are spread.
func Names(n int) []string {
	list := []string{fmt.Sprintf("tp%d", n)}
	if n == 1 {
		return list
	}
	list = append(list, fmt.Sprintf("ep%d", n))
	for d := 2; d < n; d++ {
		if n%d == 0 {
			list = append(list, fmt.Sprintf("tp%dep%d", n/d, d))
		}
	}
	list = append(list, fmt.Sprintf("adp%d", n), fmt.Sprintf("dp%d", n), fmt.Sprintf("pp%d", n))
	for d := 2; d < n; d++ {
		if n%d == 0 {
			for _, pair := range []string{"adp%dtp%d", "dp%dtp%d", "pp%dtp%d", "dp%dep%d", "pp%dep%d", "pp%dadp%d"} {
				list = append(list, fmt.Sprintf(pair, d, n/d))
			}
		}
	}
	return list
}

// Plan is a strategy by name and what came of it.
type Plan struct {
	Name   string
	Why    string // why it is not possible, or ""
	Place  *placement.Placement
	priced *state
}

// hand prices the named strategies. Those with degrees that the model cannot
// be divided by say so.
func (m *model) hand() []*Plan {
	var list []*Plan
	for _, name := range Names(m.devices) {
		h := &Plan{Name: name}
		p, err := passes.NamedFor(m.Outline.Summary, name, m.devices)
		if err == nil {
			h.Place = p
			h.priced, err = m.place(p)
		}
		if err != nil {
			h.Why = err.Error()
		} else {
			h.Why = m.why(h.priced.bytes, h.priced.times)
		}
		list = append(list, h)
	}
	return list
}

// copied returns variants of plans that nobody names: with a copy of attention
// and dense parts on every device of a token group, so that nothing needs to be
// added up but experts. Walks may begin there and take layers from them.
func (m *model) copied(hand []*Plan) []*Plan {
	var list []*Plan
	for _, h := range hand {
		if h.Place == nil {
			continue
		}
		p := *h.Place
		p.Layers = slices.Clone(p.Layers)
		different := false
		for l := range p.Layers {
			layer := &p.Layers[l]
			layer.Attention = nil
			for _, g := range layer.Groups {
				var s placement.Split
				for _, d := range g {
					s = append(s, placement.Share{Device: d, Lo: 0, Hi: m.segments()})
				}
				different = different || len(g) > 1
				layer.Attention = append(layer.Attention, s)
			}
			layer.Dense = layer.Attention
		}
		if !different {
			continue
		}
		v := &Plan{Name: h.Name + " with attention copied", Place: &p}
		p.Strategy = v.Name
		var err error
		if v.priced, err = m.place(&p); err != nil {
			continue
		}
		list = append(list, v)
	}
	return list
}

// tooLarge says what the fullest device needs and has.
func (m *model) tooLarge(bytes []int64) string {
	var most int64
	for _, b := range bytes {
		most = max(most, b)
	}
	return fmt.Sprintf("does not fit: a device would keep %.1f GB, has room for %.1f", gigabytes(most), gigabytes(m.budget))
}

// gigabytes converts bytes to the unit that memories are sold in.
func gigabytes(bytes int64) float64 { return float64(bytes) / 1e9 }
