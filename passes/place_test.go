package passes

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"moec/ir"
	"moec/ir/eval"
	"moec/ir/placement"
	"moec/ir/tensor"
	"moec/ir/textdiff"
)

// batches are the steps of placement tests: prompts of three sequences, one
// of them in two chunks, then tokens of all. Tokens stay below 5.
var batches = [][]eval.Span{
	{{Sequence: 4, Tokens: []int32{1, 3, 0, 4, 2, 2, 1}}, {Sequence: 9, Tokens: []int32{2, 0, 3}, Skip: 1}},
	{{Sequence: 9, First: 3, Tokens: []int32{4, 1}, Skip: 1}, {Sequence: 6, Tokens: []int32{3}}, {Sequence: 4, First: 7, Tokens: []int32{1}}},
	{{Sequence: 6, First: 1, Tokens: []int32{0}}},
}

// logits runs the steps and returns the logits of every wanted token, by
// sequence and position, whichever token group computed them.
func logits(t *testing.T, name string, g *ir.Graph) map[[2]int][]float32 {
	t.Helper()
	p, err := eval.Load(g, eval.RandomWeights(g, 7))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	state, all := eval.NewState(), map[[2]int][]float32{}
	for _, batch := range batches {
		spans := slices.Clone(batch)
		for i := range spans {
			spans[i].Group = int(spans[i].Sequence) % g.Groups
		}
		out, err := p.Run(&eval.Step{Groups: g.Groups, Spans: spans}, state)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for group := range g.Groups {
			rows := out[eval.Output{Name: "logits", Group: group}]
			width, at := rows.Type.Shape.Last().N, 0
			for _, s := range spans {
				for i := s.Skip; s.Group == group && i < len(s.Tokens); i++ {
					all[[2]int{int(s.Sequence), s.First + i}] = rows.F[at*width:][:width]
					at++
				}
			}
		}
	}
	return all
}

// sameLogits reports whether all logits agree, bit for bit.
func sameLogits(a, b map[[2]int][]float32) bool {
	if len(a) != len(b) || len(a) == 0 {
		return false
	}
	for at, x := range a {
		y := b[at]
		if !slices.EqualFunc(x, y, func(u, v float32) bool { return math.Float32bits(u) == math.Float32bits(v) }) {
			return false
		}
	}
	return true
}

// segmented runs the passes before place.
func segmented(t *testing.T, g *ir.Graph) *ir.Graph {
	t.Helper()
	if err := runList(logical(), &Context{To: "segment"}, g); err != nil {
		t.Fatal(err)
	}
	return g
}

// put places a copy of g, which must then obey all rules.
func put(t *testing.T, name string, g *ir.Graph, p *placement.Placement) *ir.Graph {
	t.Helper()
	c := g.Clone()
	if err := place(&Context{Placement: p}, c); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, p.Format())
	}
	if err := ir.Verify(c); err != nil {
		t.Fatalf("%s: %v\n%s\n%s", name, err, p.Format(), ir.Print(c))
	}
	inOrder(t, name, c)
	return c
}

// inOrder checks that every device meets collectives in the order of their
// channels, and that nothing is left that nobody reads.
func inOrder(t *testing.T, name string, g *ir.Graph) {
	t.Helper()
	met, uses, out := map[int]int{}, g.Uses(), outputs(g)
	for _, n := range g.Nodes {
		if len(uses[n]) == 0 && !out[n] && !n.Op.Has(ir.Effect) {
			t.Errorf("%s: nobody reads %%%d %s on device %d", name, n.ID(), n.Op.Name, n.Device)
		}
		if !n.Op.Has(ir.Collective) {
			continue
		}
		channel, devices := n.Attrs.Int("channel", -1), []int{n.Device}
		for _, a := range n.Args {
			devices = append(devices, a.Device)
		}
		for _, d := range devices {
			if met[d] > channel {
				t.Errorf("%s: device %d meets channel %d after %d", name, d, channel, met[d])
			}
			met[d] = channel
		}
	}
}

// strategiesOn are the strategies that tests run on each number of devices.
var strategiesOn = map[int][]string{
	1: {"tp", "ep", "pp", "dp", "adp"},
	2: {"tp", "ep", "pp", "dp", "adp"},
	3: {"tp", "ep", "pp", "dp", "adp"},
	4: {"tp", "ep", "tp2ep2", "pp", "pp2tp2", "pp2ep2", "dp", "dp2tp2", "dp2ep2", "adp", "adp2tp2", "adp2ep2", "pp2dp2", "pp2adp2"},
}

