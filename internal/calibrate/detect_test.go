package calibrate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moec/ir/machine"
	"moec/ir/tensor"
	"moec/runtime/cuda/driver"
)

// fakeDriver has devices that only say what they are and take a while to copy.
type fakeDriver struct {
	driver.Driver
	infos []driver.Info
	peer  bool
	open  int
}

type fakeDevice struct {
	driver.Device
	d     *fakeDriver
	info  driver.Info
	alive int // allocations
}

func (d *fakeDriver) Devices() []driver.Info { return d.infos }

func (d *fakeDriver) Device(i int) (driver.Device, error) {
	d.open++
	return &fakeDevice{d: d, info: d.infos[i]}, nil
}

func (f *fakeDevice) Info() driver.Info                     { return f.info }
func (f *fakeDevice) MemInfo() (int64, int64, error)        { return f.info.Memory, f.info.Memory, nil }
func (f *fakeDevice) CanAccess(driver.Device) (bool, error) { return f.d.peer, nil }
func (f *fakeDevice) EnableAccess(driver.Device) error      { return nil }
func (f *fakeDevice) Alloc(int64) (driver.Ptr, error)       { f.alive++; return 256, nil }
func (f *fakeDevice) Free(driver.Ptr) error                 { f.alive--; return nil }
func (f *fakeDevice) DtoD(driver.Ptr, driver.Ptr, int64) error {
	time.Sleep(10 * time.Millisecond)
	return nil
}
func (f *fakeDevice) PeerCopy(driver.Device, driver.Ptr, driver.Ptr, int64) error {
	time.Sleep(20 * time.Millisecond)
	return nil
}

func (f *fakeDevice) Close() error {
	f.d.open--
	if f.alive != 0 {
		return fmt.Errorf("%d allocations are left", f.alive)
	}
	return nil
}

func alike(n int, name string, major, minor, sms int, memory int64) []driver.Info {
	list := make([]driver.Info, n)
	for i := range list {
		list[i] = driver.Info{Index: i, Name: name, Major: major, Minor: minor, Multiprocessors: sms, Memory: memory}
	}
	return list
}

