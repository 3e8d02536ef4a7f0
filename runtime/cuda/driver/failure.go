package driver

import (
	"fmt"
	"strings"
)

// Code is a result code of the driver (CUresult in cuda.h).
type Code int

// Codes that this package or its callers treat specially.
const (
	CodeOutOfMemory   Code = 2
	CodeNoDevice      Code = 100
	CodeNotReady      Code = 600
	CodePeerIsEnabled Code = 704
)

// HostDevice is the Device of an Error that concerns no single device.
const HostDevice = -1

// Error is a call that the driver refused.
type Error struct {
	Device int    // index, or HostDevice
	Doing  string // what was asked, e.g. "allocate 4096 bytes"
	Code   Code
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Device != HostDevice {
		fmt.Fprintf(&b, "device %d: ", e.Device)
	}
	fmt.Fprintf(&b, "%s: %v", e.Doing, e.Code)
	return b.String()
}

// Is makes errors.Is(err, ErrNoDevice) true for the driver's own code.
func (e *Error) Is(target error) bool {
	return target == ErrNoDevice && e.Code == CodeNoDevice
}

// Fatal reports whether the device's context is lost: every later call fails
// with the same code, and only a new process can use the device again.
func (e *Error) Fatal() bool { return codes[e.Code].fatal }

// String is the code's name, number, meaning and remedy.
func (c Code) String() string {
	known, ok := codes[c]
	if !ok {
		return fmt.Sprintf("CUDA error %d", int(c))
	}
	s := fmt.Sprintf("CUDA_ERROR_%s (%d): %s", known.name, int(c), known.meaning)
	if known.remedy != "" {
		s += "; " + known.remedy
	}
	return s
}

const restart = "restart the program; compute-sanitizer finds the kernel"

