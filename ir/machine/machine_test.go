package machine

import (
	"strings"
	"testing"
)

func TestLookup(t *testing.T) {
	for name, devices := range map[string]int{"h200x8": 8, "h200x4": 4, "h100x1": 1, "h100x8": 8, "h100x9": 9, "h100x64": 64, "v100x4": 4, "host": 8} {
		m, err := Lookup(name)
		if err != nil || m.Devices != devices || m.Name != name {
			t.Errorf("Lookup(%q) = %+v, %v", name, m, err)
		}
	}
	for name, want := range map[string]string{
		"h300x2": "there are a100x4", "h200x9": "need 9, have 8", "h200x0": "need 0", "no/such.json": "no such file", "known": "there are", ".": "is not a machine description",
	} {
		if _, err := Lookup(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Lookup(%q): %v, want %q", name, err, want)
		}
	}
}

// full is a description that uses every part of the format.
const full = `{
  "name": "towerx8", "doc": "pairs behind two switches", "devices": 8,
  "device": {
    "kind": "cuda", "arch": "sm_90a", "product": "Some GPU",
    "memory": {"value": 1000000, "unit": "bytes", "source": "s"},
    "reserve": {"value": 1000, "unit": "bytes", "source": "s"},
    "bandwidth": {"value": 1000000000, "unit": "bytes/s", "source": "s"},
    "rates": {"bf16": {"value": 2000000000, "unit": "flop/s", "source": "s"}, "f32": {"value": 1000000000, "unit": "flop/s", "source": "s"}},
    "launch": {"value": 100000, "unit": "ps", "source": "s"}
  },
  "links": [
    {"kind": "bridge", "span": 2, "peer": true,
      "latency": {"value": 500000, "unit": "ps", "source": "s"}, "bandwidth": {"value": 400000000, "unit": "bytes/s", "source": "s"},
      "sizes": [{"bytes": 1000, "time": {"value": 4000000, "unit": "ps", "source": "s"}}, {"bytes": 100000, "time": {"value": 260000000, "unit": "ps", "source": "s"}}]},
    {"kind": "network",
      "latency": {"value": 3000000, "unit": "ps", "source": "s"}, "bandwidth": {"value": 100000000, "unit": "bytes/s", "source": "s"},
      "shared": {"kind": "switch", "devices": 4, "bandwidth": {"value": 150000000, "unit": "bytes/s", "source": "s"}}}
  ],
  "measured": [{"op": "matmul", "source": "s", "points": [{"price_ps": 1000000, "took_ps": 3000000}, {"price_ps": 1000000000, "took_ps": 1200000000}]}]
}`

