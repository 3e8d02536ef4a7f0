package prove

import (
	"fmt"
	"math"

	"moec/ir"
	"moec/ir/tensor"
)

// model is the logical graph, shrunk and ready to run.
type model struct {
	g       *ir.Graph
	s       *shrinker
	env     *env
	nodes   []*modelNode
	outputs []int // indices of nodes
	caches  map[string]*cache
	weights map[string]*ir.Weight
	context int // positions that a sequence may have

	// observe, if not nil, is called with every value of a step.
	observe func(*modelNode, *array)
}

// modelNode is a node of the logical graph.
type modelNode struct {
	*ir.Node
	index  int
	spec   *spec
	args   []int
	shape  tensor.Shape // divided
	keyDim int          // divided, of a kv_append
	fixed  *array       // of what is the same in every step
}

// constrainGraph tells the shrinker what the graph's operations demand. It
// returns the axis that the attributes of each count along.
func (s *shrinker) constrainGraph(g *ir.Graph) (map[*ir.Node]int, error) {
	along := make(map[*ir.Node]int, len(g.Nodes))
	for _, n := range g.Nodes {
		out := s.typed(n, n.Type)
		along[n] = -1
		switch n.Op.Name {
		case "input", "const":
			continue
		case "weight":
			if err := s.constrainWeight(g, n, out); err != nil {
				return nil, err
			}
			continue
		}
		var args []typed
		for _, a := range n.Args {
			args = append(args, s.typed(a, a.Type))
		}
		at, err := s.constrain(n.Op.Name, n.Attrs, args, out)
		if err != nil {
			return nil, fmt.Errorf("%%%d %s: %w", n.ID(), n.Op.Name, err)
		}
		along[n] = at
	}
	return along, nil
}

func (s *shrinker) constrainWeight(g *ir.Graph, n *ir.Node, out typed) error {
	w := g.Weight(n.Attrs.Text("name"))
	if w == nil || len(w.Shape) != len(out.axes) || n.Attrs.Has("slice") || n.Attrs.Has("experts") {
		return fmt.Errorf("%%%d is not a whole weight of the graph", n.ID())
	}
	whole := s.weight(w)
	for i := range out.axes {
		s.join(out.axes[i], whole.axes[i])
	}
	return nil
}

// weight returns the type of a logical weight.
func (s *shrinker) weight(w *ir.Weight) typed {
	_, known := s.of[w]
	t := s.typed(w, tensor.Type{DType: w.DType, Shape: tensor.Ints(w.Shape...)})
	if !known && w.Experts > 0 {
		s.need(t.axis(0), 1)
	}
	return t
}

// newModel prepares the graph when all that shares its axes has been said.
func newModel(g *ir.Graph, s *shrinker, along map[*ir.Node]int, e *env) (*model, error) {
	m := &model{g: g, s: s, env: e, caches: make(map[string]*cache), weights: make(map[string]*ir.Weight, len(g.Weights))}
	for _, w := range g.Weights {
		m.weights[w.Name] = w
	}
	at := make(map[*ir.Node]int, len(g.Nodes))
	for i, n := range g.Nodes {
		at[n] = i
		node, err := m.node(i, n, along[n])
		if err != nil {
			return nil, fmt.Errorf("%%%d %s: %w", n.ID(), n.Op.Name, err)
		}
		for _, a := range n.Args {
			node.args = append(node.args, at[a])
		}
		m.nodes = append(m.nodes, node)
	}
	for _, o := range g.Outputs {
		m.outputs = append(m.outputs, at[o.Value])
	}
	return m, nil
}

func (m *model) node(i int, n *ir.Node, along int) (*modelNode, error) {
	node := &modelNode{Node: n, index: i, shape: m.s.shape(m.s.typed(n, n.Type))}
	switch n.Op.Name {
	case "input":
		return node, nil
	case "const":
		node.fixed = m.s.table(n.Attrs.Ints("shape"), n.Attrs.Floats("values"), m.s.typed(n, n.Type), m.env.seed)
		return node, nil
	case "weight":
		w := m.weights[n.Attrs.Text("name")]
		node.fixed = newArray(n.Type.DType, node.shape.Extents(nil))
		whole := weightPart{salt: weightSalt(m.env.seed, w.Name), shape: node.fixed.dims}
		for _, d := range node.fixed.dims {
			whole.slice = append(whole.slice, [2]int{0, d})
		}
		whole.fill(node.fixed.data)
		return node, nil
	case "kv_append":
		node.keyDim = m.s.shape(m.s.typed(n.Args[0], n.Args[0].Type))[2].N
	}
	var types []tensor.Type
	for _, a := range n.Args {
		types = append(types, a.Type)
	}
	var err error
	node.spec, err = newSpec(n.Op.Name, n.Attrs, types, m.s.factor(along), m.env)
	return node, err
}

