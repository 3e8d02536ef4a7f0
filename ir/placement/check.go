package placement

import (
	"fmt"
	"slices"
)

// Summary is what placements need to know of a model.
type Summary struct {
	Segments int // leaves of a contraction
	Layers   []LayerSummary
	Embed    int // leaves that the embedding can be divided into; 0: there is none
	Head     int // the same of the head
}

// LayerSummary is the same of a layer. Leaves are how many shares a part can
// be divided into: 1 for a part that cannot be divided, 0 for none.
type LayerSummary struct {
	Experts   int // routed experts
	Attention int // leaves of attention: at most its query heads
	Dense     int // leaves of dense feed-forward parts and shared experts
	Inner     int // leaves of one routed expert
}

// Error says why a placement does not fit a model, or contradicts itself.
type Error struct {
	Where  string // "layer 3, attention of group 0"
	Need   string
	Have   string
	Remedy string // or ""
}

// Error implements error on one line.
func (e *Error) Error() string {
	s := "placement: " + e.Where + ": need " + e.Need + ", have " + e.Have
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

func problem(where, need, have string, args ...any) *Error {
	return &Error{Where: where, Need: need, Have: fmt.Sprintf(have, args...)}
}

// Check reports the first way in which p contradicts itself or does not fit
// the model.
func (p *Placement) Check(m Summary) error {
	switch {
	case p.Devices < 1:
		return problem("devices", "at least 1", "%d", p.Devices)
	case p.Segments != m.Segments:
		e := problem("segments", fmt.Sprint(m.Segments), "%d", p.Segments)
		e.Remedy = "make the placement again, or compile with as many segments"
		return e
	case len(p.Layers) != len(m.Layers):
		return problem("layers", fmt.Sprint(len(m.Layers)), "%d", len(p.Layers))
	case len(p.Layers) == 0:
		return problem("layers", "at least 1", "0")
	}
	for i := range p.Layers {
		if err := p.checkLayer(i, m.Layers[i]); err != nil {
			return err
		}
	}
	if err := p.checkSplits("embed", p.Layers[0].Groups, p.Embed); err != nil {
		return err
	}
	return p.checkSplits("head", p.Layers[len(p.Layers)-1].Groups, p.Head)
}

func (p *Placement) checkLayer(i int, m LayerSummary) error {
	l := &p.Layers[i]
	where := fmt.Sprintf("layer %d", i)
	if want := len(p.Layers[0].Groups); len(l.Groups) != want || want == 0 {
		return problem(where+", groups", fmt.Sprintf("%d as in layer 0, and at least 1", want), "%d", len(l.Groups))
	}
	var seen []int
	for g, group := range l.Groups {
		at := fmt.Sprintf("%s, group %d", where, g)
		if len(group) == 0 {
			return problem(at, "at least one device", "none")
		}
		for _, d := range group {
			if d < 0 || d >= p.Devices {
				return problem(at, fmt.Sprintf("devices from 0 to %d", p.Devices-1), "device %d", d)
			}
			if slices.Contains(seen, d) {
				return problem(at, "each device once in one group", "device %d twice", d)
			}
			seen = append(seen, d)
		}
	}
	if err := p.checkSplits(where+", attention", l.Groups, l.Attention); err != nil {
		return err
	}
	if err := p.checkSplits(where+", dense", l.Groups, l.Dense); err != nil {
		return err
	}
	if len(l.Experts) != m.Experts {
		return problem(where+", experts", fmt.Sprint(m.Experts), "%d", len(l.Experts))
	}
	for e, expert := range l.Experts {
		if err := p.checkExpert(fmt.Sprintf("%s, expert %d", where, e), expert); err != nil {
			return err
		}
	}
	return nil
}

// checkSplits checks a split for each group.
func (p *Placement) checkSplits(where string, groups [][]int, splits []Split) error {
	if len(splits) != len(groups) {
		return problem(where, fmt.Sprintf("a split for each of %d groups", len(groups)), "%d", len(splits))
	}
	for g, s := range splits {
		at := fmt.Sprintf("%s of group %d", where, g)
		if err := p.checkSplit(at, s); err != nil {
			return err
		}
		if !s.Within(groups[g]) {
			return problem(at, fmt.Sprintf("devices of %v", groups[g]), "%v", s.devices())
		}
	}
	return nil
}

func (p *Placement) checkSplit(where string, s Split) error {
	if len(s) == 0 {
		return problem(where, "at least one share", "none")
	}
	covered := 0
	for i, sh := range s {
		if sh.Device < 0 || sh.Device >= p.Devices {
			return problem(where, fmt.Sprintf("devices from 0 to %d", p.Devices-1), "device %d", sh.Device)
		}
		if contains(s[:i].devices(), sh.Device) {
			return problem(where, "one share for a device", "two for device %d", sh.Device)
		}
		if sh.Lo < 0 || sh.Lo >= sh.Hi || sh.Hi > p.Segments {
			return problem(where, fmt.Sprintf("shares from lo to hi with 0 <= lo < hi <= %d", p.Segments), "%d to %d", sh.Lo, sh.Hi)
		}
		if sh.Lo == covered {
			covered = sh.Hi
		} else if !s.Copies(p.Segments) {
			return problem(where, fmt.Sprintf("shares in order of their segments, the next from %d", covered), "%d to %d", sh.Lo, sh.Hi)
		}
	}
	if covered != p.Segments {
		return problem(where, fmt.Sprintf("all %d segments", p.Segments), "segments 0 to %d", covered-1)
	}
	return nil
}

// checkExpert checks the copies of an expert: several shares of everything
// would be several copies, and must be written so.
func (p *Placement) checkExpert(where string, e Expert) error {
	if len(e) == 0 {
		return problem(where, "at least one copy", "none")
	}
	var held []int
	for _, s := range e {
		if err := p.checkSplit(where, s); err != nil {
			return err
		}
		if len(s) > 1 && s.Copies(p.Segments) {
			return problem(where, "shares that divide the expert", "%d shares of everything", len(s))
		}
		for _, sh := range s {
			if contains(held, sh.Device) {
				return problem(where, "copies on different devices", "two on device %d", sh.Device)
			}
			held = append(held, sh.Device)
		}
	}
	return nil
}

func (s Split) devices() []int {
	list := make([]int, len(s))
	for i, sh := range s {
		list[i] = sh.Device
	}
	return list
}

func contains(list []int, d int) bool { return slices.Contains(list, d) }