// mistakes are changes to full and what is said of each.
var mistakes = []struct{ name, old, new, want string }{
	{"unknown field", `"doc"`, `"dok"`, `machine x.json: line 2: need only fields of the format, have "dok"; correct or delete it; docs/machines.md describes the format`},
	{"unknown field further down", `"peer"`, `"pear"`, `need only fields of the format, have "pear"`},
	{"wrong kind", `"devices": 8`, `"devices": "8"`, "line 2: devices: need a whole number below 2^63, have a JSON string"},
	{"fraction", `"value": 100000,`, `"value": 0.1,`, "launch.value: need a whole number below 2^63, have a JSON number 0.1"},
	{"list", `"links": [`, `"links": 3, "measured": [`, "links: need a list, have a JSON number"},
	{"object", `{"kind": "switch", "devices": 4, `, `["switch", {`, "is not JSON"},
	{"cut", `"measured": [`, `"measured": [[`, "is not JSON: need an object, have"},
	{"more than one object", "\n}", "\n}{", "line 20: need one object and nothing after it, have more"},
	{"no name", `"name": "towerx8"`, `"name": ""`, "name: need a name, have none"},
	{"no devices", `"devices": 8`, `"devices": 0`, "devices: need 1 to 4096, have 0; say how many"},
	{"too many devices", `"devices": 8`, `"devices": 5000`, "devices: need 1 to 4096, have 5000"},
	{"kind of device", `"kind": "cuda"`, `"kind": "tpu"`, `device.kind: need "cuda" or "cpu", have "tpu"`},
	{"architecture", `sm_90a`, `hopper`, `device.arch: need an architecture such as sm_90, have "hopper"`},
	{"element type", `"bf16": {`, `"fp8": {`, `device.rates: need element types f32, bf16 or f16, have "fp8"`},
	{"integers", `"bf16": {`, `"i32": {`, `device.rates: need element types f32, bf16 or f16, have "i32"`},
	{"no f32", `, "f32": {"value": 1000000000, "unit": "flop/s", "source": "s"}`, ``, `device.rates.f32: need unit "flop/s", have ""`},
	{"another unit", `"value": 1000000000, "unit": "bytes/s"`, `"value": 1, "unit": "GB/s"`, `device.bandwidth: need unit "bytes/s", have "GB/s"; give the number in this unit`},
	{"no unit", `"value": 500000, "unit": "ps"`, `"value": 500000`, `links[0].latency: need unit "ps", have ""`},
	{"no source", `"value": 1000000, "unit": "bytes", "source": "s"`, `"value": 1000000, "unit": "bytes"`, "device.memory: need a source, have none; say where"},
	{"no source of a size", `"value": 4000000, "unit": "ps", "source": "s"`, `"value": 4000000, "unit": "ps"`, "links[0].sizes[0].time: need a source, have none"},
	{"nothing", `"value": 1000000000, "unit": "bytes/s"`, `"value": 0, "unit": "bytes/s"`, "device.bandwidth: need 1 to 2^60 bytes/s, have 0"},
	{"less than nothing", `"value": 100000,`, `"value": -1,`, "device.launch: need 0 to 2^60 ps, have -1"},
	{"no room", `"value": 1000, "unit": "bytes"`, `"value": 1000000, "unit": "bytes"`, "device.reserve: need less than device.memory, 1000000 bytes, have 1000000"},
	{"no links", `"links": [`, `"links": [], "measured": [`, "need only fields"},
	{"span that does not divide", `"span": 2`, `"span": 3`, ""}, // 8 devices are 3, 3 and 2
	{"negative span", `"span": 2`, `"span": -2`, "links[0].span: need 1 to 8 devices, have -2"},
	{"wide span", `"span": 2`, `"span": 16`, "links[0].span: need 1 to 8 devices, have 16"},
	{"first link joins all", `"span": 2`, `"span": 8`, "links[1].span: need more than the 8 devices of the link before, have 8; list links with the nearest"},
	{"no span", `"span": 2, `, ``, "links[0].span: need a number of devices for every link but the last, have none"},
	{"last link joins some", `"kind": "network",`, `"kind": "network", "span": 4,`, "links[1].span: need all 8 devices for the last link, have 4"},
	{"spans that do not divide", `{"kind": "network",`, `{"kind": "board", "span": 3, "latency": {"value": 600000, "unit": "ps", "source": "s"}, "bandwidth": {"value": 300000000, "unit": "bytes/s", "source": "s"}}, {"kind": "network",`,
		"links[1].span: need a multiple of the 2 devices of the link before, have 3; a link joins whole runs"},
	{"sizes that descend", `"bytes": 100000`, `"bytes": 1000`, "links[0].sizes[1].bytes: need more than 1000, at most 2^50, have 1000; list sizes in ascending order"},
	{"times that descend", `"value": 260000000`, `"value": 3999999`, "links[0].sizes[1].time: need at least the 4000000 ps of less, have 3999999"},
	{"size below the latency", `"value": 4000000,`, `"value": 499999,`, "links[0].sizes[0].time: need at least the 500000 ps of less, have 499999"},
	{"shared by nobody", `"kind": "switch", "devices": 4`, `"kind": "switch", "devices": 0`, "links[1].shared.devices: need 1 to 8, have 0"},
	{"no unit of a shared part", `"value": 150000000, "unit": "bytes/s"`, `"value": 150000000`, `links[1].shared.bandwidth: need unit "bytes/s"`},
	{"curve without points", `"points": [{"price_ps": 1000000, "took_ps": 3000000}, {"price_ps": 1000000000, "took_ps": 1200000000}]`, `"points": []`, `measured[0]: need an op and points, have op "matmul", 0 points`},
	{"curve without source", `"op": "matmul", "source": "s"`, `"op": "matmul"`, "measured[0].source: need where the points come from, have nothing"},
	{"two curves", `"measured": [`, `"measured": [{"op": "matmul", "source": "s", "points": [{"price_ps": 1, "took_ps": 1}]}, `, "measured[1].op: need one curve for each op, have a second one for matmul"},
	{"prices that descend", `"price_ps": 1000000000`, `"price_ps": 1000000`, "measured[0].points[1].price_ps: need more than 1000000, have 1000000; list points by ascending price"},
	{"times of a curve that descend", `"took_ps": 1200000000`, `"took_ps": 2999999`, "measured[0].points[1].took_ps: need at least 3000000, have 2999999"},
	{"a curve of nothing", `"took_ps": 3000000`, `"took_ps": 0`, "measured[0].points[0].took_ps: need at least 1, have 0"},
}

