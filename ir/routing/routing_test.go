package routing

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// example is the trace of the model in examples, which has this shape.
const example = "../../examples/tiny-mixtral/routing.json"

func shapes(layers, experts, slots int) []Shape {
	return slices.Repeat([]Shape{{experts, slots}}, layers)
}

func load(t testing.TB) *Stats {
	t.Helper()
	s, err := Parse(example, shapes(4, 8, 2))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDrawsAreTheSameEverywhere pins draws: they may not depend on processor,
// word size or version.
func TestDrawsAreTheSameEverywhere(t *testing.T) {
	power := PowerLaw(shapes(2, 16, 3), 1.2, 7)
	for _, c := range []struct {
		name string
		have []uint16
		want []uint16
	}{
		{"uniform", Uniform(shapes(1, 8, 2)).Draw(1, 0, 4, 0).Chosen, []uint16{7, 1, 4, 5, 3, 2, 6, 2}},
		{"power", power.Draw(1, 1, 3, 2).Chosen, []uint16{4, 6, 3, 11, 13, 1, 4, 6, 15}},
		{"trace", load(t).Draw(5, 3, 4, 0).Chosen, []uint16{5, 7, 4, 3, 3, 4, 3, 1}},
		{"walk", load(t).Walk(5, 4)[2], []uint16{6, 3, 4, 1, 1, 4, 3, 2}},
	} {
		if !slices.Equal(c.have, c.want) {
			t.Errorf("%s: have %#v, want %v", c.name, c.have, c.want)
		}
	}
	if want := []int64{71599, 116471, 96802, 1000000, 63096, 38787, 267581, 35897, 144956, 46054, 56277, 82469, 42135, 435275, 50697, 189465}; !slices.Equal(power.Layers[0].Weight, want) {
		t.Errorf("weights: have %#v, want %v", power.Layers[0].Weight, want)
	}
}

// TestSlotsAreDifferent holds for statistics of every kind, also where fewer
// experts than slots were ever chosen.
func TestSlotsAreDifferent(t *testing.T) {
	lone := Uniform(shapes(2, 5, 3))
	lone.Layers[0].Weight = []int64{0, 9, 0, 0, 0}
	lone.Layers[1].Weight = []int64{0, 0, 0, 0, 0}
	lone.Layers[1].Pairs = square(5, 5)
	lone.Layers[0].Next = square(5, 5)
	lone.Layers[0].Next[1][4] = 3
	for _, s := range []*Stats{Uniform(shapes(1, 4, 4)), PowerLaw(shapes(1, 256, 8), 3, 1), load(t), lone} {
		for l := range s.Layers {
			k := s.Layers[l].Slots
			for _, list := range [][]uint16{s.Draw(3, l, 500, 0).Chosen, s.Walk(3, 500)[l]} {
				for i := range list {
					if slices.Contains(list[i/k*k:i], list[i]) || int(list[i]) >= s.Layers[l].Experts {
						t.Fatalf("%s layer %d: token chose %v", s.Name, l, list[i/k*k:(i/k+1)*k])
					}
				}
			}
		}
	}
	if b := lone.Draw(1, 0, 9, 0); b.Count(1, 0, 1, 0, 9) != 9 {
		t.Errorf("the only expert ever chosen is missing from %v", b.Chosen)
	}
}

// TestDrawsFollowTheStatistics compares shares of many tokens with the counts.
func TestDrawsFollowTheStatistics(t *testing.T) {
	const tokens = 60000
	near := func(what string, n int, want float64) {
		t.Helper()
		tolerance := 0.006
		if what == "walk" { // a slot whose expert is taken takes another
			tolerance = 0.02
		}
		if have := float64(n) / tokens; math.Abs(have-want) > tolerance {
			t.Errorf("%s: have %.4f of the tokens, want %.4f", what, have, want)
		}
	}
	s := load(t)
	total := float64(99040) / 2 // slots of the trace, for each of two
	walk := s.Walk(11, tokens)
	for l := range s.Layers {
		b := s.Draw(9, l, tokens, 0)
		pairs, next := square(8, 8), square(8, 8)
		for i := range tokens {
			e, f := b.Chosen[2*i], b.Chosen[2*i+1]
			pairs[min(e, f)][max(e, f)]++
			if l > 0 {
				for j := range 2 {
					next[walk[l-1][2*i+j]][walk[l][2*i+j]]++
				}
			}
		}
		for e, w := range s.Layers[l].Weight {
			near("expert", b.Count(e, 0, 1, 0, tokens), float64(w)/total)
			for f := range e {
				near("pair", int(pairs[f][e]), float64(s.Layers[l].Pairs[e][f])/total)
			}
			if l > 0 {
				near("walk", int(sum(next[e])), float64(s.Layers[l-1].Weight[e])/total)
			}
		}
	}
	p := PowerLaw(shapes(1, 8, 1), 1, 3)
	b := p.Draw(1, 0, tokens, 0)
	for e, w := range p.Layers[0].Weight {
		near("power law", b.Count(e, 0, 1, 0, tokens), float64(w)/float64(sum(p.Layers[0].Weight)))
	}
}

// TestWalksFollowTransitions looks at the strongest transition of the trace.
func TestWalksFollowTransitions(t *testing.T) {
	s := load(t)
	walk := s.Walk(2, 40000)
	for l, next := range [][][]int64{s.Layers[0].Next, s.Layers[1].Next, s.Layers[2].Next} {
		for e := range next {
			all, hit := 0, make([]int, 8)
			for i := 0; i < len(walk[l]); i += 2 { // first slots: nothing is excluded
				if int(walk[l][i]) == e {
					all++
					hit[walk[l+1][i]]++
				}
			}
			for f := range hit {
				have, want := float64(hit[f])/float64(all), float64(next[e][f])/float64(sum(next[e]))
				if math.Abs(have-want) > 0.03 {
					t.Errorf("layer %d, expert %d to %d: have %.3f, want %.3f", l, e, f, have, want)
				}
			}
		}
	}
}

func sum(list []int64) (n int64) {
	for _, v := range list {
		n += v
	}
	return n
}

// TestStreams: a shorter batch begins a longer one; layers of one class share
// batches; samples and seeds differ.
func TestStreams(t *testing.T) {
	s := load(t)
	a, b := s.Draw(1, 2, 100, 0), s.Draw(1, 2, 300, 0)
	if !slices.Equal(a.Chosen, b.Chosen[:200]) {
		t.Error("a shorter batch is not the beginning of a longer one")
	}
	for name, o := range map[string]*Batch{"seed": s.Draw(2, 2, 100, 0), "sample": s.Draw(1, 2, 100, 1), "layer": s.Draw(1, 1, 100, 0)} {
		if slices.Equal(a.Chosen, o.Chosen) {
			t.Errorf("another %s gives the same tokens", name)
		}
	}
	mixed := Uniform([]Shape{{8, 2}, {0, 0}, {8, 2}, {8, 1}, {8, 2}})
	mixed.Layers[4].Weight[3]++
	for l, want := range []int{0, 1, 0, 3, 4} {
		if have := mixed.Class(l); have != want {
			t.Errorf("layer %d: class %d, want %d", l, have, want)
		}
	}
	if !slices.Equal(mixed.Draw(1, 0, 50, 0).Chosen, mixed.Draw(1, 2, 50, 0).Chosen) {
		t.Error("layers of one class get different batches")
	}
	if n := len(mixed.Draw(1, 1, 50, 0).Chosen) + len(mixed.Walk(1, 50)[1]); n != 0 {
		t.Errorf("a layer without experts has %d choices", n)
	}
	if PowerLaw(shapes(3, 8, 2), 0, 1).Class(2) != 0 || PowerLaw(shapes(3, 8, 2), 1, 1).Class(2) != 2 {
		t.Error("a power law's layers: want one class without skew, different ones with")
	}
}

// TestCount compares with the definition.
func TestCount(t *testing.T) {
	b := PowerLaw(shapes(1, 6, 2), 1, 1).Draw(1, 0, 40, 0)
	for _, c := range [][4]int{{0, 1, 0, 40}, {0, 3, 0, 40}, {2, 3, 5, 40}, {1, 2, 7, 8}, {0, 1, 9, 9}, {1, 2, 3, 38}} {
		for e := range 6 {
			want := 0
			for i, chosen := range b.Chosen {
				if tok := i / 2; int(chosen) == e && tok >= c[2] && tok < c[3] && (tok-c[2])%c[1] == c[0] {
					want++
				}
			}
			if have := b.Count(e, c[0], c[1], c[2], c[3]); have != want {
				t.Errorf("expert %d, %v: have %d, want %d", e, c, have, want)
			}
		}
	}
}

// TestParse reads specs, and says what is wrong with others.
func TestParse(t *testing.T) {
	sh := shapes(2, 8, 2)
	for _, c := range []struct{ spec, name, wrong string }{
		{"uniform", "uniform", ""}, {"power:1.2", "power:1.2:1", ""}, {"power:0:7", "power:0:7", ""}, {"power:1.50:18446744073709551615", "power:1.5:18446744073709551615", ""},
		{"", "", "names no statistics"}, {"power", "", `the skew is ""`}, {"power:x", "", `the skew is "x"`}, {"power:NaN", "", "want a number from 0"},
		{"power:-1", "", "want a number from 0"}, {"power:9", "", "to 8"}, {"power:1:x", "", `the seed is "x"`}, {"power:1:", "", `the seed is ""`}, {"power:1:2:3", "", `the seed is "2:3"`},
		{"nothing.json", "", "nothing.json: no such file or directory; a routing is uniform"}, {"uniform:", "", "uniform:: no such file"},
		{example, "", "the model has 2 layers with experts, the trace has 4"},
	} {
		s, err := Parse(c.spec, sh)
		switch {
		case c.wrong == "" && (err != nil || s.Name != c.name || len(s.Layers) != 2):
			t.Errorf("%q: %v, want %s", c.spec, err, c.name)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)):
			t.Errorf("%q: %v, want %q", c.spec, err, c.wrong)
		}
	}
	for _, bad := range []Shape{{-1, 0}, {4, 5}, {4, 0}, {0, 1}, {1<<16 + 1, 1}} {
		if _, err := Parse("uniform", []Shape{bad}); err == nil {
			t.Errorf("%v is taken for a shape", bad)
		}
	}
	if s := load(t); s.Name != "routing.json" || len(s.Sample()[3]) != 512 {
		t.Errorf("the example's trace is called %q", s.Name)
	}
}

