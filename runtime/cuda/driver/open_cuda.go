//go:build cuda && cgo

package driver

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"sync"

	"gorgonia.org/cu"
)

// libraries are the places of the driver's library, the usual one first; the
// others are where containers and WSL put it without telling the linker.
var libraries = []string{
	"libcuda.so.1",
	"/usr/local/nvidia/lib64/libcuda.so.1",
	"/usr/lib/wsl/lib/libcuda.so.1",
}

// load loads and starts the driver, once per process.
var load = sync.OnceValue(func() error {
	paths := libraries
	if p := os.Getenv(LibraryVariable); p != "" {
		paths = []string{p}
	}
	reason := ""
	for _, p := range paths {
		why, ok := loadLibrary(p)
		if ok {
			return failure(HostDevice, initDriver(), "start the NVIDIA driver")
		}
		if reason == "" {
			reason = why
		}
	}
	return fmt.Errorf("%w: %s; install the driver, or name its library in %s", ErrNoDriver, reason, LibraryVariable)
})

// system is the Driver of the tag cuda.
type system struct {
	version int
	devices []Info
}

// Open loads the driver and looks at the devices. It touches no device's
// memory. A process that has once failed to load the driver stays without.
func Open() (Driver, error) {
	if err := load(); err != nil {
		return nil, err
	}
	n, err := cu.NumDevices()
	if err != nil {
		return nil, failure(HostDevice, codeOf(err), "count the devices")
	}
	if n == 0 {
		return nil, fmt.Errorf("%w: the driver sees none; check nvidia-smi and CUDA_VISIBLE_DEVICES", ErrNoDevice)
	}
	s := &system{version: cu.Version()}
	for i := range n {
		info, err := describe(i)
		if err != nil {
			return nil, err
		}
		s.devices = append(s.devices, info)
	}
	return s, nil
}

func (s *system) Version() int    { return s.version }
func (s *system) Devices() []Info { return s.devices }

// describe asks for everything in Info.
func describe(index int) (Info, error) {
	info := Info{Index: index}
	dev, err := cu.GetDevice(index)
	if err != nil {
		return info, failure(index, codeOf(err), "find the device")
	}
	if info.Name, err = dev.Name(); err != nil {
		return info, failure(index, codeOf(err), "ask for its name")
	}
	if info.Memory, err = dev.TotalMem(); err != nil {
		return info, failure(index, codeOf(err), "ask for its memory")
	}
	id, err := dev.UUID()
	if err != nil {
		return info, failure(index, codeOf(err), "ask for its UUID")
	}
	info.UUID = "GPU-" + id.String()
	pci, code := pciAddress(dev)
	if code != 0 {
		return info, failure(index, code, "ask for its PCI address")
	}
	info.PCI = pci
	for _, a := range []struct {
		number cu.DeviceAttribute
		to     *int
	}{
		{cu.ComputeCapabilityMajor, &info.Major},
		{cu.ComputeCapabilityMinor, &info.Minor},
		{cu.MultiprocessorCount, &info.Multiprocessors},
		{cu.L2CacheSize, &info.L2},
		{attributeMaxSharedOptIn, &info.SharedPerBlock},
	} {
		if *a.to, err = dev.Attribute(a.number); err != nil {
			return info, failure(index, codeOf(err), "ask for attribute %d", int(a.number))
		}
	}
	return info, nil
}

// attributeMaxSharedOptIn is CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN,
// which cu does not name.
const attributeMaxSharedOptIn cu.DeviceAttribute = 97

// Device retains the primary context and starts the device's thread.
func (s *system) Device(index int) (Device, error) {
	if index < 0 || index >= len(s.devices) {
		return nil, fmt.Errorf("device %d: there is no such device, have %d", index, len(s.devices))
	}
	dev, err := cu.GetDevice(index)
	if err != nil {
		return nil, failure(index, codeOf(err), "find the device")
	}
	d := &device{info: s.devices[index], dev: dev, functions: map[Function]function{}}
	d.exec, err = startExecutor(d.enter)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// enter makes the primary context current on the thread that calls it.
func (d *device) enter() error {
	ctx, err := d.dev.RetainPrimaryCtx()
	if err != nil {
		return d.fail(err, "retain its primary context")
	}
	if err := cu.SetCurrentContext(ctx); err != nil {
		return errors.Join(d.fail(err, "make its context current"), d.dev.ReleasePrimaryCtx())
	}
	d.ctx = ctx
	return nil
}

// codeOf returns the code inside an error of cu, whose type is not exported.
func codeOf(err error) Code {
	if err == nil {
		return 0
	}
	if v := reflect.ValueOf(err); v.Kind() == reflect.Int {
		return Code(v.Int())
	}
	return codeUnknown
}

// codeUnknown is CUDA_ERROR_UNKNOWN.
const codeUnknown Code = 999

// failure makes an error of a code, or nil of success.
func failure(device int, code Code, format string, args ...any) error {
	if code == 0 {
		return nil
	}
	return &Error{Device: device, Doing: fmt.Sprintf(format, args...), Code: code}
}
