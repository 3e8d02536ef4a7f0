package main

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"moec/ir/routing"
)

// TestRecordedRouting reads what a run recorded as the placement search does.
func TestRecordedRouting(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace.json")
	var out, errs bytes.Buffer
	args := []string{"run", "../../examples/mixtral.moe", "--checkpoint", "../../examples/tiny-mixtral", "--prompt", "First Citizen:", "--prompt", "ROMEO:", "-n", "12", "--ignore-eos", "--record-routing", file}
	if code := run(context.Background(), args, strings.NewReader(""), &out, &errs); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &errs)
	}
	shapes := slices.Repeat([]routing.Shape{{Experts: 8, Slots: 2}}, 4)
	s, err := routing.Parse(file, shapes)
	if err != nil {
		t.Fatal(err)
	}
	tokens := len(s.Sample()[0]) / 2
	for l := range s.Layers {
		var sum, pairs int64
		for e, n := range s.Layers[l].Weight {
			sum += n
			for _, p := range s.Layers[l].Pairs[e] {
				pairs += p
			}
		}
		if sum != int64(2*tokens) || pairs != sum {
			t.Errorf("layer %d: %d choices and %d pairs of %d tokens", l, sum, pairs, tokens)
		}
	}
	if tokens < 2*11+2 {
		t.Errorf("%d tokens recorded", tokens)
	}
	if _, err := routing.Parse(file, shapes[:3]); err == nil || !strings.Contains(err.Error(), "the model has 3 layers with experts, the trace has 4") {
		t.Errorf("read for a model of 3 layers: %v", err)
	}
}
