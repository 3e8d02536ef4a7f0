package codegen

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moec/codegen/codegentest"
	"moec/codegen/kernels"
	"moec/codegen/nvcc"
)

// realCompiler returns the installed nvcc, if this is a test of the kernels:
// it takes a minute, so "make kernels" asks for it.
func realCompiler(t *testing.T) *nvcc.Compiler {
	t.Helper()
	if os.Getenv("MOEC_KERNELS") == "" {
		t.Skip(`compiles every kernel with nvcc: run "make kernels"`)
	}
	tool, err := nvcc.Find(context.Background(), nvcc.DefaultSearch(""))
	if err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("MOEC_KERNEL_CACHE")
	if dir == "" {
		dir = t.TempDir()
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return nvcc.New(nvcc.Options{Toolchain: tool, CacheDir: dir, Warn: func(s string) { t.Error(s) }})
}

// architectures are those that every kernel is compiled for: Turing, the Amperes,
// Ada and Hopper. CUDA 13 has none before.
var architectures = []string{"sm_75", "sm_80", "sm_86", "sm_89", "sm_90a"}

// TestRealKernels compiles an instantiation of every kernel and type, and
// looks for warnings and local memory.
func TestRealKernels(t *testing.T) {
	c := realCompiler(t)
	p, err := codegentest.Plan(codegentest.Cases())
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range architectures {
		k, err := Choose(p, arch)
		if err != nil {
			t.Fatal(err)
		}
		code, err := Generate(p, k)
		if err != nil {
			t.Fatal(err)
		}
		results, err := code.Compile(context.Background(), c, 2, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, res := range results {
			if len(res.Warnings) > 0 {
				t.Errorf("%s for %s: %s", code.Units[i].File, arch, strings.Join(res.Warnings, "\n"))
			}
			if have, want := len(res.Report), len(code.Units[i].Symbols); have != want {
				t.Errorf("%s for %s has %d functions, need %d", code.Units[i].File, arch, have, want)
			}
			for _, f := range res.Report {
				if f.Local() {
					t.Errorf("%s for %s uses local memory: %v", code.Units[i].File, arch, f)
				}
			}
		}
	}
}

// TestRealHeaders compiles every file alone.
func TestRealHeaders(t *testing.T) {
	c := realCompiler(t)
	var list []nvcc.Request
	for _, file := range kernels.Files() {
		list = append(list, nvcc.Request{Name: file, Source: "#include \"" + file + "\"\n__global__ void nothing() {}\n", Includes: headers(file), Arch: "sm_90a", Flags: flags})
	}
	results, err := c.CompileAll(context.Background(), list, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, res := range results {
		if len(res.Warnings) > 0 {
			t.Errorf("%s: %s", list[i].Name, strings.Join(res.Warnings, "\n"))
		}
	}
}
