// Attention of a decoding step: a block takes one chunk of positions of one KV
// head of one token, for all query heads that share it.
//
// Chunks begin at fixed positions and are merged in order, by whichever block
// finishes last, so a token's bits depend on its own position alone.
#pragma once

#include "decode_phases.cuh"

namespace moec {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// AttentionSpace is the shared memory of the phase.
template <typename M>
struct AttentionSpace {
  float weight[M::chunk][M::share];
  float sum[compute_warps][M::share][M::dim];
  float top[M::share], total[M::share];
  int where[M::chunk];
  int last;
};

// part_size is the numbers that a chunk gives for one query head: the sum of
// values, the largest score, and the sum of weights.
template <typename M>
constexpr int part_size = M::dim + 2;

// merge adds the chunks of one KV head of one token, which all are there.
template <typename M>
__device__ void merge(const Decoder& d, int token, int kv_head, int chunks) {
  using E = typename M::E;
  for (int i = threadIdx.x; i < M::share * M::dim; i += compute_threads) {
    int head = kv_head * M::share + i / M::dim, at = i % M::dim;
    const float* part = d.parts + (long long)(token * M::heads + head) * (d.table_width * M::page / M::chunk + 1) * part_size<M>;
    float top = minus_infinity(), total = 0, sum = 0;
    for (int c = 0; c < chunks; c++) top = larger(top, __ldcg(part + c * part_size<M> + M::dim));
    for (int c = 0; c < chunks; c++) {
      float w = expf(__ldcg(part + c * part_size<M> + M::dim) - top);
      total += __ldcg(part + c * part_size<M> + M::dim + 1) * w;
      sum += __ldcg(part + c * part_size<M> + at) * w;
    }
    narrow((E*)d.attended + (long long)token * M::queries + head * M::dim + at, sum / total);
  }
}

// scores computes, for each query head of a KV head, query times key for n
// positions: sixteen lanes a position.
template <typename M>
__device__ void scores(const Decoder& d, const typename M::E* cache, const typename M::E* query, int n, AttentionSpace<M>& s) {
  using E = typename M::E;
  constexpr int lanes = M::dim / 8, at_once = warp_size / lanes, ahead = 4, step = compute_warps * at_once;
  int warp = threadIdx.x / warp_size, part = lane() % lanes;
  float q[M::share][8];
#pragma unroll
  for (int h = 0; h < M::share; h++) widen_eight<E>(__ldcg((const Eight*)(query + h * M::dim) + part), q[h]);
  for (int base = warp * at_once + lane() / lanes; base - lane() / lanes < n; base += ahead * step) {
    Eight keys[ahead];
#pragma unroll
    for (int k = 0; k < ahead; k++) {
      int i = base + k * step;
      keys[k] = i < n ? *(const Eight*)(cache + (long long)s.where[i] * (M::kv_heads * 2 * M::dim) + part * 8) : Eight{};
    }
#pragma unroll
    for (int k = 0; k < ahead; k++) {
      float key[8];
      widen_eight<E>(keys[k], key);
#pragma unroll
      for (int h = 0; h < M::share; h++) {
        float x = 0;
#pragma unroll
        for (int j = 0; j < 8; j++) x = fmaf(q[h][j], key[j], x);
#pragma unroll
        for (int far = lanes / 2; far > 0; far /= 2) x += __shfl_xor_sync(all_lanes, x, far);
        if (part == 0 && base + k * step < n) s.weight[base + k * step][h] = x * d.scale;
      }
    }
  }
}

// weigh turns the scores of a head into weights: a warp a head.
template <typename M>
__device__ void weigh(int n, AttentionSpace<M>& s) {
  int h = threadIdx.x / warp_size;
  if (h >= M::share) return;
  float top = minus_infinity(), total = 0;
  for (int i = lane(); i < n; i += warp_size) top = larger(top, s.weight[i][h]);
  top = warp_max(top);
  for (int i = lane(); i < n; i += warp_size) {
    float w = expf(s.weight[i][h] - top);
    s.weight[i][h] = w;
    total += w;
  }
  total = warp_sum(total);
  if (lane() == 0) {
    s.top[h] = top;
    s.total[h] = total;
  }
}

// values adds weight times value: a warp every eighth position, a lane four
// entries.
template <typename M>
__device__ void values(const typename M::E* cache, int n, AttentionSpace<M>& s) {
  using E = typename M::E;
  constexpr int ahead = 8;
  int warp = threadIdx.x / warp_size;
  float sum[M::share][4];
#pragma unroll
  for (int h = 0; h < M::share; h++) {
#pragma unroll
    for (int j = 0; j < 4; j++) sum[h][j] = 0;
  }
  for (int base = warp; base < n; base += ahead * compute_warps) {
    uint2 v[ahead];
#pragma unroll
    for (int k = 0; k < ahead; k++) {
      int i = base + k * compute_warps;
      v[k] = i < n ? *(const uint2*)(cache + (long long)s.where[i] * (M::kv_heads * 2 * M::dim) + M::dim + lane() * 4) : uint2{};
    }
#pragma unroll
    for (int k = 0; k < ahead; k++) {
      int i = base + k * compute_warps;
      if (i >= n) break;
      float x[4];
      spread(E(), v[k].x, &x[0], &x[1]);
      spread(E(), v[k].y, &x[2], &x[3]);
#pragma unroll
      for (int h = 0; h < M::share; h++) {
        float w = s.weight[i][h];
#pragma unroll
        for (int j = 0; j < 4; j++) sum[h][j] = fmaf(w, x[j], sum[h][j]);
      }
    }
  }
#pragma unroll
  for (int h = 0; h < M::share; h++) *(float4*)&s.sum[warp][h][lane() * 4] = make_float4(sum[h][0], sum[h][1], sum[h][2], sum[h][3]);
}

// attend_chunk does one chunk of one KV head of one token.
template <typename M>
__device__ void attend_chunk(const Decoder& d, int layer, int token, int kv_head, int chunk, AttentionSpace<M>& s) {
  using E = typename M::E;
  int position = d.positions[token], chunks = position / M::chunk + 1;
  int first = chunk * M::chunk, n = min(M::chunk, position + 1 - first);
  const int* pages = d.pages + (long long)d.sequences[token] * d.table_width;
  compute_sync();
  for (int i = threadIdx.x; i < n; i += compute_threads) s.where[i] = pages[(first + i) / M::page] * M::page + (first + i) % M::page;
  compute_sync();
  const E* cache = d.cache.of<const E>(layer) + kv_head * 2 * M::dim;
  scores<M>(d, cache, (const E*)d.query + (long long)token * M::queries + kv_head * M::share * M::dim, n, s);
  compute_sync();
  weigh<M>(n, s);
  compute_sync();
  values<M>(cache, n, s);
  compute_sync();
  for (int i = threadIdx.x; i < M::share * M::dim; i += compute_threads) {
    int h = i / M::dim, at = i % M::dim, head = kv_head * M::share + h;
    float sum = s.sum[0][h][at];
#pragma unroll
    for (int w = 1; w < compute_warps; w++) sum += s.sum[w][h][at];
    if (chunks == 1) {
      narrow((E*)d.attended + (long long)token * M::queries + head * M::dim + at, sum / s.total[h]);
      continue;
    }
    float* part = d.parts + ((long long)(token * M::heads + head) * (d.table_width * M::page / M::chunk + 1) + chunk) * part_size<M>;
    part[at] = sum;
    if (at == 0) {
      part[M::dim] = s.top[h];
      part[M::dim + 1] = s.total[h];
    }
  }
  if (chunks == 1) return;
  unsigned* done = d.state + 2 + token * M::kv_heads + kv_head;
  __threadfence();
  compute_sync();
  if (threadIdx.x == 0) {
    s.last = atomicAdd(done, 1) == chunks - 1;
    if (s.last) *done = 0;
    __threadfence();
  }
  compute_sync();
  if (s.last) merge<M>(d, token, kv_head, chunks);
}

// attend deals the chunks of all tokens out to the blocks.
template <typename M>
__device__ void attend(const Decoder& d, int layer, AttentionSpace<M>& s) {
  int turn = blockIdx.x;  // of this block, counted from the token's first item
  for (int t = 0; t < d.token_count; t++) {
    int items = (d.positions[t] / M::chunk + 1) * M::kv_heads;
    for (; turn < items; turn += gridDim.x) attend_chunk<M>(d, layer, t, turn % M::kv_heads, turn / M::kv_heads, s);
    turn -= items;
  }
}

#endif

}  // namespace moec
