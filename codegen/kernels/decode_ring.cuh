// What a decoding block streams: weights through one ring in shared memory,
// rows of activations through another, and the products of the two.
//
// A stage of weights has 32 KB of tiles (tiles.cuh): 64 rows of 256 features,
// or two times 64 rows of 128. The rows of up to 64 tokens that are multiplied
// with it come separately, because weights are known long before activations:
// the ring of weights runs ahead over the barriers between phases.
//
// Weights are on the side of the matrix instruction that takes 16 rows, tokens
// on the side that takes 8. Four warps have 16 rows each and the first half of
// the tokens, four more the same rows and the second half. Features are added
// in steps of 16 in their order, whatever the number of tokens, so a token's
// bits depend on that token alone.
#pragma once

#include "gemm_sm90.cuh"
#include "tiles.cuh"

namespace moec {

constexpr int decode_tokens = 64;  // of a step, at most
constexpr int weight_stages = 5;
constexpr int weight_stage_bytes = 4 * tile_bytes;
constexpr int row_warps = 4;  // and as many more for the other half of the tokens
constexpr int compute_warps = 2 * row_warps;

// A row of a stage has 256 features. A place of the ring has 16 rows; a stage
// takes 1, 2 or 4 places.
//
// Rows come in one of two ways. Rows of all tokens come from panels: 64
// features of all tokens, then the next 64, swizzled like tiles, so that one
// copy brings 64 features of all. Rows of an expert's tokens are gathered, a
// copy each; they have room between them that keeps them apart in the banks.
constexpr int place_rows = 16;
constexpr int place_bytes = place_rows * (4 * tile_row_bytes + chunk_bytes);
constexpr int row_places = 8;
constexpr int panel_bytes = decode_tokens * tile_row_bytes;

// in_panels returns the offset in bytes of eight features of a token.
__device__ inline int in_panels(int token, int feature) {
  return feature / tile_side * panel_bytes + in_tile(token, feature % tile_side / chunk_elements);
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// first_out_load is a bulk load of what is read once: it leaves the cache first.
__device__ inline void first_out_load(unsigned to, const void* from, int bytes, unsigned barrier) {
  constexpr unsigned long long evict_first = 0x12f0000000000000ull;  // as createpolicy makes it
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier), "l"(evict_first)
      : "memory");
}

// WeightRing is one role's position in the ring of weights.
struct WeightRing {
  unsigned data, filled, drained;  // shared addresses
  int stage = 0;
  unsigned parity = 0;

  __device__ unsigned at() const { return data + stage * weight_stage_bytes; }
  __device__ unsigned full() const { return filled + 8 * stage; }
  __device__ unsigned empty() const { return drained + 8 * stage; }
  __device__ void next() {
    if (++stage == weight_stages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// RowRing is one role's position in the ring of activations. Stages of
// different sizes use different places, so each place has its own parities.
struct RowRing {
  unsigned data, filled, drained;
  int place = 0;
  unsigned filled_parity = 0, drained_parity = 0;  // a bit for each place

  // begin moves to where a stage of so many places may lie.
  __device__ void begin(int places) { place = (place + places - 1) / places * places % row_places; }
  __device__ unsigned at() const { return data + place * place_bytes; }
  __device__ unsigned full() const { return filled + 8 * place; }
  __device__ unsigned empty(int i) const { return drained + 8 * (place + i); }
  __device__ unsigned full_parity() const { return filled_parity >> place & 1; }
  __device__ unsigned empty_parity(int i) const { return drained_parity >> (place + i) & 1; }
  __device__ void next(int places) {
    filled_parity ^= 1u << place;
    drained_parity ^= ((1u << places) - 1) << place;
    place = (place + places) % row_places;
  }
};

// places_of returns how many places a stage takes.
__device__ inline int places_of(int tokens) { return tokens <= 16 ? 1 : tokens <= 32 ? 2 : 4; }

// ldmatrix loads four 8 by 8 matrices; lane i gives the address of row i % 8 of
// matrix i / 8.
__device__ inline void ldmatrix(unsigned (&r)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address));
}

// mma16 adds 16 rows times 8 tokens over 16 features.
__device__ inline void mma16(bf16, float* d, const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ inline void mma16(f16, float* d, const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Sums are a thread's part of 16 rows times 8 WIDTH tokens: of rows lane / 4
// and 8 more, the tokens 8j + 2 (lane % 4) and the next.
template <int WIDTH>
struct Sums {
  float at[4 * WIDTH];
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < 4 * WIDTH; i++) at[i] = 0;
  }
};

// FullTree is a tree all of whose leaves are equally deep.
template <int LEAVES>
struct FullTree {
  static constexpr int levels = tree_levels(LEAVES);
  static_assert(LEAVES == 1 << levels, "a power of two leaves");
};

// add_leaves adds 2^LEVELS leaves along their tree; leaf computes the next one.
template <int LEVELS, int WIDTH, typename F>
__device__ __forceinline__ void add_leaves(Sums<WIDTH>& s, F leaf) {
  if constexpr (LEVELS == 0) {
    leaf(s);
  } else {
    Sums<WIDTH> first;
    first.clear();  // else its registers are taken from the kernel's begin on
#pragma unroll 1
    for (int half = 0; half < 2; half++) {
      add_leaves<LEVELS - 1>(s, leaf);
      if (half == 0) first = s;
    }
#pragma unroll
    for (int i = 0; i < 4 * WIDTH; i++) s.at[i] = first.at[i] + s.at[i];
  }
}

// row_warp says which 16 rows a warp has, token_half which tokens.
__device__ inline int row_warp() { return threadIdx.x / warp_size % row_warps; }
__device__ inline int token_half() { return threadIdx.x / warp_size / row_warps; }

// idle reports whether a warp has no tokens.
__device__ inline bool idle(int tokens) { return tokens <= 8 && token_half() > 0; }

// Lane is where a lane finds its parts of a stage.
struct Lane {
  unsigned weights;  // offset of its row in a tile
  unsigned key;      // of the swizzle
  unsigned upper;    // 1: it loads the upper eight features of a step
  unsigned token, token_upper;

