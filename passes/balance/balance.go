// Package balance places the experts of mixture-of-experts layers on devices:
// with copies of the busy ones, so that no device has more to do than the
// others, or side by side with those that the same tokens choose in the next
// layer.
//
// In go how often experts are chosen, and the numbers of slots, devices, nodes
// and expert groups; out come layouts, which say for each slot of each device
// which expert it keeps. EPLB gives the layouts of DeepSeek's load balancer, a
// Balancer gives layouts that are never worse, Affinity counts transitions
// instead of loads. Layouts of other tools can be read and written. The
// package never looks at a graph or a machine: what a layout costs beside the
// balance of loads is for others to say.
package balance

import (
	"fmt"
	"math"

	"moec/ir/placement"
)

// Shape is what one layer's experts are placed on.
type Shape struct {
	Experts int
	// Slots is how many copies of experts all devices keep together: slot i is
	// on device i / (Slots/Devices).
	Slots, Devices int
	// Nodes are equal runs of devices, Groups equal runs of experts. Where
	// Nodes divides Groups, every group keeps to one node, and every node has
	// the same number of groups; else nodes and groups do not matter, as with
	// EPLB.
	Nodes, Groups int
	// Distinct asks a Balancer for layouts in which no device keeps an expert
	// twice; slots that this leaves without use hold None. EPLB ignores it.
	Distinct bool
}

// None is the expert of a slot that is not used.
const None = -1

// maxExperts bounds sizes that are read from files and flags.
const maxExperts = 1 << 16

// Check says what is wrong with a shape.
func (s Shape) Check() error {
	switch {
	case s.Experts < 1 || s.Experts > maxExperts:
		return fmt.Errorf("balance: need 1 to %d experts, have %d", maxExperts, s.Experts)
	case s.Devices < 1 || s.Nodes < 1 || s.Groups < 1:
		return fmt.Errorf("balance: need at least one device, node and group, have %d, %d and %d", s.Devices, s.Nodes, s.Groups)
	case s.Slots < s.Experts || s.Slots > maxExperts:
		return fmt.Errorf("balance: need %d to %d slots for %d experts, have %d", s.Experts, maxExperts, s.Experts, s.Slots)
	case s.Slots%s.Devices != 0:
		return fmt.Errorf("balance: need the same number of slots on each of %d devices, have %d in all; use a multiple of %d", s.Devices, s.Slots, s.Devices)
	case s.Groups%s.Nodes != 0:
		return nil // nodes and groups do not matter
	case s.Experts%s.Groups != 0:
		return fmt.Errorf("balance: need groups of equal size, have %d experts in %d groups", s.Experts, s.Groups)
	case s.Devices%s.Nodes != 0:
		return fmt.Errorf("balance: need nodes of equal size, have %d devices on %d nodes", s.Devices, s.Nodes)
	}
	return nil
}

// flat returns the shape with one node and one group where they do not matter.
func (s Shape) flat() Shape {
	if s.Groups%s.Nodes != 0 {
		s.Nodes, s.Groups = 1, 1
	}
	return s
}

// checkLoads refuses loads that do not fit the shape or whose sum is no int64.
func (s Shape) checkLoads(loads []int64) error {
	if len(loads) != s.Experts {
		return fmt.Errorf("balance: need the loads of %d experts, have %d", s.Experts, len(loads))
	}
	var sum int64
	for e, w := range loads {
		if w < 0 {
			return fmt.Errorf("balance: expert %d has a load of %d: need 0 or more", e, w)
		}
		if sum += w; sum < 0 || sum > maxLoad {
			return fmt.Errorf("balance: the loads add up to more than %d; divide all of them by a number", int64(maxLoad))
		}
	}
	return nil
}

// maxLoad leaves room for shares of loads in small units; see units.
const maxLoad = math.MaxInt64 >> 14

// Counts returns how many copies of each expert a layout has.
func Counts(layout []int, experts int) []int {
	count := make([]int, experts)
	for _, e := range layout {
		if e != None {
			count[e]++
		}
	}
	return count
}

// Slots returns, for each expert, the slots of a layout that keep it.
func Slots(layout []int, experts int) [][]int {
	slots := make([][]int, experts)
	for i, e := range layout {
		if e != None {
			slots[e] = append(slots[e], i)
		}
	}
	return slots
}

// Homes returns, for each expert, the devices that keep it, ascending. Copies
// of an expert on one device are one home.
func Homes(layout []int, experts, devices int) [][]int {
	homes := make([][]int, experts)
	size := len(layout) / devices
	for i, e := range layout {
		if e == None {
			continue
		}
		if h := homes[e]; len(h) == 0 || h[len(h)-1] != i/size {
			homes[e] = append(h, i/size)
		}
	}
	return homes
}

// Loads returns the load of each device when the copies of an expert share
// its load alike, slot by slot.
func Loads(layout []int, loads []int64, devices int) []float64 {
	count := Counts(layout, len(loads))
	out := make([]float64, devices)
	size := len(layout) / devices
	for i, e := range layout {
		if e != None {
			out[i/size] += float64(loads[e]) / float64(count[e])
		}
	}
	return out
}

// Map returns the rows of an expert map that give layer layers[i] the homes
// homes[i], which list the devices of each expert.
func Map(layers []int, homes [][][]int) []placement.MapRun {
	var runs []placement.MapRun
	for i, h := range homes {
		runs = append(runs, placement.MapRun{First: layers[i], Last: layers[i], Homes: h})
	}
	return runs
}

// Keep orders the slots of each device so that the experts that it kept before
// stay in their slots, and only what is new must be loaded. Both layouts have
// the same size.
func Keep(old, layout []int, devices int) []int {
	out := make([]int, len(layout))
	size := len(layout) / devices
	for d := range devices {
		keepDevice(old[d*size:(d+1)*size], layout[d*size:(d+1)*size], out[d*size:(d+1)*size])
	}
	return out
}

// keepDevice does it for the slots of one device.
func keepDevice(old, layout, out []int) {
	placed := make([]bool, len(layout)) // of the slots of layout
	filled := make([]bool, len(out))
	for i, e := range old {
		for j, f := range layout {
			if e == f && !placed[j] {
				out[i], placed[j], filled[i] = e, true, true
				break
			}
		}
	}
	i := 0
	for j, e := range layout {
		if placed[j] {
			continue
		}
		for filled[i] {
			i++
		}
		out[i], filled[i] = e, true
	}
}
