package compiler

import (
	"testing"

	"moec/ir"
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
