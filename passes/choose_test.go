package passes

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/machine"
	"moec/ir/placement"
	"moec/ir/tensor"
)

// mixtral8x7B has the sizes of the model of that name; no weights are made.
var mixtral8x7B = sizes{hidden: 4096, heads: 32, kvHeads: 8, dim: 128, ffn: 14336, experts: 8, topk: 2, layers: 32, vocab: 32000}

func machineOf(t *testing.T, name string) *machine.Machine {
	t.Helper()
	m, err := machine.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func byName(table []Candidate) map[string]Candidate {
	all := map[string]Candidate{}
	for _, c := range table {
		all[c.Strategy] = c
	}
	return all
}

const testPositions = 8 * 4096 // eight sequences of 4,096 positions

// TestChoose checks the choice for Mixtral on several machines: that it is the
// cheapest that fits, the same every time, and that every other says why not.
func TestChoose(t *testing.T) {
	g := segmented(t, mixtral(t, tensor.BF16, mixtral8x7B))
	for _, c := range []struct {
		machine string
		tooBig  []string // candidates that do not fit
	}{
		{"h200x1", nil},
		{"h200x4", nil},
		{"h100x3", []string{"dp3"}},
		{"v100x4", []string{"dp4", "dp2tp2"}},
		{"l40sx4", []string{"dp4", "dp2tp2"}},
	} {
		p, table, err := Choose(g, machineOf(t, c.machine), testPositions)
		if err != nil {
			t.Errorf("%s: %v", c.machine, err)
			continue
		}
		_, again, _ := Choose(g, machineOf(t, c.machine), testPositions)
		if !reflect.DeepEqual(table, again) {
			t.Errorf("%s: a second choice gives another table", c.machine)
		}
		all := byName(table)
		chosen := all[p.Strategy]
		if !chosen.Possible || chosen.Reason != "" {
			t.Errorf("%s: chosen is %+v", c.machine, chosen)
		}
		for _, o := range table {
			big := strings.Contains(o.Reason, "does not fit")
			if o.Strategy != p.Strategy && (o.Reason == "" || o.Possible && o.Total < chosen.Total) || big == o.Possible {
				t.Errorf("%s: %s is chosen, %s is %+v", c.machine, p.Strategy, o.Strategy, o)
			}
		}
		for _, name := range c.tooBig {
			if o := all[name]; o.Possible || !strings.Contains(o.Reason, "does not fit") {
				t.Errorf("%s: %s is %+v", c.machine, name, o)
			}
		}
	}
}

// TestPricesRankAsMeasured compares with measurements on two and four H200s:
// a decode step of one sequence is nearly twice as fast when experts are
// divided as when they are whole; from 8 sequences on both read all experts.
func TestPricesRankAsMeasured(t *testing.T) {
	g := segmented(t, mixtral(t, tensor.BF16, mixtral8x7B))
	_, table, err := Choose(g, machineOf(t, "h200x4"), testPositions)
	if err != nil {
		t.Fatal(err)
	}
	tp, ep := byName(table)["tp4"], byName(table)["ep4"]
	if a, b := tp.Steps[0].Total(), ep.Steps[0].Total(); b < a*3/2 {
		t.Errorf("batch 1: tp4 takes %d ps, ep4 %d", a, b)
	}
	if a, b := tp.Steps[1].Total(), ep.Steps[1].Total(); a > b*21/20 || b > a*21/20 {
		t.Errorf("batch 8: tp4 takes %d ps, ep4 %d", a, b)
	}
	// Half of the weights at the speed of the memory, for two devices.
	_, table, err = Choose(g, machineOf(t, "h200x2"), testPositions)
	if err != nil {
		t.Fatal(err)
	}
	const floor = 2.98e9 // ps: 12.9 GB of active weights over two devices of 4.38 TB/s
	if got := float64(byName(table)["tp2"].Steps[0].Total()); got < floor*0.98 || got > floor*1.3 {
		t.Errorf("batch 1: tp2 takes %.3g ps, the floor is %.3g", got, floor)
	}
}

// TestChooseRefuses asks for what nothing fits, and says what is missing.
func TestChooseRefuses(t *testing.T) {
	g := segmented(t, mixtral(t, tensor.BF16, mixtral8x7B))
	_, table, err := Choose(g, machineOf(t, "l4x4"), testPositions)
	var e *PlacementError
	if !errors.As(err, &e) || !strings.Contains(e.Need, "24.") || !strings.Contains(e.Have, "22.") || !strings.Contains(e.Remedy, "more devices") {
		t.Errorf("error is %v", err)
	}
	if len(table) < 5 {
		t.Errorf("the table has %d candidates", len(table))
	}
}

// TestSaving checks where fast numerics send less: experts divided along their
// features send a row for each token, not for each slot.
func TestSaving(t *testing.T) {
	g := segmented(t, mixtral(t, tensor.BF16, small))
	for strategy, saves := range map[string]bool{"tp": true, "ep": false} {
		p, err := Named(g, strategy, 4)
		if err != nil {
			t.Fatal(err)
		}
		invariant, fast, err := Saving(g, p)
		if err != nil || invariant <= 0 || (fast < invariant) != saves || fast > invariant {
			t.Errorf("%s: %d bytes a token, fast %d, %v", strategy, invariant, fast, err)
		}
	}
}

// TestFromFile reads placements as users write them.
func TestFromFile(t *testing.T) {
	g := segmented(t, mixtral(t, tensor.F32, small)) // 2 layers of 4 experts
	named, err := Named(g, "tp2ep2", 4)
	if err != nil {
		t.Fatal(err)
	}
	const homes = `{"strategy": "ep", "experts": [{"layers": "1", "homes": [[0], [0, 2], [1], [3]]}]}`
	for _, c := range []struct {
		name, text string
		devices    int
		err        string
	}{
		{"whole", string(named.Format()), 4, ""},
		{"map", homes, 4, ""},
		{"other devices", string(named.Format()), 2, "for another number of devices: need 4, have 2; use --gpus 4"},
		{"other model", strings.Replace(string(named.Format()), `"layers":"0-1"`, `"layers":"0-2"`, 1), 4, "does not suit the model: layers: need 2, have 3"},
		{"map for more devices", homes, 2, "expert 1 lives on [0 2]: need different devices from 0 to 1"},
		{"map with an unknown strategy", strings.Replace(homes, "ep", "op", 1), 4, `strategy "op" is unknown`},
		{"neither", "[1, 2]", 4, "x.json"},
	} {
		p, err := FromFile(g, "x.json", []byte(c.text), c.devices)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !sameLogits(logits(t, c.name, g), logits(t, c.name, put(t, c.name, g, p))) {
			t.Errorf("%s: logits differ", c.name)
		}
	}
}

// TestSharesAreEven checks how strategies divide parts that do not divide
// evenly, and that no device is left without work.
func TestSharesAreEven(t *testing.T) {
	for _, c := range []struct {
		devices, leaves int
		want            []int // segments of each share
	}{
		{3, 8, []int{3, 3, 2}}, {4, 8, []int{2, 2, 2, 2}}, {5, 8, []int{2, 2, 1, 2, 1}}, {2, 6, []int{4, 4}}, {6, 6, []int{2, 1, 1, 2, 1, 1}}, {8, 8, []int{1, 1, 1, 1, 1, 1, 1, 1}},
	} {
		b := &strategist{model: placement.Summary{Segments: 8}}
		r := &Region{Units: c.leaves, Bounds: segmentBounds(c.leaves, 8)}
		var sizes []int
		for _, s := range b.split(consecutive(0, c.devices), c.leaves) {
			sizes = append(sizes, s.Hi-s.Lo)
			if first, end := r.Local(s.Lo, s.Hi, 8); first >= end {
				t.Errorf("%d leaves on %d devices: device %d has none", c.leaves, c.devices, s.Device)
			}
		}
		if !reflect.DeepEqual(sizes, c.want) {
			t.Errorf("%d leaves on %d devices: %v, want %v", c.leaves, c.devices, sizes, c.want)
		}
	}
}

// TestStrategyDevices checks how factors number the devices.
func TestStrategyDevices(t *testing.T) {
	g := segmented(t, mixtral(t, tensor.F32, small))
	p, err := Named(g, "pp2adp2tp2", 8)
	if err != nil {
		t.Fatal(err)
	}
	if want := [][]int{{0, 1}, {2, 3}}; !reflect.DeepEqual(p.Layers[0].Groups, want) {
		t.Errorf("stage 0 has groups %v, want %v", p.Layers[0].Groups, want)
	}
	if want := [][]int{{4, 5}, {6, 7}}; !reflect.DeepEqual(p.Layers[1].Groups, want) {
		t.Errorf("stage 1 has groups %v, want %v", p.Layers[1].Groups, want)
	}
	if want := (placement.Expert{{{Device: 6, Lo: 0, Hi: 4}, {Device: 7, Lo: 4, Hi: 8}}}); !reflect.DeepEqual(p.Layers[1].Experts[3], want) {
		t.Errorf("expert 3 of stage 1 is on %v, want %v", p.Layers[1].Experts[3], want)
	}
	if g.Level != ir.Logical {
		t.Error("writing a placement changes the graph")
	}
}
