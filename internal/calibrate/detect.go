package calibrate

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"

	"moec/ir/machine"
	"moec/runtime/cuda/driver"
)

// Detect describes the host: its GPUs, or with none its processor. kind is
// "cuda" or "cpu", or empty for what there is. devices is how many devices of
// the processor to describe, which share it alike; GPUs are described as they
// are.
func Detect(kind string, devices int) (*machine.Machine, error) {
	switch kind {
	case "", "cpu", "cuda":
	default:
		return nil, fmt.Errorf("unknown kind of devices %q: want cpu or cuda", kind)
	}
	if kind != "cpu" {
		d, err := driver.Open()
		absent := errors.Is(err, driver.ErrNotBuilt) || errors.Is(err, driver.ErrNoDriver) || errors.Is(err, driver.ErrNoDevice)
		switch {
		case err == nil:
			known, err := machine.Known()
			if err != nil {
				return nil, err
			}
			return gpus(d, known)
		case kind == "cuda" || !absent:
			return nil, fmt.Errorf("CUDA cannot be used: %w", err)
		}
	}
	return processor(devices)
}

// name is that of a described host with so many devices: "moec machine" and
// --gpus take fewer of it by name.
func name(devices int) string { return fmt.Sprintf("localx%d", devices) }

// amount is a quantity with three digits, which is what a short measurement is
// good for.
func amount(value float64, unit, source string) machine.Quantity {
	scale := math.Pow(10, max(0, math.Floor(math.Log10(max(1, value)))-2))
	return machine.Quantity{Value: int64(math.Round(value/scale) * scale), Unit: unit, Source: source}
}

// as says that a figure is another machine's.
func as(q machine.Quantity, m *machine.Machine) machine.Quantity {
	q.Source = "as known machine " + m.Name + ": " + q.Source
	return q
}

// processor describes the host's processor as devices that share it alike.
func processor(devices int) (*machine.Machine, error) {
	if devices < 1 || devices > runtime.GOMAXPROCS(0)*16 {
		return nil, fmt.Errorf("%d devices of a processor: want 1 to %d, 16 for each core", devices, runtime.GOMAXPROCS(0)*16)
	}
	like, err := machine.Lookup("host")
	if err != nil {
		return nil, err
	}
	share := ""
	if devices > 1 {
		share = fmt.Sprintf(", a %dth of it", devices)
	}
	m := &machine.Machine{Name: name(devices), Devices: devices, Doc: fmt.Sprintf("this host's processor, %d cores, as found by \"moec machine detect\"", runtime.GOMAXPROCS(0))}
	d := &m.Device
	d.Kind = "cpu"
	d.Memory, d.Reserve = hostMemory(like, devices, share)
	measured := func(what string) string { return "measured on this host, date not included: " + what + share }
	n := float64(devices)
	d.Bandwidth = amount(readStream()/n, "bytes/s", measured(fmt.Sprintf("all cores read %d MiB each, best of %d", perCore()>>20, passes)))
	d.Rates = map[string]machine.Quantity{"f32": amount(productRate()/n, "flop/s", measured(fmt.Sprintf("all cores multiply rows of %d, best of %d", dotted, passes)))}
	d.Launch = as(like.Device.Launch, like)
	if devices > 1 {
		l := like.Links[0]
		l.Latency = as(l.Latency, like)
		l.Bandwidth = amount(copies()/n, "bytes/s", measured(fmt.Sprintf("all cores copy %d MiB each, best of %d", perCore()>>20, passes)))
		m.Links = []machine.Link{l}
	}
	return m, nil
}

// hostMemory is what the host has, shared alike, and what the system keeps.
func hostMemory(like *machine.Machine, devices int, share string) (memory, reserve machine.Quantity) {
	bytes := totalMemory("/proc/meminfo")
	if bytes == 0 {
		return as(like.Device.Memory, like), as(like.Device.Reserve, like)
	}
	bytes /= int64(devices)
	memory = machine.Quantity{Value: bytes, Unit: "bytes", Source: "detected: the memory that the system reports" + share}
	reserve = machine.Quantity{Value: bytes / 16, Unit: "bytes", Source: "assumption: a sixteenth for system and program"}
	return memory, reserve
}

// totalMemory reads the bytes of memory that Linux reports in a file, 0 where
// it does not say.
func totalMemory(file string) int64 {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) == 3 && fields[0] == "MemTotal:" && fields[2] == "kB" {
			if n, err := strconv.ParseInt(fields[1], 10, 64); err == nil && n > 0 && n < 1<<40 {
				return n << 10
			}
		}
	}
	return 0
}
