package search

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/ir/routing"
	"moec/passes"
)

// vector is the score of a placement and what it makes of each limit.
type vector []int64

// front are vectors of which none is at least as good as another everywhere.
type front []vector

func (f front) with(v vector) front {
	atLeast := func(a, b vector) bool {
		for i := range a {
			if a[i] > b[i] {
				return false
			}
		}
		return true
	}
	for _, o := range f {
		if atLeast(o, v) {
			return f
		}
	}
	return append(slices.DeleteFunc(f, func(o vector) bool { return atLeast(v, o) }), v)
}

func plus(a, b vector) vector {
	sum := slices.Clone(a)
	for i := range sum {
		sum[i] += b[i]
	}
	return sum
}

// newLimited makes up a small problem for enumeration: two devices, two layers,
// four experts, nothing divided.
func newLimited(t *testing.T, seed uint64) *brute {
	rng := rand.New(rand.NewPCG(seed, 0x6c696d6974))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	o := outline(t, "mixtral", ir.Invariant, 1, map[string]string{"layers": "2", "hidden": pick("64", "256", "1024"), "heads": "8", "kv_heads": pick("2", "8"), "ffn": pick("64", "512", "2048"), "experts": "4", "vocab": pick("64", "4096")})
	q := func(n int64) machine.Quantity { return machine.Quantity{Value: n} }
	scale := func(n int64) int64 { return n * (1 << rng.IntN(8)) }
	mach := &machine.Machine{Name: "made up", Devices: 2,
		Device: machine.Device{Memory: q(1 << 50), Bandwidth: q(scale(1e10)), Launch: q(scale(1e4)), Rates: map[string]machine.Quantity{"f32": q(scale(1e11)), "bf16": q(scale(1e12))}},
		Links:  []machine.Link{{Latency: q(scale(1e5)), Bandwidth: q(scale(1e9))}}}
	stats := routing.PowerLaw(shapes(o), 0.5+rng.Float64(), seed)
	w := Workload{Name: "made up", Prompts: 2, FirstToken: 1, PerToken: 1}
	for _, n := range []int{1, 4 << rng.IntN(5)} {
		w.Steps = append(w.Steps, Step{cost.Load{Sequences: n, Tokens: n, Rows: n, Context: 1 << rng.IntN(10)}, 1 + rng.Int64N(5)})
	}
	n := 8 << rng.IntN(5)
	w.Steps = append(w.Steps, Step{cost.Load{Sequences: 1, Tokens: n, Rows: 1, Context: n / 2}, 2 + 2*rng.Int64N(3)})
	m, err := newModel(&Problem{Outline: o, Machine: mach, Stats: stats, Workload: w, Seed: seed, Samples: 2})
	if err != nil {
		t.Fatal(err)
	}
	return &brute{model: m, t: t, rng: rng}
}

// vectorOf is what a part adds to the score and the limits.
func (b *brute) vectorOf(ps *partState) vector {
	v := vector{ps.score}
	for i := range b.limits {
		v = append(v, b.value(&b.limits[i], ps.times))
	}
	return v
}

// ahead is the front of the parts from some place on, for what they need of the
// part before.
type ahead struct {
	needs []passes.Need
	front front
}

// every is the front of all placements. Devices are alike.
func (b *brute) everything() front {
	b.every(nil, b.homes(), 4)
	var all front
	for groups := 1; groups <= b.devices; groups++ {
		layouts := b.layouts(groups)
		found := make(map[string]map[string]*ahead) // by the groups of layer 0, and its needs
		for _, own := range layouts {
			if own[0][0] == 0 {
				b.secondFronts(own, layouts, found)
			}
		}
		for _, own := range layouts {
			for _, s := range found[fmt.Sprint(own)] {
				for _, v := range b.firstFront(own, s.needs) {
					for _, w := range s.front {
						all = all.with(plus(v, w))
					}
				}
			}
		}
	}
	return all
}

func (b *brute) secondFronts(own [][]int, layouts [][][]int, found map[string]map[string]*ahead) {
	for _, head := range b.perGroup(own) {
		p := b.fill(own, own)
		p.Head = head
		end := b.price(3, p, nil)
		for _, prev := range layouts {
			key := fmt.Sprint(prev)
			if found[key] == nil {
				found[key] = make(map[string]*ahead)
			}
			for _, l := range b.layers(own) {
				p := b.fill(prev, own)
				p.Layers[1] = l
				ps := b.price(2, p, end.script.needs)
				a := found[key][ps.script.key]
				if a == nil {
					a = &ahead{needs: ps.script.needs}
					found[key][ps.script.key] = a
				}
				a.front = a.front.with(plus(b.vectorOf(ps), b.vectorOf(end)))
			}
		}
	}
}

