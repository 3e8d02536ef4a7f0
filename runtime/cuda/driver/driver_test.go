package driver

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParams(t *testing.T) {
	var p Params
	p.Ptr(0x1122334455667788).Int32(-2).Int64(3).Struct([]byte("tensor map")).Float32(1.5)
	want := "\x88\x77\x66\x55\x44\x33\x22\x11\xfe\xff\xff\xff\x03\x00\x00\x00\x00\x00\x00\x00tensor map\x00\x00\xc0\x3f"
	if string(p.bytes) != want {
		t.Errorf("have %q\nneed %q", p.bytes, want)
	}
	if list := []param{{0, 8}, {8, 4}, {12, 8}, {20, 10}, {30, 4}}; !slices.Equal(p.list, list) {
		t.Errorf("have %v, need %v", p.list, list)
	}
	p.Reset()
	if p.Uint32(7); string(p.bytes) != "\x07\x00\x00\x00" || p.Len() != 1 {
		t.Errorf("after Reset: %d arguments, %q", p.Len(), p.bytes)
	}
	allocs := testing.AllocsPerRun(100, func() {
		p.Reset()
		p.Ptr(1).Int64(2).Int32(3)
	})
	if allocs != 0 {
		t.Errorf("%v allocations per launch", allocs)
	}
}

func TestErrors(t *testing.T) {
	cases := []struct {
		err   Error
		want  string
		fatal bool
	}{
		{Error{0, "allocate 8 bytes, 4 of 16 free", 2}, "device 0: allocate 8 bytes, 4 of 16 free: CUDA_ERROR_OUT_OF_MEMORY (2): not enough free memory", false},
		{Error{HostDevice, "start the NVIDIA driver", 100}, "start the NVIDIA driver: CUDA_ERROR_NO_DEVICE (100): the driver sees no device; check nvidia-smi and CUDA_VISIBLE_DEVICES", false},
		{Error{1, "load a module", 209}, "device 1: load a module: CUDA_ERROR_NO_BINARY_FOR_GPU (209): the kernel was compiled for another architecture; compile the plan for this device", false},
		{Error{1, "load a module", 222}, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222): the PTX is newer than the driver; install a newer NVIDIA driver", false},
		{Error{3, "wait", 700}, "CUDA_ERROR_ILLEGAL_ADDRESS (700): a kernel touched memory that it must not", true},
		{Error{3, "wait", 719}, "CUDA_ERROR_LAUNCH_FAILED (719)", true},
		{Error{HostDevice, "start", 803}, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): the driver's library and its kernel module differ in version; reboot", false},
		{Error{0, "do", 4711}, "device 0: do: CUDA error 4711", false},
	}
	for _, tc := range cases {
		if got := tc.err.Error(); !strings.Contains(got, tc.want) {
			t.Errorf("have %q\nneed %q", got, tc.want)
		}
		if tc.err.Fatal() != tc.fatal {
			t.Errorf("code %d: fatal %v, need %v", tc.err.Code, tc.err.Fatal(), tc.fatal)
		}
	}
	wrapped := fmt.Errorf("run: %w", &Error{HostDevice, "start", CodeNoDevice})
	if !errors.Is(wrapped, ErrNoDevice) || errors.Is(wrapped, ErrNoDriver) {
		t.Error("code 100 must be ErrNoDevice and nothing else")
	}
	for code, known := range codes {
		if known.name == "" || known.meaning == "" || strings.ToUpper(known.name) != known.name {
			t.Errorf("code %d: name %q, meaning %q", code, known.name, known.meaning)
		}
	}
}

func TestInfo(t *testing.T) {
	i := Info{Index: 2, Name: "X", Major: 12, Minor: 0, Memory: 3 << 29, UUID: "GPU-1"}
	if i.Arch() != "sm_120" || i.String() != "device 2: X, sm_120, 1.5 GiB, GPU-1" {
		t.Errorf("%s, %v", i.Arch(), i)
	}
}
