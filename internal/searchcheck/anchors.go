package main

import (
	"fmt"
	"slices"
	"strings"

	"moec/ir/cost"
	"moec/ir/machine"
	"moec/ir/routing"
	"moec/passes"
)

// anchor is a measured time of the feed-forward part of one Mixtral 8x7B layer
// in bf16 on an H200: the kernels of the slowest of four devices, without
// exchanges. Times in ms are from the tables that NVIDIA's aiconfigurator
// carries (systems/data/h200_sxm, vLLM 0.19.0 and TensorRT-LLM 1.3.0rc20).
type anchor struct {
	kernels string
	tokens  int
	skew    float64 // 0: balanced; else a power law
	took    map[string]float64
}

var anchors = []anchor{
	{"vLLM", 1, 0, map[string]float64{"tp4": .0605, "ep4": .1294}}, {"vLLM", 1, 1.2, map[string]float64{"tp4": .0613, "ep4": .1408}},
	{"vLLM", 8, 0, map[string]float64{"tp4": .1868, "ep4": .2008}}, {"vLLM", 8, 1.2, map[string]float64{"tp4": .1874, "ep4": .1994}},
	{"vLLM", 16, 0, map[string]float64{"tp4": .2026, "ep4": .2018}}, {"vLLM", 16, 1.2, map[string]float64{"tp4": .2000, "ep4": .1973}},
	{"vLLM", 64, 0, map[string]float64{"tp4": .1929, "ep4": .2215}}, {"vLLM", 64, 1.2, map[string]float64{"tp4": .1917, "ep4": .2607}},
	{"vLLM", 256, 0, map[string]float64{"tp4": .2191, "ep4": .3125}}, {"vLLM", 256, 1.2, map[string]float64{"tp4": .2669, "ep4": .4324}},
	{"vLLM", 512, 0, map[string]float64{"tp4": .2302, "ep4": .4094}}, {"vLLM", 512, 1.2, map[string]float64{"tp4": .2770, "ep4": .5963}},
	{"vLLM", 2048, 0, map[string]float64{"tp4": .6329, "ep4": .8152}}, {"vLLM", 2048, 1.2, map[string]float64{"tp4": .7183, "ep4": 1.5454}},
	{"vLLM", 8192, 0, map[string]float64{"tp4": 2.536, "ep4": 3.188}}, {"vLLM", 8192, 1.2, map[string]float64{"tp4": 2.465, "ep4": 6.444}},
	{"vLLM", 16384, 0, map[string]float64{"tp4": 5.365, "ep4": 6.785}}, {"vLLM", 16384, 1.2, map[string]float64{"tp4": 5.473, "ep4": 14.457}},
	{"TensorRT-LLM", 512, 0, map[string]float64{"tp4": .232, "ep4": .236}}, {"TensorRT-LLM", 512, 1.2, map[string]float64{"tp4": .298, "ep4": .404}},
	{"TensorRT-LLM", 8192, 0, map[string]float64{"tp4": 1.898, "ep4": 1.782, "tp2ep2": 1.808}}, {"TensorRT-LLM", 8192, 1.2, map[string]float64{"tp4": 1.978, "ep4": 4.103, "tp2ep2": 2.535}},
}

// apart is by how much two times must differ to be ranked.
const apart = 1.05

func (c *check) anchors() error {
	o, err := c.outline("mixtral", nil)
	if err != nil {
		return err
	}
	m, err := machine.Lookup("h200x4")
	if err != nil {
		return err
	}
	fmt.Printf("  %-13s %7s %5s  measured ms (predicted ms) of the slowest device\n", "kernels", "tokens", "skew")
	right, wrong, ties := 0, 0, 0
	for _, a := range anchors {
		predicted := make(map[string]float64)
		names := []string{"tp4", "ep4", "tp2ep2"}
		names = slices.DeleteFunc(names, func(n string) bool { return a.took[n] == 0 })
		fmt.Printf("  %-13s %7d %5.1f ", a.kernels, a.tokens, a.skew)
		for _, n := range names {
			if predicted[n], err = expertsTime(o, m, n, a); err != nil {
				return err
			}
			fmt.Printf("  %s %.4f (%.4f)", n, a.took[n], predicted[n])
		}
		for i, x := range names {
			for _, y := range names[i+1:] {
				measured, ours := a.took[x]/a.took[y], predicted[x]/predicted[y]
				switch {
				case measured < apart && measured > 1/apart:
					continue
				case ours < 1.02 && ours > 0.98:
					ties++
					fmt.Printf("  %s, %s predicted equal", x, y)
				case (measured < 1) == (ours < 1):
					right++
				default:
					wrong++
					fmt.Printf("  %s, %s predicted the other way", x, y)
				}
			}
		}
		fmt.Println()
	}
	fmt.Printf("  of pairs more than 5 %% apart: %d ranked as measured, %d predicted equal, %d the other way\n", right, ties, wrong)
	fmt.Println(strings.TrimSpace(reasons))
	return nil
}

// reasons says why predictions differ.
const reasons = `
  Predicted equal: with tokens spread evenly, a device reads the same bytes and
  does the same arithmetic under all of them, so the machine's figures cannot
  tell them apart. The kernels measured can: vLLM's are slower on whole experts
  with few tokens each than on quarters of all experts, TensorRT-LLM's narrow
  shares at 8,192 tokens use the tensor cores 6 % less well. A machine file with
  measurements of one's own kernels (moec calibrate) can say so; data sheets
  cannot.
`

// expertsTime is the mean over batches of what the experts of a layer take on
// the slowest device, in ms.
func expertsTime(o *passes.Outline, m *machine.Machine, strategy string, a anchor) (float64, error) {
	p, err := passes.NamedFor(o.Summary, strategy, m.Devices)
	if err != nil {
		return 0, err
	}
	const layer = 5
	placed, err := o.Place(layer+1, p, nil)
	if err != nil {
		return 0, err
	}
	pricer := cost.NewPricer(m, cost.Load{Sequences: a.tokens, Tokens: a.tokens, Rows: a.tokens, Context: 1}, 1)
	stats := routing.Uniform(shapes(o))
	if a.skew > 0 {
		stats = routing.PowerLaw(shapes(o), a.skew, 1)
	}
	const batches = 16
	var sum int64
	for i := range batches {
		b := stats.Draw(1, layer, a.tokens, i)
		if a.skew == 0 {
			b = balanced(a.tokens)
		}
		sum += slices.Max(devices(placed, pricer, b, m.Devices))
	}
	return milliseconds(sum / batches), nil
}

// balanced deals slots out to experts in turn.
func balanced(tokens int) *routing.Batch {
	b := &routing.Batch{Tokens: tokens, Slots: 2, Experts: 8}
	for t := range tokens {
		b.Chosen = append(b.Chosen, uint16(t*2%8), uint16((t*2+4+t/4%2)%8))
	}
	return b
}

// devices sums what the experts take on each device.
func devices(placed *passes.PlacedPart, p *cost.Pricer, b *routing.Batch, n int) []int64 {
	list := make([]int64, n)
	for _, node := range placed.Nodes {
		if node.Serves && strings.HasPrefix(node.Op.Name, "expert_matmul") {
			list[node.Device] += p.Node(node.Node, func(e, turn, turns, rows int) int { return b.Count(e, turn, turns, 0, rows) }).Total()
		}
	}
	return list
}
