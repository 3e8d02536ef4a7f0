package plan_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/gonum/graph/formats/dot"

	"moec/ir/placement"
	"moec/ir/textdiff"
	"moec/planner/plan"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// oneToken is the step that most pictures are for.
var oneToken = plan.StepSize{Sequences: 1, Tokens: 1, Rows: 1}

// golden compares a text with a file.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	file = filepath.Join("testdata", file)
	if *rewrite {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := textdiff.Unified(file, "now", string(want), string(got)); diff != "" {
		t.Errorf("run with -rewrite if it is meant:\n%s", diff)
	}
}

// TestDOTGolden compares the pictures of some plans.
func TestDOTGolden(t *testing.T) {
	for _, s := range samples {
		if s.name != "experts" && s.name != "pipeline" {
			continue
		}
		got, err := plan.DOT(s.plan(t), oneToken)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, s.name+".dot", append(got, '\n'))
	}
}

// TestShowGolden compares what people are shown of a plan.
func TestShowGolden(t *testing.T) {
	p := samples[3].plan(t)
	split := func(devices ...int) placement.Split {
		var s placement.Split
		for i, d := range devices {
			s = append(s, placement.Share{Device: d, Lo: i * segments / len(devices), Hi: (i + 1) * segments / len(devices)})
		}
		return s
	}
	p.Model.Bindings = []plan.Binding{{Name: "hidden", Value: "32", From: "hidden_size"}, {Name: "heads", Value: "4"}}
	p.Placement = placement.Placement{Strategy: "file map.json"}
	for range 3 {
		p.Placement.Layers = append(p.Placement.Layers, placement.Layer{
			Groups: [][]int{{0, 1}}, Attention: []placement.Split{split(0, 1)},
			Experts: []placement.Expert{{split(0)}, {split(1)}, {split(0), split(1)}, {split(1)}},
		})
	}
	var out bytes.Buffer
	if err := plan.Show(&out, p, true); err != nil {
		t.Fatal(err)
	}
	golden(t, "experts.show", out.Bytes())
}

// TestDOTShows checks of every sample that its picture is DOT, the same each
// time, and has all blocks, devices and experts.
func TestDOTShows(t *testing.T) {
	for _, s := range samples {
		p := s.plan(t)
		text, err := plan.DOT(p, oneToken)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dot.ParseBytes(text); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		for range 3 {
			if again, _ := plan.DOT(s.plan(t), oneToken); !bytes.Equal(again, text) {
				t.Fatalf("%s: the picture differs from one time to the next", s.name)
			}
		}
		wants := []string{"begin", fmt.Sprintf("on %d device", s.devices)}
		for d := range s.devices {
			wants = append(wants, fmt.Sprintf("device %d<BR", d))
		}
		for e := range nExperts {
			wants = append(wants, fmt.Sprintf(`WIDTH="22">%d</TD>`, e))
		}
		if s.heads || s.homes != nil || s.pipe {
			wants = append(wants, ">gets ", "penwidth=")
		}
		if !s.pipe {
			wants = append(wants, fmt.Sprintf("layers 0-%d: %d with the same plan, drawn once", s.layers-1, s.layers))
		}
		for _, w := range wants {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s: the picture lacks %q", s.name, w)
			}
		}
	}
}
