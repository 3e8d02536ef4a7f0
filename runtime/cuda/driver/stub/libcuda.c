/*
 * A CUDA driver without a GPU, for tests: device memory is host memory, copies
 * happen at once, and launches are recorded instead of run.
 *
 * It is stricter than the real one: every handle and every range of memory is
 * checked, and a call on a thread without a context fails. Fresh memory holds
 * 0xA5 in every byte. One kernel really runs: fill_u32(ptr, value, count).
 *
 * Environment, read at every call:
 *   MOEC_STUB_DEVICES  number of devices (1)
 *   MOEC_STUB_MEMORY   bytes per device (1 GiB)
 *   MOEC_STUB_CC       compute capability, e.g. 90 (90)
 *   MOEC_STUB_PEER     0: devices cannot reach each other
 *   MOEC_STUB_FAULT    NAME:CODE[@N], comma-separated: the driver's function NAME
 *                      returns CODE, at its Nth call or at all; the calls are
 *                      counted from the last change of this variable. Codes that
 *                      lose a context stay with the device until then.
 *   MOEC_STUB_LOG      file that gets a line per launch
 *
 * A module is a cubin, whose kernels are found by its sections, or a text:
 *   stub module
 *   kernel NAME BYTES...        one number per parameter
 *   var NAME BYTES
 * Time for events is the number of launches, in milliseconds.
 */
#include <cuda.h>
#include <elf.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_DEVICES = 64,
	MAX_NAME = 256,
	MAX_THREADS = 1024,
	MAX_PARAMS = 256,
	SHARED_DEFAULT = 48 << 10,
	SHARED_OPT_IN = 227 << 10,
	MULTIPROCESSORS = 132,
};

/* One struct serves for all kinds of objects; they form one list. */
enum kind { MEMORY, HOST_MEMORY, STREAM, EVENT, MODULE, FUNCTION };

struct object {
	struct object *next;
	enum kind kind;
	int device;
	unsigned char *bytes;     /* MEMORY, HOST_MEMORY */
	size_t size;              /* MEMORY, HOST_MEMORY */
	struct object *module;    /* owner of a FUNCTION or of a MEMORY that is a variable */
	char name[MAX_NAME];      /* FUNCTION, variable */
	int max_shared;           /* FUNCTION */
	int params, sizes[MAX_PARAMS]; /* FUNCTION: number and sizes of parameters */
	int timed, recorded;      /* EVENT */
	double at;                /* EVENT */
};

