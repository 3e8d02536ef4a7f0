// The largest entries of a row, largest first: one thread a row.
#pragma once

#include "element.cuh"

namespace moec {

// above reports whether a comes before b, which has a smaller index: only if
// it is larger. NaN is below everything.
__device__ inline bool above(float a, float b) { return a > b || (b != b && a == a); }

// Best keeps the K first entries of those that are offered in ascending order
// of their indices. All its places are known when it is compiled, so that it
// stays in registers.
template <int K>
struct Best {
  float value[K];
  int index[K];
  int count = 0;

  __device__ void offer(float v, int i) {
#pragma unroll
    for (int k = 0; k < K; k++) {
      if (k >= count || above(v, value[k])) {
        float displaced = k < count ? value[k] : v;
        int from = k < count ? index[k] : i;
        bool fresh = k >= count;
        value[k] = v;
        index[k] = i;
        if (fresh) {
          count++;
          return;
        }
        v = displaced;
        i = from;
      }
    }
  }
};

// group_score is the largest entry of a group, or the sum of its two largest.
template <typename X, int SIZE, int TWO>
__device__ float group_score(const X* x) {
  Best<(TWO && SIZE > 1) ? 2 : 1> best;
  for (int i = 0; i < SIZE; i++) best.offer(widen(x[i]), i);
  float score = best.value[0];
  if constexpr (TWO && SIZE > 1) score += best.value[1];
  return score;
}

// open reports whether a group is one of the TOP best.
template <typename X, int SIZE, int GROUPS, int TOP, int TWO>
__device__ bool open(const X* x, int group) {
  if (GROUPS == 1) return true;
  float mine = group_score<X, SIZE, TWO>(x + group * SIZE);
  int before = 0;
  for (int g = 0; g < GROUPS; g++) {
    if (g == group) continue;
    float other = group_score<X, SIZE, TWO>(x + g * SIZE);
    before += g < group ? !above(mine, other) : above(other, mine);
  }
  return before < TOP;
}

template <typename X, int N, int K, int GROUPS, int TOP, int TWO>
__device__ void topk(int* out, const X* x, long long rows) {
  constexpr int size = N / GROUPS;
  long long row = thread_number();
  if (row >= rows) return;
  x += row * N;
  Best<K> best;
  for (int g = 0; g < GROUPS; g++) {
    if (!open<X, size, GROUPS, TOP, TWO>(x, g)) continue;
    for (int i = 0; i < size; i++) best.offer(widen(x[g * size + i]), g * size + i);
  }
#pragma unroll
  for (int k = 0; k < K; k++) out[row * K + k] = best.index[k];
}

}  // namespace moec