// TestPlaceKeepsBits places every kind of layer with every strategy that it
// allows.
func TestPlaceKeepsBits(t *testing.T) {
	works := map[string]bool{}
	for _, c := range regionCases {
		g := segmented(t, oneLayer(t, c.act, c.build))
		want := logits(t, c.name, g)
		for devices := 1; devices <= 4; devices++ {
			for _, strategy := range strategiesOn[devices] {
				name := fmt.Sprintf("%s, %s on %d", c.name, strategy, devices)
				p, err := Named(g, strategy, devices)
				if err != nil {
					continue // what is refused, and how: TestStrategyRefuses
				}
				works[fmt.Sprint(strategy, " on ", devices)] = true
				if !sameLogits(want, logits(t, name, put(t, name, g, p))) {
					t.Errorf("%s: logits differ", name)
				}
			}
		}
	}
	for devices, list := range strategiesOn {
		for _, strategy := range list {
			if name := fmt.Sprint(strategy, " on ", devices); !works[name] && !strings.HasPrefix(strategy, "pp") {
				t.Errorf("%s works for no layer", name)
			}
		}
	}
}

// TestPlaceSeveralLayers does the same for whole small models, with sizes that
// do not divide evenly.
func TestPlaceSeveralLayers(t *testing.T) {
	odd := sizes{hidden: 30, heads: 9, kvHeads: 3, dim: 4, ffn: 21, experts: 5, topk: 3, layers: 4, vocab: 23}
	for _, act := range []tensor.DType{tensor.F32, tensor.BF16} {
		for i, s := range []sizes{small, odd} {
			s.layers = 4
			g := segmented(t, mixtral(t, act, s))
			want := logits(t, "logical", g)
			for devices := 1; devices <= 4; devices++ {
				for _, strategy := range strategiesOn[devices] {
					name := fmt.Sprintf("model %d %s, %s on %d", i, act, strategy, devices)
					p, err := Named(g, strategy, devices)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if !sameLogits(want, logits(t, name, put(t, name, g, p))) {
						t.Errorf("%s: logits differ", name)
					}
				}
			}
		}
	}
}

// drawer draws placements that no strategy would write.
type drawer struct {
	*rand.Rand
	segments int
}

// devices returns n to all of the devices listed, in random order.
func (r *drawer) devices(list []int, n int) []int {
	list = slices.Clone(list)
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:n+r.IntN(len(list)-n+1)]
}

// split draws shares on some of the devices, or copies on some.
func (r *drawer) split(list []int, copies bool) placement.Split {
	list = r.devices(list, 1)
	var s placement.Split
	if copies && r.IntN(3) == 0 {
		for _, d := range list {
			s = append(s, placement.Share{Device: d, Lo: 0, Hi: r.segments})
		}
		return s
	}
	cuts := []int{0, r.segments}
	for range min(len(list), r.segments) - 1 {
		cuts = append(cuts, 1+r.IntN(max(1, r.segments-1)))
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	for i := range len(cuts) - 1 {
		if cuts[i] < cuts[i+1] {
			s = append(s, placement.Share{Device: list[i], Lo: cuts[i], Hi: cuts[i+1]})
		}
	}
	return s
}

func (r *drawer) splits(groups [][]int) []placement.Split {
	var list []placement.Split
	for _, devices := range groups {
		list = append(list, r.split(devices, true))
	}
	return list
}

// groups divides the devices between n token groups; some may be left out.
func (r *drawer) groups(devices, n int) [][]int {
	all := r.devices(placementDevices(devices), n)
	groups := make([][]int, n)
	for i, d := range all {
		g := i
		if i >= n {
			g = r.IntN(n)
		}
		groups[g] = append(groups[g], d)
	}
	return groups
}

func placementDevices(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i
	}
	return list
}

// expert draws one to three copies on different devices.
func (r *drawer) expert(list []int) placement.Expert {
	list = r.devices(list, len(list))
	e := placement.Expert{}
	for copies := 1 + r.IntN(3); copies > 0 && len(list) > 0; copies-- {
		n := 1 + r.IntN(len(list))
		e = append(e, r.split(list[:n], false))
		list = list[n:]
	}
	return e
}

func (r *drawer) layer(devices, groups, experts int) placement.Layer {
	l := placement.Layer{Groups: r.groups(devices, groups)}
	l.Attention, l.Dense = r.splits(l.Groups), r.splits(l.Groups)
	local := groups > 1 && r.IntN(3) == 0
	for range experts {
		var e placement.Expert
		if local {
			for _, group := range l.Groups {
				e = append(e, r.expert(group)...)
			}
		} else {
			e = r.expert(placementDevices(devices))
		}
		l.Experts = append(l.Experts, e)
	}
	return l
}

func (r *drawer) placement(m placement.Summary) *placement.Placement {
	devices := 1 + r.IntN(5)
	groups := 1 + r.IntN(min(devices, 3))
	p := &placement.Placement{Devices: devices, Strategy: "random", Segments: m.Segments}
	for _, l := range m.Layers {
		p.Layers = append(p.Layers, r.layer(devices, groups, l.Experts))
	}
	p.Embed = r.splits(p.Layers[0].Groups)
	p.Head = r.splits(p.Layers[len(p.Layers)-1].Groups)
	return p
}

