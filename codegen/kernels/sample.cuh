// Choosing tokens from logits, and feeding them to the step that follows.
//
// What is chosen is what package sample of the runtime defines, to the bit: the
// order of candidates is by weight, then by id, and weights are whole numbers,
// whose sums do not depend on an order. One block a row.
#pragma once

#include "load.cuh"

namespace moec {

// Draw says how a row's token is chosen.
struct Draw {
  double temperature, top_p;  // temperature 0: the largest logit
  unsigned long long key;     // of random numbers
  int top_k, unused;
};

// Feed has the inputs of the step that follows, null where it has none, and
// what they are made from: the last tokens, their positions, and the slots of
// their sequences. finished counts rows; it is 0 between launches.
struct Feed {
  int *tokens, *positions, *sequences, *rows;
  int *chosen, *at;
  const int* slots;
  unsigned* finished;
};

constexpr int choose_threads = 512, choose_warps = choose_threads / warp_size;

using Sum = unsigned long long;

// whole_exp is Weight of package sample.
__device__ inline unsigned whole_exp(double x) {
  if (!(x > -23)) return 0;
  constexpr double series[] = {1. / 479001600, 1. / 39916800, 1. / 3628800, 1. / 362880, 1. / 40320, 1. / 5040, 1. / 720,
                               1. / 120, 1. / 24, 1. / 6, 1. / 2, 1, 1};
  double k = floor(__dadd_rn(__dmul_rn(x, 0x1.71547652b82fep+0), 0.5));
  double r = __dsub_rn(__dsub_rn(x, __dmul_rn(k, 0x1.62e42feep-1)), __dmul_rn(k, 0x1.a39ef35793c76p-33));
  double y = 0;
#pragma unroll
  for (double c : series) y = __dadd_rn(__dmul_rn(y, r), c);
  return unsigned(__dadd_rn(__dmul_rn(y, __hiloint2double((int(k) + 31 + 1023) << 20, 0)), 0.5));
}

// Row is a row of logits, of which each warp has a segment.
struct Row {
  float* logits;
  int count, first, last;  // first: of this lane; last: the end of the warp's
  Sum* scratch;            // seven for each warp

  __device__ Row(float* logits, int count, Sum* scratch) : logits(logits), count(count), scratch(scratch) {
    int each = (count / choose_warps + warp_size) / warp_size * warp_size, begin = threadIdx.x / warp_size * each;
    first = begin + lane();
    last = min(count, begin + each);
  }

  __device__ unsigned weight(int i) const { return __float_as_uint(logits[i]); }

  // largest returns the place of the largest number, the first of equals, or
  // the last place if there is none.
  __device__ int largest() const {
    float best = 0;
    int place = -1;
#pragma unroll 8
    for (int i = first; i < last; i += warp_size) {
      float v = logits[i];
      if (v == v && (place < 0 || v > best)) {
        best = v;
        place = i;
      }
    }
    for (int d = warp_size / 2; d > 0; d /= 2) prefer(&best, &place, __shfl_xor_sync(all_lanes, best, d), __shfl_xor_sync(all_lanes, place, d));
    if (lane() == 0) {
      scratch[2 * (threadIdx.x / warp_size)] = __float_as_uint(best);
      scratch[2 * (threadIdx.x / warp_size) + 1] = unsigned(place);
    }
    __syncthreads();
    for (int w = 0; w < choose_warps; w++) prefer(&best, &place, __uint_as_float(unsigned(scratch[2 * w])), int(unsigned(scratch[2 * w + 1])));
    __syncthreads();
    return place < 0 ? count - 1 : place;
  }
  __device__ static void prefer(float* best, int* place, float other, int at) {
    if (at >= 0 && (*place < 0 || other > *best || (other == *best && at < *place))) {
      *best = other;
      *place = at;
    }
  }

  // add_up gives all threads the sums of their numbers.
  template <int N>
  __device__ void add_up(Sum (&m)[N]) const {
#pragma unroll
    for (int j = 0; j < N; j++) {
      for (int d = warp_size / 2; d > 0; d /= 2) m[j] += __shfl_xor_sync(all_lanes, m[j], d);
      if (lane() == 0) scratch[threadIdx.x / warp_size * N + j] = m[j];
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < N; j++) {
      m[j] = 0;
      for (int w = 0; w < choose_warps; w++) m[j] += scratch[w * N + j];
    }
    __syncthreads();
  }

  // weigh puts weights in the logits' place and returns their sum.
  __device__ Sum weigh(double top, double temperature) const {
    Sum sum[1] = {0};
    for (int i = first; i < last; i += 4 * warp_size) {
      float v[4];
#pragma unroll
      for (int k = 0; k < 4; k++) v[k] = i + k * warp_size < last ? logits[i + k * warp_size] : 0;
#pragma unroll
      for (int k = 0; k < 4; k++) {
        if (i + k * warp_size >= last) break;
        unsigned w = whole_exp((double(v[k]) - top) / temperature);
        logits[i + k * warp_size] = __uint_as_float(w);
        sum[0] += w;
      }
    }
    add_up(sum);
    return sum[0];
  }

