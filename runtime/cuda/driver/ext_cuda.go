//go:build cuda && cgo

package driver

/*
#cgo CFLAGS: -I${SRCDIR}/trampoline
#cgo noescape moec_launch
#cgo nocallback moec_launch
#cgo nocallback moec_on_thread

#include <cuda.h>
#include <stdlib.h>

#include "trampoline.h"

// Which device's thread this is: the number given to moec_mark_thread, or 0.
static __thread int moec_thread;

static void moec_mark_thread(int number) { moec_thread = number; }
static int moec_on_thread(int number) { return moec_thread == number; }

typedef struct {
	unsigned int offset, size;
} moec_param;

enum { MOEC_MAX_PARAMS = 256 };

// The driver gets a pointer to each argument and lays them out itself. Handing
// it one block instead goes wrong for structs aligned to more than 16 bytes:
// their place depends on where an architecture's parameter memory begins.
static CUresult moec_launch(CUfunction f, CUstream s, const unsigned int *dims, unsigned int shared,
                            unsigned char *bytes, const moec_param *list, int count, int cooperative) {
	void *params[MOEC_MAX_PARAMS];
	for (int i = 0; i < count; i++)
		params[i] = bytes + list[i].offset;
	if (cooperative)
		return cuLaunchCooperativeKernel(f, dims[0], dims[1], dims[2], dims[3], dims[4], dims[5], shared, s, params);
	return cuLaunchKernel(f, dims[0], dims[1], dims[2], dims[3], dims[4], dims[5], shared, s, params, NULL);
}

// Older headers do not declare this, but the driver may well have it.
#if CUDA_VERSION < 12040
CUresult cuFuncGetParamInfo(CUfunction f, size_t index, size_t *offset, size_t *size);
#endif
*/
import "C"

import (
	"unsafe"

	"gorgonia.org/cu"
)

// This file calls the driver where gorgonia.org/cu does not, or not rightly:
// loading, launches (cu copies eight bytes per parameter), page-locked memory,
// what is to be known or set about functions, PCI addresses.

// The handles of this package, of cu and of the driver are the same pointers.
// These lines stop the build where their sizes differ.
var (
	_ [unsafe.Sizeof(Stream(0))]byte   = [unsafe.Sizeof(cu.Stream{})]byte{}
	_ [unsafe.Sizeof(Event(0))]byte    = [unsafe.Sizeof(cu.Event{})]byte{}
	_ [unsafe.Sizeof(Module(0))]byte   = [unsafe.Sizeof(cu.Module{})]byte{}
	_ [unsafe.Sizeof(Function(0))]byte = [unsafe.Sizeof(cu.Function{})]byte{}
	_ [unsafe.Sizeof(Stream(0))]byte   = [unsafe.Sizeof(C.CUstream(nil))]byte{}
	_ [unsafe.Sizeof(Function(0))]byte = [unsafe.Sizeof(C.CUfunction(nil))]byte{}
	_ [unsafe.Sizeof(Ptr(0))]byte      = [unsafe.Sizeof(C.CUdeviceptr(0))]byte{}
	_ [unsafe.Sizeof(param{})]byte     = [unsafe.Sizeof(C.moec_param{})]byte{}
	_ [maxParams]byte                  = [C.MOEC_MAX_PARAMS]byte{}
)

// reinterpret turns one name of a handle into another.
func reinterpret[To, From any](h From) To { return *(*To)(unsafe.Pointer(&h)) }

// loadLibrary loads the driver; it returns the reason when it cannot.
func loadLibrary(path string) (why string, ok bool) {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var text [512]C.char
	if C.moec_cuda_load(cpath, &text[0], C.size_t(len(text))) == 0 {
		return "", true
	}
	return C.GoString(&text[0]), false
}

// initDriver starts the loaded driver.
func initDriver() Code { return Code(C.cuInit(0)) }

func pciAddress(dev cu.Device) (string, Code) {
	var text [64]C.char
	code := Code(C.cuDeviceGetPCIBusId(&text[0], C.int(len(text)), C.CUdevice(dev)))
	return C.GoString(&text[0]), code
}

// markThread names the calling thread; onThread tells whether it is that one.
func markThread(number int)    { C.moec_mark_thread(C.int(number)) }
func onThread(number int) bool { return C.moec_on_thread(C.int(number)) != 0 }

func allocHost(bytes int64) (unsafe.Pointer, Code) {
	var p unsafe.Pointer
	code := C.cuMemHostAlloc(&p, C.size_t(bytes), C.CU_MEMHOSTALLOC_PORTABLE)
	return p, Code(code)
}

func setMaxShared(f Function, bytes int) Code {
	fn := reinterpret[C.CUfunction](f)
	return Code(C.cuFuncSetAttribute(fn, C.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, C.int(bytes)))
}

// paramSizes returns the sizes of a function's parameters, or nil where the
// driver does not tell them; it does not tell that there are none either.
func paramSizes(f Function) []uint32 {
	var sizes []uint32
	for {
		var offset, size C.size_t
		if C.cuFuncGetParamInfo(reinterpret[C.CUfunction](f), C.size_t(len(sizes)), &offset, &size) != C.CUDA_SUCCESS {
			return sizes
		}
		sizes = append(sizes, uint32(size))
	}
}

func launch(f Function, shape Shape, params *Params, s Stream) Code {
	dims := [6]C.uint{
		C.uint(shape.Grid.X), C.uint(shape.Grid.Y), C.uint(shape.Grid.Z),
		C.uint(shape.Block.X), C.uint(shape.Block.Y), C.uint(shape.Block.Z),
	}
	cooperative := C.int(0)
	if shape.Cooperative {
		cooperative = 1
	}
	return Code(C.moec_launch(reinterpret[C.CUfunction](f), reinterpret[C.CUstream](s), &dims[0], C.uint(shape.Shared),
		(*C.uchar)(unsafe.SliceData(params.bytes)), (*C.moec_param)(unsafe.Pointer(unsafe.SliceData(params.list))), C.int(len(params.list)), cooperative))
}
