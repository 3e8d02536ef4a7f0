// One tile of a matrix product on Hopper: 128 rows of x times BN rows of w.
//
// A block has three warp groups. The first fills a ring of STAGES places in
// shared memory with 64 features of both operands; the other two multiply, 64
// rows each, and keep their sums in registers. Both run through the same list
// of tiles on their own, so that the ring is filled while results are stored.
//
// Each segment of the features is summed on its own, feature by feature in
// steps of 16, and segments are added along the tree: the first two levels of
// unfinished subtrees are in registers, the third in shared memory. A row's
// bits depend on that row alone.
#pragma once

#include "dot.cuh"
#include "gemm_sm90.cuh"

namespace moec {

constexpr int tile_rows = 128;
constexpr int gemm_threads = 3 * group_threads;

// Shape has the sizes of a kernel.
template <int BN, int STAGES, int SEGMENTS>
struct Shape {
  static constexpr int x_bytes = tile_rows * 2 * deep;
  static constexpr int w_bytes = BN * 2 * deep;
  static constexpr int stage_bytes = x_bytes + w_bytes;
  static constexpr int sums = BN / 2;  // of a thread
  static constexpr int levels = tree_levels(SEGMENTS);
  static constexpr int levels_held = levels < 2 ? levels : 2;
  static constexpr int level_bytes = (levels - levels_held) * tile_rows * BN * 4;
  // Tiles are aligned to 1024 bytes; a launch gives that much more.
  static constexpr int shared_bytes = 1024 + STAGES * (stage_bytes + 16) + level_bytes;
  static_assert(SEGMENTS == 1 << levels && levels <= 3, "1, 2, 4 or 8 segments");
  static_assert(BN % 64 == 0 && BN <= (levels_held == 2 ? 128 : levels_held == 1 ? 192 : 256), "registers for the tree");
};

// Bands orders the tiles of a product so that those that are computed at the
// same time share rows and columns: bands of at most 16 tiles of rows, a column
// of a band after the other.
struct Bands {
  int tall, wide;

