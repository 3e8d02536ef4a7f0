package ir

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gonum.org/v1/gonum/graph"
	"gonum.org/v1/gonum/graph/topo"

	"moec/ir/tensor"
)

// maxProblems is how many problems Verify lists before it only counts.
const maxProblems = 10

// maxLeaves bounds the leaves of a sum, so that walks over its tree are short;
// the largest layers in use have some hundreds of experts.
const maxLeaves = 1 << 12

// Verify checks the rules that every graph obeys between passes and returns
// all that it finds, up to a limit, as one error.
func Verify(g *Graph) error {
	v := &verifier{level: g.Level, rules: Rules()}
	v.graph(g, nil)
	if n := len(v.problems) - maxProblems; n > 0 {
		v.problems = append(v.problems[:maxProblems], fmt.Errorf("and %d more", n))
	}
	return errors.Join(v.problems...)
}

// Rule is an invariant of graphs.
type Rule struct {
	Name, Doc string
	// InBodies: the rule also holds for the bodies of fused ops.
	InBodies bool
	stage    stage
	graph    func(*scope)
	node     func(*scope, *Node)
}

// stage orders rules: those of a later one are only checked in a graph that
// obeys those of the earlier ones, and rely on them.
type stage uint8

const (
	anything stage = iota
	formed         // operands, outputs and bodies can be followed
	bodied         // bodies obey the rules
	typed          // types and attributes are those of the op table
	lastStage
)

// Rules lists what Verify checks.
func Rules() []Rule {
	return []Rule{
		{Name: "operations", Doc: "every node has an op of the table, operands that exist, and attributes in order of their names, each once", InBodies: true, node: (*scope).operation},
		{Name: "ids", Doc: "IDs are unique", InBodies: true, graph: (*scope).ids},
		{Name: "order", Doc: "operands are defined in the same graph, before their use; nothing depends on itself", InBodies: true, graph: (*scope).order},
		{Name: "outputs", Doc: "there are outputs, each a value of the graph, with a name; a placed graph has one for each token group", InBodies: true, graph: (*scope).outputs},
		{Name: "header", Doc: "counts and numerics make sense for the level", stage: typed, graph: (*scope).header},
		{Name: "weight table", Doc: "weights have distinct names, and shapes that their sources give", stage: typed, graph: (*scope).weights},
		{Name: "cache table", Doc: "caches have distinct names and positive sizes", stage: typed, graph: (*scope).caches},
		{Name: "bodies", Doc: "the body of a fused op works on its operands and constants alone", InBodies: true, stage: formed, node: (*scope).body},
		{Name: "types", Doc: "a node's type is what its operands and attributes give", InBodies: true, stage: bodied, node: (*scope).types},
		{Name: "element types", Doc: "arithmetic is done on floating-point operands; only ids, positions and the like are integers", InBodies: true, stage: typed, node: (*scope).dtypes},
		{Name: "layers", Doc: "layer numbers are -1 or below the graph's number of layers", stage: typed, node: (*scope).layer},
		{Name: "levels", Doc: "logical graphs have no devices, no slices and no op of placed graphs", InBodies: true, stage: typed, node: (*scope).levels},
		{Name: "devices", Doc: "in a placed graph every node is on a device, and only collectives read other devices", stage: typed, node: (*scope).devices},
		{Name: "groups", Doc: "token groups are in range, and a value's rows are those of its group", stage: typed, node: (*scope).groups},
		{Name: "weights", Doc: "a weight node names a weight of the table and a part that it has", stage: typed, node: (*scope).weight},
		{Name: "resident", Doc: "what is made once depends on nothing that a step brings", stage: typed, node: (*scope).resident},
		{Name: "cache use", Doc: "only attention reads a cache, through the kv_append that stores the step's tokens in it; their sizes agree with the table", InBodies: true, stage: typed, node: (*scope).cacheUse},
		{Name: "one append", Doc: "a cache is appended to once a step, on each device that keeps part of it", stage: typed, graph: (*scope).appends},
		{Name: "channels", Doc: "the members of a collective are the same op on the same operands, one on each device", stage: typed, graph: (*scope).channels},
		{Name: "partial sums", Doc: "partial sums are read by all_reduce alone, which has every leaf of the sum exactly once", InBodies: true, stage: typed, node: (*scope).partials},
	}
}

