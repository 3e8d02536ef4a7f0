package search

import (
	"slices"

	"moec/ir/placement"
)

// Where "exact" only bounds what experts cost that are some whole, some copied
// and some divided, or takes token groups for alike that have other tokens, the
// best that it put together may be beaten by a little. On few devices there are so
// few homes of an expert that all changes of one home, of two, and of who is called
// what, can be looked at.
const (
	maxHomes   = 64      // of an expert
	maxChanges = 1 << 16 // that are looked at in a round
)

// polish makes the best change of a layer's experts as long as there is one that
// lowers the score. It returns s itself if there is none, or too much to look at.
func (m *model) polish(s *state) (*state, error) {
	homes := m.allHomes() // none if there are many: then only names change
	if m.devices > maxGrowth || !m.feasible(s) {
		return s, nil
	}
	changes := 0
	for _, l := range s.p.Layers {
		pairs := len(l.Experts) * (len(l.Experts) - 1) / 2
		changes += len(homes) * (len(l.Experts) + pairs*len(homes))
	}
	if changes > maxChanges {
		return s, nil
	}
	now := s.clone()
	for {
		better, err := m.polishOnce(now, homes)
		if err != nil {
			return nil, err
		}
		if !better {
			break
		}
	}
	if now.score < s.score {
		return now, nil
	}
	return s, nil
}

// polishOnce makes the best change, if any lowers the score.
func (m *model) polishOnce(s *state, homes []placement.Expert) (bool, error) {
	best, least := edit{first: -1}, s.score
	look := func(l int, change func([]placement.Expert)) error {
		e := editExperts(s.p, l, change)
		t, err := m.try(s, e)
		if err != nil {
			return err
		}
		if t.score < least && m.fits(t.bytes) && (len(m.limits) == 0 || m.keeps(t.times)) {
			best, least = e, t.score
		}
		m.drop(s, t)
		return nil
	}
	for l := range s.p.Layers {
		for _, names := range choices(upTo(m.devices), m.devices) {
			if err := look(l, func(x []placement.Expert) { callOtherwise(x, names) }); err != nil {
				return false, err
			}
		}
		for a := range s.p.Layers[l].Experts {
			for _, h := range homes {
				if err := look(l, func(x []placement.Expert) { x[a] = h }); err != nil {
					return false, err
				}
				for b := range a {
					for _, g := range homes {
						if err := look(l, func(x []placement.Expert) { x[a], x[b] = h, g }); err != nil {
							return false, err
						}
					}
				}
			}
		}
	}
	if best.first < 0 {
		return false, nil
	}
	t, err := m.try(s, best)
	if err != nil {
		return false, err
	}
	m.keepTrial(s, t)
	return true, nil
}

// callOtherwise moves experts to devices of other names.
func callOtherwise(experts []placement.Expert, names []int) {
	for i, e := range experts {
		e = slices.Clone(e)
		for k, s := range e {
			s = slices.Clone(s)
			for j := range s {
				s[j].Device = names[s[j].Device]
			}
			e[k] = s
		}
		experts[i] = e
	}
}

// allHomes lists every home of an expert: copies in every order, each whole or
// divided. It returns nil if there are more than maxHomes.
func (m *model) allHomes() []placement.Expert {
	var list []placement.Expert
	var extend func(e placement.Expert, left []int)
	extend = func(e placement.Expert, left []int) {
		if len(e) > 0 {
			list = append(list, slices.Clone(e))
		}
		for n := 1; n <= len(left) && len(list) <= maxHomes; n++ {
			for _, order := range choices(left, n) {
				for _, s := range m.splits(order) {
					if len(s) == n && (n == 1 || !s.Copies(m.segments())) && len(list) <= maxHomes {
						extend(append(e, s), slices.DeleteFunc(slices.Clone(left), func(d int) bool { return slices.Contains(order, d) }))
					}
				}
			}
		}
	}
	extend(nil, upTo(m.devices))
	if len(list) > maxHomes {
		return nil
	}
	return list
}

// choices lists all ways to choose n of a list in order.
func choices(list []int, n int) [][]int {
	if n == 0 {
		return [][]int{nil}
	}
	var out [][]int
	for i, first := range list {
		for _, rest := range choices(slices.Delete(slices.Clone(list), i, i+1), n-1) {
			out = append(out, append([]int{first}, rest...))
		}
	}
	return out
}
