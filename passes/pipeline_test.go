package passes

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/tensor"
	"moec/passes/trace"
)

func TestPipelineOrder(t *testing.T) {
	if err := CheckOrder(Pipeline[:]); err != nil {
		t.Error(err)
	}
	for _, p := range Pipeline {
		if p.Doc == "" || strings.ToLower(p.Name) != p.Name {
			t.Errorf("pass %q: has doc %q", p.Name, p.Doc)
		}
		for _, o := range p.After {
			if o.Reason == "" {
				t.Errorf("pass %q comes after %q for no reason", p.Name, o.Pass)
			}
		}
	}
}

// TestEveryConstraintIsChecked moves each pass before one that it must follow.
func TestEveryConstraintIsChecked(t *testing.T) {
	for i, p := range Pipeline {
		for _, o := range p.After {
			list := slices.Delete(slices.Clone(Pipeline[:]), i, i+1)
			j := slices.IndexFunc(list, func(q Pass) bool { return q.Name == o.Pass })
			list = slices.Insert(list, j, p)
			err := CheckOrder(list)
			if err == nil || !strings.Contains(err.Error(), o.Reason) {
				t.Errorf("%q before %q: %v, want the reason %q", p.Name, o.Pass, err, o.Reason)
			}
		}
	}
	for _, list := range [][]Pass{
		{{Name: "a", After: []Order{{"b", "reason"}}}},
		{{Name: "a"}, {Name: "a"}},
	} {
		if CheckOrder(list) == nil {
			t.Errorf("CheckOrder(%v) finds nothing wrong", list)
		}
	}
}

// logical is the pipeline without place: all passes also work on a logical
// graph.
func logical() []Pass {
	list := slices.DeleteFunc(slices.Clone(Pipeline[:]), func(p Pass) bool { return p.Name == "place" })
	for i := range list {
		list[i].Level = ir.Logical
		list[i].After = slices.DeleteFunc(slices.Clone(list[i].After), func(o Order) bool { return o.Pass == "place" })
	}
	return list
}

func TestRunStopsAndSkips(t *testing.T) {
	for _, c := range []struct {
		name string
		ctx  Context
		want []string
		err  string
	}{
		{"to", Context{To: "dce"}, []string{"canonicalise", "cse", "dce"}, ""},
		{"off", Context{To: "dce", Off: map[string]bool{"cse": true}}, []string{"canonicalise", "dce"}, ""},
		{"to a pass that is off", Context{To: "cse", Off: map[string]bool{"cse": true}}, []string{"canonicalise"}, ""},
		{"unknown to", Context{To: "nothing"}, nil, `there is no pass "nothing"`},
		{"unknown off", Context{Off: map[string]bool{"x": true}}, nil, `there is no pass "x"`},
		{"required", Context{Off: map[string]bool{"segment": true}}, nil, `pass "segment" cannot be switched off`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := runList(logical(), &c.ctx, mixtral(t, tensor.F32, small))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error is %v, want %s", err, c.err)
				}
				return
			}
			var ran []string
			for _, tm := range c.ctx.Timings {
				ran = append(ran, tm.Pass)
			}
			if err != nil || !slices.Equal(ran, c.want) {
				t.Errorf("ran %v, error %v; want %v", ran, err, c.want)
			}
		})
	}
}

func TestRunReportsBrokenGraphs(t *testing.T) {
	broken := func(_ *Context, g *ir.Graph) error { g.Nodes = g.Nodes[1:]; return nil }
	failing := func(*Context, *ir.Graph) error { return errors.New("four heads for three devices") }
	for _, c := range []struct {
		pass Pass
		skip bool
		want string
	}{
		{Pass{Name: "breaks", Run: broken}, false, `internal error: after "breaks": `},
		{Pass{Name: "breaks", Run: broken}, true, ""},
		{Pass{Name: "fails", Run: failing}, false, "fails: four heads for three devices"},
		{Pass{Name: "wrong", Run: dce, Level: ir.Placed}, false, `internal error: after "wrong" the graph is logical, want placed`},
	} {
		err := runList([]Pass{c.pass}, &Context{Unverified: c.skip}, mixtral(t, tensor.F32, small))
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %s", c.pass.Name, err, c.want)
		}
	}
}