// verifier collects problems over a graph and its bodies.
type verifier struct {
	level    Level // of the outermost graph
	rules    []Rule
	problems []error
}

// scope is one graph under check.
type scope struct {
	*verifier
	g      *Graph
	within *Node // the fused node whose body g is, or nil
	index  map[*Node]int
}

func (v *verifier) graph(g *Graph, within *Node) {
	s := &scope{verifier: v, g: g, within: within, index: make(map[*Node]int, len(g.Nodes))}
	for i, n := range g.Nodes {
		s.index[n] = i
	}
	before := len(v.problems)
	for st := anything; st < lastStage && len(v.problems) == before; st++ {
		s.check(st)
	}
}

// check applies the rules of one stage.
func (s *scope) check(st stage) {
	for _, r := range s.rules {
		if r.stage != st || s.within != nil && !r.InBodies {
			continue
		}
		if r.graph != nil {
			r.graph(s)
			continue
		}
		for _, n := range s.g.Nodes {
			r.node(s, n)
		}
	}
}

// problem reports something wrong with the whole graph.
func (s *scope) problem(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.within != nil {
		text = fmt.Sprintf("body of %s: %s", label(s.within), text)
	}
	s.problems = append(s.problems, errors.New(text))
}

// at reports something wrong with a node.
func (s *scope) at(n *Node, format string, args ...any) {
	where := label(n)
	if n.Op != nil {
		where += " " + n.Op.Name
	}
	if n.Pos.Line > 0 {
		where += " at " + n.Pos.String()
	}
	s.problem("%s: %s", where, fmt.Sprintf(format, args...))
}

func (s *scope) operation(n *Node) {
	if n.Op == nil || Op(n.Op.Name) != n.Op {
		s.at(n, "op is not in the op table")
		return
	}
	for i, a := range n.Args {
		if a == nil {
			s.at(n, "operand %d is missing", i)
		}
	}
	for i, a := range n.Attrs {
		if i > 0 && n.Attrs[i-1].Name >= a.Name {
			s.at(n, "attribute %q is given twice or out of order", a.Name)
		}
		if g, ok := a.Value.(*Graph); ok && g == nil {
			s.at(n, "attribute %q has no graph", a.Name)
		}
	}
}

func (s *scope) ids() {
	seen := make(map[int64]bool, len(s.g.Nodes))
	for _, n := range s.g.Nodes {
		if seen[n.id] {
			s.at(n, "ID is used twice")
		}
		seen[n.id] = true
	}
}

func (s *scope) order() {
	late := false
	for i, n := range s.g.Nodes {
		for _, a := range n.Args {
			at, ok := s.index[a]
			switch {
			case a == nil: // reported by "operations"
			case !ok:
				s.at(n, "operand %s is not in the graph", label(a))
				return // a search for cycles would leave the graph
			case at >= i:
				late = true
				s.at(n, "operand %s is defined at or after its use", label(a))
			}
		}
	}
	if late {
		if _, err := TopoOrder(s.g); err != nil {
			s.problem("%v", err)
		}
	}
}

// TopoOrder returns the nodes in an order that respects operands: the present
// one if that already does. Where there is none, the error names the cycles.
func TopoOrder(g *Graph) ([]*Node, error) {
	index := make(map[int64]int, len(g.Nodes))
	for i, n := range g.Nodes {
		if slices.Contains(n.Args, n) {
			return nil, fmt.Errorf("%s reads itself", label(n))
		}
		index[n.id] = i
	}
	sorted, err := topo.SortStabilized(g.Directed(), func(nodes []graph.Node) {
		slices.SortFunc(nodes, func(a, b graph.Node) int { return cmp.Compare(index[a.ID()], index[b.ID()]) })
	})
	var cycles topo.Unorderable
	if errors.As(err, &cycles) {
		return nil, errors.New(describeCycles(cycles))
	}
	nodes := make([]*Node, len(sorted))
	for i, n := range sorted {
		nodes[i] = n.(*Node)
	}
	return nodes, err
}

