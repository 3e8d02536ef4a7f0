package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"moec/ir/machine"
	"moec/ir/routing"
	"moec/passes/search"
)

// scale times searches of a model like Qwen3-MoE, with fewer layers, experts
// or devices, at 16 sequences a device, on hosts of eight H100s.
func (c *check) scale() error {
	fmt.Printf("  %7s %8s %8s %10s %10s %10s %9s\n", "layers", "experts", "devices", "time", "chosen ms", "bound ms", "gap %")
	for _, s := range []struct{ layers, experts, devices int }{
		{61, 256, 64}, {31, 256, 64}, {16, 256, 64}, {61, 128, 64}, {61, 64, 64}, {61, 256, 32}, {61, 256, 16}, {61, 256, 8},
	} {
		if err := c.scaleTo(s.layers, s.experts, s.devices); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) scaleTo(layers, experts, devices int) error {
	o, err := c.outline("qwen3_moe", map[string]string{"layers": strconv.Itoa(layers), "experts": strconv.Itoa(experts),
		"hidden": "7168", "heads": "64", "kv_heads": "8", "head_dim": "128", "expert_ffn": "768"})
	if err != nil {
		return err
	}
	m, err := machine.Lookup("h100x64")
	if err == nil {
		m, err = m.With(devices)
	}
	if err != nil {
		return err
	}
	stats, err := routing.Parse("uniform", shapes(o))
	if err != nil {
		return err
	}
	begin := time.Now()
	r, err := search.Run(&search.Problem{Outline: o, Machine: m, Stats: stats, Workload: search.Decode(16 * devices), Positions: 16 * 4096}, search.Options{Budget: 4000})
	if r == nil || r.Chosen == nil {
		fmt.Printf("  %7d %8d %8d %10s %v\n", layers, experts, devices, time.Since(begin).Round(10*time.Millisecond), err)
		return nil
	}
	gap, _ := r.Gap()
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	fmt.Printf("  %7d %8d %8d %10s %10.3f %10.3f %9.2f   %s by %s, best hand %s %.3f; %d MB; %s\n", layers, experts, devices, time.Since(begin).Round(10*time.Millisecond), milliseconds(r.Chosen.Score), milliseconds(r.Bound), percent(gap), r.Chosen.Name, r.Searcher, r.Best().Name, milliseconds(r.Best().Score), mem.Sys>>20, r.Limit)
	if devices == 64 && layers == 61 && experts == 256 && (gap > 1e5 || time.Since(begin) > time.Minute || mem.Sys > 4<<30) {
		c.short(os.Stdout, "want at most 10 %%, 60 s and 4 GiB")
	}
	return nil
}
