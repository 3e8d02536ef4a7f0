package ir

import (
	"path/filepath"
	"strings"
	"testing"

	"moec/ir/tensor"
)

// breach is one graph that breaks one rule: an example with texts replaced.
type breach struct {
	rule    string // of Rules
	file    string // in testdata
	replace []string
	want    string // part of the problem
}

var breaches = []breach{
	{"types", "logical.ir", []string{"{eps=1e-05} : f32[T,8]", "{eps=1e-05} : f32[T,9]"}, "%9 rms_norm: type is f32[T,9], operands and attributes give f32[T,8]"},
	{"order", "logical.ir", []string{"%22 = add(%5, %21)", "%22 = add(%5, %35)"}, "values depend on each other: %22"},
	{"order", "logical.ir", []string{"%22 = add(%5, %21)", "%22 = add(%22, %21)"}, "%22 reads itself"},
	{"order", "logical.ir", []string{"%22 = add(%5, %21)", "%22 = add(%5, %24)", "weight {dtype=f32, name=\"layers.0.w1\", shape=[4,6,8]} : f32[4,6,8]", "const {shape=[8], values=[1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0]} : f32[8]"}, "operand %24 is defined at or after its use"},
	{"outputs", "logical.ir", []string{`  output "logits" = %37` + "\n", ""}, "has no output"},
	{"outputs", "logical.ir", []string{`output "logits" =`, `output "" =`}, `output 0 "" has no name`},
	{"outputs", "logical.ir", []string{`output "logits" =`, `output "logits" @group 1 =`}, "is for group 1 of 1"},
	{"outputs", "logical.ir", []string{`  output "logits" = %37`, `  output "logits" = %37` + "\n" + `  output "logits" = %36`}, "is given twice"},
	{"outputs", "placed.ir", []string{`  output "logits" @group 1 = %59` + "\n", ""}, `output "logits" is missing for group 1`},
	{"outputs", "logical.ir", []string{`    output "y" = %3` + "\n", ""}, "body of %37: has no output"},

	{"header", "logical.ir", []string{"layers 1", "layers 1\n  devices 2"}, "logical graph has 2 devices and 1 token groups"},
	{"header", "placed.ir", []string{"devices 2", "devices 0"}, "placed graph has 0 devices"},
	{"header", "logical.ir", []string{"numerics invariant 4", "numerics loose 4"}, `numerics are "loose"`},
	{"header", "logical.ir", []string{"numerics invariant 4", "numerics fast 0"}, "sums have 0 segments"},

	{"weight table", "logical.ir", []string{`weight "layers.0.wkv" f32`, `weight "layers.0.wq" f32`}, `weight "layers.0.wq" has no name or is listed twice`},
	{"weight table", "logical.ir", []string{`weight "embed" f32[11,8]`, `weight "embed" i32[11,8]`}, `weight "embed" has element type i32`},
	{"weight table", "logical.ir", []string{`experts 4 @layer 0 from "model.layers.{layer}.experts.{expert}`, `experts 4 @layer 1 from "model.layers.{layer}.experts.{expert}`}, "is in layer 1 of 1"},
	{"weight table", "logical.ir", []string{"weight \"layers.0.w2\" f32[4,8,6] experts 4", "weight \"layers.0.w2\" f32[4,8,6] experts 8"}, `weight "layers.0.w2" has 8 experts and shape [4 8 6]`},
	{"weight table", "logical.ir", []string{"view [expert, 0:12:2, 0:8]", "view [expert, 0:12:2]"}, "view of 2 axes on stored shape [4 12 8]"},
	{"weight table", "logical.ir", []string{"view [expert, 0:12:2, 0:8]", "view [expert, 0:14:2, 0:8]"}, "[0:14:2] is not a part of axis 1"},
	{"weight table", "logical.ir", []string{"view [expert, 0:12:2, 0:8]", "view [expert, 0:12, 0:8]"}, "has shape [4 6 8], its source gives [4 12 8]"},
	{"weight table", "logical.ir", []string{"view [expert, 0:12:2, 0:8]", "view [0:4, 0:12:2, 0:8]"}, "numbers them 0 times"},
	{"weight table", "logical.ir", []string{`gate_up" [4,12,8]`, `gate_up" [5,12,8]`}, "axis 0 of stored shape [5 12 8] has 5"},

	{"cache table", "logical.ir", []string{`cache "layers.0" f32 heads 1`, `cache "layers.1" f32 heads 1 key 4 value 4` + "\n" + `  cache "layers.0" f32 heads 1`, `value 4 window 16 @layer 0`, `value 4 window 16 @layer 7`}, `cache "layers.0" is in layer 7 of 1`},
	{"cache table", "logical.ir", []string{`cache "layers.0" f32 heads 1`, `cache "layers.0" f32 heads 1 key 4 value 4` + "\n" + `  cache "layers.0" f32 heads 1`}, "is listed twice"},
	{"cache table", "logical.ir", []string{`cache "layers.0" f32 heads 1`, `cache "x" i32 heads 1 key 4 value 4` + "\n" + `  cache "layers.0" f32 heads 1`}, `cache "x": 1 heads of 4 + 4 i32`},

	{"bodies", "logical.ir", []string{`%1 = input {name="positions"} : i32[T]`, `%1 = param {index=0, type="i32[T]"} : i32[T]`}, "%1 param: is outside the body"},
	{"bodies", "logical.ir", []string{"%2 = rms_norm(%0) {eps=1e-05} : f32[S,8]", "%2 = rms_norm(%0) {eps=1e-05} : f32[S,8]\n    %4 = input {name=\"rows\"} : i32[S]"}, "body of %37: %4 input: has no place in the body"},
	{"bodies", "logical.ir", []string{"%2 = rms_norm(%0) {eps=1e-05} : f32[S,8]", "%2 = rms_norm(%0) {eps=1e-05} : f32[S,8] @device 3"}, "body of %37: %2 rms_norm: is on device 3, the fused op on -1"},
	{"bodies", "logical.ir", []string{"%3 = matmul(%2, %1) : f32[S,11]", "%3 = matmul(%2, %2) : f32[S,11]"}, "body of %37: %3 matmul: type is f32[S,11], operands and attributes give f32[S,S]"},

	{"types", "logical.ir", []string{"%28 = gather(%26, %27) : f32[T,2]", "%28 = gather(%26, %27) : f32[T,3]"}, "%28 gather: type is f32[T,3], operands and attributes give f32[T,2]"},
	{"types", "logical.ir", []string{"{k=2}", "{k=5}"}, "%27 topk: top 5 of 4 entries"},
	{"types", "logical.ir", []string{`%0 = param {index=0, type="f32[S,8]"} : f32[S,8]`, `%0 = param {index=0, type="f32[S.0,8]"} : f32[S.0,8]`, "%2 = rms_norm(%0) {eps=1e-05} : f32[S,8]", "%2 = rms_norm(%0) {eps=1e-05} : f32[S.0,8]", "%3 = matmul(%2, %1) : f32[S,11]", "%3 = matmul(%2, %1) : f32[S.0,11]"}, "%37 fused: body takes operand 0 as f32[S.0,8]"},
	{"types", "logical.ir", []string{"{total=4} : f32[T,8]", "{total=1000000} : f32[T,8]"}, "%34 combine: total is 1000000, want 1 to 4096"},
	{"types", "logical.ir", []string{"const {shape=[2], values=[1.0,0.01]} : f32[2]", "const {shape=[], values=[1.0]} : f32[]"}, "%12 rope: operand 2 is a scalar"},

	{"types", "logical.ir", []string{"%36 = take_rows", "%50 = matmul(%35, %22) : f32[T,T]\n  %36 = take_rows"}, "%50 matmul: type f32[T,T] has an extent of the step other than the rows"},

	{"element types", "logical.ir", []string{"%26 = matmul(%22, %23) : f32[T,4]", "%26 = matmul(%22, %23) : f32[T,4]\n  %50 = neg(%0) : f32[T]"}, "%50 neg: x is i32, want a floating-point type"},
	{"layers", "logical.ir", []string{"%28 = gather(%26, %27) : f32[T,2] @layer 0", "%28 = gather(%26, %27) : f32[T,2] @layer 1"}, "%28 gather: is in layer 1 of 1"},

	{"levels", "logical.ir", []string{"%28 = gather(%26, %27) : f32[T,2] @layer 0", "%28 = gather(%26, %27) : f32[T,2] @layer 0 @device 0"}, "%28 gather: is on device 0 for group -1 in a logical graph"},
	{"levels", "logical.ir", []string{"%35 = add(%22, %34)", "%50 = transfer(%22) {channel=0} : f32[T,8]\n  %35 = add(%50, %34)"}, "%50 transfer: is an operation of placed graphs"},
	{"levels", "logical.ir", []string{`name="layers.0.w1", shape=[4,6,8]`, `name="layers.0.w1", shape=[4,6,8], slice=[[0,4],[0,6],[0,8]]`}, `attribute "slice" is one of placed graphs`},
	{"levels", "logical.ir", []string{"{experts=[0,1,2,3], total=4} : f32[T,2,6]", "{experts=[0,1,3,2], total=4} : f32[T,2,6]"}, "holds experts [0 1 3 2] in a logical graph"},
	{"levels", "logical.ir", []string{`{dtype=f32, name="layers.0.w1", shape`, `{dtype=f32, experts=[0,1,2,3], name="layers.0.w1", shape`}, `attribute "experts" of a weight`},

	{"devices", "placed.ir", []string{"%18 = gather(%14, %16) : f32[T,2] @layer 0 @device 0", "%18 = gather(%15, %16) : f32[T,2] @layer 0 @device 0"}, "%18 gather: on device 0 reads operand 0, %15, on device 1"},
	{"devices", "placed.ir", []string{"%58 = take_rows(%56, %54) : f32[S.0,12] @device 0", "%58 = take_rows(%56, %54) : f32[S.0,12] @device 2"}, "%58 take_rows: is on device 2 of 2"},
	{"devices", "placed.ir", []string{"%58 = take_rows(%56, %54) : f32[S.0,12] @device 0", "%58 = take_rows(%56, %54) : f32[S.0,12]"}, "%58 take_rows: is on device -1 of 2"},

	{"groups", "placed.ir", []string{"%14 = matmul(%10, %12) : f32[T,4] @layer 0 @device 0", "%14 = matmul(%10, %12) : f32[T,4] @layer 0 @device 0 @group 2"}, "%14 matmul: is for token group 2 of 2"},
	{"groups", "placed.ir", []string{"%58 = take_rows(%56, %54) : f32[S.0,12] @device 0 @group 0", "%58 = take_rows(%56, %54) : f32[S.0,12] @device 0 @group 1"}, "%58 take_rows: has rows S.0 and is for token group 1"},

	{"weights", "placed.ir", []string{`%6 = weight {dtype=bf16, name="embed"`, `%6 = weight {dtype=bf16, name="embeds"`}, `%6 weight: no weight is called "embeds"`},
	{"weights", "logical.ir", []string{`dtype=f32, name="layers.0.router"`, `dtype=bf16, name="layers.0.router"`, `name="layers.0.router", shape=[4,8]} : f32`, `name="layers.0.router", shape=[4,8]} : bf16`}, `weight "layers.0.router" is f32, the node bf16`},
	{"weights", "logical.ir", []string{`name="layers.0.router", shape=[4,8]} : f32[4,8]`, `name="layers.0.router", shape=[5,8]} : f32[5,8]`, ": f32[T,4]", ": f32[T,5]", `slice(%13) {axis=1, hi=4, lo=0} : f32[T,5]`, `slice(%13) {axis=1, hi=4, lo=0} : f32[T,4]`, `slice(%13) {axis=1, hi=8, lo=4} : f32[T,5]`, `slice(%13) {axis=1, hi=8, lo=4} : f32[T,4]`}, `%23 weight: shape is [5 8]`},
	{"weights", "placed.ir", []string{`slice=[[0,8],[4,8]]`, `slice=[[0,8],[5,9]]`}, "%43 weight: slice [[0 8] [5 9]] is not within"},
	{"weights", "placed.ir", []string{`slice=[[0,8],[4,8]]`, `slice=[[0,8],[4,8],[0,1]]`}, "%43 weight: slice [[0 8] [4 8] [0 1]] has 3 axes"},
	{"weights", "placed.ir", []string{`experts=[0,2], name="w1"`, `experts=[0,4], name="w1"`}, "%22 weight: expert 4 is listed twice or is not one of the 4"},
	{"weights", "placed.ir", []string{`slice=[[0,4],[0,8],[0,8]]`, `slice=[[0,3],[0,8],[0,8]]`}, `%23 weight: experts [1 2 3] are held of weight "w1", which has 4, 3 of them in the slice`},

	{"resident", "logical.ir", []string{"%36 = take_rows(%35, %3) : f32[S,8]", "%36 = take_rows(%35, %3) : f32[S,8]\n  %50 = pack(%36, %36) {axis=1} : f32[S,16]"}, "%50 pack: operand 0, %36 take_rows, is not resident"},

	{"cache use", "logical.ir", []string{`cache="layers.0"`, `cache="layers.1"`}, `%19 kv_append: no cache is called "layers.1"`},
	{"cache use", "logical.ir", []string{`cache "layers.0" f32 heads 1`, `cache "layers.0" f32 heads 2`}, "%19 kv_append: keys f32[T,1,4] and values f32[T,1,4] do not fit"},
	{"cache use", "logical.ir", []string{`cache "layers.0" f32 heads 1`, `cache "layers.0" bf16 heads 1`}, "do not fit cache"},
	{"cache use", "logical.ir", []string{`value 4 window 16`, `value 4 window 12`}, `%20 attention: sees 16 positions (0: all), cache "layers.0" keeps 12`},
	{"cache use", "logical.ir", []string{", window=16}", "}"}, `%20 attention: sees 0 positions (0: all), cache "layers.0" keeps 16`},
	{"cache use", "logical.ir", []string{"%20 = attention(%12, %19,", "%50 = neg(%19) : f32[C,1,8] @layer 0\n  %20 = attention(%12, %50,"}, "%50 neg: operand 0, %19 kv_append, is a cache"},

	{"one append", "logical.ir", []string{"%20 = attention(%12, %19,", "%50 = kv_append(%18, %17, %2, %1) {cache=\"layers.0\"} : f32[C,1,8] @layer 0\n  %20 = attention(%12, %50,"}, `%50 kv_append: %19 also appends to cache "layers.0"`},

	{"channels", "placed.ir", []string{"%49 = all_reduce(%46, %47) {channel=2", "%49 = all_reduce(%46, %47) {channel=1"}, "%49 all_reduce: %29 on device 1 is in channel 1 too"},
	{"channels", "placed.ir", []string{"%11 = all_gather(%8, %9) {axis=0, channel=0} : bf16[T,8] @device 1", "%11 = all_gather(%8, %9) {axis=0, channel=1} : bf16[T,8] @device 1"}, "is in channel 1 with %11, which has another op"},

	{"partial sums", "placed.ir", []string{"%50 = own_rows(%48) {group=0} : f32[T.0,8]", "%60 = neg(%46) : f32[1,T,8] @device 0\n  %50 = own_rows(%48) {group=0} : f32[T.0,8]"}, "%60 neg: operand 0, %46 matmul_nodes, is a partial sum"},
	{"partial sums", "placed.ir", []string{"spans=[[0,1],[1,2]]", "spans=[[1,2],[0,1]]"}, "%48 all_reduce: operand 0, %46, holds spans [0 1] of 2 leaves, the list says [1 2] of 2"},
	{"partial sums", "placed.ir", []string{"leaf=1, leaves=2", "leaf=1, leaves=4", "{bounds=[0,4], leaf=0, leaves=2}", "{bounds=[0,4], leaf=0, leaves=4}", "leaves=2, spans", "leaves=4, spans"}, "leaf 2 of 4 has turns [r, n] []"},
	{"partial sums", "placed.ir", []string{"turns=[[0,1],[1,2],[0,1]]", "turns=[[0,1],[0,2],[0,1]]"}, "leaf 2 of 4 has turns [r, n] [[0 2] [0 2]]"},
}

