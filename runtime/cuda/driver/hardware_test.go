//go:build cuda && cgo

package driver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// These tests need a GPU and skip themselves elsewhere.

// hardware opens the real driver.
func hardware(t testing.TB) Driver {
	t.Helper()
	d, err := Open()
	if err != nil {
		t.Skip(err)
	}
	if strings.HasPrefix(d.Devices()[0].Name, "stub GPU") {
		t.Skip("this test needs a GPU, here is the stub driver")
	}
	return d
}

// images returns the test kernels as PTX, and as a cubin where there is an nvcc.
func images(t testing.TB, arch string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{"ptx": must(os.ReadFile("testdata/kernels.ptx"))(t)}
	nvcc := filepath.Join(os.Getenv("CUDA_HOME"), "bin", "nvcc")
	if _, err := os.Stat(nvcc); err != nil {
		if nvcc, err = exec.LookPath("nvcc"); err != nil {
			t.Log("no nvcc: the cubin is not tested")
			return all
		}
	}
	cubin := filepath.Join(t.TempDir(), "kernels.cubin")
	out, err := exec.Command(nvcc, "-cubin", "-arch="+arch, "-o", cubin, "testdata/kernels.cu").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all["cubin"] = must(os.ReadFile(cubin))(t)
	return all
}

// words reads device memory.
func words(t testing.TB, dev Device, p Ptr, n int) []uint32 {
	t.Helper()
	raw := make([]byte, 4*n)
	ok(t, dev.DtoH(raw, p))
	out := make([]uint32, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(raw[4*i:])
	}
	return out
}

func TestHardwareDevices(t *testing.T) {
	d := hardware(t)
	for _, i := range d.Devices() {
		t.Log(i, i.PCI, i.Multiprocessors, "multiprocessors", i.SharedPerBlock, "B shared", i.L2, "B L2; CUDA", d.Version())
		if i.Major < 7 || i.Memory < 1<<30 || i.Multiprocessors < 1 || i.SharedPerBlock < 48<<10 || !strings.HasPrefix(i.UUID, "GPU-") || len(i.UUID) != 40 {
			t.Errorf("%+v", i)
		}
	}
}

func TestHardwareKernels(t *testing.T) {
	d := hardware(t)
	dev := open(t, d, 0)
	for kind, image := range images(t, dev.Info().Arch()) {
		t.Run(kind, func(t *testing.T) {
			m := must(dev.LoadModule(image))(t)
			s := must(dev.NewStream())(t)
			p := must(dev.Alloc(1 << 20))(t)
			t.Run("fill", func(t *testing.T) { checkFill(t, dev, m, s, p) })
			t.Run("struct", func(t *testing.T) { checkStruct(t, dev, m, s, p) })
			t.Run("shared", func(t *testing.T) { checkShared(t, dev, m, s, p) })
			t.Run("time", func(t *testing.T) { checkTime(t, dev, m, s) })
			at, size, err := dev.Global(m, "counter")
			if err != nil || size != 4 || words(t, dev, at, 1)[0] != 41 {
				t.Errorf("variable of %d bytes, error %v", size, err)
			}
			ok(t, dev.Free(p))
			ok(t, dev.CloseStream(s))
			ok(t, dev.UnloadModule(m))
		})
	}
}

func checkFill(t *testing.T, dev Device, m Module, s Stream, p Ptr) {
	f := must(dev.Function(m, "fill_u32"))(t)
	ok(t, dev.Memset(p, 0xEE, 1<<12))
	var params Params
	params.Ptr(p + 4).Uint32(0xC0FFEE).Uint32(1000)
	ok(t, dev.Launch(f, Shape{Grid: Dim{4, 1, 1}, Block: Dim{256, 1, 1}}, &params, s))
	ok(t, dev.Sync(context.Background(), s))
	want := slices.Concat([]uint32{0xEEEEEEEE}, slices.Repeat([]uint32{0xC0FFEE}, 1000), []uint32{0xEEEEEEEE})
	if got := words(t, dev, p, 1002); !slices.Equal(got, want) {
		t.Errorf("have %x", got)
	}
	u := must(dev.Usage(f))(t)
	if info := dev.Info(); u.Arch != info.Major*10+info.Minor || u.Registers < 1 || u.Local != 0 || u.MaxThreads != 1024 {
		t.Errorf("%+v", u)
	}
}

