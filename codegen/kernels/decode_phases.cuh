// What a decoding step is given, and its phases that work on whole rows:
// embedding or the sum of experts with the norm that follows, attention, and
// the router. All eight computing warps of a block take part.
//
// Sums within a row are over fixed parts of it, so a token's bits depend on
// that token alone.
#pragma once

#include "decode_ring.cuh"
#include "rope.cuh"

namespace moec {

// Model has the sizes of a model and the plan's.
template <typename ELEMENT, int LAYERS, int HIDDEN, int HEADS, int KV_HEADS, int DIM, int FFN, int EXPERTS, int TOP, int VOCAB, int PAGE, int CHUNK,
          int OUT_SEGMENTS, int DOWN_SEGMENTS>
struct Model {
  using E = ELEMENT;
  static constexpr int layers = LAYERS, hidden = HIDDEN, heads = HEADS, kv_heads = KV_HEADS, dim = DIM, ffn = FFN, experts = EXPERTS, top = TOP,
                       vocab = VOCAB, page = PAGE, chunk = CHUNK, out_segments = OUT_SEGMENTS, down_segments = DOWN_SEGMENTS;
  // The output projection is little work: halves of its features make more
  // blocks busy. They are the last addition of the tree.
  static constexpr int out_parts = OUT_SEGMENTS > 1 ? 2 : 1;
  static constexpr int queries = HEADS * DIM, keys = KV_HEADS * DIM, share = HEADS / KV_HEADS;
  static_assert(DIM == 128, "a head is two tiles of rows");
  static_assert(HIDDEN % 2048 == 0, "a row is whole vectors of a block's threads");
  static_assert(TOP <= 2, "the order of two terms does not matter");
};

// Resident is a weight or cache of the layers: the first one's, and how many
// bytes further each next one is.
struct Resident {
  const unsigned char* first;
  long long stride;

  template <typename E>
  __device__ E* of(int layer) const {
    return (E*)(first + layer * stride);
  }
};

// Decoder is what a step takes: the step itself, residents, and memory for
// what phases hand on. Rows that all tokens share a phase for are in panels:
// normed before QKV and the head, and attended.
struct Decoder {
  const int *tokens, *positions, *sequences, *rows, *pages;
  const float* freqs;
  Resident norm, qkv, out, norm2, router, gate_up, down, cache;
  const void *embedding, *last_norm, *head;
  float* logits;
  unsigned* state;  // counts: blocks past phases, blocks at the end, parts of attention that are done, experts
  float2* turns;    // cosine and sine [token][pair]
  int* places;      // of the tokens in the cache, as positions of pages
  void *x, *normed, *query, *attended, *middle, *gated, *expert_out;
  float* joining;  // parts of the output projection [part][64][hidden]
  float* parts;    // of attention
  int* chosen;
  float* shares;
  double eps;
  float scale;
  int token_count, row_count, table_width;
};

constexpr int compute_threads = compute_warps * warp_size;

// experts_counted is the place of the only count that steps do not set back:
// of experts that worked, over all layers.
template <typename M>
constexpr int experts_counted = 2 + decode_tokens * M::kv_heads;

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// compute_sync is a barrier of the computing warps.
__device__ inline void compute_sync() { asm volatile("bar.sync 1, %0;" ::"n"(compute_threads) : "memory"); }

// Grid counts blocks that have finished phases.
struct Grid {
  unsigned* count;

  // arrive is called by one thread when its block's results are written.
  __device__ void arrive() const {
    __threadfence();
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(count) : "memory");
  }
  // await returns when all blocks have finished so many phases.
  __device__ void await(unsigned phases) const {
    unsigned have;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(have) : "l"(count) : "memory");
    } while (have < phases * gridDim.x);
  }
};

// block_total adds a number of each computing thread in a fixed order; scratch
// has a place for each warp.
__device__ inline float block_total(float x, float* scratch) {
  x = warp_sum(x);
  compute_sync();
  if (lane() == 0) scratch[threadIdx.x / warp_size] = x;
  compute_sync();
  float s = scratch[0];
#pragma unroll
  for (int w = 1; w < compute_warps; w++) s += scratch[w];
  return s;
}

// Eight are elements that a thread loads and stores at once.
using Eight = uint4;

template <typename E>
__device__ inline void widen_eight(const Eight& v, float (&x)[8]) {
  spread(E(), v.x, &x[0], &x[1]);
  spread(E(), v.y, &x[2], &x[3]);
  spread(E(), v.z, &x[4], &x[5]);
  spread(E(), v.w, &x[6], &x[7]);
}

