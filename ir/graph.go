// Package ir is the typed graph that every stage of the compiler works on.
//
// A Graph is in single-assignment form: a node is one operation and its one
// result. The logical graph says what a model computes; a placed graph says
// it once for each device, with explicit collectives. The package knows what
// operations mean in types and in work, never where they run or how fast.
package ir

import (
	"slices"

	"gonum.org/v1/gonum/graph"
	"gonum.org/v1/gonum/graph/iterator"

	"moec/ir/diag"
	"moec/ir/tensor"
)

// Level says which rules a graph obeys.
type Level uint8

// Logical graphs have no devices. Placed graphs have a device on every node,
// and only collectives read values of other devices.
const (
	Logical Level = iota
	Placed
)

// String returns the name used in the IR text.
func (l Level) String() string {
	if l == Placed {
		return "placed"
	}
	return "logical"
}

// Mode says what numerics promise.
type Mode string

// Invariant keeps a sequence's bits whatever the placement. Fast lets
// placements change the order of sums where that saves traffic.
const (
	Invariant Mode = "invariant"
	Fast      Mode = "fast"
)

// Numerics are the choices that decide bits.
type Numerics struct {
	Mode Mode `json:"mode"`
	// Segments is the number of leaves of a contraction that a placement may
	// split; see package tree.
	Segments int `json:"segments"`
}

// Graph is a list of nodes in an order that respects their operands.
type Graph struct {
	Name     string
	Level    Level
	Devices  int // 0 for a logical graph
	Groups   int // token groups; 1 unless tokens are divided
	Layers   int // layer numbers are 0 to Layers-1
	Numerics Numerics
	Weights  []*Weight // logical weights, in order of first use
	Caches   []*Cache  // KV caches, in layer order
	Nodes    []*Node
	Outputs  []Output

	nextID int64
}

// Output is a named result. A placed graph has one for each token group.
type Output struct {
	Name  string
	Group int
	Value *Node
}

// Cache is the KV state of one attention layer, for all sequences.
type Cache struct {
	Name   string // "layers.3.attention"
	Layer  int
	Heads  int // KV heads
	KeyDim int
	ValDim int
	DType  tensor.DType
	Window int // positions an entry stays visible for; 0: for ever
}

// Node is one operation and its result.
type Node struct {
	id     int64
	Op     *OpInfo
	Args   []*Node // operands in the order of Op.Args
	Attrs  Attrs
	Type   tensor.Type
	Layer  int    // -1 outside the loop over layers
	Device int    // -1 in a logical graph
	Group  int    // token group the value belongs to, -1 for all tokens
	Block  string // the part of the model this came from: "attention", "moe"
	Name   string // the name its author gave, or ""
	Pos    diag.Pos
}

// ID implements graph.Node. IDs are unique in a graph and never reused.
func (n *Node) ID() int64 { return n.id }

// NewGraph returns an empty logical graph.
func NewGraph(name string) *Graph {
	return &Graph{Name: name, Groups: 1, Numerics: Numerics{Mode: Invariant, Segments: 1}}
}

// Add appends a node that applies op, infers its type and returns it. The
// layer, device, group, block and position are taken from like, which may be
// nil; a nil like gives a logical node outside the layers.
func (g *Graph) Add(op *OpInfo, args []*Node, attrs Attrs, like *Node) (*Node, error) {
	n := &Node{id: g.nextID, Op: op, Args: args, Attrs: attrs, Layer: -1, Device: -1, Group: -1}
	if like != nil {
		n.Layer, n.Device, n.Group, n.Block, n.Pos = like.Layer, like.Device, like.Group, like.Block, like.Pos
	}
	t, err := Infer(n)
	if err != nil {
		return nil, err
	}
	n.Type = t
	g.nextID++
	g.Nodes = append(g.Nodes, n)
	return n, nil
}

// Insert puts a node made elsewhere (by the text parser or a copy) at the end
// of g under the given ID, which must be free.
func (g *Graph) Insert(n *Node, id int64) {
	n.id = id
	g.nextID = max(g.nextID, id+1)
	g.Nodes = append(g.Nodes, n)
}