func checkStruct(t *testing.T, dev Device, m Module, s Stream, p Ptr) {
	f := must(dev.Function(m, "add_struct"))(t)
	block := make([]byte, 128)
	for i := range block {
		block[i] = byte(200 - i)
	}
	var params Params
	params.Uint32(10000).Struct(block).Uint32(5).Ptr(p)
	ok(t, dev.Launch(f, Shape{Grid: Dim{1, 1, 1}, Block: Dim{128, 1, 1}}, &params, s))
	ok(t, dev.Sync(context.Background(), s))
	for i, v := range words(t, dev, p, 128) {
		if v != uint32(10205-i) {
			t.Fatalf("word %d: %d, need %d", i, v, 10205-i)
		}
	}
}

// checkShared uses more shared memory than a launch gets unasked.
func checkShared(t *testing.T, dev Device, m Module, s Stream, p Ptr) {
	f := must(dev.Function(m, "reverse"))(t)
	const n = 15000 // 60,000 bytes
	raw := make([]byte, 4*n)
	for i := range n {
		binary.LittleEndian.PutUint32(raw[4*i:], uint32(i))
	}
	ok(t, dev.HtoD(p, raw))
	var params Params
	params.Ptr(p).Uint32(n)
	shape := Shape{Grid: Dim{1, 1, 1}, Block: Dim{512, 1, 1}, Shared: 4 * n}
	wantCode(t, dev.Launch(f, shape, &params, s), 1)
	ok(t, dev.SetMaxShared(f, 4*n))
	ok(t, dev.Launch(f, shape, &params, s))
	ok(t, dev.Sync(context.Background(), s))
	for i, v := range words(t, dev, p, n) {
		if v != uint32(n-1-i) {
			t.Fatalf("word %d: %d, need %d", i, v, n-1-i)
		}
	}
	wantCode(t, dev.SetMaxShared(f, 1<<20), 1)
}

// checkTime measures a kernel of known length, and gives up on a longer one.
func checkTime(t *testing.T, dev Device, m Module, s Stream) {
	f := must(dev.Function(m, "spin"))(t)
	from, to := must(dev.NewEvent(true))(t), must(dev.NewEvent(true))(t)
	var params Params
	spin := func(d time.Duration) error {
		params.Reset()
		params.Int64(d.Nanoseconds())
		return dev.Launch(f, Shape{Grid: Dim{1, 1, 1}, Block: Dim{1, 1, 1}}, &params, s)
	}
	ok(t, spin(time.Microsecond))
	ok(t, dev.Record(from, s))
	ok(t, spin(20*time.Millisecond))
	ok(t, dev.Record(to, s))
	if done := must(dev.Done(to))(t); done {
		t.Error("done at once")
	}
	ok(t, dev.SyncEvent(context.Background(), to))
	if d := must(dev.Elapsed(from, to))(t); d < 19*time.Millisecond || d > 40*time.Millisecond {
		t.Errorf("a kernel of 20 ms took %v", d)
	}
	ok(t, spin(500*time.Millisecond))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := dev.Sync(ctx, s); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 200*time.Millisecond {
		t.Errorf("after %v: error %v", time.Since(start), err)
	}
	ok(t, dev.Sync(context.Background(), s))
}

func TestHardwareCopies(t *testing.T) {
	dev := open(t, hardware(t), 0)
	const n = 64 << 20
	s := must(dev.NewStream())(t)
	host := must(dev.AllocHost(n))(t)
	p, q := must(dev.Alloc(n))(t), must(dev.Alloc(n))(t)
	for i := range host.Bytes() {
		host.Bytes()[i] = byte(i * 7)
	}
	want := slices.Clone(host.Bytes())
	start := time.Now()
	ok(t, dev.HtoDAsync(p, HostPart{host, 0, n}, s))
	ok(t, dev.Sync(context.Background(), s))
	t.Logf("page-locked copy to the device: %.1f GB/s", n/time.Since(start).Seconds()/1e9)
	ok(t, dev.DtoDAsync(q, p, n, s))
	ok(t, dev.Sync(context.Background(), s))
	clear(host.Bytes())
	ok(t, dev.DtoHAsync(HostPart{host, 0, n}, q, s))
	ok(t, dev.Sync(context.Background(), s))
	if !slices.Equal(host.Bytes(), want) {
		t.Error("page-locked copies changed the bytes")
	}
	got := make([]byte, n)
	ok(t, dev.Memset(q, 1, n))
	ok(t, dev.HtoD(q, want))
	ok(t, dev.DtoD(p, q, n))
	ok(t, dev.DtoH(got, p))
	if !slices.Equal(got, want) {
		t.Error("copies changed the bytes")
	}
	_, err := dev.Alloc(1 << 50)
	wantCode(t, err, CodeOutOfMemory, "free")
}