template <typename E>
__device__ inline Eight narrow_eight(const float (&x)[8]) {
  return make_uint4(pack(E(), x[0], x[1]), pack(E(), x[2], x[3]), pack(E(), x[4], x[5]), pack(E(), x[6], x[7]));
}

template <typename E>
__device__ inline float rounded(float x) {
  E e;
  narrow(&e, x);
  return widen(e);
}

// RowPart is a thread's part of a row: vectors of eight, a block's threads
// apart.
template <typename M>
struct RowPart {
  static constexpr int vectors = M::hidden / (8 * compute_threads);
  float at[vectors][8];

  static __device__ int place(int v) { return (v * compute_threads + threadIdx.x) * 8; }

  // load brings a row's vectors.
  static __device__ void load(const void* row, Eight (&to)[vectors]) {
#pragma unroll
    for (int v = 0; v < vectors; v++) to[v] = *(const Eight*)((const typename M::E*)row + place(v));
  }

  // norm gives the row times its factor and the weights, rounded.
  __device__ void norm(const Eight (&weights)[vectors], double eps, float* scratch, Eight (&out)[vectors]) const {
    using E = typename M::E;
    float squares = 0;
#pragma unroll
    for (int v = 0; v < vectors; v++) {
#pragma unroll
      for (int i = 0; i < 8; i++) squares = fmaf(at[v][i], at[v][i], squares);
    }
    float factor = float(1 / sqrt(double(block_total(squares, scratch)) / M::hidden + eps));
#pragma unroll
    for (int v = 0; v < vectors; v++) {
      float w[8], y[8];
      widen_eight<E>(weights[v], w);
#pragma unroll
      for (int i = 0; i < 8; i++) y[i] = at[v][i] * factor * w[i];
      out[v] = narrow_eight<E>(y);
    }
  }
};

// begin_token computes a token's rotations and its place in the cache, once a
// step.
template <typename M>
__device__ void begin_token(const Decoder& d, int token) {
  int position = d.positions[token];
  constexpr int pairs = M::dim / 2;
  if (threadIdx.x < pairs) {
    float c, s;
    turn(float(position) * d.freqs[threadIdx.x], &c, &s);
    d.turns[token * pairs + threadIdx.x] = make_float2(c, s);
  }
  if (threadIdx.x == compute_threads - 1) {
    d.places[token] = d.pages[(long long)d.sequences[token] * d.table_width + position / M::page] * M::page + position % M::page;
  }
}

// Entry makes the rows that a layer, or at the end the head, begins with: the
// embedding, or what the layer before left plus the sum of its experts, and the
// norm of that. It is made before its inputs are there, and has what is known.
template <typename M>
struct Entry {
  using E = typename M::E;
  using Part = RowPart<M>;
  Eight weights[Part::vectors];

  __device__ Entry(const Decoder& d, int layer) { Part::load(layer == M::layers ? d.last_norm : d.norm.of<const E>(layer), weights); }

  __device__ static Eight joined(const Decoder& d, int t, int at) {
    long long row = (long long)t * M::hidden;
    float sum[8], middle[8];
#pragma unroll
    for (int i = 0; i < 8; i++) sum[i] = 0;
#pragma unroll
    for (int j = 0; j < M::top; j++) {
      float y[8], w = d.shares[t * M::top + j];
      widen_eight<E>(*(const Eight*)((const E*)d.expert_out + row * M::top + j * M::hidden + at), y);
#pragma unroll
      for (int i = 0; i < 8; i++) sum[i] += w * y[i];
    }
    widen_eight<E>(*(const Eight*)((const E*)d.middle + row + at), middle);
#pragma unroll
    for (int i = 0; i < 8; i++) middle[i] += rounded<E>(sum[i]);
    return narrow_eight<E>(middle);
  }

  __device__ void run(const Decoder& d, int layer, float* scratch) const {
    int count = layer == M::layers ? d.row_count : d.token_count;
    for (int t = blockIdx.x; t < count; t += gridDim.x) {
      Part x;
      if (layer == 0) begin_token<M>(d, t);
#pragma unroll
      for (int v = 0; v < Part::vectors; v++) {
        int at = Part::place(v);
        Eight row = layer == 0 ? *(const Eight*)((const E*)d.embedding + (long long)d.tokens[t] * M::hidden + at) : joined(d, t, at);
        *(Eight*)((E*)d.x + (long long)t * M::hidden + at) = row;
        widen_eight<E>(row, x.at[v]);
      }
      Eight y[Part::vectors];
      x.norm(weights, d.eps, scratch, y);
#pragma unroll
      for (int v = 0; v < Part::vectors; v++) *(Eight*)((unsigned char*)d.normed + in_panels(t, Part::place(v))) = y[v];
    }
  }
};

