// Matrix products: one warp an element of the result, or of its nodes.
#pragma once

#include "dot.cuh"

namespace moec {

// matmul multiplies rows of K features by the transpose of w [N, K], which lies
// as L says. Warps that follow each other take the same row of w.
template <typename X, typename W, typename L, int N, int K, int SEGMENTS, int NODES>
__device__ void matmul(float* out, const X* x, const W* w, long long rows, const Segments<SEGMENTS, NODES>& cut) {
  long long item = warp_number();
  if (item >= rows * N) return;
  long long row = item % rows, n = item / rows;
  dot<L, K>(out + row * N + n, rows * N, x + row * K, w, n, cut);
}

}  // namespace moec