func (b *brute) firstFront(own [][]int, needs []passes.Need) front {
	var f front
	for _, embed := range b.perGroup(own) {
		ends := make(map[string]vector)
		for _, l := range b.layers(own) {
			p := b.fill(own, own)
			p.Layers[0], p.Embed = l, embed
			ps := b.price(1, p, needs)
			if ends[ps.script.key] == nil {
				ends[ps.script.key] = b.vectorOf(b.price(0, p, ps.script.needs))
			}
			f = f.with(plus(b.vectorOf(ps), ends[ps.script.key]))
		}
	}
	return f
}

// TestLimitsAgreeWithBruteForce compares searches within limits with pricing
// every placement of small models.
func TestLimitsAgreeWithBruteForce(t *testing.T) {
	asked, equal, proven, shown, none := 0, 0, 0, 0, 0
	for seed := range uint64(8) {
		b := newLimited(t, seed)
		all := b.everything()
		best := slices.MinFunc(all, func(a, b vector) int { return int(min(1, max(-1, a[0]-b[0]))) })
		for range 6 {
			w := b.Workload
			within := b.someLimits(&w, all, best)
			opt := int64(never)
			for _, v := range all {
				if within(v) {
					opt = min(opt, v[0]/scoreUnits)
				}
			}
			p := *b.Problem
			p.Workload = w
			asked++
			r, err := Run(&p, Options{Searcher: "exact"})
			var fit *FitError
			switch {
			case errors.As(err, &fit):
				if impossible := fit.Together || slices.ContainsFunc(fit.Missed, func(m Missed) bool { return m.Impossible() }); impossible && opt < never {
					t.Errorf("seed %d, limits %d and %d: %v, but one scores %d", seed, w.FirstToken, w.PerToken, err, opt)
				} else if impossible {
					shown++
				}
				if opt == never {
					equal++
					none++
				} else {
					t.Logf("seed %d, limits %d and %d: %v, but one scores %d", seed, w.FirstToken, w.PerToken, err, opt)
				}
			case err != nil:
				t.Fatal(err)
			default:
				if r.Bound > opt || r.Chosen.Score < opt || !r.Chosen.Fits || Broken(r.Chosen.Times) != "" {
					t.Errorf("seed %d, limits %d and %d: bound %d, chosen %d (%+v), brute force %d", seed, w.FirstToken, w.PerToken, r.Bound, r.Chosen.Score, r.Chosen.Times, opt)
				}
				if r.Bound < r.Chosen.Score {
					t.Logf("seed %d, %d and %d: gap %.4f %%", seed, w.FirstToken, w.PerToken, 100*float64(r.Chosen.Score-r.Bound)/float64(r.Bound))
				}
				if r.Chosen.Score == opt {
					equal++
				} else {
					t.Logf("seed %d: exact finds %d, %.3f %% above; its bound is %.3f %% below", seed, r.Chosen.Score, 100*float64(r.Chosen.Score-opt)/float64(opt), 100*float64(opt-r.Bound)/float64(opt))
				}
				if gap, ok := r.Gap(); ok && gap == 0 {
					proven++
				}
			}
			walk, err := Run(&p, Options{Searcher: "mcmc", Budget: 500, Seed: seed})
			if err == nil && (walk.Chosen.Score < opt || Broken(walk.Chosen.Times) != "") {
				t.Errorf("seed %d: mcmc chooses %d, %+v; brute force %d", seed, walk.Chosen.Score, walk.Chosen.Times, opt)
			}
		}
	}
	t.Logf("%d problems: %d as brute force, %d proven, %d of %d shown to be impossible", asked, equal, proven, shown, none)
	if equal < asked*7/10 {
		t.Errorf("exact finds what brute force finds in %d of %d problems", equal, asked)
	}
}

// someLimits gives a workload limits between the least that anything takes and
// what the best placement takes, or a little less than the least. It returns
// what tells whether a vector keeps them.
func (b *brute) someLimits(w *Workload, all front, best vector) func(vector) bool {
	value := func(v vector, k int) int64 { // in ps: first token, per token
		if k == 0 {
			return ceil(v[1], scoreUnits)
		}
		return ceil(max(v[2], v[3]), scoreUnits)
	}
	w.FirstToken, w.PerToken = b.rng.Int64N(2)*maxLimit, b.rng.Int64N(2)*maxLimit // none, or one that all keep
	which := 1 + b.rng.IntN(3)
	for k, at := range []*int64{&w.FirstToken, &w.PerToken} {
		if which&(1<<k) == 0 {
			continue
		}
		least := int64(never)
		for _, v := range all {
			least = min(least, value(v, k))
		}
		*at = least + (value(best, k)-least)*b.rng.Int64N(11)/10 - b.rng.Int64N(2)*b.rng.Int64N(2)*least/50
	}
	return func(v vector) bool {
		return (w.FirstToken == 0 || value(v, 0) <= w.FirstToken) && (w.PerToken == 0 || value(v, 1) <= w.PerToken)
	}
}