func TestHardwarePeers(t *testing.T) {
	d := hardware(t)
	a := open(t, d, 0)
	peers := []Device{open(t, d, 0)}
	if len(d.Devices()) > 1 {
		peers = append(peers, open(t, d, 1))
	}
	for _, b := range peers {
		p, q := must(a.Alloc(1<<20))(t), must(b.Alloc(1<<20))(t)
		ok(t, a.Memset(p, 0x5C, 1<<20))
		ok(t, b.Memset(q, 0, 1<<20))
		if can := must(a.CanAccess(b))(t); can {
			ok(t, a.EnableAccess(b))
			ok(t, a.EnableAccess(b))
		}
		s := must(a.NewStream())(t)
		ok(t, a.PeerCopy(b, q, p, 1<<19))
		ok(t, a.PeerCopyAsync(b, q+1<<19, p, 1<<19, s))
		ok(t, a.Sync(context.Background(), s))
		for i, v := range words(t, b, q, 1<<18) {
			if v != 0x5C5C5C5C {
				t.Fatalf("%v: word %d is %#x", b.Info(), i, v)
			}
		}
	}
}

// TestHardwareLaunchCost reports what a launch costs the host.
func TestHardwareLaunchCost(t *testing.T) {
	dev := open(t, hardware(t), 0)
	m := must(dev.LoadModule(images(t, dev.Info().Arch())["ptx"]))(t)
	f := must(dev.Function(m, "fill_u32"))(t)
	s := must(dev.NewStream())(t)
	p := must(dev.Alloc(4))(t)
	var params Params
	params.Ptr(p).Uint32(1).Uint32(1)
	const n = 10000
	for _, inside := range []bool{true, false} {
		loop := func() error {
			for range n {
				if err := dev.Launch(f, Shape{Grid: Dim{1, 1, 1}, Block: Dim{32, 1, 1}}, &params, s); err != nil {
					return err
				}
			}
			return nil
		}
		start := time.Now()
		if inside {
			ok(t, dev.Do(loop))
		} else {
			ok(t, loop())
		}
		t.Logf("inside Do %v: %v per launch", inside, time.Since(start)/n)
		ok(t, dev.Sync(context.Background(), s))
	}
}

// TestHardwareLostContext runs a kernel with a bad address in a process of its
// own, because that ends the use of the device.
func TestHardwareLostContext(t *testing.T) {
	d := hardware(t)
	if os.Getenv("DRIVER_TEST_CRASH") == "" {
		cmd := exec.Command(must(os.Executable())(t), "-test.run=^TestHardwareLostContext$", "-test.v")
		cmd.Env = append(os.Environ(), "DRIVER_TEST_CRASH=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "CUDA_ERROR_ILLEGAL_ADDRESS (700)") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	dev := open(t, d, 0)
	m := must(dev.LoadModule(images(t, dev.Info().Arch())["ptx"]))(t)
	f := must(dev.Function(m, "fill_u32"))(t)
	var params Params
	params.Ptr(0x1000).Uint32(1).Uint32(1)
	ok(t, dev.Launch(f, Shape{Grid: Dim{1, 1, 1}, Block: Dim{1, 1, 1}}, &params, 0))
	err := dev.Sync(context.Background(), 0)
	wantCode(t, err, 700)
	fmt.Println(err)
	if e := err.(*Error); !e.Fatal() {
		t.Error("code 700 must be fatal")
	}
	_, err = dev.Alloc(8)
	wantCode(t, err, 700)
	fmt.Println("closing:", dev.Close())
}
