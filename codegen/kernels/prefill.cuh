// What a step of many tokens does to whole rows of a transformer with experts:
// the rows that a layer begins with, and the choice of experts. The products
// and the attention between them are in gemm_wgmma.cuh, gemm_grouped.cuh and
// flash_attention.cuh. For other architectures the kernels are empty, and
// nothing launches them.
//
// A block takes one row after the other, and has what all rows need in
// registers.
#pragma once

#include "rope.cuh"
#include "row_part.cuh"

namespace moec {

// prefill_begin computes each token's cosines and sines [token][pair] and its
// place in the cache, in positions of pages: one thread a pair.
template <int PAIRS, int PAGE>
__device__ void prefill_begin(float2* turns, int* places, const int* positions, const int* sequences, const int* pages, const float* freqs,
                              int table_width, long long count) {
  long long item = thread_number();
  if (item >= count) return;
  int token = item / PAIRS, pair = item % PAIRS, position = positions[token];
  float c, s;
  turn(float(position) * freqs[pair], &c, &s);
  turns[item] = make_float2(c, s);
  if (pair == 0) places[token] = pages[(long long)sequences[token] * table_width + position / PAGE] * PAGE + position % PAGE;
}

// prefill_embed makes the rows of the first layer, and their norm.
template <typename E, int HIDDEN>
__device__ void prefill_embed(E* x, E* normed, const int* tokens, const E* embedding, const E* norm, int rows, double eps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Part = RowPart<E, HIDDEN>;
  __shared__ float scratch[row_parts];
  Eight weights[Part::vectors], row[Part::vectors], y[Part::vectors];
  Part::load(norm, weights);
  for (long long t = blockIdx.x; t < rows; t += gridDim.x) {
    Part part;
    Part::load(embedding + (long long)tokens[t] * HIDDEN, row);
    part.take(row);
    part.norm(weights, eps, scratch, y);
    Part::store(x + t * HIDDEN, row);
    Part::store(normed + t * HIDDEN, y);
  }
#endif
}

// prefill_sum adds what the experts gave, rounded, to the rows before them:
// the rows that the next layer, or the head, begins with, and their norm.
template <typename E, int HIDDEN, int TOP>
__device__ void prefill_sum(E* x, E* normed, const E* middle, const E* expert_out, const float* shares, const E* norm, int rows, double eps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Part = RowPart<E, HIDDEN>;
  __shared__ float scratch[row_parts];
  Eight weights[Part::vectors], row[Part::vectors], y[Part::vectors];
  Part::load(norm, weights);
  for (long long t = blockIdx.x; t < rows; t += gridDim.x) {
    Part part;
    Part::load(middle + t * HIDDEN, row);
#pragma unroll
    for (int v = 0; v < Part::vectors; v++) {
      float sum[8];
      sum_experts<E, TOP>(expert_out + t * TOP * HIDDEN + Part::place(v), HIDDEN, shares + t * TOP, sum);
      row[v] = add_rounded<E>(row[v], sum);
    }
    part.take(row);
    part.norm(weights, eps, scratch, y);
    Part::store(x + t * HIDDEN, row);
    Part::store(normed + t * HIDDEN, y);
  }
#endif
}

// prefill_route adds the output projection to the rows that the layer began
// with, and makes the norm before the experts, the experts chosen, and their
// shares.
template <typename E, int HIDDEN, int EXPERTS, int TOP>
__device__ void prefill_route(E* middle, E* normed, int* chosen, float* shares, const E* x, const E* projected, const E* norm, const E* router, int rows,
                              double eps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Part = RowPart<E, HIDDEN>;
  __shared__ float scratch[row_parts], scores[row_parts * EXPERTS];
  Eight weights[Part::vectors], gates[EXPERTS][Part::vectors], row[Part::vectors], y[Part::vectors];
  Part::load(norm, weights);
#pragma unroll
  for (int e = 0; e < EXPERTS; e++) Part::load(router + e * HIDDEN, gates[e]);
  for (long long t = blockIdx.x; t < rows; t += gridDim.x) {
    Part part;
    Part::load(x + t * HIDDEN, row);
    Part::load(projected + t * HIDDEN, y);
#pragma unroll
    for (int v = 0; v < Part::vectors; v++) {
      float more[8];
      widen_eight<E>(y[v], more);
      row[v] = add_rounded<E>(row[v], more);
    }
    Part::store(middle + t * HIDDEN, row);
    part.take(row);
    part.norm(weights, eps, scratch, y);
    Part::store(normed + t * HIDDEN, y);
    part.take(y);
    route_row<E, HIDDEN, EXPERTS, TOP>(part, gates, scores, chosen + t * TOP, shares + t * TOP);
  }
#endif
}

}  // namespace moec
