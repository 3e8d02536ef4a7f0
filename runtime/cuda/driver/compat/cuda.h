/*
 * The driver API's header as gorgonia.org/cu v0.9.6 expects it.
 *
 * That package calls five functions by names whose meaning changed in CUDA 13:
 * the header's macros now lead to versions with other parameters. This file
 * stands before the real cuda.h in the include path, includes it, and turns
 * the five names into functions with the old parameters. Code that wants the
 * new ones calls them by their full names, e.g. cuGraphGetEdges_v2.
 */
#ifndef MOEC_COMPAT_CUDA_H
#define MOEC_COMPAT_CUDA_H

#include_next <cuda.h>

#if CUDA_VERSION >= 13000

#undef cuCtxCreate
#undef cuMemAdvise
#undef cuMemPrefetchAsync
#undef cuGraphAddDependencies
#undef cuGraphGetEdges

/* A device number becomes a location: -1 (CU_DEVICE_CPU) is the host. */
static inline CUmemLocation moec_location(CUdevice device) {
	CUmemLocation at = {CU_MEM_LOCATION_TYPE_DEVICE, device};
	if (device == CU_DEVICE_CPU) {
		at.type = CU_MEM_LOCATION_TYPE_HOST;
		at.id = 0;
	}
	return at;
}

static inline CUresult moec_cuCtxCreate(CUcontext *ctx, unsigned int flags, CUdevice device) {
	return cuCtxCreate_v4(ctx, NULL, flags, device);
}

static inline CUresult moec_cuMemAdvise(CUdeviceptr ptr, size_t bytes, CUmem_advise advice, CUdevice device) {
	return cuMemAdvise_v2(ptr, bytes, advice, moec_location(device));
}

static inline CUresult moec_cuMemPrefetchAsync(CUdeviceptr ptr, size_t bytes, CUdevice device, CUstream stream) {
	return cuMemPrefetchAsync_v2(ptr, bytes, moec_location(device), 0, stream);
}

static inline CUresult moec_cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count) {
	return cuGraphAddDependencies_v2(graph, from, to, NULL, count);
}

static inline CUresult moec_cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *count) {
	return cuGraphGetEdges_v2(graph, from, to, NULL, count);
}

#define cuCtxCreate moec_cuCtxCreate
#define cuMemAdvise moec_cuMemAdvise
#define cuMemPrefetchAsync moec_cuMemPrefetchAsync
#define cuGraphAddDependencies moec_cuGraphAddDependencies
#define cuGraphGetEdges moec_cuGraphGetEdges

#endif /* CUDA_VERSION >= 13000 */

#endif
