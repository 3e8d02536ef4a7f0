package passes

import (
	"reflect"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/placement"
	"moec/ir/tensor"
)

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
