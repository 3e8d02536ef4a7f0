package simulate

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
)

// schedule finds the collectives of the block and an order in which
// everything can be done: each device works through its queue up to a
// collective that others have not reached.
func (v *variant) schedule() error {
	if err := v.findMeetings(); err != nil {
		return err
	}
	at := make([]int, len(v.queues))
	waiting := make([]int, len(v.meets))
	for progress := true; progress; {
		progress = false
		for i, q := range v.queues {
			for at[i] < len(q.steps) {
				st := q.steps[at[i]]
				if st.meet != nil {
					break
				}
				v.order = append(v.order, unit{step: st})
				at[i]++
				progress = true
			}
		}
		clear(waiting)
		for i, q := range v.queues {
			if at[i] == len(q.steps) {
				continue
			}
			m := q.steps[at[i]].meet
			if waiting[m.index]++; waiting[m.index] == len(m.steps) {
				v.order = append(v.order, unit{meet: m})
				progress = true
			}
		}
		for i, q := range v.queues {
			if at[i] < len(q.steps) && waiting[q.steps[at[i]].meet.index] == len(q.steps[at[i]].meet.steps) {
				at[i]++
			}
		}
	}
	return v.stuck(at)
}

// findMeetings joins the steps of each channel.
func (v *variant) findMeetings() error {
	byChannel := make(map[int]*meeting)
	devices := make(map[int]bool)
	for _, q := range v.queues {
		if devices[q.device] {
			return &Error{What: fmt.Sprintf("device %d has two queues", q.device), Remedy: verifyIt}
		}
		devices[q.device] = true
		for _, st := range q.steps {
			if !st.node.Op.Has(ir.Collective) {
				continue
			}
			c := st.node.Attrs.Int("channel", -1)
			if c < 0 {
				return &Error{What: fmt.Sprintf("device %d: step %d (%s) has no channel", q.device, st.at, st.op), Remedy: verifyIt}
			}
			m := byChannel[c]
			if m == nil {
				m = &meeting{index: len(v.meets), channel: c}
				byChannel[c] = m
				v.meets = append(v.meets, m)
			}
			if n := len(m.steps); n > 0 && m.steps[n-1].device == st.device {
				return &Error{What: fmt.Sprintf("device %d has two steps of channel %d", st.device, c), Remedy: verifyIt}
			}
			st.meet = m
			m.steps = append(m.steps, st)
		}
	}
	for _, m := range v.meets {
		slices.SortFunc(m.steps, func(a, b *step) int { return a.device - b.device })
		if err := m.owners(); err != nil {
			return err
		}
	}
	return nil
}

// owners checks that whoever owns an operand takes part.
func (m *meeting) owners() error {
	for _, st := range m.steps {
		for _, a := range st.node.Args {
			if !slices.ContainsFunc(m.steps, func(o *step) bool { return o.device == a.Device }) {
				return &Error{What: fmt.Sprintf("device %d owns an operand of channel %d and takes no part", a.Device, m.channel), Remedy: verifyIt}
			}
		}
	}
	return nil
}

// stuck reports devices that wait for ever.
func (v *variant) stuck(at []int) error {
	var list []string
	for i, q := range v.queues {
		if at[i] < len(q.steps) {
			list = append(list, fmt.Sprintf("device %d at step %d (%s, channel %d)", q.device, at[i], q.steps[at[i]].op, q.steps[at[i]].meet.channel))
		}
	}
	if list == nil {
		return nil
	}
	return &Error{What: "devices wait for each other for ever: " + strings.Join(list, ", "), Remedy: verifyIt}
}
