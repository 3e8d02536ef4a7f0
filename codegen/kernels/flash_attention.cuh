// Attention of many tokens on Hopper, over the KV cache in pages: heads of 128
// entries. Elsewhere the kernel is empty, and nothing launches it.
//
// A block computes 128 rows: some tokens, and for each of them all query heads
// that share a KV head. Its first warp group brings 128 positions of keys or of
// values at a time into a ring in shared memory; the other two have 64 rows
// each and keep scores, weights and results in registers. While a warp group
// computes the weights of some positions, the matrix units work on the values
// of the positions before.
//
// Blocks of positions begin at multiples of 128 and are taken in order, and
// positions that a row does not see change nothing as long as their values are
// finite, so a row's bits depend on its own position and window alone.
#pragma once

#include "attention.cuh"
#include "gemm_sm90.cuh"

namespace moec {

constexpr int flash_dim = 128;   // of keys and values
constexpr int flash_rows = 128;  // of a block, and positions at a time
constexpr int flash_units = 5;   // of keys or values in the ring
constexpr int flash_threads = 3 * group_threads;
constexpr int flash_half = flash_rows * 2 * deep;  // bytes of 64 entries of all rows
constexpr int flash_unit = 2 * flash_half;
constexpr int flash_shared = 1024 + (1 + flash_units) * flash_unit + 8 * (1 + 2 * flash_units);

// Run is some of a block's tokens, of one sequence, and the positions that they
// see together: blocks of 128 from number block to end.
struct Run {
  int first, last, sequence, low, high, block, end;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Reader goes through the positions that a block of threads sees.
struct Reader {
  const Run* runs;
  int count, run, block;

  __device__ Reader(const Run* runs, int count) : runs(runs), count(count), run(0), block(runs[0].block) {}
  __device__ bool more() const { return run < count; }
  __device__ const Run& now() const { return runs[run]; }
  __device__ void next() {
    if (++block < runs[run].end) return;
    if (++run < count) block = runs[run].block;
  }
};

// Turn is a place in the ring.
struct Turn {
  int unit = 0;
  unsigned parity = 0;

  __device__ void skip(int n) {
    unit += n;
    if (unit >= flash_units) {
      unit -= flash_units;
      parity ^= 1;
    }
  }
};

struct Places {
  unsigned q, data, q_filled, filled, drained;  // shared addresses
};

// find_runs divides tokens into runs; all threads call it.
template <int TOKENS>
__device__ int find_runs(Run* runs, int* place, const int* sequences, const int* positions, int first, int tokens, int window) {
  __shared__ int sequence[TOKENS];
  __shared__ int count;
  int n = min(TOKENS, tokens - first), t = threadIdx.x;
  if (t < n) {
    sequence[t] = sequences[first + t];
    place[t] = positions[first + t];
  }
  __syncthreads();
  if (t == 0) {
    count = 0;
    for (int i = 0; i < n;) {
      int begin = i, low = place[i], high = low;
      for (i++; i < n && sequence[i] == sequence[begin]; i++) {
        low = min(low, place[i]);
        high = max(high, place[i]);
      }
      low = window > 0 ? max(0, low - window + 1) : 0;
      runs[count++] = {begin, i, sequence[begin], low, high, low / flash_rows, high / flash_rows + 1};
    }
  }
  __syncthreads();
  return count;
}

// look_up finds where a thread's eight positions of a block are in the cache:
// its number there, or -1 if they are not seen.
template <int PAGE>
__device__ void look_up(int (&where)[8], const Reader& reader, const int* pages, int table_width) {
  const Run& run = reader.now();
  const int* table = pages + (long long)run.sequence * table_width;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    int position = reader.block * flash_rows + threadIdx.x / 8 + 16 * i;
    bool seen = position >= run.low && position <= run.high;
    where[i] = seen ? table[position / PAGE] * PAGE + position % PAGE : -1;
  }
}

// bring copies a thread's pieces of 128 keys or values; unseen ones become 0.
template <typename E, int KV_HEADS>
__device__ void bring(unsigned to, const E* from, const int (&where)[8]) {
  to += threadIdx.x / 8 * 128 + (threadIdx.x % 8 ^ threadIdx.x / 8 % 8) * piece;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const E* entry = from + (long long)max(0, where[i]) * (KV_HEADS * 2 * flash_dim) + threadIdx.x % 8 * 8;
    piece_load(to + i * 16 * 128, entry, where[i] >= 0);
    piece_load(to + i * 16 * 128 + flash_half, entry + deep, where[i] >= 0);
  }
  pieces_commit();
}

