// Rows of a transformer's hidden state, by 256 threads together: norms, the sum
// of a token's experts, and the choice of experts.
//
// Sums within a row are over fixed parts of it, so a row's bits depend on that
// row alone.
#pragma once

#include "gemm_sm90.cuh"

namespace moec {

constexpr int row_threads = 256;
constexpr int row_parts = row_threads / warp_size;  // warps

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// row_sync is a barrier of the threads that work on rows.
__device__ inline void row_sync() { asm volatile("bar.sync 1, %0;" ::"n"(row_threads) : "memory"); }

// Eight are elements that a thread loads and stores at once.
using Eight = uint4;

template <typename E>
__device__ inline void widen_eight(const Eight& v, float (&x)[8]) {
  spread(E(), v.x, &x[0], &x[1]);
  spread(E(), v.y, &x[2], &x[3]);
  spread(E(), v.z, &x[4], &x[5]);
  spread(E(), v.w, &x[6], &x[7]);
}

template <typename E>
__device__ inline Eight narrow_eight(const float (&x)[8]) {
  return make_uint4(pack(E(), x[0], x[1]), pack(E(), x[2], x[3]), pack(E(), x[4], x[5]), pack(E(), x[6], x[7]));
}

template <typename E>
__device__ inline float rounded(float x) {
  E e;
  narrow(&e, x);
  return widen(e);
}

// row_total adds a number of each thread in a fixed order; scratch has a place
// for each warp.
__device__ inline float row_total(float x, float* scratch) {
  x = warp_sum(x);
  row_sync();
  if (lane() == 0) scratch[threadIdx.x / warp_size] = x;
  row_sync();
  float s = scratch[0];
#pragma unroll
  for (int w = 1; w < row_parts; w++) s += scratch[w];
  return s;
}

// RowPart is a thread's part of a row of HIDDEN elements: vectors of eight, a
// block's threads apart.
template <typename E, int HIDDEN>
struct RowPart {
  static_assert(HIDDEN % (8 * row_threads) == 0, "a row is whole vectors of all threads");
  static constexpr int vectors = HIDDEN / (8 * row_threads);
  float at[vectors][8];

  static __device__ int place(int v) { return (v * row_threads + threadIdx.x) * 8; }

  static __device__ void load(const E* row, Eight (&to)[vectors]) {
#pragma unroll
    for (int v = 0; v < vectors; v++) to[v] = *(const Eight*)(row + place(v));
  }
  static __device__ void store(E* row, const Eight (&from)[vectors]) {
#pragma unroll
    for (int v = 0; v < vectors; v++) *(Eight*)(row + place(v)) = from[v];
  }

  // take makes this the numbers of a row.
  __device__ void take(const Eight (&row)[vectors]) {
#pragma unroll
    for (int v = 0; v < vectors; v++) widen_eight<E>(row[v], at[v]);
  }

  // norm gives the row times its factor and the weights, rounded.
  __device__ void norm(const Eight (&weights)[vectors], double eps, float* scratch, Eight (&out)[vectors]) const {
    float squares = 0;
#pragma unroll
    for (int v = 0; v < vectors; v++) {
#pragma unroll
      for (int i = 0; i < 8; i++) squares = fmaf(at[v][i], at[v][i], squares);
    }
    float factor = float(1 / sqrt(double(row_total(squares, scratch)) / HIDDEN + eps));
#pragma unroll
    for (int v = 0; v < vectors; v++) {
      float w[8], y[8];
      widen_eight<E>(weights[v], w);
#pragma unroll
      for (int i = 0; i < 8; i++) y[i] = at[v][i] * factor * w[i];
      out[v] = narrow_eight<E>(y);
    }
  }
};

// add_rounded adds eight rounded numbers to eight others, and rounds.
template <typename E>
__device__ inline Eight add_rounded(const Eight& a, const float (&b)[8]) {
  float x[8];
  widen_eight<E>(a, x);
#pragma unroll
  for (int i = 0; i < 8; i++) x[i] += rounded<E>(b[i]);
  return narrow_eight<E>(x);
}

// sum_experts adds what a token's experts gave, in the order of its choices, at
// most two, times their shares.
template <typename E, int TOP>
__device__ inline void sum_experts(const E* expert_out, int hidden, const float* shares, float (&sum)[8]) {
  static_assert(TOP <= 2, "the order of two terms does not matter");
#pragma unroll
  for (int i = 0; i < 8; i++) sum[i] = 0;
#pragma unroll
  for (int j = 0; j < TOP; j++) {
    float y[8], w = shares[j];
    widen_eight<E>(*(const Eight*)(expert_out + (long long)j * hidden), y);
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] += w * y[i];
  }
}

// choose_experts is the router of one token, by one warp, a lane an expert:
// scores to the experts chosen and their shares.
template <typename E, int EXPERTS, int TOP>
__device__ inline void choose_experts(float score, int* chosen, float* shares) {
  static_assert(EXPERTS <= warp_size, "a lane for each expert");
  bool real = lane() < EXPERTS;
  float x = real ? rounded<E>(score) : minus_infinity(), top = warp_max(x);
  float p = real ? expf(x - top) : 0;
  p = p / warp_sum(p);
  float share[TOP], all = 0;
#pragma unroll
  for (int j = 0; j < TOP; j++) {
    // The largest left, and of equal ones the first. NaN is below all.
    float best = real && p == p ? p : -1;
    int index = lane();
#pragma unroll
    for (int far = warp_size / 2; far > 0; far /= 2) {
      float other = __shfl_xor_sync(all_lanes, best, far);
      int at = __shfl_xor_sync(all_lanes, index, far);
      if (other > best || (other == best && at < index)) {
        best = other;
        index = at;
      }
    }
    share[j] = __shfl_sync(all_lanes, p, index);
    all += share[j];
    if (lane() == index) real = false;
    if (lane() == 0) chosen[j] = index;
  }
#pragma unroll
  for (int j = 0; j < TOP; j++) {
    if (lane() == j) shares[j] = share[j] / all;
  }
}

// route_row scores the experts for a normed row and chooses. gates has the
// thread's parts of the router's rows, scores a place for each warp and expert.
template <typename E, int HIDDEN, int EXPERTS, int TOP>
__device__ inline void route_row(const RowPart<E, HIDDEN>& x, const Eight (&gates)[EXPERTS][RowPart<E, HIDDEN>::vectors], float* scores, int* chosen,
                                 float* shares) {
#pragma unroll
  for (int e = 0; e < EXPERTS; e++) {
    float s = 0;
#pragma unroll
    for (int v = 0; v < RowPart<E, HIDDEN>::vectors; v++) {
      float w[8];
      widen_eight<E>(gates[e][v], w);
#pragma unroll
      for (int i = 0; i < 8; i++) s = fmaf(x.at[v][i], w[i], s);
    }
    s = warp_sum(s);
    if (lane() == 0) scores[threadIdx.x / warp_size * EXPERTS + e] = s;
  }
  row_sync();
  if (threadIdx.x < warp_size) {
    int e = min(lane(), EXPERTS - 1);
    float s = scores[e];
#pragma unroll
    for (int w = 1; w < row_parts; w++) s += scores[w * EXPERTS + e];
    choose_experts<E, EXPERTS, TOP>(s, chosen, shares);
  }
}

#endif

}  // namespace moec