// codes explains the codes that a user of moec can meet.
var codes = map[Code]struct {
	name, meaning, remedy string
	fatal                 bool
}{
	1:   {"INVALID_VALUE", "an argument is out of range", "", false},
	2:   {"OUT_OF_MEMORY", "not enough free memory", "", false},
	3:   {"NOT_INITIALIZED", "the driver was not started", "", false},
	4:   {"DEINITIALIZED", "the driver is shutting down", "", false},
	34:  {"STUB_LIBRARY", "the library is the link stub of a CUDA toolkit, not a driver", "remove the toolkit's stubs directory from LD_LIBRARY_PATH", false},
	36:  {"CALL_REQUIRES_NEWER_DRIVER", "the installed driver does not know this call", "install a newer NVIDIA driver", false},
	46:  {"DEVICE_UNAVAILABLE", "another process holds the device for itself, or it is closed for compute", "see nvidia-smi -q -d COMPUTE", false},
	100: {"NO_DEVICE", "the driver sees no device", "check nvidia-smi and CUDA_VISIBLE_DEVICES", false},
	101: {"INVALID_DEVICE", "there is no such device", "", false},
	200: {"INVALID_IMAGE", "the image is no cubin, PTX or fat binary", "clear the kernel cache", false},
	201: {"INVALID_CONTEXT", "no context of the device is current on this thread", "", false},
	205: {"MAP_FAILED", "memory could not be mapped", "", false},
	208: {"ALREADY_MAPPED", "the memory is mapped already", "", false},
	209: {"NO_BINARY_FOR_GPU", "the kernel was compiled for another architecture", "compile the plan for this device", false},
	214: {"ECC_UNCORRECTABLE", "the device's memory had an error that ECC could not correct", "see nvidia-smi -q -d ECC; the device may need a reset or a repair", true},
	217: {"PEER_ACCESS_UNSUPPORTED", "the two devices cannot reach each other's memory", "", false},
	218: {"INVALID_PTX", "the driver's compiler refused the PTX", "", false},
	220: {"NVLINK_UNCORRECTABLE", "an NVLink had an error that could not be corrected", "see nvidia-smi nvlink --status", true},
	221: {"JIT_COMPILER_NOT_FOUND", "the driver's PTX compiler is not installed", "install the complete driver (libnvidia-ptxjitcompiler), or use cubins", false},
	222: {"UNSUPPORTED_PTX_VERSION", "the PTX is newer than the driver", "install a newer NVIDIA driver, or compile with an older nvcc or to cubins", false},
	223: {"JIT_COMPILATION_DISABLED", "compiling PTX is switched off", "unset CUDA_DISABLE_PTX_JIT, or use cubins", false},
	226: {"CONTAINED", "an error of the device or of a peer's memory was contained", "restart the program", true},
	301: {"FILE_NOT_FOUND", "a file was not found", "", false},
	304: {"OPERATING_SYSTEM", "a call of the operating system failed", "check the permissions of /dev/nvidia*", false},
	400: {"INVALID_HANDLE", "a handle is not valid, or belongs to another device", "", false},
	401: {"ILLEGAL_STATE", "a resource is not in a state for this call", "", false},
	500: {"NOT_FOUND", "the module has no such name", "", false},
	600: {"NOT_READY", "the work is not finished", "", false},
	700: {"ILLEGAL_ADDRESS", "a kernel touched memory that it must not", restart, true},
	701: {"LAUNCH_OUT_OF_RESOURCES", "the launch needs more registers, threads or parameters than the kernel or a block can have", "", false},
	702: {"LAUNCH_TIMEOUT", "a kernel ran longer than the system allows", "use a device without a display", true},
	704: {"PEER_ACCESS_ALREADY_ENABLED", "access to the peer is enabled already", "", false},
	705: {"PEER_ACCESS_NOT_ENABLED", "access to the peer is not enabled", "", false},
	708: {"PRIMARY_CONTEXT_ACTIVE", "the device is in use already", "", false},
	709: {"CONTEXT_IS_DESTROYED", "the context is gone", "", true},
	710: {"ASSERT", "an assertion in a kernel failed", restart, true},
	711: {"TOO_MANY_PEERS", "the device cannot map more peers", "", false},
	712: {"HOST_MEMORY_ALREADY_REGISTERED", "the host memory is page-locked already", "", false},
	713: {"HOST_MEMORY_NOT_REGISTERED", "the host memory is not page-locked", "", false},
	714: {"HARDWARE_STACK_ERROR", "a kernel's call stack broke", restart, true},
	715: {"ILLEGAL_INSTRUCTION", "a kernel met an instruction that the device does not have", restart, true},
	716: {"MISALIGNED_ADDRESS", "a kernel's address is not a multiple of the access's size", restart, true},
	717: {"INVALID_ADDRESS_SPACE", "a kernel's address is in the wrong kind of memory", restart, true},
	718: {"INVALID_PC", "a kernel jumped to a place without code", restart, true},
	719: {"LAUNCH_FAILED", "a kernel failed, often at an address that it must not touch", restart, true},
	720: {"COOPERATIVE_LAUNCH_TOO_LARGE", "the blocks of a cooperative launch do not fit the device together", "", false},
	800: {"NOT_PERMITTED", "the operation is not allowed", "", false},
	801: {"NOT_SUPPORTED", "the device or system cannot do this", "", false},
	802: {"SYSTEM_NOT_READY", "the system is not ready for CUDA", "on machines with NVSwitch start nvidia-fabricmanager", false},
	803: {"SYSTEM_DRIVER_MISMATCH", "the driver's library and its kernel module differ in version", "reboot, or reload the nvidia kernel module", false},
	804: {"COMPAT_NOT_SUPPORTED_ON_DEVICE", "the forward-compatibility library does not support this device", "remove it from LD_LIBRARY_PATH", false},
	805: {"MPS_CONNECTION_FAILED", "the MPS daemon does not answer", "check nvidia-cuda-mps-control", false},
	900: {"STREAM_CAPTURE_UNSUPPORTED", "the operation cannot be captured into a graph", "", false},
	901: {"STREAM_CAPTURE_INVALIDATED", "an earlier error ended the capture", "", false},
	906: {"STREAM_CAPTURE_IMPLICIT", "the operation would wait for a stream that is being captured", "", false},
	910: {"GRAPH_EXEC_UPDATE_FAILURE", "the graph cannot be updated to this shape", "", false},
	912: {"INVALID_CLUSTER_SIZE", "the cluster's size does not suit the kernel or the device", "", false},
	999: {"UNKNOWN", "the driver does not say what went wrong", "see the kernel log (dmesg, NVRM) for the device's own message", true},
}
