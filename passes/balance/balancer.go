package balance

// Balancer finds layouts for layers of one shape. It keeps its memory between
// layers, so one Balancer serves one goroutine.
type Balancer struct {
	shape  Shape
	nodes  []*packer
	spare  []*packer // for two nodes that exchange groups
	groups [][]int   // of each node
	sums   []int64   // of each group, in units
	local  []int     // layout of one node
	index  []int     // of each expert within its node
}

// New returns a balancer for a shape.
func New(shape Shape) (*Balancer, error) {
	if err := shape.Check(); err != nil {
		return nil, err
	}
	s := shape.flat()
	b := &Balancer{shape: s, sums: make([]int64, s.Groups), local: make([]int, s.Slots/s.Nodes), index: make([]int, s.Experts)}
	make1 := func() *packer {
		return newPacker(s.Experts/s.Nodes, s.Slots/s.Nodes, s.Devices/s.Nodes, s.Distinct)
	}
	for range s.Nodes {
		b.nodes = append(b.nodes, make1())
		b.groups = append(b.groups, make([]int, s.Groups/s.Nodes))
	}
	if s.Nodes > 1 {
		b.spare = []*packer{make1(), make1()}
	}
	return b, nil
}

// effort is how many pairs of slots a search may look at, for a layer. It is
// some 0.5 ms of one core.
const effort = 250_000

// Balance returns a layout for experts of the given loads whose fullest device
// has no more to do than in EPLB's, copies of an expert sharing its load
// alike. With Distinct, EPLB's is first changed so that no device has an
// expert twice. The same loads always give the same layout.
func (b *Balancer) Balance(loads []int64) ([]int, error) {
	s := b.shape
	start, err := EPLB(s, loads)
	if err != nil {
		return nil, err
	}
	unit := unitFor(loads)
	b.split(start)
	clear(b.sums)
	for e, w := range loads {
		b.sums[e/(s.Experts/s.Groups)] += w * unit
	}
	slots := s.Slots / s.Nodes
	var before int64
	for n, p := range b.nodes {
		b.load(p, b.groups[n], loads, unit)
		for i, e := range start[n*slots : (n+1)*slots] {
			b.local[i] = b.index[e]
		}
		p.start(b.local)
		before = max(before, p.cur.max())
		p.solve(effort / (2 * s.Nodes))
	}
	if s.Nodes > 1 {
		b.regroup(loads, unit)
	}
	// A share is rounded down to a unit: what is less by fewer units than a
	// device has slots may be worse.
	if !s.Distinct && b.max() > before-int64(s.Slots/s.Devices) {
		return start, nil
	}
	return b.layout(), nil
}

// split finds the groups that a layout has on each node.
func (b *Balancer) split(layout []int) {
	s := b.shape
	size, slots := s.Experts/s.Groups, s.Slots/s.Nodes
	for n := range b.groups {
		list := b.groups[n][:0]
		for g := range s.Groups {
			for _, e := range layout[n*slots : (n+1)*slots] {
				if e/size == g {
					list = append(list, g)
					break
				}
			}
		}
		b.groups[n] = list
	}
}

// load gives a node its experts: those of its groups, numbered group by group.
func (b *Balancer) load(p *packer, groups []int, loads []int64, unit int64) {
	size := b.shape.Experts / b.shape.Groups
	for i, g := range groups {
		for k := range size {
			p.loads[i*size+k] = loads[g*size+k] * unit
			b.index[g*size+k] = i*size + k
		}
	}
}

// max returns the load of the fullest device.
func (b *Balancer) max() int64 {
	var m int64
	for _, p := range b.nodes {
		m = max(m, p.best.max())
	}
	return m
}

// layout returns the best layout of all nodes.
func (b *Balancer) layout() []int {
	size := b.shape.Experts / b.shape.Groups
	out := make([]int, 0, b.shape.Slots)
	for n, p := range b.nodes {
		for _, i := range p.best.at {
			if i == None {
				out = append(out, None)
				continue
			}
			out = append(out, b.groups[n][i/size]*size+i%size)
		}
	}
	return out
}

// composites are numbers that many numbers of copies divide, the least common
// multiples of 1 to 10, 12, 15, 16, 18, 22, 24, 28 and 32: shares in such
// units are exact.
var composites = [...]int64{144403552893600, 80313433200, 5354228880, 232792560, 12252240, 720720, 360360, 27720, 2520}

// unitFor returns how many units one load is: as many as the sums of all loads
// leave room for.
func unitFor(loads []int64) int64 {
	var sum int64 = 1
	for _, w := range loads {
		sum += w
	}
	for _, c := range composites {
		if c <= (1<<61)/sum {
			return c
		}
	}
	return 2520
}

// regroup exchanges groups of the fullest node with groups of others while
// that lowers the fullest device.
func (b *Balancer) regroup(loads []int64, unit int64) {
	work := 0
	for work < effort/2 && b.exchange(loads, unit, &work) {
	}
}

// exchange makes the first exchange that helps.
func (b *Balancer) exchange(loads []int64, unit int64, work *int) bool {
	m := 0
	for n, p := range b.nodes {
		if p.best.max() > b.nodes[m].best.max() {
			m = n
		}
	}
	most := b.nodes[m].best.max()
	for n := range b.nodes {
		for i := range b.groups[m] {
			for j := range b.groups[n] {
				if n == m || *work >= effort/2 || !b.promising(m, n, i, j, most) {
					continue
				}
				b.swapGroups(m, n, i, j)
				if b.resolve(m, n, loads, unit, work) < most {
					return true
				}
				b.swapGroups(m, n, i, j)
			}
		}
	}
	return false
}

func (b *Balancer) swapGroups(m, n, i, j int) {
	b.groups[m][i], b.groups[n][j] = b.groups[n][j], b.groups[m][i]
}

// promising reports whether both nodes could be below most with a group
// exchanged, were their devices all alike.
func (b *Balancer) promising(m, n, i, j int, most int64) bool {
	less := b.sums[b.groups[m][i]] - b.sums[b.groups[n][j]]
	devices := int64(b.nodes[m].devices)
	var mine, theirs int64
	for _, g := range b.groups[m] {
		mine += b.sums[g]
	}
	for _, g := range b.groups[n] {
		theirs += b.sums[g]
	}
	return max(mine-less, theirs+less)/devices < most
}

// resolve searches layouts of two nodes with other groups, and keeps them if
// both are better than the fuller was. It returns the load of the fuller one.
func (b *Balancer) resolve(m, n int, loads []int64, unit int64, work *int) int64 {
	most := b.nodes[m].best.max()
	for k, node := range []int{m, n} {
		p := b.spare[k]
		b.load(p, b.groups[node], loads, unit)
		p.start(p.greedy())
		p.solve(effort / (8 * len(b.nodes)))
		*work += p.work + len(p.best.at)*p.devices
		if p.best.max() >= most {
			return p.best.max()
		}
	}
	b.nodes[m], b.spare[0] = b.spare[0], b.nodes[m]
	b.nodes[n], b.spare[1] = b.spare[1], b.nodes[n]
	return max(b.nodes[m].best.max(), b.nodes[n].best.max())
}

// greedy returns the layout that EPLB makes of the experts of a node.
func (p *packer) greedy() []int {
	weights := make([]float32, len(p.loads))
	for e, w := range p.loads {
		weights[e] = float32(w)
	}
	return packNode(weights, len(p.cur.at), p.devices)
}