func (b breach) graph(t *testing.T) *Graph {
	text := examples(t)[filepath.Join("testdata", b.file)]
	for i := 0; i < len(b.replace); i += 2 {
		if !strings.Contains(text, b.replace[i]) {
			t.Fatalf("%s: no %q in %s", b.rule, b.replace[i], b.file)
		}
		text = strings.ReplaceAll(text, b.replace[i], b.replace[i+1])
	}
	return parseText(t, text)
}

func TestVerifyFindsBreaches(t *testing.T) {
	broken := map[string]bool{}
	for _, b := range breaches {
		err := Verify(b.graph(t))
		if err == nil || !strings.Contains(err.Error(), b.want) {
			t.Errorf("%s %q: Verify = %v, want %q", b.rule, b.replace, err, b.want)
		}
		broken[b.rule] = true
	}
	for _, b := range builtBreaches {
		g := parseText(t, examples(t)[filepath.Join("testdata", "logical.ir")])
		b.change(g)
		if err := Verify(g); err == nil || !strings.Contains(err.Error(), b.want) {
			t.Errorf("%s: Verify = %v, want %q", b.rule, err, b.want)
		}
		broken[b.rule] = true
	}
	for _, r := range Rules() {
		if !broken[r.Name] {
			t.Errorf("no test breaks rule %q", r.Name)
		}
		if r.Doc == "" || (r.graph == nil) == (r.node == nil) {
			t.Errorf("rule %q lacks a description, or has not one check", r.Name)
		}
	}
}

