/*
 * A stand-in for -lcuda, linked statically, so that one binary runs with and
 * without an NVIDIA driver.
 *
 * Each entry point is one jump through a pointer. Until moec_cuda_load has
 * found libcuda.so.1, the pointers lead to a function that answers
 * CUDA_ERROR_NOT_INITIALIZED, and cuInit answers success: gorgonia.org/cu calls
 * cuInit before main and ends the program when that fails. So a start costs
 * nothing, and the driver is loaded only by a command that wants a device.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>

#include "trampoline.h"

enum {
	NOT_INITIALIZED = 3,
	NEEDS_NEWER_DRIVER = 36,
};

static int not_loaded(void) { return NOT_INITIALIZED; }
static int not_in_driver(void) { return NEEDS_NEWER_DRIVER; }

#if defined(__x86_64__)
#define JUMP(name) "\tjmp *moec_at_" #name "(%rip)\n"
#elif defined(__aarch64__)
#define JUMP(name)                       \
	"\tadrp x16, moec_at_" #name "\n"    \
	"\tldr x16, [x16, :lo12:moec_at_" #name "]\n" \
	"\tbr x16\n"
#else
#error "the CUDA build supports x86-64 and arm64"
#endif

/* One pointer and one jump per entry point. */
#define X(name, older)                                                              \
	__attribute__((visibility("hidden"))) int (*moec_at_##name)(void) = not_loaded; \
	__asm__(".text\n.balign 16\n.globl " #name "\n.type " #name ", %function\n"     \
	        #name ":\n" JUMP(name) ".size " #name ", .-" #name "\n");
#include "symbols.h"
#undef X

static int (*real_cuInit)(unsigned int);

int cuInit(unsigned int flags) { return real_cuInit ? real_cuInit(flags) : 0; }

static const struct {
	const char *name, *older;
	int (**at)(void);
} entries[] = {
#define X(name, older) {#name, older, &moec_at_##name},
#include "symbols.h"
#undef X
};

int moec_cuda_load(const char *library, char *why, size_t size) {
	void *lib = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (lib == NULL) {
		snprintf(why, size, "%s", dlerror());
		return 1;
	}
	real_cuInit = (int (*)(unsigned int))dlsym(lib, "cuInit");
	if (real_cuInit == NULL) {
		snprintf(why, size, "%s is not a CUDA driver: it has no cuInit", library);
		dlclose(lib);
		return 1;
	}
	for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
		void *found = dlsym(lib, entries[i].name);
		if (found == NULL && entries[i].older[0] != '\0')
			found = dlsym(lib, entries[i].older);
		*entries[i].at = found ? (int (*)(void))found : not_in_driver;
	}
	return 0;
}
