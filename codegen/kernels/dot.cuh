// The contraction that all matmuls share: segments summed on their own, then
// added along the tree.
#pragma once

#include "element.cuh"
#include "tiles.cuh"

namespace moec {

// Segments is how the features are cut: bounds has the first of each segment,
// then the end; nodes has the first segment of each value that is wanted, then
// the end. Each node starts a subtree.
template <int SEGMENTS, int NODES>
struct Segments {
  int bounds[SEGMENTS + 1];
  int nodes[NODES + 1];
};

// bits returns how many binary digits n has.
constexpr int bits(int n) { return n > 0 ? 1 + bits(n / 2) : 0; }

// Tree adds leaves along the tree over their numbers, as they come: it counts
// in binary, and every carry is one addition of two complete subtrees.
template <int LEAVES>
struct Tree {
  static constexpr int depth = bits(LEAVES);
  float part[depth] = {};
  int count = 0;

  // add has no early end: a place that is chosen by a branch would keep the
  // parts out of registers.
  __device__ void add(float x) {
    bool carry = true;
#pragma unroll
    for (int d = 0; d < depth; d++) {
      bool full = count >> d & 1;
      float joined = part[d] + x;
      if (carry && !full) part[d] = x;
      if (carry && full) x = joined;
      carry = carry && full;
    }
    count++;
  }

  // sum joins the complete subtrees that are left, the smallest first.
  __device__ float sum() const {
    float s = 0;
    bool any = false;
#pragma unroll
    for (int d = 0; d < depth; d++) {
      if (count >> d & 1) {
        s = any ? part[d] + s : part[d];
        any = true;
      }
    }
    return s;
  }
};

// segment_sum is the sum of x[k] times entry k of row n of w, which has K
// features, over one segment, by a warp: a lane takes every 32nd feature
// counted from the segment's first.
template <typename L, int K, typename X, typename W>
__device__ float segment_sum(const X* x, const W* w, long long n, int lo, int hi) {
  float s = 0;
  for (int k = lo + lane(); k < hi; k += warp_size) s = fmaf(widen(x[k]), widen(L::at(w, n, k, K)), s);
  return warp_sum(s);
}

// dot computes all nodes of one row of x with row n of w, by a warp, and puts
// them stride elements apart.
template <typename L, int K, typename X, typename W, int SEGMENTS, int NODES>
__device__ void dot(float* out, long long stride, const X* x, const W* w, long long n, const Segments<SEGMENTS, NODES>& cut) {
  for (int node = 0; node < NODES; node++) {
    Tree<SEGMENTS> tree;
    for (int s = cut.nodes[node]; s < cut.nodes[node + 1]; s++) {
      tree.add(segment_sum<L, K>(x, w, n, cut.bounds[s], cut.bounds[s + 1]));
    }
    if (lane() == 0) out[node * stride] = tree.sum();
  }
}

}  // namespace moec
