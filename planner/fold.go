package planner

import (
	"fmt"
	"maps"
	"slices"

	"moec/ir"
	"moec/planner/plan"
)

// life is the segments in which a value of several segments is needed.
type life struct {
	value       *ir.Node
	first, last int
}

// carriers says which carried values share a program buffer: those that take
// each other's place from one turn of a block to the next.
type carriers struct {
	of      map[*ir.Node]int // value to class
	members map[int][]life   // class to values
}

func (c *carriers) clone() *carriers {
	d := &carriers{of: maps.Clone(c.of), members: make(map[int][]life, len(c.members))}
	for k, v := range c.members {
		d.members[k] = slices.Clone(v)
	}
	return d
}

// join merges the classes of two values and reports whether no two members
// are needed at once. One may be defined in the segment where another is
// needed last: the block sees to it that it is written after the last read.
func (c *carriers) join(u, v *ir.Node) bool {
	a, b := c.of[u], c.of[v]
	if a == b {
		return true
	}
	if u.Device != v.Device || !u.Type.Equal(v.Type) {
		return false
	}
	list := append(slices.Clone(c.members[a]), c.members[b]...)
	slices.SortFunc(list, func(x, y life) int { return x.first - y.first })
	for i := 1; i < len(list); i++ {
		if list[i-1].last > list[i].first || list[i-1].first == list[i].first {
			return false
		}
	}
	for _, m := range c.members[b] {
		c.of[m.value] = a
	}
	c.members[a] = list
	delete(c.members, b)
	return true
}

// fold gives segments with the same key one block where the values they carry
// can share buffers, and lists the runs.
func (b *builder) fold() {
	b.carried = b.carriers()
	b.reps = nil
	byKey := make(map[string][]int) // key to blocks
	prog := plan.Program{Name: "all"}
	for i, s := range b.segs {
		s.block = -1
		if len(s.nodes) == 0 {
			continue
		}
		for _, block := range byKey[s.key] {
			if joined := b.joinSegments(b.reps[block], s); joined != nil {
				b.carried, s.block = joined, block
				break
			}
		}
		if s.block < 0 {
			s.block = len(b.reps)
			b.reps = append(b.reps, s)
			b.names = append(b.names, b.blockName(i))
			byKey[s.key] = append(byKey[s.key], s.block)
		}
		prog.Runs = addRun(prog.Runs, b.names[s.block], s.layer)
	}
	b.p.Programs = []plan.Program{prog}
}

// addRun extends the last run by the next layer, or starts another.
func addRun(runs []plan.Run, block string, layer int) []plan.Run {
	if n := len(runs); n > 0 && layer >= 0 && runs[n-1].Block == block && runs[n-1].Layers.Last == layer-1 {
		runs[n-1].Layers.Last = layer
		return runs
	}
	r := plan.Run{Block: block, Layers: plan.Range{First: layer, Last: layer}}
	if layer < 0 {
		r.Layers = plan.NoLayers
	}
	return append(runs, r)
}

// carriers starts with each value of several segments in a class of its own.
func (b *builder) carriers() *carriers {
	c := &carriers{of: make(map[*ir.Node]int), members: make(map[int][]life)}
	for i, s := range b.segs {
		for _, n := range s.exports {
			if n.Op.Name == "kv_append" {
				continue
			}
			class := len(c.of)
			c.of[n] = class
			c.members[class] = []life{{n, i, b.lastUse(n)}}
		}
	}
	return c
}

// joinSegments lets s use the buffers of rep, or returns nil.
func (b *builder) joinSegments(rep, s *segment) *carriers {
	c := b.carried.clone()
	for k := range s.imports {
		if !c.join(rep.imports[k], s.imports[k]) {
			return nil
		}
	}
	for k := range s.exports {
		if !c.join(rep.exports[k], s.exports[k]) {
			return nil
		}
	}
	return c
}

func (b *builder) blockName(i int) string {
	switch s := b.segs[i]; {
	case i == 0:
		return "begin"
	case s.layer < 0:
		return "end"
	default:
		return fmt.Sprintf("layer%d", s.layer)
	}
}
