package nvcc

import (
	"context"
	"errors"
	"strings"
	"testing"
)

const realSource = `#include "scale.cuh"
extern "C" __global__ void saxpy(float* y, const float* x, float a, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = scale(x[i], a) + y[i];
}
// Indexing at run time forces the array into local memory.
extern "C" __global__ void local(float* y, int k) {
  float a[64];
  for (int i = 0; i < 64; i++) a[i] = y[i];
  for (int i = 0; i < k; i++) a[(i * 7 + k) & 63] += y[i];
  y[k] = a[k & 63];
}
`

// TestRealNvcc compiles for every architecture class with the installed
// compiler, so that the stand-in's habits cannot drift from the real one's.
func TestRealNvcc(t *testing.T) {
	tool, err := Find(context.Background(), DefaultSearch(""))
	var missing *NotFoundError
	if errors.As(err, &missing) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := New(Options{Toolchain: tool, CacheDir: t.TempDir(), Warn: func(s string) { t.Error(s) }})
	req := Request{Name: "saxpy", Source: realSource, Includes: []File{{"scale.cuh", "__device__ inline float scale(float x, float a) { return a * x; }\n"}}}
	for _, tc := range []struct {
		arch   string
		format Format
	}{{"sm_90a", Cubin}, {"sm_80", Cubin}, {"sm_80", PTX}} {
		req.Arch, req.Format = tc.arch, tc.format
		res, err := c.Compile(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		if tc.format == PTX {
			if !strings.Contains(string(res.Image), ".target sm_80") {
				t.Errorf("PTX without its target: %.200q", res.Image)
			}
			continue
		}
		saxpy, ok := res.Report.Func("saxpy")
		if !ok || saxpy.Arch != tc.arch || saxpy.Registers < 4 || saxpy.Local() {
			t.Errorf("%s: %+v", tc.arch, saxpy)
		}
		if local, ok := res.Report.Func("local"); !ok || local.Stack < 256 {
			t.Errorf("%s: %+v, need at least 256 bytes of local memory", tc.arch, local)
		}
		if len(res.Warnings) > 0 {
			t.Errorf("%s: warnings %q", tc.arch, res.Warnings)
		}
	}
	req.Source += "int broken = ;\n"
	if _, err := c.Compile(context.Background(), req); err == nil || !strings.Contains(err.Error(), "error: expected an expression") {
		t.Errorf("error %v, need nvcc's", err)
	}
}
