// Package placement says which device holds which part of a model.
//
// A Placement is data: decided for each layer, each part of a layer and each
// expert. Strategies and searches write it, a user may write it in a file, and
// the "place" pass turns it into a placed graph. The package reads, writes and
// checks placements; it holds no logic of how a graph is divided.
package placement

// Placement is the whole decision.
type Placement struct {
	// Devices is how many devices there are, numbered from 0.
	Devices int
	// Strategy is how the placement came about, for people: "tp", "file x.json".
	Strategy string
	// Segments is the number of leaves of a contraction that the shares below
	// count in: a share of a split part is a run of segments.
	Segments int
	Embed    []Split // for each token group of the first layer
	Layers   []Layer
	Head     []Split // for each token group of the last layer
}

// Layer places one layer.
type Layer struct {
	// Groups lists, for each token group, the devices that keep the layer's
	// residual stream for those tokens. One group holds all tokens; several
	// divide them by sequence. Layers of different pipeline stages have
	// different devices but the same number of groups.
	Groups [][]int
	// Attention splits attention heads, for each group.
	Attention []Split
	// Dense splits the features of dense feed-forward parts and of shared
	// experts, for each group.
	Dense []Split
	// Experts places each routed expert. If every group has a copy of every
	// expert on its own devices, each group keeps to its own copies; otherwise
	// the rows of all groups are gathered for the experts. Where a layer
	// chooses among experts more than once, expert e of each choice is placed
	// by entry e.
	Experts []Expert
}

// Split divides one part of a layer between devices of a group. Either the
// shares are disjoint and cover all segments, or each is everything: a copy
// on every device.
type Split []Share

// Share gives a device the segments Lo to Hi-1.
type Share struct {
	Device int
	Lo, Hi int
}

// Expert is one or more complete copies of an expert. Several copies take
// turns: copy r of n serves the tokens t with t mod n = r, where t counts the
// rows that the experts work on.
type Expert []Split

// Copies reports whether every share is everything.
func (s Split) Copies(segments int) bool {
	for _, sh := range s {
		if sh.Lo != 0 || sh.Hi != segments {
			return false
		}
	}
	return true
}

// Within reports whether all shares are on the devices listed.
func (s Split) Within(devices []int) bool {
	for _, sh := range s {
		if !contains(devices, sh.Device) {
			return false
		}
	}
	return true
}

// In returns the copies of the expert that lie on the devices listed alone.
func (e Expert) In(devices []int) Expert {
	var list Expert
	for _, s := range e {
		if s.Within(devices) {
			list = append(list, s)
		}
	}
	return list
}

// Local reports whether every group has a copy of every expert of its own, so
// that no rows need to be gathered for the experts.
func (l *Layer) Local() bool {
	for _, group := range l.Groups {
		for _, e := range l.Experts {
			if len(e.In(group)) == 0 {
				return false
			}
		}
	}
	return true
}
