package planner

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir"
)

// segment is the nodes that become one block, or one turn of a block that is
// run for several layers.
type segment struct {
	layer   int // -1 for the prologue and the epilogue
	nodes   []*ir.Node
	imports []*ir.Node // values of other segments, in order of first use
	exports []*ir.Node // values that other segments or outputs read
	key     string     // equal keys: the same steps on other weights
	block   int        // index of the block, once folded
}

// resident reports whether n is made once, or is brought by the step.
func resident(n *ir.Node) bool { return n.Op.Has(ir.Resident) || n.Op.Name == "input" }

// segments cuts the graph into prologue, layers and epilogue.
func (b *builder) segments() {
	b.segs = make([]*segment, b.g.Layers+2)
	for i := range b.segs {
		b.segs[i] = &segment{layer: i - 1}
	}
	b.segs[b.g.Layers+1].layer = -1
	b.seg = make(map[*ir.Node]int, len(b.g.Nodes))
	for _, n := range b.g.Nodes {
		if resident(n) {
			continue
		}
		at := n.Layer + 1
		for _, a := range n.Args {
			// A value outside the layers that depends on one comes after them.
			if n.Layer < 0 && b.seg[a] > 0 {
				at = b.g.Layers + 1
			}
		}
		b.seg[n] = at
		if n.Op.Name != "reshape" {
			b.segs[at].nodes = append(b.segs[at].nodes, n)
		}
	}
	for i, s := range b.segs {
		b.boundary(i, s)
		s.key = b.key(i, s)
	}
}

// boundary lists what s reads of other segments and what they read of it.
func (b *builder) boundary(at int, s *segment) {
	seen := make(map[*ir.Node]bool)
	for _, n := range s.nodes {
		for _, a := range n.Args {
			if r := root(a); !resident(r) && b.seg[r] != at && !seen[r] && r.Op.Name != "kv_append" {
				seen[r] = true
				s.imports = append(s.imports, r)
			}
		}
		if b.exported(n, at) {
			s.exports = append(s.exports, n)
		}
	}
}

func (b *builder) exported(n *ir.Node, at int) bool {
	for _, o := range b.g.Outputs {
		if root(o.Value) == n {
			return true
		}
	}
	return slices.ContainsFunc(b.uses[n], func(u *ir.Node) bool {
		if u.Op.Name == "reshape" {
			return b.exported(u, at)
		}
		return b.seg[u] != at
	})
}

// key prints s with local numbers and without the layer's.
func (b *builder) key(at int, s *segment) string {
	var out strings.Builder
	local := make(map[*ir.Node]int)
	imports := make(map[*ir.Node]int)
	channels := make(map[int]int)
	for i, n := range s.imports {
		imports[n] = i
	}
	for i, n := range s.nodes {
		local[n] = i
		fmt.Fprintf(&out, "%d %s %s", n.Device, n.Op.Name, n.Type)
		for _, a := range n.Args {
			r := root(a)
			switch {
			case resident(r):
				fmt.Fprintf(&out, " %s:%s", b.residentName(r), a.Type)
			case r.Op.Name == "kv_append":
				fmt.Fprintf(&out, " cache:%s", b.refs[r].Name)
			case b.seg[r] == at:
				fmt.Fprintf(&out, " %%%d:%s", local[r], a.Type)
			default:
				fmt.Fprintf(&out, " import%d:%d:%s", imports[r], r.Device, a.Type)
			}
		}
		fmt.Fprintln(&out, attrKey(n, channels))
	}
	for _, n := range s.exports {
		fmt.Fprintf(&out, "export %%%d\n", local[n])
	}
	return out.String()
}

func (b *builder) residentName(n *ir.Node) string {
	if n.Op.Name == "input" {
		return fmt.Sprintf("input %s %d", n.Attrs.Text("name"), n.Group)
	}
	return string(b.refs[n].Kind) + " " + b.refs[n].Name
}

// attrKey prints attributes; channel numbers count from the segment's first,
// and the cache is known by the operand.
func attrKey(n *ir.Node, channels map[int]int) string {
	var out strings.Builder
	for _, at := range n.Attrs {
		switch at.Name {
		case "channel":
			c := at.Value.(int)
			if _, ok := channels[c]; !ok {
				channels[c] = len(channels)
			}
			fmt.Fprintf(&out, " channel=%d", channels[c])
		case "cache":
		case "body":
			fmt.Fprintf(&out, " body={%s}", bodyKey(at.Value.(*ir.Graph)))
		default:
			fmt.Fprintf(&out, " %s=%v", at.Name, at.Value)
		}
	}
	return out.String()
}

// bodyKey prints the operations of a fused node without names and layers.
func bodyKey(g *ir.Graph) string {
	var out strings.Builder
	local := make(map[*ir.Node]int, len(g.Nodes))
	for i, n := range g.Nodes {
		local[n] = i
		fmt.Fprintf(&out, "%s %s", n.Op.Name, n.Type)
		for _, a := range n.Args {
			fmt.Fprintf(&out, " %%%d", local[a])
		}
		out.WriteString(attrKey(n, nil) + ";")
	}
	return out.String()
}

// lastUse returns the last segment that reads the storage of n.
func (b *builder) lastUse(n *ir.Node) int {
	last := b.seg[n]
	for _, u := range b.uses[n] {
		if u.Op.Name == "reshape" {
			last = max(last, b.lastUse(u))
		} else {
			last = max(last, b.seg[u])
		}
	}
	for _, o := range b.g.Outputs {
		if root(o.Value) == n {
			last = len(b.segs) - 1
		}
	}
	return last
}
