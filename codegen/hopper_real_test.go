package codegen

import (
	"context"
	"strings"
	"testing"

	"moec/codegen/nvcc"
)

// hopper are instantiations of the kernels for many tokens, with the sizes of
// Mixtral 8x7B: a file, and how it is called.
var hopper = []struct{ name, file, args, call string }{
	{"gemm", "gemm_wgmma.cuh", "float* o, const {E}* x, const {E}* w, long long n, const __grid_constant__ moec::Segments<1, 1> c",
		"gemm<{E}, {E}, 6144, 4096, 1, 192, 5, 1>(o, x, w, n, c)"},
	{"gemm_round", "gemm_wgmma.cuh", "{E}* o, const {E}* x, const {E}* w, long long n, const __grid_constant__ moec::Segments<8, 1> c",
		"gemm_round<{E}, {E}, 4096, 4096, 8, 128, 5, 1>(o, x, w, n, c)"},
	{"gemm_rows", "gemm_wgmma.cuh", "{E}* o, const {E}* x, const {E}* w, long long n, const __grid_constant__ moec::Segments<1, 1> c",
		"gemm_round<{E}, {E}, 4096, 4096, 1, 256, 4, 0>(o, x, w, n, c)"},
	{"gemm_add", "gemm_wgmma.cuh", "{E}* o, const {E}* x, const {E}* w, const {E}* m, long long n, const __grid_constant__ moec::Segments<2, 1> c",
		"gemm_add<{E}, {E}, 4096, 4096, 2, 128, 6, 1>(o, x, w, m, n, c)"},
	{"list_slots", "gemm_grouped.cuh", "int* s, int* l, const int* ids, int n, int room, const __grid_constant__ moec::Held<8, 8> held",
		"list_slots<2, 8, 8, 1024>(s, l, ids, n, room, held)"},
	{"fill_panels", "gemm_grouped.cuh", "{E}* o, const {E}* x, const int* l, long long n", "fill_panels<{E}, 2, 4096>(o, x, l, n)"},
	{"grouped_gate", "gemm_grouped.cuh", "{E}* o, const {E}* x, const {E}* w, const int* s, const int* l, long long n, const __grid_constant__ moec::Segments<1, 1> c",
		"grouped_gate<moec::QuickSilu, {E}, {E}, 28672, 4096, 8, 256, 4, 1>(o, x, w, s, l, n, c)"},
	{"grouped_round", "gemm_grouped.cuh", "{E}* o, const {E}* x, const {E}* w, const int* s, const int* l, long long n, const __grid_constant__ moec::Segments<8, 1> c",
		"grouped_round<{E}, {E}, 4096, 14336, 8, 128, 5, 8>(o, x, w, s, l, n, c)"},
	{"grouped", "gemm_grouped.cuh", "float* o, const {E}* x, const {E}* w, const int* s, const int* l, long long n, const __grid_constant__ moec::Segments<2, 1> c",
		"grouped<{E}, {E}, 4096, 14336, 8, 192, 5, 2>(o, x, w, s, l, n, c)"},
	{"combine_add", "gemm_grouped.cuh", "{E}* o, const {E}* x, const int* ids, const float* w, const {E}* m, long long n",
		"combine_add<{E}, float, 2, 4096, 8>(o, x, ids, w, m, n)"},
	{"flash", "flash_attention.cuh", "{E}* o, const {E}* q, const {E}* k, const int* s, const int* p, const float* sinks, const int* t, int wide, int n, const __grid_constant__ moec::Rule r",
		"flash<{E}, {E}, float, 32, 8, 16, 0>(o, q, k, s, p, sinks, t, wide, n, r)"},
}

// hopperThreads is the size of a block: one warp group that copies and two that
// multiply; list_slots has more.
var hopperThreads = map[string]string{"list_slots": "1024"}

// hopperSource instantiates those of a file.
func hopperSource(file, element string) (source string, count int) {
	var out strings.Builder
	out.WriteString("#include \"" + file + "\"\n")
	for _, k := range hopper {
		if k.file != file {
			continue
		}
		threads := hopperThreads[k.name]
		if threads == "" {
			threads = "384"
		}
		out.WriteString(strings.ReplaceAll("extern \"C\" __global__ void __launch_bounds__("+threads+", 1) real_"+k.name+"("+k.args+") {\n  moec::"+k.call+";\n}\n", "{E}", element))
		count++
	}
	return out.String(), count
}

// TestRealHopper compiles the kernels for many tokens: without warnings, which
// would say that matrix instructions wait for each other, and without local
// memory. For an older architecture they only have to compile.
func TestRealHopper(t *testing.T) {
	c := realCompiler(t)
	var list []nvcc.Request
	var counts []int
	for _, file := range []string{"gemm_wgmma.cuh", "gemm_grouped.cuh", "flash_attention.cuh"} {
		for _, to := range []struct{ arch, element string }{{"sm_90a", "moec::bf16"}, {"sm_80", "moec::f16"}} {
			source, n := hopperSource(file, to.element)
			list = append(list, nvcc.Request{Name: file + " for " + to.arch, Source: source, Includes: headers(file), Arch: to.arch, Flags: flags})
			counts = append(counts, n)
		}
	}
	results, err := c.CompileAll(context.Background(), list, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, res := range results {
		if len(res.Warnings) > 0 {
			t.Errorf("%s: %s", list[i].Name, strings.Join(res.Warnings, "\n"))
		}
		if len(res.Report) != counts[i] {
			t.Errorf("%s has %d functions, need %d", list[i].Name, len(res.Report), counts[i])
		}
		for _, f := range res.Report {
			if f.Local() {
				t.Errorf("%s uses local memory: %v", list[i].Name, f)
			}
		}
	}
}
