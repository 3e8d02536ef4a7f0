package codegen

import (
	"os"
	"slices"
	"strings"
	"testing"

	"moec/codegen/codegentest"
	"moec/codegen/kernels"
	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// hostOnly are ops of the table that no step has, or that are done without a
// kernel: residents, reshape, which is another type for the same memory, fused,
// whose body runs, and send, which is a matter between host threads.
var hostOnly = []string{"input", "const", "weight", "param", "pack", "reshape", "fused", "send"}

// TestEveryOpHasAKernel compares the op table, the recipes, the kernel table
// and the cases that the hardware tests run.
func TestEveryOpHasAKernel(t *testing.T) {
	names := []string{"send", "copy"}
	for _, o := range ir.Ops() {
		names = append(names, o.Name)
	}
	tested := make(map[string]bool)
	for _, c := range codegentest.Cases() {
		tested[c.Op] = true
	}
	for _, name := range names {
		executed := slices.ContainsFunc(kernels.Table(), func(k kernels.Kernel) bool { return slices.Contains(k.Ops, name) })
		want := !slices.Contains(hostOnly, name)
		if executed != want || (recipes[name] != nil) != want || tested[name] != want {
			t.Errorf("op %s: kernel %v, recipe %v, case %v, want %v", name, executed, recipes[name] != nil, tested[name], want)
		}
	}
	for name := range recipes {
		if plan.OpInfo(name) == nil {
			t.Errorf("recipe %s is for no op", name)
		}
	}
}

// TestRecipesUseTheirKernel checks that a recipe names a kernel whose row
// lists the op.
func TestRecipesUseTheirKernel(t *testing.T) {
	p, err := codegentest.Plan(codegentest.Cases())
	if err != nil {
		t.Fatal(err)
	}
	err = sites(p, func(s *site) error {
		u, err := s.use()
		if err == nil && !slices.Contains(u.kernel.Ops, s.Op) {
			t.Errorf("op %s uses kernel %s, whose row does not list it", s.Op, u.kernel.Name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// gated is a small plan with a fused step.
func gated() *plan.Plan {
	t := func(d tensor.DType) tensor.Type { return tensor.Of(d, tensor.S(tensor.Tokens), tensor.N(6)) }
	ref := func(name string) plan.Ref { return plan.Ref{Kind: plan.BufferRef, Name: name} }
	buffers := []plan.Buffer{{Name: "x", Type: t(tensor.BF16)}, {Name: "y", Type: t(tensor.BF16)}, {Name: "a", Type: t(tensor.F32)}, {Name: "b", Type: t(tensor.F32)},
		{Name: "gated", Type: t(tensor.BF16)}, {Name: "out", Type: tensor.Of(tensor.F32, tensor.S(tensor.Tokens), tensor.N(3))}}
	for i := range buffers {
		buffers[i].Offset, buffers[i].Bytes = int64(256*i), 256
	}
	bounds := ir.Attr{Name: "bounds", Value: []int{0, 2, 4, 6}}
	steps := []plan.Step{
		{Op: "fused", Out: "gated", Args: []plan.Ref{ref("x"), ref("y")}, Body: []plan.Step{
			{Op: "silu", Out: "a", Args: []plan.Ref{ref("x")}},
			{Op: "mul", Out: "b", Args: []plan.Ref{ref("a"), ref("y")}},
			{Op: "round", Out: "gated", Args: []plan.Ref{ref("b")}, Attrs: ir.MakeAttrs(ir.Attr{Name: "dtype", Value: tensor.BF16})},
		}},
		{Op: "send", Args: []plan.Ref{ref("gated")}, Attrs: ir.MakeAttrs(ir.Attr{Name: "channel", Value: 0})},
		{Op: "matmul", Out: "out", Args: []plan.Ref{ref("gated"), {Kind: plan.WeightRef, Name: "layers.{layer}.w"}}, Attrs: ir.MakeAttrs(bounds)},
	}
	return &plan.Plan{
		Limits:  plan.Limits{Tokens: 4, Rows: 4, Sequences: 1, Context: 4, Page: 4, Pages: 1},
		Weights: []plan.Weight{{Name: "layers.{layer}.w", Layers: plan.Range{First: 0, Last: 1}, DType: tensor.BF16, Shape: []int{3, 6}, Offset: 2048, Stride: 256}},
		Memory:  []plan.Memory{{Total: 4096}},
		Programs: []plan.Program{{Name: "main", Runs: []plan.Run{{Block: "layer", Layers: plan.Range{First: 0, Last: 1}}},
			Blocks: []plan.Block{{Name: "layer", Buffers: buffers, Queues: []plan.Queue{{Steps: steps}}}}}},
	}
}

func TestChoose(t *testing.T) {
	k, err := Choose(gated(), "sm_90a")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"0 1 silu bf16", "0 2 mul f32 bf16 2", "0 3 round f32 bf16", "2 0 matmul bf16 bf16 rows 3 6 3 1"}
	var got []string
	for _, c := range k.Choices {
		got = append(got, strings.TrimSpace(strings.Join([]string{text(c.Step), text(c.Body), c.Kernel, strings.Join(c.Params, " ")}, " ")))
	}
	if !slices.Equal(got, want) || k.Backend != "cuda" || k.Arch != "sm_90a" {
		t.Errorf("%s %s\nhave %q\nneed %q", k.Backend, k.Arch, got, want)
	}
}

// TestGenerate compares the source with the golden one.
func TestGenerate(t *testing.T) {
	p := gated()
	k, err := Choose(p, "sm_80")
	if err != nil {
		t.Fatal(err)
	}
	code, err := Generate(p, k)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, u := range code.Units {
		all.WriteString("// " + u.File + ": " + strings.Join(u.Symbols, " ") + "\n" + u.Source + "\n")
	}
	const golden = "testdata/gated.cu"
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if all.String() != string(want) {
		t.Errorf("have\n%s\nneed\n%s", all.String(), want)
	}
}

func TestLaunch(t *testing.T) {
	p := gated()
	k, _ := Choose(p, "sm_80")
	code, err := Generate(p, k)
	if err != nil {
		t.Fatal(err)
	}
	l := code.Launches[At{"main", "layer", 0, 2, 0}]
	tokens := func(n int) tensor.Bounds { return func(tensor.Sym) int { return n } }
	if l == nil || l.Symbol != "matmul_bf16_bf16_rows_3_6_3_1" || code.Units[l.Unit].File != "matmul.cuh" || l.Threads != 256 {
		t.Fatalf("launch %+v", l)
	}
	// 8 warps a block, 3 products a token.
	for tokens_, blocks := range map[int]int{0: 0, 1: 1, 3: 2, 4: 2} {
		if got := l.Blocks(tokens(tokens_)); got != blocks {
			t.Errorf("%d tokens: %d blocks, want %d", tokens_, got, blocks)
		}
	}
	kinds := []ArgKind{Result, Operand, Operand, Count, Constant}
	for i, a := range l.Args {
		if a.Kind != kinds[i] {
			t.Errorf("argument %d is of kind %d, want %d", i, a.Kind, kinds[i])
		}
	}
	if cut := l.Args[4].Bytes; string(cut) != "\x00\x00\x00\x00\x02\x00\x00\x00\x04\x00\x00\x00\x06\x00\x00\x00"+"\x00\x00\x00\x00\x03\x00\x00\x00" {
		t.Errorf("segments %q", cut)
	}
}

// TestGenerateRefuses checks sections that do not fit their plan.
func TestGenerateRefuses(t *testing.T) {
	cases := []struct {
		name   string
		change func(*plan.Kernels)
		want   string
	}{
		{"other kernel", func(k *plan.Kernels) { k.Choices[0].Kernel = "gelu" }, "names kernel gelu<bf16>, this moec runs silu<bf16>"},
		{"other arguments", func(k *plan.Kernels) { k.Choices[3].Params[3] = "7" }, "step 2 (matmul): the plan names kernel matmul<bf16 bf16 rows 7 6 3 1>"},
		{"missing", func(k *plan.Kernels) { k.Choices = k.Choices[1:] }, "operation 0 of its body (silu): the plan names kernel none"},
		{"too many", func(k *plan.Kernels) {
			k.Choices = append(k.Choices, plan.Choice{Program: "main", Block: "layer", Step: 1, Kernel: "copy"})
		}, "names kernels for 5 steps, it has 4"},
	}
	for _, tc := range cases {
		p := gated()
		k, err := Choose(p, "sm_80")
		if err != nil {
			t.Fatal(err)
		}
		tc.change(&k)
		if _, err := Generate(p, k); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, need %q", tc.name, err, tc.want)
		}
	}
}

func TestSection(t *testing.T) {
	p := gated()
	k, err := Section(p, "sm_90")
	if err != nil || k.Arch != "sm_90a" || len(k.Choices) != 4 {
		t.Fatalf("%v, %v", k, err)
	}
	p.Kernels = []plan.Kernels{{Backend: "other", Arch: "sm_90"}, k}
	if again, err := Section(p, "sm_90"); err != nil || again.Arch != "sm_90a" {
		t.Errorf("%v, %v", again, err)
	}
	want := `the plan has kernels for sm_90a, the device is sm_80; choose some for it with "moec kernels PLAN --arch sm_80"`
	if _, err := Section(p, "sm_80"); err == nil || err.Error() != want {
		t.Errorf("error %v, need %q", err, want)
	}
}

func TestRunsOn(t *testing.T) {
	cases := []struct {
		arch, device string
		want         bool
	}{
		{"sm_90a", "sm_90", true}, {"sm_90", "sm_90", true}, {"sm_90a", "sm_100", false}, {"sm_80", "sm_86", true}, {"sm_86", "sm_80", false},
		{"sm_80", "sm_90", false}, {"sm_100", "sm_103", true}, {"sm_75", "sm_80", false}, {"", "sm_80", false},
	}
	for _, tc := range cases {
		if got := RunsOn(tc.arch, tc.device); got != tc.want {
			t.Errorf("%s on %s: %v", tc.arch, tc.device, got)
		}
	}
}

func TestAttentionChunk(t *testing.T) {
	p, err := codegentest.Plan([]codegentest.Case{{Op: "attention", Args: []string{"f32[T,4,6]", "f32[C,2,11]", "i32[T]", "i32[T]"},
		Attrs: []ir.Attr{{Name: "scale", Value: 1.0}, {Name: "group", Value: 2}, {Name: "chunk", Value: 8192}}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Choose(p, "sm_80"); err == nil || !strings.Contains(err.Error(), "needs 66072 bytes of shared memory, a block has 49152; use smaller chunks") {
		t.Errorf("error %v", err)
	}
}
