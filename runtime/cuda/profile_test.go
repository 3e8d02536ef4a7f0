package cuda

import (
	"context"
	"slices"
	"testing"
	"time"

	"moec/codegen"
)

// TestProfile takes the times of a step of two kernels in two layers.
func TestProfile(t *testing.T) {
	s, _ := testStep()
	g := &gpu{idle: true}
	p := testProgram(g)
	q := &p.devices[0].programs[0]
	first := q.turns[0].calls[0]
	first.at, first.layer = codegen.At{Block: "layers", Step: 4}, 7
	nothing := first
	nothing.launch = &codegen.Launch{PerBlock: 1} // no items
	second := first
	second.op, second.layer = "other", 8
	q.turns[0].calls = []call{first, nothing, second}
	took, err := p.Profile(context.Background(), s, false)
	want := []Took{
		{Block: "layers", Layer: 7, Step: 4, Op: "step", End: time.Millisecond},
		{Block: "layers", Layer: 8, Step: 4, Op: "other", Start: time.Millisecond, End: 2 * time.Millisecond},
	}
	if err != nil || !slices.Equal(took, want) {
		t.Errorf("have %+v, %v; want %+v", took, err, want)
	}
	if left := len(g.events); left != 1 { // of Sync
		t.Errorf("%d events are left", left)
	}
}
