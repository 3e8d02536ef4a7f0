// Matrix products on Hopper with both operands laid out for it, so that plain
// bulk copies fill shared memory: a tile is 128 rows of w times up to CAP rows
// ("tokens") of x.
//
// Weights are in tiles of 64 rows and 64 features, 8 KB each, as they will be
// in shared memory; the tiles of the same rows follow each other. Activations
// are in panels: all rows' first 64 features, then all rows' next 64, with the
// pieces of a row permuted by the row's number as in shared memory. Any rows
// from a multiple of eight on are one copy a panel.
//
// Weights are on the side of the instructions that takes 64 rows at once,
// tokens on the side that takes any multiple of eight, so little is lost where
// an expert's tokens end. One warp fills a ring of STAGES places; two warp
// groups multiply, 64 rows of w each.
//
// Each segment of the features is summed on its own, in steps of 16, and
// segments are added along the tree: the first two levels of unfinished
// subtrees are in registers, the third in shared memory. A token's bits depend
// on that token alone.
#pragma once

#include "dot.cuh"
#include "gemm_sm90.cuh"

namespace moec {

constexpr int weight_tile = 64 * deep * 2;  // bytes
constexpr int weight_rows = 128;            // of a tile
constexpr int panel_row = deep * 2;         // bytes
constexpr int panel_threads = 3 * group_threads;

// panel_at returns which element of panels of so many rows is the first of a
// row's piece of eight.
__device__ inline long long panel_at(long long rows, int row, int column) {
  return (column / deep * rows + row) * deep + (column / 8 ^ row) % 8 * 8;
}

// Panel has the sizes of a kernel. Registers have room for the sums of 256
// tokens, or for one level of the tree too if there are 192, or for two of 128.
template <int CAP, int STAGES, int SEGMENTS>
struct Panel {
  static constexpr int stage_bytes = 2 * weight_tile + CAP * panel_row;
  static constexpr int sums = CAP / 2;  // of a thread
  static constexpr int levels = tree_levels(SEGMENTS);
  static constexpr int held = levels < 2 ? levels : 2;
  static constexpr int level_bytes = (levels - held) * sums * 2 * group_threads * 4;
  // Tiles are aligned to 1024 bytes; a launch gives that much more.
  static constexpr int shared_bytes = 1024 + STAGES * (stage_bytes + 16) + level_bytes;
  static_assert(SEGMENTS == 1 << levels && levels <= 3, "1, 2, 4 or 8 segments");
  static_assert(CAP % 32 == 0 && CAP <= (held == 2 ? 128 : held == 1 ? 192 : 256), "registers for the tree");
};

// Tokens is one tile: tokens count from position first on, rounded up to wide,
// for the 128 rows number column of matrix.
struct Tokens {
  int matrix, first, count, wide, column;
};

// Split divides tokens evenly among as few tiles as possible, in units of 32.
template <int CAP>
struct Split {
  int count, units, tiles;

  __device__ explicit Split(int count) : count(count), units((count + 31) / 32), tiles((units + CAP / 32 - 1) / (CAP / 32)) {}

  // at sets the tokens of tile number t of those that begin at a position.
  __device__ void at(int t, int start, Tokens* work) const {
    int least = units / tiles, more = units % tiles;  // the first tiles have a unit more
    int before = (t * least + min(t, more)) * 32;
    work->wide = (least + (t < more)) * 32;
    work->first = start + before;
    work->count = min(work->wide, count - before);
  }
};

// in_bands numbers tiles so that those that are computed at the same time share
// tokens and weights: bands of about eight tiles of tokens, a column of a band
// after the other.
__device__ inline void in_bands(int i, int tiles, int columns, int* tile, int* column) {
  constexpr int most = 12, usual = 8;
  int bands = tiles <= most ? 1 : (tiles + usual - 1) / usual;
  int height = (tiles + bands - 1) / bands;
  int band = i / (height * columns);
  int rows = min(height, tiles - band * height);
  i -= band * height * columns;
  *tile = band * height + i % rows;
  *column = i / rows;
}

// Groups lists the tiles of all experts, expert after expert. starts has where
// each expert's tokens begin, and the end; counts has how many they are; list
// has the row of each position.
template <int CAP, int COLUMNS, int HELD>
struct Groups {
  const int* starts;
  const int* list;
  int expert = 0, passed = 0;  // where the last tile was, and tiles before that expert

