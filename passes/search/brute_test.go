package search

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/passes"
)

var (
	instances = flag.Int("instances", 2, "random small problems to solve by brute force")
	firstSeed = flag.Uint64("first", 1, "seed of the first")
)

// TestExactAgreesWithBruteForce prices every placement of small models on small
// machines: two layers, four experts, two or three devices. On three devices
// parts are not divided and both layers have the same devices.
func TestExactAgreesWithBruteForce(t *testing.T) {
	begin := time.Now()
	equal := 0
	for i := range uint64(*instances) {
		seed := *firstSeed + i
		b := newBrute(t, seed)
		best := b.best()
		r, err := b.exact(never)
		if err != nil {
			t.Fatal(err)
		}
		if r.bound > best {
			t.Errorf("seed %d: exact proves %d, brute force finds %d, lower by %d", seed, r.bound, best, r.bound-best)
		}
		if r.best == nil || r.best.score < best {
			t.Errorf("seed %d: exact finds %+v, brute force %d", seed, r.best, best)
		} else if r.best.score == best {
			equal++
		} else {
			t.Logf("seed %d: exact finds %d, %.4f %% above brute force's %d; its bound is %.4f %% below: %s", seed, r.best.score, 100*float64(r.best.score-best)/float64(best), best, 100*float64(best-r.bound)/float64(best), r.limit)
		}
	}
	t.Logf("%d of %d problems: exact finds what brute force finds; %v", equal, *instances, time.Since(begin).Round(time.Millisecond))
	if equal != *instances {
		t.Errorf("exact falls short in %d problems", *instances-equal)
	}
}

// brute prices everything.
type brute struct {
	*model
	t       *testing.T
	rng     *rand.Rand
	same    bool // layers have the same devices
	priced  int
	ends    map[string]*partState
	outer   map[string]int64
	experts [][]placement.Expert
}

// newBrute makes up a small problem.
func newBrute(t *testing.T, seed uint64) *brute {
	rng := rand.New(rand.NewPCG(seed, 0x6272757465))
	devices, segments := 2, 2
	if seed%20 == 0 {
		devices, segments = 3, 1
	}
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	o := outline(t, "mixtral", ir.Invariant, segments, map[string]string{"layers": "2", "hidden": pick("64", "256", "1024"), "heads": "8", "kv_heads": pick("2", "4", "8"), "ffn": pick("64", "512", "2048"), "experts": "4", "vocab": pick("64", "4096")})
	q := func(n int64) machine.Quantity { return machine.Quantity{Value: n} }
	scale := func(n int64) int64 { return n * (1 << rng.IntN(8)) }
	mach := &machine.Machine{Name: "made up", Devices: devices,
		Device: machine.Device{Memory: q(1 << 50), Bandwidth: q(scale(1e10)), Launch: q(scale(1e4)), Rates: map[string]machine.Quantity{"f32": q(scale(1e11)), "bf16": q(scale(1e12))}},
		Links:  []machine.Link{{Latency: q(scale(1e5)), Bandwidth: q(scale(1e9))}}}
	stats := routing.Uniform(shapes(o))
	if rng.IntN(2) == 0 {
		stats = routing.PowerLaw(shapes(o), 0.5+rng.Float64(), seed)
	}
	w := Workload{Name: "made up"}
	for range 1 + rng.IntN(2) {
		n := 1 << rng.IntN(6)
		l := cost.Load{Sequences: n, Tokens: n, Rows: n, Context: 1 << rng.IntN(10)}
		if rng.IntN(3) == 0 {
			l = cost.Load{Sequences: 1, Tokens: 4 * n, Rows: 1, Context: 2 * n}
		}
		w.Steps = append(w.Steps, Step{l, 1 + rng.Int64N(5)})
	}
	m, err := newModel(&Problem{Outline: o, Machine: mach, Stats: stats, Workload: w, Seed: seed, Samples: 2})
	if err != nil {
		t.Fatal(err)
	}
	return &brute{model: m, t: t, rng: rng, same: devices == 3}
}

