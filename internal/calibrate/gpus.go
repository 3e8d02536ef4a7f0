package calibrate

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"moec/ir/machine"
	"moec/runtime/cuda/driver"
)

// multiprocessors are those of known machines, by product, to take rates of one
// GPU for another of the same architecture. From NVIDIA's white papers.
var multiprocessors = map[string]int{
	"NVIDIA H200": 132, "NVIDIA H100 80GB HBM3": 132, "NVIDIA A100-SXM4-80GB": 108, "Tesla V100-SXM2-32GB": 80, "NVIDIA L40S": 142, "NVIDIA L4": 58,
}

// gpus describes the GPUs of the host: what the driver says of them, and the
// figures of the known machine with the same product. Of a product that is not
// known, copies are timed, and the rest is estimated from the known machine of
// the nearest architecture.
func gpus(d driver.Driver, known []*machine.Machine) (_ *machine.Machine, err error) {
	infos := d.Devices()
	for _, i := range infos {
		if i.Name != infos[0].Name {
			return nil, fmt.Errorf("the GPUs are not alike: need devices of one kind, have %s and %s; choose alike ones with CUDA_VISIBLE_DEVICES", infos[0].Name, i.Name)
		}
	}
	var open []driver.Device
	defer func() {
		for _, o := range open {
			err = errors.Join(err, o.Close())
		}
	}()
	for _, i := range infos {
		o, err := d.Device(i.Index)
		if err != nil {
			return nil, err
		}
		open = append(open, o)
	}
	m := &machine.Machine{Name: name(len(infos)), Devices: len(infos), Doc: fmt.Sprintf("%d x %s, as found by \"moec machine detect\"", len(infos), infos[0].Name)}
	like := nearest(known, infos[0])
	if err := describe(&m.Device, infos[0], like, open[0]); err != nil {
		return nil, err
	}
	if len(open) > 1 {
		if m.Links, err = links(open, like, known); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// nearest is the known machine of the same product, the smallest of several;
// else one of the newest architecture that is not newer; else the oldest.
func nearest(known []*machine.Machine, info driver.Info) *machine.Machine {
	have := 10*info.Major + info.Minor
	distance := func(m *machine.Machine) int {
		a := arch(m.Device.Arch)
		switch {
		case m.Device.Kind != "cuda":
			return 1 << 20
		case m.Device.Product == info.Name:
			return -1
		case a > have:
			return 1<<10 + a - have
		}
		return have - a
	}
	return slices.MinFunc(known, func(a, b *machine.Machine) int {
		return cmp.Or(cmp.Compare(distance(a), distance(b)), cmp.Compare(a.Devices, b.Devices), strings.Compare(a.Name, b.Name))
	})
}

// arch is the number of an architecture, 90 for "sm_90a".
func arch(name string) int {
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(name, "sm_"), "a"))
	if err != nil {
		return 0
	}
	return n
}

// describe fills in what a device is.
func describe(d *machine.Device, info driver.Info, like *machine.Machine, open driver.Device) error {
	l := &like.Device
	d.Kind, d.Product, d.Arch = "cuda", info.Name, info.Arch()
	d.Memory = machine.Quantity{Value: info.Memory, Unit: "bytes", Source: "detected: the memory that the driver reports"}
	d.Reserve = as(l.Reserve, like)
	d.Reserve.Value = min(d.Reserve.Value, d.Memory.Value/4)
	d.Launch = as(l.Launch, like)
	d.Rates = make(map[string]machine.Quantity)
	if l.Product == info.Name {
		d.Arch, d.Bandwidth = l.Arch, as(l.Bandwidth, like)
		for t, q := range l.Rates {
			d.Rates[t] = as(q, like)
		}
		return nil
	}
	for t, q := range l.Rates {
		n := cmp.Or(multiprocessors[l.Product], info.Multiprocessors)
		d.Rates[t] = amount(float64(q.Value)*float64(info.Multiprocessors)/float64(n), q.Unit,
			fmt.Sprintf("estimate: that of known machine %s, by %d multiprocessors detected to its %d", like.Name, info.Multiprocessors, n))
	}
	bytes, seconds, err := copyWithin(open)
	if err != nil {
		return err
	}
	d.Bandwidth = amount(2*float64(bytes)/seconds, "bytes/s", fmt.Sprintf("measured on this host, date not included: a copy of %d MiB within the device's memory, read and written, best of %d", bytes>>20, passes))
	return nil
}

