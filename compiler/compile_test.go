package compiler

import (
	"context"
	"testing"

	"moec/ir"
	"moec/planner/plan"
	"moec/runtime/generate"
	"moec/runtime/host"
	"moec/runtime/weights"
)

// TestUnreadWeights compiles a description that declares more than it uses.
// The plan keeps none of it, and later passes leave the logical graph alone.
func TestUnreadWeights(t *testing.T) {
	const src = `model spare
type act = f32 from dtype
weight embedding: [7, 4] = "embedding"
x = embed(embedding)
for layer in 2 at "{layer}" {
  weight spare: [4, 5] = "spare"
  weight w: [4, 4] = "w"
  x = x + linear(x, w)
}
output logits = linear(x, embedding)
`
	r, err := Compile("spare.moe", []byte(src), Options{Off: map[string]bool{"dce": true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := ir.Verify(r.Logical); err != nil {
		t.Error(err)
	}
	if want := int64(7*4 + 2*4*4); r.Plan.Model.Params != want || r.Plan.Model.Active != want {
		t.Errorf("%d parameters, %d of them active, want %d", r.Plan.Model.Params, r.Plan.Model.Active, want)
	}
	if len(r.Logical.Weights) != 5 || len(r.Plan.Weights) != 2 {
		t.Errorf("%d weights, of which the plan keeps %d, want 5 and 2", len(r.Logical.Weights), len(r.Plan.Weights))
	}
}

// TestTwoChoicesInALayer sends tokens through four experts, then through six
// others, in each layer.
func TestTwoChoicesInALayer(t *testing.T) {
	const src = `model two
type act = f32 from dtype
block expert(x: [tokens, 4]) -> [tokens, 4] {
  weight up: [8, 4] = "up"
  weight down: [4, 8] = "down"
  return linear(silu(linear(x, up)), down)
}
block moe(x: [tokens, 4], n: size) -> [tokens, 4] {
  weight router: [n, 4] = "router"
  scores = linear(x, router)
  chosen = topk(scores, 2)
  return route(x, chosen, softmax(gather(scores, chosen))) through expert at "{expert}"
}
weight embedding: [7, 4] = "embedding"
x = embed(embedding)
for layer in 2 at "{layer}" {
  x = x + moe(x, 4) at "first"
  x = x + moe(x, 6) at "second"
}
output logits = linear(x, embedding)
`
	var want [][]float32
	for _, strategy := range []string{"tp1", "tp2", "ep2", "dp2", "adp2", "tp4", "ep4"} {
		r, err := Compile("two.moe", []byte(src), Options{Limits: plan.Limits{Context: 16}, Place: named(strategy, int(strategy[len(strategy)-1]-'0'))})
		if err != nil {
			t.Fatalf("%s: %v", strategy, err)
		}
		program, err := host.Load(context.Background(), r.Plan, weights.Random{Seed: 3}, host.Options{Poison: true})
		if err != nil {
			t.Fatal(err)
		}
		got, err := generate.Logits(context.Background(), program, r.Plan, [][]int{{1, 2, 3, 4}, {5, 6}})
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = got
		}
		sameBits(t, got, want)
	}
}