func TestRunSetsNumerics(t *testing.T) {
	g := mixtral(t, tensor.F32, small)
	if err := runList(logical(), &Context{Numerics: ir.Numerics{Mode: ir.Fast, Segments: 4}}, g); err != nil {
		t.Fatal(err)
	}
	if g.Numerics.Mode != ir.Fast {
		t.Errorf("numerics are %v", g.Numerics)
	}
	if strings.Contains(ir.Print(g), "bounds=") {
		t.Error("a sum has segments in mode fast")
	}
}

// TestPrintModes checks what a sink shows of a run.
func TestPrintModes(t *testing.T) {
	show := func(mode string) string {
		var out bytes.Buffer
		if err := runList(logical(), &Context{Sink: trace.NewText(&out, mode)}, mixtral(t, tensor.F32, small)); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	changed, all, one := show("changed"), show("all"), show("segment")
	for _, c := range []struct {
		name, text, want string
		count            int
	}{
		{"changed", changed, "# after late dce (unchanged)\n", 1},
		{"changed", changed, "\n--- canonicalise\n+++ cse\n", 0},
		{"changed", changed, "\n--- dce\n+++ sink rows\n", 1},
		{"changed", changed, "(unchanged)", 7},
		{"changed", changed, "\n+++ ", 6},
		{"all", all, "graph \"test\"", 7},
		{"all", all, "(unchanged)", 7},
		{"segment", one, "graph \"test\"", 1},
		{"segment", one, "# after", 1},
	} {
		if got := strings.Count(c.text, c.want); got != c.count {
			t.Errorf("%s shows %q %d times, want %d:\n%s", c.name, c.want, got, c.count, c.text)
		}
	}
}

// TestShuffle checks that no pass depends on the order of nodes beyond that
// of operands, and that a shuffle is one.
func TestShuffle(t *testing.T) {
	g := mixtral(t, tensor.BF16, small)
	before := slices.Clone(g.Nodes)
	shuffle(g, rand.New(rand.NewPCG(1, 1)))
	if slices.Equal(before, g.Nodes) || len(before) != len(g.Nodes) {
		t.Error("nothing is shuffled")
	}
	if err := ir.Verify(g); err != nil {
		t.Error(err)
	}
	plain := mixtral(t, tensor.BF16, small)
	if err := runList(logical(), &Context{}, plain); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(10) {
		g := mixtral(t, tensor.BF16, small)
		if err := runList(logical(), &Context{Shuffle: seed + 1}, g); err != nil {
			t.Fatal(err)
		}
		if len(g.Nodes) != len(plain.Nodes) {
			t.Errorf("seed %d: %d nodes, in order %d", seed+1, len(g.Nodes), len(plain.Nodes))
		}
	}
}

// TestRunIsDeterministic compares the text after several runs.
func TestRunIsDeterministic(t *testing.T) {
	first := ""
	for range 5 {
		g := mixtral(t, tensor.BF16, small)
		if err := runList(logical(), &Context{}, g); err != nil {
			t.Fatal(err)
		}
		if first == "" {
			first = ir.Print(g)
		}
		if text := ir.Print(g); text != first {
			t.Fatal("a second run gives another graph")
		}
	}
}

// TestWriteList checks that the list names every pass, reason, rule and kind.
func TestWriteList(t *testing.T) {
	var out strings.Builder
	if err := WriteList(&out); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, p := range Pipeline {
		want = append(want, "\n"+p.Name, p.Doc)
		for _, o := range p.After {
			want = append(want, "after "+o.Pass+": "+o.Reason)
		}
	}
	for _, r := range Rules {
		want = append(want, r.Doc)
	}
	for _, f := range Fusions {
		want = append(want, f.Doc)
	}
	for _, w := range want {
		if !strings.Contains("\n"+out.String(), w) {
			t.Errorf("%q is not listed:\n%s", w, out.String())
		}
	}
}

// TestFusionsAreKinds checks the table against the kinds that passes give.
func TestFusionsAreKinds(t *testing.T) {
	made := map[string]bool{}
	for _, file := range []string{"fuse gate", "fuse norm", "fuse residual", "fuse routing", "fuse rounding"} {
		_, cases := readGolden(t, goldenFile(file))
		for _, c := range cases {
			for _, f := range Fusions {
				if f.Pass == file && strings.Contains(c.after, `kind="`+f.Kind+`"`) {
					made[f.Kind] = true
				}
			}
		}
	}
	for _, f := range Fusions {
		if !made[f.Kind] {
			t.Errorf("no golden case of %q makes kind %q", f.Pass, f.Kind)
		}
	}
}
