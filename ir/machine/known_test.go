package machine

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"testing"

	"moec/ir/tensor"
)

var rewrite = flag.Bool("rewrite", false, "lay out the files of the known machines again")

func knownMachines(t testing.TB) []*Machine {
	t.Helper()
	list, err := Known()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestKnownMachinesAreSound(t *testing.T) {
	list := knownMachines(t)
	if len(list) < 8 {
		t.Errorf("%d machines are known", len(list))
	}
	for _, m := range list {
		d := m.Device
		if d.Reserve.Value*2 > d.Memory.Value || d.Bandwidth.Value > 1e13 || d.Rate(tensor.F16) < d.Rate(tensor.F32) || m.Links[0].Bandwidth.Value > d.Bandwidth.Value {
			t.Errorf("%s has numbers that do not go together: %+v", m.Name, m)
		}
		if d.Kind == "cuda" && (d.Arch == "" || d.Product == "" || d.Launch.Value > 10e6) {
			t.Errorf("%s: arch %q, product %q, launch %d ps", m.Name, d.Arch, d.Product, d.Launch.Value)
		}
		for i, l := range m.Links {
			if i > 0 && (l.Bandwidth.Value > m.Links[i-1].Bandwidth.Value || l.Latency.Value < m.Links[i-1].Latency.Value) {
				t.Errorf("%s: link %d is faster than the nearer one", m.Name, i)
			}
			if l.Shared != nil && l.Shared.Bandwidth.Value > l.Bandwidth.Value*int64(l.Shared.Devices) {
				t.Errorf("%s: the %s of link %d is not narrower than what it joins", m.Name, l.Shared.Kind, i)
			}
		}
	}
}

// TestKnownFilesAreLaidOut compares the files with what Format writes, and
// reads that again.
func TestKnownFilesAreLaidOut(t *testing.T) {
	for _, m := range knownMachines(t) {
		text, err := m.Format()
		if err != nil {
			t.Fatal(err)
		}
		file := "known/" + m.Name + ".json"
		if *rewrite {
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if have, err := os.ReadFile(file); err != nil || string(have) != string(text) {
			t.Errorf("%s is not laid out: run go test ./ir/machine -args -rewrite (%v)", file, err)
		}
	}
}

// TestEveryPartIsAMachine narrows machines to every number of their devices;
// each is one that could be written down.
func TestEveryPartIsAMachine(t *testing.T) {
	for _, m := range knownMachines(t) {
		for n := 1; n <= m.Devices; n++ {
			part, err := m.With(n)
			if err != nil {
				t.Fatalf("%s: %v", m.Name, err)
			}
			text, err := part.Format()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Parse(part.Name, text)
			if err != nil {
				t.Errorf("%s with %d devices: %v", m.Name, n, err)
				continue
			}
			if !reflect.DeepEqual(again, part) || again.Hash() != part.Hash() {
				t.Errorf("%s with %d devices reads back as another machine", m.Name, n)
			}
			for a := range n {
				for b := range a {
					if x, y := m.Between(a, b), part.Between(a, b); x != y {
						t.Errorf("%s with %d devices: %d and %d are joined by link %d, not %d", m.Name, n, a, b, y, x)
					}
				}
			}
		}
	}
}

// TestHostsOfAClusterAreTheOneHost compares h100x64 with h100x8.
func TestHostsOfAClusterAreTheOneHost(t *testing.T) {
	one, many := lookup(t, "h100x8"), lookup(t, "h100x64")
	if !reflect.DeepEqual(one.Device, many.Device) {
		t.Error("their devices differ")
	}
	near := many.Links[0]
	if near.Span = 0; many.Links[0].Span != 8 || !reflect.DeepEqual(one.Links, []Link{near}) {
		t.Errorf("links within a host: %+v", many.Links[0])
	}
	if a, b := many.Between(7, 0), many.Between(7, 8); a != 0 || b != 1 {
		t.Errorf("devices 7 and 0 are joined by link %d, 7 and 8 by %d", a, b)
	}
	if four := lookup(t, "h100x4"); !reflect.DeepEqual(four.Links, one.Links) || four.Doc != one.Doc {
		t.Errorf("h100x4 is %+v", four)
	}
	if two := lookup(t, "h100x16"); two.Doc != many.Doc || len(two.Links) != 2 || two.Links[1].Span != 0 {
		t.Errorf("h100x16 is %+v", two)
	}
}

func lookup(t testing.TB, name string) *Machine {
	t.Helper()
	m, err := Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestPushes compares transfers with kernels that pushed so many bytes: launch,
// link and memory of the receiver add up to what each took.
func TestPushes(t *testing.T) {
	var table struct {
		Pushes map[string][]struct {
			Bytes int64
			US    float64
		}
	}
	readTable(t, &table)
	for name, list := range table.Pushes {
		m := lookup(t, name)
		for _, p := range list {
			price := float64(m.Device.Launch.Value+m.Links[0].Time(p.Bytes, 1)+PS(p.Bytes, m.Device.Bandwidth.Value)) / 1e6
			if price < p.US*0.9 || price > p.US*1.1 {
				t.Errorf("%s: %d bytes take %.2f us, measured %.2f", name, p.Bytes, price, p.US)
			}
		}
	}
}

func readTable(t *testing.T, to any) {
	t.Helper()
	text, err := os.ReadFile("testdata/measured.json")
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func ExampleLookup() {
	m, err := Lookup("h100x16")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(m.Name, m.Devices, m.Links[m.Between(3, 4)].Kind, m.Links[m.Between(3, 12)].Kind)
	// Output: h100x16 16 NVLink InfiniBand
}
