package plan

import (
	"cmp"
	"slices"

	"moec/ir/dot"
)

// box is a device, or several that follow each other.
type box struct {
	at      int // its number
	devices []Memory
	node    *dot.Node // in an overview
}

func (b *box) String() string { return plural(len(b.devices), "device") + " " + b.number() }

// number prints "3" or "8-15".
func (b *box) number() string {
	return Range{b.devices[0].Device, b.devices[len(b.devices)-1].Device}.String()
}

// fullest returns the account of the device with the most in use.
func (b *box) fullest() Memory {
	return slices.MaxFunc(b.devices, func(a, c Memory) int { return cmp.Compare(a.Total, c.Total) })
}

// has reports whether a device is in the box.
func (b *box) has(device int) bool {
	return slices.ContainsFunc(b.devices, func(m Memory) bool { return m.Device == device })
}

// boxesOf deals the devices of a plan out to as many boxes as there are colours,
// at most.
func boxesOf(p *Plan) ([]*box, map[int]*box) {
	var list []*box
	of := make(map[int]*box)
	each := (len(p.Memory) + dot.Colours - 1) / dot.Colours
	for devices := range slices.Chunk(p.Memory, max(1, each)) {
		b := &box{at: len(list), devices: devices}
		list = append(list, b)
		for _, m := range devices {
			of[m.Device] = b
		}
	}
	return list, of
}

// drawnOf returns the device that is drawn for each box in a block: the first
// that does something.
func drawnOf(b *Block, boxOf map[int]*box) map[*box]int {
	drawn := make(map[*box]int)
	for i := range b.Queues {
		q := &b.Queues[i]
		if _, ok := drawn[boxOf[q.Device]]; !ok && len(q.Steps) > 0 {
			drawn[boxOf[q.Device]] = q.Device
		}
	}
	return drawn
}