// TestEveryRuleIsNeeded takes one rule away and checks that each graph that
// breaks it, and nothing else, then passes.
func TestEveryRuleIsNeeded(t *testing.T) {
	alone := map[string]bool{}
	for _, b := range breaches {
		g := b.graph(t)
		v := &verifier{level: g.Level}
		for _, r := range Rules() {
			if r.Name != b.rule {
				v.rules = append(v.rules, r)
			}
		}
		if v.graph(g, nil); len(v.problems) == 0 {
			alone[b.rule] = true
		}
	}
	for _, r := range Rules() {
		// What these find makes the later stages unable to look at a graph.
		if form := r.stage == anything || r.Name == "types" || r.Name == "bodies"; !form && !alone[r.Name] {
			t.Errorf("no graph breaks rule %q alone", r.Name)
		}
	}
}

// builtBreaches are graphs that cannot be written as text.
var builtBreaches = []struct {
	rule   string
	change func(*Graph)
	want   string
}{
	{"ids", func(g *Graph) { g.Nodes[3].id = 2 }, "%2 input: ID is used twice"},
	{"operations", func(g *Graph) { g.Nodes[9].Op = nil }, "%9: op is not in the op table"},
	{"operations", func(g *Graph) { g.Nodes[9].Op = &OpInfo{Name: "rms_norm"} }, "%9 rms_norm: op is not in the op table"},
	{"operations", func(g *Graph) { g.Nodes[10].Args[1] = nil }, "%10 matmul: operand 1 is missing"},
	{"operations", func(g *Graph) { a := g.Nodes[14].Attrs; a[0], a[1] = a[1], a[0] }, `%14 slice: attribute "axis" is given twice or out of order`},
	{"operations", func(g *Graph) { g.Nodes[37].Attrs = g.Nodes[37].Attrs.With("body", (*Graph)(nil)) }, `%37 fused: attribute "body" has no graph`},
	{"order", func(g *Graph) { g.Nodes[10].Args[1] = &Node{id: 77, Op: Op("input")} }, "%10 matmul: operand %77 is not in the graph"},
	{"outputs", func(g *Graph) { g.Outputs[0].Value = nil }, `output 0 "logits" is nothing, which is not in the graph`},
	{"types", func(g *Graph) { g.Nodes[27].Attrs = g.Nodes[27].Attrs.With("k", 2.0) }, `%27 topk: attribute "k" is not of kind int`},
	{"cache table", func(g *Graph) { g.Caches[0].Name = "" }, `cache "" has no name`},
}