// best is the least score of all placements.
func (b *brute) best() int64 {
	homes := b.homes()
	b.every(nil, homes, 4)
	best := int64(never)
	for groups := 1; groups <= b.devices; groups++ {
		layouts := b.layouts(groups)
		second := make(map[string]map[string]second) // by the groups of layer 0, and its needs
		for _, own := range layouts {
			if own[0][0] == 0 { // devices are alike: this one may be called so
				b.secondLayer(own, layouts, second)
			}
		}
		for _, own := range layouts {
			for _, s := range second[fmt.Sprint(own)] {
				best = min(best, s.score+b.firstLayer(own, s.needs))
			}
		}
	}
	return best
}

// second is the least score of the parts from some place on, for what they need
// of the part before.
type second struct {
	needs []passes.Need
	score int64
}

// secondLayer prices layer 1 and the head on own groups, after every layout.
func (b *brute) secondLayer(own [][]int, layouts [][][]int, found map[string]map[string]second) {
	for _, end := range b.heads(own) {
		for _, prev := range layouts {
			if b.same && !sameGroups(prev, own) {
				continue
			}
			key := fmt.Sprint(prev)
			if found[key] == nil {
				found[key] = make(map[string]second)
			}
			for _, l := range b.layers(own) {
				p := b.fill(prev, own)
				p.Layers[1] = l
				ps := b.price(2, p, end.needs)
				old, ok := found[key][ps.script.key]
				if score := ps.score + end.score; !ok || score < old.score {
					found[key][ps.script.key] = second{ps.script.needs, score}
				}
			}
		}
	}
}

// heads lists what heads on own groups can need of layer 1, with the least
// score of those that need the same.
func (b *brute) heads(own [][]int) []second {
	var list []second
	at := make(map[string]int)
	for _, head := range b.perGroup(own) {
		p := b.fill(own, own)
		p.Head = head
		ps := b.price(3, p, nil)
		i, ok := at[ps.script.key]
		if !ok {
			i, at[ps.script.key] = len(list), len(list)
			list = append(list, second{ps.script.needs, ps.score})
		}
		list[i].score = min(list[i].score, ps.score)
	}
	return list
}

// firstLayer is the least score of the embedding and layer 0.
func (b *brute) firstLayer(own [][]int, needs []passes.Need) int64 {
	best := int64(never)
	for _, embed := range b.perGroup(own) {
		ends := make(map[string]int64)
		for _, l := range b.layers(own) {
			p := b.fill(own, own)
			p.Layers[0], p.Embed = l, embed
			ps := b.price(1, p, needs)
			if _, ok := ends[ps.script.key]; !ok {
				ends[ps.script.key] = b.price(0, p, ps.script.needs).score
			}
			best = min(best, ps.score+ends[ps.script.key])
		}
	}
	return best
}

