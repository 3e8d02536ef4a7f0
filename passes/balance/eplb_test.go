package balance

import (
	"slices"
	"strings"
	"testing"
)

// readme is the example of DeepSeek's README.
var readme = [][]int64{
	{90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86},
	{20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27},
}

func shape(experts, slots, groups, nodes, devices int) Shape {
	return Shape{Experts: experts, Slots: slots, Groups: groups, Nodes: nodes, Devices: devices}
}

func layoutOf(t testing.TB, s Shape, loads []int64) []int {
	t.Helper()
	layout, err := EPLB(s, loads)
	if err != nil {
		t.Fatal(err)
	}
	if len(layout) != s.Slots {
		t.Fatalf("%d slots, want %d", len(layout), s.Slots)
	}
	for e, n := range Counts(layout, s.Experts) {
		if n < 1 {
			t.Fatalf("expert %d has no slot in %v", e, layout)
		}
	}
	return layout
}

// TestEPLBReadme compares with what the README and vLLM's
// tests/distributed/test_eplb_algo.py expect.
func TestEPLBReadme(t *testing.T) {
	layouts := [][]int{
		{5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1},
		{7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1},
	}
	counts := [][]int{{1, 2, 1, 1, 2, 2, 1, 1, 1, 1, 2, 1}, {1, 2, 1, 1, 1, 2, 2, 1, 2, 1, 1, 1}}
	for l, loads := range readme {
		have := layoutOf(t, shape(12, 16, 4, 2, 8), loads)
		if !slices.Equal(have, layouts[l]) {
			t.Errorf("layer %d: have %v, want %v", l, have, layouts[l])
		}
		if have := Counts(have, 12); !slices.Equal(have, counts[l]) {
			t.Errorf("layer %d: have %v copies, want %v", l, have, counts[l])
		}
	}
}

// TestEPLBCases are the other cases of vLLM's test_eplb_algo.py, with what it
// asserts of each.
func TestEPLBCases(t *testing.T) {
	atLeast := func(expert, n int) func([]int) bool {
		return func(c []int) bool { return c[expert] >= n }
	}
	all := func(n int) func([]int) bool {
		return func(c []int) bool { return slices.Min(c) == n && slices.Max(c) == n }
	}
	whatever := func([]int) bool { return true }
	for _, c := range []struct {
		name   string
		s      Shape
		loads  []int64
		counts func([]int) bool
	}{
		{"single gpu", shape(4, 4, 1, 1, 1), []int64{10, 20, 30, 40}, all(1)},
		{"equal weights", shape(8, 8, 2, 2, 4), []int64{50, 50, 50, 50, 50, 50, 50, 50}, all(1)},
		{"extreme imbalance", shape(8, 12, 2, 2, 4), []int64{1000, 1, 1, 1, 1, 1, 1, 1}, func(c []int) bool { return c[0] > c[1] }},
		{"layers, first", shape(6, 8, 2, 2, 4), []int64{10, 20, 30, 40, 50, 60}, whatever},
		{"layers, second", shape(6, 8, 2, 2, 4), []int64{60, 50, 40, 30, 20, 10}, whatever},
		{"layers, third", shape(6, 8, 2, 2, 4), []int64{25, 25, 25, 25, 25, 25}, whatever},
		{"groups not divisible", shape(4, 8, 3, 2, 4), []int64{10, 20, 30, 40}, whatever},
		{"small hierarchical", shape(8, 12, 4, 2, 4), []int64{100, 50, 200, 75, 150, 25, 300, 80}, atLeast(6, 2)},
		{"global fallback", shape(6, 8, 3, 2, 4), []int64{10, 20, 30, 40, 50, 60}, whatever},
		{"devices", shape(4, 6, 2, 1, 2), []int64{10, 20, 30, 40}, whatever},
		{"large scale", shape(16, 24, 8, 4, 8), []int64{50, 100, 75, 120, 90, 60, 80, 110, 40, 70, 95, 85, 65, 55, 45, 35}, whatever},
		{"decreasing", shape(6, 10, 3, 1, 2), []int64{200, 150, 100, 50, 25, 12}, atLeast(0, 2)},
		{"increasing", shape(6, 10, 3, 1, 2), []int64{12, 25, 50, 100, 150, 200}, atLeast(5, 2)},
	} {
		layout := layoutOf(t, c.s, c.loads)
		if counts := Counts(layout, c.s.Experts); !c.counts(counts) {
			t.Errorf("%s: copies %v of %v", c.name, counts, c.loads)
		}
	}
	if _, err := EPLB(shape(4, 7, 2, 2, 4), []int64{10, 20, 30, 40}); err == nil || !strings.Contains(err.Error(), "multiple of 4") {
		t.Errorf("7 slots on 4 devices: %v", err)
	}
}