  __device__ int count() const { return tall * wide; }
  __device__ void at(int i, int* row, int* column) const {
    constexpr int most = 16;
    int bands = (tall + most - 1) / most, height = (tall + bands - 1) / bands;
    int band = i / (height * wide);
    int rows = min(height, tall - band * height);
    i -= band * height * wide;
    *row = band * height + i % rows;
    *column = i / rows;
  }
};

// Work is one tile: rows from number first on, and columns from column * BN on.
struct Work {
  int first, rows, column;
};

// find_tile returns tile number i of a product, or false if there are fewer.
template <int N, int BN>
__device__ bool find_tile(int rows, int i, Work* work) {
  Bands bands{(rows + tile_rows - 1) / tile_rows, (N + BN - 1) / BN};
  if (i >= bands.count()) return false;
  int tile;
  bands.at(i, &tile, &work->column);
  work->first = tile * tile_rows;
  work->rows = min(tile_rows, rows - work->first);
  return true;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// Ring is a warp group's place in the ring.
template <typename S, int STAGES>
struct Ring {
  unsigned data, filled, drained;  // shared addresses
  int stage = 0;
  unsigned parity = 0;

  __device__ unsigned x() const { return data + stage * S::stage_bytes; }
  __device__ unsigned w() const { return x() + S::x_bytes; }
  __device__ void next() {
    if (++stage == STAGES) {
      stage = 0;
      parity ^= 1;
    }
  }
  // before returns the number of the stage that many places back.
  __device__ int before(int back) const { return stage >= back ? stage - back : stage + STAGES - back; }
};

// Weights in rows: each row has K features.
template <typename W, int N, int K, int BN>
struct RowWeights {
  static constexpr bool bulk = false;
  const char* at;  // the thread's piece of the first row
  int last;        // first row of the last 16 here

  __device__ void start(const W* w, int column) {
    at = reinterpret_cast<const char*>(w + ((long long)column * BN + threadIdx.x / 8) * K) + threadIdx.x % 8 * piece;
    last = N - column * BN - 16;
  }
  __device__ void load(unsigned to, int block, unsigned) const {
    to += threadIdx.x / 8 * 128 + ((threadIdx.x % 8 ^ threadIdx.x / 8 % 8) * piece);
#pragma unroll
    for (int i = 0; i < BN; i += 16) piece_load(to + i * 128, at + 2ll * K * min(i, last) + block * 128);
  }
};

// Weights in tiles of 64 rows and 64 features, 8 KB each, as they are in
// shared memory; the tiles of the same rows follow each other.
template <typename W, int N, int K, int BN>
struct TiledWeights {
  static constexpr bool bulk = true;
  static constexpr int bytes = 64 * 2 * deep;
  const char* at;
  int last;

  __device__ void start(const W* w, int column) {
    at = reinterpret_cast<const char*>(w + (long long)column * BN * K);
    last = N - column * BN - 64;
  }
  __device__ void load(unsigned to, int block, unsigned barrier) const {
    barrier_expect(barrier, BN / 64 * bytes);
#pragma unroll
    for (int i = 0; i < BN; i += 64) bulk_load(to + i * 128, at + 2ll * K * min(i, last) + block * bytes, bytes, barrier);
  }
};

// fill keeps the ring full. A thread copies a piece of every 16th row of x,
// and tells of a stage LAG stages later, when the copies have come.
template <typename S, int STAGES, int N, int K, int BN, typename X, typename W, typename Weights>
__device__ void fill(Ring<S, STAGES> ring, const X* x, const W* w, int rows, Weights weights) {
  constexpr int lag = STAGES > 4 ? 3 : STAGES - 2;
  constexpr int copies = tile_rows / 16;
  int ahead = 0;
  unsigned place = threadIdx.x / 8 * 128 + ((threadIdx.x % 8 ^ threadIdx.x / 8 % 8) * piece);
  Work work;
  for (int i = blockIdx.x; find_tile<N, BN>(rows, i, &work); i += gridDim.x) {
    const char* from[copies];
#pragma unroll
    for (int c = 0; c < copies; c++) {
      int row = work.first + min(int(threadIdx.x) / 8 + 16 * c, work.rows - 1);
      from[c] = reinterpret_cast<const char*>(x + (long long)row * K) + threadIdx.x % 8 * piece;
    }
    weights.start(w, work.column);
    for (int block = 0; block < K / deep; block++) {
      barrier_wait(ring.drained + 8 * ring.stage, ring.parity ^ 1);
      if (!Weights::bulk || threadIdx.x == 0) weights.load(ring.w(), block, ring.filled + 8 * ring.stage);
#pragma unroll
      for (int c = 0; c < copies; c++) {
        piece_load(ring.x() + place + c * 16 * 128, from[c]);
        from[c] += 2 * deep;
      }
      pieces_commit();
      if (ahead < lag) {
        ahead++;
      } else {
        pieces_wait<lag>();
        publish();
        barrier_arrive(ring.filled + 8 * ring.before(lag));
      }
      ring.next();
    }
  }
  pieces_wait<0>();
  publish();
  for (; ahead > 0; ahead--) barrier_arrive(ring.filled + 8 * ring.before(ahead));
}

// block begins the instructions for the block of features whose turn it is.
// NEW: it begins a sum.
template <typename S, int STAGES, typename X, bool NEW>
__device__ void block(float (&sum)[S::sums], Ring<S, STAGES>& ring, int half) {
  barrier_wait(ring.filled + 8 * ring.stage, ring.parity);
  unsigned long long a = tile_of(ring.x() + half), w = tile_of(ring.w());
  mma_begin();
#pragma unroll
  for (int k = 0; k < deep / step_features; k++) {
    Mma<X, 2 * S::sums>::tiles(sum, a + k * next_step, w + k * next_step, !NEW || k > 0);
  }
  mma_commit();
  ring.next();
}

// segment sums blocks of features, at least one.
template <typename S, int STAGES, typename X>
__device__ void segment(float (&sum)[S::sums], Ring<S, STAGES>& ring, int blocks) {
  bool tells = lane() == 0;
  int half = (threadIdx.x / group_threads - 1) * 64 * 2 * deep;
  block<S, STAGES, X, true>(sum, ring, half);
#pragma unroll 1
  for (int b = 1; b < blocks; b++) {
    block<S, STAGES, X, false>(sum, ring, half);
    mma_wait<1>();
    if (tells) barrier_arrive(ring.drained + 8 * ring.before(2));
  }
  mma_wait<0>();
  hold(sum);
  if (tells) barrier_arrive(ring.drained + 8 * ring.before(1));
}

// pass takes the turns of a warp group whose rows are all past the end.
template <typename S, int STAGES>
__device__ void pass(Ring<S, STAGES>& ring, int blocks) {
  for (int b = 0; b < blocks; b++) {
    barrier_wait(ring.filled + 8 * ring.stage, ring.parity);
    __syncwarp();
    if (lane() == 0) barrier_arrive(ring.drained + 8 * ring.stage);
    ring.next();
  }
}

// subtree sums 2^LEVEL segments from number first on, along the tree. What the
// left half sums to waits in registers, or in shared memory from left on, for
// the right half.
template <typename S, int STAGES, typename X, int LEVEL, int SEGMENTS>
__device__ void subtree(float (&sum)[S::sums], Ring<S, STAGES>& ring, float4* left, const Segments<SEGMENTS, 1>& cut, int first) {
  if constexpr (LEVEL == 0) {
    segment<S, STAGES, X>(sum, ring, (cut.bounds[first + 1] - cut.bounds[first]) / deep);
  } else if constexpr (LEVEL <= S::levels_held) {
    subtree<S, STAGES, X, LEVEL - 1>(sum, ring, left, cut, first);
    float held[S::sums];
#pragma unroll
    for (int i = 0; i < S::sums; i++) held[i] = sum[i];
    subtree<S, STAGES, X, LEVEL - 1>(sum, ring, left, cut, first + (1 << LEVEL - 1));
#pragma unroll
    for (int i = 0; i < S::sums; i++) sum[i] = held[i] + sum[i];
  } else {
    subtree<S, STAGES, X, LEVEL - 1>(sum, ring, left, cut, first);
#pragma unroll
    for (int i = 0; i < S::sums; i += 4) {
      left[i / 4 * 2 * group_threads] = make_float4(sum[i], sum[i + 1], sum[i + 2], sum[i + 3]);
    }
    subtree<S, STAGES, X, LEVEL - 1>(sum, ring, left, cut, first + (1 << LEVEL - 1));
#pragma unroll
    for (int i = 0; i < S::sums; i += 4) {
      float4 v = left[i / 4 * 2 * group_threads];
      sum[i] = v.x + sum[i];
      sum[i + 1] = v.y + sum[i + 1];
      sum[i + 2] = v.z + sum[i + 2];
      sum[i + 3] = v.w + sum[i + 3];
    }
  }
}

// Target is where a thread's sums go: its two rows, or -1 past the end, and
// the tile's first column.
struct Target {
  int row[2];
  int column;
};

// Plain stores sums as they are: two lanes swap pairs, so that each stores 16
// bytes.
template <int N>
struct Plain {
  float* out;

  template <int SUMS>
  __device__ void store(const float (&sum)[SUMS], const Target& t) const {
    bool odd = threadIdx.x % 2;
    int column = t.column + (odd ? 8 : 0) + threadIdx.x % 4 / 2 * 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
#pragma unroll
      for (int j = 0; j < SUMS / 4; j += 2) {
        float a0 = sum[4 * j + 2 * r], a1 = sum[4 * j + 2 * r + 1];
        float b0 = sum[4 * j + 4 + 2 * r], b1 = sum[4 * j + 5 + 2 * r];
        float c0 = __shfl_xor_sync(all_lanes, odd ? a0 : b0, 1), c1 = __shfl_xor_sync(all_lanes, odd ? a1 : b1, 1);
        float4 v = make_float4(odd ? c0 : a0, odd ? c1 : a1, odd ? b0 : c0, odd ? b1 : c1);
        if (t.row[r] >= 0 && (N % (2 * SUMS) == 0 || column + 8 * j < N)) {
          *reinterpret_cast<float4*>(out + (long long)t.row[r] * N + column + 8 * j) = v;
        }
      }
    }
  }
};

// Rounded stores rounded sums, 16 bytes at once.
template <typename Y, int N>
struct Rounded {
  Y* out;

