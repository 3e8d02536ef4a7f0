package balance

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// fullest returns the load of the fullest device, exactly.
func fullest(layout []int, loads []int64, devices int) *big.Rat {
	count := Counts(layout, len(loads))
	most := new(big.Rat)
	size := len(layout) / devices
	for d := range devices {
		sum := new(big.Rat)
		for _, e := range layout[d*size : (d+1)*size] {
			if e != None {
				sum.Add(sum, big.NewRat(loads[e], int64(count[e])))
			}
		}
		if sum.Cmp(most) > 0 {
			most = sum
		}
	}
	return most
}

func value(r *big.Rat) float64 { f, _ := r.Float64(); return f }

// optimum searches all layouts of two slots a device: for given numbers of
// copies, the largest share belongs with the smallest.
func optimum(s Shape, loads []int64) *big.Rat {
	s = s.flat()
	var best *big.Rat
	size := s.Experts / s.Groups
	eachPartition(s.Groups, s.Nodes, func(node []int) {
		most := new(big.Rat)
		for n := range s.Nodes {
			var mine []int64
			for e, w := range loads {
				if node[e/size] == n {
					mine = append(mine, w)
				}
			}
			if m := nodeOptimum(mine, s.Slots/s.Nodes); m.Cmp(most) > 0 {
				most = m
			}
		}
		if best == nil || most.Cmp(best) < 0 {
			best = most
		}
	})
	return best
}

// eachPartition puts groups on nodes in all ways, the same number on each.
func eachPartition(groups, nodes int, f func([]int)) {
	node, room := make([]int, groups), slices.Repeat([]int{groups / nodes}, nodes)
	var put func(int)
	put = func(g int) {
		if g == groups {
			f(node)
			return
		}
		for n := range nodes {
			if room[n] > 0 {
				room[n]--
				node[g] = n
				put(g + 1)
				room[n]++
			}
		}
	}
	put(0)
}

func nodeOptimum(loads []int64, slots int) *big.Rat {
	best := math.Inf(1)
	shares := make([]float64, 0, slots)
	var choose func(e, left int)
	choose = func(e, left int) {
		if e == len(loads) {
			if left > 0 {
				return
			}
			sorted := slices.Sorted(slices.Values(shares))
			most := 0.0
			for i := range slots / 2 {
				most = max(most, sorted[i]+sorted[slots-1-i])
			}
			best = min(best, most)
			return
		}
		for n := 1; n <= left-(len(loads)-e-1); n++ {
			for range n {
				shares = append(shares, float64(loads[e])/float64(n))
			}
			choose(e+1, left-n)
			shares = shares[:len(shares)-n]
		}
	}
	choose(0, slots)
	return new(big.Rat).SetFloat64(best)
}

// check balances and compares with EPLB.
func check(t *testing.T, b *Balancer, loads []int64) (ours, eplbs *big.Rat, layout []int) {
	t.Helper()
	s := b.shape
	layout, err := b.Balance(loads)
	if err != nil {
		t.Fatal(err)
	}
	for e, n := range Counts(layout, s.Experts) {
		if n < 1 {
			t.Fatalf("expert %d has no slot in %v", e, layout)
		}
	}
	onNodes(t, s, layout)
	base := layoutOf(t, s, loads)
	ours, eplbs = fullest(layout, loads, s.Devices), fullest(base, loads, s.Devices)
	if !s.Distinct && ours.Cmp(eplbs) > 0 {
		t.Errorf("%+v %v: have %s, EPLB %s", s, loads, ours.FloatString(4), eplbs.FloatString(4))
	}
	return ours, eplbs, layout
}

// onNodes checks that every group keeps to one node.
func onNodes(t *testing.T, s Shape, layout []int) {
	t.Helper()
	node := make(map[int]int)
	for i, e := range layout {
		if e == None {
			continue
		}
		g, n := e/(s.Experts/s.Groups), i/(s.Slots/s.Nodes)
		if at, ok := node[g]; ok && at != n {
			t.Fatalf("%+v: group %d is on nodes %d and %d", s, g, at, n)
		}
		node[g] = n
	}
}