// Clone returns a copy of g with nodes and lists of its own. The entries of
// the lists of weights and caches, and the bodies of fused nodes, are shared.
func (g *Graph) Clone() *Graph {
	c := *g
	c.Nodes = make([]*Node, len(g.Nodes))
	c.Outputs = slices.Clone(g.Outputs)
	c.Weights, c.Caches = slices.Clone(g.Weights), slices.Clone(g.Caches)
	now := make(map[*Node]*Node, len(g.Nodes))
	for i, n := range g.Nodes {
		m := *n
		m.Args = make([]*Node, len(n.Args))
		for j, a := range n.Args {
			m.Args[j] = now[a]
		}
		c.Nodes[i] = &m
		now[n] = &m
	}
	for i, o := range c.Outputs {
		c.Outputs[i].Value = now[o.Value]
	}
	return &c
}

// Weight returns the weight of that name, or nil.
func (g *Graph) Weight(name string) *Weight {
	i := slices.IndexFunc(g.Weights, func(w *Weight) bool { return w.Name == name })
	if i < 0 {
		return nil
	}
	return g.Weights[i]
}

// Cache returns the cache of that name, or nil.
func (g *Graph) Cache(name string) *Cache {
	i := slices.IndexFunc(g.Caches, func(c *Cache) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return g.Caches[i]
}

// Uses returns, for each node, the nodes that read it, in graph order; a node
// that reads a value twice is listed twice.
func (g *Graph) Uses() map[*Node][]*Node {
	uses := make(map[*Node][]*Node, len(g.Nodes))
	for _, n := range g.Nodes {
		for _, a := range n.Args {
			uses[a] = append(uses[a], n)
		}
	}
	return uses
}

// Replace makes every reader of old, and every output, read new instead.
func (g *Graph) Replace(old, new *Node) {
	for _, n := range g.Nodes {
		for i, a := range n.Args {
			if a == old && n != new {
				n.Args[i] = new
			}
		}
	}
	for i := range g.Outputs {
		if g.Outputs[i].Value == old {
			g.Outputs[i].Value = new
		}
	}
}

// Directed is g as a gonum graph.Directed: an edge leads from a value to each
// operation that reads it. It is a snapshot with its own indices; take a new
// one after changing the graph.
type Directed struct {
	g    *Graph
	byID map[int64]*Node
	uses map[*Node][]*Node
}

// Directed returns the gonum view of g.
func (g *Graph) Directed() *Directed {
	d := &Directed{g: g, byID: make(map[int64]*Node, len(g.Nodes)), uses: g.Uses()}
	for _, n := range g.Nodes {
		d.byID[n.id] = n
	}
	return d
}

// Node implements graph.Graph.
func (d *Directed) Node(id int64) graph.Node {
	if n, ok := d.byID[id]; ok {
		return n
	}
	return nil
}

// Nodes implements graph.Graph, in graph order.
func (d *Directed) Nodes() graph.Nodes { return ordered(d.g.Nodes) }

// From implements graph.Graph: the readers of a value, each once.
func (d *Directed) From(id int64) graph.Nodes { return ordered(d.uses[d.byID[id]]) }

// To implements graph.Directed: the operands of an operation, each once.
func (d *Directed) To(id int64) graph.Nodes {
	n, ok := d.byID[id]
	if !ok {
		return graph.Empty
	}
	return ordered(n.Args)
}

// HasEdgeFromTo implements graph.Directed.
func (d *Directed) HasEdgeFromTo(u, v int64) bool {
	to, ok := d.byID[v]
	return ok && slices.Contains(to.Args, d.byID[u])
}

// HasEdgeBetween implements graph.Graph.
func (d *Directed) HasEdgeBetween(x, y int64) bool {
	return d.HasEdgeFromTo(x, y) || d.HasEdgeFromTo(y, x)
}

// Edge implements graph.Graph.
func (d *Directed) Edge(u, v int64) graph.Edge {
	if !d.HasEdgeFromTo(u, v) {
		return nil
	}
	return edge{d.byID[u], d.byID[v]}
}

type edge struct{ from, to *Node }

func (e edge) From() graph.Node         { return e.from }
func (e edge) To() graph.Node           { return e.to }
func (e edge) ReversedEdge() graph.Edge { return edge{e.to, e.from} }

func ordered(list []*Node) graph.Nodes {
	if len(list) == 0 {
		return graph.Empty
	}
	seen := make(map[*Node]bool, len(list))
	nodes := make([]graph.Node, 0, len(list))
	for _, n := range list {
		if !seen[n] {
			seen[n] = true
			nodes = append(nodes, n)
		}
	}
	return iterator.NewOrderedNodes(nodes)
}

var _ graph.Directed = (*Directed)(nil)