func TestVerifyLimitsProblems(t *testing.T) {
	g := parseText(t, examples(t)[filepath.Join("testdata", "logical.ir")])
	for _, n := range g.Nodes {
		n.Type.DType = tensor.Invalid
	}
	err := Verify(g)
	if err == nil {
		t.Fatal("Verify accepts nodes without types")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxProblems+1 || lines[maxProblems] != "and 22 more" {
		t.Errorf("Verify lists %d problems, the last %q", len(lines), lines[len(lines)-1])
	}
}

func TestTopoOrder(t *testing.T) {
	for file, text := range examples(t) {
		g := parseText(t, text)
		sorted, err := TopoOrder(g)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range sorted {
			if n != g.Nodes[i] {
				t.Fatalf("%s: position %d of a sorted graph is %s, want %s", file, i, label(n), label(g.Nodes[i]))
			}
		}
		for i := range g.Nodes[:len(g.Nodes)/2] { // reverse
			j := len(g.Nodes) - 1 - i
			g.Nodes[i], g.Nodes[j] = g.Nodes[j], g.Nodes[i]
		}
		if g.Nodes, err = TopoOrder(g); err != nil {
			t.Fatal(err)
		}
		if err := Verify(g); err != nil {
			t.Errorf("%s reversed and sorted: %v", file, err)
		}
	}
}