// TestSlots is vLLM's case of slots that are not used.
func TestSlots(t *testing.T) {
	for _, layout := range [][]int{{0, 1, None, 2, 3, None}, {3, None, 2, 1, 0, None}} {
		slots := Slots(layout, 4)
		for e, n := range Counts(layout, 4) {
			if n != 1 || len(slots[e]) != 1 || layout[slots[e][0]] != e {
				t.Errorf("%v: expert %d has %d copies in %v", layout, e, n, slots[e])
			}
		}
	}
	if s := Slots([]int{0, 1, None, 2, 3, None}, 4); s[2][0] != 3 || s[3][0] != 4 {
		t.Errorf("have %v", s)
	}
}

// TestKeep is vLLM's test of slots that stay.
func TestKeep(t *testing.T) {
	for _, c := range []struct {
		devices        int
		old, new, want []int
	}{
		{2, []int{0, 1, 2, 3, 4, 5, 6, 7}, []int{1, 5, 0, 4, 6, 2, 7, 3}, []int{0, 1, 5, 4, 2, 3, 6, 7}},
		{2, []int{0, 1, 0, 2, 3, 4, 5, 6, 1, 2}, []int{0, 5, 4, 0, 1, 6, 2, 3, 2, 1}, []int{0, 1, 0, 5, 4, 3, 2, 6, 1, 2}},
		{3, []int{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3}, []int{0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0}, []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3}},
	} {
		if have := Keep(c.old, c.new, c.devices); !slices.Equal(have, c.want) {
			t.Errorf("%v after %v: have %v, want %v", c.new, c.old, have, c.want)
		}
	}
}

// TestShapeErrors names what does not fit.
func TestShapeErrors(t *testing.T) {
	for _, c := range []struct {
		s     Shape
		loads []int64
		want  string
	}{
		{shape(0, 4, 1, 1, 2), nil, "need 1 to 65536 experts, have 0"},
		{shape(4, 4, 1, 1, 0), nil, "at least one device"},
		{shape(4, 4, 0, 1, 2), nil, "at least one device, node and group, have 2, 1 and 0"},
		{shape(4, 2, 1, 1, 2), nil, "need 4 to 65536 slots for 4 experts, have 2"},
		{shape(4, 5, 1, 1, 2), nil, "the same number of slots on each of 2 devices, have 5"},
		{shape(6, 8, 4, 2, 4), nil, "groups of equal size, have 6 experts in 4 groups"},
		{shape(4, 6, 2, 2, 3), nil, "nodes of equal size, have 3 devices on 2 nodes"},
		{shape(4, 4, 1, 1, 2), []int64{1, 2, 3}, "need the loads of 4 experts, have 3"},
		{shape(4, 4, 1, 1, 2), []int64{1, 2, -3, 0}, "expert 2 has a load of -3"},
		{shape(4, 4, 1, 1, 2), []int64{1 << 62, 1 << 62, 1, 1}, "add up to more than"},
	} {
		if _, err := EPLB(c.s, c.loads); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v %v: %v, want %q", c.s, c.loads, err, c.want)
		}
	}
}