// run runs a step on the whole graph and returns the outputs.
func (m *model) run(st *step) ([]*array, error) {
	m.env.bounds = st.all
	values := make([]*array, len(m.nodes))
	for i, n := range m.nodes {
		v, err := m.value(st, n, values)
		if err != nil {
			return nil, fmt.Errorf("the model's %%%d %s: %w", n.ID(), n.Op.Name, err)
		}
		values[i] = v
		if m.observe != nil {
			m.observe(n, v)
		}
	}
	outs := make([]*array, len(m.outputs))
	for i, at := range m.outputs {
		outs[i] = values[at]
	}
	return outs, nil
}

func (m *model) value(st *step, n *modelNode, values []*array) (*array, error) {
	if n.fixed != nil {
		return n.fixed, nil
	}
	out := newArray(n.Type.DType, n.shape.Extents(st.allCached))
	if n.Op.Name == "input" {
		copy(out.data, st.list(n.Attrs.Text("name"), -1))
		return out, nil
	}
	c := &call{spec: n.spec, env: m.env, out: out, undefined: func() uint64 { return poisoned }}
	for _, a := range n.args {
		c.args = append(c.args, values[a])
	}
	m.env.node = n.index
	switch n.Op.Name {
	case "kv_append":
		kv := m.caches[n.Attrs.Text("cache")]
		if kv == nil {
			kv = newCache(n.shape[1].N, n.keyDim, n.shape[2].N-n.keyDim)
			m.caches[n.Attrs.Text("cache")] = kv
		}
		out.cache = kv
		return out, c.kvAppend(kv, m.place)
	case "attention":
		return out, c.attention(c.args[1].cache, m.place, func(int) uint64 { return poisoned })
	}
	return out, n.spec.fn(c)
}

// place is where the graph keeps a position of a sequence.
func (m *model) place(sequence, position uint64) (int, error) {
	return int(sequence)*m.context + int(position), nil
}

// table returns the numbers that stand for a table of constants: for each
// entry of the divided table a hash of those that it stands for.
func (s *shrinker) table(shape []int, values []float32, t typed, seed uint64) *array {
	small := s.shape(t).Extents(nil)
	out := newArray(tensor.F32, small)
	if len(out.data) == len(values) {
		for i, v := range values {
			out.data[i] = constant(seed, v)
		}
		return out
	}
	index := make([]int, len(shape))
	for _, v := range values {
		at := 0
		for i, d := range small {
			at = at*d + index[i]/(shape[i]/d)
		}
		out.data[at] = number(mixIn(out.data[at], uint64(math.Float32bits(v))))
		for i := len(index) - 1; i >= 0; i-- {
			if index[i]++; index[i] < shape[i] {
				break
			}
			index[i] = 0
		}
	}
	return out
}

// weightPart is a slice of a logical weight, all sizes divided.
type weightPart struct {
	salt    uint64
	shape   []int // of the whole weight
	slice   [][2]int
	experts []int // instead of the first slice, if not nil
}

// extents returns what is kept along each axis.
func (w weightPart) extents() []int {
	ext := make([]int, len(w.slice))
	for i, r := range w.slice {
		ext[i] = r[1] - r[0]
	}
	if w.experts != nil {
		ext[0] = len(w.experts)
	}
	return ext
}

// fill gives every element the hash of the weight's name and its index in the
// whole weight.
func (w weightPart) fill(dst []uint64) {
	ext := w.extents()
	index := make([]int, len(ext))
	for i := range dst {
		at := 0
		for axis, d := range w.shape {
			k := w.slice[axis][0] + index[axis]
			if axis == 0 && w.experts != nil {
				k = w.experts[index[0]]
			}
			at = at*d + k
		}
		dst[i] = number(mixIn(w.salt, uint64(at)))
		for axis := len(index) - 1; axis >= 0; axis-- {
			if index[axis]++; index[axis] < ext[axis] {
				break
			}
			index[axis] = 0
		}
	}
}

// weightSalt names a weight.
func weightSalt(seed uint64, name string) uint64 {
	return mixText(mixText(seed, "weight"), name)
}

// topkWidth returns the largest number of experts for each choice of a token,
// rounded up: so many tokens are needed for all experts to be chosen.
func topkWidth(g *ir.Graph) int {
	widest := 1
	for _, n := range g.Nodes {
		if n.Op.Name == "topk" {
			e, k := n.Args[0].Type.Shape.Last().N, n.Type.Shape.Last().N
			widest = max(widest, (e+k-1)/k)
		}
	}
	return widest
}

// vocabulary returns how many words every table that words are looked up in
// has, divided.
func (m *model) vocabulary() int {
	words := math.MaxInt32
	for _, n := range m.nodes {
		if n.Op.Name == "embed" {
			words = min(words, m.nodes[n.args[1]].shape[0].N)
		}
	}
	return words
}