// TestFirstTokenIsOfOnePrompt checks what limits mean with workloads of one
// prompt and of several, whole and in chunks.
func TestFirstTokenIsOfOnePrompt(t *testing.T) {
	for _, c := range []struct {
		spec          string
		chunk         int
		steps         []int64
		first, worst  int64
		slowestTokens int
	}{
		{"mixed", 2048, []int64{10, 20, 70, 500}, 500, 70, 64},
		{"mixed", 512, []int64{10, 90, 70, 500}, 2000, 90, 8}, // four chunks
		{"chat", 2048, []int64{30, 400}, 400, 30, 8},          // eight prompts, each in one step
		{"chat", 256, []int64{30, 400}, 800, 30, 8},           // and in two
		{"chat", 500, []int64{30, 400}, 800, 30, 8},
	} {
		w, err := ParseWorkload(c.spec, c.chunk)
		if err != nil {
			t.Fatal(err)
		}
		if list := w.Times(c.steps); list != nil {
			t.Errorf("%s without limits: %+v", c.spec, list)
		}
		w.FirstToken, w.PerToken = c.first, c.worst
		if err := w.Check(); err != nil {
			t.Error(err)
		}
		list := w.Times(c.steps)
		if len(list) != 2 || list[0].Reached != c.first || list[1].Reached != c.worst || list[0].Step != nil || list[1].Step.Tokens != c.slowestTokens || Broken(list) != "" {
			t.Errorf("%s in chunks of %d: %+v", c.spec, c.chunk, list)
		}
		w.FirstToken--
		w.PerToken--
		if text := Broken(w.Times(c.steps)); !strings.Contains(text, "to the first token") || !strings.Contains(text, "per token") {
			t.Errorf("%s, a ps less: %q", c.spec, text)
		}
	}
}

// TestLimitsAreChecked asks for what makes no sense.
func TestLimitsAreChecked(t *testing.T) {
	chat, _ := ParseWorkload("chat", 2048)
	for _, c := range []struct {
		w    Workload
		want string
	}{
		{Workload{Steps: Decode(1).Steps, FirstToken: 5}, "first_token_ps: need a workload with prompt steps, have none"},
		{Workload{Steps: Prefill(64, 64).Steps, PerToken: 5}, "per_token_ps: need a workload with decode steps, have none"},
		{Workload{Steps: chat.Steps, PerToken: -1}, "per_token_ps: need 1 to"},
		{Workload{Steps: chat.Steps, FirstToken: 1 << 60}, "first_token_ps: need 1 to"},
		{Workload{Steps: chat.Steps, Prompts: 3}, "step 1, count: need a multiple of 3 prompts, have 8"},
		{Workload{Steps: chat.Steps, Prompts: -3}, "prompts: need 1 to"},
	} {
		if err := c.w.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.w, err, c.want)
		}
	}
}

// limited is a problem in which decode steps and prompts want different
// placements: so many decode steps and prompts, and limits in parts of a hundred
// of what the fastest placement takes.
func limited(t *testing.T, decodes, prompts, first, token int64) (*Problem, *Result) {
	o := outline(t, "mixtral", ir.Invariant, 4, map[string]string{"layers": "3", "hidden": "1024", "ffn": "3584"})
	p := &Problem{Outline: o, Machine: machineOf(t, "l40sx4"), Stats: routing.Uniform(shapes(o)), Positions: 4096, Samples: 2,
		Workload: Workload{Name: "test", Prompts: prompts, FirstToken: maxLimit, PerToken: maxLimit, Steps: []Step{decode(8, decodes), prefill(2048, 2048, prompts)}}}
	free := run(t, p, Options{Searcher: "exact"})
	p.Workload.FirstToken = free.Chosen.Times[0].Reached * first / 100
	p.Workload.PerToken = free.Chosen.Times[1].Reached * token / 100
	return p, free
}

