package balance

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"moec/ir/routing"
)

// example returns the recorded routing of the example model.
func example(t *testing.T) (*routing.Stats, [][][]int64) {
	t.Helper()
	s, err := routing.Parse("../../examples/tiny-mixtral/routing.json", slices.Repeat([]routing.Shape{{Experts: 8, Slots: 2}}, 4))
	if err != nil {
		t.Fatal(err)
	}
	var next [][][]int64
	for _, l := range s.Layers[:3] {
		next = append(next, l.Next)
	}
	return s, next
}

// equalRooms checks that devices have as many experts as they should.
func equalRooms(t *testing.T, homes [][]int, devices int) {
	t.Helper()
	for l, home := range homes {
		count := make([]int, devices)
		for _, d := range home {
			count[d]++
		}
		for d, n := range count {
			if n != room(len(home), d, devices) {
				t.Fatalf("layer %d: devices have %v experts", l, count)
			}
		}
	}
}

// TestAffinityOfTheExample prints hops per token for several placements of
// the recorded trace, and checks that ours has the fewest.
func TestAffinityOfTheExample(t *testing.T) {
	s, next := example(t)
	for _, devices := range []int{2, 4} {
		ours, err := Affinity(next, devices)
		if err != nil {
			t.Fatal(err)
		}
		equalRooms(t, ours, devices)
		flat := slices.Repeat([][]int{contiguous(8, devices)}, 4)
		var pairs, first, both float64
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 1))
			var homes [][]int
			for range 4 {
				h := contiguous(8, devices)
				rng.Shuffle(8, func(i, j int) { h[i], h[j] = h[j], h[i] })
				homes = append(homes, h)
			}
			if Crossing(next, homes) < Crossing(next, ours) {
				t.Errorf("%d devices: a random placement has fewer crossings", devices)
			}
			pairs += s.PairHops(homes) / 20
			first += s.Hops(s.Sample(), homes, 1) / 20
			both += s.Hops(s.Sample(), homes, 2) / 20
		}
		show := func(name string, pairs, first, both float64) {
			t.Logf("%d devices, %-22s hops per token: %.3f over all pairs of slots, %.3f of best choices in the sample (as ExFlow counts), %.3f of both slots there", devices, name, pairs, first, both)
		}
		show("contiguous", s.PairHops(flat), s.Hops(s.Sample(), flat, 1), s.Hops(s.Sample(), flat, 2))
		show("random, mean of 20", pairs, first, both)
		show("ours (the fewest pairs)", s.PairHops(ours), s.Hops(s.Sample(), ours, 1), s.Hops(s.Sample(), ours, 2))
		if s.PairHops(ours) > 0.9*pairs || s.PairHops(ours) >= s.PairHops(flat) {
			t.Errorf("%d devices: %.3f hops, random placements have %.3f", devices, s.PairHops(ours), pairs)
		}
		turns := descendLayers(next, []int{8, 8, 8, 8}, devices)
		equalRooms(t, turns, devices)
		best, have := Crossing(next, ours), Crossing(next, turns)
		t.Logf("%d devices: layer by layer %d crossings, the fewest are %d", devices, have, best)
		if have < best || float64(have) > 1.02*float64(best) {
			t.Errorf("%d devices: layer by layer %d crossings, the fewest %d", devices, have, best)
		}
	}
}

// TestAffinityOfFirstChoices minimises what ExFlow minimises, on the sample.
func TestAffinityOfFirstChoices(t *testing.T) {
	s, _ := example(t)
	next := make([][][]int64, 3)
	sample := s.Sample()
	for l := range next {
		next[l] = make([][]int64, 8)
		for e := range next[l] {
			next[l][e] = make([]int64, 8)
		}
		for i := 0; i < len(sample[l]); i += 2 {
			next[l][sample[l][i]][sample[l+1][i]]++
		}
	}
	homes, err := Affinity(next, 4)
	if err != nil {
		t.Fatal(err)
	}
	have := s.Hops(sample, homes, 1)
	t.Logf("4 devices, fewest hops of best choices in the sample: %.3f of 3, a random placement has 2.25", have)
	if want := float64(Crossing(next, homes)) / 256; have != want {
		t.Errorf("%v hops, %v crossings for each token", have, want)
	}
}

