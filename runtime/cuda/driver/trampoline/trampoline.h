#ifndef MOEC_TRAMPOLINE_H
#define MOEC_TRAMPOLINE_H

#include <stddef.h>

/*
 * Loads the driver's library and points all entry points at it. Returns 0, or
 * 1 after writing the reason. Call it once, before any other entry point.
 */
int moec_cuda_load(const char *library, char *why, size_t size);

#endif
