package moegen

import (
	"testing"

	"moec/dsl"
	"moec/ir"
)

// TestProgramsAreValid builds many descriptions, and writes each twice.
func TestProgramsAreValid(t *testing.T) {
	ops := map[string]int{}
	for seed := range uint64(200) {
		text := Program(seed)
		if again := Program(seed); again != text {
			t.Fatalf("seed %d gives two texts", seed)
		}
		f, list := dsl.Parse("random.moe", []byte(text))
		if err := list.Err(); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		m, list := dsl.Build(f, dsl.Env{})
		if err := list.Err(); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		if err := ir.Verify(m.Graph); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		for _, n := range m.Graph.Nodes {
			ops[n.Op.Name]++
		}
	}
	for _, op := range []string{"attention", "expert_matmul", "expert_rows", "combine", "layer_norm", "rope", "slice", "concat", "broadcast", "tanh", "softplus", "gelu_tanh", "topk"} {
		if ops[op] < 10 {
			t.Errorf("only %d operations are %s", ops[op], op)
		}
	}
}
