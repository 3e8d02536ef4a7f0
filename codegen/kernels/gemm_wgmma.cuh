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

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// HeadRows stores queries, keys and values of 128 entries: queries in rows, keys
// and values in the cache, where places says. Entries i and i + 64 of queries
// and keys, which one thread has, are turned.
template <typename E, int HEADS, int KV_HEADS>
struct HeadRows {
  static constexpr int dim = 128, pairs = dim / 2;
  E *query, *cache;
  const float2* turns;
  const int* places;

  template <int SUMS>
  __device__ void store(float (&sum)[SUMS], const Target& t) const {
    static_assert(2 * SUMS % dim == 0, "whole heads");
#pragma unroll
    for (int h = 0; h < 2 * SUMS / dim; h++) {
      int head = t.column / dim + h;
      if (head >= HEADS + 2 * KV_HEADS) return;
      bool value = head >= HEADS + KV_HEADS;
      int kv_head = head - HEADS - (value ? KV_HEADS : 0);
#pragma unroll
      for (int r = 0; r < 2; r++) {
        long long row = max(0, t.row[r]);
        if (!value) turn_head(sum, h, r, turns + row * pairs);
        E* to = head < HEADS ? query + (row * HEADS + head) * dim : cache + (((long long)places[row] * KV_HEADS + kv_head) * 2 + value) * dim;
        put_head(sum, h, r, to, t.row[r] >= 0);
      }
    }
  }

  template <int SUMS>
  __device__ static void turn_head(float (&sum)[SUMS], int h, int r, const float2* turns) {
    const float4* two = reinterpret_cast<const float4*>(turns) + threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      float4 t = two[4 * j];
      float *a = sum + 4 * (16 * h + j) + 2 * r, *b = a + 32, a0 = a[0], a1 = a[1];
      a[0] = a0 * t.x - b[0] * t.y;
      b[0] = b[0] * t.x + a0 * t.y;
      a[1] = a1 * t.z - b[1] * t.w;
      b[1] = b[1] * t.z + a1 * t.w;
    }
  }

  template <int SUMS>
  __device__ static void put_head(const float (&sum)[SUMS], int h, int r, E* to, bool real) {
#pragma unroll
    for (int j = 0; j < 16; j += 4) {
      unsigned w[4];
#pragma unroll
      for (int i = 0; i < 4; i++) w[i] = pack(E(), sum[4 * (16 * h + j + i) + 2 * r], sum[4 * (16 * h + j + i) + 2 * r + 1]);
      exchange(w);
      if (real) *reinterpret_cast<uint4*>(to + (j + threadIdx.x % 4) * 8) = make_uint4(w[0], w[1], w[2], w[3]);
    }
  }
};

#endif

// gemm_heads multiplies by the weights of queries, keys and values, which are
// HEADS + 2 KV_HEADS heads of 128, rotates queries and keys, and appends keys
// and values to the cache. The sums are not cut.
template <typename E, int HEADS, int KV_HEADS, int K, int BN, int STAGES>
__device__ void gemm_heads(E* query, E* cache, const E* x, const E* w, const float2* turns, const int* places, long long rows) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  constexpr int n = (HEADS + 2 * KV_HEADS) * 128;
  Segments<1, 1> cut{{0, K}, {0, 1}};
  product<E, E, n, K, BN, STAGES, 1, true>(x, w, int(rows), cut, HeadRows<E, HEADS, KV_HEADS>{query, cache, turns, places});
#endif
}

}  // namespace moec
