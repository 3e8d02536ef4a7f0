// Matrix products of experts, on Hopper, for many tokens: the slots of each
// expert are listed on the device, their rows are put into panels, and a tile
// has tokens of one expert only. See gemm_panels.cuh. Elsewhere the products
// are empty, and nothing launches them.
#pragma once

#include "elementwise.cuh"
#include "experts.cuh"
#include "gemm_panels.cuh"

namespace moec {

// list_slots writes, expert after expert, the slots that chose it, ascending,
// and -1 up to a multiple of eight and up to capacity. starts has where each
// expert begins in the list, then the end, then how many slots each has. Block
// number i does that for expert place i.
template <int SLOTS, int TOTAL, int HELD, int BLOCK>
__device__ void list_slots(int* starts, int* list, const int* ids, int slots, int capacity, const Held<TOTAL, HELD>& held) {
  constexpr int warps = BLOCK / warp_size;
  __shared__ int chosen[HELD];
  __shared__ int counts[warps];
  int mine = blockIdx.x, warp = threadIdx.x / warp_size;
  for (int e = threadIdx.x; e < HELD; e += BLOCK) chosen[e] = 0;
  __syncthreads();
  int share = (slots + BLOCK - 1) / BLOCK * warp_size;  // slots of a warp
  int from = warp * share, to = min(slots, from + share), count = 0;
  for (int i = from + lane(); i < to; i += warp_size) {
    int place = held.place(ids[i], i / SLOTS);
    if (place >= 0) atomicAdd(&chosen[place], 1);
    count += place == mine;
  }
#pragma unroll
  for (int d = warp_size / 2; d > 0; d /= 2) count += __shfl_xor_sync(all_lanes, count, d);
  if (lane() == 0) counts[warp] = count;
  __syncthreads();
  int start = 0;
  for (int e = 0; e < mine; e++) start += (chosen[e] + 7) / 8 * 8;
  int at = start, end = start + (chosen[mine] + 7) / 8 * 8;
  for (int w = 0; w < warp; w++) at += counts[w];
  for (int base = from; base < from + share; base += warp_size) {
    int i = base + lane();
    bool is = i < to && held.place(ids[i], i / SLOTS) == mine;
    unsigned all = __ballot_sync(all_lanes, is);
    if (is) list[at + __popc(all & ((1u << lane()) - 1))] = i;
    at += __popc(all);
  }
  int last = mine == HELD - 1 ? capacity : end;
  for (int i = start + chosen[mine] + threadIdx.x; i < last; i += BLOCK) list[i] = -1;
  if (threadIdx.x == 0) {
    starts[mine] = start;
    starts[HELD + 1 + mine] = chosen[mine];
    if (mine == HELD - 1) starts[HELD] = end;
  }
}

// fill_panels puts the listed rows of x, or all rows if there is no list, into
// panels: one thread a piece. SHARE slots that follow each other have one row.
template <typename E, int SHARE, int K>
__device__ void fill_panels(E* panels, const E* x, const int* list, long long rows) {
  long long item = thread_number();
  long long position = item / (K / 8);
  if (position >= rows) return;
  int row = list ? list[position] : position;
  if (row < 0) return;
  int column = item % (K / 8) * 8;
  *reinterpret_cast<uint4*>(panels + panel_at(rows, position, column)) =
      *reinterpret_cast<const uint4*>(x + (long long)(row / SHARE) * K + column);
}

// QuickSilu is Silu with the fast exponential and division, a tenth of the
// instructions: within a few units of a float's last place.
struct QuickSilu {
  static __device__ float of(float x) {
    float y = __fdividef(x, 1 + __expf(-x));
    return x < -80.0f ? 0.0f : y;  // there the exponential ends up out of range
  }
};

// grouped_round multiplies each expert's tokens by the transpose of its w [N, K],
// and stores the rounded result where the token's slot has it. x is panels of so
// many rows.
template <typename X, typename W, int N, int K, int HELD, int CAP, int STAGES, int SEGMENTS>
__device__ __forceinline__ void grouped_round(X* out, const X* x, const W* w, const int* starts, const int* list, long long rows,
                                   const Segments<SEGMENTS, 1>& cut) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  Groups<CAP, N / weight_rows, HELD> list_of_tiles(starts, list);
  panels<X, W, N, K, CAP, STAGES, SEGMENTS, Whole>(x, w, rows, list_of_tiles, cut, ToRows<X, N>{out});
#endif
}

// grouped_gate multiplies each expert's tokens by a gate and by what it lets
// through, N rows together, and stores F of the gate times the other, rounded, in
// panels of so many rows. The sums are not cut.
template <typename F, typename X, typename W, int N, int K, int HELD, int CAP, int STAGES>
__device__ __forceinline__ void grouped_gate(X* out, const X* x, const W* w, const int* starts, const int* list, long long rows) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  Groups<CAP, N / weight_rows, HELD> list_of_tiles(starts, list);
  Segments<1, 1> cut{{0, K}, {0, 1}};
  panels<X, W, N, K, CAP, STAGES, 1, Paired>(x, w, rows, list_of_tiles, cut, ToGate<X, F>{out, rows});
#endif
}

}  // namespace moec
