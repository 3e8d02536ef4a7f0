// Matrix products of many rows, on Hopper: see gemm_tiles.cuh. Elsewhere the
// kernels are empty, and nothing launches them.
#pragma once

#include "gemm_tiles.cuh"

namespace moec {

// gemm multiplies rows of K features by the transpose of w [N, K].
template <typename X, typename W, int N, int K, int SEGMENTS, int BN, int STAGES, int TILED>
__device__ void gemm(float* out, const X* x, const W* w, long long rows, const Segments<SEGMENTS, 1>& cut) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  product<X, W, N, K, BN, STAGES, SEGMENTS, TILED>(x, w, int(rows), cut, Plain<N>{out});
#endif
}

// gemm_round rounds the result.
template <typename X, typename W, int N, int K, int SEGMENTS, int BN, int STAGES, int TILED>
__device__ void gemm_round(X* out, const X* x, const W* w, long long rows, const Segments<SEGMENTS, 1>& cut) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  product<X, W, N, K, BN, STAGES, SEGMENTS, TILED>(x, w, int(rows), cut, Rounded<X, N>{out});
#endif
}

// gemm_add rounds the result, adds it to more and rounds the sum. With eight
// segments there are too few registers.
template <typename X, typename W, int N, int K, int SEGMENTS, int BN, int STAGES, int TILED>
__device__ void gemm_add(X* out, const X* x, const W* w, const X* more, long long rows, const Segments<SEGMENTS, 1>& cut) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  static_assert(SEGMENTS <= 4, "at most four segments");
  product<X, W, N, K, BN, STAGES, SEGMENTS, TILED>(x, w, int(rows), cut, Added<X, N>{out, more});
#endif
}

}  // namespace moec