  // The rows of a fragment are 16 of a tile, or with halves eight of one half
  // tile and eight of another, which lies half a tile further.
  __device__ explicit Lane(bool halves) {
    int l = threadIdx.x % warp_size, warp = row_warp();
    key = l % 8;
    int second = l / 8 % 2;
    weights = halves ? (8 * warp + key) * tile_row_bytes + second * (tile_bytes / 2) : (16 * warp + second * 8 + key) * tile_row_bytes;
    upper = l / 16;
    token = l / 16 * 8 + key;
    token_upper = second;
  }
  __device__ unsigned chunk(int step) const { return weights + (((2 * step + upper) ^ key) * chunk_bytes); }
};

// Panels and Gathered say how the rows of a stage lie: how far apart they are,
// where the next 64 features begin, and whether they are swizzled.
template <int FEATURES>
struct Panels {
  static constexpr bool swizzled = true;
  static __device__ int stride() { return tile_row_bytes; }
  static __device__ int next(int places) { return places * place_rows * tile_row_bytes; }
};
template <int FEATURES>
struct Gathered {
  static constexpr bool swizzled = false;
  static __device__ int stride() { return 2 * FEATURES + chunk_bytes; }
  static __device__ int next(int) { return tile_row_bytes; }
};

// Fragment has what a warp multiplies over 64 features: 16 rows of weights and
// its tokens.
template <int WIDTH>
struct Fragment {
  unsigned a[4][4], b[WIDTH > 1 ? 2 * WIDTH : 2][4];

  template <typename ROWS>
  __device__ __forceinline__ void load_tokens(unsigned rows, const Lane& lane) {
    unsigned key = ROWS::swizzled ? lane.key : 0;
#pragma unroll
    for (int step = 0; step < 4; step++) {
      if constexpr (WIDTH == 1) {
        // Two steps of eight tokens at once.
        if (step % 2 == 0) ldmatrix(b[step / 2], rows + lane.key * ROWS::stride() + ((2 * step + 2 * lane.upper + lane.token_upper) ^ key) * chunk_bytes);
      } else {
#pragma unroll
        for (int j = 0; j < WIDTH / 2; j++) {
          ldmatrix(b[step * (WIDTH / 2) + j], rows + (j * 16 + lane.token) * ROWS::stride() + ((2 * step + lane.token_upper) ^ key) * chunk_bytes);
        }
      }
    }
  }
  __device__ __forceinline__ void load_weights(unsigned tile, const Lane& lane) {
#pragma unroll
    for (int step = 0; step < 4; step++) ldmatrix(a[step], tile + lane.chunk(step));
  }
};

// multiply adds weights of one fragment times tokens of another.
template <typename E, int WIDTH>
__device__ __forceinline__ void multiply(Sums<WIDTH>& s, const Fragment<WIDTH>& weights, const Fragment<WIDTH>& tokens) {
#pragma unroll
  for (int step = 0; step < 4; step++) {
    if constexpr (WIDTH == 1) {
      mma16(E(), s.at, weights.a[step], tokens.b[step / 2][step % 2 * 2], tokens.b[step / 2][step % 2 * 2 + 1]);
    } else {
#pragma unroll
      for (int j = 0; j < WIDTH; j++) {
        const unsigned(&b)[4] = tokens.b[step * (WIDTH / 2) + j / 2];
        mma16(E(), s.at + 4 * j, weights.a[step], b[j % 2 * 2], b[j % 2 * 2 + 1]);
      }
    }
  }
}

// Stream is a multiplying warp's view of both rings.
struct Stream {
  WeightRing weights;
  RowRing rows;