struct CUctx_st {
	int device, retained;
	size_t used;              /* bytes of memory */
	CUresult lost;            /* the code of every call, once a kernel failed */
	double launches;
	char peers[MAX_DEVICES];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct object *objects;
static struct CUctx_st contexts[MAX_DEVICES];
static __thread CUcontext current;
static int started;

static long setting(const char *name, long otherwise) {
	const char *s = getenv(name);
	return s && *s ? atol(s) : otherwise;
}

static int device_count(void) { return (int)setting("MOEC_STUB_DEVICES", 1); }
static size_t device_memory(void) { return (size_t)setting("MOEC_STUB_MEMORY", 1L << 30); }

/* ---- injected faults ---- */

struct count { char name[MAX_NAME]; int calls; };
static struct count counts[128];
static char faults[4096];

static int count_call(const char *name) {
	int i = 0;
	while (counts[i].name[0] && strcmp(counts[i].name, name) != 0 && i < 127)
		i++;
	snprintf(counts[i].name, MAX_NAME, "%s", name);
	return ++counts[i].calls;
}

/* reset_faults starts afresh when the variable has changed. */
static void reset_faults(const char *now) {
	if (strcmp(now, faults) == 0)
		return;
	snprintf(faults, sizeof faults, "%s", now);
	memset(counts, 0, sizeof counts);
	for (int i = 0; i < MAX_DEVICES; i++)
		contexts[i].lost = CUDA_SUCCESS;
}

static CUresult injected(const char *name) {
	const char *env = getenv("MOEC_STUB_FAULT");
	reset_faults(env ? env : "");
	int call = count_call(name);
	size_t length = strlen(name);
	for (const char *p = faults; *p; p++) {
		if ((p == faults || p[-1] == ',') && strncmp(p, name, length) == 0 && p[length] == ':') {
			int code = 0, nth = 0;
			if (sscanf(p + length + 1, "%d@%d", &code, &nth) < 2 || nth == call)
				return (CUresult)code;
		}
	}
	return CUDA_SUCCESS;
}

static int loses_context(CUresult code) {
	return code == CUDA_ERROR_ECC_UNCORRECTABLE || code == CUDA_ERROR_ILLEGAL_ADDRESS ||
	       (code >= CUDA_ERROR_HARDWARE_STACK_ERROR && code <= CUDA_ERROR_LAUNCH_FAILED);
}

/* ---- entering and leaving ---- */

/* begin takes the lock, which end gives back; every return goes through end. */
static CUresult begin(const char *name) {
	pthread_mutex_lock(&lock);
	CUresult code = injected(name);
	if (code == CUDA_SUCCESS && !started && strcmp(name, "cuInit") != 0 && strcmp(name, "cuDriverGetVersion") != 0)
		code = CUDA_ERROR_NOT_INITIALIZED;
	return code;
}

static CUresult end(CUresult code) {
	pthread_mutex_unlock(&lock);
	return code;
}

/* begin_here is begin for calls that need a current context. */
static CUresult begin_here(const char *name) {
	CUresult code = begin(name);
	if (current == NULL || current->retained == 0)
		return code ? code : CUDA_ERROR_INVALID_CONTEXT;
	if (current->lost)
		return current->lost;
	if (loses_context(code))
		current->lost = code;
	return code;
}

#define BEGIN(name) do { CUresult code_ = begin(#name); if (code_) return end(code_); } while (0)
#define BEGIN_HERE(name) do { CUresult code_ = begin_here(#name); if (code_) return end(code_); } while (0)

/* ---- objects ---- */

static struct object *add(enum kind kind) {
	struct object *o = calloc(1, sizeof *o);
	o->kind = kind;
	o->device = current->device;
	o->next = objects;
	objects = o;
	return o;
}

static struct object *find(const void *handle, enum kind kind) {
	for (struct object *o = objects; o; o = o->next)
		if (o == handle && o->kind == kind)
			return o;
	return NULL;
}

/* mine finds an object of the current device. */
static struct object *mine(const void *handle, enum kind kind) {
	struct object *o = find(handle, kind);
	return o && o->device == current->device ? o : NULL;
}

static void drop(struct object *gone) {
	for (struct object **p = &objects; *p; p = &(*p)->next)
		if (*p == gone) {
			*p = gone->next;
			if (gone->kind == MEMORY)
				contexts[gone->device].used -= gone->size;
			free(gone->bytes);
			free(gone);
			return;
		}
}

static struct object *new_memory(size_t size) {
	if (size > device_memory() - current->used)
		return NULL;
	unsigned char *bytes = malloc(size);
	if (bytes == NULL)
		return NULL;
	struct object *o = add(MEMORY);
	o->bytes = memset(bytes, 0xA5, size);
	o->size = size;
	current->used += size;
	return o;
}

/* range returns the bytes at an address, if that many are allocated there on
 * the device: current, a peer that access is enabled to, or the one asked for. */
static unsigned char *range(CUdeviceptr at, size_t size, int device) {
	for (struct object *o = objects; o; o = o->next) {
		uintptr_t from = (uintptr_t)o->bytes;
		if (o->kind != MEMORY || at < from || at - from > o->size || size > o->size - (at - from))
			continue;
		if (o->device == device || current->peers[o->device])
			return (unsigned char *)at;
	}
	return NULL;
}

static int stream_ok(CUstream s) { return s == NULL || mine(s, STREAM) != NULL; }

/* ---- the driver and its devices ---- */

CUresult CUDAAPI cuInit(unsigned int flags) {
	BEGIN(cuInit);
	if (flags != 0)
		return end(CUDA_ERROR_INVALID_VALUE);
	if (device_count() == 0)
		return end(CUDA_ERROR_NO_DEVICE);
	started = 1;
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuDriverGetVersion(int *version) {
	BEGIN(cuDriverGetVersion);
	*version = 13000;
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuDeviceGetCount(int *count) {
	BEGIN(cuDeviceGetCount);
	*count = device_count();
	return end(CUDA_SUCCESS);
}

static int device_ok(int device) { return device >= 0 && device < device_count() && device < MAX_DEVICES; }

CUresult CUDAAPI cuDeviceGet(CUdevice *device, int ordinal) {
	BEGIN(cuDeviceGet);
	if (!device_ok(ordinal))
		return end(CUDA_ERROR_INVALID_DEVICE);
	*device = ordinal;
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuDeviceGetName(char *name, int size, CUdevice device) {
	BEGIN(cuDeviceGetName);
	if (!device_ok(device))
		return end(CUDA_ERROR_INVALID_DEVICE);
	snprintf(name, (size_t)size, "stub GPU %d", device);
	return end(CUDA_SUCCESS);
}

/* Only the older name of this one, as drivers before CUDA 11.4 have it. */
#undef cuDeviceGetUuid
CUresult CUDAAPI cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
	BEGIN(cuDeviceGetUuid);
	if (!device_ok(device))
		return end(CUDA_ERROR_INVALID_DEVICE);
	for (int i = 0; i < 16; i++)
		uuid->bytes[i] = (char)(i < 15 ? i * 0x11 : device);
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuDeviceTotalMem(size_t *bytes, CUdevice device) {
	BEGIN(cuDeviceTotalMem);
	if (!device_ok(device))
		return end(CUDA_ERROR_INVALID_DEVICE);
	*bytes = device_memory();
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuDeviceGetPCIBusId(char *text, int size, CUdevice device) {
	BEGIN(cuDeviceGetPCIBusId);
	if (!device_ok(device))
		return end(CUDA_ERROR_INVALID_DEVICE);
	snprintf(text, (size_t)size, "0000:%02X:00.0", device + 1);
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
	BEGIN(cuDeviceGetAttribute);
	if (!device_ok(device))
		return end(CUDA_ERROR_INVALID_DEVICE);
	int cc = (int)setting("MOEC_STUB_CC", 90);
	switch ((int)attribute) {
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = cc / 10; break;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = cc % 10; break;
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = MULTIPROCESSORS; break;
	case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: *value = 50 << 20; break;
	case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = SHARED_OPT_IN; break;
	default: return end(CUDA_ERROR_INVALID_VALUE);
	}
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer) {
	BEGIN(cuDeviceCanAccessPeer);
	if (!device_ok(device) || !device_ok(peer))
		return end(CUDA_ERROR_INVALID_DEVICE);
	*can = device != peer && setting("MOEC_STUB_PEER", 1);
	return end(CUDA_SUCCESS);
}

/* ---- contexts ---- */

CUresult CUDAAPI cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice device) {
	BEGIN(cuDevicePrimaryCtxRetain);
	if (!device_ok(device))
		return end(CUDA_ERROR_INVALID_DEVICE);
	contexts[device].device = device;
	contexts[device].retained++;
	*ctx = &contexts[device];
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuDevicePrimaryCtxRelease(CUdevice device) {
	BEGIN(cuDevicePrimaryCtxRelease);
	if (!device_ok(device) || contexts[device].retained == 0)
		return end(CUDA_ERROR_INVALID_CONTEXT);
	if (--contexts[device].retained > 0)
		return end(CUDA_SUCCESS);
	/* The last release destroys everything that the context holds. */
	for (struct object *o = objects, *next; o; o = next) {
		next = o->next;
		if (o->device == device)
			drop(o);
	}
	memset(&contexts[device], 0, sizeof contexts[device]);
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuCtxSetCurrent(CUcontext ctx) {
	BEGIN(cuCtxSetCurrent);
	current = ctx;
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags) {
	BEGIN_HERE(cuCtxEnablePeerAccess);
	if (flags != 0 || peer == NULL || peer == current)
		return end(CUDA_ERROR_INVALID_VALUE);
	if (!setting("MOEC_STUB_PEER", 1))
		return end(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
	if (current->peers[peer->device])
		return end(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
	current->peers[peer->device] = 1;
	return end(CUDA_SUCCESS);
}

/* ---- memory ---- */

CUresult CUDAAPI cuMemGetInfo(size_t *available, size_t *total) {
	BEGIN_HERE(cuMemGetInfo);
	*total = device_memory();
	*available = *total - current->used;
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuMemAlloc(CUdeviceptr *ptr, size_t size) {
	BEGIN_HERE(cuMemAlloc);
	if (size == 0)
		return end(CUDA_ERROR_INVALID_VALUE);
	struct object *o = new_memory(size);
	if (o == NULL)
		return end(CUDA_ERROR_OUT_OF_MEMORY);
	*ptr = (CUdeviceptr)(uintptr_t)o->bytes;
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuMemFree(CUdeviceptr ptr) {
	BEGIN_HERE(cuMemFree);
	for (struct object *o = objects; o; o = o->next)
		if (o->kind == MEMORY && (uintptr_t)o->bytes == ptr && o->device == current->device && o->module == NULL) {
			drop(o);
			return end(CUDA_SUCCESS);
		}
	return end(CUDA_ERROR_INVALID_VALUE);
}

CUresult CUDAAPI cuMemHostAlloc(void **ptr, size_t size, unsigned int flags) {
	BEGIN_HERE(cuMemHostAlloc);
	if (size == 0 || flags != CU_MEMHOSTALLOC_PORTABLE)
		return end(CUDA_ERROR_INVALID_VALUE);
	struct object *o = add(HOST_MEMORY);
	o->bytes = memset(malloc(size), 0xA5, size);
	o->size = size;
	*ptr = o->bytes;
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuMemFreeHost(void *ptr) {
	BEGIN_HERE(cuMemFreeHost);
	for (struct object *o = objects; o; o = o->next)
		if (o->kind == HOST_MEMORY && o->bytes == ptr) {
			drop(o);
			return end(CUDA_SUCCESS);
		}
	return end(CUDA_ERROR_INVALID_VALUE);
}

/* copy copies where both ends exist. The functions below give it the address
 * of device memory, or NULL where that is not allocated. */
static CUresult copy(void *to, const void *from, size_t size, CUstream s) {
	if (!stream_ok(s))
		return CUDA_ERROR_INVALID_HANDLE;
	if (to == NULL || from == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	memmove(to, from, size);
	return CUDA_SUCCESS;
}

static unsigned char *here(CUdeviceptr at, size_t size) { return range(at, size, current->device); }

/* pinned tells whether host memory is page-locked, as the asynchronous copies
 * of package driver promise. */
static int pinned(const void *at, size_t size) {
	for (struct object *o = objects; o; o = o->next)
		if (o->kind == HOST_MEMORY && (uintptr_t)at >= (uintptr_t)o->bytes &&
		    (uintptr_t)at + size <= (uintptr_t)o->bytes + o->size)
			return 1;
	return 0;
}

CUresult CUDAAPI cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t size) {
	BEGIN_HERE(cuMemcpyHtoD);
	return end(copy(here(to, size), from, size, NULL));
}

CUresult CUDAAPI cuMemcpyDtoH(void *to, CUdeviceptr from, size_t size) {
	BEGIN_HERE(cuMemcpyDtoH);
	return end(copy(to, here(from, size), size, NULL));
}

CUresult CUDAAPI cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t size) {
	BEGIN_HERE(cuMemcpyDtoD);
	return end(copy(here(to, size), here(from, size), size, NULL));
}

CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size, CUstream s) {
	BEGIN_HERE(cuMemcpyHtoDAsync);
	return end(copy(here(to, size), pinned(from, size) ? from : NULL, size, s));
}

CUresult CUDAAPI cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t size, CUstream s) {
	BEGIN_HERE(cuMemcpyDtoHAsync);
	return end(copy(pinned(to, size) ? to : NULL, here(from, size), size, s));
}

CUresult CUDAAPI cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream s) {
	BEGIN_HERE(cuMemcpyDtoDAsync);
	return end(copy(here(to, size), here(from, size), size, s));
}

CUresult CUDAAPI cuMemcpyPeer(CUdeviceptr to, CUcontext there, CUdeviceptr from, CUcontext ctx, size_t size) {
	BEGIN_HERE(cuMemcpyPeer);
	return end(copy(range(to, size, there->device), range(from, size, ctx->device), size, NULL));
}

CUresult CUDAAPI cuMemcpyPeerAsync(CUdeviceptr to, CUcontext there, CUdeviceptr from, CUcontext ctx, size_t size, CUstream s) {
	BEGIN_HERE(cuMemcpyPeerAsync);
	return end(copy(range(to, size, there->device), range(from, size, ctx->device), size, s));
}

static CUresult set(CUdeviceptr at, unsigned char value, size_t size, CUstream s) {
	if (!stream_ok(s))
		return CUDA_ERROR_INVALID_HANDLE;
	unsigned char *bytes = here(at, size);
	if (bytes == NULL)
		return CUDA_ERROR_INVALID_VALUE;
	memset(bytes, value, size);
	return CUDA_SUCCESS;
}

CUresult CUDAAPI cuMemsetD8(CUdeviceptr at, unsigned char value, size_t size) {
	BEGIN_HERE(cuMemsetD8);
	return end(set(at, value, size, NULL));
}

CUresult CUDAAPI cuMemsetD8Async(CUdeviceptr at, unsigned char value, size_t size, CUstream s) {
	BEGIN_HERE(cuMemsetD8Async);
	return end(set(at, value, size, s));
}

/* ---- modules ---- */

static struct object *add_function(struct object *module, const char *name) {
	struct object *f = add(FUNCTION);
	f->module = module;
	f->max_shared = SHARED_DEFAULT;
	snprintf(f->name, MAX_NAME, "%s", name);
	return f;
}

static CUresult read_text(struct object *module, const char *text) {
	char kind[16], name[MAX_NAME];
	int at, size;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "%15s %255s%n", kind, name, &at) < 2)
			continue;
		if (strcmp(kind, "kernel") == 0) {
			struct object *f = add_function(module, name);
			for (const char *p = line + at; *p == ' ' && sscanf(p, "%d%n", &size, &at) == 1; p += at)
				f->sizes[f->params++] = size;
		} else if (strcmp(kind, "var") == 0) {
			struct object *v = sscanf(line + at, "%d", &size) == 1 ? new_memory((size_t)size) : NULL;
			if (v == NULL)
				return CUDA_ERROR_OUT_OF_MEMORY;
			v->module = module;
			snprintf(v->name, MAX_NAME, "%s", name);
		}
	}
	return CUDA_SUCCESS;
}

static struct object *member(const void *module, enum kind kind, const char *name) {
	for (struct object *o = objects; o; o = o->next)
		if (o->kind == kind && o->module == module && strcmp(o->name, name) == 0)
			return o;
	return NULL;
}

/* read_params reads the sizes from a kernel's information section: attributes
 * of a format (4: a length and that many bytes, else four bytes in all) and a
 * number. Number 0x17 is a parameter: at byte 4 its index, at byte 8 its size in
 * the upper 14 bits. Seen in cubins of nvcc 13; NVIDIA does not document it. */
static void read_params(struct object *f, const unsigned char *info, size_t size) {
	uint16_t length, index;
	uint32_t bits;
	for (size_t i = 0; i + 4 <= size; i += 4 + (info[i] == 4 ? length : 0)) {
		memcpy(&length, info + i + 2, 2);
		if (info[i] != 4 || info[i + 1] != 0x17 || i + 16 > size)
			continue;
		memcpy(&index, info + i + 8, 2);
		memcpy(&bits, info + i + 12, 4);
		if (index < MAX_PARAMS) {
			f->sizes[index] = (int)(bits >> 18);
			f->params = index >= f->params ? index + 1 : f->params;
		}
	}
}

/* read_cubin adds a kernel for every section of code, ".text.NAME". */
static CUresult read_cubin(struct object *module, const unsigned char *image) {
	const Elf64_Ehdr *head = (const Elf64_Ehdr *)image;
	if (head->e_machine != 190 /* EM_CUDA */ || head->e_shnum == 0)
		return CUDA_ERROR_INVALID_IMAGE;
	const Elf64_Shdr *sections = (const Elf64_Shdr *)(image + head->e_shoff);
	const char *names = (const char *)image + sections[head->e_shstrndx].sh_offset;
	for (int i = 0; i < head->e_shnum; i++) {
		const char *name = names + sections[i].sh_name;
		if (strncmp(name, ".text.", 6) == 0)
			add_function(module, name + 6);
	}
	for (int i = 0; i < head->e_shnum; i++) {
		const char *name = names + sections[i].sh_name;
		struct object *f = strncmp(name, ".nv.info.", 9) == 0 ? member(module, FUNCTION, name + 9) : NULL;
		if (f)
			read_params(f, image + sections[i].sh_offset, sections[i].sh_size);
	}
	return CUDA_SUCCESS;
}

static void drop_module(struct object *module) {
	for (struct object *o = objects, *next; o; o = next) {
		next = o->next;
		if (o->module == module)
			drop(o);
	}
	drop(module);
}

CUresult CUDAAPI cuModuleLoadData(CUmodule *result, const void *image) {
	BEGIN_HERE(cuModuleLoadData);
	struct object *module = add(MODULE);
	CUresult code = CUDA_ERROR_INVALID_IMAGE;
	if (memcmp(image, "stub module\n", 12) == 0)
		code = read_text(module, image);
	else if (memcmp(image, ELFMAG, SELFMAG) == 0)
		code = read_cubin(module, image);
	if (code)
		drop_module(module);
	*result = (CUmodule)module;
	return end(code);
}

CUresult CUDAAPI cuModuleUnload(CUmodule handle) {
	BEGIN_HERE(cuModuleUnload);
	struct object *module = mine(handle, MODULE);
	if (module == NULL)
		return end(CUDA_ERROR_INVALID_HANDLE);
	drop_module(module);
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuModuleGetFunction(CUfunction *f, CUmodule module, const char *name) {
	BEGIN_HERE(cuModuleGetFunction);
	if (mine(module, MODULE) == NULL)
		return end(CUDA_ERROR_INVALID_HANDLE);
	*f = (CUfunction)member(module, FUNCTION, name);
	return end(*f ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND);
}

CUresult CUDAAPI cuModuleGetGlobal(CUdeviceptr *ptr, size_t *size, CUmodule module, const char *name) {
	BEGIN_HERE(cuModuleGetGlobal);
	if (mine(module, MODULE) == NULL)
		return end(CUDA_ERROR_INVALID_HANDLE);
	struct object *v = member(module, MEMORY, name);
	if (v == NULL)
		return end(CUDA_ERROR_NOT_FOUND);
	*ptr = (CUdeviceptr)(uintptr_t)v->bytes;
	*size = v->size;
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction f) {
	BEGIN_HERE(cuFuncGetAttribute);
	if (mine(f, FUNCTION) == NULL)
		return end(CUDA_ERROR_INVALID_HANDLE);
	switch ((int)attribute) {
	case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = MAX_THREADS; break;
	case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = 32; break;
	case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = (int)setting("MOEC_STUB_CC", 90); break;
	default: *value = 0;
	}
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuFuncSetAttribute(CUfunction f, CUfunction_attribute attribute, int value) {
	BEGIN_HERE(cuFuncSetAttribute);
	struct object *o = mine(f, FUNCTION);
	if (o == NULL)
		return end(CUDA_ERROR_INVALID_HANDLE);
	if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES || value < 0 || value > SHARED_OPT_IN)
		return end(CUDA_ERROR_INVALID_VALUE);
	o->max_shared = value;
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuFuncGetParamInfo(CUfunction f, size_t index, size_t *offset, size_t *size) {
	BEGIN_HERE(cuFuncGetParamInfo);
	struct object *o = mine(f, FUNCTION);
	if (o == NULL)
		return end(CUDA_ERROR_INVALID_HANDLE);
	if (index >= (size_t)o->params)
		return end(CUDA_ERROR_INVALID_VALUE);
	*offset = 0; /* nobody asks */
	*size = (size_t)o->sizes[index];
	return end(CUDA_SUCCESS);
}

/* ---- launches ---- */

static void record(const struct object *f, const unsigned int *dims, unsigned int shared, void **params) {
	const char *name = getenv("MOEC_STUB_LOG");
	FILE *log = name && *name ? fopen(name, "a") : NULL;
	if (log == NULL)
		return;
	fprintf(log, "device %d launch %s grid %u,%u,%u block %u,%u,%u shared %u params", f->device, f->name, dims[0],
	        dims[1], dims[2], dims[3], dims[4], dims[5], shared);
	for (int i = 0; i < f->params; i++)
		for (int k = 0; k < f->sizes[i]; k++)
			fprintf(log, "%s%02x", k ? "" : " ", ((unsigned char *)params[i])[k]);
	fputc('\n', log);
	fclose(log);
}

/* fill_u32(uint32_t *ptr, uint32_t value, uint32_t count). A bad address loses
 * the context, as a kernel's does. */
static CUresult fill(void **params) {
	uint64_t at;
	uint32_t value, count;
	memcpy(&at, params[0], 8);
	memcpy(&value, params[1], 4);
	memcpy(&count, params[2], 4);
	unsigned char *bytes = here(at, (size_t)count * 4);
	if (bytes == NULL)
		return current->lost = CUDA_ERROR_ILLEGAL_ADDRESS;
	for (uint32_t i = 0; i < count; i++)
		memcpy(bytes + (size_t)i * 4, &value, 4);
	return CUDA_SUCCESS;
}

static CUresult launch(CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
                       unsigned int by, unsigned int bz, unsigned int shared, CUstream s, void **params, void **extra) {
	struct object *f = mine(function, FUNCTION);
	if (f == NULL || !stream_ok(s))
		return end(CUDA_ERROR_INVALID_HANDLE);
	const unsigned int dims[6] = {gx, gy, gz, bx, by, bz};
	uint64_t threads = (uint64_t)bx * by * bz;
	if ((uint64_t)gx * gy * gz == 0 || threads == 0 || threads > MAX_THREADS || (int)shared > f->max_shared || params == NULL || extra != NULL)
		return end(CUDA_ERROR_INVALID_VALUE);
	record(f, dims, shared, params);
	current->launches++;
	/* A kernel's failure shows at the next call that waits, not here. */
	if (strcmp(f->name, "fill_u32") == 0 && f->params == 3)
		fill(params);
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuLaunchKernel(CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
                                unsigned int by, unsigned int bz, unsigned int shared, CUstream s, void **params, void **extra) {
	BEGIN_HERE(cuLaunchKernel);
	return launch(function, gx, gy, gz, bx, by, bz, shared, s, params, extra);
}

CUresult CUDAAPI cuLaunchCooperativeKernel(CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz, unsigned int bx,
                                           unsigned int by, unsigned int bz, unsigned int shared, CUstream s, void **params) {
	BEGIN_HERE(cuLaunchCooperativeKernel);
	/* One block on each multiprocessor, whatever its size. */
	if ((uint64_t)gx * gy * gz > (uint64_t)MULTIPROCESSORS)
		return end(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
	return launch(function, gx, gy, gz, bx, by, bz, shared, s, params, NULL);
}

/* ---- streams and events ---- */

CUresult CUDAAPI cuStreamCreate(CUstream *s, unsigned int flags) {
	BEGIN_HERE(cuStreamCreate);
	if (flags > CU_STREAM_NON_BLOCKING)
		return end(CUDA_ERROR_INVALID_VALUE);
	*s = (CUstream)add(STREAM);
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuStreamDestroy(CUstream s) {
	BEGIN_HERE(cuStreamDestroy);
	struct object *o = mine(s, STREAM);
	if (o == NULL)
		return end(CUDA_ERROR_INVALID_HANDLE);
	drop(o);
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuStreamQuery(CUstream s) {
	BEGIN_HERE(cuStreamQuery);
	return end(stream_ok(s) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE);
}

CUresult CUDAAPI cuStreamSynchronize(CUstream s) {
	BEGIN_HERE(cuStreamSynchronize);
	return end(stream_ok(s) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE);
}

CUresult CUDAAPI cuStreamWaitEvent(CUstream s, CUevent e, unsigned int flags) {
	BEGIN_HERE(cuStreamWaitEvent);
	/* The event may be another device's. */
	return end(flags == 0 && stream_ok(s) && find(e, EVENT) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE);
}

CUresult CUDAAPI cuEventCreate(CUevent *e, unsigned int flags) {
	BEGIN_HERE(cuEventCreate);
	struct object *o = add(EVENT);
	o->timed = !(flags & CU_EVENT_DISABLE_TIMING);
	*e = (CUevent)o;
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuEventDestroy(CUevent e) {
	BEGIN_HERE(cuEventDestroy);
	struct object *o = mine(e, EVENT);
	if (o == NULL)
		return end(CUDA_ERROR_INVALID_HANDLE);
	drop(o);
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuEventRecord(CUevent e, CUstream s) {
	BEGIN_HERE(cuEventRecord);
	struct object *o = mine(e, EVENT);
	if (o == NULL || !stream_ok(s))
		return end(CUDA_ERROR_INVALID_HANDLE);
	o->recorded = 1;
	o->at = current->launches;
	return end(CUDA_SUCCESS);
}

CUresult CUDAAPI cuEventQuery(CUevent e) {
	BEGIN_HERE(cuEventQuery);
	return end(find(e, EVENT) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE);
}

CUresult CUDAAPI cuEventSynchronize(CUevent e) {
	BEGIN_HERE(cuEventSynchronize);
	return end(find(e, EVENT) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE);
}

/* Only the older name of this one, as drivers before CUDA 13 have it. */
#undef cuEventElapsedTime
CUresult CUDAAPI cuEventElapsedTime(float *ms, CUevent from, CUevent to) {
	BEGIN_HERE(cuEventElapsedTime);
	struct object *a = mine(from, EVENT), *b = mine(to, EVENT);
	if (a == NULL || b == NULL || !a->timed || !b->timed || !a->recorded || !b->recorded)
		return end(CUDA_ERROR_INVALID_HANDLE);
	*ms = (float)(b->at - a->at);
	return end(CUDA_SUCCESS);
}