func (b *brute) price(i int, p *placement.Placement, needs []passes.Need) *partState {
	b.priced++
	ps, err := b.evaluate(i, p, needs, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return ps
}

func (b *brute) fill(prev, own [][]int) *placement.Placement {
	p := b.blank(b.devices)
	p.Layers[0].Groups, p.Layers[1].Groups = prev, own
	for k, l := range p.Layers {
		for _, g := range l.Groups {
			p.Layers[k].Attention = append(p.Layers[k].Attention, even(g, b.segments()))
		}
		p.Layers[k].Dense = p.Layers[k].Attention
		p.Layers[k].Experts = b.experts[0]
	}
	p.Embed, p.Head = p.Layers[0].Attention, p.Layers[1].Attention
	return p
}

// layers lists every placement of a layer on token groups. A model without
// dense parts does not care how they are divided.
func (b *brute) layers(groups [][]int) []placement.Layer {
	var list []placement.Layer
	for _, a := range b.perGroup(groups) {
		for _, x := range b.experts {
			list = append(list, placement.Layer{Groups: groups, Attention: a, Dense: a, Experts: x})
		}
	}
	return list
}

// perGroup lists every choice of splits for token groups.
func (b *brute) perGroup(groups [][]int) [][]placement.Split {
	list := [][]placement.Split{nil}
	for _, g := range groups {
		var longer [][]placement.Split
		for _, head := range list {
			for _, s := range b.everySplit(g) {
				longer = append(longer, append(slices.Clone(head), s))
			}
		}
		list = longer
	}
	return list
}

// everySplit lists every split of a part within devices, copies included, but
// for the order of copies, which nothing depends on.
func (b *brute) everySplit(devices []int) []placement.Split {
	var list []placement.Split
	for _, some := range subsets(devices) {
		if len(some) > 1 {
			var s placement.Split
			for _, d := range some {
				s = append(s, placement.Share{Device: d, Lo: 0, Hi: b.segments()})
			}
			list = append(list, s)
		}
		for _, order := range permutations(some) {
			for _, s := range b.splits(order) {
				if len(s) == len(order) && (len(s) == 1 || !s.Copies(b.segments())) {
					list = append(list, s)
				}
			}
		}
	}
	return list
}

// homes lists every way to hold an expert: copies in every order, each on one
// device or divided.
func (b *brute) homes() []placement.Expert {
	var list []placement.Expert
	var extend func(e placement.Expert, left []int)
	extend = func(e placement.Expert, left []int) {
		if len(e) > 0 {
			list = append(list, slices.Clone(e))
		}
		for _, s := range b.everySplit(left) {
			if len(s) > 1 && s.Copies(b.segments()) {
				continue
			}
			var rest []int
			for _, d := range left {
				if !slices.ContainsFunc(s, func(sh placement.Share) bool { return sh.Device == d }) {
					rest = append(rest, d)
				}
			}
			extend(append(e, s), rest)
		}
	}
	extend(nil, upTo(b.devices))
	return list
}

func (b *brute) every(head []placement.Expert, homes []placement.Expert, left int) {
	if left == 0 {
		b.experts = append(b.experts, slices.Clone(head))
		return
	}
	for _, h := range homes {
		b.every(append(head, h), homes, left-1)
	}
}

// layouts lists every choice of token groups. On three devices the order of
// devices, which are alike, is left out.
func (b *brute) layouts(groups int) [][][]int {
	var list [][][]int
	var extend func(done [][]int, left []int)
	extend = func(done [][]int, left []int) {
		if len(done) == groups {
			list = append(list, slices.Clone(done))
			return
		}
		for _, some := range subsets(left) {
			orders := permutations(some)
			if b.same {
				orders = orders[:1]
			}
			var rest []int
			for _, d := range left {
				if !slices.Contains(some, d) {
					rest = append(rest, d)
				}
			}
			for _, g := range orders {
				extend(append(done, g), rest)
			}
		}
	}
	extend(nil, upTo(b.devices))
	if !b.same {
		return list
	}
	var alike [][][]int // devices in order of their first use
	for _, l := range list {
		if all := slices.Concat(l...); slices.Equal(all, upTo(len(all))) {
			alike = append(alike, l)
		}
	}
	return alike
}

func subsets(list []int) [][]int {
	var out [][]int
	for mask := 1; mask < 1<<len(list); mask++ {
		var s []int
		for i, x := range list {
			if mask&(1<<i) != 0 {
				s = append(s, x)
			}
		}
		out = append(out, s)
	}
	return out
}

func permutations(list []int) [][]int {
	if len(list) < 2 {
		return [][]int{list}
	}
	var out [][]int
	for i := range list {
		rest := slices.Delete(slices.Clone(list), i, i+1)
		for _, p := range permutations(rest) {
			out = append(out, append([]int{list[i]}, p...))
		}
	}
	return out
}
