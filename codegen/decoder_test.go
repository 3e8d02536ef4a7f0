package codegen

import (
	"slices"
	"strings"
	"testing"

	"moec/ir"
	"moec/ir/tensor"
	"moec/planner/plan"
)

// decoderPlan is examples/mixtral.moe compiled for one device with --strategy
// tp --sequences 64 --tokens 64 --context 1024 and --set layers=3, hidden=2048,
// ffn=2048, heads=16, kv_heads=4, head_dim=128, vocab=1024.
func decoderPlan(t *testing.T) *plan.Plan {
	t.Helper()
	p, err := plan.Read("testdata/decoder.plan")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhole(t *testing.T) {
	p := decoderPlan(t)
	k, err := Choose(p, "sm_90a")
	if err != nil {
		t.Fatal(err)
	}
	if len(k.Wholes) != 1 || len(k.Layouts) != 5 {
		t.Fatalf("%d whole programs and %d layouts, need 1 and 5", len(k.Wholes), len(k.Layouts))
	}
	w := k.Wholes[0]
	if have, want := strings.Join(w.Params, " "), "bf16 3 2048 16 4 128 2048 8 2 1024 16 256 8 8"; have != want || w.Tokens != 64 {
		t.Errorf("%s for %d tokens, need %s for 64", have, w.Tokens, want)
	}
	p.Kernels = []plan.Kernels{k}
	if err := plan.Verify(p); err != nil {
		t.Error(err)
	}
	code, err := Generate(p, k)
	if err != nil {
		t.Fatal(err)
	}
	whole := code.Wholes["all"]
	if whole == nil || code.Units[whole.Unit].File != "decode.cuh" || whole.Shared != 227<<10 || whole.Counter >= whole.Space {
		t.Fatalf("whole %+v", whole)
	}
	bytes := 0
	for _, f := range whole.Fields {
		switch f.Kind {
		case WeightsField, CachesField:
			bytes += 16
		case ConstantField:
			bytes += len(f.Bytes)
		case CountField:
			bytes += 4
		default:
			bytes += 8
		}
	}
	// 6 pointers to what a step brings, 8 residents, 4 pointers, 14 parts of the
	// kernel's memory, a double, a float and 3 integers.
	if want := 8*6 + 16*8 + 8*4 + 8*14 + 8 + 4*4; bytes != want {
		t.Errorf("struct of %d bytes, need %d", bytes, want)
	}
	for _, c := range k.Choices {
		if tiled := slices.Contains(c.Params, "tiles"); tiled && c.Kernel != "matmul" && c.Kernel != "expert_matmul" {
			t.Errorf("%s reads tiles", c.Kernel)
		}
	}
}

// weightType gives a weight outside the layers another type.
func weightType(p *plan.Plan, name string, d tensor.DType) {
	for i := range p.Weights {
		if p.Weights[i].Name == name {
			p.Weights[i].DType = d
		}
	}
}

// scale sets the factor of scores in all layers.
func scale(p *plan.Plan, by float64) {
	for b := range p.Programs[0].Blocks {
		for i := range p.Programs[0].Blocks[b].Queues[0].Steps {
			if s := &p.Programs[0].Blocks[b].Queues[0].Steps[i]; s.Op == "attention" {
				s.Attrs = ir.MakeAttrs(append(slices.DeleteFunc(slices.Clone(s.Attrs), func(a ir.Attr) bool { return a.Name == "scale" }), ir.Attr{Name: "scale", Value: by})...)
			}
		}
	}
}

// TestWholeElsewhere checks programs and architectures that the kernel does not
// execute: they run step by step, from weights in rows.
func TestWholeElsewhere(t *testing.T) {
	step := func(p *plan.Plan, op string) *plan.Step {
		for i := range p.Programs[0].Blocks[1].Queues[0].Steps {
			s := &p.Programs[0].Blocks[1].Queues[0].Steps[i]
			if s.Op == op {
				return s
			}
			for j := range s.Body {
				if s.Body[j].Op == op {
					return &s.Body[j]
				}
			}
		}
		t.Fatalf("no step %s", op)
		return nil
	}
	set := func(s *plan.Step, name string, value any) {
		s.Attrs = ir.MakeAttrs(append(slices.DeleteFunc(slices.Clone(s.Attrs), func(a ir.Attr) bool { return a.Name == name }), ir.Attr{Name: name, Value: value})...)
	}
	cases := []struct {
		name, arch string
		change     func(p *plan.Plan)
		want       string
	}{
		{"other architecture", "sm_80", func(*plan.Plan) {}, ""},
		{"window", "sm_90a", func(p *plan.Plan) { set(step(p, "attention"), "window", 512) }, "attention has a window"},
		{"interleaved", "sm_90a", func(p *plan.Plan) { set(step(p, "rope"), "style", "interleaved") }, "another style"},
		{"another activation", "sm_90a", func(p *plan.Plan) { step(p, "silu").Op = "gelu" }, "silu is wanted"},
		{"another order", "sm_90a", func(p *plan.Plan) {
			s := step(p, "mul")
			s.Args[0], s.Args[1] = s.Args[1], s.Args[0]
		}, "operand 0 is"},
		{"odd segments", "sm_90a", func(p *plan.Plan) { set(step(p, "expert_matmul"), "bounds", []int{0, 100, 2048}) }, "sums are cut"},
		{"two devices", "sm_90a", func(p *plan.Plan) { p.Memory = append(p.Memory, p.Memory[0]) }, "for 2 devices"},
		{"a head of another type", "sm_90a", func(p *plan.Plan) { weightType(p, "unembed", tensor.F32) }, "weight unembed is of type f32"},
		{"a last norm of another type", "sm_90a", func(p *plan.Plan) { weightType(p, "norm", tensor.F16) }, "is of type f16"},
		{"a negative scale", "sm_90a", func(p *plan.Plan) { scale(p, -0.1) }, "positive number"},
		{"some experts", "sm_90a", func(p *plan.Plan) { set(step(p, "expert_matmul"), "experts", []int{0, 2}) }, "elsewhere"},
	}
	for _, tc := range cases {
		p := decoderPlan(t)
		tc.change(p)
		k, err := Choose(p, tc.arch)
		if err != nil || len(k.Wholes) != 0 || len(k.Layouts) != 0 {
			t.Errorf("%s: %v, %d whole programs", tc.name, err, len(k.Wholes))
		}
		if _, err := matchDecoder(p, &p.Programs[0]); tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: error %v, need %q", tc.name, err, tc.want)
		}
	}
}