func known(t *testing.T) []*machine.Machine {
	t.Helper()
	list, err := machine.Known()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// readBack writes a machine and reads it again, as --machine FILE does.
func readBack(t *testing.T, m *machine.Machine) *machine.Machine {
	t.Helper()
	text, err := m.Format()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "m.json")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := machine.Lookup(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if again.Hash() != m.Hash() {
		t.Errorf("reads back as another machine:\n%s", text)
	}
	return again
}

func TestGPUsThatAreKnown(t *testing.T) {
	d := &fakeDriver{infos: alike(2, "NVIDIA H100 80GB HBM3", 9, 0, 132, 85e9), peer: true}
	m, err := gpus(d, known(t))
	if err != nil || d.open != 0 {
		t.Fatalf("%v, %d devices are open", err, d.open)
	}
	m = readBack(t, m)
	h100, err := machine.Lookup("h100x2")
	if err != nil {
		t.Fatal(err)
	}
	if m.Devices != 2 || m.Device.Memory.Value != 85e9 || m.Device.Arch != "sm_90a" || m.Device.Rate(tensor.BF16) != h100.Device.Rate(tensor.BF16) {
		t.Errorf("found %+v", m)
	}
	if a, b := m.Links[0].Time(1<<20, 1), h100.Links[0].Time(1<<20, 1); a != b {
		t.Errorf("1 MB takes %d ps, on the known machine %d", a, b)
	}
	for _, source := range []string{m.Device.Bandwidth.Source, m.Links[0].Sizes[0].Time.Source, m.Device.Launch.Source} {
		if !strings.HasPrefix(source, "as known machine h100x8: ") {
			t.Errorf("a source is %q", source)
		}
	}
}

func TestGPUsThatAreNotKnown(t *testing.T) {
	d := &fakeDriver{infos: alike(4, "NVIDIA A10", 8, 6, 54, 24e9)}
	m, err := gpus(d, known(t))
	if err != nil || d.open != 0 {
		t.Fatalf("%v, %d devices are open", err, d.open)
	}
	m = readBack(t, m)
	l := m.Links[0]
	if m.Devices != 4 || m.Device.Arch != "sm_86" || l.Peer || l.Kind != "through host memory" {
		t.Errorf("found %+v", m)
	}
	// 1 GiB read and written in 10 ms or a little more, 256 MiB in 20.
	if got := float64(m.Device.Bandwidth.Value); got > 2.16e11 || got < 0.5e11 {
		t.Errorf("copies run at %.3g bytes/s", got)
	}
	if got := float64(l.Bandwidth.Value); got > 1.36e10 || got < 0.3e10 {
		t.Errorf("copies between devices run at %.3g bytes/s", got)
	}
	if want := int64(250e12 / 2); m.Device.Rate(tensor.BF16) != want { // half of an A100's 108
		t.Errorf("bf16 runs at %d, want %d", m.Device.Rate(tensor.BF16), want)
	}
	for source, want := range map[string]string{m.Device.Bandwidth.Source: "measured on this host, date not included", m.Device.Rates["bf16"].Source: "a100x4, by 54 multiprocessors detected to its 108", m.Device.Memory.Source: "detected"} {
		if !strings.Contains(source, want) {
			t.Errorf("a source is %q, want %q", source, want)
		}
	}
}

func TestGPUsThatDiffer(t *testing.T) {
	d := &fakeDriver{infos: append(alike(1, "NVIDIA L4", 8, 9, 58, 24e9), alike(1, "NVIDIA L40S", 8, 9, 142, 48e9)...)}
	if _, err := gpus(d, known(t)); err == nil || !strings.Contains(err.Error(), "need devices of one kind, have NVIDIA L4 and NVIDIA L40S; choose alike ones with CUDA_VISIBLE_DEVICES") {
		t.Errorf("error is %v", err)
	}
}

func TestNearest(t *testing.T) {
	for _, c := range []struct {
		name         string
		major, minor int
		want         string
	}{
		{"NVIDIA H200", 9, 0, "h200x8"}, {"NVIDIA H100 80GB HBM3", 9, 0, "h100x8"}, {"NVIDIA L4", 8, 9, "l4x8"},
		{"NVIDIA B200", 10, 0, "h100x8"}, {"NVIDIA A40", 8, 6, "a100x4"}, {"Tesla T4", 7, 5, "v100x4"}, {"Tesla P100", 6, 0, "v100x4"},
	} {
		if m := nearest(known(t), driver.Info{Name: c.name, Major: c.major, Minor: c.minor}); m.Name != c.want {
			t.Errorf("%s is nearest to %s, want %s", c.name, m.Name, c.want)
		}
	}
}

// TestProcessor measures this host, loosely: it is shared.
func TestProcessor(t *testing.T) {
	m, err := Detect("cpu", 1)
	if err != nil {
		t.Fatal(err)
	}
	m = readBack(t, m)
	d := m.Device
	if m.Devices != 1 || len(m.Links) != 0 || d.Kind != "cpu" || d.Memory.Value < 1<<28 {
		t.Errorf("found %+v", m)
	}
	if b, r := d.Bandwidth.Value, d.Rates["f32"].Value; b < 1e8 || b > 1e13 || r < 1e8 || r > 1e15 {
		t.Errorf("reads %d bytes/s, computes %d flop/s", b, r)
	}
	if !strings.HasPrefix(d.Bandwidth.Source, "measured on this host, date not included: ") {
		t.Errorf("source is %q", d.Bandwidth.Source)
	}
	four, err := processor(4)
	if err != nil {
		t.Fatal(err)
	}
	four = readBack(t, four)
	if four.Devices != 4 || four.Name != "localx4" || four.Links[0].Bandwidth.Value < 1e7 || four.Device.Memory.Value > d.Memory.Value/3 {
		t.Errorf("as four devices: %+v", four)
	}
	for _, devices := range []int{0, -1, 1 << 20} {
		if _, err := Detect("cpu", devices); err == nil || !strings.Contains(err.Error(), "want 1 to") {
			t.Errorf("%d devices: %v", devices, err)
		}
	}
	if _, err := Detect("tpu", 1); err == nil || !strings.Contains(err.Error(), "want cpu or cuda") {
		t.Errorf("tpu: %v", err)
	}
}

func TestTotalMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meminfo")
	for text, want := range map[string]int64{"MemFree: 1 kB\nMemTotal:       2048 kB\n": 2 << 20, "": 0, "MemTotal: x kB\n": 0, "MemTotal: -5 kB\n": 0} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := totalMemory(file); got != want {
			t.Errorf("%q says %d bytes, want %d", text, got, want)
		}
	}
	if got := totalMemory(file + ".none"); got != 0 {
		t.Errorf("no file says %d bytes", got)
	}
}

func TestAmount(t *testing.T) {
	for value, want := range map[float64]int64{1234567: 1230000, 999.6: 1000, 12: 12, 4.3849e12: 4380000000000} {
		if got := amount(value, "x", "y").Value; got != want {
			t.Errorf("%g becomes %d, want %d", value, got, want)
		}
	}
}