  __device__ void await() {
    barrier_wait(weights.full(), weights.parity);
    barrier_wait(rows.full(), rows.full_parity());
  }
  __device__ void release(int places) {
    __syncwarp();
    if (lane() == 0) {
      barrier_arrive(weights.empty());
#pragma unroll 1
      for (int i = 0; i < places; i++) barrier_arrive(rows.empty(i));
    }
    weights.next();
    rows.next(places);
  }
  // skip lets stages pass that have no tokens for this warp.
  __device__ void skip(int stages, int places) {
    rows.begin(places);
#pragma unroll 1
    for (int i = 0; i < stages; i++) {
      await();
      release(places);
    }
  }
};

// product multiplies 64 rows of weights with K features, cut into SEGMENTS,
// with the tokens of a unit.
template <typename E, int K, int SEGMENTS, template <int> class ROWS, int WIDTH>
__device__ __forceinline__ void product(Sums<WIDTH>& s, Stream& stream, const Lane& lane, int tokens) {
  constexpr int stage_features = 4 * tile_side;
  using Rows = ROWS<stage_features>;
  using Tree = FullTree<SEGMENTS>;
  static_assert(K % (SEGMENTS * stage_features) == 0, "segments of whole stages");
  int places = places_of(tokens), first = token_half() * 8 * WIDTH * Rows::stride();
  s.clear();
  if (idle(tokens)) return stream.skip(K / stage_features, places);
  stream.rows.begin(places);
  add_leaves<Tree::levels>(s, [&](Sums<WIDTH>& leaf) {
    leaf.clear();
#pragma unroll 1
    for (int i = 0; i < K / SEGMENTS / stage_features; i++) {
      stream.await();
      unsigned tile = stream.weights.at(), rows = stream.rows.at() + first;
      Fragment<WIDTH> f[2];  // one is loaded while the other is multiplied
      f[0].load_weights(tile, lane);
      f[0].template load_tokens<Rows>(rows, lane);
#pragma unroll
      for (int t = 0; t < 4; t++) {
        if (t < 3) {
          f[(t + 1) % 2].load_weights(tile + (t + 1) * tile_bytes, lane);
          f[(t + 1) % 2].template load_tokens<Rows>(rows + (t + 1) * Rows::next(places), lane);
        }
        multiply<E>(leaf, f[t % 2], f[t % 2]);
      }
      stream.release(places);
    }
  });
}

// product_pair is two products of 64 rows each, tile by tile, with the same
// gathered tokens.
template <typename E, int K, int WIDTH>
__device__ __forceinline__ void product_pair(Sums<WIDTH>& first, Sums<WIDTH>& second, Stream& stream, const Lane& lane, int tokens) {
  constexpr int stage_features = 2 * tile_side;
  using Rows = Gathered<stage_features>;
  static_assert(K % stage_features == 0, "whole stages");
  int places = places_of(tokens), skipped = token_half() * 8 * WIDTH * Rows::stride();
  first.clear();
  second.clear();
  if (idle(tokens)) return stream.skip(K / stage_features, places);
  stream.rows.begin(places);
#pragma unroll 1
  for (int i = 0; i < K / stage_features; i++) {
    stream.await();
    unsigned tile = stream.weights.at(), rows = stream.rows.at() + skipped;
    Fragment<WIDTH> f[2], g[2];
    auto load = [&](int t) {
      f[t].load_weights(tile + t * tile_bytes, lane);
      f[t].template load_tokens<Rows>(rows + t * Rows::next(places), lane);
      g[t].load_weights(tile + (2 + t) * tile_bytes, lane);
    };
    load(0);
#pragma unroll
    for (int t = 0; t < 2; t++) {
      if (t == 0 && WIDTH < 4) load(1);
      multiply<E>(first, f[t], f[t]);
      multiply<E>(second, g[t], f[t]);
      if (t == 0 && WIDTH == 4) load(1);  // else registers do not suffice
    }
    stream.release(places);
  }
}

// Width carries a number of groups of eight tokens in a type.
template <int N>
struct Width {
  static constexpr int value = N;
};

// with_width calls f with enough groups of eight for half of the tokens.
template <typename F>
__device__ __forceinline__ void with_width(int tokens, F f) {
  if (tokens <= 16) {
    f(Width<1>());
  } else if (tokens <= 32) {
    f(Width<2>());
  } else {
    f(Width<4>());
  }
}

#endif

}  // namespace moec