// TestHops counts by hand, and compares the two ways of counting.
func TestHops(t *testing.T) {
	s := Uniform([]Shape{{4, 2}, {0, 0}, {4, 2}, {4, 1}})
	homes := [][]int{{0, 0, 1, 1}, nil, {0, 1, 0, 1}, {1, 1, 0, 0}}
	paths := [][]uint16{{0, 2, 3, 1}, nil, {0, 1, 1, 3}, {2, 0}}
	// Token 0: devices 0, 0, 0 in its first slots, 1 and 1 in the second.
	// Token 1: devices 1, 1, 1 in its first slots, 0 and 1 in the second.
	for slots, want := range map[int]float64{1: 0, 2: 0.25} {
		if have := s.Hops(paths, homes, slots); have != want {
			t.Errorf("%d slots: %v hops, want %v", slots, have, want)
		}
	}
	homes[3] = []int{0, 1, 1, 0}
	if have := s.Hops(paths, homes, 1); have != 1 {
		t.Errorf("%v hops, want 1 from each token's last layer", have)
	}
	one := PowerLaw(shapes(3, 8, 1), 1, 1)
	walk := one.Walk(1, 300)
	for l := range 2 {
		one.Layers[l].Next = square(8, 8)
		for i := range walk[l] {
			one.Layers[l].Next[walk[l][i]][walk[l+1][i]]++
		}
	}
	homes = [][]int{{0, 1, 2, 3, 0, 1, 2, 3}, {0, 0, 1, 1, 2, 2, 3, 3}, {3, 2, 1, 0, 3, 2, 1, 0}}
	if a, b := one.Hops(walk, homes, 1), one.PairHops(homes); math.Abs(a-b) > 1e-12 || a == 0 {
		t.Errorf("token by token %v hops, by counts %v", a, b)
	}
}

func BenchmarkDraw(b *testing.B) {
	for _, c := range []struct {
		name   string
		s      *Stats
		tokens int
	}{
		{"uniform_8x2_2048", Uniform(shapes(1, 8, 2)), 2048},
		{"trace_8x2_2048", load(b), 2048},
		{"power_256x8_4096", PowerLaw(shapes(1, 256, 8), 1.2, 1), 4096},
	} {
		b.Run(c.name, func(b *testing.B) {
			for i := range b.N {
				c.s.Draw(1, 0, c.tokens, i)
			}
		})
	}
}