func balancer(t testing.TB, s Shape) *Balancer {
	t.Helper()
	b, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReadmeOptimum compares EPLB, ours and all layouts on EPLB's example.
func TestReadmeOptimum(t *testing.T) {
	for _, c := range []struct {
		name   string
		groups int
		nodes  int
	}{{"hierarchical", 4, 2}, {"global", 1, 1}} {
		s := shape(12, 16, c.groups, c.nodes, 8)
		for l, loads := range readme {
			ours, eplbs, _ := check(t, balancer(t, s), loads)
			best := optimum(s, loads)
			t.Logf("layer %d, %-12s fullest device: EPLB %s, ours %s, optimum %s (mean %.3f)", l, c.name, eplbs.FloatString(2), ours.FloatString(2), best.FloatString(2), mean(loads, 8))
			if math.Abs(value(ours)-value(best)) > 1e-9 {
				t.Errorf("layer %d, %s: %s, the optimum is %s", l, c.name, ours.FloatString(3), best.FloatString(3))
			}
		}
	}
}

func mean(loads []int64, devices int) float64 {
	var n int64
	for _, w := range loads {
		n += w
	}
	return float64(n) / float64(devices)
}

// powerLaw draws loads of a power law with noise.
func powerLaw(rng *rand.Rand, experts int, skew float64) []int64 {
	loads := make([]int64, experts)
	for i, r := range rng.Perm(experts) {
		loads[i] = int64(1e6 * math.Pow(float64(r+1), -skew) * (0.5 + rng.Float64()))
	}
	return loads
}

// TestNeverWorseThanEPLB draws loads for many shapes.
func TestNeverWorseThanEPLB(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		s     Shape
		draws int
	}{
		{shape(12, 16, 4, 2, 8), 100}, {shape(12, 16, 1, 1, 8), 100}, {shape(8, 8, 1, 1, 4), 100}, {shape(8, 12, 1, 1, 4), 100}, {shape(8, 16, 1, 1, 4), 100},
		{shape(64, 72, 8, 2, 8), 40}, {shape(160, 192, 8, 4, 32), 20}, {shape(256, 288, 1, 1, 32), 100}, {shape(256, 288, 8, 4, 32), 100}, {shape(256, 320, 8, 8, 64), 20},
		{shape(4, 64, 1, 1, 8), 20}, {shape(6, 6, 1, 1, 6), 10}, {shape(6, 12, 1, 1, 1), 10},
	} {
		b := balancer(t, c.s)
		var eplbSum, oursSum, bestSum float64
		exact := c.s.Slots/c.s.Devices == 2 && c.s.Experts <= 12
		draws, better := c.draws, 0
		if testing.Short() {
			draws = min(draws, 5)
		}
		for range draws {
			loads := powerLaw(rng, c.s.Experts, 1.5*rng.Float64())
			ours, eplbs, _ := check(t, b, loads)
			m := mean(loads, c.s.Devices)
			eplbSum += value(eplbs) / m
			oursSum += value(ours) / m
			if ours.Cmp(eplbs) < 0 {
				better++
			}
			if exact {
				bestSum += value(optimum(c.s, loads)) / m
			}
		}
		n := float64(draws)
		line := fmt.Sprintf("%d slots of %d experts on %d devices, %d nodes: max/mean EPLB %.4f, ours %.4f", c.s.Slots, c.s.Experts, c.s.Devices, c.s.flat().Nodes, eplbSum/n, oursSum/n)
		if exact {
			line += fmt.Sprintf(", optimum %.4f", bestSum/n)
		}
		t.Logf("%s; better in %d of %d", line, better, draws)
	}
}