  __device__ Groups(const int* starts, const int* list) : starts(starts), list(list) {}

  __device__ bool at(int i, Tokens* work) {
    const int* counts = starts + HELD + 1;
    for (; expert < HELD; expert++) {
      Split<CAP> split(counts[expert]);
      if (i < passed + split.tiles * COLUMNS) {
        int tile;
        in_bands(i - passed, split.tiles, COLUMNS, &tile, &work->column);
        work->matrix = expert;
        split.at(tile, starts[expert], work);
        return true;
      }
      passed += split.tiles * COLUMNS;
    }
    return false;
  }
  __device__ int row(int position) const { return list[position]; }
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Circle is a warp group's place in the ring of stages.
template <typename S, int STAGES>
struct Circle {
  unsigned data, filled, drained;  // shared addresses
  int stage = 0;
  unsigned parity = 0;

  __device__ unsigned w() const { return data + stage * S::stage_bytes; }
  __device__ unsigned x() const { return w() + 2 * weight_tile; }
  __device__ void next() {
    if (++stage == STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
  // before returns the number of the stage that many places back.
  __device__ int before(int back) const { return stage >= back ? stage - back : stage + STAGES - back; }
};

// Whole and Paired say how the 128 rows of a tile of weights lie: as two tiles of
// 64 rows that follow each other, or as rows of a gate in the first half of the
// matrix and of what it lets through in the second. Paired puts eight of one and
// eight of the other by turns; a lane copies eight rows.
template <int N, int K>
struct Whole {
  static __device__ const char* start(const char* w, const Tokens& work) {
    return w + 2ll * K * ((long long)work.matrix * N + work.column * weight_rows);
  }
  static __device__ void load(unsigned to, const char* tile, unsigned filled) {
    if (lane() < 2) bulk_load(to + lane() * weight_tile, tile + lane() * 2ll * K * 64, weight_tile, filled);
  }
};
template <int N, int K>
struct Paired {
  static constexpr int eight_rows = weight_tile / 8;

  static __device__ const char* start(const char* w, const Tokens& work) {
    return w + 2ll * K * ((long long)work.matrix * N + work.column * (weight_rows / 2));
  }
  static __device__ void load(unsigned to, const char* tile, unsigned filled) {
    if (lane() < 16) bulk_load(to + lane() * eight_rows, tile + lane() / 2 * eight_rows + lane() % 2 * (1ll * K * N), eight_rows, filled);
  }
};

// pour keeps the ring full; one warp does it.
template <typename S, int STAGES, int K, typename Weights, typename L>
__device__ __forceinline__ void pour(Circle<S, STAGES> ring, const char* x, const char* w, long long rows, L list) {
  Tokens work;
  for (int i = blockIdx.x; list.at(i, &work); i += gridDim.x) {
    const char* tile = Weights::start(w, work);
    const char* tokens = x + (long long)work.first * panel_row;
    int bytes = work.wide * panel_row;
    for (int block = 0; block < K / deep; block++) {
      unsigned filled = ring.filled + 8 * ring.stage;
      barrier_wait(ring.drained + 8 * ring.stage, ring.parity ^ 1);
      if (lane() == 0) {
        barrier_expect(filled, 2 * weight_tile + bytes);
        bulk_load(ring.x(), tokens, bytes, filled);
      }
      __syncwarp();
      Weights::load(ring.w(), tile, filled);
      tile += weight_tile;
      tokens += rows * panel_row;
      ring.next();
    }
  }
}

// steps begins the instructions for the 64 features whose turn it is. NEW: a
// sum begins.
template <typename S, int STAGES, typename X, int WIDE, bool NEW>
__device__ __forceinline__ void steps(float (&sum)[WIDE / 2], Circle<S, STAGES>& ring, int group) {
  barrier_wait(ring.filled + 8 * ring.stage, ring.parity);
  unsigned long long a = tile_of(ring.w() + group * weight_tile), b = tile_of(ring.x());
  mma_begin();
#pragma unroll
  for (int k = 0; k < deep / step_features; k++) Mma<X, WIDE>::tiles(sum, a + k * next_step, b + k * next_step, !NEW || k > 0);
  mma_commit();
  ring.next();
}

// leaf sums one segment: blocks of 64 features, at least one.
template <typename S, int STAGES, typename X, int WIDE>
__device__ __forceinline__ void leaf(float (&sum)[WIDE / 2], Circle<S, STAGES>& ring, int group, int blocks) {
  bool tells = lane() == 0;
  steps<S, STAGES, X, WIDE, true>(sum, ring, group);
#pragma unroll 1
  for (int b = 1; b < blocks; b++) {
    steps<S, STAGES, X, WIDE, false>(sum, ring, group);
    mma_wait<1>();
    if (tells) barrier_arrive(ring.drained + 8 * ring.before(2));
  }
  mma_wait<0>();
  hold(sum);
  if (tells) barrier_arrive(ring.drained + 8 * ring.before(1));
}

// subtree sums 2^LEVEL segments from number first on, along the tree. What the
// left half sums to waits in registers, or in the thread's places in shared
// memory, for the right half.
template <typename S, int STAGES, typename X, int WIDE, int LEVEL, int SEGMENTS>
__device__ __forceinline__ void subtree(float (&sum)[WIDE / 2], Circle<S, STAGES>& ring, int group, float4* place,
                                        const Segments<SEGMENTS, 1>& cut, int first) {
  if constexpr (LEVEL == 0) {
    leaf<S, STAGES, X, WIDE>(sum, ring, group, (cut.bounds[first + 1] - cut.bounds[first]) / deep);
  } else {
    constexpr bool held = LEVEL <= S::held;
    constexpr int stride = 2 * group_threads;
    float left[WIDE / 2];
    subtree<S, STAGES, X, WIDE, LEVEL - 1>(sum, ring, group, place, cut, first);
#pragma unroll
    for (int i = 0; i < WIDE / 2; i += 4) {
#pragma unroll
      for (int j = i; j < i + 4; j++) left[j] = sum[j];
      if (!held) place[i / 4 * stride] = make_float4(left[i], left[i + 1], left[i + 2], left[i + 3]);
    }
    subtree<S, STAGES, X, WIDE, LEVEL - 1>(sum, ring, group, place, cut, first + (1 << LEVEL - 1));
#pragma unroll
    for (int i = 0; i < WIDE / 2; i += 4) {
      if (!held) {
        float4 v = place[i / 4 * stride];
        left[i] = v.x, left[i + 1] = v.y, left[i + 2] = v.z, left[i + 3] = v.w;
      }
#pragma unroll
      for (int j = i; j < i + 4; j++) sum[j] = left[j] + sum[j];
    }
  }
}

// Corner is where a warp group's sums go: first token, how many there are, and
// the first row of w (column of the result).
struct Corner {
  int first, count, column;
};

// turn_over transposes a matrix of eight by eight that a warp has.
__device__ inline unsigned turn_over(unsigned word) {
  unsigned turned;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(word));
  return turned;
}

// pieces turns rounded sums so that a thread has eight that follow each other
// in a token's row, and gives them to store: token, column, words.
template <typename Y, int WIDE, typename F>
__device__ __forceinline__ void pieces(const float (&sum)[WIDE / 2], const Corner& c, F store) {
  int q = threadIdx.x % 4;
#pragma unroll
  for (int j = 0; j < WIDE / 8; j += 2) {
    unsigned w[4];
#pragma unroll
    for (int i = 0; i < 4; i++) w[i] = turn_over(pack(Y(), sum[4 * j + 2 * i], sum[4 * j + 2 * i + 1]));
    exchange(w);
    int token = 8 * (j + q / 2) + lane() / 4;
    int column = c.column + threadIdx.x % group_threads / warp_size * 16 + q % 2 * 8;
    if (token < c.count) store(c.first + token, column, make_uint4(w[0], w[1], w[2], w[3]));
  }
}

// ToRows stores rounded sums, in rows.
template <typename Y, int N>
struct ToRows {
  static constexpr int columns = 64;
  Y* out;

