package machine_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"moec/ir/cost"
	"moec/ir/machine"
)

// TestAllReduceAsMeasured prices sums over two devices with nothing but the
// machine's figures and compares with measurements of one round and of two.
func TestAllReduceAsMeasured(t *testing.T) {
	text, err := os.ReadFile("testdata/measured.json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct {
		AllReduce map[string][]struct {
			Bytes int64
			US    float64
			How   string
		} `json:"all_reduce"`
	}
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	const most = 0.15
	for name, list := range table.AllReduce {
		m, err := machine.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		pricer := cost.NewPricer(m, cost.Load{Sequences: 1, Tokens: 1, Rows: 1, Context: 1}, 1)
		for _, p := range list {
			c := pricer.Exchange("all_reduce", 0, []cost.Part{{Device: 0, Bytes: p.Bytes}, {Device: 1, Bytes: p.Bytes}}, p.Bytes)
			price := float64(c.Total()) / 1e6
			off := price/p.US - 1
			t.Logf("%s, %9d bytes, %s: %7.2f us, measured %7.2f: %+.0f %%", name, p.Bytes, p.How, price, p.US, 100*off)
			if math.Abs(off) > most {
				t.Errorf("%s: a sum of %d bytes is %.2f us, measured %.2f", name, p.Bytes, price, p.US)
			}
		}
	}
	if len(table.AllReduce["h200x2"]) < 8 {
		t.Error("the table is not there")
	}
}