// bring_queries copies a thread's pieces of the block's rows.
template <typename E, int HEADS, int GROUP>
__device__ void bring_queries(unsigned to, const E* q, int first, int tokens) {
  to += threadIdx.x / 8 * 128 + (threadIdx.x % 8 ^ threadIdx.x / 8 % 8) * piece;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    int row = threadIdx.x / 8 + 16 * i, token = row / GROUP;
    bool real = token < flash_rows / GROUP && first + token < tokens;
    const E* entry = q + ((long long)(real ? first + token : first) * HEADS + row % GROUP) * flash_dim + threadIdx.x % 8 * 8;
    piece_load(to + i * 16 * 128, entry, real);
    piece_load(to + i * 16 * 128 + flash_half, entry + deep, real);
  }
  pieces_commit();
}

// Feeder is a thread's share of keeping the ring full: keys, values, keys, ...
// The others are told of a unit when a thread's copies have come, at the latest
// when more than two other units are on their way.
struct Feeder {
  const Places& at;
  Turn turn, told;
  int ahead = 0;        // units that nobody was told of
  bool queries = true;  // nor of the queries, which come first

  __device__ explicit Feeder(const Places& at) : at(at) {}

  // tell tells of the oldest of at most three units.
  __device__ void tell() {
    if (ahead == 1) pieces_wait<0>();
    if (ahead == 2) pieces_wait<1>();
    if (ahead == 3) pieces_wait<2>();
    publish();
    if (queries) barrier_arrive(at.q_filled);
    queries = false;
    barrier_arrive(at.filled + 8 * told.unit);
    told.skip(1);
    ahead--;
  }

  // await_place waits for a place, and doesn't keep others waiting meanwhile.
  __device__ void await_place() {
    unsigned drained = at.drained + 8 * turn.unit;
    while (ahead > 0 && !barrier_over(drained, turn.parity ^ 1)) tell();
    barrier_wait(drained, turn.parity ^ 1);
  }

  __device__ void brought() {
    turn.skip(1);
    if (++ahead > 2) tell();
  }
};

// feed brings all keys and values.
template <typename E, int KV_HEADS, int PAGE>
__device__ void feed(const Places& at, Reader reader, const E* cache, const int* pages, int table_width) {
  Feeder feeder(at);
  int where[8], next[8];
  look_up<PAGE>(where, reader, pages, table_width);
  while (reader.more()) {
    Reader after = reader;
    after.next();
#pragma unroll
    for (int values = 0; values < 2; values++) {
      feeder.await_place();
      bring<E, KV_HEADS>(at.data + feeder.turn.unit * flash_unit, cache + values * flash_dim, where);
      if (!values && after.more()) look_up<PAGE>(next, after, pages, table_width);
      feeder.brought();
    }
#pragma unroll
    for (int i = 0; i < 8; i++) where[i] = next[i];
    reader = after;
  }
  while (feeder.ahead > 0) feeder.tell();
}

__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Softmax is a thread's part of the weights of its two rows. Scores times
// factor are binary logarithms.
struct Softmax {
  float top[2], total[2];
  float factor;

  // weigh turns scores into weights, and says by how much earlier weights
  // shrink.
  __device__ __forceinline__ void weigh(float (&s)[64], float (&shrink)[2]) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float high = s[2 * r];
#pragma unroll
      for (int j = 0; j < 16; j++) high = fmaxf(high, fmaxf(s[4 * j + 2 * r], s[4 * j + 2 * r + 1]));
      high = fmaxf(high, __shfl_xor_sync(all_lanes, high, 1));
      high = fmaxf(high, __shfl_xor_sync(all_lanes, high, 2)) * factor;
      high = fmaxf(top[r], high);
      float base = high == minus_infinity() ? 0 : high;
      shrink[r] = exp2_fast(top[r] - base);
      top[r] = high;
      float sum = 0;
#pragma unroll
      for (int j = 0; j < 16; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          float& x = s[4 * j + 2 * r + i];
          x = exp2_fast(fmaf(x, factor, -base));
          sum += x;
        }
      }
      total[r] = fmaf(total[r], shrink[r], sum);
    }
  }
};

// bend is the hyperbolic tangent, within a few units of the last place of 1.
__device__ inline float bend(float x) {
  float e = exp2_fast(x * 2.88539008177792681f);  // e^2x
  return 1 - __fdividef(2, e + 1);
}

// View says what a thread's two rows see of a run. CAPPED: scores are bent.
template <bool CAPPED>
struct View {
  int place[2];  // position of the row's token, or -1
  int token[2];  // its number in the block
  int window;
  float softcap, bent;  // bound of scores, and what they are multiplied by before