  template <int SUMS>
  __device__ void store(const float (&sum)[SUMS], const Target& t) const {
    int q = threadIdx.x % 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      Y* row = out + (long long)max(0, t.row[r]) * N;
#pragma unroll
      for (int j = 0; j < SUMS / 4; j += 4) {
        unsigned w[4];
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = pack(Y(), sum[4 * (j + i) + 2 * r], sum[4 * (j + i) + 2 * r + 1]);
        exchange(w);
        int column = t.column + (j + q) * 8;
        bool real = t.row[r] >= 0 && (N % (2 * SUMS) == 0 || column < N);
        if (real) *reinterpret_cast<uint4*>(row + column) = make_uint4(w[0], w[1], w[2], w[3]);
      }
    }
  }
};

// multiply computes all tiles.
template <typename S, int STAGES, int N, int BN, typename X, int SEGMENTS, typename Store>
__device__ void multiply(Ring<S, STAGES> ring, float4* left, int rows, const Segments<SEGMENTS, 1>& cut, const Store& store) {
  int thread = threadIdx.x - group_threads;
  int row = thread / warp_size * 16 + lane() / 4;
  float sum[S::sums];
  Work work;
  for (int i = blockIdx.x; find_tile<N, BN>(rows, i, &work); i += gridDim.x) {
    if (same(thread / group_threads * 64 >= work.rows)) {
      pass(ring, cut.bounds[SEGMENTS] / deep);
      continue;
    }
    Target target{{row < work.rows ? work.first + row : -1, row + 8 < work.rows ? work.first + row + 8 : -1}, work.column * BN};
    subtree<S, STAGES, X, S::levels>(sum, ring, left + thread, cut, 0);
    store.store(sum, target);
  }
}

