package nvcc

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseLog(t *testing.T) {
	cases := []struct {
		name, log string
		report    Report
		rest      []string
	}{
		{"CUDA 13", `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'calls' for 'sm_90a'
ptxas info    : Function properties for calls
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 12 registers, used 1 barriers, 1024 bytes smem
ptxas info    : Compile time = 2.213 ms
ptxas info    : Function properties for _Z3devf
    16 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function 'spill' for 'sm_90a'
ptxas info    : Function properties for spill
    1384 bytes stack frame, 2372 bytes spill stores, 2720 bytes spill loads
ptxas info    : Used 32 registers, used 1 barriers, 1400 bytes cumulative stack size
`, Report{
			{Name: "calls", Arch: "sm_90a", Entry: true, Registers: 12, Barriers: 1, Shared: 1024},
			{Name: "_Z3devf", Stack: 16},
			{Name: "spill", Arch: "sm_90a", Entry: true, Registers: 32, Barriers: 1, Stack: 1400, SpillStores: 2372, SpillLoads: 2720},
		}, nil},
		{"CUDA 11 and 12", `ptxas info    : 8 bytes gmem, 64 bytes cmem[4]
ptxas info    : Compiling entry function '_Z1kPf' for 'sm_80'
ptxas info    : Function properties for _Z1kPf
    48 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, 49152 bytes smem, 368 bytes cmem[0], 24 bytes cmem[2]
`, Report{{Name: "_Z1kPf", Arch: "sm_80", Entry: true, Registers: 255, Stack: 48, Shared: 49152, Constant: 368}}, nil},
		{"older wording of local memory", `ptxas info    : Compiling entry function 'k' for 'sm_70'
ptxas info    : Used 20 registers, 32 bytes lmem, 16 bytes smem
`, Report{{Name: "k", Arch: "sm_70", Entry: true, Registers: 20, Stack: 32, Shared: 16}}, nil},
		{"warnings between", `kernel.cu(3): warning #177-D: variable "x" was declared but never referenced
      int x;
          ^

ptxas info    : Compiling entry function 'k' for 'sm_90'
ptxas warning : Value of threads per SM for entry k is out of range
ptxas info    : Used 4 registers
`, Report{{Name: "k", Arch: "sm_90", Entry: true, Registers: 4}},
			[]string{`kernel.cu(3): warning #177-D: variable "x" was declared but never referenced`, "      int x;", "          ^",
				"ptxas warning : Value of threads per SM for entry k is out of range"}},
		{"nothing", "", nil, nil},
		{"numbers without a function", "ptxas info    : Used 4 registers\n    8 bytes stack frame\n", nil, []string{"    8 bytes stack frame"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			report, rest := ParseLog(tc.log)
			if d := cmp.Diff(tc.report, report); d != "" {
				t.Errorf("report (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tc.rest, rest); d != "" {
				t.Errorf("rest (-want +got):\n%s", d)
			}
		})
	}
}

func TestLocal(t *testing.T) {
	for _, f := range []FuncReport{{Stack: 1}, {SpillLoads: 1}, {SpillStores: 1}} {
		if !f.Local() {
			t.Errorf("%v does not count as local memory", f)
		}
	}
	if (FuncReport{Registers: 255, Shared: 1}).Local() {
		t.Error("registers and shared memory count as local memory")
	}
}

// FuzzParseLog looks for logs that break the parser; nvcc's words change with
// every version.
func FuzzParseLog(f *testing.F) {
	f.Add("ptxas info    : Compiling entry function 'k' for 'sm_90'\nptxas info    : Used 99999999999999999999 registers\n")
	f.Add("ptxas info    : Function properties for k\n    1 bytes stack frame, 2 bytes spill stores\n")
	f.Fuzz(func(t *testing.T, log string) {
		report, _ := ParseLog(log)
		for _, r := range report {
			if r.Name == "" || r.Registers < 0 || r.Stack < 0 {
				t.Errorf("%+v", r)
			}
		}
	})
}

// FuzzParseManifest checks that only manifests that this package wrote pass.
func FuzzParseManifest(f *testing.F) {
	f.Add(formatManifest("key", []listing{listFile("kernel.cu", []byte("x"))}))
	f.Add("end ")
	f.Fuzz(func(t *testing.T, text string) {
		listed, err := parseManifest(text, "key")
		if err == nil && formatManifest("key", listed) != text {
			t.Errorf("accepted %q", text)
		}
	})
}