func TestParse(t *testing.T) {
	if _, err := Parse("x.json", []byte(full)); err != nil {
		t.Fatal(err)
	}
	for _, c := range mistakes {
		text := strings.Replace(full, c.old, c.new, 1)
		if text == full {
			t.Errorf("%s: %q is not in the description", c.name, c.old)
			continue
		}
		_, err := Parse("x.json", []byte(text))
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestLinkTime works a link out by hand: 500 ns and 2.5 ns a byte, measured at
// 1,000 and at 100,000 bytes; and one that four devices share.
func TestLinkTime(t *testing.T) {
	m, err := Parse("x.json", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	bridge, network := &m.Links[0], &m.Links[1]
	for _, c := range []struct {
		link  *Link
		bytes int64
		users int
		want  int64 // ns
	}{
		{bridge, 0, 1, 500}, {bridge, 500, 1, 2250}, {bridge, 1000, 1, 4000}, {bridge, 50500, 1, 132000}, {bridge, 100000, 1, 260000}, {bridge, 200000, 1, 510000},
		{network, 1000, 1, 13000}, {network, 1000, 2, 3000 + 13333}, {network, 1000, 4, 3000 + 26666},
	} {
		if got := c.link.Time(c.bytes, c.users) / 1000; got != c.want {
			t.Errorf("%s: %d bytes of %d devices take %d ns, want %d", c.link.Kind, c.bytes, c.users, got, c.want)
		}
	}
	// A part that is shared and was measured alone: company never makes it
	// faster, and more bytes never either.
	both := *bridge
	both.Shared = &Shared{Kind: "switch", Devices: 2, Bandwidth: Quantity{Value: 4e8}}
	var before int64
	for bytes := int64(0); bytes < 300000; bytes += 997 {
		alone, together := both.Time(bytes, 1), both.Time(bytes, 2)
		if together < alone || together < before {
			t.Fatalf("%d bytes take %d ps alone, %d together, less took %d", bytes, alone, together, before)
		}
		before = together
	}
}

func TestCorrect(t *testing.T) {
	m, err := Parse("x.json", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	for price, want := range map[int64]int64{0: 0, 500e3: 1500e3, 1e6: 3e6, 500.5e6: 601.5e6, 1e9: 1.2e9, 2e9: 2.4e9} {
		if got := m.Correct("matmul", price); got != want {
			t.Errorf("a price of %d becomes %d, want %d", price, got, want)
		}
	}
	if got := m.Correct("attention", 7); got != 7 {
		t.Errorf("without measurements a price of 7 becomes %d", got)
	}
	if got := m.Least("matmul"); got != 1.2e6 {
		t.Errorf("prices of matmul fall to %d parts of a million", got)
	}
}

func TestScale(t *testing.T) {
	for _, c := range []struct{ a, b, c, want int64 }{
		{6, 7, 2, 21}, {1 << 50, 1e12, 1e12, 1 << 50}, {1 << 50, 1e12, 1, forever}, {1 << 50, 1e12, 1 << 26, forever}, {9e18, 1, 1, 9e18}, {0, 5, 3, 0},
	} {
		if got := Scale(c.a, c.b, c.c); got != c.want {
			t.Errorf("%d * %d / %d = %d, want %d", c.a, c.b, c.c, got, c.want)
		}
	}
}

// FuzzParse reads arbitrary descriptions. What is accepted can be written,
// narrowed, and priced without surprises.
func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	for _, c := range mistakes {
		f.Add([]byte(strings.Replace(full, c.old, c.new, 1)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse("x", text)
		if err != nil {
			if e, ok := err.(*Error); !ok || e.What == "" || e.Need == "" || e.Have == "" || e.Remedy == "" {
				t.Fatalf("an error without what, need, have or remedy: %v", err)
			}
			return
		}
		for _, n := range []int{1, (m.Devices + 1) / 2, m.Devices} {
			part, err := m.With(n)
			if err != nil {
				t.Fatal(err)
			}
			written, err := part.Format()
			if err != nil {
				t.Fatal(err)
			}
			again, err := Parse("y", written)
			if err != nil || again.Hash() != part.Hash() {
				t.Fatalf("with %d devices it reads back otherwise: %v\n%s", n, err, written)
			}
		}
		monotonous(t, m)
	})
}

// monotonous checks that more never takes less.
func monotonous(t *testing.T, m *Machine) {
	for i := range m.Links {
		for users := 1; users < 4; users++ {
			var before int64
			for bytes := int64(1); bytes < 1<<50; bytes *= 7 {
				took := m.Links[i].Time(bytes, users)
				if took < before || took < m.Links[i].Time(bytes, 1) {
					t.Fatalf("link %d: %d bytes of %d devices take %d ps, less took %d", i, bytes, users, took, before)
				}
				before = took
			}
		}
	}
	for _, c := range m.Measured {
		var before int64
		for price := int64(1); price < maxQuantity; price *= 7 {
			took := m.Correct(c.Op, price)
			if took < before {
				t.Fatalf("%s: a price of %d becomes %d, a lower one %d", c.Op, price, took, before)
			}
			before = took
		}
	}
}