// product runs a block.
template <typename X, typename W, int N, int K, int BN, int STAGES, int SEGMENTS, bool TILED, typename Store>
__device__ void product(const X* x, const W* w, int rows, const Segments<SEGMENTS, 1>& cut, const Store& store) {
  using S = Shape<BN, STAGES, SEGMENTS>;
  static_assert(N % 64 == 0 && K % deep == 0, "whole tiles of weights");
  extern __shared__ unsigned char shared[];
  unsigned start = (shared_address(shared) + 1023) / 1024 * 1024;
  unsigned rest = start + STAGES * S::stage_bytes;
  Ring<S, STAGES> ring{start, rest + S::level_bytes, rest + S::level_bytes + STAGES * 8};
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      barrier_init(ring.filled + 8 * s, group_threads + TILED);
      barrier_init(ring.drained + 8 * s, 2 * group_threads / warp_size);
    }
    publish_barriers();
  }
  __syncthreads();
  if (threadIdx.x < group_threads) {
    fewer_registers<40>();
    if constexpr (TILED) {
      fill<S, STAGES, N, K, BN>(ring, x, w, rows, TiledWeights<W, N, K, BN>());
    } else {
      fill<S, STAGES, N, K, BN>(ring, x, w, rows, RowWeights<W, N, K, BN>());
    }
  } else {
    more_registers<232>();
    float4* levels = reinterpret_cast<float4*>(shared + (rest - shared_address(shared)));
    multiply<S, STAGES, N, BN, X>(ring, levels, rows, cut, store);
  }
}

#endif

}  // namespace moec
