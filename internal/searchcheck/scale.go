package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"moec/ir/machine"
	"moec/ir/routing"
	"moec/passes/search"
)

// scale times searches of a model like Qwen3-MoE, with fewer layers, experts
// or devices, at 16 sequences a device, on hosts of eight H100s.
func (c *check) scale() error {
	fmt.Printf("  %7s %8s %8s %10s %10s %10s %9s\n", "layers", "experts", "devices", "time", "chosen ms", "bound ms", "gap %")
	took := make(map[size]time.Duration)
	for _, s := range sizes {
		begin := time.Now()
		if err := c.scaleTo(s.layers, s.experts, s.devices); err != nil {
			return err
		}
		took[s] = time.Since(begin)
	}
	plot(took)
	return nil
}

// size is a model's and a machine's.
type size struct{ layers, experts, devices int }

// sizes begin with the largest; each other one has less of one thing.
var sizes = []size{{61, 256, 64}, {31, 256, 64}, {16, 256, 64}, {61, 128, 64}, {61, 64, 64}, {61, 256, 32}, {61, 256, 16}, {61, 256, 8}}

// plot draws times as bars, against one thing after the other.
func plot(took map[size]time.Duration) {
	most := time.Duration(0)
	for _, t := range took {
		most = max(most, t)
	}
	const width = 60
	for _, of := range []struct {
		name string
		of   func(*size) *int
	}{{"layers", func(s *size) *int { return &s.layers }}, {"experts", func(s *size) *int { return &s.experts }}, {"devices", func(s *size) *int { return &s.devices }}} {
		fmt.Printf("  time against %s\n", of.name)
		for _, s := range slices.Backward(sizes) {
			other := s
			*of.of(&other) = *of.of(&sizes[0])
			if other == sizes[0] {
				fmt.Printf("  %7d %s %.1f s\n", *of.of(&s), strings.Repeat("#", int(width*took[s]/most)), took[s].Seconds())
			}
		}
	}
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
