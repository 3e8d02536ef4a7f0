package machine

import (
	"strings"
	"testing"

	"moec/ir/tensor"
)

func TestKnownMachinesAreSound(t *testing.T) {
	list, err := Known()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) < 7 {
		t.Errorf("%d machines are known", len(list))
	}
	for _, m := range list {
		d := m.Device
		if d.Reserve.Value*2 > d.Memory.Value || d.Bandwidth.Value > 1e13 || d.Rate(tensor.F16) < d.Rate(tensor.F32) || m.Links[0].Bandwidth.Value > d.Bandwidth.Value {
			t.Errorf("%s has numbers that do not go together: %+v", m.Name, m)
		}
	}
}

func TestLookup(t *testing.T) {
	for name, devices := range map[string]int{"h200x8": 8, "h200x4": 4, "h100x1": 1, "v100x4": 4, "host": 8} {
		m, err := Lookup(name)
		if err != nil || m.Devices != devices || m.Name != name {
			t.Errorf("Lookup(%q) = %+v, %v", name, m, err)
		}
	}
	for name, want := range map[string]string{
		"h300x2": "there are a100x4", "h200x9": "need 9, have 8", "h200x0": "need 0", "no/such.json": "no such file",
	} {
		if _, err := Lookup(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Lookup(%q): %v, want %q", name, err, want)
		}
	}
}

func TestParseWantsSources(t *testing.T) {
	text, err := known.ReadFile("known/h200x8.json")
	if err != nil {
		t.Fatal(err)
	}
	for old, new := range map[string]string{
		`"unit": "bytes/s"`: `"unit": "GB/s"`, `"source": "nvidia-smi on an H200"`: `"source": ""`, `"devices": 8`: `"devices": 0`, `"doc"`: `"dok"`, `"value": 67000000000000`: `"value": 0`,
	} {
		changed := strings.Replace(string(text), old, new, 1)
		if changed == string(text) {
			t.Fatalf("%q is not in the file", old)
		}
		if _, err := Parse("x.json", []byte(changed)); err == nil {
			t.Errorf("accepted %s", new)
		}
	}
}