  // sum_above adds the weights that are larger.
  __device__ Sum sum_above(unsigned limit) const {
    Sum sum[1] = {0};
#pragma unroll 8
    for (int i = first; i < last; i += warp_size) sum[0] += weight(i) > limit ? weight(i) : 0;
    add_up(sum);
    return sum[0];
  }

  // nth returns the place of the nth of equal weights, counted from 1.
  __device__ int nth(unsigned equal, int n) const {
    int mine = 0;
    for (int i = first; i < last; i += warp_size) mine += weight(i) == equal;
    for (int d = warp_size / 2; d > 0; d /= 2) mine += __shfl_xor_sync(all_lanes, mine, d);
    if (lane() == 0) scratch[threadIdx.x / warp_size] = mine;
    __syncthreads();
    for (int w = 0; w < threadIdx.x / warp_size; w++) n -= int(scratch[w]);
    if (n >= 1 && n <= mine) {
      for (int i = first; n >= 1; i += warp_size) {
        unsigned all = __ballot_sync(all_lanes, i < last && weight(i) == equal);
        if ((all >> lane() & 1) && __popc(all & ((1u << lane()) - 1)) == n - 1) scratch[choose_warps] = i;
        n -= __popc(all);
      }
    }
    __syncthreads();
    int place = int(scratch[choose_warps]);
    __syncthreads();
    return place;
  }
};

// Cut is where the candidates, in their order, reach a number: at which weight,
// how many of that weight belong to them, and the sum or count of larger ones.
struct Cut {
  unsigned weight;
  Sum equal, above;
};

// reach finds the fewest candidates whose sum, or whose count, is enough, which
// all of them together have: the weight three bits at a time.
template <bool COUNT>
__device__ Cut reach(const Row& row, Sum enough) {
  unsigned weight = 0;
  Sum above = 0;
  for (int shift = 29;; shift = max(shift - 3, 0)) {
    Sum m[7] = {};
#pragma unroll 4
    for (int i = row.first; i < row.last; i += warp_size) {
      unsigned w = row.weight(i);
#pragma unroll
      for (int j = 0; j < 7; j++) m[j] += w >= weight + ((j + 1u) << shift) ? COUNT ? 1 : w : 0;
    }
    row.add_up(m);
    unsigned base = weight;
#pragma unroll
    for (int j = 6; j >= 0; j--) {
      if (m[j] < enough) above = m[j];
    }
#pragma unroll
    for (int j = 0; j < 7; j++) {
      if (m[j] >= enough) weight = base + ((j + 1u) << shift);
    }
    if (shift == 0) break;
  }
  Sum left = enough - above;
  return {weight, COUNT || weight == 0 ? left : (left + weight - 1) / weight, above};
}

// random_token is Params.Next of package sample for a temperature.
__device__ inline int random_token(const Row& row, const Draw& d, int largest, int position) {
  float top = row.logits[largest];
  __syncthreads();  // all have read it
  Sum total = row.weigh(top, d.temperature);
  if (total == 0) return largest;
  if (d.top_k > 0 && d.top_k < row.count) {
    Cut cut = reach<true>(row, d.top_k);
    total = row.sum_above(cut.weight) + cut.equal * cut.weight;
  }
  if (d.top_p > 0 && d.top_p < 1) {
    Cut cut = reach<false>(row, max(Sum(1), Sum(ceil(d.top_p * double(total)))));
    total = cut.above + cut.equal * cut.weight;
  }
  double u = double(scrambled(d.key + position) >> 11) / double(1ull << 53);
  Cut cut = reach<false>(row, Sum(u * double(total)) + 1);
  return row.nth(cut.weight, int(cut.equal));
}

// choose chooses a token for each row; the block that is the last to finish
// writes the inputs of the next step, which may lie where the logits are.
__device__ inline void choose(float* logits, const Draw* draws, int vocab, const Feed& feed) {
  __shared__ Sum scratch[7 * choose_warps];
  __shared__ bool last;
  Row row(logits + (long long)blockIdx.x * vocab, vocab, scratch);
  Draw d = draws[blockIdx.x];
  int token = row.largest();
  if (d.temperature > 0) token = random_token(row, d, token, feed.at[blockIdx.x] + 1);
  if (threadIdx.x == 0) {
    feed.chosen[blockIdx.x] = token;
    __threadfence();
    last = atomicAdd(feed.finished, 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  __threadfence();
  for (int i = threadIdx.x; i < gridDim.x; i += choose_threads) {
    feed.tokens[i] = __ldcg(feed.chosen + i);
    int at = feed.at[i] + 1;
    feed.at[i] = at;
    if (feed.positions) feed.positions[i] = at;
    if (feed.sequences) feed.sequences[i] = feed.slots[i];
    if (feed.rows) feed.rows[i] = i;
  }
  if (threadIdx.x == 0) *feed.finished = 0;
}

}  // namespace moec
