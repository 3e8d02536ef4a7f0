package plan_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"gonum.org/v1/gonum/graph/formats/dot"

	"moec/ir"
	"moec/ir/placement"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// shares divides something evenly.
func shares(parts int, devices ...int) placement.Split {
	var s placement.Split
	for i, d := range devices {
		s = append(s, placement.Share{Device: d, Lo: i * parts / len(devices), Hi: (i + 1) * parts / len(devices)})
	}
	return s
}

// placed is a sample with a placement that has every kind of home: whole
// experts, divided ones and copies, not the same in all layers.
func placed(t *testing.T, name string, devices ...int) *plan.Plan {
	t.Helper()
	for _, s := range samples {
		if s.name != name {
			continue
		}
		p := s.plan(t)
		p.Placement = placement.Placement{Devices: s.devices, Strategy: "file map.json", Segments: segments}
		last := devices[len(devices)-1]
		for l := range s.layers {
			experts := []placement.Expert{{shares(segments, devices[0])}, {shares(segments, devices...)}, {shares(segments, devices[0]), shares(segments, last)}, {shares(segments, last)}}
			if l == s.layers-1 {
				experts[0], experts[1] = experts[1], experts[3]
			}
			p.Placement.Layers = append(p.Placement.Layers, placement.Layer{Groups: [][]int{devices}, Attention: []placement.Split{shares(segments, devices...)}, Experts: experts})
		}
		return p
	}
	t.Fatalf("no sample %q", name)
	return nil
}

// large is a plan of n devices that gather rows from each other, with so many
// experts, each on one device, and every sixteenth also on the next.
func large(n, experts, layers int) *plan.Plan {
	p := &plan.Plan{Model: plan.Model{Name: "large", Layers: layers}, Machine: plan.Machine{Name: "many", Devices: n}, Numerics: ir.Numerics{Mode: ir.Invariant, Segments: 8},
		Limits: plan.Limits{Tokens: 64, Rows: 8, Sequences: 8}, Buckets: []plan.Bucket{{Tokens: 64, Program: "all"}}}
	var all []int
	block := plan.Block{Name: "layer"}
	var args []plan.Ref
	for d := range n {
		all = append(all, d)
		p.Memory = append(p.Memory, plan.Memory{Device: d, Weights: 10e9, Caches: 5e9, Buffers: 1e9, Total: 16e9, Budget: 80e9})
		args = append(args, plan.Ref{Kind: plan.BufferRef, Name: "x", Device: d})
		for _, b := range []struct {
			name string
			rows int
		}{{"x", 8}, {"y", 8 * n}} {
			block.Buffers = append(block.Buffers, plan.Buffer{Name: b.name, Device: d, Type: tensor.Type{DType: tensor.BF16, Shape: tensor.Shape{tensor.S(tensor.Tokens), {N: b.rows}}}})
		}
	}
	for d := range n {
		block.Queues = append(block.Queues, plan.Queue{Device: d, Steps: []plan.Step{{Op: "all_gather", Out: "y", Args: args, Attrs: ir.MakeAttrs(attr("channel", 0))}}})
	}
	p.Programs = []plan.Program{{Name: "all", Blocks: []plan.Block{block}, Runs: []plan.Run{{Block: "layer", Layers: plan.Range{First: 0, Last: layers - 1}}}}}
	p.Placement = placement.Placement{Devices: n, Segments: 8}
	for range layers {
		l := placement.Layer{Groups: [][]int{all}, Attention: []placement.Split{shares(8, all[:min(8, n)]...)}}
		for e := range experts {
			home := e * n / experts
			expert := placement.Expert{shares(8, home)}
			if e%16 == 0 {
				expert = append(expert, shares(8, (home+1)%n))
			}
			l.Experts = append(l.Experts, expert)
		}
		p.Placement.Layers = append(p.Placement.Layers, l)
	}
	return p
}

// TestOverviewGolden compares overviews: two devices, which are joined
// directly; four, which meet in exchanges; a pipeline; and many in boxes.
func TestOverviewGolden(t *testing.T) {
	prompt := plan.StepSize{Sequences: 1, Tokens: 24, Rows: 1}
	for _, c := range []struct {
		file string
		plan *plan.Plan
		size plan.StepSize
	}{
		{"experts", placed(t, "experts", 0, 1), oneToken},
		{"four", placed(t, "four", 0, 1, 2, 3), prompt},
		{"pipeline", placed(t, "pipeline", 0, 1), oneToken},
		{"eight", large(4, 8, 2), oneToken},
		{"large", large(64, 256, 3), oneToken},
	} {
		got, err := plan.Overview(c.plan, c.size)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, c.file+".overview.dot", append(got, '\n'))
	}
}

