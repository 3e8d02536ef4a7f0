package codegen

import (
	"context"
	"strings"
	"testing"

	"moec/codegen/kernels"
	"moec/codegen/nvcc"
	"moec/ir/tensor"
)

// hopper lists the kernels for Hopper with the sizes of Mixtral 8x7B and every
// way to cut sums; those that depend on it also with the sizes of Mixtral 8x22B,
// and with few heads and one expert a token.
func hopper(e tensor.DType) []*use {
	list := []*use{
		useOf("decode", e, 32, 4096, 32, 8, 128, 14336, 8, 2, 32000, 16, 256, 8, 8),
		useOf("prefill_begin", 64, 16), useOf("prefill_embed", e, 4096), useOf("prefill_sum", e, 4096, 2), useOf("prefill_route", e, 4096, 8, 2),
		useOf("flash", e, 32, 8, 16), useOf("gemm", e, 32000, 4096, 1, 128, 6), useOf("gemm_heads", e, 32, 8, 4096, 256, 4),
		useOf("list_slots", 2, 8, 8), useOf("fill_panels", e, 2, 4096), useOf("grouped_gate", e, 28672, 4096, 8, 256, 4),
		useOf("prefill_sum", e, 6144, 2), useOf("prefill_route", e, 6144, 8, 2), useOf("flash", e, 48, 8, 16), useOf("gemm_heads", e, 48, 8, 6144, 256, 4),
		useOf("prefill_sum", e, 2048, 1), useOf("prefill_route", e, 2048, 24, 1), useOf("flash", e, 16, 8, 64), useOf("gemm_heads", e, 16, 8, 2048, 256, 4),
	}
	for _, segments := range []int{1, 2, 4, 8} {
		width, stages := tileOf(segments)
		list = append(list, useOf("gemm_round", e, 4096, 4096, segments, width, stages), useOf("grouped_round", e, 4096, 14336, 8, width, stages, segments))
	}
	return list
}

// TestHopperIsWhole checks that the list has every kernel for Hopper.
func TestHopperIsWhole(t *testing.T) {
	have := make(map[string]bool)
	for _, u := range hopper(tensor.BF16) {
		have[u.kernel.Name] = true
		if err := u.kernel.Check(u.params); err != nil {
			t.Error(err)
		}
	}
	for _, k := range kernels.Table() {
		if (k.Arch == kernels.Lookup("decode").Arch) != have[k.Name] {
			t.Errorf("kernel %s for %q: in the list: %t", k.Name, k.Arch, have[k.Name])
		}
	}
}

// known is local memory in bytes that a kernel has had since its times were
// measured: decode at Mixtral's sizes, a dozen registers of some thousand loads.
var known = map[string]int{"decode": 64}

// TestRealHopper compiles them: without warnings, which would say that matrix
// instructions wait for each other, and without local memory. For an older
// architecture they only have to compile.
func TestRealHopper(t *testing.T) {
	c := realCompiler(t)
	var list []nvcc.Request
	var counts []int
	for _, to := range []struct {
		arch    string
		element tensor.DType
	}{{"sm_90a", tensor.BF16}, {"sm_90a", tensor.F16}, {"sm_80", tensor.F16}} {
		g := &generator{code: &Code{Arch: to.arch}, made: make(map[string]map[string]string)}
		for _, u := range hopper(to.element) {
			g.add(u)
		}
		g.units()
		list = append(list, g.code.Requests()...)
		for _, u := range g.code.Units {
			counts = append(counts, len(u.Symbols))
		}
	}
	results, err := c.CompileAll(context.Background(), list, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, res := range results {
		if len(res.Warnings) > 0 {
			t.Errorf("%s for %s: %s", list[i].Name, list[i].Arch, strings.Join(res.Warnings, "\n"))
		}
		if len(res.Report) != counts[i] {
			t.Errorf("%s for %s has %d functions, need %d", list[i].Name, list[i].Arch, len(res.Report), counts[i])
		}
		for _, f := range res.Report {
			if f.Local() && max(f.Stack, f.SpillStores) > known[list[i].Name] {
				t.Errorf("%s for %s uses local memory: %v", list[i].Name, list[i].Arch, f)
			}
		}
	}
}
