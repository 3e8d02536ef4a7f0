package search

import (
	"fmt"
	"slices"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/passes"
)

// Problem is what a placement is searched for.
type Problem struct {
	Outline   *passes.Outline
	Machine   *machine.Machine
	Stats     *routing.Stats
	Workload  Workload
	Positions int    // KV entries that each device of a token group has room for
	Buffers   int64  // bytes that a device needs besides weights and KV entries
	Seed      uint64 // of the batches
	Samples   int    // batches for each kind of step, a power of two up to 32; 0: by its tokens
}

// load is a kind of step of the workload, and the batches sampled for it.
type load struct {
	Step
	samples int   // batches
	first   int   // of its batches, in vectors that have an entry for each batch of each load
	weight  int64 // of a batch, in the score
}

// scoreUnits is how many units of the score a picosecond has: the mean over
// batches would not be an integer.
const scoreUnits = 32

// samplesFor is how many batches are sampled for steps of that many tokens:
// the fewer tokens, the more the choice of experts varies.
func samplesFor(tokens int) int {
	switch {
	case tokens <= 16:
		return 32
	case tokens <= 64:
		return 16
	case tokens <= 512:
		return 8
	}
	return 4
}

// model prices placements of a problem.
type model struct {
	*Problem
	devices int
	loads   []load
	limits  []limit
	press   int64       // how much times beyond limits count, next to memory
	width   int         // batches of all loads together
	parts   []*part     // of the outline; equal ones are shared
	budget  int64       // bytes of a device
	order   []int64     // scratch: clocks, a vector for each device
	vector  []int64     // scratch
	trial   trial       // scratch
	served  []serve     // scratch
	key8    []byte      // scratch
	numbers []int       // scratch
	parted  []cost.Part // scratch
	prices  map[string][]int64
	pricers map[[3]int]*cost.Pricer
	memo    int               // prices that are kept; see tryPart
	ones    map[*part][]int64 // bounds on one token group of so many devices
	looks   int64             // that "exact" has left for a layer
	thrift  int64             // what maxLooks is divided by
	only    int               // the number of token groups that "exact" looks at; 0: all
	counts  Counts
}

// Counts says how much a search did.
type Counts struct {
	Layers  int64 `json:"layers"`  // prices of a layer that were worked out
	Scripts int64 `json:"scripts"` // layers that were placed for it
}

// part is what the prices of a part of the outline come from.
type part struct {
	*shape
	batches []*routing.Batch // for each batch of each load
	rows    map[rowsKey][]int64
}

// shape is what parts of the same structure have in common, whatever experts
// their tokens choose.
type shape struct {
	index   int // the first part like this
	layer   int // of the graph, or -1
	experts int
	leaves  int // of an expert
	scripts map[string]*script
	kernels map[[2]int]*kernels // by leaves held
	combine *kernels            // the combination of some experts, of one subtree
	whole   *ir.Node            // the combination of all
	sums    *ir.Node            // the same of sums that are not rounded yet
	early   bool
	slow    bool // has several choices of experts: priced whole
}

// newModel prepares a problem. It fails if the graph is not a chain of parts.
func newModel(p *Problem) (*model, error) {
	if err := p.Workload.Check(); err != nil {
		return nil, err
	}
	m := &model{Problem: p, devices: p.Machine.Devices, limits: limitsOf(&p.Workload), press: 1, thrift: 1, ones: map[*part][]int64{}, prices: map[string][]int64{}, pricers: map[[3]int]*cost.Pricer{}}
	if m.devices > maxDevices {
		return nil, fmt.Errorf("search: need at most %d devices, have %d", maxDevices, m.devices)
	}
	m.budget = p.Machine.Device.Memory.Value - p.Machine.Device.Reserve.Value - p.Buffers
	for _, s := range p.Workload.Steps {
		n := p.Samples
		if n == 0 {
			n = samplesFor(s.Tokens)
		}
		if n < 1 || scoreUnits%n != 0 {
			return nil, fmt.Errorf("search: %d samples: need a power of two from 1 to %d", n, scoreUnits)
		}
		m.loads = append(m.loads, load{Step: s, samples: n, first: m.width, weight: s.Count * int64(scoreUnits/n)})
		m.width += n
	}
	m.order = make([]int64, m.devices*m.width)
	m.vector = make([]int64, m.width)
	o := p.Outline
	byKey, shapes := make(map[[2]int]*part), make(map[int]*shape)
	for i, class := range o.Class {
		if shapes[class] == nil {
			shapes[class] = m.newShape(class)
		}
		routed := -1
		if shapes[class].experts > 0 {
			routed = p.Stats.Class(i - 1)
		}
		key := [2]int{class, routed}
		if byKey[key] == nil {
			byKey[key] = m.newPart(shapes[class], i-1)
		}
		m.parts = append(m.parts, byKey[key])
	}
	return m, nil
}

func (m *model) newShape(index int) *shape {
	o := m.Outline
	c := &shape{index: index, layer: -1, scripts: map[string]*script{}, kernels: map[[2]int]*kernels{}}
	if index == 0 || index > o.Graph.Layers {
		return c
	}
	c.layer = index - 1
	if s := o.Summary.Layers[c.layer]; s.Experts > 0 {
		c.experts, c.leaves, c.early, c.slow = s.Experts, s.Inner, o.Early(index), o.Experts(index) > 1
		if !c.slow {
			m.combinations(c)
		}
	}
	return c
}

// newPart draws the batches of a layer.
func (m *model) newPart(s *shape, layer int) *part {
	c := &part{shape: s, rows: map[rowsKey][]int64{}}
	if s.experts > 0 {
		for _, l := range m.loads {
			for i := range l.samples {
				c.batches = append(c.batches, m.Stats.Draw(m.Seed, layer, l.Tokens, i))
			}
		}
	}
	return c
}

// pricer returns the pricer of a load for a token group, as if it were all.
func (m *model) pricer(load, group, groups int) *cost.Pricer {
	key := [3]int{load, group, groups}
	p := m.pricers[key]
	if p == nil {
		p = cost.NewPricer(m.Machine, m.loads[load].Share(group, groups), 1)
		m.pricers[key] = p
	}
	return p
}

// segments is what shares of placements count in.
func (m *model) segments() int { return m.Outline.Summary.Segments }

// layers is the number of layers.
func (m *model) layers() int { return m.Outline.Graph.Layers }

// score weighs times of batches.
func (m *model) score(times []int64) int64 {
	var sum int64
	for i := range m.loads {
		l := &m.loads[i]
		var s int64
		for _, t := range times[l.first : l.first+l.samples] {
			s += t
		}
		sum += s * l.weight
	}
	return sum
}

// quantile weighs the times of the batches of a quantile.
func (m *model) quantile(times []int64) int64 {
	var sum int64
	for i := range m.loads {
		l := &m.loads[i]
		list := slices.Sorted(slices.Values(times[l.first : l.first+l.samples]))
		sum += list[min(l.samples-1, l.samples*m.Workload.Quantile/1000)] * l.weight * int64(l.samples)
	}
	return sum
}

// blank is a placement of which only some layers are filled in.
func (m *model) blank(devices int) *placement.Placement {
	return &placement.Placement{Devices: devices, Segments: m.segments(), Layers: make([]placement.Layer, m.layers())}
}

// same is a placement in which every layer is placed like l.
func (m *model) same(l placement.Layer) *placement.Placement {
	p := m.blank(m.devices)
	for k := range p.Layers {
		p.Layers[k] = l
	}
	for _, g := range l.Groups {
		p.Embed = append(p.Embed, even(g, m.segments()))
	}
	p.Head = p.Embed
	return p
}