// TestOverviewShows checks of every sample that its overview is DOT, the same
// each time, with every device, and of a large plan that it stays small.
func TestOverviewShows(t *testing.T) {
	for _, s := range samples {
		p := s.plan(t)
		text, err := plan.Overview(p, oneToken)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dot.ParseBytes(text); err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if again, _ := plan.Overview(s.plan(t), oneToken); !bytes.Equal(again, text) {
			t.Errorf("%s: the picture differs from one time to the next", s.name)
		}
		for d := range s.devices {
			if want := fmt.Sprintf("<B>device %d</B>", d); !strings.Contains(string(text), want) {
				t.Errorf("%s: the picture lacks %q", s.name, want)
			}
		}
	}
	const most = 40 << 10 // bytes of a picture of a page
	for _, p := range []*plan.Plan{large(64, 256, 3), large(64, 4096, 3), large(8, 8, 1), large(1, 4, 1), large(256, 512, 2)} {
		n := len(p.Memory)
		text, err := plan.Overview(p, oneToken)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > most {
			t.Errorf("the overview of %d devices has %d bytes, want at most %d", n, len(text), most)
		}
		blocks, err := plan.DOT(p, oneToken)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(blocks), "<B>all-gather</B>"); got != min(n, 8) {
			t.Errorf("the picture of %d devices has %d lanes", n, got)
		}
	}
}

// TestFlows adds up what crosses between devices, and compares it with what
// plan.Exchanges counts.
func TestFlows(t *testing.T) {
	for _, s := range samples {
		p := s.plan(t)
		if s.groups > 1 { // the plan's groups come from its placement
			var groups [][]int
			for d := range s.groups {
				groups = append(groups, []int{d})
			}
			p.Placement.Layers = []placement.Layer{{Groups: groups}}
		}
		sum := make(map[string]int64)
		for _, f := range p.Flows(plan.StepSize{Sequences: s.groups, Tokens: s.groups, Rows: s.groups}) {
			if f.From == f.To || f.Bytes <= 0 {
				t.Errorf("%s: %+v crosses nothing", s.name, f)
			}
			sum[f.Op] += f.Bytes
		}
		for op, e := range plan.Exchanges(p) {
			if sum[op] != e.Bytes*int64(s.groups) {
				t.Errorf("%s: %s moves %d bytes, want %d", s.name, op, sum[op], e.Bytes*int64(s.groups))
			}
		}
	}
	// 64 devices send each other 8 numbers of 2 bytes for each of 5 tokens in
	// each of 3 layers.
	flows := large(64, 256, 3).Flows(plan.StepSize{Sequences: 5, Tokens: 5, Rows: 5})
	if len(flows) != 64*63 {
		t.Errorf("%d flows, want one for each two devices", len(flows))
	}
	for _, f := range flows {
		if f.Bytes != 8*2*5*3 {
			t.Fatalf("%+v: want %d bytes", f, 8*2*5*3)
		}
	}
}

// TestStepOf checks which step a number of tokens stands for.
func TestStepOf(t *testing.T) {
	p := &plan.Plan{Limits: plan.Limits{Tokens: 64, Rows: 8, Sequences: 4}}
	for _, c := range []struct {
		tokens int
		want   string
		size   plan.StepSize
	}{
		{1, "a decode step of 1 token", plan.StepSize{Sequences: 1, Tokens: 1, Rows: 1}},
		{4, "a decode step of 4 tokens", plan.StepSize{Sequences: 4, Tokens: 4, Rows: 4}},
		{5, "a prompt of 5 tokens", plan.StepSize{Sequences: 1, Tokens: 5, Rows: 1}},
		{64, "a prompt of 64 tokens", plan.StepSize{Sequences: 1, Tokens: 64, Rows: 1}},
	} {
		got, err := p.StepOf(c.tokens)
		if err != nil || got != c.size || got.String() != c.want {
			t.Errorf("%d tokens are %q %+v, %v, want %q %+v", c.tokens, got, got, err, c.want, c.size)
		}
	}
	for _, tokens := range []int{-1, 0, 65} {
		if got, err := p.StepOf(tokens); err == nil {
			t.Errorf("%d tokens are %q", tokens, got)
		}
	}
}