// choose is the router of one token, by one warp, a lane an expert: scores to
// the experts chosen and their shares.
template <typename M>
__device__ void choose(const Decoder& d, int t, float score) {
  static_assert(M::experts <= warp_size, "a lane for each expert");
  bool real = lane() < M::experts;
  float x = real ? rounded<typename M::E>(score) : minus_infinity(), top = warp_max(x);
  float p = real ? expf(x - top) : 0;
  p = p / warp_sum(p);
  float share[M::top], all = 0;
#pragma unroll
  for (int j = 0; j < M::top; j++) {
    // The largest left, and of equal ones the first. NaN is below all.
    float best = real && p == p ? p : -1;
    int index = lane();
#pragma unroll
    for (int far = warp_size / 2; far > 0; far /= 2) {
      float other = __shfl_xor_sync(all_lanes, best, far);
      int at = __shfl_xor_sync(all_lanes, index, far);
      if (other > best || (other == best && at < index)) {
        best = other;
        index = at;
      }
    }
    share[j] = __shfl_sync(all_lanes, p, index);
    all += share[j];
    if (lane() == index) real = false;
    if (lane() == 0) d.chosen[t * M::top + j] = index;
  }
#pragma unroll
  for (int j = 0; j < M::top; j++) {
    if (lane() == j) d.shares[t * M::top + j] = share[j] / all;
  }
}

// Router adds the parts of the output projection and the residual, and does the
// norm before the experts and the choice of them. It is made before its inputs
// are there, and has what is known.
template <typename M>
struct Router {
  using E = typename M::E;
  using Part = RowPart<M>;
  const Decoder& d;
  Eight weights[Part::vectors], gates[M::experts][Part::vectors];
  bool last;

  __device__ Router(const Decoder& d, int layer) : d(d), last(layer == M::layers - 1) {
    Part::load(d.norm2.of<const E>(layer), weights);
#pragma unroll
    for (int e = 0; e < M::experts; e++) Part::load(d.router.of<const E>(layer) + e * M::hidden, gates[e]);
  }

  // join makes the rows after attention.
  __device__ void join(int t, Part& x) const {
    const E* from = (const E*)d.x + (long long)(last ? d.rows[t] : t) * M::hidden;
#pragma unroll
    for (int v = 0; v < Part::vectors; v++) {
      int at = Part::place(v);
      float sum[M::out_parts][8];
#pragma unroll
      for (int p = 0; p < M::out_parts; p++) {
        const float4* part = (const float4*)(d.joining + (long long)(p * decode_tokens + t) * M::hidden + at);
        *(float4*)&sum[p][0] = part[0];
        *(float4*)&sum[p][4] = part[1];
      }
      widen_eight<E>(*(const Eight*)(from + at), x.at[v]);
#pragma unroll
      for (int i = 0; i < 8; i++) x.at[v][i] += rounded<E>(M::out_parts == 2 ? sum[0][i] + sum[M::out_parts - 1][i] : sum[0][i]);
      Eight row = narrow_eight<E>(x.at[v]);
      *(Eight*)((E*)d.middle + (long long)t * M::hidden + at) = row;
      widen_eight<E>(row, x.at[v]);
    }
  }

  __device__ void run(float* scratch, int count) const {
    float* scores = scratch + compute_warps;  // [warp][expert]
    for (int t = blockIdx.x; t < count; t += gridDim.x) {
      Part x;
      join(t, x);
      Eight y[Part::vectors];
      x.norm(weights, d.eps, scratch, y);
#pragma unroll
      for (int v = 0; v < Part::vectors; v++) {
        *(Eight*)((E*)d.normed + (long long)t * M::hidden + Part::place(v)) = y[v];
        widen_eight<E>(y[v], x.at[v]);
      }
#pragma unroll
      for (int e = 0; e < M::experts; e++) {
        float s = 0;
#pragma unroll
        for (int v = 0; v < Part::vectors; v++) {
          float w[8];
          widen_eight<E>(gates[e][v], w);
#pragma unroll
          for (int i = 0; i < 8; i++) s = fmaf(x.at[v][i], w[i], s);
        }
        s = warp_sum(s);
        if (lane() == 0) scores[threadIdx.x / warp_size * M::experts + e] = s;
      }
      compute_sync();
      if (threadIdx.x < warp_size) {
        int e = min(lane(), M::experts - 1);
        float s = scores[e];
#pragma unroll
        for (int w = 1; w < compute_warps; w++) s += scores[w * M::experts + e];
        choose<M>(d, t, s);
      }
    }
  }
};

#endif

}  // namespace moec
