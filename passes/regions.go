package passes

import (
	"moec/ir"
)

// Kind says which part of a layer a region is, and so which split of a
// placement divides it.
type Kind string

// The kinds of regions.
const (
	Embedding Kind = "embedding" // looks the tokens up; divided along features
	Attention Kind = "attention" // contains an attention op; divided along query heads
	Dense     Kind = "dense"     // feed-forward part or shared expert; divided along features
	Experts   Kind = "experts"   // routed experts; divided by expert, and each along features
	Head      Kind = "head"      // makes the logits; divided along the vocabulary
)

// Region is a part of the graph that devices may share: each device computes
// the same nodes on its own run of units. Nodes in no region are computed
// whole by every device of their group, which is always right.
//
//	x ──► Open ──► Inner ──► Close ──► sum over devices
//	whole     cut       cut        partial
//
// A region is a fact about the logical graph. It does not depend on a
// placement.
type Region struct {
	Kind  Kind
	Layer int // -1 for Embedding and Head
	// Units is the number of equal pieces that a device may hold a run of:
	// query heads, or runs of features. 1 means that the region cannot be
	// divided this way (Experts regions may still be divided by expert).
	Units int
	// Bounds cuts the units into segments: segment i holds the units
	// Bounds[i] to Bounds[i+1]-1. It has at most Numerics.Segments segments
	// and none is empty. A share of a placement is a run of segments.
	Bounds []int
	// Open has the contractions that read whole values and whose output
	// features are cut, Inner what lies between, Close the contractions whose
	// input features are cut: their results are partial sums, to be added
	// over the devices along the tree over segments. Each is in graph order.
	// Embedding and Head regions have no Close.
	Open, Inner, Close []*ir.Node
	// Members has the cuts of every node of Open, Inner and Close.
	Members map[*ir.Node]Member
	// Gather has the members whose cut result somebody reads whole: a norm
	// over all heads, a node outside the region, an output. Their shards are
	// joined along the axis of their cut, of which Share is 1.
	Gather []*ir.Node

	// Experts regions only. Before, Open, Inner, Close and After together are
	// all nodes that compute rows of slots; they run on the devices that hold
	// the experts. Before starts at dispatch and is whole, After follows the
	// sum over Close and is whole. Combine adds the slots up.
	Before, After []*ir.Node
	Combine       *ir.Node
	Total         int // experts of the layer
}

// Member is a node of a region: how its result and its operands are cut. An
// operand that is cut but is not itself a member is whole on the device, which
// takes its part with a slice; of a weight it holds only that slice.
type Member struct {
	Result Cut   // whole for Close
	Args   []Cut // one for each operand
}

// Cut says which axis of a value the units of a region lie along.
//
// The axis has Units/Share runs of Unit entries. Share is 1 except for KV
// heads, each of which serves Share units (query heads); two devices may then
// both hold the same run.
type Cut struct {
	Axis  int // -1: the value is whole
	Unit  int
	Share int
}

// Whole is the cut of a value that is not cut.
var Whole = Cut{Axis: -1}

// IsWhole reports whether the value is not cut.
func (c Cut) IsWhole() bool { return c.Axis < 0 }

// Range returns the entries along the axis that the units lo to hi-1 need.
func (c Cut) Range(lo, hi int) (first, end int) {
	return lo / c.Share * c.Unit, (hi + c.Share - 1) / c.Share * c.Unit
}

// Leaves returns the number of segments.
func (r *Region) Leaves() int { return len(r.Bounds) - 1 }

// Local returns the segments of this region that a share of a placement gives
// a device: the placement counts from lo to hi-1 of total segments, the region
// may have fewer. The result may be empty.
func (r *Region) Local(lo, hi, total int) (first, end int) {
	return lo * r.Leaves() / total, hi * r.Leaves() / total
}

// UnitsOf returns the units of the segments first to end-1.
func (r *Region) UnitsOf(first, end int) (lo, hi int) { return r.Bounds[first], r.Bounds[end] }