// TestAffinityIsBest compares with all placements of three layers.
func TestAffinityIsBest(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	for _, sizes := range [][]int{{4, 4, 4}, {5, 3, 5}, {5, 3, 4}} {
		for range 10 {
			next := randomNext(rng, sizes)
			devices := 2 + rng.IntN(2)
			homes, err := Affinity(next, devices)
			if err != nil {
				t.Fatal(err)
			}
			equalRooms(t, homes, devices)
			least := Crossing(next, homes)
			for _, a := range allPlacements(sizes[0], devices) {
				for _, b := range allPlacements(sizes[1], devices) {
					for _, c := range allPlacements(sizes[2], devices) {
						if n := Crossing(next, [][]int{ints(a), ints(b), ints(c)}); n < least {
							t.Fatalf("%v: %d crossings, %v %v %v has %d", homes, least, a, b, c, n)
						}
					}
				}
			}
		}
	}
}

func ints(list []uint8) (out []int) {
	for _, v := range list {
		out = append(out, int(v))
	}
	return out
}

func randomNext(rng *rand.Rand, sizes []int) [][][]int64 {
	next := make([][][]int64, len(sizes)-1)
	for l := range next {
		for range sizes[l] {
			row := make([]int64, sizes[l+1])
			for f := range row {
				row[f] = rng.Int64N(100)
			}
			next[l] = append(next[l], row)
		}
	}
	return next
}

// TestAffinityFindsGroups hides groups of experts that follow each other.
func TestAffinityFindsGroups(t *testing.T) {
	const experts, devices, layers = 64, 8, 6
	rng := rand.New(rand.NewPCG(2, 3))
	var group [][]int
	for range layers {
		h := contiguous(experts, devices)
		rng.Shuffle(experts, func(i, j int) { h[i], h[j] = h[j], h[i] })
		group = append(group, h)
	}
	next := randomNext(rng, slices.Repeat([]int{experts}, layers))
	for l := range next {
		for e, row := range next[l] {
			for f := range row {
				if group[l][e] == group[l+1][f] {
					row[f] += 300
				}
			}
		}
	}
	homes, err := Affinity(next, devices)
	if err != nil {
		t.Fatal(err)
	}
	equalRooms(t, homes, devices)
	if have, want := Crossing(next, homes), Crossing(next, group); have > want {
		t.Errorf("%d crossings, the hidden groups have %d", have, want)
	}
}

// TestAssign compares with all assignments.
func TestAssign(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 5))
	for _, c := range []struct{ n, devices int }{{6, 3}, {7, 3}, {8, 4}, {3, 3}, {2, 4}, {5, 1}} {
		for range 20 {
			gain := make([]int64, c.n*c.devices)
			for i := range gain {
				gain[i] = rng.Int64N(50)
			}
			value := func(home []int) (sum int64) {
				for e, d := range home {
					sum += gain[e*c.devices+d]
				}
				return sum
			}
			home := assign(gain, c.devices)
			equalRooms(t, [][]int{home}, c.devices)
			for _, h := range allPlacements(c.n, c.devices) {
				if value(ints(h)) > value(home) {
					t.Fatalf("%v has %d, %v %d", home, value(home), h, value(ints(h)))
				}
			}
		}
	}
}

// TestMixtralAffinity has the size of Mixtral-8x7B.
func TestMixtralAffinity(t *testing.T) {
	next := randomNext(rand.New(rand.NewPCG(8, 8)), slices.Repeat([]int{8}, 32))
	begin := time.Now()
	homes, err := Affinity(next, 4)
	if err != nil {
		t.Fatal(err)
	}
	equalRooms(t, homes, 4)
	spent := time.Since(begin)
	turns := Crossing(next, descendLayers(next, slices.Repeat([]int{8}, 32), 4))
	t.Logf("32 layers of 8 experts on 4 devices: fewest crossings %d in %v; layer by layer %d", Crossing(next, homes), spent.Round(time.Millisecond), turns)
	if turns < Crossing(next, homes) {
		t.Errorf("layer by layer there are fewer crossings")
	}
}

// TestAffinityErrors names what does not fit.
func TestAffinityErrors(t *testing.T) {
	ok := [][]int64{{1, 2}, {3, 4}}
	for _, c := range []struct {
		next    [][][]int64
		devices int
		want    string
	}{
		{nil, 2, "between at least two layers"}, {[][][]int64{ok}, 0, "one device, have 1 and 0"}, {[][][]int64{{}}, 1, "need 1 to 65536 experts, have 0"},
		{[][][]int64{ok, {{1, 2}}}, 2, "layer 1: need a row for each of 2 experts, have 1"}, {[][][]int64{{{1, 2}, {1}}}, 2, "need 2 numbers for expert 1, have 1"},
		{[][][]int64{{{1, -2}}}, 2, "experts 0 to 1 count -2"}, {[][][]int64{{{1 << 60, 1}}}, 2, "a smaller sum"},
	} {
		if _, err := Affinity(c.next, c.devices); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v on %d: %v, want %q", c.next, c.devices, err, c.want)
		}
	}
}