// describeCycles lists the first nodes of the first cycle.
func describeCycles(cycles topo.Unorderable) string {
	const shown = 8
	var names []string
	for _, n := range cycles[0][:min(shown, len(cycles[0]))] {
		names = append(names, label(n.(*Node)))
	}
	more := ""
	if n := len(cycles[0]) - shown; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("values depend on each other: %s%s (%d such sets)", strings.Join(names, " "), more, len(cycles))
}

func (s *scope) outputs() {
	g := s.g
	if len(g.Outputs) == 0 {
		s.problem("has no output")
	}
	type key struct {
		name  string
		group int
	}
	have := map[key]bool{}
	var names []string
	for i, o := range g.Outputs {
		if _, ok := s.index[o.Value]; !ok {
			s.problem("output %d %q is %s, which is not in the graph", i, o.Name, label(o.Value))
		}
		groups := 1
		if g.Level == Placed {
			groups = g.Groups
		}
		if o.Name == "" || o.Group < 0 || o.Group >= groups || have[key{o.Name, o.Group}] {
			s.problem("output %d %q has no name, is given twice, or is for group %d of %d", i, o.Name, o.Group, groups)
		}
		have[key{o.Name, o.Group}] = true
		if !slices.Contains(names, o.Name) {
			names = append(names, o.Name)
		}
	}
	if g.Level != Placed || s.within != nil {
		return
	}
	for _, name := range names {
		for i := range g.Groups {
			if !have[key{name, i}] {
				s.problem("output %q is missing for group %d", name, i)
				return
			}
		}
	}
}

func (s *scope) header() {
	g := s.g
	switch {
	case g.Level == Logical && (g.Devices != 0 || g.Groups != 1):
		s.problem("logical graph has %d devices and %d token groups, want 0 and 1", g.Devices, g.Groups)
	case g.Level == Placed && (g.Devices < 1 || g.Groups < 1 || g.Groups > g.Devices):
		s.problem("placed graph has %d devices and %d token groups", g.Devices, g.Groups)
	}
	if g.Layers < 0 {
		s.problem("has %d layers", g.Layers)
	}
	if g.Numerics.Mode != Invariant && g.Numerics.Mode != Fast {
		s.problem("numerics are %q, want %s or %s", g.Numerics.Mode, Invariant, Fast)
	}
	if n := g.Numerics.Segments; n < 1 || n > maxLeaves {
		s.problem("sums have %d segments, want 1 to %d", n, maxLeaves)
	}
}

// types infers a node's type again.
func (s *scope) types(n *Node) {
	for _, name := range []string{"leaves", "total"} {
		if leaves := n.Attrs.Int(name, 1); leaves < 1 || leaves > maxLeaves {
			s.at(n, "%s is %d, want 1 to %d", name, leaves, maxLeaves)
			return
		}
	}
	if !n.Op.Has(Elementwise) && n.Op.Name != "fused" && !n.Op.Has(Collective) {
		for i, a := range n.Args {
			if len(a.Type.Shape) == 0 {
				s.at(n, "operand %d is a scalar, which only element by element operations take", i)
				return
			}
		}
	}
	t, err := Infer(n)
	switch {
	case err != nil:
		s.at(n, "%v", errors.Unwrap(err)) // which starts after the op's name
	case !t.Equal(n.Type):
		s.at(n, "type is %s, operands and attributes give %s", n.Type, t)
	case !rowsFirst(t.Shape):
		s.at(n, "type %s has an extent of the step other than the rows", t)
	}
}