  // limit hides positions that the rows don't see, and bends scores.
  __device__ __forceinline__ void limit(float (&s)[64], const Run& run, int block) const {
    if constexpr (CAPPED) {
#pragma unroll
      for (int i = 0; i < 64; i++) s[i] = softcap * bend(s[i] * bent);
    }
    int base = block * flash_rows + threadIdx.x % 4 * 2;
    int from[2], to[2];
    bool all = true;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      bool mine = token[r] >= run.first && token[r] < run.last;
      to[r] = mine ? place[r] : -1;
      from[r] = window > 0 ? place[r] - window + 1 : 0;
      all = all && to[r] >= block * flash_rows + flash_rows - 1 && from[r] <= block * flash_rows;
    }
    if (__all_sync(all_lanes, all)) return;
#pragma unroll
    for (int i = 0; i < 64; i++) {
      int position = base + i / 4 * 8 + i % 2, r = i % 4 / 2;
      if (position > to[r] || position < from[r]) s[i] = minus_infinity();
    }
  }
};

// scores begins the products of a warp group's 64 queries and 128 keys.
template <typename E>
__device__ __forceinline__ void scores(float (&s)[64], unsigned q, unsigned keys) {
#pragma unroll
  for (int k = 0; k < flash_dim / step_features; k++) {
    int half = k / 4 * flash_half, step = k % 4 * next_step;
    Mma<E, 128>::tiles(s, tile_of(q + half) + step, tile_of(keys + half) + step, k > 0);
  }
  mma_commit();
}

// mix begins to add 128 values times their weights.
template <typename E>
__device__ __forceinline__ void mix(float (&o)[64], const unsigned (&weights)[8][4], unsigned values) {
#pragma unroll
  for (int k = 0; k < flash_rows / step_features; k++) mma_turned(E(), o, weights[k], tile_of(values, flash_half) + k * next_turned_step);
  mma_commit();
}

template <typename E>
__device__ __forceinline__ void round_weights(unsigned (&weights)[8][4], const float (&s)[64]) {
#pragma unroll
  for (int i = 0; i < 32; i++) weights[i / 4][i % 4] = pack(E(), s[2 * i], s[2 * i + 1]);
}

// await_turn and give_turn let the two warp groups begin their products by
// turns, so that one uses the matrix units while the other computes weights.
__device__ __forceinline__ void await_turn() {
  asm volatile("bar.sync %0, %1;" ::"r"(int(threadIdx.x / group_threads)), "n"(2 * group_threads) : "memory");
}

__device__ __forceinline__ void give_turn() {
  asm volatile("bar.arrive %0, %1;" ::"r"(3 - int(threadIdx.x / group_threads)), "n"(2 * group_threads) : "memory");
}

// attend computes a warp group's 64 rows.
template <typename E, bool CAPPED>
__device__ __forceinline__ void attend(float (&o)[64], Softmax& soft, const View<CAPPED>& view, const Places& at, Reader reader) {
  unsigned q = at.q + (threadIdx.x / group_threads - 1) * 64 * 2 * deep;
  bool tells = lane() == 0;
  float s[64], shrink[2];
  unsigned weights[8][4];
  Turn keys, values;
  values.skip(1);
#pragma unroll
  for (int i = 0; i < 64; i++) o[i] = 0;

  barrier_wait(at.q_filled, 0);
  barrier_wait(at.filled + 8 * keys.unit, keys.parity);
  mma_begin();
  scores<E>(s, q, at.data + keys.unit * flash_unit);
  mma_wait<0>();
  hold(s);
  if (tells) barrier_arrive(at.drained + 8 * keys.unit);
  view.limit(s, reader.now(), reader.block);
  soft.weigh(s, shrink);
  round_weights<E>(weights, s);
  keys.skip(2);
  if (threadIdx.x >= 2 * group_threads) give_turn();
  for (reader.next(); reader.more(); reader.next()) {
    barrier_wait(at.filled + 8 * keys.unit, keys.parity);
    await_turn();
    mma_begin();
    scores<E>(s, q, at.data + keys.unit * flash_unit);
    barrier_wait(at.filled + 8 * values.unit, values.parity);
    hold(o);
    mma_begin();
    mix<E>(o, weights, at.data + values.unit * flash_unit);
    give_turn();
    mma_wait<1>();
    hold(s);
    if (tells) barrier_arrive(at.drained + 8 * keys.unit);
    view.limit(s, reader.now(), reader.block);
    soft.weigh(s, shrink);
    mma_wait<0>();
    hold(o);
    if (tells) barrier_arrive(at.drained + 8 * values.unit);
#pragma unroll
    for (int i = 0; i < 64; i++) o[i] *= shrink[i % 4 / 2];
    round_weights<E>(weights, s);
    keys.skip(2);
    values.skip(2);
  }
  barrier_wait(at.filled + 8 * values.unit, values.parity);
  mma_begin();
  mix<E>(o, weights, at.data + values.unit * flash_unit);
  mma_wait<0>();
  hold(o);
}

