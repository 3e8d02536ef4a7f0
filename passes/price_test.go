package passes

import (
	"testing"

	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/tensor"
)

func machineOf(t *testing.T, name string) *machine.Machine {
	t.Helper()
	m, err := machine.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestSaving checks where fast numerics send less: experts divided along their
// features send a row for each token, not for each slot.
func TestSaving(t *testing.T) {
	g := segmented(t, mixtral(t, tensor.BF16, small))
	for strategy, saves := range map[string]bool{"tp": true, "ep": false} {
		p, err := Named(g, strategy, 4)
		if err != nil {
			t.Fatal(err)
		}
		invariant, fast, err := Saving(g, p)
		if err != nil || invariant <= 0 || (fast < invariant) != saves || fast > invariant {
			t.Errorf("%s: %d bytes a token, fast %d, %v", strategy, invariant, fast, err)
		}
	}
}

// TestPriceWhole prices a graph as one piece: steps of more tokens take longer,
// and dividing a model divides what each device keeps.
func TestPriceWhole(t *testing.T) {
	g := segmented(t, mixtral(t, tensor.BF16, small))
	m := machineOf(t, "h200x4")
	before := len(g.Nodes)
	loads := []cost.Load{savingLoad, {Sequences: 1, Tokens: 512, Rows: 1, Context: 512}}
	kept := map[string]int64{}
	for _, strategy := range []string{"tp", "dp"} {
		p, err := Named(g, strategy, 4)
		if err != nil {
			t.Fatal(err)
		}
		costs, resident, err := PriceWhole(g, m, p, loads, 100)
		if err != nil || len(costs) != 2 || len(resident) != 4 || costs[0].Total() <= 0 || costs[1].Total() <= costs[0].Total() {
			t.Fatalf("%s: %+v, %+v, %v", strategy, costs, resident, err)
		}
		kept[strategy] = resident[0].Weights
		if resident[0].Caches <= 0 {
			t.Errorf("%s: no KV entries", strategy)
		}
	}
	if kept["tp"]*2 >= kept["dp"] {
		t.Errorf("a device keeps %d bytes of weights with tp, %d with dp", kept["tp"], kept["dp"])
	}
	if len(g.Nodes) != before {
		t.Error("pricing changes the graph")
	}
}