// TestLimitsBind searches in every way where the fastest placement breaks a
// limit.
func TestLimitsBind(t *testing.T) {
	for _, c := range []struct {
		decodes, prompts, first, token int64
		searchers                      []string
		wants                          string // of the error
	}{
		{64, 1, 80, 1000, []string{"auto", "mcmc"}, ""},
		{1, 16, 1000, 90, []string{"exact", "mcmc"}, ""},
		{64, 1, 80, 100, []string{"mcmc"}, "together it is impossible"},
		{64, 1, 10, 1000, []string{"exact"}, "to the first token on l40sx4: the best that was found takes"},
		{64, 1, 10, 1000, []string{"exact"}, "it is impossible, as no placement takes less"},
		{64, 1, 10, 1000, []string{"hand"}, "that it is impossible is not proven; allow more time"},
	} {
		p, free := limited(t, c.decodes, c.prompts, c.first, c.token)
		for _, searcher := range c.searchers {
			r, err := Run(p, Options{Searcher: searcher, Budget: 1000})
			var fit *FitError
			if c.wants != "" {
				if !errors.As(err, &fit) || !strings.Contains(err.Error(), c.wants) {
					t.Errorf("%+v, %s: %v", c, searcher, err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if !r.Chosen.Fits || r.Chosen.Why != "" || Broken(r.Chosen.Times) != "" || r.Chosen.Score < r.Bound {
				t.Errorf("%+v, %s: chosen %+v, bound %d", c, searcher, r.Chosen, r.Bound)
			}
			if searcher != "mcmc" && r.Bound < free.Bound {
				t.Errorf("%+v, %s: bound %d, without limits %d", c, searcher, r.Bound, free.Bound)
			}
			for _, h := range r.Hand {
				if broken := Broken(h.Times); h.Fits == (h.Why != "") || broken != "" && h.Why != broken && !strings.HasPrefix(h.Why, "does not fit") {
					t.Errorf("%+v: %s fits: %t, %q, %q", c, h.Name, h.Fits, h.Why, broken)
				}
			}
			priced, err := Price(p, r.Chosen.Placement)
			if err != nil || !reflect.DeepEqual(priced[0].Times, r.Chosen.Times) || priced[0].Score != r.Chosen.Score {
				t.Errorf("%+v, %s: priced again %+v, %v", c, searcher, priced[0], err)
			}
			t.Logf("%+v, %s: %s chooses %d, bound %d, without limits %d", c, searcher, r.Searcher, r.Chosen.Score, r.Bound, free.Chosen.Score)
		}
	}
}

// TestLimitsAreDeterministic runs the same search within limits twice.
func TestLimitsAreDeterministic(t *testing.T) {
	p, _ := limited(t, 64, 1, 80, 120)
	for _, quantile := range []int{0, 900} {
		p.Workload.Quantile = quantile
		search := func() (*Result, error) { return Run(p, Options{Searcher: "auto", Budget: 1000, Seed: 5}) }
		a, errA := search()
		b, errB := search()
		if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(errA, errB) {
			t.Errorf("%+v, %v\n%+v, %v", a.Chosen, errA, b.Chosen, errB)
		}
	}
}

// TestLimitsOfAQuantile checks that a limit is on the quantile that ranks.
func TestLimitsOfAQuantile(t *testing.T) {
	p, _ := limited(t, 1, 1, 1000, 1000)
	p.Workload.Quantile = 999
	m, err := newModel(p)
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.place(namedPlace(t, p, "ep4"))
	if err != nil {
		t.Fatal(err)
	}
	var worst int64 // of the decode steps
	for _, l := range m.loads[:1] {
		worst = max(worst, slices.Max(s.times[l.first:l.first+l.samples]))
	}
	if list := m.timesTo(s.times); list[1].Reached != worst {
		t.Errorf("a decode step takes %d ps, want %d, the slowest of the batches", list[1].Reached, worst)
	}
}

// TestChangeIsAWholePriceWithLimits is TestChangeIsAWholePrice where changes
// keep the times of batches.
func TestChangeIsAWholePriceWithLimits(t *testing.T) {
	p, _ := limited(t, 64, 1, 80, 120)
	for seed := range uint64(4) {
		m, err := newModel(p)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(seed, 9))
		now, err := m.place(placement.Random(rng, m.Outline.Summary, m.devices))
		if err != nil {
			t.Fatal(err)
		}
		v := &mover{model: m, Rand: rng, hand: placements(m.hand())}
		for range 300 {
			e, ok := v.propose(now.p)
			if !ok {
				continue
			}
			tr, err := m.try(now, e)
			if err != nil {
				t.Fatal(err)
			}
			if rng.IntN(3) == 0 {
				m.drop(now, tr)
				continue
			}
			m.keepTrial(now, tr)
			want, err := m.place(now.p)
			if err != nil {
				t.Fatal(err)
			}
			if now.score != want.score || !slices.Equal(now.times, want.times) || m.rank(now) != m.rank(want) {
				t.Fatalf("seed %d: an edit of %d layers from %d gives score %d and times %v, the whole price is %d and %v", seed, len(e.layers), e.first, now.score, now.times, want.score, want.times)
			}
		}
	}
}