// put stores a row's 128 entries times a number: 16 bytes a thread.
__device__ __forceinline__ void put(float* row, const float (&o)[64], int r, float by, bool real) {
  bool odd = threadIdx.x % 2;
  row += (odd ? 8 : 0) + threadIdx.x % 4 / 2 * 4;
#pragma unroll
  for (int j = 0; j < 16; j += 2) {
    float a0 = o[4 * j + 2 * r] * by, a1 = o[4 * j + 2 * r + 1] * by;
    float b0 = o[4 * j + 4 + 2 * r] * by, b1 = o[4 * j + 5 + 2 * r] * by;
    float c0 = __shfl_xor_sync(all_lanes, odd ? a0 : b0, 1), c1 = __shfl_xor_sync(all_lanes, odd ? a1 : b1, 1);
    if (real) *reinterpret_cast<float4*>(row + 8 * j) = make_float4(odd ? c0 : a0, odd ? c1 : a1, odd ? b0 : c0, odd ? b1 : c1);
  }
}

template <typename Y>
__device__ __forceinline__ void put(Y* row, const float (&o)[64], int r, float by, bool real) {
#pragma unroll
  for (int j = 0; j < 16; j += 4) {
    unsigned w[4];
#pragma unroll
    for (int i = 0; i < 4; i++) w[i] = pack(Y(), o[4 * (j + i) + 2 * r] * by, o[4 * (j + i) + 2 * r + 1] * by);
    exchange(w);
    if (real) *reinterpret_cast<uint4*>(row + (j + threadIdx.x % 4) * 8) = make_uint4(w[0], w[1], w[2], w[3]);
  }
}

#endif

// flash computes attention as attention does, with query heads that share a KV
// head next to each other, and a positive scale. Blocks that see most come
// first. Y is float, or the result is rounded.
template <typename Y, typename E, typename S, int HEADS, int KV_HEADS, int PAGE, int CAPPED>
__device__ __forceinline__ void flash(Y* out, const E* q, const E* cache, const int* sequences, const int* positions,
                                      const S* sinks, const int* pages, int table_width, int tokens, const Rule& rule) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  constexpr int group = HEADS / KV_HEADS, block_tokens = flash_rows / group;
  constexpr float log2_e = 1.44269504088896341f;
  static_assert(HEADS % KV_HEADS == 0 && group <= flash_rows, "whole groups of heads");
  extern __shared__ unsigned char shared[];
  __shared__ Run runs[block_tokens];
  __shared__ int place[block_tokens];
  int head = blockIdx.x % KV_HEADS, blocks = (tokens + block_tokens - 1) / block_tokens;
  int first = (blocks - 1 - int(blockIdx.x) / KV_HEADS) * block_tokens;
  unsigned start = (shared_address(shared) + 1023) / 1024 * 1024;
  unsigned barriers = start + (1 + flash_units) * flash_unit;
  Places at{start, start + flash_unit, barriers, barriers + 8, barriers + 8 + 8 * flash_units};
  if (threadIdx.x == 0) {
    barrier_init(at.q_filled, group_threads);
    for (int u = 0; u < flash_units; u++) {
      barrier_init(at.filled + 8 * u, group_threads);
      barrier_init(at.drained + 8 * u, 2 * group_threads / warp_size);
    }
    publish_barriers();
  }
  int count = find_runs<block_tokens>(runs, place, sequences, positions, first, tokens, rule.window);
  Reader reader(runs, count);
  if (threadIdx.x < group_threads) {
    fewer_registers<56>();
    bring_queries<E, HEADS, group>(at.q, q + head * group * flash_dim, first, tokens);
    feed<E, KV_HEADS, PAGE>(at, reader, cache + head * 2 * flash_dim, pages, table_width);
  } else {
    more_registers<224>();
    int row = (threadIdx.x - group_threads) / warp_size * 16 + lane() / 4;
    View<CAPPED> view;
    Softmax soft;
    view.window = rule.window, view.softcap = rule.softcap, view.bent = rule.scale / rule.softcap;
    soft.factor = (CAPPED ? 1 : rule.scale) * log2_e;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      int token = (row + 8 * r) / group;
      bool real = token < block_tokens && first + token < tokens;
      view.token[r] = real ? token : -1;
      view.place[r] = real ? place[token] : -1;
      soft.top[r] = sinks ? widen(sinks[head * group + (row + 8 * r) % group]) * log2_e : minus_infinity();
      soft.total[r] = sinks && threadIdx.x % 4 == 0 ? 1 : 0;
    }
    float o[64];
    attend<E, CAPPED>(o, soft, view, at, reader);
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float total = soft.total[r];
      total += __shfl_xor_sync(all_lanes, total, 1);
      total += __shfl_xor_sync(all_lanes, total, 2);
      int token = (row + 8 * r) / group;
      bool real = token < block_tokens && first + token < tokens;
      put(out + ((long long)(first + token) * HEADS + head * group + (row + 8 * r) % group) * flash_dim, o, r, 1 / total, real);
    }
  }
#endif
}

}  // namespace moec