// rowsFirst reports whether at most one extent is a symbol, the first or,
// below a stack of partial sums, the second.
func rowsFirst(shape tensor.Shape) bool {
	symbols := 0
	for i, d := range shape {
		if d.Sym == "" {
			continue
		}
		if symbols++; symbols > 1 || i > 1 {
			return false
		}
	}
	return true
}

// dtypes relies on the op table saying of every integer operand that it is
// i32, first thing in its description.
func (s *scope) dtypes(n *Node) {
	if n.Op.Has(Moves) || n.Op.Name == "fused" {
		return
	}
	for i, a := range n.Args {
		info := n.Op.Args[min(i, len(n.Op.Args)-1)]
		if integer := strings.HasPrefix(info.Doc, tensor.I32.String()); integer == a.Type.DType.Float() {
			want := "a floating-point type"
			if integer {
				want = tensor.I32.String()
			}
			s.at(n, "%s is %s, want %s", info.Name, a.Type.DType, want)
		}
	}
}

func (s *scope) body(n *Node) {
	if n.Op.Name == "param" && s.within == nil {
		s.at(n, "is outside the body of a fused op")
	}
	if s.within != nil {
		outside := n.Op.Has(Effect) || n.Op.Has(Collective) || n.Op.Has(Resident) && n.Op.Name != "const" || n.Op.Name == "input"
		if outside {
			s.at(n, "has no place in the body of a fused op")
		}
		if n.Device >= 0 && n.Device != s.within.Device {
			s.at(n, "is on device %d, the fused op on %d", n.Device, s.within.Device)
		}
	}
	if body := n.Attrs.Body(); body != nil {
		s.verifier.graph(body, n)
	}
}

func (s *scope) layer(n *Node) {
	if n.Layer < -1 || n.Layer >= s.g.Layers {
		s.at(n, "is in layer %d of %d", n.Layer, s.g.Layers)
	}
}

func (s *scope) levels(n *Node) {
	if s.level == Placed {
		return
	}
	if n.Op.Level == Placed {
		s.at(n, "is an operation of placed graphs")
	}
	if n.Device != -1 || n.Group != -1 {
		s.at(n, "is on device %d for group %d in a logical graph", n.Device, n.Group)
	}
	for _, name := range []string{"slice", "turns", "q_first", "kv_first"} {
		if n.Attrs.Has(name) {
			s.at(n, "attribute %q is one of placed graphs", name)
		}
	}
	if experts := n.Attrs.Ints("experts"); n.Op.Name == "weight" && experts != nil {
		s.at(n, "attribute \"experts\" of a weight is one of placed graphs")
	} else if experts != nil && !slices.Equal(experts, upTo(n.Attrs.Int("total", 0))) {
		s.at(n, "holds experts %v in a logical graph, want all %d in order", experts, n.Attrs.Int("total", 0))
	}
}

func upTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

func (s *scope) devices(n *Node) {
	if s.level == Logical {
		return
	}
	if n.Device < 0 || n.Device >= s.g.Devices {
		s.at(n, "is on device %d of %d", n.Device, s.g.Devices)
		return
	}
	if n.Op.Has(Collective) {
		return
	}
	for i, a := range n.Args {
		if a.Device != n.Device {
			s.at(n, "on device %d reads operand %d, %s, on device %d", n.Device, i, label(a), a.Device)
		}
	}
}

func (s *scope) groups(n *Node) {
	if n.Group < -1 || n.Group >= s.g.Groups {
		s.at(n, "is for token group %d of %d", n.Group, s.g.Groups)
		return
	}
	rows := n.Type.Shape.Sym()
	if rows == "" || rows.Base() == tensor.Cached {
		return
	}
	of := rows.Group()
	if of >= s.g.Groups || of >= 0 && n.Group >= 0 && of != n.Group {
		s.at(n, "has rows %s and is for token group %d of %d", rows, n.Group, s.g.Groups)
	}
}