// TestDistinct: no device has an expert twice, whatever the loads.
func TestDistinct(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, s := range []Shape{shape(12, 16, 4, 2, 8), shape(8, 12, 1, 1, 4), shape(4, 64, 1, 1, 8), shape(256, 288, 1, 1, 32), shape(16, 32, 2, 2, 4)} {
		s.Distinct = true
		b := balancer(t, s)
		for range 20 {
			loads := powerLaw(rng, s.Experts, 3*rng.Float64())
			_, _, layout := check(t, b, loads)
			size := s.Slots / s.Devices
			for i, e := range layout {
				if e != None && slices.Contains(layout[i/size*size:i], e) {
					t.Fatalf("%+v: device %d has expert %d twice in %v", s, i/size, e, layout)
				}
			}
		}
	}
}

// TestSameLoadsSameLayout: a used balancer gives what a new one gives.
func TestSameLoadsSameLayout(t *testing.T) {
	s := shape(64, 80, 8, 2, 16)
	used := balancer(t, s)
	rng := rand.New(rand.NewPCG(5, 6))
	for range 5 {
		loads := powerLaw(rng, 64, 1)
		a, _ := used.Balance(loads)
		b, _ := balancer(t, s).Balance(loads)
		if !slices.Equal(a, b) {
			t.Fatalf("%v and %v", a, b)
		}
	}
	zero, err := used.Balance(make([]int64, 64))
	if err != nil || len(zero) != 80 {
		t.Errorf("without loads: %v, %v", zero, err)
	}
	if _, err := used.Balance([]int64{1}); err == nil {
		t.Error("took too few loads")
	}
	huge := make([]int64, 64)
	for e := range huge {
		huge[e] = maxLoad / 64
	}
	check(t, used, huge)
}

// TestHomes lists devices, each once.
func TestHomes(t *testing.T) {
	homes := Homes([]int{0, 0, 1, None, 2, 0}, 3, 3)
	if want := [][]int{{0, 2}, {1}, {2}}; !slices.EqualFunc(homes, want, slices.Equal[[]int]) {
		t.Errorf("have %v, want %v", homes, want)
	}
	if l := Loads([]int{0, 0, 1, None, 2, 0}, []int64{9, 4, 5}, 3); !slices.Equal(l, []float64{6, 4, 8}) {
		t.Errorf("loads %v", l)
	}
	if runs := Map([]int{3}, [][][]int{homes}); len(runs) != 1 || runs[0].First != 3 || runs[0].Last != 3 || len(runs[0].Homes) != 3 {
		t.Errorf("have %v", runs)
	}
}

// large is the instance of the ADRS benchmark: DeepSeek-V3's experts and
// layers with 32 redundant copies on 32 devices of 4 nodes.
var large = shape(256, 288, 8, 4, 32)

// TestLargeTime prints how long a model takes.
func TestLargeTime(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, s := range []Shape{large, shape(256, 288, 1, 1, 32)} {
		b := balancer(t, s)
		var spent, eplb time.Duration
		for range 58 {
			loads := powerLaw(rng, 256, 0.8)
			begin := time.Now()
			if _, err := b.Balance(loads); err != nil {
				t.Fatal(err)
			}
			spent += time.Since(begin)
			begin = time.Now()
			layoutOf(t, s, loads)
			eplb += time.Since(begin)
		}
		t.Logf("58 layers of 288 slots, 256 experts, 32 devices, %d nodes: %.3f ms a layer, EPLB's layout alone %.3f ms", s.Nodes, spent.Seconds()*1000/58, eplb.Seconds()*1000/58)
	}
}

func BenchmarkBalance(b *testing.B) {
	for _, s := range []Shape{large, shape(256, 288, 1, 1, 32)} {
		b.Run(fmt.Sprintf("256_on_32_nodes_%d", s.Nodes), func(b *testing.B) {
			bal := balancer(b, s)
			loads := powerLaw(rand.New(rand.NewPCG(7, 8)), 256, 0.8)
			for b.Loop() {
				if _, err := bal.Balance(loads); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
