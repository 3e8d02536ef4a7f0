// Kernels that look at the routing: which expert each slot of a token chose.
// They read it in device memory; the host never does.
#pragma once

#include "dot.cuh"

namespace moec {

// Held says which experts are here: at has, for each expert of the layer, its
// place in the weight's first axis, or -1. Expert place i serves the tokens t
// with t mod turns[i] == turn[i].
template <int TOTAL, int HELD>
struct Held {
  short at[TOTAL];
  short turn[HELD];
  short turns[HELD];

  // place returns where the expert is if it serves the token here, else -1.
  __device__ int place(int expert, long long token) const {
    if (expert < 0 || expert >= TOTAL) return -1;
    int i = at[expert];
    return i >= 0 && token % turns[i] == turn[i] ? i : -1;
  }
};

// expert_matmul multiplies the row of each slot by the transpose of its
// expert's w [N, K]: one warp an element. Slots whose expert is not here are
// left as they are.
template <typename X, typename W, typename L, int SLOTS, int N, int K, int TOTAL, int HELD, int SEGMENTS, int NODES>
__device__ void expert_matmul(float* out, const X* x, const W* w, const int* ids, long long rows,
                              const Held<TOTAL, HELD>& held, const Segments<SEGMENTS, NODES>& cut) {
  long long item = warp_number();
  if (item >= rows * N) return;
  long long row = item % rows, n = item / rows;
  int expert = held.place(ids[row], row / SLOTS);
  if (expert < 0) return;
  dot<L, K>(out + row * N + n, rows * N, x + row * K, w + (long long)expert * N * K, n, cut);
}

// expert_rows takes the row of w of each slot's expert, if that is here.
template <typename E, int SLOTS, int N, int TOTAL, int HELD>
__device__ void expert_rows(E* out, const E* w, const int* ids, long long count, const Held<TOTAL, HELD>& held) {
  long long i = thread_number();
  if (i >= count) return;
  long long row = i / N;
  int expert = held.place(ids[row], row / SLOTS);
  if (expert >= 0) out[i] = w[(long long)expert * N + i % N];
}

// combine adds weight times row over a token's slots, along the tree over the
// expert numbers, once for each span [lo, hi) of experts: one thread an
// element. A pair of slots is added at the first level where both experts are
// under one node; slots of the same expert come first, in their order.
template <typename X, typename W, int SLOTS, int N, int TOTAL, int HELD, int SPANS>
__device__ void combine(float* out, const X* x, const int* ids, const W* weights, long long tokens,
                        const Held<TOTAL, HELD>& held, const Ints<2 * SPANS>& spans) {
  long long item = thread_number();
  if (item >= SPANS * tokens * N) return;
  long long token = item / N % tokens;
  int span = item / N / tokens, n = item % N;
  int lo = spans.at[2 * span], hi = spans.at[2 * span + 1];

  float value[SLOTS];
  int expert[SLOTS];  // -1 once it is added to another, or left out
#pragma unroll
  for (int j = 0; j < SLOTS; j++) {
    long long slot = token * SLOTS + j;
    int e = ids[slot];
    bool here = e >= lo && e < hi && held.place(e, token) >= 0;
    expert[j] = here ? e : -1;
    value[j] = here ? widen(weights[slot]) * widen(x[slot * N + n]) : 0;
  }
  for (int level = 0; level == 0 || (TOTAL - 1) >> (level - 1) > 0; level++) {
#pragma unroll
    for (int i = 0; i < SLOTS; i++) {
#pragma unroll
      for (int j = i + 1; j < SLOTS; j++) {
        if (expert[i] >= 0 && expert[j] >= 0 && expert[i] >> level == expert[j] >> level) {
          value[i] += value[j];
          expert[j] = -1;
        }
      }
    }
  }
  float result = 0;  // one slot at most is left
#pragma unroll
  for (int j = 0; j < SLOTS; j++) {
    if (expert[j] >= 0) result += value[j];
  }
  out[item] = result;
}

}  // namespace moec
