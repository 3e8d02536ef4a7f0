// Partial sums of several devices added along the tree, all at once by every
// device: one thread an element.
#pragma once

#include "element.cuh"

namespace moec {

// load reads the nodes of the operands from number P on into v, which lie
// count elements apart; operands may be in the memory of other devices.
template <typename X, int P, int PARTS>
__device__ inline void load_nodes(float*, const Pointers<PARTS>&, long long, long long, List<>) {}

template <typename X, int P, int PARTS, int NODES, int... REST>
__device__ inline void load_nodes(float* v, const Pointers<PARTS>& parts, long long i, long long count,
                                  List<NODES, REST...>) {
#pragma unroll
  for (int n = 0; n < NODES; n++) v[n] = widen(static_cast<const X*>(parts.at[P])[n * count + i]);
  load_nodes<X, P + 1>(v + NODES, parts, i, count, List<REST...>());
}

// add_up does the additions that a list of pairs names: v[DST] += v[SRC].
__device__ inline void add_up(float*, List<>) {}

template <int DST, int SRC, int... REST>
__device__ inline void add_up(float* v, List<DST, SRC, REST...>) {
  v[DST] += v[SRC];
  add_up(v, List<REST...>());
}

template <typename X, int TERMS, int ROOT, typename NODES, typename ADDS>
__device__ void all_reduce(float* out, const Pointers<NODES::size>& parts, long long count) {
  long long i = thread_number();
  if (i >= count) return;
  float v[TERMS];
  load_nodes<X, 0>(v, parts, i, count, NODES());
  add_up(v, ADDS());
  out[i] = v[ROOT] + 0.0f;  // -0 becomes +0
}

}  // namespace moec
