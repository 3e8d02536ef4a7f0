package placement

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// model has three layers, the middle one without experts.
var model = Summary{Segments: 4, Embed: 4, Head: 4, Layers: []LayerSummary{
	{Experts: 3, Attention: 4, Inner: 4}, {Attention: 4, Dense: 4}, {Experts: 3, Attention: 4, Inner: 4},
}}

// sample places it on three devices, with two token groups in every layer.
func sample() *Placement {
	groups := [][]int{{0, 1}, {2}}
	all := func(d int) Split { return Split{{d, 0, 4}} }
	halves := []Split{{{0, 0, 2}, {1, 2, 4}}, all(2)}
	moe := Layer{Groups: groups, Attention: halves, Dense: halves, Experts: []Expert{{all(0), all(2)}, {{{1, 0, 3}, {2, 3, 4}}}, {all(1)}}}
	dense := Layer{Groups: groups, Attention: halves, Dense: []Split{{{0, 0, 4}, {1, 0, 4}}, all(2)}}
	return &Placement{Devices: 3, Strategy: "by hand", Segments: 4, Embed: halves, Layers: []Layer{moe, dense, moe}, Head: halves}
}

func TestFormatAndParse(t *testing.T) {
	p := sample()
	p.Layers = append(p.Layers, p.Layers[2], p.Layers[2])
	text := p.Format()
	for _, want := range []string{`{"layers":"0","groups":[[0,1],[2]]`, `{"layers":"2-4"`, `{"experts":"1","copies":[[[1,0,3],[2,3,4]]]}`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	q, err := Parse("p.json", text)
	if err != nil {
		t.Fatal(err)
	}
	q.Layers[1].Experts = p.Layers[1].Experts // an empty list for none
	if !reflect.DeepEqual(p, q) {
		t.Errorf("read back as\n%s", q.Format())
	}
	short, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var r Placement
	if err := json.Unmarshal(short, &r); err != nil || !bytes.Equal(r.Format(), text) {
		t.Errorf("through the compact form: %v\n%s", err, r.Format())
	}
}

func TestParseErrors(t *testing.T) {
	text := string(sample().Format())
	for _, c := range []struct{ old, new, want string }{
		{`"segments"`, `"segmants"`, `p.json: unknown field "segmants"`},
		{`"segments": 4`, `"segments": "4"`, "p.json:4: segments is a string, want int"},
		{`[1,0,3]`, `[1,0]`, "share [1,0] is not [device, lo, hi]"},
		{`"layers":"1"`, `"layers":"2"`, "layers start at 2, want 1"},
		{`"layers":"1"`, `"layers":"two"`, `"two" is neither a number nor first-last`},
		{`"layers":"1"`, `"layers":"1-99999"`, `"1-99999" is neither`},
		{`"experts":"1"`, `"experts":"2"`, "experts of layer 0 start at 2, want 1"},
		{"\n}\n", "\n", "p.json:12: is not JSON: it ends too early"},
		{"\n}\n", "\n}\n}\n", "there is text after the end"},
		{"\n}\n", "\n}\n{}\n", "there is text after the end"},
	} {
		changed := strings.Replace(text, c.old, c.new, 1)
		if changed == text {
			t.Fatalf("%q is not in the file", c.old)
		}
		if _, err := Parse("p.json", []byte(changed)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: %v, want %q", c.new, c.old, err, c.want)
		}
	}
}

// TestCheck breaks a placement in each way that Check knows.
func TestCheck(t *testing.T) {
	if err := sample().Check(model); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		change     func(p *Placement)
	}{
		{"no devices", "devices: need at least 1", func(p *Placement) { p.Devices = 0 }},
		{"segments", "segments: need 4, have 8; make the placement again", func(p *Placement) { p.Segments = 8 }},
		{"layers", "layers: need 3, have 2", func(p *Placement) { p.Layers = p.Layers[:2] }},
		{"groups of a layer", "layer 1, groups: need 2 as in layer 0", func(p *Placement) { p.Layers[1].Groups = p.Layers[1].Groups[:1] }},
		{"empty group", "layer 1, group 1: need at least one device", func(p *Placement) { p.Layers[1].Groups = [][]int{{0, 1}, {}} }},
		{"unknown device", "layer 1, group 1: need devices from 0 to 2, have device 3", func(p *Placement) { p.Layers[1].Groups = [][]int{{0, 1}, {3}} }},
		{"device in two groups", "layer 1, group 1: need each device once in one group, have device 1 twice", func(p *Placement) { p.Layers[1].Groups = [][]int{{0, 1}, {1}} }},
		{"a split missing", "embed: need a split for each of 2 groups, have 1", func(p *Placement) { p.Embed = p.Embed[:1] }},
		{"no shares", "head of group 1: need at least one share", func(p *Placement) { p.Head = []Split{p.Head[0], {}} }},
		{"other group's device", "layer 0, attention of group 1: need devices of [2], have [1]", func(p *Placement) { p.Layers[0].Attention = []Split{p.Head[0], {{1, 0, 4}}} }},
		{"gap", "layer 0, dense of group 0: need shares in order of their segments, the next from 1, have 2 to 4", func(p *Placement) { p.Layers[0].Dense = []Split{{{0, 0, 1}, {1, 2, 4}}, p.Head[1]} }},
		{"overlap", "the next from 3, have 2 to 4", func(p *Placement) { p.Layers[0].Dense = []Split{{{0, 0, 3}, {1, 2, 4}}, p.Head[1]} }},
		{"end missing", "need all 4 segments, have segments 0 to 2", func(p *Placement) { p.Layers[0].Dense = []Split{{{0, 0, 3}}, p.Head[1]} }},
		{"empty share", "need shares from lo to hi", func(p *Placement) { p.Layers[0].Dense = []Split{{{0, 0, 0}, {1, 0, 4}}, p.Head[1]} }},
		{"two shares", "need one share for a device, have two for device 0", func(p *Placement) { p.Layers[0].Dense = []Split{{{0, 0, 2}, {0, 2, 4}}, p.Head[1]} }},
		{"experts", "layer 0, experts: need 3, have 2", func(p *Placement) { p.Layers[0].Experts = p.Layers[0].Experts[:2] }},
		{"homeless expert", "layer 2, expert 0: need at least one copy", func(p *Placement) { p.Layers[2].Experts = []Expert{{}, {{{0, 0, 4}}}, {{{0, 0, 4}}}} }},
		{"copies as shares", "layer 2, expert 0: need shares that divide the expert, have 2", func(p *Placement) {
			p.Layers[2].Experts = []Expert{{{{0, 0, 4}, {1, 0, 4}}}, {{{0, 0, 4}}}, {{{0, 0, 4}}}}
		}},
		{"two copies on a device", "layer 2, expert 0: need copies on different devices, have two on device 0", func(p *Placement) {
			p.Layers[2].Experts = []Expert{{{{0, 0, 4}}, {{0, 0, 2}, {1, 2, 4}}}, {{{0, 0, 4}}}, {{{0, 0, 4}}}}
		}},
	} {
		p := sample()
		c.change(p)
		if err := p.Check(model); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestLocal(t *testing.T) {
	p := sample()
	if p.Layers[0].Local() {
		t.Error("expert 1 is divided between groups, yet every group has a copy")
	}
	own := Expert{{{0, 0, 2}, {1, 2, 4}}, {{2, 0, 4}}}
	p.Layers[0].Experts = []Expert{own, own, own}
	if !p.Layers[0].Local() || len(own.In([]int{0, 1})) != 1 {
		t.Error("every group has a copy of every expert, yet not")
	}
}

func TestMap(t *testing.T) {
	const text = `{"strategy": "ep", "experts": [{"layers": "0", "homes": [[0], [1, 2], [2]]}, {"layers": "2", "homes": [[2], [0], [1]]}]}`
	m, err := ParseMap("some/map.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p := sample()
	p.Strategy = m.Strategy
	if err := m.Apply(p); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(model); err != nil {
		t.Error(err)
	}
	want := Expert{{{1, 0, 4}}, {{2, 0, 4}}}
	if !reflect.DeepEqual(p.Layers[0].Experts[1], want) || p.Strategy != "ep with map.json" {
		t.Errorf("%q places expert 1 as %v, want %v", p.Strategy, p.Layers[0].Experts[1], want)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"ep"`, `""`, "m.json: has no strategy or no experts; write"},
		{`"homes": [[0]`, `"homes": [[]`, "layer 0: expert 0 has no home"},
		{`[1, 2]`, `[1, 3]`, "expert 1 lives on [1 3]: need different devices from 0 to 2"},
		{`[1, 2]`, `[1, 1]`, "expert 1 lives on [1 1]"},
		{`, [2]]`, `]`, "layer 0: need homes for its 3 experts, have 2"},
		{`"layers": "2"`, `"layers": "0"`, "layer 0 is listed twice"},
		{`"layers": "2"`, `"layers": "1-2"`, "layer 1: need homes for its 0 experts, have 3"},
		{`"layers": "2"`, `"layers": "7"`, "layer 7: the model has layers 0 to 2"},
		{`"homes"`, `"home"`, `unknown field "home"`},
	} {
		m, err := ParseMap("m.json", []byte(strings.Replace(text, c.old, c.new, 1)))
		if err == nil {
			err = m.Apply(sample())
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: %v, want %q", c.new, c.old, err, c.want)
		}
	}
}

// FuzzParse checks that whatever is read is written as a text that is read
// back the same, and that Check never panics.
func FuzzParse(f *testing.F) {
	f.Add(sample().Format())
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("fuzz", text)
		if err != nil {
			return
		}
		q, err := Parse("again", p.Format())
		if err != nil || !bytes.Equal(p.Format(), q.Format()) {
			t.Errorf("%v\n%s", err, p.Format())
		}
		_ = p.Check(model)
	})
}