  template <int WIDE, typename L>
  __device__ __forceinline__ void put(const float (&sum)[WIDE / 2], const Corner& c, const L& list) const {
    pieces<Y, WIDE>(sum, c, [&](int token, int column, uint4 w) {
      *reinterpret_cast<uint4*>(out + (long long)list.row(token) * N + column) = w;
    });
  }
};

// ToGate takes paired weights. It stores F of the gate times the other, rounded, in
// panels of so many rows.
template <typename Y, typename F>
struct ToGate {
  static constexpr int columns = 32;
  Y* out;
  long long rows;

  template <int WIDE, typename L>
  __device__ __forceinline__ void put(const float (&sum)[WIDE / 2], const Corner& c, const L&) const {
#pragma unroll
    for (int j = 0; j < WIDE / 8; j += 4) {
      unsigned w[4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float* d = sum + 4 * (j + i);
        w[i] = turn_over(pack(Y(), F::of(d[0]) * d[2], F::of(d[1]) * d[3]));
      }
      exchange(w);
      int token = 8 * (j + threadIdx.x % 4) + lane() / 4;
      int column = c.column + threadIdx.x % group_threads / warp_size * 8;
      if (token < c.count) {
        *reinterpret_cast<uint4*>(out + panel_at(rows, c.first + token, column)) = make_uint4(w[0], w[1], w[2], w[3]);
      }
    }
  }
};

// drink computes tile number i. It looks the tile up again when it stores, so
// that the numbers don't take registers until then.
template <typename S, int STAGES, typename X, int WIDE, int SEGMENTS, typename L, typename Store>
__device__ __forceinline__ void drink(Circle<S, STAGES>& ring, float4* place, L& list, int i,
                                      const Segments<SEGMENTS, 1>& cut, const Store& store) {
  int group = same(threadIdx.x / group_threads - 1);
  float sum[WIDE / 2];
  subtree<S, STAGES, X, WIDE, S::levels>(sum, ring, group, place, cut, 0);
  Tokens work;
  list.at(i, &work);
  store.template put<WIDE>(sum, Corner{work.first, work.count, (work.column * 2 + group) * Store::columns}, list);
}

// panels runs a block.
template <typename X, typename W, int N, int K, int CAP, int STAGES, int SEGMENTS, template <int, int> class Weights, typename L, typename Store>
__device__ __forceinline__ void panels(const X* x, const W* w, long long rows, L list, const Segments<SEGMENTS, 1>& cut,
                                       const Store& store) {
  using S = Panel<CAP, STAGES, SEGMENTS>;
  static_assert(N % weight_rows == 0 && K % deep == 0, "whole tiles of weights");
  extern __shared__ unsigned char shared[];
  unsigned start = (shared_address(shared) + 1023) / 1024 * 1024;
  unsigned level = start + STAGES * S::stage_bytes, barriers = level + S::level_bytes;
  Circle<S, STAGES> ring{start, barriers, barriers + STAGES * 8};
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      barrier_init(ring.filled + 8 * s, 1);
      barrier_init(ring.drained + 8 * s, 2 * group_threads / warp_size);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < group_threads) {
    fewer_registers<24>();
    if (threadIdx.x < warp_size) {
      pour<S, STAGES, K, Weights<N, K>>(ring, reinterpret_cast<const char*>(x), reinterpret_cast<const char*>(w), rows, list);
    }
  } else {
    more_registers<240>();
    float4* place = reinterpret_cast<float4*>(shared + (level - shared_address(shared))) + threadIdx.x - group_threads;
    Tokens work;
    for (int i = blockIdx.x; list.at(i, &work); i += gridDim.x) {
#define MOEC_WIDE(WIDE) \
  case WIDE: if constexpr (WIDE <= CAP) drink<S, STAGES, X, WIDE>(ring, place, list, i, cut, store); break;
      switch (same(work.wide)) {
        MOEC_WIDE(32)
        MOEC_WIDE(64)
        MOEC_WIDE(96)
        MOEC_WIDE(128)
        MOEC_WIDE(160)
        MOEC_WIDE(192)
        MOEC_WIDE(224)
        MOEC_WIDE(256)
      }
#undef MOEC_WIDE
    }
  }
}

#endif

}  // namespace moec