// TestRandomPlacements places models by data alone: every layer differently,
// groups on any devices, parts split at any segment, copied, or on one device,
// experts with copies anywhere. The text form of each placement is read back.
func TestRandomPlacements(t *testing.T) {
	cases := 300
	if testing.Short() {
		cases = 60
	}
	for seed := range uint64(cases) {
		r := &drawer{Rand: rand.New(rand.NewPCG(seed, 11))}
		name := fmt.Sprintf("seed %d", seed)
		var g *ir.Graph
		if act := []tensor.DType{tensor.F32, tensor.BF16}[r.IntN(2)]; r.IntN(2) == 0 {
			kv := 1 + r.IntN(3)
			g = mixtral(t, act, sizes{hidden: 4 * (2 + r.IntN(4)), heads: kv * (1 + r.IntN(3)), kvHeads: kv, dim: 2 * (1 + r.IntN(2)), ffn: 3 + r.IntN(20),
				experts: 2 + r.IntN(8), topk: 1 + r.IntN(2), layers: 1 + r.IntN(3), vocab: 5 + r.IntN(20)})
		} else {
			c := regionCases[r.IntN(len(regionCases))]
			name += ", " + c.name
			g = oneLayer(t, c.act, c.build)
		}
		g.Numerics.Segments = 1 + r.IntN(9)
		g = segmented(t, g)
		r.segments = g.Numerics.Segments
		p := r.placement(Summarise(g))
		read, err := placement.Parse("test", p.Format())
		if err != nil || !bytes.Equal(read.Format(), p.Format()) {
			t.Fatalf("%s: read back: %v\n%s", name, err, p.Format())
		}
		if want, got := logits(t, name, g), logits(t, name, put(t, name, g, read)); !sameLogits(want, got) {
			t.Fatalf("%s: logits differ\n%s", name, p.Format())
		}
	}
}

// TestFastDiffers makes sure that the comparison of bits can see a change of
// order: under fast numerics some strategy gives other bits, and only little
// else. Fast also sends less where experts are split.
func TestFastDiffers(t *testing.T) {
	for _, c := range []struct {
		strategy string
		devices  int
	}{{"tp", 3}, {"ep", 3}, {"tp2ep2", 4}, {"tp", 4}, {"adp", 3}} {
		plain := segmented(t, mixtral(t, tensor.F32, small))
		fast := mixtral(t, tensor.F32, small)
		fast.Numerics.Mode = ir.Fast
		fast = segmented(t, fast)
		p, err := Named(fast, c.strategy, c.devices)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s on %d", c.strategy, c.devices)
		invariantGraph, fastGraph := put(t, name, plain, p), put(t, name+", fast", fast, p)
		want, got := logits(t, name, invariantGraph), logits(t, name, fastGraph)
		far := 0.0
		for at, x := range want {
			for i := range x {
				far = max(far, math.Abs(float64(x[i])-float64(got[at][i])))
			}
		}
		if attention := c.strategy != "adp"; far > 1e-4 || attention && far == 0 {
			t.Errorf("%s: fast moves logits by %g", name, far)
		}
		if a, b := sentBytes(invariantGraph), sentBytes(fastGraph); b > a || c.strategy == "tp" && b == a {
			t.Errorf("%s: invariant sends %d bytes, fast %d", name, a, b)
		}
	}
}

// sentBytes counts what devices get from others in a step of eight tokens.
func sentBytes(g *ir.Graph) int64 {
	var sum int64
	for _, n := range g.Nodes {
		sum += n.Op.Work(n, func(tensor.Sym) int { return 8 }).Sent
	}
	return sum
}

// TestPlaceGolden compares with testdata/place.txt: each case has a graph, a
// placement, and the placed graph.
func TestPlaceGolden(t *testing.T) {
	const file = "testdata/place.txt"
	golden, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := &txtar.Archive{Comment: golden.Comment}
	for _, f := range golden.Files {
		parts := strings.SplitN(string(f.Data), dashes, 3)
		if len(parts) < 2 {
			t.Fatalf("%s: case %q has no placement", file, f.Name)
		}
		g := parse(t, f.Name, parts[0])
		p, err := placement.Parse(f.Name, []byte(parts[1]))
		if err != nil {
			t.Fatal(err)
		}
		text := parts[0] + dashes + parts[1] + dashes + ir.Print(put(t, f.Name, g, p))
		got.Files = append(got.Files, txtar.File{Name: f.Name, Data: []byte(text)})
	}
	text := txtar.Format(got)
	if *rewriteGolden {
		if err := os.WriteFile(file, text, 0o666); err != nil {
			t.Fatal(err)
		}
	} else if want := txtar.Format(golden); !bytes.Equal(text, want) {
		t.Errorf("placed graphs differ:\n%s", textdiff.Unified("want", "got", string(want), string(text)))
	}
}
