//go:build cuda && cgo

package driver

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gorgonia.org/cu"
)

// TestMain lets the test binary be run as a small program that opens the
// driver, for what can happen once per process only.
func TestMain(m *testing.M) {
	if os.Getenv("DRIVER_TEST_OPEN") != "" {
		_, err := cu.NumDevices()
		fmt.Printf("before: %d\n", codeOf(err))
		d, err := Open()
		fmt.Printf("error: %v; no driver: %v; no device: %v\n", err, errors.Is(err, ErrNoDriver), errors.Is(err, ErrNoDevice))
		if err == nil {
			fmt.Println("devices:", len(d.Devices()))
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// module is a text that the stub loads.
const module = "stub module\nkernel fill_u32 8 4 4\nkernel big 4 128 4\nvar counter 8\n"

// stub opens the driver and skips the test when that is a real one.
func stub(t testing.TB, devices int) Driver {
	t.Helper()
	t.Setenv("MOEC_STUB_DEVICES", fmt.Sprint(devices))
	d, err := Open()
	if errors.Is(err, ErrNoDriver) && os.Getenv(LibraryVariable) == "" {
		t.Skip(err)
	}
	ok(t, err)
	if !strings.HasPrefix(d.Devices()[0].Name, "stub GPU") {
		t.Skip("this test needs the stub driver, here is a real one")
	}
	return d
}

func open(t testing.TB, d Driver, index int) Device {
	t.Helper()
	dev, err := d.Device(index)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	return dev
}

// must returns the value of a call that has to succeed.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantCode checks the code and some words of an error.
func wantCode(t testing.TB, err error, code Code, parts ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error %v, need code %d", err, code)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// TestOpenOnce runs Open in processes of their own, on every kind of machine.
// In none of them may the start of gorgonia.org/cu end the program.
func TestOpenOnce(t *testing.T) {
	stub(t, 1)
	library := os.Getenv(LibraryVariable)
	cases := []struct {
		name, library, env string
		want               []string
	}{
		{"no driver", "/nowhere/libcuda.so.1", "", []string{"error: no NVIDIA driver (libcuda.so.1): /nowhere/libcuda.so.1: cannot open", "no driver: true; no device: false"}},
		{"another library", "libm.so.6", "", []string{"libm.so.6 is not a CUDA driver: it has no cuInit", "no driver: true"}},
		{"not a library", "/dev/null", "", []string{"no driver: true"}},
		{"no device", library, "MOEC_STUB_DEVICES=0", []string{"CUDA_ERROR_NO_DEVICE (100)", "no driver: false; no device: true"}},
		{"driver mismatch", library, "MOEC_STUB_FAULT=cuInit:803", []string{"error: start the NVIDIA driver: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803)", "no driver: false; no device: false"}},
		{"system not ready", library, "MOEC_STUB_FAULT=cuInit:802", []string{"(802)", "fabricmanager"}},
		{"no count", library, "MOEC_STUB_FAULT=cuDeviceGetCount:999", []string{"count the devices: CUDA_ERROR_UNKNOWN (999)"}},
		{"no name", library, "MOEC_STUB_FAULT=cuDeviceGetName:999", []string{"device 0: ask for its name"}},
		{"three devices", library, "MOEC_STUB_DEVICES=3", []string{"error: <nil>", "devices: 3"}},
	}
	exe := must(os.Executable())(t)
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), "DRIVER_TEST_OPEN=1", LibraryVariable+"="+tc.library)
			if tc.env != "" {
				cmd.Env = append(cmd.Env, tc.env)
			}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range append(tc.want, "before: 3\n") {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}

func TestDevices(t *testing.T) {
	d := stub(t, 2)
	if d.Version() != 13000 || len(d.Devices()) != 2 {
		t.Fatalf("version %d, devices %v", d.Version(), d.Devices())
	}
	want := Info{Index: 1, Name: "stub GPU 1", UUID: "GPU-00112233-4455-6677-8899-aabbccddee01", Major: 9, Memory: 1 << 30,
		Multiprocessors: 132, SharedPerBlock: 227 << 10, L2: 50 << 20, PCI: "0000:02:00.0"}
	if got := d.Devices()[1]; got != want {
		t.Errorf("have %+v\nneed %+v", got, want)
	}
	for _, index := range []int{-1, 2} {
		if _, err := d.Device(index); err == nil || !strings.Contains(err.Error(), "there is no such device, have 2") {
			t.Errorf("device %d: error %v", index, err)
		}
	}
}

func TestMemory(t *testing.T) {
	dev := open(t, stub(t, 1), 0)
	p := must(dev.Alloc(64))(t)
	q := must(dev.Alloc(64))(t)
	text := []byte("sixteen bytes!!!")
	ok(t, dev.Memset(p, 0x11, 64))
	ok(t, dev.HtoD(p+8, text))
	ok(t, dev.DtoD(q, p, 32))
	ok(t, dev.HtoD(p, nil))
	ok(t, dev.Memset(p, 1, 0))
	got := make([]byte, 40)
	ok(t, dev.DtoH(got, q))
	want := append(bytes.Repeat([]byte{0x11}, 8), text...)
	want = append(want, bytes.Repeat([]byte{0x11}, 8)...)
	want = append(want, bytes.Repeat([]byte{0xA5}, 8)...)
	if !bytes.Equal(got, want) {
		t.Errorf("have %x\nneed %x", got, want)
	}
	free, total, err := dev.MemInfo()
	if err != nil || total != 1<<30 || free != total-128 {
		t.Errorf("free %d of %d, error %v", free, total, err)
	}
	wantCode(t, dev.HtoD(p+60, text), 1, "device 0: copy 16 bytes from the host to 0x")
	ok(t, dev.Free(p))
	wantCode(t, dev.Free(p), 1, "free memory at 0x")
	if _, err := dev.Alloc(0); err == nil || !strings.Contains(err.Error(), "allocate 0 bytes: need at least one") {
		t.Errorf("error %v", err)
	}
	if err := dev.DtoD(q, p, -1); err == nil || !strings.Contains(err.Error(), "copy -1 bytes") {
		t.Errorf("error %v", err)
	}
	t.Setenv("MOEC_STUB_MEMORY", "1000")
	_, err = dev.Alloc(1000)
	wantCode(t, err, CodeOutOfMemory, "allocate 1000 bytes, 936 of 1000 free")
}

func TestAsyncCopies(t *testing.T) {
	dev := open(t, stub(t, 1), 0)
	s := must(dev.NewStream())(t)
	host := must(dev.AllocHost(64))(t)
	p := must(dev.Alloc(64))(t)
	copy(host.Bytes(), "0123456789abcdef")
	ok(t, dev.MemsetAsync(p, 0, 64, s))
	ok(t, dev.HtoDAsync(p, HostPart{host, 4, 8}, s))
	ok(t, dev.DtoDAsync(p+8, p, 8, s))
	ok(t, dev.DtoHAsync(HostPart{host, 32, 24}, p, s))
	ok(t, dev.Sync(context.Background(), s))
	if got := string(host.Bytes()[32:56]); got != "456789ab456789ab\x00\x00\x00\x00\x00\x00\x00\x00" {
		t.Errorf("have %q", got)
	}
	for _, part := range []HostPart{{host, 60, 8}, {host, -1, 8}, {host, 0, 0}, {host, 65, 1}, {host, 1, 1<<63 - 1}, {nil, 0, 1}} {
		if err := dev.HtoDAsync(p, part, s); err == nil || !strings.Contains(err.Error(), "device 0: copy host memory") {
			t.Errorf("part %d+%d: error %v", part.Offset, part.Bytes, err)
		}
	}
	ok(t, host.Free())
	ok(t, host.Free())
	if err := dev.HtoDAsync(p, HostPart{host, 0, 8}, s); err == nil {
		t.Error("a freed buffer was copied")
	}
	ok(t, dev.CloseStream(s))
	wantCode(t, dev.MemsetAsync(p, 0, 8, s), 400, "INVALID_HANDLE")
}

// kernel returns a function of the stub's module.
func kernel(t testing.TB, dev Device, name string) Function {
	t.Helper()
	m := must(dev.LoadModule([]byte(module)))(t)
	return must(dev.Function(m, name))(t)
}

func TestModules(t *testing.T) {
	dev := open(t, stub(t, 1), 0)
	m := must(dev.LoadModule([]byte(module)))(t)
	f := must(dev.Function(m, "fill_u32"))(t)
	if u := must(dev.Usage(f))(t); u != (Usage{Registers: 32, MaxThreads: 1024, Arch: 90}) {
		t.Errorf("%+v", u)
	}
	p, size, err := dev.Global(m, "counter")
	if err != nil || size != 8 {
		t.Errorf("counter: %d bytes, error %v", size, err)
	}
	ok(t, dev.HtoD(p, []byte("12345678")))
	_, err = dev.Function(m, "gone")
	wantCode(t, err, 500, "find kernel gone", "the module has no such name")
	_, _, err = dev.Global(m, "gone")
	wantCode(t, err, 500, "find variable gone")
	_, err = dev.LoadModule([]byte("not a module"))
	wantCode(t, err, 200, "load a module of 12 bytes on sm_90")
	if _, err = dev.LoadModule(nil); err == nil || !strings.Contains(err.Error(), "the image is empty") {
		t.Errorf("error %v", err)
	}
	ok(t, dev.UnloadModule(m))
	_, err = dev.Function(m, "fill_u32")
	wantCode(t, err, 400)
}

func TestLaunch(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("MOEC_STUB_LOG", log)
	dev := open(t, stub(t, 1), 0)
	f := kernel(t, dev, "fill_u32")
	s := must(dev.NewStream())(t)
	p := must(dev.Alloc(40))(t)
	var params Params
	params.Ptr(p + 8).Uint32(0xC0FFEE).Uint32(6)
	shape := Shape{Grid: Dim{2, 3, 4}, Block: Dim{128, 2, 1}, Shared: 1 << 10}
	ok(t, dev.Launch(f, shape, &params, s))
	ok(t, dev.Sync(context.Background(), s))
	got := make([]byte, 40)
	ok(t, dev.DtoH(got, p))
	for i := range 10 {
		want := uint32(0xA5A5A5A5)
		if i >= 2 && i < 8 {
			want = 0xC0FFEE
		}
		if v := binary.LittleEndian.Uint32(got[4*i:]); v != want {
			t.Errorf("word %d: %#x, need %#x", i, v, want)
		}
	}
	big := kernel(t, dev, "big")
	params.Reset()
	params.Uint32(1).Struct(bytes.Repeat([]byte{2}, 128)).Uint32(3)
	ok(t, dev.Launch(big, Shape{Grid: Dim{1, 1, 1}, Block: Dim{1, 1, 1}}, &params, s))
	want := fmt.Sprintf("device 0 launch fill_u32 grid 2,3,4 block 128,2,1 shared 1024 params %x", binary.LittleEndian.AppendUint64(nil, uint64(p+8))) +
		" eeffc000 06000000\n" +
		"device 0 launch big grid 1,1,1 block 1,1,1 shared 0 params 01000000 " + strings.Repeat("02", 128) + " 03000000\n"
	if text := string(must(os.ReadFile(log))(t)); text != want {
		t.Errorf("log\n%s\nneed\n%s", text, want)
	}
	for _, tc := range []struct {
		params *Params
		want   string
	}{
		{new(Params).Ptr(p).Uint32(1), "device 0: launch fill_u32: 2 arguments, the kernel has 3 parameters"},
		{new(Params).Ptr(p).Uint64(1).Uint32(1), "launch fill_u32: argument 1 has 8 bytes, the kernel's parameter has 4"},
		{new(Params), "launch fill_u32: 0 arguments"},
	} {
		if err := dev.Launch(f, shape, tc.params, s); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, need %q", err, tc.want)
		}
	}
}

// TestRealCubin checks launches of really compiled kernels against the sizes of
// their parameters.
func TestRealCubin(t *testing.T) {
	dev := open(t, stub(t, 1), 0)
	cubin, found := images(t, "sm_90")["cubin"]
	if !found {
		t.Skip("this test needs nvcc, on PATH or in CUDA_HOME")
	}
	m := must(dev.LoadModule(cubin))(t)
	shape := Shape{Grid: Dim{1, 1, 1}, Block: Dim{1, 1, 1}}
	for name, params := range map[string]*Params{
		"fill_u32":   new(Params).Ptr(0).Uint32(1).Uint32(2),
		"add_struct": new(Params).Uint32(1).Struct(make([]byte, 128)).Uint32(1).Ptr(0),
		"reverse":    new(Params).Ptr(0).Uint32(1),
		"spin":       new(Params).Int64(1),
	} {
		f := must(dev.Function(m, name))(t)
		if name != "fill_u32" { // the stub would run it
			ok(t, dev.Launch(f, shape, params, 0))
		}
		params.Uint32(0)
		if err := dev.Launch(f, shape, params, 0); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%d arguments, the kernel has %d parameters", params.Len(), params.Len()-1)) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	_, err := dev.Function(m, "gone")
	wantCode(t, err, 500)
}

// TestManyArguments launches a kernel whose parameters the driver does not
// tell, with more arguments than fit.
func TestManyArguments(t *testing.T) {
	t.Setenv("MOEC_STUB_FAULT", "cuFuncGetParamInfo:801")
	dev := open(t, stub(t, 1), 0)
	f := kernel(t, dev, "big")
	shape := Shape{Grid: Dim{1, 1, 1}, Block: Dim{1, 1, 1}}
	ok(t, dev.Launch(f, shape, bigParams(), 0))
	var params Params
	for range maxParams + 1 {
		params.Uint32(1)
	}
	if err := dev.Launch(f, shape, &params, 0); err == nil || !strings.Contains(err.Error(), "launch big: 257 arguments, at most 256") {
		t.Errorf("error %v", err)
	}
}

// bigParams are arguments for the stub's kernel "big".
func bigParams() *Params { return new(Params).Uint32(1).Struct(make([]byte, 128)).Uint32(3) }

func TestLaunchLimits(t *testing.T) {
	dev := open(t, stub(t, 1), 0)
	f := kernel(t, dev, "big")
	params := bigParams()
	shape := Shape{Grid: Dim{1, 1, 1}, Block: Dim{1, 1, 1}, Shared: 100 << 10}
	wantCode(t, dev.Launch(f, shape, params, 0), 1, "launch big: grid {1 1 1}, block {1 1 1}, 102400 bytes of shared memory")
	ok(t, dev.SetMaxShared(f, 100<<10))
	ok(t, dev.Launch(f, shape, params, 0))
	wantCode(t, dev.SetMaxShared(f, 300<<10), 1, "allow kernel big 307200 bytes of shared memory, the device has 232448")
	shape.Block.X = 1025
	wantCode(t, dev.Launch(f, shape, params, 0), 1)
}

// TestLaunchAllocatesNothing guards the hot path.
func TestLaunchAllocatesNothing(t *testing.T) {
	dev := open(t, stub(t, 1), 0)
	f := kernel(t, dev, "big")
	params := bigParams()
	shape := Shape{Grid: Dim{1, 1, 1}, Block: Dim{1, 1, 1}}
	ok(t, dev.Do(func() error {
		if n := testing.AllocsPerRun(50, func() { dev.Launch(f, shape, params, 0) }); n != 0 {
			t.Errorf("%v allocations per launch", n)
		}
		return nil
	}))
}

// TestLostContext lets a kernel touch memory that it must not.
func TestLostContext(t *testing.T) {
	t.Setenv("MOEC_STUB_FAULT", "nothing:0")
	dev := open(t, stub(t, 1), 0)
	f := kernel(t, dev, "fill_u32")
	var params Params
	params.Ptr(0x1000).Uint32(1).Uint32(1)
	ok(t, dev.Launch(f, Shape{Grid: Dim{1, 1, 1}, Block: Dim{1, 1, 1}}, &params, 0))
	err := dev.Sync(context.Background(), 0)
	wantCode(t, err, 700, "device 0: wait for a stream: CUDA_ERROR_ILLEGAL_ADDRESS (700)", "restart the program")
	if e := err.(*Error); !e.Fatal() {
		t.Error("code 700 must be fatal")
	}
	_, err = dev.Alloc(8)
	wantCode(t, err, 700, "allocate 8 bytes")
	ok(t, dev.Close())
	t.Setenv("MOEC_STUB_FAULT", "") // the stub forgets
}

func TestStreamsAndEvents(t *testing.T) {
	dev := open(t, stub(t, 1), 0)
	f := kernel(t, dev, "big")
	s, other := must(dev.NewStream())(t), must(dev.NewStream())(t)
	a, b := must(dev.NewEvent(true))(t), must(dev.NewEvent(true))(t)
	untimed := must(dev.NewEvent(false))(t)
	ok(t, dev.Record(a, s))
	for range 3 {
		ok(t, dev.Launch(f, Shape{Grid: Dim{1, 1, 1}, Block: Dim{1, 1, 1}}, bigParams(), s))
	}
	ok(t, dev.Record(b, s))
	ok(t, dev.Record(untimed, s))
	ok(t, dev.Wait(other, b))
	ok(t, dev.SyncEvent(context.Background(), b))
	if got := must(dev.Elapsed(a, b))(t); got != 3*time.Millisecond {
		t.Errorf("elapsed %v, need 3ms", got)
	}
	if done, err := dev.Done(b); err != nil || !done {
		t.Errorf("done %v, error %v", done, err)
	}
	_, err := dev.Elapsed(a, untimed)
	wantCode(t, err, 400, "take the time between two events")
	t.Setenv("MOEC_STUB_FAULT", "cuEventQuery:600")
	if done, err := dev.Done(b); err != nil || done {
		t.Errorf("done %v, error %v", done, err)
	}
	ok(t, dev.CloseEvent(a))
	wantCode(t, dev.Record(a, s), 400)
}

// TestHungKernel waits for a stream that never gets empty.
func TestHungKernel(t *testing.T) {
	dev := open(t, stub(t, 1), 0)
	s := must(dev.NewStream())(t)
	e := must(dev.NewEvent(false))(t)
	t.Setenv("MOEC_STUB_FAULT", "cuStreamQuery:600,cuEventQuery:600")
	for name, wait := range map[string]func(context.Context) error{
		"stream": func(ctx context.Context) error { return dev.Sync(ctx, s) },
		"event":  func(ctx context.Context) error { return dev.SyncEvent(ctx, e) },
	} {
		ctx, cancel := context.WithTimeoutCause(context.Background(), 50*time.Millisecond, errors.New("step 7 took too long"))
		start := time.Now()
		err := wait(ctx)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "device 0: wait for a") || !strings.Contains(err.Error(), "step 7 took too long") {
			t.Errorf("%s: error %v", name, err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
	// A few looks later the stream is empty.
	t.Setenv("MOEC_STUB_FAULT", "cuStreamQuery:600@1,cuStreamQuery:600@2,cuStreamQuery:600@3")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ok(t, dev.Sync(ctx, s))
}

func TestPeers(t *testing.T) {
	d := stub(t, 2)
	a, b := open(t, d, 0), open(t, d, 1)
	twin := open(t, d, 0)
	for _, tc := range []struct {
		peer Device
		want bool
	}{{b, true}, {twin, true}, {a, true}} {
		if can := must(a.CanAccess(tc.peer))(t); can != tc.want {
			t.Errorf("%v: access %v", tc.peer.Info(), can)
		}
		ok(t, a.EnableAccess(tc.peer))
		ok(t, a.EnableAccess(tc.peer))
	}
	p, q, r := must(a.Alloc(16))(t), must(b.Alloc(16))(t), must(twin.Alloc(16))(t)
	s := must(a.NewStream())(t)
	ok(t, a.HtoD(p, []byte("to the neighbour")))
	ok(t, a.PeerCopy(b, q, p, 8))
	ok(t, a.PeerCopyAsync(b, q+8, p+8, 8, s))
	ok(t, a.PeerCopyAsync(twin, r, p, 16, s))
	ok(t, a.Sync(context.Background(), s))
	got := make([]byte, 16)
	ok(t, b.DtoH(got, q))
	ok(t, twin.DtoH(got[:8], r))
	if string(got) != "to the neighbour" {
		t.Errorf("have %q", got)
	}
	// b has not enabled access to a.
	wantCode(t, b.DtoD(q, p, 8), 1)
	var foreign struct{ Device }
	if _, err := a.CanAccess(foreign); err == nil || !strings.Contains(err.Error(), "not of this driver") {
		t.Errorf("error %v", err)
	}
}

func TestNoPeerAccess(t *testing.T) {
	t.Setenv("MOEC_STUB_PEER", "0")
	d := stub(t, 2)
	a, b := open(t, d, 0), open(t, d, 1)
	if must(a.CanAccess(b))(t) {
		t.Error("access without a link")
	}
	wantCode(t, a.EnableAccess(b), 217, "enable access to device 1", "cannot reach each other's memory")
	p, q := must(a.Alloc(4))(t), must(b.Alloc(4))(t)
	ok(t, a.PeerCopy(b, q, p, 4))
}

func TestExecutor(t *testing.T) {
	dev := open(t, stub(t, 1), 0)
	thread := 0
	ok(t, dev.Do(func() error { thread = syscall.Gettid(); return nil }))
	if thread == syscall.Gettid() {
		t.Error("ran on the caller's thread")
	}
	var all sync.WaitGroup
	running := 0
	for range 8 {
		all.Go(func() {
			for range 50 {
				err := dev.Do(func() error {
					running++ // a data race unless one function runs at a time
					defer func() { running-- }()
					if syscall.Gettid() != thread || running != 1 {
						t.Error("two threads, or two functions at once")
					}
					runtime.Gosched()
					// A call inside Do must not wait for itself.
					return dev.Do(func() error { _, _, err := dev.MemInfo(); return err })
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	problem := errors.New("problem")
	if err := dev.Do(func() error { return problem }); err != problem {
		t.Errorf("error %v, need the function's own", err)
	}
	ok(t, dev.Close())
	if _, err := dev.Alloc(1); err != errClosed {
		t.Errorf("after Close: error %v", err)
	}
	if err := dev.Close(); err != errClosed {
		t.Errorf("second Close: error %v", err)
	}
}

// TestGoexitInDo ends the executor's goroutine, as t.FailNow inside Do would.
func TestGoexitInDo(t *testing.T) {
	dev := open(t, stub(t, 1), 0)
	if err := dev.Do(func() error { runtime.Goexit(); return nil }); err != errAborted {
		t.Errorf("error %v", err)
	}
	if err := dev.Do(func() error { return nil }); err != errClosed {
		t.Errorf("afterwards: error %v", err)
	}
}

// TestOldDriver calls what the stub lacks, as a program does on a driver that
// is older than its header.
func TestOldDriver(t *testing.T) {
	dev := open(t, stub(t, 1), 0)
	ok(t, dev.Do(func() error {
		_, err := cu.MemAllocManaged(8, cu.AttachGlobal)
		if codeOf(err) != 36 {
			t.Errorf("error %v (%d), need 36", err, codeOf(err))
		}
		return nil
	}))
}

// scenario uses every call once and returns the first error.
func scenario(d Driver) (err error) {
	dev, err := d.Device(0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dev.Close()) }()
	peer, err := d.Device(1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.Close()) }()
	var (
		s    Stream
		a, b Event
		m    Module
		f    Function
		p, q Ptr
		host HostBuffer
		ctx  = context.Background()
		var8 = make([]byte, 8)
	)
	steps := []func() error{
		func() (err error) { s, err = dev.NewStream(); return },
		func() (err error) { a, err = dev.NewEvent(true); return },
		func() (err error) { b, err = dev.NewEvent(true); return },
		func() (err error) { m, err = dev.LoadModule([]byte(module)); return },
		func() (err error) { f, err = dev.Function(m, "big"); return },
		func() (err error) { _, _, err = dev.Global(m, "counter"); return },
		func() (err error) { _, err = dev.Usage(f); return },
		func() error { return dev.SetMaxShared(f, 64<<10) },
		func() (err error) { p, err = dev.Alloc(64); return },
		func() (err error) { q, err = peer.Alloc(64); return },
		func() (err error) { host, err = dev.AllocHost(64); return },
		func() (err error) { _, _, err = dev.MemInfo(); return },
		func() error { return dev.Record(a, s) },
		func() error { return dev.Memset(p, 1, 8) },
		func() error { return dev.MemsetAsync(p, 1, 8, s) },
		func() error { return dev.HtoD(p, var8) },
		func() error { return dev.DtoH(var8, p) },
		func() error { return dev.DtoD(p+8, p, 8) },
		func() error { return dev.HtoDAsync(p, HostPart{host, 0, 8}, s) },
		func() error { return dev.DtoHAsync(HostPart{host, 0, 8}, p, s) },
		func() error { return dev.DtoDAsync(p+8, p, 8, s) },
		func() error {
			return dev.Launch(f, Shape{Grid: Dim{1, 1, 1}, Block: Dim{1, 1, 1}}, bigParams(), s)
		},
		func() error { return dev.Record(b, s) },
		func() error { return dev.Wait(s, b) },
		func() error { return dev.Sync(ctx, s) },
		func() error { return dev.SyncEvent(ctx, b) },
		func() (err error) { _, err = dev.Done(b); return },
		func() (err error) { _, err = dev.Elapsed(a, b); return },
		func() (err error) { _, err = dev.CanAccess(peer); return },
		func() error { return dev.EnableAccess(peer) },
		func() error { return dev.PeerCopy(peer, q, p, 8) },
		func() error { return dev.PeerCopyAsync(peer, q, p, 8, s) },
		func() error { return host.Free() },
		func() error { return dev.Free(p) },
		func() error { return dev.UnloadModule(m) },
		func() error { return dev.CloseEvent(a) },
		func() error { return dev.CloseStream(s) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// TestEveryFault makes each call of the driver fail with each kind of code: it
// must come back as an Error with device and code, without a hang, and leave
// the devices usable.
func TestEveryFault(t *testing.T) {
	names := strings.Fields(`cuDeviceGet cuDevicePrimaryCtxRetain cuCtxSetCurrent cuStreamCreate cuEventCreate
		cuModuleLoadData cuModuleGetFunction cuModuleGetGlobal cuFuncGetAttribute cuFuncSetAttribute cuMemAlloc
		cuMemHostAlloc cuMemGetInfo cuMemsetD8 cuMemsetD8Async cuMemcpyHtoD cuMemcpyDtoH cuMemcpyDtoD
		cuMemcpyHtoDAsync cuMemcpyDtoHAsync cuMemcpyDtoDAsync cuLaunchKernel cuEventRecord cuStreamWaitEvent
		cuStreamSynchronize cuEventSynchronize cuEventQuery cuEventElapsedTime cuDeviceCanAccessPeer
		cuCtxEnablePeerAccess cuMemcpyPeer cuMemcpyPeerAsync cuMemFreeHost cuMemFree cuModuleUnload cuEventDestroy
		cuStreamDestroy cuDevicePrimaryCtxRelease`)
	d := stub(t, 2)
	ok(t, scenario(d))
	for _, name := range names {
		for _, code := range []Code{1, 2, 214, 700, 719, 999} {
			t.Setenv("MOEC_STUB_FAULT", fmt.Sprintf("%s:%d@1", name, code))
			err := scenario(d)
			var e *Error
			if !errors.As(err, &e) || e.Code != code || e.Device < 0 || e.Doing == "" {
				t.Errorf("%s with %d: error %v", name, code, err)
			}
		}
		t.Setenv("MOEC_STUB_FAULT", "")
		// A failed release leaves the context retained once more: settle it.
		for i := range 2 {
			for cu.Device(i).ReleasePrimaryCtx() == nil {
			}
		}
		if err := scenario(d); err != nil {
			t.Fatalf("after faults in %s: %v", name, err)
		}
	}
}