// links says what joins the devices. Figures of the known machine are taken
// where its devices reach each other the same way.
func links(open []driver.Device, like *machine.Machine, known []*machine.Machine) ([]machine.Link, error) {
	peer := true
	for _, a := range open {
		for _, b := range open {
			can, err := a.CanAccess(b)
			if err != nil {
				return nil, err
			}
			peer = peer && can
		}
	}
	if like.Device.Product == open[0].Info().Name && like.Links[0].Peer == peer {
		return knownLinks(like, len(open))
	}
	return measuredLink(open, peer, known)
}

// knownLinks are those of a known machine, sources said.
func knownLinks(like *machine.Machine, devices int) ([]machine.Link, error) {
	part, err := like.With(min(devices, like.Devices))
	if err != nil {
		return nil, err
	}
	list := slices.Clone(part.Links)
	for i := range list {
		l := &list[i]
		l.Latency, l.Bandwidth, l.Sizes = as(l.Latency, like), as(l.Bandwidth, like), slices.Clone(l.Sizes)
		for j := range l.Sizes {
			l.Sizes[j].Time = as(l.Sizes[j].Time, like)
		}
		if l.Shared != nil {
			s := *l.Shared
			s.Bandwidth = as(s.Bandwidth, like)
			l.Shared = &s
		}
	}
	return list, nil
}

// measuredLink times copies from the first device to the second. How long a
// small exchange takes is that of the known machine whose devices reach each
// other the same way, the slowest of them.
func measuredLink(open []driver.Device, peer bool, known []*machine.Machine) ([]machine.Link, error) {
	bytes, seconds, err := copyBetween(open[0], open[1], peer)
	if err != nil {
		return nil, err
	}
	var like *machine.Machine
	for _, k := range known {
		if k.Device.Kind == "cuda" && k.Links[0].Peer == peer && (like == nil || k.Links[0].Latency.Value > like.Links[0].Latency.Value) {
			like = k
		}
	}
	if like == nil {
		return nil, errors.New("internal error: no known machine with such links")
	}
	kind := "peer access"
	if !peer {
		kind = "through host memory"
	}
	return []machine.Link{{Kind: kind, Peer: peer, Latency: as(like.Links[0].Latency, like),
		Bandwidth: amount(float64(bytes)/seconds, "bytes/s", fmt.Sprintf("measured on this host, date not included: a copy of %d MiB from the first device to the second, best of %d", bytes>>20, passes))}}, nil
}

// Bytes that are copied: enough that the start does not matter.
const (
	within  = 1 << 30
	between = 256 << 20
)

// copyWithin times copies within a device's memory.
func copyWithin(d driver.Device) (bytes int64, seconds float64, err error) {
	free, _, err := d.MemInfo()
	if err != nil {
		return 0, 0, err
	}
	bytes = min(within, free/4)
	return copied(d, d, bytes, func(to, from driver.Ptr) error { return d.DtoD(to, from, bytes) })
}

// copyBetween times copies from one device to another.
func copyBetween(a, b driver.Device, peer bool) (bytes int64, seconds float64, err error) {
	if peer {
		if err := a.EnableAccess(b); err != nil {
			return 0, 0, err
		}
	}
	return copied(a, b, between, func(to, from driver.Ptr) error { return a.PeerCopy(b, to, from, between) })
}

// copied times the fastest of several copies, after one that is not timed.
func copied(a, b driver.Device, bytes int64, move func(to, from driver.Ptr) error) (_ int64, seconds float64, err error) {
	from, err := a.Alloc(bytes)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, a.Free(from)) }()
	to, err := b.Alloc(bytes)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, b.Free(to)) }()
	fastest := time.Duration(1 << 62)
	for i := range 1 + passes {
		begin := time.Now()
		if err := move(to, from); err != nil {
			return 0, 0, err
		}
		if i > 0 {
			fastest = min(fastest, max(1, time.Since(begin)))
		}
	}
	return bytes, fastest.Seconds(), nil
}
