// The KV cache in pages, and attention over it.
//
// A page holds PAGE positions as [position][head][key, then value]. Position
// p of a sequence is in the page that the sequence's row of the page table
// lists at p / PAGE.
#pragma once

#include "element.cuh"

namespace moec {

// kv_append stores keys and values: one thread an element.
template <typename E, int HEADS, int KEY, int VALUE, int PAGE>
__device__ void kv_append(E* cache, const E* keys, const E* values, const int* sequences, const int* positions,
                          const int* pages, int table_width, long long count) {
  constexpr int width = KEY + VALUE;
  long long i = thread_number();
  if (i >= count) return;
  int d = i % width;
  long long head = i / width, token = head / HEADS;
  int position = positions[token];
  long long page = pages[(long long)sequences[token] * table_width + position / PAGE];
  long long at = ((page * PAGE + position % PAGE) * HEADS + head % HEADS) * width + d;
  cache[at] = d < KEY ? keys[head * KEY + d] : values[head * VALUE + d - KEY];
}

// Rule are the numbers of an attention that no instantiation needs to know.
struct Rule {
  float scale;
  float softcap;  // 0: none
  int window;     // positions seen, 0: all
  int share;      // query heads that share a KV head
  int q_first;    // number of the first query head here
  int kv_first;   // number of the first KV head here
};

// block_sum and block_max reduce over a block of BLOCK threads in a fixed
// order and give all of them the result; scratch has one place a warp.
template <int BLOCK>
__device__ float block_sum(float x, float* scratch) {
  x = warp_sum(x);
  __syncthreads();
  if (lane() == 0) scratch[threadIdx.x / warp_size] = x;
  __syncthreads();
  float s = scratch[0];
  for (int w = 1; w < BLOCK / warp_size; w++) s += scratch[w];
  return s;
}

template <int BLOCK>
__device__ float block_max(float x, float* scratch) {
  x = warp_max(x);
  __syncthreads();
  if (lane() == 0) scratch[threadIdx.x / warp_size] = x;
  __syncthreads();
  float m = scratch[0];
  for (int w = 1; w < BLOCK / warp_size; w++) m = larger(m, scratch[w]);
  return m;
}

// attention computes one query head of one token with a block. Chunks of CHUNK
// positions begin at fixed positions and are merged in order, so the bits
// depend on the token's own position and window alone. sinks is null, or has a
// logit for each head that takes part in the softmax without a value.
template <typename Q, typename C, typename S, int HEADS, int KV_HEADS, int KEY, int VALUE, int PAGE, int CHUNK, int BLOCK>
__device__ void attention(float* out, const Q* q, const C* cache, const int* sequences, const int* positions,
                          const S* sinks, const int* pages, int table_width, long long items, const Rule& rule) {
  constexpr int width = KEY + VALUE;
  constexpr int owned = (VALUE + BLOCK - 1) / BLOCK;  // entries of the result of a thread
  __shared__ float query[KEY];
  __shared__ float score[CHUNK];
  __shared__ int where[CHUNK];  // page * PAGE + place in the page
  __shared__ float scratch[BLOCK / warp_size];

  long long item = blockIdx.x;
  if (item >= items) return;
  long long token = item / HEADS;
  int head = item % HEADS;
  int kv_head = (rule.q_first + head) / rule.share - rule.kv_first;
  int position = positions[token];
  pages += (long long)sequences[token] * table_width;
  for (int d = threadIdx.x; d < KEY; d += BLOCK) query[d] = widen(q[item * KEY + d]);

  float top = sinks ? widen(sinks[head]) : minus_infinity();
  float total = sinks ? 1 : 0;
  float sum[owned];
#pragma unroll
  for (int k = 0; k < owned; k++) sum[k] = 0;

  int from = rule.window > 0 ? max(0, position - rule.window + 1) : 0;
  for (int lo = from; lo <= position;) {
    int hi = min(position + 1, (lo / CHUNK + 1) * CHUNK);
    int n = hi - lo;
    __syncthreads();
    for (int i = threadIdx.x; i < n; i += BLOCK) where[i] = pages[(lo + i) / PAGE] * PAGE + (lo + i) % PAGE;
    __syncthreads();
    for (int i = threadIdx.x / warp_size; i < n; i += BLOCK / warp_size) {
      const C* key = cache + ((long long)where[i] * KV_HEADS + kv_head) * width;
      float s = 0;
      for (int d = lane(); d < KEY; d += warp_size) s = fmaf(query[d], widen(key[d]), s);
      s = warp_sum(s) * rule.scale;
      if (rule.softcap != 0) s = rule.softcap * tanhf(s / rule.softcap);
      if (lane() == 0) score[i] = s;
    }
    __syncthreads();
    float m = minus_infinity();
    for (int i = threadIdx.x; i < n; i += BLOCK) m = larger(m, score[i]);
    m = block_max<BLOCK>(m, scratch);
    float l = 0;
    for (int i = threadIdx.x; i < n; i += BLOCK) {
      score[i] = expf(score[i] - m);
      l += score[i];
    }
    l = block_sum<BLOCK>(l, scratch);

    float higher = larger(top, m);
    float keep = expf(top - higher), weight = expf(m - higher);
    top = higher;
    total = total * keep + l * weight;
#pragma unroll
    for (int k = 0; k < owned; k++) {
      int d = threadIdx.x + k * BLOCK;
      float o = 0;
      if (d < VALUE) {
        for (int i = 0; i < n; i++) {
          o = fmaf(score[i], widen(cache[((long long)where[i] * KV_HEADS + kv_head) * width + KEY + d]), o);
        }
      }
      sum[k] = sum[k] * keep + o * weight;
    }
    lo = hi;
  }
#pragma unroll
  for (int k = 0; k < owned; k++) {
    int d = threadIdx.x + k * BLOCK;
    if (d < VALUE) out[item * VALUE + d] = sum[k] / total;
  }
}

}  // namespace moec
